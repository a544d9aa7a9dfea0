/* exchange sends rows to the ranks that hold their experts; give_back brings them back. Each is the
 * other's derivative. */
#include "ops/support_tmpl.h"

void MIXT_REAL(mixt_exchange_forward)(const mixt_call *call)
{
    mixt_fail(&call->fault->error, MIXT_ERROR_UNSUPPORTED, "exchange: not yet");
}

void MIXT_REAL(mixt_exchange_backward)(const mixt_call *call)
{
    mixt_fail(&call->fault->error, MIXT_ERROR_UNSUPPORTED, "exchange: not yet");
}

void MIXT_REAL(mixt_give_back_forward)(const mixt_call *call)
{
    mixt_fail(&call->fault->error, MIXT_ERROR_UNSUPPORTED, "give_back: not yet");
}

void MIXT_REAL(mixt_give_back_backward)(const mixt_call *call)
{
    mixt_fail(&call->fault->error, MIXT_ERROR_UNSUPPORTED, "give_back: not yet");
}
