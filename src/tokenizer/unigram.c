/* The unigram model: of all ways to cut a text into pieces, the one with the highest sum of scores
 * (log probabilities), found by Viterbi's algorithm from left to right. */
#include <assert.h>
#include <stdlib.h>

#include "tokenizer/sentencepiece.h"
#include "tokenizer/tokenizer.h"

#define UNKNOWN_PENALTY 10.0 /* below the lowest score */

/* A trie over bytes; its edges lie in one hash table. */
typedef struct edge {
    uint64_t key; /* node << 8 | byte; UINT64_MAX: free */
    uint32_t child;
} edge;

struct mixt_trie {
    edge *edges;
    size_t mask;
    int32_t *ids; /* of nodes, -1: no piece ends there */
    uint32_t node_count;
};

static edge *edge_slot(const mixt_trie *trie, uint32_t node, unsigned char byte)
{
    uint64_t key = (uint64_t)node << 8 | byte, hash = key * 0x9e3779b97f4a7c15u;
    size_t slot = (hash ^ hash >> 32) & trie->mask;
    while (trie->edges[slot].key != key && trie->edges[slot].key != UINT64_MAX) {
        slot = (slot + 1) & trie->mask;
    }
    return &trie->edges[slot];
}

static void insert(mixt_trie *trie, const char *bytes, size_t length, int32_t id)
{
    uint32_t node = 0;
    for (size_t i = 0; i < length; i++) {
        edge *slot = edge_slot(trie, node, (unsigned char)bytes[i]);
        if (slot->key == UINT64_MAX) {
            slot->key = (uint64_t)node << 8 | (unsigned char)bytes[i];
            slot->child = trie->node_count;
            assert(2 * (size_t)trie->node_count <= trie->mask + 1);
            trie->ids[trie->node_count++] = -1;
        }
        node = slot->child;
    }
    trie->ids[node] = length != 0 ? id : -1;
}

static bool is_candidate(const mixt_spm *spm, const mixt_token *token)
{
    if (spm->options.untyped) {
        return token->piece != NULL;
    }
    switch (token->type) {
    case MIXT_TOKEN_CONTROL:
    case MIXT_TOKEN_UNKNOWN:
    case MIXT_TOKEN_BYTE:
        return false;
    case MIXT_TOKEN_UNUSED:
        return spm->options.double_scores;
    default:
        return token->piece != NULL;
    }
}

bool mixt_unigram_prepare(mixt_spm *spm)
{
    mixt_trie *trie = calloc(1, sizeof *trie);
    spm->trie = trie;
    size_t bytes = 1, slots = 64;
    for (int id = 0; id < spm->options.vocab_size; id++) {
        const mixt_token *token = &spm->options.tokens[id];
        bytes += is_candidate(spm, token) ? token->piece_length : 0;
    }
    while (slots < 2 * bytes) {
        slots *= 2;
    }
    if (trie == NULL || bytes > UINT32_MAX) {
        return false;
    }
    trie->edges = malloc(slots * sizeof *trie->edges);
    trie->ids = malloc(bytes * sizeof *trie->ids);
    trie->mask = slots - 1;
    if (trie->edges == NULL || trie->ids == NULL) {
        return false;
    }
    for (size_t i = 0; i < slots; i++) {
        trie->edges[i].key = UINT64_MAX;
    }
    trie->ids[trie->node_count++] = -1;
    for (int id = 0; id < spm->options.vocab_size; id++) {
        const mixt_token *token = &spm->options.tokens[id];
        if (is_candidate(spm, token)) {
            insert(trie, token->piece, token->piece_length, id);
        }
    }
    return true;
}

void mixt_trie_free(mixt_trie *trie)
{
    if (trie != NULL) {
        free(trie->edges);
        free(trie->ids);
        free(trie);
    }
}

/* The best way to reach the end of a stretch. */
typedef struct reach {
    double score;
    uint32_t begin; /* of its last piece; UINT32_MAX: not reached */
    int32_t id;
} reach;

/* SentencePiece compares in double but keeps sums in float. */
static void improve(const mixt_spm *spm, reach *to, double score, uint32_t begin, int32_t id)
{
    if (to->begin == UINT32_MAX || score > to->score) {
        to->score = spm->options.double_scores ? score : (double)(float)score;
        to->begin = begin;
        to->id = id;
    }
}

static double piece_score(const mixt_spm *spm, int32_t id, size_t length)
{
    const mixt_token *token = &spm->options.tokens[id];
    if (token->type != MIXT_TOKEN_USER_DEFINED || spm->options.untyped) {
        return spm->options.double_scores ? token->score : (double)(float)token->score;
    }
    /* enough to be taken before any other pieces */
    return spm->options.double_scores ? 0.0 : (double)((float)length * (float)spm->highest) - 0.1;
}

static void reach_from(const mixt_spm *spm, const char *text, size_t length, size_t from,
                       reach *ends)
{
    const mixt_trie *trie = spm->trie;
    size_t size = mixt_spm_character(text + from, length - from);
    assert(from == 0 || ends[from].begin < from); /* it was reached */
    double so_far = ends[from].score;
    bool whole_character = false;
    uint32_t node = 0;
    for (size_t at = from; at < length; at++) {
        const edge *slot = edge_slot(trie, node, (unsigned char)text[at]);
        if (slot->key == UINT64_MAX) {
            break;
        }
        node = slot->child;
        if (trie->ids[node] >= 0) {
            double score = piece_score(spm, trie->ids[node], at + 1 - from) + so_far;
            improve(spm, &ends[at + 1], score, (uint32_t)from, trie->ids[node]);
            whole_character = whole_character || at + 1 - from == size;
        }
    }
    if (!whole_character) {
        double unknown = spm->lowest - UNKNOWN_PENALTY;
        double score = spm->options.double_scores ? unknown + so_far
                                                  : (double)((float)unknown + (float)so_far);
        improve(spm, &ends[from + size], score, (uint32_t)from, spm->options.unknown);
    }
}

void mixt_unigram_best(const mixt_spm *spm, const char *text, size_t length, mixt_spans *spans)
{
    reach *ends = malloc((length + 1) * sizeof *ends);
    if (ends == NULL) {
        spans->failed = true;
        return;
    }
    for (size_t i = 0; i <= length; i++) {
        ends[i] = (reach){0, UINT32_MAX, -1};
    }
    for (size_t at = 0; at < length; at += mixt_spm_character(text + at, length - at)) {
        reach_from(spm, text, length, at, ends);
    }
    for (size_t end = length; end > 0; end = ends[end].begin) {
        const reach *last = &ends[end];
        assert(last->begin < end);
        mixt_spans_append(spans,
                          (mixt_span){last->begin, (uint32_t)end - last->begin, last->id, false});
    }
    for (size_t i = 0; i < spans->count / 2; i++) {
        mixt_span swapped = spans->data[i];
        spans->data[i] = spans->data[spans->count - 1 - i];
        spans->data[spans->count - 1 - i] = swapped;
    }
    free(ends);
}
