/* Reading ahead: the next layer's router, run on what this layer's router read, says which experts
 * will be wanted. It pays where the disk would rest meanwhile and the guess is good; where the disk
 * is what all wait for, wrong guesses cost. So steps with and without it take turns for a while,
 * and the faster way is kept until it is tried again. */
#include <string.h>

#include "store/inside.h"

#define TRIAL_STEPS 64  /* of each way before it is judged */
#define TURN_STEPS 8    /* of one way before the other has its turn */
#define KEEP_STEPS 1024 /* before it is tried again */
#define GAIN 0.97       /* of the time without, that it has to come below */
#define PROMPT_ROWS 32  /* rows of a step that want nearly every expert: no guess */

static void begin_trial(mixt_foresight *f)
{
    for (int way = 0; way < 2; way++) { /* what was measured counts for a part */
        f->seconds[way] /= 4;
        f->steps[way] /= 4;
    }
    f->trying = true;
}

/* An expert was read ahead for nothing, or is about to be. */
static void waste(mixt_expert_store *store, mixt_expert_item *item)
{
    for (int i = 0; i < item->piece_count; i++) {
        store->count.prefetch_bytes_wasted += item->pieces[i].bytes;
        if (item->state == MIXT_EXPERT_COMING) {
            mixt_disk_cancel(store->disk, &store->slots[item->slot].reads[i]);
        }
    }
    item->foreseen = false;
}

/* A step ends and another begins. */
void mixt_foresight_step(mixt_expert_store *store, int64_t tokens)
{
    mixt_foresight *f = &store->foresight;
    for (int32_t i = 0; store->last_tokens >= PROMPT_ROWS && i < store->item_count; i++) {
        if (store->items[i].foreseen) { /* of parts of a prompt, which are judged together */
            waste(store, &store->items[i]);
        }
    }
    int64_t rows = store->last_tokens;
    double seconds = store->step_seconds;
    store->step_seconds = 0;
    store->last_tokens = tokens;
    if (store->prefetch != MIXT_STORE_PREFETCH_MEASURED) {
        f->on = store->prefetch == MIXT_STORE_PREFETCH_ALWAYS;
        return;
    }
    if (rows > 0 && rows < PROMPT_ROWS) {
        f->seconds[f->on] += seconds / (double)rows;
        f->steps[f->on]++;
    }
    if (f->left > 0) {
        f->left--;
        return;
    }
    if (!f->trying) {
        begin_trial(f);
    }
    if (f->steps[0] >= TRIAL_STEPS && f->steps[1] >= TRIAL_STEPS) {
        double without = f->seconds[0] / (double)f->steps[0];
        double with = f->seconds[1] / (double)f->steps[1];
        f->on = with < GAIN * without;
        f->trying = false;
        f->left = KEEP_STEPS;
    } else {
        f->on = !f->on;
        f->left = TURN_STEPS;
    }
}

/* What was foreseen of a layer that has now decided. */
void mixt_foresight_judge(mixt_expert_store *store, mixt_expert_shelf *shelf)
{
    mixt_foresight *f = &store->foresight;
    for (int32_t e = 0; shelf->foretold && store->tokens < PROMPT_ROWS && e < shelf->experts; e++) {
        mixt_expert_item *item = &store->items[shelf->first + e];
        f->chosen += item->wanted;
        f->right += item->wanted && shelf->foreseen[e] != 0;
        if (item->foreseen && !item->wanted) {
            waste(store, item);
        }
    }
    shelf->foretold = false;
}

void mixt_expert_store_foresee(void *user, const void *made)
{
    mixt_expert_shelf *shelf = user;
    mixt_expert_store *store = shelf->store;
    const int32_t *offsets = made;
    if (store->slots == NULL) {
        return;
    }
    bool prompt = store->tokens >= PROMPT_ROWS;
    bool fetch = store->prefetch != MIXT_STORE_PREFETCH_NEVER && (store->foresight.on || prompt);
    int class = store->class_of[shelf->layer];
    int64_t room = (store->class_slot[class + 1] - store->class_slot[class]) / 2;
    uint64_t fetched = 0;
    for (int32_t e = 0; e < shelf->experts; e++) {
        mixt_expert_item *item = &store->items[shelf->first + e];
        bool chosen = offsets[e + 1] > offsets[e];
        shelf->foreseen[e] = chosen;
        bool begin = fetch && chosen && item->state == MIXT_EXPERT_AWAY && room > 0 &&
                     store->next_wish == store->wish_count; /* what is wanted now goes first */
        int32_t slot = begin ? mixt_store_find_slot(store, item, true) : -1;
        if (slot >= 0) {
            mixt_store_read_into(store, item, slot, false);
            item->foreseen = true;
            fetched++;
            room--;
        }
    }
    shelf->foretold = true;
    pthread_mutex_lock(&store->facts);
    store->count.prefetched += fetched;
    pthread_mutex_unlock(&store->facts);
}
