/* How alike documents of a domain are in the experts they use, against documents of other domains.
 * All of it comes from one matrix of cosines between documents, so their number is bounded. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "atlas/measures/measures.h"
#include "atlas/statistics.h"
#include "core/error.h"
#include "core/random.h"

#define DOCUMENTS_MOST 512 /* of which cosines are taken */
#define DOMAINS_MOST (DOCUMENTS_MOST / 2)
#define LOAD_ROWS ((uint64_t)1 << 25) /* moved for the load level, over all draws */

static const mixt_column columns[] = {
    {.name = "layer", .kind = MIXT_COLUMN_LAYER, .role = MIXT_ROLE_KEY},
    {.name = "separation",
     .help = "mean cosine of two documents of one domain less that of two domains",
     .kind = MIXT_COLUMN_NUMBER,
     .role = MIXT_ROLE_VALUE},
    {.name = "random",
     .help = "uniform choices: 0",
     .kind = MIXT_COLUMN_NUMBER,
     .role = MIXT_ROLE_RANDOM},
    {.name = "use",
     .help = "domains dealt anew to the documents",
     .kind = MIXT_COLUMN_NUMBER,
     .role = MIXT_ROLE_USE},
    {.name = "low", .kind = MIXT_COLUMN_NUMBER, .role = MIXT_ROLE_LOW},
    {.name = "high", .kind = MIXT_COLUMN_NUMBER, .role = MIXT_ROLE_HIGH},
    {.name = "p", .kind = MIXT_COLUMN_NUMBER, .role = MIXT_ROLE_P},
    {.name = "q", .kind = MIXT_COLUMN_NUMBER, .role = MIXT_ROLE_Q},
    {.name = "effect",
     .help = "Cohen's d: the separation over the pooled standard deviation of the cosines",
     .kind = MIXT_COLUMN_NUMBER,
     .role = MIXT_ROLE_EFFECT},
    {.name = "within",
     .help = "mean cosine of two documents of one domain",
     .kind = MIXT_COLUMN_NUMBER,
     .role = MIXT_ROLE_VALUE,
     .group = 1},
    {.name = "within_use",
     .help = "of any two, when tokens change places over the whole trace: all load, no structure",
     .kind = MIXT_COLUMN_NUMBER,
     .role = MIXT_ROLE_USE,
     .group = 1},
    {.name = "between",
     .help = "mean cosine of documents of two domains",
     .kind = MIXT_COLUMN_NUMBER,
     .role = MIXT_ROLE_VALUE,
     .group = 2},
    {.name = "between_use",
     .help = "as within_use",
     .kind = MIXT_COLUMN_NUMBER,
     .role = MIXT_ROLE_USE,
     .group = 2},
    {.name = "accuracy",
     .help = "documents whose domain is that of the nearest centroid, made without them",
     .kind = MIXT_COLUMN_SHARE,
     .role = MIXT_ROLE_VALUE,
     .group = 3},
    {.name = "accuracy_random",
     .help = "one of the domains",
     .kind = MIXT_COLUMN_SHARE,
     .role = MIXT_ROLE_RANDOM,
     .group = 3},
    {.name = "accuracy_use",
     .help = "domains dealt anew to the documents",
     .kind = MIXT_COLUMN_SHARE,
     .role = MIXT_ROLE_USE,
     .group = 3},
    {.name = "accuracy_low", .kind = MIXT_COLUMN_SHARE, .role = MIXT_ROLE_LOW, .group = 3},
    {.name = "accuracy_high", .kind = MIXT_COLUMN_SHARE, .role = MIXT_ROLE_HIGH, .group = 3},
    {.name = "accuracy_p", .kind = MIXT_COLUMN_NUMBER, .role = MIXT_ROLE_P, .group = 3},
    {.name = "accuracy_q", .kind = MIXT_COLUMN_NUMBER, .role = MIXT_ROLE_Q, .group = 3},
    {.name = "documents", .kind = MIXT_COLUMN_COUNT, .role = MIXT_ROLE_SUPPORT},
};
enum {
    LAYER,
    SEPARATION,
    RANDOM,
    USE,
    LOW,
    HIGH,
    P,
    Q,
    EFFECT,
    WITHIN,
    WITHIN_USE,
    BETWEEN,
    BETWEEN_USE,
    ACCURACY,
    ACCURACY_RANDOM,
    ACCURACY_USE,
    ACCURACY_LOW,
    ACCURACY_HIGH,
    ACCURACY_P,
    ACCURACY_Q,
    DOCUMENTS,
    COLUMNS
};

