#include "atlas/trace.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"

static bool allocate_arrays(mixt_trace *trace, size_t vocab_byte_count)
{
    const mixt_trace_info *info = &trace->info;
    size_t tokens = (size_t)info->tokens;
    size_t rows;
    size_t choices;
    if (!mixt_multiply_size(tokens, (size_t)info->layers, &rows) ||
        !mixt_multiply_size(rows, (size_t)info->experts_per_token, &choices)) {
        return false;
    }
    trace->arena = mixt_arena_create();
    if (trace->arena == NULL) {
        return false;
    }
    trace->domain_names =
        mixt_arena_allocate(trace->arena, (size_t)info->domains + 1, sizeof(const char *));
    trace->layer_numbers = mixt_arena_allocate(trace->arena, (size_t)info->layers + 1, sizeof(int));
    trace->chosen = mixt_arena_allocate(trace->arena, (size_t)info->layers + 1, sizeof(int));
    trace->dropped = mixt_arena_allocate(trace->arena, (size_t)info->layers + 1, sizeof(uint64_t));
    trace->tokens = calloc(tokens + 1, sizeof(int32_t));
    trace->document = calloc(tokens + 1, sizeof(int32_t));
    trace->domain = calloc(tokens + 1, sizeof(uint16_t));
    trace->experts = calloc(choices + 1, sizeof(uint16_t));
    trace->weights = calloc(choices + 1, sizeof(uint16_t));
    trace->vocab_bytes = calloc(vocab_byte_count + 1, 1);
    trace->vocab_offsets = calloc((size_t)trace->vocab_size + 1, sizeof(int64_t));
    return trace->domain_names != NULL && trace->layer_numbers != NULL && trace->chosen != NULL &&
           trace->dropped != NULL && trace->tokens != NULL && trace->document != NULL &&
           trace->domain != NULL && trace->experts != NULL && trace->weights != NULL &&
           trace->vocab_bytes != NULL && trace->vocab_offsets != NULL;
}

mixt_trace *mixt_trace_allocate(const mixt_trace_info *info, int vocab_size,
                                size_t vocab_byte_count)
{
    mixt_trace *trace = calloc(1, sizeof *trace);
    if (trace == NULL) {
        return NULL;
    }
    trace->info = *info;
    trace->vocab_size = vocab_size;
    if (!allocate_arrays(trace, vocab_byte_count)) {
        mixt_trace_free(trace);
        return NULL;
    }
    for (int i = 0; i < info->layers; i++) {
        trace->layer_numbers[i] = i;
        trace->chosen[i] = info->experts_per_token;
    }
    trace->none_allowed = true;
    trace->info.model = trace->info.model_hash = "";
    trace->info.corpus_hash = trace->info.tokenizer_hash = trace->info.router_select =
        trace->info.held_out = "";
    return trace;
}

void mixt_trace_free(mixt_trace *trace)
{
    if (trace == NULL) {
        return;
    }
    mixt_arena_free(trace->arena);
    free(trace->tokens);
    free(trace->document);
    free(trace->domain);
    free(trace->experts);
    free(trace->weights);
    free(trace->vocab_bytes);
    free(trace->vocab_offsets);
    free(trace->document_start);
    free(trace->predicted);
    free(trace->ahead);
    mixt_safetensors_close(trace->file);
    free(trace);
}

mixt_status mixt_trace_intact(const mixt_trace *trace, mixt_error *error)
{
    return trace->file != NULL ? mixt_safetensors_intact(trace->file, error) : MIXT_OK;
}

void mixt_trace_describe(const mixt_trace *trace, mixt_trace_info *info)
{
    *info = trace->info;
}

const char *mixt_trace_domain(const mixt_trace *trace, int domain)
{
    return domain >= 0 && domain < trace->info.domains ? trace->domain_names[domain] : NULL;
}

int mixt_trace_layer(const mixt_trace *trace, int layer)
{
    return layer >= 0 && layer < trace->info.layers ? trace->layer_numbers[layer] : -1;
}

