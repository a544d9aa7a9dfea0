/* Merging a LoRA adapter: w' = w + scale b a for every matrix that it has a pair of tensors for, by
 * the arithmetic of the training plan's low_rank. Everything is found, checked and given memory
 * first; then nothing can fail any more. */
#define _GNU_SOURCE /* asprintf */
#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/arithmetic.h"
#include "core/memory.h"
#include "core/number.h"
#include "core/memory_limit.h"
#include "core/threads.h"
#include "model/adapters.h"
#include "model/peft.h"
#include "model/storage.h"
#include "model/stored.h"
#include "ops/low_rank.h"

#define ROWS_OF_ITEM 16
#define MODULE_MOST 112 /* longer than any tensor's name in a model */

static const char prefix[] = MIXT_ADAPTER_PREFIX;
static const char a_end[] = MIXT_ADAPTER_A;
static const char b_end[] = MIXT_ADAPTER_B;
static const char base_end[] = ".base_layer.weight";

/* Tensors of one module: a [rank, in], b [out, rank]; of a stack of E matrices (target_parameters)
 * a [E rank, in], the experts one below the other, b [out, rank E], the experts of a k side by
 * side. */
typedef struct update {
    char module[MODULE_MOST + 1]; /* as the file has it, behind the prefix */
    const mixt_tensor_info *a, *b;
    const mixt_tensor_info *base; /* saved beside them in the place of the model's, or NULL */
    int64_t rank, in, out;
    double scale;
    size_t tensor; /* place in the folder's tensors; of a stack none */
    bool stack;
    int first, second; /* of a stack: w_gate and w_up, or w_down and -1 */
} update;

typedef struct merge {
    mixt_model *model;
    mixt_peft adapter;
    mixt_folder_tensors tensors; /* of the model's folder, by name */
    bool *taken;                 /* [tensors.count] */
    update *updates;
    size_t count, capacity;
    float ***merged; /* [parameter_count][held.count]: matrices in memory, or NULL */
    float *scratch;  /* a tensor */
    mixt_pool *pool;
    float *b_rows; /* [threads, rank_most] */
    int64_t rank_most;
    float **a, **b, **base; /* [count]: values */
    int matrices;
    char words[160]; /* what is merged */
    char *text;      /* the same behind its folder and what was merged before */
    mixt_error *error;
} merge;

static mixt_status refuse(const merge *m, const mixt_tensor_info *tensor, const char *rule)
{
    return mixt_fail(m->error, MIXT_ERROR_UNSUPPORTED, "%s: tensor %.200s: %s", m->adapter.weights,
                     tensor->name, rule);
}

static mixt_status no_memory(const merge *m, size_t bytes)
{
    return mixt_fail(m->error, MIXT_ERROR_MEMORY, "%s: no memory for %.1f MB of merged weights",
                     m->adapter.weights, (double)bytes / 1e6);
}

/* ------------------------------------------------------------------------------------------ */
/* Pairs of tensors                                                                           */

/* The module in a name that ends so; false where it does not. */
static bool module_of(const char *name, const char *end, char module[MODULE_MOST + 1])
{
    size_t length = strlen(name), before = sizeof prefix - 1, behind = strlen(end);
    if (length <= before + behind || strncmp(name, prefix, before) != 0 ||
        strcmp(name + length - behind, end) != 0 || length - before - behind > MODULE_MOST) {
        return false;
    }
    snprintf(module, MODULE_MOST + 1, "%.*s", (int)(length - before - behind), name + before);
    return true;
}

static const mixt_tensor_info *find(const merge *m, const char *module, const char *end)
{
    char name[MODULE_MOST + 64];
    snprintf(name, sizeof name, "%s%s%s", prefix, module, end);
    return mixt_safetensors_find(m->adapter.file, name);
}

