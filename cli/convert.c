/* mixt convert: a model in another form, or in fewer bits. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "convert_report.h"
#include "files.h"
#include "prune.h"
#include "shared.h"
#include "terminal.h"

typedef struct convert_settings {
    machine_settings machine;
    const char *model;
    const char *tokenizer;
    const char *output;
    const char *merge;
    char adapter[4200]; /* the folder that --merge means */
    const char *type;
    const char *importance;
    const char *save_importance;
    const char *drop;
    const char *probe;
    int by;
    string_list data;
    string_list report_data;
    double heldout;
    const char *budget;
    int64_t max_tokens;
    int64_t trial_tokens;
    double shard_size;
    int layout;
    int window;
    bool pure;
    bool report;
    bool json;
} convert_settings;

enum { LAYOUT_MATRICES, LAYOUT_EXPERTS };

static const cli_option convert_options[] = {
    OPTION_OF_MODEL(convert_settings, model),
    OPTION_OF_TOKENIZER(convert_settings, tokenizer),
    {.name = "output",
     .letter = 'o',
     .kind = OPTION_TEXT,
     .offset = offsetof(convert_settings, output),
     .value = "PATH",
     .help = "what to write: NAME.gguf is a GGUF file, anything else a Hugging Face folder"},
    {.name = "merge",
     .kind = OPTION_TEXT,
     .offset = offsetof(convert_settings, merge),
     .value = "ADAPTER",
     .help = "a LoRA adapter in PEFT's format, a folder with adapter_config.json or a run of mixt "
             "train --lora-rank, that is merged into the model first; without a type the matrices "
             "that it changes are written as F32"},
    {.name = "type",
     .kind = OPTION_TEXT,
     .offset = offsetof(convert_settings, type),
     .value = "TYPE",
     .help = "type of the weights: F32 F16 BF16 and, in GGUF files, Q8_0 Q6_K Q5_K_M Q5_K_S Q4_K_M "
             "Q4_K_S Q3_K_L Q3_K_M Q3_K_S Q2_K Q2_K_S IQ4_XS IQ4_NL Q5_1 Q5_0 Q4_1 Q4_0 MXFP4; "
             "auto: each tensor the type that loses least under --budget",
     .fallback = "as it is",
     .aliases = "outtype"},
    {.name = "pure",
     .kind = OPTION_FLAG,
     .offset = offsetof(convert_settings, pure),
     .help = "every matrix gets the type itself, not the mix that its name stands for"},
    {.name = "budget",
     .kind = OPTION_TEXT,
     .offset = offsetof(convert_settings, budget),
     .value = "SIZE",
     .help = "with --type auto: size of the tensors, 12GB, 800MB (without a unit GB) or 4.5bits a "
             "weight"},
    {.name = "trial-tokens",
     .kind = OPTION_LONG,
     .offset = offsetof(convert_settings, trial_tokens),
     .low = 1,
     .high = 1e15,
     .help = "with --type auto: tokens of each domain of --data that every matrix is tried on"},
    {.name = "importance",
     .kind = OPTION_TEXT,
     .offset = offsetof(convert_settings, importance),
     .value = "FILE",
     .help = "importance matrix (GGUF or .dat, also of llama-imatrix) that weights the errors",
     .aliases = "imatrix"},
    {.name = "data",
     .kind = OPTION_LIST,
     .offset = offsetof(convert_settings, data),
     .value = "PATH",
     .help = "gather an importance matrix on these texts first; with --drop-experts, say what that "
             "costs on them"},
    OPTION_OF_HELDOUT(convert_settings,
                      "of --data: share of the documents that importance, trials and the choice of "
                      "experts do not see, and that --report and the cost of --drop-experts are "
                      "measured on"),
    {.name = "drop-experts",
     .kind = OPTION_TEXT,
     .offset = offsetof(convert_settings, drop),
     .value = "FILE|N%",
     .help = "experts that are taken out of every layer: a file with a line LAYER: EXPERT EXPERT "
             "... for each, or so many percent, those of least value"},
    {.name = "by",
     .kind = OPTION_CHOICE,
     .offset = offsetof(convert_settings, by),
     .choices = "reap frequency probe",
     .help =
         "with --drop-experts N%: the value of an expert, REAP's score, how often it is chosen, "
         "or what masking it costs"},
    {.name = "probe",
     .kind = OPTION_TEXT,
     .offset = offsetof(convert_settings, probe),
     .value = "FILE",
     .help = "with --drop-experts N%: results of mixt probe; without, they are measured on --data, "
             "and kept beside the output"},
    OPTION_OF_MAX_TOKENS(convert_settings, "with --data: most tokens of each domain; 0: no limit"),
    OPTION_OF_WINDOW(convert_settings, 0,
                     "with --data: tokens in a window; 0: 512, or the model's context if that is "
                     "less"),
    {.name = "save-importance",
     .kind = OPTION_TEXT,
     .offset = offsetof(convert_settings, save_importance),
     .value = "FILE",
     .help = "with --data: keep the importance matrix"},
    {.name = "report",
     .kind = OPTION_FLAG,
     .offset = offsetof(convert_settings, report),
     .help = "then compare the written model with its source: perplexity, predictions, routing by "
             "layer, size by type"},
    {.name = "report-data",
     .kind = OPTION_LIST,
     .offset = offsetof(convert_settings, report_data),
     .value = "PATH",
     .help = "texts of the report; without them it takes --data",
     .fallback = "those of --data"},
    {.name = "json",
     .kind = OPTION_FLAG,
     .offset = offsetof(convert_settings, json),
     .help = "with --report: as one JSON object"},
    {.name = "layout",
     .kind = OPTION_CHOICE,
     .offset = offsetof(convert_settings, layout),
     .choices = "matrices experts",
     .help =
         "of a GGUF file: one tensor with the gates of all experts of a layer, one with all ups, "
         "one with all downs, as llama.cpp reads it; or gate, up and down of each expert side by "
         "side, which --memory fetches in one read, and which llama.cpp of today does not open. "
         "Folders are of the second kind"},
    {.name = "shard-size",
     .kind = OPTION_NUMBER,
     .offset = offsetof(convert_settings, shard_size),
     .low = 0,
     .high = 1e6,
     .value = "GB",
     .help = "write files of this size at most; 0: one file"},
    {0},
};

