#include "generate.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "interrupt.h"
#include "terminal.h"

/* ---- characters */

static int sequence_length(unsigned char first)
{
    return first < 0x80                     ? 1
           : first >= 0xC2 && first <= 0xDF ? 2
           : (first & 0xF0) == 0xE0         ? 3
           : first >= 0xF0 && first <= 0xF4 ? 4
                                            : 0;
}

static void write_replacement(text_stream *out)
{
    fputs("\xEF\xBF\xBD", out->stream);
}

static void write_character(text_stream *out)
{
    unsigned char first = out->held[0];
    bool is_control = (first < 0x20 && first != '\n' && first != '\t') || first == 0x7F;
    bool is_c1 = out->held_count == 2 && first == 0xC2 && out->held[1] < 0xA0;
    if (!text_is_utf8((const char *)out->held, (size_t)out->held_count) ||
        (out->on_terminal && (is_control || is_c1))) {
        write_replacement(out);
    } else {
        fwrite(out->held, 1, (size_t)out->held_count, out->stream);
    }
    out->held_count = 0;
}

void text_write(text_stream *out, const char *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)bytes[i];
        if (out->held_count > 0 && (c & 0xC0) != 0x80) {
            write_replacement(out); /* the character before was cut off */
            out->held_count = 0;
        }
        if (out->held_count == 0 && sequence_length(c) == 0) {
            write_replacement(out);
            continue;
        }
        assert(out->held_count < 4);
        out->held[out->held_count & 3] = c;
        out->held_count++;
        if (out->held_count >= sequence_length(out->held[0])) {
            write_character(out);
        }
    }
}

static void text_finish(text_stream *out)
{
    if (out->held_count > 0) {
        write_replacement(out);
        out->held_count = 0;
    }
}

/* ---- generation */

/* Pieces of a prompt: small at first, and larger while one takes less than half of this, so that
 * Ctrl-C is answered within about a second and a machine that is fast enough has large ones. */
#define PIECE_SECONDS 1.0
enum { PIECE_LEAST = 32, PIECE_MOST = 512 };

/* A row's bits are the same however a text is cut, but for latent attention whose form is chosen
 * by what is fed at once: then pieces must not depend on how fast they are. */
static size_t first_piece(const mixt_model_options *model, const mixt_session_options *session)
{
    bool chosen = model->attention.latent_size > 0 && session->latent == MIXT_LATENT_AUTO;
    return chosen ? PIECE_MOST : PIECE_LEAST;
}

/* And but for RoPE that depends on the length of what is fed (mixt_session_feed). */
static size_t whole_beyond(const mixt_model_options *options)
{
    const mixt_rope_options *rope = &options->rope;
    return rope->kind == MIXT_ROPE_DYNAMIC    ? (size_t)options->context_length
           : rope->kind == MIXT_ROPE_LONGROPE ? (size_t)rope->original_context
                                              : SIZE_MAX;
}

mixt_status generation_begin(cli_resources *resources, const mixt_session_options *options,
                             generation_state *generation, mixt_error *error)
{
    memset(generation, 0, sizeof *generation);
    mixt_model_info info;
    mixt_model_describe(resources->model, &info);
    generation->tokenizer = resources->tokenizer;
    generation->vocab_size = info.options.vocab_size;
    generation->draws.options = mixt_sampler_options_default();
    generation->out = (text_stream){.stream = stdout, .on_terminal = terminal_is_one(stdout)};
    TRY(mixt_session_create_with(resources->context, resources->model, options,
                                 &generation->session, error));
    generation->context_length = mixt_session_capacity(generation->session);
    const store_context is = {.asked = options->context_length,
                              .context = (int)generation->context_length,
                              .sequences = 1,
                              .positions_asked = 1};
    store_say_context(resources->model, &is);
    generation->whole_beyond = whole_beyond(&info.options);
    generation->whole_first =
        info.options.router.unit != MIXT_UNIT_TOKEN && info.options.router.segment == 0;
    generation->piece = first_piece(&info.options, options);
    mixt_session_routes_shape(generation->session, &generation->moe_layers, &generation->chosen);
    return MIXT_OK;
}

void generation_end(generation_state *generation)
{
    mixt_session_free(generation->session);
    mixt_sampler_free(generation->sampler);
    mixt_stop_free(generation->stop);
    draws_end(&generation->draws);
    free(generation->held);
    free(generation->tokens);
    free(generation->drawn);
    free(generation->routes);
    memset(generation, 0, sizeof *generation);
}

