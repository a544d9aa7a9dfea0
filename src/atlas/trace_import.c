/* Routes that other programs recorded: arrays in a safetensors file become a trace. */
#include <stdlib.h>
#include <string.h>

#include "atlas/trace.h"
#include "atlas/trace_metadata.h"
#include "atlas/trace_writer.h"
#include "core/error.h"

#define CHUNK 256 /* tokens that are on their way at once */

/* What a file may hold. */
enum {
    IN_TOKENS,
    IN_DOCUMENT,
    IN_DOMAIN,
    IN_EXPERTS,        /* [L, T, k] */
    IN_ROUTED_EXPERTS, /* or [T, L, k] */
    IN_WEIGHTS,
    IN_LOGITS,
    IN_MARGINS,
    IN_ENTROPIES,
    IN_PREDICTED,
    IN_AHEAD,
    IN_COUNT
};

static const struct {
    const char *name;
    bool whole; /* numbers that name something */
    uint32_t rank;
} arrays[IN_COUNT] = {
    {"tokens", true, 1},    {"document", true, 1},       {"domain", true, 1},
    {"experts", true, 3},   {"routed_experts", true, 3}, {"weights", false, 3},
    {"logits", false, 3},   {"margins", false, 2},       {"entropies", false, 2},
    {"predicted", true, 1}, {"ahead", true, 3},
};

static const char *const keys[] = {"format",   "experts",    "layers",      "domains",
                                   "model",    "model_hash", "corpus_hash", "tokenizer_hash",
                                   "held_out", NULL};

typedef struct importing {
    const char *path;
    const mixt_tokenizer *tokenizer;
    mixt_safetensors *file;
    const mixt_tensor_info *tensor[IN_COUNT]; /* NULL: not there */
    uint64_t tokens;
    int layers, experts, k, domains;
    int *layer_numbers; /* [layers] */
    json_t *layer_json, *domain_json;
    const char **domain_names; /* [domains] */
    void *raw;                 /* choices of a chunk as they are in the file */
    int32_t document[CHUNK];   /* of a chunk */
    int32_t domain[CHUNK];
    int32_t ids[CHUNK];
    int32_t predicted[CHUNK];
    int32_t *choices, *ahead;                      /* [L, CHUNK, k] */
    float *weights, *logits, *margins, *entropies; /* [L, CHUNK, ...] */
} importing;

static bool is_whole(mixt_dtype dtype)
{
    return dtype == MIXT_DTYPE_U8 || dtype == MIXT_DTYPE_I8 || dtype == MIXT_DTYPE_U16 ||
           dtype == MIXT_DTYPE_I16 || dtype == MIXT_DTYPE_U32 || dtype == MIXT_DTYPE_I32 ||
           dtype == MIXT_DTYPE_U64 || dtype == MIXT_DTYPE_I64;
}

static bool is_float(mixt_dtype dtype)
{
    return dtype == MIXT_DTYPE_F32 || dtype == MIXT_DTYPE_F16 || dtype == MIXT_DTYPE_BF16;
}

/* Which arrays are there, and that nothing else is. */
static mixt_status find_arrays(importing *in, mixt_error *error)
{
    const char *format = mixt_safetensors_metadata(in->file, "format");
    if (format != NULL && strcmp(format, MIXT_TRACE_FORMAT) == 0) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "%s: is a trace already", in->path);
    }
    for (size_t i = 0; i < mixt_safetensors_count(in->file); i++) {
        const mixt_tensor_info *tensor = mixt_safetensors_tensor(in->file, i);
        int which = 0;
        while (which < IN_COUNT && strcmp(arrays[which].name, tensor->name) != 0) {
            which++;
        }
        if (which == IN_COUNT) {
            return mixt_fail(error, MIXT_ERROR_UNSUPPORTED,
                             "%s: tensor \"%.200s\": not known to an import", in->path,
                             tensor->name);
        }
        if (!(arrays[which].whole ? is_whole : is_float)(tensor->dtype)) {
            return mixt_fail(error, MIXT_ERROR_UNSUPPORTED, "%s: %s: type %s, must be %s", in->path,
                             tensor->name, tensor->dtype_name,
                             arrays[which].whole ? "whole numbers" : "F32, F16 or BF16");
        }
        if (tensor->rank != arrays[which].rank) {
            return mixt_fail(error, MIXT_ERROR_FORMAT, "%s: %s: %u dimensions, must be %u",
                             in->path, tensor->name, tensor->rank, arrays[which].rank);
        }
        in->tensor[which] = tensor;
    }
    if (in->tensor[IN_TOKENS] == NULL ||
        (in->tensor[IN_EXPERTS] == NULL) == (in->tensor[IN_ROUTED_EXPERTS] == NULL)) {
        return mixt_fail(error, MIXT_ERROR_FORMAT,
                         "%s: must have tokens, and either experts or routed_experts", in->path);
    }
    return MIXT_OK;
}

