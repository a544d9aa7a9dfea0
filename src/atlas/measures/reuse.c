/* How long ago an expert was used before it is used again. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "atlas/measures/measures.h"
#include "core/error.h"

/* Distances up to 2^bucket, for shares; finer bins for quantiles: one for each distance up to
 * EXACT, then 128 an octave. */
enum { BUCKETS = 33, EXACT = 256, OCTAVE = 128, BINS = EXACT + 24 * OCTAVE };
enum { WITHIN_MOST = 10 }; /* 2^10 tokens are the last row */

/* Counts of uses by distance to the use before in the same document. */
typedef struct histogram {
    double bucket[BUCKETS];
    double bin[BINS];
} histogram;

typedef struct reuse {
    const mixt_measuring *m;
    histogram *groups; /* [MIXT_MEASURE_GROUPS] of the layer at work */
    histogram *use;    /* [L] expected where rows lie in any order */
    histogram *random; /* [L] */
    double *pairs;     /* [longest + 1]: pairs of a domain's tokens at a distance */
    uint64_t *last;    /* [E] token + 1 of the last use */
    uint64_t longest;  /* document, in tokens */
    double uses[MIXT_MEASURE_GROUPS];
} reuse;

static int bucket_of(uint64_t distance)
{
    return distance <= 1 ? 0 : 64 - __builtin_clzll(distance - 1);
}

static int bin_of(uint64_t distance)
{
    if (distance < EXACT) {
        return (int)distance;
    }
    int octave = 63 - __builtin_clzll(distance); /* at least 8 */
    int bin = EXACT + (octave - 8) * OCTAVE + (int)(distance >> (octave - 7) & (OCTAVE - 1));
    return bin < BINS ? bin : BINS - 1;
}

/* The first distance of a bin. */
static double bin_begin(int bin)
{
    if (bin < EXACT) {
        return bin;
    }
    int octave = (bin - EXACT) / OCTAVE;
    return ldexp(OCTAVE + (bin - EXACT) % OCTAVE, octave + 1);
}

static void count_layer(reuse *r, int layer)
{
    const mixt_trace *trace = r->m->trace;
    memset(r->groups, 0, MIXT_MEASURE_GROUPS * sizeof *r->groups);
    memset(r->last, 0, (size_t)trace->info.experts * sizeof *r->last);
    memset(r->uses, 0, sizeof r->uses);
    for (uint64_t i = 0; i < trace->info.tokens; i++) {
        const uint16_t *row = mixt_trace_experts(trace, layer, i);
        int group = r->m->group[trace->document[i]];
        uint64_t begin = trace->document_start[trace->document[i]];
        for (int c = 0; c < trace->chosen[layer]; c++) {
            if (row[c] == MIXT_TRACE_NONE) {
                continue;
            }
            uint64_t *last = &r->last[row[c]];
            if (*last > begin) {
                uint64_t distance = i + 1 - *last;
                r->groups[group].bucket[bucket_of(distance)]++;
                r->groups[group].bin[bin_of(distance)]++;
            }
            *last = i + 1;
            r->uses[group]++;
        }
    }
}

/* pairs[d] = sum over a domain's documents of max(length - d, 0), up to the longest one, which is
 * returned. */
static uint64_t count_pairs(reuse *r, int domain)
{
    const mixt_units *units = r->m->units;
    uint64_t longest = 0;
    memset(r->pairs, 0, (r->longest + 1) * sizeof *r->pairs);
    for (size_t d = 0; d < units->run_count; d++) {
        uint64_t length = units->runs[d].end - units->runs[d].begin;
        if (units->runs[d].domain == domain) {
            r->pairs[length]++;
            longest = length > longest ? length : longest;
        }
    }
    double documents = 0, pairs = 0; /* that are longer than d */
    for (uint64_t d = longest + 1; d-- > 0;) {
        double ending = r->pairs[d];
        pairs += documents;
        r->pairs[d] = pairs;
        documents += ending;
    }
    return longest;
}

/* Adds what `count` experts give that every token has with probability p by itself: two uses d
 * apart, and none between, by p^2 (1 - p)^(d - 1) of the pairs of tokens. */
static void expect(const reuse *r, double p, double count, uint64_t longest, histogram *to)
{
    double part = count * p * p;
    for (uint64_t d = 1; d < longest && part * r->pairs[d] > 1e-12; d++) {
        double expected = part * r->pairs[d];
        to->bucket[bucket_of(d)] += expected;
        to->bin[bin_of(d)] += expected;
        part *= 1 - p;
    }
}

static void expect_domain(reuse *r, int domain)
{
    const mixt_trace *trace = r->m->trace;
    int experts = trace->info.experts;
    double tokens = (double)r->m->units->tokens[domain];
    uint64_t longest = count_pairs(r, domain);
    for (int layer = 0; layer < trace->info.layers && tokens > 0; layer++) {
        const uint64_t *counts = mixt_counts_of(r->m->counts, layer, domain, MIXT_CHOICE_ANY);
        uint64_t total = mixt_counts_total(r->m->counts, layer, domain, MIXT_CHOICE_ANY);
        for (int e = 0; e < experts; e++) {
            expect(r, (double)counts[e] / tokens, 1, longest, &r->use[layer]);
        }
        expect(r, (double)total / tokens / experts, experts, longest, &r->random[layer]);
    }
}

