/* Token data as a file: the encoded corpus in its order, so that any held-out share of it gives
 * what the texts would give. Little-endian, one after the other:
 *
 *   8 bytes    "mixtdata"
 *   u32        version, 1
 *   u32        bytes of a token, 2 or 4
 *   u64 x 4    tokens, documents, domains, bytes of the domains' names
 *   64 bytes   hash of the tokenizer, in hexadecimal digits
 *   64 bytes   hash of the corpus
 *   names of the domains, each with a NUL behind it
 *   for each document u64 tokens, u64 bytes of text, u64 key, u64 domain
 *   the tokens
 *   32 bytes   SHA-256 of all that is before
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/error.h"
#include "core/files.h"
#include "corpus/data_encoded.h"

#define VERSION 1
#define FILE_LIMIT ((size_t)1 << 40)
#define DOMAINS_MOST 65535

static const char magic[8] = {'m', 'i', 'x', 't', 'd', 'a', 't', 'a'};

typedef struct header {
    char magic[8];
    uint32_t version, token_size;
    uint64_t tokens, documents, domains, name_bytes;
    char tokenizer[64], corpus[64];
} header;

typedef struct row {
    uint64_t tokens, bytes, key, domain;
} row;

_Static_assert(sizeof(header) == 176 && sizeof(row) == 32, "no padding");

/* ---- writing */

typedef struct output {
    int descriptor;
    const char *path;
    mixt_sha256 hash;
    mixt_error *error;
} output;

static mixt_status put(output *out, const void *data, size_t length)
{
    mixt_sha256_update(&out->hash, data, length);
    return mixt_write_all(out->descriptor, data, length, out->path, out->error);
}

static mixt_status put_all(output *out, const mixt_encoded *encoded)
{
    header head = {.version = VERSION,
                   .token_size = (uint32_t)encoded->token_size,
                   .tokens = encoded->tokens.length / encoded->token_size,
                   .documents = encoded->count,
                   .domains = (uint64_t)encoded->domain_count};
    unsigned char digest[MIXT_SHA256_BYTES];
    memcpy(head.magic, magic, sizeof magic);
    memcpy(head.tokenizer, mixt_tokenizer_hash(encoded->tokenizer), sizeof head.tokenizer);
    memcpy(head.corpus, encoded->corpus_hash, sizeof head.corpus);
    for (int i = 0; i < encoded->domain_count; i++) {
        head.name_bytes += strlen(encoded->domains[i]) + 1;
    }
    mixt_sha256_init(&out->hash);
    MIXT_TRY(put(out, &head, sizeof head));
    for (int i = 0; i < encoded->domain_count; i++) {
        MIXT_TRY(put(out, encoded->domains[i], strlen(encoded->domains[i]) + 1));
    }
    row rows[256];
    for (size_t i = 0; i < encoded->count;) {
        size_t some = 0;
        for (; some < 256 && i < encoded->count; some++, i++) {
            const mixt_encoded_document *d = &encoded->documents[i];
            rows[some] =
                (row){d->document.length, d->document.bytes, d->key, (uint64_t)d->document.domain};
        }
        MIXT_TRY(put(out, rows, some * sizeof *rows));
    }
    MIXT_TRY(put(out, encoded->tokens.data, encoded->tokens.length));
    mixt_sha256_final(&out->hash, digest);
    return mixt_write_all(out->descriptor, digest, sizeof digest, out->path, out->error);
}

/* Beside the path, synced, and renamed. */
static mixt_status write_file(const mixt_encoded *encoded, const char *path, mixt_error *error)
{
    size_t length = strlen(path);
    char *part = malloc(length + 6);
    if (part == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", path);
    }
    memcpy(part, path, length);
    memcpy(part + length, ".part", 6);
    output out = {.path = part, .error = error};
    mixt_status status = MIXT_OK;
    out.descriptor = mixt_file_temporary(part, error);
    if (out.descriptor < 0) {
        status = error != NULL ? error->status : MIXT_ERROR_IO;
    } else {
        status = put_all(&out, encoded);
        status = mixt_file_settle(&out.descriptor, part, status, error);
        if (status == MIXT_OK && rename(part, path) != 0) {
            status = mixt_fail_errno(error, errno, "%s: cannot rename to", path);
        }
        if (status == MIXT_OK) {
            status = mixt_parent_sync(path, error);
        } else {
            unlink(part);
        }
    }
    free(part);
    return status;
}

