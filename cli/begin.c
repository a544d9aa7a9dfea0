/* What a run of mixt train begins with: data, tokenizer, a new model, another's weights, or a
 * mixture of a dense model's. */
#include <stdlib.h>
#include <string.h>

#include "files.h"
#include "terminal.h"
#include "ranks.h"
#include "train.h"

/* Weights of a model that there is, in the place of random ones. */
bool train_has_source(const train_settings *settings)
{
    return settings->init_from != NULL || settings->upcycle != NULL;
}

/* The tokenizer of the run, the given one, or a new one. */
static mixt_status find_tokenizer(const train_settings *settings, const cli_arguments *arguments,
                                  const char *kept, cli_resources *resources, mixt_error *error)
{
    if (kept != NULL) {
        return mixt_tokenizer_open(kept, &resources->tokenizer, error);
    }
    if (settings->tokenizer != NULL || train_has_source(settings)) {
        TRY(open_tokenizer(settings->tokenizer, resources, error));
        int ids = mixt_tokenizer_vocab_size(resources->tokenizer);
        bool said = options_given(arguments, "vocab-size") != NULL && !train_has_source(settings);
        return said && ids != settings->model.vocab_size
                   ? set_error(error, MIXT_ERROR_ARGUMENT,
                               "--vocab-size: %d is not what --tokenizer has, %d",
                               settings->model.vocab_size, ids)
                   : MIXT_OK;
    }
    mixt_corpus *corpus = NULL;
    mixt_status status =
        mixt_corpus_open(settings->data.items, settings->data.count, &corpus, error);
    if (status == MIXT_OK) {
        status =
            train_vocabulary(corpus, settings->model.vocab_size,
                             (uint64_t)settings->tokenizer_bytes, &resources->tokenizer, error);
    }
    mixt_corpus_free(corpus);
    return status;
}

/* Is the family one that can be trained? `flag` names it. */
mixt_status train_check_trainable(const mixt_model_options *model, const char *flag,
                                  const char *path, mixt_error *error)
{
    return model->attention.latent_size > 0 || model->attention.sinks
               ? set_error(error, MIXT_ERROR_UNSUPPORTED,
                           "--%s: %.400s: models of this family are opened, not trained", flag,
                           path)
               : MIXT_OK;
}

static size_t size_of(const cli_option *option)
{
    return option->kind == OPTION_FLAG     ? sizeof(bool)
           : option->kind == OPTION_NUMBER ? sizeof(double)
                                           : sizeof(int);
}

/* Is the option one of the mixture alone, which a dense model cannot have? */
static bool is_of_mixture(const cli_option *option, size_t place)
{
    static const char *const names[] = {
        "ffn-size",          "experts",         "experts-per-token",    "shared-experts",
        "shared-gate",       "shared-ffn-size", "leading-dense-layers", "dense-ffn-size",
        "initializer-range", "moe-period",      "identity-experts",     "zero-experts"};
    size_t router = offsetof(mixt_model_options, router);
    bool is = place >= router && place < router + sizeof(mixt_router_options);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        is = is || strcmp(option->name, names[i]) == 0;
    }
    return is;
}

/* Does the source lack the tensors, or the experts, for this one option as it is asked for? Not
 * where it is only possible beside others. */
static bool lacks_tensors(const mixt_model *model, const mixt_model_options *source,
                          const cli_option *option, size_t place, const mixt_model_options *asked)
{
    mixt_error ignored = MIXT_ERROR_INIT;
    mixt_model_options changed = *source;
    if (source->experts == 0 && is_of_mixture(option, place)) {
        return true;
    }
    memcpy((char *)&changed + place, (const char *)asked + place, size_of(option));
    if (is_of_mixture(option, place) && mixt_model_options_check(&changed, &ignored) != MIXT_OK) {
        return false;
    }
    bool fits = mixt_model_fits(model, &changed);
    /* 0 stands for what follows from others; anything else has to stay */
    double zero = 0;
    bool stays =
        memcmp((char *)&changed + place, (const char *)asked + place, size_of(option)) == 0;
    bool follows = memcmp((const char *)asked + place, &zero, size_of(option)) == 0;
    return !fits || !(stays || (follows && option->kind != OPTION_FLAG));
}

/* The source's options with those over them that were said, without those of a mixture where it is
 * `dense`. What cannot be is listed in `refused`. */
