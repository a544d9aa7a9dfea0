/* Writing of a vocabulary into a GGUF file, in the keys that llama.cpp reads. */
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "tokenizer/pre_tokenizer.h"
#include "tokenizer/tokenizer.h"
#include "core/utf8.h"

#define KEY(name) "tokenizer.ggml." name

typedef struct vocabulary_row {
    const char *text;
    size_t length;
    int32_t type;
    float score;
} vocabulary_row;

typedef struct writing {
    const mixt_tokenizer *tokenizer;
    mixt_gguf_writer *file;
    mixt_arena *arena;
    vocabulary_row *entries; /* [ids] */
    int rows;                /* that are written */
    int ids;                 /* the same, and those of added tokens that have no row */
    mixt_error *error;
} writing;

static mixt_status no_memory(writing *w)
{
    return mixt_fail(w->error, MIXT_ERROR_MEMORY, "tokenizer: no memory");
}

static mixt_status refuse(writing *w, const char *what)
{
    return mixt_fail(w->error, MIXT_ERROR_UNSUPPORTED, "tokenizer: GGUF has no form for %s", what);
}

/* --- Arrays ------------------------------------------------------------------------------------
 */

static mixt_status write_strings(writing *w, const char *key, size_t count,
                                 const char *const *strings, const uint64_t *lengths)
{
    mixt_gguf_array array = {
        .kind = MIXT_GGUF_STRING, .count = count, .strings = strings, .lengths = lengths};
    return mixt_gguf_writer_array(w->file, key, &array, w->error);
}

static mixt_status write_tokens(writing *w)
{
    size_t rows = (size_t)w->rows;
    const char **texts = mixt_arena_allocate(w->arena, rows, sizeof *texts);
    uint64_t *lengths = mixt_arena_allocate(w->arena, rows, sizeof *lengths);
    int32_t *types = mixt_arena_allocate(w->arena, rows, sizeof *types);
    if (texts == NULL || lengths == NULL || types == NULL) {
        return no_memory(w);
    }
    for (size_t i = 0; i < rows; i++) {
        texts[i] = w->entries[i].text;
        lengths[i] = w->entries[i].length;
        types[i] = w->entries[i].type;
    }
    MIXT_TRY(write_strings(w, KEY("tokens"), rows, texts, lengths));
    mixt_gguf_array array = {.kind = MIXT_GGUF_I32, .count = rows, .data = types};
    return mixt_gguf_writer_array(w->file, KEY("token_type"), &array, w->error);
}

static mixt_status write_scores(writing *w)
{
    float *scores = mixt_arena_allocate(w->arena, (size_t)w->rows, sizeof *scores);
    if (scores == NULL) {
        return no_memory(w);
    }
    for (int i = 0; i < w->rows; i++) {
        scores[i] = w->entries[i].score;
    }
    mixt_gguf_array array = {.kind = MIXT_GGUF_F32, .count = (size_t)w->rows, .data = scores};
    return mixt_gguf_writer_array(w->file, KEY("scores"), &array, w->error);
}

static mixt_status write_merges(writing *w)
{
    const mixt_tokenizer *t = w->tokenizer;
    const char **texts = mixt_arena_allocate(w->arena, t->merge_count + 1, sizeof *texts);
    uint64_t *lengths = mixt_arena_allocate(w->arena, t->merge_count + 1, sizeof *lengths);
    if (texts == NULL || lengths == NULL) {
        return no_memory(w);
    }
    for (size_t i = 0; i < t->merge_count; i++) {
        const vocabulary_row *left = &w->entries[t->merges[i].left];
        const vocabulary_row *right = &w->entries[t->merges[i].right];
        if (t->merges[i].left >= w->rows || t->merges[i].right >= w->rows ||
            t->merges[i].result >= w->rows) {
            return refuse(w, "merges of tokens that the model has no rows for");
        }
        char *text = mixt_arena_allocate(w->arena, left->length + right->length + 1, 1);
        if (text == NULL) {
            return no_memory(w);
        }
        memcpy(text, left->text, left->length);
        text[left->length] = ' ';
        memcpy(text + left->length + 1, right->text, right->length);
        texts[i] = text;
        lengths[i] = left->length + right->length + 1;
    }
    return write_strings(w, KEY("merges"), t->merge_count, texts, lengths);
}

