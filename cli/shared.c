#include "shared.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "files.h"
#include "ranks.h"
#include "terminal.h"

enum { TEMPLATE_FILE_MAX = 1 << 20 };

void resources_free(cli_resources *resources)
{
    mixt_data_free(resources->data);
    mixt_corpus_free(resources->corpus);
    mixt_tokenizer_free(resources->tokenizer);
    if (resources->store_report) {
        store_print_report(resources->model);
    }
    ranks_dismiss(resources->model);
    mixt_model_free(resources->model);
    mixt_context_free(resources->context);
    memset(resources, 0, sizeof *resources);
}

int with_resources(cli_work work, const void *settings)
{
    cli_resources resources = {0};
    mixt_error error = MIXT_ERROR_INIT;
    mixt_status status = work(settings, &resources, &error);
    resources_free(&resources);
    assert(status == MIXT_OK || status == error.status);
    return status == MIXT_OK ? STATUS_DONE : fail_error(&error);
}

mixt_status open_context(const machine_settings *machine, cli_resources *resources,
                         mixt_error *error)
{
    static const char *const tiers[] = {NULL,  "scalar", "avx2",    "avx512",
                                        "amx", "neon",   "dotprod", "i8mm"};
    mixt_context_options options = {
        .threads = machine->threads,
        .cpu = tiers[machine->cpu],
        .matmul = (mixt_matmul)machine->matmul,
        .cache_type = machine->cache_type,
    };
    TRY(mixt_context_create(&options, &resources->context, error));
    int allowed = mixt_context_threads(resources->context);
    if (program_ranks == NULL || machine->threads > 0 || ranks_threads(allowed) == allowed) {
        return MIXT_OK;
    }
    options.threads = ranks_threads(allowed);
    mixt_context_free(resources->context);
    resources->context = NULL;
    return mixt_context_create(&options, &resources->context, error);
}

int refuse_memory(const model_settings *settings, const cli_arguments *arguments)
{
    int status = store_check(&settings->store, arguments, settings->no_mmap);
    return status == STATUS_DONE ? ranks_refuse(settings, arguments) : status;
}

/* Both of llama.cpp's types have to be the same. */
int cache_type_of(const cache_settings *settings, mixt_cache_type *type)
{
    int k = settings->keys - 1, v = settings->values - 1;
    *type = (mixt_cache_type)(k >= 0 ? k : settings->type);
    if (k != v) {
        return fail_usage("--cache-type-k and --cache-type-v: keys and values have one type; say "
                          "both, or --cache-type");
    }
    return STATUS_DONE;
}

static bool has_config(char *out, size_t size, const char *folder, const char *name)
{
    char path[4200];
    return files_join(out, size, folder, name) &&
           files_join(path, sizeof path, out, "config.json") && files_exist(path);
}

/* The checkpoint that LATEST names, where there is such a file: what it does not lead to is said of
 * it, not of a config.json that nobody spoke of. */
static mixt_status resolve_latest(const char *path, char *out, size_t size, mixt_error *error)
{
    char latest[4200];
    char what[200];
    char *name = NULL;
    size_t length = 0;
    if (!files_join(latest, sizeof latest, path, "LATEST") || !files_exist(latest)) {
        snprintf(out, size, "%s", path);
        return MIXT_OK;
    }
    mixt_status status = files_read(latest, 300, &name, &length, what);
    if (status != MIXT_OK) {
        return set_error(error, status, "%.400s: %s", latest, what);
    }
    name[strcspn(name, "\r\n")] = 0;
    bool plain = name[0] != 0 && name[0] != '.' && strchr(name, '/') == NULL;
    if (!plain || !has_config(out, size, path, name)) {
        status = set_error(error, MIXT_ERROR_FORMAT,
                           "%.400s: must name a checkpoint beside it with a config.json, and says "
                           "\"%.60s\"",
                           latest, name);
    }
    free(name);
    return status;
}

