/* mixt serve: a model for many clients over HTTP. */
#include "../serve/serve.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "files.h"
#include "interrupt.h"
#include "shared.h"

enum {
    KEY_FILE_MAX = 1 << 20,
    WATCH_MICROSECONDS = 200000,
    DRAIN_MICROSECONDS = 10000,
    FILES_BESIDE = 64, /* descriptors for other things than connections */
};

typedef struct serve_settings {
    model_settings model;
    const char *host, *key_file, *template, *variables;
    string_list aliases, keys, host_names, origins;
    int port, context_length, parallel, batch, pooling;
    cache_settings cache;
    int latent; /* mixt_latent */
    int64_t cache_positions, body_bytes, buffer_bytes;
    int connections, header_bytes, queue, choices, timeout, experts_max;
    bool metrics, props, slots, log, share;
} serve_settings;

#define AT(member) offsetof(serve_settings, member)

static const cli_option listen_options[] = {
    {.name = "host",
     .kind = OPTION_TEXT,
     .offset = AT(host),
     .value = "ADDRESS",
     .help = "address to listen at; 0.0.0.0: every one of this machine"},
    {.name = "port",
     .kind = OPTION_INT,
     .offset = AT(port),
     .low = 0,
     .high = 65535,
     .help = "port to listen at; 0: one that is free, which is printed"},
    {.name = "api-key",
     .kind = OPTION_LIST,
     .offset = AT(keys),
     .value = "KEY",
     .help = "clients have to know one of these (Authorization: Bearer KEY)",
     .fallback = "none is needed"},
    {.name = "api-key-file",
     .kind = OPTION_TEXT,
     .offset = AT(key_file),
     .value = "FILE",
     .help = "more of them, one a line"},
    {.name = "allow-host",
     .kind = OPTION_LIST,
     .offset = AT(host_names),
     .value = "NAME",
     .help = "names that clients of this machine may call it by, beside localhost (a proxy's)"},
    {.name = "cors-origin",
     .kind = OPTION_LIST,
     .offset = AT(origins),
     .value = "ORIGIN",
     .help = "pages of these origins (https://example.org), or of every one (*), may ask",
     .fallback = "only our own"},
    {.name = "timeout",
     .kind = OPTION_INT,
     .offset = AT(timeout),
     .low = 1,
     .high = 86400,
     .help = "seconds without a byte after which a connection is closed",
     .aliases = "-to"},
    {.name = "connections",
     .kind = OPTION_INT,
     .offset = AT(connections),
     .low = 1,
     .high = 1000000,
     .help = "open at once; more wait"},
    {.name = "header-bytes",
     .kind = OPTION_INT,
     .offset = AT(header_bytes),
     .low = 1024,
     .high = 1 << 20,
     .help = "most in the headers of a request"},
    {.name = "body-bytes",
     .kind = OPTION_LONG,
     .offset = AT(body_bytes),
     .low = 1024,
     .high = 1e10,
     .help = "most in the body of a request"},
    {.name = "buffer-bytes",
     .kind = OPTION_LONG,
     .offset = AT(buffer_bytes),
     .low = 4096,
     .high = 1e10,
     .help = "that the reader of a stream may be behind before its text waits"},
    {.name = "queue",
     .kind = OPTION_INT,
     .offset = AT(queue),
     .low = 1,
     .high = 1000000,
     .help = "requests that run or wait; further ones are told to come again"},
    {.name = "choices",
     .kind = OPTION_INT,
     .offset = AT(choices),
     .low = 1,
     .high = 4096,
     .help = "most that one request may ask for: prompts times n"},
    {.name = "metrics", .kind = OPTION_FLAG, .offset = AT(metrics), .help = "/metrics is there"},
    {.name = "props", .kind = OPTION_FLAG, .offset = AT(props), .help = "/props is there"},
    {.name = "slots", .kind = OPTION_FLAG, .offset = AT(slots), .help = "/slots is there"},
    {.name = "log",
     .kind = OPTION_FLAG,
     .offset = AT(log),
     .help = "a line of JSON on standard error for each request, without its text"},
    {0},
};

