/* mixt train: from scratch, on from a checkpoint, or from another model. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "files.h"
#include "ranks.h"
#include "terminal.h"
#include "train.h"
#include "training.h"

/* What train.conf of an older run has whatever its optimizer. */
#define MOMENTUM_BEFORE 0.95
#define MUON_STEPS_BEFORE 5

static const cli_option train_options[] = {
    OPTION_OF_DATA(train_settings),
    {.name = "out",
     .letter = 'o',
     .kind = OPTION_TEXT,
     .offset = offsetof(train_settings, out),
     .value = "FOLDER",
     .help = "run folder: checkpoints, log, and in the end model/; a run that is there goes on",
     .aliases = "out-dir"},
    {.name = "tokenizer",
     .kind = OPTION_TEXT,
     .offset = offsetof(train_settings, tokenizer),
     .value = "PATH",
     .help = "tokenizer.json or a folder with it",
     .fallback = "trained on the data first"},
    {.name = "init-from",
     .kind = OPTION_TEXT,
     .offset = offsetof(train_settings, init_from),
     .value = "FOLDER",
     .help = "begin with the weights and tokenizer of this model; model and router options beside "
             "it change what needs no other tensors"},
    {.name = "upcycle",
     .kind = OPTION_TEXT,
     .offset = offsetof(train_settings, upcycle),
     .value = "MODEL",
     .help = "begin with a mixture of this dense model: experts are copies of its MLPs, or with an "
             "--ffn-size that divides theirs parts of them"},
    {.name = "upcycle-noise",
     .kind = OPTION_NUMBER,
     .offset = offsetof(train_settings, upcycle_noise),
     .low = 0,
     .high = 1000,
     .value = "X",
     .help = "normal noise on the experts, times the root mean square of a matrix"},
    {.name = "upcycle-reinit",
     .kind = OPTION_NUMBER,
     .offset = offsetof(train_settings, upcycle_reinit),
     .low = 0,
     .high = 1,
     .value = "SHARE",
     .help = "part of each expert's units that is drawn anew"},
    {.name = "model-config",
     .kind = OPTION_TEXT,
     .offset = offsetof(train_settings, model_config),
     .value = "FILE",
     .help =
         "config.json of a model of any family: a new one of its shape; model options beside it "
         "change it"},
    OPTION_OF_HELDOUT(train_settings, "share of the documents kept apart for the final scores"),
    {.name = "train",
     .kind = OPTION_LIST,
     .offset = offsetof(train_settings, parts),
     .value = "PART",
     .help = "what learns, the rest keeps its bits: router, experts, shared, mlp, attention, "
             "embeddings, head, norms; commas too",
     .fallback = "all"},
    {.name = "lora-rank",
     .kind = OPTION_INT,
     .offset = offsetof(train_settings, training.lora_rank),
     .low = 1,
     .high = 1 << 20,
     .value = "R",
     .help = "with --init-from: low-rank adapters of this rank on the experts learn, and what "
             "--train names beside them (2106.09685)",
     .fallback = "none"},
    {.name = "lora-alpha",
     .kind = OPTION_NUMBER,
     .offset = offsetof(train_settings, training.lora_alpha),
     .low = 1e-30,
     .high = 1e9,
     .value = "X",
     .help = "they count alpha / rank times",
     .fallback = "the rank"},
    {.name = "lora-targets",
     .kind = OPTION_LIST,
     .offset = offsetof(train_settings, targets),
     .value = "MATRIX",
     .help = "expert matrices with adapters: gate, up, down; commas too",
     .fallback = "all three"},
    {.name = "tokenizer-bytes",
     .kind = OPTION_LONG,
     .offset = offsetof(train_settings, tokenizer_bytes),
     .low = 0,
     .high = 1e15,
     .help = "text of each domain that the vocabulary is trained on; 0: all"},
    {.name = "eval-tokens",
     .kind = OPTION_LONG,
     .offset = offsetof(train_settings, training.evaluate_tokens),
     .low = 0,
     .high = 1e15,
     .help = "most tokens of each domain to score, at the end and each --evaluate-every; 0: all"},
    {.name = "sample-every",
     .kind = OPTION_LONG,
     .offset = offsetof(train_settings, sample_every),
     .low = 0,
     .high = 1e15,
     .help = "steps between a few words drawn from the model as it is; 0: none"},
    {0},
};

