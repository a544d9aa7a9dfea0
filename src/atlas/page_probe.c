/* Reads results of `mixt probe`. */
#include "atlas/page_probe.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "atlas/token_class.h"
#include "core/error.h"
#include "formats/json.h"

#define RESULTS_MAX ((size_t)256 << 20) /* bytes of a file of results */

/* The MoE layer that has the model's number, or -1. */
static int layer_numbered(const mixt_trace *trace, int64_t number)
{
    for (int layer = 0; layer < trace->info.layers; layer++) {
        if (trace->layer_numbers[layer] == number) {
            return layer;
        }
    }
    return -1;
}

static int domain_named(const mixt_trace *trace, const char *name)
{
    for (int d = 0; d < trace->info.domains; d++) {
        if (strcmp(trace->domain_names[d], name) == 0) {
            return d;
        }
    }
    return -1;
}

static int class_named(const mixt_trace *trace, const char *name)
{
    (void)trace;
    for (int c = 0; c < MIXT_CLASS_COUNT; c++) {
        if (strcmp(mixt_token_class_name(c), name) == 0) {
            return c;
        }
    }
    return -1;
}

static double number_of(const json_t *value)
{
    return json_is_number(value) ? json_number_value(value) : NAN;
}

/* Part `part` of [value, low, high]; NaN where that, or all of it, is null. */
static double part_of(const json_t *value, int part)
{
    return number_of(json_array_get(value, (size_t)part));
}

static mixt_status row_layer(const mixt_page *page, const mixt_json_object *row, int *layer)
{
    const mixt_trace *trace = page->trace;
    int64_t number;
    MIXT_TRY(mixt_json_integer(row, "layer", (mixt_json_range){0, 1e9}, &number));
    *layer = layer_numbered(trace, number);
    if (*layer < 0) {
        return mixt_json_fail(row, "layer", "%lld: the trace has %d experts at layers %d to %d",
                              (long long)number, trace->info.experts, trace->layer_numbers[0],
                              trace->layer_numbers[trace->info.layers - 1]);
    }
    return MIXT_OK;
}

static mixt_status row_cell(const mixt_page *page, const mixt_json_object *row, int *layer,
                            size_t *cell)
{
    const mixt_trace *trace = page->trace;
    int64_t expert;
    MIXT_TRY(row_layer(page, row, layer));
    MIXT_TRY(mixt_json_integer(row, "expert", (mixt_json_range){0, 1e9}, &expert));
    if (expert >= trace->info.experts) {
        return mixt_json_fail(row, "expert", "%lld: the trace has %d experts at layers %d to %d",
                              (long long)expert, trace->info.experts, trace->layer_numbers[0],
                              trace->layer_numbers[trace->info.layers - 1]);
    }
    *cell = (size_t)*layer * (size_t)trace->info.experts + (size_t)expert;
    return MIXT_OK;
}

/* `part`: a mixt_page_probe_cell. */
static void set_cell(const mixt_page *page, int part, size_t cell, double value)
{
    size_t cells = (size_t)page->trace->info.layers * (size_t)page->trace->info.experts;
    page->probe->cell[(size_t)part * cells + cell] = (float)value;
}

/* One of the lists by domain or class: `place` [count] says which of `rows` a number is of. */
typedef struct parts {
    const char *key;
    const int *place;
    size_t count, rows;
    float *values; /* [L, rows, E] */
} parts;

static mixt_status read_parts(const mixt_page *page, const mixt_json_object *row, const parts *p,
                              size_t cell)
{
    const json_t *list = json_object_get(row->json, p->key);
    size_t experts = (size_t)page->trace->info.experts;
    if (json_array_size(list) > p->count) {
        return mixt_json_fail(row, p->key, "as many as the file's %s are wanted", p->key);
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        if (p->place[i] >= 0) {
            size_t at = cell / experts * p->rows + (size_t)p->place[i];
            p->values[at * experts + cell % experts] = (float)part_of(json_array_get(list, i), 0);
        }
    }
    return MIXT_OK;
}