static mixt_status check_tensor(const merge *m, const mixt_tensor_info *tensor)
{
    bool float_type = tensor->dtype == MIXT_DTYPE_F32 || tensor->dtype == MIXT_DTYPE_F16 ||
                      tensor->dtype == MIXT_DTYPE_BF16;
    if (!float_type) {
        return mixt_fail(m->error, MIXT_ERROR_UNSUPPORTED,
                         "%s: tensor %.200s has type %.20s; adapters are F32, F16 or BF16",
                         m->adapter.weights, tensor->name, tensor->dtype_name);
    }
    if (tensor->rank != 2 || tensor->shape[0] < 1 || tensor->shape[1] < 1) {
        return refuse(m, tensor, "is no matrix");
    }
    return MIXT_OK;
}

/* What is said of a tensor that is no part of a pair. */
static const char *reason(const char *name)
{
    static const struct {
        const char *part, *rule;
    } known[] = {
        {"lora_magnitude_vector", "DoRA (use_dora) is not merged by mixt"},
        {"lora_embedding_", "adapters of embeddings are not merged by mixt"},
        {"modules_to_save", "modules that are saved whole (modules_to_save) are not read by mixt"},
        {".lora_A.bias", "biases of adapters (lora_bias) are not merged by mixt"},
        {".lora_B.bias", "biases of adapters (lora_bias) are not merged by mixt"},
        {".bias", "biases beside the adapter (bias: all, lora_only) are not read by mixt"},
        {"lora_diag", "KaSA is not merged by mixt"},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strstr(name, known[i].part) != NULL) {
            return known[i].rule;
        }
    }
    return "is no part of a LoRA adapter as PEFT writes it "
           "(" MIXT_ADAPTER_PREFIX "MODULE" MIXT_ADAPTER_A " and " MIXT_ADAPTER_B ")";
}

static mixt_status add_update(merge *m, const update *found)
{
    if (!mixt_grow(&m->updates, &m->capacity, m->count + 1, sizeof *m->updates)) {
        return no_memory(m, sizeof *m->updates);
    }
    m->updates[m->count++] = *found;
    return MIXT_OK;
}

static mixt_status pair_tensors(merge *m)
{
    for (size_t i = 0; i < mixt_safetensors_count(m->adapter.file); i++) {
        const mixt_tensor_info *tensor = mixt_safetensors_tensor(m->adapter.file, i);
        update found = {.second = -1};
        bool b = module_of(tensor->name, b_end, found.module);
        bool base = !b && module_of(tensor->name, base_end, found.module);
        if (!b && !base && !module_of(tensor->name, a_end, found.module)) {
            return refuse(m, tensor, reason(tensor->name));
        }
        MIXT_TRY(check_tensor(m, tensor));
        found.a = find(m, found.module, a_end);
        found.b = find(m, found.module, b_end);
        found.base = find(m, found.module, base_end);
        if (found.a == NULL || found.b == NULL) {
            return mixt_fail(m->error, MIXT_ERROR_FORMAT, "%s: tensor %.200s: its %s is missing",
                             m->adapter.weights, tensor->name,
                             found.a == NULL ? a_end + 1 : b_end + 1);
        }
        MIXT_TRY(b || base ? MIXT_OK : add_update(m, &found));
    }
    return m->count > 0 ? MIXT_OK
                        : mixt_fail(m->error, MIXT_ERROR_FORMAT, "%s: holds no adapter at all",
                                    m->adapter.weights);
}

/* ------------------------------------------------------------------------------------------ */
/* What they are of                                                                           */

static int compare_name(const void *key, const void *first, void *list)
{
    const mixt_folder_tensors *tensors = list;
    return strcmp(key, tensors->parts[*(const size_t *)first].piece.name);
}

