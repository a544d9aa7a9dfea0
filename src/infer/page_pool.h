/* Which pages of a cache are whose. A page is free, used by some sequences, or kept: whole, with
 * nobody using it, for a sequence that begins as it does. Pages that are published are found by
 * their tokens and what stands before them: a chain from the beginning, in which every link is
 * compared and no hash is trusted. Kept pages go least recently used first. */
#ifndef MIXT_INFER_PAGE_POOL_H
#define MIXT_INFER_PAGE_POOL_H

#include "core/error.h"
#include "ops/pages.h"

typedef struct mixt_page_pool mixt_page_pool;

/* What a page stands behind: another page's mixt_page_serial, or one of the beginnings. */
#define MIXT_PAGE_BEGINNING(number) ((uint64_t)1 << 63 | (uint64_t)(number))

/* sharing: pages can be published. */
mixt_status mixt_page_pool_create(int64_t pages, bool sharing, mixt_page_pool **pool,
                                  mixt_error *error);
void mixt_page_pool_free(mixt_page_pool *pool);

/* A page for one user: a free one, else the one that was kept longest; -1 where all are used. */
int32_t mixt_page_take(mixt_page_pool *pool);
/* One user less. Whoever has a chain of pages gives the last back first, so that kept pages go
 * before those that they stand behind. */
void mixt_page_release(mixt_page_pool *pool, int32_t page);
bool mixt_page_is_shared(const mixt_page_pool *pool, int32_t page); /* by two users or more */

/* The published page with these 64 tokens behind `before`, with one user more; -1: none. */
int32_t mixt_page_find(mixt_page_pool *pool, uint64_t before, const int32_t *tokens);
/* Publishes a page that its one user has filled. Gives it back, or another one that is the same and
 * was there already, which its user then has in its place. */
int32_t mixt_page_publish(mixt_page_pool *pool, int32_t page, uint64_t before,
                          const int32_t *tokens);
/* It will be written to: not to be found again. Nothing where it was not published. */
void mixt_page_withdraw(mixt_page_pool *pool, int32_t page);
/* Of this page as it was published, 0 where it is not; no two are ever the same. */
uint64_t mixt_page_serial(const mixt_page_pool *pool, int32_t page);

int64_t mixt_page_pool_size(const mixt_page_pool *pool);
int64_t mixt_page_pool_used(const mixt_page_pool *pool);
int64_t mixt_page_pool_kept(const mixt_page_pool *pool);

#endif