static mixt_status read_mask(mixt_page *page, const mixt_json_object *row)
{
    const struct mixt_page_probe *probe = page->probe;
    const json_t *effect = json_object_get(row->json, "effect");
    int layer;
    size_t cell;
    MIXT_TRY(row_cell(page, row, &layer, &cell));
    if (json_array_size(json_object_get(row->json, "with")) > 0) {
        return MIXT_OK; /* several experts at once: of none of them alone */
    }
    for (int part = 0; part < 3; part++) {
        set_cell(page, MIXT_CELL_EFFECT + part, cell, part_of(effect, part));
    }
    MIXT_TRY(read_parts(page, row,
                        &(parts){"domains", probe->domain_place, probe->domain_count,
                                 (size_t)page->trace->info.domains, probe->domain},
                        cell));
    return read_parts(page, row,
                      &(parts){"classes", probe->class_place, probe->class_count, MIXT_CLASS_COUNT,
                               probe->classes},
                      cell);
}

/* [expert, cosine] of the most similar ones. */
static mixt_status read_near(mixt_page *page, const mixt_json_object *row, mixt_page_likeness kind,
                             size_t cell)
{
    static const char *const keys[] = {"near_outputs", "near_weights"};
    const mixt_trace_info *info = &page->trace->info;
    const json_t *list = json_object_get(row->json, keys[kind]);
    size_t cells = (size_t)info->layers * (size_t)info->experts;
    mixt_page_near *near = page->probe->near + ((size_t)kind * cells + cell) * MIXT_PAGE_NEAR;
    for (size_t i = 0; i < json_array_size(list) && i < MIXT_PAGE_NEAR; i++) {
        const json_t *pair = json_array_get(list, i);
        const json_t *expert = json_array_get(pair, 0);
        double cosine = part_of(pair, 1);
        if (!json_is_integer(expert) || json_integer_value(expert) < 0 ||
            json_integer_value(expert) >= info->experts || !(fabs(cosine) <= 1.001)) {
            return mixt_json_fail(row, keys[kind], "entry %zu is no expert with its cosine", i);
        }
        near[i] = (mixt_page_near){(int)json_integer_value(expert), (float)cosine};
    }
    return MIXT_OK;
}

static mixt_status read_unit(mixt_page *page, const mixt_json_object *row)
{
    int layer;
    size_t cell;
    MIXT_TRY(row_cell(page, row, &layer, &cell));
    const json_t *reap = json_object_get(row->json, "reap");
    const json_t *super = json_object_get(row->json, "super");
    const json_t *token = json_object_get(row->json, "largest_token");
    for (int part = 0; part < 3; part++) {
        set_cell(page, MIXT_CELL_REAP + part, cell, part_of(reap, part));
    }
    set_cell(page, MIXT_CELL_NORM, cell, number_of(json_object_get(row->json, "norm")));
    set_cell(page, MIXT_CELL_LARGEST, cell, number_of(json_object_get(row->json, "largest")));
    set_cell(page, MIXT_CELL_SUPER, cell, json_is_boolean(super) ? json_is_true(super) : NAN);
    if (json_is_integer(token) && json_integer_value(token) < page->trace->vocab_size) {
        page->probe->token[cell] = (int32_t)json_integer_value(token);
    }
    MIXT_TRY(read_near(page, row, MIXT_NEAR_OUTPUTS, cell));
    return read_near(page, row, MIXT_NEAR_WEIGHTS, cell);
}

static mixt_status read_lens(mixt_page *page, const mixt_json_object *row)
{
    int layer;
    MIXT_TRY(row_layer(page, row, &layer));
    double *lens = page->probe->lens + layer;
    size_t layers = (size_t)page->trace->info.layers;
    for (int part = 0; part < 3; part++) {
        lens[(size_t)(MIXT_LENS_ROUTED + part) * layers] =
            part_of(json_object_get(row->json, "cosine_routed"), part);
        lens[(size_t)(MIXT_LENS_EFFECT + part) * layers] =
            part_of(json_object_get(row->json, "effect"), part);
    }
    lens[MIXT_LENS_WHOLE * layers] = part_of(json_object_get(row->json, "cosine_layer"), 0);
    return MIXT_OK;
}

