#include "sampling/sampler.h"

#include <assert.h>
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "sampling/grammar.h"
#include "sampling/matcher.h"
#include "tokenizer/tokenizer.h"

/* What was made of the options: no sampler changes it, and those that begin alike have it together.
 */
typedef struct sampler_parts {
    atomic_size_t users;
    mixt_arena *arena;       /* of biases and of the lists below */
    mixt_matcher *breakers;  /* of dry, or NULL */
    int32_t *breaker_tokens; /* [breaker_count], by rising id: those that hold a breaker */
    size_t breaker_count;
    mixt_grammar *grammar; /* or NULL, and then there is no vocabulary */
    bool is_empty;         /* the grammar allows the empty text alone */
    mixt_machine_vocabulary vocabulary;
} sampler_parts;

struct mixt_sampler {
    const mixt_tokenizer *tokenizer; /* or NULL */
    int vocab_size;
    mixt_chain chain; /* its biases are in the parts' arena */
    sampler_parts *parts;
    mixt_candidate *list; /* [vocab_size] */
    int32_t *marks;       /* [vocab_size] */
    int32_t *tokens;      /* [count]: the text so far */
    size_t count, capacity;
    uint32_t breaker_state;
    size_t broken;         /* tokens up to the newest breaker's last */
    mixt_machine *machine; /* of the parts' grammar; NULL: without one, or not begun */
    uint64_t drawn;
    double mirostat_mu;
    int32_t proposed; /* the token of the last mixt_sampler_next, or -1 */
    double surprise;  /* of it, in bits */
};

mixt_sampler_options mixt_sampler_options_default(void)
{
    return (mixt_sampler_options){.sampling = mixt_sampling_default(),
                                  .temperature_exponent = 1,
                                  .typical_p = 1,
                                  .xtc_threshold = 0.1,
                                  .dry_base = 1.75,
                                  .dry_allowed_length = 2,
                                  .dry_last = -1,
                                  .mirostat_tau = 5,
                                  .mirostat_eta = 0.1};
}

/* ---- before the chain */

mixt_status mixt_sampling_gather(const mixt_sampler_options *options, const float *logits,
                                 int vocab_size, const uint64_t *allowed,
                                 mixt_candidates *candidates, mixt_error *error)
{
    mixt_candidate *list = candidates->list;
    int kept = 0;
    for (int i = 0; i < vocab_size; i++) {
        list[i] = (mixt_candidate){i, (double)logits[i], 0};
    }
    for (size_t i = 0; i < options->bias_count; i++) {
        list[options->biases[i].token].logit += (double)options->biases[i].bias;
    }
    for (int i = 0; i < vocab_size; i++) {
        if (isnan(list[i].logit)) {
            return mixt_fail(error, MIXT_ERROR_NUMERIC, "sampling: the logit of token %d is NaN",
                             i);
        }
        if (list[i].logit == INFINITY) {
            return mixt_fail(error, MIXT_ERROR_NUMERIC,
                             "sampling: the largest logit is not finite");
        }
        bool stays = list[i].logit != -(double)INFINITY &&
                     (allowed == NULL || (allowed[i / 64] >> (i % 64) & 1) != 0);
        list[kept] = list[i];
        kept += stays;
    }
    *candidates = (mixt_candidates){.list = list, .count = kept, .temperature = 1};
    if (kept > 0) {
        return MIXT_OK;
    }
    bool any = false;
    for (int i = 0; i < vocab_size; i++) {
        any = any || logits[i] != -INFINITY;
    }
    if (!any) {
        return mixt_fail(error, MIXT_ERROR_NUMERIC, "sampling: the largest logit is not finite");
    }
    if (allowed == NULL) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "logit bias: no token is left to be drawn");
    }
    return mixt_fail(error, MIXT_ERROR_UNSUPPORTED,
                     "grammar: no token of the vocabulary can follow%s",
                     options->bias_count > 0 ? " beside the logit biases" : "");
}

/* ---- creation */

static bool is_end(const mixt_tokenizer *tokenizer, int32_t token)
{
    return mixt_tokenizer_is_end(tokenizer, token) || token == mixt_tokenizer_separator(tokenizer);
}

