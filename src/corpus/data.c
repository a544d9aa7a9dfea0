#include "corpus/data.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/memory.h"
#include "core/sha256.h"
#include "corpus/data_encoded.h"

typedef struct domain_size {
    uint64_t tokens, bytes;
} domain_size;

struct mixt_data {
    mixt_data_split splits[2]; /* training, held out */
    void *tokens[2];
    mixt_data_document *documents[2];
    char **domains;
    domain_size *sizes; /* [2, domain_count] */
    int domain_count;
    int separator;
    uint32_t largest; /* id in use */
    char hash[MIXT_SHA256_HEX];
    char corpus_hash[MIXT_SHA256_HEX];
};

static mixt_status no_memory(mixt_error *error)
{
    return mixt_fail(error, MIXT_ERROR_MEMORY, "data: no memory for tokens");
}

static uint64_t text_key(const void *text, size_t length)
{
    mixt_sha256 hash;
    unsigned char digest[MIXT_SHA256_BYTES];
    uint64_t key = 0;
    mixt_sha256_init(&hash);
    mixt_sha256_update(&hash, text, length);
    mixt_sha256_final(&hash, digest);
    for (int i = 0; i < 8; i++) {
        key = key << 8 | digest[i];
    }
    return key;
}

static void append_token(mixt_encoded *b, uint32_t id)
{
    uint16_t narrow = (uint16_t)id;
    b->largest = id > b->largest ? id : b->largest;
    mixt_buffer_append(&b->tokens, b->token_size == 2 ? (const void *)&narrow : &id, b->token_size);
}

/* Where a document's tokens start: at its separator, from which the first one is predicted. */
static uint64_t begin_document(mixt_encoded *b)
{
    assert(b->tokens.failed || b->tokens.length % b->token_size == 0);
    uint64_t start = b->tokens.length / b->token_size;
    if (b->separator >= 0) {
        append_token(b, (uint32_t)b->separator);
    }
    return start;
}

/* A document whose tokens, from `start`, are in the buffer. */
static mixt_status add_document(mixt_encoded *b, uint64_t start, uint64_t bytes, int domain,
                                uint64_t key)
{
    if (b->tokens.failed ||
        !mixt_grow(&b->documents, &b->capacity, b->count + 1, sizeof *b->documents)) {
        return no_memory(b->error);
    }
    uint64_t length = b->tokens.length / b->token_size - start;
    b->documents[b->count++] = (mixt_encoded_document){{start, length, bytes, domain}, key, false};
    return MIXT_OK;
}

static mixt_status add_text(mixt_encoded *b, const mixt_document *document)
{
    int32_t *ids;
    size_t count;
    mixt_error local = MIXT_ERROR_INIT;
    mixt_status status = mixt_tokenizer_encode(b->tokenizer, document->text, document->length,
                                               false, &ids, &count, &local);
    if (status != MIXT_OK) {
        return mixt_fail(b->error, status, "%s: %s", document->source, local.message);
    }
    uint64_t start = begin_document(b);
    for (size_t i = 0; i < count; i++) {
        append_token(b, (uint32_t)ids[i]);
    }
    free(ids);
    return add_document(b, start, document->length, document->domain,
                        text_key(document->text, document->length));
}

/* A token shard holds many documents, each begun or ended by the separator. */
static mixt_status add_tokens(mixt_encoded *b, const mixt_document *document)
{
    const uint32_t *tokens = document->tokens;
    size_t from = 0;
    for (size_t i = 0; i <= document->token_count; i++) {
        bool at_end = i == document->token_count;
        if (!at_end && tokens[i] >= (uint32_t)b->vocab_size) {
            return mixt_fail(b->error, MIXT_ERROR_FORMAT,
                             "%s: token %zu is %u, the vocabulary has %d ids", document->source, i,
                             tokens[i], b->vocab_size);
        }
        if (!at_end && (b->separator < 0 || tokens[i] != (uint32_t)b->separator)) {
            continue;
        }
        if (i > from) {
            uint64_t start = begin_document(b);
            for (size_t j = from; j < i; j++) {
                append_token(b, tokens[j]);
            }
            MIXT_TRY(add_document(b, start, 0, document->domain,
                                  text_key(tokens + from, (i - from) * sizeof *tokens)));
        }
        from = i + 1;
    }
    return MIXT_OK;
}

