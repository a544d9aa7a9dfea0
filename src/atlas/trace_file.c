/* Reads a trace file (docs/traces.md). Everything is checked before it is believed: the safetensors
 * reader holds the header against the file's size, so an array is never larger than the file. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "atlas/trace.h"
#include "atlas/trace_metadata.h"
#include "atlas/trace_writer.h"
#include "core/error.h"
#include "core/files.h"
#include "formats/safetensors.h"

typedef struct trace_reader {
    const char *path;
    mixt_safetensors *file;
    mixt_trace *trace;
    mixt_error *error;
    json_t *layers;
    json_t *choices; /* of each layer; NULL: as many as a token has */
    json_t *domains;
    bool none_allowed;
} trace_reader;

static mixt_status find_tensor(trace_reader *reader, const char *name, uint32_t rank,
                               mixt_dtype dtype, const mixt_tensor_info **tensor)
{
    *tensor = mixt_safetensors_find(reader->file, name);
    if (*tensor == NULL) {
        return mixt_fail(reader->error, MIXT_ERROR_FORMAT, "%s: no tensor \"%s\": not a trace",
                         reader->path, name);
    }
    if ((*tensor)->dtype != dtype) {
        return mixt_fail(reader->error, MIXT_ERROR_FORMAT, "%s: %s: type %s, must be %s",
                         reader->path, name, (*tensor)->dtype_name, mixt_dtype_name(dtype));
    }
    if ((*tensor)->rank != rank) {
        return mixt_fail(reader->error, MIXT_ERROR_FORMAT, "%s: %s: %u dimensions, must be %u",
                         reader->path, name, (*tensor)->rank, rank);
    }
    return MIXT_OK;
}

/* Tensor of a shape that other tensors have settled; read into `to` when that is not NULL. */
static mixt_status read_tensor(trace_reader *reader, const char *name, mixt_dtype dtype,
                               uint32_t rank, const int64_t *shape, void *to)
{
    const mixt_tensor_info *tensor;
    mixt_status status = find_tensor(reader, name, rank, dtype, &tensor);
    for (uint32_t i = 0; i < rank && status == MIXT_OK; i++) {
        if (tensor->shape[i] != shape[i]) {
            status = mixt_fail(reader->error, MIXT_ERROR_FORMAT,
                               "%s: %s: dimension %u is %lld, must be %lld", reader->path, name, i,
                               (long long)tensor->shape[i], (long long)shape[i]);
        }
    }
    if (status == MIXT_OK && to != NULL) {
        status = mixt_safetensors_read(reader->file, tensor, 0, (size_t)tensor->bytes, to,
                                       reader->error);
    }
    return status;
}

