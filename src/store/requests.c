/* Asking for a layer's experts, and taking them in waves. */
#include <assert.h>
#include <string.h>
#include <time.h>

#include "store/inside.h"

double mixt_store_now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* ------------------------------------------------------------------------------------------ */
/* Slots                                                                                      */

int32_t mixt_store_find_slot(mixt_expert_store *store, const mixt_expert_item *item, bool ahead)
{
    int class = store->class_of[item->layer];
    int32_t begin = store->class_slot[class], end = store->class_slot[class + 1];
    int64_t count = 0, second = 0; /* those that were read ahead go last */
    for (int32_t slot = begin; slot < end; slot++) {
        if (store->slots[slot].item < 0) {
            return slot;
        }
        const mixt_expert_item *other = &store->items[store->slots[slot].item];
        if (other->state != MIXT_EXPERT_HERE || other->wanted || other->taken) {
            continue;
        }
        if (!other->foreseen) {
            store->held[count++] = store->slots[slot].item;
        } else {
            second++;
        }
    }
    for (int32_t slot = begin; slot < end && count == 0 && second > 0 && !ahead; slot++) {
        const mixt_expert_item *other = &store->items[store->slots[slot].item];
        if (other->state == MIXT_EXPERT_HERE && !other->wanted && !other->taken) {
            store->held[count++] = store->slots[slot].item;
        }
    }
    if (count == 0) {
        return -1;
    }
    mixt_expert_item *victim = &store->items[mixt_policy_victim(store->policy, store->held, count)];
    int32_t slot = victim->slot;
    victim->slot = -1;
    victim->state = MIXT_EXPERT_AWAY;
    victim->foreseen = false;
    store->slots[slot].item = -1;
    return slot;
}

void mixt_store_read_into(mixt_expert_store *store, mixt_expert_item *item, int32_t slot,
                          bool urgent)
{
    mixt_expert_slot *to = &store->slots[slot];
    to->item = (int32_t)(item - store->items);
    to->pending = item->piece_count;
    to->request = store->request;
    item->slot = slot;
    item->state = MIXT_EXPERT_COMING;
    for (int m = 0; m < MIXT_EXPERT_MATRICES; m++) {
        if (item->laid[m] != NULL) {
            item->matrix[m].data = to->data + item->laid_at[m];
        } else if (item->piece[m][0] >= 0) {
            const mixt_expert_piece *piece = &item->pieces[item->piece[m][0]];
            item->matrix[m].data =
                to->data + piece->at + piece->offset % MIXT_DISK_BLOCK + item->into[m][0];
        }
    }
    for (int i = 0; i < item->piece_count; i++) {
        const mixt_expert_piece *piece = &item->pieces[i];
        to->reads[i] = (mixt_disk_read){
            .file = piece->file,
            .urgent = urgent,
            .offset = piece->offset,
            .bytes = piece->bytes,
            .to = piece->bench ? NULL : to->data + piece->at + piece->offset % MIXT_DISK_BLOCK,
            .user = to,
            .finish = piece->bench ? mixt_store_finish_part : NULL};
    }
    mixt_store_begin_reads(store, to);
}

/* A slot whose reads are all done: its item is here, or the slot is free again. */
static void settle(mixt_expert_store *store, mixt_expert_slot *slot)
{
    mixt_expert_item *item = &store->items[slot->item];
    const mixt_disk_read *bad = NULL;
    for (int i = 0; i < item->piece_count; i++) {
        bad = bad == NULL && slot->reads[i].status != MIXT_OK ? &slot->reads[i] : bad;
    }
    if (bad == NULL) {
        item->state = MIXT_EXPERT_HERE;
        return;
    }
    if (bad->cancelled || slot->request != store->request) {
        /* Given up, or begun before it was asked for: it is to be read after all. */
        store->next_wish = item->wanted ? 0 : store->next_wish;
    } else if (item->wanted && store->failed < 0) {
        store->failed = slot->item;
        store->failure = (mixt_error)MIXT_ERROR_INIT;
        mixt_fail(&store->failure, bad->status, "%s", bad->message);
    }
    item->state = MIXT_EXPERT_AWAY;
    item->slot = -1;
    item->foreseen = false;
    slot->item = -1;
}

bool mixt_store_reap(mixt_expert_store *store, bool block)
{
    mixt_disk_read *read = mixt_disk_wait(store->disk, block);
    bool any = read != NULL;
    for (; read != NULL; read = mixt_disk_wait(store->disk, false)) {
        mixt_expert_slot *slot = read->user;
        if (--slot->pending == 0) {
            settle(store, slot);
        }
    }
    return any;
}

/* ------------------------------------------------------------------------------------------ */
/* Asking                                                                                     */

/* Reads of experts that have no slot yet, as far as there are slots. */
static void start_reads(mixt_expert_store *store)
{
    for (; store->next_wish < store->wish_count; store->next_wish++) {
        mixt_expert_item *item = &store->items[store->wishes[store->next_wish]];
        if (item->state != MIXT_EXPERT_AWAY || !item->wanted) { /* given, and gone since */
            continue;
        }
        int32_t slot = mixt_store_find_slot(store, item, false);
        if (slot < 0) {
            return;
        }
        mixt_store_read_into(store, item, slot, true);
    }
}

/* An expert with `rows` rows: counted once in a step, whatever it is cut into. */
static void want(mixt_expert_store *store, int32_t index, int64_t rows)
{
    mixt_expert_item *item = &store->items[index];
    item->wanted = true;
    store->wishes[store->wish_count++] = index;
    if (item->state == MIXT_EXPERT_COMING) {
        mixt_store_hurry(store, item);
    }
    if (item->step != store->step) {
        item->step = store->step;
        store->count.requests++;
        store->count.hits += item->state != MIXT_EXPERT_AWAY;
        mixt_policy_use(store->policy, index, rows);
        mixt_record_book_use(store->book, index, rows);
    }
    if (item->foreseen) {
        item->foreseen = false;
        store->count.prefetch_used++;
    }
}

