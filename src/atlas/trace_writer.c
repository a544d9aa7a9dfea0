#include "atlas/trace_writer.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "atlas/trace.h"
#include "core/error.h"
#include "core/files.h"
#include "core/memory.h"
#include "core/platform.h"
#include "formats/safetensors.h"

#define SPILL_BUFFER 65536
#define HALF_MAX 65504.0f

/* One growing tensor, or one layer of it, in a nameless temporary file. */
typedef struct spill {
    int descriptor;
    size_t used;
    uint64_t bytes;
    char *buffer; /* [SPILL_BUFFER] */
} spill;

/* Spills of a trace, in the order of the file: some of the whole, then some of each layer. */
enum { SPILL_TOKENS, SPILL_DOCUMENT, SPILL_PREDICTED, SPILL_DOMAIN, SPILL_LAYERS };
enum {
    LAYER_EXPERTS,
    LAYER_WEIGHTS,
    LAYER_MARGINS,
    LAYER_ENTROPIES,
    LAYER_AHEAD,
    LAYER_LOGITS,
    LAYER_SPILLS
};

struct mixt_trace_writer {
    mixt_arena *arena;
    char *path;
    const char *source;       /* that errors of chunks name */
    mixt_trace_header header; /* pointers into the arena; token_bytes no longer used */
    const char *metadata_layers;
    const char *metadata_choices; /* NULL: k in all layers */
    const char *metadata_domains;
    mixt_buffer vocab_bytes;
    int64_t *vocab_offsets; /* [vocab_size + 1] */
    spill *spills;
    size_t spill_count;
    uint64_t tokens;
    int32_t last_document;
    int last_domain;
    uint64_t *seen_at; /* [experts] last row that chose it */
    uint64_t row;
    bool has_none; /* some place had no expert */
};

static mixt_status spill_open(spill *part, const char *path, mixt_error *error)
{
    mixt_buffer name = {0};
    mixt_buffer_text(&name, path);
    mixt_buffer_append(&name, ".part-XXXXXX", sizeof ".part-XXXXXX");
    part->buffer = malloc(SPILL_BUFFER);
    mixt_status status = MIXT_OK;
    if (name.failed || part->buffer == NULL) {
        status = mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", path);
    } else if ((part->descriptor = mixt_temporary_open(name.data)) < 0) {
        status =
            mixt_fail_errno(error, errno, "%s: cannot create a temporary file beside it", path);
    } else if (unlink(name.data) != 0) {
        status = mixt_fail_errno(error, errno, "%s: cannot unlink", name.data);
    }
    mixt_buffer_free(&name);
    return status;
}

static mixt_status spill_flush(spill *part, const char *path, mixt_error *error)
{
    mixt_status status = mixt_write_all(part->descriptor, part->buffer, part->used, path, error);
    part->used = 0;
    return status;
}

static mixt_status spill_append(spill *part, const void *data, size_t length, const char *path,
                                mixt_error *error)
{
    assert(part->descriptor >= 0 && part->used < SPILL_BUFFER);
    const char *from = data;
    part->bytes += length;
    while (length != 0) {
        size_t room = SPILL_BUFFER - part->used;
        size_t count = length < room ? length : room;
        memcpy(part->buffer + part->used, from, count);
        part->used += count;
        from += count;
        length -= count;
        if (part->used == SPILL_BUFFER) {
            mixt_status status = spill_flush(part, path, error);
            if (status != MIXT_OK) {
                return status;
            }
        }
    }
    return MIXT_OK;
}

static spill *layer_spill(mixt_trace_writer *writer, int layer, int which)
{
    assert(layer >= 0 && layer < writer->header.layers && which >= 0 && which < LAYER_SPILLS);
    return &writer->spills[SPILL_LAYERS + layer * LAYER_SPILLS + which];
}

/* Whether a trace has a tensor. */
static bool has_whole(const mixt_trace_header *header, int which)
{
    return which != SPILL_PREDICTED || header->predicted;
}

