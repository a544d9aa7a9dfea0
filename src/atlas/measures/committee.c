/* A few experts that every domain uses: by the published definition and its published base, and by
 * one with a level, beside the numbers that seem to contradict it. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "atlas/measures/measures.h"
#include "core/error.h"
#include "core/random.h"

static const mixt_column columns[] = {
    {.name = "layer", .kind = MIXT_COLUMN_LAYER, .role = MIXT_ROLE_KEY},
    {.name = "share",
     .help = "of the choices that experts take which are among the k most used of every domain, "
             "chosen on one half of the documents and counted on the other",
     .kind = MIXT_COLUMN_SHARE,
     .role = MIXT_ROLE_VALUE},
    {.name = "random",
     .help = "as many experts over all experts",
     .kind = MIXT_COLUMN_SHARE,
     .role = MIXT_ROLE_RANDOM},
    {.name = "use",
     .help = "domains that use experts as unequally, but each its own",
     .kind = MIXT_COLUMN_SHARE,
     .role = MIXT_ROLE_USE},
    {.name = "low", .kind = MIXT_COLUMN_SHARE, .role = MIXT_ROLE_LOW},
    {.name = "high", .kind = MIXT_COLUMN_SHARE, .role = MIXT_ROLE_HIGH},
    {.name = "p", .kind = MIXT_COLUMN_NUMBER, .role = MIXT_ROLE_P},
    {.name = "q", .kind = MIXT_COLUMN_NUMBER, .role = MIXT_ROLE_Q},
    {.name = "standing",
     .help = "experts among the k most used of every domain, of all documents",
     .kind = MIXT_COLUMN_NUMBER,
     .role = MIXT_ROLE_VALUE,
     .group = 1},
    {.name = "standing_random",
     .help = "where each domain's k most used are any: k (k / E)^(domains - 1)",
     .kind = MIXT_COLUMN_NUMBER,
     .role = MIXT_ROLE_RANDOM,
     .group = 1},
    {.name = "members",
     .help = "experts in the published committee",
     .kind = MIXT_COLUMN_NUMBER,
     .role = MIXT_ROLE_VALUE,
     .group = 2},
    {.name = "coverage",
     .help = "their published coverage: of the contribution of the k experts listed by each domain",
     .kind = MIXT_COLUMN_SHARE,
     .role = MIXT_ROLE_VALUE,
     .group = 3},
    {.name = "coverage_alike",
     .help = "what they would have if all listed experts contributed alike",
     .kind = MIXT_COLUMN_SHARE,
     .role = MIXT_ROLE_RANDOM,
     .group = 3},
    {.name = "coverage_use",
     .help = "the published coverage of domains that use experts as unequally, but each its own",
     .kind = MIXT_COLUMN_SHARE,
     .role = MIXT_ROLE_USE,
     .group = 3},
    {.name = "ratio",
     .help = "published: a member's coverage over that of one of all other experts",
     .kind = MIXT_COLUMN_NUMBER,
     .role = MIXT_ROLE_VALUE,
     .group = 4},
    {.name = "code_members",
     .help = "experts in the committee of the published program, from last tokens alone",
     .kind = MIXT_COLUMN_NUMBER,
     .role = MIXT_ROLE_VALUE,
     .group = 5},
    {.name = "code_coverage",
     .help = "their coverage there",
     .kind = MIXT_COLUMN_SHARE,
     .role = MIXT_ROLE_VALUE,
     .group = 6},
    {.name = "member_share",
     .help = "of all choices that the published committee takes, elected by one half of the "
             "documents and counted on the other",
     .kind = MIXT_COLUMN_SHARE,
     .role = MIXT_ROLE_VALUE,
     .group = 7},
    {.name = "member_random",
     .help = "as many experts over all experts",
     .kind = MIXT_COLUMN_SHARE,
     .role = MIXT_ROLE_RANDOM,
     .group = 7},
    {.name = "member_low", .kind = MIXT_COLUMN_SHARE, .role = MIXT_ROLE_LOW, .group = 7},
    {.name = "member_high", .kind = MIXT_COLUMN_SHARE, .role = MIXT_ROLE_HIGH, .group = 7},
    {.name = "active",
     .help = "of the experts that are chosen at all",
     .kind = MIXT_COLUMN_SHARE,
     .role = MIXT_ROLE_VALUE,
     .group = 8},
    {.name = "hottest",
     .help = "choices of the most used expert over the mean",
     .kind = MIXT_COLUMN_NUMBER,
     .role = MIXT_ROLE_VALUE,
     .group = 9},
    {.name = "choices", .kind = MIXT_COLUMN_COUNT, .role = MIXT_ROLE_SUPPORT},
};
enum {
    LAYER,
    SHARE,
    RANDOM,
    USE,
    LOW,
    HIGH,
    P,
    Q,
    STANDING,
    STANDING_RANDOM,
    MEMBERS,
    COVERAGE,
    COVERAGE_ALIKE,
    COVERAGE_USE,
    RATIO,
    CODE_MEMBERS,
    CODE_COVERAGE,
    MEMBER_SHARE,
    MEMBER_RANDOM,
    MEMBER_LOW,
    MEMBER_HIGH,
    ACTIVE,
    HOTTEST,
    CHOICES,
    COLUMNS
};

enum { HALF_A, HALF_B, WHOLE, PARTS };

/* Experts that each domain lists, best first, and what it counts for them. */
typedef struct lists {
    int *expert;   /* [domains, k]; -1 behind the last */
    double *value; /* [domains, k] */
} lists;

