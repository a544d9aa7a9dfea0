/* Sessions in files: safetensors with the tokens, what every cache of the model has of each
 * position, and what the last token gave (logits, experts); so that a session that is read goes on
 * with the bits of one that never stopped. Checksums of all of it stand last. */
#include <stdlib.h>
#include <string.h>

#include "core/arithmetic.h"
#include "core/sha256.h"
#include "formats/crc32c.h"
#include "formats/safetensors.h"
#include "infer/session.h"

/* What a file is of, as metadata. */
#define KEY_FORMAT "mixt.session"
#define KEY_MODEL "mixt.session.model"
#define KEY_MATMUL "mixt.session.matmul"
#define KEY_CACHE "mixt.session.cache"
#define KEY_FIRST "mixt.session.first_feed"
#define FORMAT_VERSION "1"

static const char *const cache_names[] = {[MIXT_CACHE_F32] = "F32",
                                          [MIXT_CACHE_F16] = "F16",
                                          [MIXT_CACHE_BF16] = "BF16",
                                          [MIXT_CACHE_Q8_0] = "Q8_0"};

/* ------------------------------------------------------------------------------------------ */
/* Whose it is                                                                                */

/* The first and the last row of a parameter as fp32, beside its name and shape. */
static mixt_status hash_parameter(const mixt_model *model, int index, mixt_sha256 *state,
                                  mixt_error *error)
{
    const mixt_parameter *p = &model->parameters[index];
    size_t columns = (size_t)p->size[p->rank - 1];
    float *row = malloc(columns * sizeof *row);
    if (row == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "session: no memory");
    }
    mixt_sha256_update(state, p->name, strlen(p->name) + 1);
    mixt_sha256_update(state, p->size, (size_t)p->rank * sizeof *p->size);
    if (model->held != NULL && model->held[index].matrices != NULL) {
        int32_t type = (int32_t)model->held[index].matrices[0].type;
        mixt_sha256_update(state, &type, sizeof type);
    }
    mixt_model_values(model, index, 0, columns, row);
    mixt_sha256_update(state, row, columns * sizeof *row);
    mixt_model_values(model, index, p->count - columns, columns, row);
    mixt_sha256_update(state, row, columns * sizeof *row);
    free(row);
    return MIXT_OK;
}

/* How a layer chooses, changed routing included: what mixt_routing_same compares. */
static void hash_router(const mixt_router_spec *spec, mixt_sha256 *state)
{
    int32_t plain[] = {spec->experts, spec->chosen, (int32_t)spec->options.renormalise};
    mixt_sha256_update(state, plain, sizeof plain);
    for (int e = 0; e < spec->experts; e++) {
        uint8_t masked = spec->mask != NULL && spec->mask[e] != 0;
        mixt_sha256_update(state, &masked, 1);
    }
    for (int j = 0; j < spec->chosen; j++) {
        int32_t forced = spec->forced != NULL ? spec->forced[j] : -1;
        mixt_sha256_update(state, &forced, sizeof forced);
    }
}

/* SHA-256 of the configuration, of every parameter's name, shape, type, first and last row, and of
 * how the layers choose now; of all weights it would take as long as to read them. */
static mixt_status identify(const mixt_model *model, char hash[65], mixt_error *error)
{
    char *config = NULL;
    mixt_sha256 state;
    mixt_model whole;
    MIXT_TRY(mixt_model_config_text(model, &config, error));
    mixt_sha256_init(&state);
    mixt_sha256_update(&state, config, strlen(config) + 1);
    free(config);
    mixt_status status = mixt_model_whole(model, &whole, error);
    for (int i = 0; i < model->parameter_count && status == MIXT_OK; i++) {
        status = hash_parameter(&whole, i, &state, error);
    }
    mixt_model_whole_free(&whole);
    for (int layer = 0; layer < model->options.layers; layer++) {
        hash_router(mixt_model_router(model, layer), &state);
    }
    mixt_sha256_final_hex(&state, hash);
    return status;
}

/* ------------------------------------------------------------------------------------------ */
/* What it holds                                                                              */

enum { NAME_SIZE = 40 };

/* The tensors of a session's file in their order; those of caches are numbered behind the others.
 */
typedef enum session_part {
    PART_TOKENS,
    PART_ENDS, /* with RoPE by length: how long the text was when each token had been fed */
    PART_LOGITS,
    PART_ROUTE_IDS,
    PART_ROUTE_WEIGHTS,
    PART_CACHES,
} session_part;

typedef struct part_info {
    char name[NAME_SIZE];
    mixt_dtype dtype;
    int64_t count; /* elements, of caches bytes */
    void *data;    /* in the session; NULL: in pages */
    size_t bytes;
} part_info;

