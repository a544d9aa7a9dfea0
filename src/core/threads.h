/* A pool of threads and one loop over it. Each thread has a stretch of neighbouring items, so that
 * it reads on where it was; one that has none left takes the later half of what is left of
 * another's. So which thread runs an item is not fixed: an item's result must not depend on it, and
 * no two items may write the same place. A loop ends with its last item, whether every thread came
 * or not; waiting threads spin for some microseconds, then sleep: so an oversubscribed machine is
 * not burnt. */
#ifndef MIXT_CORE_THREADS_H
#define MIXT_CORE_THREADS_H

#include <stdint.h>

#include "mixt.h"

#define MIXT_THREADS_MAX 256

typedef struct mixt_pool mixt_pool;
/* item in [0, count), count below 2^32; thread in [0, mixt_pool_threads). */
typedef void (*mixt_item_function)(void *context, int64_t item, int thread);

/* threads 0: one for each core that this process may use. */
mixt_status mixt_pool_create(int threads, mixt_pool **pool, mixt_error *error);
void mixt_pool_free(mixt_pool *pool);
int mixt_pool_threads(const mixt_pool *pool);
/* Runs every item and returns when all are done. A NULL pool runs them here, in order. Not to be
 * called from inside an item. */
void mixt_pool_run(mixt_pool *pool, int64_t count, mixt_item_function function, void *context);

#endif
