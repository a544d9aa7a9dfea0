/* Cases of the operators of a mixture: route, dispatch, low_rank, experts, combine, competitive. */
#include "operator_cases.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* route: {T, capacity, d, E, k, score, flags, groups * 16 + groups used, capacity in percent,
 * groups that are balanced} */

enum {
    RENORMALISE = 1,
    BIAS = 2,
    GSHARD = 4,
    SCALED = 8,
    NO_LOSSES = 16,
    LOGIT_BIAS = 32,
    NORMALISE = 64,
    CAP = 128,
    ATTENTION = 256,
    TOP_TWO = 512,
    MASK = 1024,   /* every third expert, the first of them 1 */
    FORCED = 2048, /* the second choice: expert 2 */
    HASH = 4096,
    ALL = 8192,
    EXPERT_CHOICE = 16384,
    SEQUENCE = 32768, /* documents of 7 rows, the last cut short */
    SINKHORN = 65536,
    NOISE = 131072,
    TRAINING = 262144,
    CAPACITY = 1 << 20,  /* 0.75 times the equal share */
    BY_WEIGHT = 1 << 21, /* what is dropped beyond it */
    SKYWORK = 1 << 22,
    DOCUMENTS = 1 << 23, /* balanced one by one */
    SEEN = 1 << 24,      /* balanced over a step, of which there were choices before */
    FACTORS = 1 << 25,   /* of three layers, of which this is the last */
};

/* the random numbers of a training step: seed, its upper half, step, batch */
static const int32_t route_draw[MIXT_DRAWS] = {5, 1, 7, 3};

static const int64_t route_rows[][CASE_NUMBERS] = {
    {1, 1, 3, 2, 1, MIXT_SCORE_SOFTMAX, 0},
    {1, 2, 3, 1, 1, MIXT_SCORE_SOFTMAX, 0},
    {9, 9, 5, 4, 2, MIXT_SCORE_SOFTMAX, RENORMALISE},
    {130, 150, 16, 8, 2, MIXT_SCORE_SOFTMAX, RENORMALISE | BIAS},
    {70, 70, 6, 5, 5, MIXT_SCORE_SOFTMAX, RENORMALISE | GSHARD},
    {33, 40, 12, 60, 4, MIXT_SCORE_SOFTMAX, SCALED},
    {33, 33, 12, 17, 3, MIXT_SCORE_SOFTMAX, GSHARD | BIAS},
    {20, 20, 8, 8, 2, MIXT_SCORE_TOP_K_SOFTMAX, 0},
    {65, 65, 9, 33, 4, MIXT_SCORE_TOP_K_SOFTMAX, SCALED | BIAS},
    {20, 20, 8, 8, 1, MIXT_SCORE_SIGMOID, 0},
    {65, 80, 9, 20, 6, MIXT_SCORE_SIGMOID, RENORMALISE | BIAS | SCALED},
    {20, 20, 8, 8, 2, MIXT_SCORE_SIGMOID, RENORMALISE | NO_LOSSES},
    {40, 50, 9, 12, 4, MIXT_SCORE_TOP_K_SOFTMAX, LOGIT_BIAS},
    {300, 300, 7, 16, 2, MIXT_SCORE_SOFTMAX, RENORMALISE | NORMALISE},
    {33, 40, 8, 9, 3, MIXT_SCORE_SOFTMAX, NORMALISE | LOGIT_BIAS | CAP},
    {20, 20, 8, 6, 2, MIXT_SCORE_SIGMOID, CAP | RENORMALISE},
    {50, 64, 6, 10, 2, MIXT_SCORE_SOFTMAX, ATTENTION | RENORMALISE},
    {20, 20, 5, 7, 2, MIXT_SCORE_TOP_K_SOFTMAX, ATTENTION | LOGIT_BIAS | NORMALISE | CAP},
    {64, 64, 8, 24, 3, MIXT_SCORE_SOFTMAX, SCALED, 6 * 16 + 2},
    {64, 64, 8, 32, 5, MIXT_SCORE_SIGMOID, RENORMALISE | BIAS | SCALED | TOP_TWO, 8 * 16 + 4},
    {33, 33, 8, 20, 4, MIXT_SCORE_SIGMOID, RENORMALISE | BIAS | TOP_TWO | MASK, 4 * 16 + 2},
    {33, 33, 8, 12, 4, MIXT_SCORE_TOP_K_SOFTMAX, MASK | FORCED},
    {33, 33, 8, 12, 3, MIXT_SCORE_SOFTMAX, RENORMALISE | FORCED, 4 * 16 + 1},
    {70, 80, 8, 12, 3, MIXT_SCORE_SOFTMAX, HASH | RENORMALISE},
    {33, 33, 8, 9, 1, MIXT_SCORE_SOFTMAX, HASH | RENORMALISE},
    {33, 33, 8, 9, 9, MIXT_SCORE_SIGMOID, HASH | SCALED},
    {33, 33, 8, 12, 4, MIXT_SCORE_TOP_K_SOFTMAX, HASH | MASK | FORCED | GSHARD},
    {70, 80, 8, 12, 3, MIXT_SCORE_SOFTMAX, RENORMALISE | CAPACITY},
    {70, 80, 8, 12, 3, MIXT_SCORE_SOFTMAX, RENORMALISE | CAPACITY | BY_WEIGHT},
    {70, 80, 8, 6, 2, MIXT_SCORE_TOP_K_SOFTMAX, CAPACITY | BY_WEIGHT | FORCED},
    {33, 33, 8, 9, 1, MIXT_SCORE_SOFTMAX, HASH | CAPACITY | BY_WEIGHT},
    {33, 33, 8, 7, 7, MIXT_SCORE_SOFTMAX, ALL},
    {40, 50, 8, 12, 12, MIXT_SCORE_SIGMOID, ALL | RENORMALISE | MASK | SCALED},
    {33, 33, 8, 5, 5, MIXT_SCORE_TOP_K_SOFTMAX, ALL | GSHARD | MASK},
    {70, 80, 8, 8, 2, MIXT_SCORE_SOFTMAX, EXPERT_CHOICE | TRAINING},
    {70, 80, 8, 8, 2, MIXT_SCORE_SOFTMAX, EXPERT_CHOICE | TRAINING | SEQUENCE | RENORMALISE, 0,
     125},
    {60, 64, 8, 5, 2, MIXT_SCORE_SIGMOID, EXPERT_CHOICE | TRAINING | SCALED | RENORMALISE, 0, 170},
    {40, 40, 8, 6, 3, MIXT_SCORE_SIGMOID, EXPERT_CHOICE | TRAINING | MASK | SEQUENCE, 0, 400},
    {9, 9, 8, 20, 2, MIXT_SCORE_SOFTMAX, EXPERT_CHOICE | TRAINING | SEQUENCE},
    {33, 33, 8, 9, 3, MIXT_SCORE_SOFTMAX, EXPERT_CHOICE | MASK | FORCED},
    {150, 160, 8, 8, 1, MIXT_SCORE_SIGMOID, SINKHORN | TRAINING},
    {300, 300, 7, 16, 3, MIXT_SCORE_SOFTMAX, SINKHORN | TRAINING},
    {64, 64, 8, 12, 4, MIXT_SCORE_TOP_K_SOFTMAX, SINKHORN | TRAINING | MASK | FORCED},
    {64, 64, 8, 12, 4, MIXT_SCORE_SOFTMAX, SINKHORN | RENORMALISE | MASK},
    {70, 80, 8, 6, 2, MIXT_SCORE_SOFTMAX, NOISE | TRAINING | RENORMALISE},
    {33, 33, 8, 9, 3, MIXT_SCORE_TOP_K_SOFTMAX, NOISE | TRAINING | LOGIT_BIAS | NORMALISE | CAP},
    {33, 40, 8, 9, 3, MIXT_SCORE_SIGMOID, NOISE | CAP | RENORMALISE},
    {50, 50, 6, 10, 2, MIXT_SCORE_SOFTMAX, NOISE | TRAINING | EXPERT_CHOICE | LOGIT_BIAS},
    {70, 80, 8, 12, 3, MIXT_SCORE_SOFTMAX, SKYWORK | RENORMALISE | NORMALISE},
    {200, 200, 6, 9, 2, MIXT_SCORE_SIGMOID, SKYWORK | RENORMALISE | FACTORS},
    {300, 310, 7, 16, 2, MIXT_SCORE_SOFTMAX, DOCUMENTS | RENORMALISE},
    {130, 130, 6, 10, 3, MIXT_SCORE_SIGMOID, DOCUMENTS | GSHARD | BIAS | FACTORS},
    {300, 300, 7, 5, 2, MIXT_SCORE_TOP_K_SOFTMAX, DOCUMENTS | SKYWORK},
    {33, 40, 5, 6, 2, MIXT_SCORE_SIGMOID, DOCUMENTS | SKYWORK | CAP | FACTORS},
    {130, 140, 6, 10, 3, MIXT_SCORE_SOFTMAX, SEEN},
    {70, 70, 6, 8, 2, MIXT_SCORE_SIGMOID, SEEN | GSHARD | RENORMALISE | FACTORS},
    {130, 140, 6, 12, 3, MIXT_SCORE_SOFTMAX, RENORMALISE, 0, 0, 4},
    {70, 70, 6, 8, 2, MIXT_SCORE_SIGMOID, GSHARD | FACTORS, 0, 0, 2},
    {40, 50, 6, 8, 2, MIXT_SCORE_TOP_K_SOFTMAX, CAPACITY, 0, 0, 8},
    {300, 310, 7, 16, 2, MIXT_SCORE_SOFTMAX, DOCUMENTS | RENORMALISE, 0, 0, 4},
    {130, 130, 6, 10, 3, MIXT_SCORE_SIGMOID, DOCUMENTS | GSHARD | FACTORS, 0, 0, 5},
    {130, 140, 6, 12, 3, MIXT_SCORE_SOFTMAX, SEEN | FACTORS, 0, 0, 3},
    {70, 80, 8, 8, 2, MIXT_SCORE_SOFTMAX, EXPERT_CHOICE | TRAINING | RENORMALISE, 0, 0, 4},
    {33, 33, 8, 12, 12, MIXT_SCORE_SOFTMAX, ALL | MASK, 0, 0, 6},
};