static mixt_status read_metadata(trace_reader *reader, mixt_trace_info *info)
{
    const char *format = NULL;
    const char *version = NULL;
    format = mixt_safetensors_metadata(reader->file, "format");
    if (format == NULL || strcmp(format, MIXT_TRACE_FORMAT) != 0) {
        return mixt_fail(reader->error, MIXT_ERROR_FORMAT,
                         "%s: not a trace: __metadata__ \"format\" is not \"%s\"", reader->path,
                         MIXT_TRACE_FORMAT);
    }
    mixt_status status =
        mixt_metadata_text(reader->file, reader->path, "version", &version, reader->error);
    if (status == MIXT_OK) {
        reader->none_allowed = strcmp(version, MIXT_TRACE_VERSION_NONE) == 0;
        if (!reader->none_allowed && strcmp(version, MIXT_TRACE_VERSION) != 0) {
            status = mixt_fail(reader->error, MIXT_ERROR_UNSUPPORTED,
                               "%s: trace format version %.20s: this mixt reads versions %s and %s",
                               reader->path, version, MIXT_TRACE_VERSION, MIXT_TRACE_VERSION_NONE);
        }
    }
    if (status == MIXT_OK) {
        status = mixt_metadata_number(reader->file, reader->path, "experts", &info->experts,
                                      reader->error);
    }
    if (status == MIXT_OK) {
        status = mixt_metadata_number(reader->file, reader->path, "experts_per_token",
                                      &info->experts_per_token, reader->error);
    }
    if (status == MIXT_OK && mixt_safetensors_metadata(reader->file, "identity_experts") != NULL) {
        status = mixt_metadata_number(reader->file, reader->path, "identity_experts",
                                      &info->identity_experts, reader->error);
    }
    if (status == MIXT_OK && mixt_safetensors_metadata(reader->file, "zero_experts") != NULL) {
        status = mixt_metadata_number(reader->file, reader->path, "zero_experts",
                                      &info->zero_experts, reader->error);
    }
    if (status == MIXT_OK) {
        status = mixt_metadata_array(reader->file, reader->path, "layers", JSON_INTEGER,
                                     &reader->layers, reader->error);
    }
    if (status == MIXT_OK && reader->none_allowed &&
        mixt_safetensors_metadata(reader->file, "experts_per_layer") != NULL) {
        status = mixt_metadata_array(reader->file, reader->path, "experts_per_layer", JSON_INTEGER,
                                     &reader->choices, reader->error);
        if (status == MIXT_OK &&
            json_array_size(reader->choices) != json_array_size(reader->layers)) {
            status = mixt_fail(reader->error, MIXT_ERROR_FORMAT,
                               "%s: __metadata__ \"experts_per_layer\": %zu entries, but there are "
                               "%zu layers",
                               reader->path, json_array_size(reader->choices),
                               json_array_size(reader->layers));
        }
    }
    if (status == MIXT_OK) {
        status = mixt_metadata_array(reader->file, reader->path, "domains", JSON_STRING,
                                     &reader->domains, reader->error);
    }
    if (status == MIXT_OK && (json_array_size(reader->domains) > MIXT_TRACE_MAX_DOMAINS ||
                              json_array_size(reader->layers) > MIXT_TRACE_MAX_LAYERS)) {
        status = mixt_fail(reader->error, MIXT_ERROR_FORMAT,
                           "%s: __metadata__: %zu domains and %zu layers, at most %d and %d",
                           reader->path, json_array_size(reader->domains),
                           json_array_size(reader->layers), MIXT_TRACE_MAX_DOMAINS,
                           MIXT_TRACE_MAX_LAYERS);
    }
    if (status == MIXT_OK) {
        info->domains = (int)json_array_size(reader->domains);
        info->layers = (int)json_array_size(reader->layers);
    }
    return status;
}

/* Copies names and numbers out of the header into the trace. */
static mixt_status keep_metadata(trace_reader *reader)
{
    mixt_trace *trace = reader->trace;
    const char **texts[] = {&trace->info.model,         &trace->info.model_hash,
                            &trace->info.corpus_hash,   &trace->info.tokenizer_hash,
                            &trace->info.router_select, &trace->info.held_out};
    static const char *const keys[] = {"model",          "model_hash",    "corpus_hash",
                                       "tokenizer_hash", "router_select", "held_out"};
    bool complete = true;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const char *value = mixt_safetensors_metadata(reader->file, keys[i]);
        *texts[i] = mixt_arena_string(trace->arena, value != NULL ? value : "");
        complete = complete && *texts[i] != NULL;
    }
    for (int i = 0; i < trace->info.domains; i++) {
        const char *name = json_string_value(json_array_get(reader->domains, (size_t)i));
        trace->domain_names[i] = mixt_arena_string(trace->arena, name);
        complete = complete && trace->domain_names[i] != NULL;
    }
    if (!complete) {
        return mixt_fail(reader->error, MIXT_ERROR_MEMORY, "%s: no memory", reader->path);
    }
    trace->none_allowed = reader->none_allowed;
    mixt_status status = mixt_metadata_keep_numbers(reader->path, "layers", reader->layers,
                                                    trace->layer_numbers, reader->error);
    if (status == MIXT_OK && reader->choices != NULL) {
        status = mixt_metadata_keep_numbers(reader->path, "experts_per_layer", reader->choices,
                                            trace->chosen, reader->error);
    }
    return status;
}

/* vocab_offsets as I32 or I64 into the trace, and that they fit vocab_bytes. */
static mixt_status read_offsets(trace_reader *reader, const mixt_tensor_info *offsets,
                                int64_t byte_count)
{
    mixt_trace *trace = reader->trace;
    mixt_status status = mixt_safetensors_read(reader->file, offsets, 0, (size_t)offsets->bytes,
                                               trace->vocab_offsets, reader->error);
    if (status != MIXT_OK) {
        return status;
    }
    if (offsets->dtype == MIXT_DTYPE_I32) { /* widened in place, from the end */
        for (int i = trace->vocab_size; i >= 0; i--) {
            int32_t narrow;
            memcpy(&narrow, (const char *)trace->vocab_offsets + (size_t)i * sizeof narrow,
                   sizeof narrow);
            trace->vocab_offsets[i] = narrow;
        }
    }
    if (trace->vocab_offsets[0] != 0 || trace->vocab_offsets[trace->vocab_size] != byte_count) {
        return mixt_fail(reader->error, MIXT_ERROR_FORMAT,
                         "%s: vocab_offsets: from %lld to %lld, must be 0 to the %lld vocab_bytes",
                         reader->path, (long long)trace->vocab_offsets[0],
                         (long long)trace->vocab_offsets[trace->vocab_size], (long long)byte_count);
    }
    return MIXT_OK;
}

