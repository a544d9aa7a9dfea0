/* The pool of an expert store: what is in it, and how memory is divided into slots. */
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "core/arithmetic.h"
#include "core/memory.h"
#include "core/platform.h"
#include "store/disk_parts.h"
#include "store/inside.h"

#define LARGE_PAGE ((size_t)2 << 20)
#define FILL_BYTES ((size_t)32 << 20)  /* at a time */
#define SLOTS_LEAST 2                  /* of a class */
#define REMEMBERED ((uint64_t)1 << 20) /* requests, for the report */
#define SAME_CLASS 16                  /* slots at most this part larger than the expert */
#define GAP_MOST 64                    /* bytes between matrices that are read as one */

static mixt_status no_memory(const char *name, mixt_error *error)
{
    return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory for a store of experts", name);
}

/* ------------------------------------------------------------------------------------------ */
/* Items                                                                                      */

/* A part of a matrix. */
typedef struct source {
    int matrix, part;
    mixt_expert_part at;
    bool bench;
} source;

static bool lies_before(const source *a, const source *b)
{
    return a->at.file != b->at.file ? a->at.file < b->at.file : a->at.offset < b->at.offset;
}

/* Parts in the order of the files. */
static int sort_parts(const mixt_expert_place *place, source sorted[MIXT_EXPERT_PIECES])
{
    int count = 0;
    for (int m = 0; m < MIXT_EXPERT_MATRICES; m++) {
        for (int p = 0; p < MIXT_EXPERT_PARTS; p++) {
            const source next = {m, p, place->part[m][p], place->laid[m] != NULL};
            if (next.at.file < 0) {
                continue;
            }
            int at = count++;
            for (; at > 0 && lies_before(&next, &sorted[at - 1]); at--) {
                sorted[at] = sorted[at - 1];
            }
            sorted[at] = next;
        }
    }
    return count;
}

/* Parts of a file that touch or overlap, but for what aligns the next one, become one piece; pieces
 * in the order of the file. */
static void cut_pieces(const mixt_expert_place *place, mixt_expert_item *item)
{
    source sorted[MIXT_EXPERT_PIECES];
    int count = sort_parts(place, sorted);
    memset(item->piece, -1, sizeof item->piece);
    memcpy(item->laid, place->laid, sizeof item->laid);
    for (int i = 0; i < count; i++) {
        const source *s = &sorted[i];
        mixt_expert_piece *last = &item->pieces[item->piece_count - (item->piece_count > 0)];
        uint64_t end = s->at.offset + s->at.bytes;
        if (item->piece_count == 0 || last->file != s->at.file || last->bench != s->bench ||
            last->offset + last->bytes + GAP_MOST < s->at.offset) {
            last = &item->pieces[item->piece_count++];
            *last = (mixt_expert_piece){s->at.file, s->at.offset, s->at.bytes, 0, s->bench};
        } else if (end > last->offset + last->bytes) {
            last->bytes = (size_t)(end - last->offset);
        }
        item->piece[s->matrix][s->part] = (int8_t)(item->piece_count - 1);
        item->into[s->matrix][s->part] = (size_t)(s->at.offset - last->offset);
        item->benched |= s->bench;
    }
}

static bool is_read_before(const mixt_expert_item *item, int a, int b, const bool *rows)
{
    return rows[a] != rows[b] ? rows[b] : item->pieces[a].bytes > item->pieces[b].bytes;
}

/* Of what is laid, scales first and the most rows next: then the least is left to do when the last
 * read ends. Others as they lie. */
static void order_pieces(mixt_expert_item *item)
{
    bool rows[MIXT_EXPERT_PIECES] = {false};
    for (int m = 0; m < MIXT_EXPERT_MATRICES; m++) {
        if (item->piece[m][0] >= 0) {
            rows[item->piece[m][0]] = true;
        }
    }
    for (int i = 0; i < item->piece_count; i++) {
        int at = i;
        for (; at > 0 && item->benched && is_read_before(item, i, item->order[at - 1], rows);
             at--) {
            item->order[at] = item->order[at - 1];
        }
        item->order[at] = (int8_t)i;
    }
}