/* Of this call and not of the run. */
static const cli_option look_options[] = {
    {.name = "dry-run",
     .kind = OPTION_FLAG,
     .offset = offsetof(train_settings, dry_run),
     .help = "check the options, print what would be trained as JSON, and end; nothing is written"},
    {.name = "measure",
     .kind = OPTION_FLAG,
     .offset = offsetof(train_settings, measure),
     .help = "with --dry-run: also the seconds of one step of AdamW, measured with random tokens"},
    {0},
};

static void train_defaults(void *user)
{
    train_settings *settings = user;
    settings->machine = machine_defaults(MIXT_MATMUL_EXACT);
    settings->model = mixt_model_options_default();
    settings->training = mixt_train_options_default();
    settings->heldout = 0.02;
    settings->tokenizer_bytes = 4000000;
}

static void print_model_line(const mixt_model *model, int64_t parts, int rank)
{
    mixt_model_info info;
    char total[32], active[32], learning[48] = "";
    describe_model(model, &info, total, active);
    if (rank == 0 && mixt_model_learning(model, parts) < info.parameters_total) {
        char count[32];
        format_count(mixt_model_learning(model, parts), count);
        snprintf(learning, sizeof learning, ", %s learn", count);
    }
    fprintf(stderr, "model: %s, %d layer%s of %d, %s parameters, %s active for a token%s\n",
            info.family, info.options.layers, plural((uint64_t)info.options.layers),
            info.options.hidden_size, total, active, learning);
    if (info.authors_code) {
        fprintf(stderr, "note: transformers opens the family %s only with its authors' code\n",
                info.family);
    }
    if (info.alone[0] != '\0') {
        fprintf(stderr, "note: only mixt will open it, as no family that others know holds %s\n",
                info.alone);
    }
}

/* Keys that were said and do nothing here. */
static void print_ignored(const cli_arguments *arguments)
{
    const char *before = "note: these do nothing here: ";
    for (size_t i = 0; i < arguments->given_count; i++) {
        if (arguments->given[i].option->ignored) {
            fprintf(stderr, "%s%s", before, arguments->given[i].option->name);
            before = ", ";
        }
    }
    fputs(before[0] == ',' ? "\n" : "", stderr);
}

/* Of the machine's options only the kind of products belongs to the run: bits depend on it. */
static void write_matmul(const cli_arguments *arguments, FILE *stream)
{
    char value[40];
    size_t offset = 0;
    const cli_option *option = options_find(arguments->command, "matmul", 6, &offset);
    options_format(option, (const char *)arguments->settings + offset, value, sizeof value);
    fprintf(stream, "# machine\nmatmul = %s\n", value);
}

/* The settings of a run as a file; NULL without memory. */
static char *config_text(const cli_arguments *arguments, size_t *length)
{
    char *text = NULL;
    FILE *stream = open_memstream(&text, length);
    if (stream == NULL) {
        return NULL;
    }
    fputs("# Settings of this run; `mixt train --out FOLDER` reads them to go on.\n", stream);
    options_write_config(arguments->command, arguments->settings,
                         "ranks machine look keys of nanoGPT and nanoMoE", stream);
    write_matmul(arguments, stream);
    if (fclose(stream) != 0) {
        free(text);
        text = NULL;
    }
    return text;
}

/* Keeps the settings of a new run, so that `mixt train --out FOLDER` alone goes on. */
static mixt_status keep_config(const cli_arguments *arguments, const char *path, mixt_error *error)
{
    size_t length = 0;
    char *text = config_text(arguments, &length);
    mixt_status status = text == NULL ? set_memory_error(error) : MIXT_OK;
    if (status == MIXT_OK && !files_replace(path, text, length)) {
        status = set_io_error(error, path);
    }
    free(text);
    return status;
}

/* Will every line be read again? */
static int check_config(const cli_arguments *arguments)
{
    size_t length = 0;
    char *text = config_text(arguments, &length);
    if (text == NULL) {
        return fail_with(STATUS_FAILED, "out of memory");
    }
    int status = STATUS_DONE;
    for (const char *line = text; *line != 0 && status == STATUS_DONE;) {
        size_t size = strcspn(line, "\n") + 1;
        if (size > OPTIONS_LINE_MAX) {
            status = fail_usage("%.*s: too long to be kept in train.conf", (int)strcspn(line, " "),
                                line);
        }
        line += size;
    }
    free(text);
    return status;
}

/* ---- the run folder */

typedef struct run_folder {
    char config[4200], tokenizer[4200], model[4200], latest[4200], lock_file[4200];
    char first_made[4200]; /* the uppermost folder that is not there yet; "": all are */
    bool had_config, had_tokenizer, had_lock;
    bool began; /* the trainer was made: its files are a run's */
    int lock;
} run_folder;

