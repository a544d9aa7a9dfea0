/* Reading ahead: a layer's router, run on what stands before the mixture of the layer below, and
 * once more on what its block begins with, says which experts will be wanted, the likeliest of a
 * row first. It fills the time in which the disk would rest, from the last read of a layer to the
 * first of the next. Where the guess is bad it costs: so only experts are read whose place in the
 * row was right often enough of late, steps with more and less of them take turns for a while, and
 * the fastest way is kept until it is tried again. */
#include <math.h>
#include <string.h>

#include "core/arithmetic.h"
#include "store/inside.h"

#define TRIAL_STEPS 32  /* of each way before they are judged */
#define TURN_STEPS 4    /* of one way before the next has its turn */
#define KEEP_STEPS 1024 /* before it is tried again */
#define GAIN 0.98       /* of the time without, that it has to come below */
#define FIRST_WAY 2     /* until it is known */
#define PROMPT_ROWS 32  /* rows of a step that want nearly every expert: no guess */
#define REMEMBERED 64   /* guesses of a column: older ones hardly count */

/* How often a guess has to be right for its expert to be read. */
static const double right_least[MIXT_FORESIGHT_WAYS] = {INFINITY, 0.8, 0.5, 0};

static void begin_trial(mixt_foresight *f)
{
    for (int way = 0; way < MIXT_FORESIGHT_WAYS; way++) { /* what was measured counts for a part */
        uint64_t kept = f->steps[way] / 4;
        f->seconds[way] *= kept > 0 ? (double)kept / (double)f->steps[way] : 0;
        f->steps[way] = kept;
    }
    f->trying = true;
    f->turn = 0;
}

/* The fastest way; FIRST_WAY until all had a turn. */
static int judge_ways(const mixt_foresight *f)
{
    int best = 0;
    double least = INFINITY;
    for (int way = 0; way < MIXT_FORESIGHT_WAYS; way++) {
        if (f->steps[way] < TURN_STEPS) {
            return FIRST_WAY;
        }
        double seconds = f->seconds[way] / (double)f->steps[way];
        if (seconds < least) {
            best = way;
            least = (way == 0 ? GAIN : 1) * seconds;
        }
    }
    return best;
}

static bool tried(const mixt_foresight *f)
{
    for (int way = 0; way < MIXT_FORESIGHT_WAYS; way++) {
        if (f->steps[way] < TRIAL_STEPS) {
            return false;
        }
    }
    return true;
}

/* An expert was read ahead for nothing, or is about to be. */
static void waste(mixt_expert_store *store, mixt_expert_item *item)
{
    for (int i = 0; i < item->piece_count; i++) {
        store->count.prefetch_bytes_wasted += item->pieces[i].bytes;
    }
    if (item->state == MIXT_EXPERT_COMING) {
        mixt_store_cancel(store, item);
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
        bool always = store->prefetch == MIXT_STORE_PREFETCH_ALWAYS;
        f->way = always ? MIXT_FORESIGHT_WAYS - 1 : 0;
        return;
    }
    if (rows > 0 && rows < PROMPT_ROWS) {
        f->seconds[f->way] += seconds / (double)rows;
        f->steps[f->way]++;
    }
    if (f->left > 0) {
        f->left--;
    } else if (f->trying && tried(f)) {
        f->way = judge_ways(f);
        f->trying = false;
        f->left = KEEP_STEPS;
    } else {
        if (!f->trying) {
            begin_trial(f);
        }
        /* every second turn is the best way's so far, so that a trial costs half */
        f->way = f->turn % 2 == 0 ? judge_ways(f) : (int)(f->turn / 2 % MIXT_FORESIGHT_WAYS);
        f->turn++;
        f->left = TURN_STEPS - 1;
    }
}

