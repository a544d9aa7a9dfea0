/* Traces and the atlas: which experts a model's tokens go to, and what that tells of them. A
 * chapter of mixt.h, which includes it at its place. docs/traces.md has the file, docs/atlas.md the
 * measures. */
#ifndef MIXT_H
#error "mixt/atlas.h is a chapter of mixt.h: include <mixt.h>"
#elif !defined(MIXT_ATLAS_H)
#define MIXT_ATLAS_H

typedef struct mixt_trace_options {
    const char *output; /* file to write */
    const char *model_name;
    int window;          /* tokens routed together */
    uint64_t max_tokens; /* for each domain; 0 is no limit */
    bool heldout;
    bool logits; /* also router logits */
    bool ahead;  /* also what each layer would choose one layer earlier */
    uint64_t reserved[8];
} mixt_trace_options;

/* Routes the data through the model and writes every decision as a safetensors file
 * (docs/traces.md). The vocabulary's bytes travel in the file, so that it can be shown without the
 * model. */
MIXT_API mixt_status mixt_trace_write(mixt_context *context, const mixt_model *model,
                                      const mixt_data *data, const mixt_tokenizer *tokenizer,
                                      const mixt_trace_options *options, mixt_progress progress,
                                      void *user, mixt_error *error);

/* Writes traces [count] of the same model as one, whose documents lie one behind the other in this
 * order; domains are joined by name. Refused by name where model, tokenizer or what is recorded
 * differ. `output` may be one of them. */
MIXT_API mixt_status mixt_trace_join(const char *const *paths, int count, const char *output,
                                     mixt_error *error);
/* Writes routes that were recorded elsewhere, arrays in a safetensors file (docs/traces.md,
 * "Importing"), as a trace with the tokenizer's vocabulary. What the file has and a trace cannot
 * hold is refused by name. */
MIXT_API mixt_status mixt_trace_import(const char *path, const mixt_tokenizer *tokenizer,
                                       const char *output, mixt_error *error);

typedef struct mixt_trace mixt_trace;

MIXT_API mixt_status mixt_trace_open(const char *path, mixt_trace **trace, mixt_error *error);
MIXT_API void mixt_trace_free(mixt_trace *trace);

typedef struct mixt_trace_info {
    uint64_t tokens;
    int layers; /* with experts */
    int experts;
    int experts_per_token; /* the most that a layer chooses: mixt_trace_layer_experts */
    int domains;
    uint64_t documents;
    const char *model; /* name and hashes from the metadata */
    const char *model_hash;
    const char *corpus_hash;
    const char *tokenizer_hash;
    const char
        *router_select;   /* how experts were chosen, a word of mixt_router_selects; "": top-k */
    const char *held_out; /* as in mixt_model_info, of the model that was traced */
    /* of `experts`, the last ones: that give a token's row back, and behind them nothing */
    int identity_experts, zero_experts;
    uint64_t reserved[6];
} mixt_trace_info;

MIXT_API void mixt_trace_describe(const mixt_trace *trace, mixt_trace_info *info);
MIXT_API const char *mixt_trace_domain(const mixt_trace *trace, int domain);
/* The model's layer number of MoE layer `layer`. */
MIXT_API int mixt_trace_layer(const mixt_trace *trace, int layer);
/* Experts that MoE layer `layer` chooses for a token. A token may have fewer (a capacity that drops
 * choices, experts that choose their tokens): then a place among its choices holds none. */
MIXT_API int mixt_trace_layer_experts(const mixt_trace *trace, int layer);
/* How often each expert of MoE layer `layer` was chosen: uses [experts], as many as the trace's
 * info says. */
MIXT_API void mixt_trace_uses(const mixt_trace *trace, int layer, uint64_t *uses);
/* Share of the choices of MoE layer `layer` that have no expert. */
MIXT_API double mixt_trace_dropped(const mixt_trace *trace, int layer);

