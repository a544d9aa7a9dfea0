#include "model/stored.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "core/memory.h"
#include "core/platform.h"
#include "model/laid.h"
#include "quant/quant.h"
#include "store/report.h"

#define RESERVE_LEAST                                                                              \
    ((uint64_t)96 << 20) /* for the program itself, where the limit is the machine's */
#define RESERVE_PART 32  /* and this part of it */
#define LARGE_PAGE ((size_t)2 << 20)

struct mixt_stored {
    mixt_expert_store *store;
    int *shelf; /* [layers] its number among those in the store; -1: not in it */
    uint8_t (*has)[MIXT_EXPERT_MATRICES]; /* [layers] which matrices come from it */
    char *memory;                         /* of what every token reads: mapped */
    size_t memory_bytes;
};

/* A matrix of the model and where it lies. */
typedef struct extent {
    mixt_matrix *matrix;
    int file; /* of the disk */
    uint64_t offset;
    size_t bytes;
    const char *to; /* in memory */
} extent;

/* Work of mixt_model_store. */
typedef struct storing {
    mixt_model *model;
    const mixt_store_options *options;
    mixt_stored *stored;
    mixt_disk *disk;
    extent *extents; /* of what every token reads, in the order of the files */
    size_t extent_count;
    mixt_expert_place *places; /* [shelves, experts] */
    int32_t *first;            /* [shelves + 1] */
    uint64_t *profile;
    uint64_t later; /* bytes of matrices that are to be laid in memory */
    int shelves;
    mixt_error *error;
} storing;

static mixt_status no_memory(const storing *s)
{
    return mixt_fail(s->error, MIXT_ERROR_MEMORY, "%s: no memory",
                     mixt_source_path(s->model->source));
}

/* 0 gate, 1 up, 2 down of routed experts; -1: something else. */
static int expert_matrix(const mixt_parameter *p)
{
    return p->slot == MIXT_SLOT_EXPERT_GATE   ? 0
           : p->slot == MIXT_SLOT_EXPERT_UP   ? 1
           : p->slot == MIXT_SLOT_EXPERT_DOWN ? 2
                                              : -1;
}

/* The file that `data` lies in, and where; -1: it is in memory. */
static int locate_bytes(storing *s, const void *data, uint64_t *offset, mixt_status *status)
{
    const char *path;
    int file = -1;
    const struct mixt_map *map = mixt_source_locate(s->model->source, data, &path, offset);
    if (map != NULL && *status == MIXT_OK) {
        *status = mixt_disk_add(s->disk, path, map, &file, s->error);
    }
    return *status == MIXT_OK ? file : -1;
}

/* The place of a matrix in its file; false: it is in memory. */
static bool locate(storing *s, mixt_matrix *matrix, extent *found, mixt_status *status)
{
    *found = (extent){.matrix = matrix,
                      .bytes = (size_t)(matrix->n - 1) * matrix->row_bytes +
                               mixt_type_row_bytes(matrix->type, matrix->k)};
    found->file = locate_bytes(s, matrix->data, &found->offset, status);
    return found->file >= 0;
}

/* The same of what a matrix is laid from. */
static bool locate_parts(storing *s, const mixt_laid *laid, mixt_expert_part *parts,
                         mixt_status *status)
{
    const char *data[MIXT_EXPERT_PARTS] = {laid->piece->tensor.data, laid->piece->scales.data};
    _Static_assert(MIXT_EXPERT_PARTS == MIXT_LAID_PARTS, "the tensor and its scales");
    bool all = true;
    for (int i = 0; i < MIXT_EXPERT_PARTS; i++) {
        mixt_laid_range range = mixt_laid_part(laid, i);
        parts[i] = (mixt_expert_part){.file = -1, .bytes = range.bytes};
        if (range.bytes > 0) {
            parts[i].file = locate_bytes(s, data[i] + range.offset, &parts[i].offset, status);
            all &= parts[i].file >= 0;
        }
    }
    return all;
}