/* The metadata, all of whose keys must mean something here. */
static mixt_status read_metadata(importing *in, mixt_error *error)
{
    for (size_t i = 0; i < mixt_safetensors_metadata_count(in->file); i++) {
        const char *key = mixt_safetensors_metadata_key(in->file, i);
        size_t known = 0;
        while (keys[known] != NULL && strcmp(keys[known], key) != 0) {
            known++;
        }
        if (keys[known] == NULL) {
            return mixt_fail(error, MIXT_ERROR_UNSUPPORTED,
                             "%s: __metadata__ \"%.200s\": not known to an import", in->path, key);
        }
    }
    if (in->tensor[IN_LOGITS] == NULL || mixt_safetensors_metadata(in->file, "experts") != NULL) {
        MIXT_TRY(mixt_metadata_number(in->file, in->path, "experts", &in->experts, error));
    } else {
        in->experts = in->tensor[IN_LOGITS]->shape[2] > MIXT_TRACE_MAX_EXPERTS
                          ? MIXT_TRACE_MAX_EXPERTS + 1
                          : (int)in->tensor[IN_LOGITS]->shape[2];
    }
    if (mixt_safetensors_metadata(in->file, "layers") != NULL) {
        MIXT_TRY(mixt_metadata_array(in->file, in->path, "layers", JSON_INTEGER, &in->layer_json,
                                     error));
    }
    if (mixt_safetensors_metadata(in->file, "domains") != NULL) {
        MIXT_TRY(mixt_metadata_array(in->file, in->path, "domains", JSON_STRING, &in->domain_json,
                                     error));
    } else if (in->tensor[IN_DOMAIN] != NULL) {
        return mixt_fail(error, MIXT_ERROR_FORMAT,
                         "%s: there is a tensor domain, but __metadata__ has no \"domains\"",
                         in->path);
    }
    return MIXT_OK;
}

/* L, T and k of the experts, and that all arrays agree with them. */
static mixt_status check_shapes(importing *in, mixt_error *error)
{
    bool by_token = in->tensor[IN_EXPERTS] == NULL;
    const mixt_tensor_info *experts = in->tensor[by_token ? IN_ROUTED_EXPERTS : IN_EXPERTS];
    int64_t layers = experts->shape[by_token ? 1 : 0], k = experts->shape[2];
    int64_t tokens = in->tensor[IN_TOKENS]->shape[0];
    if (tokens < 1) {
        return mixt_fail(error, MIXT_ERROR_FORMAT, "%s: no tokens", in->path);
    }
    if (layers < 1 || layers > MIXT_TRACE_MAX_LAYERS || k < 1 || k > MIXT_TRACE_MAX_EXPERTS) {
        return mixt_fail(error, MIXT_ERROR_FORMAT, "%s: %s: %lld layers, %lld choices of a token",
                         in->path, experts->name, (long long)layers, (long long)k);
    }
    const int64_t wanted[IN_COUNT][3] = {
        {tokens},
        {tokens},
        {tokens},
        {layers, tokens, k},
        {tokens, layers, k},
        {layers, tokens, k},
        {layers, tokens, in->experts},
        {layers, tokens},
        {layers, tokens},
        {tokens},
        {layers, tokens, k},
    };
    for (int i = 0; i < IN_COUNT; i++) {
        for (uint32_t d = 0; in->tensor[i] != NULL && d < arrays[i].rank; d++) {
            if (in->tensor[i]->shape[d] != wanted[i][d]) {
                return mixt_fail(error, MIXT_ERROR_FORMAT,
                                 "%s: %s: dimension %u is %lld, must be %lld", in->path,
                                 arrays[i].name, d, (long long)in->tensor[i]->shape[d],
                                 (long long)wanted[i][d]);
            }
        }
    }
    if (in->layer_json != NULL && json_array_size(in->layer_json) != (size_t)layers) {
        return mixt_fail(error, MIXT_ERROR_FORMAT,
                         "%s: __metadata__ \"layers\": %zu entries, but there are %lld layers",
                         in->path, json_array_size(in->layer_json), (long long)layers);
    }
    in->tokens = (uint64_t)tokens;
    in->layers = (int)layers;
    in->k = (int)k;
    in->domains = in->domain_json != NULL ? (int)json_array_size(in->domain_json) : 1;
    return MIXT_OK;
}