/* Bytes of a slot for the item, and of a bench: its pieces find their places there, and matrices
 * that are laid. */
static size_t lay_out(mixt_expert_item *item, size_t *bench)
{
    size_t at = 0;
    *bench = 0;
    for (int i = 0; i < item->piece_count; i++) {
        mixt_expert_piece *piece = &item->pieces[i];
        size_t *to = piece->bench ? bench : &at;
        piece->at = *to;
        *to += mixt_round_up((size_t)(piece->offset % MIXT_DISK_BLOCK) + piece->bytes,
                             MIXT_DISK_BLOCK);
    }
    for (int m = 0; m < MIXT_EXPERT_MATRICES; m++) {
        if (item->laid[m] != NULL) {
            item->laid_at[m] = at;
            at += mixt_round_up((size_t)item->matrix[m].n * item->matrix[m].row_bytes,
                                MIXT_ALIGNMENT);
        }
    }
    return mixt_round_up(at, MIXT_DISK_BLOCK);
}

static uint64_t item_bytes(const mixt_expert_item *item)
{
    uint64_t bytes = 0;
    for (int i = 0; i < item->piece_count; i++) {
        bytes += item->pieces[i].bytes;
    }
    return bytes;
}

static mixt_status make_items(mixt_expert_store *s, const mixt_expert_place *places,
                              mixt_error *error)
{
    s->items = calloc((size_t)s->item_count, sizeof *s->items);
    s->held = calloc((size_t)s->item_count, sizeof *s->held);
    s->shelves = calloc((size_t)s->shape.layers, sizeof *s->shelves);
    int32_t most = 0;
    for (int layer = 0; layer < s->shape.layers; layer++) {
        most = (int32_t)mixt_most(most, s->first[layer + 1] - s->first[layer]);
    }
    s->wishes = calloc((size_t)most, sizeof *s->wishes);
    s->given = calloc((size_t)most, sizeof *s->given);
    if (s->items == NULL || s->held == NULL || s->shelves == NULL || s->wishes == NULL ||
        s->given == NULL) {
        return no_memory(s->name, error);
    }
    for (int layer = 0; layer < s->shape.layers; layer++) {
        mixt_expert_shelf *shelf = &s->shelves[layer];
        *shelf = (mixt_expert_shelf){.store = s,
                                     .layer = layer,
                                     .first = s->first[layer],
                                     .experts = s->first[layer + 1] - s->first[layer]};
        for (int f = 0; f < MIXT_FORESIGHTS; f++) {
            mixt_foretold *told = &shelf->foretold[f];
            told->column = calloc((size_t)shelf->experts, sizeof *told->column);
            told->missing = calloc((size_t)shelf->experts, sizeof *told->missing);
            if (told->column == NULL || told->missing == NULL) {
                return no_memory(s->name, error);
            }
        }
        for (int32_t i = s->first[layer]; i < s->first[layer + 1]; i++) {
            mixt_expert_item *item = &s->items[i];
            item->layer = layer;
            item->slot = -1;
            memcpy(item->matrix, places[i].matrix, sizeof item->matrix);
            cut_pieces(&places[i], item);
            order_pieces(item);
            s->count.expert_bytes += item_bytes(item);
        }
    }
    return MIXT_OK;
}

/* ------------------------------------------------------------------------------------------ */
/* Classes                                                                                    */

/* The slot that a layer's experts need; and a bench for those of all layers. */
static size_t layer_slot(mixt_expert_store *s, int layer)
{
    size_t most = 0;
    for (int32_t i = s->first[layer]; i < s->first[layer + 1]; i++) {
        size_t bench, bytes = lay_out(&s->items[i], &bench);
        most = bytes > most ? bytes : most;
        s->bench_bytes = bench > s->bench_bytes ? bench : s->bench_bytes;
    }
    return most;
}

/* Layers by the size of their slots, largest first: one that is hardly smaller than a class is of
 * it. */