/* The caller's biases, and behind them those that keep the ends away. */
static mixt_status take_biases(mixt_sampler *sampler, mixt_error *error)
{
    mixt_sampler_options *o = &sampler->chain.options;
    int ids = 0;
    for (size_t i = 0; i < o->bias_count; i++) {
        if (o->biases[i].token < 0 || o->biases[i].token >= sampler->vocab_size) {
            return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                             "logit bias: token %d is not one of the model's %d",
                             o->biases[i].token, sampler->vocab_size);
        }
        if (isnan(o->biases[i].bias) || o->biases[i].bias == INFINITY) {
            return mixt_fail(error, MIXT_ERROR_ARGUMENT, "logit bias: token %d by %g",
                             o->biases[i].token, (double)o->biases[i].bias);
        }
    }
    if (o->ignore_end) {
        ids = mixt_tokenizer_vocab_size(sampler->tokenizer);
        ids = ids < sampler->vocab_size ? ids : sampler->vocab_size;
    }
    size_t ends = 0;
    for (int32_t id = 0; id < ids; id++) {
        ends += is_end(sampler->tokenizer, id);
    }
    mixt_logit_bias *biases =
        mixt_arena_allocate(sampler->parts->arena, o->bias_count + ends + 1, sizeof *biases);
    if (biases == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "sampler: no memory");
    }
    if (o->bias_count > 0) {
        memcpy(biases, o->biases, o->bias_count * sizeof *biases);
    }
    for (int32_t id = 0; id < ids; id++) {
        if (is_end(sampler->tokenizer, id)) {
            biases[o->bias_count++] = (mixt_logit_bias){id, -INFINITY};
        }
    }
    o->biases = biases;
    return MIXT_OK;
}

/* Runs the breakers' matcher over a token: whether one ends in it. */
static bool breaks(const mixt_sampler *sampler, int32_t token, uint32_t *state)
{
    size_t length = 0, found = 0;
    bool broken = false;
    const char *bytes = mixt_tokenizer_bytes_of(sampler->tokenizer, token, &length);
    for (size_t i = 0; bytes != NULL && i < length; i++) {
        *state = mixt_matcher_step(sampler->parts->breakers, *state, (unsigned char)bytes[i]);
        broken = mixt_matcher_found(sampler->parts->breakers, *state, &found) >= 0 || broken;
    }
    return broken;
}

static mixt_status take_breakers(mixt_sampler *sampler, mixt_error *error)
{
    static const char *const usual[] = {"\n", ":", "\"", "*"};
    const mixt_sampler_options *o = &sampler->chain.options;
    const char *const *strings = o->dry_breakers != NULL ? o->dry_breakers : usual;
    size_t count = o->dry_breakers != NULL ? o->dry_breaker_count : sizeof usual / sizeof usual[0];
    if (o->dry_multiplier == 0 || count == 0) {
        return MIXT_OK;
    }
    if (sampler->tokenizer == NULL) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "dry breakers need a tokenizer");
    }
    MIXT_TRY(mixt_matcher_create(strings, count, "dry breaker", &sampler->parts->breakers, error));
    int ids = mixt_tokenizer_vocab_size(sampler->tokenizer);
    sampler->parts->breaker_tokens = mixt_arena_allocate(sampler->parts->arena, (size_t)ids + 1,
                                                         sizeof *sampler->parts->breaker_tokens);
    if (sampler->parts->breaker_tokens == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "sampler: no memory");
    }
    for (int32_t id = 0; id < ids; id++) {
        uint32_t state = 0;
        if (breaks(sampler, id, &state)) {
            sampler->parts->breaker_tokens[sampler->parts->breaker_count++] = id;
        }
    }
    return MIXT_OK;
}

static mixt_status begin_grammar(mixt_sampler *sampler, mixt_error *error)
{
    return sampler->parts->grammar == NULL || sampler->machine != NULL
               ? MIXT_OK
               : mixt_machine_create(sampler->parts->grammar, &sampler->machine, error);
}

