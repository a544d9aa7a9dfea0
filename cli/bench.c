/* mixt bench: speed of training, prompts and generation beside the machine's limits. Models, tests
 * and numbers of threads may be lists, as in llama-bench. */
#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "interrupt.h"
#include "ranks.h"
#include "terminal.h"

enum { TOKENS_MAX = 1 << 20, THREADS_MAX = 256, VALUES_MAX = 1000, WINDOW = 256 };

typedef struct bench_settings {
    machine_settings machine;
    mixt_model_options shape;
    store_settings store;
    string_list models;
    string_list prompts, generations, pairs, depths; /* each a text of numbers */
    string_list threads;
    cache_settings cache;
    bool no_mmap;
    int batch_size;
    int window; /* 0: WINDOW, or the model's context */
    int repetitions;
    int format; /* bench_format */
    bool train;
    bool operators;
    bool no_limits;
} bench_settings;

typedef enum bench_format { FORMAT_MD, FORMAT_CSV, FORMAT_JSON, FORMAT_JSONL } bench_format;

#define WHOLE(n, l, f, lo, hi, h, d)                                                               \
    {                                                                                              \
        .name = n, .letter = l, .kind = OPTION_INT, .offset = offsetof(bench_settings, f),         \
        .low = lo, .high = hi, .help = h, .fallback = d                                            \
    }

#define LIST(n, l, f, v, h, a, d)                                                                  \
    {                                                                                              \
        .name = n, .letter = l, .kind = OPTION_LIST, .offset = offsetof(bench_settings, f),        \
        .value = v, .help = h, .aliases = a, .fallback = d                                         \
    }

static const cli_option bench_options[] = {
    LIST("model", 'm', models, "MODEL",
         "models to measure: GGUF files, Hugging Face folders, or run folders of mixt train", NULL,
         "random weights of the shape below"),
    {.name = "train",
     .kind = OPTION_FLAG,
     .offset = offsetof(bench_settings, train),
     .help = "measure training steps"},
    {.name = "operators",
     .kind = OPTION_FLAG,
     .offset = offsetof(bench_settings, operators),
     .help = "and each operator of each test, with its share of the machine's limit"},
    {.name = "no-limits",
     .kind = OPTION_FLAG,
     .offset = offsetof(bench_settings, no_limits),
     .help = "do not measure the machine's limits first"},
    LIST("prompt", 'p', prompts, "N",
         "tokens of prompt processing; 0: skip. Lists: 64,128 or 128-512+128 or 64-1024*2",
         "n-prompt", "512, or what fits; with --train 0"),
    LIST("generate", 'n', generations, "N", "tokens of generation, a list likewise; 0: skip",
         "n-gen", "128, or what fits; with --train 0"),
    LIST("prompt-generate", 0, pairs, "P,N",
         "a prompt and the generation behind it as one test; may be given more than once", "-pg",
         NULL),
    LIST("depth", 'd', depths, "N",
         "tokens that stand in the context before each test, a list likewise", "n-depth", "0"),
    LIST("threads", 't', threads, "N", "threads to compute with, a list likewise", NULL,
         "every core"),
    OPTIONS_OF_CACHE(bench_settings, cache, "type of the cache of prompts and generation"),
    OPTION_OF_MEMORY(bench_settings, no_mmap),
    WHOLE("batch-size", 'b', batch_size, 1, 65536, "training: windows in a batch", NULL),
    WHOLE("window", 0, window, 0, TOKENS_MAX, "training: tokens in a window",
          "256, or the model's context"),
    WHOLE("repetitions", 'r', repetitions, 1, 10000, "repetitions of each test", NULL),
    {.name = "output",
     .letter = 'o',
     .kind = OPTION_CHOICE,
     .offset = offsetof(bench_settings, format),
     .choices = "md csv json jsonl",
     .help = "form of the table; jsonl with --train: one line for each repetition"},
    {0},
};

static void bench_defaults(void *user)
{
    bench_settings *settings = user;
    settings->machine = machine_defaults(MIXT_MATMUL_EXACT);
    settings->shape = mixt_model_options_default();
    settings->store = store_defaults();
    settings->batch_size = 8;
    settings->repetitions = 5;
}