static bool route_has(const operator_case *c, int64_t flag)
{
    return (c->p[6] & flag) != 0;
}

static void route_prepare_balance(operator_case *c)
{
    c->attributes.training = route_has(c, TRAINING | DOCUMENTS | SEEN);
    if (route_has(c, DOCUMENTS)) {
        c->request.in[ROUTE_FIRST] = mixt_shape_integers(by_token(c, 1, 0));
    }
    if (route_has(c, SEEN)) {
        c->request.in[ROUTE_SEEN] = mixt_shape_integers(fixed(c->p[3], 0));
    }
    if (route_has(c, FACTORS)) {
        c->request.in[ROUTE_BALANCE] = fixed(3, 0);
        c->layer = 2;
    }
}

static void route_prepare(operator_case *c)
{
    static const uint8_t mask[60] = {0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 1};
    static const int32_t forced[8] = {-1, 2, -1, -1, -1, -1, -1, -1};
    c->spec = (mixt_router_spec){
        .experts = (int)c->p[3],
        .chosen = (int)c->p[4],
        .options =
            {
                .logits = route_has(c, ATTENTION) ? MIXT_LOGITS_ATTENTION : MIXT_LOGITS_LINEAR,
                .logit_bias = route_has(c, LOGIT_BIAS),
                .normalise = route_has(c, NORMALISE) ? 1.5 : 0,
                .soft_cap = route_has(c, CAP) ? 3 : 0,
                .groups = (int)c->p[7] / 16,
                .groups_used = (int)c->p[7] % 16,
                .group_score = route_has(c, TOP_TWO) ? MIXT_GROUP_TOP_TWO : MIXT_GROUP_MAX,
                .select = route_has(c, HASH)            ? 1
                          : route_has(c, ALL)           ? 2
                          : route_has(c, EXPERT_CHOICE) ? 3
                          : route_has(c, SINKHORN)      ? 4
                                                        : 0,
                .capacity = (double)c->p[8] / 100,
                .choice_scope =
                    route_has(c, SEQUENCE) ? MIXT_CHOICE_OVER_SEQUENCE : MIXT_CHOICE_OVER_BATCH,
                .noise = route_has(c, NOISE) ? MIXT_NOISE_TOP_K : MIXT_NOISE_NONE,
                .score = (mixt_score)c->p[5],
                .renormalise = route_has(c, RENORMALISE),
                .scale = route_has(c, SCALED) ? 2.5 : 1,
                .drop = route_has(c, BY_WEIGHT) ? MIXT_DROP_WEIGHT : MIXT_DROP_POSITION,
                .balance = route_has(c, GSHARD)    ? MIXT_BALANCE_GSHARD
                           : route_has(c, SKYWORK) ? MIXT_BALANCE_SKYWORK
                                                   : MIXT_BALANCE_SWITCH,
                .balance_scope = route_has(c, DOCUMENTS) ? MIXT_BALANCE_OVER_SEQUENCE
                                 : route_has(c, SEEN)    ? MIXT_BALANCE_OVER_STEP
                                                         : MIXT_BALANCE_OVER_BATCH,
                .balance_groups = (int)c->p[9],
            },
        .mask = route_has(c, MASK) ? mask : NULL,
        .forced = route_has(c, FORCED) ? forced : NULL,
    };
    c->attributes.router = &c->spec;
    c->attributes.capacity = route_has(c, CAPACITY) ? 0.75 : 0;
    c->attributes.balance_weight = route_has(c, NO_LOSSES) ? 0 : 0.7;
    c->attributes.device_weight = route_has(c, NO_LOSSES) ? 0 : 0.9;
    c->attributes.z_weight = route_has(c, NO_LOSSES) ? 0 : 0.3;
    c->request.in[ROUTE_X] = by_token(c, 1, c->p[2]);
    c->attributes.training = route_has(c, TRAINING);
    int64_t parts = route_has(c, ATTENTION) ? 3 : route_has(c, NOISE) ? 2 : 1;
    c->request.in[ROUTE_WEIGHT] = fixed(parts * c->p[3], c->p[2]);
    if (route_has(c, BIAS)) {
        c->request.in[ROUTE_SELECT_BIAS] = fixed(c->p[3], 0);
    }
    c->request.in[ROUTE_SCALE] = fixed(MIXT_SCALES, 0);
    c->differentiable = SLOT(ROUTE_X) | SLOT(ROUTE_WEIGHT);
    if (route_has(c, LOGIT_BIAS)) {
        c->request.in[ROUTE_LOGIT_BIAS] = fixed(c->p[3], 0);
        c->differentiable |= SLOT(ROUTE_LOGIT_BIAS);
    }
    if (route_has(c, HASH)) {
        c->request.in[ROUTE_TOKENS] = mixt_shape_integers(by_token(c, 1, 0));
    }
    if (route_has(c, EXPERT_CHOICE) && route_has(c, TRAINING)) {
        c->request.in[ROUTE_FIRST] = mixt_shape_integers(by_token(c, 1, 0));
    }
    if (route_has(c, NOISE) && route_has(c, TRAINING)) {
        c->request.in[ROUTE_DRAW] = mixt_shape_integers(fixed(MIXT_DRAWS, 0));
    }
    route_prepare_balance(c);
    c->functional = SLOT(ROUTE_WEIGHTS) | SLOT(ROUTE_LOSSES);
}

