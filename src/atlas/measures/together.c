/* Experts chosen together: each pair beside what the use of both would give, and how much of that a
 * layer shows. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "atlas/measures/measures.h"
#include "atlas/statistics.h"
#include "core/error.h"

#define ALL_PAIRS_EXPERTS 32 /* up to so many experts the table has every pair */
#define PAIRS_AN_EXPERT 8    /* above, so many rows for each expert of a layer */
#define FEW_TOGETHER 100 /* counted or expected: below, a variance is no smaller than drawing's */
#define GROUP_CELLS ((size_t)1 << 24)              /* groups * pairs that are counted at once */
#define FIT_PRODUCTS ((double)((uint64_t)1 << 33)) /* groups * pairs * domains * layers */
#define FIT_ROUNDS 2000
#define DRAW_CHOICES ((double)((uint64_t)1 << 28)) /* draws * layers * tokens * k */
#define LEAST_DRAWS 4

/* The pairs of one layer. A pair i < j lies at pair_index(i, j). */
typedef struct pair_table {
    const mixt_measuring *m;
    int groups;
    size_t experts, domains, pairs;
    uint32_t *together; /* [groups, pairs] tokens that have both */
    uint64_t *partners; /* [groups, domains, E] other experts of the tokens that have this one */
    uint64_t *chosen;   /* [groups, E] tokens that have it */
    double *strength;   /* [domains, E]: pairs are expected strength[i] * strength[j] times */
    uint64_t *margin;   /* [E] room of the fit */
    bool *filled;       /* [domains] with pairs */
} pair_table;

static size_t pair_index(size_t experts, size_t i, size_t j)
{
    return i * (2 * experts - i - 1) / 2 + (j - i - 1);
}

static void table_release(pair_table *t)
{
    free(t->together);
    free(t->partners);
    free(t->chosen);
    free(t->strength);
    free(t->margin);
    free(t->filled);
}

static mixt_status table_make(const mixt_measuring *m, int most_groups, pair_table *t,
                              mixt_error *error)
{
    size_t experts = (size_t)m->trace->info.experts, domains = (size_t)m->trace->info.domains;
    size_t pairs = experts * (experts - 1) / 2;
    double products = (double)(pairs + 1) * (double)domains * m->trace->info.layers;
    int groups = m->groups < most_groups ? m->groups : most_groups;
    while (groups > 2 &&
           ((size_t)groups * pairs > GROUP_CELLS || groups * products > FIT_PRODUCTS)) {
        groups--;
    }
    size_t rows = (size_t)groups;
    *t = (pair_table){
        .m = m, .groups = groups, .experts = experts, .domains = domains, .pairs = pairs};
    t->together = calloc(rows * pairs + 1, sizeof *t->together);
    t->partners = calloc(rows * domains * experts, sizeof *t->partners);
    t->chosen = calloc(rows * experts, sizeof *t->chosen);
    t->strength = calloc(domains * experts, sizeof *t->strength);
    t->margin = calloc(experts, sizeof *t->margin);
    t->filled = calloc(domains, sizeof *t->filled);
    if (t->together == NULL || t->partners == NULL || t->chosen == NULL || t->strength == NULL ||
        t->margin == NULL || t->filled == NULL) {
        table_release(t);
        return mixt_fail(error, MIXT_ERROR_MEMORY, "experts chosen together: no memory");
    }
    return MIXT_OK;
}

/* rows [tokens, k]: the layer's, or made-up ones. */
static void count_pairs(pair_table *t, int layer, const uint16_t *rows)
{
    const mixt_trace *trace = t->m->trace;
    size_t k = (size_t)trace->info.experts_per_token, experts = t->experts;
    memset(t->together, 0, (size_t)t->groups * t->pairs * sizeof *t->together);
    memset(t->partners, 0, (size_t)t->groups * t->domains * experts * sizeof *t->partners);
    memset(t->chosen, 0, (size_t)t->groups * experts * sizeof *t->chosen);
    for (uint64_t i = 0; i < trace->info.tokens; i++) {
        const uint16_t *row = rows + i * k;
        size_t group = (size_t)(t->m->group[trace->document[i]] % t->groups);
        uint32_t *together = t->together + group * t->pairs;
        uint64_t *partners = t->partners + (group * t->domains + trace->domain[i]) * experts;
        uint64_t *chosen = t->chosen + group * experts;
        int size = mixt_trace_set_size(trace, layer, row);
        for (int a = 0; a < trace->chosen[layer]; a++) {
            if (row[a] == MIXT_TRACE_NONE) {
                continue;
            }
            chosen[row[a]]++;
            partners[row[a]] += (uint64_t)(size - 1);
            for (int b = a + 1; b < trace->chosen[layer]; b++) {
                if (row[b] != MIXT_TRACE_NONE) {
                    size_t least = row[a] < row[b] ? row[a] : row[b];
                    size_t most = row[a] < row[b] ? row[b] : row[a];
                    together[pair_index(experts, least, most)]++;
                }
            }
        }
    }
}