/* Every row as it will be written; ids without a token and rows behind the last are unused. */
static mixt_status fill_entries(writing *w)
{
    const mixt_tokenizer *t = w->tokenizer;
    w->entries = mixt_arena_allocate(w->arena, (size_t)w->ids, sizeof *w->entries);
    if (w->entries == NULL) {
        return no_memory(w);
    }
    for (int id = 0; id < w->ids; id++) {
        const mixt_token *token = id < t->vocab_size ? &t->tokens[id] : NULL;
        vocabulary_row *to = &w->entries[id];
        if (token == NULL || token->piece == NULL) {
            char text[32];
            snprintf(text, sizeof text, "[PAD%d]", id);
            to->text = mixt_arena_string(w->arena, text);
            to->length = strlen(text);
            to->type = MIXT_TOKEN_UNUSED;
            to->score = -1000;
            if (to->text == NULL) {
                return no_memory(w);
            }
        } else {
            bool user = token->is_added && token->type <= MIXT_TOKEN_NORMAL;
            *to = (vocabulary_row){token->piece, token->piece_length,
                                   user               ? MIXT_TOKEN_USER_DEFINED
                                   : token->type == 0 ? MIXT_TOKEN_NORMAL
                                                      : token->type,
                                   (float)token->score};
        }
    }
    return MIXT_OK;
}

/* --- Byte-level BPE ----------------------------------------------------------------------------
 */

static mixt_status write_byte_level(writing *w)
{
    const mixt_tokenizer *t = w->tokenizer;
    const mixt_pre_tokenizer *pre = t->pre;
    if (pre == NULL && t->pattern_count >= 0) {
        pre = mixt_pre_tokenizer_match(t->patterns, t->pattern_count, t->nfc, t->whole_words);
    }
    if (pre == NULL) {
        return refuse(w, "its pre_tokenizer: no tokenizer.ggml.pre names it");
    }
    if (!mixt_normalizer_is_nfc(t->normalizer)) {
        return refuse(w, "a normalizer other than NFC before byte-level BPE");
    }
    if (t->prefix_space || t->added_rules) {
        return refuse(w, t->prefix_space ? "add_prefix_space in byte-level BPE"
                                         : "added tokens with single_word, lstrip or rstrip");
    }
    MIXT_TRY(mixt_gguf_writer_string(w->file, KEY("model"), "gpt2", w->error));
    MIXT_TRY(mixt_gguf_writer_string(w->file, KEY("pre"), pre->name, w->error));
    MIXT_TRY(write_tokens(w));
    return write_merges(w);
}

/* --- SentencePiece -----------------------------------------------------------------------------
 */

static mixt_status write_flags(writing *w, const mixt_spaces *spaces, bool library)
{
    MIXT_TRY(mixt_gguf_writer_bool(w->file, KEY("add_space_prefix"), spaces->prefix, w->error));
    if (spaces->first_only) {
        MIXT_TRY(mixt_gguf_writer_bool(w->file, MIXT_GGUF_PREFIX_FIRST, true, w->error));
    }
    if (library) {
        MIXT_TRY(mixt_gguf_writer_bool(w->file, MIXT_GGUF_SENTENCEPIECE, true, w->error));
    }
    return MIXT_OK;
}

static mixt_status write_scored(writing *w, const char *model)
{
    MIXT_TRY(mixt_gguf_writer_string(w->file, KEY("model"), model, w->error));
    MIXT_TRY(mixt_gguf_writer_string(w->file, KEY("pre"), "default", w->error));
    MIXT_TRY(write_tokens(w));
    return write_scores(w);
}

/* Pieces of SentencePiece's kind, or added tokens. */
static bool has_user_defined(const mixt_tokenizer *t, bool added)
{
    for (int id = 0; id < t->vocab_size; id++) {
        const mixt_token *token = &t->tokens[id];
        bool user = token->type == MIXT_TOKEN_USER_DEFINED;
        if (added ? token->is_added && token->type != MIXT_TOKEN_CONTROL
                  : user && !token->is_added) {
            return true;
        }
    }
    return false;
}

static mixt_status write_pieces(writing *w)
{
    const mixt_tokenizer *t = w->tokenizer;
    const mixt_spm_options *options = &t->spm->options;
    if (options->untyped || !t->spaces.escape || t->spaces.suffix) {
        return refuse(w, options->untyped ? "a Unigram tokenizer.json"
                                          : "treat_whitespace_as_suffix or plain spaces");
    }
    bool library = options->unigram ? !options->double_scores
                                    : options->match_user && has_user_defined(t, false);
    if (t->added_rules || (library && has_user_defined(t, true))) {
        return refuse(w, t->added_rules ? "added tokens with single_word, lstrip or rstrip"
                                        : "added tokens beside SentencePiece's own rules");
    }
    if (!options->unigram) {
        if (t->charsmap != NULL || t->spaces.remove_extra) {
            return refuse(w, "a normaliser in front of SentencePiece BPE");
        }
        MIXT_TRY(write_scored(w, "llama"));
        return write_flags(w, &t->spaces, library);
    }
    if (options->byte_fallback) {
        return refuse(w, "byte_fallback of a unigram model");
    }
    MIXT_TRY(write_scored(w, "t5"));
    MIXT_TRY(mixt_gguf_writer_bool(w->file, KEY("remove_extra_whitespaces"), t->spaces.remove_extra,
                                   w->error));
    if (t->charsmap != NULL) {
        mixt_gguf_array array = {.kind = MIXT_GGUF_U8};
        array.data = mixt_charsmap_data(t->charsmap, &array.count);
        MIXT_TRY(mixt_gguf_writer_array(w->file, KEY("precompiled_charsmap"), &array, w->error));
    }
    return write_flags(w, &t->spaces, library);
}