/* Names, and what is there before anything is written. */
static bool look_at_folder(run_folder *folder, const char *out)
{
    *folder = (run_folder){.lock = -1};
    if (!files_join(folder->config, sizeof folder->config, out, "train.conf") ||
        !files_join(folder->tokenizer, sizeof folder->tokenizer, out, "tokenizer")) {
        return false;
    }
    files_join(folder->model, sizeof folder->model, out, "model");
    files_join(folder->latest, sizeof folder->latest, out, "LATEST");
    files_join(folder->lock_file, sizeof folder->lock_file, out, "lock");
    folder->had_config = files_exist(folder->config);
    folder->had_tokenizer = files_exist(folder->tokenizer);
    folder->had_lock = files_exist(folder->lock_file);
    for (size_t i = 1; i <= strlen(out); i++) {
        if (out[i] == '/' || out[i] == 0) {
            snprintf(folder->first_made, sizeof folder->first_made, "%.*s", (int)i, out);
            if (!files_exist(folder->first_made)) {
                return true;
            }
        }
    }
    folder->first_made[0] = 0;
    return true;
}

/* A new run that is refused leaves what it found: settings of it would count for the next one. The
 * lock goes last, so that nobody else is in a folder that is being emptied. */
static void forget_run(const run_folder *folder, const char *out)
{
    char path[4200];
    if (folder->first_made[0] != 0) {
        files_remove_inside(out, "lock");
    }
    if (!folder->had_tokenizer) {
        files_remove(folder->tokenizer);
    }
    if (!folder->had_config) {
        files_remove(folder->config);
    }
    if (!folder->had_lock) {
        files_remove(folder->lock_file);
    }
    snprintf(path, sizeof path, "%s", out);
    remove_empty_folders(path, strlen(folder->first_made));
}

typedef struct scored {
    const cli_resources *resources;
    const score_request *request;
    mixt_score_row *rows;
} scored;

static mixt_status score(void *user, mixt_error *error)
{
    scored *all = user;
    return score_data(all->resources, all->request, &all->rows, error);
}

static int score_heldout(const train_settings *settings, const cli_resources *resources)
{
    mixt_error error = MIXT_ERROR_INIT;
    const score_request request = {"held-out text", true, settings->training.window,
                                   (uint64_t)settings->training.evaluate_tokens};
    scored all = {resources, &request, NULL};
    if (mixt_data_tokens(resources->data, true) == 0) {
        return STATUS_DONE;
    }
    if (!ranks_lead()) {
        ranks_leave_signals();
    }
    if (ranks_together(resources, score, &all, &error) != MIXT_OK) {
        free(all.rows);
        return fail_error(&error);
    }
    if (ranks_lead()) {
        print_scores(resources->model, all.rows, mixt_data_domain_count(resources->data), stdout);
    }
    free(all.rows);
    return STATUS_DONE;
}

static bool has_tokenizer(const run_folder *folder)
{
    char file[4300];
    return files_join(file, sizeof file, folder->tokenizer, "tokenizer.json") && files_exist(file);
}

/* The settings come first: a run that is killed before its tokenizer is there makes the same one
 * again from the same data. */
static mixt_status keep_beginning(const cli_arguments *arguments, const run_folder *folder,
                                  const cli_resources *resources, mixt_error *error)
{
    if (!files_exist(folder->config)) {
        TRY(keep_config(arguments, folder->config, error));
    }
    if (has_tokenizer(folder)) {
        return MIXT_OK;
    }
    return files_make_folder(folder->tokenizer)
               ? mixt_tokenizer_save(resources->tokenizer, folder->tokenizer, error)
               : set_io_error(error, folder->tokenizer);
}

/* All ranks train the same run on the same data. */
static mixt_status compare_ranks(const cli_arguments *arguments, const cli_resources *resources,
                                 mixt_error *error)
{
    size_t length = 0;
    char *text = config_text(arguments, &length);
    mixt_status status = train_compare("options", text != NULL ? text : "", error);
    free(text);
    if (status == MIXT_OK) {
        status = train_compare("a tokenizer", mixt_tokenizer_hash(resources->tokenizer), error);
    }
    return status == MIXT_OK ? train_compare("data", mixt_data_hash(resources->data), error)
                             : status;
}

/* What a run begins with. Of several ranks the first one makes and keeps it, and the others read
 * what it kept; each encodes the data for itself. */