/* ---- what is to be measured */

typedef struct numbers {
    int *items;
    size_t count, capacity;
} numbers;

static bool add_number(numbers *to, int value)
{
    if (!list_grow(&to->items, &to->capacity, to->count + 1, sizeof *to->items)) {
        return false;
    }
    to->items[to->count++] = value;
    return true;
}

/* A whole number in 0..most, and what follows it; -1 where there is none. */
static long take_number(const char **at, long most)
{
    char *end = NULL;
    long value = isdigit((unsigned char)**at) ? strtol(*at, &end, 10) : -1;
    *at = end != NULL ? end : *at;
    return value > most ? -1 : value;
}

/* "N", "A-B", "A-B+STEP" or "A-B*FACTOR", up to a comma or the end. */
static bool take_range(const char **at, int least, int most, numbers *to)
{
    long first = take_number(at, most), last = first, step = 1;
    bool times = false;
    if (first >= 0 && **at == '-') {
        ++*at;
        last = take_number(at, most);
        times = **at == '*';
        if (times || **at == '+') {
            ++*at;
            step = take_number(at, most);
        }
    }
    if (first < least || last < first || step < 1 + times || (times && first == 0) ||
        (**at != ',' && **at != 0)) {
        return false;
    }
    for (long value = first; value <= last; value = times ? value * step : value + step) {
        if (to->count == VALUES_MAX || !add_number(to, (int)value)) {
            return false;
        }
    }
    return true;
}

/* All numbers of an option's values; `fallback` where it was not given. */
static mixt_status read_numbers(const char *name, const string_list *texts, int least, int most,
                                int fallback, numbers *to, mixt_error *error)
{
    for (size_t i = 0; i < texts->count; i++) {
        const char *at = texts->items[i];
        bool good = true, more = true;
        while (good && more) {
            good = take_range(&at, least, most, to);
            more = *at == ',';
            at += more;
        }
        if (!good) {
            return set_error(error, MIXT_ERROR_ARGUMENT,
                             "--%s: \"%.60s\" is no list of at most %d numbers in %d..%d, such as "
                             "64,128 or 128-512+128 or 64-1024*2",
                             name, texts->items[i], VALUES_MAX, least, most);
        }
    }
    return texts->count > 0 || add_number(to, fallback) ? MIXT_OK : set_memory_error(error);
}

/* Everything that the command line asks for. */
typedef struct bench_work {
    const bench_settings *settings;
    numbers prompts, generations, depths, threads;
    numbers pairs;               /* two for each: prompt, generation */
    mixt_machine_limits *limits; /* for each number of threads */
    cli_resources *models;
    size_t model_count;
} bench_work;

static mixt_status read_pairs(const bench_settings *settings, numbers *to, mixt_error *error)
{
    for (size_t i = 0; i < settings->pairs.count; i++) {
        const char *at = settings->pairs.items[i];
        long prompt = take_number(&at, TOKENS_MAX);
        at += prompt > 0 && *at == ',';
        long generate = take_number(&at, TOKENS_MAX);
        if (prompt < 1 || generate < 1 || *at != 0) {
            return set_error(error, MIXT_ERROR_ARGUMENT,
                             "--prompt-generate: \"%.60s\" is no pair of numbers in 1..%d, such as "
                             "512,128",
                             settings->pairs.items[i], TOKENS_MAX);
        }
        if (!add_number(to, (int)prompt) || !add_number(to, (int)generate)) {
            return set_memory_error(error);
        }
    }
    return MIXT_OK;
}

static mixt_status read_work(const bench_settings *settings, bench_work *work, mixt_error *error)
{
    work->settings = settings;
    TRY(read_numbers("prompt", &settings->prompts, 0, TOKENS_MAX, settings->train ? 0 : 512,
                     &work->prompts, error));
    TRY(read_numbers("generate", &settings->generations, 0, TOKENS_MAX, settings->train ? 0 : 128,
                     &work->generations, error));
    TRY(read_numbers("depth", &settings->depths, 0, TOKENS_MAX, 0, &work->depths, error));
    TRY(read_numbers("threads", &settings->threads, 1, THREADS_MAX, 0, &work->threads, error));
    return read_pairs(settings, &work->pairs, error);
}