double mixt_trace_dropped(const mixt_trace *trace, int layer)
{
    return layer >= 0 && layer < trace->info.layers ? mixt_trace_dropped_share(trace, layer) : 0;
}

void mixt_trace_uses(const mixt_trace *trace, int layer, uint64_t *uses)
{
    memset(uses, 0, (size_t)trace->info.experts * sizeof *uses);
    size_t k = (size_t)trace->info.experts_per_token;
    for (uint64_t i = 0; layer >= 0 && layer < trace->info.layers && i < trace->info.tokens; i++) {
        const uint16_t *row = mixt_trace_experts(trace, layer, i);
        for (size_t place = 0; place < k; place++) {
            if (row[place] != MIXT_TRACE_NONE) {
                uses[row[place]]++;
            }
        }
    }
}

int mixt_trace_layer_experts(const mixt_trace *trace, int layer)
{
    return layer >= 0 && layer < trace->info.layers ? trace->chosen[layer] : -1;
}

int mixt_trace_least_chosen(const mixt_trace *trace)
{
    int least = trace->info.experts_per_token;
    for (int i = 0; i < trace->info.layers; i++) {
        least = trace->chosen[i] < least ? trace->chosen[i] : least;
    }
    return least;
}

bool mixt_trace_has_dropped(const mixt_trace *trace)
{
    bool dropped = false;
    for (int i = 0; i < trace->info.layers; i++) {
        dropped = dropped || trace->dropped[i] != 0;
    }
    return dropped;
}

const uint8_t *mixt_trace_token_bytes(const mixt_trace *trace, int32_t token, size_t *length)
{
    assert(token >= 0 && token < trace->vocab_size);
    int64_t begin = trace->vocab_offsets[token];
    *length = (size_t)(trace->vocab_offsets[token + 1] - begin);
    return trace->vocab_bytes + begin;
}

static mixt_status check_vocabulary(const mixt_trace *trace, const char *name, mixt_error *error)
{
    for (int i = 0; i < trace->vocab_size; i++) {
        if (trace->vocab_offsets[i] > trace->vocab_offsets[i + 1]) {
            return mixt_fail(error, MIXT_ERROR_FORMAT,
                             "%s: vocab_offsets[%d]: smaller than the entry before it", name,
                             i + 1);
        }
    }
    return MIXT_OK;
}

/* Tokens, documents and domains; fills document_start. */
static mixt_status check_tokens(mixt_trace *trace, const char *name, mixt_error *error)
{
    uint64_t count = trace->info.tokens;
    int32_t last = -1;
    for (uint64_t i = 0; i < count; i++) {
        if (trace->tokens[i] < 0 || trace->tokens[i] >= trace->vocab_size) {
            return mixt_fail(error, MIXT_ERROR_FORMAT,
                             "%s: tokens[%llu]: id %d outside the vocabulary of %d", name,
                             (unsigned long long)i, trace->tokens[i], trace->vocab_size);
        }
        if (trace->domain[i] >= trace->info.domains) {
            return mixt_fail(error, MIXT_ERROR_FORMAT,
                             "%s: domain[%llu]: %d, but there are %d domains", name,
                             (unsigned long long)i, trace->domain[i], trace->info.domains);
        }
        if (i > 0 && trace->document[i] == last) {
            if (trace->domain[i] != trace->domain[i - 1]) {
                return mixt_fail(error, MIXT_ERROR_FORMAT,
                                 "%s: domain[%llu]: changes inside document %d", name,
                                 (unsigned long long)i, last);
            }
        } else if (trace->document[i] != last + 1) {
            return mixt_fail(error, MIXT_ERROR_FORMAT,
                             "%s: document[%llu]: %d behind %d; documents count 0, 1, 2, ... "
                             "one behind the other",
                             name, (unsigned long long)i, trace->document[i], last);
        }
        last = trace->document[i];
    }
    trace->info.documents = (uint64_t)(last + 1);
    free(trace->document_start);
    trace->document_start = calloc((size_t)last + 2, sizeof(uint64_t));
    if (trace->document_start == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory for %d documents", name,
                         last + 1);
    }
    for (uint64_t i = 0; i < count; i++) { /* ends up with one past the last token of each */
        trace->document_start[trace->document[i] + 1] = i + 1;
    }
    return MIXT_OK;
}

