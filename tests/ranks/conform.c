/* conform [SEED [ROUNDS [LARGE]]] [--kill RANK MILLISECONDS] [--fail RANK]: the checks of
 * collectives between the ranks that a launcher started, over whichever transport. One rank is
 * killed at some moment, or goes with an error after the first round. Status 2 and one line where a
 * rank was lost. */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ranks_checks.h"

typedef struct settings {
    uint64_t seed;
    int rounds;
    size_t large;
    int kill_rank, fail_rank; /* -1: none */
    long milliseconds;
} settings;

static settings read_arguments(int count, char **arguments)
{
    settings s = {1, 1, 3000000, -1, -1, 0};
    for (int i = 1, place = 0; i < count; i++) {
        if (strcmp(arguments[i], "--kill") == 0 && i + 2 < count) {
            s.kill_rank = atoi(arguments[++i]);
            s.milliseconds = atol(arguments[++i]);
        } else if (strcmp(arguments[i], "--fail") == 0 && i + 1 < count) {
            s.fail_rank = atoi(arguments[++i]);
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
    }
    return MIXT_OK;
}

int main(int count, char **arguments)
{
    settings s = read_arguments(count, arguments);
    mixt_error error = MIXT_ERROR_INIT;
    mixt_ranks *ranks;
    mixt_ranks_options options = mixt_ranks_options_default();
    options.timeout = 60;
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