static bool place_expert(storing *s, mixt_held *held, int e, mixt_expert_place *place, int matrix,
                         mixt_status *status)
{
    const mixt_laid *laid = mixt_held_laid(held, e);
    extent found;
    place->matrix[matrix] = held->matrices[e];
    place->laid[matrix] = laid;
    if (laid != NULL) {
        return locate_parts(s, laid, place->part[matrix], status);
    }
    bool there = locate(s, &held->matrices[e], &found, status);
    place->part[matrix][0] = (mixt_expert_part){there ? found.file : -1, found.offset, found.bytes};
    return there;
}

static void lay(const void *laid, const char *const parts[MIXT_EXPERT_PARTS], char *to)
{
    mixt_laid_matrix(laid, parts, to);
}

/* ------------------------------------------------------------------------------------------ */
/* What is where                                                                              */

/* Experts of parameter `index` into the places of their layer; those in memory stay where they are.
 */
static mixt_status place_experts(storing *s, int index, int matrix)
{
    const mixt_parameter *p = &s->model->parameters[index];
    mixt_held *held = &s->model->held[index];
    mixt_status status = MIXT_OK;
    int shelf = s->stored->shelf[p->layer];
    bool all = held->matrices != NULL;
    for (int e = 0; e < held->count && all; e++) {
        all = place_expert(s, held, e, &s->places[s->first[shelf] + e], matrix, &status);
    }
    for (int e = 0; e < held->count && !all; e++) { /* a stack that lies in memory, all of it */
        mixt_expert_place *place = &s->places[s->first[shelf] + e];
        s->later += mixt_held_laid(held, e) != NULL
                        ? (uint64_t)held->matrices[e].n * held->matrices[e].row_bytes
                        : 0;
        place->laid[matrix] = NULL;
        for (int i = 0; i < MIXT_EXPERT_PARTS; i++) {
            place->part[matrix][i].file = -1;
        }
    }
    s->stored->has[p->layer][matrix] = all;
    return status;
}

static mixt_status place_others(storing *s, int index)
{
    const mixt_held *held = &s->model->held[index];
    mixt_status status = MIXT_OK;
    for (int i = 0; held->matrices != NULL && i < held->count && status == MIXT_OK; i++) {
        s->extent_count += locate(s, &held->matrices[i], &s->extents[s->extent_count], &status);
    }
    return status;
}

/* Layers with experts that lie in files, in their order. */
static mixt_status number_shelves(storing *s)
{
    const mixt_model *model = s->model;
    size_t layers = (size_t)model->options.layers, experts = (size_t)model->options.experts;
    s->stored->shelf = calloc(layers, sizeof *s->stored->shelf);
    s->stored->has = calloc(layers, sizeof *s->stored->has);
    s->first = calloc(layers + 1, sizeof *s->first);
    if (s->stored->shelf == NULL || s->stored->has == NULL || s->first == NULL) {
        return no_memory(s);
    }
    for (size_t layer = 0; layer < layers; layer++) {
        int index = mixt_model_find(model, MIXT_SLOT_EXPERT_GATE, (int)layer);
        const mixt_held *held = index >= 0 ? &model->held[index] : NULL;
        const char *path;
        uint64_t offset;
        bool there =
            held != NULL && held->matrices != NULL &&
            (mixt_held_laid(held, 0) != NULL ||
             mixt_source_locate(model->source, held->matrices[0].data, &path, &offset) != NULL);
        s->stored->shelf[layer] = there ? s->shelves++ : -1;
        s->first[s->shelves] = (int32_t)((size_t)s->shelves * experts);
    }
    s->places = calloc((size_t)s->shelves * experts + 1, sizeof *s->places);
    for (size_t i = 0; s->places != NULL && i < (size_t)s->shelves * experts; i++) {
        for (int m = 0; m < MIXT_EXPERT_MATRICES * MIXT_EXPERT_PARTS; m++) {
            s->places[i].part[m / MIXT_EXPERT_PARTS][m % MIXT_EXPERT_PARTS].file = -1;
        }
    }
    return s->places != NULL ? MIXT_OK : no_memory(s);
}