static int prepare(train_settings *settings, cli_arguments *arguments, const run_folder *folder,
                   cli_resources *resources)
{
    mixt_error error = MIXT_ERROR_INIT;
    const char *kept = has_tokenizer(folder) ? folder->tokenizer : NULL;
    mixt_status status = MIXT_OK;
    settings->resumes = files_exist(folder->latest);
    if (ranks_lead()) {
        interrupt_undo(folder->had_lock ? NULL : folder->lock_file, settings->out,
                       strlen(folder->first_made));
        status = train_prepare(settings, arguments, kept, resources, &error);
        if (status == MIXT_OK && program_ranks == NULL) {
            status = train_prepare_data(settings, resources, &error);
        }
        interrupt_end();
        status = status == MIXT_OK ? keep_beginning(arguments, folder, resources, &error) : status;
    }
    int result = ranks_agree_on_status(status == MIXT_OK ? STATUS_DONE : fail_error(&error));
    if (program_ranks == NULL || result != STATUS_DONE) {
        return result;
    }
    status = ranks_lead()
                 ? MIXT_OK
                 : train_prepare(settings, arguments, folder->tokenizer, resources, &error);
    if (status == MIXT_OK) {
        status = train_prepare_data(settings, resources, &error);
    }
    result = ranks_agree_on_status(status == MIXT_OK ? STATUS_DONE : fail_error(&error));
    if (result == STATUS_DONE && compare_ranks(arguments, resources, &error) != MIXT_OK) {
        result = fail_error(&error);
    }
    return result;
}

static int train_and_save(train_settings *settings, cli_arguments *arguments, run_folder *folder)
{
    cli_resources resources = {0};
    mixt_error error = MIXT_ERROR_INIT;
    const char *const again[] = {"train", "--out", settings->out, NULL};
    int status = prepare(settings, arguments, folder, &resources);
    if (status != STATUS_DONE) {
        resources_free(&resources);
        return status;
    }
    const char *const notes[] = {settings->nanogpt_note, settings->note, settings->choice_note};
    for (size_t i = 0; i < sizeof notes / sizeof *notes; i++) {
        if (notes[i][0] != 0) {
            say(stderr, "note: %s\n", notes[i]);
        }
    }
    print_ignored(arguments);
    print_model_line(resources.model, settings->training.parts, settings->training.lora_rank);
    fputs(settings->optimizer_line, stderr);
    settings->training.lock = folder->lock;
    status = train_run(&(training_run){.resources = &resources,
                                       .options = &settings->training,
                                       .folder = settings->out,
                                       .again = again,
                                       .sample_every = settings->sample_every,
                                       .began = &folder->began});
    if (status == STATUS_DONE) {
        status = score_heldout(settings, &resources);
    }
    if (status == STATUS_DONE) {
        status = save_model(&resources, folder->model, &error) == MIXT_OK ? STATUS_DONE
                                                                          : fail_error(&error);
    }
    if (status == STATUS_DONE) {
        say(stderr, "model: %s\n", folder->model);
    }
    resources_free(&resources);
    return status;
}

/* ---- settings */

/* The shape in the file of --model-config, over which the options come. */
static int read_shape(const char *path, mixt_model_options *model)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_status status = mixt_model_options_read(path, model, &error);
    if (status == MIXT_OK) {
        status = train_check_trainable(model, "model-config", path, &error);
    }
    return status == MIXT_OK ? STATUS_DONE : fail_error(&error);
}

/* What a run began with cannot be another thing when it goes on, and is not passed over. */
static int compare_sources(const train_settings *settings, const train_settings *began)
{
    const struct {
        const char *flag, *now, *before;
    } rows[] = {
        {"init-from", settings->init_from, began->init_from},
        {"upcycle", settings->upcycle, began->upcycle},
        {"tokenizer", settings->tokenizer, began->tokenizer},
        {"model-config", settings->model_config, began->model_config},
    };
    if (settings->upcycle_noise != began->upcycle_noise ||
        settings->upcycle_reinit != began->upcycle_reinit) {
        return fail_usage(
            "--upcycle-noise %g, --upcycle-reinit %g: the run in %.300s began with %g "
            "and %g; use a new folder",
            settings->upcycle_noise, settings->upcycle_reinit, settings->out, began->upcycle_noise,
            began->upcycle_reinit);
    }
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const char *before = rows[i].before != NULL ? rows[i].before : "nothing";
        if (rows[i].now != NULL && strcmp(rows[i].now, before) != 0) {
            return fail_usage(
                "--%s: %.300s is asked, and the run in %.300s began with %.300s; use a "
                "new folder",
                rows[i].flag, rows[i].now, settings->out, before);
        }
    }
    return STATUS_DONE;
}

