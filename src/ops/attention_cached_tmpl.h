/* Single rows over a cache. */
#ifndef MIXT_OPS_ATTENTION_CACHED_TMPL_H
#define MIXT_OPS_ATTENTION_CACHED_TMPL_H

#include "ops/attention_tmpl.h"

/* Attention of `count` rows of the batch; `room`: what mixt_attention_room says. */
void MIXT_REAL(mixt_attention_cached)(const mixt_call *call, const int32_t *rows, int64_t count,
                                      real *room);

#endif
