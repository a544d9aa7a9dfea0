/* conform [SEED [ROUNDS [LARGE]]]: the checks of collectives between the ranks that a launcher
 * started, over whichever transport. Status 2 and one line where a rank was lost. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ranks_checks.h"

int main(int count, char **arguments)
{
    uint64_t seed = count > 1 ? strtoull(arguments[1], NULL, 10) : 1;
    int rounds = count > 2 ? atoi(arguments[2]) : 1;
    size_t large = count > 3 ? strtoull(arguments[3], NULL, 10) : 3000000;
    mixt_error error = MIXT_ERROR_INIT;
    mixt_ranks *ranks;
    mixt_ranks_options options = mixt_ranks_options_default();
    options.timeout = 60;
    mixt_status status = mixt_ranks_open(&options, &ranks, &error);
    for (int round = 0; round < rounds && status == MIXT_OK; round++) {
        status = check_collectives(ranks, seed + (uint64_t)round, large, &error);
    }
    if (status != MIXT_OK) {
        fprintf(stderr, "conform: %s\n", error.message);
        fflush(stderr);
    } else if (mixt_ranks_rank(ranks) == 0) {
        printf("%d ranks agree\n", mixt_ranks_count(ranks));
    }
    mixt_ranks_close(ranks, status != MIXT_OK ? error.message : NULL);
    return status == MIXT_OK ? 0 : 2;
}