/* What one layer, or the mean of all, gives. */
typedef struct outcome {
    double cell[COLUMNS];
    double share_without[MIXT_MEASURE_GROUPS], member_without[MIXT_MEASURE_GROUPS];
    double *draws; /* [shuffles] share where domains use their own experts */
} outcome;

typedef struct auditor {
    const mixt_measuring *m;
    int domains, experts, k; /* k of the layer */
    uint64_t *count;         /* [PARTS, domains, E] choices; halves by group of documents */
    uint64_t *of_group;      /* [groups, E] */
    double *contribution;    /* [PARTS, domains, E] sums of router weights over the tokens */
    double *code;            /* [domains, E] the program's score of last tokens */
    double *least, *most;    /* [domains, E] router weights of last tokens */
    uint64_t *tokens, *last; /* [domains] tokens with a choice, last ones of documents */
    bool *standing;          /* [PARTS, E] */
    bool *member;            /* [E] of the committee at hand */
    bool *elected;           /* [PARTS, E] committees of each part's contributions */
    int *presence;           /* [E] domains that list it */
    int64_t *rank, *square;  /* [E] sums of its ranks, and of their squares */
    double *sum;             /* [E] of what domains count for it */
    double alike;            /* share of the entries of all lists that are members */
    lists paper, program;
    outcome layer, mean;
} auditor;

/* -- Counting ------------------------------------------------------------------------------- */

static bool is_last(const mixt_trace *trace, uint64_t i)
{
    return i + 1 == trace->document_start[trace->document[i] + 1];
}

static void count_last(auditor *a, const uint16_t *row, const uint16_t *weights, size_t domain)
{
    size_t experts = (size_t)a->experts, base = domain * experts;
    if (a->last[domain]++ == 0) {
        for (size_t e = 0; e < experts; e++) {
            a->least[base + e] = INFINITY;
        }
    }
    for (int c = 0; c < a->k; c++) {
        if (row[c] != MIXT_TRACE_NONE) {
            double weight = (double)mixt_trace_weight(weights[c]);
            size_t at = base + row[c];
            a->least[at] = fmin(a->least[at], weight);
            a->most[at] = fmax(a->most[at], weight);
            a->code[at] += weight;
            a->count[WHOLE * (size_t)a->domains * experts + at]++; /* of last tokens, for now */
        }
    }
}

/* frequency x mean of (weight - least) / (most - least + 1e-6) over the domain's last tokens, in
 * which an expert that a token does not choose has the weight 0. */