static mixt_status make_classes(mixt_expert_store *s, mixt_error *error)
{
    size_t layers = (size_t)s->shape.layers;
    s->classes = calloc(layers, sizeof *s->classes);
    s->class_of = calloc(layers, sizeof *s->class_of);
    s->class_slot = calloc(layers + 1, sizeof *s->class_slot);
    size_t *bytes = calloc(layers, sizeof *bytes);
    if (s->classes == NULL || s->class_of == NULL || s->class_slot == NULL || bytes == NULL) {
        free(bytes);
        return no_memory(s->name, error);
    }
    for (size_t layer = 0; layer < layers; layer++) {
        bytes[layer] = layer_slot(s, (int)layer);
        s->class_of[layer] = -1;
    }
    for (;;) {
        size_t most = 0;
        for (size_t layer = 0; layer < layers; layer++) {
            most = s->class_of[layer] < 0 && bytes[layer] > most ? bytes[layer] : most;
        }
        if (most == 0) {
            break;
        }
        mixt_expert_class *class = &s->classes[s->class_count];
        class->slot_bytes = most;
        for (size_t layer = 0; layer < layers; layer++) {
            if (s->class_of[layer] < 0 && bytes[layer] >= most - most / SAME_CLASS) {
                s->class_of[layer] = s->class_count;
                class->items += s->first[layer + 1] - s->first[layer];
            }
        }
        s->class_count++;
    }
    free(bytes);
    return MIXT_OK;
}

/* Slots of each class in `bytes`, which they share by what their experts need. Gives the bytes that
 * all of them take. */
static uint64_t divide(mixt_expert_store *s, uint64_t bytes)
{
    double all = 0;
    uint64_t taken = 0;
    for (int c = 0; c < s->class_count; c++) {
        all += (double)s->classes[c].slot_bytes * (double)s->classes[c].items;
    }
    for (int c = 0; c < s->class_count; c++) {
        mixt_expert_class *class = &s->classes[c];
        double share = fmin(1, (double)bytes / all);
        class->slots = (int64_t)floor(share * (double)class->items);
        class->slots = mixt_least(mixt_most(class->slots, SLOTS_LEAST), class->items);
        taken += (uint64_t) class->slots * class->slot_bytes;
    }
    return taken;
}

/* ------------------------------------------------------------------------------------------ */
/* Slots                                                                                      */

static char *memory_begin(const mixt_expert_store *s)
{
    return s->memory + (LARGE_PAGE - (uintptr_t)s->memory % LARGE_PAGE) % LARGE_PAGE;
}

/* Clearing a page takes as long as reading it from a fast disk: not by the reader, which would
 * stand still meanwhile. */
static void *fill_slots(void *argument)
{
    mixt_expert_store *s = argument;
    char *data = memory_begin(s);
    size_t bytes = s->memory_bytes - LARGE_PAGE; /* benches, which are read into first, and slots */
    for (size_t at = 0; at < bytes && !atomic_load(&s->stop_filling); at += FILL_BYTES) {
        size_t left = bytes - at;
        if (!mixt_pages_fill(data + at, left < FILL_BYTES ? left : FILL_BYTES)) {
            break;
        }
    }
    return NULL;
}

static void drop_slots(mixt_expert_store *s)
{
    if (s->filling) {
        atomic_store(&s->stop_filling, true);
        pthread_join(s->filler, NULL);
        s->filling = false;
    }
    while (mixt_store_reap(s, true)) { /* what is under way writes into them */
    }
    for (int32_t i = 0; s->items != NULL && i < s->item_count; i++) {
        s->items[i].slot = -1;
        s->items[i].state = MIXT_EXPERT_AWAY;
        s->items[i].wanted = s->items[i].taken = s->items[i].foreseen = false;
    }
    if (s->memory != NULL) {
        munmap(s->memory, s->memory_bytes);
    }
    free(s->slots);
    free(s->reads);
    s->reads = NULL;
    s->memory = NULL;
    s->slots = NULL;
    s->wish_count = s->next_wish = s->given_count = 0;
    s->open = false;
}