/* Strengths with sum_{j != i} strength[i] strength[j] = margin[i]: one after the other is solved
 * for (coordinate ascent of the likelihood of quasi-independence, Goodman 1968). */
static void fit_domain(const uint64_t *margin, size_t experts, double *strength)
{
    double total = 0, sum = 0;
    for (size_t e = 0; e < experts; e++) {
        total += (double)margin[e];
    }
    for (size_t e = 0; e < experts; e++) {
        strength[e] = total > 0 ? (double)margin[e] / sqrt(total) : 0;
        sum += strength[e];
    }
    double moved = total > 0;
    for (int round = 0; round < FIT_ROUNDS && moved > 1e-13; round++) {
        moved = 0;
        double next = 0;
        for (size_t e = 0; e < experts; e++) {
            double others = sum - strength[e];
            double solved = margin[e] > 0 && others > 0 ? (double)margin[e] / others : 0;
            moved = fmax(moved, fabs(solved - strength[e]) / fmax(solved, 1e-300));
            sum = others + solved;
            strength[e] = solved;
            next += solved;
        }
        sum = next; /* without what rounding has left in it */
    }
}

/* Sets of groups of documents are masks, of group g the bit 1 << g. */
static uint32_t all_groups(const pair_table *t)
{
    return ((uint32_t)1 << t->groups) - 1;
}

static uint32_t all_without(const pair_table *t, int group)
{
    return all_groups(t) & ~((uint32_t)1 << group);
}

/* Fits all domains by some groups of documents. */
static void fit_pairs(pair_table *t, uint32_t groups)
{
    for (size_t d = 0; d < t->domains; d++) {
        memset(t->margin, 0, t->experts * sizeof *t->margin);
        t->filled[d] = false;
        for (int g = 0; g < t->groups; g++) {
            const uint64_t *row = t->partners + ((size_t)g * t->domains + d) * t->experts;
            for (size_t e = 0; e < t->experts && (groups >> g & 1) != 0; e++) {
                t->margin[e] += row[e];
                t->filled[d] = t->filled[d] || row[e] != 0;
            }
        }
        fit_domain(t->margin, t->experts, t->strength + d * t->experts);
    }
}

static double expected_together(const pair_table *t, size_t i, size_t j)
{
    double sum = 0;
    for (size_t d = 0; d < t->domains; d++) {
        if (t->filled[d]) {
            sum += t->strength[d * t->experts + i] * t->strength[d * t->experts + j];
        }
    }
    return sum;
}

/* Variance of the tokens with both that drawing them gives, as the level is fitted to the partners
 * that each expert has: to the first order m (1 - m / M_i - m / M_j) in each domain, of expected m
 * and partners M (exact where all are alike; Haberman 1973 of residuals). */
static double variance_together(const pair_table *t, size_t i, size_t j)
{
    double sum = 0;
    for (size_t d = 0; d < t->domains; d++) {
        double of[2] = {0}, expected = t->strength[d * t->experts + i];
        expected *= t->strength[d * t->experts + j];
        for (int g = 0; g < t->groups && t->filled[d] && expected > 0; g++) {
            const uint64_t *row = t->partners + ((size_t)g * t->domains + d) * t->experts;
            of[0] += (double)row[i];
            of[1] += (double)row[j];
        }
        if (t->filled[d] && expected > 0) {
            sum += expected * fmax(1 - expected / of[0] - expected / of[1], 0);
        }
    }
    return sum;
}

