/* Many sequences at once: an engine, its sequences, and the steps that compute them together. A
 * chapter of mixt.h, which includes it at its place. */
#ifndef MIXT_H
#error "mixt/engine.h is a chapter of mixt.h: include <mixt.h>"
#elif !defined(MIXT_ENGINE_H)
#define MIXT_ENGINE_H

/* Positions of a context where the caller leaves the choice, and the model has as many. */
#define MIXT_CONTEXT_USUAL 4096

/* A model ready to run for many sequences side by side: its weights, a cache in pages of 64
 * positions, and a scheduler. What a sequence gives (logits, experts) has the same bits whatever
 * runs beside it, however it is cut into forwards, and whether its pages were computed for it or
 * found. An engine and its sequences are used from one thread. */
typedef struct mixt_engine mixt_engine;
/* A text that grows: tokens that were fed, of which some are computed and some wait. */
typedef struct mixt_sequence mixt_sequence;

typedef struct mixt_engine_options {
    int context_length; /* positions that one sequence may have; 0: the model's, at most 4096; of
                           a model within a limit of memory (mixt_model_store) fewer, multiples of
                           256, where that leaves less */
    int sequences;      /* that run side by side, 1 to 4096; more may wait */
    int64_t positions;  /* of the cache, for all of them, rounded up to pages of 64; 0: sequences *
                           context_length, or what a limit of memory leaves of that */
    int batch_tokens;   /* most rows of one forward, 1 to 65536; fewer where there is no memory. A
                           router that decides once for what is fed first (router_unit "sequence")
                           sees at most so many of it */
    int logits_rows;    /* most rows of one forward whose logits are wanted; 0: the larger of
                           sequences and 32, at most batch_tokens */
    mixt_cache_type cache_type;
    bool no_sharing;           /* sequences that begin alike have no pages in common */
    int experts_per_token_max; /* most that mixt_sequence_change_routing may ask for; 0: the most
                                  that a layer of the model chooses */
    int64_t step_tokens;       /* most rows of one step, 1 to 65536; 0: batch_tokens, or 4096 where
                                  the model is stored (mixt_model_store). Where they are more than
                                  batch_tokens, each layer goes over all of them, batch after batch,
                                  before the next one does: its experts are read once for a step.
                                  While others generate, at most two batches; fewer, where there is
                                  no memory. The same bits in any case */
    mixt_latent latent; /* AUTO: by what one call of mixt_sequence_feed is given and what stands
                           before it, so that a result depends on neither batch_tokens nor other
                           sequences; pages are shared where their rows had the same form */
    uint64_t reserved[14];
} mixt_engine_options;

/* 8 sequences, 512 rows of a forward, MIXT_CACHE_F32, sharing. */
MIXT_API mixt_engine_options mixt_engine_options_default(void);
/* NULL: the default options. Context and model must outlive it; it goes on with the routing that
 * the model has now. Pages are shared by sequences that begin alike (same tokens, same routing):
 * whole ones are found by their tokens, and those that no sequence has are kept until their place
 * is needed, least recently used first. Models where what is remembered depends on how it was fed
 * (RoPE by the length of the sequence within this context, a router that decides once for a
 * document) share nothing. */
MIXT_API mixt_status mixt_engine_create(mixt_context *context, const mixt_model *model,
                                        const mixt_engine_options *options, mixt_engine **engine,
                                        mixt_error *error);
/* After its sequences. */
MIXT_API void mixt_engine_free(mixt_engine *engine);
/* As they were applied: no zeros. */
MIXT_API void mixt_engine_describe_options(const mixt_engine *engine, mixt_engine_options *options);

typedef struct mixt_sequence_options {
    bool all_logits; /* of every token that is fed, not of the last alone; such a sequence takes no
                        pages that others computed */
    bool states;     /* what the head sees of every token that is fed: its row behind the last norm,
                        before logit_scale, instead of logits; likewise without pages of others */
    bool routes;     /* experts of every token that is computed (not of those that are found in
                        pages of others) */
    bool no_sharing; /* takes no pages that others computed: with `routes` experts of all tokens */
    uint64_t reserved[8];
} mixt_sequence_options;

/* An empty sequence; NULL: the default options, all false. */
MIXT_API mixt_status mixt_sequence_create(mixt_engine *engine, const mixt_sequence_options *options,
                                          mixt_sequence **sequence, mixt_error *error);
/* At any moment between two steps; its pages are given back. */
MIXT_API void mixt_sequence_free(mixt_sequence *sequence);
/* For this sequence alone, on top of what the engine's model does and before anything is fed: as
 * mixt_model_change_routing, with the same bits as a model so changed. More experts than
 * experts_per_token_max are refused. */
MIXT_API mixt_status mixt_sequence_change_routing(mixt_sequence *sequence,
                                                  mixt_routing_change change, int layer, int value,
                                                  mixt_error *error);