mixt_status mixt_data_write(mixt_corpus *corpus, const mixt_tokenizer *tokenizer, const char *path,
                            mixt_error *error)
{
    mixt_encoded encoded = {0};
    mixt_error local = MIXT_ERROR_INIT; /* its status says why there is no file */
    mixt_status status = mixt_encoded_read(corpus, tokenizer, &encoded, &local);
    if (status == MIXT_OK) {
        status = write_file(&encoded, path, &local);
    }
    mixt_encoded_free(&encoded);
    return status == MIXT_OK ? MIXT_OK : mixt_fail(error, status, "%s", local.message);
}

/* ---- reading */

/* A file that is being read; it is checked piece by piece. */
typedef struct input {
    const char *path;
    const char *at;
    size_t left;
    header head;
    mixt_error *error;
} input;

static mixt_status refuse(const input *in, const char *what)
{
    return mixt_fail(in->error, MIXT_ERROR_FORMAT, "%s: %s", in->path, what);
}

/* The numbers of the header against the size of the file: nothing is allocated by them before. */
static mixt_status check_sizes(input *in, size_t length)
{
    const header *head = &in->head;
    uint64_t room = length - sizeof *head - MIXT_SHA256_BYTES;
    if (head->version != VERSION) {
        return mixt_fail(in->error, MIXT_ERROR_UNSUPPORTED, "%s: token data of version %u, not %d",
                         in->path, head->version, VERSION);
    }
    if (head->token_size != 2 && head->token_size != 4) {
        return refuse(in, "tokens are of neither 2 nor 4 bytes");
    }
    if (head->domains == 0 || head->domains > DOMAINS_MOST || head->documents == 0 ||
        head->name_bytes > room || head->documents > (room - head->name_bytes) / sizeof(row) ||
        head->tokens > room / head->token_size ||
        head->name_bytes + head->documents * sizeof(row) + head->tokens * head->token_size !=
            room) {
        return refuse(in, "the header's numbers do not fit the size of the file");
    }
    return MIXT_OK;
}

static mixt_status read_names(input *in, mixt_encoded *encoded)
{
    const char *end = in->at + in->head.name_bytes;
    encoded->domains = calloc((size_t)in->head.domains, sizeof *encoded->domains);
    if (encoded->domains == NULL) {
        return mixt_fail(in->error, MIXT_ERROR_MEMORY, "%s: no memory", in->path);
    }
    while ((uint64_t)encoded->domain_count < in->head.domains) {
        const char *behind = memchr(in->at, '\0', (size_t)(end - in->at));
        if (behind == NULL) {
            return refuse(in, "the names of the domains are cut");
        }
        encoded->domains[encoded->domain_count] = strdup(in->at);
        if (encoded->domains[encoded->domain_count] == NULL) {
            return mixt_fail(in->error, MIXT_ERROR_MEMORY, "%s: no memory", in->path);
        }
        encoded->domain_count++;
        in->at = behind + 1;
    }
    return in->at == end ? MIXT_OK : refuse(in, "there are more names than domains");
}

static mixt_status read_documents(input *in, mixt_encoded *encoded)
{
    uint64_t start = 0;
    encoded->documents = malloc((size_t)in->head.documents * sizeof *encoded->documents);
    if (encoded->documents == NULL) {
        return mixt_fail(in->error, MIXT_ERROR_MEMORY, "%s: no memory", in->path);
    }
    for (; encoded->count < in->head.documents; in->at += sizeof(row)) {
        row r;
        memcpy(&r, in->at, sizeof r);
        if (r.domain >= in->head.domains || r.tokens > in->head.tokens - start ||
            r.bytes > (uint64_t)1 << 40) {
            return refuse(in, "a document lies outside of the file");
        }
        encoded->documents[encoded->count++] =
            (mixt_encoded_document){{start, r.tokens, r.bytes, (int)r.domain}, r.key, false};
        start += r.tokens;
    }
    return start == in->head.tokens ? MIXT_OK : refuse(in, "tokens of no document");
}