/* Cosines of documents [count, count], rows of those that are there. */
typedef struct cosines {
    double *value;
    const bool *there; /* [count] has choices at the layer */
} cosines;

typedef struct comparer {
    const mixt_measuring *m;
    int count, domains;
    size_t *document; /* [count] taken */
    int *domain;      /* [count] */
    int *dealt;       /* [count] domains dealt anew */
    bool *there;      /* [count] at this layer */
    bool *always;     /* [count] at every layer */
    double *unit;     /* [count, E] use of experts, scaled to length 1 */
    double *cosine;   /* [count, count] of this layer */
    double *sum;      /* [count, count] over the layers */
    double *to;       /* [domains] one document's products with the domains' sums */
    double *length;   /* [domains] squares of the domains' sums */
    int *members;     /* [domains] */
    double *draws;    /* [2, shuffles] separation, accuracy */
    double load;      /* mean cosine under the load level, this layer's */
    double load_sum;
    int load_draws;
} comparer;

/* What the cosines of pairs say, under some domains of the documents. */
typedef struct pairs {
    double sum[2], squares[2], count[2]; /* of two domains, of one */
} pairs;

/* -- Documents ------------------------------------------------------------------------------ */

/* At most so many of each domain, spread evenly over it. */
static void take_documents(comparer *s)
{
    const mixt_units *units = s->m->units;
    int domains = units->domains < DOMAINS_MOST ? units->domains : DOMAINS_MOST;
    uint64_t most = (uint64_t)(DOCUMENTS_MOST / domains);
    if (units->run_count <= DOCUMENTS_MOST) {
        most = DOCUMENTS_MOST;
    }
    s->domains = domains;
    for (int d = 0; d < domains; d++) {
        uint64_t all = units->documents[d], taken = all < most ? all : most, at = 0, next = 0;
        for (size_t r = 0; r < units->run_count && next < taken; r++) {
            if (units->runs[r].domain == d && at++ == next * all / taken) {
                s->document[s->count] = r;
                s->domain[s->count++] = d;
                next++;
            }
        }
    }
}

/* Use of experts by each document, of length 1. from: NULL, or another order of the tokens. */
static void count_use(comparer *s, int layer, const mixt_random_key *from)
{
    const mixt_trace *trace = s->m->trace;
    size_t experts = (size_t)trace->info.experts;
    memset(s->unit, 0, (size_t)s->count * experts * sizeof *s->unit);
    for (int i = 0; i < s->count; i++) {
        double *unit = s->unit + (size_t)i * experts, square = 0;
        const mixt_unit_run *run = &s->m->units->runs[s->document[i]];
        for (uint64_t t = run->begin; t < run->end; t++) {
            uint64_t at = from != NULL ? mixt_random_permute(from, t, trace->info.tokens) : t;
            const uint16_t *row = mixt_trace_experts(trace, layer, at);
            for (int c = 0; c < trace->chosen[layer]; c++) {
                if (row[c] != MIXT_TRACE_NONE) {
                    unit[row[c]] += 1;
                }
            }
        }
        for (size_t e = 0; e < experts; e++) {
            square += unit[e] * unit[e];
        }
        for (size_t e = 0; e < experts && square > 0; e++) {
            unit[e] /= sqrt(square);
        }
        if (from == NULL) {
            s->there[i] = square > 0;
            s->always[i] = s->always[i] && s->there[i];
        }
    }
}

/* Four sums at once: without them each product waits for the one before. */
static double product(const double *a, const double *b, size_t count)
{
    double sum[4] = {0};
    size_t i = 0;
    for (; i + 4 <= count; i += 4) {
        for (size_t j = 0; j < 4; j++) {
            sum[j] += a[i + j] * b[i + j];
        }
    }
    for (; i < count; i++) {
        sum[0] += a[i] * b[i];
    }
    return sum[0] + sum[1] + (sum[2] + sum[3]);
}

