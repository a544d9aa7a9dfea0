#include "info_ranks.h"

#include <stdlib.h>
#include <string.h>

#include "terminal.h"

const cli_option options_ranks_cost[] = {
    {.name = "ranks",
     .kind = OPTION_INT,
     .offset = offsetof(ranks_settings, ranks),
     .low = 1,
     .high = 1 << 20,
     .help = "with --plan train: what a step over so many ranks would cost, on paper, of MODEL (a "
             "config.json will do) or the shape below"},
    {.name = "data-parallel",
     .kind = OPTION_INT,
     .offset = offsetof(ranks_settings, data),
     .low = 1,
     .high = 1 << 20,
     .value = "D",
     .help = "copies of the experts",
     .fallback = "as follows from --expert-parallel"},
    {.name = "expert-parallel",
     .kind = OPTION_INT,
     .offset = offsetof(ranks_settings, expert),
     .low = 1,
     .high = 1 << 20,
     .value = "E",
     .help = "ranks that each copy of the experts is spread over",
     .fallback = "the most that divide ranks and experts"},
    OPTION_OF_CHUNKS(ranks_settings, chunks),
    {.name = "network",
     .kind = OPTION_TEXT,
     .offset = offsetof(ranks_settings, network),
     .value = "BITS",
     .help = "bits a second that a rank sends, and receives meanwhile: 10G, 100G, 400G"},
    {.name = "latency",
     .kind = OPTION_NUMBER,
     .offset = offsetof(ranks_settings, latency),
     .low = 0,
     .high = 1e9,
     .value = "US",
     .help = "microseconds that each message takes beside its bytes"},
    {.name = "delay",
     .kind = OPTION_NUMBER,
     .offset = offsetof(ranks_settings, delay),
     .low = 0,
     .high = 1e9,
     .value = "US",
     .help = "microseconds that a message is under way besides; of several at once once"},
    {.name = "flops",
     .kind = OPTION_TEXT,
     .offset = offsetof(ranks_settings, flops),
     .value = "RATE",
     .help = "floating-point operations of a rank a second, at most: 800G, 20T",
     .fallback = "this machine's, measured"},
    {.name = "bandwidth",
     .kind = OPTION_TEXT,
     .offset = offsetof(ranks_settings, bandwidth),
     .value = "BYTES",
     .help = "bytes a second that a rank reads from memory, at most: 200G",
     .fallback = "this machine's, measured"},
    {.name = "efficiency",
     .kind = OPTION_NUMBER,
     .offset = offsetof(ranks_settings, efficiency),
     .low = 0.001,
     .high = 1,
     .value = "X",
     .help = "share of these two that operators reach"},
    {.name = "imbalance",
     .kind = OPTION_NUMBER,
     .offset = offsetof(ranks_settings, imbalance),
     .low = 1,
     .high = 1e5,
     .value = "X",
     .help = "rows of the rank whose experts have most, over the mean: all wait for it"},
    {0},
};

void ranks_defaults(ranks_settings *settings)
{
    settings->model = mixt_model_options_default();
    settings->training = mixt_train_options_default();
    settings->network = "100G";
    settings->latency = 5;
    settings->efficiency = settings->imbalance = 1;
}

/* "100G", "1.5T", "8e9": above 0. */
static bool read_rate(const char *text, double *rate)
{
    static const char units[] = "KMGT";
    char *end;
    *rate = strtod(text, &end);
    const char *unit = *end != 0 ? strchr(units, *end) : NULL;
    for (const char *at = units; unit != NULL && at <= unit; at++) {
        *rate *= 1e3;
    }
    return end != text && (*end == 0 || (unit != NULL && end[1] == 0)) && *rate > 0 && *rate < 1e30;
}

/* Options that say nothing without --ranks are not passed over. */
static int refuse_given(const cli_arguments *arguments)
{
    for (const cli_group *group = arguments->command->groups + 1; group->title != NULL; group++) {
        for (const cli_option *row = group->options; row->name != NULL; row++) {
            if (options_given(arguments, row->name) != NULL) {
                return fail_usage("--%s: of --plan train --ranks N", row->name);
            }
        }
    }
    return STATUS_DONE;
}

