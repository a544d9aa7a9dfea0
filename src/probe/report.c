/* The results as JSON: docs/probe.md has the keys. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "atlas/measure.h"
#include "atlas/statistics.h"
#include "atlas/token_class.h"
#include "core/files.h"
#include "core/number.h"
#include "formats/safetensors.h"
#include "probe/probe.h"

#define NEAREST 4 /* most similar experts that are listed */

typedef struct report {
    const mixt_probe *probe;
    mixt_buffer *out;
    int *layers;     /* [L]: the model's numbers */
    double *cosines; /* [E, E] */
} report;

/* Nine digits: the rest would be noise. null where there is no number. */
static void number(mixt_buffer *out, double value)
{
    char text[48];
    if (!isfinite(value)) {
        mixt_buffer_text(out, "null");
        return;
    }
    mixt_format(text, sizeof text, "%.9g", value);
    mixt_buffer_text(out, text);
}

/* Sums of groups of documents, at a stride. */
typedef struct ratio {
    const double *value, *count;
    size_t value_stride, count_stride;
} ratio;

/* [value, low, high]: sum of values over sum of counts, with each group left out for the interval.
 */
static void estimate(const report *r, ratio of)
{
    double value = 0, count = 0, without[MIXT_PROBE_GROUPS];
    int groups = 0;
    for (int g = 0; g < r->probe->groups; g++) {
        value += of.value[(size_t)g * of.value_stride];
        count += of.count[(size_t)g * of.count_stride];
    }
    for (int g = 0; g < r->probe->groups; g++) {
        double rest = count - of.count[(size_t)g * of.count_stride];
        if (rest < count && rest > 0) {
            without[groups++] = (value - of.value[(size_t)g * of.value_stride]) / rest;
        }
    }
    if (!(count > 0)) {
        mixt_buffer_text(r->out, "null");
        return;
    }
    mixt_span span = mixt_jackknife(value / count, without, groups, -INFINITY, INFINITY);
    mixt_buffer_text(r->out, "[");
    number(r->out, value / count);
    mixt_buffer_text(r->out, ", ");
    number(r->out, span.low);
    mixt_buffer_text(r->out, ", ");
    number(r->out, span.high);
    mixt_buffer_text(r->out, "]");
}

/* Values [G, buckets] of a cell, over counts at `count_step` numbers a bucket: over everything, by
 * domain, by class. `step`: numbers a bucket of the values. */
typedef struct cell {
    const double *values, *counts;
    size_t buckets, step;
} cell;

static void write_buckets(const report *r, const cell *c, const char *key, int first, int end)
{
    size_t stride = c->buckets * c->step;
    size_t count_step = c->counts == r->probe->sum[SUM_TOKENS] ? 1 : c->step;
    mixt_buffer_format(r->out, ", \"%s\": [", key);
    for (int b = first; b < end; b++) {
        mixt_buffer_text(r->out, b == first ? "" : ", ");
        estimate(r, (ratio){c->values + (size_t)b * c->step, c->counts + (size_t)b * count_step,
                            stride, c->buckets * count_step});
    }
    mixt_buffer_text(r->out, "]");
}

static void write_cell(const report *r, const cell *c, const char *key)
{
    const mixt_probe *probe = r->probe;
    double values[MIXT_PROBE_GROUPS] = {0}, counts[MIXT_PROBE_GROUPS] = {0};
    size_t count_step = c->counts == probe->sum[SUM_TOKENS] ? 1 : c->step;
    for (int g = 0; g < probe->groups; g++) {
        for (int d = 0; d < probe->domains; d++) {
            size_t bucket = (size_t)g * c->buckets + (size_t)d;
            values[g] += c->values[bucket * c->step];
            counts[g] += c->counts[bucket * count_step];
        }
    }
    mixt_buffer_format(r->out, "\"%s\": ", key);
    estimate(r, (ratio){values, counts, 1, 1});
    write_buckets(r, c, "domains", 0, probe->domains);
    write_buckets(r, c, "classes", probe->domains, probe->buckets);
}

/* A cell of one of the changes. */
static cell loss_cell(const report *r, mixt_probe_sum sum, size_t index)
{
    const mixt_probe *probe = r->probe;
    size_t buckets = (size_t)probe->buckets, size = (size_t)probe->groups * buckets;
    return (cell){probe->sum[sum] + index * size, probe->sum[SUM_TOKENS], buckets, 1};
}

