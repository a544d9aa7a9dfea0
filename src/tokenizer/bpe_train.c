/* Training of byte-pair encoding: unique words are counted, then the most frequent pair of
 * neighbours is merged again and again. Counts of pairs are kept up to date by looking only at the
 * words that hold the merged pair; a heap with late correction finds the best one. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/memory.h"
#include "tokenizer/tokenizer.h"

#define VOCABULARY_LIMIT (1 << 24)
#define PART_LENGTH 1024 /* longer words are counted in parts */

typedef struct unique_word {
    uint64_t hash;
    uint64_t count;
    size_t begin;    /* in the text of words, later in the symbols */
    uint32_t length; /* bytes, later symbols left */
} unique_word;

/* Words with the pair, by index; a word may stand there more than once. */
typedef struct pair_entry {
    uint64_t pair; /* left << 32 | right; UINT64_MAX: free */
    int64_t count;
    uint32_t *words;
    uint32_t word_count, word_capacity;
    int32_t result; /* of its merge; 0: not merged */
    uint32_t round; /* of learn, that last noted it in `made` */
} pair_entry;

typedef struct candidate {
    int64_t count;
    uint64_t pair;
} candidate;

typedef struct token_text {
    size_t begin; /* in token_bytes */
    size_t length;
} token_text;

typedef struct training {
    mixt_buffer text; /* of unique words */
    unique_word *words;
    size_t word_count, word_capacity;
    uint32_t *table; /* word index + 1 by hash; 0: free */
    size_t table_mask;
    int32_t *symbols;
    pair_entry *pairs;
    size_t pair_mask, pair_count;
    candidate *heap;
    size_t heap_count, heap_capacity;
    mixt_merge *merges;
    size_t merge_count, merge_capacity;
    mixt_buffer token_bytes;
    token_text *tokens;   /* [token_capacity] */
    uint32_t *token_ids;  /* id by hash of its bytes; 0: free */
    size_t token_id_mask; /* id 0 is a byte and never looked up */
    int32_t next_id;
    mixt_buffer made; /* pairs that the round made, 8 bytes each */
    uint32_t round;
    bool failed; /* out of memory */
} training;

/* --- Counting words ----------------------------------------------------------------------------
 */

static uint64_t hash_word(const char *word, size_t length)
{
    uint64_t hash = 0xcbf29ce484222325u ^ length, eight;
    for (; length >= 8; length -= 8, word += 8) {
        memcpy(&eight, word, 8);
        hash = (hash ^ eight) * 0x9fb21c651e98df25u;
        hash ^= hash >> 29;
    }
    eight = 0;
    memcpy(&eight, word, length);
    hash = (hash ^ eight) * 0x9fb21c651e98df25u;
    return hash ^ hash >> 32;
}

static bool grow_table(training *t)
{
    size_t slots = t->table == NULL ? 1 << 16 : (t->table_mask + 1) * 2;
    uint32_t *table = calloc(slots, sizeof *table);
    if (table == NULL) {
        return false;
    }
    for (size_t i = 0; i < t->word_count; i++) {
        size_t slot = t->words[i].hash & (slots - 1);
        while (table[slot] != 0) {
            slot = (slot + 1) & (slots - 1);
        }
        table[slot] = (uint32_t)i + 1;
    }
    free(t->table);
    t->table = table;
    t->table_mask = slots - 1;
    return true;
}

static bool add_word(training *t, const char *word, size_t length, uint64_t hash, size_t slot)
{
    if (t->word_count >= UINT32_MAX ||
        !mixt_grow(&t->words, &t->word_capacity, t->word_count + 1, sizeof *t->words)) {
        return false;
    }
    t->words[t->word_count] = (unique_word){hash, 1, t->text.length, (uint32_t)length};
    mixt_buffer_append(&t->text, word, length);
    t->table[slot] = (uint32_t)++t->word_count;
    return !t->text.failed && (t->word_count * 2 <= t->table_mask || grow_table(t));
}

static bool count_word(void *context, const char *word, size_t length)
{
    training *t = context;
    while (length != 0 && !t->failed) {
        size_t part = length < PART_LENGTH ? length : PART_LENGTH;
        uint64_t hash = hash_word(word, part);
        size_t slot = hash & t->table_mask;
        for (; t->table[slot] != 0; slot = (slot + 1) & t->table_mask) {
            unique_word *known = &t->words[t->table[slot] - 1];
            if (known->hash == hash && known->length == part &&
                memcmp(t->text.data + known->begin, word, part) == 0) {
                known->count++;
                break;
            }
        }
        if (t->table[slot] == 0) {
            t->failed = !add_word(t, word, part, hash, slot);
        }
        word += part;
        length -= part;
    }
    return !t->failed;
}

