/* BPE over characters as the tokenizer.json files of Llama and Mixtral have it: a character that is
 * no token becomes the tokens of its bytes, or the unknown token. */
#include <stdlib.h>

#include "tokenizer/tokenizer.h"

typedef struct start {
    const mixt_tokenizer *tokenizer;
    int32_t *symbols; /* [length of the word + 1] */
    size_t count;
    bool pending; /* an unknown token that later unknown characters may join */
    int missing;
} start;

static void flush(start *s)
{
    if (s->pending) {
        s->symbols[s->count++] = s->tokenizer->unknown;
        s->pending = false;
    }
}

static void add_character(start *s, const char *text, size_t size)
{
    const mixt_tokenizer *t = s->tokenizer;
    int32_t id = mixt_pieces_find(t->pieces, text, size);
    if (id >= 0) {
        flush(s);
        s->symbols[s->count++] = id;
        return;
    }
    bool bytes = t->byte_fallback;
    for (size_t i = 0; i < size; i++) {
        bytes = bytes && t->byte_tokens[(unsigned char)text[i]] >= 0;
    }
    if (bytes) { /* a pending unknown token stays behind them, as tokenizers has it */
        for (size_t i = 0; i < size; i++) {
            s->symbols[s->count++] = t->byte_tokens[(unsigned char)text[i]];
        }
    } else if (t->unknown < 0) {
        s->missing = (unsigned char)text[0];
    } else {
        if (!t->fuse_unknown) {
            flush(s);
        }
        s->pending = true;
    }
}

int mixt_characters_encode(const mixt_tokenizer *tokenizer, const char *word, size_t length,
                           mixt_ids *ids)
{
    if (tokenizer->whole_words) {
        int32_t whole = mixt_pieces_find(tokenizer->pieces, word, length);
        if (whole >= 0) {
            mixt_ids_append(ids, &whole, 1);
            return -1;
        }
    }
    start s = {.tokenizer = tokenizer, .missing = -1};
    s.symbols = malloc((length + 1) * sizeof *s.symbols);
    if (s.symbols == NULL) {
        ids->failed = true;
        return -1;
    }
    for (size_t at = 0; at < length && s.missing < 0;) {
        size_t size = mixt_spm_character(word + at, length - at);
        add_character(&s, word + at, size);
        at += size;
    }
    flush(&s);
    if (s.missing < 0) {
        mixt_bpe_merge(tokenizer->bpe, s.symbols, s.count, ids);
    }
    free(s.symbols);
    return s.missing;
}