static bool has_of_layers(const mixt_trace_header *header, int which)
{
    switch (which) {
    case LAYER_MARGINS:
        return header->margins;
    case LAYER_ENTROPIES:
        return header->entropies;
    case LAYER_AHEAD:
        return header->ahead;
    case LAYER_LOGITS:
        return header->logits;
    default:
        return true;
    }
}

static int choices_of(const mixt_trace_header *header, int layer)
{
    return header->experts_per_layer != NULL ? header->experts_per_layer[layer]
                                             : header->experts_per_token;
}

/* "[1, 2, 3]" in the arena; NULL without memory. */
static const char *json_numbers(mixt_trace_writer *writer, const int *numbers, int count)
{
    mixt_buffer text = {0};
    for (int i = 0; i < count; i++) {
        mixt_buffer_format(&text, "%s%d", i == 0 ? "[" : ", ", numbers[i]);
    }
    mixt_buffer_append(&text, "]", 2);
    const char *kept = text.failed ? NULL : mixt_arena_string(writer->arena, text.data);
    mixt_buffer_free(&text);
    return kept;
}

/* JSON texts of the layer numbers, the layers' choices and the domain names. */
static bool make_metadata(mixt_trace_writer *writer, const mixt_trace_header *header)
{
    mixt_buffer domains = {0};
    bool even = true;
    for (int i = 0; i < header->layers; i++) {
        even = even && choices_of(header, i) == header->experts_per_token;
    }
    writer->metadata_layers = json_numbers(writer, header->layer_numbers, header->layers);
    writer->metadata_choices =
        even ? NULL : json_numbers(writer, header->experts_per_layer, header->layers);
    for (int i = 0; i < header->domains; i++) {
        mixt_buffer_text(&domains, i == 0 ? "[" : ", ");
        mixt_json_quote(&domains, header->domain_names[i]);
    }
    mixt_buffer_append(&domains, "]", 2);
    writer->metadata_domains =
        domains.failed ? NULL : mixt_arena_string(writer->arena, domains.data);
    mixt_buffer_free(&domains);
    return writer->metadata_layers != NULL && (even || writer->metadata_choices != NULL) &&
           writer->metadata_domains != NULL;
}

static bool copy_header(mixt_trace_writer *writer, const mixt_trace_header *header)
{
    mixt_trace_header *copy = &writer->header;
    const char **texts[] = {&copy->model,          &copy->model_hash,    &copy->corpus_hash,
                            &copy->tokenizer_hash, &copy->router_select, &copy->held_out};
    *copy = *header;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        *texts[i] = mixt_arena_string(writer->arena, *texts[i] != NULL ? *texts[i] : "");
        if (*texts[i] == NULL) {
            return false;
        }
    }
    writer->vocab_offsets =
        mixt_arena_allocate(writer->arena, (size_t)header->vocab_size + 1, sizeof(int64_t));
    writer->seen_at = mixt_arena_allocate(writer->arena, (size_t)header->experts, sizeof(uint64_t));
    int *choices = mixt_arena_allocate(writer->arena, (size_t)header->layers, sizeof(int));
    if (writer->vocab_offsets == NULL || writer->seen_at == NULL || choices == NULL) {
        return false;
    }
    for (int i = 0; i < header->layers; i++) {
        choices[i] = choices_of(header, i);
    }
    copy->experts_per_layer = choices;
    for (int32_t id = 0; id < header->vocab_size; id++) {
        size_t length = 0;
        const char *bytes = header->token_bytes(header->vocabulary, id, &length);
        mixt_buffer_append(&writer->vocab_bytes, bytes, bytes != NULL ? length : 0);
        writer->vocab_offsets[id + 1] = (int64_t)writer->vocab_bytes.length;
    }
    return !writer->vocab_bytes.failed && make_metadata(writer, header);
}