/* ------------------------------------------------------------------------------------------ */
/* What was measured                                                                          */

static void quoted(const report *r, const char *key, const char *text)
{
    mixt_buffer_format(r->out, ", \"%s\": ", key);
    mixt_json_quote(r->out, text != NULL ? text : "");
}

static mixt_status describe(const report *r, mixt_error *error)
{
    const mixt_probe *probe = r->probe;
    const mixt_probe_options *o = probe->options;
    char hash[65];
    MIXT_TRY(mixt_model_hash(probe->model, hash, error));
    mixt_buffer_text(r->out, "{\"format\": \"mixt-probe\", \"version\": 1");
    quoted(r, "model", o->model_name);
    quoted(r, "model_hash", hash);
    quoted(r, "corpus_hash", mixt_data_corpus_hash(probe->data));
    mixt_buffer_format(r->out,
                       ", \"window\": %d, \"max_tokens\": %llu, \"heldout\": %s, \"seed\": %llu",
                       o->window, (unsigned long long)o->max_tokens, o->heldout ? "true" : "false",
                       (unsigned long long)o->seed);
    mixt_buffer_format(r->out, ",\n \"experts\": %d, \"experts_per_token\": %d, \"layers\": [",
                       probe->experts, probe->model->router.chosen);
    for (int layer = 0; layer < probe->layers; layer++) {
        mixt_buffer_format(r->out, "%s%d", layer == 0 ? "" : ", ", r->layers[layer]);
    }
    mixt_buffer_text(r->out, "], \"domains\": [");
    for (int d = 0; d < probe->domains; d++) {
        mixt_buffer_text(r->out, d == 0 ? "" : ", ");
        mixt_json_quote(r->out, mixt_data_domain_name(probe->data, d));
    }
    mixt_buffer_text(r->out, "], \"classes\": [");
    for (int c = 0; c < MIXT_CLASS_COUNT; c++) {
        mixt_buffer_format(r->out, "%s\"%s\"", c == 0 ? "" : ", ", mixt_token_class_name(c));
    }
    mixt_buffer_text(r->out, "],\n \"tokens\": [");
    for (int b = 0; b < probe->buckets; b++) {
        double tokens = 0;
        for (int g = 0; g < probe->groups; g++) {
            tokens += probe->sum[SUM_TOKENS][g * probe->buckets + b];
        }
        mixt_buffer_format(r->out, "%s%.0f", b == 0 ? "" : ", ", tokens);
    }
    mixt_buffer_text(r->out, "],\n \"base\": {");
    cell base = loss_cell(r, SUM_BASE, 0);
    write_cell(r, &base, "loss");
    mixt_buffer_text(r->out, "}");
    return MIXT_OK;
}

static void write_targets(const report *r, const char *name, mixt_probe_sum sum)
{
    const mixt_probe *probe = r->probe;
    mixt_buffer_format(r->out, ",\n \"%s\": [", name);
    for (size_t i = 0; i < probe->target_count; i++) {
        const mixt_probe_target *target = &probe->targets[i];
        mixt_buffer_format(r->out, "%s\n  {\"layer\": %d, \"expert\": %d", i == 0 ? "" : ",",
                           target->layer[0], target->expert[0]);
        if (target->count > 1) {
            mixt_buffer_text(r->out, ", \"with\": [");
            for (int j = 1; j < target->count; j++) {
                mixt_buffer_format(r->out, "%s[%d, %d]", j == 1 ? "" : ", ", target->layer[j],
                                   target->expert[j]);
            }
            mixt_buffer_text(r->out, "]");
        }
        mixt_buffer_text(r->out, ", ");
        cell c = loss_cell(r, sum, i);
        write_cell(r, &c, "effect");
        mixt_buffer_text(r->out, "}");
    }
    mixt_buffer_text(r->out, "]");
}

/* The losses less the unchanged model's, group by group. */
static mixt_status write_ks(const report *r, mixt_error *error)
{
    const mixt_probe *probe = r->probe;
    size_t size = (size_t)probe->groups * (size_t)probe->buckets;
    double *more = malloc(size * sizeof *more);
    if (more == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "probe: no memory");
    }
    mixt_buffer_text(r->out, ",\n \"top-k\": [");
    for (int k = 0; k < probe->k_count; k++) {
        for (size_t i = 0; i < size; i++) {
            more[i] = probe->sum[SUM_TOP_K][(size_t)k * size + i] - probe->sum[SUM_BASE][i];
        }
        mixt_buffer_format(r->out, "%s\n  {\"k\": %d, ", k == 0 ? "" : ",", probe->ks[k]);
        cell c = {more, probe->sum[SUM_TOKENS], (size_t)probe->buckets, 1};
        write_cell(r, &c, "effect");
        mixt_buffer_text(r->out, "}");
    }
    mixt_buffer_text(r->out, "]");
    free(more);
    return MIXT_OK;
}