static mixt_status append(generation_state *generation, const int32_t *tokens, size_t count,
                          mixt_error *error)
{
    if (!list_grow(&generation->tokens, &generation->capacity, generation->count + count,
                   sizeof *tokens)) {
        return set_memory_error(error);
    }
    memcpy(generation->tokens + generation->count, tokens, count * sizeof *tokens);
    generation->count += count;
    return MIXT_OK;
}

static mixt_status does_not_fit(const generation_state *generation, size_t count, mixt_error *error)
{
    return set_error(error, MIXT_ERROR_ARGUMENT,
                     "prompt: %zu tokens do not fit into a context of %zu", count,
                     generation->context_length);
}

/* A tokenizer may have more ids than the model has rows: only a text that uses one is refused. */
static mixt_status check_rows(const generation_state *generation, const int32_t *ids, size_t count,
                              mixt_error *error)
{
    for (size_t i = 0; i < count; i++) {
        if (ids[i] >= generation->vocab_size) {
            size_t length = 0;
            const char *bytes = mixt_tokenizer_bytes_of(generation->tokenizer, ids[i], &length);
            return set_error(error, MIXT_ERROR_ARGUMENT,
                             "prompt: \"%.*s\" has id %d, and the model rows for 0 to %d alone",
                             (int)(length > 60 ? 60 : length), bytes != NULL ? bytes : "", ids[i],
                             generation->vocab_size - 1);
        }
    }
    return MIXT_OK;
}

/* Feeds what stands behind `from` piece by piece. What an interrupt leaves is in the session, and
 * generation->count says how much. */
static mixt_status feed_new(generation_state *generation, size_t from, mixt_error *error)
{
    assert(from <= generation->count);
    size_t end = generation->count;
    if (end > generation->context_length) {
        generation->count = from;
        return does_not_fit(generation, end, error);
    }
    mixt_status status = MIXT_OK;
    for (size_t at = from; status == MIXT_OK && at < end;) {
        bool whole = end > generation->whole_beyond || (at == 0 && generation->whole_first);
        size_t most = whole ? end - at : generation->piece;
        size_t count = end - at < most ? end - at : most;
        if (interrupt_status() != 0) {
            generation->count = at;
            return set_error(error, MIXT_ERROR_INTERRUPTED, "interrupted");
        }
        double start = terminal_seconds();
        status = mixt_session_feed(generation->session, generation->tokens + at, count, error);
        double seconds = terminal_seconds() - start;
        generation->prompt_seconds += seconds;
        generation->prompt_tokens += count;
        at += count;
        if (seconds < PIECE_SECONDS / 2 && generation->piece < PIECE_MOST) {
            generation->piece *= 2;
        }
    }
    return status;
}

mixt_status encode_text(const mixt_tokenizer *tokenizer, const char *what, const char *text,
                        size_t length, int32_t **ids, size_t *count, mixt_error *error)
{
    mixt_error local = MIXT_ERROR_INIT;
    mixt_status status = mixt_tokenizer_encode(tokenizer, text, length, true, ids, count, &local);
    return status == MIXT_OK ? MIXT_OK
                             : set_error(error, status, "%.80s: %.400s", what, local.message);
}

/* Tokens at the beginning that no shift drops: llama.cpp's --keep, beside which the begin of the
 * text stays. */
static size_t tokens_that_stay(const generation_state *generation, const int32_t *ids)
{
    size_t keep = (size_t)generation->shift.keep;
    if (generation->shift.keep < 0 || keep > generation->prompt_count) {
        return generation->prompt_count;
    }
    int bos = mixt_tokenizer_around(generation->tokenizer, MIXT_SPECIAL_BOS);
    return keep + (bos >= 0 && ids[0] == bos && keep < generation->prompt_count);
}

/* Drops half of what may be dropped until there is room for another token: the new count, which is
 * the old one where what stays fills the context. Halves are counted from what stays, so that a
 * text that grows loses the same ones for a while. */
static size_t shift_ids(generation_state *generation, int32_t *ids, size_t count)
{
    size_t stays = tokens_that_stay(generation, ids), dropped = 0;
    if (stays + 2 > generation->context_length) {
        return count;
    }
    while (count - dropped >= generation->context_length) {
        dropped += (generation->context_length - stays) / 2;
    }
    memmove(ids + stays, ids + stays + dropped, (count - stays - dropped) * sizeof *ids);
    generation->shifts++;
    generation->dropped += dropped;
    generation->dropped_before += dropped;
    generation->stays = stays;
    return count - dropped;
}