/* --- Counting pairs ----------------------------------------------------------------------------
 */

static pair_entry *pair_slot(const training *t, uint64_t pair)
{
    uint64_t hash = pair * 0x9e3779b97f4a7c15u;
    size_t slot = (hash ^ hash >> 32) & t->pair_mask;
    while (t->pairs[slot].pair != pair && t->pairs[slot].pair != UINT64_MAX) {
        slot = (slot + 1) & t->pair_mask;
    }
    return &t->pairs[slot];
}

static bool grow_pairs(training *t)
{
    training grown = *t;
    grown.pair_mask = t->pairs == NULL ? (1 << 16) - 1 : t->pair_mask * 2 + 1;
    grown.pairs = malloc((grown.pair_mask + 1) * sizeof *grown.pairs);
    if (grown.pairs == NULL) {
        return false;
    }
    for (size_t i = 0; i <= grown.pair_mask; i++) {
        grown.pairs[i] = (pair_entry){.pair = UINT64_MAX};
    }
    for (size_t i = 0; t->pairs != NULL && i <= t->pair_mask; i++) {
        if (t->pairs[i].pair != UINT64_MAX) {
            *pair_slot(&grown, t->pairs[i].pair) = t->pairs[i];
        }
    }
    free(t->pairs);
    *t = grown;
    assert(t->pair_count <= t->pair_mask);
    return true;
}

static bool is_better(const candidate *a, const candidate *b)
{
    return a->count != b->count ? a->count > b->count : a->pair < b->pair;
}

static void push_candidate(training *t, candidate value)
{
    if (!mixt_grow(&t->heap, &t->heap_capacity, t->heap_count + 1, sizeof value)) {
        t->failed = true;
        return;
    }
    size_t at = t->heap_count++;
    for (; at > 0 && is_better(&value, &t->heap[(at - 1) / 2]); at = (at - 1) / 2) {
        t->heap[at] = t->heap[(at - 1) / 2];
    }
    t->heap[at] = value;
}

static candidate pop_candidate(training *t)
{
    assert(t->heap_count != 0);
    candidate top = t->heap[0], value = t->heap[--t->heap_count];
    size_t at = 0;
    for (size_t child; (child = 2 * at + 1) < t->heap_count; at = child) {
        if (child + 1 < t->heap_count && is_better(&t->heap[child + 1], &t->heap[child])) {
            child++;
        }
        if (!is_better(&t->heap[child], &value)) {
            break;
        }
        t->heap[at] = t->heap[child];
    }
    t->heap[at] = value;
    assert(t->heap_count == 0 || !is_better(&t->heap[0], &top));
    return top;
}

/* Adds `change` to the count of a pair in word `word`. Pairs that gain are pushed when the merge
 * is done; see touch. */
static pair_entry *change_pair(training *t, int32_t left, int32_t right, int64_t change,
                               uint32_t word)
{
    uint64_t pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    pair_entry *entry = pair_slot(t, pair);
    if (entry->pair == UINT64_MAX) {
        if (t->pair_count * 2 > t->pair_mask) {
            if (!grow_pairs(t)) {
                t->failed = true;
                return NULL;
            }
            entry = pair_slot(t, pair);
        }
        entry->pair = pair;
        t->pair_count++;
    }
    entry->count += change;
    if (change <= 0 || (entry->word_count != 0 && entry->words[entry->word_count - 1] == word)) {
        return entry;
    }
    size_t capacity = entry->word_capacity;
    if (!mixt_grow(&entry->words, &capacity, (size_t)entry->word_count + 1, sizeof word)) {
        t->failed = true;
        return entry;
    }
    entry->word_capacity = (uint32_t)capacity;
    entry->words[entry->word_count++] = word;
    return entry;
}

static void count_pairs(training *t, const int32_t byte_ids[256])
{
    t->symbols = malloc((t->text.length + 1) * sizeof *t->symbols);
    t->failed = t->failed || t->symbols == NULL || !grow_pairs(t);
    for (size_t i = 0; !t->failed && i < t->text.length; i++) {
        t->symbols[i] = byte_ids[(unsigned char)t->text.data[i]];
    }
    for (size_t w = 0; !t->failed && w < t->word_count; w++) {
        const int32_t *symbols = t->symbols + t->words[w].begin;
        for (uint32_t i = 0; i + 1 < t->words[w].length && !t->failed; i++) {
            change_pair(t, symbols[i], symbols[i + 1], (int64_t)t->words[w].count, (uint32_t)w);
        }
    }
    for (size_t i = 0; !t->failed && i <= t->pair_mask; i++) {
        if (t->pairs[i].pair != UINT64_MAX) {
            push_candidate(t, (candidate){t->pairs[i].count, t->pairs[i].pair});
        }
    }
}

