#include "sampling/matcher.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"

/* A node stands for the beginning of a string; node 0 for the empty one, which is nobody's child,
 * so that 0 says "none" in `child` and `sibling`. */
typedef struct node {
    uint32_t child, sibling; /* the first one-byte-longer beginning; the next of its parent's */
    uint32_t fail;           /* the longest proper end of this that begins a string too */
    uint32_t depth;          /* bytes */
    int32_t found;           /* the longest string that ends with this; -1: none */
    uint32_t found_length;
    unsigned char byte; /* its last */
} node;

struct mixt_matcher {
    node *nodes; /* [count], parents before children */
    uint32_t count;
};

static uint32_t find_child(const mixt_matcher *matcher, uint32_t at, unsigned char byte)
{
    uint32_t child = matcher->nodes[at].child;
    while (child != 0 && matcher->nodes[child].byte != byte) {
        child = matcher->nodes[child].sibling;
    }
    return child;
}

static void add_string(mixt_matcher *matcher, const char *string, int32_t index)
{
    uint32_t at = 0;
    for (const unsigned char *c = (const unsigned char *)string; *c != '\0'; c++) {
        uint32_t child = find_child(matcher, at, *c);
        if (child == 0) {
            child = matcher->count++;
            matcher->nodes[child] = (node){.sibling = matcher->nodes[at].child,
                                           .depth = matcher->nodes[at].depth + 1,
                                           .found = -1,
                                           .byte = *c};
            matcher->nodes[at].child = child;
        }
        at = child;
    }
    if (matcher->nodes[at].found < 0) { /* of equal ones the first counts */
        matcher->nodes[at].found = index;
        matcher->nodes[at].found_length = matcher->nodes[at].depth;
    }
}

/* Breadth first: what ends a node is shallower than it. `queue` [count]. */
static void link_ends(mixt_matcher *matcher, uint32_t *queue)
{
    uint32_t head = 0, tail = 0;
    queue[tail++] = 0;
    while (head < tail) {
        uint32_t parent = queue[head++];
        for (uint32_t at = matcher->nodes[parent].child; at != 0; at = matcher->nodes[at].sibling) {
            node *n = &matcher->nodes[at];
            n->fail =
                parent == 0 ? 0 : mixt_matcher_step(matcher, matcher->nodes[parent].fail, n->byte);
            if (n->found < 0) {
                n->found = matcher->nodes[n->fail].found;
                n->found_length = matcher->nodes[n->fail].found_length;
            }
            queue[tail++] = at;
        }
    }
}

mixt_status mixt_matcher_create(const char *const *strings, size_t count, const char *what,
                                mixt_matcher **matcher, mixt_error *error)
{
    size_t bytes = 0;
    *matcher = NULL;
    for (size_t i = 0; i < count; i++) {
        size_t length = strlen(strings[i]);
        if (length == 0) {
            return mixt_fail(error, MIXT_ERROR_ARGUMENT, "%s %zu is empty", what, i + 1);
        }
        if (length > MIXT_MATCHER_BYTES_MAX - bytes) {
            return mixt_fail(error, MIXT_ERROR_ARGUMENT, "%ss: more than %zu bytes", what,
                             MIXT_MATCHER_BYTES_MAX);
        }
        bytes += length;
    }
    mixt_matcher *made = calloc(1, sizeof *made);
    uint32_t *queue = calloc(bytes + 1, sizeof *queue);
    if (made != NULL) {
        made->nodes = calloc(bytes + 1, sizeof *made->nodes);
    }
    if (made == NULL || queue == NULL || made->nodes == NULL) {
        free(queue);
        mixt_matcher_free(made);
        return mixt_fail(error, MIXT_ERROR_MEMORY, "%ss: no memory", what);
    }
    made->nodes[made->count++].found = -1;
    for (size_t i = 0; i < count; i++) {
        add_string(made, strings[i], (int32_t)i);
    }
    link_ends(made, queue);
    free(queue);
    *matcher = made;
    return MIXT_OK;
}

void mixt_matcher_free(mixt_matcher *matcher)
{
    if (matcher != NULL) {
        free(matcher->nodes);
        free(matcher);
    }
}

uint32_t mixt_matcher_step(const mixt_matcher *matcher, uint32_t state, unsigned char byte)
{
    assert(state < matcher->count);
    uint32_t next = find_child(matcher, state, byte);
    while (next == 0 && state != 0) {
        state = matcher->nodes[state].fail;
        next = find_child(matcher, state, byte);
    }
    return next;
}

size_t mixt_matcher_depth(const mixt_matcher *matcher, uint32_t state)
{
    return matcher->nodes[state].depth;
}

int mixt_matcher_found(const mixt_matcher *matcher, uint32_t state, size_t *length)
{
    *length = matcher->nodes[state].found_length;
    return matcher->nodes[state].found;
}
