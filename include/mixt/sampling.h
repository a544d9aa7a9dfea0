/* Sampling: from logits to the next token, constraints on the text, stop strings. A chapter of
 * mixt.h, which includes it at its place. */
#ifndef MIXT_H
#error "mixt/sampling.h is a chapter of mixt.h: include <mixt.h>"
#elif !defined(MIXT_SAMPLING_H)
#define MIXT_SAMPLING_H

/* Samplers, applied in llama.cpp's order: repetition penalties, top-k, top-p, min-p, temperature,
 * then a draw. temperature 0 is greedy (lowest id on ties). */
typedef struct mixt_sampling {
    double temperature;       /* 0.8 */
    int top_k;                /* 40; 0 keeps all */
    double top_p;             /* 0.95; 1 keeps all */
    double min_p;             /* 0.05; 0 keeps all */
    double repeat_penalty;    /* 1.0: off */
    double frequency_penalty; /* 0 */
    double presence_penalty;  /* 0 */
    int repeat_last;          /* 64 tokens the penalties look at; -1: all */
    uint64_t seed;
    uint64_t reserved[8];
} mixt_sampling;

MIXT_API mixt_sampling mixt_sampling_default(void);
/* A seed of the system's own randomness; of the clock where it has none. */
MIXT_API uint64_t mixt_random_seed(void);
/* Draws the next token from `logits` [vocab_size]; `history` are the tokens so far. `position`
 * numbers the draw: the same (seed, position) gives the same choice. */
MIXT_API mixt_status mixt_sample(const mixt_sampling *sampling, const float *logits, int vocab_size,
                                 const int32_t *history, size_t history_count, uint64_t position,
                                 int32_t *token, mixt_error *error);

/* ---- A sampler: the whole chain, with what it remembers of a text ---- */

typedef struct mixt_logit_bias {
    int32_t token;
    float bias; /* added to the logit; -INFINITY: the token is never drawn */
} mixt_logit_bias;

/* The samplers are llama.cpp's, with its formulas and its order:
 *   logit biases and the grammar, then by `order`
 *   penalties; dry; top_n_sigma; top_k; typ_p; top_p; min_p; xtc; temperature
 * and a draw among what is left. With mirostat there are biases, grammar, temperature and mirostat
 * alone. Each value that is given in parentheses switches its sampler off, and is the default. */
typedef struct mixt_sampler_options {
    mixt_sampling sampling;      /* as mixt_sample has them */
    double temperature_range;    /* (0) temperature moves by so much around its value ... */
    double temperature_exponent; /* 1: ... with the entropy's share of its most, to this power */
    double typical_p;            /* (1) Meister et al. 2022 */
    double top_n_sigma;          /* (0) keep what is within N deviations of the best (2411.07641) */
    double xtc_probability;      /* (0) how often the best above the threshold are left out ... */
    double xtc_threshold;        /* 0.1: ... but the least probable of them; above 0.5: never */
    double dry_multiplier;       /* (0) penalty on what would go on with a repetition: multiplier */
    double dry_base;             /* 1.75: times base to the power of ... */
    int dry_allowed_length;      /* 2: ... the repetition's length beyond this one */
    int dry_last;                /* -1: tokens it looks at; -1 all, 0 none */
    const char *const
        *dry_breakers;        /* texts over which no repetition goes; NULL: "\n" ":" "\"" "*" */
    size_t dry_breaker_count; /* 0 with a pointer that is not NULL: none */
    int mirostat;             /* (0), 1 or 2: Basu et al. 2020 */
    double mirostat_tau;      /* 5: surprise in bits that it steers to */
    double mirostat_eta;      /* 0.1: how fast */
    int min_keep;             /* (0) top-p, min-p, typical and xtc leave at least so many */
    const char *order; /* names as above separated by ';' (llama.cpp's other spellings too), or
                          NULL: the usual order; samplers that are not named are off */
    const mixt_logit_bias *biases;
    size_t bias_count;
    bool ignore_end;     /* no token that ends the text is ever drawn */
    const char *grammar; /* GBNF with the rule "root" (docs/grammars.md), or NULL: any text */
    uint64_t reserved[16];
} mixt_sampler_options;

