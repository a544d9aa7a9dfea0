/* Which option sets a family holds: the options are written in memory as they will be saved, read
 * back by the reader that opens files, and compared, so that the answer is the inverse of reading
 * whatever keys a family has. */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/number.h"
#include "model/config_gguf.h"
#include "model/config_gguf_rope.h"
#include "model/parameters.h"

#define COMPUTED(type, field) MIXT_FIELD(#field, NULL, type, field, true, 0, 0, 0)
#define TRAINING(type, field) MIXT_FIELD(#field, NULL, type, field, false, 0, 0, 0)

const mixt_config_row mixt_option_fields[] = {
    COMPUTED(INTEGER, vocab_size),
    COMPUTED(INTEGER, context_length),
    COMPUTED(INTEGER, layers),
    COMPUTED(INTEGER, hidden_size),
    COMPUTED(INTEGER, heads),
    COMPUTED(INTEGER, kv_heads),
    COMPUTED(INTEGER, head_dim),
    COMPUTED(INTEGER, ffn_size),
    COMPUTED(INTEGER, experts),
    COMPUTED(INTEGER, experts_per_token),
    COMPUTED(INTEGER, shared_experts),
    COMPUTED(INTEGER, shared_ffn_size),
    COMPUTED(BOOL, shared_gate),
    COMPUTED(BOOL, expert_bias),
    COMPUTED(BOOL, dense_bias),
    COMPUTED(INTEGER, leading_dense_layers),
    COMPUTED(INTEGER, dense_ffn_size),
    COMPUTED(NUMBER, rope_theta),
    COMPUTED(NUMBER, norm_epsilon),
    TRAINING(NUMBER, initializer_range),
    COMPUTED(BOOL, tie_embeddings),
    TRAINING(INTEGER, separator),
    COMPUTED(INTEGER, activation),
    COMPUTED(BOOL, post_norms),
    COMPUTED(NUMBER, embedding_scale),
    COMPUTED(NUMBER, logit_scale),
    COMPUTED(INTEGER, attention.qk_norm),
    COMPUTED(BOOL, attention.qkv_bias),
    COMPUTED(BOOL, attention.output_bias),
    COMPUTED(NUMBER, attention.clip),
    COMPUTED(NUMBER, attention.scale),
    COMPUTED(NUMBER, attention.soft_cap),
    COMPUTED(INTEGER, attention.window),
    COMPUTED(INTEGER, attention.window_period),
    COMPUTED(BOOL, attention.sinks),
    COMPUTED(BOOL, attention.filter),
    COMPUTED(BOOL, attention.mixed_qk),
    COMPUTED(INTEGER, attention.latent_size),
    COMPUTED(INTEGER, attention.query_latent_size),
    COMPUTED(INTEGER, attention.position_dim),
    COMPUTED(INTEGER, attention.value_dim),
    COMPUTED(INTEGER, rope.dims),
    COMPUTED(BOOL, rope.interleaved),
    COMPUTED(INTEGER, rope.kind),
    COMPUTED(NUMBER, rope.factor),
    COMPUTED(INTEGER, rope.original_context),
    COMPUTED(NUMBER, rope.attention_factor),
    COMPUTED(NUMBER, rope.beta_fast),
    COMPUTED(NUMBER, rope.beta_slow),
    COMPUTED(NUMBER, rope.mscale),
    COMPUTED(NUMBER, rope.mscale_all_dim),
    COMPUTED(BOOL, rope.no_truncate),
    COMPUTED(NUMBER, rope.low_frequency_factor),
    COMPUTED(NUMBER, rope.high_frequency_factor),
    COMPUTED(INTEGER, rope.divisors),
    COMPUTED(INTEGER, router.select),
    COMPUTED(INTEGER, router.logits),
    COMPUTED(BOOL, router.logit_bias),
    COMPUTED(NUMBER, router.normalise),
    COMPUTED(NUMBER, router.soft_cap),
    COMPUTED(BOOL, router.select_bias),
    COMPUTED(INTEGER, router.groups),
    COMPUTED(INTEGER, router.groups_used),
    COMPUTED(INTEGER, router.group_score),
    COMPUTED(INTEGER, router.score),
    COMPUTED(BOOL, router.renormalise),
    COMPUTED(NUMBER, router.scale),
    COMPUTED(INTEGER, router.unit),
    COMPUTED(INTEGER, router.segment),
    COMPUTED(INTEGER, router.scope),
    COMPUTED(INTEGER, router.noise),
    COMPUTED(NUMBER, router.evaluation_capacity),
    COMPUTED(INTEGER, router.drop),
    COMPUTED(INTEGER, moe_period),
    COMPUTED(INTEGER, identity_experts),
    COMPUTED(INTEGER, zero_experts),
    TRAINING(INTEGER, router.weights),
    TRAINING(INTEGER, router.balance),
    TRAINING(NUMBER, router.balance_coefficient),
    TRAINING(NUMBER, router.z_coefficient),
    TRAINING(NUMBER, router.bias_rate),
    TRAINING(NUMBER, router.jitter),
    TRAINING(NUMBER, router.capacity),
    TRAINING(INTEGER, router.balance_scope),
    TRAINING(INTEGER, router.bias_update),
    TRAINING(INTEGER, router.choice_scope),
    TRAINING(BOOL, router.adaptive_balance),
    TRAINING(NUMBER, router.device_balance_coefficient),
    TRAINING(INTEGER, router.balance_groups),
    MIXT_FIELDS_END,
};

