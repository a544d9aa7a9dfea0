/* How differently domains are routed, the domains taken as languages. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "atlas/measures/measures.h"
#include "core/error.h"
#include "core/random.h"

#define ALL_PAIRS_DOMAINS 24 /* with more, each domain stands beside all others together */
#define LOTS_MOST 64         /* of a domain's documents, that are dealt anew */
#define LOT_CELLS ((size_t)1 << 23)

static const mixt_column columns[] = {
    {.name = "layer", .kind = MIXT_COLUMN_LAYER, .role = MIXT_ROLE_KEY},
    {.name = "domain", .kind = MIXT_COLUMN_DOMAIN, .role = MIXT_ROLE_KEY},
    {.name = "other",
     .help = "-1: all others together",
     .kind = MIXT_COLUMN_DOMAIN,
     .role = MIXT_ROLE_KEY},
    {.name = "divergence",
     .help = "of the mean router weights, by what their entropies leave free",
     .kind = MIXT_COLUMN_NUMBER,
     .role = MIXT_ROLE_VALUE},
    {.name = "use",
     .help = "the same when documents are dealt anew to both",
     .kind = MIXT_COLUMN_NUMBER,
     .role = MIXT_ROLE_USE},
    {.name = "low", .kind = MIXT_COLUMN_NUMBER, .role = MIXT_ROLE_LOW},
    {.name = "high", .kind = MIXT_COLUMN_NUMBER, .role = MIXT_ROLE_HIGH},
    {.name = "p", .help = "deals that reach it", .kind = MIXT_COLUMN_NUMBER, .role = MIXT_ROLE_P},
    {.name = "q", .help = "over all rows", .kind = MIXT_COLUMN_NUMBER, .role = MIXT_ROLE_Q},
    {.name = "plain",
     .help = "Jensen-Shannon divergence",
     .unit = "bits",
     .kind = MIXT_COLUMN_NUMBER,
     .role = MIXT_ROLE_EFFECT},
    {.name = "documents", .kind = MIXT_COLUMN_COUNT, .role = MIXT_ROLE_SUPPORT},
};
enum { LAYER, DOMAIN, OTHER, VALUE, USE, LOW, HIGH, P, Q, PLAIN, DOCUMENTS, COLUMNS };

/* Documents of a domain and a group, some together: the sum of their mean weights. */
typedef struct lot {
    uint16_t domain;
    uint8_t group;
    double documents;
} lot;

typedef struct languages {
    const mixt_measuring *m;
    size_t experts, lots;
    uint32_t *lot_of; /* [documents] */
    lot *lot;         /* [lots] */
    double *weight;   /* [lots, E] */
    double *room;     /* [3, E]: a document's, and two domains' */
    uint32_t *both;   /* [lots] those of two domains */
} languages;

static void release(languages *v)
{
    free(v->lot_of);
    free(v->lot);
    free(v->weight);
    free(v->room);
    free(v->both);
}

/* Document i of a domain goes into its lot i modulo its lots: groups take turns as lots do, so a
 * lot holds documents of one group where there are as many lots as groups, or a multiple. */
static mixt_status make(const mixt_measuring *m, languages *v, mixt_error *error)
{
    const mixt_units *units = m->units;
    size_t experts = (size_t)m->trace->info.experts, domains = (size_t)units->domains;
    size_t most = LOT_CELLS / (experts * domains);
    most = most < 1 ? 1 : most > LOTS_MOST ? LOTS_MOST : most;
    most = most > MIXT_MEASURE_GROUPS ? most / MIXT_MEASURE_GROUPS * MIXT_MEASURE_GROUPS : most;
    *v = (languages){.m = m, .experts = experts};
    size_t *begin = calloc(domains + 1, sizeof *begin);
    uint64_t *next = calloc(domains, sizeof *next);
    v->lot_of = calloc((size_t)m->trace->info.documents, sizeof *v->lot_of);
    bool made = begin != NULL && next != NULL && v->lot_of != NULL;
    for (size_t d = 0; d < domains && made; d++) {
        begin[d + 1] = begin[d] + (units->documents[d] < most ? units->documents[d] : most);
    }
    if (made) {
        v->lots = begin[domains];
        v->lot = calloc(v->lots, sizeof *v->lot);
        v->weight = calloc(v->lots * experts, sizeof *v->weight);
        v->room = calloc(3 * experts, sizeof *v->room);
        v->both = calloc(v->lots, sizeof *v->both);
        made = v->lot != NULL && v->weight != NULL && v->room != NULL && v->both != NULL;
    }
    for (size_t d = 0; d < units->run_count && made; d++) {
        size_t domain = units->runs[d].domain;
        size_t at = begin[domain] + next[domain]++ % (begin[domain + 1] - begin[domain]);
        v->lot_of[d] = (uint32_t)at;
        v->lot[at].domain = (uint16_t)domain;
        v->lot[at].group = m->group[d];
    }
    free(begin);
    free(next);
    if (!made) {
        release(v);
        return mixt_fail(error, MIXT_ERROR_MEMORY, "measure languages: no memory");
    }
    return MIXT_OK;
}

