/* Inside the `route` operator: a method turns logits into choices; the rest (logits, the record's
 * order, losses, the products of the backward) is the same for all of them. A new method is one
 * row of methods.def and a file for what it computes, NAME_tmpl.c, beside one for its check. */
#ifndef MIXT_ROUTER_METHOD_H
#define MIXT_ROUTER_METHOD_H

#include "ops/shape.h"
#include "router/router.h"

/* A row of methods.def.
 *
 * check: refuses a spec that the method cannot serve; what every method needs of a spec is checked
 *   before.
 * workspace: reals that choose may use, beside what the other steps of the operator use in turn.
 * choose: fills ROUTE_IDS and ROUTE_WEIGHTS from the logits (ROUTE_SCORES) and what else it needs.
 *   Whatever the logits: ids of a token are distinct and in range, or -1 (no expert), weights are
 *   finite, and 0 where there is no expert. -1 stands behind all experts of its row.
 * gradient: writes d logits [T, E] from the gradient of ROUTE_WEIGHTS, which is not NULL. */
typedef struct mixt_router_method {
    const char *name;
    unsigned needs;
    mixt_status (*check)(const mixt_router_spec *spec, mixt_error *error);
    int64_t (*workspace)(const mixt_router_spec *spec, bool training, int64_t capacity);
    void (*choose_f32)(const mixt_call *call);
    void (*choose_f64)(const mixt_call *call);
    void (*gradient_f32)(const mixt_call *call, float *d_logits);
    void (*gradient_f64)(const mixt_call *call, double *d_logits);
} mixt_router_method;

/* What expert-choice's experts take, over their equal share. */
double mixt_router_factor(const mixt_router_spec *spec);

/* The method of a spec that was checked. */
const mixt_router_method *mixt_router_method_of(const mixt_router_spec *spec);

#define MIXT_ROUTER_METHOD(name, word, needs)                                                      \
    mixt_status mixt_##name##_check(const mixt_router_spec *spec, mixt_error *error);              \
    int64_t mixt_##name##_workspace(const mixt_router_spec *spec, bool training,                   \
                                    int64_t capacity);                                             \
    void mixt_##name##_choose_f32(const mixt_call *call);                                          \
    void mixt_##name##_choose_f64(const mixt_call *call);                                          \
    void mixt_##name##_gradient_f32(const mixt_call *call, float *d_logits);                       \
    void mixt_##name##_gradient_f64(const mixt_call *call, double *d_logits);
#include "router/methods.def"

/* How row t of a call is decided: as the layer does, or by a variant of its own. Methods ask this
 * for each row, and leave -1 in the columns behind the experts that they chose. */
static inline const mixt_router_spec *mixt_router_of_row(const mixt_call *call, int64_t t)
{
    const int32_t *variant = call->in[ROUTE_VARIANT];
    return variant == NULL ? call->attributes->router : call->attributes->variants[variant[t]];
}

/* -1 behind the `chosen` ids of a row. */
static inline void mixt_route_fill(const mixt_call *call, int chosen, int32_t *ids)
{
    for (int64_t j = chosen; j < call->out_shape[ROUTE_IDS].size[1]; j++) {
        ids[j] = -1;
    }
}

/* For methods that weigh what they chose by the router's scores (weigh_tmpl.c): ROUTE_WEIGHTS of
 * row t from its ids and its scores [E] (NULL: it is not finite), and a method's gradient as a
 * whole. */
void mixt_weigh_row_f32(const mixt_call *call, int64_t t, const float *scores);
void mixt_weigh_row_f64(const mixt_call *call, int64_t t, const double *scores);
void mixt_weigh_gradient_f32(const mixt_call *call, float *d_logits);
void mixt_weigh_gradient_f64(const mixt_call *call, double *d_logits);
/* For methods that let tokens choose (best_tmpl.c): the k experts of a row that have the largest of
 * these values [E], around masked and forced ones and within groups; those of all rows by their
 * logits and the selection bias, weighed; and what of a spec that needs. */
void mixt_best_row_f32(const mixt_router_spec *spec, const float *values, int32_t *ids);
void mixt_best_row_f64(const mixt_router_spec *spec, const double *values, int32_t *ids);
void mixt_best_choose_f32(const mixt_call *call);
void mixt_best_choose_f64(const mixt_call *call);
mixt_status mixt_best_check(const mixt_router_spec *spec, mixt_error *error);
/* Refuses groups and a selection bias, for methods that have neither; a score that is not known;
 * forced experts that are masked, out of range or twice there. */
mixt_status mixt_plain_check(const mixt_router_spec *spec, mixt_error *error);
mixt_status mixt_weigh_check(const mixt_router_spec *spec, mixt_error *error);
mixt_status mixt_forced_check(const mixt_router_spec *spec, mixt_error *error);

/* Logits (logits_tmpl.c). forward: fills ROUTE_SCORES from x, the weight and the logit bias.
 * backward: from d logits [T, E], which it changes, the gradient of x weight^T [T, columns] and,
 * where it is wanted, of the logit bias. `workspace` as the backward's size says. */
bool mixt_logits_reads_raw(const mixt_router_spec *spec);  /* the backward needs the raw rows */
int64_t mixt_logits_columns(const mixt_router_spec *spec); /* rows of the weight: E, 2E or 3E */
int64_t mixt_logits_workspace(const mixt_router_spec *spec, bool training, int64_t capacity);
int64_t mixt_logits_backward_workspace(const mixt_router_spec *spec, int64_t capacity);
void mixt_logits_forward_f32(const mixt_call *call);
void mixt_logits_forward_f64(const mixt_call *call);
const float *mixt_logits_backward_f32(const mixt_call *call, float *d_logits, float *workspace);
const double *mixt_logits_backward_f64(const mixt_call *call, double *d_logits, double *workspace);

/* Everything of route's forward behind the logits: choices, order, losses. */
void mixt_route_decide_f32(const mixt_call *call);
void mixt_route_decide_f64(const mixt_call *call);

/* Balance and z-loss (balance_tmpl.c). loss: fills ROUTE_LOSSES from logits and ids, and adds to
 * ROUTE_SEEN. gradient: adds scale[MIXT_SCALE_ROUTER] * (balance_weight balance[layer] * d balance
 * + device_weight * d device + z_weight * d z) to d logits [T, E]. `workspace` as the backward's
 * size says. */
#define MIXT_BALANCE_ROWS 64 /* rows of one partial sum */
int64_t mixt_balance_workspace(const mixt_router_spec *spec, int64_t capacity);
/* And behind them the counts of all ranks; NULL: none. */
int64_t mixt_balance_ranks_workspace(const mixt_router_spec *spec, const mixt_ranks *ranks);
int64_t mixt_balance_backward_workspace(const mixt_router_spec *spec, int64_t capacity);
void mixt_balance_loss_f32(const mixt_call *call);
void mixt_balance_loss_f64(const mixt_call *call);
void mixt_balance_gradient_f32(const mixt_call *call, float *d_logits, float *workspace);
void mixt_balance_gradient_f64(const mixt_call *call, double *d_logits, double *workspace);

/* A row's scores s [E] (softmax over all experts, or the sigmoid of each) and its logsumexp; false,
 * and s left alone, where a logit is not a finite number. */
bool mixt_row_scores_f32(const mixt_kernels_f32 *kernels, const mixt_router_spec *spec,
                         const float *logits, float *scores, float *log_sum);
bool mixt_row_scores_f64(const mixt_kernels_f64 *kernels, const mixt_router_spec *spec,
                         const double *logits, double *scores, double *log_sum);

#endif