/* One form for option sets that are the same model. `bits`: that compute the same bits; else the
 * same but for rounding. */
static mixt_model_options canonical(mixt_model_options options, bool bits)
{
    mixt_router_options *router = &options.router;
    mixt_model_fill(&options);
    if (options.experts == 0) {
        *router = (mixt_router_options){0};
    }
    router->select_bias = router->select_bias || router->bias_rate != 0;
    router->drop = router->evaluation_capacity == 0 ? 0 : router->drop;
    if (router->score == MIXT_SCORE_TOP_K_SOFTMAX) { /* weights of sum 1, whatever is said */
        router->renormalise = true;
        router->score = bits ? router->score : MIXT_SCORE_SOFTMAX;
    }
    router->group_score = router->groups == 0 ? 0 : router->group_score;
    if (options.leading_dense_layers == 0 && options.moe_period == 0) {
        options.dense_ffn_size = 0;
    }
    options.shared_experts = options.shared_ffn_size > 0; /* one MLP of that width */
    if (options.attention.latent_size == 0) {
        options.rope.interleaved = false; /* files have the order of rows that they want */
    }
    if (options.rope.kind == MIXT_ROPE_DEFAULT) {
        options.rope =
            (mixt_rope_options){.dims = options.rope.dims, .interleaved = options.rope.interleaved};
    }
    return options;
}

/* The words of the options that are enumerations. */
static const struct {
    size_t offset;
    const char *words[7];
} enumerations[] = {
    {offsetof(mixt_model_options, activation), {"silu", "gelu", "clamped"}},
    {offsetof(mixt_model_options, attention.qk_norm), {"none", "head", "whole"}},
    {offsetof(mixt_model_options, rope.kind),
     {"default", "linear", "dynamic", "yarn", "llama3", "longrope"}},
    {offsetof(mixt_model_options, router.logits), {"linear", "attention"}},
    {offsetof(mixt_model_options, router.group_score), {"max", "top-two"}},
    {offsetof(mixt_model_options, router.score), {"softmax", "top-k-softmax", "sigmoid"}},
    {offsetof(mixt_model_options, router.weights), {"learned", "frozen", "redrawn"}},
    {offsetof(mixt_model_options, router.balance), {MIXT_BALANCE_WORDS}},
    {offsetof(mixt_model_options, router.unit), {"token", "sequence", "segment"}},
    {offsetof(mixt_model_options, router.scope), {"layer", "global"}},
    {offsetof(mixt_model_options, router.noise), {"none", "top-k"}},
    {offsetof(mixt_model_options, router.drop), {"position", "weight"}},
    {offsetof(mixt_model_options, router.balance_scope), {"batch", "step", "sequence"}},
    {offsetof(mixt_model_options, router.bias_update), {"sign", "quantile"}},
    {offsetof(mixt_model_options, router.choice_scope), {"batch", "sequence"}},
};

