#include "model/arch.h"

#include <string.h>

#define MIXT_FAMILY(symbol) extern const mixt_family mixt_family_##symbol;
#include "model/families.def"
#undef MIXT_FAMILY

static const mixt_family *const families[] = {
#define MIXT_FAMILY(symbol) &mixt_family_##symbol,
#include "model/families.def"
#undef MIXT_FAMILY
    NULL,
};

const mixt_family *const *mixt_families(void)
{
    return families;
}

const mixt_family *mixt_family_by_name(const char *model_type)
{
    for (int i = 0; families[i] != NULL; i++) {
        if (strcmp(families[i]->name, model_type) == 0 ||
            (families[i]->alias != NULL && strcmp(families[i]->alias, model_type) == 0)) {
            return families[i];
        }
    }
    return NULL;
}

const mixt_family *mixt_family_by_class(const char *hf_class)
{
    for (int i = 0; families[i] != NULL; i++) {
        if (strcmp(families[i]->hf_class, hf_class) == 0) {
            return families[i];
        }
    }
    return NULL;
}

const mixt_family *mixt_family_for(const mixt_model_options *options)
{
    for (int i = 0; families[i] != NULL; i++) {
        if (!families[i]->only_opened && mixt_family_holds(families[i], options)) {
            return families[i];
        }
    }
    return NULL;
}

const mixt_tensor_row *mixt_family_row(const mixt_family *family, mixt_slot slot, mixt_form form,
                                       const mixt_tensor_row *after)
{
    for (const mixt_tensor_row *row = after == NULL ? family->tensors : after + 1;
         row->slot != MIXT_SLOT_COUNT; row++) {
        if (row->slot == slot && (form == MIXT_FORM_GGUF ? row->gguf : row->hf) != NULL) {
            return row;
        }
    }
    return NULL;
}

/* Every field that changes what a model computes. */
#define SAME(type, field) MIXT_FIELD(NULL, NULL, type, field, false, 0, 0, 0)
static const mixt_config_row computed[] = {
    SAME(INTEGER, vocab_size),
    SAME(INTEGER, context_length),
    SAME(INTEGER, layers),
    SAME(INTEGER, hidden_size),
    SAME(INTEGER, heads),
    SAME(INTEGER, kv_heads),
    SAME(INTEGER, head_dim),
    SAME(INTEGER, ffn_size),
    SAME(INTEGER, experts),
    SAME(INTEGER, experts_per_token),
    SAME(INTEGER, shared_ffn_size),
    SAME(BOOL, shared_gate),
    SAME(BOOL, expert_bias),
    SAME(BOOL, dense_bias),
    SAME(INTEGER, leading_dense_layers),
    SAME(NUMBER, rope_theta),
    SAME(NUMBER, norm_epsilon),
    SAME(BOOL, tie_embeddings),
    SAME(INTEGER, activation),
    SAME(BOOL, post_norms),
    SAME(NUMBER, embedding_scale),
    SAME(NUMBER, logit_scale),
    SAME(INTEGER, attention.qk_norm),
    SAME(BOOL, attention.qkv_bias),
    SAME(BOOL, attention.output_bias),
    SAME(NUMBER, attention.clip),
    SAME(NUMBER, attention.scale),
    SAME(NUMBER, attention.soft_cap),
    SAME(INTEGER, attention.window),
    SAME(INTEGER, attention.window_period),
    SAME(BOOL, attention.sinks),
    SAME(BOOL, attention.filter),
    SAME(BOOL, attention.mixed_qk),
    SAME(INTEGER, attention.latent_size),
    SAME(INTEGER, attention.query_latent_size),
    SAME(INTEGER, attention.position_dim),
    SAME(INTEGER, attention.value_dim),
    SAME(INTEGER, rope.dims),
    SAME(INTEGER, router.logits),
    SAME(BOOL, router.logit_bias),
    SAME(NUMBER, router.normalise),
    SAME(NUMBER, router.soft_cap),
    SAME(INTEGER, router.groups),
    SAME(INTEGER, router.groups_used),
    SAME(INTEGER, router.score),
    SAME(BOOL, router.renormalise),
    SAME(NUMBER, router.scale),
    MIXT_FIELDS_END,
};

/* One form for option sets that compute the same. */
static mixt_model_options canonical(mixt_model_options options)
{
    mixt_model_fill(&options);
    if (options.router.score == MIXT_SCORE_TOP_K_SOFTMAX) { /* the same numbers */
        options.router.score = MIXT_SCORE_SOFTMAX;
        options.router.renormalise = true;
    }
    if (options.experts == 0) { /* no router */
        options.router = (mixt_router_options){0};
    }
    if (options.leading_dense_layers == 0) {
        options.dense_ffn_size = 0;
    }
    return options;
}

bool mixt_family_holds(const mixt_family *family, const mixt_model_options *options)
{
    mixt_model_options back = family->constants;
    back.rope = options->rope; /* YaRN has keys in every family */
    back.rope.dims = 0;
    for (const mixt_config_row *row = family->config; row->type != MIXT_FIELD_END; row++) {
        if (row->key != NULL) {
            mixt_row_set(row, &back, mixt_row_get(row, options));
        }
    }
    if (family->hook != NULL && family->hook(&back, NULL, NULL) != MIXT_OK) {
        return false;
    }
    if (back.router.select_bias && !options->router.select_bias) {
        return false;
    }
    mixt_model_options a = canonical(*options), b = canonical(back);
    if (a.dense_ffn_size != b.dense_ffn_size ||
        (a.router.groups > 0 && a.router.group_score != b.router.group_score)) {
        return false;
    }
    for (const mixt_config_row *row = computed; row->type != MIXT_FIELD_END; row++) {
        if (mixt_row_get(row, &a) != mixt_row_get(row, &b)) {
            return false;
        }
    }
    return true;
}