mixt_status resolve_model(const char *path, char *out, size_t size, mixt_error *error)
{
    if (!has_config(out, size, path, ".") && !has_config(out, size, path, "model")) {
        return resolve_latest(path, out, size, error);
    }
    size_t end = strlen(out);
    if (end > 2 && strcmp(out + end - 2, "/.") == 0) {
        out[end - 2] = 0;
    }
    return MIXT_OK;
}

/* What has to be known of the model's decisions outside training; "": nothing. */
static const char *held_out_note(const mixt_model *model)
{
    mixt_model_info info;
    mixt_model_describe(model, &info);
    return info.held_out;
}

mixt_status open_model(const char *path, cli_resources *resources, mixt_error *error)
{
    TRY(resolve_model(path, resources->model_path, sizeof resources->model_path, error));
    TRY(mixt_model_open(resources->model_path, &resources->model, error));
    for (int i = 0; mixt_model_remark(resources->model, i) != NULL; i++) {
        say(stderr, "note: %s\n", mixt_model_remark(resources->model, i));
    }
    if (held_out_note(resources->model)[0] != '\0') {
        say(stderr, "note: %s: %s\n", path, held_out_note(resources->model));
    }
    return MIXT_OK;
}

mixt_status find_adapter(const char *path, char *out, size_t size, mixt_error *error)
{
    char config[4300];
    if (strlen(path) >= size) {
        return set_error(error, MIXT_ERROR_ARGUMENT, "%.400s...: the path is too long", path);
    }
    if (files_join(config, sizeof config, path, "adapter_config.json") && files_exist(config)) {
        snprintf(out, size, "%s", path);
        return MIXT_OK;
    }
    return resolve_model(path, out, size, error);
}

mixt_status merge_adapter(const char *folder, cli_resources *resources, mixt_error *error)
{
    int said = 0;
    while (mixt_model_remark(resources->model, said) != NULL) { /* when it was opened */
        said++;
    }
    TRY(mixt_model_merge(resources->model, folder, error));
    for (; mixt_model_remark(resources->model, said) != NULL; said++) {
        say(stderr, "%s\n", mixt_model_remark(resources->model, said));
    }
    return MIXT_OK;
}

mixt_status open_tokenizer(const char *path, cli_resources *resources, mixt_error *error)
{
    char found[4200];
    char beside[4300];
    snprintf(found, sizeof found, "%s", path != NULL ? path : resources->model_path);
    if (path != NULL && files_is_folder(path) &&
        files_join(beside, sizeof beside, path, "tokenizer.json") && !files_exist(beside)) {
        TRY(resolve_model(path, found, sizeof found, error)); /* of a run folder: its model's */
    }
    TRY(mixt_tokenizer_open(found, &resources->tokenizer, error));
    if (path != NULL && resources->model != NULL) { /* the model's own ends count all the same */
        TRY(mixt_tokenizer_take_ends(resources->tokenizer, resources->model_path, error));
    }
    for (int i = 0; mixt_tokenizer_remark(resources->tokenizer, i) != NULL; i++) {
        say(stderr, "note: %s\n", mixt_tokenizer_remark(resources->tokenizer, i));
    }
    return MIXT_OK;
}

static mixt_status read_template(const char *path, chat_template *found, mixt_error *error)
{
    char what[200];
    size_t length = 0;
    mixt_status status = files_read(path, TEMPLATE_FILE_MAX, &found->read, &length, what);
    found->text = found->read;
    return status == MIXT_OK && strlen(found->read) == length
               ? MIXT_OK
               : set_error(error, status != MIXT_OK ? status : MIXT_ERROR_FORMAT,
                           "--template %.200s: no built-in template, and as a file: %.200s", path,
                           status != MIXT_OK ? what : "it holds a NUL");
}