/* NULL: the row is no enumeration, or has no such value. */
static const char *word_of(const mixt_config_row *row, double value)
{
    if (row->offset == offsetof(mixt_model_options, router.select)) {
        return mixt_router_select_name((int)value);
    }
    for (size_t i = 0; i < sizeof enumerations / sizeof *enumerations; i++) {
        if (enumerations[i].offset == row->offset && value >= 0 && value < 6) {
            return enumerations[i].words[(int)value];
        }
    }
    return NULL;
}

bool mixt_option_has_words(const mixt_config_row *row)
{
    return word_of(row, 0) != NULL;
}

void mixt_option_text(const mixt_config_row *row, double value, char text[40])
{
    const char *word = word_of(row, value);
    if (word != NULL) {
        snprintf(text, 40, "%.39s", word);
    } else if (row->type == MIXT_FIELD_BOOL) {
        snprintf(text, 40, "%s", value != 0 ? "true" : "false");
    } else {
        mixt_number_write(value, text);
    }
}

const mixt_config_row *mixt_options_difference(const mixt_model_options *a,
                                               const mixt_model_options *b)
{
    mixt_model_options x = canonical(*a, true), y = canonical(*b, true);
    for (const mixt_config_row *row = mixt_option_fields; row->type != MIXT_FIELD_END; row++) {
        if (mixt_row_get(row, &x) != mixt_row_get(row, &y)) {
            return row;
        }
    }
    static const mixt_config_row lists = COMPUTED(INTEGER, rope.divisors);
    return mixt_rope_same(a, b) ? NULL : &lists;
}

/* ------------------------------------------------------------------------------------------ */
/* Comparing                                                                                  */

typedef struct comparison {
    const mixt_family *family;
    mixt_form form;
    bool own;     /* with what only mixt reads */
    int wrong;    /* fields that differ */
    char *what;   /* [160] the first of them, or NULL */
    bool refused; /* what was written cannot be read */
    bool starved; /* there was no memory to find out: no answer */
} comparison;

/* Compared as a whole, by what it computes: one RoPE may be said in several ways. */
static bool is_of_rope(const mixt_config_row *row)
{
    size_t rope = offsetof(mixt_model_options, rope);
    return row->offset == offsetof(mixt_model_options, rope_theta) ||
           (row->offset >= rope && row->offset < rope + sizeof(mixt_rope_options) &&
            row->offset != offsetof(mixt_model_options, rope.interleaved));
}

/* Numbers of a GGUF file are fp32, as is what is computed with them. */
static bool same_value(const comparison *c, const mixt_config_row *row, double a, double b)
{
    bool rounded = c->form == MIXT_FORM_GGUF && row->type == MIXT_FIELD_NUMBER;
    return a == b || (rounded && (float)a == (float)b);
}

static void say(const comparison *c, const mixt_config_row *row, double value, double other)
{
    if (c->what != NULL && c->what[0] == '\0') {
        char text[40], usual[40];
        mixt_option_text(row, value, text);
        mixt_option_text(row, other, usual);
        snprintf(c->what, 160, "%s %s (%s: %s)", row->key, text, c->family->name, usual);
    }
}

static void compare(comparison *c, const mixt_model_options *options,
                    const mixt_model_options *back)
{
    bool training = c->own && c->form == MIXT_FORM_FOLDER;
    mixt_model_options a = canonical(*options, c->own), b = canonical(*back, c->own);
    bool rope = mixt_rope_same(options, back);
    for (const mixt_config_row *row = mixt_option_fields; row->type != MIXT_FIELD_END; row++) {
        double x = mixt_row_get(row, &a), y = mixt_row_get(row, &b);
        bool same = is_of_rope(row) ? rope || x == y : same_value(c, row, x, y);
        if ((row->required || training) && !same) {
            say(c, row, x, y);
            c->wrong++;
        }
    }
    c->wrong += rope ? 0 : 1; /* pairs' own numbers stand in lists */
}

bool mixt_options_come_back(const mixt_family *family, mixt_form form,
                            const mixt_model_options *options, const mixt_model_options *back,
                            char what[160])
{
    comparison c = {.family = family, .form = form, .own = true, .what = what};
    what[0] = '\0';
    compare(&c, options, back);
    return c.wrong == 0;
}