static mixt_status encode_corpus(mixt_encoded *b, mixt_corpus *corpus)
{
    mixt_status status = mixt_corpus_rewind(corpus, b->error);
    while (status == MIXT_OK) {
        const mixt_document *document;
        status = mixt_corpus_next(corpus, &document, b->error);
        if (status != MIXT_OK || document == NULL) {
            break;
        }
        status = document->tokens != NULL ? add_tokens(b, document) : add_text(b, document);
    }
    if (status == MIXT_OK && b->count == 0) {
        const char *first;
        uint64_t skipped = mixt_corpus_skipped(corpus, &first);
        status = skipped == 0 ? mixt_fail(b->error, MIXT_ERROR_FORMAT, "corpus: no documents")
                              : mixt_fail(b->error, MIXT_ERROR_FORMAT,
                                          "corpus: no documents; %llu passed over, the first: %s",
                                          (unsigned long long)skipped, first);
    }
    return status;
}

/* Marks held-out documents: those whose key falls into the share, but at least one and not all of
 * each domain with two or more. Equal texts have equal keys and so stay together. */
static mixt_status mark_heldout(mixt_encoded *b, double share, int domains)
{
    typedef struct tally {
        size_t count, held;
        uint64_t lowest, highest;
    } tally;
    if (share == 0) {
        return MIXT_OK;
    }
    tally *tallies = calloc((size_t)domains, sizeof *tallies);
    if (tallies == NULL) {
        return no_memory(b->error);
    }
    for (size_t i = 0; i < b->count; i++) {
        mixt_encoded_document *d = &b->documents[i];
        tally *t = &tallies[d->document.domain];
        d->heldout = share == 1 || (double)(d->key >> 11) * 0x1p-53 < share;
        t->lowest = t->count == 0 || d->key < t->lowest ? d->key : t->lowest;
        t->highest = t->count == 0 || d->key > t->highest ? d->key : t->highest;
        t->count++;
        t->held += d->heldout;
    }
    for (size_t i = 0; i < b->count && share != 1; i++) {
        mixt_encoded_document *d = &b->documents[i];
        const tally *t = &tallies[d->document.domain];
        if (t->lowest == t->highest) {
            d->heldout = false; /* a lone text is for training */
        } else if (t->held == 0) {
            d->heldout = d->key == t->lowest;
        } else if (t->held == t->count) {
            d->heldout = d->key != t->highest;
        }
    }
    free(tallies);
    return MIXT_OK;
}

static mixt_status copy_domains(mixt_data *data, const mixt_encoded *b)
{
    size_t count = (size_t)b->domain_count;
    data->domains = calloc(count, sizeof *data->domains);
    data->sizes = calloc(count * 2, sizeof *data->sizes);
    if (data->domains == NULL || data->sizes == NULL) {
        return no_memory(b->error);
    }
    data->domain_count = (int)count;
    for (size_t i = 0; i < count; i++) {
        data->domains[i] = strdup(b->domains[i]);
        if (data->domains[i] == NULL) {
            return no_memory(b->error);
        }
    }
    return MIXT_OK;
}