/* --- BPE over characters -----------------------------------------------------------------------
 */

/* Ways to make a token of two others, characters kept whole. */
static size_t count_splits(const mixt_tokenizer *t, const mixt_token *token)
{
    size_t count = 0;
    for (size_t at = 0; at < token->piece_length;) {
        at += mixt_spm_character(token->piece + at, token->piece_length - at);
        count += at < token->piece_length && mixt_pieces_find(t->pieces, token->piece, at) >= 0 &&
                 mixt_pieces_find(t->pieces, token->piece + at, token->piece_length - at) >= 0;
    }
    return count;
}

static bool is_space_run(const vocabulary_row *e)
{
    size_t mark = strlen(MIXT_SPACE_MARK), at = 0;
    while (at + mark <= e->length && memcmp(e->text + at, MIXT_SPACE_MARK, mark) == 0) {
        at += mark;
    }
    return at == e->length;
}

/* Scores that give the same ids as the merges: merging by score joins any two neighbours whose text
 * is a token, so each token must have all its merges, one behind the other. Only runs of spaces may
 * mix theirs: the converters of transformers write runs of equal score that way. */
static mixt_status score_merges(writing *w)
{
    const mixt_tokenizer *t = w->tokenizer;
    size_t *merges = mixt_arena_allocate(w->arena, (size_t)w->ids, sizeof *merges);
    size_t *last = mixt_arena_allocate(w->arena, (size_t)w->ids, sizeof *last);
    if (merges == NULL || last == NULL) {
        return no_memory(w);
    }
    for (size_t i = 0; i < t->merge_count; i++) {
        merges[t->merges[i].result]++;
        last[t->merges[i].result] = i;
    }
    bool same = t->merge_count < 1u << 24; /* what a float counts exactly */
    for (size_t i = 0, begin = 0, end = 0; same && i < t->merge_count; i++) {
        vocabulary_row *result = &w->entries[t->merges[i].result];
        vocabulary_row *first = &w->entries[t->merges[i > end ? i : begin].result];
        begin = i > end ? i : begin;
        end = i > end || last[result - w->entries] > end ? last[result - w->entries] : end;
        same = result == first || (is_space_run(result) && is_space_run(first));
        result->score = -(float)begin;
    }
    for (int id = 0; same && id < t->vocab_size; id++) {
        const mixt_token *token = &t->tokens[id];
        bool own = token->piece != NULL && !token->is_added &&
                   mixt_byte_of_piece(token->piece, token->piece_length) < 0;
        same = !own || count_splits(t, token) == merges[id];
    }
    return same ? MIXT_OK : refuse(w, "these merges: they are no scores of pieces");
}

static mixt_status write_characters(writing *w)
{
    const mixt_tokenizer *t = w->tokenizer;
    mixt_spaces spaces = {.escape = true};
    bool marks = false;
    if (t->metaspace == MIXT_METASPACE_NONE) {
        marks = mixt_normalizer_is_llama(t->normalizer, &spaces.prefix) &&
                mixt_splitter_is_empty(t->splitter);
    } else if (!t->metaspace_split && t->metaspace != MIXT_METASPACE_ALWAYS &&
               mixt_splitter_is_empty(t->splitter)) {
        marks = mixt_normalizer_keeps(t->normalizer, "", 1);
        spaces.prefix = t->metaspace != MIXT_METASPACE_NEVER;
        spaces.first_only = t->metaspace == MIXT_METASPACE_FIRST;
    }
    if (!marks || !t->byte_fallback || t->whole_words || t->added_rules) {
        return refuse(w, "these rules around BPE over characters");
    }
    MIXT_TRY(score_merges(w));
    for (int id = 0; id < t->vocab_size; id++) {
        const mixt_token *token = &t->tokens[id];
        if (token->piece != NULL && !token->is_added &&
            mixt_byte_of_piece(token->piece, token->piece_length) >= 0) {
            w->entries[id].type = MIXT_TOKEN_BYTE;
        } else if (id == t->unknown) {
            w->entries[id].type = MIXT_TOKEN_UNKNOWN;
        }
    }
    MIXT_TRY(write_scored(w, "llama"));
    if (t->json != NULL) { /* no tokenizer.model could say all of it */
        MIXT_TRY(mixt_gguf_writer_string(w->file, MIXT_GGUF_JSON, t->json, w->error));
    }
    return write_flags(w, &spaces, false);
}