/* The folder's tensor MODULE.weight, tensors.count where there is none. */
static size_t find_tensor(const merge *m, const char *module)
{
    char name[MODULE_MOST + 64];
    snprintf(name, sizeof name, "%s.weight", module);
    size_t low = 0, high = m->tensors.count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        int order = compare_name(name, &m->tensors.first[middle], (void *)&m->tensors);
        if (order == 0) {
            return middle;
        }
        if (order < 0) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return m->tensors.count;
}

/* Names that a module of the file may have in the model: as it is; as a part of a model without a
 * head; and, Mixtral's mixtures, under the name that transformers 5 gives them in memory. */
static bool other_name(const char *module, int number, char other[MODULE_MOST + 32])
{
    static const char memory[] = ".mlp.", folder[] = ".block_sparse_moe.";
    const char *at = strstr(module, memory);
    const char *before = (number & 1) != 0 ? "model." : "";
    if ((number & 2) == 0) {
        snprintf(other, MODULE_MOST + 32, "%s%s", before, module);
    } else if (at != NULL) {
        snprintf(other, MODULE_MOST + 32, "%s%.*s%s%s", before, (int)(at - module), module, folder,
                 at + sizeof memory - 1);
    }
    return (number & 2) == 0 || at != NULL;
}

/* "..experts" of a name in a layer's stack of experts. */
static bool is_stack(const merge *m, int down, const char *module)
{
    const mixt_parameter *p = &m->model->parameters[down];
    const mixt_tensor_row *row = mixt_family_row(m->model->family, p->slot, MIXT_FORM_FOLDER, NULL);
    mixt_layout_piece piece;
    mixt_layout_piece_get(m->model, p, row, MIXT_FORM_FOLDER, 0, &piece);
    const char *experts = strstr(piece.name, ".experts.");
    size_t length = experts != NULL ? (size_t)(experts - piece.name) + 8 : 0;
    return length > 0 && strncmp(piece.name, module, length) == 0 &&
           (module[length] == '\0' || strcmp(module + length, ".base_layer") == 0);
}

/* The layer whose stack of experts a module is: by its w_down, -1 where it is none. */
static int find_stack(const merge *m, const char *module)
{
    for (int i = 0; i < m->model->parameter_count; i++) {
        if (m->model->parameters[i].slot == MIXT_SLOT_EXPERT_DOWN && is_stack(m, i, module)) {
            return i;
        }
    }
    return -1;
}

static mixt_status wrong_shape(const merge *m, const update *u, int64_t rank, int64_t out,
                               int64_t in)
{
    return mixt_fail(m->error, MIXT_ERROR_FORMAT,
                     "%s: module %s: lora_A [%lld,%lld] and lora_B [%lld,%lld] must be [%lld,%lld] "
                     "and [%lld,%lld] for the model and %s",
                     m->adapter.weights, u->module, (long long)u->a->shape[0],
                     (long long)u->a->shape[1], (long long)u->b->shape[0],
                     (long long)u->b->shape[1], (long long)rank, (long long)in, (long long)out,
                     (long long)rank, MIXT_ADAPTER_CONFIG);
}

static mixt_status take(merge *m, const update *u, size_t tensor)
{
    if (m->taken[tensor]) {
        return mixt_fail(m->error, MIXT_ERROR_FORMAT, "%s: module %s: %s is adapted twice",
                         m->adapter.weights, u->module,
                         m->tensors.parts[m->tensors.first[tensor]].piece.name);
    }
    m->taken[tensor] = true;
    return MIXT_OK;
}

/* Rank and scale by the name that PEFT matches: of a parameter that was asked for by name, that. */
static mixt_status find_scale(const merge *m, update *u, const char *parameter)
{
    char name[MODULE_MOST + 32];
    snprintf(name, sizeof name, "%s", u->module);
    char *layer = strstr(name, ".base_layer");
    if (u->stack && layer != NULL) {
        *layer = '\0';
    }
    size_t length = strlen(name);
    snprintf(name + length, sizeof name - length, "%s", parameter);
    if (!u->stack && !mixt_peft_targets_parameter(&m->adapter, name)) {
        name[length] = '\0';
    }
    return mixt_peft_scale(&m->adapter, name, &u->rank, &u->scale, m->error);
}

