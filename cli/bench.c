/* mixt bench: speed of training, prompts and generation beside the machine's limits. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "shared.h"
#include "terminal.h"

typedef struct bench_settings {
    machine_settings machine;
    mixt_model_options shape;
    const char *model;
    int batch_size;
    int window;
    int prompt;
    int generate;
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

static const cli_option bench_options[] = {
    {.name = "model",
     .letter = 'm',
     .kind = OPTION_TEXT,
     .offset = offsetof(bench_settings, model),
     .value = "FOLDER",
     .help = "model to measure",
     .fallback = "random weights of the shape below"},
    {.name = "train",
     .kind = OPTION_FLAG,
     .offset = offsetof(bench_settings, train),
     .help = "measure training steps"},
    {.name = "operators",
     .kind = OPTION_FLAG,
     .offset = offsetof(bench_settings, operators),
     .help = "and each operator of the step, with its share of the machine's limit"},
    {.name = "no-limits",
     .kind = OPTION_FLAG,
     .offset = offsetof(bench_settings, no_limits),
     .help = "do not measure the machine's limits first"},
    WHOLE("prompt", 'p', prompt, 0, 1 << 20, "tokens of prompt processing; 0: skip",
          "512, with --train 0"),
    WHOLE("generate", 'n', generate, 0, 1 << 20, "tokens of generation; 0: skip",
          "128, with --train 0"),
    WHOLE("batch-size", 'b', batch_size, 1, 65536, "training: windows in a batch", NULL),
    WHOLE("window", 0, window, 1, 1 << 20, "training: tokens in a window", NULL),
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
    settings->batch_size = 8;
    settings->window = 256;
    settings->prompt = -1;
    settings->generate = -1;
    settings->repetitions = 5;
}

/* What stands in every row. */
typedef struct bench_table {
    const bench_settings *settings;
    mixt_model_info info;
    mixt_machine_limits limits;
    int threads;
    const char *cpu;
    const char *matmul;
    size_t rows; /* printed so far */
} bench_table;

/* Least seconds that the machine needs for the row's work, over the measured ones. */
static double limit_share(const bench_table *table, const mixt_bench_row *row)
{
    bool bf16 = table->settings->machine.matmul == MIXT_MATMUL_BF16;
    double peak =
        bf16 && table->limits.bf16_flops > 0 ? table->limits.bf16_flops : table->limits.fp32_flops;
    double compute = peak > 0 ? row->flops / peak : 0;
    double memory = table->limits.read_bytes > 0 ? row->bytes / table->limits.read_bytes : 0;
    return row->seconds > 0 ? fmax(compute, memory) / row->seconds : 0;
}

static void print_head(const bench_table *table)
{
    if (table->settings->format == FORMAT_MD) {
        printf("limits: %.0f GFLOP/s fp32, %.0f GFLOP/s bf16, %.1f GB/s (%s, %d threads, %s)\n\n",
               table->limits.fp32_flops / 1e9, table->limits.bf16_flops / 1e9,
               table->limits.read_bytes / 1e9, table->cpu, table->threads, table->matmul);
        printf("| %-24s | %-8s | %20s | %10s | %9s | %7s | %7s |\n", "test", "pass", "tokens/s",
               "ms", "GFLOP/s", "GB/s", "limit");
        printf("| ------------------------ | -------- | -------------------: | ---------: | "
               "--------: | ------: | ------: |\n");
    } else if (table->settings->format == FORMAT_CSV) {
        puts("model,params,active,threads,cpu,matmul,test,direction,tokens_per_second,deviation,"
             "seconds,flops,bytes,limit_share");
    } else if (table->settings->format == FORMAT_JSON) {
        puts("[");
    }
}

static void print_json_row(bench_table *table, const mixt_bench_row *row)
{
    bool lines = table->settings->format == FORMAT_JSONL;
    if (!lines && table->rows > 0) {
        puts(",");
    }
    printf("{\"test\": ");
    print_json_text(stdout, row->name);
    printf(", \"direction\": ");
    print_json_text(stdout, row->direction);
    printf(", \"params\": %llu, \"active\": %llu, \"threads\": %d, \"cpu\": \"%s\", "
           "\"matmul\": \"%s\", \"tokens\": %.17g, \"seconds\": %.9g, \"deviation\": %.9g, "
           "\"tokens_per_second\": %.9g, \"flops\": %.17g, \"bytes\": %.17g, "
           "\"limit_share\": %.6g, \"machine_flops\": %.6g, \"machine_read_bytes\": %.6g}",
           (unsigned long long)table->info.parameters_total,
           (unsigned long long)table->info.parameters_active, table->threads, table->cpu,
           table->matmul, row->tokens, row->seconds, row->deviation,
           row->seconds > 0 ? row->tokens / row->seconds : 0, row->flops, row->bytes,
           limit_share(table, row), table->limits.fp32_flops, table->limits.read_bytes);
    if (lines) {
        putchar('\n');
        fflush(stdout);
    }
}