static mixt_status check_header(const char *path, const mixt_trace_header *header,
                                mixt_error *error)
{
    if (!mixt_trace_tabulates(header->layers, header->experts, header->experts_per_token,
                              header->domains) ||
        header->vocab_size < 1) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "%s: %d layers, %d of %d experts, %d domains, vocabulary of %d: not a "
                         "trace that mixt tabulates",
                         path, header->layers, header->experts_per_token, header->experts,
                         header->domains, header->vocab_size);
    }
    if (!mixt_trace_layers_rise(header->layer_numbers, header->layers)) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "%s: layer numbers must rise from 0 or more",
                         header->source != NULL ? header->source : path);
    }
    for (int i = 0; i < header->layers; i++) {
        int choices = choices_of(header, i);
        if (choices < 1 || choices > header->experts_per_token) {
            return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                             "%s: layer %d: %d choices of a token, must be 1 to %d", path, i,
                             choices, header->experts_per_token);
        }
    }
    for (int i = 0; i < header->domains; i++) {
        if (!mixt_utf8_valid(header->domain_names[i], strlen(header->domain_names[i]))) {
            return mixt_fail(error, MIXT_ERROR_ARGUMENT, "%s: name of domain %d is not UTF-8", path,
                             i);
        }
    }
    return MIXT_OK;
}

mixt_status mixt_trace_writer_create(const char *path, const mixt_trace_header *header,
                                     mixt_trace_writer **writer, mixt_error *error)
{
    *writer = NULL;
    mixt_status status = check_header(path, header, error);
    if (status != MIXT_OK) {
        return status;
    }
    mixt_trace_writer *made = calloc(1, sizeof *made);
    if (made == NULL || (made->arena = mixt_arena_create()) == NULL) {
        free(made);
        return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", path);
    }
    made->last_document = -1;
    made->last_domain = -1;
    size_t spills = SPILL_LAYERS + (size_t)header->layers * LAYER_SPILLS;
    made->spills = calloc(spills, sizeof *made->spills);
    made->path = mixt_arena_string(made->arena, path);
    made->source = mixt_arena_string(made->arena, header->source != NULL ? header->source : path);
    if (made->spills == NULL || made->path == NULL || made->source == NULL ||
        !copy_header(made, header)) {
        mixt_trace_writer_free(made);
        return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", path);
    }
    for (size_t i = 0; i < spills && status == MIXT_OK; i++) {
        made->spills[i].descriptor = -1;
        made->spill_count = i + 1;
        bool needed = i < SPILL_LAYERS
                          ? has_whole(header, (int)i)
                          : has_of_layers(header, (int)((i - SPILL_LAYERS) % LAYER_SPILLS));
        status = needed ? spill_open(&made->spills[i], path, error) : MIXT_OK;
    }
    if (status != MIXT_OK) {
        mixt_trace_writer_free(made);
        return status;
    }
    *writer = made;
    return MIXT_OK;
}

/* One row [k] of one layer, by the rules of mixt_trace_check; says what is wrong. */
static const char *check_row(mixt_trace_writer *writer, int layer, const int32_t *experts,
                             const float *weights, int32_t *expert)
{
    const mixt_trace_header *header = &writer->header;
    writer->row++;
    for (int c = 0; c < header->experts_per_token; c++) {
        *expert = experts[c];
        if (*expert == -1) {
            writer->has_none = true;
            if (weights[c] != 0) {
                return "(none) has a weight, must be 0";
            }
        } else if (*expert < 0 || *expert >= header->experts ||
                   writer->seen_at[*expert] == writer->row) {
            return "out of range or twice";
        } else if (isnan(weights[c])) {
            return "has a weight that is not a number";
        } else if (c >= header->experts_per_layer[layer]) {
            return "stands behind the choices that the layer makes";
        } else {
            writer->seen_at[*expert] = writer->row;
        }
    }
    return NULL;
}

/* One row [k] of what is chosen ahead, likewise. */
static const char *check_ahead(mixt_trace_writer *writer, int layer, const int32_t *ahead)
{
    writer->row++;
    for (int c = 0; c < writer->header.experts_per_token; c++) {
        int32_t expert = ahead[c];
        if (expert == -1) {
            continue;
        }
        if (expert < 0 || expert >= writer->header.experts ||
            writer->seen_at[expert] == writer->row) {
            return "an expert ahead is out of range or twice";
        }
        if (layer == 0) {
            return "an expert ahead, at the first layer";
        }
        writer->seen_at[expert] = writer->row;
    }
    return NULL;
}