static void convert_defaults(void *user)
{
    convert_settings *settings = user;
    settings->machine = machine_defaults(MIXT_MATMUL_EXACT);
    settings->max_tokens = 100000;
    settings->trial_tokens = 2048;
}

/* Are no matrices written in types that round by importance? */
static bool is_plain(const char *type)
{
    static const char *const plain[] = {"F32", "F16", "BF16"};
    bool is = type == NULL;
    for (size_t i = 0; i < 3 && !is; i++) {
        is = strcasecmp(type, plain[i]) == 0;
    }
    return is;
}

static mixt_status open_data(const convert_settings *settings, cli_resources *resources,
                             mixt_error *error)
{
    if (settings->data.count == 0) {
        return MIXT_OK;
    }
    if (resources->tokenizer == NULL) {
        return set_error(error, MIXT_ERROR_ARGUMENT,
                         "--data: needs a tokenizer, and there is none beside the model "
                         "(--tokenizer PATH)");
    }
    bool cost_alone = settings->drop != NULL && settings->probe != NULL; /* values are there */
    const text_request texts = {.paths = &settings->data,
                                .heldout = cost_alone ? settings->heldout : 0,
                                .apart = cost_alone ? 0 : settings->heldout,
                                .max_tokens = settings->max_tokens,
                                .purpose = cost_alone ? "to score the smaller model on"
                                           : settings->drop != NULL ? "to measure experts on"
                                                                    : "to measure importance on"};
    return open_texts(&texts, resources, error);
}

static mixt_status drop(const convert_settings *settings, cli_resources *resources,
                        mixt_error *error)
{
    bool has_data = settings->drop != NULL && settings->data.count > 0;
    const prune_settings prune = {
        .drop = settings->drop,
        .results = settings->probe,
        .by = settings->by,
        .output = settings->output,
        .model = settings->model,
        .has_data = has_data,
        .heldout = settings->heldout > 0,
        .window = has_data ? window_that_fits(settings->window, 512, resources->model) : 0,
        .max_tokens = settings->max_tokens};
    return settings->drop != NULL ? drop_experts(&prune, resources, error) : MIXT_OK;
}