static void finish_code(auditor *a)
{
    size_t experts = (size_t)a->experts, cells = (size_t)a->domains * experts;
    uint64_t *chosen = a->count + WHOLE * cells;
    for (size_t i = 0; i < cells; i++) {
        double last = (double)a->last[i / experts];
        double least = chosen[i] < a->last[i / experts] ? 0 : a->least[i];
        a->code[i] = chosen[i] == 0 ? 0
                                    : (a->code[i] / last - least) / (a->most[i] - least + 1e-6) *
                                          ((double)chosen[i] / last);
        chosen[i] = a->count[i] + a->count[cells + i];
        a->contribution[WHOLE * cells + i] = a->contribution[i] + a->contribution[cells + i];
    }
}

static void count_layer(auditor *a, int layer)
{
    const mixt_trace *trace = a->m->trace;
    size_t experts = (size_t)a->experts, cells = (size_t)a->domains * experts;
    memset(a->count, 0, PARTS * cells * sizeof *a->count);
    memset(a->of_group, 0, (size_t)a->m->groups * experts * sizeof *a->of_group);
    memset(a->contribution, 0, PARTS * cells * sizeof *a->contribution);
    memset(a->code, 0, cells * sizeof *a->code);
    memset(a->most, 0, cells * sizeof *a->most);
    memset(a->tokens, 0, (size_t)a->domains * sizeof *a->tokens);
    memset(a->last, 0, (size_t)a->domains * sizeof *a->last);
    a->k = trace->chosen[layer];
    for (uint64_t i = 0; i < trace->info.tokens; i++) {
        const uint16_t *row = mixt_trace_experts(trace, layer, i);
        const uint16_t *weights = mixt_trace_weights(trace, layer, i);
        size_t domain = trace->domain[i], group = a->m->group[trace->document[i]];
        size_t at = (group % 2 * (size_t)a->domains + domain) * experts;
        uint64_t *count = a->count + at;
        for (int c = 0; c < a->k; c++) {
            if (row[c] != MIXT_TRACE_NONE) {
                count[row[c]]++;
                a->of_group[group * experts + row[c]]++;
                a->contribution[at + row[c]] += (double)mixt_trace_weight(weights[c]);
            }
        }
        a->tokens[domain]++;
        if (is_last(trace, i)) {
            count_last(a, row, weights, domain);
        }
    }
    finish_code(a);
}

/* -- The published committee ---------------------------------------------------------------- */

/* The k experts with the highest values of each domain that has any; of equal ones the first. */
static void list_experts(const auditor *a, const double *values, lists *to)
{
    for (int d = 0; d < a->domains; d++) {
        const double *of = values + (size_t)d * (size_t)a->experts;
        int *expert = to->expert + (size_t)d * (size_t)a->m->trace->info.experts_per_token;
        double *value = to->value + (size_t)d * (size_t)a->m->trace->info.experts_per_token;
        int listed = 0;
        for (int e = 0; e < a->experts; e++) {
            int at = listed;
            while (at > 0 && of[e] > value[at - 1]) {
                at--;
            }
            if (of[e] > 0 && at < a->k) {
                listed += listed < a->k;
                for (int i = listed - 1; i > at; i--) {
                    expert[i] = expert[i - 1];
                    value[i] = value[i - 1];
                }
                expert[at] = e;
                value[at] = of[e];
            }
        }
        for (int i = listed; i < a->k; i++) {
            expert[i] = -1;
        }
    }
}

/* Another order of the experts for every domain and draw. */
static mixt_random_key labels_of(const auditor *a, int layer, int draw, int domain)
{
    return (mixt_random_key){a->m->seed + ((uint64_t)layer << 32) + (uint64_t)domain,
                             MIXT_RANDOM_RESAMPLE, (uint32_t)draw};
}

/* Neither rank nor steadiness is better in another candidate. */
static bool is_undominated(const auditor *a, int expert, int domains, int least)
{
    int64_t rank = a->rank[expert];
    int64_t variance = domains * a->square[expert] - rank * rank; /* times domains^2: exact */
    for (int e = 0; e < a->experts; e++) {
        if (a->presence[e] >= least) {
            int64_t other = domains * a->square[e] - a->rank[e] * a->rank[e];
            if (a->rank[e] <= rank && other <= variance &&
                (a->rank[e] < rank || other < variance)) {
                return false;
            }
        }
    }
    return true;
}