/* Puts tokens (copied) behind what the sequence holds; computes nothing. Refused where a sequence
 * of that length would not fit into the context, or alone into the cache. Where RoPE depends on how
 * long a sequence is, what is fed at once is rotated as in one that ends with it. */
MIXT_API mixt_status mixt_sequence_feed(mixt_sequence *sequence, const int32_t *tokens,
                                        size_t count, mixt_error *error);
/* Forgets everything behind the first `length` tokens. MIXT_ERROR_ARGUMENT where it holds fewer. */
MIXT_API mixt_status mixt_sequence_truncate(mixt_sequence *sequence, size_t length);
/* Tokens that it holds, computed or not; of these, those that still wait; and positions that were
 * found in pages of others. */
MIXT_API size_t mixt_sequence_length(const mixt_sequence *sequence);
MIXT_API size_t mixt_sequence_waiting(const mixt_sequence *sequence);
MIXT_API size_t mixt_sequence_found(const mixt_sequence *sequence);
/* [vocab_size] behind the last token, once nothing waits; until the next step. Of no meaning with
 * `states`. */
MIXT_API const float *mixt_sequence_logits(const mixt_sequence *sequence);
/* MIXT_OK, or what went wrong with this sequence alone (a router whose logits are not finite): it
 * waits for nothing then, cannot be fed, and is to be freed. */
MIXT_API mixt_status mixt_sequence_state(const mixt_sequence *sequence, mixt_error *error);

/* What the last step computed of a sequence; what it points to is good until the next step. Of
 * tokens that are computed again after their pages were given up nothing is said a second time. */
typedef struct mixt_sequence_rows {
    size_t position, count; /* tokens [position, position + count); count 0: none */
    size_t logits_position,
        logits_count; /* with all_logits or states the same, else the last token or none */
    const float
        *logits; /* [logits_count, vocab_size]: what comes behind each; NULL with `states` */
    const float *states;        /* with `states` instead of logits: [logits_count, hidden_size] */
    int moe_layers, chosen;     /* chosen: the most that a layer of the engine may choose */
    const int32_t *route_ids;   /* [count, moe_layers, chosen], id -1 behind fewer; NULL without
                                   `routes` */
    const float *route_weights; /* likewise; 0 where there is no expert */
    const float *route_margins; /* [count, moe_layers], with route_ids: how far the last of the
                                   experts that the layer chose by comparing stands above the best
                                   one that it could have had in its place, in the numbers that it
                                   compares. These are the router's logits; with a selection bias
                                   its scores and the bias (logits and the bias where the softmax
                                   comes after the choice), within groups of experts without a bias
                                   scores. Experts that are masked or forced, or in groups that were
                                   not used, do not take part. NaN where nothing was compared: by
                                   hash, all, all of them forced, or none left */
    uint64_t reserved[7];
} mixt_sequence_rows;

MIXT_API void mixt_sequence_computed(const mixt_sequence *sequence, mixt_sequence_rows *rows);
/* Of the last token that the last step computed of a sequence, made with `routes` or not: ids and
 * weights [moe_layers, chosen], margins [moe_layers], as mixt_sequence_rows has them; NULL: not
 * wanted. False, and nothing is written, where it computed none. Only this call costs anything:
 * for who looks at some steps, and not at all tokens. */
MIXT_API bool mixt_sequence_last_routes(const mixt_sequence *sequence, int32_t *ids, float *weights,
                                        float *margins);

/* One forward over what waits: one row for each sequence that generates (one token waits), pieces
 * of longer ones, first come first served, in the rest of batch_tokens (or step_tokens). A sequence
 * begins once there are pages for it. Where they run out, sequences for which nothing is to be
 * done, then the newest, give theirs up, to be computed again later with the same bits. MIXT_OK
 * where nothing waits, and nothing is done. An error is the engine's own (a file that shrank,
 * experts that could not be fetched): nothing has become of the step, which may be tried again. */
MIXT_API mixt_status mixt_engine_step(mixt_engine *engine, mixt_error *error);
/* Sequences with tokens that wait. */
MIXT_API size_t mixt_engine_waiting(const mixt_engine *engine);

typedef struct mixt_engine_statistics {
    uint64_t steps;           /* forwards */
    uint64_t rows;            /* of all forwards, those that were computed again included */
    uint64_t logits_rows;     /* of these, with logits */
    uint64_t found_positions; /* that did not have to be computed */
    uint64_t preemptions;     /* sequences that gave up their pages */
    int64_t pages;            /* of the cache, 64 positions each */
    int64_t pages_used;       /* that sequences have */
    int64_t pages_kept;       /* that no sequence has, kept for ones that begin alike */
    int sequences;            /* that exist */
    int running;              /* that take part in steps: tokens wait, and they have begun */
    int waiting;              /* tokens wait, and they have not begun (again) */
    size_t cache_bytes;       /* of all pages */
    uint64_t reserved[16];
} mixt_engine_statistics;

MIXT_API void mixt_engine_describe(const mixt_engine *engine, mixt_engine_statistics *statistics);

#endif
