/* Experiments on routing, experts taken out of a model, and what that costs. A chapter of mixt.h,
 * which includes it at its place. docs/probe.md has every formula and the format of the results. */
#ifndef MIXT_H
#error "mixt/probe.h is a chapter of mixt.h: include <mixt.h>"
#elif !defined(MIXT_PROBE_H)
#define MIXT_PROBE_H

/* What a probe does, as bits. Every change is measured beside the unchanged model on the same
 * tokens. */
enum {
    MIXT_PROBE_MASK = 1,    /* an expert, or several, may not be chosen: the next ones move up */
    MIXT_PROBE_FIRST = 2,   /* an expert is every token's first choice */
    MIXT_PROBE_TOP_K = 4,   /* another number of experts a token, in all layers */
    MIXT_PROBE_ROUTES = 8,  /* a token's experts replaced by as many random ones (2605.07260) */
    MIXT_PROBE_SUPER = 16,  /* largest output of each expert (2507.23279) */
    MIXT_PROBE_REAP = 32,   /* gate times norm of the output (2510.13999), and how often chosen */
    MIXT_PROBE_LENS = 64,   /* a token's first expert for the whole layer (2603.05806) */
    MIXT_PROBE_NORMS = 128, /* norms and similarity of outputs and weights */
    MIXT_PROBE_NOISE = 256, /* noise on what the router is given */
    MIXT_PROBE_ALL = 511,
};
/* Their names in flags and results, from the lowest bit on. */
#define MIXT_PROBE_WORDS                                                                           \
    "mask", "first", "top-k", "routes", "super", "reap", "lens", "norms", "noise"

/* Experts that are masked together. */
enum { MIXT_PROBE_TOGETHER = 8 };
typedef struct mixt_probe_target {
    int count;                      /* 1 to MIXT_PROBE_TOGETHER */
    int layer[MIXT_PROBE_TOGETHER]; /* of the model */
    int expert[MIXT_PROBE_TOGETHER];
    uint64_t reserved[4];
} mixt_probe_target;

typedef struct mixt_probe_options {
    const char *output;     /* the results, JSON; OUTPUT.partial is what an interrupted probe knows,
                               and where it goes on: with the same bits as if it had not been */
    const char *model_name; /* in the results */
    int64_t experiments;    /* bits of MIXT_PROBE_ */
    int first_layer, last_layer; /* of the model; -1: to the last */
    /* MASK: what is masked, FIRST: those of one expert; NULL: each expert of these layers. One
     * expert of layer -1 stands for itself in each of them. */
    const mixt_probe_target *targets;
    size_t target_count;
    int window;
    uint64_t max_tokens; /* of each domain; 0: no limit */
    bool heldout;
    int draws;              /* ROUTES: other routes of each sampled token; 0: 8 */
    uint64_t seed;          /* of ROUTES and NOISE */
    double save_seconds;    /* between two states; 0: a second, or more where writing takes long */
    mixt_progress progress; /* or NULL */
    void *user;
    uint64_t reserved[6];
} mixt_probe_options;

MIXT_API mixt_probe_options mixt_probe_options_default(void);
/* Runs the experiments and writes the results. Where the progress ends it, or the program is
 * killed, the same call goes on from what OUTPUT.partial holds; refused where that is of another
 * model, text, or other options. */
MIXT_API mixt_status mixt_probe_run(mixt_context *context, const mixt_model *model,
                                    const mixt_data *data, const mixt_tokenizer *tokenizer,
                                    const mixt_probe_options *options, mixt_error *error);

/* A file of results in short tables: the experts that cost most and least, k, one expert alone,
 * super experts. */
MIXT_API mixt_status mixt_probe_print(const char *results, FILE *stream, mixt_error *error);

/* ---- Experts taken out ---- */

/* By what experts are ranked, of the results of a probe: those of least value go. */
typedef enum mixt_prune_by {
    MIXT_PRUNE_REAP,
    MIXT_PRUNE_FREQUENCY, /* how often they are chosen */
    MIXT_PRUNE_PROBE,     /* what masking them costs */
} mixt_prune_by;

/* Chooses experts to take out: `share` of each layer's, rounded, in each of its groups as many.
 * drop [MoE layers, experts]: 1 where one goes. Refused where the results are of another model or
 * lack an expert. */
MIXT_API mixt_status mixt_experts_choose(const mixt_model *model, const char *results,
                                         mixt_prune_by by, double share, uint8_t *drop,
                                         mixt_error *error);
/* The same from a file: a line "LAYER: EXPERT EXPERT ..." for each layer with experts; # begins a
 * comment. */
MIXT_API mixt_status mixt_experts_read(const mixt_model *model, const char *path, uint8_t *drop,
                                       mixt_error *error);
/* Takes them out of the model: their matrices and biases, and their rows of routers. The others
 * keep their order, and the types and bytes of their weights. Refused, with the model as it was,
 * where layers would keep different numbers, or groups would, or fewer than a token chooses. */
MIXT_API mixt_status mixt_model_drop_experts(mixt_model *model, const uint8_t *drop,
                                             mixt_error *error);

/* What a model says on its own behind the beginnings of documents: the likeliest token, again and
 * again. Of each domain the first `count` documents of at least `prompt` tokens. */
typedef struct mixt_continuation_options {
    int count, prompt, length;
    bool heldout;
    mixt_progress progress; /* or NULL */
    void *user;
    uint64_t reserved[4];
} mixt_continuation_options;

typedef struct mixt_continuations {
    int count;       /* of all domains */
    int length;      /* tokens of each */
    int *domain;     /* [count] */
    int32_t *tokens; /* [count, length] */
    uint64_t reserved[4];
} mixt_continuations;

MIXT_API mixt_status mixt_continue(mixt_context *context, const mixt_model *model,
                                   const mixt_data *data, const mixt_continuation_options *options,
                                   mixt_continuations *continuations, mixt_error *error);
MIXT_API void mixt_continuations_free(mixt_continuations *continuations);

#endif