/* A matrix of the folder, whatever parameters lie in it. */
static mixt_status check_matrix(merge *m, update *u)
{
    const mixt_folder_part *part = &m->tensors.parts[m->tensors.first[u->tensor]];
    const mixt_layout_piece *piece = &part->piece;
    if (piece->rank != 2 || m->model->parameters[part->parameter].slot == MIXT_SLOT_EMBED) {
        return refuse(m, u->a,
                      piece->rank == 2 ? reason("lora_embedding_")
                                       : "adapts no matrix of the model");
    }
    MIXT_TRY(find_scale(m, u, ".weight"));
    u->out = piece->shape[0];
    u->in = piece->shape[1];
    const int64_t *base = u->base != NULL ? u->base->shape : piece->shape;
    if (u->a->shape[0] != u->rank || u->a->shape[1] != u->in || u->b->shape[0] != u->out ||
        u->b->shape[1] != u->rank) {
        return wrong_shape(m, u, u->rank, u->out, u->in);
    }
    if (base[0] != u->out || base[1] != u->in) {
        return refuse(m, u->base, "has another shape than the model's matrix");
    }
    m->matrices++;
    return take(m, u, u->tensor);
}

/* Every tensor of the folder that holds a part of this parameter. */
static mixt_status take_parameter(merge *m, const update *u, int parameter)
{
    for (size_t t = 0; t < m->tensors.count; t++) {
        bool holds = false;
        for (size_t i = m->tensors.first[t]; i < m->tensors.first[t + 1]; i++) {
            holds = holds || m->tensors.parts[i].parameter == parameter;
        }
        MIXT_TRY(holds ? take(m, u, t) : MIXT_OK);
    }
    return MIXT_OK;
}

static bool share_tensor(const merge *m, int a, int b)
{
    const mixt_tensor_row *x =
        mixt_family_row(m->model->family, m->model->parameters[a].slot, MIXT_FORM_FOLDER, NULL);
    const mixt_tensor_row *y =
        mixt_family_row(m->model->family, m->model->parameters[b].slot, MIXT_FORM_FOLDER, NULL);
    return strcmp(x->hf, y->hf) == 0;
}

/* gate_up_proj [E, 2 F, d] or down_proj [E, d, F], told apart by their sizes: it is one where
 * 2 F = d and d = F do not hold at once. */
static mixt_status check_stack(merge *m, update *u, int down)
{
    const mixt_parameter *p = &m->model->parameters[down];
    int64_t experts = p->size[0], d = p->size[1], f = p->size[2];
    bool both = u->a->shape[1] == d && u->b->shape[0] == 2 * f;
    u->stack = true;
    if (u->base != NULL) {
        return refuse(m, u->base, "is not read for a stack of experts");
    }
    MIXT_TRY(find_scale(m, u, both ? ".gate_up_proj" : ".down_proj"));
    u->in = both ? d : f;
    u->out = both ? 2 * f : d;
    int64_t rows = u->rank * experts; /* both below 2^31 */
    if (u->a->shape[0] != rows || u->a->shape[1] != u->in || u->b->shape[0] != u->out ||
        u->b->shape[1] != rows) {
        return wrong_shape(m, u, rows, u->out, u->in);
    }
    u->first = both ? mixt_model_find(m->model, MIXT_SLOT_EXPERT_GATE, p->layer) : down;
    u->second = both ? mixt_model_find(m->model, MIXT_SLOT_EXPERT_UP, p->layer) : -1;
    assert(u->first >= 0 && (u->second >= 0 || !both));
    MIXT_TRY(take_parameter(m, u, u->first));
    if (both && !share_tensor(m, u->first, u->second)) {
        MIXT_TRY(take_parameter(m, u, u->second));
    }
    m->matrices += (int)experts * (both ? 2 : 1);
    return MIXT_OK;
}

