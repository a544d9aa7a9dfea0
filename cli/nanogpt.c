/* What nanoGPT's train.py and nanoMoE's configurations can say (karpathy/nanoGPT,
 * wolfecameron/nanoMoE), and what becomes of it here. */
#include "nanogpt.h"

#include <string.h>

#include "files.h"

#define ASKED(field) offsetof(nanogpt_settings, field)
#define FAR 1e15

#define FLAG_ROW(n, field, h)                                                                      \
    {                                                                                              \
        .name = n, .kind = OPTION_FLAG, .offset = ASKED(field), .help = h                          \
    }
#define TEXT_ROW(n, field, v, h)                                                                   \
    {                                                                                              \
        .name = n, .kind = OPTION_TEXT, .offset = ASKED(field), .value = v, .help = h,             \
        .fallback = ""                                                                             \
    }
#define RANGE_ROW(n, k, field, lo, hi, v, h)                                                       \
    {                                                                                              \
        .name = n, .kind = OPTION_##k, .offset = ASKED(field), .low = lo, .high = hi, .value = v,  \
        .help = h, .fallback = ""                                                                  \
    }
#define NUMBER_ROW(n, k, field, lo, v, h) RANGE_ROW(n, k, field, lo, FAR, v, h)
#define IGNORED_ROW(n)                                                                             \
    {                                                                                              \
        .name = n, .kind = OPTION_TEXT, .offset = ASKED(device), .value = "X",                     \
        .help = "does nothing here", .fallback = "", .ignored = true                               \
    }

const cli_option options_nanogpt[] = {
    NUMBER_ROW("eval-iters", LONG, eval_iters, 1, "N",
               "eval-tokens as so many batches of batch-size windows"),
    NUMBER_ROW("min-lr", NUMBER, min_lr, 0, "X", "minimum-rate as a learning rate"),
    NUMBER_ROW("lr-decay-iters", LONG, lr_decay_iters, 0, "N",
               "only the number of steps: the rate falls until the last"),
    FLAG_ROW("decay-lr", decay_lr, "false: schedule constant, no warm-up"),
    TEXT_ROW("dtype", dtype, "TYPE", "float32, or bfloat16 for bf16"),
    TEXT_ROW("dataset", dataset, "NAME", "passed over beside data"),
    TEXT_ROW("device", device, "NAME", "only cpu"),
    NUMBER_ROW("dropout", NUMBER, dropout, 0, "X", "only 0: there is none"),
    FLAG_ROW("bias", bias, "only false: products and norms have none"),
    FLAG_ROW("wandb-log", wandb_log, "only false: the run folder has the log"),
    FLAG_ROW("eval-only", eval_only, "only false: mixt eval scores"),
    IGNORED_ROW("wandb-project"),
    IGNORED_ROW("wandb-run-name"),
    IGNORED_ROW("compile"),
    IGNORED_ROW("backend"),
    IGNORED_ROW("always-save-checkpoint"),
    RANGE_ROW("top-k", LONG, top_k, 1, OPTIONS_EXPERTS_PER_TOKEN_MAX, "N",
              "experts-per-token (nanoMoE)"),
    FLAG_ROW("use-aux-loss", use_aux_loss, "false: balance-coefficient 0 (nanoMoE)"),
    FLAG_ROW("use-router-z-loss", use_router_z_loss, "false: z-coefficient 0"),
    FLAG_ROW("use-noisy-top-k", use_noisy_top_k, "only false (nanoMoE)"),
    FLAG_ROW("use-switch-tfm-init", use_switch_init, "only false"),
    NUMBER_ROW("stride", LONG, stride, 1, "N", "only 1: every layer has experts"),
    RANGE_ROW("train-capacity", NUMBER, train_capacity, 0, OPTIONS_CAPACITY_MAX, "X",
              "capacity (nanoMoE)"),
    RANGE_ROW("eval-capacity", NUMBER, eval_capacity, 0, OPTIONS_CAPACITY_MAX, "X",
              "evaluation-capacity (nanoMoE)"),
    NUMBER_ROW("min-capacity", NUMBER, min_capacity, 0, "X", "refused: there is no least capacity"),
    IGNORED_ROW("switch-tfm-init-scale"),
    IGNORED_ROW("router-use-full-prec"),
    {0},
};