/* Allocates the trace from the shapes that the file itself bounds. */
static mixt_status allocate_trace(trace_reader *reader, mixt_trace_info *info,
                                  const mixt_tensor_info **offsets, int64_t *byte_count)
{
    const mixt_tensor_info *tokens;
    const mixt_tensor_info *experts;
    const mixt_tensor_info *bytes;
    mixt_status status = find_tensor(reader, "tokens", 1, MIXT_DTYPE_I32, &tokens);
    if (status == MIXT_OK) {
        status = find_tensor(reader, "experts", 3, MIXT_DTYPE_U16, &experts);
    }
    if (status == MIXT_OK) {
        info->tokens = (uint64_t)tokens->shape[0];
        const int64_t shape[] = {info->layers, tokens->shape[0], info->experts_per_token};
        status = read_tensor(reader, "experts", MIXT_DTYPE_U16, 3, shape, NULL);
    }
    if (status == MIXT_OK) {
        status = find_tensor(reader, "vocab_bytes", 1, MIXT_DTYPE_U8, &bytes);
    }
    if (status == MIXT_OK) {
        *offsets = mixt_safetensors_find(reader->file, "vocab_offsets");
        bool wide = *offsets != NULL && (*offsets)->dtype == MIXT_DTYPE_I64;
        status = find_tensor(reader, "vocab_offsets", 1, wide ? MIXT_DTYPE_I64 : MIXT_DTYPE_I32,
                             offsets);
    }
    if (status != MIXT_OK) {
        return status;
    }
    if ((*offsets)->shape[0] < 2 || (*offsets)->shape[0] > INT32_MAX) {
        return mixt_fail(reader->error, MIXT_ERROR_FORMAT, "%s: vocab_offsets: %lld entries",
                         reader->path, (long long)(*offsets)->shape[0]);
    }
    *byte_count = bytes->shape[0];
    reader->trace = mixt_trace_allocate(info, (int)((*offsets)->shape[0] - 1), (size_t)*byte_count);
    if (reader->trace == NULL) {
        return mixt_fail(reader->error, MIXT_ERROR_MEMORY, "%s: no memory for %llu tokens",
                         reader->path, (unsigned long long)info->tokens);
    }
    return MIXT_OK;
}

/* A tensor of halves that a file may have stays where it is: *to points into the map, or is NULL.
 */
static mixt_status map_halves(trace_reader *reader, const char *name, uint32_t rank,
                              const int64_t *shape, const uint16_t **to)
{
    const mixt_tensor_info *tensor = mixt_safetensors_find(reader->file, name);
    if (tensor == NULL) {
        return MIXT_OK;
    }
    mixt_status status = read_tensor(reader, name, MIXT_DTYPE_F16, rank, shape, NULL);
    if (status == MIXT_OK && tensor->offset % sizeof **to != 0) {
        status = mixt_fail(reader->error, MIXT_ERROR_FORMAT, "%s: %s: begins at an odd byte",
                           reader->path, name);
    }
    if (status == MIXT_OK) {
        *to = mixt_safetensors_data(reader->file, tensor);
    }
    return status;
}

/* Reads a tensor of `count` elements that a file may have into memory: *to, or NULL. Its numbers
 * name something, so nobody may change them behind our back. */
static mixt_status read_names(trace_reader *reader, const char *name, mixt_dtype dtype,
                              uint32_t rank, const int64_t *shape, void **to)
{
    const mixt_tensor_info *tensor = mixt_safetensors_find(reader->file, name);
    if (tensor == NULL) {
        return MIXT_OK;
    }
    mixt_status status = read_tensor(reader, name, dtype, rank, shape, NULL);
    if (status == MIXT_OK && (*to = malloc((size_t)tensor->bytes + 1)) == NULL) {
        status =
            mixt_fail(reader->error, MIXT_ERROR_MEMORY, "%s: no memory for %s", reader->path, name);
    }
    return status == MIXT_OK ? read_tensor(reader, name, dtype, rank, shape, *to) : status;
}