/* One row [k] of one layer: distinct experts in range among the layer's choices, or none with
 * weight 0. seen_at [E] holds the last `mark` of each expert. */
static const char *check_row(const mixt_trace *trace, int layer, uint64_t row, uint64_t *seen_at,
                             unsigned *expert)
{
    int k = trace->info.experts_per_token;
    const uint16_t *experts = trace->experts + row * (uint64_t)k;
    const uint16_t *weights = trace->weights + row * (uint64_t)k;
    for (int i = 0; i < k; i++) {
        *expert = experts[i];
        if (*expert == MIXT_TRACE_NONE && trace->none_allowed) {
            if ((weights[i] & 0x7FFF) != 0) {
                return "(none) has a weight, must be 0";
            }
        } else if (*expert >= (unsigned)trace->info.experts) {
            return "is not below the number of experts";
        } else if ((weights[i] & 0x7FFF) > 0x7C00) {
            return "has a weight that is not a number";
        } else if (seen_at[*expert] == row + 1) {
            return "chosen twice for one token";
        } else if (i >= trace->chosen[layer]) {
            return "stands behind the choices that the layer makes";
        } else {
            seen_at[*expert] = row + 1;
        }
    }
    return NULL;
}

/* Every row; fills has_none and dropped. */
static mixt_status check_experts(mixt_trace *trace, const char *name, mixt_error *error)
{
    uint64_t *seen_at = calloc((size_t)trace->info.experts, sizeof(uint64_t));
    if (seen_at == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", name);
    }
    uint64_t k = (uint64_t)trace->info.experts_per_token;
    uint64_t none = 0;
    mixt_status status = MIXT_OK;
    for (int layer = 0; layer < trace->info.layers && status == MIXT_OK; layer++) {
        uint64_t first = (uint64_t)layer * trace->info.tokens;
        trace->dropped[layer] = 0;
        for (uint64_t i = 0; i < trace->info.tokens && status == MIXT_OK; i++) {
            unsigned expert = 0;
            const char *wrong = check_row(trace, layer, first + i, seen_at, &expert);
            if (wrong != NULL) {
                status = mixt_fail(error, MIXT_ERROR_FORMAT, "%s: experts[%d, %llu]: expert %u %s",
                                   name, layer, (unsigned long long)i, expert, wrong);
            }
            for (uint64_t c = 0; c < k; c++) {
                bool is_none = trace->experts[(first + i) * k + c] == MIXT_TRACE_NONE;
                none += is_none;
                trace->dropped[layer] += is_none && c < (uint64_t)trace->chosen[layer];
            }
        }
    }
    trace->has_none = none != 0;
    free(seen_at);
    return status;
}

/* The highest bits that a half of at most log2 E, rounded, may have; halves of 0 and above are in
 * the order of their bits, and all others are higher. */
static uint16_t highest_entropy(int experts)
{
    float most = (float)log2(experts) * 1.0005f + 1e-4f;
    uint16_t half;
    mixt_f32_to_f16(&most, &half, 1);
    return half;
}