static const cli_given *given(const cli_arguments *arguments, const char *name)
{
    return options_given(arguments, name);
}

static void translate_rate(const nanogpt_target *target, cli_arguments *arguments)
{
    const nanogpt_settings *asked = target->asked;
    mixt_train_options *training = target->training;
    bool constant = given(arguments, "decay-lr") != NULL && !asked->decay_lr;
    if (constant) {
        training->schedule = MIXT_SCHEDULE_CONSTANT;
        training->warmup = 0;
    } else if (options_given_after(arguments, "decay-lr", "schedule")) {
        training->schedule = MIXT_SCHEDULE_COSINE;
    }
    if (options_given_after(arguments, "min-lr", "minimum-rate")) {
        if (training->learning_rate < 0) { /* one of them is to be a share of the other */
            training->learning_rate = 0.002;
        }
        if (asked->min_lr > training->learning_rate) {
            options_complain(arguments, given(arguments, "min-lr"),
                             "min_lr: %g is above learning_rate %g", asked->min_lr,
                             training->learning_rate);
        } else {
            training->minimum_rate =
                training->learning_rate > 0 ? asked->min_lr / training->learning_rate : 0;
        }
    }
    const cli_given *decay = given(arguments, "lr-decay-iters");
    if (decay != NULL && !constant && training->schedule != MIXT_SCHEDULE_CONSTANT &&
        (training->seconds > 0 || asked->lr_decay_iters != training->steps)) {
        options_complain(arguments, decay,
                         "lr_decay_iters: %lld: the rate falls until the last step; write %lld "
                         "(max_iters), or leave it out",
                         (long long)asked->lr_decay_iters, (long long)training->steps);
    }
}

static void translate_experts(const nanogpt_target *target, cli_arguments *arguments)
{
    const nanogpt_settings *asked = target->asked;
    mixt_router_options *router = &target->model->router;
    if (options_given_after(arguments, "top-k", "experts-per-token")) {
        target->model->experts_per_token = (int)asked->top_k;
        options_mark(arguments, "experts-per-token");
    }
    if (given(arguments, "use-aux-loss") != NULL && !asked->use_aux_loss) {
        router->balance_coefficient = 0;
        options_mark(arguments, "balance-coefficient");
    }
    if (given(arguments, "use-router-z-loss") != NULL && !asked->use_router_z_loss) {
        router->z_coefficient = 0;
        options_mark(arguments, "z-coefficient");
    }
    if (asked->use_noisy_top_k) {
        options_complain(arguments, given(arguments, "use-noisy-top-k"),
                         "use_noisy_top_k: True: is noise in scores and texts too; write False, "
                         "and router_noise = top-k for training's");
    }
    if (options_given_after(arguments, "train-capacity", "capacity")) {
        router->capacity = asked->train_capacity;
        options_mark(arguments, "capacity");
    }
    if (options_given_after(arguments, "eval-capacity", "evaluation-capacity")) {
        router->evaluation_capacity = asked->eval_capacity;
        options_mark(arguments, "evaluation-capacity");
    }
    if (asked->use_switch_init) {
        options_complain(arguments, given(arguments, "use-switch-tfm-init"),
                         "use_switch_tfm_init: True: write False, and initializer_range = X");
    }
    if (given(arguments, "min-capacity") != NULL) {
        options_complain(arguments, given(arguments, "min-capacity"),
                         "min_capacity: an expert's capacity has no least; leave it out");
    }
    if (given(arguments, "stride") != NULL && asked->stride != 1) {
        options_complain(arguments, given(arguments, "stride"),
                         "stride: %lld: there layers 0, %lld, ... have experts, here the last of "
                         "each group; write 1, or moe_period = %lld",
                         (long long)asked->stride, (long long)asked->stride,
                         (long long)asked->stride);
    }
}

static bool said_as_there(const cli_arguments *arguments, const char *name)
{
    const cli_given *at = given(arguments, name);
    return at != NULL && (strncmp(at->word, "n_", 2) == 0 || strncmp(at->word, "n-", 2) == 0);
}