static const cli_option serve_options_table[] = {
    OPTIONS_OF_MODEL(serve_settings, model),
    {.name = "alias",
     .letter = 'a',
     .kind = OPTION_LIST,
     .offset = AT(aliases),
     .value = "NAME",
     .help = "names of the model for clients; *: whatever they call it",
     .fallback = "the last part of its path"},
    {.name = "template",
     .kind = OPTION_TEXT,
     .offset = AT(template),
     .value = "FILE|NAME",
     .help = "a Jinja file, or a built-in chat template",
     .aliases = "chat-template chat-template-file",
     .fallback = "the model's"},
    {.name = "variables",
     .kind = OPTION_TEXT,
     .offset = AT(variables),
     .value = "JSON",
     .help = "further variables for the template, such as {\"enable_thinking\": false}",
     .aliases = "chat-template-kwargs"},
    {.name = "context-length",
     .letter = 'c',
     .kind = OPTION_INT,
     .offset = AT(context_length),
     .low = 0,
     .high = 1 << 24,
     .help = "positions that one text may have; 0: the model's, at most 4096, or what --memory "
             "leaves",
     .aliases = "ctx-size ctx"},
    {.name = "parallel",
     .kind = OPTION_INT,
     .offset = AT(parallel),
     .low = 1,
     .high = 4096,
     .help = "texts that are generated side by side",
     .aliases = "-np"},
    {.name = "batch-size",
     .letter = 'b',
     .kind = OPTION_INT,
     .offset = AT(batch),
     .low = 1,
     .high = 65536,
     .help = "most tokens of one forward pass"},
    {.name = "cache-positions",
     .kind = OPTION_LONG,
     .offset = AT(cache_positions),
     .low = 0,
     .high = 1e12,
     .help =
         "of the key/value cache for all texts; 0: parallel times context-length, or what --memory "
         "leaves"},
    OPTIONS_OF_CACHE(serve_settings, cache, "type of the cache"),
    OPTION_OF_LATENT(serve_settings, latent),
    {.name = "pooling",
     .kind = OPTION_CHOICE,
     .offset = AT(pooling),
     .choices = "mean last",
     .help = "embeddings are the mean of a text's tokens, or the last one's: mean last"},
    {.name = "share",
     .kind = OPTION_FLAG,
     .offset = AT(share),
     .help = "texts that begin alike share that part of the cache",
     .aliases = "cache-prompt"},
    {.name = "experts-max",
     .kind = OPTION_INT,
     .offset = AT(experts_max),
     .low = 0,
     .high = OPTIONS_EXPERTS_PER_TOKEN_MAX,
     .help = "experts for a token that a request may ask for; 0: the model's number"},
    {0},
};

static void serve_defaults(void *user)
{
    serve_settings *settings = user;
    settings->model.machine = machine_defaults(MIXT_MATMUL_EXACT);
    settings->model.store = store_defaults();
    settings->host = "127.0.0.1";
    settings->port = 8080;
    settings->timeout = 60;
    settings->connections = 1024;
    settings->header_bytes = 16384;
    settings->body_bytes = 10 << 20;
    settings->buffer_bytes = 1 << 20;
    settings->queue = 256;
    settings->choices = 128;
    settings->parallel = 8;
    settings->batch = 512;
    settings->cache.type = MIXT_CACHE_F16;
    settings->metrics = settings->props = settings->slots = settings->log = settings->share = true;
}

/* What the options point to while the server runs. */
typedef struct serve_texts {
    char *key_text;
    const char **keys;
    size_t key_count, key_capacity;
    char name[256];
    const char *alias[2]; /* the name, and "*" behind it */
    chat_template template;
} serve_texts;

static mixt_status add_key(serve_texts *texts, const char *key, mixt_error *error)
{
    if (!list_grow(&texts->keys, &texts->key_capacity, texts->key_count + 1, sizeof *texts->keys)) {
        return set_memory_error(error);
    }
    texts->keys[texts->key_count++] = key;
    return MIXT_OK;
}

