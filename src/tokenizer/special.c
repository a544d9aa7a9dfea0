/* What a tokenizer says beside its vocabulary: special tokens, ends, the chat template; and the way
 * from ids back to text. */
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "tokenizer/tokenizer.h"

/* --- Looking -----------------------------------------------------------------------------------
 */

int mixt_tokenizer_special(const mixt_tokenizer *tokenizer, mixt_special which)
{
    return which >= MIXT_SPECIAL_BOS && which <= MIXT_SPECIAL_PAD ? tokenizer->special[which] : -1;
}

int mixt_tokenizer_around(const mixt_tokenizer *tokenizer, mixt_special which)
{
    const mixt_tokenizer *t = tokenizer;
    bool wanted = which == MIXT_SPECIAL_BOS   ? t->adds_bos
                  : which == MIXT_SPECIAL_EOS ? t->adds_eos
                                              : false;
    int32_t own = which == MIXT_SPECIAL_BOS ? t->before : t->behind;
    return !wanted ? -1 : own >= 0 ? own : t->special[which];
}

bool mixt_tokenizer_adds_bos(const mixt_tokenizer *tokenizer)
{
    return mixt_tokenizer_around(tokenizer, MIXT_SPECIAL_BOS) >= 0;
}

bool mixt_tokenizer_adds_eos(const mixt_tokenizer *tokenizer)
{
    return mixt_tokenizer_around(tokenizer, MIXT_SPECIAL_EOS) >= 0;
}

const char *mixt_tokenizer_remark(const mixt_tokenizer *tokenizer, int index)
{
    return mixt_remarks_get(&tokenizer->remarks, index);
}

bool mixt_tokenizer_is_end(const mixt_tokenizer *tokenizer, int32_t id)
{
    return id >= 0 && id < tokenizer->vocab_size && tokenizer->tokens[id].is_end;
}

const char *mixt_tokenizer_chat_template(const mixt_tokenizer *tokenizer)
{
    return tokenizer->chat_template;
}

mixt_status mixt_tokenizer_keep_template(mixt_tokenizer *tokenizer, const char *text,
                                         mixt_error *error)
{
    char *copy = strdup(text);
    if (copy == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "no memory for the chat template");
    }
    free(tokenizer->chat_template);
    tokenizer->chat_template = copy;
    return MIXT_OK;
}

/* --- Ends --------------------------------------------------------------------------------------
 */

/* Tokens that end a text or a turn in the models of these families and their relatives. */
static const char *const end_texts[] = {
    "</s>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<end_of_turn>",
    "<eos>",
    "[EOS]",
    "<eod>",
    "<|EOT|>",
    "<EOT>",
    "<\uff5cend\u2581of\u2581sentence\uff5c>",
    "<|eos|>",
    "<|flush|>",
    "<|calls|>",
    "_<EOT>",
    "[EOT]",
    "<end_of_utterance>",
};

bool mixt_is_end_text(const char *text, size_t length)
{
    for (size_t i = 0; i < sizeof end_texts / sizeof *end_texts; i++) {
        if (strlen(end_texts[i]) == length && memcmp(end_texts[i], text, length) == 0) {
            return true;
        }
    }
    return false;
}

int32_t mixt_tokenizer_find_special(const mixt_tokenizer *tokenizer, const char *text)
{
    size_t length = strlen(text);
    for (int32_t id = 0; id < tokenizer->vocab_size; id++) {
        const mixt_token *token = &tokenizer->tokens[id];
        if (token->bytes != NULL && token->length == length &&
            (token->is_added || token->type == MIXT_TOKEN_CONTROL) &&
            memcmp(token->bytes, text, length) == 0) {
            return id;
        }
    }
    return -1;
}

void mixt_tokenizer_declare_end(mixt_tokenizer *tokenizer, int64_t id)
{
    if (id >= 0 && id < tokenizer->vocab_size && tokenizer->tokens[id].bytes != NULL) {
        tokenizer->tokens[id].is_end = true;
    }
}

void mixt_tokenizer_mark_ends(mixt_tokenizer *tokenizer)
{
    int32_t return_id = -1, end_id = -1;
    for (size_t i = 0; i < sizeof end_texts / sizeof *end_texts; i++) {
        int32_t id = mixt_tokenizer_find_special(tokenizer, end_texts[i]);
        if (id >= 0) {
            tokenizer->tokens[id].is_end = true;
        }
        return_id = strcmp(end_texts[i], "<|return|>") == 0 ? id : return_id;
        end_id = strcmp(end_texts[i], "<|end|>") == 0 ? id : end_id;
    }
    if (return_id >= 0 && end_id >= 0) { /* gpt-oss: <|end|> closes one of several messages */
        tokenizer->tokens[end_id].is_end = false;
    }
    mixt_tokenizer_declare_end(tokenizer, tokenizer->special[MIXT_SPECIAL_EOS]);
    if (tokenizer->separator < 0) {
        tokenizer->separator = tokenizer->special[MIXT_SPECIAL_BOS];
    }
}

/* --- Decoding ----------------------------------------------------------------------------------
 */

/* Encoding puts a space before the text or before every stretch between added tokens; `*strip` says
 * that the next bytes begin with it. */
static void append_token(const mixt_tokenizer *t, const mixt_token *token, bool skip_special,
                         bool *strip, mixt_buffer *to)
{
    if (token->type == MIXT_TOKEN_CONTROL) {
        mixt_buffer_append(to, token->bytes, skip_special ? 0 : token->length);
        *strip = *strip || t->strip_each;
    } else if (token->is_added) {
        mixt_buffer_append(to, token->bytes, token->length);
        *strip = t->strip_each;
    } else {
        size_t from = *strip && token->length != 0 && token->bytes[0] == ' ';
        mixt_buffer_append(to, token->bytes + from, token->length - from);
        *strip = false;
    }
}

mixt_status mixt_tokenizer_decode(const mixt_tokenizer *tokenizer, const int32_t *ids, size_t count,
                                  bool skip_special, char **text, size_t *length, mixt_error *error)
{
    mixt_buffer out = {0};
    bool strip = tokenizer->strip_space;
    *text = NULL;
    *length = 0;
    for (size_t i = 0; i < count; i++) {
        size_t size;
        const char *bytes = mixt_tokenizer_bytes_of(tokenizer, ids[i], &size);
        if (bytes == NULL) {
            mixt_buffer_free(&out);
            return mixt_fail(error, MIXT_ERROR_ARGUMENT, "no token has id %d", (int)ids[i]);
        }
        append_token(tokenizer, &tokenizer->tokens[ids[i]], skip_special, &strip, &out);
    }
    mixt_buffer_append(&out, "", 1);
    if (out.failed) {
        mixt_buffer_free(&out);
        return mixt_fail(error, MIXT_ERROR_MEMORY, "tokenizer: no memory for text");
    }
    *text = out.data;
    *length = out.length - 1;
    return MIXT_OK;
}