static mixt_status resolve(merge *m, update *u)
{
    char name[MODULE_MOST + 32];
    for (int i = 0; i < 4; i++) {
        if (!other_name(u->module, i, name)) {
            continue;
        }
        u->tensor = find_tensor(m, name);
        if (u->tensor < m->tensors.count) {
            return check_matrix(m, u);
        }
        int down = find_stack(m, name);
        if (down >= 0) {
            return check_stack(m, u, down);
        }
    }
    if (strcmp(u->module, "lm_head") == 0 && m->model->options.tie_embeddings) {
        return refuse(m, u->a, "the model's head is its embeddings, which would change as well");
    }
    return refuse(m, u->a, "the model has no such matrix");
}

/* ------------------------------------------------------------------------------------------ */
/* Memory                                                                                     */

/* Values [offset, offset + count) of a parameter where they can be written: in the block, or in
 * memory in the place of matrices that are mapped. A range is a part of a matrix or whole ones.
 * NULL without memory. */
static float *writable(merge *m, int parameter, size_t offset, size_t count)
{
    mixt_model *model = m->model;
    const mixt_parameter *p = &model->parameters[parameter];
    if (model->held == NULL) {
        return model->weights + p->offset + offset;
    }
    const mixt_held *held = &model->held[parameter];
    if (held->matrices == NULL) {
        return held->values + offset;
    }
    size_t each = (size_t)held->matrices[0].n * (size_t)held->matrices[0].k;
    size_t first = offset / each, matrices = (offset + count - 1) / each - first + 1;
    if (m->merged[parameter] == NULL) {
        m->merged[parameter] = calloc((size_t)held->count, sizeof *m->merged[parameter]);
    }
    float **at = m->merged[parameter];
    if (at != NULL && at[first] == NULL) {
        float *values = mixt_source_memory(model->source, matrices * each * sizeof *values);
        if (values == NULL) {
            return NULL;
        }
        mixt_model_values(model, parameter, first * each, matrices * each, values);
        for (size_t i = 0; i < matrices; i++) {
            assert(at[first + i] == NULL);
            at[first + i] = values + i * each;
        }
    }
    return at == NULL ? NULL : at[first] + (offset - first * each);
}

/* One tensor of the adapter as fp32. */
static mixt_status read_values(const merge *m, const mixt_tensor_info *tensor, float **values)
{
    size_t count = (size_t)mixt_tensor_elements(tensor);
    *values = malloc(count * sizeof **values);
    if (*values == NULL) {
        return no_memory(m, count * sizeof **values);
    }
    MIXT_TRY(mixt_safetensors_read_f32(m->adapter.file, tensor, 0, count, *values, m->error));
    for (size_t i = 0; i < count; i++) {
        if (!isfinite((*values)[i])) {
            return mixt_fail(m->error, MIXT_ERROR_FORMAT,
                             "%s: tensor %.200s holds %s in row %zu, column %zu",
                             m->adapter.weights, tensor->name, isnan((*values)[i]) ? "NaN" : "Inf",
                             i / (size_t)tensor->shape[1], i % (size_t)tensor->shape[1]);
        }
    }
    return MIXT_OK;
}

/* The parameters of an update: parts of its tensor, or its stacks. */
static mixt_status make_writable(merge *m, const update *u)
{
    if (!u->stack) {
        for (size_t i = m->tensors.first[u->tensor]; i < m->tensors.first[u->tensor + 1]; i++) {
            const mixt_folder_part *part = &m->tensors.parts[i];
            size_t count = mixt_layout_piece_values(&part->piece);
            if (writable(m, part->parameter, part->piece.offset, count) == NULL) {
                return no_memory(m, count * sizeof(float));
            }
        }
        return MIXT_OK;
    }
    for (int side = 0; side < 2; side++) {
        int parameter = side == 0 ? u->first : u->second;
        const mixt_parameter *p = &m->model->parameters[parameter < 0 ? 0 : parameter];
        size_t each = p->count / (size_t)p->size[0];
        for (int64_t e = 0; parameter >= 0 && e < p->size[0]; e++) {
            if (writable(m, parameter, (size_t)e * each, each) == NULL) {
                return no_memory(m, each * sizeof(float));
            }
        }
    }
    return MIXT_OK;
}