static mixt_status find_places(storing *s)
{
    const mixt_model *model = s->model;
    size_t matrices = 1;
    for (int i = 0; i < model->parameter_count; i++) {
        matrices += model->held[i].matrices != NULL ? (size_t)model->held[i].count : 0;
    }
    s->extents = calloc(matrices, sizeof *s->extents);
    if (s->extents == NULL) {
        return no_memory(s);
    }
    MIXT_TRY(number_shelves(s));
    for (int i = 0; i < model->parameter_count; i++) {
        int matrix = expert_matrix(&model->parameters[i]);
        bool stored = matrix >= 0 && s->stored->shelf[model->parameters[i].layer] >= 0;
        MIXT_TRY(stored ? place_experts(s, i, matrix) : place_others(s, i));
    }
    return s->shelves > 0
               ? MIXT_OK
               : mixt_fail(s->error, MIXT_ERROR_UNSUPPORTED, "%s: %s",
                           mixt_source_path(model->source),
                           mixt_model_moe_layers(model) == 0
                               ? "a model without experts has nothing that could stay on disk"
                               : "its experts lie in another way than products read, and are in "
                                 "memory by now: `mixt convert` writes a file that can stay on "
                                 "disk");
}

/* ------------------------------------------------------------------------------------------ */
/* Reading what every token reads                                                             */