/* What is not in every file. */
static mixt_status read_optional(trace_reader *reader)
{
    mixt_trace *trace = reader->trace;
    const mixt_trace_info *info = &trace->info;
    const int64_t logits[] = {info->layers, (int64_t)info->tokens, info->experts};
    const int64_t choices[] = {info->layers, (int64_t)info->tokens, info->experts_per_token};
    const int64_t *per_token = choices + 1;
    void *predicted = NULL, *ahead = NULL;
    mixt_status status = map_halves(reader, "logits", 3, logits, &trace->logits);
    if (status == MIXT_OK) {
        status = map_halves(reader, "margins", 2, choices, &trace->margins);
    }
    if (status == MIXT_OK) {
        status = map_halves(reader, "entropies", 2, choices, &trace->entropies);
    }
    if (status == MIXT_OK) {
        status = read_names(reader, "predicted", MIXT_DTYPE_I32, 1, per_token, &predicted);
    }
    if (status == MIXT_OK) {
        status = read_names(reader, "ahead", MIXT_DTYPE_U16, 3, choices, &ahead);
    }
    trace->predicted = predicted;
    trace->ahead = ahead;
    return status;
}

static mixt_status read_trace(trace_reader *reader)
{
    mixt_trace_info info = {0};
    const mixt_tensor_info *offsets = NULL;
    int64_t byte_count = 0;
    mixt_status status = read_metadata(reader, &info);
    if (status == MIXT_OK) {
        status = allocate_trace(reader, &info, &offsets, &byte_count);
    }
    if (status == MIXT_OK) {
        status = keep_metadata(reader);
    }
    if (status == MIXT_OK) {
        status = read_offsets(reader, offsets, byte_count);
    }
    if (status != MIXT_OK) {
        return status;
    }
    mixt_trace *trace = reader->trace;
    const int64_t per_token[] = {(int64_t)info.tokens};
    const int64_t choices[] = {info.layers, (int64_t)info.tokens, info.experts_per_token};
    const struct {
        const char *name;
        mixt_dtype dtype;
        uint32_t rank;
        const int64_t *shape;
        void *to;
    } arrays[] = {
        {"vocab_bytes", MIXT_DTYPE_U8, 1, &byte_count, trace->vocab_bytes},
        {"tokens", MIXT_DTYPE_I32, 1, per_token, trace->tokens},
        {"document", MIXT_DTYPE_I32, 1, per_token, trace->document},
        {"domain", MIXT_DTYPE_U16, 1, per_token, trace->domain},
        {"experts", MIXT_DTYPE_U16, 3, choices, trace->experts},
        {"weights", MIXT_DTYPE_F16, 3, choices, trace->weights},
    };
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays && status == MIXT_OK; i++) {
        status = read_tensor(reader, arrays[i].name, arrays[i].dtype, arrays[i].rank,
                             arrays[i].shape, arrays[i].to);
    }
    if (status == MIXT_OK) {
        status = read_optional(reader);
    }
    return status == MIXT_OK ? mixt_trace_check(trace, reader->path, reader->error) : status;
}

mixt_status mixt_trace_open(const char *path, mixt_trace **trace, mixt_error *error)
{
    *trace = NULL;
    mixt_error local = MIXT_ERROR_INIT;
    trace_reader reader = {.path = path, .error = error != NULL ? error : &local};
    if (mixt_path_is_folder(path)) {
        return mixt_fail(error, MIXT_ERROR_FORMAT, "%s: is a folder, not a trace file", path);
    }
    mixt_status status = mixt_safetensors_open(path, &reader.file, reader.error);
    if (status == MIXT_OK) { /* mapped, its changes are seen */
        status = mixt_safetensors_map(reader.file, reader.error);
    }
    if (status == MIXT_OK) {
        status = read_trace(&reader);
    }
    if (reader.file != NULL) { /* what is wrong with what was read may come of what is missing */
        mixt_error changed = MIXT_ERROR_INIT;
        if (mixt_safetensors_intact(reader.file, &changed) != MIXT_OK) {
            status = mixt_fail(reader.error, changed.status, "%s", changed.message);
        }
    }
    json_decref(reader.layers);
    json_decref(reader.choices);
    json_decref(reader.domains);
    if (status != MIXT_OK) {
        mixt_safetensors_close(reader.file);
        mixt_trace_free(reader.trace);
        return status;
    }
    *trace = reader.trace;
    reader.trace->file = reader.file;
    return MIXT_OK;
}
