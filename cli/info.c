/* mixt info: what a model folder holds, its size, its plans; and what the machine is. */
#include <stdlib.h>
#include <string.h>

#include "info_ranks.h"
#include "terminal.h"

typedef struct info_settings {
    const char *model;
    int plan; /* place in the choices below */
    int tokens;
    bool tensors;
    bool families;
    bool check;
    bool options;
    bool machine;
    bool json;
    const char *memory; /* NULL: not asked */
    ranks_settings ranks;
} info_settings;

static const char *const phases[] = {NULL, "train", "score", "prefill", "decode"};

static const cli_option info_options[] = {
    OPTION_OF_MODEL(info_settings, model),
    {.name = "families",
     .kind = OPTION_FLAG,
     .offset = offsetof(info_settings, families),
     .help = "list the families of models that mixt knows"},
    {.name = "check",
     .kind = OPTION_FLAG,
     .offset = offsetof(info_settings, check),
     .help = "read every weight and refuse NaN and Inf"},
    {.name = "plan",
     .kind = OPTION_CHOICE,
     .offset = offsetof(info_settings, plan),
     .choices = "none train score prefill decode",
     .help = "print the plan of a phase: one operator a line with shapes, memory and cost"},
    {.name = "tokens",
     .letter = 'n',
     .kind = OPTION_INT,
     .offset = offsetof(info_settings, tokens),
     .low = 1,
     .high = 1 << 24,
     .help = "tokens that the plan is for",
     .fallback = "the context; 1 for decode"},
    {.name = "tensors",
     .kind = OPTION_FLAG,
     .offset = offsetof(info_settings, tensors),
     .help = "list the parameter tensors"},
    {.name = "options",
     .kind = OPTION_FLAG,
     .offset = offsetof(info_settings, options),
     .help = "read the configuration alone (MODEL may be a config.json) and print every option "
             "that it gives"},
    {.name = "machine",
     .kind = OPTION_FLAG,
     .offset = offsetof(info_settings, machine),
     .help = "measure this machine instead: kernels, threads, what it reads and computes in a "
             "second, and how bf16 products are computed"},
    {.name = "memory",
     .kind = OPTION_TEXT,
     .offset = offsetof(info_settings, memory),
     .value = "SIZE",
     .help =
         "print how the model would be held in so much memory, 12G, 800M, 12.5GiB or auto: what "
         "stays there, and how many experts fit (mixt run --memory)"},
    {.name = "json",
     .kind = OPTION_FLAG,
     .offset = offsetof(info_settings, json),
     .help = "print JSON"},
    {0},
};

static void print_count(const char *label, uint64_t count, const char *behind)
{
    char text[32];
    format_count(count, text);
    printf("%-22s %s%s\n", label, text, behind);
}

static void print_types(const mixt_model_info *info)
{
    printf("\n%-8s %10s %16s %12s\n", "type", "tensors", "parameters", "bytes");
    for (int i = 0; i < info->type_count; i++) {
        const mixt_type_use *use = &info->types[i];
        char parameters[32];
        char bytes[24];
        format_count(use->parameters, parameters);
        format_bytes((double)use->bytes, bytes);
        printf("%-8s %10d %16s %12s\n", use->type, use->tensors, parameters, bytes);
    }
}

static bool has_weightless(const mixt_model_options *o)
{
    return o->identity_experts > 0 || o->zero_experts > 0;
}

static void print_experts(const mixt_model_info *info)
{
    const mixt_model_options *o = &info->options;
    if (o->experts == 0) {
        printf("%-22s none (dense, width %d)\n", "experts", o->ffn_size);
        return;
    }
    printf("%-22s %d of width %d", "experts", o->experts, o->ffn_size);
    if (o->identity_experts > 0) {
        printf(", %d identity", o->identity_experts);
    }
    if (o->zero_experts > 0) {
        printf(", %d zero", o->zero_experts);
    }
    if (has_weightless(o)) {
        printf("; %d of %d for a token", o->experts_per_token,
               o->experts + o->identity_experts + o->zero_experts);
    } else {
        printf(", %d for a token", o->experts_per_token);
    }
    printf(o->shared_experts > 0 ? ", %d always on\n" : "\n", o->shared_experts);
    printf("%-22s %s\n", "routing", info->routing);
}