static void merge_options(const train_settings *settings, const cli_arguments *arguments,
                          const mixt_model *model, bool dense, mixt_model_options *merged,
                          char refused[1000])
{
    const mixt_model_options source = *merged;
    size_t used = 0;
    refused[0] = 0;
    for (const cli_group *group = arguments->command->groups; group->title != NULL; group++) {
        bool shapes = group->options == options_model || group->options == options_router;
        for (const cli_option *row = group->options; shapes && row->name != NULL; row++) {
            size_t place = group->offset + row->offset - offsetof(train_settings, model);
            const char *has = (const char *)&source + place;
            const char *asked = (const char *)&settings->model + place;
            if (options_given(arguments, row->name) == NULL ||
                (dense && is_of_mixture(row, place)) || memcmp(has, asked, size_of(row)) == 0) {
                continue;
            }
            memcpy((char *)merged + place, asked, size_of(row));
            if (lacks_tensors(model, &source, row, place, &settings->model) && used < 900) {
                char was[40], is[40];
                options_format(row, has, was, sizeof was);
                options_format(row, asked, is, sizeof is);
                used += (size_t)snprintf(refused + used, 1000 - used, "%s--%s %s (it has %s)",
                                         used > 0 ? ", " : "", row->name, is, was);
            }
        }
    }
}

/* Who says that all experts are chosen need not say how many. */
static void fit_choices(train_settings *settings, const cli_arguments *arguments,
                        mixt_model_options *model)
{
    const char *name = mixt_router_select_name(model->router.select);
    int all = model->experts + model->identity_experts + model->zero_experts;
    if (strcmp(name, "all") == 0 && model->experts > 0 && model->experts_per_token != all &&
        options_given(arguments, "experts-per-token") == NULL && settings->nanogpt.top_k <= 0) {
        model->experts_per_token = all;
        snprintf(settings->choice_note, sizeof settings->choice_note,
                 "--experts-per-token %d, as --router-select all is every expert", all);
    }
}

/* Model options beside --init-from: obeyed where the tensors stay, else refused by name. */
static mixt_status take_source(train_settings *settings, const cli_arguments *arguments,
                               cli_resources *resources, mixt_error *error)
{
    mixt_model_info info;
    char refused[1000];
    mixt_model_describe(resources->model, &info);
    TRY(train_check_trainable(&info.options, "init-from", settings->init_from, error));
    mixt_model_options merged = info.options;
    merge_options(settings, arguments, resources->model, false, &merged, refused);
    if (refused[0] != 0) {
        return set_error(
            error, MIXT_ERROR_ARGUMENT,
            "--init-from: the tensors of %.200s stay as they are%s, but asked is %.600s",
            settings->init_from, info.options.experts == 0 ? ", without experts" : "", refused);
    }
    if (merged.router.select != info.options.router.select) {
        fit_choices(settings, arguments, &merged);
    }
    if (program_ranks != NULL && !settings->dry_run) { /* so that its share alone is read */
        TRY(train_spread_source(settings, merged.experts, resources, error));
    }
    TRY(mixt_model_set_options(resources->model, &merged, error));
    TRY(mixt_model_options_check(&merged, error));
    mixt_model_describe(resources->model, &info);
    settings->model = info.options;
    return MIXT_OK;
}

/* The dense model's options, with those of the mixture as they were asked or by default, and the
 * others that were said. What cannot be is listed in `refused`. */
static void merge_mixture(const train_settings *settings, const cli_arguments *arguments,
                          const mixt_model *dense, mixt_model_options *merged, char refused[1000])
{
    const mixt_model_options *asked = &settings->model;
    mixt_model_options source = *merged;
    merge_options(settings, arguments, dense, true, merged, refused);
    merged->experts = asked->experts;
    merged->experts_per_token = asked->experts_per_token;
    merged->shared_experts = asked->shared_experts;
    merged->shared_ffn_size = asked->shared_ffn_size;
    merged->shared_gate = asked->shared_gate;
    merged->leading_dense_layers = asked->leading_dense_layers;
    merged->moe_period = asked->moe_period;
    merged->identity_experts = asked->identity_experts;
    merged->zero_experts = asked->zero_experts;
    merged->router = asked->router;
    merged->ffn_size =
        options_given(arguments, "ffn-size") != NULL ? asked->ffn_size : source.ffn_size;
    merged->dense_ffn_size = asked->dense_ffn_size != 0 ? asked->dense_ffn_size : source.ffn_size;
    merged->initializer_range = options_given(arguments, "initializer-range") != NULL
                                    ? asked->initializer_range
                                    : source.initializer_range;
}

/* The mixture of --upcycle in the place of the dense model. */
static mixt_status take_dense(train_settings *settings, const cli_arguments *arguments,
                              cli_resources *resources, mixt_error *error)
{
    mixt_model_info info;
    char refused[1000];
    mixt_model *mixture = NULL;
    const mixt_upcycle_options how = {.noise = settings->upcycle_noise,
                                      .reinit = settings->upcycle_reinit,
                                      .seed = settings->training.seed};
    mixt_model_describe(resources->model, &info);
    TRY(train_check_trainable(&info.options, "upcycle", settings->upcycle, error));
    if (info.options.experts > 0) {
        return set_error(error, MIXT_ERROR_ARGUMENT,
                         "--upcycle: %.400s is a mixture already, of %d experts a layer; "
                         "--init-from begins with it",
                         settings->upcycle, info.options.experts);
    }
    mixt_model_options merged = info.options;
    train_fit_choices(settings, arguments);
    merge_mixture(settings, arguments, resources->model, &merged, refused);
    if (refused[0] != 0) {
        return set_error(
            error, MIXT_ERROR_ARGUMENT,
            "--upcycle: all but the MLPs of %.200s stays as it is, but asked is %.600s",
            settings->upcycle, refused);
    }
    TRY(mixt_model_upcycle(resources->model, &merged, &how, &mixture, error));
    mixt_model_free(resources->model);
    resources->model = mixture;
    mixt_model_describe(mixture, &info);
    TRY(mixt_model_options_check(&info.options, error));
    settings->model = info.options;
    for (int i = 0; mixt_model_remark(mixture, i) != NULL; i++) {
        say(stderr, "%s\n", mixt_model_remark(mixture, i));
    }
    return MIXT_OK;
}

