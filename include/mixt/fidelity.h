/* How far a model in another type, or another model of the same text, is from the first: what it
 * predicts and how it routes. A chapter of mixt.h, which includes it at its place. */
#ifndef MIXT_H
#error "mixt/fidelity.h is a chapter of mixt.h: include <mixt.h>"
#elif !defined(MIXT_FIDELITY_H)
#define MIXT_FIDELITY_H

typedef struct mixt_fidelity_options {
    int window;          /* tokens in a window */
    uint64_t max_tokens; /* of each domain; 0 is no limit */
    mixt_progress progress;
    void *user;
    bool heldout; /* the documents that the data holds out, instead of the others */
    uint64_t reserved[7];
} mixt_fidelity_options;

/* Of one layer with experts, means over the tokens; docs/measures/pairs.md has the formulas. */
typedef struct mixt_fidelity_layer {
    int layer;    /* of the model */
    double sets;  /* experts in both sets over those in the larger */
    double first; /* share with the same first choice */
    double kept;  /* routing weight of the first model on experts that the other chose too */
    double kl;    /* of the router's distributions, bits */
    uint64_t reserved[4];
} mixt_fidelity_layer;

typedef struct mixt_fidelity {
    uint64_t tokens;            /* that were scored */
    double nats[2];             /* summed negative log-likelihood of each model */
    double kl;                  /* KL(first || other) of the predictions, mean over tokens, nats */
    double kl_99;               /* 99 % of the tokens have no more */
    double same_top;            /* share with the same likeliest next token */
    int layers;                 /* with experts */
    mixt_fidelity_layer *layer; /* [layers] */
    uint64_t reserved[8];
} mixt_fidelity;

/* Runs the data through both models side by side, a batch at a time. Refused where they have other
 * vocabularies, layers with experts or numbers of experts. */
MIXT_API mixt_status mixt_fidelity_measure(mixt_context *context, const mixt_model *first,
                                           const mixt_model *other, const mixt_data *data,
                                           const mixt_fidelity_options *options,
                                           mixt_fidelity *result, mixt_error *error);
MIXT_API void mixt_fidelity_free(mixt_fidelity *result);

/* What a model's predictions and routing lose where one matrix (a stack of experts' counts as one)
 * has few bits: one run of the data for each, with that matrix alone quantised. With it
 * mixt_convert gives every tensor its type under a budget. The model must be an opened one. */
typedef struct mixt_sensitivity mixt_sensitivity;
MIXT_API mixt_status mixt_sensitivity_measure(mixt_context *context, const mixt_model *model,
                                              const mixt_data *data,
                                              const mixt_importance *importance,
                                              const mixt_fidelity_options *options,
                                              mixt_sensitivity **result, mixt_error *error);
MIXT_API void mixt_sensitivity_free(mixt_sensitivity *sensitivity);

#endif