static mixt_status gather(const convert_settings *settings, cli_resources *resources,
                          mixt_importance **importance, mixt_error *error)
{
    if (settings->importance != NULL) {
        return mixt_importance_open(settings->importance, importance, error);
    }
    if (settings->data.count == 0 ||
        (settings->drop != NULL && is_plain(settings->type) && settings->save_importance == NULL)) {
        return MIXT_OK; /* the texts say what dropped experts cost, and nothing is quantised */
    }
    progress_line progress;
    progress_begin(&progress, "importance");
    const mixt_importance_options options = {
        .window = window_that_fits(settings->window, 512, resources->model),
        .max_tokens = (uint64_t)settings->max_tokens,
        .progress = progress_callback,
        .user = &progress};
    interrupt_begin();
    mixt_status status = mixt_importance_collect(resources->context, resources->model,
                                                 resources->data, &options, importance, error);
    progress_end(&progress);
    if (status == MIXT_OK && settings->save_importance != NULL) {
        status = mixt_importance_save(*importance, settings->save_importance, error);
    }
    interrupt_end();
    return status;
}

static void report_importance(const mixt_importance *importance)
{
    int matrices, unused;
    mixt_importance_describe(importance, &matrices, &unused);
    fprintf(stderr, "importance: %d %s", matrices, matrices == 1 ? "matrix" : "matrices");
    if (unused > 0) {
        fprintf(stderr, "; quantised without it, as no token reached them: %d expert%s", unused,
                plural((uint64_t)unused));
    }
    fputc('\n', stderr);
}

/* What llama.cpp computes otherwise of a GGUF file with this RoPE, said aloud. */
static void warn_rope(const mixt_model *model)
{
    mixt_model_info info;
    mixt_model_describe(model, &info);
    const mixt_rope_options *rope = &info.options.rope;
    bool yarn = rope->kind == MIXT_ROPE_YARN;
    if (yarn && rope->no_truncate) {
        fprintf(stderr, "YaRN's bounds are not rounded in this model: llama.cpp rounds them\n");
    }
    if (yarn && (rope->beta_fast != 32 || rope->beta_slow != 1)) {
        fprintf(stderr, "YaRN's betas are %g and %g in this model: llama.cpp takes 32 and 1\n",
                rope->beta_fast, rope->beta_slow);
    }
    if (rope->kind == MIXT_ROPE_DYNAMIC) {
        fprintf(stderr,
                "RoPE is dynamic in this model: llama.cpp does not stretch it beyond %d "
                "positions\n",
                info.options.context_length);
    }
}

/* A model without a tokenizer beside it is converted without one, said aloud. */
static mixt_status find_tokenizer(const convert_settings *settings, cli_resources *resources,
                                  mixt_error *error)
{
    mixt_status status = open_tokenizer(settings->tokenizer, resources, error);
    if (status == MIXT_ERROR_NOT_FOUND && settings->tokenizer == NULL) {
        fprintf(stderr, "no tokenizer beside the model: none is written\n");
        *error = (mixt_error)MIXT_ERROR_INIT;
        return MIXT_OK;
    }
    return status;
}

/* What was written, and what somebody might not expect of it. */
static void say_written(const convert_settings *settings, const mixt_convert_report *report)
{
    for (int i = 0; i < report->fallback_count; i++) {
        const mixt_type_use *use = &report->fallbacks[i];
        fprintf(stderr,
                "note: the rows of %d of %d tensors are no multiple of their type's block: written "
                "as %s instead (%.0f%% of the weights)\n",
                use->tensors, report->tensors, use->type,
                100 * (double)use->parameters / (double)report->parameters);
    }
    if (report->requantised > 0) {
        fprintf(
            stderr,
            "note: quantised already, and now once more: %d of %d tensors; the model in 16 or 32 "
            "bits gives better ones\n",
            report->requantised, report->tensors);
    }
    if (report->alone[0] != '\0') {
        fprintf(stderr, "note: only mixt opens it, as no family that others know holds %s\n",
                report->alone);
    }
    say(stderr, "written: %s, %.2f bits a weight", settings->output, report->bits_per_weight);
    if (report->error > 0) {
        fprintf(stderr,
                "; converted matrices lost %.3g%% (root mean square error over their values)",
                100 * report->error);
    }
    fputc('\n', stderr);
}

