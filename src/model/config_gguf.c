/* Options in GGUF metadata: a family's rows, and beside them what follows one rule whatever the
 * family (rope scaling, latent attention, the kind of score, tied embeddings). */
#include "model/config_gguf.h"
#include "model/config_gguf_rope.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/number.h"

void mixt_gguf_key(const char *arch, const char *name, char key[160])
{
    snprintf(key, 160, "%.60s.%s", arch, name);
}

mixt_status mixt_gguf_unsupported(const mixt_gguf_reader *reader, const char *name,
                                  const char *what)
{
    return mixt_fail(reader->error, MIXT_ERROR_UNSUPPORTED, "%s: %s.%s: %s",
                     mixt_gguf_path(reader->file, 0), reader->arch, name, what);
}

static const mixt_gguf_tensor *embeddings(const mixt_gguf_reader *r)
{
    const mixt_gguf_tensor *tensor = mixt_gguf_find(r->file, "token_embd.weight");
    return tensor != NULL && tensor->rank == 2 ? tensor : NULL;
}

/* Widths that files from before June 2024 (qwen2moe) have no key for: those of the tensors; 0:
 * none. */
static int64_t width_of_tensor(const mixt_gguf_reader *r, const char *name)
{
    static const struct {
        const char *key, *tensor;
    } widths[] = {
        {"expert_feed_forward_length", "blk.0.ffn_up_exps.weight"},
        {"expert_feed_forward_length", "blk.0.ffn_up.0.weight"},
        {"expert_shared_feed_forward_length", "blk.0.ffn_up_shexp.weight"},
    };
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++) {
        const mixt_gguf_tensor *tensor = mixt_gguf_find(r->file, widths[i].tensor);
        if (strcmp(name, widths[i].key) == 0 && tensor != NULL && tensor->rank >= 2) {
            return tensor->size[1];
        }
    }
    return 0;
}

static bool has_key(void *user, const char *name)
{
    const mixt_gguf_reader *r = user;
    char key[160];
    mixt_gguf_key(r->arch, name, key);
    return mixt_gguf_has(r->file, key) ||
           (strcmp(name, "vocab_size") == 0 && embeddings(r) != NULL) ||
           width_of_tensor(r, name) > 0;
}

/* Keys for which llama.cpp takes one number or a list with one for each layer. */
static bool is_layered(const mixt_gguf_reader *r, const char *name, const char *key,
                       mixt_gguf_array *array)
{
    static const char *const names[] = {"attention.head_count", "attention.head_count_kv",
                                        "feed_forward_length"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(name, names[i]) == 0) {
            return mixt_gguf_array_of(r->file, key, MIXT_GGUF_U32, array, NULL) == MIXT_OK ||
                   mixt_gguf_array_of(r->file, key, MIXT_GGUF_I32, array, NULL) == MIXT_OK;
        }
    }
    return false;
}

/* The number that all layers have: layers here are alike. */
static mixt_status read_layers(const mixt_gguf_reader *r, const char *key,
                               const mixt_gguf_array *array, mixt_gguf_range range, int64_t *value)
{
    char blocks[160];
    int64_t layers;
    int32_t first = 0;
    const char *path = mixt_gguf_path(r->file, 0);
    mixt_gguf_key(r->arch, "block_count", blocks);
    MIXT_TRY(mixt_gguf_integer(r->file, blocks, (mixt_gguf_range){1, 1 << 20}, &layers, r->error));
    if (array->count != (size_t)layers) {
        return mixt_fail(r->error, MIXT_ERROR_FORMAT,
                         "%s: key \"%s\" has %zu numbers for %d layers", path, key, array->count,
                         (int)layers);
    }
    for (size_t i = 0; i < array->count; i++) {
        int32_t number; /* of u32 too: above 2^31 it is negative, out of every range */
        memcpy(&number, (const char *)array->data + i * sizeof number, sizeof number);
        first = i == 0 ? number : first;
        if (number != first) {
            return mixt_fail(r->error, MIXT_ERROR_UNSUPPORTED,
                             "%s: key \"%s\" is %d for layer 0 and %d for layer %zu: only one "
                             "number for all layers is supported",
                             path, key, (int)first, (int)number, i);
        }
    }
    if (!(first >= range.low && first <= range.high)) {
        return mixt_fail(r->error, MIXT_ERROR_FORMAT, "%s: key \"%s\" is %d, not %.17g to %.17g",
                         path, key, (int)first, range.low, range.high);
    }
    *value = first;
    return MIXT_OK;
}