/* All of them again, from the defaults: the shape of a model, the settings of the run that is there
 * (config NULL: none), and the command line. */
static int parse_again(train_settings *settings, cli_arguments *arguments,
                       const mixt_model_options *shape, const char *config)
{
    options_reset(arguments);
    settings->model = shape != NULL ? *shape : settings->model;
    bool good = config == NULL || options_read(arguments, config);
    train_settings began = *settings;
    good = good && options_parse(arguments, arguments->argc, arguments->argv);
    if (!good) {
        return options_refused(arguments);
    }
    return config != NULL ? compare_sources(settings, &began) : STATUS_DONE;
}

/* Why there are no adapters in this run; NULL: they are fine. */
static const char *refuse_adapters(const train_settings *settings)
{
    if (settings->init_from == NULL) {
        return "--lora-rank: adapters are of a trained model; give it with --init-from";
    }
    if (settings->parts.count > 0 && (settings->training.parts & MIXT_PART_EXPERTS) != 0) {
        return "--train: under --lora-rank experts stay as they are, adapters stand for them; name "
               "other parts";
    }
    return settings->measure ? "--measure: not with --lora-rank" : NULL;
}

static int check_settings(train_settings *settings, const cli_arguments *arguments,
                          const run_folder *folder)
{
    mixt_error error = MIXT_ERROR_INIT;
    if (settings->data.count == 0) {
        return fail_usage("--data: needed for a new run");
    }
    if (settings->must_resume && !folder->had_config) {
        return fail_usage("init_from resume: there is no run in %.400s", settings->out);
    }
    if (settings->upcycle == NULL &&
        (settings->upcycle_noise != 0 || settings->upcycle_reinit != 0)) {
        return fail_usage("--upcycle-noise, --upcycle-reinit: of --upcycle MODEL");
    }
    if (settings->upcycle != NULL &&
        (settings->model_config != NULL || settings->init_from != NULL)) {
        return fail_usage("--upcycle: a run begins with one model; leave out --%s",
                          settings->init_from != NULL ? "init-from" : "model-config");
    }
    if (settings->init_from != NULL && settings->model_config != NULL) {
        return fail_usage("--model-config: a new shape, and --init-from: weights that have theirs; "
                          "say one of them");
    }
    if (!folder->had_config && settings->training.momentum != 0 &&
        settings->training.momentum != MOMENTUM_BEFORE &&
        settings->training.optimizer == MIXT_OPTIMIZER_ADAMW) {
        return fail_usage("--momentum: of --optimizer muon; AdamW has --beta1");
    }
    if (!folder->had_config && settings->training.muon_steps != 0 &&
        settings->training.muon_steps != MUON_STEPS_BEFORE &&
        settings->training.optimizer == MIXT_OPTIMIZER_ADAMW) {
        return fail_usage("--muon-steps: of --optimizer muon");
    }
    int ranks = train_check_ranks(settings);
    if (ranks != STATUS_DONE) {
        return ranks;
    }
    const char *adapters = settings->training.lora_rank == 0 ? NULL : refuse_adapters(settings);
    if (settings->training.lora_rank == 0 &&
        (settings->training.lora_alpha != 0 || settings->training.lora_targets != 0)) {
        return fail_usage("--lora-%s: of adapters, which --lora-rank R makes",
                          settings->training.lora_alpha != 0 ? "alpha" : "targets");
    }
    if (adapters != NULL) {
        return fail_usage("%s", adapters);
    }
    mixt_status status = mixt_train_options_check(&settings->training, &error);
    if (status == MIXT_OK && !train_has_source(settings)) {
        if (settings->model_config == NULL && options_given(arguments, "kv-heads") == NULL &&
            settings->model.heads % settings->model.kv_heads != 0) {
            settings->model.kv_heads = settings->model.heads;
        }
        train_fit_choices(settings, arguments);
        status = train_fit_window(settings, arguments, &error);
        status = status == MIXT_OK ? mixt_train_check(&settings->model, &settings->training, &error)
                                   : status;
    }
    if (settings->training.seconds == 0 && settings->note[0] == 0 &&
        settings->training.schedule != MIXT_SCHEDULE_CONSTANT && settings->training.steps > 0 &&
        settings->training.warmup >= settings->training.steps) {
        snprintf(settings->note, sizeof settings->note,
                 "--warmup %lld is not over after --steps %lld: the learning rate stays below its "
                 "highest",
                 (long long)settings->training.warmup, (long long)settings->training.steps);
    }
    if (settings->training.evaluate_every > 0 && settings->heldout == 0 && settings->note[0] == 0) {
        snprintf(settings->note, sizeof settings->note,
                 "nothing is held out (--heldout 0), so that --evaluate-every scores nothing");
    }
    return status == MIXT_OK ? check_config(arguments) : fail_error(&error);
}