/* How many slots what the reservations leave is enough for. */
static void count_slots(mixt_expert_store *s)
{
    uint64_t used = s->resident + s->other;
    s->count.pool_bytes = divide(s, s->limit > used ? s->limit - used : 0);
    s->count.slots = 0;
    for (int c = 0; c < s->class_count; c++) {
        s->class_slot[c] = (int32_t)s->count.slots;
        s->count.slots += s->classes[c].slots;
    }
    s->class_slot[s->class_count] = (int32_t)s->count.slots;
}

/* Makes them; s->slots stays NULL without memory. */
static void make_slots(mixt_expert_store *s)
{
    drop_slots(s);
    count_slots(s);
    s->planned = s->other;
    size_t benches = (size_t)s->bench_count * s->bench_bytes;
    s->memory_bytes = (size_t)s->count.pool_bytes + benches + LARGE_PAGE;
    s->memory = mixt_pages_map(s->memory_bytes);
    size_t each = s->bench_count > 0 ? MIXT_EXPERT_PIECES : MIXT_EXPERT_MATRICES;
    s->reads = calloc((size_t)s->count.slots * each, sizeof *s->reads);
    s->slots = s->memory != NULL && s->reads != NULL
                   ? calloc((size_t)s->count.slots, sizeof *s->slots)
                   : NULL;
    if (s->slots == NULL) {
        return;
    }
    char *data = memory_begin(s);
    mixt_pages_enlarge(data, (size_t)s->count.pool_bytes + benches);
    mixt_store_place_benches(s, data);
    data += benches;
    for (int c = 0; c < s->class_count; c++) {
        for (int32_t slot = s->class_slot[c]; slot < s->class_slot[c + 1]; slot++) {
            s->slots[slot].data = data;
            s->slots[slot].item = -1;
            s->slots[slot].reads = s->reads + (size_t)slot * each;
            data += s->classes[c].slot_bytes;
        }
    }
    atomic_store(&s->stop_filling, false);
    s->filling = mixt_disk_thread(&s->filler, fill_slots, s) == 0;
}

/* Bytes of the fewest slots. */
static uint64_t least_pool(const mixt_expert_store *s)
{
    uint64_t least = 0;
    for (int c = 0; c < s->class_count; c++) {
        least += (uint64_t)mixt_least(SLOTS_LEAST, s->classes[c].items) * s->classes[c].slot_bytes;
    }
    return least;
}

uint64_t mixt_expert_store_room(mixt_expert_store *s)
{
    pthread_mutex_lock(&s->facts);
    uint64_t taken = s->resident + s->other + least_pool(s);
    pthread_mutex_unlock(&s->facts);
    return s->limit > taken ? s->limit - taken : 0;
}

mixt_status mixt_expert_store_reserve(mixt_expert_store *s, uint64_t bytes, mixt_error *error)
{
    pthread_mutex_lock(&s->facts);
    uint64_t least = least_pool(s);
    uint64_t used = s->resident + s->other + bytes;
    bool fits = used <= s->limit && s->limit - used >= least;
    s->other += fits ? bytes : 0;
    if (fits && s->slots == NULL) {
        count_slots(s);
    }
    pthread_mutex_unlock(&s->facts);
    return fits ? MIXT_OK
                : mixt_fail(error, MIXT_ERROR_MEMORY,
                            "%s: %.1f MB of memory are too little: %.1f MB of weights that every "
                            "token reads, %.1f MB of caches and plans, and %.1f MB for the fewest "
                            "experts have to fit",
                            s->name, (double)s->limit / 1e6, (double)s->resident / 1e6,
                            (double)(used - s->resident) / 1e6, (double)least / 1e6);
}

void mixt_expert_store_release(mixt_expert_store *s, uint64_t bytes)
{
    pthread_mutex_lock(&s->facts);
    assert(bytes <= s->other);
    s->other -= bytes;
    pthread_mutex_unlock(&s->facts);
}

