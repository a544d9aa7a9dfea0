/* Experts that are laid anew: read on a bench, and from there laid into their slot by threads of
 * the disk's, while others are read. */
#include <stdlib.h>

#include "core/arithmetic.h"
#include "core/platform.h"
#include "store/inside.h"

#define BENCHES_LEAST 4 /* two that are read while two are laid */
#define BENCHES_MOST 32
#define BENCHES_BYTES ((size_t)32 << 20) /* what reads under way want, four times */
#define LAYERS_MOST 4                    /* threads that lay: memory has no more to give */

mixt_status mixt_store_make_benches(mixt_expert_store *store, mixt_error *error)
{
    if (store->bench_bytes == 0) {
        return MIXT_OK;
    }
    int64_t count = (int64_t)(BENCHES_BYTES / store->bench_bytes);
    count = mixt_least(mixt_most(count, BENCHES_LEAST), BENCHES_MOST);
    store->bench_count = (int32_t)mixt_least(count, store->item_count);
    store->benches = calloc((size_t)store->bench_count, sizeof *store->benches);
    if (store->benches == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory for a store of experts",
                         store->name);
    }
    int threads = (int)mixt_least(mixt_processors_allowed(), LAYERS_MOST);
    return mixt_disk_add_finishers(store->disk, threads, error);
}

void mixt_store_place_benches(mixt_expert_store *store, char *data)
{
    for (int32_t i = 0; i < store->bench_count; i++, data += store->bench_bytes) {
        store->benches[i].data = data;
        store->benches[i].store = store;
        store->benches[i].used = false;
    }
}

/* ------------------------------------------------------------------------------------------ */
/* Who is read on which: under the lock                                                       */

static mixt_expert_bench *free_bench(const mixt_expert_store *store)
{
    for (int32_t i = 0; i < store->bench_count; i++) {
        if (!store->benches[i].used) {
            return &store->benches[i];
        }
    }
    return NULL;
}

/* Behind others, those that are not urgent behind those that are. */
static void wait_for_bench(mixt_expert_store *store, mixt_expert_slot *slot)
{
    mixt_expert_slot **at = &store->waiting;
    while (*at != NULL && (!slot->reads[0].urgent || (*at)->reads[0].urgent)) {
        at = &(*at)->next;
    }
    slot->next = *at;
    slot->waiting = true;
    *at = slot;
}

static void wait_no_more(mixt_expert_store *store, mixt_expert_slot *slot)
{
    mixt_expert_slot **at = &store->waiting;
    while (*at != slot) {
        at = &(*at)->next;
    }
    *at = slot->next;
    slot->waiting = false;
}

static void submit(mixt_expert_store *store, mixt_expert_slot *slot)
{
    const mixt_expert_item *item = &store->items[slot->item];
    for (int next = 0; next < item->piece_count; next++) {
        mixt_disk_submit(store->disk, &slot->reads[item->order[next]]);
    }
}

static void begin_on(mixt_expert_bench *bench, mixt_expert_slot *slot)
{
    const mixt_expert_item *item = &bench->store->items[slot->item];
    int left = 0;
    bench->used = true;
    slot->bench = bench;
    for (int m = 0; m < MIXT_EXPERT_MATRICES; m++) {
        int parts = 0;
        for (int p = 0; p < MIXT_EXPERT_PARTS; p++) {
            parts += item->piece[m][p] >= 0;
        }
        atomic_store(&bench->missing[m], parts);
    }
    for (int i = 0; i < item->piece_count; i++) {
        const mixt_expert_piece *piece = &item->pieces[i];
        if (piece->bench) {
            slot->reads[i].to = bench->data + piece->at + piece->offset % MIXT_DISK_BLOCK;
            left++;
        }
    }
    atomic_store(&bench->left, left);
    submit(bench->store, slot);
}

void mixt_store_begin_reads(mixt_expert_store *store, mixt_expert_slot *slot)
{
    if (!store->items[slot->item].benched) {
        submit(store, slot);
        return;
    }
    pthread_mutex_lock(&store->laying);
    mixt_expert_bench *bench = free_bench(store);
    if (bench != NULL) {
        begin_on(bench, slot);
    } else {
        wait_for_bench(store, slot);
    }
    pthread_mutex_unlock(&store->laying);
}

/* All of what was read there is laid: the next one has it. */
static void leave_bench(mixt_expert_bench *bench)
{
    mixt_expert_store *store = bench->store;
    pthread_mutex_lock(&store->laying);
    mixt_expert_slot *next = store->waiting;
    bench->used = false;
    if (next != NULL) {
        wait_no_more(store, next);
        begin_on(bench, next);
    }
    pthread_mutex_unlock(&store->laying);
}

void mixt_store_hurry(mixt_expert_store *store, const mixt_expert_item *item)
{
    mixt_expert_slot *slot = &store->slots[item->slot];
    pthread_mutex_lock(&store->laying);
    bool waiting = slot->waiting && !slot->reads[0].urgent;
    if (waiting) {
        wait_no_more(store, slot);
    }
    for (int i = 0; i < item->piece_count; i++) {
        if (waiting) {
            slot->reads[i].urgent = true;
        } else if (!slot->waiting) {
            mixt_disk_hurry(store->disk, &slot->reads[i]);
        }
    }
    if (waiting) {
        wait_for_bench(store, slot);
    }
    pthread_mutex_unlock(&store->laying);
}

void mixt_store_cancel(mixt_expert_store *store, mixt_expert_item *item)
{
    mixt_expert_slot *slot = &store->slots[item->slot];
    pthread_mutex_lock(&store->laying);
    if (slot->waiting) { /* nothing of it was begun */
        wait_no_more(store, slot);
        item->state = MIXT_EXPERT_AWAY;
        item->slot = slot->item = -1;
    } else {
        for (int i = 0; i < item->piece_count; i++) {
            mixt_disk_cancel(store->disk, &slot->reads[i]);
        }
    }
    pthread_mutex_unlock(&store->laying);
}

/* ------------------------------------------------------------------------------------------ */
/* Laying                                                                                     */

/* By a thread of the disk's. */
static void lay(const mixt_expert_slot *slot, const mixt_expert_item *item, int m)
{
    const char *parts[MIXT_EXPERT_PARTS] = {NULL};
    for (int p = 0; p < MIXT_EXPERT_PARTS; p++) {
        if (item->piece[m][p] >= 0) {
            const mixt_expert_piece *piece = &item->pieces[item->piece[m][p]];
            parts[p] =
                slot->bench->data + piece->at + piece->offset % MIXT_DISK_BLOCK + item->into[m][p];
        }
    }
    slot->bench->store->lay(item->laid[m], parts, slot->data + item->laid_at[m]);
}

void mixt_store_finish_part(mixt_disk_read *read)
{
    const mixt_expert_slot *slot = read->user;
    mixt_expert_bench *bench = slot->bench;
    const mixt_expert_item *item = &bench->store->items[slot->item];
    int piece = (int)(read - slot->reads);
    /* of one that failed matrices never get all of their parts */
    for (int m = 0; m < MIXT_EXPERT_MATRICES && read->status == MIXT_OK; m++) {
        for (int p = 0; p < MIXT_EXPERT_PARTS; p++) {
            if (item->laid[m] != NULL && item->piece[m][p] == piece &&
                atomic_fetch_sub(&bench->missing[m], 1) == 1) {
                lay(slot, item, m);
            }
        }
    }
    if (atomic_fetch_sub(&bench->left, 1) == 1) {
        leave_bench(bench);
    }
}