int ranks_read(ranks_settings *settings, cli_arguments *arguments, const char *model)
{
    mixt_error error = MIXT_ERROR_INIT;
    double rate;
    if (settings->ranks == 0) {
        return refuse_given(arguments);
    }
    if (options_given(arguments, "tokens") != NULL) {
        return fail_usage("--tokens: not with --ranks, where --batch-size and --window say it");
    }
    if (model != NULL) { /* its shape, which options change */
        mixt_model_options shape;
        char path[4200];
        if (resolve_model(model, path, sizeof path, &error) != MIXT_OK ||
            mixt_model_options_read(path, &shape, &error) != MIXT_OK) {
            return fail_error(&error);
        }
        options_reset(arguments);
        settings->model = shape;
        if (!options_parse(arguments, arguments->argc, arguments->argv)) {
            return options_refused(arguments);
        }
    } else if (options_given(arguments, "kv-heads") == NULL &&
               settings->model.heads % settings->model.kv_heads != 0) {
        settings->model.kv_heads = settings->model.heads;
    }
    if (options_given(arguments, "accumulation") == NULL) {
        settings->training.accumulation = settings->ranks;
    }
    const struct {
        const char *name, *text;
    } rates[] = {{"network", settings->network},
                 {"flops", settings->flops},
                 {"bandwidth", settings->bandwidth}};
    for (size_t i = 0; i < sizeof rates / sizeof *rates; i++) {
        if (rates[i].text != NULL && !read_rate(rates[i].text, &rate)) {
            return fail_usage("--%s: \"%.40s\" is not a rate (100G, 1.5T, 8e9)", rates[i].name,
                              rates[i].text);
        }
    }
    return STATUS_DONE;
}

/* What is not said is this machine's. */
static mixt_status find_limits(const ranks_settings *settings, mixt_ranks_paper *paper,
                               cli_resources *resources, mixt_error *error)
{
    if (settings->flops == NULL || settings->bandwidth == NULL) {
        const machine_settings machine = machine_defaults(MIXT_MATMUL_EXACT);
        mixt_machine_limits limits;
        TRY(open_context(&machine, resources, error));
        mixt_bench_machine(resources->context, &limits);
        bool bf16 = settings->training.bf16 && limits.bf16_flops > 0;
        paper->flops = bf16 ? limits.bf16_flops : limits.fp32_flops;
        paper->read_bytes = limits.read_bytes;
    }
    if (settings->flops != NULL) {
        read_rate(settings->flops, &paper->flops);
    }
    if (settings->bandwidth != NULL) {
        read_rate(settings->bandwidth, &paper->read_bytes);
    }
    read_rate(settings->network, &paper->network_bytes);
    paper->network_bytes /= 8;
    return MIXT_OK;
}

/* ------------------------------------------------------------------------------------------ */
/* Text                                                                                       */

/* "1.25 s", "3.5 ms", "12 us" */
static const char *seconds_text(double seconds, char text[32])
{
    double shown = seconds >= 1 ? seconds : seconds >= 1e-3 ? seconds * 1e3 : seconds * 1e6;
    snprintf(text, 32, "%.4g %s", shown, seconds >= 1 ? "s" : seconds >= 1e-3 ? "ms" : "us");
    return text;
}

static const char *bytes_text(double bytes, char text[24])
{
    format_bytes(bytes, text);
    return text;
}

static void print_way(const char *label, const mixt_ranks_way *way)
{
    char seconds[32], hidden[32], bytes[24], worst[24];
    if (way->count > 0) {
        printf("  %-20s %s sent, at worst %s; %s", label, bytes_text(way->bytes, bytes),
               bytes_text(way->worst_bytes, worst), seconds_text(way->seconds, seconds));
        printf(way->hidden > 0 ? ", %s of it hidden" : "%s",
               way->hidden > 0 ? seconds_text(way->hidden, hidden) : "");
        if (way->chunks > 1) {
            printf("; %lld chunks", (long long)way->chunks);
        }
        printf(way->count > 1 ? "; %d times\n" : "\n", way->count);
    }
}