static int compare_extents(const void *a, const void *b)
{
    const extent *x = a, *y = b;
    return x->file != y->file       ? (x->file > y->file) - (x->file < y->file)
           : x->offset != y->offset ? (x->offset > y->offset) - (x->offset < y->offset)
                                    : (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

/* Extents [i, next) touch or overlap: a read of `bytes` from the first one on. */
static size_t next_run(const storing *s, size_t i, size_t *bytes)
{
    const extent *first = &s->extents[i];
    uint64_t end = first->offset + first->bytes;
    for (i++;
         i < s->extent_count && s->extents[i].file == first->file && s->extents[i].offset <= end;
         i++) {
        uint64_t more = s->extents[i].offset + s->extents[i].bytes;
        end = more > end ? more : end;
    }
    *bytes = (size_t)(end - first->offset);
    return i;
}

static size_t room_of(const extent *first, size_t bytes)
{
    return mixt_round_up((size_t)(first->offset % MIXT_DISK_BLOCK) + bytes, MIXT_DISK_BLOCK);
}

static mixt_status wait_for(storing *s)
{
    mixt_status status = MIXT_OK;
    for (mixt_disk_read *read; (read = mixt_disk_wait(s->disk, true)) != NULL;) {
        if (read->status != MIXT_OK && status == MIXT_OK) {
            status = mixt_fail(s->error, read->status, "%s", read->message);
        }
    }
    return status;
}

/* Sizes are known; then memory and reads, and the matrices point there. */
static mixt_status read_extents(storing *s)
{
    size_t total = 0, runs = 0, bytes;
    for (size_t i = 0; i < s->extent_count; runs++) {
        const extent *first = &s->extents[i];
        i = next_run(s, i, &bytes);
        total += room_of(first, bytes);
    }
    mixt_stored *stored = s->stored;
    stored->memory_bytes = total + LARGE_PAGE;
    stored->memory = mixt_pages_map(stored->memory_bytes);
    mixt_disk_read *reads = calloc(runs + 1, sizeof *reads);
    if (stored->memory == NULL || reads == NULL) {
        free(reads);
        return mixt_fail(s->error, MIXT_ERROR_MEMORY, "%s: no memory for %.1f MB of weights",
                         mixt_source_path(s->model->source), (double)total / 1e6);
    }
    char *to = stored->memory + (LARGE_PAGE - (uintptr_t)stored->memory % LARGE_PAGE) % LARGE_PAGE;
    mixt_pages_enlarge(to, total);
    mixt_disk_read *read = reads;
    for (size_t i = 0; i < s->extent_count; read++) {
        const extent *first = &s->extents[i];
        size_t end = next_run(s, i, &bytes);
        char *begin = to + first->offset % MIXT_DISK_BLOCK;
        *read = (mixt_disk_read){.file = first->file,
                                 .urgent = true,
                                 .offset = first->offset,
                                 .bytes = bytes,
                                 .to = begin};
        mixt_disk_submit(s->disk, read);
        for (; i < end; i++) {
            s->extents[i].to = begin + (s->extents[i].offset - first->offset);
        }
        to += room_of(first, bytes);
    }
    mixt_status status = wait_for(s);
    for (size_t i = 0; i < s->extent_count && status == MIXT_OK; i++) {
        s->extents[i].matrix->data = s->extents[i].to;
    }
    free(reads);
    return status;
}

/* Bytes that read_extents will take. */
static uint64_t extent_bytes(const storing *s)
{
    uint64_t total = 0;
    size_t bytes;
    for (size_t i = 0; i < s->extent_count;) {
        const extent *first = &s->extents[i];
        i = next_run(s, i, &bytes);
        total += room_of(first, bytes);
    }
    return total;
}

/* ------------------------------------------------------------------------------------------ */
/* The profile                                                                                */

static mixt_status count_uses(storing *s, const mixt_trace *trace)
{
    const mixt_model *model = s->model;
    mixt_trace_info info;
    mixt_trace_describe(trace, &info);
    size_t experts = (size_t)model->options.experts;
    if (info.experts < model->options.experts) {
        return mixt_fail(s->error, MIXT_ERROR_ARGUMENT,
                         "%s: a trace of %d experts a layer is not of this model, which has %d",
                         s->options->profile, info.experts, model->options.experts);
    }
    uint64_t *uses = calloc((size_t)info.experts, sizeof *uses);
    s->profile = calloc((size_t)s->shelves * experts, sizeof *s->profile);
    int found = 0;
    for (int i = 0; i < info.layers && uses != NULL && s->profile != NULL; i++) {
        int layer = mixt_trace_layer(trace, i);
        int shelf = layer >= 0 && layer < model->options.layers ? s->stored->shelf[layer] : -1;
        if (shelf >= 0) {
            mixt_trace_uses(trace, i, uses);
            memcpy(s->profile + (size_t)shelf * experts, uses, experts * sizeof *uses);
            found++;
        }
    }
    bool room = uses != NULL && s->profile != NULL;
    free(uses);
    return !room ? no_memory(s)
           : found == s->shelves
               ? MIXT_OK
               : mixt_fail(s->error, MIXT_ERROR_ARGUMENT,
                           "%s: the trace has %d of the %d layers with experts: it is not of this "
                           "model",
                           s->options->profile, found, s->shelves);
}

static mixt_status read_profile(storing *s)
{
    if (s->options->profile == NULL) {
        return MIXT_OK;
    }
    MIXT_TRY(mixt_policy_check_profile(s->options->policy, s->error));
    mixt_trace *trace;
    MIXT_TRY(mixt_trace_open(s->options->profile, &trace, s->error));
    mixt_status status = count_uses(s, trace);
    mixt_trace_free(trace);
    return status;
}

/* ------------------------------------------------------------------------------------------ */
/* Storing                                                                                    */

/* The limit that was asked for, or what the machine leaves. */
static uint64_t limit_of(const mixt_store_options *options)
{
    uint64_t left = mixt_memory_limit(NULL), reserve = left / RESERVE_PART + RESERVE_LEAST;
    return options->memory > 0 ? options->memory : left > reserve ? left - reserve : 0;
}

static mixt_status check_limit(const storing *s, uint64_t memory)
{
    const char *whose = NULL;
    uint64_t left = mixt_memory_limit(&whose);
    return memory <= left ? MIXT_OK
                          : mixt_fail(s->error, MIXT_ERROR_MEMORY,
                                      "%s: a limit of %.1f GB of memory is above the %.1f GB that "
                                      "%s leaves",
                                      mixt_source_path(s->model->source), (double)memory / 1e9,
                                      (double)left / 1e9, whose);
}

static mixt_status make_store(storing *s, uint64_t memory)
{
    int *chosen = calloc((size_t)s->shelves, sizeof *chosen);
    if (chosen == NULL) {
        mixt_disk_free(s->disk);
        s->disk = NULL;
        return no_memory(s);
    }
    for (int layer = 0; layer < s->model->options.layers; layer++) {
        if (s->stored->shelf[layer] >= 0) {
            chosen[s->stored->shelf[layer]] = mixt_model_router(s->model, layer)->chosen;
        }
    }
    const mixt_expert_store_options options = {
        .name = mixt_source_path(s->model->source),
        .shape = {.layers = s->shelves, .first = s->first, .profile = s->profile, .chosen = chosen},
        .places = s->places,
        .lay = lay,
        .policy = s->options->policy,
        .prefetch = s->options->prefetch,
        .memory = memory,
        .resident = extent_bytes(s) + mixt_source_held(s->model->source) + s->later,
        .disk = s->disk};
    mixt_status status = mixt_expert_store_create(&options, &s->stored->store, s->error);
    free(chosen);
    return status;
}

/* Everything but reading. */
static mixt_status prepare(storing *s, uint64_t memory)
{
    const mixt_disk_options options = {.reader = s->options->reader};
    MIXT_TRY(mixt_disk_create(&options, &s->disk, s->error));
    mixt_status status = find_places(s);
    if (status == MIXT_OK) {
        status = read_profile(s);
    }
    if (status != MIXT_OK) {
        mixt_disk_free(s->disk);
        return status;
    }
    qsort(s->extents, s->extent_count, sizeof *s->extents, compare_extents);
    return make_store(s, memory);
}

static void end_storing(storing *s)
{
    free(s->extents);
    free(s->places);
    free(s->first);
    free(s->profile);
}

static mixt_status check_model(const mixt_model *model, const mixt_store_options *options,
                               mixt_error *error)
{
    MIXT_TRY(MIXT_CHECK_RESERVED(mixt_store_options, options, error));
    MIXT_TRY(mixt_stored_refuse(model, "it is stored", error));
    MIXT_TRY(mixt_model_refuse_spread(model, "stored within a limit of memory", error));
    return model->held != NULL && model->source != NULL
               ? MIXT_OK
               : mixt_fail(error, MIXT_ERROR_UNSUPPORTED,
                           "model: its weights are not in files, from which experts could be read");
}

static const mixt_store_options usual = {0};

mixt_status mixt_model_store(mixt_model *model, const mixt_store_options *options,
                             mixt_error *error)
{
    options = options == NULL ? &usual : options;
    MIXT_TRY(check_model(model, options, error));
    storing s = {.model = model, .options = options, .error = error};
    uint64_t memory = limit_of(options), bytes = mixt_source_bytes(model->source);
    MIXT_TRY(check_limit(&s, memory));
    if (!options->always && bytes + bytes / RESERVE_PART + RESERVE_LEAST <= memory) {
        return MIXT_OK;
    }
    s.stored = calloc(1, sizeof *s.stored);
    mixt_status status = s.stored != NULL ? prepare(&s, memory) : no_memory(&s);
    if (status == MIXT_OK) {
        status = read_extents(&s);
    }
    if (status == MIXT_OK) {
        model->stored = s.stored;
    } else {
        mixt_stored_free(s.stored);
    }
    end_storing(&s);
    return status;
}

mixt_status mixt_store_plan(const mixt_model *model, const mixt_store_options *options,
                            mixt_store_statistics *statistics, mixt_error *error)
{
    *statistics = (mixt_store_statistics){0};
    options = options == NULL ? &usual : options;
    MIXT_TRY(check_model(model, options, error));
    mixt_model copy = *model; /* whose matrices are looked at alone */
    storing s = {.model = &copy, .options = options, .error = error};
    s.stored = calloc(1, sizeof *s.stored);
    mixt_status status = s.stored != NULL ? prepare(&s, limit_of(options)) : no_memory(&s);
    if (status == MIXT_OK) {
        mixt_expert_store_describe(s.stored->store, statistics);
        statistics->reader = NULL; /* a text of what is freed here */
    }
    mixt_stored_free(s.stored);
    end_storing(&s);
    return status;
}

void mixt_stored_free(mixt_stored *stored)
{
    if (stored != NULL) {
        mixt_expert_store_free(stored->store);
        if (stored->memory != NULL) {
            munmap(stored->memory, stored->memory_bytes);
        }
        free(stored->shelf);
        free(stored->has);
        free(stored);
    }
}

mixt_status mixt_stored_refuse(const mixt_model *model, const char *what, mixt_error *error)
{
    return model->stored == NULL
               ? MIXT_OK
               : mixt_fail(error, MIXT_ERROR_ARGUMENT,
                           "%s: experts of this model stay on disk: before that %s, or never",
                           mixt_source_path(model->source), what);
}

/* ------------------------------------------------------------------------------------------ */
/* Binding                                                                                    */

bool mixt_stored_has(const mixt_model *model, int index)
{
    const mixt_parameter *p = &model->parameters[index];
    int matrix = expert_matrix(p);
    return model->stored != NULL && matrix >= 0 && model->stored->shelf[p->layer] >= 0 &&
           model->stored->has[p->layer][matrix];
}

bool mixt_stored_bind(const mixt_model *model, int index, mixt_value_id value,
                      mixt_instance *instance)
{
    const mixt_parameter *p = &model->parameters[index];
    if (!mixt_stored_has(model, index)) {
        return false;
    }
    mixt_instance_bind_store(
        instance, value,
        mixt_expert_store_layer(model->stored->store, model->stored->shelf[p->layer]));
    return true;
}

mixt_status mixt_stored_listen(const mixt_model *model, const mixt_graph *graph,
                               mixt_instance *instance, mixt_error *error)
{
    for (int i = 0; model->stored != NULL && i < graph->moe_layers; i++) {
        const mixt_route_values *route = &graph->routes[i];
        int shelf = model->stored->shelf[route->layer];
        if (shelf < 0) {
            continue;
        }
        void *user = mixt_expert_store_layer(model->stored->store, shelf)->user;
        const struct {
            mixt_value_id value;
            mixt_teller tell;
        } listeners[] = {
            {mixt_model_layer_routes(model, route->layer) ? route->value[ROUTE_OFFSETS]
                                                          : MIXT_NO_VALUE,
             mixt_expert_store_ask},
            {route->foreseen, mixt_expert_store_foresee},
            {route->foreseen_late, mixt_expert_store_foresee_late},
        };
        for (size_t k = 0; k < sizeof listeners / sizeof listeners[0]; k++) {
            if (listeners[k].value != MIXT_NO_VALUE) {
                MIXT_TRY(mixt_instance_tell(instance, listeners[k].value, listeners[k].tell, user,
                                            error));
            }
        }
    }
    return MIXT_OK;
}

mixt_status mixt_stored_reserve(const mixt_model *model, uint64_t bytes, mixt_error *error)
{
    return model->stored != NULL ? mixt_expert_store_reserve(model->stored->store, bytes, error)
                                 : MIXT_OK;
}

uint64_t mixt_stored_room(const mixt_model *model)
{
    return model->stored != NULL ? mixt_expert_store_room(model->stored->store) : UINT64_MAX;
}

void mixt_stored_release(const mixt_model *model, uint64_t bytes)
{
    if (model->stored != NULL) {
        mixt_expert_store_release(model->stored->store, bytes);
    }
}

/* ------------------------------------------------------------------------------------------ */
/* Facts                                                                                      */

bool mixt_store_describe(const mixt_model *model, mixt_store_statistics *statistics)
{
    *statistics = (mixt_store_statistics){0};
    if (model->stored != NULL) {
        mixt_expert_store_describe(model->stored->store, statistics);
    }
    return model->stored != NULL;
}

void mixt_store_reset(mixt_model *model)
{
    if (model->stored != NULL) {
        mixt_expert_store_reset(model->stored->store);
    }
}

static mixt_status not_stored(const mixt_model *model, mixt_error *error)
{
    return mixt_fail(error, MIXT_ERROR_ARGUMENT, "%s: the model is not stored",
                     mixt_source_path(model->source));
}

mixt_status mixt_store_curve(const mixt_model *model, mixt_store_point **points, int *count,
                             int *now, mixt_error *error)
{
    *points = NULL;
    *count = *now = 0;
    return model->stored != NULL
               ? mixt_expert_store_curve(model->stored->store, points, count, now, error)
               : not_stored(model, error);
}

mixt_status mixt_store_report(const mixt_model *model, char **text, mixt_error *error)
{
    *text = NULL;
    return model->stored != NULL ? mixt_expert_store_report(model->stored->store, text, error)
                                 : not_stored(model, error);
}