static mixt_status allocate(importing *in, mixt_error *error)
{
    size_t layers = (size_t)in->layers, chunk = in->tokens < CHUNK ? (size_t)in->tokens : CHUNK;
    size_t rows = layers * chunk, choices = rows * (size_t)in->k;
    in->layer_numbers = calloc(layers, sizeof *in->layer_numbers);
    in->domain_names = calloc((size_t)in->domains, sizeof *in->domain_names);
    in->raw = malloc(choices * 8);
    in->choices = calloc(choices, sizeof *in->choices);
    in->ahead = calloc(choices, sizeof *in->ahead);
    in->weights = calloc(choices, sizeof *in->weights);
    in->margins = calloc(rows, sizeof *in->margins);
    in->entropies = calloc(rows, sizeof *in->entropies);
    in->logits =
        calloc(in->tensor[IN_LOGITS] != NULL ? rows * (size_t)in->experts : 1, sizeof *in->logits);
    if (in->layer_numbers == NULL || in->domain_names == NULL || in->raw == NULL ||
        in->choices == NULL || in->ahead == NULL || in->weights == NULL || in->margins == NULL ||
        in->entropies == NULL || in->logits == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", in->path);
    }
    for (int i = 0; i < in->layers; i++) {
        in->layer_numbers[i] = i;
    }
    for (int i = 0; i < in->domains; i++) {
        in->domain_names[i] = in->domain_json != NULL
                                  ? json_string_value(json_array_get(in->domain_json, (size_t)i))
                                  : "text";
    }
    return in->layer_json != NULL ? mixt_metadata_keep_numbers(in->path, "layers", in->layer_json,
                                                               in->layer_numbers, error)
                                  : MIXT_OK;
}

/* One whole number of a type; what does not fit 32 bits is its largest or smallest, which no rule
 * takes. No expert is -1, or the largest number of 16 bits. */
static int32_t whole_number(mixt_dtype dtype, const void *raw, size_t i)
{
    bool is_signed = dtype == MIXT_DTYPE_I8 || dtype == MIXT_DTYPE_I16 || dtype == MIXT_DTYPE_I32 ||
                     dtype == MIXT_DTYPE_I64;
    unsigned bits = mixt_dtype_bits(dtype), shift = 64 - bits;
    uint64_t value = 0; /* little-endian, as the file is */
    memcpy(&value, (const char *)raw + i * (bits / 8), bits / 8);
    if (!is_signed) {
        return value > INT32_MAX ? INT32_MAX : (int32_t)value;
    }
    int64_t extended = (int64_t)(value << shift) >> shift;
    return extended > INT32_MAX ? INT32_MAX : extended < INT32_MIN ? INT32_MIN : (int32_t)extended;
}

/* Elements [first, first + count) of an array of whole numbers; count fits `raw`. */
static mixt_status read_whole(importing *in, int which, uint64_t first, size_t count, int32_t *to,
                              mixt_error *error)
{
    const mixt_tensor_info *tensor = in->tensor[which];
    size_t size = mixt_dtype_bits(tensor->dtype) / 8;
    MIXT_TRY(mixt_safetensors_read(in->file, tensor, first * size, count * size, in->raw, error));
    bool names_experts = which == IN_EXPERTS || which == IN_ROUTED_EXPERTS || which == IN_AHEAD;
    for (size_t i = 0; i < count; i++) {
        int32_t value = whole_number(tensor->dtype, in->raw, i);
        to[i] = names_experts && value == MIXT_TRACE_NONE ? -1 : value;
    }
    return MIXT_OK;
}

