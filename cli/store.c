#include "store.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "terminal.h"

const cli_option options_store[] = {
    {.name = "memory",
     .kind = OPTION_TEXT,
     .offset = offsetof(store_settings, memory),
     .value = "SIZE",
     .help = "12G, 800M or 12.5GiB for weights, caches and plans: experts that do not fit are read "
             "from disk as routers choose them; auto: what machine and cgroup have free, where the "
             "model is larger; all: the files are mapped, however large"},
    {.name = "store-policy",
     .kind = OPTION_TEXT,
     .offset = offsetof(store_settings, policy),
     .value = "NAME",
     .help = "which expert makes room for another (docs/larger-than-memory.md lists them)",
     .fallback = "the first of them"},
    {.name = "store-profile",
     .kind = OPTION_TEXT,
     .offset = offsetof(store_settings, profile),
     .value = "TRACE",
     .help = "a trace of the model: the order of static, and the shares that fading begins with; "
             "lru and lfu refuse it"},
    {.name = "store-prefetch",
     .kind = OPTION_CHOICE,
     .offset = offsetof(store_settings, prefetch),
     .choices = "measured never always",
     .help = "experts that the next layer may choose are read before it has chosen; measured: "
             "where that was faster"},
    {.name = "store-reader",
     .kind = OPTION_CHOICE,
     .offset = offsetof(store_settings, reader),
     .choices = "auto ring threads",
     .help = "how files are read: by io_uring (ring) or threads that pread"},
    {.name = "store-report",
     .kind = OPTION_FLAG,
     .offset = offsetof(store_settings, report),
     .help = "say at the end what was where, what hit, what was read, and what other policies and "
             "more memory would have brought"},
    {0},
};

store_settings store_defaults(void)
{
    return (store_settings){.memory = "auto"};
}

bool store_size(const char *text, uint64_t *bytes)
{
    static const struct {
        const char *unit;
        double bytes;
    } units[] = {{"", 1e9},     {"B", 1},         {"kB", 1e3},         {"K", 1e3},     {"MB", 1e6},
                 {"M", 1e6},    {"GB", 1e9},      {"G", 1e9},          {"TB", 1e12},   {"T", 1e12},
                 {"KiB", 1024}, {"MiB", 1048576}, {"GiB", 1073741824}, {"TiB", 0x1p40}};
    size_t length = strspn(text, "0123456789.");
    char *end;
    double value = strtod(text, &end);
    if (length == 0 || end != text + length || !(value > 0)) {
        return false;
    }
    end += strspn(end, " ");
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        double size = value * units[i].bytes;
        if (strcasecmp(end, units[i].unit) == 0 && size >= 1 && size < 1e18) {
            *bytes = (uint64_t)size;
            return true;
        }
    }
    return false;
}

bool store_is_off(const store_settings *settings)
{
    return strcmp(settings->memory, "all") == 0;
}

static bool is_automatic(const store_settings *settings)
{
    return strcmp(settings->memory, "auto") == 0;
}

static int refuse_policy(const char *name)
{
    char names[300] = "";
    const char *known;
    size_t used = 0;
    for (int i = 0; (known = mixt_store_policy(i, NULL)) != NULL; i++) {
        if (strcmp(name, known) == 0) {
            return STATUS_DONE;
        }
        int length = snprintf(names + used, sizeof names - used, " %s", known);
        used += length > 0 && used + (size_t)length < sizeof names ? (size_t)length : 0;
    }
    return fail_usage("--store-policy: \"%.40s\" is not one of:%s", name, names);
}

int store_check(const store_settings *settings, const cli_arguments *arguments, bool no_mmap)
{
    static const char *const names[] = {"store-policy", "store-profile", "store-prefetch",
                                        "store-reader", "store-report"};
    uint64_t bytes;
    bool off = store_is_off(settings);
    if (!off && !is_automatic(settings) && !store_size(settings->memory, &bytes)) {
        return fail_usage("--memory: \"%.40s\" is not a size (12G, 800M, 12.5GiB), auto or all",
                          settings->memory);
    }
    if (no_mmap && !off && options_given(arguments, "memory") != NULL) {
        return fail_usage("--no-mmap and --memory: the whole model is read, or what fits");
    }
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if ((off || no_mmap) && options_given(arguments, names[i]) != NULL) {
            return fail_usage("--%s: does nothing with %s", names[i],
                              off ? "--memory all" : "--no-mmap");
        }
    }
    return settings->policy != NULL ? refuse_policy(settings->policy) : STATUS_DONE;
}