static mixt_status read_keys(const serve_settings *settings, serve_texts *texts, mixt_error *error)
{
    size_t length = 0;
    char what[200];
    for (size_t i = 0; i < settings->keys.count; i++) {
        if (settings->keys.items[i][0] == 0) {
            return set_error(error, MIXT_ERROR_ARGUMENT, "--api-key: it is empty");
        }
        TRY(add_key(texts, settings->keys.items[i], error));
    }
    if (settings->key_file == NULL) {
        return MIXT_OK;
    }
    mixt_status status =
        files_read(settings->key_file, KEY_FILE_MAX, &texts->key_text, &length, what);
    if (status != MIXT_OK) {
        return set_error(error, status, "--api-key-file %.200s: %.200s", settings->key_file, what);
    }
    for (char *line = strtok(texts->key_text, "\r\n"); line != NULL; line = strtok(NULL, "\r\n")) {
        TRY(add_key(texts, line, error));
    }
    return texts->key_count > 0
               ? MIXT_OK
               : set_error(error, MIXT_ERROR_FORMAT, "--api-key-file %.200s: it holds no key",
                           settings->key_file);
}

/* The last part of the model's path, without .gguf. */
static void name_model(const char *path, serve_texts *texts)
{
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/') {
        length--;
    }
    size_t begin = length;
    while (begin > 0 && path[begin - 1] != '/') {
        begin--;
    }
    length -= length - begin > 5 && strncmp(path + length - 5, ".gguf", 5) == 0 ? 5 : 0;
    snprintf(texts->name, sizeof texts->name, "%.*s", (int)(length - begin), path + begin);
    mixt_text_plain(texts->name);
    texts->alias[0] = texts->name;
    texts->alias[1] = "*";
}

/* Names of the model; where there is none but "*", lists of models show the usual one. */
static void fill_aliases(const serve_settings *settings, const serve_texts *texts,
                         serve_options *options)
{
    const string_list *given = &settings->aliases;
    size_t stars = 0;
    for (size_t i = 0; i < given->count; i++) {
        stars += strcmp(given->items[i], "*") == 0;
    }
    bool named = given->count > stars;
    options->aliases = named ? given->items : (const char *const *)texts->alias;
    options->alias_count = named ? given->count : stars > 0 ? 2 : 1;
}

static void fill_options(const serve_settings *settings, const serve_texts *texts,
                         serve_options *options)
{
    *options = (serve_options){
        .host = settings->host,
        .port = settings->port,
        .keys = texts->keys,
        .key_count = texts->key_count,
        .host_names = settings->host_names.items,
        .host_name_count = settings->host_names.count,
        .origins = settings->origins.items,
        .origin_count = settings->origins.count,
        .model_path = settings->model.path,
        .variables = settings->variables,
        .connections = settings->connections,
        .header_bytes = settings->header_bytes,
        .body_bytes = settings->body_bytes,
        .queue = settings->queue,
        .choices = settings->choices,
        .buffer_bytes = settings->buffer_bytes,
        .timeout = settings->timeout,
        .slots = settings->slots,
        .props = settings->props,
        .metrics = settings->metrics,
        .quiet = !settings->log,
        .engine = mixt_engine_options_default(),
    };
    fill_aliases(settings, texts, options);
    options->pooling = (serve_pooling)settings->pooling;
    options->engine.context_length = settings->context_length;
    options->engine.sequences = settings->parallel;
    options->engine.positions = settings->cache_positions;
    options->engine.batch_tokens = settings->batch;
    options->engine.no_sharing = !settings->share;
    options->engine.experts_per_token_max = settings->experts_max;
}

/* Every connection is a file; the system's first limit is low. */
static void raise_file_limit(int connections)
{
    struct rlimit limit;
    rlim_t wanted = (rlim_t)connections + FILES_BESIDE;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < wanted) {
        limit.rlim_cur = limit.rlim_max < wanted ? limit.rlim_max : wanted;
        setrlimit(RLIMIT_NOFILE, &limit);
        if (limit.rlim_cur < wanted) {
            fprintf(stderr,
                    "mixt serve: the system allows %llu open files: more than %llu "
                    "connections at once will wait\n",
                    (unsigned long long)limit.rlim_cur,
                    (unsigned long long)(limit.rlim_cur > FILES_BESIDE
                                             ? limit.rlim_cur - FILES_BESIDE
                                             : 1));
        }
    }
}

/* Until a signal (of those that interrupt_begin caught); then what runs is finished. */
static void serve_until_signal(serve_server *server)
{
    while (interrupt_status() == 0) {
        usleep(WATCH_MICROSECONDS);
        serve_watch(server);
    }
    serve_drain(server);
    fputs("mixt serve: finishing what runs (a second signal ends it at once)\n", stderr);
    while (!serve_is_idle(server)) {
        usleep(DRAIN_MICROSECONDS);
        serve_watch(server);
    }
}