static mixt_status read_key(void *user, const mixt_config_row *row, const char *name, double *value)
{
    const mixt_gguf_reader *r = user;
    mixt_gguf_array array;
    char key[160];
    mixt_gguf_key(r->arch, name, key);
    mixt_gguf_range range = {row->low, row->high};
    if (row->type == MIXT_FIELD_BOOL) {
        bool flag;
        MIXT_TRY(mixt_gguf_bool(r->file, key, &flag, r->error));
        *value = flag ? 1 : 0;
        return MIXT_OK;
    }
    if (row->type == MIXT_FIELD_NUMBER || row->type == MIXT_FIELD_NULL_NUMBER) {
        return mixt_gguf_number(r->file, key, range, value, r->error);
    }
    if (strcmp(name, "vocab_size") == 0 && embeddings(r) != NULL) {
        int64_t rows = embeddings(r)->size[1]; /* what there are embeddings for */
        if ((double)rows <= row->high) {
            *value = (double)rows;
            return MIXT_OK;
        }
    }
    int64_t number = mixt_gguf_has(r->file, key) ? 0 : width_of_tensor(r, name);
    if (number > 0 && (double)number <= row->high) {
        *value = (double)number;
        return MIXT_OK;
    }
    MIXT_TRY(is_layered(r, name, key, &array)
                 ? read_layers(r, key, &array, range, &number)
                 : mixt_gguf_integer(r->file, key, range, &number, r->error));
    *value = (double)number;
    return MIXT_OK;
}

/* One whole number where the key is there; *value stays where it is not. */
static mixt_status integer_or(const mixt_gguf_reader *r, const char *name, mixt_gguf_range range,
                              int *value)
{
    char key[160];
    mixt_gguf_key(r->arch, name, key);
    if (mixt_gguf_has(r->file, key)) {
        int64_t number;
        MIXT_TRY(mixt_gguf_integer(r->file, key, range, &number, r->error));
        *value = (int)number;
    }
    return MIXT_OK;
}

/* Scores as llama.cpp numbers them: 1 softmax, 2 sigmoid, 3 softmax over the chosen. */
static mixt_status read_score(const mixt_gguf_reader *r, mixt_score usual, mixt_score *score)
{
    int number = 0;
    *score = usual;
    MIXT_TRY(integer_or(r, "expert_gating_func", (mixt_gguf_range){0, 100}, &number));
    if (number > 3) {
        return mixt_gguf_unsupported(r, "expert_gating_func", "only 1, 2 and 3 are supported");
    }
    if (number == 1) {
        *score = MIXT_SCORE_SOFTMAX;
    } else if (number == 2) {
        *score = MIXT_SCORE_SIGMOID;
    } else if (number == 3) {
        *score = MIXT_SCORE_TOP_K_SOFTMAX;
    }
    return MIXT_OK;
}

/* Our own family has a key for it too, and the two must not say different things. */
static mixt_status read_own_score(const mixt_gguf_reader *r, const mixt_family *family,
                                  mixt_score *score)
{
    mixt_score said = *score;
    MIXT_TRY(read_score(r, family->universal ? said : family->constants.router.score, score));
    return family->universal && *score != said
               ? mixt_gguf_unsupported(r, "router_score", "expert_gating_func says another score")
               : MIXT_OK;
}

static const mixt_config_row *experts_row(const mixt_family *family)
{
    for (const mixt_config_row *row = family->config; row->type != MIXT_FIELD_END; row++) {
        if (row->offset == offsetof(mixt_model_options, experts)) {
            return row;
        }
    }
    return NULL;
}

/* A softmax over the chosen is one over all whose weights are divided by their sum. */
static bool is_score_of(const mixt_family *family, mixt_score score)
{
    const mixt_router_options *router = &family->constants.router;
    return score == router->score ||
           (score == MIXT_SCORE_TOP_K_SOFTMAX && router->score == MIXT_SCORE_SOFTMAX);
}