/* Documents of some rows, a long one among them; and what each expert was chosen before. */
static void route_fill_balance(operator_case *c)
{
    int32_t *first = c->integer[ROUTE_FIRST];
    for (int64_t t = 0; t < c->tokens && route_has(c, DOCUMENTS); t++) {
        bool begins = t == 0 || ((t < 40 || t > 190) && case_below(7) == 0);
        first[t] = begins ? (int32_t)t : first[t - 1];
    }
    for (int64_t e = 0; e < c->p[3] && c->integer[ROUTE_SEEN] != NULL; e++) {
        c->integer[ROUTE_SEEN][e] = (int32_t)case_below(90);
    }
}

static void route_fill(operator_case *c)
{
    double factor = route_has(c, FACTORS) ? c->value[ROUTE_BALANCE][c->layer] : 1;
    double scale = c->value[ROUTE_SCALE][MIXT_SCALE_ROUTER];
    for (int64_t t = 0; t < c->tokens && c->integer[ROUTE_TOKENS] != NULL; t++) {
        c->integer[ROUTE_TOKENS][t] = (int32_t)case_below(1000);
    }
    for (int64_t t = 0; t < c->tokens && c->integer[ROUTE_FIRST] != NULL; t++) {
        c->integer[ROUTE_FIRST][t] = (int32_t)(t / 7 * 7);
    }
    for (int64_t i = 0; i < MIXT_DRAWS && c->integer[ROUTE_DRAW] != NULL; i++) {
        c->integer[ROUTE_DRAW][i] = route_draw[i];
    }
    for (int64_t i = 0; i < c->p[3] && c->value[ROUTE_SELECT_BIAS] != NULL; i++) {
        c->value[ROUTE_SELECT_BIAS][i] *= 0.125;
    }
    /* softmax of products: large logits would leave one expert for each */
    for (int64_t i = 0; i < 3 * c->p[3] * c->p[2] && route_has(c, ATTENTION); i++) {
        c->value[ROUTE_WEIGHT][i] *= 0.375;
    }
    route_fill_balance(c);
    c->implied[ROUTE_LOSSES] = calloc(ROUTE_LOSS_COUNT, sizeof(double));
    c->implied[ROUTE_LOSSES][ROUTE_LOSS_BALANCE] = scale * c->attributes.balance_weight * factor;
    c->implied[ROUTE_LOSSES][ROUTE_LOSS_DEVICE] = scale * c->attributes.device_weight;
    c->implied[ROUTE_LOSSES][ROUTE_LOSS_Z] = scale * c->attributes.z_weight;
}

/* What noise adds to the logit of expert e for token t. */
static double route_noise(const operator_case *c, int64_t t, int64_t e, double raw)
{
    mixt_random_key key = {(uint64_t)route_draw[MIXT_DRAW_SEED_HIGH] << 32 |
                               (uint64_t)route_draw[MIXT_DRAW_SEED_LOW],
                           MIXT_RANDOM_NOISE, (uint32_t)route_draw[MIXT_DRAW_STEP]};
    uint64_t index = (uint64_t)route_draw[MIXT_DRAW_BATCH] << 48 | (uint64_t)(t * c->p[3] + e);
    return mixt_random_normal(&key, index) * log(1 + exp(raw));
}

static void route_naive_logits(const operator_case *c, int64_t t, double *logits)
{
    int64_t experts = c->p[3], d = c->p[2];
    const double *x = c->value[ROUTE_X] + t * d;
    double raw[3][64], mean = 0, squares = 0;
    for (int64_t i = 0; i < c->request.in[ROUTE_WEIGHT].size[0]; i++) {
        raw[i / experts][i % experts] = case_product(x, c->value[ROUTE_WEIGHT] + i * d, d);
    }
    for (int64_t i = 0; i < experts; i++) {
        double sum = 0, weighted = 0;
        for (int64_t j = 0; j < experts && route_has(c, ATTENTION); j++) {
            sum += exp(raw[0][i] * raw[1][j]);
            weighted += exp(raw[0][i] * raw[1][j]) * raw[2][j];
        }
        logits[i] = route_has(c, ATTENTION) ? weighted / sum : raw[0][i];
        logits[i] += route_has(c, LOGIT_BIAS) ? c->value[ROUTE_LOGIT_BIAS][i] : 0;
        logits[i] +=
            route_has(c, NOISE) && route_has(c, TRAINING) ? route_noise(c, t, i, raw[1][i]) : 0;
        mean += logits[i] / (double)experts;
    }
    for (int64_t i = 0; i < experts; i++) {
        squares += pow(logits[i] - mean, 2);
    }
    for (int64_t i = 0; i < experts; i++) {
        if (route_has(c, NORMALISE)) {
            logits[i] *= 1.5 / sqrt(squares / (double)(experts - 1));
        }
        if (route_has(c, CAP)) {
            logits[i] = 3 * tanh(logits[i] / 3);
        }
    }
}