/* Layer -1: routes that differ in all layers at once. */
static mixt_status read_routes(mixt_page *page, const mixt_json_object *row)
{
    const json_t *better = json_object_get(json_object_get(row->json, "better"), "value");
    int layer;
    if (json_integer_value(json_object_get(row->json, "layer")) == -1) {
        page->probe->better = part_of(better, 0);
        return MIXT_OK;
    }
    MIXT_TRY(row_layer(page, row, &layer));
    for (int part = 0; part < 3; part++) {
        page->probe->lens[(MIXT_LENS_BETTER + part) * page->trace->info.layers + layer] =
            part_of(better, part);
    }
    return MIXT_OK;
}

static mixt_status read_curve(mixt_page *page, const mixt_json_object *row)
{
    struct mixt_page_probe *probe = page->probe;
    const json_t *effect = json_object_get(row->json, "effect");
    int64_t k;
    MIXT_TRY(mixt_json_integer(row, "k", (mixt_json_range){1, page->trace->info.experts}, &k));
    if (json_is_null(effect)) { /* a number that groups of experts do not allow */
        return MIXT_OK;
    }
    int at = probe->curve_count++;
    probe->curve_k[at] = (int)k;
    for (int part = 0; part < 3; part++) {
        probe->curve[part * MIXT_PAGE_CURVE_MOST + at] = part_of(effect, part);
    }
    return MIXT_OK;
}

/* The rows of one experiment; false where it was not made. */
static mixt_status read_rows(mixt_page *page, const mixt_json_object *top, const char *key,
                             mixt_status (*read)(mixt_page *page, const mixt_json_object *row),
                             bool *found)
{
    const json_t *rows;
    if (!mixt_json_has(top, key)) {
        return MIXT_OK;
    }
    *found = true;
    MIXT_TRY(mixt_json_array(top, key, &rows));
    for (size_t i = 0; i < json_array_size(rows); i++) {
        char place[40];
        snprintf(place, sizeof place, "%s[%zu].", key, i);
        const mixt_json_object row = {json_array_get(rows, i), top->file, place, top->error};
        if (!json_is_object(row.json)) {
            return mixt_json_fail(&row, "", "not an object");
        }
        MIXT_TRY(read(page, &row));
    }
    return MIXT_OK;
}

/* Results may be of other domains or classes than the trace: those of the same name are shown. */
static mixt_status read_names(const mixt_page *page, const mixt_json_object *top, const char *key,
                              int (*named)(const mixt_trace *trace, const char *name), int **place,
                              size_t *count)
{
    const json_t *names;
    MIXT_TRY(mixt_json_array(top, key, &names));
    *count = json_array_size(names);
    *place = calloc(*count + 1, sizeof **place);
    if (*place == NULL) {
        return mixt_fail(top->error, MIXT_ERROR_MEMORY, "page: no memory");
    }
    for (size_t i = 0; i < *count; i++) {
        const char *name = json_string_value(json_array_get(names, i));
        if (name == NULL) {
            return mixt_json_fail(top, key, "a name is not a string");
        }
        (*place)[i] = named(page->trace, name);
    }
    return MIXT_OK;
}

static mixt_status read_head(mixt_page *page, const mixt_json_object *top)
{
    struct mixt_page_probe *probe = page->probe;
    const char *format = "";
    const char *hash = "";
    int64_t experts;
    MIXT_TRY(mixt_json_string(top, "format", &format));
    if (strcmp(format, "mixt-probe") != 0) {
        return mixt_json_fail(top, "format", "not mixt-probe: no results of mixt probe");
    }
    MIXT_TRY(mixt_json_integer(top, "experts", (mixt_json_range){1, 1e9}, &experts));
    if (experts != page->trace->info.experts) {
        return mixt_json_fail(top, "experts", "%lld: the trace has %d", (long long)experts,
                              page->trace->info.experts);
    }
    MIXT_TRY(mixt_json_string_or(top, "model_hash", &hash));
    const char *own = page->trace->info.model_hash;
    probe->other_model = hash[0] != '\0' && own[0] != '\0' && strcmp(hash, own) != 0;
    probe->better = NAN;
    probe->loss = part_of(json_object_get(json_object_get(top->json, "base"), "loss"), 0);
    MIXT_TRY(
        read_names(page, top, "domains", domain_named, &probe->domain_place, &probe->domain_count));
    return mixt_json_has(top, "classes") ? read_names(page, top, "classes", class_named,
                                                      &probe->class_place, &probe->class_count)
                                         : MIXT_OK;
}