/* ------------------------------------------------------------------------------------------ */
/* Runs                                                                                       */

static void begin_run(void *user, int64_t tokens)
{
    mixt_expert_store *s = ((mixt_expert_shelf *)user)->store;
    pthread_mutex_lock(&s->running);
    pthread_mutex_lock(&s->facts);
    if (s->slots == NULL || s->planned < s->other) {
        make_slots(s);
    }
    mixt_store_close_request(s); /* of a run that ended before it took what it had asked for */
    s->tokens = tokens;
    s->begun = mixt_store_now();
    pthread_mutex_unlock(&s->facts);
}

static void end_run(void *user)
{
    mixt_expert_store *s = ((mixt_expert_shelf *)user)->store;
    pthread_mutex_lock(&s->facts);
    double seconds = mixt_store_now() - s->begun;
    s->count.seconds += seconds;
    s->step_seconds += seconds;
    pthread_mutex_unlock(&s->facts);
    pthread_mutex_unlock(&s->running);
}

const mixt_store *mixt_expert_store_layer(mixt_expert_store *s, int layer)
{
    return &s->shelves[layer].face;
}

/* ------------------------------------------------------------------------------------------ */
/* Making                                                                                     */

static mixt_status copy_shape(mixt_expert_store *s, const mixt_policy_shape *shape,
                              mixt_error *error)
{
    size_t layers = (size_t)shape->layers;
    s->item_count = shape->first[layers];
    size_t items = (size_t)s->item_count;
    s->first = calloc(layers + 1, sizeof *s->first);
    s->profile = shape->profile != NULL ? calloc(items, sizeof *s->profile) : NULL;
    s->chosen = calloc(layers + 1, sizeof *s->chosen);
    if (s->first == NULL || s->chosen == NULL || (shape->profile != NULL && s->profile == NULL)) {
        return no_memory(s->name, error);
    }
    memcpy(s->first, shape->first, (layers + 1) * sizeof *s->first);
    if (s->profile != NULL) {
        memcpy(s->profile, shape->profile, items * sizeof *s->profile);
    }
    memcpy(s->chosen, shape->chosen, layers * sizeof *s->chosen);
    s->shape = (mixt_policy_shape){shape->layers, s->first, s->profile, s->chosen};
    return MIXT_OK;
}

static mixt_status build(mixt_expert_store *s, const mixt_expert_store_options *o,
                         mixt_error *error)
{
    s->name = strdup(o->name);
    if (s->name == NULL) {
        return no_memory(o->name, error);
    }
    MIXT_TRY(copy_shape(s, &o->shape, error));
    MIXT_TRY(make_items(s, o->places, error));
    for (int layer = 0; layer < s->shape.layers; layer++) { /* experts of a layer are alike */
        s->count.token_bytes += (uint64_t)s->chosen[layer] * item_bytes(&s->items[s->first[layer]]);
    }
    MIXT_TRY(make_classes(s, error));
    MIXT_TRY(mixt_store_make_benches(s, error));
    s->other = (uint64_t)s->bench_count * s->bench_bytes;
    MIXT_TRY(mixt_policy_create(o->policy, &s->shape, &s->policy, error));
    MIXT_TRY(mixt_record_book_create(REMEMBERED, &s->book, error));
    for (int layer = 0; layer < s->shape.layers; layer++) {
        mixt_expert_shelf *shelf = &s->shelves[layer];
        shelf->face = (mixt_store){.user = shelf,
                                   .begin = begin_run,
                                   .end = end_run,
                                   .take = mixt_store_take,
                                   .rows = mixt_store_rows};
    }
    return mixt_expert_store_reserve(s, 0, error);
}