static void route_naive_scores(const operator_case *c, const double *logits, double *scores)
{
    double sum = 0;
    for (int e = 0; e < c->spec.experts; e++) {
        sum += exp(logits[e]);
    }
    for (int e = 0; e < c->spec.experts; e++) {
        scores[e] =
            c->p[5] == MIXT_SCORE_SIGMOID ? 1 / (1 + exp(-logits[e])) : exp(logits[e]) / sum;
    }
}

/* Marks the best of n values that are not marked yet and returns it. */
static int route_take_best(const double *values, int n, bool *taken)
{
    int best = -1;
    for (int i = 0; i < n; i++) {
        if (!taken[i] && (best < 0 || values[i] > values[best])) {
            best = i;
        }
    }
    taken[best] = true;
    return best;
}

/* Marks the experts outside the best groups. */
static void route_naive_groups(const operator_case *c, const double *values, bool *taken)
{
    int groups = c->spec.options.groups, size = c->spec.experts / groups;
    double scores[64];
    bool used[64] = {false};
    for (int g = 0; g < groups; g++) {
        bool seen[64];
        memcpy(seen, taken, sizeof seen);
        scores[g] = values[g * size + route_take_best(values + g * size, size, seen + g * size)];
        if (route_has(c, TOP_TWO)) {
            scores[g] +=
                values[g * size + route_take_best(values + g * size, size, seen + g * size)];
        }
    }
    for (int i = 0; i < c->spec.options.groups_used; i++) {
        (void)route_take_best(scores, groups, used);
    }
    for (int e = 0; e < c->spec.experts; e++) {
        taken[e] = taken[e] || !used[e / size];
    }
}

/* The next expert of a token by its hash: a place among those that are left, the first of which
 * then goes where the taken one was. `left` [64] begins as all that may be chosen. */
static int route_take_drawn(int32_t token, int draw, int count, int *left)
{
    mixt_random_key table = {0, MIXT_RANDOM_HASH, 0};
    uint64_t index = (uint64_t)token * MIXT_EXPERTS_MAX + (uint64_t)draw;
    int place = (int)mixt_random_below(&table, index, (uint64_t)(count - draw));
    int found = left[draw + place];
    left[draw + place] = left[draw];
    return found;
}

/* What the k best of a row are chosen by. `factors` [E]: of the balanced assignment, or NULL. */
static void route_naive_values(const operator_case *c, const double *logits, const double *scores,
                               const double *factors, double *values, bool *taken)
{
    bool after = c->p[5] == MIXT_SCORE_TOP_K_SOFTMAX;
    for (int e = 0; e < c->spec.experts; e++) {
        values[e] = (after ? logits[e] : scores[e]) +
                    (c->value[ROUTE_SELECT_BIAS] != NULL ? c->value[ROUTE_SELECT_BIAS][e] : 0);
        values[e] = factors != NULL ? exp(logits[e]) * factors[e] : values[e];
        taken[e] = route_has(c, MASK) && e % 3 == 1;
    }
    if (c->spec.options.groups > 0) {
        route_naive_groups(c, values, taken);
    }
    taken[2] = taken[2] || route_has(c, FORCED);
}

/* Choices of token t, the largest first by looking through all k times; -1 where none is left. */
static void route_naive_row(const operator_case *c, int64_t t, const double *logits,
                            const double *scores, const double *factors, int32_t *ids)
{
    double values[64];
    bool taken[64] = {false};
    route_naive_values(c, logits, scores, factors, values, taken);
    int left[64], count = 0;
    for (int e = 0; e < c->spec.experts; e++) {
        if (!taken[e]) {
            left[count++] = e;
        }
    }
    for (int j = 0, draw = 0; j < c->spec.chosen; j++) {
        bool none = route_has(c, ALL) && j >= count;
        ids[j] = none                             ? -1
                 : route_has(c, FORCED) && j == 1 ? 2
                 : route_has(c, HASH)
                     ? route_take_drawn(c->integer[ROUTE_TOKENS][t], draw++, count, left)
                     : route_take_best(values, c->spec.experts, taken);
    }
}

/* Does expert e take token t: do fewer tokens of its document (or of all) than it takes stand
 * before it? */
static bool route_takes(const operator_case *c, const double *scores, int64_t t, int e)
{
    int64_t experts = c->p[3], before = 0, begin = route_has(c, SEQUENCE) ? t / 7 * 7 : 0;
    int64_t end = route_has(c, SEQUENCE) && begin + 7 < c->tokens ? begin + 7 : c->tokens;
    for (int64_t i = begin; i < end; i++) {
        double mine = scores[t * experts + e], other = scores[i * experts + e];
        before += other > mine || (other == mine && i < t);
    }
    int64_t percent = c->p[8] > 0 ? c->p[8] : 100;
    return before < percent * (end - begin) * c->p[4] / (100 * experts) &&
           !(route_has(c, MASK) && e % 3 == 1);
}

/* Experts that take token t, the best first. */
static void route_naive_taken(const operator_case *c, int64_t t, const double *scores, int32_t *ids)
{
    bool taken[64];
    int count = 0;
    for (int e = 0; e < c->spec.experts; e++) {
        taken[e] = !route_takes(c, scores, t, e);
        count += !taken[e];
    }
    for (int j = 0; j < c->spec.experts; j++) {
        ids[j] = j < count ? route_take_best(scores + t * c->p[3], c->spec.experts, taken) : -1;
    }
}

/* The experts' factors when rows and columns of exp(logits) are divided by their sums in turn. */
static void route_naive_balance(const operator_case *c, const double *logits, double *factors)
{
    int64_t experts = c->p[3];
    for (int64_t e = 0; e < experts; e++) {
        factors[e] = 1;
    }
    for (double change = 1; change > 1e-4;) {
        double columns[64] = {0};
        for (int64_t t = 0; t < c->tokens; t++) {
            double row = 0;
            for (int64_t e = 0; e < experts; e++) {
                row += exp(logits[t * experts + e]) * factors[e];
            }
            for (int64_t e = 0; e < experts; e++) {
                columns[e] += exp(logits[t * experts + e]) / row / (double)c->tokens;
            }
        }
        change = 0;
        for (int64_t e = 0; e < experts; e++) {
            change += fabs(1 / columns[e] / (double)experts - factors[e]) / (double)experts;
            factors[e] = 1 / columns[e] / (double)experts;
        }
    }
}