/* Fills `member`; returns the published coverage. draw 0: experts as they are; else each domain
 * calls them by other names. */
static double elect(auditor *a, const lists *from, int layer, int draw, int *members)
{
    size_t k = (size_t)a->m->trace->info.experts_per_token;
    int domains = 0, most = 0;
    double total = 0, covered = 0, entries = 0;
    a->alike = 0;
    for (int e = 0; e < a->experts; e++) {
        a->presence[e] = 0;
        a->rank[e] = a->square[e] = 0;
        a->sum[e] = 0;
    }
    for (int d = 0; d < a->domains; d++) {
        const int *expert = from->expert + (size_t)d * k;
        mixt_random_key key = labels_of(a, layer, draw, d);
        domains += expert[0] >= 0;
        for (int i = 0; i < a->k && expert[i] >= 0; i++) {
            int e = draw == 0
                        ? expert[i]
                        : (int)mixt_random_permute(&key, (uint64_t)expert[i], (uint64_t)a->experts);
            a->presence[e]++;
            a->rank[e] += i + 1;
            a->square[e] += (int64_t)(i + 1) * (i + 1);
            a->sum[e] += from->value[(size_t)d * k + (size_t)i];
            total += from->value[(size_t)d * k + (size_t)i];
            entries++;
            most = a->presence[e] > most ? a->presence[e] : most;
        }
    }
    int least =
        (4 * domains + 4) / 5; /* 0.8 of the domains; where none has it, the most there is */
    least = most < least ? most : least;
    for (int e = 0; e < a->experts; e++) {
        int64_t missing = domains - a->presence[e];
        a->rank[e] += missing * (a->k + 1);
        a->square[e] += missing * (a->k + 1) * (a->k + 1);
    }
    *members = 0;
    for (int e = 0; e < a->experts; e++) {
        a->member[e] = a->presence[e] >= least && least > 0 && is_undominated(a, e, domains, least);
        *members += a->member[e];
        covered += a->member[e] ? a->sum[e] : 0;
        a->alike += a->member[e] ? a->presence[e] / entries : 0;
    }
    return total > 0 ? covered / total : NAN;
}

/* Which part's experts a half is counted by: the other's, or all where there is none. */
static size_t judge_of(const auditor *a, size_t half)
{
    return a->m->groups < 2 ? WHOLE : 1 - half;
}

/* What the experts in [PARTS, E] take of the choices of the half that did not pick them, and
 * without each group of documents; *even: what as many of E would take. */
static double share_of(const auditor *a, const bool *picked, double *even, double *without)
{
    size_t experts = (size_t)a->experts;
    double taken = 0, total = 0, taken_of[MIXT_MEASURE_GROUPS] = {0},
           of_group[MIXT_MEASURE_GROUPS] = {0}, size[PARTS] = {0};
    for (size_t i = 0; i < PARTS * experts; i++) {
        size[i / experts] += picked[i];
    }
    *even = 0;
    for (size_t i = 0; i < (size_t)a->m->groups * experts; i++) {
        size_t g = i / experts, judge = judge_of(a, g % 2);
        double count = (double)a->of_group[i];
        taken_of[g] += picked[judge * experts + i % experts] ? count : 0;
        of_group[g] += count;
        *even += count * size[judge] / (double)experts;
    }
    for (int g = 0; g < a->m->groups; g++) {
        taken += taken_of[g];
        total += of_group[g];
    }
    for (int g = 0; g < a->m->groups; g++) {
        without[g] =
            of_group[g] < total ? (taken - taken_of[g]) / (total - of_group[g]) : taken / total;
    }
    *even /= total;
    return taken / total;
}