static mixt_status serve(const serve_settings *settings, cli_resources *resources,
                         serve_texts *texts, serve_options *options, mixt_error *error)
{
    char problem[300];
    raise_file_limit(settings->connections);
    signal(SIGPIPE, SIG_IGN); /* who reads the log may go */
    serve_server *server = serve_start(options, problem);
    if (server == NULL) {
        return set_error(error, MIXT_ERROR_IO, "%s", problem);
    }
    printf("http://%s%s%s:%d\n", strchr(settings->host, ':') != NULL ? "[" : "", settings->host,
           strchr(settings->host, ':') != NULL ? "]" : "", serve_port(server));
    fflush(stdout);
    mixt_status status = open_all(&settings->model, resources, error);
    if (status == MIXT_OK) {
        status = find_template(settings->template, resources, &texts->template, error);
    }
    if (status == MIXT_OK) { /* without one, texts can be completed */
        options->chat_template = texts->template.text;
        options->chat_name = texts->template.name;
        interrupt_begin(); /* before anybody can be told that it is ready */
        status =
            serve_ready(server, resources->context, resources->model, resources->tokenizer, error);
    }
    if (status == MIXT_OK) {
        const mixt_engine_options *engine = serve_engine(server);
        const store_context is = {.asked = settings->context_length,
                                  .context = engine->context_length,
                                  .sequences = engine->sequences,
                                  .positions_asked = settings->cache_positions,
                                  .positions = engine->positions};
        store_say_context(resources->model, &is);
        fprintf(stderr, "mixt serve: %s is ready%s\n", serve_name(options),
                options->chat_template == NULL ? " (no chat template: it completes texts alone)"
                                               : "");
        serve_until_signal(server);
    }
    serve_stop(server);
    return status;
}

static int run_serve(void *user, cli_arguments *arguments)
{
    const serve_settings *settings = user;
    serve_texts texts = {0};
    serve_options options;
    cli_resources resources = {0};
    mixt_error error = MIXT_ERROR_INIT;
    mixt_cache_type type;
    if (settings->model.path == NULL) {
        return fail_usage("--model: needed");
    }
    int refused = refuse_memory(&settings->model, arguments);
    if (refused == STATUS_DONE) {
        refused = cache_type_of(&settings->cache, &type);
    }
    if (refused != STATUS_DONE) {
        return refused;
    }
    name_model(settings->model.path, &texts);
    mixt_status status = read_keys(settings, &texts, &error);
    if (status == MIXT_OK) {
        fill_options(settings, &texts, &options);
        options.engine.cache_type = type;
        options.engine.latent = (mixt_latent)settings->latent;
        status = serve(settings, &resources, &texts, &options, &error);
    }
    resources_free(&resources);
    free(texts.keys);
    free(texts.key_text);
    free(texts.template.read);
    return status == MIXT_OK ? STATUS_DONE : fail_error(&error);
}

static int work_serve(void *user, cli_arguments *arguments)
{
    const serve_settings *settings = user;
    (void)arguments;
    return work_on_model(&settings->model);
}

const cli_command command_serve = {
    .name = "serve",
    .summary = "serve a model to many clients over HTTP",
    .synopsis = "-m MODEL [options]",
    .about =
        "Answers the requests of OpenAI's, llama.cpp's and Ollama's clients, many at once, and "
        "tells of each token which experts computed it (docs/server.md). Prints its address on "
        "standard output; SIGTERM or Ctrl-C finishes what runs and ends, a second one ends at "
        "once. TLS is for a proxy in front of it.",
    .examples = "  mixt serve -m demo/model --port 8080\n"
                "  curl http://127.0.0.1:8080/v1/completions -d '{\"prompt\": \"int main\"}'\n",
    .positional = "model",
    .groups = (const cli_group[]){{"options", serve_options_table, 0},
                                  {"clients", listen_options, 0},
                                  GROUPS_OF_MODEL(serve_settings, model),
                                  {0}},
    .settings_size = sizeof(serve_settings),
    .defaults = serve_defaults,
    .run = run_serve,
    .work = work_serve,
};