/* Margins and entropies. */
static mixt_status check_numbers(const mixt_trace *trace, const char *name, mixt_error *error)
{
    uint16_t most = highest_entropy(trace->info.experts);
    uint64_t rows = (uint64_t)trace->info.layers * trace->info.tokens;
    for (uint64_t i = 0; i < rows && trace->margins != NULL; i++) {
        uint16_t half = trace->margins[i];
        if (half >= 0x7C00 && (half & 0x7FFF) <= 0x7C00) {
            return mixt_fail(error, MIXT_ERROR_FORMAT,
                             "%s: margins[%llu, %llu]: %g, must be 0 or more and finite, or NaN",
                             name, (unsigned long long)(i / trace->info.tokens),
                             (unsigned long long)(i % trace->info.tokens),
                             (double)mixt_trace_weight(half));
        }
    }
    for (uint64_t i = 0; i < rows && trace->entropies != NULL; i++) {
        if (trace->entropies[i] > most) {
            return mixt_fail(error, MIXT_ERROR_FORMAT,
                             "%s: entropies[%llu, %llu]: %g, must be 0 to the log2 of %d experts",
                             name, (unsigned long long)(i / trace->info.tokens),
                             (unsigned long long)(i % trace->info.tokens),
                             (double)mixt_trace_weight(trace->entropies[i]), trace->info.experts);
        }
    }
    return MIXT_OK;
}

/* What an expert of `ahead` at place c of a row of a layer must be; seen_at as in check_row. */
static const char *check_ahead_row(const mixt_trace *trace, uint64_t row, uint64_t *seen_at,
                                   unsigned *expert)
{
    int k = trace->info.experts_per_token;
    const uint16_t *ahead = trace->ahead + row * (uint64_t)k;
    for (int i = 0; i < k; i++) {
        *expert = ahead[i];
        if (*expert == MIXT_TRACE_NONE) {
            continue;
        } else if (row < trace->info.tokens) {
            return "at the first layer, which no router reads before";
        } else if (*expert >= (unsigned)trace->info.experts) {
            return "is not below the number of experts";
        } else if (seen_at[*expert] == row + 1) {
            return "stands twice for one token";
        }
        seen_at[*expert] = row + 1;
    }
    return NULL;
}

/* What was predicted: tokens and experts. */
static mixt_status check_predictions(const mixt_trace *trace, const char *name, mixt_error *error)
{
    for (uint64_t i = 0; i < trace->info.tokens && trace->predicted != NULL; i++) {
        if (trace->predicted[i] < 0 || trace->predicted[i] >= trace->vocab_size) {
            return mixt_fail(error, MIXT_ERROR_FORMAT,
                             "%s: predicted[%llu]: id %d outside the vocabulary of %d", name,
                             (unsigned long long)i, trace->predicted[i], trace->vocab_size);
        }
    }
    uint64_t *seen_at = calloc((size_t)trace->info.experts, sizeof(uint64_t));
    if (seen_at == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", name);
    }
    uint64_t rows = (uint64_t)trace->info.layers * trace->info.tokens;
    mixt_status status = MIXT_OK;
    for (uint64_t row = 0; row < rows && trace->ahead != NULL && status == MIXT_OK; row++) {
        unsigned expert;
        const char *wrong = check_ahead_row(trace, row, seen_at, &expert);
        if (wrong != NULL) {
            status = mixt_fail(error, MIXT_ERROR_FORMAT, "%s: ahead[%llu, %llu]: expert %u %s",
                               name, (unsigned long long)(row / trace->info.tokens),
                               (unsigned long long)(row % trace->info.tokens), expert, wrong);
        }
    }
    free(seen_at);
    return status;
}

bool mixt_trace_tabulates(int layers, int experts, int experts_per_token, int domains)
{
    return layers >= 1 && layers <= MIXT_TRACE_MAX_LAYERS && experts >= 1 &&
           experts <= MIXT_TRACE_MAX_EXPERTS && experts_per_token >= 1 &&
           experts_per_token <= experts && domains >= 1 && domains <= MIXT_TRACE_MAX_DOMAINS &&
           (uint64_t)layers * (uint64_t)experts * (uint64_t)domains <= MIXT_TRACE_MAX_CELLS;
}