/* --- Merging -----------------------------------------------------------------------------------
 */

/* Adds `count` to a pair that a merge makes, and notes it once a round. */
static void gain_pair(training *t, int32_t left, int32_t right, int64_t count, uint32_t w)
{
    pair_entry *entry = change_pair(t, left, right, count, w);
    if (entry != NULL && entry->round != t->round) {
        entry->round = t->round;
        mixt_buffer_append(&t->made, &entry->pair, sizeof entry->pair);
    }
}

/* Merges a pair in one word. */
static void merge_word(training *t, uint32_t w, const mixt_merge *merge)
{
    unique_word *word = &t->words[w];
    int32_t *symbols = t->symbols + word->begin;
    int64_t count = (int64_t)word->count;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < word->length && !t->failed; i++) {
        if (i + 1 == word->length || symbols[i] != merge->left || symbols[i + 1] != merge->right) {
            symbols[kept++] = symbols[i];
            continue;
        }
        change_pair(t, merge->left, merge->right, -count, w);
        if (kept != 0) {
            change_pair(t, symbols[kept - 1], merge->left, -count, w);
            gain_pair(t, symbols[kept - 1], merge->result, count, w);
        }
        if (i + 2 < word->length) {
            change_pair(t, merge->right, symbols[i + 2], -count, w);
            gain_pair(t, merge->result, symbols[i + 2], count, w);
        }
        symbols[kept++] = merge->result;
        i++;
    }
    word->length = kept;
}

/* Pushes the pairs that a round made. */
static void push_made(training *t)
{
    t->failed = t->failed || t->made.failed;
    for (size_t at = 0; at < t->made.length && !t->failed; at += sizeof(uint64_t)) {
        uint64_t pair;
        memcpy(&pair, t->made.data + at, sizeof pair);
        push_candidate(t, (candidate){pair_slot(t, pair)->count, pair});
    }
    t->made.length = 0;
}

static bool append_merge(training *t, const mixt_merge *merge)
{
    if (!mixt_grow(&t->merges, &t->merge_capacity, t->merge_count + 1, sizeof *merge)) {
        return false;
    }
    t->merges[t->merge_count++] = *merge;
    return true;
}

/* Sets up the texts of the first 257 ids. */
static bool start_tokens(training *t, int vocab_size)
{
    size_t slots = 1024;
    while (slots < (size_t)vocab_size * 2) {
        slots *= 2;
    }
    t->tokens = calloc((size_t)vocab_size, sizeof *t->tokens);
    t->token_ids = calloc(slots, sizeof *t->token_ids);
    t->token_id_mask = slots - 1;
    t->next_id = MIXT_SEPARATOR_ID + 1;
    for (int id = 0; id < 256 && t->tokens != NULL; id++) {
        char byte = (char)mixt_byte_of_id(id);
        t->tokens[id] = (token_text){t->token_bytes.length, 1};
        mixt_buffer_append(&t->token_bytes, &byte, 1);
    }
    return t->tokens != NULL && t->token_ids != NULL && !t->token_bytes.failed;
}

/* Id of the token that a merge makes: two merges may spell the same bytes. */
static int32_t id_of_merge(training *t, int32_t left, int32_t right)
{
    token_text a = t->tokens[left], b = t->tokens[right];
    token_text joined = {t->token_bytes.length, a.length + b.length};
    char *copy = malloc(joined.length);
    if (copy == NULL) {
        t->failed = true;
        return 0;
    }
    memcpy(copy, t->token_bytes.data + a.begin, a.length);
    memcpy(copy + a.length, t->token_bytes.data + b.begin, b.length);
    size_t slot = hash_word(copy, joined.length) & t->token_id_mask;
    for (; t->token_ids[slot] != 0; slot = (slot + 1) & t->token_id_mask) {
        token_text known = t->tokens[t->token_ids[slot]];
        if (known.length == joined.length &&
            memcmp(t->token_bytes.data + known.begin, copy, known.length) == 0) {
            break;
        }
    }
    if (t->token_ids[slot] == 0) {
        mixt_buffer_append(&t->token_bytes, copy, joined.length);
        t->failed = t->failed || t->token_bytes.failed;
        t->tokens[t->next_id] = joined;
        t->token_ids[slot] = (uint32_t)t->next_id++;
    }
    free(copy);
    return (int32_t)t->token_ids[slot];
}