MIXT_API mixt_sampler_options mixt_sampler_options_default(void);

/* What one sequence draws with. Its tokens that end a text are those of mixt_tokenizer_is_end and
 * the separator. */
typedef struct mixt_sampler mixt_sampler;

/* `vocab_size`: length of the logits. The tokenizer must outlive the sampler; it may be NULL where
 * neither grammar, dry nor ignore_end needs one. The options are copied. A tokenizer's samplers may
 * be used from different threads, each from one. */
MIXT_API mixt_status mixt_sampler_create(const mixt_tokenizer *tokenizer, int vocab_size,
                                         const mixt_sampler_options *options,
                                         mixt_sampler **sampler, mixt_error *error);
/* One at the beginning of its text that draws by `seed`, and else by the options of `like`,
 * whatever that one has drawn. Grammar, breakers and biases were made ready once and are had
 * together: a hundred samplers of a large grammar cost what one does until they draw. Each is freed
 * by itself, in any order, on any thread. */
MIXT_API mixt_status mixt_sampler_create_alike(const mixt_sampler *like, uint64_t seed,
                                               mixt_sampler **sampler, mixt_error *error);
MIXT_API void mixt_sampler_free(mixt_sampler *sampler);
/* Tells of the next token of the text: of a prompt (penalties and dry see it), or one that was
 * drawn (the grammar and mirostat move on; what the grammar does not allow is refused, and nothing
 * changes). */
MIXT_API mixt_status mixt_sampler_accept(mixt_sampler *sampler, int32_t token, bool drawn,
                                         mixt_error *error);
/* Draws from `logits` [vocab_size]; a function of (seed, drawn tokens accepted so far, logits, the
 * text). Does not accept. Fails where the grammar allows no token of the vocabulary. */
MIXT_API mixt_status mixt_sampler_next(mixt_sampler *sampler, const float *logits, int32_t *token,
                                       mixt_error *error);
/* Whether the grammar allows the end of the text and nothing else (false without one): then there
 * is nothing to draw. */
MIXT_API bool mixt_sampler_complete(const mixt_sampler *sampler);

/* A JSON schema as a grammar (malloc'd) whose texts are the JSON values that the schema accepts,
 * with the properties in the schema's order. NULL or {}: any JSON value. What a grammar cannot hold
 * exactly is refused by name; docs/grammars.md lists what it can. */
MIXT_API mixt_status mixt_json_schema_grammar(const char *schema, size_t length, char **grammar,
                                              mixt_error *error);

/* Logarithms of the probabilities that `logits` [vocab_size] give at temperature 1: of `token` into
 * *of_token (NULL: not wanted), and of the `count` most probable ids, best first, ties by rising
 * id, into ids and values [count]; behind the vocabulary's end -1 and -INFINITY. */
MIXT_API void mixt_log_probabilities(const float *logits, int vocab_size, int32_t token,
                                     double *of_token, int count, int32_t *ids, double *values);

/* ---- Stop strings ---- */

/* Looks for any of several strings in a text that comes in pieces. */
typedef struct mixt_stop mixt_stop;

/* `strings` [count], none of them empty, are copied. */
MIXT_API mixt_status mixt_stop_create(const char *const *strings, size_t count, mixt_stop **stop,
                                      mixt_error *error);
MIXT_API void mixt_stop_free(mixt_stop *stop);
/* Takes the next bytes of the text. Returns how many bytes of all that was fed may be shown: what
 * may still become a stop string is held back. It never falls. Once a string is met (the first that
 * is complete; of several that end at one byte the longest), it stays where that one begins,
 * whatever comes. A text that ends without one may be shown whole. */
MIXT_API size_t mixt_stop_feed(mixt_stop *stop, const char *bytes, size_t length);
/* Index of the string that was met, or -1. */
MIXT_API int mixt_stop_met(const mixt_stop *stop);
/* Begins anew with an empty text. */
MIXT_API void mixt_stop_reset(mixt_stop *stop);

#endif