/* Adds a token's router weights: the softmax of its logits, or the weights of the chosen experts by
 * their sum. Returns false where it has none. */
static bool add_token(const mixt_trace *trace, int layer, uint64_t token, double *sum)
{
    size_t experts = (size_t)trace->info.experts;
    double total = 0;
    if (trace->logits != NULL) {
        const uint16_t *logits =
            trace->logits + ((uint64_t)layer * trace->info.tokens + token) * experts;
        double most = -INFINITY;
        for (size_t e = 0; e < experts; e++) {
            most = fmax(most, mixt_trace_weight(logits[e]));
        }
        for (size_t e = 0; e < experts; e++) {
            total += exp(mixt_trace_weight(logits[e]) - most);
        }
        for (size_t e = 0; e < experts && isfinite(total); e++) {
            sum[e] += exp(mixt_trace_weight(logits[e]) - most) / total;
        }
        return isfinite(total);
    }
    const uint16_t *row = mixt_trace_experts(trace, layer, token);
    const uint16_t *weights = mixt_trace_weights(trace, layer, token);
    for (int c = 0; c < trace->chosen[layer]; c++) {
        total += row[c] != MIXT_TRACE_NONE ? mixt_trace_weight(weights[c]) : 0;
    }
    if (!(total > 0)) {
        return false;
    }
    for (int c = 0; c < trace->chosen[layer]; c++) {
        if (row[c] != MIXT_TRACE_NONE) {
            sum[row[c]] += mixt_trace_weight(weights[c]) / total;
        }
    }
    return true;
}

static void sum_layer(languages *v, int layer)
{
    const mixt_units *units = v->m->units;
    memset(v->weight, 0, v->lots * v->experts * sizeof *v->weight);
    for (size_t l = 0; l < v->lots; l++) {
        v->lot[l].documents = 0;
    }
    for (size_t d = 0; d < units->run_count; d++) {
        double tokens = 0;
        memset(v->room, 0, v->experts * sizeof *v->room);
        for (uint64_t i = units->runs[d].begin; i < units->runs[d].end; i++) {
            tokens += add_token(v->m->trace, layer, i, v->room);
        }
        double *weight = v->weight + v->lot_of[d] * v->experts;
        v->lot[v->lot_of[d]].documents += tokens > 0;
        for (size_t e = 0; e < v->experts && tokens > 0; e++) {
            weight[e] += v->room[e] / tokens;
        }
    }
}

static double entropy(const double *p, size_t count)
{
    double sum = 0;
    for (size_t x = 0; x < count; x++) {
        sum -= p[x] > 0 ? p[x] * log2(p[x]) : 0;
    }
    return sum;
}

/* D = JSD / (log E - (H + H') / 2). */
typedef struct divergence {
    double value, plain;
} divergence;

/* sides [2, E] sums of the documents' weights, documents [2]. */
static divergence compare(double *sides, const double *documents, size_t experts)
{
    double both = 0, entropies = 0;
    if (documents[0] == 0 || documents[1] == 0) {
        return (divergence){NAN, NAN};
    }
    for (int side = 0; side < 2; side++) {
        for (size_t e = 0; e < experts; e++) {
            sides[(size_t)side * experts + e] /= documents[side];
        }
        entropies += entropy(sides + (size_t)side * experts, experts) / 2;
    }
    for (size_t e = 0; e < experts; e++) {
        double middle = (sides[e] + sides[experts + e]) / 2;
        both -= middle > 0 ? middle * log2(middle) : 0;
    }
    double plain = fmax(both - entropies, 0), free_bits = log2((double)experts) - entropies;
    /* Both even: nothing differs and nothing is free. */
    return (divergence){free_bits > 1e-12 ? plain / free_bits : 0, plain};
}