/* Layers of block_count that stand behind the others, for multi-token prediction. */
static mixt_status layers_behind(const mixt_gguf_reader *r, int *behind)
{
    *behind = 0;
    return integer_or(r, "nextn_predict_layers", (mixt_gguf_range){0, 4096}, behind);
}

/* A family whose files say no score is told by its sizes, as by llama.cpp. */
static mixt_status find_by_sizes(const mixt_gguf_reader *r, const mixt_family **family)
{
    int layers = 0, behind, score = 0;
    const mixt_gguf_tensor *table = embeddings(r);
    MIXT_TRY(integer_or(r, "expert_gating_func", (mixt_gguf_range){0, 100}, &score));
    MIXT_TRY(integer_or(r, "block_count", (mixt_gguf_range){1, 1 << 20}, &layers));
    MIXT_TRY(layers_behind(r, &behind));
    for (const mixt_family *const *f = mixt_families(); *f != NULL && score == 0; f++) {
        if ((*f)->gguf_vocab > 0 && strcmp((*f)->gguf_arch, r->arch) == 0 && table != NULL &&
            table->size[1] == (*f)->gguf_vocab && layers - behind == (*f)->gguf_layers) {
            *family = *f;
        }
    }
    return MIXT_OK;
}

/* Of the families that share an architecture: the one of these sizes, or the one with or without
 * experts, then the one with this score. */
static mixt_status find_family(const mixt_gguf_reader *r, const mixt_family **family)
{
    int experts = 0;
    *family = NULL;
    MIXT_TRY(find_by_sizes(r, family));
    MIXT_TRY(integer_or(r, "expert_count", (mixt_gguf_range){0, MIXT_EXPERTS_MAX}, &experts));
    bool known = false;
    for (const mixt_family *const *f = mixt_families(); *f != NULL; f++) {
        if (strcmp((*f)->gguf_arch, r->arch) != 0) {
            continue;
        }
        mixt_score score;
        known = true;
        MIXT_TRY(read_score(r, (*f)->constants.router.score, &score));
        bool fits = (*f)->universal || ((experts_row(*f) != NULL) == (experts > 0) &&
                                        (experts == 0 || is_score_of(*f, score)));
        *family = *family == NULL && fits ? *f : *family;
    }
    if (*family != NULL) {
        return MIXT_OK;
    }
    return known ? mixt_gguf_unsupported(r, "expert_count",
                                         "with this kind of routing, no family of "
                                         "this architecture is known")
                 : mixt_fail(r->error, MIXT_ERROR_UNSUPPORTED,
                             "%s: general.architecture: '%.60s' is not one that mixt knows",
                             mixt_gguf_path(r->file, 0), r->arch);
}

/* ------------------------------------------------------------------------------------------ */
/* Which keys are known                                                                       */

/* Behind "ARCH." in files of any family whose own tables do not name them, with the value that
 * changes nothing ('?': any value). llama.cpp reads none of the first two for logits. */
static const char *const shared_fixed[] = {
    "?tensor_data_layout",
    "0",
    "?pooling_type",
    "0",
    "?expert_gating_func",
    "0", /* read_score */
    "?nextn_predict_layers",
    "0", /* leave_predictions */
    "?attention.value_length",
    "0", /* read_rest */
    "attention.causal",
    "1",
    "residual_scale",
    "1",
    "embedding_scale",
    "1",
    "logit_scale",
    "1",
    "interleave_moe_layer_step",
    "1",
    "moe_every_n_layers",
    "1",
    "expert_weights_scale",
    "1",
    "expert_group_count",
    "1",
    "expert_group_used_count",
    "1",
    NULL,
};

/* A number, or a truth as 1 or 0. */
static bool plain_value(const mixt_gguf *file, const char *key, mixt_gguf_kind kind, double *value)
{
    mixt_gguf_range any = {-INFINITY, INFINITY};
    if (kind == MIXT_GGUF_BOOL) {
        bool flag = false;
        bool read = mixt_gguf_bool(file, key, &flag, NULL) == MIXT_OK;
        *value = flag ? 1 : 0;
        return read;
    }
    return mixt_gguf_number(file, key, any, value, NULL) == MIXT_OK;
}