static int read_settings(train_settings *settings, cli_arguments *arguments,
                         const run_folder *folder)
{
    int status = STATUS_DONE;
    if (folder->had_config) { /* it says of which shape the run is */
        status = parse_again(settings, arguments, NULL, folder->config);
    }
    const char *shape_path = settings->model_config;
    if (status == STATUS_DONE && shape_path != NULL && !train_has_source(settings) &&
        (!folder->had_config || files_exist(shape_path))) {
        mixt_model_options shape;
        status = read_shape(shape_path, &shape);
        if (status == STATUS_DONE) {
            status = parse_again(settings, arguments, &shape,
                                 folder->had_config ? folder->config : NULL);
        }
    }
    return status == STATUS_DONE ? check_settings(settings, arguments, folder) : status;
}

/* Words of an option that stand for bits, behind one switch each or behind commas. */
typedef struct word_set {
    const char *option;
    const char *(*name)(int index); /* of bit 1 << index; NULL behind the last */
    int64_t all;                    /* what "all" stands for; 0: it is no word */
} word_set;

static bool is_word(const char *name, const char *word, size_t length)
{
    return strlen(name) == length && memcmp(name, word, length) == 0;
}

/* The bits of a word, 0: there is none. */
static int64_t bits_of(const word_set *set, const char *word, size_t length)
{
    for (int i = 0; set->name(i) != NULL; i++) {
        if (is_word(set->name(i), word, length)) {
            return (int64_t)1 << i;
        }
    }
    return is_word("all", word, length) ? set->all : 0;
}

static void complain_of_word(const word_set *set, cli_arguments *arguments, const char *word,
                             size_t length)
{
    char names[200];
    size_t used = 0;
    for (int i = 0; set->name(i) != NULL; i++) {
        used += (size_t)snprintf(names + used, sizeof names - used, "%s%s", i > 0 ? ", " : "",
                                 set->name(i));
    }
    options_complain(arguments, options_given(arguments, set->option), "%s: %.*s is none of %s%s",
                     set->option, (int)(length < 40 ? length : 40), word, names,
                     set->all != 0 ? ", all" : "");
}

/* The bits of all words; 0 where there are none, or one is not known. */
static int64_t translate_words(const word_set *set, const string_list *list,
                               cli_arguments *arguments)
{
    int64_t bits = 0;
    for (size_t i = 0; i < list->count; i++) {
        for (const char *at = list->items[i]; *at != 0;) {
            size_t length = strcspn(at, ", ");
            int64_t found = bits_of(set, at, length);
            if (found == 0) {
                complain_of_word(set, arguments, at, length);
                return 0;
            }
            bits |= found;
            at += length;
            at += *at != 0 ? 1 : 0;
        }
    }
    return bits;
}

static void translate_parts(train_settings *settings, cli_arguments *arguments)
{
    static const word_set parts = {"train", mixt_train_part_name, MIXT_PART_ALL};
    static const word_set targets = {"lora-targets", mixt_lora_target_name, 0};
    int64_t learning = translate_words(&parts, &settings->parts, arguments);
    settings->training.parts = learning != 0 ? learning : MIXT_PART_ALL;
    settings->training.lora_targets = (int)translate_words(&targets, &settings->targets, arguments);
    settings->training.lora_base = settings->init_from;
}

static void translate_train(void *user, cli_arguments *arguments)
{
    train_settings *settings = user;
    translate_parts(settings, arguments);
    const nanogpt_target target = {.asked = &settings->nanogpt,
                                   .model = &settings->model,
                                   .training = &settings->training,
                                   .init_from = &settings->init_from,
                                   .must_resume = &settings->must_resume,
                                   .note = settings->nanogpt_note,
                                   .has_data = settings->data.count > 0};
    nanogpt_translate(&target, arguments);
}

/* What a run writes is its own: no links, and no model that was there before it, which the one in
 * the end would replace. */
