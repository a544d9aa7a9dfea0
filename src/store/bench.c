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

mixt_expert_bench *mixt_store_free_bench(const mixt_expert_store *store)
{
    for (int32_t i = 0; i < store->bench_count; i++) {
        if (!store->benches[i].used) {
            return &store->benches[i];
        }
    }
    return NULL;
}

void mixt_store_begin_laying(mixt_expert_slot *slot, const mixt_expert_item *item)
{
    mixt_expert_bench *bench = slot->bench;
    bench->used = true;
    slot->reads = bench->reads;
    for (int m = 0; m < MIXT_EXPERT_MATRICES; m++) {
        int parts = 0;
        for (int p = 0; p < MIXT_EXPERT_PARTS; p++) {
            parts += item->piece[m][p] >= 0;
        }
        atomic_store(&bench->missing[m], parts);
    }
}

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
    if (read->status != MIXT_OK) {
        return; /* its matrices never get all of their parts */
    }
    for (int m = 0; m < MIXT_EXPERT_MATRICES; m++) {
        for (int p = 0; p < MIXT_EXPERT_PARTS; p++) {
            if (item->laid[m] != NULL && item->piece[m][p] == piece &&
                atomic_fetch_sub(&bench->missing[m], 1) == 1) {
                lay(slot, item, m);
            }
        }
    }
}