static int largest(const numbers *of)
{
    int most = 0;
    for (size_t i = 0; i < of->count; i++) {
        most = of->items[i] > most ? of->items[i] : most;
    }
    return most;
}

/* Positions that the longest test needs. */
static int64_t longest_test(const bench_work *work)
{
    int64_t prompt = largest(&work->prompts), generate = largest(&work->generations);
    int64_t longest = prompt > generate ? prompt : generate;
    for (size_t i = 0; i < work->pairs.count; i += 2) {
        int64_t both = (int64_t)work->pairs.items[i] + work->pairs.items[i + 1];
        longest = both > longest ? both : longest;
    }
    return longest + largest(&work->depths);
}

static int context_of(const mixt_model *model)
{
    return window_or_context(0, model);
}

/* Room behind the deepest start for a test of which nobody said how long it is. */
static int fitting(const bench_work *work, const string_list *given, int tokens, int context)
{
    int room = context - largest(&work->depths);
    return given->count > 0 || tokens <= room || room < 1 ? tokens : room;
}

/* Refuses a test that does not fit before anything is measured; defaults are made to fit. */
static mixt_status check_fit(const bench_work *work, const cli_resources *resources,
                             mixt_error *error)
{
    const bench_settings *settings = work->settings;
    int context = context_of(resources->model);
    bench_work fit = *work;
    int prompt = fitting(work, &settings->prompts, largest(&work->prompts), context);
    int generate = fitting(work, &settings->generations, largest(&work->generations), context);
    fit.prompts = (numbers){&prompt, 1, 1};
    fit.generations = (numbers){&generate, 1, 1};
    if (longest_test(&fit) > context) {
        return set_error(error, MIXT_ERROR_ARGUMENT,
                         "%.300s: its context of %d tokens is less than the %lld of the longest "
                         "test with its --depth",
                         resources->model_path[0] != 0 ? resources->model_path : "random weights",
                         context, (long long)longest_test(&fit));
    }
    if (prompt < largest(&work->prompts)) {
        fprintf(stderr, "note: %s has a context of %d tokens: the prompt is %d in place of %d\n",
                resources->model_path, context, prompt, largest(&work->prompts));
    }
    if (generate < largest(&work->generations)) {
        fprintf(stderr, "note: %s has a context of %d tokens: %d are generated in place of %d\n",
                resources->model_path, context, generate, largest(&work->generations));
    }
    return MIXT_OK;
}

/* Weights into memory, or what fits of them; what trains is read whole. */
static mixt_status place_weights(const bench_settings *settings, cli_resources *resources,
                                 mixt_error *error)
{
    if (settings->no_mmap) {
        return mixt_model_to_memory(resources->model, error);
    }
    if (settings->train) {
        return MIXT_OK;
    }
    resources->store_report = settings->store.report;
    return store_model(&settings->store, resources->model, error);
}

/* Random weights. */
static mixt_status make_model(const bench_work *work, cli_resources *resources, mixt_error *error)
{
    const bench_settings *settings = work->settings;
    mixt_model_options shape = settings->shape;
    int64_t longest = longest_test(work);
    int window = settings->window > 0 ? settings->window : settings->train ? WINDOW : 1;
    longest = longest > window ? longest : window;
    shape.context_length = shape.context_length > longest ? shape.context_length : (int)longest;
    if (program_ranks == NULL) {
        return mixt_model_create(&shape, 1, &resources->model, error);
    }
    TRY(mixt_ranks_arrange(program_ranks, 1, mixt_ranks_count(program_ranks), shape.experts,
                           error));
    return mixt_model_create_spread(&shape, 1, program_ranks, &resources->model, error);
}

/* What each of several ranks opens; rank 0 makes a context for each number of threads itself. */
static mixt_status open_share(const void *user, cli_resources *resources, mixt_error *error)
{
    const bench_work *work = user;
    const bench_settings *settings = work->settings;
    machine_settings machine = settings->machine;
    machine.threads = work->threads.items[0];
    if (work->threads.count > 1) {
        return set_error(error, MIXT_ERROR_ARGUMENT, "--threads: several ranks have one number");
    }
    if (mixt_ranks_rank(program_ranks) > 0) {
        TRY(open_context(&machine, resources, error));
    }
    return settings->models.count > 0 ? open_model(settings->models.items[0], resources, error)
                                      : make_model(work, resources, error);
}