/* 0, false, "", nothing, or a list of such numbers. */
static bool is_neutral(const mixt_gguf *file, const char *key, mixt_gguf_kind kind)
{
    static const size_t sizes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    double value;
    const char *text;
    if (kind == MIXT_GGUF_STRING) {
        return mixt_gguf_string(file, key, &text, NULL) == MIXT_OK && text[0] == '\0';
    }
    if (kind != MIXT_GGUF_ARRAY) {
        return plain_value(file, key, kind, &value) && value == 0;
    }
    for (mixt_gguf_kind element = MIXT_GGUF_U8; element <= MIXT_GGUF_F64; element++) {
        mixt_gguf_array array;
        if (element == MIXT_GGUF_ARRAY ||
            mixt_gguf_array_of(file, key, element, &array, NULL) != MIXT_OK) {
            continue;
        }
        const unsigned char *bytes = array.data;
        for (size_t i = 0; i < array.count * sizes[element]; i++) {
            if (bytes[i] != 0) {
                return false;
            }
        }
        return array.count == 0 || element != MIXT_GGUF_STRING;
    }
    return false;
}

static bool in_rows(const mixt_config_row *rows, const char *name)
{
    for (; rows->type != MIXT_FIELD_END; rows++) {
        if (rows->gguf != NULL && strcmp(rows->gguf, name) == 0) {
            return true;
        }
    }
    return false;
}

/* The value that a list of pairs has for a key, or NULL. */
static const char *find_fixed(const char *const *fixed, const char *name, bool *any)
{
    for (; fixed != NULL && *fixed != NULL; fixed += 2) {
        *any = **fixed == '?';
        if (strcmp(*fixed + (*any ? 1 : 0), name) == 0) {
            return fixed[1];
        }
    }
    return NULL;
}

static mixt_status check_key(const mixt_gguf_reader *r, const mixt_family *family, const char *key,
                             const char *name, mixt_gguf_kind kind)
{
    bool any = false;
    if (in_rows(family->config, name) || strncmp(name, "rope.", 5) == 0) {
        return MIXT_OK; /* RoPE's reader judges its own */
    }
    const char *fixed = find_fixed(family->gguf_fixed, name, &any);
    fixed = fixed != NULL ? fixed : find_fixed(shared_fixed, name, &any);
    double value = 0;
    bool number = plain_value(r->file, key, kind, &value);
    if (fixed != NULL && (any || (number && value == mixt_number_read(fixed, NULL)))) {
        return MIXT_OK;
    }
    if (is_neutral(r->file, key, kind) && (fixed == NULL || kind != MIXT_GGUF_BOOL)) {
        return MIXT_OK;
    }
    char text[96] = "";
    if (number) {
        mixt_format(text, sizeof text, "%g: ", value);
    }
    return fixed != NULL ? mixt_fail(r->error, MIXT_ERROR_UNSUPPORTED,
                                     "%s: %.120s: %sonly %s is supported for %s",
                                     mixt_gguf_path(r->file, 0), key, text, fixed, family->title)
                         : mixt_fail(r->error, MIXT_ERROR_UNSUPPORTED,
                                     "%s: %.120s: %snot known to mixt for %s, and it could change "
                                     "what is computed",
                                     mixt_gguf_path(r->file, 0), key, text, family->title);
}

/* Every key behind "ARCH." is read, fixed, neutral or refused. Others are the tokenizer's, or say
 * where a file is from. */
static mixt_status check_keys(const mixt_gguf_reader *r, const mixt_family *family)
{
    size_t length = strlen(r->arch);
    for (size_t i = 0; i < mixt_gguf_key_count(r->file); i++) {
        mixt_gguf_kind kind;
        const char *key = mixt_gguf_key_at(r->file, i, &kind);
        if (strncmp(key, r->arch, length) == 0 && key[length] == '.') {
            MIXT_TRY(check_key(r, family, key, key + length + 1, kind));
        }
    }
    return MIXT_OK;
}

const mixt_config_row mixt_gguf_parts[] = {
    MIXT_FIELD(NULL, "blk.0.attn_q.bias", BOOL, attention.qkv_bias, false, 0, 0, 1),
    MIXT_FIELD(NULL, "blk.0.attn_output.bias", BOOL, attention.output_bias, false, 0, 0, 1),
    MIXT_FIELD(NULL, "blk.0.ffn_up.bias", BOOL, dense_bias, false, 0, 0, 1),
    MIXT_FIELD(NULL, "blk.0.attn_q_norm.weight", SWITCH, attention.qk_norm, false, 0, 0, 1),
    MIXT_FIELDS_END,
};