static void print_seconds(const char *label, double seconds, double step)
{
    char text[32];
    printf("  %-20s %-10s %5.1f %%", label, seconds_text(seconds, text), 100 * seconds / step);
}

static void print_step(const mixt_ranks_cost *c, double imbalance)
{
    char bytes[24], worst[24], text[32];
    printf("\nseconds of a step, and bytes that a rank sends in it (loads of experts %s)\n",
           imbalance > 1 ? "even in bytes" : "even");
    print_seconds("computing", c->compute, c->step);
    printf("\n");
    if (c->expert > 1) {
        print_seconds("exchange of rows", c->exchange, c->step);
        printf("  %s, at worst %s; %.0f %% hidden\n", bytes_text(c->exchange_bytes, bytes),
               bytes_text(c->exchange_worst_bytes, worst), 100 * c->exchange_hidden / c->exchange);
    }
    if (c->data * c->expert > 1) {
        print_seconds("gradients summed", c->reduce, c->step);
        printf("  %s\n", bytes_text(c->reduce_bytes, bytes));
        print_seconds("weights spread", c->spread, c->step);
        printf("  %s\n", bytes_text(c->spread_bytes, bytes));
        print_seconds("numbers of the step", c->numbers, c->step);
        printf("  %s\n", bytes_text(c->numbers_bytes, bytes));
    }
    print_seconds("optimizer", c->optimizer, c->step);
    format_count((uint64_t)c->messages, text);
    printf("\n  %s messages\n", text);
}

static void print_memory(const mixt_ranks_cost *c)
{
    const struct {
        const char *label;
        double bytes;
    } rows[] = {{"weights", c->weights},
                {"gradients", c->gradients},
                {"moments", c->moments},
                {"activations", c->activations},
                {"buffers and inputs", c->buffers},
                {"all", c->memory}};
    char bytes[24];
    printf("\nmemory of a rank\n");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        printf("  %-20s %s", rows[i].label, bytes_text(rows[i].bytes, bytes));
        if (rows[i].bytes == c->activations && c->even_activations < c->activations) {
            printf(" at worst, as it is planned; an even load takes %s",
                   bytes_text(c->even_activations, bytes));
        }
        printf("\n");
    }
}

static void print_cost(const mixt_ranks_paper *paper, const mixt_ranks_cost *c)
{
    char text[32], bytes[24];
    printf("%-22s %d: %d cop%s of the experts, each over %d; a rank holds %d of a layer's\n",
           "ranks", paper->ranks, c->data, c->data == 1 ? "y" : "ies", c->expert, c->experts);
    printf("%-22s %.4g GFLOP/s and %.4g GB/s of memory, %.0f %% of them reached\n",
           "a rank's machine", paper->flops / 1e9, paper->read_bytes / 1e9,
           100 * paper->efficiency);
    printf("%-22s %.4g GB/s each way, %s a message", "network", paper->network_bytes / 1e9,
           seconds_text(paper->latency, text));
    printf(paper->delay > 0 ? ", %s under way\n" : "\n", seconds_text(paper->delay, text));
    if (paper->imbalance > 1) {
        printf("%-22s %.4g times the mean rows on the rank that has most\n", "imbalance",
               paper->imbalance);
    }
    printf("%-22s %s", "step", seconds_text(c->step, text));
    format_count((uint64_t)c->tokens, text);
    printf(" for %s tokens", text);
    format_count((uint64_t)c->micro_tokens, text);
    printf(": each rank runs %lld micro batch%s of %s\n", (long long)c->runs,
           c->runs == 1 ? "" : "es", text);
    printf("%-22s %.5g tokens a second\n", "speed", (double)c->tokens / c->step);
    printf("%-22s %s and %s of memory for the same step\n", "one rank alone",
           seconds_text(c->alone_step, text), bytes_text(c->alone_memory, bytes));
    printf("%-22s %.1f %% of %d times as fast\n", "efficiency", 100 * c->efficiency, paper->ranks);
    print_step(c, paper->imbalance);
    if (c->expert > 1) {
        printf("\nrows of a layer's micro batch, %d layer%s\n", c->moe_layers,
               plural((uint64_t)c->moe_layers));
        print_way("forward, to experts", &c->forward_out);
        print_way("forward, back", &c->forward_back);
        print_way("backward, to experts", &c->backward_out);
        print_way("backward, back", &c->backward_back);
    }
    print_memory(c);
}