static mixt_status open_models(bench_work *work, mixt_error *error)
{
    const bench_settings *settings = work->settings;
    size_t count = settings->models.count;
    work->models = calloc(count + 1, sizeof *work->models);
    if (work->models == NULL) {
        return set_memory_error(error);
    }
    work->model_count = count > 0 ? count : 1;
    if (program_ranks != NULL) {
        TRY(ranks_spread(open_share, work, &work->models[0], error));
        return check_fit(work, &work->models[0], error);
    }
    for (size_t i = 0; i < count; i++) {
        TRY(open_model(settings->models.items[i], &work->models[i], error));
        TRY(place_weights(settings, &work->models[i], error));
    }
    if (count == 0) {
        TRY(make_model(work, &work->models[0], error));
    }
    for (size_t i = 0; i < work->model_count; i++) {
        TRY(check_fit(work, &work->models[i], error));
    }
    return MIXT_OK;
}

static void free_work(bench_work *work)
{
    for (size_t i = 0; i < work->model_count; i++) {
        resources_free(&work->models[i]);
    }
    free(work->models);
    free(work->limits);
    free(work->prompts.items);
    free(work->generations.items);
    free(work->pairs.items);
    free(work->depths.items);
    free(work->threads.items);
}

/* ---- the table */

/* What stands in every row. */
typedef struct bench_table {
    const bench_settings *settings;
    const char *model;
    mixt_model_info info;
    mixt_machine_limits limits;
    int threads;
    const char *cpu;
    const char *matmul;
    int model_width; /* of the table's first column; 0: one model */
    bool shows_threads;
    mixt_bench_options test;     /* that the rows are of */
    mixt_store_statistics store; /* of that test; memory 0: the model is not stored */
    size_t rows;                 /* printed so far */
} bench_table;

/* Least seconds that the machine needs for the row's work, over the measured ones; 0: a rate that
 * it goes by was not measured. */
static double limit_share(const bench_table *table, const mixt_bench_row *row)
{
    bool bf16 = table->settings->machine.matmul == MIXT_MATMUL_BF16;
    double peak =
        bf16 && table->limits.bf16_flops > 0 ? table->limits.bf16_flops : table->limits.fp32_flops;
    double compute = peak > 0 ? (row->flops - row->int8_flops) / peak : 0;
    if (row->int8_flops > 0 && table->limits.int8_flops <= 0) {
        return 0;
    }
    compute += row->int8_flops > 0 ? row->int8_flops / table->limits.int8_flops : 0;
    double memory = table->limits.read_bytes > 0 ? row->bytes / table->limits.read_bytes : 0;
    return row->seconds > 0 ? fmax(compute, memory) / row->seconds : 0;
}

static void print_limits(const bench_table *table)
{
    printf("machine: %s, %d thread%s, products %s", table->cpu, table->threads,
           plural((uint64_t)table->threads), table->matmul);
    if (table->limits.fp32_flops > 0) {
        printf("; its limits: %.0f GFLOP/s fp32, ", table->limits.fp32_flops / 1e9);
        if (table->limits.bf16_flops > 0) {
            printf("%.0f GFLOP/s bf16, ", table->limits.bf16_flops / 1e9);
        }
        if (table->limits.int8_flops > 0) {
            printf("%.0f GOP/s int8, ", table->limits.int8_flops / 1e9);
        }
        printf("%.1f GB/s", table->limits.read_bytes / 1e9);
    }
    putchar('\n');
}

static void print_model(const cli_resources *resources, const char *name)
{
    mixt_model_info info;
    char total[32], active[32];
    describe_model(resources->model, &info, total, active);
    printf("model: %s, %s parameters, %s active\n", name, total, active);
}