static void print_row(bench_table *table, const mixt_bench_row *row)
{
    double rate = row->seconds > 0 ? row->tokens / row->seconds : 0;
    double spread = row->seconds > 0 ? rate * row->deviation / row->seconds : 0;
    double seconds = row->seconds > 0 ? row->seconds : 1;
    char text[64];
    switch ((bench_format)table->settings->format) {
    case FORMAT_MD:
        snprintf(text, sizeof text, "%.1f +- %.1f", rate, spread);
        printf("| %-24s | %-8s | %20s | %10.3f | %9.1f | %7.2f | %6.1f%% |\n", row->name,
               row->direction, row->tokens > 0 ? text : "", 1e3 * row->seconds,
               row->flops / seconds / 1e9, row->bytes / seconds / 1e9,
               100 * limit_share(table, row));
        break;
    case FORMAT_CSV:
        printf("%s,%llu,%llu,%d,%s,%s,%s,%s,%.6g,%.6g,%.9g,%.17g,%.17g,%.6g\n",
               table->settings->model != NULL ? table->settings->model : "random",
               (unsigned long long)table->info.parameters_total,
               (unsigned long long)table->info.parameters_active, table->threads, table->cpu,
               table->matmul, row->name, row->direction, rate, spread, row->seconds, row->flops,
               row->bytes, limit_share(table, row));
        break;
    case FORMAT_JSON:
    case FORMAT_JSONL:
        print_json_row(table, row);
        break;
    }
    table->rows++;
}

static mixt_status run_once(cli_resources *resources, const mixt_bench_options *options,
                            bench_table *table, mixt_error *error)
{
    mixt_bench_row *rows = NULL;
    size_t count = 0;
    mixt_status status =
        mixt_bench_run(resources->context, resources->model, options, &rows, &count, error);
    for (size_t i = 0; status == MIXT_OK && i < count; i++) {
        print_row(table, &rows[i]);
    }
    free(rows);
    return status;
}

static mixt_status measure(const void *user, cli_resources *resources, mixt_error *error)
{
    const bench_settings *settings = user;
    static const char *const products[] = {"exact", "blas", "bf16"};
    mixt_bench_options options = {
        .batch_size = settings->batch_size,
        .window = settings->window,
        .prompt = settings->prompt >= 0 ? settings->prompt
                  : settings->train     ? 0
                                        : 512,
        .generate = settings->generate >= 0 ? settings->generate
                    : settings->train       ? 0
                                            : 128,
        .train = settings->train,
        .operators = settings->operators,
        .repetitions = settings->repetitions,
    };
    mixt_model_options shape = settings->shape;
    int longest = options.prompt > options.generate ? options.prompt : options.generate;
    longest = longest > settings->window ? longest : settings->window;
    shape.context_length = shape.context_length > longest ? shape.context_length : longest;
    TRY(open_context(&settings->machine, resources, error));
    TRY(settings->model != NULL ? open_model(settings->model, resources, error)
                                : mixt_model_create(&shape, 1, &resources->model, error));
    bench_table table = {
        .settings = settings,
        .threads = mixt_context_threads(resources->context),
        .cpu = mixt_context_cpu(resources->context),
        .matmul = products[settings->machine.matmul],
    };
    mixt_model_describe(resources->model, &table.info);
    if (!settings->no_limits) {
        mixt_bench_machine(resources->context, &table.limits);
    }
    print_head(&table);
    bool one_by_one = settings->format == FORMAT_JSONL && settings->train;
    int calls = one_by_one ? settings->repetitions : 1;
    options.repetitions = one_by_one ? 1 : settings->repetitions;
    mixt_status status = MIXT_OK;
    for (int i = 0; i < calls && status == MIXT_OK; i++) {
        status = run_once(resources, &options, &table, error);
    }
    if (settings->format == FORMAT_JSON) {
        puts("\n]");
    }
    return status;
}

static int run_bench(void *user, cli_arguments *arguments)
{
    (void)arguments;
    return with_resources(measure, user);
}

const cli_command command_bench = {
    .name = "bench",
    .summary = "speed of training, prompts and generation",
    .synopsis = "[-m FOLDER | shape] [--train] [-p N] [-n N] [-r N] [-o FORM]",
    .about =
        "Measures prompt processing (512 tokens), generation (128 tokens) and with --train the "
        "training step, and says how near each comes to the machine's limit, which is "
        "measured first.",
    .examples = "  mixt bench -m demo/model\n"
                "  mixt bench --train --operators --hidden-size 256 --layers 4\n"
                "  mixt bench --train -r 10 -o jsonl\n",
    .groups = (const cli_group[]){{"options", bench_options, 0},
                                  {"shape", options_model, offsetof(bench_settings, shape)},
                                  {"machine", options_machine, offsetof(bench_settings, machine)},
                                  {0}},
    .settings_size = sizeof(bench_settings),
    .defaults = bench_defaults,
    .run = run_bench,
};