static mixt_status begin(const mixt_measuring *m, reuse *r, mixt_error *error)
{
    size_t layers = (size_t)m->trace->info.layers;
    *r = (reuse){.m = m};
    for (size_t d = 0; d < m->units->run_count; d++) {
        uint64_t length = m->units->runs[d].end - m->units->runs[d].begin;
        r->longest = length > r->longest ? length : r->longest;
    }
    r->groups = calloc(MIXT_MEASURE_GROUPS, sizeof *r->groups);
    r->use = calloc(layers, sizeof *r->use);
    r->random = calloc(layers, sizeof *r->random);
    r->pairs = calloc(r->longest + 1, sizeof *r->pairs);
    r->last = calloc((size_t)m->trace->info.experts, sizeof *r->last);
    if (r->groups == NULL || r->use == NULL || r->random == NULL || r->pairs == NULL ||
        r->last == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "measure of reuse: no memory");
    }
    for (int domain = 0; domain < m->trace->info.domains; domain++) {
        expect_domain(r, domain);
    }
    return MIXT_OK;
}

static void end(reuse *r)
{
    free(r->groups);
    free(r->use);
    free(r->random);
    free(r->pairs);
    free(r->last);
}

/* ---- reuse: shares within so many tokens */

static const mixt_column reuse_columns[] = {
    {.name = "layer", .kind = MIXT_COLUMN_LAYER, .role = MIXT_ROLE_KEY},
    {.name = "within", .unit = "tokens", .kind = MIXT_COLUMN_COUNT, .role = MIXT_ROLE_KEY},
    {.name = "share",
     .help = "of the uses of experts, those whose expert was used so few tokens before, in the "
             "same document",
     .kind = MIXT_COLUMN_SHARE,
     .role = MIXT_ROLE_VALUE},
    {.name = "random",
     .help = "experts used alike, in any order",
     .kind = MIXT_COLUMN_SHARE,
     .role = MIXT_ROLE_RANDOM},
    {.name = "use",
     .help = "each expert as often in each domain, its tokens in any order",
     .kind = MIXT_COLUMN_SHARE,
     .role = MIXT_ROLE_USE},
    {.name = "low", .kind = MIXT_COLUMN_SHARE, .role = MIXT_ROLE_LOW},
    {.name = "high", .kind = MIXT_COLUMN_SHARE, .role = MIXT_ROLE_HIGH},
    {.name = "uses", .kind = MIXT_COLUMN_COUNT, .role = MIXT_ROLE_SUPPORT},
};
enum { REUSE_COLUMNS = sizeof reuse_columns / sizeof *reuse_columns };

static double within(const histogram *h, int bucket)
{
    double sum = 0;
    for (int b = 0; b <= bucket; b++) {
        sum += h->bucket[b];
    }
    return sum;
}

static mixt_status put_shares(reuse *r, int layer, mixt_table *table, mixt_error *error)
{
    double uses = 0;
    for (int g = 0; g < r->m->groups; g++) {
        uses += r->uses[g];
    }
    for (int b = 0; b <= WITHIN_MOST && (b == 0 || (uint64_t)1 << (b - 1) < r->longest); b++) {
        double again[MIXT_MEASURE_GROUPS], sum = 0;
        double *row = mixt_table_append(table);
        if (row == NULL) {
            return mixt_fail(error, MIXT_ERROR_MEMORY, "measure of reuse: no memory");
        }
        for (int g = 0; g < r->m->groups; g++) {
            again[g] = within(&r->groups[g], b);
            sum += again[g];
        }
        row[0] = r->m->trace->layer_numbers[layer];
        row[1] = (double)(1 << b);
        row[7] = uses;
        if (uses > 0) {
            mixt_span span = mixt_jackknife_ratio(again, r->uses, r->m->groups, 0, 1);
            row[2] = sum / uses;
            row[3] = within(&r->random[layer], b) / uses;
            row[4] = within(&r->use[layer], b) / uses;
            row[5] = span.low;
            row[6] = span.high;
        }
    }
    return MIXT_OK;
}

typedef mixt_status (*put_layer)(reuse *r, int layer, mixt_table *table, mixt_error *error);

static mixt_status fill(const mixt_measuring *m, put_layer put, mixt_table *table,
                        mixt_error *error)
{
    reuse r;
    mixt_status status = begin(m, &r, error);
    for (int layer = 0; layer < m->trace->info.layers && status == MIXT_OK; layer++) {
        count_layer(&r, layer);
        status = put(&r, layer, table, error);
    }
    end(&r);
    return status;
}

static mixt_status fill_reuse(const mixt_measuring *m, mixt_table *table, mixt_error *error)
{
    return fill(m, put_shares, table, error);
}