static double counted_together(const pair_table *t, size_t pair, uint32_t groups)
{
    uint64_t count = 0;
    for (int g = 0; g < t->groups; g++) {
        count += (groups >> g & 1) != 0 ? t->together[(size_t)g * t->pairs + pair] : 0;
    }
    return (double)count;
}

static uint64_t count_chosen(const pair_table *t, size_t expert, uint32_t groups)
{
    uint64_t count = 0;
    for (int g = 0; g < t->groups; g++) {
        count += (groups >> g & 1) != 0 ? t->chosen[(size_t)g * t->experts + expert] : 0;
    }
    return count;
}

/* -- coactivation ------------------------------------------------------------------------- */

#define SHARE(name_, role_, group_, help_)                                                         \
    {                                                                                              \
        .name = name_, .help = help_, .kind = MIXT_COLUMN_SHARE, .role = role_, .group = group_    \
    }
#define NUMBER(name_, role_, group_, help_)                                                        \
    {                                                                                              \
        .name = name_, .help = help_, .kind = MIXT_COLUMN_NUMBER, .role = role_, .group = group_   \
    }

static const mixt_column pair_columns[] = {
    {.name = "layer", .kind = MIXT_COLUMN_LAYER, .role = MIXT_ROLE_KEY},
    {.name = "expert", .kind = MIXT_COLUMN_EXPERT, .role = MIXT_ROLE_KEY},
    {.name = "other", .kind = MIXT_COLUMN_EXPERT, .role = MIXT_ROLE_KEY},
    SHARE("given", MIXT_ROLE_VALUE, 0,
          "of the tokens that have the expert, those that have the other"),
    SHARE("given_random", MIXT_ROLE_RANDOM, 0, "(k - 1) / (E - 1)"),
    SHARE("given_use", MIXT_ROLE_USE, 0, "by the use of both in each domain"),
    SHARE("given_low", MIXT_ROLE_LOW, 0, ""),
    SHARE("given_high", MIXT_ROLE_HIGH, 0, ""),
    SHARE("back", MIXT_ROLE_VALUE, 1,
          "of the tokens that have the other, those that have the expert"),
    SHARE("back_random", MIXT_ROLE_RANDOM, 1, "(k - 1) / (E - 1)"),
    SHARE("back_use", MIXT_ROLE_USE, 1, "by the use of both in each domain"),
    SHARE("back_low", MIXT_ROLE_LOW, 1, ""),
    SHARE("back_high", MIXT_ROLE_HIGH, 1, ""),
    NUMBER("lift", MIXT_ROLE_VALUE, 2, "tokens with both, by those expected from the use of each"),
    NUMBER("lift_low", MIXT_ROLE_LOW, 2, ""),
    NUMBER("lift_high", MIXT_ROLE_HIGH, 2, ""),
    NUMBER("p", MIXT_ROLE_P, 2, "that the lift is 1: Student's t over groups of documents"),
    NUMBER("q", MIXT_ROLE_Q, 2, "over all pairs of all layers"),
    NUMBER("log2_lift", MIXT_ROLE_EFFECT, 2, "1: twice as often as expected"),
    {.name = "tokens", .help = "with both", .kind = MIXT_COLUMN_COUNT, .role = MIXT_ROLE_SUPPORT},
};
enum {
    PAIR_LAYER,
    PAIR_EXPERT,
    PAIR_OTHER,
    GIVEN,
    GIVEN_RANDOM,
    GIVEN_USE,
    GIVEN_LOW,
    GIVEN_HIGH,
    BACK,
    BACK_RANDOM,
    BACK_USE,
    BACK_LOW,
    BACK_HIGH,
    LIFT,
    LIFT_LOW,
    LIFT_HIGH,
    PAIR_P,
    PAIR_Q,
    LOG2_LIFT,
    PAIR_TOKENS,
    PAIR_COLUMNS,
};

/* Of each pair of a layer. */
typedef struct pair_lift {
    double expected;
    double least;       /* variance of the lift that drawing tokens gives */
    double sum, square; /* of the lifts without each group */
    double error;       /* standard error of the lift */
    double score;       /* how many of them it lies from 1 */
    uint32_t i, j;
} pair_lift;

/* Half a 95 % interval in standard errors; NaN where there are no groups to compare. */
static double reach_of(const pair_table *t)
{
    return t->groups >= 2 ? mixt_student_975(t->groups - 1) : NAN;
}

