/* experts within another operator, which has them for some of its rows: what the functions of
 * experts do, with calls of that operator's making. */
#ifndef MIXT_OPS_EXPERTS_H
#define MIXT_OPS_EXPERTS_H

#include "ops/operator.h"

mixt_status mixt_experts_within(mixt_shape_request *request, mixt_error *error);
void mixt_experts_price(const mixt_cost_request *request, mixt_cost *cost);
void mixt_experts_compute_f32(const mixt_call *call);
void mixt_experts_compute_f64(const mixt_call *call);
void mixt_experts_derive_f32(const mixt_call *call);
void mixt_experts_derive_f64(const mixt_call *call);

#endif