void generation_print_shifts(generation_state *generation)
{
    if (generation->shifts > 0) {
        fprintf(
            stderr,
            "context shift: the first %zu token%s stay%s, %zu behind were dropped, and the rest "
            "was computed again\n",
            generation->stays, plural(generation->stays), generation->stays == 1 ? "s" : "",
            generation->dropped);
    }
    generation->shifts = generation->dropped = 0;
}

int refuse_keep(const cli_arguments *arguments, const shift_settings *shift)
{
    return options_given(arguments, "keep") != NULL && !shift->on
               ? fail_usage("--keep: it does nothing without --context-shift")
               : STATUS_DONE;
}

/* The ids of a text, with what the model expects before the first of all. */
static mixt_status encode_more(generation_state *generation, const char *text, size_t length,
                               int32_t **ids, size_t *count, mixt_error *error)
{
    TRY(encode_text(generation->tokenizer, "the prompt", text, length, ids, count, error));
    int32_t first = mixt_tokenizer_around(generation->tokenizer, MIXT_SPECIAL_BOS);
    first = first < 0 && *count == 0 ? mixt_tokenizer_separator(generation->tokenizer) : first;
    if (generation->count == 0 && first >= 0 && (*count == 0 || (*ids)[0] != first)) {
        int32_t *grown = realloc(*ids, (*count + 1) * sizeof *grown);
        if (grown == NULL) {
            return set_memory_error(error);
        }
        memmove(grown + 1, grown, *count * sizeof *grown);
        grown[0] = first;
        *ids = grown;
        ++*count;
    }
    return generation->count == 0 && *count == 0
               ? set_error(error, MIXT_ERROR_ARGUMENT,
                           "prompt: it is empty and the tokenizer has no begin-of-text id")
               : check_rows(generation, *ids, *count, error);
}

/* The first text: what the session holds of it stays. */
static mixt_status feed_first(generation_state *generation, const int32_t *ids, size_t count,
                              mixt_error *error)
{
    size_t held = mixt_session_length(generation->session);
    generation->prompt_count = count;
    if (count > generation->context_length) {
        return does_not_fit(generation, count, error);
    }
    if (held > 0) {
        TRY(append(generation, mixt_session_tokens(generation->session), held, error));
    }
    mixt_status status = generation_replace(generation, ids, count, error);
    if (status == MIXT_ERROR_INTERRUPTED) {
        generation->count = 0;
        mixt_session_truncate(generation->session, 0);
    }
    return status;
}

static mixt_status feed_more(generation_state *generation, const int32_t *ids, size_t count,
                             mixt_error *error)
{
    size_t from = generation->count;
    TRY(append(generation, ids, count, error));
    if (generation->shift.on && generation->count > generation->context_length) {
        return generation_replace(generation, generation->tokens, generation->count, error);
    }
    mixt_status status = feed_new(generation, from, error);
    if (status == MIXT_ERROR_INTERRUPTED) {
        generation->count = from;
        mixt_session_truncate(generation->session, from);
    }
    return status;
}

mixt_status generation_feed(generation_state *generation, const char *text, size_t length,
                            mixt_error *error)
{
    int32_t *ids = NULL;
    size_t count = 0;
    mixt_status status = encode_more(generation, text, length, &ids, &count, error);
    generation->ended = false;
    if (status == MIXT_OK && generation->count == 0) {
        status = feed_first(generation, ids, count, error);
    } else if (status == MIXT_OK && count > 0) {
        status = feed_more(generation, ids, count, error);
    }
    free(ids);
    return status;
}

static mixt_status replace(generation_state *generation, const int32_t *ids, size_t count,
                           mixt_error *error)
{
    size_t same = 0;
    while (same < count && same < generation->count && ids[same] == generation->tokens[same]) {
        same++;
    }
    size_t fed = mixt_session_length(generation->session);
    same = same < fed ? same : fed;
    same -= same > 0 && same == count;
    generation->count = same;
    mixt_session_truncate(generation->session, same);
    mixt_status status = append(generation, ids + same, count - same, error);
    if (status == MIXT_OK) {
        status = feed_new(generation, same, error);
    }
    if (status != MIXT_OK) {
        generation->count = mixt_session_length(generation->session);
    }
    return status;
}