static void print_head(const bench_table *table)
{
    if (table->settings->format == FORMAT_MD) {
        const char *dashes = "----------------------------------------";
        int width = table->model_width;
        puts("tokens/s: mean +- deviation; limit: share of what the machine can do at most\n");
        printf(width > 0 ? "| %-*s " : "%.*s", width, width > 0 ? "model" : "");
        printf(table->shows_threads ? "| threads " : "");
        printf("| %-24s | %-8s | %20s | %10s | %9s | %7s | %7s |\n", "test", "pass", "tokens/s",
               "ms", "GFLOP/s", "GB/s", "limit");
        printf(width > 0 ? "| %.*s " : "%.*s", width, dashes);
        printf(table->shows_threads ? "| ------: " : "");
        printf("| ------------------------ | -------- | -------------------: | ---------: | "
               "--------: | ------: | ------: |\n");
    } else if (table->settings->format == FORMAT_CSV) {
        puts("model,params,active,threads,cpu,matmul,test,direction,tokens_per_second,deviation,"
             "seconds,flops,bytes,limit_share,n_prompt,n_gen,n_depth");
    } else if (table->settings->format == FORMAT_JSON) {
        puts("[");
    }
    fflush(stdout);
}

/* Prompt and generation that a row is of; both 0 for training. */
static void row_tokens(const bench_table *table, const mixt_bench_row *row, int *prompt,
                       int *generate)
{
    const mixt_bench_options *test = &table->test;
    bool of_prompt = strncmp(row->name, "pp", 2) == 0 && isdigit((unsigned char)row->name[2]);
    bool of_generation = strncmp(row->name, "tg", 2) == 0 && isdigit((unsigned char)row->name[2]);
    *prompt = of_prompt ? test->prompt : 0;
    *generate = of_generation || (of_prompt && test->together) ? test->generate : 0;
}

static void print_json_row(bench_table *table, const mixt_bench_row *row)
{
    bool lines = table->settings->format == FORMAT_JSONL;
    double rate = row->seconds > 0 ? row->tokens / row->seconds : 0;
    int prompt, generate;
    row_tokens(table, row, &prompt, &generate);
    if (!lines && table->rows > 0) {
        puts(",");
    }
    printf("{\"model\": ");
    print_json_text(stdout, table->model);
    printf(", \"test\": ");
    print_json_text(stdout, row->name);
    printf(", \"direction\": ");
    print_json_text(stdout, row->direction);
    printf(", \"params\": %llu, \"active\": %llu, \"threads\": %d, \"cpu\": \"%s\", "
           "\"matmul\": \"%s\", \"n_prompt\": %d, \"n_gen\": %d, \"n_depth\": %d, "
           "\"tokens\": %.17g, \"seconds\": %.9g, \"deviation\": %.9g, "
           "\"tokens_per_second\": %.9g, \"avg_ts\": %.9g, \"stddev_ts\": %.9g, \"flops\": %.17g, "
           "\"bytes\": %.17g, \"limit_share\": %.6g, \"machine_flops\": %.6g, "
           "\"machine_int8_ops\": %.6g, \"machine_read_bytes\": %.6g, \"store\": ",
           (unsigned long long)table->info.parameters_total,
           (unsigned long long)table->info.parameters_active, table->threads, table->cpu,
           table->matmul, prompt, generate, prompt + generate > 0 ? table->test.depth : 0,
           row->tokens, row->seconds, row->deviation, rate, rate,
           row->seconds > 0 ? rate * row->deviation / row->seconds : 0, row->flops, row->bytes,
           limit_share(table, row), table->limits.fp32_flops, table->limits.int8_flops,
           table->limits.read_bytes);
    store_print_json(table->store.memory > 0 ? &table->store : NULL);
    fputs(lines ? "}\n" : "}", stdout);
}

/* A field of CSV, in quotes where it has to be. */
static void print_csv_text(const char *text)
{
    if (strpbrk(text, ",\"\r\n") == NULL) {
        fputs(text, stdout);
        return;
    }
    putchar('"');
    for (; *text != 0; text++) {
        fputs(*text == '"' ? "\"" : "", stdout);
        putchar(*text);
    }
    putchar('"');
}