mixt_status mixt_expert_store_create(const mixt_expert_store_options *options,
                                     mixt_expert_store **result, mixt_error *error)
{
    *result = NULL;
    mixt_expert_store *s = calloc(1, sizeof *s);
    if (s == NULL) {
        mixt_disk_free(options->disk);
        return no_memory(options->name, error);
    }
    pthread_mutex_init(&s->running, NULL);
    pthread_mutex_init(&s->facts, NULL);
    pthread_mutex_init(&s->laying, NULL);
    s->disk = options->disk;
    s->lay = options->lay;
    s->prefetch = options->prefetch;
    s->limit = options->memory;
    s->resident = options->resident;
    s->failed = s->asked = -1;
    mixt_status status = build(s, options, error);
    if (status != MIXT_OK) {
        mixt_expert_store_free(s);
        return status;
    }
    *result = s;
    return MIXT_OK;
}

void mixt_expert_store_free(mixt_expert_store *s)
{
    if (s == NULL) {
        return;
    }
    drop_slots(s);
    mixt_disk_free(s->disk);
    mixt_policy_free(s->policy);
    mixt_record_book_free(s->book);
    for (int layer = 0; s->shelves != NULL && layer < s->shape.layers; layer++) {
        for (int f = 0; f < MIXT_FORESIGHTS; f++) {
            free(s->shelves[layer].foretold[f].column);
            free(s->shelves[layer].foretold[f].missing);
        }
    }
    pthread_mutex_destroy(&s->running);
    pthread_mutex_destroy(&s->facts);
    pthread_mutex_destroy(&s->laying);
    free(s->shelves);
    free(s->benches);
    free(s->items);
    free(s->held);
    free(s->wishes);
    free(s->given);
    free(s->classes);
    free(s->class_of);
    free(s->class_slot);
    free(s->first);
    free(s->profile);
    free(s->chosen);
    free(s->name);
    free(s);
}

/* ------------------------------------------------------------------------------------------ */
/* Facts                                                                                      */

void mixt_expert_store_describe(mixt_expert_store *s, mixt_store_statistics *statistics)
{
    mixt_disk_statistics disk;
    mixt_disk_describe(s->disk, &disk);
    pthread_mutex_lock(&s->facts);
    *statistics = s->count;
    statistics->memory = s->limit;
    statistics->resident_bytes = s->resident;
    statistics->other_bytes = s->other;
    statistics->experts = s->item_count;
    statistics->policy = mixt_policy_name(s->policy);
    statistics->reader = mixt_disk_reader(s->disk);
    statistics->bytes_read = disk.bytes - s->bytes_before;
    statistics->disk_seconds = disk.busy_seconds - s->busy_before;
    statistics->prefetching = s->foresight.way > 0;
    statistics->prefetch_recall =
        s->foresight.chosen > 0 ? (double)s->foresight.right / (double)s->foresight.chosen : NAN;
    pthread_mutex_unlock(&s->facts);
}

void mixt_expert_store_reset(mixt_expert_store *s)
{
    mixt_disk_statistics disk;
    mixt_disk_describe(s->disk, &disk);
    pthread_mutex_lock(&s->facts);
    mixt_store_statistics *c = &s->count;
    c->steps = c->rows = c->requests = c->hits = 0;
    c->seconds = c->wait_seconds = 0;
    c->prefetched = c->prefetch_used = c->prefetch_bytes_wasted = 0;
    s->foresight.right = s->foresight.chosen = 0;
    s->bytes_before = disk.bytes;
    s->busy_before = disk.busy_seconds;
    mixt_record_book_clear(s->book);
    pthread_mutex_unlock(&s->facts);
}

mixt_status mixt_expert_store_requests(mixt_expert_store *s, mixt_record_book **book,
                                       mixt_error *error)
{
    pthread_mutex_lock(&s->facts);
    mixt_status status = mixt_record_book_copy(s->book, book, error);
    pthread_mutex_unlock(&s->facts);
    return status;
}

int mixt_expert_store_classes(mixt_expert_store *s, const mixt_expert_class **classes,
                              const int **class_of)
{
    *classes = s->classes;
    *class_of = s->class_of;
    return s->class_count;
}

const mixt_policy_shape *mixt_expert_store_shape(const mixt_expert_store *s)
{
    return &s->shape;
}