static void audit(auditor *a, int layer)
{
    outcome *o = &a->layer;
    size_t cells = (size_t)a->domains * (size_t)a->experts;
    int members, code_members;
    double even;
    for (size_t i = 0; i < PARTS * cells; i++) {
        uint64_t tokens = a->tokens[i % cells / (size_t)a->experts];
        a->contribution[i] /= tokens > 0 ? (double)tokens : 1;
    }
    list_experts(a, a->code, &a->program);
    o->cell[CODE_COVERAGE] = elect(a, &a->program, layer, 0, &code_members);
    o->cell[CODE_MEMBERS] = code_members;
    for (size_t part = 0; part < PARTS; part++) { /* the whole last: its lists stay */
        list_experts(a, a->contribution + part * cells, &a->paper);
        elect(a, &a->paper, layer, 0, &members);
        memcpy(a->elected + part * (size_t)a->experts, a->member, (size_t)a->experts);
    }
    double use = 0;
    for (int draw = 1; draw <= a->m->shuffles; draw++) {
        use += elect(a, &a->paper, layer, draw, &members) / a->m->shuffles;
    }
    double coverage = elect(a, &a->paper, layer, 0, &members);
    o->cell[COVERAGE] = coverage;
    o->cell[COVERAGE_USE] = use;
    o->cell[MEMBERS] = members;
    o->cell[COVERAGE_ALIKE] = a->alike;
    o->cell[RATIO] = members < a->experts && coverage < 1 - 1e-12
                         ? coverage / members / ((1 - coverage) / (a->experts - members))
                         : NAN; /* nothing is left for the others */
    o->cell[MEMBER_SHARE] = share_of(a, a->elected, &even, o->member_without);
    o->cell[MEMBER_RANDOM] = even;
}

/* -- Experts among the most used of every domain -------------------------------------------- */

/* Of counts [E]: fewer than k others have as many. Ties at the end of the list leave all of them
 * out, so that no expert is preferred by its number. */
static bool is_leading(const auditor *a, const uint64_t *count, int expert)
{
    int others = 0;
    for (int e = 0; e < a->experts && others < a->k; e++) {
        others += e != expert && count[e] >= count[expert];
    }
    return count[expert] > 0 && others < a->k;
}

/* leading [PARTS, domains, E] */
static void find_leading(const auditor *a, bool *leading)
{
    size_t experts = (size_t)a->experts;
    for (size_t row = 0; row < PARTS * (size_t)a->domains; row++) {
        for (int e = 0; e < a->experts; e++) {
            leading[row * experts + (size_t)e] = is_leading(a, a->count + row * experts, e);
        }
    }
}

/* Fills standing [PARTS, E]: leading in every domain that has choices in the part. */
static void find_standing(auditor *a, const bool *leading, int layer, int draw)
{
    size_t experts = (size_t)a->experts;
    bool any[PARTS] = {false};
    for (size_t i = 0; i < PARTS * experts; i++) {
        a->standing[i] = true;
    }
    for (int d = 0; d < a->domains; d++) {
        mixt_random_key key = labels_of(a, layer, draw, d);
        for (size_t part = 0; part < PARTS; part++) {
            const size_t row = (part * (size_t)a->domains + (size_t)d) * experts;
            uint64_t total = 0;
            for (size_t e = 0; e < experts; e++) {
                total += a->count[row + e];
            }
            any[part] = any[part] || total > 0;
            for (size_t e = 0; e < experts && total > 0; e++) {
                size_t name = draw == 0 ? e : (size_t)mixt_random_permute(&key, e, experts);
                a->standing[part * experts + name] &= leading[row + e];
            }
        }
    }
    for (size_t i = 0; i < PARTS * experts; i++) {
        a->standing[i] &= any[i / experts];
    }
}

/* What standing experts take of the choices of the other half when each domain calls its experts by
 * other names. */
static double share_renamed(const auditor *a, int layer, int draw)
{
    size_t experts = (size_t)a->experts;
    double taken = 0, total = 0;
    for (size_t half = 0; half < 2; half++) {
        const bool *standing = a->standing + judge_of(a, half) * experts;
        for (int d = 0; d < a->domains; d++) {
            const uint64_t *count = a->count + (half * (size_t)a->domains + (size_t)d) * experts;
            mixt_random_key key = labels_of(a, layer, draw, d);
            for (size_t e = 0; e < experts; e++) {
                taken += standing[mixt_random_permute(&key, e, experts)] ? (double)count[e] : 0;
                total += (double)count[e];
            }
        }
    }
    return taken / total;
}