mixt_status generation_replace(generation_state *generation, const int32_t *ids, size_t count,
                               mixt_error *error)
{
    int32_t *shifted = NULL;
    generation->ended = false;
    if (count == 0) {
        return set_error(error, MIXT_ERROR_ARGUMENT, "prompt: it is empty");
    }
    if (generation->shift.on && count >= generation->context_length) {
        shifted = malloc(count * sizeof *shifted);
        if (shifted == NULL) {
            return set_memory_error(error);
        }
        memcpy(shifted, ids, count * sizeof *ids);
        count = shift_ids(generation, shifted, count);
        ids = shifted;
    }
    generation->full = count > generation->context_length;
    mixt_status status = generation->full ? does_not_fit(generation, count, error)
                                          : check_rows(generation, ids, count, error);
    if (status == MIXT_OK) {
        status = replace(generation, ids, count, error);
    }
    free(shifted);
    return status;
}

static mixt_status note_routes(generation_state *generation, mixt_error *error)
{
    const int32_t *ids;
    const float *weights;
    size_t row = (size_t)(generation->moe_layers * generation->chosen);
    if (!list_grow(&generation->routes, &generation->routes_capacity,
                   (generation->routed + 1) * row, sizeof *ids)) {
        return set_memory_error(error);
    }
    mixt_session_routes(generation->session, &ids, &weights);
    memcpy(generation->routes + generation->routed * row, ids, row * sizeof *ids);
    generation->routed++;
    return MIXT_OK;
}

/* ---- drawing */

mixt_status generation_take_draws(generation_state *generation, const sampler_settings *settings,
                                  mixt_error *error)
{
    const string_list *stops = &settings->stops;
    TRY(draws_begin(settings, &generation->draws, error));
    if (stops->count > 0) {
        TRY(mixt_stop_create(stops->items, stops->count, &generation->stop, error));
    }
    return mixt_sampler_create(generation->tokenizer, generation->vocab_size,
                               &generation->draws.options, &generation->sampler, error);
}

/* Every answer has a sampler of its own: a grammar begins anew, and so do the numbers of draws, for
 * which the seed is another one behind the first answer. */
static mixt_status begin_answer(generation_state *generation, mixt_error *error)
{
    mixt_sampler_options options = generation->draws.options;
    options.sampling.seed += generation->answers_before * UINT64_C(0x9E3779B97F4A7C15);
    mixt_sampler_free(generation->sampler);
    generation->sampler = NULL;
    generation->held_count = generation->held_shown = 0;
    if (generation->stop != NULL) {
        mixt_stop_reset(generation->stop);
    }
    TRY(mixt_sampler_create(generation->tokenizer, generation->vocab_size, &options,
                            &generation->sampler, error));
    for (size_t i = 0; i < generation->count; i++) {
        TRY(mixt_sampler_accept(generation->sampler, generation->tokens[i], false, error));
    }
    return MIXT_OK;
}

static void show_held(generation_state *generation, size_t end)
{
    if (end > generation->held_shown) {
        text_write(&generation->out, generation->held + generation->held_shown,
                   end - generation->held_shown);
        generation->held_shown = end;
    }
}

/* Writes bytes of the answer, as far as they cannot become a stop. */
static mixt_status show(generation_state *generation, const char *bytes, size_t length,
                        mixt_error *error)
{
    if (generation->stop == NULL) {
        text_write(&generation->out, bytes, length);
    } else {
        if (!list_grow(&generation->held, &generation->held_capacity,
                       generation->held_count + length, 1)) {
            return set_memory_error(error);
        }
        memcpy(generation->held + generation->held_count, bytes, length);
        generation->held_count += length;
        show_held(generation, mixt_stop_feed(generation->stop, bytes, length));
        generation->ended = mixt_stop_met(generation->stop) >= 0;
    }
    fflush(generation->out.stream);
    return MIXT_OK;
}

size_t generation_cut(const generation_state *generation, const char *text, size_t length)
{
    if (generation->stop == NULL || mixt_stop_met(generation->stop) < 0) {
        return length;
    }
    mixt_stop_reset(generation->stop);
    return mixt_stop_feed(generation->stop, text, length);
}