static void print_csv_row(const bench_table *table, const mixt_bench_row *row)
{
    double rate = row->seconds > 0 ? row->tokens / row->seconds : 0;
    double spread = row->seconds > 0 ? rate * row->deviation / row->seconds : 0;
    int prompt, generate;
    row_tokens(table, row, &prompt, &generate);
    print_csv_text(table->model);
    printf(",%llu,%llu,%d,%s,%s,%s,%s,%.6g,%.6g,%.9g,%.17g,%.17g,%.6g,%d,%d,%d\n",
           (unsigned long long)table->info.parameters_total,
           (unsigned long long)table->info.parameters_active, table->threads, table->cpu,
           table->matmul, row->name, row->direction, rate, spread, row->seconds, row->flops,
           row->bytes, limit_share(table, row), prompt, generate,
           prompt + generate > 0 ? table->test.depth : 0);
}

static void print_md_row(const bench_table *table, const mixt_bench_row *row)
{
    double rate = row->seconds > 0 ? row->tokens / row->seconds : 0;
    double spread = row->seconds > 0 ? rate * row->deviation / row->seconds : 0;
    double seconds = row->seconds > 0 ? row->seconds : 1;
    char speed[64];
    char share[16] = "-"; /* the limits were not measured */
    snprintf(speed, sizeof speed, "%.1f +- %.1f", rate, spread);
    if (limit_share(table, row) > 0) {
        snprintf(share, sizeof share, "%.1f%%", 100 * limit_share(table, row));
    }
    if (table->model_width > 0) {
        printf("| %-*s ", table->model_width, table->model);
    }
    if (table->shows_threads) {
        printf("| %7d ", table->threads);
    }
    printf("| %-24s | %-8s | %20s | %10.3f | %9.1f | %7.2f | %7s |\n", row->name, row->direction,
           row->tokens > 0 ? speed : "", 1e3 * row->seconds, row->flops / seconds / 1e9,
           row->bytes / seconds / 1e9, share);
}

static void print_row(bench_table *table, const mixt_bench_row *row)
{
    switch ((bench_format)table->settings->format) {
    case FORMAT_MD:
        print_md_row(table, row);
        break;
    case FORMAT_CSV:
        print_csv_row(table, row);
        break;
    case FORMAT_JSON:
    case FORMAT_JSONL:
        print_json_row(table, row);
        break;
    }
    table->rows++;
    fflush(stdout);
}

/* ---- measuring */

static mixt_status run_once(cli_resources *resources, bench_table *table, mixt_error *error)
{
    mixt_bench_row *rows = NULL;
    size_t count = 0;
    mixt_store_statistics before;
    if (interrupt_status() != 0) {
        return set_error(error, MIXT_ERROR_INTERRUPTED, "interrupted");
    }
    mixt_store_describe(resources->model, &before);
    mixt_status status =
        mixt_bench_run(resources->context, resources->model, &table->test, &rows, &count, error);
    if (mixt_store_describe(resources->model, &table->store)) {
        store_subtract(&table->store, &before);
    }
    for (size_t i = 0; status == MIXT_OK && i < count; i++) {
        print_row(table, &rows[i]);
    }
    free(rows);
    return status;
}

static mixt_status measure_training(cli_resources *resources, bench_table *table, mixt_error *error)
{
    const bench_settings *settings = table->settings;
    int window = window_that_fits(settings->window, WINDOW, resources->model);
    bool one_by_one = settings->format == FORMAT_JSONL;
    table->test = (mixt_bench_options){.batch_size = settings->batch_size,
                                       .window = window,
                                       .train = settings->train,
                                       .operators = settings->operators,
                                       .repetitions = one_by_one ? 1 : settings->repetitions};
    mixt_status status = MIXT_OK;
    int calls = one_by_one ? settings->repetitions : 1;
    for (int i = 0; i < calls && status == MIXT_OK && !ferror(stdout); i++) {
        status = run_once(resources, table, error);
    }
    return status;
}

static mixt_status measure_test(const bench_work *work, cli_resources *resources,
                                bench_table *table, int prompt, int generate, mixt_error *error)
{
    bool together = prompt > 0 && generate > 0;
    int context = context_of(resources->model);
    if (!together) {
        prompt = fitting(work, &work->settings->prompts, prompt, context);
        generate = fitting(work, &work->settings->generations, generate, context);
    }
    table->test.cache_type = (mixt_cache_type)work->settings->cache.type;
    table->test.prompt = prompt;
    table->test.generate = generate;
    table->test.together = together;
    table->test.operators = work->settings->operators;
    table->test.repetitions = work->settings->repetitions;
    return prompt + generate == 0 || ferror(stdout) ? MIXT_OK : run_once(resources, table, error);
}