void train_fit_choices(train_settings *settings, const cli_arguments *arguments)
{
    fit_choices(settings, arguments, &settings->model);
}

/* A window and a context length that fit: where one of them was not said it follows the other. */
mixt_status train_fit_window(train_settings *settings, const cli_arguments *arguments,
                             mixt_error *error)
{
    int *window = &settings->training.window, *context = &settings->model.context_length;
    bool new_shape = !train_has_source(settings) && settings->model_config == NULL;
    if (*window <= *context) {
        return MIXT_OK;
    }
    if (options_given(arguments, "window") == NULL) {
        *window = *context;
        snprintf(settings->note, sizeof settings->note, "--window %d, as --context-length is",
                 *window);
    } else if (options_given(arguments, "context-length") == NULL && new_shape) {
        *context = *window;
        snprintf(settings->note, sizeof settings->note, "--context-length %d, as the window",
                 *context);
    } else {
        return set_error(error, MIXT_ERROR_ARGUMENT,
                         "--window: %d is more than --context-length %d", *window, *context);
    }
    return MIXT_OK;
}

mixt_status train_open_source(train_settings *settings, const cli_arguments *arguments,
                              cli_resources *resources, mixt_error *error)
{
    bool dense = settings->upcycle != NULL;
    TRY(open_model(dense ? settings->upcycle : settings->init_from, resources, error));
    TRY((dense ? take_dense : take_source)(settings, arguments, resources, error));
    TRY(train_fit_window(settings, arguments, error));
    return mixt_train_check(&settings->model, &settings->training, error);
}

const char *train_optimizer_name(const mixt_train_options *training)
{
    return training->optimizer == MIXT_OPTIMIZER_MUON ? "muon" : "adamw";
}

mixt_status train_choose_optimizer(train_settings *settings, mixt_error *error)
{
    mixt_train_options *training = &settings->training;
    char *line = settings->optimizer_line;
    size_t size = sizeof settings->optimizer_line;
    const mixt_train_options asked = *training;
    double share;
    TRY(mixt_train_options_choose(&settings->model, training, &share, error));
    if (asked.optimizer != MIXT_OPTIMIZER_AUTO) {
        return MIXT_OK;
    }
    int used = snprintf(line, size, "optimizer: %s (auto", train_optimizer_name(training));
    if (share > 0) {
        used +=
            snprintf(line + used, size - (size_t)used,
                     "; the arithmetic of Muon's iteration is %.2g of the rest of a step", share);
    }
    if (training->optimizer == MIXT_OPTIMIZER_MUON) {
        used += snprintf(line + used, size - (size_t)used, "; learning rate %g, of embeddings %g",
                         training->learning_rate, training->embedding_rate);
    }
    if ((asked.momentum != 0 && training->momentum == 0) ||
        (asked.muon_steps != 0 && training->muon_steps == 0)) {
        used +=
            snprintf(line + used, size - (size_t)used, "; --momentum and --muon-steps do nothing");
    }
    snprintf(line + used, size - (size_t)used, ")\n");
    return MIXT_OK;
}

mixt_status train_prepare(train_settings *settings, const cli_arguments *arguments,
                          const char *kept, cli_resources *resources, mixt_error *error)
{
    TRY(open_context(&settings->machine, resources, error));
    if (train_has_source(settings)) {
        TRY(train_open_source(settings, arguments, resources, error));
    }
    TRY(find_tokenizer(settings, arguments, kept, resources, error));
    if (!train_has_source(settings)) {
        settings->model.vocab_size = mixt_tokenizer_vocab_size(resources->tokenizer);
    }
    return settings->resumes ? MIXT_OK : train_choose_optimizer(settings, error);
}

mixt_status train_prepare_data(train_settings *settings, cli_resources *resources,
                               mixt_error *error)
{
    TRY(open_training_data(&settings->data, settings->heldout, resources, error));
    if (program_ranks != NULL) {
        return train_share_model(settings, resources, error);
    }
    return train_has_source(settings) ? MIXT_OK
                                      : mixt_model_create(&settings->model, settings->training.seed,
                                                          &resources->model, error);
}