/* "12.0 of 18.5 GB of weights fit the 10.4 GB that the cgroup leaves". */
static void say_stored(const store_settings *settings, const mixt_model *model)
{
    mixt_store_statistics store;
    mixt_model_info info;
    char held[24], all[24], memory[24], whose[80] = "of --memory";
    if (!mixt_store_describe(model, &store)) {
        return;
    }
    mixt_model_describe(model, &info);
    if (is_automatic(settings)) {
        const char *limit = "";
        mixt_memory_limit(&limit);
        snprintf(whose, sizeof whose, "that %.60s leaves", limit);
    }
    double fits = (double)store.resident_bytes + (double)store.pool_bytes;
    format_bytes(fits, held);
    format_bytes((double)info.weight_bytes, all);
    format_bytes((double)store.memory, memory);
    if (store.slots < store.experts) {
        say(stderr, "note: %s of %s of weights fit the %s %s", held, all, memory, whose);
    } else {
        say(stderr, "note: %s of weights do not fit the %s %s with caches and plans", all, memory,
            whose);
    }
    fputs(": experts are read from disk as routers choose them (--memory)\n", stderr);
}

static mixt_store_options options_of(const store_settings *settings)
{
    mixt_store_options options = {.policy = settings->policy,
                                  .profile = settings->profile,
                                  .reader = (mixt_store_reader)settings->reader,
                                  .prefetch = (mixt_store_prefetch)settings->prefetch};
    if (!is_automatic(settings)) {
        store_size(settings->memory, &options.memory);
    }
    return options;
}

mixt_status store_model(const store_settings *settings, mixt_model *model, mixt_error *error)
{
    if (store_is_off(settings)) {
        return MIXT_OK;
    }
    const mixt_store_options options = options_of(settings);
    mixt_error local = MIXT_ERROR_INIT;
    mixt_status status = mixt_model_store(model, &options, &local);
    bool stays = status == MIXT_ERROR_MEMORY || status == MIXT_ERROR_UNSUPPORTED;
    if (stays && is_automatic(settings)) {
        say(stderr, "note: %s; its files stay mapped, and are read as the system sees fit\n",
            local.message);
        return MIXT_OK;
    }
    if (status != MIXT_OK) {
        return set_error(error, status, "%s", local.message);
    }
    say_stored(settings, model);
    return MIXT_OK;
}

void store_say_context(const mixt_model *model, const store_context *is)
{
    mixt_store_statistics store;
    mixt_model_info info;
    char memory[24], other[24];
    if (!mixt_store_describe(model, &store)) {
        return;
    }
    mixt_model_describe(model, &info);
    int usual = info.options.context_length < MIXT_CONTEXT_USUAL ? info.options.context_length
                                                                 : MIXT_CONTEXT_USUAL;
    int64_t all = (int64_t)is->context * is->sequences;
    format_bytes((double)store.memory, memory);
    format_bytes((double)store.other_bytes, other);
    if (is->asked == 0 && is->context < usual) {
        say(stderr,
            "note: the context has %d tokens, whose cache and plans take %s: the usual %d do not "
            "fit the %s of memory (-c N, --cache-type q8_0 or a larger --memory)\n",
            is->context, other, usual, memory);
    } else if (is->positions_asked == 0 && is->positions < all) {
        say(stderr,
            "note: the cache has %lld positions for all texts, and with plans %s: %d times %d do "
            "not fit the %s of memory (--cache-positions, -np, -c or a larger --memory)\n",
            (long long)is->positions, other, is->sequences, is->context, memory);
    }
}

static void say_lines(const char *text)
{
    for (const char *line = text; *line != 0; line += line[0] == '\n') {
        int length = (int)strcspn(line, "\n");
        say(stderr, "%.*s\n", length, line);
        line += length;
    }
}

void store_print_report(const mixt_model *model)
{
    mixt_store_statistics store;
    mixt_error error = MIXT_ERROR_INIT;
    char *text = NULL;
    if (model == NULL) {
        return;
    }
    if (!mixt_store_describe(model, &store)) {
        fputs("store: the weights are in memory or mapped, nothing was stored\n", stderr);
    } else if (mixt_store_report(model, &text, &error) == MIXT_OK) {
        say_lines(text);
    } else {
        say(stderr, "store: %s\n", error.message);
    }
    free(text);
}

/* ---- what would be */

/* Shares of the wishes of a router that chooses evenly which a pool of so many experts has. */
static double even_share(const mixt_store_statistics *plan)
{
    return plan->experts > 0 ? (double)plan->slots / (double)plan->experts : 1;
}

static void print_size(const char *label, uint64_t bytes, const char *behind)
{
    char text[24];
    format_bytes((double)bytes, text);
    printf("%-22s %s%s\n", label, text, behind);
}

