/* Other options for the weights of an opened model. */
#include "model/parameters.h"

static bool same_parameters(const mixt_model *a, const mixt_model *b)
{
    bool same = a->parameter_count == b->parameter_count && a->weight_count == b->weight_count;
    for (int i = 0; same && i < a->parameter_count; i++) {
        const mixt_parameter *p = &a->parameters[i], *q = &b->parameters[i];
        same = p->slot == q->slot && p->layer == q->layer && p->count == q->count &&
               p->offset == q->offset;
        for (int j = 0; same && j < p->rank; j++) {
            same = p->size[j] == q->size[j];
        }
    }
    return same;
}

/* What tells how the values of a matrix are meant. */
static bool same_heads(const mixt_model_options *a, const mixt_model_options *b)
{
    return a->heads == b->heads && a->kv_heads == b->kv_heads && a->head_dim == b->head_dim &&
           a->attention.mixed_qk == b->attention.mixed_qk &&
           a->attention.value_dim == b->attention.value_dim;
}

/* The model's places under these options; *fits says whether they are the same. */
static mixt_status lay_out(const mixt_model *model, const mixt_model_options *options,
                           mixt_model **changed, bool *fits, mixt_error *error)
{
    MIXT_TRY(mixt_model_layout(options, model->family, "model", changed, error));
    if (model->ranks != NULL && model->ranks->expert > 1) {
        mixt_parameters_share(*changed, model->share);
    }
    *fits = model->options.experts == (*changed)->options.experts &&
            same_parameters(model, *changed) && same_heads(&model->options, &(*changed)->options) &&
            model->options.initializer_range == (*changed)->options.initializer_range;
    return MIXT_OK;
}

mixt_status mixt_model_compare(const mixt_model *model, const mixt_model_options *options,
                               bool *fits, mixt_error *error)
{
    mixt_model *changed = NULL;
    mixt_status status = lay_out(model, options, &changed, fits, error);
    mixt_model_free(changed);
    return status;
}

bool mixt_model_fits(const mixt_model *model, mixt_model_options *options)
{
    mixt_model *changed = NULL;
    bool fits = false;
    mixt_status status = lay_out(model, options, &changed, &fits, NULL);
    if (status == MIXT_OK) {
        *options = changed->options;
    }
    mixt_model_free(changed);
    return status == MIXT_OK && fits;
}

mixt_status mixt_model_set_options(mixt_model *model, const mixt_model_options *options,
                                   mixt_error *error)
{
    mixt_model *changed = NULL;
    bool fits = false;
    mixt_status status = lay_out(model, options, &changed, &fits, error);
    if (status == MIXT_OK && !fits) {
        status = mixt_fail(error, MIXT_ERROR_ARGUMENT,
                           "model: these options need other tensors than the model has");
    }
    if (status == MIXT_OK) {
        status = mixt_model_load(model, error); /* files are read as the old options say */
    }
    for (int i = 0; status == MIXT_OK && i < model->parameter_count; i++) {
        model->parameters[i].trainable = changed->parameters[i].trainable;
    }
    if (status == MIXT_OK) {
        model->options = changed->options;
        model->router = changed->router;
    }
    mixt_model_free(changed);
    return status;
}