/* What llama.cpp computes in one way, whatever the file says. */
static void compare_llama_cpp(comparison *c, const mixt_model_options *options)
{
    const mixt_family *family = c->family;
    mixt_model_options a = canonical(*options, false);
    bool reads_bias = family->constants.router.select_bias || family->gguf_select_bias;
    const char *lack = family->llama_cpp_lacks != NULL ? family->llama_cpp_lacks(&a) : NULL;
    if (lack == NULL && a.router.select_bias && !reads_bias && !family->universal) {
        lack = "router.select_bias true";
    }
    if (lack == NULL && family->llama_cpp_lacks != NULL && a.rope.dims != a.head_dim) {
        lack = "rope.dims other than head_dim";
    }
    if (lack != NULL) {
        c->wrong++;
        if (c->what != NULL && c->what[0] == '\0') {
            snprintf(c->what, 160, "%s (llama.cpp's %s lacks it)", lack, family->gguf_arch);
        }
    }
}

static mixt_status folder_back(const comparison *c, const mixt_model_options *options,
                               mixt_model_options *back, const mixt_family **family,
                               mixt_error *error)
{
    char *text;
    MIXT_TRY(mixt_config_text(c->family, options, c->own, &text, error));
    mixt_status status = mixt_model_config_parse(text, "config.json", back, family, error);
    free(text);
    return status;
}

/* Tensors that say something of the options. */
static mixt_status add_telling_tensors(const mixt_model_options *options, mixt_gguf_writer *writer,
                                       mixt_error *error)
{
    char name[64];
    const int64_t embed[] = {1, options->vocab_size}, bias[] = {mixt_options_routed(options)};
    MIXT_TRY(mixt_gguf_writer_add(writer, "token_embd.weight", MIXT_TYPE_F32, 2, embed, error));
    if (!options->tie_embeddings) {
        MIXT_TRY(mixt_gguf_writer_add(writer, "output.weight", MIXT_TYPE_F32, 2, embed, error));
    }
    int period = options->moe_period > 0 ? options->moe_period : 1;
    snprintf(name, sizeof name, "blk.%d.exp_probs_b.bias",
             options->leading_dense_layers + period - 1);
    if (options->experts > 0 && (options->router.select_bias || options->router.bias_rate != 0)) {
        MIXT_TRY(mixt_gguf_writer_add(writer, name, MIXT_TYPE_F32, 1, bias, error));
    }
    const int64_t one[] = {1};
    for (const mixt_config_row *part = mixt_gguf_parts; part->type != MIXT_FIELD_END; part++) {
        MIXT_TRY(mixt_row_get(part, options) != 0
                     ? mixt_gguf_writer_add(writer, part->gguf, MIXT_TYPE_F32, 1, one, error)
                     : MIXT_OK);
    }
    mixt_gguf_rope_pairs pairs[2];
    for (int i = mixt_gguf_rope_tensors(options, pairs) - 1; i >= 0; i--) {
        const int64_t size[] = {pairs[i].count};
        MIXT_TRY(mixt_gguf_writer_add(writer, pairs[i].name, MIXT_TYPE_F32, 1, size, error));
    }
    return MIXT_OK;
}

/* The values of those of which they matter. */
static void fill_telling_tensors(const mixt_model_options *options, const mixt_gguf *file,
                                 char *image)
{
    mixt_gguf_rope_pairs pairs[2];
    for (int i = mixt_gguf_rope_tensors(options, pairs) - 1; i >= 0; i--) {
        const mixt_gguf_tensor *tensor = mixt_gguf_find(file, pairs[i].name);
        memcpy(image + ((const char *)tensor->data - image), pairs[i].values,
               (size_t)pairs[i].count * sizeof *pairs[i].values);
    }
}