static void take_cosines(comparer *s)
{
    size_t experts = (size_t)s->m->trace->info.experts, count = (size_t)s->count;
    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j <= i; j++) {
            double value = product(s->unit + i * experts, s->unit + j * experts, experts);
            s->cosine[i * count + j] = s->cosine[j * count + i] = value;
            s->sum[i * count + j] += value;
            s->sum[j * count + i] += j < i ? value : 0;
        }
    }
}

/* Mean cosine of any two documents when whole rows of experts change places over the trace: by
 * the square of the sum of all. */
static void measure_load(comparer *s, int layer)
{
    size_t experts = (size_t)s->m->trace->info.experts;
    double mean = 0;
    for (int draw = 0; draw < s->load_draws; draw++) {
        mixt_random_key key = {s->m->seed + ((uint64_t)layer << 32), MIXT_RANDOM_RESAMPLE,
                               (uint32_t)draw + 1};
        double square = 0, own = 0;
        count_use(s, layer, &key);
        for (size_t e = 0; e < experts; e++) {
            double sum = 0;
            for (size_t i = 0; i < (size_t)s->count; i++) {
                double value = s->unit[i * experts + e];
                sum += value;
                own += value * value;
            }
            square += sum * sum;
        }
        mean += own > 1.5 ? (square - own) / (own * (own - 1)) / s->load_draws : NAN;
    }
    s->load = mean;
    s->load_sum += mean / s->m->trace->info.layers;
}

/* -- What cosines say ----------------------------------------------------------------------- */

/* without: a group of documents that is left out; -1: none. */
static pairs compare(const comparer *s, const cosines *of, const int *domain, int without)
{
    pairs found = {{0}, {0}, {0}};
    for (size_t i = 0; i < (size_t)s->count; i++) {
        if (!of->there[i] || s->m->group[s->document[i]] == without) {
            continue;
        }
        for (size_t j = 0; j < i; j++) {
            if (of->there[j] && s->m->group[s->document[j]] != without) {
                double value = of->value[i * (size_t)s->count + j];
                int same = domain[i] == domain[j];
                found.sum[same] += value;
                found.squares[same] += value * value;
                found.count[same] += 1;
            }
        }
    }
    return found;
}

static double separation(const pairs *of)
{
    return of->sum[1] / of->count[1] - of->sum[0] / of->count[0]; /* NaN where there are none */
}

static double effect(const pairs *of)
{
    double squares = 0;
    for (int i = 0; i < 2; i++) {
        squares += of->squares[i] - of->sum[i] * of->sum[i] / of->count[i];
    }
    double freedom = of->count[0] + of->count[1] - 2;
    double deviation = freedom > 0 ? sqrt(fmax(0, squares) / freedom) : 0;
    return deviation > 1e-12 ? separation(of) / deviation : NAN;
}

/* Documents [of those tried] whose domain's centroid, without them, is nearest. */
static int classify(comparer *s, const cosines *of, const int *domain, int *tried)
{
    size_t count = (size_t)s->count;
    int right = 0;
    *tried = 0;
    memset(s->length, 0, (size_t)s->domains * sizeof *s->length);
    memset(s->members, 0, (size_t)s->domains * sizeof *s->members);
    for (size_t i = 0; i < count; i++) {
        s->members[domain[i]] += of->there[i];
        for (size_t j = 0; j < count && of->there[i]; j++) {
            s->length[domain[i]] +=
                of->there[j] && domain[i] == domain[j] ? of->value[i * count + j] : 0;
        }
    }
    for (size_t i = 0; i < count; i++) {
        if (!of->there[i] || s->members[domain[i]] < 2) {
            continue;
        }
        memset(s->to, 0, (size_t)s->domains * sizeof *s->to);
        for (size_t j = 0; j < count; j++) {
            s->to[domain[j]] += of->there[j] && j != i ? of->value[i * count + j] : 0;
        }
        int best = -1;
        double most = -1;
        for (int d = 0; d < s->domains; d++) {
            double own = d == domain[i] ? 2 * s->to[d] + of->value[i * count + i] : 0;
            double cosine = s->to[d] / sqrt(s->length[d] - own);
            if (s->members[d] > 0 && cosine > most) {
                most = cosine;
                best = d;
            }
        }
        right += best == domain[i];
        ++*tried;
    }
    return right;
}

