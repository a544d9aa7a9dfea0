#include "tokenizer/trie.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "tokenizer/tokenizer.h"

bool mixt_token_is_text(const mixt_tokenizer *tokenizer, int32_t id)
{
    if (id < 0 || id >= tokenizer->vocab_size) {
        return false;
    }
    const mixt_token *token = &tokenizer->tokens[id];
    return token->bytes != NULL && token->length > 0 && token->type != MIXT_TOKEN_CONTROL &&
           token->type != MIXT_TOKEN_UNKNOWN && token->type != MIXT_TOKEN_UNUSED;
}

typedef struct entry {
    const char *bytes;
    uint32_t length;
    int32_t id;
} entry;

static int compare_entries(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    uint32_t shorter = x->length < y->length ? x->length : y->length;
    int order = memcmp(x->bytes, y->bytes, shorter);
    if (order != 0 || x->length != y->length) {
        return order != 0 ? order : x->length < y->length ? -1 : 1;
    }
    return x->id < y->id ? -1 : 1;
}

/* Bytes at which two sorted neighbours are the same. */
static uint32_t common_length(const entry *a, const entry *b)
{
    uint32_t length = 0;
    while (length < a->length && length < b->length && a->bytes[length] == b->bytes[length]) {
        length++;
    }
    return length;
}

/* Nodes of sorted entries, the empty beginning and the guard included. */
static size_t count_nodes(const entry *entries, uint32_t count, uint32_t *depth)
{
    size_t nodes = 2;
    for (uint32_t i = 0; i < count; i++) {
        nodes += entries[i].length - (i > 0 ? common_length(&entries[i - 1], &entries[i]) : 0);
        *depth = entries[i].length > *depth ? entries[i].length : *depth;
    }
    return nodes;
}

/* `open` [depth + 1]: the nodes that the last entry lies below. */
static void lay_out(const entry *entries, mixt_token_trie *trie, uint32_t *open)
{
    uint32_t at = 0, depth = 0;
    open[0] = at++;
    for (uint32_t i = 0; i < trie->id_count; i++) {
        uint32_t common = i > 0 ? common_length(&entries[i - 1], &entries[i]) : 0;
        for (; depth > common; depth--) {
            trie->nodes[open[depth]].end = at;
        }
        while (depth < entries[i].length) {
            trie->nodes[at] = (mixt_trie_node){
                .first = i, .depth = depth + 1, .byte = (unsigned char)entries[i].bytes[depth]};
            open[++depth] = at++;
        }
        trie->ids[i] = entries[i].id;
    }
    for (; depth > 0; depth--) {
        trie->nodes[open[depth]].end = at;
    }
    trie->nodes[0].end = at;
    trie->nodes[at] = (mixt_trie_node){.end = at, .first = trie->id_count};
    trie->count = at;
}

static mixt_token_trie *build(const mixt_tokenizer *tokenizer)
{
    size_t room = (size_t)tokenizer->vocab_size + 1;
    entry *entries = calloc(room, sizeof *entries);
    mixt_token_trie *trie = calloc(1, sizeof *trie);
    if (entries != NULL && trie != NULL) {
        for (int32_t id = 0; id < tokenizer->vocab_size; id++) {
            if (mixt_token_is_text(tokenizer, id)) {
                const mixt_token *token = &tokenizer->tokens[id];
                entries[trie->id_count++] = (entry){token->bytes, token->length, id};
            }
        }
        qsort(entries, trie->id_count, sizeof *entries, compare_entries);
        size_t nodes = count_nodes(entries, trie->id_count, &trie->depth);
        uint32_t *open = calloc((size_t)trie->depth + 1, sizeof *open);
        trie->ids = calloc(room, sizeof *trie->ids);
        trie->nodes = nodes < UINT32_MAX ? calloc(nodes, sizeof *trie->nodes) : NULL;
        if (open != NULL && trie->ids != NULL && trie->nodes != NULL) {
            lay_out(entries, trie, open);
        }
        free(open);
    }
    free(entries);
    if (trie != NULL && trie->count == 0) {
        mixt_token_trie_free(trie);
        trie = NULL;
    }
    return trie;
}

mixt_status mixt_tokenizer_trie(const mixt_tokenizer *tokenizer, const mixt_token_trie **trie,
                                mixt_error *error)
{
    static pthread_mutex_t making = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&making);
    if (tokenizer->trie->made == NULL) {
        tokenizer->trie->made = build(tokenizer);
    }
    *trie = tokenizer->trie->made;
    pthread_mutex_unlock(&making);
    return *trie != NULL ? MIXT_OK
                         : mixt_fail(error, MIXT_ERROR_MEMORY, "tokens as a trie: no memory");
}

void mixt_token_trie_free(mixt_token_trie *trie)
{
    if (trie != NULL) {
        free(trie->nodes);
        free(trie->ids);
        free(trie);
    }
}