static void route_naive_weights(const operator_case *c, int64_t columns, const double *logits,
                                const double *scores, const int32_t *ids, double *weights)
{
    bool after = c->p[5] == MIXT_SCORE_TOP_K_SOFTMAX;
    double sum = 0;
    for (int64_t j = 0; j < columns && ids[j] >= 0; j++) {
        weights[j] = after ? exp(logits[ids[j]]) : scores[ids[j]];
        sum += weights[j];
    }
    for (int64_t j = 0; j < columns && ids[j] >= 0; j++) {
        weights[j] *= c->spec.options.scale / (after || c->spec.options.renormalise ? sum : 1);
    }
}

/* Has choice i of expert e a place: is its rank among the expert's choices below the capacity? */
static bool route_naive_takes(const operator_case *c, int64_t i, const int32_t *ids,
                              const double *weights)
{
    int64_t k = c->request.out[ROUTE_IDS].size[1], rank = 0, e = ids[i];
    for (int64_t o = 0; o < c->tokens * k; o++) {
        bool before = o % k < i % k || (o % k == i % k && o < i);
        if (route_has(c, BY_WEIGHT)) {
            before = weights[o] > weights[i] || (weights[o] == weights[i] && before);
        }
        rank += ids[o] == e && before;
    }
    return !route_has(c, CAPACITY) ||
           (double)rank < ceil(0.75 * (double)(c->tokens * k) / c->spec.experts);
}

static void route_naive_record(const operator_case *c, const double *weights,
                               int32_t *const *integer_out)
{
    int32_t p = 0;
    int64_t choices = c->tokens * c->request.out[ROUTE_IDS].size[1];
    for (int64_t i = 0; i < choices; i++) {
        integer_out[ROUTE_PLACE][i] = -1;
    }
    for (int e = 0; e < c->spec.experts; e++) {
        integer_out[ROUTE_OFFSETS][e] = p;
        for (int64_t i = 0; i < choices; i++) {
            if (integer_out[ROUTE_IDS][i] == e) {
                integer_out[ROUTE_COUNTS][e]++;
                bool taken = route_naive_takes(c, i, integer_out[ROUTE_IDS], weights);
                integer_out[ROUTE_PLACE][i] = taken ? p : -1;
                if (taken) {
                    integer_out[ROUTE_ORDER][p++] = (int32_t)i;
                }
            }
        }
    }
    integer_out[ROUTE_OFFSETS][c->spec.experts] = p;
    for (int64_t i = p; i < c->tokens * c->request.out[ROUTE_ORDER].multiple; i++) {
        integer_out[ROUTE_ORDER][i] = -1;
    }
}

/* The balance loss of rows [begin, end), from the rows' scores of sum 1 [T, E]; that over groups as
 * DeepSeek writes it: the mean of f_i = E / (k T) times the choices, and the sum of P_i. */
static double route_naive_share(const operator_case *c, const double *scores, const int32_t *ids,
                                const int64_t rows[2], double *device)
{
    int64_t begin = rows[0], end = rows[1], groups = c->p[9];
    int64_t experts = c->p[3], columns = c->request.out[ROUTE_IDS].size[1];
    bool first_only = route_has(c, GSHARD);
    double mean[64] = {0}, counts[64] = {0}, loss = 0;
    double all = (double)((end - begin) * (first_only ? 1 : c->p[4]));
    for (int64_t t = begin; t < end; t++) {
        for (int64_t e = 0; e < experts; e++) {
            mean[e] += scores[t * experts + e] / (double)(end - begin);
        }
        for (int64_t j = 0; j < (first_only ? 1 : columns); j++) {
            if (ids[t * columns + j] >= 0) {
                counts[ids[t * columns + j]]++;
            }
        }
    }
    for (int64_t e = 0; e < experts && route_has(c, SEEN); e++) {
        counts[e] += c->integer[ROUTE_SEEN][e];
        all += c->integer[ROUTE_SEEN][e];
    }
    for (int64_t e = 0; e < experts; e++) {
        loss += route_has(c, SKYWORK) ? pow(1 / (double)experts - mean[e], 2)
                                      : (double)experts * counts[e] / all * mean[e];
    }
    *device = 0;
    for (int64_t g = 0; g < groups; g++) {
        double f = 0, p = 0;
        for (int64_t e = g * experts / groups; e < (g + 1) * experts / groups; e++) {
            f += (double)experts * counts[e] / all / ((double)experts / (double)groups);
            p += mean[e];
        }
        *device += f * p;
    }
    return loss;
}

/* Losses from logits, scores [T, E], which get a sum of 1, and choices. */
static void route_naive_losses(const operator_case *c, const double *logits, double *scores,
                               const int32_t *ids, double *losses)
{
    int64_t experts = c->p[3];
    for (int64_t t = 0; t < c->tokens; t++) {
        double sum = 0, powers = 0;
        for (int64_t e = 0; e < experts; e++) {
            sum += scores[t * experts + e];
            powers += exp(logits[t * experts + e]);
        }
        for (int64_t e = 0; e < experts; e++) {
            scores[t * experts + e] /= sum;
        }
        losses[ROUTE_LOSS_Z] += log(powers) * log(powers) / (double)c->tokens;
    }
    for (int64_t begin = 0, end = 0; begin < c->tokens; begin = end) {
        end = route_has(c, DOCUMENTS) ? begin + 1 : c->tokens;
        while (end < c->tokens && c->integer[ROUTE_FIRST][end] == begin) {
            end++;
        }
        double device, part = (double)(end - begin) / (double)c->tokens;
        const int64_t rows[2] = {begin, end};
        losses[ROUTE_LOSS_BALANCE] += route_naive_share(c, scores, ids, rows, &device) * part;
        losses[ROUTE_LOSS_DEVICE] += device * part;
    }
}

static void route_naive(const operator_case *c, double *const *out, int32_t *const *integer_out)
{
    int64_t experts = c->p[3], columns = c->request.out[ROUTE_IDS].size[1];
    double *logits = out[ROUTE_SCORES], factors[64];
    double *scores = malloc((size_t)(c->tokens * experts) * sizeof *scores);
    for (int64_t t = 0; t < c->tokens; t++) {
        route_naive_logits(c, t, logits + t * experts);
        route_naive_scores(c, logits + t * experts, scores + t * experts);
        integer_out[ROUTE_FINITE][t] = 1;
    }
    bool balanced = route_has(c, SINKHORN) && route_has(c, TRAINING);
    if (balanced) {
        route_naive_balance(c, logits, factors);
    }
    for (int64_t t = 0; t < c->tokens; t++) {
        int32_t *ids = integer_out[ROUTE_IDS] + t * columns;
        const double *row = logits + t * experts, *score = scores + t * experts;
        if (route_has(c, EXPERT_CHOICE) && route_has(c, TRAINING)) {
            route_naive_taken(c, t, scores, ids);
        } else {
            route_naive_row(c, t, row, score, balanced ? factors : NULL, ids);
        }
        route_naive_weights(c, columns, row, score, ids, out[ROUTE_WEIGHTS] + t * columns);
    }
    route_naive_losses(c, logits, scores, integer_out[ROUTE_IDS], out[ROUTE_LOSSES]);
    route_naive_record(c, out[ROUTE_WEIGHTS], integer_out);
    free(scores);
}