/* n_embd and n_head say there how wide a head is, and every head has keys and values of its own. */
static void translate_heads(const nanogpt_target *target, const cli_arguments *arguments)
{
    mixt_model_options *model = target->model;
    bool heads = said_as_there(arguments, "heads");
    bool follows = given(arguments, "head-dim") == NULL &&
                   (heads || said_as_there(arguments, "hidden-size")) && model->heads > 0 &&
                   model->hidden_size % model->heads == 0;
    const char *joint = "";
    int used = 0;
    if (*target->init_from != NULL) {
        return; /* its tensors say that */
    }
    if (follows && model->head_dim != model->hidden_size / model->heads) {
        model->head_dim = model->hidden_size / model->heads;
        used = snprintf(target->note, NANOGPT_NOTE_SIZE, "--head-dim %d", model->head_dim);
        joint = ", ";
    }
    if (heads && given(arguments, "kv-heads") == NULL && model->kv_heads != model->heads) {
        model->kv_heads = model->heads;
        used += snprintf(target->note + used, NANOGPT_NOTE_SIZE - (size_t)used, "%s--kv-heads %d",
                         joint, model->kv_heads);
    }
    if (used > 0) {
        snprintf(target->note + used, NANOGPT_NOTE_SIZE - (size_t)used,
                 ", as n_embd and n_head mean in nanoGPT");
    }
}

static void translate_machine(const nanogpt_target *target, cli_arguments *arguments)
{
    const nanogpt_settings *asked = target->asked;
    if (asked->dtype != NULL && options_given_after(arguments, "dtype", "bf16")) {
        target->training->bf16 = strcmp(asked->dtype, "bfloat16") == 0;
        if (!target->training->bf16 && strcmp(asked->dtype, "float32") != 0) {
            options_complain(arguments, given(arguments, "dtype"),
                             "dtype: %.60s: write float32 or bfloat16", asked->dtype);
        }
    }
    if (asked->device != NULL && strcmp(asked->device, "cpu") != 0) {
        options_complain(arguments, given(arguments, "device"),
                         "device: %.60s: mixt computes on the CPU; write cpu, or leave it out",
                         asked->device);
    }
}

static void translate_source(const nanogpt_target *target, cli_arguments *arguments)
{
    const char *from = *target->init_from;
    const char *dataset = target->asked->dataset;
    if (dataset != NULL && !target->has_data) {
        options_complain(arguments, given(arguments, "dataset"),
                         "dataset: %.100s: write data = PATH (text files, .jsonl, token shards, or "
                         "a folder of them)",
                         dataset);
    }
    if (from == NULL || files_exist(from)) {
        return;
    }
    if (strcmp(from, "scratch") == 0 || strcmp(from, "resume") == 0) {
        *target->must_resume = from[0] == 'r';
        *target->init_from = NULL;
    } else if (strncmp(from, "gpt2", 4) == 0) {
        options_complain(arguments, given(arguments, "init-from"),
                         "init_from: %.60s: mixt does not read GPT-2 (mixt info --families); write "
                         "init_from = FOLDER of another model, or scratch",
                         from);
    }
}

void nanogpt_translate(const nanogpt_target *target, cli_arguments *arguments)
{
    const nanogpt_settings *asked = target->asked;
    mixt_train_options *training = target->training;
    if (options_given_after(arguments, "eval-iters", "eval-tokens")) {
        double tokens = (double)asked->eval_iters * training->batch_size * training->window;
        training->evaluate_tokens = tokens < FAR ? (int64_t)tokens : (int64_t)FAR;
    }
    translate_rate(target, arguments);
    translate_experts(target, arguments);
    translate_machine(target, arguments);
    translate_source(target, arguments);
    translate_heads(target, arguments);
    if (asked->dropout > 0) {
        options_complain(arguments, given(arguments, "dropout"),
                         "dropout: %g: mixt has none; write 0", asked->dropout);
    }
    if (asked->bias) {
        options_complain(arguments, given(arguments, "bias"),
                         "bias: True: products and norms have none; write False (qkv_bias: those "
                         "of q, k and v)");
    }
    if (asked->wandb_log) {
        options_complain(arguments, given(arguments, "wandb-log"),
                         "wandb_log: True: the run folder has log.jsonl and TensorBoard's events; "
                         "write False");
    }
    if (asked->eval_only) {
        options_complain(arguments, given(arguments, "eval-only"),
                         "eval_only: True: use mixt eval -m RUN --data PATH");
    }
}
