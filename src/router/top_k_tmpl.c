/* Every token takes its k best experts. */
#include "ops/support_tmpl.h"
#include "router/method.h"

void MIXT_REAL(mixt_top_k_choose)(const mixt_call *call)
{
    MIXT_REAL(mixt_best_choose)(call);
}

void MIXT_REAL(mixt_top_k_gradient)(const mixt_call *call, real *d_logits)
{
    MIXT_REAL(mixt_weigh_gradient)(call, d_logits);
}
