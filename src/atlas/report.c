#include "atlas/report.h"

#include <assert.h>
#include <stdlib.h>

#include "core/error.h"

static void choose_key_layers(mixt_report *report)
{
    int last = report->trace->info.layers - 1;
    const int wanted[] = {0, mixt_trace_middle_layer(report->trace), last};
    for (int i = 0; i < 3; i++) {
        int count = report->key_layer_count;
        if (count == 0 || report->key_layers[count - 1] != wanted[i]) {
            report->key_layers[report->key_layer_count++] = wanted[i];
        }
    }
}

static mixt_status inform(mixt_report *report, mixt_error *error)
{
    const mixt_trace *trace = report->trace;
    size_t rows = ((size_t)trace->info.layers + 1) * MIXT_LABEL_COUNT * MIXT_TOLD_COUNT;
    report->information = calloc(rows, sizeof(mixt_information));
    if (report->information == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "atlas: no memory");
    }
    mixt_information_classes(trace, report->class_share);
    return mixt_information_measure(trace, report->units, 0, trace->info.layers,
                                    report->information, error);
}

mixt_status mixt_report_create(const mixt_trace *trace, bool informed, mixt_report **report,
                               mixt_error *error)
{
    *report = NULL;
    size_t layers = (size_t)trace->info.layers;
    size_t domains = (size_t)trace->info.domains;
    mixt_report *made = calloc(1, sizeof *made);
    if (made == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "atlas: no memory");
    }
    made->trace = trace;
    made->units = mixt_units_create(trace);
    made->counts = mixt_counts_create(trace);
    made->repetition = calloc(layers * (domains + 1) * MIXT_REPEAT_COUNT, sizeof(mixt_repetition));
    made->distance = calloc(layers * domains, sizeof(mixt_distance));
    made->load = calloc(layers, sizeof(mixt_load));
    mixt_status status = MIXT_OK;
    if (made->units == NULL || made->counts == NULL || made->repetition == NULL ||
        made->distance == NULL || made->load == NULL) {
        status = mixt_fail(error, MIXT_ERROR_MEMORY, "atlas: no memory");
    }
    if (status == MIXT_OK) {
        choose_key_layers(made);
        status = mixt_repetition_measure(trace, made->units, 0, trace->info.layers,
                                         made->repetition, error);
    }
    if (status == MIXT_OK) {
        status = mixt_distance_measure(trace, made->units, made->counts, made->distance, error);
    }
    if (status == MIXT_OK && informed) {
        status = inform(made, error);
    }
    for (int layer = 0; layer < trace->info.layers && status == MIXT_OK; layer++) {
        made->load[layer] = mixt_load_of(made->counts, layer, NULL);
    }
    if (status == MIXT_OK) {
        status = mixt_verdict_make(made, error);
    }
    if (status != MIXT_OK) {
        mixt_report_free(made);
        return status;
    }
    *report = made;
    return MIXT_OK;
}

void mixt_report_free(mixt_report *report)
{
    if (report == NULL) {
        return;
    }
    mixt_units_free(report->units);
    mixt_counts_free(report->counts);
    free(report->repetition);
    free(report->distance);
    free(report->load);
    free(report->information);
    free(report);
}

const char *mixt_report_layer_role(const mixt_report *report, int layer)
{
    int last = report->trace->info.layers - 1;
    return layer == 0                                        ? "first"
           : layer == last                                   ? "last"
           : layer == mixt_trace_middle_layer(report->trace) ? "middle"
                                                             : "";
}

bool mixt_report_lacks_interval(const mixt_report *report)
{
    int rows = report->trace->info.domains + 1;
    int measures = report->trace->info.experts_per_token > 1 ? 2 : 1;
    for (int i = 0; i < report->trace->info.layers * rows * measures; i++) {
        int domain = i / measures % rows;
        if (!mixt_report_is_empty(report, domain) &&
            !mixt_repetition_has_interval(
                mixt_report_repetition(report, i / measures / rows, domain, i % measures))) {
            return true;
        }
    }
    return false;
}

bool mixt_report_lacks_level(const mixt_report *report)
{
    int domains = report->trace->info.domains;
    for (int i = 0; i < report->trace->info.layers * domains; i++) {
        if (mixt_counts_total(report->counts, i / domains, i % domains, MIXT_CHOICE_ANY) != 0 &&
            !report->distance[i].leveled) {
            return true;
        }
    }
    return false;
}

/* Whether a token ends a line. */
static bool ends_line(const mixt_trace *trace, uint64_t index)
{
    size_t length;
    const uint8_t *bytes = mixt_trace_token_bytes(trace, trace->tokens[index], &length);
    return length != 0 && bytes[length - 1] == '\n';
}

/* Where `wanted` tokens of a document of `length` at `start` are taken from. */
static uint64_t place_in(const mixt_trace *trace, uint64_t start, uint64_t length, uint64_t wanted)
{
    if (length < 2 * wanted) {
        return start;
    }
    uint64_t begin = start + length / 3;
    uint64_t last = start + length - wanted;
    for (uint64_t i = begin; i < begin + 60 && i < last; i++) {
        if (ends_line(trace, i) && !ends_line(trace, i + 1)) {
            return i + 1;
        }
    }
    return begin;
}

int mixt_report_excerpts(const mixt_report *report, int domain, uint64_t wanted, int most,
                         uint64_t *begin, uint64_t *count)
{
    assert(domain >= 0 && domain < report->trace->info.domains && most >= 1);
    const mixt_trace *trace = report->trace;
    uint64_t fit = 0; /* documents of at least `wanted` tokens */
    uint64_t longest = 0;
    uint64_t longest_start = 0;
    for (uint64_t d = 0; d < trace->info.documents; d++) {
        uint64_t start = trace->document_start[d];
        uint64_t tokens = trace->document_start[d + 1] - start;
        if (trace->domain[start] == domain) {
            fit += tokens >= wanted;
            longest_start = tokens > longest ? start : longest_start;
            longest = tokens > longest ? tokens : longest;
        }
    }
    if (fit == 0) {
        begin[0] = longest_start;
        count[0] = longest;
        return longest > 0 ? 1 : 0;
    }
    int made = 0;
    uint64_t all = fit < (uint64_t)most ? fit : (uint64_t)most;
    uint64_t seen = 0; /* of those that fit */
    for (uint64_t d = 0; d < trace->info.documents && made < (int)all; d++) {
        uint64_t start = trace->document_start[d];
        uint64_t tokens = trace->document_start[d + 1] - start;
        if (trace->domain[start] == domain && tokens >= wanted &&
            seen++ == (uint64_t)made * fit / all) {
            begin[made] = place_in(trace, start, tokens, wanted);
            count[made++] = wanted;
        }
    }
    return made;
}

void mixt_report_excerpt(const mixt_report *report, int domain, uint64_t wanted, uint64_t *begin,
                         uint64_t *count)
{
    *begin = 0;
    *count = 0;
    mixt_report_excerpts(report, domain, wanted, 1, begin, count);
}