static int refuse_others(const run_folder *folder)
{
    const char *const made[] = {folder->tokenizer, folder->model};
    for (size_t i = 0; i < 2; i++) {
        if (files_is_link(made[i])) {
            return fail_usage("%.400s: is a link; remove it", made[i]);
        }
    }
    char held[4300];
    if (!folder->had_config && !files_exist(folder->latest) &&
        files_join(held, sizeof held, folder->model, "config.json") && files_exist(held)) {
        return fail_usage("--out: %.400s is there already and of no run; the model of this one "
                          "would replace it; use a new folder",
                          folder->model);
    }
    return STATUS_DONE;
}

/* The shape that a run would begin with; weights are made for none but a mixture of a dense model.
 */
static mixt_status find_shape(train_settings *settings, const cli_arguments *arguments,
                              cli_resources *resources, mixt_error *error)
{
    if (train_has_source(settings)) {
        return train_open_source(settings, arguments, resources, error);
    }
    if (settings->tokenizer != NULL) {
        TRY(open_tokenizer(settings->tokenizer, resources, error));
        settings->model.vocab_size = mixt_tokenizer_vocab_size(resources->tokenizer);
    }
    return MIXT_OK;
}

static mixt_status print_step_seconds(const train_settings *settings, cli_resources *resources,
                                      mixt_error *error)
{
    const mixt_train_options *training = &settings->training;
    const mixt_bench_options options = {.batch_size = training->batch_size,
                                        .window = training->window,
                                        .train = true,
                                        .repetitions = 1};
    mixt_bench_row *rows = NULL;
    size_t count = 0;
    double seconds = 0;
    TRY(open_context(&settings->machine, resources, error));
    if (resources->model == NULL) {
        TRY(mixt_model_create(&settings->model, training->seed, &resources->model, error));
    }
    TRY(mixt_bench_run(resources->context, resources->model, &options, &rows, &count, error));
    for (size_t i = 0; i < count; i++) {
        seconds = strcmp(rows[i].name, "train step") == 0 ? rows[i].seconds : seconds;
    }
    free(rows);
    fputs(", \"step_seconds\": ", stdout);
    print_json_number(stdout, seconds * training->accumulation);
    return MIXT_OK;
}

static mixt_status print_dry_run(train_settings *settings, const cli_arguments *arguments,
                                 cli_resources *resources, mixt_error *error)
{
    const mixt_train_options *training = &settings->training;
    mixt_model_info info;
    double forward, backward;
    TRY(find_shape(settings, arguments, resources, error));
    if (resources->model != NULL) {
        TRY(mixt_trainer_check(resources->model, training, error));
    }
    TRY(train_choose_optimizer(settings, error));
    TRY(mixt_model_options_describe(&settings->model, training->window, &info, &forward, &backward,
                                    error));
    long long step = (long long)training->batch_size * training->accumulation * training->window;
    printf("{\"parameters_total\": %llu, \"parameters_active\": %llu, \"moe_layers\": %d, "
           "\"experts\": %d, \"steps\": %lld, \"tokens_per_step\": %lld, \"seconds\": ",
           (unsigned long long)info.parameters_total, (unsigned long long)info.parameters_active,
           info.moe_layers, info.options.experts, (long long)training->steps, step);
    print_json_number(stdout, training->seconds);
    fputs(", \"forward_flops_per_token\": ", stdout);
    print_json_number(stdout, forward / training->window);
    fputs(", \"training_flops_per_token\": ", stdout);
    print_json_number(stdout, (forward + backward) / training->window);
    printf(", \"optimizer\": \"%s\", \"family\": ", train_optimizer_name(training));
    print_json_text(stdout, info.family);
    fputs(", \"routing\": ", stdout);
    print_json_text(stdout, info.routing);
    fputs(", \"held_out\": ", stdout);
    print_json_text(stdout, info.held_out);
    mixt_status status =
        settings->measure ? print_step_seconds(settings, resources, error) : MIXT_OK;
    fputs("}\n", stdout);
    return status;
}

/* Options are checked as those of a new run, and nothing is written. */
static int dry_run(train_settings *settings, cli_arguments *arguments)
{
    const run_folder folder = {.lock = -1};
    cli_resources resources = {0};
    mixt_error error = MIXT_ERROR_INIT;
    int status = read_settings(settings, arguments, &folder);
    if (status == STATUS_DONE &&
        print_dry_run(settings, arguments, &resources, &error) != MIXT_OK) {
        status = fail_error(&error);
    }
    resources_free(&resources);
    return status;
}

