/* The bytes of a tokenizer's tokens as a trie, for who asks which of them may follow. */
#ifndef MIXT_TOKENIZER_TRIE_H
#define MIXT_TOKENIZER_TRIE_H

#include <stdint.h>

#include "mixt.h"

/* A beginning of tokens. Nodes stand in the order of a walk: a node, then all that begins with it.
 */
typedef struct mixt_trie_node {
    uint32_t end;   /* the first node that does not begin with this one */
    uint32_t first; /* tokens with exactly these bytes are ids[first] up to the next node's first */
    uint32_t depth; /* bytes */
    unsigned char byte; /* its last */
} mixt_trie_node;

typedef struct mixt_token_trie {
    mixt_trie_node *nodes; /* [count + 1]: nodes[0] is the empty beginning, nodes[count] a guard */
    uint32_t count;
    int32_t *ids; /* [id_count]: of tokens that are text, by their bytes */
    uint32_t id_count;
    uint32_t depth; /* of the deepest node */
} mixt_token_trie;

/* Where a tokenizer that does not change keeps its trie. */
typedef struct mixt_trie_place {
    mixt_token_trie *made; /* NULL: nobody asked yet */
} mixt_trie_place;

/* Whether a token is text: neither a control token nor one that stands for nothing. */
bool mixt_token_is_text(const mixt_tokenizer *tokenizer, int32_t id);
/* The tokenizer's trie, made when it is first asked for; any thread may ask. */
mixt_status mixt_tokenizer_trie(const mixt_tokenizer *tokenizer, const mixt_token_trie **trie,
                                mixt_error *error);
void mixt_token_trie_free(mixt_token_trie *trie);

#endif