mixt_status find_template(const char *wanted, const cli_resources *resources, chat_template *found,
                          mixt_error *error)
{
    *found = (chat_template){.name = "the model's chat template"};
    if (wanted != NULL) {
        found->name = wanted;
        found->text = mixt_chat_builtin(wanted);
        return found->text != NULL ? MIXT_OK : read_template(wanted, found, error);
    }
    found->text = mixt_tokenizer_chat_template(resources->tokenizer);
    if (found->text == NULL) {
        mixt_model_info info;
        mixt_model_describe(resources->model, &info);
        found->text = mixt_chat_builtin(info.family);
        found->name = "the built-in chat template";
        found->of_family = found->text != NULL;
    }
    return MIXT_OK;
}

/* Context and weights: what every rank opens where several share them. */
static mixt_status open_weights(const void *user, cli_resources *resources, mixt_error *error)
{
    const model_settings *settings = user;
    TRY(open_context(&settings->machine, resources, error));
    TRY(open_model(settings->path, resources, error));
    if (settings->no_mmap) {
        TRY(mixt_model_to_memory(resources->model, error));
    }
    for (size_t i = 0; i < settings->adapters.count; i++) {
        char folder[4200];
        TRY(find_adapter(settings->adapters.items[i], folder, sizeof folder, error));
        TRY(merge_adapter(folder, resources, error));
    }
    if (settings->check) {
        TRY(mixt_model_verify(resources->model, error));
    }
    return MIXT_OK;
}

int work_on_model(const model_settings *settings)
{
    return ranks_work(open_weights, settings);
}

mixt_status open_all(const model_settings *settings, cli_resources *resources, mixt_error *error)
{
    if (program_ranks != NULL) {
        TRY(ranks_spread(open_weights, settings, resources, error));
    } else {
        TRY(open_weights(settings, resources, error));
    }
    TRY(change_routing(&settings->routing, resources->model, error));
    if (!settings->no_mmap && program_ranks == NULL) {
        resources->store_report = settings->store.report;
        TRY(store_model(&settings->store, resources->model, error));
    }
    return open_tokenizer(settings->tokenizer, resources, error);
}

/* Prints what the corpus skipped, if anything. */
static void report_skipped(const mixt_corpus *corpus)
{
    const char *first = NULL;
    uint64_t skipped = mixt_corpus_skipped(corpus, &first);
    if (skipped > 0) {
        char count[32];
        format_count(skipped, count);
        say(stderr, "skipped %s line%s of the corpus; the first: %s\n", count, plural(skipped),
            first != NULL ? first : "");
    }
}

static mixt_status load_data(const string_list *paths, double heldout, cli_resources *resources,
                             mixt_error *error)
{
    if (paths->count == 1 && mixt_data_is_file(paths->items[0])) {
        return mixt_data_open(paths->items[0], resources->tokenizer, heldout, &resources->data,
                              error);
    }
    TRY(mixt_corpus_open(paths->items, paths->count, &resources->corpus, error));
    TRY(mixt_data_create(resources->corpus, resources->tokenizer, heldout, &resources->data,
                         error));
    report_skipped(resources->corpus);
    return MIXT_OK;
}

mixt_status open_training_data(const string_list *paths, double heldout, cli_resources *resources,
                               mixt_error *error)
{
    char training[32], held[32];
    TRY(load_data(paths, heldout, resources, error));
    int domains = mixt_data_domain_count(resources->data);
    format_count(mixt_data_tokens(resources->data, false), training);
    format_count(mixt_data_tokens(resources->data, true), held);
    fprintf(stderr, "data: %s token%s to train on, %s held out, %d domain%s\n", training,
            plural(mixt_data_tokens(resources->data, false)), held, domains,
            plural((uint64_t)domains));
    return MIXT_OK;
}