/* ------------------------------------------------------------------------------------------------
 */

/* The format has a place for one end of a text, of a turn and of a message each. Ends that readers
 * do not know by their text take the last two; all that is left stands under our own key. */
static mixt_status write_ends(writing *w)
{
    static const char *const keys[] = {KEY("eos_token_id"), KEY("eot_token_id"),
                                       KEY("eom_token_id")};
    const mixt_tokenizer *t = w->tokenizer;
    int eos = mixt_tokenizer_around(t, MIXT_SPECIAL_EOS);
    eos = eos >= 0 ? eos : t->special[MIXT_SPECIAL_EOS];
    int used = eos >= 0 && eos < w->rows;
    int32_t *rest = mixt_arena_allocate(w->arena, (size_t)t->vocab_size + 1, sizeof *rest);
    size_t count = 0;
    if (rest == NULL) {
        return no_memory(w);
    }
    for (int known = 0; known < 2; known++) {
        for (int id = 0; id < t->vocab_size && id < w->rows; id++) {
            const mixt_token *token = &t->tokens[id];
            bool by_text = token->is_end && mixt_is_end_text(token->bytes, token->length);
            if (!token->is_end || id == eos || by_text != (known != 0)) {
                continue;
            }
            if (used < 3) {
                MIXT_TRY(mixt_gguf_writer_u32(w->file, keys[used++], (uint32_t)id, w->error));
            } else {
                rest[count++] = id;
            }
        }
    }
    mixt_gguf_array array = {.kind = MIXT_GGUF_I32, .count = count, .data = rest};
    return count != 0 ? mixt_gguf_writer_array(w->file, MIXT_GGUF_ENDS, &array, w->error) : MIXT_OK;
}

static mixt_status write_specials(writing *w)
{
    static const char *const keys[4] = {KEY("bos_token_id"), KEY("eos_token_id"),
                                        KEY("unknown_token_id"), KEY("padding_token_id")};
    const mixt_tokenizer *t = w->tokenizer;
    for (int i = 0; i < 4; i++) {
        int id = mixt_tokenizer_around(t, (mixt_special)i);
        id = id >= 0 ? id : t->special[i];
        if (id >= 0 && id < w->rows) {
            MIXT_TRY(mixt_gguf_writer_u32(w->file, keys[i], (uint32_t)id, w->error));
        }
    }
    MIXT_TRY(write_ends(w));
    for (int i = 0; i < 2; i++) {
        static const char *const adds[2] = {KEY("add_bos_token"), KEY("add_eos_token")};
        int id = mixt_tokenizer_around(t, (mixt_special)i);
        MIXT_TRY(mixt_gguf_writer_bool(w->file, adds[i], id >= 0 && id < w->rows, w->error));
    }
    if (t->chat_template != NULL) {
        MIXT_TRY(mixt_gguf_writer_string(w->file, "tokenizer.chat_template", t->chat_template,
                                         w->error));
    }
    return MIXT_OK;
}

mixt_status mixt_tokenizer_to_gguf(const mixt_tokenizer *tokenizer, int rows,
                                   mixt_gguf_writer *writer, mixt_error *error)
{
    writing w = {.tokenizer = tokenizer,
                 .file = writer,
                 .arena = mixt_arena_create(),
                 .rows = rows,
                 .ids = rows > tokenizer->vocab_size ? rows : tokenizer->vocab_size,
                 .error = error};
    mixt_status status = w.arena != NULL ? MIXT_OK : no_memory(&w);
    for (int id = rows; status == MIXT_OK && id < tokenizer->vocab_size; id++) {
        const mixt_token *token = &tokenizer->tokens[id];
        if (token->bytes != NULL && !token->is_added && token->type != MIXT_TOKEN_CONTROL) {
            status = mixt_fail(error, MIXT_ERROR_FORMAT,
                               "tokenizer: token %d for a model of %d ids: only added ones can be "
                               "left out",
                               id, rows);
        }
    }
    if (status == MIXT_OK) {
        status = fill_entries(&w);
    }
    if (status == MIXT_OK) {
        status = tokenizer->kind == MIXT_TOKENIZER_BYTES    ? write_byte_level(&w)
                 : tokenizer->kind == MIXT_TOKENIZER_PIECES ? write_pieces(&w)
                                                            : write_characters(&w);
    }
    if (status == MIXT_OK) {
        status = write_specials(&w);
    }
    mixt_arena_free(w.arena);
    return status;
}