static void measure_pairs(pair_table *t, pair_lift *lifts)
{
    for (int without = -1; without < (t->groups >= 2 ? t->groups : 0); without++) {
        uint32_t kept = without < 0 ? all_groups(t) : all_without(t, without);
        fit_pairs(t, kept);
        size_t pair = 0;
        for (size_t i = 0; i < t->experts; i++) {
            for (size_t j = i + 1; j < t->experts; j++, pair++) {
                double expected = expected_together(t, i, j);
                double lift = counted_together(t, pair, kept) / expected;
                if (without < 0) {
                    lifts[pair] =
                        (pair_lift){.expected = expected,
                                    .least = variance_together(t, i, j) / expected / expected,
                                    .i = (uint32_t)i,
                                    .j = (uint32_t)j};
                } else {
                    lifts[pair].sum += lift;
                    lifts[pair].square += lift * lift;
                }
            }
        }
    }
    double groups = t->groups,
           known = MIXT_NORMAL_975 / reach_of(t); /* not Student's: it is no estimate */
    for (size_t pair = 0; pair < t->pairs; pair++) {
        pair_lift *l = &lifts[pair];
        double spread = fmax(l->square - l->sum * l->sum / groups, 0);
        double variance = t->groups >= 2 ? spread * (groups - 1) / groups : NAN;
        double together = counted_together(t, pair, all_groups(t));
        if (fmin(l->expected, together) < FEW_TOGETHER) {
            variance = fmax(variance, l->least * known * known);
        }
        l->error = sqrt(variance);
        double lift = together / l->expected;
        l->score = l->error > 0 ? (lift - 1) / l->error : lift == 1 ? 0 : NAN;
    }
}

/* The surest first; pairs without a score behind them, the most expected first. */
static int by_score(const void *left, const void *right)
{
    const pair_lift *a = left, *b = right;
    double x = isnan(a->score) ? -1 : fabs(a->score), y = isnan(b->score) ? -1 : fabs(b->score);
    if (x != y) {
        return (x < y) - (x > y);
    }
    if (a->expected != b->expected) {
        return (a->expected < b->expected) - (a->expected > b->expected);
    }
    return a->i != b->i ? (a->i > b->i) - (a->i < b->i) : (a->j > b->j) - (a->j < b->j);
}

/* Cells of one side of a pair: of tokens with `expert`. */
static void fill_side(const pair_table *t, const pair_lift *l, size_t expert, double together,
                      double *cells)
{
    double chosen = (double)count_chosen(t, expert, all_groups(t)), partners = 0;
    for (size_t row = 0; row < (size_t)t->groups * t->domains; row++) {
        partners += (double)t->partners[row * t->experts + expert];
    }
    double use = l->expected / chosen, reach = reach_of(t) * l->error * use;
    cells[0] = together / chosen;
    cells[1] = partners / chosen / (double)(t->experts - 1);
    cells[2] = use;
    cells[3] = fmax(cells[0] - reach, isnan(reach) ? reach : 0);
    cells[4] = fmin(cells[0] + reach, isnan(reach) ? reach : 1);
}

static mixt_status add_pair(const pair_table *t, int layer, const pair_lift *l, mixt_table *table,
                            mixt_error *error)
{
    double *row = mixt_table_append(table);
    if (row == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "measure coactivation: no memory");
    }
    double together = counted_together(t, pair_index(t->experts, l->i, l->j), all_groups(t));
    double lift = together / l->expected, reach = reach_of(t) * l->error;
    row[PAIR_LAYER] = t->m->trace->layer_numbers[layer];
    row[PAIR_EXPERT] = l->i;
    row[PAIR_OTHER] = l->j;
    fill_side(t, l, l->i, together, row + GIVEN);
    fill_side(t, l, l->j, together, row + BACK);
    row[LIFT] = lift;
    row[LIFT_LOW] = isnan(reach) ? NAN : fmax(lift - reach, 0);
    row[LIFT_HIGH] = lift + reach;
    row[PAIR_P] = mixt_student_p(l->score, t->groups - 1);
    row[LOG2_LIFT] = log2(lift);
    row[PAIR_TOKENS] = together;
    return MIXT_OK;
}

/* q over all pairs that were tested, of which the table may hold the surest: ranks of the rows are
 * then no larger than among all pairs, so their q is no smaller. */