static mixt_status read_tokens(input *in, mixt_encoded *encoded)
{
    for (uint64_t i = 0; i < in->head.tokens; i++) {
        uint16_t narrow = 0;
        uint32_t id = 0;
        if (in->head.token_size == 2) {
            memcpy(&narrow, in->at + 2 * i, 2);
            id = narrow;
        } else {
            memcpy(&id, in->at + 4 * i, 4);
        }
        if (id >= (uint32_t)encoded->vocab_size) {
            return mixt_fail(in->error, MIXT_ERROR_FORMAT,
                             "%s: token %llu is %u, the vocabulary has %d ids", in->path,
                             (unsigned long long)i, id, encoded->vocab_size);
        }
        encoded->largest = id > encoded->largest ? id : encoded->largest;
    }
    mixt_buffer_append(&encoded->tokens, in->at, (size_t)in->head.tokens * in->head.token_size);
    return encoded->tokens.failed
               ? mixt_fail(in->error, MIXT_ERROR_MEMORY, "%s: no memory for tokens", in->path)
               : MIXT_OK;
}

static mixt_status check_sum(input *in, const char *bytes, size_t length)
{
    mixt_sha256 hash;
    unsigned char digest[MIXT_SHA256_BYTES];
    mixt_sha256_init(&hash);
    mixt_sha256_update(&hash, bytes, length - sizeof digest);
    mixt_sha256_final(&hash, digest);
    return memcmp(digest, bytes + length - sizeof digest, sizeof digest) == 0
               ? MIXT_OK
               : refuse(in, "is damaged: its checksum differs");
}

static mixt_status read_all(input *in, const char *bytes, size_t length, mixt_encoded *encoded)
{
    if (length < sizeof in->head + MIXT_SHA256_BYTES || memcmp(bytes, magic, sizeof magic) != 0) {
        return refuse(in, "is not token data of mixt");
    }
    memcpy(&in->head, bytes, sizeof in->head);
    MIXT_TRY(check_sizes(in, length));
    MIXT_TRY(check_sum(in, bytes, length));
    if (memcmp(in->head.tokenizer, mixt_tokenizer_hash(encoded->tokenizer),
               sizeof in->head.tokenizer) != 0) {
        return mixt_fail(in->error, MIXT_ERROR_ARGUMENT,
                         "%s: was encoded by another tokenizer, of hash %.12s", in->path,
                         in->head.tokenizer);
    }
    if (in->head.token_size != encoded->token_size) {
        return refuse(in, "the bytes of a token are not those of the tokenizer");
    }
    if (strspn(in->head.corpus, "0123456789abcdef") < sizeof in->head.corpus) {
        return refuse(in, "the hash of the corpus is none");
    }
    memcpy(encoded->corpus_hash, in->head.corpus, sizeof in->head.corpus);
    in->at = bytes + sizeof in->head;
    MIXT_TRY(read_names(in, encoded));
    MIXT_TRY(read_documents(in, encoded));
    return read_tokens(in, encoded);
}

mixt_status mixt_data_open(const char *path, const mixt_tokenizer *tokenizer, double heldout,
                           mixt_data **data, mixt_error *error)
{
    char *bytes;
    size_t length;
    *data = NULL;
    MIXT_TRY(mixt_heldout_check(heldout, error));
    MIXT_TRY(mixt_file_read(path, FILE_LIMIT, &bytes, &length, error));
    int vocab_size = mixt_tokenizer_vocab_size(tokenizer);
    mixt_encoded encoded = {.tokenizer = tokenizer,
                            .separator = mixt_tokenizer_separator(tokenizer),
                            .vocab_size = vocab_size,
                            .token_size = vocab_size <= 65536 ? 2 : 4};
    input in = {.path = path, .error = error};
    mixt_status status = read_all(&in, bytes, length, &encoded);
    free(bytes);
    if (status == MIXT_OK) {
        status = mixt_encoded_split(&encoded, heldout, data, error);
    }
    mixt_encoded_free(&encoded);
    return status;
}

bool mixt_data_is_file(const char *path)
{
    char begin[sizeof magic];
    uint64_t size;
    int descriptor = mixt_file_open(path, &size, NULL);
    bool is = descriptor >= 0 && size >= sizeof begin &&
              mixt_read_at(descriptor, begin, sizeof begin, 0, path, NULL) == MIXT_OK &&
              memcmp(begin, magic, sizeof magic) == 0;
    if (descriptor >= 0) {
        close(descriptor);
    }
    return is;
}
