/* Inside the `route` operator: a method turns logits into choices; the rest (logits, the record's
 * order, losses, the products of the backward) is the same for all of them. A new method is one
 * row of methods.def and a file for what it computes, NAME_tmpl.c, beside one for its check. */
#ifndef MIXT_ROUTER_METHOD_H
#define MIXT_ROUTER_METHOD_H

#include "ops/shape.h"
#include "router/router.h"

typedef enum mixt_router_method {
#define MIXT_ROUTER_METHOD(name) MIXT_ROUTER_METHOD_##name,
#include "router/methods.def"
#undef MIXT_ROUTER_METHOD
    MIXT_ROUTER_METHOD_COUNT
} mixt_router_method;

/* The method of a spec. */
mixt_router_method mixt_router_method_of(const mixt_router_spec *spec);

/* check: refuses a spec that the method cannot serve.
 * choose: fills ROUTE_IDS and ROUTE_WEIGHTS from the logits (ROUTE_SCORES) and ROUTE_SELECT_BIAS.
 *   Whatever the logits: k distinct ids in range for each token, finite weights.
 * gradient: writes d logits [T, E] from the gradient of ROUTE_WEIGHTS, which is not NULL. */
#define MIXT_ROUTER_METHOD(name)                                                                   \
    mixt_status mixt_##name##_check(const mixt_router_spec *spec, mixt_error *error);              \
    void mixt_##name##_choose_f32(const mixt_call *call);                                          \
    void mixt_##name##_choose_f64(const mixt_call *call);                                          \
    void mixt_##name##_gradient_f32(const mixt_call *call, float *d_logits);                       \
    void mixt_##name##_gradient_f64(const mixt_call *call, double *d_logits);
#include "router/methods.def"
#undef MIXT_ROUTER_METHOD

/* Logits (logits_tmpl.c). forward: fills ROUTE_SCORES from x, the weight and the logit bias.
 * backward: from d logits [T, E], which it changes, the gradient of x weight^T [T, columns] and,
 * where it is wanted, of the logit bias. `workspace` as the backward's size says. */
bool mixt_logits_reads_raw(const mixt_router_spec *spec);  /* the backward needs the raw rows */
int64_t mixt_logits_columns(const mixt_router_spec *spec); /* rows of the weight: E, or 3E */
int64_t mixt_logits_workspace(const mixt_router_spec *spec, int64_t capacity);
int64_t mixt_logits_backward_workspace(const mixt_router_spec *spec, int64_t capacity);
void mixt_logits_forward_f32(const mixt_call *call);
void mixt_logits_forward_f64(const mixt_call *call);
const float *mixt_logits_backward_f32(const mixt_call *call, float *d_logits, float *workspace);
const double *mixt_logits_backward_f64(const mixt_call *call, double *d_logits, double *workspace);

/* Everything of route's forward behind the logits: choices, order, losses. */
void mixt_route_decide_f32(const mixt_call *call);
void mixt_route_decide_f64(const mixt_call *call);

/* Balance and z-loss (balance_tmpl.c). loss: fills ROUTE_LOSSES from logits, ids and counts.
 * gradient: adds scale[1] * (balance_weight * d balance + z_weight * d z) to d logits [T, E]. */
#define MIXT_BALANCE_ROWS 64 /* rows of one partial sum */
int64_t mixt_balance_workspace(int64_t capacity, int64_t experts);
void mixt_balance_loss_f32(const mixt_call *call);
void mixt_balance_loss_f64(const mixt_call *call);
void mixt_balance_gradient_f32(const mixt_call *call, float *d_logits);
void mixt_balance_gradient_f64(const mixt_call *call, double *d_logits);

/* A row's scores s [E] (softmax over all experts, or the sigmoid of each) and its logsumexp; false,
 * and s left alone, where a logit is not a finite number. */
bool mixt_row_scores_f32(const mixt_kernels_f32 *kernels, const mixt_router_spec *spec,
                         const float *logits, float *scores, float *log_sum);
bool mixt_row_scores_f64(const mixt_kernels_f64 *kernels, const mixt_router_spec *spec,
                         const double *logits, double *scores, double *log_sum);

#endif