void mixt_store_close_request(mixt_expert_store *store)
{
    for (int32_t i = 0; i < store->wish_count; i++) {
        store->items[store->wishes[i]].wanted = false;
    }
    for (int32_t i = 0; i < store->given_count; i++) {
        store->items[store->given[i]].taken = false;
    }
    store->wish_count = store->next_wish = store->given_count = 0;
    store->failed = -1;
    store->open = false;
}

/* Layers follow one another in a step. */
static void note_layer(mixt_expert_store *store, int layer)
{
    if (layer < store->asked || store->asked < 0 || store->shape.layers == 1) {
        store->step++;
        store->count.steps++;
        mixt_policy_step(store->policy);
        mixt_record_book_step(store->book);
        mixt_foresight_step(store, store->tokens);
    }
    if (layer == 0) {
        store->count.rows += (uint64_t)store->tokens;
    }
    store->asked = layer;
}

void mixt_expert_store_ask(void *user, const void *made, int64_t count)
{
    mixt_expert_shelf *shelf = user;
    mixt_expert_store *store = shelf->store;
    const int32_t *offsets = made;
    assert(count >= shelf->experts + 1); /* behind them groups without weights */
    (void)count;
    if (store->slots == NULL) {
        return; /* no memory: take says so */
    }
    mixt_store_close_request(store);
    store->request++;
    mixt_store_reap(store, false);
    pthread_mutex_lock(&store->facts);
    note_layer(store, shelf->layer);
    for (int32_t e = 0; e < shelf->experts; e++) {
        if (offsets[e + 1] > offsets[e]) {
            want(store, shelf->first + e, offsets[e + 1] - offsets[e]);
        }
    }
    mixt_foresight_judge(store, shelf);
    pthread_mutex_unlock(&store->facts);
    store->open = true;
    start_reads(store);
}

/* ------------------------------------------------------------------------------------------ */
/* Taking                                                                                     */

/* Those that are wanted and here, into experts[]. Where others have no slot yet and nothing is
 * being read, half of them alone, so that reads go on while the rest is worked on. */
static int64_t give(mixt_expert_store *store, const mixt_expert_shelf *shelf, int32_t *experts)
{
    int32_t ready = 0, coming = 0, count = 0;
    for (int32_t i = 0; i < store->wish_count; i++) {
        const mixt_expert_item *item = &store->items[store->wishes[i]];
        ready += item->wanted && item->state == MIXT_EXPERT_HERE;
        coming += item->wanted && item->state == MIXT_EXPERT_COMING;
    }
    int32_t most = store->next_wish < store->wish_count && coming == 0 ? (ready + 1) / 2 : ready;
    for (int32_t i = 0; i < store->wish_count && count < most; i++) {
        mixt_expert_item *item = &store->items[store->wishes[i]];
        if (item->wanted && item->state == MIXT_EXPERT_HERE) {
            item->wanted = false;
            item->taken = true;
            store->given[count] = store->wishes[i];
            experts[count++] = store->wishes[i] - shelf->first;
        }
    }
    store->given_count = count;
    return count;
}

static bool all_given(const mixt_expert_store *store)
{
    for (int32_t i = 0; i < store->wish_count; i++) {
        if (store->items[store->wishes[i]].wanted) {
            return false;
        }
    }
    return true;
}

static int64_t give_up(mixt_expert_store *store, const mixt_expert_shelf *shelf, int32_t *experts,
                       mixt_error *error)
{
    experts[0] = store->failed - shelf->first;
    mixt_fail(error, store->failure.status, "%s", store->failure.message);
    mixt_store_close_request(store);
    return -1;
}

/* Waits for a read; false: nothing is under way, which no request leaves so. */
static bool wait_for_read(mixt_expert_store *store)
{
    double begin = mixt_store_now();
    bool any = mixt_store_reap(store, true);
    pthread_mutex_lock(&store->facts);
    store->count.wait_seconds += mixt_store_now() - begin;
    pthread_mutex_unlock(&store->facts);
    return any;
}

int64_t mixt_store_take(void *user, const int32_t *offsets, int32_t *experts, mixt_error *error)
{
    mixt_expert_shelf *shelf = user;
    mixt_expert_store *store = shelf->store;
    experts[0] = 0;
    if (store->slots == NULL) {
        mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory for a pool of experts", store->name);
        return -1;
    }
    if (!store->open || store->asked != shelf->layer) {
        mixt_expert_store_ask(user, offsets, shelf->experts + 1);
    }
    for (int32_t i = 0; i < store->given_count; i++) {
        store->items[store->given[i]].taken = false;
    }
    store->given_count = 0;
    for (;;) {
        mixt_store_reap(store, false);
        if (store->failed >= 0) {
            return give_up(store, shelf, experts, error);
        }
        start_reads(store);
        int64_t count = give(store, shelf, experts);
        if (count > 0) {
            start_reads(store);
            return count;
        }
        if (all_given(store)) {
            mixt_store_close_request(store);
            return 0;
        }
        if (!wait_for_read(store)) {
            mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no slot for an expert", store->name);
            mixt_store_close_request(store);
            return -1;
        }
    }
}

const mixt_matrix *mixt_store_rows(void *user, int matrix, int64_t expert)
{
    const mixt_expert_shelf *shelf = user;
    const mixt_expert_item *item = &shelf->store->items[shelf->first + expert];
    assert(item->taken && item->state == MIXT_EXPERT_HERE && item->piece[matrix][0] >= 0);
    return &item->matrix[matrix];
}