static mixt_status gguf_back(const comparison *c, const mixt_model_options *options,
                             mixt_model_options *back, const mixt_family **family,
                             mixt_error *error)
{
    mixt_model written = {.options = *options, .family = c->family};
    mixt_gguf_writer *writer;
    mixt_gguf *file = NULL;
    char *image = NULL;
    size_t length = 0;
    MIXT_TRY(mixt_gguf_writer_create("GGUF", 0, &writer, error));
    mixt_status status = mixt_model_gguf_keys(&written, writer, error);
    if (status == MIXT_OK) {
        status = add_telling_tensors(options, writer, error);
    }
    if (status == MIXT_OK) {
        status = mixt_gguf_writer_image(writer, &image, &length, error);
    }
    if (status == MIXT_OK) {
        status = mixt_gguf_open_memory(image, length, "GGUF", &file, error);
    }
    if (status == MIXT_OK) {
        fill_telling_tensors(options, file, image);
        status = mixt_model_config_gguf(file, back, family, error);
    }
    mixt_gguf_close(file);
    mixt_gguf_writer_free(writer);
    free(image);
    return status;
}

/* Writes, reads and compares the options. */
static void compare_options(comparison *c, const mixt_model_options *options)
{
    mixt_model_options back = {0};
    const mixt_family *family = NULL;
    mixt_error error = MIXT_ERROR_INIT;
    mixt_status status = c->form == MIXT_FORM_GGUF
                             ? gguf_back(c, options, &back, &family, &error)
                             : folder_back(c, options, &back, &family, &error);
    if (status == MIXT_OK) {
        status = mixt_model_check(&back, c->family->name, &error);
    }
    if (status != MIXT_OK) {
        c->refused = true;
        c->starved = status == MIXT_ERROR_MEMORY;
        if (c->what != NULL && c->what[0] == '\0') {
            snprintf(c->what, 160, "%.159s", error.message);
        }
        c->wrong++;
        return;
    }
    compare(c, options, &back);
    if (c->form == MIXT_FORM_GGUF) {
        compare_llama_cpp(c, options);
    }
}

/* ------------------------------------------------------------------------------------------ */
/* Tensors                                                                                    */

typedef struct share {
    char name[128];
    int64_t values, room; /* of a parameter's piece; of the tensor */
} share;

static int by_name(const void *a, const void *b)
{
    return strcmp(((const share *)a)->name, ((const share *)b)->name);
}

static const mixt_tensor_row *row_of(const mixt_model *model, const mixt_parameter *p,
                                     mixt_form form, mixt_layout_piece *piece)
{
    const mixt_tensor_row *row = mixt_family_row(model->family, p->slot, form, NULL);
    for (; row != NULL; row = mixt_family_row(model->family, p->slot, form, row)) {
        mixt_layout_piece_get(model, p, row, form, 0, piece);
        if (!piece->mxfp4) {
            return row;
        }
    }
    return NULL;
}

/* One share for each piece; NULL without memory or, with the slot's parameter in *nameless, where a
 * parameter has no tensor. */
static share *list_shares(const mixt_model *model, mixt_form form, size_t *count,
                          const mixt_parameter **nameless)
{
    mixt_layout_piece piece;
    size_t total = 0;
    *nameless = NULL;
    for (int i = 0; i < model->parameter_count; i++) {
        const mixt_parameter *p = &model->parameters[i];
        const mixt_tensor_row *row = row_of(model, p, form, &piece);
        if (mixt_slot_is_adapter(p->slot)) {
            continue; /* of files of their own */
        }
        if (row == NULL) {
            *nameless = p;
            return NULL;
        }
        total += (size_t)mixt_layout_piece_count(model, p, row, form);
    }
    share *shares = calloc(total, sizeof *shares), *to = shares;
    for (int i = 0; shares != NULL && i < model->parameter_count; i++) {
        const mixt_parameter *p = &model->parameters[i];
        const mixt_tensor_row *row = row_of(model, p, form, &piece);
        for (int k = 0; row != NULL && k < mixt_layout_piece_count(model, p, row, form);
             k++, to++) {
            mixt_layout_piece_get(model, p, row, form, k, &piece);
            memcpy(to->name, piece.name, sizeof to->name);
            to->values = piece.count[0] * piece.count[1] * piece.count[2] * piece.count[3];
            to->room = 1;
            for (int j = 0; j < piece.rank; j++) {
                to->room *= piece.shape[j];
            }
        }
    }
    *count = total;
    return shares;
}