static int part_count(const mixt_session *session)
{
    return PART_CACHES + session->engine->many.graph->cache_count;
}

/* Bytes of a row of a cache. */
static size_t cache_row(const mixt_engine *engine, int cache)
{
    const mixt_graph *g = engine->many.graph;
    return g->caches[cache].bytes / (size_t)g->options.cache_pages / MIXT_ATTENTION_BLOCK;
}

/* Part `index` of a session of `length` tokens. */
static part_info describe(const mixt_session *session, int index, size_t length)
{
    static const char *const names[] = {"tokens", "ends", "logits", "route_ids", "route_weights"};
    mixt_sequence *s = session->sequence;
    const mixt_engine *engine = session->engine;
    int64_t choices = (int64_t)(engine->moe_layers * engine->chosen);
    int64_t counts[] = {(int64_t)length, engine->rope_by_length ? (int64_t)length : 0,
                        engine->model->options.vocab_size, choices, choices};
    void *data[] = {s->tokens, s->ends, s->logits, session->route_ids, session->route_weights};
    part_info part = {.dtype = MIXT_DTYPE_U8};
    if (index < PART_CACHES) {
        bool real = index == PART_LOGITS || index == PART_ROUTE_WEIGHTS;
        part.dtype = real ? MIXT_DTYPE_F32 : MIXT_DTYPE_I32;
        part.count = counts[index];
        part.data = data[index];
        part.bytes = (size_t)part.count * sizeof(int32_t);
        snprintf(part.name, sizeof part.name, "%s", names[index]);
    } else {
        part.bytes = cache_row(engine, index - PART_CACHES) * length;
        part.count = (int64_t)part.bytes;
        snprintf(part.name, sizeof part.name, "cache.%d", index - PART_CACHES);
    }
    return part;
}

/* The rows of a cache that one of the sequence's pages holds, in engine->page; how many bytes. */
static size_t read_page(const mixt_session *session, int cache, size_t page, size_t length)
{
    const mixt_engine *engine = session->engine;
    const size_t block = MIXT_ATTENTION_BLOCK;
    size_t row = cache_row(engine, cache), offset = 0;
    size_t rows = length - page * block < block ? length - page * block : block;
    for (int i = 0; i < cache; i++) {
        offset += engine->many.graph->caches[i].bytes;
    }
    offset += (size_t)session->sequence->pages[page] * block * row;
    mixt_device_memory_read(&engine->cache, offset, engine->page, rows * row);
    return rows * row;
}

/* ------------------------------------------------------------------------------------------ */
/* Writing                                                                                    */

static mixt_status declare(const mixt_session *session, size_t length,
                           mixt_safetensors_writer *writer, mixt_error *error)
{
    char hash[65], first[24];
    int parts = part_count(session);
    int64_t sums = parts;
    MIXT_TRY(identify(session->engine->model, hash, error));
    snprintf(first, sizeof first, "%zu", session->sequence->first_feed);
    const char *matmul = mixt_context_products(session->engine->context, false);
    MIXT_TRY(mixt_safetensors_writer_metadata(writer, KEY_FORMAT, FORMAT_VERSION, error));
    MIXT_TRY(mixt_safetensors_writer_metadata(writer, KEY_MODEL, hash, error));
    MIXT_TRY(mixt_safetensors_writer_metadata(writer, KEY_MATMUL, matmul, error));
    MIXT_TRY(mixt_safetensors_writer_metadata(
        writer, KEY_CACHE, cache_names[session->engine->options.cache_type], error));
    MIXT_TRY(mixt_safetensors_writer_metadata(writer, KEY_FIRST, first, error));
    for (int i = 0; i < parts; i++) {
        part_info part = describe(session, i, length);
        MIXT_TRY(mixt_safetensors_writer_add(writer, part.name, part.dtype, 1, &part.count, error));
    }
    MIXT_TRY(mixt_safetensors_writer_add(writer, "checksums", MIXT_DTYPE_U32, 1, &sums, error));
    return mixt_safetensors_writer_begin(writer, error);
}

static mixt_status write_cache(const mixt_session *session, int cache, size_t length,
                               mixt_safetensors_writer *writer, uint32_t *sum, mixt_error *error)
{
    const size_t block = MIXT_ATTENTION_BLOCK;
    for (size_t page = 0; page * block < length; page++) {
        size_t bytes = read_page(session, cache, page, length);
        *sum = mixt_crc32c(*sum, session->engine->page, bytes);
        MIXT_TRY(mixt_safetensors_writer_write(writer, session->engine->page, bytes, error));
    }
    return MIXT_OK;
}