static void print_plan(const mixt_store_statistics *plan)
{
    char behind[120], bytes[24];
    print_size("memory", plan->memory, "");
    print_size("stays in memory", plan->resident_bytes, " that every token reads");
    if (plan->slots >= plan->experts) {
        print_size("experts", plan->expert_bytes, ": all of them fit, nothing is read twice");
        return;
    }
    format_bytes((double)plan->expert_bytes, bytes);
    snprintf(behind, sizeof behind, " of %s: %lld of %lld at a time, %s", bytes,
             (long long)plan->slots, (long long)plan->experts, plan->policy);
    print_size("experts", plan->pool_bytes, behind);
    print_size("one token's experts", plan->token_bytes, "");
    printf("%-22s %.1f %% if all experts were wanted alike\n", "hits", 100 * even_share(plan));
    if (plan->pool_bytes < plan->token_bytes) {
        printf("%-22s less than one token works with: what it read is gone before the next one "
               "wants it\n",
               "warning");
    }
}

static void print_plan_json(const mixt_store_statistics *plan)
{
    printf("{\"memory\": %llu, \"resident_bytes\": %llu, \"pool_bytes\": %llu, \"expert_bytes\": "
           "%llu, \"token_bytes\": %llu, \"experts\": %lld, \"slots\": %lld, \"uniform\": ",
           (unsigned long long)plan->memory, (unsigned long long)plan->resident_bytes,
           (unsigned long long)plan->pool_bytes, (unsigned long long)plan->expert_bytes,
           (unsigned long long)plan->token_bytes, (long long)plan->experts, (long long)plan->slots);
    print_json_number(stdout, even_share(plan));
    printf(", \"below_one_token\": %s}\n",
           plan->slots < plan->experts && plan->pool_bytes < plan->token_bytes ? "true" : "false");
}

mixt_status store_print_plan(const char *memory, const mixt_model *model, bool json,
                             mixt_error *error)
{
    store_settings settings = store_defaults();
    mixt_store_statistics plan;
    settings.memory = memory;
    const mixt_store_options options = options_of(&settings);
    TRY(mixt_store_plan(model, &options, &plan, error));
    (json ? print_plan_json : print_plan)(&plan);
    return MIXT_OK;
}

/* ---- statistics */

void store_subtract(mixt_store_statistics *statistics, const mixt_store_statistics *before)
{
    statistics->steps -= before->steps;
    statistics->rows -= before->rows;
    statistics->requests -= before->requests;
    statistics->hits -= before->hits;
    statistics->bytes_read -= before->bytes_read;
    statistics->seconds -= before->seconds;
    statistics->disk_seconds -= before->disk_seconds;
    statistics->wait_seconds -= before->wait_seconds;
    statistics->prefetched -= before->prefetched;
    statistics->prefetch_used -= before->prefetch_used;
    statistics->prefetch_bytes_wasted -= before->prefetch_bytes_wasted;
}

static void print_whole(const char *name, uint64_t value)
{
    printf("\"%s\": %llu, ", name, (unsigned long long)value);
}

static void print_seconds(const char *name, double value)
{
    printf("\"%s\": ", name);
    print_json_measure(stdout, value);
    printf(", ");
}

void store_print_json(const mixt_store_statistics *s)
{
    if (s == NULL) {
        printf("null");
        return;
    }
    putchar('{');
    print_whole("memory", s->memory);
    print_whole("resident_bytes", s->resident_bytes);
    print_whole("other_bytes", s->other_bytes);
    print_whole("pool_bytes", s->pool_bytes);
    print_whole("expert_bytes", s->expert_bytes);
    print_whole("token_bytes", s->token_bytes);
    print_whole("experts", (uint64_t)s->experts);
    print_whole("slots", (uint64_t)s->slots);
    printf("\"policy\": ");
    print_json_text(stdout, s->policy);
    printf(", \"reader\": ");
    print_json_text(stdout, s->reader);
    printf(", ");
    print_whole("steps", s->steps);
    print_whole("rows", s->rows);
    print_whole("requests", s->requests);
    print_whole("hits", s->hits);
    print_whole("bytes_read", s->bytes_read);
    print_seconds("seconds", s->seconds);
    print_seconds("disk_seconds", s->disk_seconds);
    print_seconds("wait_seconds", s->wait_seconds);
    print_whole("prefetched", s->prefetched);
    print_whole("prefetch_used", s->prefetch_used);
    print_whole("prefetch_bytes_wasted", s->prefetch_bytes_wasted);
    print_seconds("prefetch_recall", s->prefetch_recall);
    printf("\"prefetching\": %s}", s->prefetching ? "true" : "false");
}
