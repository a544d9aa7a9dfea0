/* Results of `mixt probe` (docs/probe.md) beside a trace, as the page shows them. */
#ifndef MIXT_ATLAS_PAGE_PROBE_H
#define MIXT_ATLAS_PAGE_PROBE_H

#include "atlas/page.h"

#define MIXT_PAGE_CURVE_MOST 4096 /* numbers of experts a token */
#define MIXT_PAGE_NEAR 4          /* most similar experts of each, as many as the results list */

/* What is known of each expert. */
typedef enum mixt_page_probe_cell {
    MIXT_CELL_EFFECT, /* change of the loss when it is masked, nats a token, and its interval */
    MIXT_CELL_EFFECT_LOW,
    MIXT_CELL_EFFECT_HIGH,
    MIXT_CELL_REAP, /* and its interval */
    MIXT_CELL_REAP_LOW,
    MIXT_CELL_REAP_HIGH,
    MIXT_CELL_NORM,    /* mean norm of its output */
    MIXT_CELL_LARGEST, /* the largest absolute value of its output */
    MIXT_CELL_SUPER,   /* 1: a super expert, 0: none */
    MIXT_CELL_PARTS,
} mixt_page_probe_cell;

/* What is known of each layer: with its first expert alone, and on other routes. */
typedef enum mixt_page_probe_lens {
    MIXT_LENS_ROUTED, /* cosine with what all chosen experts give, and its interval */
    MIXT_LENS_ROUTED_LOW,
    MIXT_LENS_ROUTED_HIGH,
    MIXT_LENS_WHOLE,  /* ... with the layer's output, the shared expert included */
    MIXT_LENS_EFFECT, /* change of the loss, nats a token, and its interval */
    MIXT_LENS_EFFECT_LOW,
    MIXT_LENS_EFFECT_HIGH,
    MIXT_LENS_BETTER, /* share of drawn routes that predict worse, and its interval */
    MIXT_LENS_BETTER_LOW,
    MIXT_LENS_BETTER_HIGH,
    MIXT_LENS_PARTS,
} mixt_page_probe_lens;

typedef enum mixt_page_likeness {
    MIXT_NEAR_OUTPUTS, /* cosine of mean outputs */
    MIXT_NEAR_WEIGHTS, /* ... of all weights */
    MIXT_NEAR_KINDS,
} mixt_page_likeness;

typedef struct mixt_page_near {
    int expert; /* -1: no further one */
    float cosine;
} mixt_page_near;

/* Numbers that were not measured are NaN. */
struct mixt_page_probe {
    float *cell;          /* [MIXT_CELL_PARTS, L, E] */
    float *domain;        /* [L, domains, E] effect of masking on a domain's tokens */
    float *classes;       /* [L, MIXT_CLASS_COUNT, E] ... on a class's */
    int32_t *token;       /* [L, E] at which an expert's output is largest; -1: not known */
    mixt_page_near *near; /* [MIXT_NEAR_KINDS, L, E, MIXT_PAGE_NEAR] */
    double *lens;         /* [MIXT_LENS_PARTS, L] */
    int curve_count;      /* numbers of experts a token that were tried */
    int *curve_k;         /* [curve_count] */
    double *curve;        /* [3, MIXT_PAGE_CURVE_MOST] change of the loss and its interval */
    double better;        /* MIXT_LENS_BETTER of routes that differ in all layers at once */
    double loss;          /* of the unchanged model, nats a token */
    bool other_model;     /* measured on a file whose hash is not the trace's */
    int *domain_place;    /* [domains of the results] the trace's domain, or -1 */
    int *class_place;     /* [classes of the results] mixt_token_class, or -1 */
    size_t domain_count, class_count; /* of the results */
};

static inline float mixt_page_probe_of(const mixt_page *page, mixt_page_probe_cell part, int layer,
                                       int expert)
{
    size_t experts = (size_t)page->trace->info.experts;
    size_t cells = experts * (size_t)page->trace->info.layers;
    return page->probe->cell[(size_t)part * cells + (size_t)layer * experts + (size_t)expert];
}

#endif