/* Rows [at, at + count) of each layer of an array [L, T, width] as [L, count, width]. */
static mixt_status read_layers(importing *in, int which, uint64_t at, size_t count, void *to,
                               mixt_error *error)
{
    size_t width = arrays[which].rank == 3 ? (size_t)in->tensor[which]->shape[2] : 1;
    mixt_status status = MIXT_OK;
    for (size_t layer = 0; layer < (size_t)in->layers && status == MIXT_OK; layer++) {
        uint64_t first = (layer * in->tokens + at) * width;
        size_t place = layer * count * width;
        status = arrays[which].whole
                     ? read_whole(in, which, first, count * width, (int32_t *)to + place, error)
                     : mixt_safetensors_read_f32(in->file, in->tensor[which], first, count * width,
                                                 (float *)to + place, error);
    }
    return status;
}

/* The choices of tokens [at, at + count): as they are, or from [count, L, k]. */
static mixt_status read_choices(importing *in, uint64_t at, size_t count, mixt_error *error)
{
    if (in->tensor[IN_EXPERTS] != NULL) {
        return read_layers(in, IN_EXPERTS, at, count, in->choices, error);
    }
    size_t layers = (size_t)in->layers, k = (size_t)in->k;
    int32_t *by_token = in->ahead; /* read later */
    MIXT_TRY(
        read_whole(in, IN_ROUTED_EXPERTS, at * layers * k, count * layers * k, by_token, error));
    for (size_t t = 0; t < count; t++) {
        for (size_t layer = 0; layer < layers; layer++) {
            memcpy(in->choices + (layer * count + t) * k, by_token + (t * layers + layer) * k,
                   k * sizeof *by_token);
        }
    }
    return MIXT_OK;
}

/* Weights that nobody recorded: a token's experts have equal ones. */
static void make_weights(importing *in, size_t count)
{
    size_t k = (size_t)in->k;
    for (size_t row = 0; row < (size_t)in->layers * count; row++) {
        size_t experts = 0;
        for (size_t c = 0; c < k; c++) {
            experts += in->choices[row * k + c] >= 0;
        }
        for (size_t c = 0; c < k; c++) {
            in->weights[row * k + c] = in->choices[row * k + c] >= 0 ? 1 / (float)experts : 0;
        }
    }
}

/* Everything of tokens [at, at + count). */
static mixt_status read_chunk(importing *in, uint64_t at, size_t count, mixt_error *error)
{
    const struct {
        int which;
        void *to;
    } layered[] = {{IN_WEIGHTS, in->weights},
                   {IN_LOGITS, in->logits},
                   {IN_MARGINS, in->margins},
                   {IN_ENTROPIES, in->entropies},
                   {IN_AHEAD, in->ahead}};
    MIXT_TRY(read_choices(in, at, count, error));
    for (size_t i = 0; i < sizeof layered / sizeof *layered; i++) {
        if (in->tensor[layered[i].which] != NULL) {
            MIXT_TRY(read_layers(in, layered[i].which, at, count, layered[i].to, error));
        }
    }
    if (in->tensor[IN_WEIGHTS] == NULL) {
        make_weights(in, count);
    }
    return in->tensor[IN_PREDICTED] != NULL
               ? read_whole(in, IN_PREDICTED, at, count, in->predicted, error)
               : MIXT_OK;
}

/* Tokens, documents and domains of [at, at + count), count at most CHUNK; how many of them stand
 * in one domain, which a chunk of the writer does. */
static mixt_status read_tokens(importing *in, uint64_t at, size_t *count, mixt_error *error)
{
    memset(in->document, 0, sizeof in->document);
    memset(in->domain, 0, sizeof in->domain);
    MIXT_TRY(read_whole(in, IN_TOKENS, at, *count, in->ids, error));
    if (in->tensor[IN_DOCUMENT] != NULL) {
        MIXT_TRY(read_whole(in, IN_DOCUMENT, at, *count, in->document, error));
    }
    if (in->tensor[IN_DOMAIN] != NULL) {
        MIXT_TRY(read_whole(in, IN_DOMAIN, at, *count, in->domain, error));
    }
    size_t same = 1;
    while (same < *count && in->domain[same] == in->domain[0]) {
        same++;
    }
    *count = same;
    return MIXT_OK;
}