static mixt_status take_grammar(mixt_sampler *sampler, const char *text, mixt_error *error)
{
    mixt_machine_vocabulary *v = &sampler->parts->vocabulary;
    if (sampler->tokenizer == NULL) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "a grammar needs a tokenizer");
    }
    MIXT_TRY(mixt_grammar_compile(text, strlen(text), sampler->tokenizer, &sampler->parts->grammar,
                                  error));
    MIXT_TRY(begin_grammar(sampler, error));
    sampler->parts->is_empty = mixt_machine_must_end(sampler->machine);
    MIXT_TRY(mixt_tokenizer_trie(sampler->tokenizer, &v->trie, error));
    int ids = mixt_tokenizer_vocab_size(sampler->tokenizer);
    int32_t *ends = mixt_arena_allocate(sampler->parts->arena, (size_t)ids + 1, sizeof *ends);
    if (ends == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "sampler: no memory");
    }
    for (int32_t id = 0; id < ids; id++) {
        if (is_end(sampler->tokenizer, id)) {
            ends[v->end_count++] = id;
        }
    }
    v->ends = ends;
    v->vocab_size = sampler->vocab_size;
    return MIXT_OK;
}

static mixt_status fill_in(mixt_sampler *sampler, const mixt_sampler_options *options,
                           mixt_error *error)
{
    MIXT_TRY(mixt_chain_create(options, &sampler->chain, error));
    if (options->ignore_end && sampler->tokenizer == NULL) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "ignoring the end needs a tokenizer");
    }
    MIXT_TRY(take_biases(sampler, error));
    MIXT_TRY(take_breakers(sampler, error));
    if (options->grammar != NULL) {
        MIXT_TRY(take_grammar(sampler, options->grammar, error));
    }
    sampler->chain.options.grammar = NULL;
    sampler->chain.options.order = NULL; /* what was the caller's is no longer looked at */
    sampler->chain.options.dry_breakers = NULL;
    return MIXT_OK;
}

/* Without parts; NULL: no memory. */
static mixt_sampler *allocate(const mixt_tokenizer *tokenizer, int vocab_size,
                              const mixt_sampler_options *options)
{
    mixt_sampler *sampler = calloc(1, sizeof *sampler);
    if (sampler == NULL) {
        return NULL;
    }
    sampler->tokenizer = tokenizer;
    sampler->vocab_size = vocab_size;
    sampler->list = calloc((size_t)vocab_size, sizeof *sampler->list);
    sampler->marks = calloc((size_t)vocab_size, sizeof *sampler->marks);
    sampler->proposed = -1;
    sampler->mirostat_mu = 2 * options->mirostat_tau;
    if (sampler->list == NULL || sampler->marks == NULL) {
        mixt_sampler_free(sampler);
        return NULL;
    }
    return sampler;
}

mixt_status mixt_sampler_create(const mixt_tokenizer *tokenizer, int vocab_size,
                                const mixt_sampler_options *options, mixt_sampler **sampler,
                                mixt_error *error)
{
    *sampler = NULL;
    if (vocab_size < 1) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "sampler: a vocabulary of %d", vocab_size);
    }
    sampler_parts *parts = calloc(1, sizeof *parts);
    mixt_arena *arena = mixt_arena_create();
    mixt_sampler *made =
        parts != NULL && arena != NULL ? allocate(tokenizer, vocab_size, options) : NULL;
    if (made == NULL) {
        mixt_arena_free(arena);
        free(parts);
        return mixt_fail(error, MIXT_ERROR_MEMORY, "sampler: no memory");
    }
    parts->arena = arena;
    made->parts = parts;
    atomic_init(&parts->users, 1);
    mixt_status status = fill_in(made, options, error);
    if (status != MIXT_OK) {
        mixt_sampler_free(made);
        return status;
    }
    *sampler = made;
    return MIXT_OK;
}

mixt_status mixt_sampler_create_alike(const mixt_sampler *like, uint64_t seed,
                                      mixt_sampler **sampler, mixt_error *error)
{
    mixt_sampler *made = allocate(like->tokenizer, like->vocab_size, &like->chain.options);
    *sampler = made;
    if (made == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "sampler: no memory");
    }
    made->chain = like->chain;
    made->chain.options.sampling.seed = seed;
    made->parts = like->parts;
    atomic_fetch_add(&made->parts->users, 1);
    return MIXT_OK;
}

