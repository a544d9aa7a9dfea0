/* Results of `mixt probe` (docs/probe.md) on the page: what masking an expert does to the loss. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "atlas/page.h"
#include "atlas/page_encode.h"
#include "core/error.h"
#include "formats/json.h"

#define RESULTS_MAX ((size_t)256 << 20) /* bytes of a file of results */

enum { EFFECT, EFFECT_LOW, EFFECT_HIGH, EFFECT_PARTS };

struct mixt_page_probe {
    float *effect; /* [EFFECT_PARTS, L, E] change of the loss over all tokens, nats a token, and its
                      interval; NaN: not measured */
    float *domain; /* [L, domains, E] of a domain's tokens */
    int *place;    /* [domains of the results] the trace's domain, or -1 */
};

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

/* Part `part` of [value, low, high]; NaN where that, or all of it, is null. */
static float part_of(const json_t *value, int part)
{
    const json_t *number = json_array_get(value, (size_t)part);
    return json_is_number(number) ? (float)json_number_value(number) : NAN;
}

static mixt_status read_row(mixt_page *page, const mixt_json_object *row)
{
    int64_t number;
    int64_t expert;
    const json_t *domains;
    const mixt_trace *trace = page->trace;
    size_t experts = (size_t)trace->info.experts;
    size_t cells = experts * (size_t)trace->info.layers;
    MIXT_TRY(mixt_json_integer(row, "layer", (mixt_json_range){0, 1e9}, &number));
    MIXT_TRY(mixt_json_integer(row, "expert", (mixt_json_range){0, 1e9}, &expert));
    MIXT_TRY(mixt_json_array(row, "domains", &domains));
    int layer = layer_numbered(trace, number);
    if (layer < 0 || expert >= trace->info.experts) {
        return mixt_json_fail(row, layer < 0 ? "layer" : "expert",
                              "%lld: the trace has %d experts at layers %d to %d",
                              (long long)(layer < 0 ? number : expert), trace->info.experts,
                              trace->layer_numbers[0],
                              trace->layer_numbers[trace->info.layers - 1]);
    }
    if (json_array_size(json_object_get(row->json, "with")) > 1) {
        return MIXT_OK; /* several experts at once: of none of them alone */
    }
    for (size_t part = 0; part < EFFECT_PARTS; part++) {
        page->probe->effect[part * cells + (size_t)layer * experts + (size_t)expert] =
            part_of(json_object_get(row->json, "effect"), (int)part);
    }
    for (size_t i = 0; i < json_array_size(domains); i++) {
        int d = page->probe->place[i];
        if (d >= 0) {
            size_t at = (size_t)layer * (size_t)trace->info.domains + (size_t)d;
            page->probe->domain[at * experts + (size_t)expert] =
                part_of(json_array_get(domains, i), EFFECT);
        }
    }
    return MIXT_OK;
}

/* Results may be of other domains than the trace: those of the same name are shown. */
static mixt_status read_domains(mixt_page *page, const mixt_json_object *top, size_t *count)
{
    const json_t *names;
    MIXT_TRY(mixt_json_array(top, "domains", &names));
    *count = json_array_size(names);
    page->probe->place = calloc(*count + 1, sizeof(int));
    if (page->probe->place == NULL) {
        return mixt_fail(top->error, MIXT_ERROR_MEMORY, "page: no memory");
    }
    for (size_t i = 0; i < *count; i++) {
        const char *name = json_string_value(json_array_get(names, i));
        if (name == NULL) {
            return mixt_json_fail(top, "domains", "a name is not a string");
        }
        page->probe->place[i] = domain_named(page->trace, name);
    }
    return MIXT_OK;
}

