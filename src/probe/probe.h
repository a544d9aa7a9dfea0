/* Inside a probe: what its experiments share. A batch of the corpus is run as the model routes;
 * then, layer by layer, the values at the layer's router are kept (mixt_instance_cut_save) and the
 * rest of the plan is run again from there for each change of the routing. Everything that is
 * summed up lies in one array, which is also the state of an interrupted probe. */
#ifndef MIXT_PROBE_PROBE_H
#define MIXT_PROBE_PROBE_H

#include "eval/score.h"

#define MIXT_PROBE_GROUPS 20      /* documents take turns: left out one by one for intervals */
#define MIXT_PROBE_NUMBERS 33     /* routers of a layer: the batch's, and those of sampled tokens */
#define MIXT_PROBE_SIGMAS 5       /* sizes of noise */
#define MIXT_PROBE_DIFFICULTIES 3 /* ROUTES: tokens by their loss */

extern const double mixt_probe_sigmas[MIXT_PROBE_SIGMAS];
/* Loss in nats below which a token is of difficulty 0, 1. */
extern const double mixt_probe_difficulty[MIXT_PROBE_DIFFICULTIES - 1];

/* What is summed up, each an array in the one block. B buckets: the domains, then the classes of
 * the token that is predicted. G groups, L layers with experts, E experts a router chooses among.
 */
typedef enum mixt_probe_sum {
    SUM_CURSOR, /* [CURSORS] */
    SUM_TOKENS, /* [G, B]: scored ones */
    SUM_BASE,   /* [G, B]: nats of the unchanged model */
    SUM_MASK,   /* [targets, G, B]: nats more than that */
    SUM_FIRST,  /* [targets, G, B] */
    SUM_TOP_K,  /* [ks, G, B]: nats */
    SUM_ALONE,  /* [L, G, B]: nats more with a token's first expert alone */
    SUM_ROUTES, /* [L + 1, G, B + difficulties, ROUTE_SUMS]; the last: all layers at once */
    SUM_USE,    /* [L, E, G, USE_SUMS] */
    SUM_OUTPUT, /* [L, E, OUTPUT_SUMS] */
    SUM_MEANS,  /* [L, E, d]: sums of outputs */
    SUM_LENS,   /* [L, G, LENS_SUMS] */
    SUM_NOISE,  /* [L, sigmas, G, NOISE_SUMS] */
    SUM_COUNT
} mixt_probe_sum;

/* Where a probe is: it goes on with this pass (0: all but top-k), batch and step. */
enum { CURSOR_PASS, CURSOR_BATCH, CURSOR_STEP, CURSORS };
enum { ROUTE_SAMPLES, ROUTE_BETTER, ROUTE_MEAN, ROUTE_BEST, ROUTE_SUMS };
enum { USE_CHOICES, USE_REAP, USE_SUMS };
enum { OUTPUT_NORM, OUTPUT_SQUARE, OUTPUT_LARGEST, OUTPUT_TOKEN, OUTPUT_COLUMN, OUTPUT_SUMS };
enum { LENS_TOKENS, LENS_ROUTED, LENS_WHOLE, LENS_SUMS };
enum {
    NOISE_CHOICES,
    NOISE_CHANGED,
    NOISE_TOKENS,
    NOISE_FIRST,
    NOISE_MOVED,
    NOISE_MOVED_MARGIN,
    NOISE_STAYED_MARGIN,
    NOISE_SUMS
};

/* A router that the probe may change: mask and forced are in use where the spec names them. */
typedef struct mixt_probe_router {
    mixt_router_spec spec;
    uint8_t *mask;   /* [E] */
    int32_t *forced; /* [E] */
} mixt_probe_router;

typedef struct mixt_probe {
    mixt_context *context;
    const mixt_model *model;
    const mixt_data *data;
    const mixt_tokenizer *tokenizer;
    const mixt_probe_options *options;
    int64_t experiments;
    int layers, experts, domains, buckets, groups;
    int64_t width;              /* d */
    uint8_t *group;             /* [documents]: below groups */
    uint8_t *class_of;          /* [vocabulary] */
    mixt_probe_target *targets; /* [target_count] */
    size_t target_count;
    int *ks; /* [k_count] */
    int k_count;
    mixt_probe_router *changed;       /* [model layers, NUMBERS] */
    const mixt_router_spec **routers; /* [model layers, NUMBERS]: what the plan reads */
    mixt_router_spec *base;           /* [model layers]: as the model routes */
    double *sums;                     /* the block */
    size_t sum_values;
    double *sum[SUM_COUNT];
    size_t sum_count[SUM_COUNT];
    /* Of the batch that is worked on. */
    mixt_scorer *scorer;
    int *route_record; /* [L]: of each layer, -1: it has no router of its own */
    float *nll;        /* [capacity]: of the unchanged model */
    int32_t *ids;      /* [capacity, k]: choices of a layer, for NOISE */
    bool *chosen;      /* [L, E]: does a token of the batch choose it? */
    void *cut;         /* values at the router of `layer` */
    size_t cut_bytes;
    int layer;    /* place among the layers with experts; -1: none yet */
    int position; /* records that were run of the unchanged model */
    double total, done;
    double saved, save_cost; /* seconds: when the state was written, how long that took */
    char identity[65];
    char *partial; /* path of the state */
} mixt_probe;

