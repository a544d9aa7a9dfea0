/* What the page tells of each expert of one layer, counted in one pass over the layer's choices. */
#ifndef MIXT_ATLAS_PAGE_LAYER_H
#define MIXT_ATLAS_PAGE_LAYER_H

#include "atlas/token_class.h"
#include "atlas/trace.h"

#define MIXT_PAGE_MATES 6            /* experts listed as chosen together with one */
#define MIXT_PAGE_MATES_EXPERTS 1024 /* of more, pairs are not counted: E * E numbers */

typedef struct mixt_page_layer {
    int experts;
    uint64_t tokens;       /* that have an expert */
    uint8_t *class_of;     /* [vocab_size] mixt_token_class */
    uint64_t *class_count; /* [MIXT_CLASS_COUNT, E] choices by the token's class */
    uint64_t *count;       /* [E] choices */
    double *weight;        /* [E] sums of their weights */
    uint32_t *pairs;       /* [E, E] tokens that have both, above the diagonal; NULL: too many */
} mixt_page_layer;

/* One expert that is chosen together with another. */
typedef struct mixt_page_mate {
    int expert;  /* -1: no further one */
    double lift; /* its share of the other's tokens over its share of all tokens */
} mixt_page_mate;

/* False without memory; freed all the same. */
bool mixt_page_layer_create(const mixt_trace *trace, mixt_page_layer *made);
void mixt_page_layer_free(mixt_page_layer *layer);
void mixt_page_layer_count(const mixt_trace *trace, int number, mixt_page_layer *layer);

/* mates [MIXT_PAGE_MATES] of an expert, those first whose lift is surest: ordered by the lower end
 * of the share's Wilson interval over the share of all tokens; only those with a lift above 1. */
void mixt_page_layer_mates(const mixt_page_layer *layer, int expert, mixt_page_mate *mates);

#endif