static mixt_status read_all(mixt_page *page, const json_t *root, mixt_error *error)
{
    const mixt_json_object top = {root, page->options->probe, "", error};
    bool found = false;
    if (json_array_size(json_object_get(root, "top-k")) > MIXT_PAGE_CURVE_MOST) {
        return mixt_json_fail(&top, "top-k", "more than %d rows", MIXT_PAGE_CURVE_MOST);
    }
    MIXT_TRY(read_head(page, &top));
    MIXT_TRY(read_rows(page, &top, "mask", read_mask, &found));
    MIXT_TRY(read_rows(page, &top, "units", read_unit, &found));
    MIXT_TRY(read_rows(page, &top, "lens", read_lens, &found));
    MIXT_TRY(read_rows(page, &top, "top-k", read_curve, &found));
    MIXT_TRY(read_rows(page, &top, "routes", read_routes, &found));
    if (!found) {
        return mixt_json_fail(&top, "mask",
                              "not there, nor units, lens, top-k or routes: run mixt probe with "
                              "--experiments mask,reap,super,norms,lens,top-k,routes or some of "
                              "them");
    }
    return MIXT_OK;
}

/* [count] without a number; NULL without memory. */
static float *unknown(size_t count)
{
    float *values = malloc(count * sizeof *values);
    for (size_t i = 0; i < count && values != NULL; i++) {
        values[i] = NAN;
    }
    return values;
}

static double *unknown_wide(size_t count)
{
    double *values = malloc(count * sizeof *values);
    for (size_t i = 0; i < count && values != NULL; i++) {
        values[i] = NAN;
    }
    return values;
}

static bool make_room(const mixt_trace_info *info, struct mixt_page_probe *probe)
{
    size_t cells = (size_t)info->layers * (size_t)info->experts;
    size_t near = MIXT_NEAR_KINDS * cells * MIXT_PAGE_NEAR;
    probe->cell = unknown(MIXT_CELL_PARTS * cells);
    probe->domain = unknown(cells * (size_t)info->domains);
    probe->classes = unknown(cells * MIXT_CLASS_COUNT);
    probe->token = malloc(cells * sizeof *probe->token);
    probe->near = malloc(near * sizeof *probe->near);
    probe->lens = unknown_wide(MIXT_LENS_PARTS * (size_t)info->layers);
    probe->curve = unknown_wide(3 * MIXT_PAGE_CURVE_MOST);
    probe->curve_k = calloc(MIXT_PAGE_CURVE_MOST, sizeof *probe->curve_k);
    for (size_t i = 0; i < near && probe->near != NULL; i++) {
        probe->near[i].expert = -1;
    }
    for (size_t i = 0; i < cells && probe->token != NULL; i++) {
        probe->token[i] = -1;
    }
    return probe->cell != NULL && probe->domain != NULL && probe->classes != NULL &&
           probe->token != NULL && probe->near != NULL && probe->lens != NULL &&
           probe->curve != NULL && probe->curve_k != NULL;
}

mixt_status mixt_page_probe_read(mixt_page *page, mixt_error *error)
{
    json_t *root = NULL;
    if (page->options->probe == NULL) {
        return MIXT_OK;
    }
    page->probe = calloc(1, sizeof *page->probe);
    if (page->probe == NULL || !make_room(&page->trace->info, page->probe)) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "page: no memory");
    }
    MIXT_TRY(mixt_json_read(page->options->probe, RESULTS_MAX, &root, error));
    mixt_status status = read_all(page, root, error);
    json_decref(root);
    return status;
}

void mixt_page_probe_free(mixt_page *page)
{
    struct mixt_page_probe *probe = page->probe;
    if (probe != NULL) {
        free(probe->cell);
        free(probe->domain);
        free(probe->classes);
        free(probe->token);
        free(probe->near);
        free(probe->lens);
        free(probe->curve_k);
        free(probe->curve);
        free(probe->domain_place);
        free(probe->class_place);
        free(probe);
    }
}