const mixt_measure_type mixt_measure_reuse = {
    .info = {.name = "reuse",
             .title = "Experts used again soon",
             .source = "Mattson et al. 1970 for distances of reuse; by experts e.g. 2505.16056",
             .about = "The part of the uses of experts that follow a use of the same expert, at "
                      "the same layer of the same document, within so many tokens.",
             .traces = 1},
    .columns = reuse_columns,
    .column_count = REUSE_COLUMNS,
    .fill = fill_reuse,
};

/* ---- reuse_quantiles */

static const mixt_column quantile_columns[] = {
    {.name = "layer", .kind = MIXT_COLUMN_LAYER, .role = MIXT_ROLE_KEY},
    {.name = "percent",
     .help = "of the uses that follow one in the same document",
     .kind = MIXT_COLUMN_COUNT,
     .role = MIXT_ROLE_KEY},
    {.name = "tokens",
     .help = "so many or fewer since the use before",
     .unit = "tokens",
     .kind = MIXT_COLUMN_NUMBER,
     .role = MIXT_ROLE_VALUE},
    {.name = "random",
     .help = "experts used alike, in any order",
     .kind = MIXT_COLUMN_NUMBER,
     .role = MIXT_ROLE_RANDOM},
    {.name = "use",
     .help = "each expert as often in each domain, its tokens in any order",
     .kind = MIXT_COLUMN_NUMBER,
     .role = MIXT_ROLE_USE},
    {.name = "low", .kind = MIXT_COLUMN_NUMBER, .role = MIXT_ROLE_LOW},
    {.name = "high", .kind = MIXT_COLUMN_NUMBER, .role = MIXT_ROLE_HIGH},
    {.name = "pairs", .kind = MIXT_COLUMN_COUNT, .role = MIXT_ROLE_SUPPORT},
};
enum { QUANTILE_COLUMNS = sizeof quantile_columns / sizeof *quantile_columns };

/* Of `whole` without `left_out` (NULL: nothing). A distance d is taken for anything from d - 1 to
 * d, so that the quantile is continuous. */
static double quantile(const histogram *whole, const histogram *left_out, double part)
{
    double total = 0, sum = 0;
    for (int b = 1; b < BINS; b++) {
        total += whole->bin[b] - (left_out != NULL ? left_out->bin[b] : 0);
    }
    for (int b = 1; b < BINS; b++) {
        double count = whole->bin[b] - (left_out != NULL ? left_out->bin[b] : 0);
        if (count > 0 && sum + count >= part * total) {
            double inside = (part * total - sum) / count;
            return bin_begin(b) - 1 + inside * (bin_begin(b + 1) - bin_begin(b));
        }
        sum += count;
    }
    return NAN;
}

static mixt_status put_quantiles(reuse *r, int layer, mixt_table *table, mixt_error *error)
{
    static const int percent[] = {10, 25, 50, 75, 90, 99};
    histogram *whole = calloc(1, sizeof *whole);
    double pairs = 0, of_group[MIXT_MEASURE_GROUPS] = {0};
    mixt_status status = MIXT_OK;
    for (int g = 0; g < r->m->groups && whole != NULL; g++) {
        for (int b = 0; b < BINS; b++) {
            whole->bin[b] += r->groups[g].bin[b];
            of_group[g] += r->groups[g].bin[b];
        }
        pairs += of_group[g];
    }
    for (size_t i = 0; i < sizeof percent / sizeof *percent && status == MIXT_OK; i++) {
        double without[MIXT_MEASURE_GROUPS], part = percent[i] / 100.0;
        int groups = 0;
        double *row = whole != NULL ? mixt_table_append(table) : NULL;
        if (row == NULL) {
            status = mixt_fail(error, MIXT_ERROR_MEMORY, "measure of reuse: no memory");
            break;
        }
        for (int g = 0; g < r->m->groups; g++) {
            if (of_group[g] > 0 && of_group[g] < pairs) {
                without[groups++] = quantile(whole, &r->groups[g], part);
            }
        }
        row[0] = r->m->trace->layer_numbers[layer];
        row[1] = percent[i];
        row[2] = quantile(whole, NULL, part);
        row[3] = quantile(&r->random[layer], NULL, part);
        row[4] = quantile(&r->use[layer], NULL, part);
        mixt_span span = mixt_jackknife(row[2], without, groups, 0, (double)r->longest);
        row[5] = span.low;
        row[6] = span.high;
        row[7] = pairs;
    }
    free(whole);
    return status;
}

static mixt_status fill_quantiles(const mixt_measuring *m, mixt_table *table, mixt_error *error)
{
    return fill(m, put_quantiles, table, error);
}

const mixt_measure_type mixt_measure_reuse_quantiles = {
    .info = {.name = "reuse_quantiles",
             .title = "Tokens until an expert is used again",
             .source = "Mattson et al. 1970 for distances of reuse; by experts e.g. 2505.16056",
             .about = "Quantiles of the number of tokens from one use of an expert to the next at "
                      "the same layer of the same document.",
             .traces = 1},
    .columns = quantile_columns,
    .column_count = QUANTILE_COLUMNS,
    .fill = fill_quantiles,
};