/* What not every trace has. */
static mixt_status check_optional(mixt_trace_writer *writer, const mixt_trace_chunk *chunk,
                                  mixt_error *error)
{
    const mixt_trace_header *header = &writer->header;
    size_t rows = (size_t)header->layers * chunk->count, k = (size_t)header->experts_per_token;
    float most = (float)log2(header->experts) * 1.0001f;
    for (size_t i = 0; i < chunk->count && header->predicted; i++) {
        if (chunk->predicted[i] < 0 || chunk->predicted[i] >= header->vocab_size) {
            return mixt_fail(error, MIXT_ERROR_ARGUMENT, "%s: token %llu: predicted id %d",
                             writer->source, (unsigned long long)writer->tokens + i,
                             chunk->predicted[i]);
        }
    }
    for (size_t row = 0; row < rows; row++) {
        int layer = (int)(row / chunk->count);
        const char *wrong = NULL;
        if (header->margins && chunk->margins[row] < 0) { /* NaN may be */
            wrong = "the margin is below 0";
        } else if (header->entropies &&
                   !(chunk->entropies[row] >= 0 && chunk->entropies[row] <= most)) {
            wrong = "the entropy is not 0 to log2 of the experts";
        } else if (header->ahead) {
            wrong = check_ahead(writer, layer, chunk->ahead + row * k);
        }
        if (wrong != NULL) {
            return mixt_fail(error, MIXT_ERROR_ARGUMENT, "%s: token %llu, layer %d: %s",
                             writer->source,
                             (unsigned long long)writer->tokens + row % chunk->count, layer, wrong);
        }
    }
    return MIXT_OK;
}

static mixt_status check_chunk(mixt_trace_writer *writer, const mixt_trace_chunk *chunk,
                               mixt_error *error)
{
    const mixt_trace_header *header = &writer->header;
    int32_t document = writer->last_document;
    int domain = writer->last_domain;
    if (chunk->domain < 0 || chunk->domain >= header->domains ||
        (header->logits && chunk->logits == NULL) || (header->margins && chunk->margins == NULL) ||
        (header->entropies && chunk->entropies == NULL) ||
        (header->predicted && chunk->predicted == NULL) ||
        (header->ahead && chunk->ahead == NULL) || chunk->count > INT32_MAX - writer->tokens) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "%s: chunk of %zu tokens of domain %d",
                         writer->source, chunk->count, chunk->domain);
    }
    for (size_t i = 0; i < chunk->count; i++) {
        bool next = chunk->documents[i] == document + 1;
        if (chunk->tokens[i] < 0 || chunk->tokens[i] >= header->vocab_size ||
            (!next && (chunk->documents[i] != document || domain != chunk->domain))) {
            return mixt_fail(
                error, MIXT_ERROR_ARGUMENT,
                "%s: token %llu: id %d, document %d of domain %d behind document %d of "
                "domain %d",
                writer->source, (unsigned long long)writer->tokens + i, chunk->tokens[i],
                chunk->documents[i], chunk->domain, document, domain);
        }
        document = chunk->documents[i];
        domain = chunk->domain;
    }
    size_t k = (size_t)header->experts_per_token;
    for (size_t row = 0; row < (size_t)header->layers * chunk->count; row++) {
        int layer = (int)(row / chunk->count);
        int32_t expert = 0;
        const char *wrong =
            check_row(writer, layer, chunk->experts + row * k, chunk->weights + row * k, &expert);
        if (wrong != NULL) {
            return mixt_fail(error, MIXT_ERROR_ARGUMENT, "%s: token %llu, layer %d: expert %d %s",
                             writer->source,
                             (unsigned long long)writer->tokens + row % chunk->count, layer, expert,
                             wrong);
        }
    }
    MIXT_TRY(check_optional(writer, chunk, error));
    writer->last_document = document;
    writer->last_domain = domain;
    return MIXT_OK;
}