mixt_status open_texts(const text_request *request, cli_resources *resources, mixt_error *error)
{
    char tokens[32];
    char all[32];
    char most[80] = "";
    bool part = request->heldout > 0;
    TRY(load_data(request->paths, part ? request->heldout : request->apart, resources, error));
    int domains = mixt_data_domain_count(resources->data);
    uint64_t held = mixt_data_tokens(resources->data, true);
    uint64_t rest = mixt_data_tokens(resources->data, false);
    format_count(part ? held : rest, tokens);
    format_count(held + rest, all);
    if (request->max_tokens > 0) {
        char count[32];
        format_count((uint64_t)request->max_tokens, count);
        snprintf(most, sizeof most, ", at most %s of each domain", count);
    }
    fprintf(stderr, "data: %s%s token%s %s, %d domain%s%s", tokens, part ? " held-out" : "",
            plural(part ? held : rest), request->purpose, domains, plural((uint64_t)domains), most);
    if (part || request->apart > 0) {
        fprintf(stderr, " (of %s in all)", all);
    }
    fputc('\n', stderr);
    return MIXT_OK;
}

mixt_status score_data(const cli_resources *resources, const score_request *request,
                       mixt_score_row **rows, mixt_error *error)
{
    int domains = mixt_data_domain_count(resources->data);
    *rows = calloc((size_t)domains + 1, sizeof **rows);
    if (*rows == NULL) {
        return set_memory_error(error);
    }
    progress_line progress;
    progress_begin(&progress, request->label);
    interrupt_begin();
    mixt_status status = mixt_evaluate(resources->context, resources->model, resources->data,
                                       request->heldout, request->window, request->max_tokens,
                                       *rows, progress_callback, &progress, error);
    interrupt_end();
    progress_end(&progress);
    if (status != MIXT_OK) {
        free(*rows);
        *rows = NULL;
    }
    return status;
}

mixt_status trace_data(const cli_resources *resources, const mixt_trace_options *options,
                       mixt_error *error)
{
    progress_line progress;
    progress_begin(&progress, "trace");
    interrupt_begin();
    mixt_status status =
        mixt_trace_write(resources->context, resources->model, resources->data,
                         resources->tokenizer, options, progress_callback, &progress, error);
    interrupt_end();
    progress_end(&progress);
    return status;
}

mixt_status show_trace(const mixt_trace *trace, const mixt_atlas_options *options,
                       mixt_error *error)
{
    mixt_status status = mixt_atlas_print(trace, options, stdout, error);
    if (status == MIXT_ERROR_IO && ferror(stdout)) { /* said when the program ends */
        *error = (mixt_error)MIXT_ERROR_INIT;
        status = MIXT_OK;
    }
    return status;
}

static bool replaces_any(const char *output, const char *const *inputs, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (files_would_replace(output, inputs[i])) {
            return true;
        }
    }
    return false;
}

int refuse_replacing(const char *flag, const char *output, const char *const *read, size_t count,
                     const string_list *data)
{
    bool replaces = replaces_any(output, read, count) ||
                    (data != NULL && replaces_any(output, data->items, data->count));
    return replaces
               ? fail_usage("--%s: %.400s is read here; it would be written over", flag, output)
               : STATUS_DONE;
}

int refuse_recording(const model_settings *model, const string_list *data, const char *output)
{
    if (model->path == NULL) {
        return fail_usage("--model: needed");
    }
    if (data->count == 0) {
        return fail_usage("--data: needed");
    }
    const char *const read[] = {model->path, model->tokenizer};
    return refuse_replacing("output", output, read, 2, data);
}

void describe_model(const mixt_model *model, mixt_model_info *info, char total[32], char active[32])
{
    mixt_model_describe(model, info);
    format_count(info->parameters_total, total);
    format_count(info->parameters_active, active);
}

int window_or_context(int window, const mixt_model *model)
{
    mixt_model_info info;
    mixt_model_describe(model, &info);
    return window > 0 ? window : info.options.context_length;
}