/* dispatch, combine: {T, capacity, d, k, E, percent of choices that are of no expert} */

static const int64_t dispatch_rows[][CASE_NUMBERS] = {
    {1, 1, 1, 1, 1},          {5, 7, 3, 2, 4},       {100, 128, 17, 3, 8}, {40, 40, 33, 2, 3},
    {100, 128, 17, 3, 8, 30}, {60, 60, 5, 2, 4, 90}, {3, 3, 5, 2, 4, 100},
};

/* A place for every choice: the order of random experts. */
static void random_places(const operator_case *c, int32_t *offsets, int32_t *order, int32_t *place)
{
    int64_t choices = c->tokens * c->p[3];
    int32_t *expert = malloc((size_t)choices * sizeof *expert), p = 0;
    for (int64_t i = 0; i < choices; i++) {
        expert[i] = case_below(100) < c->p[5] ? -1 : (int32_t)case_below(c->p[4]);
        place[i] = -1;
    }
    for (int64_t e = 0; e < c->p[4]; e++) {
        for (int64_t i = 0; i < choices; i++) {
            if (expert[i] == e) {
                place[i] = p;
                if (order != NULL) {
                    order[p] = (int32_t)i;
                }
                p++;
            }
        }
        if (offsets != NULL) {
            offsets[e] = e == 0 ? 0 : offsets[e];
            offsets[e + 1] = p;
        }
    }
    free(expert);
}

static void dispatch_prepare(operator_case *c)
{
    c->request.in[DISPATCH_X] = by_token(c, 1, c->p[2]);
    c->request.in[DISPATCH_OFFSETS] = mixt_shape_integers(fixed(c->p[4] + 1, 0));
    c->request.in[DISPATCH_ORDER] = mixt_shape_integers(by_token(c, c->p[3], 0));
    c->request.in[DISPATCH_PLACE] = mixt_shape_integers(by_token(c, 1, c->p[3]));
    c->differentiable = SLOT(DISPATCH_X);
    c->functional = SLOT(DISPATCH_ROWS);
    c->ragged_out = c->p[5] > 0 ? SLOT(DISPATCH_ROWS) : 0;
}

static void dispatch_fill(operator_case *c)
{
    random_places(c, c->integer[DISPATCH_OFFSETS], c->integer[DISPATCH_ORDER],
                  c->integer[DISPATCH_PLACE]);
}

static void dispatch_naive(const operator_case *c, double *const *out, int32_t *const *integer_out)
{
    (void)integer_out;
    int64_t d = c->p[2], k = c->p[3];
    for (int64_t i = 0; i < c->tokens * k * d; i++) {
        int64_t row = c->integer[DISPATCH_PLACE][i / d];
        if (row >= 0) {
            out[DISPATCH_ROWS][row * d + i % d] = c->value[DISPATCH_X][i / d / k * d + i % d];
        }
    }
}

static void combine_prepare(operator_case *c)
{
    c->request.in[COMBINE_ROWS] = by_token(c, c->p[3], c->p[2]);
    c->request.in[COMBINE_WEIGHTS] = by_token(c, 1, c->p[3]);
    c->request.in[COMBINE_PLACE] = mixt_shape_integers(by_token(c, 1, c->p[3]));
    c->differentiable = SLOT(COMBINE_ROWS) | SLOT(COMBINE_WEIGHTS);
    c->functional = SLOT(COMBINE_Y);
    c->ragged_in = c->p[5] > 0 ? SLOT(COMBINE_ROWS) : 0;
}

static void combine_fill(operator_case *c)
{
    random_places(c, NULL, NULL, c->integer[COMBINE_PLACE]);
}

static void combine_naive(const operator_case *c, double *const *out, int32_t *const *integer_out)
{
    (void)integer_out;
    int64_t d = c->p[2], k = c->p[3];
    for (int64_t i = 0; i < c->tokens * k * d; i++) {
        int64_t row = c->integer[COMBINE_PLACE][i / d];
        out[COMBINE_Y][i / d / k * d + i % d] +=
            row < 0 ? 0
                    : c->value[COMBINE_WEIGHTS][i / d] * c->value[COMBINE_ROWS][row * d + i % d];
    }
}

/* experts: {T, capacity, d, F, E, k, how rows are spread, activation + 4 with biases, percent of
 * choices that are of no expert, 10 times the experts behind those with weights that give their row
 * back + those that give nothing, parts whose gradients are added one by one (0: as one sum)} */

enum { SPREAD, ALL_IN_ONE, ODD_ONES_EMPTY };

static const int64_t experts_rows[][CASE_NUMBERS] = {
    {1, 1, 1, 1, 1, 1, SPREAD},
    {1, 2, 5, 7, 4, 2, SPREAD},
    {40, 50, 9, 13, 6, 2, SPREAD},
    {33, 33, 16, 24, 5, 1, ALL_IN_ONE},
    {64, 64, 7, 5, 9, 3, SPREAD},
    {70, 70, 12, 8, 7, 2, ODD_ONES_EMPTY},
    {300, 300, 8, 16, 3, 2, ALL_IN_ONE},
    {40, 50, 9, 13, 6, 2, SPREAD, MIXT_ACTIVATION_GELU},
    {70, 70, 12, 8, 7, 2, ODD_ONES_EMPTY, 4 + MIXT_ACTIVATION_CLAMPED},
    {33, 33, 16, 24, 5, 1, ALL_IN_ONE, 4 + MIXT_ACTIVATION_SILU},
    {1, 2, 5, 7, 4, 2, SPREAD, 4 + MIXT_ACTIVATION_GELU},
    {40, 50, 9, 13, 6, 2, SPREAD, 0, 30},
    {70, 70, 12, 8, 7, 2, SPREAD, 4 + MIXT_ACTIVATION_CLAMPED, 60},
    {5, 5, 12, 8, 7, 2, SPREAD, 4 + MIXT_ACTIVATION_SILU, 100},
    {40, 50, 9, 13, 4, 3, SPREAD, 0, 0, 21},
    {70, 70, 12, 8, 3, 2, SPREAD, 4 + MIXT_ACTIVATION_CLAMPED, 0, 10},
    {33, 40, 5, 6, 2, 2, ODD_ONES_EMPTY, 0, 30, 3},
    {130, 130, 7, 5, 1, 4, SPREAD, 0, 60, 43},
    {70, 70, 17, 8, 2, 1, ALL_IN_ONE, 0, 0, 11},
    {70, 70, 17, 8, 1, 1, ALL_IN_ONE, 0, 0, 3},
    {40, 50, 9, 13, 6, 2, SPREAD, 0, 30, 0, 3},
    {70, 70, 12, 8, 7, 2, ODD_ONES_EMPTY, 4 + MIXT_ACTIVATION_CLAMPED, 0, 10, 4},
    {300, 300, 8, 16, 3, 2, ALL_IN_ONE, 4 + MIXT_ACTIVATION_SILU, 0, 0, 2},
    {33, 33, 16, 24, 5, 1, ALL_IN_ONE, 0, 0, 0, 1},
};