/* The merge of a pair, noted when it is new. A merged pair comes back where another merge spells
 * one of its halves. */
static mixt_merge merge_of(training *t, pair_entry *entry)
{
    mixt_merge merge = {(int32_t)(entry->pair >> 32), (int32_t)(uint32_t)entry->pair,
                        entry->result};
    if (entry->result == 0) {
        merge.result = entry->result = id_of_merge(t, merge.left, merge.right);
        t->failed = t->failed || !append_merge(t, &merge);
    }
    return merge;
}

/* Merges until the vocabulary is full or no pair stands twice. */
static void learn(training *t, int vocab_size)
{
    while (t->next_id < vocab_size && t->heap_count != 0 && !t->failed) {
        candidate best = pop_candidate(t);
        pair_entry *entry = pair_slot(t, best.pair);
        if (entry->count != best.count) { /* it has changed since */
            best.count = entry->count;
            push_candidate(t, best);
            continue;
        }
        if (best.count < 2) {
            break;
        }
        mixt_merge merge = merge_of(t, entry);
        t->round++;
        uint32_t *words = entry->words, count = entry->word_count;
        entry->words = NULL; /* the table may move while words change */
        entry->word_count = entry->word_capacity = 0;
        for (uint32_t i = 0; i < count && !t->failed; i++) {
            merge_word(t, words[i], &merge);
        }
        free(words);
        push_made(t);
    }
}

/* --- The whole ---------------------------------------------------------------------------------
 */

static mixt_status count_words(training *t, mixt_text_source source, void *user, mixt_error *error)
{
    mixt_splitter *splitter = mixt_splitter_create();
    if (splitter == NULL || !grow_table(t)) {
        mixt_splitter_free(splitter);
        return mixt_fail(error, MIXT_ERROR_MEMORY, "tokenizer: no memory for training");
    }
    mixt_status status =
        mixt_splitter_add(splitter, MIXT_GPT2_PATTERN, false, MIXT_SPLIT_KEEP_ALL, error);
    const char *text;
    size_t length;
    while (status == MIXT_OK && !t->failed && (text = source(user, &length)) != NULL) {
        status = mixt_splitter_run(splitter, text, length, count_word, t, error);
    }
    mixt_splitter_free(splitter);
    return status;
}

static mixt_status make_tokenizer(const training *t, mixt_tokenizer **tokenizer, mixt_error *error)
{
    mixt_token *tokens = calloc((size_t)t->next_id, sizeof *tokens);
    if (tokens == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "tokenizer: no memory for training");
    }
    for (int32_t id = 0; id < t->next_id; id++) {
        tokens[id].bytes = t->token_bytes.data + t->tokens[id].begin;
        tokens[id].length = (uint32_t)t->tokens[id].length;
    }
    mixt_status status =
        mixt_tokenizer_make(tokens, t->next_id, t->merges, t->merge_count, tokenizer, error);
    free(tokens);
    return status;
}

static void free_training(training *t)
{
    for (size_t i = 0; t->pairs != NULL && i <= t->pair_mask; i++) {
        free(t->pairs[i].words);
    }
    free(t->pairs);
    free(t->heap);
    free(t->symbols);
    free(t->table);
    free(t->words);
    free(t->merges);
    free(t->tokens);
    free(t->token_ids);
    mixt_buffer_free(&t->token_bytes);
    mixt_buffer_free(&t->made);
    mixt_buffer_free(&t->text);
}

mixt_status mixt_tokenizer_train(mixt_text_source source, void *user, int vocab_size,
                                 mixt_tokenizer **tokenizer, mixt_error *error)
{
    *tokenizer = NULL;
    if (vocab_size < MIXT_SEPARATOR_ID + 1 || vocab_size > VOCABULARY_LIMIT) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "vocabulary of %d ids is not in %d to %d",
                         vocab_size, MIXT_SEPARATOR_ID + 1, VOCABULARY_LIMIT);
    }
    training t = {0};
    int32_t byte_ids[256];
    for (int byte = 0; byte < 256; byte++) {
        byte_ids[byte] = mixt_id_of_byte((unsigned char)byte);
    }
    mixt_status status = count_words(&t, source, user, error);
    if (status == MIXT_OK) {
        t.failed = t.failed || !start_tokens(&t, vocab_size);
        count_pairs(&t, byte_ids);
        learn(&t, vocab_size);
        if (t.failed) {
            status = mixt_fail(error, MIXT_ERROR_MEMORY, "tokenizer: no memory for training");
        }
    }
    if (status == MIXT_OK) {
        status = make_tokenizer(&t, tokenizer, error);
    }
    free_training(&t);
    return status;
}