/* Domains change places among the documents that are there. */
static void deal(comparer *s, const cosines *of, int draw)
{
    mixt_random_key key = {s->m->seed, MIXT_RANDOM_RESAMPLE, (uint32_t)draw + 1};
    uint64_t there = 0;
    for (int i = 0; i < s->count; i++) {
        there += of->there[i];
    }
    int *list = s->dealt; /* the domains of those there, then dealt in place */
    uint64_t at = 0;
    for (int i = 0; i < s->count; i++) {
        if (of->there[i]) {
            list[at++] = s->domain[i];
        }
    }
    for (uint64_t i = there; i-- > 1;) {
        uint64_t j = mixt_random_below(&key, i, i + 1);
        int domain = list[i];
        list[i] = list[j];
        list[j] = domain;
    }
    for (int i = s->count; i-- > 0;) { /* from behind: list[at] lies at or before i */
        s->dealt[i] = of->there[i] ? list[--at] : s->domain[i];
    }
}

static void measure_accuracy(comparer *s, const cosines *of, double *row)
{
    int tried, with = 0;
    int right = classify(s, of, s->domain, &tried);
    for (int d = 0; d < s->domains; d++) {
        with += s->members[d] > 0;
    }
    if (tried == 0 || with < 2) {
        return;
    }
    row[ACCURACY] = (double)right / tried;
    row[ACCURACY_RANDOM] = 1.0 / with;
    mixt_wilson(right, tried, &row[ACCURACY_LOW], &row[ACCURACY_HIGH]);
}

static void measure(comparer *s, const cosines *of, double load, double *row)
{
    const mixt_measuring *m = s->m;
    double without[MIXT_MEASURE_GROUPS];
    int groups = 0, tried;
    pairs seen = compare(s, of, s->domain, -1);
    row[DOCUMENTS] = 0;
    for (int i = 0; i < s->count; i++) {
        row[DOCUMENTS] += of->there[i];
    }
    row[WITHIN] = seen.sum[1] / seen.count[1];
    row[BETWEEN] = seen.sum[0] / seen.count[0];
    row[WITHIN_USE] = row[BETWEEN_USE] = load;
    row[SEPARATION] = separation(&seen);
    if (isnan(row[SEPARATION])) {
        return;
    }
    row[RANDOM] = 0;
    row[EFFECT] = effect(&seen);
    for (int g = 0; g < m->groups; g++) {
        pairs less = compare(s, of, s->domain, g);
        without[groups] = separation(&less);
        groups += !isnan(without[groups]);
    }
    mixt_span span = mixt_jackknife(row[SEPARATION], without, groups, -1, 1);
    row[LOW] = span.low;
    row[HIGH] = span.high;
    measure_accuracy(s, of, row);
    double *accuracy = s->draws + m->shuffles;
    for (int draw = 0; draw < m->shuffles; draw++) {
        deal(s, of, draw);
        pairs dealt = compare(s, of, s->dealt, -1);
        s->draws[draw] = separation(&dealt);
        int right = classify(s, of, s->dealt, &tried);
        accuracy[draw] = tried > 0 ? (double)right / tried : 0;
    }
    row[USE] = mixt_draws_mean(s->draws, m->shuffles);
    row[P] = mixt_draws_p(s->draws, m->shuffles, row[SEPARATION] - 1e-12);
    if (!isnan(row[ACCURACY])) {
        row[ACCURACY_USE] = mixt_draws_mean(accuracy, m->shuffles);
        row[ACCURACY_P] = mixt_draws_p(accuracy, m->shuffles, row[ACCURACY]);
    }
}

/* -- The table ------------------------------------------------------------------------------ */

static mixt_status measure_layers(comparer *s, mixt_table *table, mixt_error *error)
{
    const mixt_trace *trace = s->m->trace;
    size_t cells = (size_t)s->count * (size_t)s->count;
    for (int layer = 0; layer <= trace->info.layers; layer++) {
        bool all = layer == trace->info.layers;
        double *row = mixt_table_append(table);
        if (row == NULL) {
            return mixt_fail(error, MIXT_ERROR_MEMORY, "measure signatures: no memory");
        }
        row[LAYER] = all ? -1 : trace->layer_numbers[layer];
        if (!all) {
            count_use(s, layer, NULL);
            take_cosines(s);
            measure_load(s, layer);
        }
        for (size_t i = 0; i < cells && all; i++) {
            s->sum[i] /= trace->info.layers;
        }
        const cosines of = {all ? s->sum : s->cosine, all ? s->always : s->there};
        measure(s, &of, all ? s->load_sum : s->load, row);
    }
    table->draws = s->m->shuffles;
    return mixt_table_discover(table, error);
}