/* Copies the documents of one split. */
static mixt_status fill_split(mixt_data *data, const mixt_encoded *b, bool heldout)
{
    mixt_data_split *split = &data->splits[heldout];
    size_t documents = 0, tokens = 0;
    for (size_t i = 0; i < b->count; i++) {
        if (b->documents[i].heldout == heldout) {
            documents++;
            tokens += b->documents[i].document.length;
        }
    }
    char *to = malloc(tokens * b->token_size + 1);
    mixt_data_document *rows = malloc((documents + 1) * sizeof *rows);
    data->tokens[heldout] = to;
    data->documents[heldout] = rows;
    if (to == NULL || rows == NULL) {
        return no_memory(b->error);
    }
    split->narrow = b->token_size == 2 ? (const void *)to : NULL;
    split->wide = b->token_size == 4 ? (const void *)to : NULL;
    split->documents = rows;
    for (size_t i = 0; i < b->count; i++) {
        const mixt_data_document *d = &b->documents[i].document;
        if (b->documents[i].heldout != heldout) {
            continue;
        }
        memcpy(to + split->token_count * b->token_size, b->tokens.data + d->start * b->token_size,
               d->length * b->token_size);
        rows[split->document_count] = *d;
        rows[split->document_count++].start = split->token_count;
        split->token_count += d->length;
        assert(d->domain >= 0 && d->domain < data->domain_count);
        assert(split->token_count <= tokens && split->document_count <= documents);
        domain_size *size = &data->sizes[heldout * data->domain_count + d->domain];
        size->tokens += d->length;
        size->bytes += d->bytes;
    }
    return MIXT_OK;
}

static void hash_data(mixt_data *data, const mixt_tokenizer *tokenizer)
{
    mixt_sha256 hash;
    mixt_sha256_init(&hash);
    const char *vocabulary = mixt_tokenizer_hash(tokenizer);
    mixt_sha256_update(&hash, vocabulary, strlen(vocabulary));
    for (int i = 0; i < data->domain_count; i++) {
        mixt_sha256_update(&hash, data->domains[i], strlen(data->domains[i]) + 1);
    }
    for (int s = 0; s < 2; s++) {
        const mixt_data_split *split = &data->splits[s];
        mixt_sha256_update_u64(&hash, split->token_count);
        mixt_sha256_update_u64(&hash, split->document_count);
        for (size_t i = 0; i < split->document_count; i++) {
            mixt_sha256_update_u64(&hash, split->documents[i].length);
            mixt_sha256_update_u64(&hash, (uint64_t)split->documents[i].domain);
        }
        size_t size = split->narrow != NULL ? 2 : 4;
        mixt_sha256_update(&hash, data->tokens[s], split->token_count * size);
    }
    mixt_sha256_final_hex(&hash, data->hash);
}

void mixt_data_free(mixt_data *data)
{
    if (data == NULL) {
        return;
    }
    for (int s = 0; s < 2; s++) {
        free(data->tokens[s]);
        free(data->documents[s]);
    }
    for (int i = 0; i < data->domain_count; i++) {
        free(data->domains[i]);
    }
    free(data->domains);
    free(data->sizes);
    free(data);
}

static mixt_status copy_names(mixt_encoded *b, const mixt_corpus *corpus)
{
    int count = mixt_corpus_domain_count(corpus);
    b->domains = calloc((size_t)count, sizeof *b->domains);
    if (b->domains == NULL) {
        return no_memory(b->error);
    }
    for (; b->domain_count < count; b->domain_count++) {
        b->domains[b->domain_count] = strdup(mixt_corpus_domain_name(corpus, b->domain_count));
        if (b->domains[b->domain_count] == NULL) {
            return no_memory(b->error);
        }
    }
    strcpy(b->corpus_hash, mixt_corpus_hash(corpus));
    return MIXT_OK;
}

mixt_status mixt_encoded_read(mixt_corpus *corpus, const mixt_tokenizer *tokenizer,
                              mixt_encoded *encoded, mixt_error *error)
{
    int vocab_size = mixt_tokenizer_vocab_size(tokenizer);
    *encoded = (mixt_encoded){
        .tokenizer = tokenizer,
        .separator = mixt_tokenizer_separator(tokenizer),
        .vocab_size = vocab_size,
        .token_size = vocab_size <= 65536 ? 2 : 4,
        .error = error,
    };
    MIXT_TRY(encode_corpus(encoded, corpus));
    return copy_names(encoded, corpus);
}