static mixt_status draw_one(generation_state *generation, mixt_error *error)
{
    int32_t token = 0;
    if (mixt_sampler_complete(generation->sampler)) {
        generation->ended = true;
        return MIXT_OK;
    }
    TRY(mixt_sampler_next(generation->sampler, mixt_session_logits(generation->session), &token,
                          error));
    TRY(mixt_sampler_accept(generation->sampler, token, true, error));
    generation->drawn_tokens++;
    size_t length = 0;
    const char *bytes = mixt_tokenizer_bytes_of(generation->tokenizer, token, &length);
    if (mixt_tokenizer_is_end(generation->tokenizer, token) ||
        token == mixt_tokenizer_separator(generation->tokenizer)) {
        generation->ended = true;
        return MIXT_OK;
    }
    if (bytes != NULL) {
        bool skipped = generation->skip_space && length > 0 && bytes[0] == ' ';
        generation->skip_space = false;
        bytes += skipped;
        length -= skipped;
        TRY(show(generation, bytes, length, error));
    }
    TRY(append(generation, &token, 1, error));
    if (!list_grow(&generation->drawn, &generation->drawn_capacity, generation->drawn_count + 1,
                   sizeof token)) {
        return set_memory_error(error);
    }
    generation->drawn[generation->drawn_count++] = token;
    TRY(mixt_session_feed(generation->session, &token, 1, error));
    return generation->keep_routes ? note_routes(generation, error) : MIXT_OK;
}

/* Makes room where the context is full and may be shifted; `full` says whether it stays so. An
 * interrupt meanwhile ends the answer like any other. */
static mixt_status make_room(generation_state *generation, mixt_error *error)
{
    mixt_status status = MIXT_OK;
    generation->full = generation->count >= generation->context_length;
    if (generation->full && generation->shift.on && interrupt_status() == 0) {
        status = generation_replace(generation, generation->tokens, generation->count, error);
        generation->full = generation->count >= generation->context_length;
    }
    if (status == MIXT_ERROR_INTERRUPTED) {
        *error = (mixt_error)MIXT_ERROR_INIT;
        status = MIXT_OK;
    }
    return status;
}

mixt_status generation_draw(generation_state *generation, int64_t count, mixt_error *error)
{
    double start = terminal_seconds();
    generation->ended = false;
    generation->routed = generation->drawn_count = 0;
    mixt_status status = begin_answer(generation, error);
    for (int64_t i = 0; status == MIXT_OK && (count < 0 || i < count); i++) {
        status = make_room(generation, error);
        if (status != MIXT_OK || generation->full || interrupt_status() != 0 ||
            ferror(generation->out.stream)) {
            break;
        }
        status = draw_one(generation, error);
        if (generation->ended) {
            break;
        }
    }
    if (generation->stop != NULL && mixt_stop_met(generation->stop) < 0) {
        show_held(generation, generation->held_count);
    }
    generation->answers_before++;
    text_finish(&generation->out);
    generation->drawn_seconds += terminal_seconds() - start;
    return status;
}

mixt_status sample_text(cli_resources *resources, const sample_request *request, char **text,
                        mixt_error *error)
{
    generation_state generation = {0};
    size_t length = 0;
    *text = NULL;
    FILE *stream = open_memstream(text, &length);
    if (stream == NULL) {
        return set_memory_error(error);
    }
    mixt_session_options options = mixt_session_options_default();
    options.context_length = request->context_length;
    mixt_status status = generation_begin(resources, &options, &generation, error);
    generation.out = (text_stream){.stream = stream, .on_terminal = request->on_terminal};
    generation.draws.options.sampling = request->sampling;
    if (status == MIXT_OK) {
        status = generation_feed(&generation, request->prompt, request->length, error);
    }
    if (status == MIXT_OK) {
        status = generation_draw(&generation, request->tokens, error);
    }
    generation_end(&generation);
    if (fclose(stream) != 0 && status == MIXT_OK) {
        status = set_memory_error(error);
    }
    if (status != MIXT_OK) {
        free(*text);
        *text = NULL;
    }
    return status;
}

void generation_print_speed(const generation_state *generation)
{
    fprintf(stderr, "prompt: %zu token%s, %.1f tokens/s; generated: %zu token%s, %.1f tokens/s%s\n",
            generation->prompt_tokens, plural(generation->prompt_tokens),
            generation->prompt_seconds > 0
                ? (double)generation->prompt_tokens / generation->prompt_seconds
                : 0,
            generation->drawn_tokens, plural(generation->drawn_tokens),
            generation->drawn_seconds > 0
                ? (double)generation->drawn_tokens / generation->drawn_seconds
                : 0,
            generation->full ? "; the context is full" : "");
}