static void write_routes(const report *r)
{
    static const char *const names[] = {"better", "mean", "best"};
    const mixt_probe *probe = r->probe;
    size_t buckets = (size_t)(probe->buckets + MIXT_PROBE_DIFFICULTIES);
    bool first = true;
    mixt_buffer_text(r->out, ",\n \"routes\": [");
    for (int layer = 0; layer <= probe->layers; layer++) {
        if (layer < probe->layers && !mixt_probe_wants_layer(probe, layer)) {
            continue;
        }
        const double *sums =
            probe->sum[SUM_ROUTES] + (size_t)(layer * probe->groups) * buckets * ROUTE_SUMS;
        mixt_buffer_format(r->out, "%s\n  {\"layer\": %d", first ? "" : ",",
                           layer < probe->layers ? r->layers[layer] : -1);
        for (int i = 0; i < 3; i++) {
            cell c = {sums + ROUTE_BETTER + i, sums, buckets, ROUTE_SUMS};
            mixt_buffer_format(r->out, ", \"%s\": {", names[i]);
            write_cell(r, &c, "value");
            write_buckets(r, &c, "difficulty", probe->buckets, (int)buckets);
            mixt_buffer_text(r->out, "}");
        }
        mixt_buffer_text(r->out, "}");
        first = false;
    }
    mixt_buffer_text(r->out, "]");
}

static void write_lens(const report *r)
{
    const mixt_probe *probe = r->probe;
    bool first = true;
    mixt_buffer_text(r->out, ",\n \"lens\": [");
    for (int layer = 0; layer < probe->layers; layer++) {
        if (!mixt_probe_wants_layer(probe, layer)) {
            continue;
        }
        const double *lens = probe->sum[SUM_LENS] + layer * probe->groups * LENS_SUMS;
        mixt_buffer_format(r->out, "%s\n  {\"layer\": %d, \"cosine_routed\": ", first ? "" : ",",
                           r->layers[layer]);
        estimate(r, (ratio){lens + LENS_ROUTED, lens + LENS_TOKENS, LENS_SUMS, LENS_SUMS});
        mixt_buffer_text(r->out, ", \"cosine_layer\": ");
        estimate(r, (ratio){lens + LENS_WHOLE, lens + LENS_TOKENS, LENS_SUMS, LENS_SUMS});
        mixt_buffer_text(r->out, ", ");
        cell c = loss_cell(r, SUM_ALONE, (size_t)layer);
        write_cell(r, &c, "effect");
        mixt_buffer_text(r->out, "}");
        first = false;
    }
    mixt_buffer_text(r->out, "]");
}

static void write_noise(const report *r)
{
    const mixt_probe *probe = r->probe;
    bool first = true;
    mixt_buffer_text(r->out, ",\n \"noise\": [");
    for (int layer = 0; layer < probe->layers; layer++) {
        for (int s = 0; s < MIXT_PROBE_SIGMAS && mixt_probe_wants_layer(probe, layer); s++) {
            const double *sums = probe->sum[SUM_NOISE] +
                                 (layer * MIXT_PROBE_SIGMAS + s) * probe->groups * NOISE_SUMS;
            double moved = 0, tokens = 0, moved_margin = 0, stayed_margin = 0;
            for (int g = 0; g < probe->groups; g++) {
                const double *at = sums + g * NOISE_SUMS;
                moved += at[NOISE_MOVED];
                tokens += at[NOISE_TOKENS];
                moved_margin += at[NOISE_MOVED_MARGIN];
                stayed_margin += at[NOISE_STAYED_MARGIN];
            }
            mixt_buffer_format(r->out, "%s\n  {\"layer\": %d, \"sigma\": ", first ? "" : ",",
                               r->layers[layer]);
            number(r->out, mixt_probe_sigmas[s]);
            mixt_buffer_text(r->out, ", \"changed\": ");
            estimate(r,
                     (ratio){sums + NOISE_CHANGED, sums + NOISE_CHOICES, NOISE_SUMS, NOISE_SUMS});
            mixt_buffer_text(r->out, ", \"first_changed\": ");
            estimate(r, (ratio){sums + NOISE_FIRST, sums + NOISE_TOKENS, NOISE_SUMS, NOISE_SUMS});
            mixt_buffer_text(r->out, ", \"tokens_changed\": ");
            estimate(r, (ratio){sums + NOISE_MOVED, sums + NOISE_TOKENS, NOISE_SUMS, NOISE_SUMS});
            mixt_buffer_text(r->out, ", \"margin_changed\": ");
            number(r->out, moved > 0 ? moved_margin / moved : NAN);
            mixt_buffer_text(r->out, ", \"margin_kept\": ");
            number(r->out, tokens > moved ? stayed_margin / (tokens - moved) : NAN);
            mixt_buffer_text(r->out, "}");
            first = false;
        }
    }
    mixt_buffer_text(r->out, "]");
}