static void stand(auditor *a, int layer, bool *leading)
{
    outcome *o = &a->layer;
    double even;
    int domains = 0;
    find_leading(a, leading);
    for (int draw = 1; draw <= a->m->shuffles; draw++) {
        find_standing(a, leading, layer, draw);
        o->draws[draw - 1] = share_renamed(a, layer, draw);
    }
    find_standing(a, leading, layer, 0);
    o->cell[SHARE] = share_of(a, a->standing, &even, o->share_without);
    o->cell[RANDOM] = even;
    o->cell[STANDING] = 0;
    for (int e = 0; e < a->experts; e++) {
        o->cell[STANDING] += a->standing[WHOLE * a->experts + e];
    }
    for (int d = 0; d < a->domains; d++) {
        domains += a->tokens[d] > 0;
    }
    o->cell[STANDING_RANDOM] = a->k * pow((double)a->k / a->experts, domains - 1);
}

/* -- Rows ----------------------------------------------------------------------------------- */

static void measure_load(auditor *a)
{
    size_t experts = (size_t)a->experts;
    uint64_t total = 0, most = 0;
    int active = 0;
    for (size_t e = 0; e < experts; e++) {
        uint64_t count = 0;
        for (size_t g = 0; g < (size_t)a->m->groups; g++) {
            count += a->of_group[g * experts + e];
        }
        total += count;
        most = count > most ? count : most;
        active += count > 0;
    }
    a->layer.cell[ACTIVE] = (double)active / a->experts;
    a->layer.cell[HOTTEST] = (double)most * a->experts / (double)total;
    a->layer.cell[CHOICES] = (double)total;
}

static void add_outcome(const auditor *a, outcome *sum, const outcome *part)
{
    for (int c = 0; c < COLUMNS; c++) {
        sum->cell[c] += part->cell[c];
    }
    for (int g = 0; g < a->m->groups; g++) {
        sum->share_without[g] += part->share_without[g];
        sum->member_without[g] += part->member_without[g];
    }
    for (int i = 0; i < a->m->shuffles; i++) {
        sum->draws[i] += part->draws[i];
    }
}

static mixt_status append(const auditor *a, const outcome *o, double layer, mixt_table *table,
                          mixt_error *error)
{
    const mixt_measuring *m = a->m;
    double *row = mixt_table_append(table);
    if (row == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "measure committee: no memory");
    }
    memcpy(row, o->cell, sizeof o->cell);
    row[LAYER] = layer;
    row[USE] = mixt_draws_mean(o->draws, m->shuffles);
    row[P] = mixt_draws_p(o->draws, m->shuffles, row[SHARE]);
    row[Q] = NAN;
    mixt_span span = mixt_jackknife(row[SHARE], o->share_without, m->groups, 0, 1);
    row[LOW] = span.low;
    row[HIGH] = span.high;
    span = mixt_jackknife(row[MEMBER_SHARE], o->member_without, m->groups, 0, 1);
    row[MEMBER_LOW] = span.low;
    row[MEMBER_HIGH] = span.high;
    if (row[RANDOM] == 0) { /* no expert stands; that is a test's outcome, whose p stays */
        row[SHARE] = row[RANDOM] = row[LOW] = row[HIGH] = NAN;
    }
    return MIXT_OK;
}

static int by_count_falling(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x < y) - (x > y);
}

/* How few experts take most of the choices, layer by layer, whatever domains and committees. */
typedef struct busiest {
    int count;    /* the most used experts that are looked at: 5, or a quarter of few experts */
    double share; /* of a layer's choices that they take, mean of the layers */
    int led;      /* layers in which they take 70 %, as the paper says of 2 to 5 experts */
    int layers;   /* with choices */
} busiest;