static void print_info(const mixt_model_info *info)
{
    const mixt_model_options *o = &info->options;
    char bytes[24];
    format_bytes((double)info->weight_bytes, bytes);
    printf("%-22s %s (%s)\n", "family", info->family, info->title);
    print_count("parameters", info->parameters_total, "");
    print_count("active for a token", info->parameters_active,
                has_weightless(o) ? ", fewer where a choice is an identity or zero expert" : "");
    printf("%-22s %s, %.2f bits a weight\n", "weights", bytes, info->bits_per_weight);
    if (info->file_type != NULL) {
        printf("%-22s %s\n", "file type", info->file_type);
    }
    if (info->adapter != NULL) {
        printf("%-22s %s\n", "adapter", info->adapter);
    }
    printf("%-22s %d, %d of them with experts\n", "layers", o->layers, info->moe_layers);
    printf("%-22s %d\n", "hidden size", o->hidden_size);
    printf("%-22s %d of %d, %d for keys and values\n", "heads", o->heads, o->head_dim, o->kv_heads);
    print_experts(info);
    print_count("vocabulary", (uint64_t)o->vocab_size, "");
    print_count("context", (uint64_t)o->context_length, " tokens");
    print_types(info);
}

static void print_info_json(const mixt_model_info *info)
{
    const mixt_model_options *o = &info->options;
    printf("{\"family\": ");
    print_json_text(stdout, info->family);
    printf(", \"parameters_total\": %llu, \"parameters_active\": %llu, \"weight_bytes\": %llu, "
           "\"bits_per_weight\": %.4f, \"layers\": %d, \"moe_layers\": %d, \"hidden_size\": %d, "
           "\"heads\": %d, \"kv_heads\": %d, \"head_dim\": %d, \"ffn_size\": %d, \"experts\": %d, "
           "\"identity_experts\": %d, \"zero_experts\": %d, "
           "\"experts_per_token\": %d, \"shared_experts\": %d, \"vocab_size\": %d, "
           "\"context_length\": %d, \"routing\": ",
           (unsigned long long)info->parameters_total, (unsigned long long)info->parameters_active,
           (unsigned long long)info->weight_bytes, info->bits_per_weight, o->layers,
           info->moe_layers, o->hidden_size, o->heads, o->kv_heads, o->head_dim, o->ffn_size,
           o->experts, o->identity_experts, o->zero_experts, o->experts_per_token,
           o->shared_experts, o->vocab_size, o->context_length);
    print_json_text(stdout, info->routing);
    printf(", \"file_type\": ");
    if (info->file_type == NULL) {
        printf("null");
    } else {
        print_json_text(stdout, info->file_type);
    }
    if (info->adapter != NULL) {
        printf(", \"adapter\": ");
        print_json_text(stdout, info->adapter);
    }
    printf(", \"types\": [");
    for (int i = 0; i < info->type_count; i++) {
        const mixt_type_use *use = &info->types[i];
        printf("%s{\"type\": \"%s\", \"tensors\": %d, \"parameters\": %llu, \"bytes\": %llu}",
               i > 0 ? ", " : "", use->type, use->tensors, (unsigned long long)use->parameters,
               (unsigned long long)use->bytes);
    }
    printf("]}\n");
}

static void print_families(bool json)
{
    if (!json) {
        printf("%-12s %-12s %-10s %s\n", "model_type", "GGUF", "training", "family");
    }
    for (int i = 0; i < mixt_family_count(); i++) {
        mixt_family_info family;
        mixt_family_describe(i, &family);
        if (json) {
            printf("%s{\"name\": \"%s\", \"gguf\": \"%s\", \"trainable\": %s, \"title\": ",
                   i > 0 ? ", " : "[", family.name, family.gguf_arch,
                   family.trainable ? "true" : "false");
            print_json_text(stdout, family.title);
            printf("}");
        } else {
            printf("%-12s %-12s %-10s %s\n", family.name, family.gguf_arch,
                   family.trainable ? "yes" : "no", family.title);
        }
    }
    printf(json ? "]\n" : "");
}