static size_t values_of(const merge *m, const update *u)
{
    size_t matrix = (size_t)u->out * (size_t)u->in;
    return u->stack ? matrix * (size_t)m->model->options.experts : matrix;
}

static mixt_status prepare(merge *m)
{
    size_t most = 1, total = 0;
    MIXT_TRY(mixt_pool_create(0, &m->pool, m->error));
    size_t threads = (size_t)mixt_pool_threads(m->pool);
    for (size_t i = 0; i < m->count; i++) {
        const update *u = &m->updates[i];
        most = !u->stack && values_of(m, u) > most ? values_of(m, u) : most;
        m->rank_most = u->rank > m->rank_most ? u->rank : m->rank_most;
        total += values_of(m, u) * sizeof(float);
    }
    if (m->model->held != NULL && total >= mixt_memory_available(NULL)) {
        return no_memory(m, total);
    }
    m->merged = calloc((size_t)m->model->parameter_count, sizeof *m->merged);
    m->scratch = malloc(most * sizeof *m->scratch);
    m->b_rows = malloc(threads * (size_t)m->rank_most * sizeof *m->b_rows);
    m->a = calloc(m->count, sizeof *m->a);
    m->b = calloc(m->count, sizeof *m->b);
    m->base = calloc(m->count, sizeof *m->base);
    if (m->merged == NULL || m->scratch == NULL || m->b_rows == NULL || m->a == NULL ||
        m->b == NULL || m->base == NULL) {
        return no_memory(m, most * sizeof *m->scratch);
    }
    for (size_t i = 0; i < m->count; i++) {
        const update *u = &m->updates[i];
        MIXT_TRY(read_values(m, u->a, &m->a[i]));
        MIXT_TRY(read_values(m, u->b, &m->b[i]));
        MIXT_TRY(u->base == NULL ? MIXT_OK : read_values(m, u->base, &m->base[i]));
        MIXT_TRY(make_writable(m, u));
    }
    return mixt_model_intact(m->model, m->error);
}

/* ------------------------------------------------------------------------------------------ */
/* Merging                                                                                    */

/* Rows of one matrix, side by side. */
typedef struct row_task {
    merge *m;
    const update *u;
    const float *a; /* [rank, in] */
    const float *b; /* value k of row r: b[r * b_row + k * b_step] */
    int64_t b_row, b_step;
    float *rows; /* [count, in] */
    int64_t count;
} row_task;

static void add_to_rows(void *context, int64_t item, int thread)
{
    const row_task *task = context;
    const update *u = task->u;
    const mixt_low_rank shape = {u->in, u->rank, u->scale};
    float *b = task->m->b_rows + thread * task->m->rank_most;
    for (int64_t row = item * ROWS_OF_ITEM; row < (item + 1) * ROWS_OF_ITEM && row < task->count;
         row++) {
        float *w = task->rows + row * u->in;
        for (int64_t k = 0; k < u->rank; k++) {
            b[k] = task->b[row * task->b_row + k * task->b_step];
        }
        mixt_low_rank_row_f32(&shape, w, b, task->a, w);
    }
}

static void run(const row_task *task)
{
    mixt_pool_run(task->m->pool, mixt_divide_up(task->count, ROWS_OF_ITEM), add_to_rows,
                  (void *)(uintptr_t)task);
}