/* Prompts, generations and pairs behind one depth. */
static mixt_status measure_depth(const bench_work *work, cli_resources *resources,
                                 bench_table *table, int depth, mixt_error *error)
{
    table->test = (mixt_bench_options){.depth = depth};
    for (size_t i = 0; i < work->prompts.count; i++) {
        TRY(measure_test(work, resources, table, work->prompts.items[i], 0, error));
    }
    for (size_t i = 0; i < work->generations.count; i++) {
        TRY(measure_test(work, resources, table, 0, work->generations.items[i], error));
    }
    for (size_t i = 0; i < work->pairs.count; i += 2) {
        TRY(measure_test(work, resources, table, work->pairs.items[i], work->pairs.items[i + 1],
                         error));
    }
    return MIXT_OK;
}

static mixt_status open_threads(const bench_work *work, size_t place, cli_resources *resources,
                                bench_table *table, mixt_error *error)
{
    machine_settings machine = work->settings->machine;
    machine.threads = work->threads.items[place];
    TRY(open_context(&machine, resources, error));
    table->threads = mixt_context_threads(resources->context);
    table->cpu = mixt_context_cpu(resources->context);
    table->limits = work->limits[place];
    return MIXT_OK;
}

/* The machine's limits with each number of threads, and what is said before the table. */
static mixt_status measure_machine(bench_work *work, bench_table *table, mixt_error *error)
{
    bool say = work->settings->format == FORMAT_MD;
    work->limits = calloc(work->threads.count, sizeof *work->limits);
    if (work->limits == NULL) {
        return set_memory_error(error);
    }
    for (size_t i = 0; i < work->threads.count; i++) {
        cli_resources machine = {0};
        mixt_status status = open_threads(work, i, &machine, table, error);
        if (status == MIXT_OK && !work->settings->no_limits) {
            mixt_bench_machine(machine.context, &work->limits[i]);
            table->limits = work->limits[i];
        }
        if (status == MIXT_OK && say) {
            print_limits(table);
        }
        resources_free(&machine);
        TRY(status);
    }
    return MIXT_OK;
}

static const char *model_name(const bench_work *work, size_t place)
{
    const string_list *models = &work->settings->models;
    return models->count > 0 ? models->items[place] : "random";
}

static mixt_status measure_model(bench_work *work, size_t place, bench_table *table,
                                 mixt_error *error)
{
    cli_resources *resources = &work->models[place];
    mixt_status status = MIXT_OK;
    table->model = model_name(work, place);
    mixt_model_describe(resources->model, &table->info);
    for (size_t t = 0; t < work->threads.count && status == MIXT_OK; t++) {
        status = open_threads(work, t, resources, table, error);
        if (status == MIXT_OK && work->settings->train) {
            status = measure_training(resources, table, error);
        }
        for (size_t d = 0; d < work->depths.count && status == MIXT_OK; d++) {
            status = measure_depth(work, resources, table, work->depths.items[d], error);
        }
        mixt_context_free(resources->context);
        resources->context = NULL;
    }
    return status;
}

static mixt_status measure_all(bench_work *work, mixt_error *error)
{
    static const char *const products[] = {"exact", "blas", "bf16"};
    bench_table table = {
        .settings = work->settings,
        .matmul = products[work->settings->machine.matmul],
        .shows_threads = work->threads.count > 1,
    };
    TRY(open_models(work, error));
    TRY(measure_machine(work, &table, error));
    for (size_t i = 0; i < work->model_count; i++) {
        int length = (int)strlen(model_name(work, i));
        if (work->model_count > 1) {
            int width = length < 5 ? 5 : length > 40 ? 40 : length;
            table.model_width = width > table.model_width ? width : table.model_width;
        }
        if (work->settings->format == FORMAT_MD) {
            print_model(&work->models[i], model_name(work, i));
        }
    }
    print_head(&table);
    mixt_status status = MIXT_OK;
    for (size_t i = 0; i < work->model_count && status == MIXT_OK; i++) {
        status = measure_model(work, i, &table, error);
    }
    if (work->settings->format == FORMAT_JSON) {
        puts("\n]");
    }
    return status;
}