static mixt_status write_parts(const mixt_session *session, size_t length,
                               mixt_safetensors_writer *writer, uint32_t *sums, mixt_error *error)
{
    int parts = part_count(session);
    MIXT_TRY(declare(session, length, writer, error));
    for (int i = 0; i < parts; i++) {
        part_info part = describe(session, i, length);
        if (i >= PART_CACHES) {
            MIXT_TRY(write_cache(session, i - PART_CACHES, length, writer, &sums[i], error));
        } else if (part.bytes > 0) {
            sums[i] = mixt_crc32c(0, part.data, part.bytes);
            MIXT_TRY(mixt_safetensors_writer_write(writer, part.data, part.bytes, error));
        }
    }
    MIXT_TRY(mixt_safetensors_writer_write(writer, sums, (size_t)parts * sizeof *sums, error));
    return mixt_safetensors_writer_finish(writer, error);
}

mixt_status mixt_session_save(const mixt_session *session, const char *path, mixt_error *error)
{
    const mixt_sequence *s = session->sequence;
    if (s->length == 0 || s->held < s->length) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "%.400s: a session without tokens is not kept",
                         path);
    }
    mixt_safetensors_writer *writer = NULL;
    uint32_t *sums = calloc((size_t)part_count(session), sizeof *sums);
    if (sums == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "session: no memory");
    }
    mixt_status status = mixt_safetensors_writer_create(path, 0, &writer, error);
    if (status == MIXT_OK) {
        status = write_parts(session, s->length, writer, sums, error);
    }
    mixt_safetensors_writer_free(writer);
    free(sums);
    return status;
}

/* ------------------------------------------------------------------------------------------ */
/* Reading                                                                                    */

static mixt_status expect(const mixt_safetensors *file, const char *path, const char *key,
                          const char *wanted, const char *what, mixt_error *error)
{
    const char *value = mixt_safetensors_metadata(file, key);
    return value != NULL && strcmp(value, wanted) == 0
               ? MIXT_OK
               : mixt_fail(error, MIXT_ERROR_FORMAT, "%.400s: %s", path, what);
}

static mixt_status check_identity(const mixt_session *session, const mixt_safetensors *file,
                                  const char *path, mixt_error *error)
{
    char hash[65];
    const char *matmul = mixt_context_products(session->engine->context, false);
    MIXT_TRY(expect(file, path, KEY_FORMAT, FORMAT_VERSION, "no session of this version of mixt",
                    error));
    MIXT_TRY(identify(session->engine->model, hash, error));
    MIXT_TRY(expect(file, path, KEY_MODEL, hash,
                    "the session of another model, or of one that routes otherwise", error));
    MIXT_TRY(expect(file, path, KEY_CACHE, cache_names[session->engine->options.cache_type],
                    "its cache is of another type (--cache-type)", error));
    return expect(file, path, KEY_MATMUL, matmul, "computed by other matrix products (--matmul)",
                  error);
}

/* The tokens that a file says it holds; 0: none that fit. */
static mixt_status read_length(const mixt_session *session, const mixt_safetensors *file,
                               const char *path, size_t *length, mixt_error *error)
{
    const mixt_tensor_info *tokens = mixt_safetensors_find(file, "tokens");
    *length = tokens != NULL ? (size_t)mixt_tensor_elements(tokens) : 0;
    if (*length == 0) {
        return mixt_fail(error, MIXT_ERROR_FORMAT, "%.400s: it holds no tokens", path);
    }
    return *length <= (size_t)session->engine->capacity
               ? MIXT_OK
               : mixt_fail(error, MIXT_ERROR_ARGUMENT,
                           "%.400s: %zu tokens do not fit into a context of %lld", path, *length,
                           (long long)session->engine->capacity);
}

/* Each part is there with its type and size, and has its checksum. */
static mixt_status check_parts(const mixt_session *session, const mixt_safetensors *file,
                               const char *path, size_t length, mixt_error *error)
{
    int parts = part_count(session);
    const mixt_tensor_info *sums = mixt_safetensors_find(file, "checksums");
    if (sums == NULL || sums->dtype != MIXT_DTYPE_U32 ||
        sums->bytes != (uint64_t)parts * sizeof(uint32_t)) {
        return mixt_fail(error, MIXT_ERROR_FORMAT, "%.400s: checksums are missing", path);
    }
    for (int i = 0; i < parts; i++) {
        uint32_t wanted;
        part_info part = describe(session, i, length);
        const mixt_tensor_info *tensor = mixt_safetensors_find(file, part.name);
        if (tensor == NULL || tensor->dtype != part.dtype || tensor->bytes != part.bytes) {
            return mixt_fail(error, MIXT_ERROR_FORMAT,
                             "%.400s: %s: it is not what a session of %zu tokens has", path,
                             part.name, length);
        }
        const char *data = mixt_safetensors_data(file, sums);
        memcpy(&wanted, data + (size_t)i * sizeof wanted, sizeof wanted);
        if (mixt_crc32c(0, mixt_safetensors_data(file, tensor), part.bytes) != wanted) {
            return mixt_fail(error, MIXT_ERROR_FORMAT, "%.400s: %s: damaged, its checksum is wrong",
                             path, part.name);
        }
    }
    return mixt_safetensors_intact(file, error);
}