typedef struct mixt_rate {
    double value; /* share of pairs */
    double low,
        high; /* 95 % interval, for documents like these; a domain of one document: for that
                 document alone. 0 and 1 where the trace does not give any (docs/atlas.md) */
    uint64_t pairs;
    uint64_t reserved[2];
} mixt_rate;

/* Repetition of consecutive tokens (Mixtral paper, table 5): pairs (i, i+1) inside a document.
 * domain -1: all. which 0: same first choice, of the pairs where both have one; 1: the two sets of
 * experts meet, of the pairs where both have an expert. */
MIXT_API mixt_status mixt_atlas_repetition(const mixt_trace *trace, int layer, int domain,
                                           int which, mixt_rate *rate, mixt_error *error);
/* The exact random level: 1/E, or 1 - C(E-k,k)/C(E,k). */
MIXT_API double mixt_atlas_random_level(int experts, int experts_per_token, int which);
/* shares [E] of a domain's assignments (Mixtral paper, figures 7 and 9), of the choices that were
 * made; all 0 where there are none. choice -1: all k choices, 0: first, 1: second, ... */
MIXT_API mixt_status mixt_atlas_proportions(const mixt_trace *trace, int layer, int domain,
                                            int choice, double *shares, mixt_error *error);

/* What a token's expert tells of it: mutual information with a label (docs/atlas.md). */
typedef struct mixt_information {
    const char *absent;      /* NULL; else why there is no measure or no level */
    double bits, entropy;    /* information, and the expert's entropy: the most it can be */
    double shuffled, spread; /* mean and standard deviation over the shuffles */
    double highest, excess;  /* of the shuffles; bits - shuffled */
    double low, high;        /* 95 % interval of the excess; NaN: none */
    uint64_t count;          /* choices counted; 0: no measure */
    int labels, shuffles;    /* different ones; 0: no level */
    uint64_t reserved[4];
} mixt_information;

/* rows [4, 2]: the token's domain, its class by its bytes, its id, the id before it; each by first
 * choices, by all choices. layer -1: means over the layers. */
MIXT_API mixt_status mixt_atlas_information(const mixt_trace *trace, int layer,
                                            mixt_information *rows, mixt_error *error);

typedef enum mixt_atlas_part {
    MIXT_ATLAS_ALL,
    MIXT_ATLAS_SHORT, /* repetition by layer over all domains, and text of the first four domains */
    MIXT_ATLAS_WORDS, /* two sentences, one a paragraph: about consecutive tokens, and domains */
    MIXT_ATLAS_JSON,  /* the numbers as one JSON object (docs/atlas.md) */
} mixt_atlas_part;

typedef struct mixt_atlas_options {
    bool color;      /* ANSI colours in the terminal text */
    int text_tokens; /* coloured tokens for each domain; 0: none */
    int width;       /* columns */
    mixt_atlas_part part;
    uint64_t reserved[8];
} mixt_atlas_options;

/* The tables and coloured text for a terminal. */
MIXT_API mixt_status mixt_atlas_print(const mixt_trace *trace, const mixt_atlas_options *options,
                                      FILE *stream, mixt_error *error);
/* One self-contained HTML page: what is asked for is drawn by its script from data in it, and the
 * figures are there as SVG for print and for readers without scripts. */
MIXT_API mixt_status mixt_atlas_page(const mixt_trace *trace, const char *path, mixt_error *error);

typedef struct mixt_atlas_page_options {
    const char *title;        /* NULL: the model's name */
    const mixt_trace *second; /* NULL, or one to show beside it: another model, precision or
                                 checkpoint, traced on a corpus with the same domains */
    const char *probe;        /* NULL, or a file of results of mixt probe (docs/probe.md) */
    uint64_t reserved[8];
} mixt_atlas_page_options;

/* The same with more on it. Refused in one line where the second trace or the results do not fit.
 */
MIXT_API mixt_status mixt_atlas_page_with(const mixt_trace *trace,
                                          const mixt_atlas_page_options *options, const char *path,
                                          mixt_error *error);

#endif
