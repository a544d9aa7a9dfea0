#include "core/error.h"
#include "mixt.h"
mixt_status mixt_atlas_page(const mixt_trace *trace, const char *path, mixt_error *error)
{
    (void)trace;
    return mixt_fail(error, MIXT_ERROR_UNSUPPORTED, "%s: not yet", path);
}