static void print_tensors(const mixt_model *model)
{
    int count = mixt_model_tensor_count(model);
    for (int i = 0; i < count; i++) {
        int64_t shape[4] = {0};
        const char *name = mixt_model_tensor(model, i, shape);
        printf("%-60s [", name);
        for (int d = 0; d < 4 && shape[d] != 0; d++) {
            printf(d > 0 ? ", %lld" : "%lld", (long long)shape[d]);
        }
        printf("]\n");
    }
}

static mixt_status print_plan(const info_settings *settings, const mixt_model *model,
                              int context_length, mixt_error *error)
{
    char *text;
    int tokens = settings->tokens > 0               ? settings->tokens
                 : phases[settings->plan][0] == 'd' ? 1
                 : context_length > 0               ? context_length
                                                    : 1;
    TRY(mixt_model_plan_text(model, phases[settings->plan], tokens, &text, error));
    fputs(text, stdout);
    free(text);
    return MIXT_OK;
}

static mixt_status print_options(const info_settings *settings, mixt_error *error)
{
    mixt_model_options options;
    char path[4200];
    const char *name;
    double value;
    TRY(resolve_model(settings->model, path, sizeof path, error));
    TRY(mixt_model_options_read(path, &options, error));
    for (int i = 0; mixt_model_option(&options, i, &name, &value); i++) {
        if (settings->json) {
            printf("%s\"%s\": ", i == 0 ? "{" : ", ", name);
            print_json_number(stdout, value);
        } else {
            printf("%-30s %.10g\n", name, value);
        }
    }
    printf(settings->json ? "}\n" : "");
    return MIXT_OK;
}

static void print_rate(const char *label, double rate, const char *unit)
{
    if (rate > 0) {
        printf("%-22s %.0f %s\n", label, rate / 1e9, unit);
    }
}

static void print_machine(const mixt_host *host)
{
    printf("%-22s %s\n%-22s %d\n", "kernels", host->cpu, "threads", host->threads);
    print_rate("reads", host->limits.read_bytes, "GB/s");
    print_rate("fp32", host->limits.fp32_flops, "GFLOP/s at most");
    print_rate("bf16 instruction", host->limits.bf16_flops, "GFLOP/s at most");
    print_rate("int8", host->limits.int8_flops, "GOP/s at most");
    printf("%-22s %.0f GFLOP/s\n", "--matmul exact", host->exact_flops / 1e9);
    for (int i = 0; i < host->bf16_ways; i++) {
        printf("%-22s %s, %.0f GFLOP/s%s\n", i == 0 ? "--matmul bf16" : "", host->bf16_names[i],
               host->bf16_flops[i] / 1e9, i == host->bf16_chosen ? ", taken" : "");
    }
}

static void print_machine_json(const mixt_host *host)
{
    printf("{\"cpu\": \"%s\", \"threads\": %d, \"read_bytes\": %.6g, \"fp32_flops\": %.6g, "
           "\"bf16_flops\": %.6g, \"int8_flops\": %.6g, \"exact_flops\": %.6g, "
           "\"bf16_way\": \"%s\", \"bf16_ways\": {",
           host->cpu, host->threads, host->limits.read_bytes, host->limits.fp32_flops,
           host->limits.bf16_flops, host->limits.int8_flops, host->exact_flops,
           host->bf16_names[host->bf16_chosen]);
    for (int i = 0; i < host->bf16_ways; i++) {
        printf("%s\"%s\": %.6g", i > 0 ? ", " : "", host->bf16_names[i], host->bf16_flops[i]);
    }
    printf("}}\n");
}

static mixt_status describe_machine(const void *user, cli_resources *resources, mixt_error *error)
{
    const info_settings *settings = user;
    const machine_settings machine = machine_defaults(MIXT_MATMUL_EXACT);
    mixt_host host;
    TRY(open_context(&machine, resources, error));
    mixt_bench_host(resources->context, &host);
    (settings->json ? print_machine_json : print_machine)(&host);
    return MIXT_OK;
}