/* GGUF has one token for every row of the model. */
static void report_left_out(const cli_resources *resources)
{
    mixt_model_info info;
    mixt_model_describe(resources->model, &info);
    int rows = info.options.vocab_size;
    int ids = resources->tokenizer != NULL ? mixt_tokenizer_vocab_size(resources->tokenizer) : 0;
    if (ids > rows) {
        fprintf(stderr,
                "the tokenizer has %d ids, the model %d rows: as GGUF it lacks the added tokens "
                "from %d on\n",
                ids, rows, rows);
    }
}

static bool is_gguf(const convert_settings *settings)
{
    const char *suffix = strrchr(settings->output, '.');
    return suffix != NULL && strcasecmp(suffix, ".gguf") == 0;
}

static bool is_automatic(const convert_settings *settings)
{
    return settings->type != NULL && strcasecmp(settings->type, "auto") == 0;
}

/* Bytes that --budget means: "12GB", "0.5", "800MB", "4.5bits" of a model of so many weights. */
static bool parse_budget(const char *text, double weights, double *bytes)
{
    static const struct {
        const char *unit;
        double bytes; /* 0: bits of each weight */
    } units[] = {{"", 1e9}, {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}, {"bits", 0}, {"bpw", 0}};
    size_t length = strspn(text, "0123456789.");
    char *end;
    double value = strtod(text, &end);
    if (length == 0 || end != text + length || !(value > 0)) {
        return false;
    }
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        if (strcasecmp(text + length, units[i].unit) == 0) {
            *bytes = value * (units[i].bytes > 0 ? units[i].bytes : weights / 8);
            return *bytes >= 1 && *bytes < 1e18;
        }
    }
    return false;
}

/* The budget in bytes, and what each matrix costs on the texts of --data. */
static mixt_status try_matrices(const convert_settings *settings, const cli_resources *resources,
                                const mixt_importance *importance, mixt_convert_options *options,
                                mixt_sensitivity **sensitivity, mixt_error *error)
{
    mixt_model_info info;
    double bytes;
    mixt_model_describe(resources->model, &info);
    if (!parse_budget(settings->budget, (double)info.parameters_total, &bytes)) {
        return set_error(error, MIXT_ERROR_ARGUMENT, "--budget: %.40s is no size for this model",
                         settings->budget);
    }
    progress_line progress;
    progress_begin(&progress, "try matrices");
    const mixt_fidelity_options trial = {
        .window = window_that_fits(settings->window, 512, resources->model),
        .max_tokens = (uint64_t)settings->trial_tokens,
        .progress = progress_callback,
        .user = &progress};
    interrupt_begin();
    mixt_status status =
        mixt_sensitivity_measure(resources->context, resources->model, resources->data, importance,
                                 &trial, sensitivity, error);
    interrupt_end();
    progress_end(&progress);
    options->budget = (uint64_t)bytes;
    options->sensitivity = *sensitivity;
    return status;
}

/* Texts of its own, or those that importance was gathered on. */
static mixt_status report(const convert_settings *settings, cli_resources *resources,
                          mixt_error *error)
{
    bool own = settings->report_data.count > 0;
    if (own) {
        const text_request texts = {.paths = &settings->report_data,
                                    .max_tokens = settings->max_tokens,
                                    .purpose = "to compare on"};
        if (resources->tokenizer == NULL) {
            return set_error(error, MIXT_ERROR_ARGUMENT,
                             "--report-data: needs a tokenizer, and there is none beside the model "
                             "(--tokenizer PATH)");
        }
        mixt_data_free(resources->data);
        mixt_corpus_free(resources->corpus);
        resources->data = NULL;
        resources->corpus = NULL;
        TRY(open_texts(&texts, resources, error));
    }
    const convert_report_request request = {
        .written = settings->output,
        .heldout = !own && settings->heldout > 0,
        .fitted = !own && settings->heldout == 0 && !is_plain(settings->type),
        .window = window_that_fits(settings->window, 512, resources->model),
        .max_tokens = settings->max_tokens,
        .json = settings->json};
    return convert_report(&request, resources, error);
}