static mixt_status find_busiest(const mixt_measuring *m, busiest *found, mixt_error *error)
{
    int experts = m->trace->info.experts, few = experts / 4;
    *found = (busiest){.count = few < 1 ? 1 : few > 5 ? 5 : few};
    uint64_t *of = calloc((size_t)experts, sizeof *of);
    if (of == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "measure committee: no memory");
    }
    for (int layer = 0; layer < m->trace->info.layers; layer++) {
        uint64_t total = 0, taken = 0;
        memset(of, 0, (size_t)experts * sizeof *of);
        for (int domain = 0; domain < m->trace->info.domains; domain++) {
            const uint64_t *count = mixt_counts_of(m->counts, layer, domain, MIXT_CHOICE_ANY);
            for (int e = 0; e < experts; e++) {
                of[e] += count[e];
                total += count[e];
            }
        }
        qsort(of, (size_t)experts, sizeof *of, by_count_falling);
        for (int i = 0; i < found->count; i++) {
            taken += of[i];
        }
        found->layers += total > 0;
        found->led += total > 0 && 10 * taken >= 7 * total;
        found->share += total > 0 ? (double)taken / (double)total : 0;
    }
    found->share /= found->layers > 0 ? found->layers : 1;
    free(of);
    return MIXT_OK;
}

/* The same in words, of the mean of all layers. */
static mixt_status say(const auditor *a, const double *row, mixt_table *table, mixt_error *error)
{
    busiest few;
    MIXT_TRY(find_busiest(a->m, &few, error));
    mixt_buffer *note = &table->note;
    mixt_buffer_format(
        note,
        "The published committee has %.1f experts a layer with a coverage of %.1f %%, but of the "
        "list of k experts alone that each domain makes, where they would have %.1f %% if all that "
        "are listed contributed alike. Committees elected by one half of the documents take %.1f "
        "%% of all choices of the other half; as many experts would take %.1f %% evenly. ",
        row[MEMBERS], 100 * row[COVERAGE], 100 * row[COVERAGE_ALIKE], 100 * row[MEMBER_SHARE],
        100 * row[MEMBER_RANDOM]);
    if (row[STANDING] > 0 && !isnan(row[SHARE])) {
        mixt_buffer_format(
            note,
            "%.1f experts a layer are among the k most used of every domain; they take %.1f %% of "
            "the choices (as many take %.1f %% evenly, and %.1f %% would be taken so if each "
            "domain preferred experts of its own; p %.3f). ",
            row[STANDING], 100 * row[SHARE], 100 * row[RANDOM], 100 * row[USE], row[P]);
    } else {
        mixt_buffer_format(note, "No expert is among the k most used of every domain%s. ",
                           row[STANDING] > 0 ? " by one half of the documents alone" : "");
    }
    mixt_buffer_format(note,
                       "%.1f %% of the experts are chosen at all, the hottest %.2f times as often "
                       "as the mean, and the %d busiest of %d take %.1f %% of a layer's choices "
                       "(evenly %.1f %%): ",
                       100 * row[ACTIVE], row[HOTTEST], few.count, a->m->trace->info.experts,
                       100 * few.share, 100.0 * few.count / a->m->trace->info.experts);
    if (few.led > 0) {
        mixt_buffer_format(note, "in %d of %d layers a few experts do take 70 %% or more.", few.led,
                           few.layers);
    } else {
        mixt_buffer_text(
            note,
            row[COVERAGE] >= 0.5
                ? "a high coverage, and no layer in which a few take 70 % of all choices: the "
                  "two have different bases."
                : "a few experts take most of the choices by neither base.");
    }
    return MIXT_OK;
}

static void release(auditor *a)
{
    free(a->count);
    free(a->of_group);
    free(a->contribution);
    free(a->code);
    free(a->least);
    free(a->most);
    free(a->tokens);
    free(a->last);
    free(a->standing);
    free(a->member);
    free(a->elected);
    free(a->presence);
    free(a->rank);
    free(a->square);
    free(a->sum);
    free(a->paper.expert);
    free(a->paper.value);
    free(a->program.expert);
    free(a->program.value);
    free(a->layer.draws);
    free(a->mean.draws);
}