/* The lots both [count], of which the first `first` make one side; without a group (-1: all). */
static divergence compare_lots(languages *v, size_t count, size_t first, int without,
                               const mixt_random_key *deal)
{
    double *sides = v->room + v->experts, documents[2] = {0};
    memset(sides, 0, 2 * v->experts * sizeof *sides);
    for (size_t i = 0; i < count; i++) {
        size_t place = deal != NULL ? mixt_random_permute(deal, i, count) : i;
        const lot *l = &v->lot[v->both[i]];
        if (l->group == without) {
            continue;
        }
        size_t side = place >= first;
        documents[side] += l->documents;
        for (size_t e = 0; e < v->experts; e++) {
            sides[side * v->experts + e] += v->weight[v->both[i] * v->experts + e];
        }
    }
    return compare(sides, documents, v->experts);
}

/* A domain beside another, or beside all others (-1). */
static mixt_status add_pair(languages *v, int layer, int domain, int other, mixt_table *table,
                            mixt_error *error)
{
    const mixt_measuring *m = v->m;
    size_t count = 0, first = 0;
    double documents = 0;
    for (int side = 0; side < 2; side++) {
        for (size_t l = 0; l < v->lots; l++) {
            bool here = v->lot[l].domain == domain;
            bool there = !here && (other < 0 || v->lot[l].domain == other);
            if ((side == 0 ? here : there) && v->lot[l].documents > 0) {
                v->both[count++] = (uint32_t)l;
                documents += v->lot[l].documents;
            }
        }
        first = side == 0 ? count : first;
    }
    if (first == 0 || first == count) {
        return MIXT_OK;
    }
    double *row = mixt_table_append(table);
    if (row == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "measure languages: no memory");
    }
    divergence all = compare_lots(v, count, first, -1, NULL);
    double without[MIXT_MEASURE_GROUPS], sum = 0, reached = 0;
    int groups = 0;
    for (int g = 0; g < m->groups; g++) {
        without[groups] = compare_lots(v, count, first, g, NULL).value;
        groups += !isnan(without[groups]);
    }
    for (int draw = 0; draw < m->shuffles; draw++) {
        mixt_random_key key = {m->seed + ((uint64_t)layer << 32), MIXT_RANDOM_RESAMPLE,
                               (uint32_t)draw};
        double value = compare_lots(v, count, first, -1, &key).value;
        sum += value;
        reached += value >= all.value;
    }
    row[LAYER] = m->trace->layer_numbers[layer];
    row[DOMAIN] = domain;
    row[OTHER] = other;
    row[VALUE] = all.value;
    row[PLAIN] = all.plain;
    row[DOCUMENTS] = documents;
    if (first > 1 && count - first > 1) {
        mixt_span span = mixt_jackknife(all.value, without, groups, 0, INFINITY);
        row[USE] = sum / m->shuffles;
        row[P] = (1 + reached) / (1 + m->shuffles);
        row[LOW] = span.low;
        row[HIGH] = span.high;
    }
    return MIXT_OK;
}

static mixt_status fill(const mixt_measuring *m, mixt_table *table, mixt_error *error)
{
    languages v;
    MIXT_TRY(make(m, &v, error));
    int domains = m->trace->info.domains;
    mixt_status status = MIXT_OK;
    for (int layer = 0; layer < m->trace->info.layers && status == MIXT_OK; layer++) {
        sum_layer(&v, layer);
        for (int d = 0; d < domains && status == MIXT_OK; d++) {
            if (domains > ALL_PAIRS_DOMAINS) {
                status = add_pair(&v, layer, d, -1, table, error);
            }
            for (int o = d + 1; o < domains && domains <= ALL_PAIRS_DOMAINS && status == MIXT_OK;
                 o++) {
                status = add_pair(&v, layer, d, o, table, error);
            }
        }
    }
    if (table->rows == 0) {
        mixt_buffer_text(&table->note, "There are no two domains with experts. ");
    }
    mixt_buffer_text(&table->note, m->trace->logits != NULL
                                       ? "Of the router's distribution over all experts. "
                                       : "Of the weights of the chosen experts: the trace has no "
                                         "router logits. ");
    release(&v);
    table->draws = m->shuffles;
    return status == MIXT_OK ? mixt_table_discover(table, error) : status;
}

const mixt_measure_type mixt_measure_languages = {
    .info = {.name = "languages",
             .title = "How differently domains are routed",
             .source = "language divergence, 2510.04694",
             .about = "Entropy-normalised Jensen-Shannon divergence of the mean router weights of "
                      "two domains' documents; the domains taken as languages.",
             .traces = 1},
    .drawing = MIXT_DRAWS_CHOICES,
    .columns = columns,
    .column_count = COLUMNS,
    .fill = fill,
};