static mixt_status measure(const void *user, cli_resources *resources, mixt_error *error)
{
    bench_work work = {0};
    (void)resources;
    mixt_status status = read_work(user, &work, error);
    if (status == MIXT_OK && work.settings->store.report) {
        interrupt_begin(); /* it is said behind the test that runs */
    }
    if (status == MIXT_OK) {
        status = measure_all(&work, error);
    }
    interrupt_end();
    free_work(&work);
    return status;
}

/* Only weights of files can stay there, and only where nothing trains. */
static int refuse_memory_here(const bench_settings *settings, const cli_arguments *arguments)
{
    if (options_given(arguments, "memory") != NULL && !store_is_off(&settings->store)) {
        if (settings->train) {
            return fail_usage("--memory: a model that trains is read whole");
        }
        if (settings->models.count == 0) {
            return fail_usage("--memory: needs --model: random weights are in memory");
        }
    }
    return store_check(&settings->store, arguments, settings->no_mmap);
}

/* Several ranks run one model, and do not train here. */
static int refuse_ranks(const bench_settings *settings, const cli_arguments *arguments)
{
    const model_settings model = {.store = settings->store, .no_mmap = settings->no_mmap};
    if (program_ranks != NULL && settings->train) {
        return fail_usage("--train: measured by one process; over ranks mixt train "
                          "says how long a step takes");
    }
    if (program_ranks != NULL && settings->models.count > 1) {
        return fail_usage("--model: several ranks share one");
    }
    return ranks_refuse(&model, arguments);
}

static int work_bench(void *user, cli_arguments *arguments)
{
    bench_work work = {0};
    mixt_error error = MIXT_ERROR_INIT;
    (void)arguments;
    int status = read_work(user, &work, &error) == MIXT_OK ? ranks_work(open_share, &work)
                                                           : fail_error(&error);
    free_work(&work);
    return status;
}

static int run_bench(void *user, cli_arguments *arguments)
{
    bench_settings *settings = user;
    mixt_cache_type type;
    if (refuse_memory_here(settings, arguments) != STATUS_DONE ||
        refuse_ranks(settings, arguments) != STATUS_DONE) {
        return STATUS_REFUSED;
    }
    if (cache_type_of(&settings->cache, &type) != STATUS_DONE) {
        return STATUS_REFUSED;
    }
    settings->cache.type = (int)type;
    return with_resources(measure, settings);
}

const cli_command command_bench = {
    .name = "bench",
    .summary = "speed of training, prompts and generation",
    .synopsis = "[-m MODEL... | shape] [--train] [-p N,...] [-n N,...] [-pg P,N] [-d N,...] [-r N] "
                "[-o FORM]",
    .about =
        "Measures prompt processing (512 tokens), generation (128 tokens) and with --train the "
        "training step, and says how near each comes to the machine's limit, which is "
        "measured first. Several models, numbers of tokens, depths and threads are measured one "
        "after another, as llama-bench does.",
    .examples = "  mixt bench -m demo/model\n"
                "  mixt bench -m model-f16.gguf -m model-q4.gguf -p 64,128 -n 32 -d 0,1024\n"
                "  mixt bench -m model-q4.gguf --operators\n"
                "  mixt bench --train --operators --hidden-size 256 --layers 4\n"
                "  mixt bench --train -r 10 -o jsonl\n",
    .positional = "model",
    .groups =
        (const cli_group[]){{"options", bench_options, 0},
                            {"shape", options_model, offsetof(bench_settings, shape)},
                            {"memory", options_store, offsetof(bench_settings, store)},
                            /* all but --threads, its first, which is a list here */
                            {"machine", options_machine + 1, offsetof(bench_settings, machine)},
                            {0}},
    .settings_size = sizeof(bench_settings),
    .defaults = bench_defaults,
    .run = run_bench,
    .work = work_bench,
};
