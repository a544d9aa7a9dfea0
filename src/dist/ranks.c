/* The ranks of a program: how they share a model, agreeing. */
#include "dist/ranks.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

mixt_status mixt_ranks_create(const mixt_transport *transport, double timeout, mixt_ranks **result,
                              mixt_error *error)
{
    mixt_ranks *ranks = calloc(1, sizeof *ranks);
    *result = ranks;
    if (ranks == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "ranks: no memory");
    }
    ranks->transport = transport;
    ranks->timeout = timeout;
    ranks->data = transport != NULL ? transport->count : 1;
    ranks->expert = 1;
    ranks->lost = (mixt_error)MIXT_ERROR_INIT;
    return MIXT_OK;
}

int mixt_ranks_rank(const mixt_ranks *ranks)
{
    return ranks->transport != NULL ? ranks->transport->rank : 0;
}

int mixt_ranks_count(const mixt_ranks *ranks)
{
    return ranks->transport != NULL ? ranks->transport->count : 1;
}

int mixt_ranks_data(const mixt_ranks *ranks)
{
    return ranks->data;
}

int mixt_ranks_expert(const mixt_ranks *ranks)
{
    return ranks->expert;
}

mixt_status mixt_ranks_arrange(mixt_ranks *ranks, int data, int expert, int experts,
                               mixt_error *error)
{
    int count = mixt_ranks_count(ranks), divisor = 1;
    for (int i = 1; i <= count && i <= experts; i++) {
        divisor = count % i == 0 && experts % i == 0 ? i : divisor;
    }
    expert = expert > 0 ? expert : data > 0 ? count / data : divisor;
    data = data > 0 ? data : count / (expert > 0 ? expert : 1);
    if (data < 1 || expert < 1 || (int64_t)data * expert != count) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "ranks: data_parallel %d times expert_parallel %d is not the number of "
                         "ranks, %d",
                         data, expert, count);
    }
    if (expert > 1 && expert > experts) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "ranks: expert_parallel %d: a layer has only %d experts", expert, experts);
    }
    ranks->data = data;
    ranks->expert = expert;
    ranks->held = experts / expert;
    return MIXT_OK;
}

mixt_status mixt_ranks_set_chunks(mixt_ranks *ranks, int64_t chunks, mixt_error *error)
{
    if (chunks < 0 || chunks > MIXT_RANKS_CHUNKS) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "ranks: exchange_chunks %lld is not in 0..%d",
                         (long long)chunks, MIXT_RANKS_CHUNKS);
    }
    if (chunks > 1 && ranks->expert == 1) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "ranks: exchange_chunks %lld: no rows travel where expert_parallel is 1",
                         (long long)chunks);
    }
    if (chunks > 1 && chunks > ranks->held) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "ranks: exchange_chunks %lld: a rank has %d experts of a layer",
                         (long long)chunks, ranks->held);
    }
    ranks->chunks_told = (int)chunks;
    return MIXT_OK;
}

/* What a rank has to say to the others. */
typedef struct verdict {
    int32_t status;
    char message[500];
} verdict;

mixt_status mixt_ranks_agree(mixt_ranks *ranks, mixt_status status, mixt_error *error)
{
    int64_t bad = status != MIXT_OK;
    int count = mixt_ranks_count(ranks);
    if (count == 1) {
        return status;
    }
    MIXT_TRY(mixt_ranks_largest(ranks, &bad, error));
    if (bad == 0) {
        return MIXT_OK;
    }
    verdict own = {.status = (int32_t)status}, *all = calloc((size_t)count, sizeof *all);
    snprintf(own.message, sizeof own.message, "%s",
             error != NULL && error->status != MIXT_OK ? error->message : "failed");
    mixt_status gathered =
        all == NULL ? mixt_fail(error, MIXT_ERROR_MEMORY, "ranks: no memory")
                    : mixt_ranks_gather(ranks, MIXT_GROUP_ALL, &own, sizeof own, all, error);
    for (int i = 0; i < count && gathered == MIXT_OK && status == MIXT_OK; i++) {
        if (all[i].status != MIXT_OK) {
            all[i].message[sizeof all[i].message - 1] = 0;
            status = mixt_fail(error, (mixt_status)all[i].status, "rank %d: %s", i, all[i].message);
        }
    }
    free(all);
    ranks->agreed = ranks->agreed || gathered == MIXT_OK;
    return gathered != MIXT_OK ? gathered : status;
}

mixt_status mixt_ranks_largest(mixt_ranks *ranks, int64_t *value, mixt_error *error)
{
    int count = mixt_ranks_count(ranks);
    int64_t *all = calloc((size_t)count, sizeof *all);
    mixt_status status =
        all == NULL ? mixt_fail(error, MIXT_ERROR_MEMORY, "ranks: no memory")
                    : mixt_ranks_gather(ranks, MIXT_GROUP_ALL, value, sizeof *value, all, error);
    for (int i = 0; i < count && status == MIXT_OK; i++) {
        *value = all[i] > *value ? all[i] : *value;
    }
    free(all);
    return status;
}

bool mixt_ranks_agreed(const mixt_ranks *ranks)
{
    return ranks->agreed;
}

bool mixt_ranks_lost(const mixt_ranks *ranks)
{
    return ranks->lost.status != MIXT_OK;
}

mixt_status mixt_ranks_await(mixt_ranks *ranks, void *bytes, size_t size, mixt_error *error)
{
    return mixt_ranks_hear(ranks, 0, bytes, size, error);
}

mixt_status mixt_ranks_share(mixt_ranks *ranks, void *bytes, size_t size, mixt_error *error)
{
    return mixt_ranks_broadcast(ranks, MIXT_GROUP_ALL, 0, bytes, size, error);
}