static bool allocate(auditor *a)
{
    size_t experts = (size_t)a->experts, domains = (size_t)a->domains, cells = domains * experts;
    size_t listed = domains * (size_t)a->m->trace->info.experts_per_token;
    a->count = calloc(PARTS * cells, sizeof *a->count);
    a->of_group = calloc((size_t)a->m->groups * experts, sizeof *a->of_group);
    a->contribution = calloc(PARTS * cells, sizeof *a->contribution);
    a->code = calloc(cells, sizeof *a->code);
    a->least = calloc(cells, sizeof *a->least);
    a->most = calloc(cells, sizeof *a->most);
    a->tokens = calloc(domains, sizeof *a->tokens);
    a->last = calloc(domains, sizeof *a->last);
    a->standing = calloc(PARTS * experts, sizeof *a->standing);
    a->member = calloc(experts, sizeof *a->member);
    a->elected = calloc(PARTS * experts, sizeof *a->elected);
    a->presence = calloc(experts, sizeof *a->presence);
    a->rank = calloc(experts, sizeof *a->rank);
    a->square = calloc(experts, sizeof *a->square);
    a->sum = calloc(experts, sizeof *a->sum);
    a->paper = (lists){calloc(listed, sizeof(int)), calloc(listed, sizeof(double))};
    a->program = (lists){calloc(listed, sizeof(int)), calloc(listed, sizeof(double))};
    a->layer.draws = calloc((size_t)a->m->shuffles, sizeof *a->layer.draws);
    a->mean.draws = calloc((size_t)a->m->shuffles, sizeof *a->mean.draws);
    return a->count != NULL && a->of_group != NULL && a->contribution != NULL && a->code != NULL &&
           a->least != NULL && a->most != NULL && a->tokens != NULL && a->last != NULL &&
           a->standing != NULL && a->member != NULL && a->elected != NULL && a->presence != NULL &&
           a->rank != NULL && a->square != NULL && a->sum != NULL && a->paper.expert != NULL &&
           a->paper.value != NULL && a->program.expert != NULL && a->program.value != NULL &&
           a->layer.draws != NULL && a->mean.draws != NULL;
}

static mixt_status measure(auditor *a, bool *leading, mixt_table *table, mixt_error *error)
{
    const mixt_trace *trace = a->m->trace;
    int layers = 0; /* with choices */
    for (int layer = 0; layer < trace->info.layers; layer++) {
        count_layer(a, layer);
        measure_load(a);
        if (a->layer.cell[CHOICES] > 0) {
            audit(a, layer);
            stand(a, layer, leading);
            MIXT_TRY(append(a, &a->layer, trace->layer_numbers[layer], table, error));
            add_outcome(a, &a->mean, &a->layer);
            layers++;
        }
    }
    if (layers == 0) {
        return MIXT_OK;
    }
    double choices = a->mean.cell[CHOICES];
    for (int c = 0; c < COLUMNS; c++) {
        a->mean.cell[c] /= layers;
    }
    for (int g = 0; g < a->m->groups; g++) {
        a->mean.share_without[g] /= layers;
        a->mean.member_without[g] /= layers;
    }
    for (int i = 0; i < a->m->shuffles; i++) {
        a->mean.draws[i] /= layers;
    }
    a->mean.cell[CHOICES] = choices;
    MIXT_TRY(append(a, &a->mean, -1, table, error));
    table->draws = a->m->shuffles;
    MIXT_TRY(say(a, table->cells + (table->rows - 1) * COLUMNS, table, error));
    return mixt_table_discover(table, error);
}

static mixt_status fill(const mixt_measuring *m, mixt_table *table, mixt_error *error)
{
    auditor a = {.m = m, .domains = m->trace->info.domains, .experts = m->trace->info.experts};
    bool *leading = calloc(PARTS * (size_t)a.domains * (size_t)a.experts, sizeof *leading);
    mixt_status status = allocate(&a) && leading != NULL
                             ? measure(&a, leading, table, error)
                             : mixt_fail(error, MIXT_ERROR_MEMORY, "measure committee: no memory");
    free(leading);
    release(&a);
    return status;
}

const mixt_measure_type mixt_measure_committee = {
    .info = {.name = "committee",
             .title = "Experts that every domain uses",
             .source = "Wang et al. 2026, 2601.03425, and its program CommitteeAudit",
             .about = "Whether a few experts take most of the choices in every domain: by the "
                      "published committee and its base, and by all choices beside what as many "
                      "experts take evenly and where each domain prefers experts of its own.",
             .traces = 1},
    .drawing = MIXT_DRAWS_COUNTS,
    .columns = columns,
    .column_count = COLUMNS,
    .fill = fill,
};