static mixt_status convert(const void *user, cli_resources *resources, mixt_error *error)
{
    const convert_settings *settings = user;
    mixt_importance *importance = NULL;
    mixt_sensitivity *sensitivity = NULL;
    mixt_convert_options options = mixt_convert_options_default();
    mixt_convert_report written;
    TRY(open_context(&settings->machine, resources, error));
    TRY(open_model(settings->model, resources, error));
    TRY(settings->merge == NULL ? MIXT_OK : merge_adapter(settings->adapter, resources, error));
    TRY(find_tokenizer(settings, resources, error));
    report_left_out(resources);
    TRY(open_data(settings, resources, error));
    TRY(drop(settings, resources, error));
    mixt_status status = gather(settings, resources, &importance, error);
    if (status == MIXT_OK && importance != NULL) {
        report_importance(importance);
    }
    if (status == MIXT_OK && is_automatic(settings)) {
        status = try_matrices(settings, resources, importance, &options, &sensitivity, error);
    }
    if (status == MIXT_OK) {
        options.output = settings->output;
        options.type = settings->type;
        options.pure = settings->pure;
        options.whole_experts = settings->layout == LAYOUT_EXPERTS;
        options.shard_bytes = (uint64_t)(settings->shard_size * 1e9);
        options.importance = importance;
        options.tokenizer = resources->tokenizer;
        options.report = &written;
        progress_line progress;
        progress_begin(&progress, "convert");
        interrupt_begin();
        status = mixt_convert(resources->context, resources->model, &options, progress_callback,
                              &progress, error);
        interrupt_end();
        progress_end(&progress);
    }
    mixt_importance_free(importance);
    mixt_sensitivity_free(sensitivity);
    if (status == MIXT_OK) {
        say_written(settings, &written);
        if (is_gguf(settings)) {
            warn_rope(resources->model);
        }
    }
    return status == MIXT_OK && settings->report ? report(settings, resources, error) : status;
}

/* What is read here stays as it is; as for --output the library looks after the model. */
static int check_outputs(const convert_settings *settings)
{
    const char *adapter = settings->merge != NULL ? settings->adapter : NULL;
    const char *const read[] = {settings->importance, settings->tokenizer, settings->merge, adapter,
                                settings->drop,       settings->probe,     settings->model};
    const char *keep = settings->save_importance, *output = settings->output;
    int status = refuse_replacing("output", output, read, 6, &settings->data);
    if (status == STATUS_DONE) {
        status = refuse_replacing("output", output, read, 6, &settings->report_data);
    }
    if (status == STATUS_DONE) {
        status = refuse_replacing("save-importance", keep, read, 7, &settings->data);
    }
    if (status == STATUS_DONE && keep != NULL &&
        (files_are_one(keep, output) || files_would_replace(keep, output))) {
        status = fail_usage("--save-importance: %.400s is --output too", keep);
    }
    return status;
}

/* Floats are rounded, whatever a column is worth. */
static void note_idle_importance(const convert_settings *settings)
{
    bool given =
        settings->importance != NULL || (settings->data.count > 0 && settings->drop == NULL);
    if (given && is_plain(settings->type) && settings->save_importance == NULL) {
        fprintf(stderr,
                "note: importance does nothing here: without a --type of few bits nothing is "
                "quantised\n");
    }
}

