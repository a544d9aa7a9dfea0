/* How fast bytes come from rank to rank: network BYTES. Started by a launcher as 2 ranks or more;
 * rank 0 prints bytes a second (each rank sends to all others at once, and counts what it sends)
 * and seconds of a small message, as JSON: what `mixt info --plan train --ranks` calls --network
 * (in bits) and --latency. */
#include <stdio.h>
#include <stdlib.h>

#include "core/number.h"
#include "dist/ranks.h"
#include "mixt.h"
#include "train/trainer.h"

#define SMALL 1000
#define LARGE 20

/* Seconds of `times` exchanges of `bytes` with each other rank. */
static mixt_status exchange(mixt_ranks *ranks, size_t bytes, int times, double *seconds,
                            mixt_error *error)
{
    int count = mixt_ranks_count(ranks);
    size_t *sizes = calloc((size_t)count, sizeof *sizes);
    char *out = calloc((size_t)count, bytes), *in = calloc((size_t)count, bytes);
    mixt_status status = sizes != NULL && out != NULL && in != NULL
                             ? MIXT_OK
                             : mixt_fail(error, MIXT_ERROR_MEMORY, "network: no memory");
    for (int i = 0; i < count && status == MIXT_OK; i++) {
        sizes[i] = bytes;
    }
    double begin = mixt_train_time();
    for (int i = -1; i < times && status == MIXT_OK; i++) {
        mixt_exchange all = {MIXT_GROUP_ALL, out, sizes, in, sizes};
        begin = i == 0 ? mixt_train_time() : begin; /* the first warms up */
        status = mixt_ranks_exchange(ranks, &all, error);
    }
    *seconds = (mixt_train_time() - begin) / times;
    free(sizes);
    free(out);
    free(in);
    return status;
}

int main(int argc, char **argv)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_ranks_options options = mixt_ranks_options_default();
    mixt_ranks *ranks;
    size_t bytes = argc > 1 ? (size_t)mixt_number_read(argv[1], NULL) : (size_t)4 << 20;
    double small, large;
    if (mixt_ranks_open(&options, &ranks, &error) != MIXT_OK) {
        fprintf(stderr, "network: %s\n", error.message);
        return 2;
    }
    int others = mixt_ranks_count(ranks) - 1;
    mixt_status status = others > 0 && bytes > 0
                             ? exchange(ranks, 8, SMALL, &small, &error)
                             : mixt_fail(&error, MIXT_ERROR_ARGUMENT, "needs 2 ranks or more");
    status = status == MIXT_OK ? exchange(ranks, bytes, LARGE, &large, &error) : status;
    if (status != MIXT_OK) {
        fprintf(stderr, "network: %s\n", error.message);
    } else if (mixt_ranks_rank(ranks) == 0) {
        char text[200];
        mixt_format(text, sizeof text, "{\"network_bytes\": %.6g, \"latency\": %.6g}",
                    (double)bytes * others / large, small / others);
        puts(text);
    }
    mixt_ranks_close(ranks, status == MIXT_OK ? NULL : error.message);
    return status != MIXT_OK;
}