/* ------------------------------------------------------------------------------------------ */
/* Experts                                                                                    */

/* The most similar ones, [expert, cosine] best first, and the mean over all others. */
static void write_nearest(const report *r, const char *key, int expert, int experts)
{
    const double *row = r->cosines + (size_t)expert * (size_t)r->probe->experts;
    double mean = 0;
    mixt_buffer_format(r->out, ", \"%s\": [", key);
    bool *taken = calloc((size_t)experts + 1, sizeof *taken);
    for (int n = 0; taken != NULL && n < NEAREST && n < experts - 1; n++) {
        int best = -1;
        for (int e = 0; e < experts; e++) {
            best = e != expert && !taken[e] && (best < 0 || row[e] > row[best]) ? e : best;
        }
        taken[best] = true;
        mixt_buffer_format(r->out, "%s[%d, ", n == 0 ? "" : ", ", best);
        number(r->out, row[best]);
        mixt_buffer_text(r->out, "]");
    }
    r->out->failed = r->out->failed || taken == NULL;
    free(taken);
    for (int e = 0; e < experts; e++) {
        mean += e != expert ? row[e] : 0;
    }
    mixt_buffer_format(r->out, "], \"%s_mean\": ", key);
    number(r->out, experts > 1 ? mean / (experts - 1) : NAN);
}

static void write_expert(const report *r, const mixt_super_bounds *bounds, int layer, int e)
{
    const mixt_probe *probe = r->probe;
    size_t at = (size_t)(layer * probe->experts + e);
    const double *use = probe->sum[SUM_USE] + at * (size_t)probe->groups * USE_SUMS;
    const double *out = probe->sum[SUM_OUTPUT] + at * OUTPUT_SUMS;
    double choices = 0;
    for (int g = 0; g < probe->groups; g++) {
        choices += use[g * USE_SUMS + USE_CHOICES];
    }
    mixt_buffer_format(r->out, "\n  {\"layer\": %d, \"expert\": %d, \"choices\": %.0f",
                       r->layers[layer], e, choices);
    if ((probe->experiments & MIXT_PROBE_REAP) != 0) {
        mixt_buffer_text(r->out, ", \"reap\": ");
        estimate(r, (ratio){use + USE_REAP, use + USE_CHOICES, USE_SUMS, USE_SUMS});
    }
    if ((probe->experiments & MIXT_PROBE_SUPER) != 0) {
        mixt_buffer_text(r->out, ", \"largest\": ");
        number(r->out, out[OUTPUT_LARGEST]);
        mixt_buffer_format(r->out, ", \"largest_token\": %.0f, \"largest_column\": %.0f",
                           choices > 0 ? out[OUTPUT_TOKEN] : -1,
                           choices > 0 ? out[OUTPUT_COLUMN] : -1);
        bool is = mixt_super_is(bounds, layer, out[OUTPUT_LARGEST]);
        mixt_buffer_format(r->out, ", \"super\": %s", is ? "true" : "false");
    }
    if ((probe->experiments & MIXT_PROBE_NORMS) != 0) {
        mixt_buffer_text(r->out, ", \"norm\": ");
        number(r->out, choices > 0 ? out[OUTPUT_NORM] / choices : NAN);
        mixt_buffer_text(r->out, ", \"norm_rms\": ");
        number(r->out, choices > 0 ? sqrt(out[OUTPUT_SQUARE] / choices) : NAN);
    }
}