static void say(const comparer *s, mixt_table *table)
{
    const double *row = table->cells + (table->rows - 1) * COLUMNS;
    if ((size_t)s->count < s->m->units->run_count) {
        mixt_buffer_format(&table->note,
                           "Of %zu documents %d are compared, spread over %d domains. ",
                           s->m->units->run_count, s->count, s->domains);
    }
    if (isnan(row[SEPARATION])) {
        mixt_buffer_format(&table->note,
                           "Nothing separates: it takes two domains, one of two documents.");
        return;
    }
    mixt_buffer_format(&table->note,
                       "Two documents of one domain have a cosine of %.3f, of two domains %.3f; "
                       "%.3f is what the load alone gives.",
                       row[WITHIN], row[BETWEEN], row[WITHIN_USE]);
    if (!isnan(row[ACCURACY])) {
        mixt_buffer_format(&table->note,
                           " The routes alone tell the domain of %.1f %% of the documents (dealt "
                           "anew: %.1f %%).",
                           100 * row[ACCURACY], 100 * row[ACCURACY_USE]);
    }
}

static void release(comparer *s)
{
    free(s->document);
    free(s->domain);
    free(s->dealt);
    free(s->there);
    free(s->always);
    free(s->unit);
    free(s->cosine);
    free(s->sum);
    free(s->to);
    free(s->length);
    free(s->members);
    free(s->draws);
}

static bool allocate(comparer *s)
{
    const mixt_trace *trace = s->m->trace;
    size_t most =
        trace->info.documents < DOCUMENTS_MOST ? (size_t)trace->info.documents : DOCUMENTS_MOST;
    s->document = calloc(most, sizeof *s->document);
    s->domain = calloc(most, sizeof *s->domain);
    s->dealt = calloc(most, sizeof *s->dealt);
    s->there = calloc(most, sizeof *s->there);
    s->always = calloc(most, sizeof *s->always);
    s->unit = calloc(most * (size_t)trace->info.experts, sizeof *s->unit);
    s->cosine = calloc(most * most, sizeof *s->cosine);
    s->sum = calloc(most * most, sizeof *s->sum);
    s->to = calloc(DOMAINS_MOST, sizeof *s->to);
    s->length = calloc(DOMAINS_MOST, sizeof *s->length);
    s->members = calloc(DOMAINS_MOST, sizeof *s->members);
    s->draws = calloc(2 * (size_t)s->m->shuffles, sizeof *s->draws);
    return s->document != NULL && s->domain != NULL && s->dealt != NULL && s->there != NULL &&
           s->always != NULL && s->unit != NULL && s->cosine != NULL && s->sum != NULL &&
           s->to != NULL && s->length != NULL && s->members != NULL && s->draws != NULL;
}

static mixt_status fill(const mixt_measuring *m, mixt_table *table, mixt_error *error)
{
    comparer s = {.m = m};
    mixt_status status = MIXT_OK;
    if (!allocate(&s)) {
        status = mixt_fail(error, MIXT_ERROR_MEMORY, "measure signatures: no memory");
    } else {
        take_documents(&s);
        uint64_t rows = 0;
        for (int i = 0; i < s.count; i++) {
            const mixt_unit_run *run = &m->units->runs[s.document[i]];
            rows += run->end - run->begin;
            s.always[i] = true;
        }
        uint64_t draws = LOAD_ROWS / ((rows + 1) * (uint64_t)m->trace->info.layers) + 1;
        s.load_draws = draws < (uint64_t)m->shuffles ? (int)draws : m->shuffles;
        status = measure_layers(&s, table, error);
    }
    if (status == MIXT_OK) {
        say(&s, table);
    }
    release(&s);
    return status;
}

const mixt_measure_type mixt_measure_signatures = {
    .info = {.name = "signatures",
             .title = "Routing signatures of documents",
             .source = "Avinash 2026, 2603.11114",
             .about = "How much more alike two documents of one domain are than two of different "
                      "ones in the experts that they use, and how often this use tells the domain.",
             .traces = 1},
    .drawing = MIXT_DRAWS_CHOICES,
    .columns = columns,
    .column_count = COLUMNS,
    .fill = fill,
};