/* Floats as halves into a spill of a layer; numbers beyond the largest half are written as it, so
 * that all stay finite, and -0, which others' entropies of one certain expert are, as 0. */
static mixt_status append_halves(mixt_trace_writer *writer, spill *part, const float *values,
                                 size_t count, mixt_error *error)
{
    float within[512];
    uint16_t halves[512];
    mixt_status status = MIXT_OK;
    for (size_t i = 0; i < count && status == MIXT_OK; i += 512) {
        size_t some = count - i < 512 ? count - i : 512;
        for (size_t j = 0; j < some; j++) {
            float value = values[i + j]; /* NaN is neither */
            value = value > HALF_MAX ? HALF_MAX : value;
            value = value < -HALF_MAX ? -HALF_MAX : value;
            within[j] = value == 0 ? 0 : value;
        }
        mixt_f32_to_f16(within, halves, some);
        status = spill_append(part, halves, some * sizeof *halves, writer->path, error);
    }
    return status;
}

/* Experts into a spill, none as MIXT_TRACE_NONE. */
static mixt_status append_experts(mixt_trace_writer *writer, spill *part, const int32_t *experts,
                                  size_t count, mixt_error *error)
{
    uint16_t narrow[512];
    mixt_status status = MIXT_OK;
    for (size_t i = 0; i < count && status == MIXT_OK; i += 512) {
        size_t some = count - i < 512 ? count - i : 512;
        for (size_t j = 0; j < some; j++) {
            narrow[j] = experts[i + j] < 0 ? MIXT_TRACE_NONE : (uint16_t)experts[i + j];
        }
        status = spill_append(part, narrow, some * sizeof *narrow, writer->path, error);
    }
    return status;
}

static mixt_status append_layer(mixt_trace_writer *writer, const mixt_trace_chunk *chunk, int layer,
                                mixt_error *error)
{
    size_t choices = chunk->count * (size_t)writer->header.experts_per_token;
    size_t logits = chunk->count * (size_t)writer->header.experts;
    const int32_t *experts[LAYER_SPILLS] = {
        [LAYER_EXPERTS] = chunk->experts, [LAYER_AHEAD] = chunk->ahead};
    const float *numbers[LAYER_SPILLS] = {[LAYER_WEIGHTS] = chunk->weights,
                                          [LAYER_MARGINS] = chunk->margins,
                                          [LAYER_ENTROPIES] = chunk->entropies,
                                          [LAYER_LOGITS] = chunk->logits};
    const size_t count[LAYER_SPILLS] = {choices,      choices, chunk->count,
                                        chunk->count, choices, logits};
    mixt_status status = MIXT_OK;
    for (int i = 0; i < LAYER_SPILLS && status == MIXT_OK; i++) {
        spill *part = layer_spill(writer, layer, i);
        size_t at = (size_t)layer * count[i];
        if (!has_of_layers(&writer->header, i)) {
            continue;
        }
        status = experts[i] != NULL ? append_experts(writer, part, experts[i] + at, count[i], error)
                                    : append_halves(writer, part, numbers[i] + at, count[i], error);
    }
    return status;
}

mixt_status mixt_trace_writer_append(mixt_trace_writer *writer, const mixt_trace_chunk *chunk,
                                     mixt_error *error)
{
    mixt_status status = check_chunk(writer, chunk, error);
    size_t bytes = chunk->count * sizeof(int32_t);
    if (status == MIXT_OK) {
        status =
            spill_append(&writer->spills[SPILL_TOKENS], chunk->tokens, bytes, writer->path, error);
    }
    if (status == MIXT_OK) {
        status = spill_append(&writer->spills[SPILL_DOCUMENT], chunk->documents, bytes,
                              writer->path, error);
    }
    if (status == MIXT_OK && writer->header.predicted) {
        status = spill_append(&writer->spills[SPILL_PREDICTED], chunk->predicted, bytes,
                              writer->path, error);
    }
    uint16_t domain = (uint16_t)chunk->domain;
    for (size_t i = 0; i < chunk->count && status == MIXT_OK; i++) {
        status = spill_append(&writer->spills[SPILL_DOMAIN], &domain, sizeof domain, writer->path,
                              error);
    }
    for (int layer = 0; layer < writer->header.layers && status == MIXT_OK; layer++) {
        status = append_layer(writer, chunk, layer, error);
    }
    writer->tokens += status == MIXT_OK ? chunk->count : 0;
    return status;
}

