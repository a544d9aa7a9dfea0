/* How far what experts take is the same in one half of the documents and in the other. */
#include <math.h>
#include <stdlib.h>

#include "atlas/measures/profile.h"
#include "atlas/token_class.h"
#include "core/error.h"
#include "core/random.h"

#define LEAST_GROUPS 4

static const char *const profile_words[] = {"domains", "classes", NULL};

static const mixt_column columns[] = {
    {.name = "layer", .kind = MIXT_COLUMN_LAYER, .role = MIXT_ROLE_KEY},
    {.name = "profile",
     .help = "experts by what",
     .kind = MIXT_COLUMN_WORD,
     .role = MIXT_ROLE_KEY,
     .words = profile_words},
    {.name = "reliability",
     .help = "2 r / (1 + r): 1 where halves of the documents agree",
     .kind = MIXT_COLUMN_NUMBER,
     .role = MIXT_ROLE_VALUE},
    {.name = "random",
     .help = "of experts that do not look",
     .kind = MIXT_COLUMN_NUMBER,
     .role = MIXT_ROLE_RANDOM},
    {.name = "low", .kind = MIXT_COLUMN_NUMBER, .role = MIXT_ROLE_LOW},
    {.name = "high", .kind = MIXT_COLUMN_NUMBER, .role = MIXT_ROLE_HIGH},
    {.name = "halves",
     .help = "correlation r of two halves, mean over splits",
     .kind = MIXT_COLUMN_NUMBER,
     .role = MIXT_ROLE_EFFECT},
    {.name = "cells",
     .help = "experts by categories with tokens",
     .kind = MIXT_COLUMN_COUNT,
     .role = MIXT_ROLE_SUPPORT},
};
enum { LAYER, PROFILE, RELIABILITY, RANDOM, LOW, HIGH, HALVES, CELLS, COLUMNS };

/* Sums of one half of the groups. */
typedef struct half {
    double *count, *level; /* [categories, E] */
    double *tokens;        /* [categories] */
    double *chosen;        /* [E] */
    double all;            /* tokens */
} half;

typedef struct halves {
    mixt_profile profile;
    half of[2];
} halves;

static bool make_half(const mixt_profile *p, half *h)
{
    h->count = calloc(p->categories * p->experts, sizeof *h->count);
    h->level = calloc(p->categories * p->experts, sizeof *h->level);
    h->tokens = calloc(p->categories, sizeof *h->tokens);
    h->chosen = calloc(p->experts, sizeof *h->chosen);
    return h->count != NULL && h->level != NULL && h->tokens != NULL && h->chosen != NULL;
}

static void release_half(half *h)
{
    free(h->count);
    free(h->level);
    free(h->tokens);
    free(h->chosen);
}

/* side [groups]: 0, 1, or -1 for none. */
static void sum_halves(halves *s, const int *side)
{
    const mixt_profile *p = &s->profile;
    size_t cells = p->categories * p->experts;
    for (int which = 0; which < 2; which++) {
        half *h = &s->of[which];
        h->all = 0;
        for (size_t e = 0; e < p->experts; e++) {
            h->chosen[e] = 0;
        }
        for (size_t i = 0; i < cells; i++) {
            h->count[i] = h->level[i] = 0;
            for (int g = 0; g < p->groups; g++) {
                bool in = side[g] == which;
                h->count[i] += in ? p->count[(size_t)g * cells + i] : 0;
                h->level[i] += in && p->level != NULL ? p->level[(size_t)g * cells + i] : 0;
            }
            h->chosen[i % p->experts] += h->count[i];
        }
        for (size_t c = 0; c < p->categories; c++) {
            h->tokens[c] = 0;
            for (int g = 0; g < p->groups; g++) {
                h->tokens[c] += side[g] == which ? p->tokens[(size_t)g * p->categories + c] : 0;
            }
            h->all += h->tokens[c];
        }
    }
}

/* How far a cell's share lies from its level. */
static double deviation(const mixt_profile *p, const half *h, size_t category, size_t expert)
{
    size_t at = category * p->experts + expert;
    double level =
        p->level != NULL ? h->level[at] / h->tokens[category] : h->chosen[expert] / h->all;
    return h->count[at] / h->tokens[category] - level;
}

/* Correlation of both halves' deviations over cells, each with the weight of its category's tokens;
 * NaN where one of them is the same everywhere. */