static void merge_matrix(merge *m, size_t index)
{
    const update *u = &m->updates[index];
    size_t first = m->tensors.first[u->tensor], end = m->tensors.first[u->tensor + 1];
    float *tensor = m->scratch;
    const mixt_folder_part *parts = m->tensors.parts;
    bool plain = end == first + 1 && mixt_layout_piece_is_plain(&parts[first].piece);
    for (size_t i = first; i < end; i++) {
        const mixt_layout_piece *piece = &parts[i].piece;
        float *values =
            writable(m, parts[i].parameter, piece->offset, mixt_layout_piece_values(piece));
        if (plain) {
            tensor = values;
        } else {
            mixt_layout_scatter(piece, values, tensor);
        }
    }
    if (m->base[index] != NULL) {
        memcpy(tensor, m->base[index], values_of(m, u) * sizeof *tensor);
    }
    run(&(row_task){m, u, m->a[index], m->b[index], u->rank, 1, tensor, u->out});
    for (size_t i = first; i < end && !plain; i++) {
        const mixt_layout_piece *piece = &parts[i].piece;
        mixt_layout_gather(
            piece, tensor,
            writable(m, parts[i].parameter, piece->offset, mixt_layout_piece_values(piece)));
    }
}

/* One stack: row f of its matrices is row `from` + f * `step` of b. */
static void merge_side(merge *m, size_t index, int parameter, int64_t from, int64_t step)
{
    const update *u = &m->updates[index];
    const mixt_parameter *p = &m->model->parameters[parameter];
    int64_t experts = p->size[0], rows = p->size[1], row_of_b = u->rank * experts;
    size_t each = (size_t)(rows * u->in);
    assert(p->size[2] == u->in);
    for (int64_t e = 0; e < experts; e++) {
        run(&(row_task){m, u, m->a[index] + e * u->rank * u->in, m->b[index] + from * row_of_b + e,
                        step * row_of_b, experts, writable(m, parameter, (size_t)e * each, each),
                        rows});
    }
}

static void merge_stack(merge *m, size_t index)
{
    const update *u = &m->updates[index];
    if (u->second < 0) {
        merge_side(m, index, u->first, 0, 1);
        return;
    }
    mixt_slot slot = m->model->parameters[u->first].slot;
    mixt_layout layout = mixt_family_row(m->model->family, slot, MIXT_FORM_FOLDER, NULL)->hf_layout;
    bool woven = layout == MIXT_LAYOUT_EVEN;
    merge_side(m, index, u->first, 0, woven ? 2 : 1);
    merge_side(m, index, u->second, woven ? 1 : u->out / 2, woven ? 2 : 1);
}

/* The model's matrices are those in memory from here on. */
static void commit(merge *m)
{
    for (int i = 0; m->model->held != NULL && i < m->model->parameter_count; i++) {
        const mixt_held *held = &m->model->held[i];
        for (int j = 0; m->merged[i] != NULL && j < held->count; j++) {
            mixt_matrix *matrix = &held->matrices[j];
            if (m->merged[i][j] != NULL) {
                *matrix = (mixt_matrix){.type = MIXT_TYPE_F32,
                                        .n = matrix->n,
                                        .k = matrix->k,
                                        .data = m->merged[i][j],
                                        .row_bytes = (size_t)matrix->k * sizeof(float)};
            }
        }
    }
}