static void read_parts(const mixt_gguf_reader *r, const mixt_family *family, mixt_model_options *o)
{
    for (const mixt_config_row *part = mixt_gguf_parts; part->type != MIXT_FIELD_END; part++) {
        for (const mixt_config_row *row = family->config; row->type != MIXT_FIELD_END; row++) {
            if (row->offset == part->offset && row->type == part->type) {
                mixt_row_set(row, o, mixt_gguf_find(r->file, part->gguf) != NULL);
            }
        }
    }
}

static mixt_status leave_predictions(const mixt_gguf_reader *r, mixt_model_options *o)
{
    int behind;
    MIXT_TRY(layers_behind(r, &behind));
    if (behind >= o->layers) {
        return mixt_gguf_unsupported(r, "nextn_predict_layers", "leaves none of block_count");
    }
    o->layers -= behind;
    return MIXT_OK;
}

static mixt_status read_rest(const mixt_gguf_reader *r, const mixt_family *family,
                             mixt_model_options *o)
{
    char name[64];
    o->tie_embeddings = mixt_gguf_find(r->file, "output.weight") == NULL;
    snprintf(name, sizeof name, "blk.%d.exp_probs_b.bias", o->leading_dense_layers);
    o->router.select_bias = o->router.select_bias || mixt_gguf_find(r->file, name) != NULL;
    if (o->attention.latent_size == 0) {
        int value_length = 0;
        o->rope.dims = 0; /* all of a head, unless the file says */
        MIXT_TRY(integer_or(r, "rope.dimension_count", (mixt_gguf_range){0, 8192}, &o->rope.dims));
        MIXT_TRY(
            integer_or(r, "attention.value_length", (mixt_gguf_range){1, 8192}, &value_length));
        o->attention.value_dim = value_length;
    }
    read_parts(r, family, o);
    MIXT_TRY(read_own_score(r, family, &o->router.score));
    MIXT_TRY(mixt_gguf_rope_read(r->file, r->arch, o, r->error));
    int64_t separator = -1;
    if (mixt_gguf_has(r->file, "tokenizer.ggml.eos_token_id")) {
        MIXT_TRY(mixt_gguf_integer(r->file, "tokenizer.ggml.eos_token_id",
                                   (mixt_gguf_range){-2147483648.0, 4294967295.0}, &separator,
                                   r->error));
    }
    bool known = separator >= 0 && separator < o->vocab_size;
    o->separator = known ? (int)separator : -1;
    return MIXT_OK;
}

mixt_status mixt_model_config_gguf(const mixt_gguf *file, mixt_model_options *options,
                                   const mixt_family **family, mixt_error *error)
{
    mixt_error local = MIXT_ERROR_INIT;
    mixt_gguf_reader r = {file, NULL, &local};
    mixt_status status = mixt_gguf_string(file, "general.architecture", &r.arch, &local);
    if (status == MIXT_OK) {
        status = find_family(&r, family);
    }
    if (status == MIXT_OK) {
        *options = (*family)->constants;
        options->rope.interleaved = (*family)->gguf_interleaved;
        mixt_row_source source = {MIXT_FORM_GGUF, &r, has_key, read_key};
        status = mixt_rows_read((*family)->config, &source, options);
    }
    if (status == MIXT_OK) {
        status = leave_predictions(&r, options);
    }
    if (status == MIXT_OK) {
        status = check_keys(&r, *family);
    }
    if (status == MIXT_OK) {
        status = read_rest(&r, *family, options);
    }
    if (status == MIXT_OK && (*family)->hook != NULL) {
        mixt_error inner = MIXT_ERROR_INIT;
        status = (*family)->hook(options, NULL, &inner);
        if (status != MIXT_OK) {
            mixt_fail(&local, status, "%s: %s", mixt_gguf_path(file, 0), inner.message);
        }
    }
    return status == MIXT_OK ? MIXT_OK : mixt_fail(error, status, "%s", local.message);
}