static double correlate(const halves *s, double *cells)
{
    const mixt_profile *p = &s->profile;
    double weights = 0, x = 0, y = 0, xx = 0, yy = 0, xy = 0;
    *cells = 0;
    for (size_t c = 0; c < p->categories; c++) {
        if (s->of[0].tokens[c] == 0 || s->of[1].tokens[c] == 0) {
            continue;
        }
        double weight = s->of[0].tokens[c] + s->of[1].tokens[c];
        for (size_t e = 0; e < p->experts; e++) {
            double a = deviation(p, &s->of[0], c, e), b = deviation(p, &s->of[1], c, e);
            ++*cells;
            weights += weight;
            x += weight * a;
            y += weight * b;
            xx += weight * a * a;
            yy += weight * b * b;
            xy += weight * a * b;
        }
    }
    double spread = (xx - x * x / weights) * (yy - y * y / weights);
    return spread > 1e-24 * weights * weights ? (xy - x * y / weights) / sqrt(spread) : NAN;
}

/* Mean over random splits of the groups without one of them (-1: of all). */
static double mean_correlation(halves *s, int without, double *cells)
{
    const mixt_measuring *m = s->profile.m;
    int groups = s->profile.groups;
    double sum = 0;
    for (int split = 0; split < m->shuffles; split++) {
        mixt_random_key key = {m->seed, MIXT_RANDOM_RESAMPLE, (uint32_t)split};
        int side[MIXT_MEASURE_GROUPS] = {0};
        for (int i = 0; i < groups; i++) {
            int g = (int)mixt_random_permute(&key, (uint64_t)i, (uint64_t)groups);
            side[g] = g == without ? -1 : i % 2; /* the others stay where they are */
        }
        sum_halves(s, side);
        sum += correlate(s, cells);
    }
    return sum / m->shuffles;
}

/* Spearman 1910, Brown 1910: of twice as much text. */
static double lengthen(double r)
{
    return 2 * r / (1 + r);
}

static mixt_status add_layer(halves *s, int layer, int profile, mixt_table *table,
                             mixt_error *error)
{
    double *row = mixt_table_append(table);
    if (row == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "measure reliability: no memory");
    }
    row[LAYER] = s->profile.m->trace->layer_numbers[layer];
    row[PROFILE] = profile;
    row[RANDOM] = 0;
    int groups = s->profile.groups;
    if (groups < LEAST_GROUPS) {
        return MIXT_OK;
    }
    mixt_profile_count(&s->profile, layer);
    double without[MIXT_MEASURE_GROUPS], cells;
    for (int g = 0; g < groups; g++) {
        without[g] = lengthen(mean_correlation(s, g, &cells));
    }
    row[HALVES] = mean_correlation(s, -1, &cells);
    row[RELIABILITY] = lengthen(row[HALVES]);
    row[CELLS] = cells;
    mixt_span span = mixt_jackknife(row[RELIABILITY], without, groups, -INFINITY, 1);
    if (!isnan(row[RELIABILITY]) && isfinite(span.low)) {
        row[LOW] = span.low;
        row[HIGH] = span.high;
    }
    return MIXT_OK;
}

static mixt_status fill_profile(const mixt_measuring *m, int profile, const uint16_t *category,
                                size_t categories, mixt_table *table, mixt_error *error)
{
    halves s = {.of = {{0}}};
    MIXT_TRY(mixt_profile_make(m, category, categories, profile == 1, &s.profile, error));
    mixt_status status = MIXT_OK;
    if (!make_half(&s.profile, &s.of[0]) || !make_half(&s.profile, &s.of[1])) {
        status = mixt_fail(error, MIXT_ERROR_MEMORY, "measure reliability: no memory");
    }
    for (int layer = 0; layer < m->trace->info.layers && status == MIXT_OK; layer++) {
        status = add_layer(&s, layer, profile, table, error);
    }
    release_half(&s.of[0]);
    release_half(&s.of[1]);
    mixt_profile_release(&s.profile);
    return status;
}

static mixt_status fill(const mixt_measuring *m, mixt_table *table, mixt_error *error)
{
    uint16_t *classes = mixt_profile_classes(m->trace);
    mixt_status status =
        classes != NULL ? MIXT_OK
                        : mixt_fail(error, MIXT_ERROR_MEMORY, "measure reliability: no memory");
    if (status == MIXT_OK) {
        status = fill_profile(m, 0, m->trace->domain, (size_t)m->trace->info.domains, table, error);
    }
    if (status == MIXT_OK) {
        status = fill_profile(m, 1, classes, MIXT_CLASS_COUNT, table, error);
    }
    if (m->groups < LEAST_GROUPS) {
        mixt_buffer_format(&table->note, "Fewer than %d documents: no halves. ", LEAST_GROUPS);
    }
    free(classes);
    return status;
}

const mixt_measure_type mixt_measure_reliability = {
    .info = {.name = "reliability",
             .title = "How far halves of the documents agree",
             .source = "split-half reliability, Spearman 1910, Brown 1910",
             .about = "Correlation, between random halves of the documents, of how far experts "
                      "prefer domains and classes, for as much text as the whole.",
             .traces = 1},
    .columns = columns,
    .column_count = COLUMNS,
    .fill = fill,
};