/* setup.c: everything but the scorer; and the end of it. */
mixt_status mixt_probe_open(mixt_probe *probe, mixt_error *error);
void mixt_probe_close(mixt_probe *probe);
/* Does place `layer` among the layers with experts belong to what is asked for, with a router? */
bool mixt_probe_wants_layer(const mixt_probe *probe, int layer);
/* A scorer whose routers are the probe's; `chosen`: as mixt_scorer_options has it. */
mixt_status mixt_probe_scorer(mixt_probe *probe, int chosen, mixt_scorer **scorer,
                              mixt_error *error);
/* All routers as the model has them. */
void mixt_probe_reset(mixt_probe *probe);
/* The router `number` of a layer of the model, as the model has it, in force. */
mixt_probe_router *mixt_probe_change(mixt_probe *probe, int model_layer, int number);

/* state.c */
mixt_status mixt_probe_identify(mixt_probe *probe, mixt_error *error);
mixt_status mixt_probe_load(mixt_probe *probe, mixt_error *error);
/* Where it is time to, or at once. */
mixt_status mixt_probe_save(mixt_probe *probe, bool at_once, mixt_error *error);

/* observe.c: what experts give, while the unchanged model runs. */
typedef struct mixt_probe_observer mixt_probe_observer;
mixt_status mixt_probe_observe(mixt_probe *probe, mixt_probe_observer **observer,
                               mixt_error *error);
/* From the next run on; and behind it. */
void mixt_probe_look(mixt_probe_observer *observer);
mixt_status mixt_probe_observed(mixt_probe_observer *observer, mixt_error *error);
void mixt_probe_observer_free(mixt_probe_observer *observer);

/* change.c: one step each, from the cut at the layer's router on. */
mixt_status mixt_probe_mask(mixt_probe *probe, size_t target, mixt_error *error);
mixt_status mixt_probe_first(mixt_probe *probe, size_t target, mixt_error *error);
mixt_status mixt_probe_alone(mixt_probe *probe, int layer, mixt_error *error);
/* layer: probe->layers for all at once. */
mixt_status mixt_probe_routes(mixt_probe *probe, int layer, mixt_error *error);
mixt_status mixt_probe_noise(mixt_probe *probe, int layer, mixt_error *error);
/* The unchanged model up to the router of a layer; and the rest of the plan from there. */
mixt_status mixt_probe_go_to(mixt_probe *probe, int layer, mixt_error *error);
mixt_status mixt_probe_run_rest(mixt_probe *probe, mixt_error *error);
/* Adds the loss of the batch, less the unchanged model's where `less`, to cells [G, B]. */
void mixt_probe_add_loss(const mixt_probe *probe, bool less, double *cells);
/* Bucket of the class of a row's target. */
int mixt_probe_class(const mixt_probe *probe, int64_t row);

/* similarity.c: cosines between all experts of a layer [E, E]: of mean outputs at a place among the
 * layers with experts, and of all weights in a layer of the model. */
void mixt_probe_output_cosines(const mixt_probe *probe, int layer, double *cosines);
mixt_status mixt_probe_weight_cosines(const mixt_probe *probe, int layer, double *cosines,
                                      mixt_error *error);

/* super.c: above both bounds of the largest outputs of all experts, within the first layers. */
typedef struct mixt_super_bounds {
    double percentile, share; /* the 99.5th of all, and a tenth of the largest */
    int layers;               /* three quarters of those with experts */
} mixt_super_bounds;

/* largest [layers, experts] */
mixt_status mixt_super_find(const double *largest, int layers, int experts,
                            mixt_super_bounds *bounds, mixt_error *error);
bool mixt_super_is(const mixt_super_bounds *bounds, int layer, double largest);

/* report.c */
mixt_status mixt_probe_report(const mixt_probe *probe, mixt_error *error);

#endif
