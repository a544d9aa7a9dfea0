/* Generation to a stream: a session, its tokens so far, and output that never splits a character.
 */
#ifndef MIXT_CLI_GENERATE_H
#define MIXT_CLI_GENERATE_H

#include "sampling.h"
#include "shared.h"

/* Rows for what run and chat share; `settings` holds predict, a mixt_session_options
 * `session` and a cache_settings `kv`.
 */
#define OPTION_OF_PREDICT(settings)                                                                \
    {                                                                                              \
        .name = "predict", .letter = 'n', .kind = OPTION_LONG,                                     \
        .offset = offsetof(settings, predict), .low = -1, .high = 1e15,                            \
        .help = "tokens to generate; -1: until the text ends or the context is full",              \
        .aliases = "n-predict"                                                                     \
    }
#define OPTION_OF_CONTEXT(settings)                                                                \
    {.name = "context-length",                                                                     \
     .letter = 'c',                                                                                \
     .kind = OPTION_INT,                                                                           \
     .offset = offsetof(settings, session.context_length),                                         \
     .low = 0,                                                                                     \
     .high = 1 << 24,                                                                              \
     .help = "positions of the KV cache; 0: the model's, at most 4096, or what --memory leaves",   \
     .aliases = "ctx-size ctx"},                                                                   \
        OPTIONS_OF_CACHE(settings, kv, "what the KV cache holds its numbers as"),                  \
        OPTION_OF_LATENT(settings, session.latent)

/* What happens when the context is full; `settings` holds a shift_settings `shift`. */
#define OPTIONS_OF_SHIFT(settings)                                                                 \
    {.name = "context-shift",                                                                      \
     .kind = OPTION_FLAG,                                                                          \
     .offset = offsetof(settings, shift.on),                                                       \
     .help = "where the context is full, drop half of it and go on; the rest is computed again"},  \
    {                                                                                              \
        .name = "keep", .kind = OPTION_INT, .offset = offsetof(settings, shift.keep), .low = -1,   \
        .high = 1 << 24,                                                                           \
        .help = "with --context-shift: tokens of the prompt that stay; -1: all of it"              \
    }

typedef struct shift_settings {
    bool on;
    int keep; /* first tokens, beside the begin of the text; -1: the whole prompt */
} shift_settings;

/* Holds back the bytes of a character until it is whole; broken ones become U+FFFD. */
typedef struct text_stream {
    FILE *stream;
    bool on_terminal; /* control characters are shown as U+FFFD there */
    unsigned char held[4];
    int held_count;
} text_stream;

void text_write(text_stream *out, const char *bytes, size_t length);

typedef struct generation_state {
    const mixt_tokenizer *tokenizer;
    mixt_session *session;
    draw_options draws;    /* how, and where it stops */
    mixt_sampler *sampler; /* of the answer that is drawn */
    mixt_stop *stop;       /* NULL: no text stops it */
    char *held;            /* [held_count] bytes of the answer; only with stop */
    size_t held_count, held_capacity, held_shown;
    uint64_t
        answers_before; /* in the text, whoever drew them: the next one's seed is that far on */
    int vocab_size;
    size_t context_length;
    int32_t *tokens; /* all that was fed or drawn, but what was dropped */
    size_t count, capacity;
    int32_t *drawn; /* by the last generation_draw */
    size_t drawn_count, drawn_capacity;
    shift_settings shift;
    size_t prompt_count;           /* tokens of the first prompt, as far as they are there */
    size_t shifts, dropped, stays; /* to be said (generation_print_shifts) */
    size_t dropped_before;         /* all in all */
    text_stream out;
    size_t prompt_tokens, drawn_tokens;
    double prompt_seconds, drawn_seconds;
    bool ended;          /* the model closed the text, or a stop or the grammar did */
    bool full;           /* the context is used up */
    bool skip_space;     /* the next token's leading space is not shown */
    size_t whole_beyond; /* prompts that make a text longer than this are fed at once, since RoPE
                            depends on how long it is */
    bool whole_first;    /* the router decides once, by all that is fed first */
    size_t piece;        /* tokens of a prompt that are fed before Ctrl-C is looked for */
    /* Experts of the tokens that generation_draw drew last: ids [routed, moe_layers, chosen], -1
     * where a layer chooses fewer. */
    bool keep_routes;
    int moe_layers, chosen;
    int32_t *routes;
    size_t routed, routes_capacity;
} generation_state;

mixt_status generation_begin(cli_resources *resources, const mixt_session_options *options,
                             generation_state *generation, mixt_error *error);
void generation_end(generation_state *generation);
/* mixt_tokenizer_encode with special tokens; `what` is the text's name in a message. */
mixt_status encode_text(const mixt_tokenizer *tokenizer, const char *what, const char *text,
                        size_t length, int32_t **ids, size_t *count, mixt_error *error);
/* Appends text; at the very start with the document separator before it, and what the session holds
 * of it already (a prompt cache) is not computed again. An interrupt leaves all as it was
 * (MIXT_ERROR_INTERRUPTED). */
mixt_status generation_feed(generation_state *generation, const char *text, size_t length,
                            mixt_error *error);
/* Makes `ids` all that was fed, as a text that goes on: what the cache holds of it stays, the rest
 * is computed. At least one token is fed, so that there are logits. An interrupt leaves the part
 * that was fed till then. */
mixt_status generation_replace(generation_state *generation, const int32_t *ids, size_t count,
                               mixt_error *error);
/* Takes what the options of sampling say; what is wrong with it is found here. */
mixt_status generation_take_draws(generation_state *generation, const sampler_settings *settings,
                                  mixt_error *error);
/* Where a text that stopped is to be cut: before what stopped it. */
size_t generation_cut(const generation_state *generation, const char *text, size_t length);
/* Draws up to `count` tokens (-1: no limit), stops at the end of the text, a full context that may
 * not be shifted, a signal or a write error. */
mixt_status generation_draw(generation_state *generation, int64_t count, mixt_error *error);
/* A text that goes on from a beginning, whole and in memory: malloc'd, NULL after a failure. */
typedef struct sample_request {
    const char *prompt;
    size_t length;
    int context_length; /* 0: the model's, at most 4096 */
    int64_t tokens;
    mixt_sampling sampling;
    bool on_terminal; /* as in text_stream */
} sample_request;

mixt_status sample_text(cli_resources *resources, const sample_request *request, char **text,
                        mixt_error *error);
/* A line on standard error where something was dropped since the last one. */
void generation_print_shifts(generation_state *generation);
/* --keep alone would do nothing: 0, or the status of what is refused. */
int refuse_keep(const cli_arguments *arguments, const shift_settings *shift);
/* Tokens and tokens per second, on standard error. */
void generation_print_speed(const generation_state *generation);
#endif