static void let_go(sampler_parts *parts)
{
    if (parts != NULL && atomic_fetch_sub(&parts->users, 1) == 1) {
        mixt_grammar_free(parts->grammar);
        mixt_matcher_free(parts->breakers);
        mixt_arena_free(parts->arena);
        free(parts);
    }
}

void mixt_sampler_free(mixt_sampler *sampler)
{
    if (sampler != NULL) {
        mixt_machine_free(sampler->machine);
        let_go(sampler->parts);
        free(sampler->list);
        free(sampler->marks);
        free(sampler->tokens);
        free(sampler);
    }
}

/* ---- token by token */

static mixt_status go_on(mixt_sampler *sampler, int32_t id, mixt_error *error)
{
    mixt_machine_token token = {.id = id, .is_end = is_end(sampler->tokenizer, id)};
    bool allowed = false;
    if (mixt_token_is_text(sampler->tokenizer, id)) {
        token.bytes = mixt_tokenizer_bytes_of(sampler->tokenizer, id, &token.length);
    }
    MIXT_TRY(mixt_machine_token_accept(sampler->machine, &token, &allowed, error));
    return allowed ? MIXT_OK
                   : mixt_fail(error, MIXT_ERROR_ARGUMENT, "grammar: token %d cannot follow", id);
}

mixt_status mixt_sampler_accept(mixt_sampler *sampler, int32_t token, bool drawn, mixt_error *error)
{
    if (token < 0 || token >= sampler->vocab_size) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "sampler: token %d is not one of the %d",
                         token, sampler->vocab_size);
    }
    if (!mixt_grow(&sampler->tokens, &sampler->capacity, sampler->count + 1,
                   sizeof *sampler->tokens)) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "sampler: no memory");
    }
    if (drawn && sampler->parts->grammar != NULL) {
        MIXT_TRY(begin_grammar(sampler, error));
        MIXT_TRY(go_on(sampler, token, error));
    }
    sampler->tokens[sampler->count++] = token;
    if (sampler->parts->breakers != NULL && breaks(sampler, token, &sampler->breaker_state)) {
        sampler->broken = sampler->count;
    }
    if (drawn) {
        const mixt_sampler_options *o = &sampler->chain.options;
        if (o->mirostat != 0 && token == sampler->proposed) {
            sampler->mirostat_mu -= o->mirostat_eta * (sampler->surprise - o->mirostat_tau);
        }
        sampler->drawn++;
    }
    sampler->proposed = -1;
    return MIXT_OK;
}

mixt_status mixt_sampler_next(mixt_sampler *sampler, const float *logits, int32_t *token,
                              mixt_error *error)
{
    const mixt_chain *chain = &sampler->chain;
    mixt_candidates candidates = {.list = sampler->list};
    mixt_chain_text text = {
        .tokens = sampler->tokens,
        .count = sampler->count,
        .unbroken = sampler->count - sampler->broken,
        .breakers = sampler->parts->breaker_tokens,
        .breaker_count = sampler->parts->breaker_count,
        .marks = sampler->marks,
        .vocab_size = sampler->vocab_size,
        .drawn = sampler->drawn,
        .mirostat_mu = sampler->mirostat_mu,
    };
    const uint64_t *allowed = NULL;
    *token = 0;
    if (sampler->parts->grammar != NULL) {
        MIXT_TRY(begin_grammar(sampler, error));
        MIXT_TRY(mixt_machine_mask(sampler->machine, &sampler->parts->vocabulary, &allowed, error));
    }
    MIXT_TRY(mixt_sampling_gather(&chain->options, logits, sampler->vocab_size, allowed,
                                  &candidates, error));
    if (!mixt_chain_run(chain, &text, &candidates)) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "sampler: no memory");
    }
    const mixt_candidate *drawn = &candidates.list[mixt_chain_draw(chain, &text, &candidates)];
    sampler->proposed = drawn->id;
    sampler->surprise = -log2(drawn->probability);
    *token = drawn->id;
    return MIXT_OK;
}

bool mixt_sampler_complete(const mixt_sampler *sampler)
{
    return sampler->machine != NULL ? mixt_machine_must_end(sampler->machine)
                                    : sampler->parts->is_empty;
}