/* Every parameter has a tensor, and what lies in one tensor fills it: no name serves two. */
static bool has_tensors(comparison *c, const mixt_model_options *options)
{
    mixt_model *model;
    const mixt_parameter *nameless = NULL;
    mixt_status status = mixt_model_layout(options, c->family, "model", &model, NULL);
    c->starved = status == MIXT_ERROR_MEMORY;
    if (status != MIXT_OK) {
        return false;
    }
    size_t count = 0;
    share *shares = list_shares(model, c->form, &count, &nameless);
    bool good = shares != NULL;
    c->starved = !good && nameless == NULL;
    if (good) {
        qsort(shares, count, sizeof *shares, by_name);
    }
    for (size_t i = 0; good && i < count;) {
        int64_t values = 0;
        size_t end = i;
        for (; end < count && strcmp(shares[end].name, shares[i].name) == 0; end++) {
            values += shares[end].values;
            good = good && shares[end].room == shares[i].room;
        }
        good = good && values == shares[i].room;
        i = end;
    }
    if (!good && c->what != NULL && c->what[0] == '\0') {
        snprintf(c->what, 160, "%s has no tensor for one of the parameters", c->family->name);
    }
    free(shares);
    mixt_model_free(model);
    return good;
}

/* ------------------------------------------------------------------------------------------ */
/* Choosing                                                                                   */

/* MIXT_ERROR_UNSUPPORTED where it does not hold them. */
static mixt_status holds(const mixt_family *family, const mixt_model_options *options,
                         mixt_form form, char what[160])
{
    comparison alone = {.family = family, .form = form, .what = what};
    comparison whole = {.family = family, .form = form, .own = true, .what = what};
    compare_options(&alone, options); /* as other programs understand it */
    bool good = alone.wrong == 0;
    if (good) {
        compare_options(&whole, options);
        good = whole.wrong == 0 && has_tensors(&whole, options);
    }
    return alone.starved || whole.starved ? MIXT_ERROR_MEMORY
           : good                         ? MIXT_OK
                                          : MIXT_ERROR_UNSUPPORTED;
}

bool mixt_family_holds(const mixt_family *family, const mixt_model_options *options, mixt_form form)
{
    return holds(family, options, form, NULL) == MIXT_OK;
}

mixt_status mixt_family_to_write(const mixt_family **family, const mixt_model_options *options,
                                 mixt_form form, mixt_error *error)
{
    char what[160] = "";
    mixt_status status = *family == NULL || (*family)->universal
                             ? MIXT_ERROR_UNSUPPORTED
                             : holds(*family, options, form, NULL);
    for (const mixt_family *const *f = mixt_families();
         status == MIXT_ERROR_UNSUPPORTED && *f != NULL; f++) {
        what[0] = '\0';
        if (!(*f)->only_opened) {
            status = holds(*f, options, form, what);
            *family = *f;
        }
    }
    if (status == MIXT_OK) {
        return MIXT_OK;
    }
    return status == MIXT_ERROR_MEMORY
               ? mixt_fail(error, status, "model: no memory")
               : mixt_fail(error, status, "model: no %s can hold these options: %s",
                           form == MIXT_FORM_GGUF ? "GGUF file" : "folder", what);
}

const mixt_family *mixt_family_nearest(const mixt_model_options *options, mixt_form form,
                                       char what[160])
{
    const mixt_family *nearest = NULL;
    int least = 0;
    what[0] = '\0';
    for (const mixt_family *const *f = mixt_families(); *f != NULL; f++) {
        char text[160] = "";
        comparison c = {.family = *f, .form = form, .what = text};
        if ((*f)->universal) {
            continue;
        }
        compare_options(&c, options);
        int wrong = c.refused ? 100 : c.wrong;
        if (nearest == NULL || wrong < least) {
            nearest = *f;
            least = wrong;
            memcpy(what, text, sizeof text);
        }
    }
    return least == 0 ? NULL : nearest;
}

mixt_status mixt_model_written(const mixt_model *model, mixt_form form, mixt_model *written,
                               mixt_error *error)
{
    *written = *model;
    return mixt_family_to_write(&written->family, &model->options, form, error);
}
