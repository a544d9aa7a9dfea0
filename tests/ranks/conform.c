/* conform [SEED [ROUNDS [LARGE]]] [--kill RANK MILLISECONDS] [--fail RANK] [--stop RANK]
 * [--wrong BYTES] [--timeout SECONDS]: the checks of collectives between the ranks that a launcher
 * started, over whichever transport. One rank is killed at some moment; after the first round one
 * goes with an error, stands still, or sends another number of bytes than the next one expects.
 * Status 2 and one line where a rank was lost. */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ranks_checks.h"

/* What MPI unloads stays, so that leaks of its components have names (tests/fault/openmpi.supp). */
int dlclose(void *library);

__attribute__((visibility("default"))) int dlclose(void *library)
{
    (void)library;
    return 0;
}

typedef struct settings {
    uint64_t seed;
    int rounds;
    size_t large;
    int kill_rank, fail_rank, stop_rank; /* -1: none */
    long milliseconds;
    size_t wrong; /* bytes; 0: none */
    double timeout;
} settings;

static settings read_arguments(int count, char **arguments)
{
    settings s = {1, 1, 3000000, -1, -1, -1, 0, 0, 60};
    for (int i = 1, place = 0; i < count; i++) {
        if (strcmp(arguments[i], "--kill") == 0 && i + 2 < count) {
            s.kill_rank = atoi(arguments[++i]);
            s.milliseconds = atol(arguments[++i]);
        } else if (strcmp(arguments[i], "--fail") == 0 && i + 1 < count) {
            s.fail_rank = atoi(arguments[++i]);
        } else if (strcmp(arguments[i], "--stop") == 0 && i + 1 < count) {
            s.stop_rank = atoi(arguments[++i]);
        } else if (strcmp(arguments[i], "--wrong") == 0 && i + 1 < count) {
            s.wrong = strtoull(arguments[++i], NULL, 10);
        } else if (strcmp(arguments[i], "--timeout") == 0 && i + 1 < count) {
            s.timeout = atof(arguments[++i]);
        } else if (place == 0) {
            s.seed = strtoull(arguments[i], NULL, 10);
            place++;
        } else if (place == 1) {
            s.rounds = atoi(arguments[i]);
            place++;
        } else {
            s.large = strtoull(arguments[i], NULL, 10);
        }
    }
    return s;
}

static void *kill_later(void *context)
{
    const settings *s = context;
    nanosleep(&(struct timespec){s->milliseconds / 1000, s->milliseconds % 1000 * 1000000}, NULL);
    raise(SIGKILL);
    return NULL;
}

/* Rank 0 sends `wrong` bytes where rank 1 expects 100. */
static mixt_status exchange_wrongly(mixt_ranks *ranks, size_t wrong, mixt_error *error)
{
    int own = mixt_ranks_rank(ranks), count = mixt_ranks_count(ranks);
    size_t *counts = calloc(2 * (size_t)count, sizeof *counts);
    unsigned char *bytes = calloc(wrong + 101, 1);
    if (counts == NULL || bytes == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "no memory");
    }
    counts[1] = own == 0 ? wrong : 0;
    counts[count] = own == 1 ? 100 : 0;
    mixt_exchange x = {MIXT_GROUP_ALL, bytes + 100, counts, bytes, counts + count};
    bytes[100] = 0xA5;
    mixt_status status = mixt_ranks_exchange(ranks, &x, error);
    if (bytes[100] != 0xA5) {
        fprintf(stderr, "conform: written outside\n");
    }
    free(counts); /* the bytes may be MPI's still */
    return status == MIXT_OK ? mixt_ranks_barrier(ranks, MIXT_GROUP_ALL, error) : status;
}

static mixt_status run_rounds(mixt_ranks *ranks, settings *s, mixt_error *error)
{
    pthread_t thread;
    int own = mixt_ranks_rank(ranks);
    if (own == s->kill_rank && pthread_create(&thread, NULL, kill_later, s) != 0) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "no thread");
    }
    for (int round = 0; round < s->rounds; round++) {
        MIXT_TRY(check_collectives(ranks, s->seed + (uint64_t)round, s->large, error));
        if (own == s->fail_rank) {
            return mixt_fail(error, MIXT_ERROR_IO, "fails, as it was told");
        }
        if (own == s->stop_rank) {
            raise(SIGSTOP);
        }
        if (s->wrong > 0) {
            return exchange_wrongly(ranks, s->wrong, error);
        }
    }
    return MIXT_OK;
}

int main(int count, char **arguments)
{
    settings s = read_arguments(count, arguments);
    mixt_error error = MIXT_ERROR_INIT;
    mixt_ranks *ranks;
    mixt_ranks_options options = mixt_ranks_options_default();
    options.timeout = s.timeout;
    mixt_status status = mixt_ranks_open(&options, &ranks, &error);
    if (status == MIXT_OK) {
        status = run_rounds(ranks, &s, &error);
    }
    if (status != MIXT_OK) {
        fprintf(stderr, "conform: %s\n", error.message);
    } else if (mixt_ranks_rank(ranks) == 0) {
        printf("%d ranks agree\n", mixt_ranks_count(ranks));
    }
    mixt_ranks_close(ranks, status != MIXT_OK ? error.message : NULL);
    return status == MIXT_OK ? 0 : 2;
}