/* What is merged, in words: what was before it, and this. */
static mixt_status describe(merge *m, const char *folder)
{
    int64_t least = INT64_MAX, most = 0;
    double low = INFINITY, high = -INFINITY;
    for (size_t i = 0; i < m->count; i++) {
        const update *u = &m->updates[i];
        least = u->rank < least ? u->rank : least;
        most = u->rank > most ? u->rank : most;
        low = fmin(low, u->scale);
        high = fmax(high, u->scale);
    }
    char scale[64];
    mixt_format(scale, sizeof scale, low == high ? "%.6g" : "%.6g to %.6g", low, high);
    int length = snprintf(m->words, sizeof m->words, "%d %s, rank %lld", m->matrices,
                          m->matrices == 1 ? "matrix" : "matrices", (long long)least);
    if (most > least) {
        length += snprintf(m->words + length, sizeof m->words - (size_t)length, " to %lld",
                           (long long)most);
    }
    snprintf(m->words + length, sizeof m->words - (size_t)length, ", scale %s", scale);
    const char *before = m->model->merged;
    if (asprintf(&m->text, "%s%s%s (%s)", before != NULL ? before : "", before != NULL ? "; " : "",
                 folder, m->words) < 0) {
        m->text = NULL;
        return no_memory(m, strlen(folder));
    }
    return MIXT_OK;
}

static void release(merge *m)
{
    for (size_t i = 0; i < m->count; i++) {
        free(m->a != NULL ? m->a[i] : NULL);
        free(m->b != NULL ? m->b[i] : NULL);
        free(m->base != NULL ? m->base[i] : NULL);
    }
    for (int i = 0; m->merged != NULL && i < m->model->parameter_count; i++) {
        free(m->merged[i]);
    }
    free(m->a);
    free(m->b);
    free(m->base);
    free(m->merged);
    free(m->scratch);
    free(m->b_rows);
    mixt_pool_free(m->pool);
    free(m->taken);
    free(m->updates);
    mixt_folder_tensors_free(&m->tensors);
    mixt_peft_close(&m->adapter);
}

static mixt_status resolve_all(merge *m)
{
    m->taken = calloc(m->tensors.count + 1, sizeof *m->taken);
    if (m->taken == NULL) {
        return no_memory(m, m->tensors.count);
    }
    for (size_t i = 0; i < m->count; i++) {
        MIXT_TRY(resolve(m, &m->updates[i]));
        if (!isfinite((float)m->updates[i].scale)) {
            return refuse(m, m->updates[i].a, "its alpha over its rank is no fp32 number");
        }
    }
    return MIXT_OK;
}

/* Is the folder the one that the model was opened from, with its adapter? */
static bool is_merged(const mixt_model *model, const char *folder)
{
    struct stat from, other;
    return model->merged != NULL && model->source != NULL &&
           stat(mixt_source_path(model->source), &from) == 0 && stat(folder, &other) == 0 &&
           from.st_dev == other.st_dev && from.st_ino == other.st_ino;
}

mixt_status mixt_model_merge(mixt_model *model, const char *folder, mixt_error *error)
{
    merge m = {.model = model, .error = error};
    if (model->trained != NULL || model->adapters != NULL) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "model: it is in training");
    }
    MIXT_TRY(mixt_stored_refuse(model, "adapters are merged", error));
    MIXT_TRY(mixt_model_refuse_spread(model, "merged with adapters", error));
    if (is_merged(model, folder)) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "%s: its adapter is in the model already, which was opened from there",
                         folder);
    }
    mixt_status status = mixt_peft_open(folder, &m.adapter, error);
    if (status == MIXT_OK) {
        status = mixt_folder_tensors_list(model, &m.tensors, error);
    }
    if (status == MIXT_OK) {
        status = pair_tensors(&m);
    }
    if (status == MIXT_OK) {
        status = resolve_all(&m);
    }
    if (status == MIXT_OK) {
        status = describe(&m, folder);
    }
    if (status == MIXT_OK) {
        status = prepare(&m);
    }
    for (size_t i = 0; i < m.count && status == MIXT_OK; i++) {
        if (m.updates[i].stack) {
            merge_stack(&m, i);
        } else {
            merge_matrix(&m, i);
        }
    }
    if (status == MIXT_OK) {
        commit(&m);
        mixt_remark(&model->remarks, "%s: LoRA adapter merged: %s", folder, m.words);
        free(model->merged);
        model->merged = m.text;
    } else {
        free(m.text);
    }
    release(&m);
    return status;
}