bool mixt_trace_fills(const mixt_trace_info *info)
{
    /* Tables have a cell for each expert and domain, whether anybody chose it or not. */
    uint64_t cells = (uint64_t)info->layers * (uint64_t)info->experts * (uint64_t)info->domains;
    uint64_t choices = (uint64_t)info->layers * info->tokens * (uint64_t)info->experts_per_token;
    return cells <= MIXT_TRACE_FREE_CELLS || cells / MIXT_TRACE_CHOICE_CELLS <= choices;
}

bool mixt_trace_layers_rise(const int *layer_numbers, int layers)
{
    bool rise = layer_numbers[0] >= 0;
    for (int i = 1; i < layers; i++) {
        rise = rise && layer_numbers[i] > layer_numbers[i - 1];
    }
    return rise;
}

void mixt_trace_say_weightless(const mixt_trace *trace, mixt_buffer *out)
{
    const mixt_trace_info *info = &trace->info;
    int count = info->identity_experts + info->zero_experts;
    if (count > 0) {
        mixt_buffer_format(out, ", %d and higher without weights (%d identity, %d zero)",
                           info->experts - count, info->identity_experts, info->zero_experts);
    }
}

mixt_status mixt_trace_check(mixt_trace *trace, const char *name, mixt_error *error)
{
    const mixt_trace_info *info = &trace->info;
    if (info->tokens == 0 || info->tokens > INT32_MAX) {
        return mixt_fail(error, MIXT_ERROR_FORMAT, "%s: tokens: %llu, must be 1 to 2^31-1", name,
                         (unsigned long long)info->tokens);
    }
    if (info->experts < 1 || info->experts > MIXT_TRACE_MAX_EXPERTS ||
        info->experts_per_token < 1 || info->experts_per_token > info->experts) {
        return mixt_fail(error, MIXT_ERROR_FORMAT,
                         "%s: %d of %d experts a token: must be 1 to the number of experts, which "
                         "may be %d",
                         name, info->experts_per_token, info->experts, MIXT_TRACE_MAX_EXPERTS);
    }
    if (info->identity_experts + info->zero_experts >= info->experts) {
        return mixt_fail(error, MIXT_ERROR_FORMAT,
                         "%s: %d identity and %d zero experts leave none of %d with weights", name,
                         info->identity_experts, info->zero_experts, info->experts);
    }
    if (!mixt_trace_tabulates(info->layers, info->experts, info->experts_per_token,
                              info->domains)) {
        return mixt_fail(error, MIXT_ERROR_FORMAT,
                         "%s: %d layers, %d domains, %d experts: more than mixt tabulates", name,
                         info->layers, info->domains, info->experts);
    }
    if (!mixt_trace_fills(info)) {
        return mixt_fail(error, MIXT_ERROR_FORMAT,
                         "%s: %d layers, %d domains, %d experts: too many for the %llu tokens",
                         name, info->layers, info->domains, info->experts,
                         (unsigned long long)info->tokens);
    }
    if (!mixt_trace_layers_rise(trace->layer_numbers, info->layers)) {
        return mixt_fail(error, MIXT_ERROR_FORMAT, "%s: layer numbers must rise from 0 or more",
                         name);
    }
    for (int i = 0; i < info->layers; i++) {
        if (trace->chosen[i] < 1 || trace->chosen[i] > info->experts_per_token) {
            return mixt_fail(error, MIXT_ERROR_FORMAT,
                             "%s: experts_per_layer[%d]: %d, must be 1 to the %d of a token", name,
                             i, trace->chosen[i], info->experts_per_token);
        }
    }
    mixt_status status = check_vocabulary(trace, name, error);
    if (status == MIXT_OK) {
        status = check_tokens(trace, name, error);
    }
    if (status == MIXT_OK) {
        status = check_experts(trace, name, error);
    }
    if (status == MIXT_OK) {
        status = check_numbers(trace, name, error);
    }
    return status == MIXT_OK ? check_predictions(trace, name, error) : status;
}
