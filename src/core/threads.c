#include "core/threads.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

#include "core/error.h"
#include "core/platform.h"

#define SPIN_ROUNDS 4000 /* 20-80 us of pauses before a waiting thread sleeps; */
#define FEW_ROUNDS 200   /* behind SOME waits in a row that took longer, */
#define SOME 4           /* but for one of */
#define TRY_AGAIN 8

/* What a loop's `state` holds: its number, whether it takes workers, and how many are in it. */
#define STATE_OPEN ((uint64_t)1 << 16)
#define STATE_WORKERS (STATE_OPEN - 1)
#define STATE_NEXT (STATE_OPEN << 1)

struct mixt_pool {
    int threads; /* workers + the caller */
    pthread_t *workers;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    pthread_cond_t done;
    /* Of the last loop. A worker that comes when all items are taken finds it closed: nobody waits
     * for one that has no processor. What the loop does is read by those alone that entered it. */
    _Atomic uint64_t state;
    _Atomic int64_t next;
    _Atomic int stop;
    int64_t count;
    mixt_item_function function;
    void *context;
};

typedef struct worker_start {
    mixt_pool *pool;
    int thread;
} worker_start;

static inline void pause_cpu(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

static void pool_items(mixt_pool *pool, int thread)
{
    for (;;) {
        int64_t item = atomic_fetch_add_explicit(&pool->next, 1, memory_order_relaxed);
        if (item >= pool->count) {
            return;
        }
        pool->function(pool->context, item, thread);
    }
}

static uint64_t loop_number(uint64_t state)
{
    return state / STATE_NEXT;
}

static int rounds_worth(int in_vain)
{
    return in_vain < SOME || in_vain % TRY_AGAIN == 0 ? SPIN_ROUNDS : FEW_ROUNDS;
}

/* The state of a loop behind the one seen. A worker sleeps sooner where its pauses were in vain,
 * since loops are far apart or other programs have the processor of who starts them. */
static uint64_t pool_wait_work(mixt_pool *pool, uint64_t seen, int *in_vain)
{
    uint64_t state;
    for (int round = 0; round < rounds_worth(*in_vain); round++) {
        state = atomic_load_explicit(&pool->state, memory_order_acquire);
        if (loop_number(state) != seen) {
            *in_vain = 0;
            return state;
        }
        pause_cpu();
    }
    ++*in_vain;
    pthread_mutex_lock(&pool->lock);
    while (loop_number(state = atomic_load(&pool->state)) == seen) {
        pthread_cond_wait(&pool->wake, &pool->lock);
    }
    pthread_mutex_unlock(&pool->lock);
    return state;
}

/* Whether the loop took the worker. */
static bool pool_enter(mixt_pool *pool, uint64_t state)
{
    uint64_t number = loop_number(state);
    while (loop_number(state) == number && (state & STATE_OPEN) != 0) {
        if (atomic_compare_exchange_weak_explicit(&pool->state, &state, state + 1,
                                                  memory_order_acquire, memory_order_acquire)) {
            return true;
        }
    }
    return false;
}

static void *pool_worker(void *argument)
{
    worker_start start = *(worker_start *)argument;
    free(argument);
    mixt_pool *pool = start.pool;
    uint64_t seen = 0;
    int in_vain = 0;
    for (;;) {
        uint64_t state = pool_wait_work(pool, seen, &in_vain);
        seen = loop_number(state);
        if (atomic_load(&pool->stop)) {
            return NULL;
        }
        if (!pool_enter(pool, state)) {
            continue;
        }
        pool_items(pool, start.thread);
        state = atomic_fetch_sub_explicit(&pool->state, 1, memory_order_acq_rel) - 1;
        if ((state & (STATE_OPEN | STATE_WORKERS)) == 0) { /* the caller waits for it, or did */
            pthread_mutex_lock(&pool->lock);
            pthread_cond_signal(&pool->done);
            pthread_mutex_unlock(&pool->lock);
        }
    }
}

static int threads_best(void)
{
    int count = mixt_processors_allowed();
    return count < MIXT_THREADS_MAX ? count : MIXT_THREADS_MAX;
}

mixt_status mixt_pool_create(int threads, mixt_pool **result, mixt_error *error)
{
    *result = NULL;
    if (threads < 0 || threads > MIXT_THREADS_MAX) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "threads: %d is not in 1..%d", threads,
                         MIXT_THREADS_MAX);
    }
    mixt_pool *pool = calloc(1, sizeof *pool);
    if (pool == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "no memory for the thread pool");
    }
    int wanted = threads == 0 ? threads_best() : threads;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->wake, NULL);
    pthread_cond_init(&pool->done, NULL);
    pool->threads = 1;
    pool->workers = calloc((size_t)wanted, sizeof *pool->workers);
    for (int thread = 1; thread < wanted; thread++) {
        worker_start *start = malloc(sizeof *start);
        if (start != NULL && pool->workers != NULL) {
            *start = (worker_start){pool, thread};
            if (pthread_create(&pool->workers[thread], NULL, pool_worker, start) == 0) {
                pool->threads++;
                continue;
            }
        }
        free(start);
        mixt_pool_free(pool);
        return mixt_fail(error, MIXT_ERROR_MEMORY, "cannot start thread %d of %d", thread + 1,
                         wanted);
    }
    *result = pool;
    return MIXT_OK;
}

void mixt_pool_free(mixt_pool *pool)
{
    if (pool == NULL) {
        return;
    }
    pthread_mutex_lock(&pool->lock);
    atomic_store(&pool->stop, 1);
    atomic_fetch_add(&pool->state, STATE_NEXT);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
    for (int thread = 1; thread < pool->threads; thread++) {
        pthread_join(pool->workers[thread], NULL);
    }
    pthread_cond_destroy(&pool->done);
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->lock);
    free(pool->workers);
    free(pool);
}

int mixt_pool_threads(const mixt_pool *pool)
{
    return pool == NULL ? 1 : pool->threads;
}

void mixt_pool_run(mixt_pool *pool, int64_t count, mixt_item_function function, void *context)
{
    if (pool == NULL || pool->threads == 1 || count == 1) {
        for (int64_t item = 0; item < count; item++) {
            function(context, item, 0);
        }
        return;
    }
    if (count <= 0) {
        return;
    }
    uint64_t state = atomic_load_explicit(&pool->state, memory_order_relaxed);
    assert((state & (STATE_OPEN | STATE_WORKERS)) == 0); /* no loop in an item of another */
    pool->count = count;
    pool->function = function;
    pool->context = context;
    atomic_store_explicit(&pool->next, 0, memory_order_relaxed);
    pthread_mutex_lock(&pool->lock);
    atomic_store_explicit(&pool->state, state + STATE_NEXT + STATE_OPEN, memory_order_release);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
    pool_items(pool, 0);
    state = atomic_fetch_sub_explicit(&pool->state, STATE_OPEN, memory_order_acq_rel);
    for (int round = 0; round < SPIN_ROUNDS && (state & STATE_WORKERS) != 0; round++) {
        pause_cpu();
        state = atomic_load_explicit(&pool->state, memory_order_acquire);
    }
    if ((state & STATE_WORKERS) == 0) {
        return;
    }
    pthread_mutex_lock(&pool->lock);
    while ((atomic_load(&pool->state) & STATE_WORKERS) != 0) {
        pthread_cond_wait(&pool->done, &pool->lock);
    }
    pthread_mutex_unlock(&pool->lock);
}