void mixt_encoded_free(mixt_encoded *encoded)
{
    mixt_buffer_free(&encoded->tokens);
    free(encoded->documents);
    for (int i = 0; i < encoded->domain_count; i++) {
        free(encoded->domains[i]);
    }
    free(encoded->domains);
    *encoded = (mixt_encoded){0};
}

static mixt_status split(mixt_data *data, mixt_encoded *b, double heldout)
{
    MIXT_TRY(copy_domains(data, b));
    MIXT_TRY(mark_heldout(b, heldout, data->domain_count));
    for (int s = 0; s < 2; s++) {
        MIXT_TRY(fill_split(data, b, s != 0));
    }
    data->separator = b->separator;
    data->largest = b->largest;
    strcpy(data->corpus_hash, b->corpus_hash);
    hash_data(data, b->tokenizer);
    return MIXT_OK;
}

mixt_status mixt_heldout_check(double heldout, mixt_error *error)
{
    return heldout >= 0 && heldout <= 1
               ? MIXT_OK
               : mixt_fail(error, MIXT_ERROR_ARGUMENT, "held-out share %g is not from 0 to 1",
                           heldout);
}

mixt_status mixt_encoded_split(mixt_encoded *encoded, double heldout, mixt_data **data,
                               mixt_error *error)
{
    mixt_data *made = calloc(1, sizeof *made);
    encoded->error = error;
    mixt_status status = made == NULL ? no_memory(error) : split(made, encoded, heldout);
    if (status != MIXT_OK) {
        mixt_data_free(made);
        return status;
    }
    *data = made;
    return MIXT_OK;
}

mixt_status mixt_data_create(mixt_corpus *corpus, const mixt_tokenizer *tokenizer, double heldout,
                             mixt_data **data, mixt_error *error)
{
    mixt_encoded encoded = {0};
    *data = NULL;
    MIXT_TRY(mixt_heldout_check(heldout, error));
    mixt_status status = mixt_encoded_read(corpus, tokenizer, &encoded, error);
    if (status == MIXT_OK) {
        status = mixt_encoded_split(&encoded, heldout, data, error);
    }
    mixt_encoded_free(&encoded);
    return status;
}

const mixt_data_split *mixt_data_split_of(const mixt_data *data, bool heldout)
{
    return &data->splits[heldout];
}

void mixt_data_copy(const mixt_data_split *split, size_t start, size_t count, int32_t *ids)
{
    if (split->wide != NULL) {
        memcpy(ids, split->wide + start, count * sizeof *ids);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        ids[i] = split->narrow[start + i];
    }
}

size_t mixt_data_document_at(const mixt_data_split *split, size_t index)
{
    size_t low = 0, high = split->document_count;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (split->documents[middle].start <= index) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

int mixt_data_separator(const mixt_data *data)
{
    return data->separator;
}

mixt_status mixt_data_check_ids(const mixt_data *data, int rows, mixt_error *error)
{
    return data->largest < (uint32_t)rows
               ? MIXT_OK
               : mixt_fail(error, MIXT_ERROR_ARGUMENT,
                           "the data uses id %u of its tokenizer, the model's vocab_size is %d",
                           (unsigned)data->largest, rows);
}

const char *mixt_data_corpus_hash(const mixt_data *data)
{
    return data->corpus_hash;
}

size_t mixt_data_tokens(const mixt_data *data, bool heldout)
{
    return data->splits[heldout].token_count;
}

int mixt_data_domain_count(const mixt_data *data)
{
    return data->domain_count;
}

const char *mixt_data_domain_name(const mixt_data *data, int domain)
{
    return domain >= 0 && domain < data->domain_count ? data->domains[domain] : NULL;
}

void mixt_data_domain_size(const mixt_data *data, bool heldout, int domain, uint64_t *tokens,
                           uint64_t *bytes)
{
    domain_size size = {0, 0};
    if (domain >= 0 && domain < data->domain_count) {
        size = data->sizes[heldout * data->domain_count + domain];
    }
    *tokens = size.tokens;
    *bytes = size.bytes;
}

const char *mixt_data_hash(const mixt_data *data)
{
    return data->hash;
}