static mixt_status append_all(importing *in, mixt_trace_writer *writer, mixt_error *error)
{
    size_t count;
    for (uint64_t at = 0; at < in->tokens; at += count) {
        count = in->tokens - at < CHUNK ? (size_t)(in->tokens - at) : CHUNK;
        MIXT_TRY(read_tokens(in, at, &count, error));
        MIXT_TRY(read_chunk(in, at, count, error));
        const mixt_trace_chunk chunk = {
            .count = count,
            .domain = in->domain[0],
            .tokens = in->ids,
            .documents = in->document,
            .experts = in->choices,
            .weights = in->weights,
            .logits = in->logits,
            .margins = in->margins,
            .entropies = in->entropies,
            .predicted = in->predicted,
            .ahead = in->ahead,
        };
        MIXT_TRY(mixt_trace_writer_append(writer, &chunk, error));
    }
    return mixt_trace_writer_finish(writer, error);
}

static const char *token_bytes(const void *vocabulary, int32_t id, size_t *length)
{
    return mixt_tokenizer_bytes_of(vocabulary, id, length);
}

#define NO_WEIGHTS "weights were not recorded: each of a token's experts is given an equal one"

static mixt_status write_imported(importing *in, const char *output, mixt_error *error)
{
    const char *said = mixt_safetensors_metadata(in->file, "held_out");
    mixt_buffer held_out = {0};
    if (said != NULL) {
        mixt_buffer_text(&held_out, said);
    }
    if (in->tensor[IN_WEIGHTS] == NULL) {
        mixt_buffer_text(&held_out, said != NULL ? "; and " NO_WEIGHTS : NO_WEIGHTS);
    }
    mixt_buffer_append(&held_out, "", 1);
    mixt_trace_header header = {
        .layers = in->layers,
        .layer_numbers = in->layer_numbers,
        .experts = in->experts,
        .experts_per_token = in->k,
        .domains = in->domains,
        .domain_names = in->domain_names,
        .source = in->path,
        .model = mixt_safetensors_metadata(in->file, "model"),
        .model_hash = mixt_safetensors_metadata(in->file, "model_hash"),
        .corpus_hash = mixt_safetensors_metadata(in->file, "corpus_hash"),
        .tokenizer_hash = mixt_tokenizer_hash(in->tokenizer),
        .held_out = held_out.data,
        .vocab_size = mixt_tokenizer_vocab_size(in->tokenizer),
        .token_bytes = token_bytes,
        .vocabulary = in->tokenizer,
        .logits = in->tensor[IN_LOGITS] != NULL,
        .margins = in->tensor[IN_MARGINS] != NULL,
        .entropies = in->tensor[IN_ENTROPIES] != NULL,
        .predicted = in->tensor[IN_PREDICTED] != NULL,
        .ahead = in->tensor[IN_AHEAD] != NULL,
    };
    const char *hash = mixt_safetensors_metadata(in->file, "tokenizer_hash");
    mixt_trace_writer *writer = NULL;
    mixt_status status = MIXT_OK;
    if (held_out.failed) {
        status = mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", in->path);
    } else if (hash != NULL && strcmp(hash, header.tokenizer_hash) != 0) {
        status = mixt_fail(error, MIXT_ERROR_ARGUMENT,
                           "%s: was recorded with another tokenizer: tokenizer_hash %.16s, not "
                           "%.16s",
                           in->path, hash, header.tokenizer_hash);
    } else {
        status = mixt_trace_writer_create(output, &header, &writer, error);
    }
    if (status == MIXT_OK) {
        status = append_all(in, writer, error);
    }
    mixt_trace_writer_free(writer);
    mixt_buffer_free(&held_out);
    return status;
}

mixt_status mixt_trace_import(const char *path, const mixt_tokenizer *tokenizer, const char *output,
                              mixt_error *error)
{
    importing in = {.path = path, .tokenizer = tokenizer};
    mixt_status status = mixt_safetensors_open(path, &in.file, error);
    if (status == MIXT_OK) {
        status = find_arrays(&in, error);
    }
    if (status == MIXT_OK) {
        status = read_metadata(&in, error);
    }
    if (status == MIXT_OK) {
        status = check_shapes(&in, error);
    }
    if (status == MIXT_OK) {
        status = allocate(&in, error);
    }
    if (status == MIXT_OK) {
        status = write_imported(&in, output, error);
    }
    json_decref(in.layer_json);
    json_decref(in.domain_json);
    mixt_safetensors_close(in.file);
    free(in.layer_numbers);
    free(in.domain_names);
    free(in.raw);
    free(in.choices);
    free(in.ahead);
    free(in.weights);
    free(in.logits);
    free(in.margins);
    free(in.entropies);
    return status;
}