/* Experts with weights, and behind them those without. */
static int64_t experts_groups(const operator_case *c)
{
    return c->p[4] + c->p[9] / 10 + c->p[9] % 10;
}

static void experts_prepare(operator_case *c)
{
    int64_t d = c->p[2], ffn = c->p[3], experts = c->p[4];
    c->request.in[EXPERTS_ROWS] = by_token(c, c->p[5], d);
    c->request.in[EXPERTS_OFFSETS] = mixt_shape_integers(fixed(experts_groups(c) + 1, 0));
    c->request.in[EXPERTS_W_GATE] = c->request.in[EXPERTS_W_UP] =
        mixt_shape_static(3, experts, ffn, d);
    c->request.in[EXPERTS_W_DOWN] = mixt_shape_static(3, experts, d, ffn);
    c->differentiable =
        SLOT(EXPERTS_ROWS) | SLOT(EXPERTS_W_GATE) | SLOT(EXPERTS_W_UP) | SLOT(EXPERTS_W_DOWN);
    c->attributes.activation = (mixt_activation)(c->p[7] % 4);
    c->attributes.identity_experts = (int)c->p[9] / 10;
    c->attributes.zero_experts = (int)c->p[9] % 10;
    c->attributes.exact_parts = c->p[10] > 0;
    if (c->p[10] > 1) { /* one needs no list */
        c->request.in[EXPERTS_PARTS] = mixt_shape_integers(fixed(experts, c->p[10]));
    }
    if (c->p[7] >= 4) {
        c->request.in[EXPERTS_B_GATE] = c->request.in[EXPERTS_B_UP] = fixed(experts, ffn);
        c->request.in[EXPERTS_B_DOWN] = fixed(experts, d);
        c->differentiable |= SLOT(EXPERTS_B_GATE) | SLOT(EXPERTS_B_UP) | SLOT(EXPERTS_B_DOWN);
    }
    c->functional = SLOT(EXPERTS_Y);
    if (c->p[8] > 0) {
        c->ragged_in = SLOT(EXPERTS_ROWS);
        c->ragged_out = SLOT(EXPERTS_Y);
    }
    if (c->p[8] > 0 || c->p[9] > 0) {
        c->ragged_out |= SLOT(EXPERTS_GATE) | SLOT(EXPERTS_UP) | SLOT(EXPERTS_HIDDEN);
    }
}

static void experts_fill(operator_case *c)
{
    int64_t experts = experts_groups(c);
    int32_t counts[16] = {0};
    for (int64_t i = 0; i < c->tokens * c->p[5]; i++) {
        int64_t e = c->p[6] == ALL_IN_ONE ? experts / 2 : case_below(experts);
        if (c->p[8] > 0 && case_below(100) < c->p[8]) {
            continue;
        }
        counts[c->p[6] == ODD_ONES_EMPTY ? e / 2 * 2 : e]++;
    }
    c->integer[EXPERTS_OFFSETS][0] = 0;
    for (int64_t e = 0; e < experts; e++) {
        c->integer[EXPERTS_OFFSETS][e + 1] = c->integer[EXPERTS_OFFSETS][e] + counts[e];
    }
    for (int64_t i = 0; i < c->p[4] * c->p[10] && c->p[10] > 1; i++) { /* the last gets the rest */
        int64_t e = i / c->p[10], part = i % c->p[10];
        int32_t some = (int32_t)case_below(counts[e] + 1);
        c->integer[EXPERTS_PARTS][i] = part == c->p[10] - 1 ? counts[e] : some;
        counts[e] -= c->integer[EXPERTS_PARTS][i];
    }
}

static void experts_naive(const operator_case *c, double *const *out, int32_t *const *integer_out)
{
    (void)integer_out;
    int64_t d = c->p[2], ffn = c->p[3];
    for (int64_t e = 0; e < c->p[4]; e++) {
        for (int64_t r = c->integer[EXPERTS_OFFSETS][e]; r < c->integer[EXPERTS_OFFSETS][e + 1];
             r++) {
            const double *row = c->value[EXPERTS_ROWS] + r * d;
            for (int64_t f = 0; f < ffn; f++) {
                double *gate = out[EXPERTS_GATE] + r * ffn + f, *up = out[EXPERTS_UP] + r * ffn + f;
                *gate = case_product(row, c->value[EXPERTS_W_GATE] + (e * ffn + f) * d, d);
                *up = case_product(row, c->value[EXPERTS_W_UP] + (e * ffn + f) * d, d);
                *gate += c->p[7] >= 4 ? c->value[EXPERTS_B_GATE][e * ffn + f] : 0;
                *up += c->p[7] >= 4 ? c->value[EXPERTS_B_UP][e * ffn + f] : 0;
                out[EXPERTS_HIDDEN][r * ffn + f] = case_activate(c->p[7] % 4, *gate, *up);
                for (int64_t i = 0; i < d; i++) {
                    out[EXPERTS_Y][r * d + i] += out[EXPERTS_HIDDEN][r * ffn + f] *
                                                 c->value[EXPERTS_W_DOWN][(e * d + i) * ffn + f];
                }
            }
            for (int64_t i = 0; i < d && c->p[7] >= 4; i++) {
                out[EXPERTS_Y][r * d + i] += c->value[EXPERTS_B_DOWN][e * d + i];
            }
        }
    }
    const int32_t *behind = c->integer[EXPERTS_OFFSETS] + c->p[4];
    for (int64_t i = behind[0] * d; i < behind[c->p[9] / 10] * d; i++) {
        out[EXPERTS_Y][i] = c->value[EXPERTS_ROWS][i];
    }
}

/* competitive: {T, capacity, d, E, k or 0: no ids, one choice in so many of no expert} */

static const int64_t competitive_rows[][CASE_NUMBERS] = {
    {1, 1, 1, 1, 0, 0},   {9, 12, 4, 1, 0, 0},    {65, 65, 1, 4, 4, 0},
    {40, 50, 4, 8, 8, 0}, {130, 130, 5, 7, 3, 0}, {70, 80, 3, 6, 2, 2},
};