static mixt_status describe(const void *user, cli_resources *resources, mixt_error *error)
{
    const info_settings *settings = user;
    if (settings->ranks.ranks > 0) {
        return ranks_print(&settings->ranks, settings->json, resources, error);
    }
    if (settings->options) {
        return print_options(settings, error);
    }
    TRY(open_model(settings->model, resources, error));
    if (settings->check) {
        TRY(mixt_model_verify(resources->model, error));
    }
    if (settings->memory != NULL) {
        return store_print_plan(settings->memory, resources->model, settings->json, error);
    }
    mixt_model_info info;
    mixt_model_describe(resources->model, &info);
    if (settings->json) {
        print_info_json(&info);
    } else if (settings->plan == 0 && !settings->tensors) {
        print_info(&info);
    }
    if (settings->tensors) {
        print_tensors(resources->model);
    }
    return settings->plan > 0
               ? print_plan(settings, resources->model, info.options.context_length, error)
               : MIXT_OK;
}

static void info_defaults(void *user)
{
    info_settings *settings = user;
    ranks_defaults(&settings->ranks);
}

static int run_info(void *user, cli_arguments *arguments)
{
    info_settings *settings = user;
    uint64_t bytes;
    bool other = settings->families || settings->machine || settings->memory != NULL ||
                 settings->tensors || settings->options || settings->check || settings->plan != 1;
    if (settings->ranks.ranks > 0 && other) {
        return fail_usage("--ranks: goes with --plan train, and MODEL or a shape, alone");
    }
    int status = ranks_read(&settings->ranks, arguments, settings->model);
    if (status != STATUS_DONE || settings->ranks.ranks > 0) {
        return status != STATUS_DONE ? status : with_resources(describe, settings);
    }
    if (settings->families) {
        print_families(settings->json);
        return STATUS_DONE;
    }
    if (settings->machine) {
        return with_resources(describe_machine, settings);
    }
    if (settings->model == NULL) {
        return fail_usage("--model: needed");
    }
    if (settings->memory != NULL && strcmp(settings->memory, "auto") != 0 &&
        !store_size(settings->memory, &bytes)) {
        return fail_usage("--memory: \"%.40s\" is not a size (12G, 800M, 12.5GiB) or auto",
                          settings->memory);
    }
    if (settings->memory != NULL &&
        (settings->plan > 0 || settings->tensors || settings->options)) {
        return fail_usage("--memory: not with --plan, --tensors or --options");
    }
    return with_resources(describe, settings);
}

const cli_command command_info = {
    .name = "info",
    .summary = "what a model holds: shape, parameters, plan",
    .synopsis = "(MODEL [--check] [--plan PHASE] [--tensors] | MODEL --memory SIZE | "
                "--plan train --ranks N [MODEL] [shape] | MODEL --options | --families | "
                "--machine) [--json]",
    .about =
        "Describes a model: family, total and active parameters, memory by type of weight, "
        "how tokens are routed. --plan prints the operators of a phase with shapes, memory "
        "and cost; --plan train --ranks N what a step over N ranks would cost: seconds, bytes, "
        "memory (docs/distributed.md). --check reads every weight. --machine measures what this "
        "machine can do.",
    .examples = "  mixt info demo/model\n  mixt info demo/model --plan decode\n"
                "  mixt info model-Q4_K_M.gguf --check\n  mixt info --machine\n"
                "  mixt info model-Q4_K_M.gguf --memory 12G\n"
                "  mixt info config.json --plan train --ranks 64 --network 100G --window 4096\n",
    .positional = "model",
    .groups =
        (const cli_group[]){
            {"options", info_options, 0},
            {"ranks, on paper", options_ranks_cost, offsetof(info_settings, ranks)},
            {"training over them", options_training, offsetof(info_settings, ranks.training)},
            {"the shape that is trained", options_model, offsetof(info_settings, ranks.model)},
            {"its router", options_router, offsetof(info_settings, ranks.model.router)},
            {0}},
    .settings_size = sizeof(info_settings),
    .defaults = info_defaults,
    .run = run_info,
};
