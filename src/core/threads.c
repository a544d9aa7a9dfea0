#include "core/threads.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

#include "core/error.h"
#include "core/memory.h"
#include "core/platform.h"

#define SPIN_ROUNDS 4000 /* 20-80 us of pauses before a waiting thread sleeps; */
#define FEW_ROUNDS 200   /* behind SOME waits in a row that took longer, */
#define SOME 4           /* but for one of */
#define TRY_AGAIN 8

/* What a loop's `state` holds: its number, whether it takes workers, and how many are in it. */
#define STATE_OPEN ((uint64_t)1 << 16)
#define STATE_WORKERS (STATE_OPEN - 1)
#define STATE_NEXT (STATE_OPEN << 1)

/* Items that a thread has before it, their first in the lower half and what is behind their last in
 * the upper one. */
typedef struct stretch {
    _Alignas(MIXT_ALIGNMENT) _Atomic uint64_t items;
} stretch;

struct mixt_pool {
    int threads;        /* workers + the caller */
    int wanted;         /* as many, once all have begun */
    stretch *stretches; /* [wanted] */
    pthread_t *workers;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    pthread_cond_t done;
    /* Of the last loop. A worker that comes when all items are taken finds it closed: nobody waits
     * for one that has no processor. What the loop does is read by those alone that entered it. */
    _Atomic uint64_t state;
    _Atomic int stop;
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

static uint64_t items_from(uint32_t begin, uint32_t end)
{
    return begin | (uint64_t)end << 32;
}

/* Takes the first item of a stretch or, `half`, the later half of it; whether there was any. */
static bool take_items(stretch *from, bool half, uint64_t *taken)
{
    uint64_t left, items = atomic_load_explicit(&from->items, memory_order_relaxed);
    do {
        uint32_t begin = (uint32_t)items, end = (uint32_t)(items >> 32);
        uint32_t cut = half ? begin + (end - begin) / 2 : begin + 1;
        if (begin == end) {
            return false;
        }
        left = half ? items_from(begin, cut) : items_from(cut, end);
        *taken = half ? items_from(cut, end) : items_from(begin, cut);
    } while (!atomic_compare_exchange_weak_explicit(&from->items, &items, left,
                                                    memory_order_relaxed, memory_order_relaxed));
    return true;
}

static void pool_items(mixt_pool *pool, int thread)
{
    stretch *own = &pool->stretches[thread];
    uint64_t taken;
    int other;
    do {
        while (take_items(own, false, &taken)) {
            pool->function(pool->context, (uint32_t)taken, thread);
        }
        for (other = 1; other < pool->threads; other++) {
            if (take_items(&pool->stretches[(thread + other) % pool->threads], true, &taken)) {
                atomic_store_explicit(&own->items, taken, memory_order_relaxed);
                break;
            }
        }
    } while (other < pool->threads);
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
    pool->wanted = wanted;
    pool->stretches = mixt_block_allocate((size_t)wanted * sizeof *pool->stretches);
    if (pool->stretches == NULL) {
        mixt_pool_free(pool);
        return mixt_fail(error, MIXT_ERROR_MEMORY, "no memory for the thread pool");
    }
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
    mixt_block_free(pool->stretches, (size_t)pool->wanted * sizeof *pool->stretches);
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
    assert(count <= UINT32_MAX);
    pool->function = function;
    pool->context = context;
    for (int64_t i = 0; i < pool->threads; i++) {
        uint64_t items = items_from((uint32_t)(count * i / pool->threads),
                                    (uint32_t)(count * (i + 1) / pool->threads));
        atomic_store_explicit(&pool->stretches[i].items, items, memory_order_relaxed);
    }
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