static void write_pages(mixt_session *session, int cache, const char *rows, size_t length)
{
    const mixt_engine *engine = session->engine;
    const size_t block = MIXT_ATTENTION_BLOCK;
    size_t row = cache_row(engine, cache), offset = 0;
    for (int i = 0; i < cache; i++) {
        offset += engine->many.graph->caches[i].bytes;
    }
    for (size_t at = 0; at < length; at += block) {
        size_t count = length - at < block ? length - at : block;
        size_t page = (size_t)session->sequence->pages[at / block];
        mixt_device_memory_write(&engine->cache, offset + page * block * row, rows + at * row,
                                 count * row);
    }
}

/* Everything is checked but the values of tokens and numbers, which mixt_sequence_feed refuses. */
static mixt_status take(mixt_session *session, const mixt_safetensors *file, size_t length,
                        mixt_error *error)
{
    mixt_sequence *s = session->sequence;
    const mixt_tensor_info *tokens = mixt_safetensors_find(file, "tokens");
    (void)mixt_sequence_truncate(s, 0);
    MIXT_TRY(mixt_sequence_feed(s, mixt_safetensors_data(file, tokens), length, error));
    while (s->page_count * MIXT_ATTENTION_BLOCK < length) {
        s->pages[s->page_count++] = mixt_page_take(session->engine->pool);
    }
    for (int i = 0; i < part_count(session); i++) {
        part_info part = describe(session, i, length);
        const char *data = mixt_safetensors_data(file, mixt_safetensors_find(file, part.name));
        if (i >= PART_CACHES) {
            write_pages(session, i - PART_CACHES, data, length);
        } else if (part.bytes > 0) {
            memcpy(part.data, data, part.bytes);
        }
    }
    s->held = s->done = length;
    mixt_status status = mixt_safetensors_intact(file, error);
    if (status != MIXT_OK) {
        mixt_sequence_recover(s, 0);
    }
    return status;
}

/* How many tokens the first feed had, which is what a router that decides once has seen. */
static bool read_first(const mixt_safetensors *file, size_t length, size_t *first)
{
    const char *text = mixt_safetensors_metadata(file, KEY_FIRST);
    char *end = NULL;
    unsigned long long value =
        text != NULL && *text >= '0' && *text <= '9' ? strtoull(text, &end, 10) : 0;
    *first = (size_t)value;
    return end != NULL && *end == 0 && value <= length;
}

static bool are_positions(const mixt_session *session, const mixt_safetensors *file, size_t length)
{
    const mixt_tensor_info *tensor = mixt_safetensors_find(file, "ends");
    const char *data = mixt_safetensors_data(file, tensor);
    for (size_t i = 0; i < length && session->engine->rope_by_length; i++) {
        int32_t end;
        memcpy(&end, data + i * sizeof end, sizeof end);
        if (end <= (int64_t)i || end > session->engine->capacity) {
            return false;
        }
    }
    return true;
}

static mixt_status load(mixt_session *session, mixt_safetensors *file, const char *path,
                        mixt_error *error)
{
    size_t length, first;
    MIXT_TRY(check_identity(session, file, path, error));
    MIXT_TRY(read_length(session, file, path, &length, error));
    MIXT_TRY(mixt_safetensors_map(file, error));
    MIXT_TRY(check_parts(session, file, path, length, error));
    if (!read_first(file, length, &first) || !are_positions(session, file, length)) {
        return mixt_fail(error, MIXT_ERROR_FORMAT, "%.400s: it is not how tokens are fed", path);
    }
    MIXT_TRY(take(session, file, length, error));
    session->sequence->first_feed = first;
    return MIXT_OK;
}

mixt_status mixt_session_load(mixt_session *session, const char *path, mixt_error *error)
{
    mixt_safetensors *file = NULL;
    MIXT_TRY(mixt_safetensors_open(path, &file, error));
    mixt_status status = load(session, file, path, error);
    mixt_safetensors_close(file);
    return status;
}
