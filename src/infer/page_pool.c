#include "infer/page_pool.h"

#include <stdlib.h>
#include <string.h>

#define NONE (-1)

typedef struct page {
    int32_t users;
    int32_t next, previous; /* free pages: next; kept ones: both, the longest kept first */
    int32_t chained;        /* the next one in its bucket */
    uint64_t serial;        /* 0: not published */
    uint64_t before;
} page;

struct mixt_page_pool {
    int64_t count, used, kept;
    page *pages;
    int32_t free;           /* the first free page */
    int32_t oldest, newest; /* of the kept ones */
    int32_t *tokens;        /* [count, 64] of published pages; NULL: none ever is */
    int32_t *buckets;       /* [bucket_count], a power of two: the first of a list */
    uint64_t bucket_count;
    uint64_t serial; /* the last one given out */
};

mixt_status mixt_page_pool_create(int64_t count, bool sharing, mixt_page_pool **result,
                                  mixt_error *error)
{
    *result = NULL;
    mixt_page_pool *pool = calloc(1, sizeof *pool);
    if (pool == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "pages: no memory");
    }
    pool->count = count;
    pool->oldest = pool->newest = NONE;
    pool->bucket_count = 1;
    while (sharing && pool->bucket_count < (uint64_t)count) {
        pool->bucket_count *= 2;
    }
    pool->pages = calloc((size_t)count, sizeof *pool->pages);
    pool->buckets = calloc((size_t)pool->bucket_count, sizeof *pool->buckets);
    pool->tokens =
        sharing ? calloc((size_t)count * MIXT_ATTENTION_BLOCK, sizeof *pool->tokens) : NULL;
    if (pool->pages == NULL || pool->buckets == NULL || (sharing && pool->tokens == NULL)) {
        mixt_page_pool_free(pool);
        return mixt_fail(error, MIXT_ERROR_MEMORY, "pages: no memory for a list of %lld",
                         (long long)count);
    }
    for (uint64_t i = 0; i < pool->bucket_count; i++) {
        pool->buckets[i] = NONE;
    }
    for (int64_t i = 0; i < count; i++) {
        pool->pages[i].next = i + 1 < count ? (int32_t)(i + 1) : NONE;
    }
    *result = pool;
    return MIXT_OK;
}

void mixt_page_pool_free(mixt_page_pool *pool)
{
    if (pool != NULL) {
        free(pool->pages);
        free(pool->buckets);
        free(pool->tokens);
        free(pool);
    }
}

/* ------------------------------------------------------------------------------------------ */
/* Published pages                                                                            */

static int32_t *tokens_of(const mixt_page_pool *pool, int32_t index)
{
    return pool->tokens + (int64_t)index * MIXT_ATTENTION_BLOCK;
}

static int32_t *bucket_of(const mixt_page_pool *pool, uint64_t before, const int32_t *tokens)
{
    uint64_t hash = before * UINT64_C(0x9E3779B97F4A7C15);
    for (int i = 0; i < MIXT_ATTENTION_BLOCK; i++) { /* FNV's step, a token at a time */
        hash = (hash ^ (uint32_t)tokens[i]) * UINT64_C(0x100000001B3);
        hash ^= hash >> 29;
    }
    return &pool->buckets[hash & (pool->bucket_count - 1)];
}

static int32_t look_up(const mixt_page_pool *pool, uint64_t before, const int32_t *tokens)
{
    int32_t at = *bucket_of(pool, before, tokens);
    while (at != NONE &&
           (pool->pages[at].before != before ||
            memcmp(tokens_of(pool, at), tokens, MIXT_ATTENTION_BLOCK * sizeof *tokens) != 0)) {
        at = pool->pages[at].chained;
    }
    return at;
}

void mixt_page_withdraw(mixt_page_pool *pool, int32_t index)
{
    page *it = &pool->pages[index];
    if (it->serial == 0) {
        return;
    }
    int32_t *link = bucket_of(pool, it->before, tokens_of(pool, index));
    while (*link != index) {
        link = &pool->pages[*link].chained;
    }
    *link = it->chained;
    it->serial = 0;
}

uint64_t mixt_page_serial(const mixt_page_pool *pool, int32_t index)
{
    return pool->pages[index].serial;
}

/* ------------------------------------------------------------------------------------------ */
/* Users                                                                                      */

static void unlink_kept(mixt_page_pool *pool, int32_t index)
{
    page *it = &pool->pages[index];
    *(it->previous == NONE ? &pool->oldest : &pool->pages[it->previous].next) = it->next;
    *(it->next == NONE ? &pool->newest : &pool->pages[it->next].previous) = it->previous;
    pool->kept--;
}

int32_t mixt_page_take(mixt_page_pool *pool)
{
    int32_t index = pool->free;
    if (index != NONE) {
        pool->free = pool->pages[index].next;
    } else if (pool->oldest != NONE) {
        index = pool->oldest;
        unlink_kept(pool, index);
        mixt_page_withdraw(pool, index);
    } else {
        return NONE;
    }
    pool->pages[index].users = 1;
    pool->used++;
    return index;
}

void mixt_page_release(mixt_page_pool *pool, int32_t index)
{
    page *it = &pool->pages[index];
    assert(it->users > 0);
    if (--it->users > 0) {
        return;
    }
    pool->used--;
    if (it->serial == 0) {
        it->next = pool->free;
        pool->free = index;
        return;
    }
    it->next = NONE;
    it->previous = pool->newest;
    *(pool->newest == NONE ? &pool->oldest : &pool->pages[pool->newest].next) = index;
    pool->newest = index;
    pool->kept++;
}

bool mixt_page_is_shared(const mixt_page_pool *pool, int32_t index)
{
    return pool->pages[index].users > 1;
}

int32_t mixt_page_find(mixt_page_pool *pool, uint64_t before, const int32_t *tokens)
{
    int32_t index = pool->tokens != NULL ? look_up(pool, before, tokens) : NONE;
    if (index != NONE && pool->pages[index].users++ == 0) {
        unlink_kept(pool, index);
        pool->used++;
    }
    return index;
}

int32_t mixt_page_publish(mixt_page_pool *pool, int32_t index, uint64_t before,
                          const int32_t *tokens)
{
    page *it = &pool->pages[index];
    assert(it->users == 1 && it->serial == 0 && pool->tokens != NULL);
    int32_t same = mixt_page_find(pool, before, tokens);
    if (same != NONE) {
        mixt_page_release(pool, index);
        return same;
    }
    int32_t *bucket = bucket_of(pool, before, tokens);
    memcpy(tokens_of(pool, index), tokens, MIXT_ATTENTION_BLOCK * sizeof *tokens);
    it->serial = ++pool->serial;
    it->before = before;
    it->chained = *bucket;
    *bucket = index;
    return index;
}

int64_t mixt_page_pool_size(const mixt_page_pool *pool)
{
    return pool->count;
}

int64_t mixt_page_pool_used(const mixt_page_pool *pool)
{
    return pool->used;
}

int64_t mixt_page_pool_kept(const mixt_page_pool *pool)
{
    return pool->kept;
}