static mixt_status copy_spill(mixt_safetensors_writer *file, spill *part, const char *path,
                              mixt_error *error)
{
    mixt_status status = spill_flush(part, path, error);
    uint64_t at = 0;
    while (status == MIXT_OK && at < part->bytes) {
        size_t count = part->bytes - at < SPILL_BUFFER ? (size_t)(part->bytes - at) : SPILL_BUFFER;
        status = mixt_read_at(part->descriptor, part->buffer, count, at, path, error);
        if (status == MIXT_OK) {
            status = mixt_safetensors_writer_write(file, part->buffer, count, error);
        }
        at += count;
    }
    return status;
}

static mixt_status write_metadata(const mixt_trace_writer *writer, mixt_safetensors_writer *file,
                                  mixt_error *error)
{
    const mixt_trace_header *header = &writer->header;
    char experts[16], experts_per_token[16], identity[16], zero[16];
    snprintf(experts, sizeof experts, "%d", header->experts);
    snprintf(experts_per_token, sizeof experts_per_token, "%d", header->experts_per_token);
    snprintf(identity, sizeof identity, "%d", header->identity_experts);
    snprintf(zero, sizeof zero, "%d", header->zero_experts);
    const mixt_text_pair pairs[] = {
        {"format", MIXT_TRACE_FORMAT},
        {"version", writer->has_none ? MIXT_TRACE_VERSION_NONE : MIXT_TRACE_VERSION},
        {"model", header->model},
        {"model_hash", header->model_hash},
        {"corpus_hash", header->corpus_hash},
        {"tokenizer_hash", header->tokenizer_hash},
        {"router_select", header->router_select[0] != '\0' ? header->router_select : NULL},
        {"held_out", header->held_out[0] != '\0' ? header->held_out : NULL},
        {"experts", experts},
        {"identity_experts", header->identity_experts > 0 ? identity : NULL},
        {"zero_experts", header->zero_experts > 0 ? zero : NULL},
        {"experts_per_token", experts_per_token},
        {"experts_per_layer", writer->metadata_choices},
        {"layers", writer->metadata_layers},
        {"domains", writer->metadata_domains},
    };
    mixt_status status = MIXT_OK;
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs && status == MIXT_OK; i++) {
        if (pairs[i].value != NULL) {
            status = mixt_safetensors_writer_metadata(file, pairs[i].key, pairs[i].value, error);
        }
    }
    return status;
}

