/* Results of `mixt probe` on the page: what masking an expert does to the loss. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "atlas/page.h"
#include "atlas/page_encode.h"
#include "core/error.h"
#include "formats/json.h"

#define RESULTS_MAX ((size_t)256 << 20) /* bytes of a file of results */

struct mixt_page_probe {
    float *all;    /* [L, E] change of the loss over all tokens, nats a token; NaN: not masked */
    float *domain; /* [L, domains, E] of a domain's tokens */
    bool domains;  /* any of the latter is known */
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

static mixt_status read_domains(mixt_page *page, const mixt_json_object *row, size_t cell,
                                mixt_error *error)
{
    const mixt_trace *trace = page->trace;
    size_t experts = (size_t)trace->info.experts;
    size_t layer = cell / experts;
    const char *name;
    json_t *value;
    if (!mixt_json_has(row, "domains")) {
        return MIXT_OK;
    }
    json_t *domains = json_object_get(row->json, "domains");
    if (!json_is_object(domains)) {
        return mixt_json_fail(row, "domains", "an object of numbers by domain is wanted");
    }
    json_object_foreach(domains, name, value)
    {
        int d = domain_named(trace, name);
        if (!json_is_number(value)) {
            return mixt_json_fail(row, "domains", "a value is not a number");
        }
        if (d >= 0) { /* results may be of more text than the trace */
            size_t at =
                (layer * (size_t)trace->info.domains + (size_t)d) * experts + cell % experts;
            page->probe->domain[at] = (float)json_number_value(value);
            page->probe->domains = true;
        }
    }
    (void)error;
    return MIXT_OK;
}

static mixt_status read_row(mixt_page *page, const mixt_json_object *row, mixt_error *error)
{
    int64_t number;
    int64_t expert;
    double change;
    const mixt_json_range any = {-1e30, 1e30};
    MIXT_TRY(mixt_json_integer(row, "layer", (mixt_json_range){0, 1e9}, &number));
    MIXT_TRY(mixt_json_integer(row, "expert", (mixt_json_range){0, 1e9}, &expert));
    MIXT_TRY(mixt_json_number(row, "change", any, &change));
    int layer = layer_numbered(page->trace, number);
    if (layer < 0 || expert >= page->trace->info.experts) {
        return mixt_json_fail(row, layer < 0 ? "layer" : "expert",
                              "%lld: the trace has %d experts at layers %d to %d",
                              (long long)(layer < 0 ? number : expert), page->trace->info.experts,
                              page->trace->layer_numbers[0],
                              page->trace->layer_numbers[page->trace->info.layers - 1]);
    }
    size_t cell = (size_t)layer * (size_t)page->trace->info.experts + (size_t)expert;
    page->probe->all[cell] = (float)change;
    return read_domains(page, row, cell, error);
}

static mixt_status read_rows(mixt_page *page, const json_t *root, mixt_error *error)
{
    const char *path = page->options->probe;
    const mixt_json_object top = {root, path, "", error};
    const json_t *rows;
    const char *format = "";
    MIXT_TRY(mixt_json_string(&top, "format", &format));
    if (strcmp(format, "mixt-probe") != 0) {
        return mixt_json_fail(&top, "format", "not mixt-probe: no results of mixt probe");
    }
    MIXT_TRY(mixt_json_array(&top, "masked", &rows));
    for (size_t i = 0; i < json_array_size(rows); i++) {
        char place[40];
        snprintf(place, sizeof place, "masked[%zu].", i);
        const mixt_json_object row = {json_array_get(rows, i), path, place, error};
        if (!json_is_object(row.json)) {
            return mixt_json_fail(&row, "layer", "an object is wanted here");
        }
        MIXT_TRY(read_row(page, &row, error));
    }
    return MIXT_OK;
}

mixt_status mixt_page_probe_read(mixt_page *page, mixt_error *error)
{
    const mixt_trace_info *info = &page->trace->info;
    json_t *root = NULL;
    if (page->options->probe == NULL) {
        return MIXT_OK;
    }
    size_t cells = (size_t)info->layers * (size_t)info->experts;
    size_t domains = cells * (size_t)info->domains;
    page->probe = calloc(1, sizeof *page->probe);
    if (page->probe != NULL) {
        page->probe->all = malloc(cells * sizeof(float));
        page->probe->domain = malloc(domains * sizeof(float));
    }
    if (page->probe == NULL || page->probe->all == NULL || page->probe->domain == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "page: no memory");
    }
    for (size_t i = 0; i < cells; i++) {
        page->probe->all[i] = NAN;
    }
    for (size_t i = 0; i < domains; i++) {
        page->probe->domain[i] = NAN;
    }
    MIXT_TRY(mixt_json_read(page->options->probe, RESULTS_MAX, &root, error));
    mixt_status status = read_rows(page, root, error);
    json_decref(root);
    return status;
}

void mixt_page_probe_free(mixt_page *page)
{
    if (page->probe != NULL) {
        free(page->probe->all);
        free(page->probe->domain);
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
    const mixt_trace_info *info = &page->trace->info;
    mixt_buffer bytes = {0};
    if (page->probe == NULL) {
        return;
    }
    mixt_buffer_text(page->out, ",\"probe\":{\"unit\":\"nats\"");
    for (int i = 0; i < info->layers * info->experts; i++) {
        append_float(&bytes, page->probe->all[i]);
    }
    mixt_page_field(page->out, "all", &bytes);
    for (int row = 0; row < info->layers * info->domains && page->probe->domains; row++) {
        for (int e = 0; e < info->experts && page->shows[row % info->domains]; e++) {
            append_float(&bytes,
                         page->probe->domain[(size_t)row * (size_t)info->experts + (size_t)e]);
        }
    }
    if (page->probe->domains) {
        mixt_page_field(page->out, "domain", &bytes);
    }
    mixt_buffer_text(page->out, "}");
    mixt_buffer_free(&bytes);
}