static mixt_status find_super(const report *r, mixt_super_bounds *bounds, mixt_error *error)
{
    const mixt_probe *probe = r->probe;
    size_t count = (size_t)(probe->layers * probe->experts);
    double *largest = calloc(count, sizeof *largest);
    if (largest == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "probe: no memory");
    }
    for (size_t i = 0; i < count; i++) {
        largest[i] = probe->sum[SUM_OUTPUT][i * OUTPUT_SUMS + OUTPUT_LARGEST];
    }
    mixt_status status = mixt_super_find(largest, probe->layers, probe->experts, bounds, error);
    free(largest);
    mixt_buffer_text(r->out, ",\n \"super\": {\"percentile\": ");
    number(r->out, bounds->percentile);
    mixt_buffer_text(r->out, ", \"tenth\": ");
    number(r->out, bounds->share);
    mixt_buffer_format(r->out, ", \"layers\": %d}", bounds->layers);
    return status;
}

/* Weights' cosines stay behind outputs': of one layer at a time. */
static mixt_status write_experts(report *r, mixt_error *error)
{
    const mixt_probe *probe = r->probe;
    size_t experts = (size_t)probe->experts;
    bool similar = (probe->experiments & MIXT_PROBE_NORMS) != 0;
    double *outputs = similar ? calloc(2 * experts * experts, sizeof *outputs) : NULL;
    mixt_super_bounds bounds = {0};
    mixt_status status = similar && outputs == NULL
                             ? mixt_fail(error, MIXT_ERROR_MEMORY, "probe: no memory")
                             : find_super(r, &bounds, error);
    mixt_buffer_text(r->out, ",\n \"units\": [");
    for (int layer = 0; layer < probe->layers && status == MIXT_OK; layer++) {
        double *weights = outputs + (similar ? experts * experts : 0);
        if (similar) {
            mixt_probe_output_cosines(probe, layer, outputs);
            status = mixt_probe_weight_cosines(probe, r->layers[layer], weights, error);
        }
        for (int e = 0; e < probe->experts && status == MIXT_OK; e++) {
            mixt_buffer_text(r->out, layer + e == 0 ? "" : ",");
            write_expert(r, &bounds, layer, e);
            if (similar) {
                r->cosines = outputs;
                write_nearest(r, "near_outputs", e, probe->experts);
                r->cosines = weights;
            }
            if (similar && e < probe->model->options.experts) {
                write_nearest(r, "near_weights", e, probe->model->options.experts);
            }
            mixt_buffer_text(r->out, "}");
        }
    }
    mixt_buffer_text(r->out, "]}\n");
    free(outputs);
    return status;
}

static mixt_status write_all(report *r, mixt_error *error)
{
    int64_t experiments = r->probe->experiments;
    MIXT_TRY(describe(r, error));
    if ((experiments & MIXT_PROBE_MASK) != 0) {
        write_targets(r, "mask", SUM_MASK);
    }
    if ((experiments & MIXT_PROBE_FIRST) != 0) {
        write_targets(r, "first", SUM_FIRST);
    }
    if ((experiments & MIXT_PROBE_TOP_K) != 0) {
        MIXT_TRY(write_ks(r, error));
    }
    if ((experiments & MIXT_PROBE_ROUTES) != 0) {
        write_routes(r);
    }
    if ((experiments & MIXT_PROBE_LENS) != 0) {
        write_lens(r);
    }
    if ((experiments & MIXT_PROBE_NOISE) != 0) {
        write_noise(r);
    }
    return write_experts(r, error);
}

mixt_status mixt_probe_report(const mixt_probe *probe, mixt_error *error)
{
    mixt_buffer out = {0};
    report r = {.probe = probe, .out = &out};
    r.layers = calloc((size_t)probe->layers, sizeof *r.layers);
    mixt_status status =
        r.layers == NULL ? mixt_fail(error, MIXT_ERROR_MEMORY, "probe: no memory") : MIXT_OK;
    int place = 0;
    for (int layer = 0; layer < probe->model->options.layers && status == MIXT_OK; layer++) {
        if (mixt_model_layer_is_moe(probe->model, layer)) {
            r.layers[place++] = layer;
        }
    }
    if (status == MIXT_OK) {
        status = write_all(&r, error);
    }
    if (status == MIXT_OK && out.failed) {
        status = mixt_fail(error, MIXT_ERROR_MEMORY, "probe: no memory");
    }
    if (status == MIXT_OK) {
        status = mixt_file_replace(probe->options->output, out.data, out.length, error);
    }
    free(r.layers);
    mixt_buffer_free(&out);
    return status;
}