static mixt_status read_rows(mixt_page *page, const json_t *root, mixt_error *error)
{
    const char *path = page->options->probe;
    const mixt_json_object top = {root, path, "", error};
    const json_t *rows;
    const char *format = "";
    int64_t experts;
    size_t domains = 0;
    MIXT_TRY(mixt_json_string(&top, "format", &format));
    if (strcmp(format, "mixt-probe") != 0) {
        return mixt_json_fail(&top, "format", "not mixt-probe: no results of mixt probe");
    }
    MIXT_TRY(mixt_json_integer(&top, "experts", (mixt_json_range){1, 1e9}, &experts));
    if (experts != page->trace->info.experts) {
        return mixt_json_fail(&top, "experts", "%lld: the trace has %d", (long long)experts,
                              page->trace->info.experts);
    }
    if (!mixt_json_has(&top, "mask")) {
        return mixt_json_fail(&top, "mask", "not there: run mixt probe with --experiments mask");
    }
    MIXT_TRY(read_domains(page, &top, &domains));
    MIXT_TRY(mixt_json_array(&top, "mask", &rows));
    for (size_t i = 0; i < json_array_size(rows); i++) {
        char place[40];
        snprintf(place, sizeof place, "mask[%zu].", i);
        const mixt_json_object row = {json_array_get(rows, i), path, place, error};
        if (!json_is_object(row.json) ||
            json_array_size(json_object_get(row.json, "domains")) > domains) {
            return mixt_json_fail(&row, "domains", "as many as the file's domains are wanted");
        }
        MIXT_TRY(read_row(page, &row));
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

mixt_status mixt_page_probe_read(mixt_page *page, mixt_error *error)
{
    const mixt_trace_info *info = &page->trace->info;
    json_t *root = NULL;
    if (page->options->probe == NULL) {
        return MIXT_OK;
    }
    size_t cells = (size_t)info->layers * (size_t)info->experts;
    page->probe = calloc(1, sizeof *page->probe);
    if (page->probe != NULL) {
        page->probe->effect = unknown(EFFECT_PARTS * cells);
        page->probe->domain = unknown(cells * (size_t)info->domains);
    }
    if (page->probe == NULL || page->probe->effect == NULL || page->probe->domain == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "page: no memory");
    }
    MIXT_TRY(mixt_json_read(page->options->probe, RESULTS_MAX, &root, error));
    mixt_status status = read_rows(page, root, error);
    json_decref(root);
    return status;
}

void mixt_page_probe_free(mixt_page *page)
{
    if (page->probe != NULL) {
        free(page->probe->effect);
        free(page->probe->domain);
        free(page->probe->place);
        free(page->probe);
    }
}

/* Little-endian fp32, whatever the machine. */
static void append_float(mixt_buffer *bytes, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    const unsigned char four[4] = {(unsigned char)(bits & 255), (unsigned char)(bits >> 8 & 255),
                                   (unsigned char)(bits >> 16 & 255), (unsigned char)(bits >> 24)};
    mixt_buffer_append(bytes, four, sizeof four);
}

void mixt_page_probe_data(mixt_page *page)
{
    static const char *const keys[EFFECT_PARTS] = {"all", "low", "high"};
    const mixt_trace_info *info = &page->trace->info;
    size_t cells = (size_t)info->layers * (size_t)info->experts;
    mixt_buffer bytes = {0};
    if (page->probe == NULL) {
        return;
    }
    mixt_buffer_text(page->out, ",\"probe\":{\"unit\":\"nats\"");
    for (size_t part = 0; part < EFFECT_PARTS; part++) {
        for (size_t i = 0; i < cells; i++) {
            append_float(&bytes, page->probe->effect[part * cells + i]);
        }
        mixt_page_field(page->out, keys[part], &bytes);
    }
    for (int row = 0; row < info->layers * info->domains; row++) {
        for (int e = 0; e < info->experts && page->shows[row % info->domains]; e++) {
            append_float(&bytes,
                         page->probe->domain[(size_t)row * (size_t)info->experts + (size_t)e]);
        }
    }
    mixt_page_field(page->out, "domain", &bytes);
    mixt_buffer_text(page->out, "}");
    mixt_buffer_free(&bytes);
}