/* Nothing is written before the folder is ours alone. What another run put there until then counts
 * as if it had been there from the start. */
static int enter_folder(train_settings *settings, cli_arguments *arguments, run_folder *folder)
{
    mixt_error error = MIXT_ERROR_INIT;
    int status = read_settings(settings, arguments, folder);
    status = status == STATUS_DONE ? refuse_others(folder) : status;
    if (status != STATUS_DONE) {
        return status;
    }
    interrupt_hold();
    if (mixt_run_lock(settings->out, &folder->lock, &error) != MIXT_OK) {
        return fail_error(&error);
    }
    if (!folder->had_config && files_exist(folder->config)) {
        folder->had_config = folder->had_tokenizer = folder->had_lock = true;
        folder->first_made[0] = 0;
        status = read_settings(settings, arguments, folder);
    }
    return status;
}

/* Rank 0 has the folder, and the others read the settings that it read, with its seed. */
static int follow(train_settings *settings, cli_arguments *arguments, run_folder *folder)
{
    mixt_error error = MIXT_ERROR_INIT;
    int status = STATUS_DONE;
    uint64_t seed = settings->training.seed;
    if (mixt_ranks_share(program_ranks, &folder->had_config, sizeof folder->had_config, &error) !=
        MIXT_OK) {
        return fail_error(&error);
    }
    if (!ranks_lead()) {
        interrupt_hold();
        status = read_settings(settings, arguments, folder);
    }
    status = ranks_agree_on_status(status);
    if (status == STATUS_DONE &&
        mixt_ranks_share(program_ranks, &seed, sizeof seed, &error) != MIXT_OK) {
        return fail_error(&error);
    }
    settings->training.seed = seed;
    return status;
}

static int run_train(void *user, cli_arguments *arguments)
{
    train_settings *settings = user;
    run_folder folder;
    if (settings->dry_run) {
        return ranks_agree_on_status(dry_run(settings, arguments));
    }
    if (settings->measure) {
        ranks_all_know();
        return fail_usage("--measure: goes with --dry-run");
    }
    if (settings->out == NULL) {
        ranks_all_know();
        return fail_usage("--out: needed");
    }
    if (!look_at_folder(&folder, settings->out)) {
        ranks_all_know();
        return fail_usage("--out: the path is too long");
    }
    int status = ranks_agree_on_status(ranks_lead() ? enter_folder(settings, arguments, &folder)
                                                    : STATUS_DONE);
    if (status == STATUS_DONE && program_ranks != NULL) {
        status = follow(settings, arguments, &folder);
    }
    status = status == STATUS_DONE ? train_and_save(settings, arguments, &folder) : status;
    if (status != STATUS_DONE && folder.lock >= 0 && !folder.began && !files_exist(folder.latest)) {
        forget_run(&folder, settings->out);
    }
    mixt_run_unlock(folder.lock);
    return status;
}

const cli_command command_train = {
    .name = "train",
    .summary = "train a model, or go on with a run",
    .synopsis = "[FILE.conf] --data PATH... --out FOLDER [options]",
    .about = "Trains a Mixture-of-Experts (or with --experts 0 a dense) language model. Without "
             "--tokenizer or --init-from a byte-level BPE vocabulary is trained first. Ctrl-C "
             "finishes the step, writes a checkpoint and ends with status 130; the same --out goes "
             "on from there. A config file holds lines of key = value.",
    .examples = "  mixt train --data text/ --out run --layers 4 --experts 8 --steps 2000\n"
                "  mixt train small.conf --learning_rate=3e-4 --out run2\n"
                "  mixt train --out run\n"
                "  mixt train --init-from run/model --data more.jsonl --out run3\n"
                "  mixt train --init-from run/model --data more.jsonl --out run4 --lora-rank 8\n",
    .positional = "config",
    .groups =
        (const cli_group[]){
            {"options", train_options, 0},
            {"training", options_training, offsetof(train_settings, training)},
            {"model", options_model, offsetof(train_settings, model)},
            {"router", options_router, offsetof(train_settings, model.router)},
            {"machine", options_machine, offsetof(train_settings, machine)},
            {"look", look_options, 0},
            {"ranks", options_train_ranks, 0},
            {"keys of nanoGPT and nanoMoE", options_nanogpt, offsetof(train_settings, nanogpt)},
            {0}},
    .leaves_files = true,
    .settings_size = sizeof(train_settings),
    .defaults = train_defaults,
    .run = run_train,
    .work = run_train,
    .translate = translate_train,
};