/* ------------------------------------------------------------------------------------------ */
/* JSON                                                                                       */

static void print_field(const char *name, double value)
{
    printf(", \"%s\": ", name);
    print_json_measure(stdout, value);
}

static void print_way_json(const char *name, const mixt_ranks_way *way)
{
    printf(", \"%s\": {\"count\": %d", name, way->count);
    print_field("bytes", way->bytes);
    print_field("worst_bytes", way->worst_bytes);
    print_field("seconds", way->seconds);
    print_field("hidden_seconds", way->hidden);
    printf(", \"chunks\": %d}", (int)way->chunks);
}

static void print_cost_json(const mixt_ranks_paper *p, const mixt_ranks_cost *c)
{
    const struct {
        const char *name;
        double value;
    } fields[] = {{"flops", p->flops},
                  {"read_bytes", p->read_bytes},
                  {"reached", p->efficiency},
                  {"imbalance", p->imbalance},
                  {"network_bytes", p->network_bytes},
                  {"latency_seconds", p->latency},
                  {"delay_seconds", p->delay},
                  {"step_seconds", c->step},
                  {"compute_seconds", c->compute},
                  {"exchange_seconds", c->exchange},
                  {"exchange_hidden_seconds", c->exchange_hidden},
                  {"reduce_seconds", c->reduce},
                  {"spread_seconds", c->spread},
                  {"numbers_seconds", c->numbers},
                  {"optimizer_seconds", c->optimizer},
                  {"exchange_bytes", c->exchange_bytes},
                  {"exchange_worst_bytes", c->exchange_worst_bytes},
                  {"reduce_bytes", c->reduce_bytes},
                  {"spread_bytes", c->spread_bytes},
                  {"numbers_bytes", c->numbers_bytes},
                  {"messages", c->messages},
                  {"weights_memory", c->weights},
                  {"gradients_memory", c->gradients},
                  {"moments_memory", c->moments},
                  {"activations_memory", c->activations},
                  {"even_activations_memory", c->even_activations},
                  {"buffers_memory", c->buffers},
                  {"memory", c->memory},
                  {"alone_step_seconds", c->alone_step},
                  {"alone_memory", c->alone_memory},
                  {"efficiency", c->efficiency}};
    printf("{\"ranks\": %d, \"data_parallel\": %d, \"expert_parallel\": %d, \"experts_held\": %d, "
           "\"moe_layers\": %d, \"runs\": %lld, \"micro_tokens\": %lld, \"tokens\": %lld",
           p->ranks, c->data, c->expert, c->experts, c->moe_layers, (long long)c->runs,
           (long long)c->micro_tokens, (long long)c->tokens);
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        print_field(fields[i].name, fields[i].value);
    }
    print_way_json("forward_out", &c->forward_out);
    print_way_json("forward_back", &c->forward_back);
    print_way_json("backward_out", &c->backward_out);
    print_way_json("backward_back", &c->backward_back);
    printf("}\n");
}

mixt_status ranks_print(const ranks_settings *settings, bool json, cli_resources *resources,
                        mixt_error *error)
{
    mixt_ranks_paper paper = {.ranks = settings->ranks,
                              .data = settings->data,
                              .expert = settings->expert,
                              .efficiency = settings->efficiency,
                              .imbalance = settings->imbalance,
                              .chunks = settings->chunks,
                              .latency = settings->latency * 1e-6,
                              .delay = settings->delay * 1e-6};
    mixt_ranks_cost cost;
    TRY(find_limits(settings, &paper, resources, error));
    TRY(mixt_ranks_predict(&settings->model, &settings->training, &paper, &cost, error));
    (json ? print_cost_json : print_cost)(&paper, &cost);
    return MIXT_OK;
}