/* Flags that belong together. */
static int check_report(const convert_settings *settings)
{
    bool automatic = is_automatic(settings);
    if (automatic && settings->budget == NULL) {
        return fail_usage("--type auto: needs --budget");
    }
    if (!automatic && settings->budget != NULL) {
        return fail_usage("--budget: needs --type auto");
    }
    double bytes; /* of a model of 10^9 weights */
    if (automatic && !parse_budget(settings->budget, 1e9, &bytes)) {
        return fail_usage("--budget: '%.40s' is not a size: 12GB, 800MB or 4.5bits",
                          settings->budget);
    }
    if (automatic && !is_gguf(settings)) {
        return fail_usage("--type auto: is for GGUF files alone");
    }
    if (automatic && settings->layout == LAYOUT_EXPERTS) {
        return fail_usage("--type auto and --layout experts exclude each other: convert its file "
                          "once more");
    }
    if (automatic && settings->data.count == 0) {
        return fail_usage("--type auto: needs --data, texts to try the matrices on");
    }
    if (!settings->report && (settings->report_data.count > 0 || settings->json)) {
        return fail_usage("%s: needs --report", settings->json ? "--json" : "--report-data");
    }
    if (settings->report && settings->report_data.count == 0 && settings->data.count == 0) {
        return fail_usage("--report: needs --report-data, or --data");
    }
    return STATUS_DONE;
}

static int run_convert(void *user, cli_arguments *arguments)
{
    convert_settings *settings = user;
    if (settings->model == NULL || settings->output == NULL) {
        return fail_usage("--model and --output: needed");
    }
    if (settings->importance != NULL && settings->data.count > 0 && !is_automatic(settings)) {
        return fail_usage("--importance and --data exclude each other");
    }
    if (settings->save_importance != NULL && settings->data.count == 0) {
        return fail_usage("--save-importance: needs --data");
    }
    if (settings->heldout > 0 && settings->data.count == 0) {
        return fail_usage("--heldout: needs --data");
    }
    if (settings->drop == NULL &&
        (settings->probe != NULL || options_given(arguments, "by") != NULL)) {
        return fail_usage("--probe and --by: need --drop-experts N%%");
    }
    if (!is_gguf(settings) && settings->layout == LAYOUT_MATRICES &&
        options_given(arguments, "layout") != NULL) {
        return fail_usage("--layout matrices: is for GGUF files alone");
    }
    int checked = check_report(settings);
    if (checked != STATUS_DONE) {
        return checked;
    }
    mixt_error error = MIXT_ERROR_INIT;
    if (settings->merge != NULL && find_adapter(settings->merge, settings->adapter,
                                                sizeof settings->adapter, &error) != MIXT_OK) {
        return fail_error(&error);
    }
    int status = check_outputs(settings);
    if (status != STATUS_DONE) {
        return status;
    }
    note_idle_importance(settings);
    return with_resources(convert, settings);
}

const cli_command command_convert = {
    .name = "convert",
    .summary = "write a model as GGUF or Hugging Face folder, quantised or not",
    .synopsis =
        "MODEL -o OUTPUT [--merge ADAPTER] [--type TYPE] [--importance FILE | --data PATH...] "
        "[--report]",
    .about = "Writes a model (a GGUF file or Hugging Face folder) in the other form, or in another "
             "type. Weights whose type stays are copied bit for bit. Q4_K_M and its like are the "
             "mixes of llama.cpp: sensitive tensors get more bits. Types that are not in the list "
             "(IQ1_S to IQ3_M, TQ1_0, NVFP4, ...) are read and not written.",
    .examples = "  mixt convert demo/model -o demo.gguf\n"
                "  mixt convert model.gguf -o model-q4.gguf --type Q4_K_M --data text/\n"
                "  mixt convert model.gguf -o model-auto.gguf --type auto --budget 4.5bits --data "
                "text/ --report\n"
                "  mixt convert model.gguf -o model-experts.gguf --layout experts\n"
                "  mixt convert model.gguf -o folder --type BF16\n"
                "  mixt convert model/ -o smaller/ --drop-experts 25% --by reap --data text/\n"
                "  mixt convert model/ --merge adapter/ -o merged.gguf --type Q8_0\n",
    .positional = "model",
    .groups = (const cli_group[]){{"options", convert_options, 0},
                                  {"machine", options_machine, offsetof(convert_settings, machine)},
                                  {0}},
    .leaves_files = true,
    .settings_size = sizeof(convert_settings),
    .defaults = convert_defaults,
    .run = run_convert,
};