static mixt_status discover_pairs(mixt_table *table, uint64_t tested, mixt_error *error)
{
    MIXT_TRY(mixt_table_discover(table, error));
    uint64_t rows = 0;
    for (uint64_t r = 0; r < table->rows; r++) {
        rows += !isnan(mixt_table_value(table, r, PAIR_P));
    }
    for (uint64_t r = 0; r < table->rows && rows != 0; r++) {
        double *q = &table->cells[r * (uint64_t)table->column_count + PAIR_Q];
        *q = isnan(*q) ? *q : fmin(1, *q * ((double)tested / (double)rows));
    }
    return MIXT_OK;
}

static mixt_status fill_pairs(const mixt_measuring *m, mixt_table *table, mixt_error *error)
{
    pair_table t;
    MIXT_TRY(table_make(m, MIXT_MEASURE_GROUPS, &t, error));
    pair_lift *lifts = calloc(t.pairs + 1, sizeof *lifts);
    mixt_status status =
        lifts != NULL ? MIXT_OK
                      : mixt_fail(error, MIXT_ERROR_MEMORY, "measure coactivation: no memory");
    bool all = t.experts <= ALL_PAIRS_EXPERTS;
    uint64_t tested = 0, left_out = 0;
    for (int layer = 0; layer < m->trace->info.layers && status == MIXT_OK; layer++) {
        count_pairs(&t, layer, mixt_trace_experts(m->trace, layer, 0));
        measure_pairs(&t, lifts);
        if (!all) {
            qsort(lifts, t.pairs, sizeof *lifts, by_score);
        }
        size_t kept = 0;
        for (size_t pair = 0; pair < t.pairs && status == MIXT_OK; pair++) {
            if (!(lifts[pair].expected > 0)) {
                continue; /* one of them is never chosen beside another */
            }
            tested += !isnan(lifts[pair].score);
            if (all || kept < PAIRS_AN_EXPERT * t.experts) {
                status = add_pair(&t, layer, &lifts[pair], table, error);
                kept++;
            } else {
                left_out++;
            }
        }
    }
    if (status == MIXT_OK) {
        status = discover_pairs(table, tested, error);
    }
    if (left_out != 0) {
        mixt_buffer_format(&table->note,
                           "%llu pairs are left out: of each layer the %d times E that lie most "
                           "surely off their level are here; q counts all. ",
                           (unsigned long long)left_out, PAIRS_AN_EXPERT);
    }
    if (table->rows == 0) {
        mixt_buffer_text(&table->note, "No token has two experts at any layer. ");
    }
    free(lifts);
    table_release(&t);
    return status;
}

const mixt_measure_type mixt_measure_coactivation = {
    .info = {.name = "coactivation",
             .title = "Experts chosen together",
             .source = "OLMoE, 2409.02060 (over all pairs); quasi-independence, Goodman 1968",
             .about = "Of the tokens that have one expert, the part that has the other too, beside "
                      "what the use of both would give.",
             .traces = 1},
    .columns = pair_columns,
    .column_count = PAIR_COLUMNS,
    .fill = fill_pairs,
};

/* -- togetherness ------------------------------------------------------------------------- */

static const mixt_column layer_columns[] = {
    {.name = "layer", .kind = MIXT_COLUMN_LAYER, .role = MIXT_ROLE_KEY},
    SHARE("moved", MIXT_ROLE_VALUE, 0, "of all pairs, those that use does not explain"),
    SHARE("moved_use", MIXT_ROLE_USE, 0, "the same of made-up choices with that use"),
    SHARE("moved_low", MIXT_ROLE_LOW, 0, ""),
    SHARE("moved_high", MIXT_ROLE_HIGH, 0, ""),
    NUMBER("p", MIXT_ROLE_P, 0, "made-up choices that reach it"),
    NUMBER("q", MIXT_ROLE_Q, 0, "over all layers"),
    SHARE("excess", MIXT_ROLE_EFFECT, 0, "above the level of use"),
    SHARE("partner", MIXT_ROLE_VALUE, 1,
          "of an expert's tokens those with its most frequent partner, which one half of the "
          "documents picks and the other counts; mean over experts"),
    SHARE("partner_random", MIXT_ROLE_RANDOM, 1, "any one partner: (k - 1) / (E - 1)"),
    SHARE("partner_use", MIXT_ROLE_USE, 1,
          "by the use of both in each domain, in the half that counts"),
    SHARE("partner_low", MIXT_ROLE_LOW, 1, ""),
    SHARE("partner_high", MIXT_ROLE_HIGH, 1, ""),
    {.name = "pairs", .kind = MIXT_COLUMN_COUNT, .role = MIXT_ROLE_SUPPORT},
};
enum {
    SUM_LAYER,
    MOVED,
    MOVED_USE,
    MOVED_LOW,
    MOVED_HIGH,
    MOVED_P,
    MOVED_Q,
    MOVED_EXCESS,
    PARTNER,
    PARTNER_RANDOM,
    PARTNER_USE,
    PARTNER_LOW,
    PARTNER_HIGH,
    SUM_PAIRS,
    SUM_COLUMNS,
};

