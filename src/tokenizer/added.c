#include "tokenizer/added.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "core/memory.h"
#include "core/utf8.h"

/* A trie over bytes, children as linked siblings; its size is that of the tokens' text. */
typedef struct node {
    uint32_t child, sibling; /* 0: none */
    int32_t token;           /* index, -1: none ends here */
    unsigned char byte;
} node;

struct mixt_added_set {
    mixt_added_token *tokens;
    size_t count, capacity;
    node *nodes; /* nodes[0] is unused */
    size_t node_count, node_capacity;
    uint32_t first[256]; /* nodes of first bytes */
};

mixt_added_set *mixt_added_set_create(void)
{
    mixt_added_set *set = calloc(1, sizeof *set);
    if (set != NULL) {
        set->node_count = 1;
    }
    return set;
}

void mixt_added_set_free(mixt_added_set *set)
{
    if (set != NULL) {
        free(set->tokens);
        free(set->nodes);
        free(set);
    }
}

static uint32_t find_sibling(const mixt_added_set *set, uint32_t at, unsigned char byte)
{
    while (at != 0 && set->nodes[at].byte != byte) {
        at = set->nodes[at].sibling;
    }
    return at;
}

static uint32_t new_node(mixt_added_set *set, unsigned char byte, uint32_t sibling)
{
    if (set->node_count >= UINT32_MAX ||
        !mixt_grow(&set->nodes, &set->node_capacity, set->node_count + 1, sizeof *set->nodes)) {
        return 0;
    }
    set->nodes[set->node_count] = (node){0, sibling, -1, byte};
    return (uint32_t)set->node_count++;
}

bool mixt_added_set_add(mixt_added_set *set, const mixt_added_token *token)
{
    if (!mixt_grow(&set->tokens, &set->capacity, set->count + 1, sizeof *set->tokens)) {
        return false;
    }
    uint32_t at = 0;
    for (size_t i = 0; i < token->length; i++) {
        unsigned char byte = (unsigned char)token->text[i];
        uint32_t head = i == 0 ? set->first[byte] : set->nodes[at].child;
        uint32_t next = find_sibling(set, head, byte);
        if (next == 0) {
            next = new_node(set, byte, head);
            if (next == 0) {
                return false;
            }
            *(i == 0 ? &set->first[byte] : &set->nodes[at].child) = next;
        }
        at = next;
    }
    if (at != 0) {
        set->nodes[at].token = (int32_t)set->count;
        set->tokens[set->count++] = *token;
    }
    return true;
}

const mixt_added_token *mixt_added_set_at(const mixt_added_set *set, size_t index)
{
    return index < set->count ? &set->tokens[index] : NULL;
}

static bool is_white_space(uint32_t c)
{
    return (c >= 9 && c <= 13) || c == 0x20 || c == 0x85 || c == 0xa0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f ||
           c == 0x205f || c == 0x3000;
}

/* Letters, marks, numbers and connectors, as \w has them. */
static bool is_word_character(uint32_t c)
{
    static const uint32_t word_categories =
        1u << UTF8PROC_CATEGORY_LU | 1u << UTF8PROC_CATEGORY_LL | 1u << UTF8PROC_CATEGORY_LT |
        1u << UTF8PROC_CATEGORY_LM | 1u << UTF8PROC_CATEGORY_LO | 1u << UTF8PROC_CATEGORY_MN |
        1u << UTF8PROC_CATEGORY_MC | 1u << UTF8PROC_CATEGORY_ME | 1u << UTF8PROC_CATEGORY_ND |
        1u << UTF8PROC_CATEGORY_NL | 1u << UTF8PROC_CATEGORY_PC;
    return (word_categories >> utf8proc_category((utf8proc_int32_t)c) & 1) != 0;
}

/* The character that begins at `at`, or that ends there; 0xffff where none is. */
static uint32_t character_at(const char *text, size_t length, size_t at, size_t *size)
{
    const unsigned char *bytes = (const unsigned char *)text;
    *size = mixt_utf8_character(bytes + at, length - at);
    return *size != 0 ? mixt_utf8_decode(bytes + at, *size) : 0xffff;
}

static uint32_t character_before(const char *text, size_t from, size_t at, size_t *size)
{
    for (*size = 1; *size <= 4 && *size <= at - from; ++*size) {
        size_t found;
        uint32_t c = character_at(text, at, at - *size, &found);
        if (found == *size) {
            return c;
        }
    }
    *size = 0;
    return 0xffff;
}

static bool stands_alone(const char *text, size_t length, size_t begin, size_t end)
{
    size_t size;
    return (begin == 0 || !is_word_character(character_before(text, 0, begin, &size))) &&
           (end == length || !is_word_character(character_at(text, length, end, &size)));
}

/* The longest token at `at`, -1 for none. */
static int32_t longest_at(const mixt_added_set *set, const char *text, size_t length, size_t at)
{
    int32_t found = -1;
    uint32_t node_at = set->first[(unsigned char)text[at]];
    while (node_at != 0) {
        if (set->nodes[node_at].token >= 0) {
            found = set->nodes[node_at].token;
        }
        if (++at == length) {
            break;
        }
        node_at = find_sibling(set, set->nodes[node_at].child, (unsigned char)text[at]);
    }
    return found;
}

const mixt_added_token *mixt_added_longest(const mixt_added_set *set, const char *text,
                                           size_t length, size_t at)
{
    int32_t index = set->count != 0 ? longest_at(set, text, length, at) : -1;
    assert(index < (int32_t)set->count);
    return index >= 0 ? &set->tokens[index] : NULL;
}

mixt_added_match mixt_added_find(const mixt_added_set *set, const char *text, size_t length,
                                 size_t from, bool specials)
{
    for (size_t at = set->count != 0 ? from : length; at < length;) {
        int32_t index = longest_at(set, text, length, at);
        if (index < 0) {
            at++;
            continue;
        }
        const mixt_added_token *token = &set->tokens[index];
        size_t begin = at, end = at + token->length, size;
        if ((token->special && !specials) ||
            (token->single_word && !stands_alone(text, length, begin, end))) {
            at = end; /* it is text, and nothing in it is a token */
            continue;
        }
        while (token->left_strip && is_white_space(character_before(text, from, begin, &size))) {
            begin -= size;
        }
        while (token->right_strip && end < length &&
               is_white_space(character_at(text, length, end, &size))) {
            end += size;
        }
        assert(begin >= from && begin < end && end <= length);
        return (mixt_added_match){begin, end, token};
    }
    return (mixt_added_match){length, length, NULL};
}