static mixt_status declare_tensors(const mixt_trace_writer *writer, mixt_safetensors_writer *file,
                                   mixt_error *error)
{
    const mixt_trace_header *header = &writer->header;
    int64_t tokens = (int64_t)writer->tokens;
    const struct {
        const char *name;
        mixt_dtype dtype;
        uint32_t rank;
        int64_t shape[3];
        bool present;
    } tensors[] = {
        {"vocab_offsets", MIXT_DTYPE_I64, 1, {header->vocab_size + 1}, true},
        {"tokens", MIXT_DTYPE_I32, 1, {tokens}, true},
        {"document", MIXT_DTYPE_I32, 1, {tokens}, true},
        {"predicted", MIXT_DTYPE_I32, 1, {tokens}, header->predicted},
        {"domain", MIXT_DTYPE_U16, 1, {tokens}, true},
        {"experts", MIXT_DTYPE_U16, 3, {header->layers, tokens, header->experts_per_token}, true},
        {"weights", MIXT_DTYPE_F16, 3, {header->layers, tokens, header->experts_per_token}, true},
        {"margins", MIXT_DTYPE_F16, 2, {header->layers, tokens}, header->margins},
        {"entropies", MIXT_DTYPE_F16, 2, {header->layers, tokens}, header->entropies},
        {"ahead",
         MIXT_DTYPE_U16,
         3,
         {header->layers, tokens, header->experts_per_token},
         header->ahead},
        {"logits", MIXT_DTYPE_F16, 3, {header->layers, tokens, header->experts}, header->logits},
        {"vocab_bytes", MIXT_DTYPE_U8, 1, {(int64_t)writer->vocab_bytes.length}, true},
    };
    mixt_status status = MIXT_OK;
    for (size_t i = 0; i < sizeof tensors / sizeof *tensors && status == MIXT_OK; i++) {
        if (tensors[i].present) {
            status = mixt_safetensors_writer_add(file, tensors[i].name, tensors[i].dtype,
                                                 tensors[i].rank, tensors[i].shape, error);
        }
    }
    return status;
}

/* The data, in the order of declare_tensors. */
static mixt_status write_tensors(mixt_trace_writer *writer, mixt_safetensors_writer *file,
                                 mixt_error *error)
{
    size_t offsets = ((size_t)writer->header.vocab_size + 1) * sizeof(int64_t);
    mixt_status status = mixt_safetensors_writer_write(file, writer->vocab_offsets, offsets, error);
    for (int i = 0; i < SPILL_LAYERS && status == MIXT_OK; i++) {
        if (has_whole(&writer->header, i)) {
            status = copy_spill(file, &writer->spills[i], writer->path, error);
        }
    }
    for (int which = 0; which < LAYER_SPILLS; which++) {
        bool present = has_of_layers(&writer->header, which);
        for (int layer = 0; layer < writer->header.layers && status == MIXT_OK && present;
             layer++) {
            status = copy_spill(file, layer_spill(writer, layer, which), writer->path, error);
        }
    }
    if (status == MIXT_OK) {
        status = mixt_safetensors_writer_write(file, writer->vocab_bytes.data,
                                               writer->vocab_bytes.length, error);
    }
    return status;
}

mixt_status mixt_trace_writer_finish(mixt_trace_writer *writer, mixt_error *error)
{
    mixt_safetensors_writer *file = NULL;
    if (writer->tokens == 0) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "%s: a trace without tokens", writer->path);
    }
    const mixt_trace_info info = {.tokens = writer->tokens,
                                  .layers = writer->header.layers,
                                  .experts = writer->header.experts,
                                  .experts_per_token = writer->header.experts_per_token,
                                  .domains = writer->header.domains};
    if (!mixt_trace_fills(&info)) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "%s: %d layers, %d domains, %d experts: too many for the %llu tokens",
                         writer->source, info.layers, info.domains, info.experts,
                         (unsigned long long)info.tokens);
    }
    mixt_status status = mixt_safetensors_writer_create(writer->path, 0, &file, error);
    if (status == MIXT_OK) {
        status = write_metadata(writer, file, error);
    }
    if (status == MIXT_OK) {
        status = declare_tensors(writer, file, error);
    }
    if (status == MIXT_OK) {
        status = mixt_safetensors_writer_begin(file, error);
    }
    if (status == MIXT_OK) {
        status = write_tensors(writer, file, error);
    }
    if (status == MIXT_OK) {
        status = mixt_safetensors_writer_finish(file, error);
    }
    mixt_safetensors_writer_free(file);
    return status;
}

void mixt_trace_writer_free(mixt_trace_writer *writer)
{
    if (writer == NULL) {
        return;
    }
    for (size_t i = 0; i < writer->spill_count; i++) {
        if (writer->spills[i].descriptor >= 0) {
            close(writer->spills[i].descriptor);
        }
        free(writer->spills[i].buffer);
    }
    free(writer->spills);
    mixt_buffer_free(&writer->vocab_bytes);
    mixt_arena_free(writer->arena);
    free(writer);
}