typedef struct layer_sum {
    double moved, pairs;
    double random; /* mean of the other experts of a choice, by E - 1 */
} layer_sum;

static layer_sum sum_layer(pair_table *t, uint32_t groups)
{
    layer_sum sum = {0};
    double moved = 0, choices = 0;
    fit_pairs(t, groups);
    size_t pair = 0;
    for (size_t i = 0; i < t->experts; i++) {
        for (size_t j = i + 1; j < t->experts; j++, pair++) {
            double count = counted_together(t, pair, groups);
            moved += fabs(count - expected_together(t, i, j)) / 2;
            sum.pairs += count;
        }
    }
    for (size_t e = 0; e < t->experts; e++) {
        choices += (double)count_chosen(t, e, groups);
    }
    sum.moved = sum.pairs > 0 ? moved / sum.pairs : NAN;
    sum.random = 2 * sum.pairs / choices / (double)(t->experts - 1);
    return sum;
}

/* Each expert's most frequent partner is picked by one half of the documents, every other group,
 * and counted on the other: picked where it is counted, it would be as frequent as chance made it.
 * (Both ways at once the two numbers hang together, and their spread is more than groups tell.)
 * With one group it is picked where it is counted. */
enum { PICKS, JUDGES };

static uint32_t half_of(const pair_table *t, int half)
{
    return t->groups < 2 ? all_groups(t)
                         : all_groups(t) & (half == PICKS ? 0x55555555 : 0xAAAAAAAA);
}

static size_t pair_of(const pair_table *t, size_t a, size_t b)
{
    return a < b ? pair_index(t->experts, a, b) : pair_index(t->experts, b, a);
}

static void pick_partners(const pair_table *t, uint32_t groups, size_t *picked)
{
    for (size_t e = 0; e < t->experts; e++) {
        double most = -1;
        for (size_t other = 0; other < t->experts; other++) {
            double count = other != e ? counted_together(t, pair_of(t, e, other), groups) : -1;
            if (count > most) {
                most = count;
                picked[e] = other;
            }
        }
    }
}

/* What the experts in use have of the picked partners by some groups, mean over experts: *expected
 * by the use of both there. */
static double mean_partner(pair_table *t, uint32_t groups, const size_t *picked, double *expected)
{
    double sum = 0, used = 0;
    *expected = 0;
    fit_pairs(t, groups);
    for (size_t e = 0; e < t->experts; e++) {
        double chosen = (double)count_chosen(t, e, groups);
        if (chosen > 0) {
            sum += counted_together(t, pair_of(t, e, picked[e]), groups) / chosen;
            *expected += expected_together(t, e, picked[e]) / chosen;
            used++;
        }
    }
    *expected /= used;
    return sum / used;
}

/* picked [E] is room. */
static void fill_partner(pair_table *t, size_t *picked, double *row)
{
    double beyond[MIXT_MEASURE_GROUPS], expected;
    int groups = 0;
    pick_partners(t, half_of(t, PICKS), picked);
    row[PARTNER] = mean_partner(t, half_of(t, JUDGES), picked, &row[PARTNER_USE]);
    for (int g = JUDGES; g < t->groups; g += 2) {
        double share = mean_partner(t, half_of(t, JUDGES) & all_without(t, g), picked, &expected);
        beyond[groups] = share - expected;
        groups += !isnan(beyond[groups]);
    }
    mixt_span span = mixt_jackknife(row[PARTNER], beyond, groups, 0, 1);
    row[PARTNER_LOW] = span.low;
    row[PARTNER_HIGH] = span.high;
}

