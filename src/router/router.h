/* Routers: data that says how tokens choose experts, and the record that says what they chose.
 * The record is the outputs of the `route` operator (ops.def); nothing else passes between a
 * router and the rest of the house. */
#ifndef MIXT_ROUTER_ROUTER_H
#define MIXT_ROUTER_ROUTER_H

#include "ops/operator.h"

#define MIXT_EXPERTS_MAX 4096

typedef struct mixt_router_spec {
    int experts;                 /* E */
    int chosen;                  /* k */
    mixt_router_options options; /* mixt.h: scores, renormalisation, scale, losses */
    /* Control while a model runs; the owner of the spec keeps them, may change what they hold
     * between two runs, and asks mixt_router_check about it. */
    const uint8_t *mask;   /* [E], not 0: this expert may not be chosen; NULL: all may */
    const int32_t *forced; /* [k], j-th choice of every token, -1: the router's; NULL: all its */
} mixt_router_spec;

/* The route record of a layer as the host reads it (mixt_instance_route): what the router decided,
 * and all that anybody outside the operators knows of it. Members that were not kept are NULL. */
typedef struct mixt_route {
    int layer; /* of the model */
    int64_t tokens;
    int experts;
    int chosen;             /* columns of ids, weights and place: k, or in training more */
    const int32_t *ids;     /* [T, chosen], best first; -1: no expert */
    const float *weights;   /* [T, chosen], 0 where there is no expert */
    const int32_t *counts;  /* [E]: choices, with those that are dropped */
    const int32_t *offsets; /* [E + 1]; offsets[E] rows are in use */
    const int32_t *order;   /* t chosen + j of each row in expert order, then -1 */
    const int32_t *place;   /* [T, chosen]: the row of choice j of token t; -1: none or dropped */
    const float *scores;    /* [T, E]: the final logits */
    const float *losses;    /* [ROUTE_LOSS_COUNT] */
    const int32_t
        *finite; /* [T]: 0 where a logit is not finite, so that the choice means nothing */
} mixt_route;

/* How many rows have a logit that is not finite; the first of them into *first (NULL: not wanted),
 * or `tokens`. */
int64_t mixt_route_broken(const mixt_route *route, int64_t *first);

/* Weights of sigmoid scores are divided by their sum and this (DeepSeek-V3's code). */
#define MIXT_SIGMOID_EPSILON 1e-20

/* The k largest of scores [E] as distinct ids in range, ties to the lowest id, NaN counted as
 * lower than everything. */
void mixt_select_top_k_f32(const float *scores, int experts, int chosen, int32_t *ids);
void mixt_select_top_k_f64(const double *scores, int experts, int chosen, int32_t *ids);

/* How far the last of the experts that a row chose by comparing stands above the best of those that
 * it could have had in its place (not masked, not forced, of the groups that were used), in the
 * numbers that are compared when a model runs: logits; with a selection bias scores and the bias
 * (logits and the bias where the softmax comes after the choice); within groups without a bias
 * scores. NaN where nothing was compared: by a method's or the caller's will, or because none was
 * left. logits, select_bias (NULL: none): [E]; ids: [k] as they were chosen of these. */
float mixt_router_margin_f32(const mixt_kernels_f32 *kernels, const mixt_router_spec *spec,
                             const float *logits, const float *select_bias, const int32_t *ids);
double mixt_router_margin_f64(const mixt_kernels_f64 *kernels, const mixt_router_spec *spec,
                              const double *logits, const double *select_bias, const int32_t *ids);

/* Entropy, in bits, of a row's scores [E] as parts of their sum: of the softmax over all experts,
 * or of sigmoids divided by their sum. 0 to log2 E; NaN where a logit [E] is not finite. */
float mixt_router_entropy_f32(const mixt_kernels_f32 *kernels, const mixt_router_spec *spec,
                              const float *logits);
double mixt_router_entropy_f64(const mixt_kernels_f64 *kernels, const mixt_router_spec *spec,
                               const double *logits);

/* What a method has to be given beside x and the router's weights, and what it gives. */
enum {
    MIXT_NEEDS_TOKENS = 1, /* ROUTE_TOKENS: the ids of the tokens */
    MIXT_NEEDS_FIRST = 2,  /* ROUTE_FIRST in training: where documents begin */
    MIXT_GIVES_MORE = 4,   /* in training a token may get every expert, not k */
    MIXT_SEES_FUTURE = 8,  /* in training a token's experts depend on later tokens */
    MIXT_NO_MARGIN = 16,   /* a token does not choose by comparing its experts */
};
unsigned mixt_router_needs(const mixt_router_spec *spec);
/* Columns of the record's ids, weights and place; and rows in expert order that there is room for,
 * for each token. */
int mixt_router_width(const mixt_router_spec *spec, bool training);
int mixt_router_rows(const mixt_router_spec *spec, bool training);
/* Choices that an expert takes of a batch of so many tokens: `factor` times its equal share,
 * rounded up; factor 0: INT64_MAX, all. */
int64_t mixt_router_capacity(const mixt_router_spec *spec, double factor, int64_t tokens);
/* Does the record need to know where documents begin? */
bool mixt_router_needs_first(const mixt_router_spec *spec, bool training);
/* What has to be known of scores and traces of held-out text, in words: that decisions see later
 * tokens, or that they are not those of training. "": nothing. */
const char *mixt_router_held_out(const mixt_router_options *options);

/* Refuses specs that cannot work: k > E, groups or a mask that may leave fewer than k experts, with
 * top-k also k = 1 with renormalisation while the router learns (it would get no gradient), and so
 * on. */
mixt_status mixt_router_check(const mixt_router_spec *spec, mixt_error *error);
/* What may run but cannot be trained: a router whose weights do not depend on its logits. */
mixt_status mixt_router_check_training(const mixt_router_spec *spec, mixt_error *error);

/* Loss-free balancing (Wang et al. 2024, arXiv 2408.15664): bias[e] += rate * sign(mean load -
 * load[e]). Called once an optimizer step with the step's summed counts. */
void mixt_router_update_bias(float *bias, const int64_t *counts, int experts, double rate);

/* Quantile balancing (Megatron-LM PR 5349, torchtitan PR 4577). required [E]: the bias beyond which
 * each expert would be chosen by a row of these logits, r_j = a - s_j with a the (k + 1)-th best
 * biased score. quantile: the value below which a share of them lies, between the two nearest ones;
 * reorders them. centre: biases less their mean. */
void mixt_router_required_bias(const mixt_kernels_f32 *kernels, const mixt_router_spec *spec,
                               const float *logits, const float *bias, float *required);
double mixt_router_quantile(float *values, int64_t count, double share);
void mixt_router_centre(double *bias, int experts, float *centred);

/* Choices beyond what each expert takes; and Skywork's next coefficient of a layer, of which that
 * share was dropped: 0.99 a + 0.01 min(d / 5, most). */
int64_t mixt_router_dropped(const int32_t *counts, int experts, int64_t capacity);
double mixt_router_adapt(double coefficient, double drop_rate, double most);

#endif