/* What was foreseen of a layer that has now decided. */
void mixt_foresight_judge(mixt_expert_store *store, mixt_expert_shelf *shelf)
{
    mixt_foresight *f = &store->foresight;
    const mixt_foretold *last = NULL;
    for (int i = 0; i < MIXT_FORESIGHTS; i++) {
        mixt_foretold *told = &shelf->foretold[i];
        last = told->known ? told : last;
        for (int32_t e = 0; told->known && store->tokens < PROMPT_ROWS && e < shelf->experts; e++) {
            if (told->column[e] > 0 && told->missing[e]) {
                int column = told->column[e] - 1;
                double kept = 1 - 1.0 / REMEMBERED;
                told->tried[column] = kept * told->tried[column] + 1;
                told->right[column] =
                    kept * told->right[column] + store->items[shelf->first + e].wanted;
            }
        }
        told->known = false;
    }
    for (int32_t e = 0; last != NULL && store->tokens < PROMPT_ROWS && e < shelf->experts; e++) {
        mixt_expert_item *item = &store->items[shelf->first + e];
        f->chosen += item->wanted;
        f->right += item->wanted && last->column[e] > 0;
        if (item->foreseen && !item->wanted) {
            waste(store, item);
        }
    }
}

/* How often guesses of this column were right, of experts that were missing. */
static double precision(const mixt_foretold *told, int column)
{
    return (told->right[column] + 3) / (told->tried[column] + 4);
}

/* Reads one that is missing, unless something that is wanted now still waits for a slot. */
static bool read_ahead(mixt_expert_store *store, mixt_expert_item *item)
{
    bool begin = item->state == MIXT_EXPERT_AWAY && store->next_wish == store->wish_count;
    int32_t slot = begin ? mixt_store_find_slot(store, item, true) : -1;
    if (slot >= 0) {
        mixt_store_read_into(store, item, slot, store->tokens >= PROMPT_ROWS);
        item->foreseen = true;
    }
    return slot >= 0;
}

/* Those that an earlier guess had read, and this one does not name. */
static void drop_others(mixt_expert_store *store, const mixt_expert_shelf *shelf,
                        const mixt_foretold *told)
{
    for (int32_t e = 0; e < shelf->experts; e++) {
        mixt_expert_item *item = &store->items[shelf->first + e];
        if (item->foreseen && item->state == MIXT_EXPERT_COMING && told->column[e] == 0) {
            waste(store, item);
        }
    }
}

static void foresee(mixt_expert_shelf *shelf, mixt_foretold *told, const int32_t *ids,
                    int64_t count)
{
    mixt_expert_store *store = shelf->store;
    bool prompt = store->tokens >= PROMPT_ROWS;
    int class = store->class_of[shelf->layer];
    int64_t room = (store->class_slot[class + 1] - store->class_slot[class]) / 2;
    room = store->prefetch == MIXT_STORE_PREFETCH_NEVER ? 0 : room;
    double enough = prompt ? 0 : right_least[store->foresight.way];
    uint64_t fetched = 0;
    memset(told->column, 0, (size_t)shelf->experts * sizeof *told->column);
    int64_t columns = count / store->tokens;
    for (int64_t i = 0; i < count; i++) { /* first choices of all rows, then second ones */
        int32_t e = ids[i % store->tokens * columns + i / store->tokens];
        if (e < 0 || e >= shelf->experts || told->column[e] > 0) {
            continue;
        }
        int column = (int)mixt_least(i / store->tokens, MIXT_FORESIGHT_COLUMNS - 1);
        mixt_expert_item *item = &store->items[shelf->first + e];
        told->column[e] = (uint8_t)(column + 1);
        told->missing[e] = item->state == MIXT_EXPERT_AWAY;
        if (fetched < (uint64_t)room && precision(told, column) >= enough) {
            fetched += read_ahead(store, item);
        }
    }
    told->known = true;
    pthread_mutex_lock(&store->facts);
    store->count.prefetched += fetched;
    pthread_mutex_unlock(&store->facts);
}

void mixt_expert_store_foresee(void *user, const void *ids, int64_t count)
{
    mixt_expert_shelf *shelf = user;
    if (shelf->store->slots != NULL) {
        foresee(shelf, &shelf->foretold[0], ids, count);
    }
}

void mixt_expert_store_foresee_late(void *user, const void *ids, int64_t count)
{
    mixt_expert_shelf *shelf = user;
    if (shelf->store->slots != NULL) {
        mixt_store_reap(shelf->store, false);
        foresee(shelf, &shelf->foretold[1], ids, count);
        drop_others(shelf->store, shelf, &shelf->foretold[1]);
    }
}