/* What one layer's work needs beside the counts. */
typedef struct layer_room {
    pair_table whole, drawn; /* `drawn` in one group */
    uint16_t *rows;          /* [tokens, k] */
    double *moved;           /* [draws] */
    size_t *picked;          /* [E] */
    int draws;
} layer_room;

static mixt_status fill_layer(const mixt_measuring *m, int layer, layer_room *room, double *row,
                              mixt_error *error)
{
    pair_table *t = &room->whole;
    count_pairs(t, layer, mixt_trace_experts(m->trace, layer, 0));
    layer_sum sum = sum_layer(t, all_groups(t));
    double moved[MIXT_MEASURE_GROUPS];
    for (int g = 0; g < t->groups && t->groups >= 2; g++) {
        moved[g] = sum_layer(t, all_without(t, g)).moved;
    }
    row[SUM_LAYER] = m->trace->layer_numbers[layer];
    row[SUM_PAIRS] = sum.pairs;
    if (sum.pairs == 0) {
        return MIXT_OK;
    }
    for (int draw = 0; draw < room->draws; draw++) {
        MIXT_TRY(mixt_null_draw(m, layer, MIXT_NULL_USE, (uint32_t)draw, room->rows, error));
        count_pairs(&room->drawn, layer, room->rows);
        room->moved[draw] = sum_layer(&room->drawn, all_groups(&room->drawn)).moved;
    }
    mixt_span span = mixt_jackknife(sum.moved, moved, t->groups, 0, 1);
    row[MOVED] = sum.moved;
    row[MOVED_USE] = mixt_draws_mean(room->moved, room->draws);
    row[MOVED_LOW] = span.low;
    row[MOVED_HIGH] = span.high;
    row[MOVED_P] = mixt_draws_p(room->moved, room->draws, sum.moved);
    row[MOVED_EXCESS] = sum.moved - row[MOVED_USE];
    row[PARTNER_RANDOM] = sum.random;
    fill_partner(t, room->picked, row);
    return MIXT_OK;
}

static mixt_status fill_layers(const mixt_measuring *m, mixt_table *table, mixt_error *error)
{
    const mixt_trace_info *info = &m->trace->info;
    double choices = (double)info->tokens * info->layers * info->experts_per_token;
    layer_room room = {.draws = (int)fmin(m->shuffles, fmax(LEAST_DRAWS, DRAW_CHOICES / choices))};
    MIXT_TRY(table_make(m, MIXT_MEASURE_GROUPS, &room.whole, error));
    mixt_status status = table_make(m, 1, &room.drawn, error);
    if (status != MIXT_OK) {
        table_release(&room.whole);
        return status;
    }
    room.picked = calloc(room.whole.experts, sizeof *room.picked);
    room.rows = calloc(info->tokens * (uint64_t)info->experts_per_token, sizeof *room.rows);
    room.moved = calloc((size_t)room.draws, sizeof *room.moved);
    if (room.picked == NULL || room.rows == NULL || room.moved == NULL) {
        status = mixt_fail(error, MIXT_ERROR_MEMORY, "measure togetherness: no memory");
    }
    for (int layer = 0; layer < info->layers && status == MIXT_OK; layer++) {
        double *row = mixt_table_append(table);
        status = row == NULL
                     ? mixt_fail(error, MIXT_ERROR_MEMORY, "measure togetherness: no memory")
                     : fill_layer(m, layer, &room, row, error);
    }
    if (status == MIXT_OK) {
        status = mixt_table_discover(table, error);
    }
    table->draws = room.draws;
    free(room.picked);
    free(room.rows);
    free(room.moved);
    table_release(&room.drawn);
    table_release(&room.whole);
    return status;
}

const mixt_measure_type mixt_measure_togetherness = {
    .info = {.name = "togetherness",
             .title = "How much experts go together",
             .source = "total variation from quasi-independence, Goodman 1968",
             .about =
                 "The part of a layer's pairs that would have to be others for experts to meet "
                 "by their use alone, and how often an expert has its usual partner.",
             .traces = 1},
    .drawing = MIXT_DRAWS_CHOICES,
    .columns = layer_columns,
    .column_count = SUM_COLUMNS,
    .fill = fill_layers,
};