static void competitive_prepare(operator_case *c)
{
    c->request.in[COMPETITIVE_MEANS] = by_token(c, 1, c->p[2] * c->p[3]);
    c->request.in[COMPETITIVE_TARGETS] = by_token(c, 1, c->p[2]);
    c->request.in[COMPETITIVE_SCALE] = fixed(MIXT_SCALES, 0);
    c->differentiable = SLOT(COMPETITIVE_MEANS);
    if (c->p[4] > 0) {
        c->request.in[COMPETITIVE_IDS] = mixt_shape_integers(by_token(c, 1, c->p[4]));
        c->request.in[COMPETITIVE_WEIGHTS] = by_token(c, 1, c->p[4]);
        c->differentiable |= SLOT(COMPETITIVE_WEIGHTS);
    }
    c->functional = SLOT(COMPETITIVE_NLL);
}

/* Proportions are positive; experts a row of distinct ones, from a place of its own on. */
static void competitive_fill(operator_case *c)
{
    int64_t chosen = c->p[4];
    c->implied[COMPETITIVE_NLL] = calloc((size_t)c->request.capacity, sizeof(double));
    for (int64_t t = 0; t < c->tokens; t++) {
        int64_t first = case_below(c->p[3]);
        c->implied[COMPETITIVE_NLL][t] = c->value[COMPETITIVE_SCALE][MIXT_SCALE_LOSS];
        for (int64_t i = t * chosen; i < (t + 1) * chosen; i++) {
            bool none = c->p[5] > 0 && case_below(c->p[5]) == 0;
            double weight = 0.0625 + fabs(c->value[COMPETITIVE_WEIGHTS][i]);
            c->integer[COMPETITIVE_IDS][i] = none ? -1 : (int32_t)((first + i) % c->p[3]);
            c->value[COMPETITIVE_WEIGHTS][i] = none ? 0 : (double)(float)weight;
        }
    }
}

static void competitive_naive(const operator_case *c, double *const *out,
                              int32_t *const *integer_out)
{
    (void)integer_out;
    int64_t d = c->p[2], one = c->p[4] == 0, chosen = one != 0 ? 1 : c->p[4];
    for (int64_t t = 0; t < c->tokens; t++) {
        const double *target = c->value[COMPETITIVE_TARGETS] + t * d;
        double likelihood[8] = {0}, sum = 0;
        for (int64_t j = 0; j < chosen; j++) {
            int64_t expert = one != 0 ? 0 : c->integer[COMPETITIVE_IDS][t * chosen + j];
            double weight = one != 0 ? 1 : c->value[COMPETITIVE_WEIGHTS][t * chosen + j];
            double squares = 0;
            for (int64_t i = 0; i < d && expert >= 0; i++) {
                double o = c->value[COMPETITIVE_MEANS][(t * c->p[3] + expert) * d + i];
                squares += pow(target[i] - o, 2);
                out[COMPETITIVE_MIXTURE][t * d + i] += weight * o;
            }
            likelihood[j] = expert >= 0 ? exp(-squares / 2) : 0;
            sum += weight * likelihood[j];
        }
        out[COMPETITIVE_NLL][t] = sum > 0 ? -log(sum) : 0;
        for (int64_t j = 0; j < chosen; j++) {
            out[COMPETITIVE_FIT][t * chosen + j] = sum > 0 ? likelihood[j] / sum : 0;
        }
    }
}

const operator_subject competitive_subject = {
    MIXT_OP_competitive, TABLE(competitive),      2e-5, competitive_prepare, competitive_fill,
    competitive_naive,   SLOT(COMPETITIVE_MEANS), 0};
const operator_subject route_subject = {MIXT_OP_route,
                                        TABLE(route),
                                        2e-5,
                                        route_prepare,
                                        route_fill,
                                        route_naive,
                                        SLOT(ROUTE_BALANCE),
                                        SLOT(ROUTE_SELECT_BIAS) | SLOT(ROUTE_BALANCE)};
const operator_subject dispatch_subject = {MIXT_OP_dispatch,
                                           TABLE(dispatch),
                                           1e-6,
                                           dispatch_prepare,
                                           dispatch_fill,
                                           dispatch_naive,
                                           SLOT(DISPATCH_X) | SLOT(DISPATCH_OFFSETS) |
                                               SLOT(DISPATCH_PLACE),
                                           0};
const operator_subject experts_subject = {MIXT_OP_experts,
                                          TABLE(experts),
                                          2e-5,
                                          experts_prepare,
                                          experts_fill,
                                          experts_naive,
                                          SLOT(EXPERTS_PARTS),
                                          SLOT(EXPERTS_B_GATE) | SLOT(EXPERTS_B_UP) |
                                              SLOT(EXPERTS_B_DOWN) | SLOT(EXPERTS_PARTS)};
const operator_subject combine_subject = {
    MIXT_OP_combine, TABLE(dispatch),    4e-6, combine_prepare, combine_fill,
    combine_naive,   SLOT(COMBINE_ROWS), 0};

/* low_rank: {1, 1, E, out, in, r} */

static const int64_t low_rank_rows[][CASE_NUMBERS] = {
    {1, 1, 1, 1, 1, 1},    {1, 1, 3, 5, 7, 2},   {1, 1, 2, 33, 17, 4},
    {1, 1, 1, 40, 600, 8}, {1, 1, 5, 16, 64, 1}, {1, 1, 2, 3, 1025, 3},
};

static void low_rank_prepare(operator_case *c)
{
    const int64_t *p = c->p;
    c->request.in[LOW_RANK_WEIGHT] = mixt_shape_static(3, p[2], p[3], p[4]);
    c->request.in[LOW_RANK_A] = mixt_shape_static(3, p[2], p[5], p[4]);
    c->request.in[LOW_RANK_B] = mixt_shape_static(3, p[2], p[3], p[5]);
    c->attributes.scale = 0.75;
    c->differentiable = SLOT(LOW_RANK_WEIGHT) | SLOT(LOW_RANK_A) | SLOT(LOW_RANK_B);
    c->functional = SLOT(LOW_RANK_Y);
}

static void low_rank_naive(const operator_case *c, double *const *out, int32_t *const *integer_out)
{
    (void)integer_out;
    int64_t rows = c->p[3], columns = c->p[4], rank = c->p[5];
    for (int64_t i = 0; i < c->p[2] * rows * columns; i++) {
        int64_t row = i / columns, column = i % columns;
        const double *a = c->value[LOW_RANK_A] + row / rows * rank * columns;
        double sum = 0;
        for (int64_t k = 0; k < rank; k++) {
            sum += c->value[LOW_RANK_B][row * rank + k] * a[k * columns + column];
        }
        out[LOW_RANK_Y][i] = c->value[LOW_RANK_WEIGHT][i] + 0.75 * sum;
    }
}

const operator_subject low_rank_subject = {
    MIXT_OP_low_rank, TABLE(low_rank), 2e-6, low_rank_prepare, NULL, low_rank_naive, 0, 0};