int window_of_scores(int window, const mixt_model *model)
{
    int context = window_or_context(0, model);
    if (window > 0 || context <= SCORE_WINDOW) {
        return window > 0 ? window : context;
    }
    fprintf(stderr,
            "note: the model has a context of %d tokens: windows have %d, unless --window says "
            "otherwise\n",
            context, SCORE_WINDOW);
    return SCORE_WINDOW;
}

int window_that_fits(int window, int usual, const mixt_model *model)
{
    int context = window_or_context(0, model);
    if (window == 0 && context < usual) {
        fprintf(stderr,
                "note: the model has a context of %d tokens: windows have so many in place of %d\n",
                context, usual);
    }
    return window > 0 ? window : context < usual ? context : usual;
}

double bits_per_byte(const mixt_score_row *row)
{
    return row->bytes > 0 ? row->nats / log(2.0) / (double)row->bytes : 0;
}

static double perplexity(const mixt_score_row *row)
{
    return row->tokens > 0 ? exp(row->nats / (double)row->tokens) : 0;
}

static double dropped_share(const mixt_score_row *row)
{
    return row->choices > 0 ? (double)row->dropped / (double)row->choices : 0;
}

void print_scores(const mixt_model *model, const mixt_score_row *rows, int domains, FILE *stream)
{
    bool drops = rows[domains].choices > 0;
    fprintf(stream, "%-20s %12s %12s %10s %10s%s\n", "domain", "tokens", "bytes", "bits/byte",
            "perplexity", drops ? "    dropped" : "");
    for (int i = 0; i <= domains; i++) {
        const mixt_score_row *row = &rows[i];
        if (row->domain != NULL && row->tokens == 0) {
            continue;
        }
        char tokens[32];
        char bytes[32];
        format_count(row->tokens, tokens);
        format_count(row->bytes, bytes);
        say(stream, "%-20s %12s %12s", row->domain != NULL ? row->domain : "all", tokens, bytes);
        if (row->bytes > 0) {
            fprintf(stream, " %10.4f", bits_per_byte(row));
        } else {
            fprintf(stream, " %10s", "-");
        }
        fprintf(stream, " %10.3f", perplexity(row));
        if (drops) {
            fprintf(stream, " %9.2f%%", 100 * dropped_share(row));
        }
        fputc('\n', stream);
    }
    if (held_out_note(model)[0] != '\0') {
        say(stream, "held-out scores: %s\n", held_out_note(model));
    }
}

void print_scores_json(const mixt_model *model, const mixt_score_row *rows, int domains,
                       FILE *stream)
{
    fputs("{\"domains\": [", stream);
    for (int i = 0; i <= domains; i++) {
        const mixt_score_row *row = &rows[i];
        if (i == domains) {
            fputs("], \"all\": {", stream);
        } else {
            fputs(i > 0 ? ", {\"domain\": " : "{\"domain\": ", stream);
            print_json_text(stream, row->domain != NULL ? row->domain : "");
            fputs(", ", stream);
        }
        fprintf(stream,
                "\"tokens\": %llu, \"bytes\": %llu, \"nats\": ", (unsigned long long)row->tokens,
                (unsigned long long)row->bytes);
        print_json_measure(stream, row->nats);
        fputs(", \"bits_per_byte\": ", stream);
        print_json_measure(stream, bits_per_byte(row));
        fputs(", \"perplexity\": ", stream);
        print_json_measure(stream, perplexity(row));
        if (rows[domains].choices > 0) {
            fputs(", \"dropped\": ", stream);
            print_json_measure(stream, dropped_share(row));
        }
        fputs(isfinite(perplexity(row)) ? "}" : ", \"note\": \"perplexity is not finite\"}",
              stream);
    }
    if (held_out_note(model)[0] != '\0') {
        fputs(", \"held_out\": ", stream);
        print_json_text(stream, held_out_note(model));
    }
    fputs("}\n", stream);
}
