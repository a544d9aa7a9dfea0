/* Prints what mixt computes as lines "name value", for compare.sh to hold beside those of another
 * revision. It knows the public header alone, so that it builds against either side.
 *
 *   bits families FOLDER     logits and routes of every model in FOLDER
 *   bits training FOLDER     short runs in the working folder; FOLDER gives the families' shapes
 *   bits quantised FOLDER    the types that files can be written in, from a run that `training`
 * left bits tensors NAME FILE   the tensors and metadata of a safetensors file
 *
 * BITS_FEW in the environment: a smaller choice of the same, for slow kernels. A value is a
 * SHA-256, a hexadecimal float, an FNV-1a hash over bytes, or a refusal's message. */
#include <dirent.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "mixt.h"

#define PROMPT 24 /* tokens fed to each model of `families` */
/* Tokens in a window of training, scores and traces: with 3 windows and 6 experts no power of two,
 * by which every order of operations would round alike. */
#define WINDOW 30

static bool few;         /* BITS_FEW */
static int tokens = 600; /* of each domain that are scored and traced */

/* ------------------------------------------------------------------------------------------ */
/* Lines                                                                                      */

typedef struct digest {
    uint64_t hash; /* FNV-1a, 64 bits */
} digest;

static const digest empty = {14695981039346656037U};

static void add(digest *d, const void *bytes, size_t count)
{
    const unsigned char *at = bytes;
    for (size_t i = 0; i < count; i++) {
        d->hash = (d->hash ^ at[i]) * 1099511628211U;
    }
}

static void print_digest(const char *name, const char *part, digest d)
{
    printf("%s/%s %016llx\n", name, part, (unsigned long long)d.hash);
}

static void print_number(const char *name, const char *part, double value)
{
    printf("%s/%s %a\n", name, part, value);
}

static void fail(const char *what, const char *message)
{
    fprintf(stderr, "bits: %s: %s\n", what, message);
    exit(1);
}

static void must(mixt_status status, const mixt_error *error, const char *what)
{
    if (status != MIXT_OK) {
        fail(what, error->message);
    }
}

/* A refusal is a result like others: its line is compared. */
static bool refused(mixt_status status, const mixt_error *error, const char *name)
{
    if (status != MIXT_OK && mixt_status_is_refusal(status)) {
        printf("%s/refused %s\n", name, error->message);
        return true;
    }
    must(status, error, name);
    return false;
}

static char *read_file(const char *path, size_t *length)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL || fseek(file, 0, SEEK_END) != 0) {
        fail(path, "cannot be read");
    }
    *length = (size_t)ftell(file);
    rewind(file);
    char *bytes = malloc(*length + 1);
    if (bytes == NULL || fread(bytes, 1, *length, file) != *length) {
        fail(path, "cannot be read");
    }
    bytes[*length] = '\0';
    fclose(file);
    return bytes;
}

static void print_file(const char *name, const char *part, const char *path)
{
    size_t length;
    char *bytes = read_file(path, &length);
    digest d = empty;
    add(&d, bytes, length);
    print_digest(name, part, d);
    free(bytes);
}

static mixt_context *new_context(int threads, mixt_matmul matmul)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_context *context;
    mixt_context_options options = {.threads = threads, .matmul = matmul};
    must(mixt_context_create(&options, &context, &error), &error, "context");
    return context;
}

static bool has_blas(void)
{
    mixt_context *context;
    mixt_context_options options = {.threads = 1, .matmul = MIXT_MATMUL_BLAS};
    bool found = mixt_context_create(&options, &context, NULL) == MIXT_OK;
    mixt_context_free(context);
    return found;
}

static mixt_model *open_model(const char *path)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_model *model;
    must(mixt_model_open(path, &model, &error), &error, path);
    return model;
}

/* ------------------------------------------------------------------------------------------ */
/* Safetensors files: each tensor and each entry of the metadata by name, so that a file may get  */
/* more of them without another line here changing.                                              */

/* The string that begins at the quote `at`; *end behind its closing quote. */
static char *quoted(const char *at, const char **end)
{
    const char *start = ++at;
    while (*at != '"' && *at != '\0') {
        at += *at == '\\' && at[1] != '\0' ? 2 : 1;
    }
    *end = *at == '"' ? at + 1 : at;
    char *text = strndup(start, (size_t)(at - start));
    if (text == NULL) {
        fail("safetensors", "no memory");
    }
    return text;
}

static const char *print_metadata(const char *name, const char *at)
{
    const char *open = strchr(at, '{');
    for (at = open != NULL ? open + 1 : at + strlen(at); *at != '}' && *at != '\0';) {
        if (*at != '"') {
            at++;
            continue;
        }
        char *key = quoted(at, &at), part[96];
        at = strchr(at, '"');
        if (at == NULL) {
            fail(name, "metadata without a value");
        }
        char *value = quoted(at, &at);
        digest d = empty;
        add(&d, value, strlen(value));
        snprintf(part, sizeof part, "metadata.%s", key);
        print_digest(name, part, d);
        free(key);
        free(value);
    }
    return at;
}

/* Each tensor's type, shape and bytes; `whole` not NULL: into one digest instead of lines. */
static void print_tensors(const char *name, const char *path, digest *whole)
{
    size_t length;
    char *bytes = read_file(path, &length);
    uint64_t head = 0;
    memcpy(&head, bytes, length < 8 ? length : 8);
    if (length < 8 || head > length - 8) {
        fail(path, "not a safetensors file");
    }
    char *json = strndup(bytes + 8, head);
    const char *at = json != NULL ? json : "";
    while ((at = strchr(at, '"')) != NULL) {
        char *key = quoted(at, &at);
        unsigned long long begin = 1, end = 0;
        const char *offsets = strstr(at, "\"data_offsets\"");
        if (strcmp(key, "__metadata__") == 0) {
            at = whole != NULL ? strchr(at, '}') : print_metadata(name, at);
        } else if (offsets != NULL &&
                   sscanf(offsets, "\"data_offsets\":[%llu,%llu]", &begin, &end) == 2 &&
                   begin <= end && end <= length - 8 - head) {
            digest own = empty, *d = whole != NULL ? whole : &own;
            add(d, key, strlen(key));
            add(d, at, (size_t)(offsets - at)); /* type and shape */
            add(d, bytes + 8 + head + begin, (size_t)(end - begin));
            if (whole == NULL) {
                print_digest(name, key, own);
            }
            at = strchr(offsets, '}');
        } else {
            fail(path, "a tensor without offsets");
        }
        free(key);
    }
    free(json);
    free(bytes);
}

static void print_weights(const char *name, const char *part, const char *path)
{
    digest d = empty;
    print_tensors(name, path, &d);
    print_digest(name, part, d);
}

/* ------------------------------------------------------------------------------------------ */
/* Sessions: logits and routes of each position                                               */

typedef struct listener {
    mixt_session *session;
    size_t vocab, routes; /* logits; entries of a route record */
    int32_t tokens[PROMPT];
    digest logits, ids, weights;
} listener;

static void reset(listener *l)
{
    mixt_session_truncate(l->session, 0);
    l->logits = l->ids = l->weights = empty;
}

static void feed(listener *l, size_t from, size_t count)
{
    mixt_error error = MIXT_ERROR_INIT;
    must(mixt_session_feed(l->session, l->tokens + from, count, &error), &error, "feed");
    add(&l->logits, mixt_session_logits(l->session), l->vocab * sizeof(float));
    if (l->routes > 0) {
        const int32_t *ids;
        const float *weights;
        mixt_session_routes(l->session, &ids, &weights);
        add(&l->ids, ids, l->routes * sizeof *ids);
        add(&l->weights, weights, l->routes * sizeof *weights);
    }
}

static void print_listener(const listener *l, const char *name, const char *way)
{
    char part[64];
    snprintf(part, sizeof part, "%s/logits", way);
    print_digest(name, part, l->logits);
    if (l->routes > 0) {
        snprintf(part, sizeof part, "%s/experts", way);
        print_digest(name, part, l->ids);
        snprintf(part, sizeof part, "%s/weights", way);
        print_digest(name, part, l->weights);
    }
}

/* k: most experts that a layer chooses; 0: the model's. */
static void print_session(mixt_context *context, const mixt_model *model, const char *name, int k)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_model_info info;
    mixt_model_describe(model, &info);
    k = k > 0 ? k : info.options.experts_per_token;
    listener l = {.vocab = (size_t)info.options.vocab_size,
                  .routes = (size_t)(info.moe_layers * k)};
    uint32_t state = 2024;
    for (int i = 0; i < PROMPT; i++) {
        state = state * 1664525U + 1013904223U;
        l.tokens[i] = (int32_t)((state >> 8) % (uint32_t)l.vocab);
    }
    must(mixt_session_create(context, model, 0, &l.session, &error), &error, name);
    reset(&l);
    for (size_t i = 0; i < PROMPT; i++) {
        feed(&l, i, 1);
    }
    print_listener(&l, name, "generation");
    reset(&l);
    for (size_t i = few ? PROMPT : 1; i <= PROMPT; i++) { /* the last row of each length */
        mixt_session_truncate(l.session, 0);
        feed(&l, 0, i);
    }
    print_listener(&l, name, "prompt");
    static const size_t parts[] = {7, 1, 9, 4};
    reset(&l);
    for (size_t i = 0, from = 0; i < sizeof parts / sizeof *parts; from += parts[i++]) {
        feed(&l, from, parts[i]);
    }
    mixt_session_truncate(l.session, 10);
    feed(&l, 10, PROMPT - 10);
    print_listener(&l, name, "parts");
    mixt_session_free(l.session);
}

/* ------------------------------------------------------------------------------------------ */
/* Families                                                                                   */

typedef struct change_row {
    const char *name;
    mixt_routing_change change;
    bool last_layer; /* alone, else all */
    int value;
} change_row;

static const change_row changes[] = {
    {"mask", MIXT_ROUTING_MASK, false, 1},
    {"force", MIXT_ROUTING_FORCE, false, 2},
    {"one", MIXT_ROUTING_TOP_K, true, 1}, /* fewer in one layer: id -1 in the record */
    {"renormalise", MIXT_ROUTING_RENORMALISE, false, 0},
};

static void print_changed(mixt_context *context, const char *path, const char *name)
{
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        mixt_error error = MIXT_ERROR_INIT;
        mixt_model *model = open_model(path);
        mixt_model_info info;
        mixt_model_describe(model, &info);
        char changed[400];
        snprintf(changed, sizeof changed, "%s/%s", name, changes[i].name);
        int layer = changes[i].last_layer ? info.options.layers - 1 : -1;
        if (info.moe_layers > 0 &&
            !refused(mixt_model_change_routing(model, changes[i].change, layer, changes[i].value,
                                               &error),
                     &error, changed)) {
            bool all_layers = changes[i].last_layer && info.moe_layers == 1;
            print_session(context, model, changed, all_layers ? changes[i].value : 0);
        }
        mixt_model_free(model);
    }
}

static int is_model(const struct dirent *entry)
{
    return entry->d_name[0] != '.' && strstr(entry->d_name, ".md") == NULL;
}

static void free_entries(struct dirent **entries, int count)
{
    for (int i = 0; i < count; i++) {
        free(entries[i]);
    }
    free(entries);
}

static void print_families(const char *folder)
{
    struct dirent **entries;
    int count = scandir(folder, &entries, is_model, alphasort);
    if (count <= 0) {
        fail(folder, "holds no models");
    }
    for (int threads = few ? 2 : 1; threads <= 2; threads++) {
        mixt_context *context = new_context(threads, MIXT_MATMUL_EXACT);
        for (int i = 0; i < count; i++) {
            char path[512], name[320];
            snprintf(path, sizeof path, "%s/%s", folder, entries[i]->d_name);
            snprintf(name, sizeof name, "families/%s/threads%d", entries[i]->d_name, threads);
            mixt_model *model = open_model(path);
            print_session(context, model, name, 0);
            mixt_model_free(model);
            if (!few) {
                print_changed(context, path, name);
            }
        }
        mixt_context_free(context);
    }
    free_entries(entries, count);
}

/* ------------------------------------------------------------------------------------------ */
/* Text: two domains of words, one of generated mathematics                                   */

static mixt_status write_document(void *user, const char *text, size_t length, mixt_error *error)
{
    (void)error;
    int *number = user;
    char path[64];
    snprintf(path, sizeof path, "text/mathematics/%02d.txt", (*number)++);
    FILE *file = fopen(path, "wb");
    if (file == NULL || fwrite(text, 1, length, file) != length || fclose(file) != 0) {
        fail(path, "cannot be written");
    }
    return MIXT_OK;
}

static void write_text(void)
{
    static const char *const words[] = {"red",  "green", "blue", "one",  "two", "three",
                                        "fish", "bird",  "tree", "runs", "is",  "and"};
    if (mkdir("text", 0777) != 0 || mkdir("text/mathematics", 0777) != 0) {
        fail("text", "the working folder must be empty");
    }
    FILE *file = fopen("text/words.jsonl", "wb");
    if (file == NULL) {
        fail("text/words.jsonl", "cannot be written");
    }
    uint32_t state = 12345;
    for (int document = 0; document < 60; document++) {
        fprintf(file, "{\"domain\": \"%s\", \"text\": \"", document % 2 == 0 ? "even" : "odd");
        int count = document % 7 == 0 ? 1 : 4 + document % 23;
        for (int i = 0; i < count; i++) {
            state = state * 1664525U + 1013904223U;
            fprintf(file, "%s%s", i == 0 ? "" : " ", words[(state >> 24) % 6 + document % 2 * 6]);
        }
        fprintf(file, "\"}\n");
    }
    fclose(file);
    mixt_error error = MIXT_ERROR_INIT;
    int number = 0;
    must(mixt_mathematics_generate(3, 12000, write_document, &number, &error), &error, "text");
}

static mixt_data *open_data(const mixt_tokenizer *tokenizer)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_corpus *corpus;
    mixt_data *data;
    const char *paths[] = {"text"};
    must(mixt_corpus_open(paths, 1, &corpus, &error), &error, "text");
    must(mixt_data_create(corpus, tokenizer, 0.2, &data, &error), &error, "text");
    mixt_corpus_free(corpus);
    return data;
}

/* ------------------------------------------------------------------------------------------ */
/* Training                                                                                   */

typedef struct shop {
    mixt_tokenizer *tokenizer;
    mixt_data *data;
    const char *families; /* folder of the fixtures */
} shop;

typedef struct run_case {
    const char *name;
    mixt_model_options model;
    mixt_train_options train;
    mixt_matmul matmul;
    int threads;
    int interrupted; /* steps before a checkpoint that the run is stopped behind; 0: never */
} run_case;

typedef struct reports {
    digest all;
    double loss; /* of the last step */
} reports;

static void add_report(reports *all, const mixt_step_report *r)
{
    const double values[] = {r->loss,          r->balance_loss,      r->z_loss,
                             r->learning_rate, r->gradient_norm,     r->load_max_over_mean,
                             r->dead_fraction, r->effective_experts, (double)r->step,
                             (double)r->steps, (double)r->skipped};
    add(&all->all, values, sizeof values);
    all->loss = r->loss;
}

/* `steps` of a run with their reports, from where it was left. */
static mixt_trainer *go_on(const shop *s, const run_case *c, mixt_context *context,
                           mixt_model *model, int64_t steps, reports *seen)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_trainer *trainer;
    mixt_step_report report = {0};
    must(mixt_trainer_create(context, model, s->data, s->tokenizer, &c->train, c->name, &trainer,
                             &error),
         &error, c->name);
    for (int64_t i = 0; i < steps; i++) {
        must(mixt_trainer_step(trainer, &report, &error), &error, c->name);
        add_report(seen, &report);
    }
    return trainer;
}

static mixt_model *new_model(const run_case *c)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_model *model;
    must(mixt_model_create(&c->model, 7, &model, &error), &error, c->name);
    return model;
}

/* What is computed over text with a model: scores, importance, a trace. */
static void print_measures(const shop *s, const char *name, mixt_context *context,
                           const mixt_model *model)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_score_row rows[8];
    int domains = mixt_data_domain_count(s->data);
    must(mixt_evaluate(context, model, s->data, false, WINDOW, tokens, rows, NULL, NULL, &error),
         &error, name);
    for (int i = 0; i <= domains; i++) {
        char part[64];
        snprintf(part, sizeof part, "nats/%s", rows[i].domain != NULL ? rows[i].domain : "all");
        print_number(name, part, rows[i].nats);
    }
    size_t length;
    char *text = read_file("text/mathematics/00.txt", &length);
    if (length < 1500) {
        fail("text/mathematics/00.txt", "too short");
    }
    mixt_perplexity perplexity;
    mixt_perplexity_options about = {.text = text, .length = few ? 300 : 1500, .window = WINDOW};
    must(mixt_text_perplexity(context, model, s->tokenizer, &about, &perplexity, &error), &error,
         name);
    print_number(name, "perplexity", perplexity.value);
    free(text);
    mixt_importance *importance;
    mixt_importance_options gather = {.window = WINDOW, .max_tokens = tokens};
    must(mixt_importance_collect(context, model, s->data, &gather, &importance, &error), &error,
         name);
    must(mixt_importance_save(importance, "importance.gguf", &error), &error, name);
    mixt_importance_free(importance);
    print_file(name, "importance", "importance.gguf");
    mixt_model_info info;
    mixt_model_describe(model, &info);
    if (info.moe_layers > 0) {
        char traced[400];
        mixt_trace_options options = {.output = "trace.safetensors",
                                      .model_name = "bits",
                                      .window = WINDOW,
                                      .max_tokens = tokens,
                                      .logits = true};
        must(mixt_trace_write(context, model, s->data, s->tokenizer, &options, NULL, NULL, &error),
             &error, name);
        snprintf(traced, sizeof traced, "%s/trace", name);
        print_tensors(traced, options.output, NULL);
    }
}

/* Trains; leaves the run folder (named as the case) with its last checkpoint. */
static void print_run(const shop *s, const run_case *given)
{
    run_case shortened = *given;
    const run_case *c = &shortened;
    if (few) {
        shortened.train.steps = (given->train.steps + 4) / 5;
        shortened.interrupted = (given->interrupted + 4) / 5;
    }
    if (c->matmul == MIXT_MATMUL_BLAS && !has_blas()) {
        printf("%s/skipped no BLAS library\n", c->name);
        return;
    }
    reports seen = {.all = empty};
    mixt_context *context = new_context(c->threads, c->matmul);
    mixt_model *model = new_model(c);
    if (c->interrupted > 0) {
        mixt_error error = MIXT_ERROR_INIT;
        mixt_trainer *trainer = go_on(s, c, context, model, c->interrupted, &seen);
        must(mixt_trainer_checkpoint(trainer, &error), &error, c->name);
        mixt_step_report report;
        must(mixt_trainer_step(trainer, &report, &error), &error, c->name); /* this one is lost */
        mixt_trainer_free(trainer);
        mixt_model_free(model);
        mixt_context_free(context);
        model = new_model(c);
        context = new_context(c->threads % 2 + 1, c->matmul);
    }
    mixt_trainer *trainer = go_on(s, c, context, model, c->train.steps - c->interrupted, &seen);
    print_number(c->name, "loss", seen.loss);
    print_digest(c->name, "reports", seen.all);
    printf("%s/state %s\n", c->name, mixt_trainer_state_hash(trainer));
    if (c->interrupted > 0) {
        printf("%s/resumed %s\n", c->name, mixt_trainer_resumed(trainer));
    }
    mixt_trainer_free(trainer);
    char path[256];
    snprintf(path, sizeof path, "%s/step-%08d/model.safetensors", c->name, (int)c->train.steps);
    print_weights(c->name, "model", path);
    snprintf(path, sizeof path, "%s/step-%08d/optimizer.safetensors", c->name, (int)c->train.steps);
    print_weights(c->name, "optimizer", path);
    print_measures(s, c->name, context, model);
    mixt_model_free(model);
    snprintf(path, sizeof path, "%s/step-%08d", c->name, (int)c->train.steps);
    model = open_model(path); /* mapped now */
    print_session(context, model, c->name, 0);
    mixt_model_free(model);
    mixt_context_free(context);
}

static run_case standard_case(const char *name)
{
    run_case c = {.name = name,
                  .model = mixt_model_options_default(),
                  .train = mixt_train_options_default(),
                  .threads = 2};
    c.model.vocab_size = 257;
    c.model.context_length = WINDOW;
    c.model.layers = 2;
    c.model.hidden_size = 32;
    c.model.heads = 4;
    c.model.kv_heads = 2;
    c.model.head_dim = 8;
    c.model.ffn_size = 16;
    c.model.experts = 6;
    c.model.experts_per_token = 2;
    c.model.separator = 256;
    c.model.router.balance_coefficient = 0.1;
    c.train.optimizer = MIXT_OPTIMIZER_ADAMW;
    c.train.steps = 30;
    c.train.batch_size = 3;
    c.train.window = WINDOW;
    c.train.warmup = 2;
    c.train.learning_rate = 3e-3;
    c.train.checkpoint_seconds = 0;
    return c;
}

/* A run for each family's shape, its vocabulary made that of bytes. */
static void print_family_runs(const shop *s)
{
    struct dirent **entries;
    int count = scandir(s->families, &entries, is_model, alphasort);
    if (count <= 0) {
        fail(s->families, "holds no models");
    }
    for (int i = 0; i < count; i++) {
        mixt_error error = MIXT_ERROR_INIT;
        char path[512], name[320];
        struct stat about;
        snprintf(path, sizeof path, "%s/%s", s->families, entries[i]->d_name);
        if (stat(path, &about) != 0 || !S_ISDIR(about.st_mode)) {
            continue;
        }
        for (int threads = few ? 2 : 1; threads <= 2; threads++) {
            snprintf(name, sizeof name, "training/%s-threads%d", entries[i]->d_name, threads);
            run_case c = standard_case(name);
            must(mixt_model_options_read(path, &c.model, &error), &error, path);
            c.model.vocab_size = 257;
            c.model.separator = 256;
            c.model.initializer_range = 0.1;
            c.threads = threads;
            c.train.steps = 10;
            print_run(s, &c);
        }
    }
    free_entries(entries, count);
}

static void as_dense(run_case *c)
{
    c->model.experts = 0;
}

static void as_top2(run_case *c)
{
    c->model.router.score = MIXT_SCORE_TOP_K_SOFTMAX;
}

static void as_fine_grained(run_case *c)
{
    c->model.experts = 12;
    c->model.experts_per_token = 5;
    c->model.ffn_size = 8;
    c->model.shared_experts = 2;
    c->model.leading_dense_layers = 1;
    c->model.dense_ffn_size = 28;
    c->model.layers = 3;
    c->model.router.renormalise = false;
}

/* DeepSeek-V3, with loss-free balance. */
static void as_sigmoid(run_case *c)
{
    as_fine_grained(c);
    c->model.kv_heads = 0;
    c->model.head_dim = 10;
    c->model.attention.latent_size = 10;
    c->model.attention.query_latent_size = 12;
    c->model.attention.position_dim = 4;
    c->model.attention.value_dim = 8;
    c->model.rope.interleaved = true;
    c->model.router.groups = 4;
    c->model.router.groups_used = 2;
    c->model.router.group_score = MIXT_GROUP_TOP_TWO;
    c->model.router.score = MIXT_SCORE_SIGMOID;
    c->model.router.renormalise = true;
    c->model.router.scale = 2.5;
    c->model.router.select_bias = true;
    c->model.router.z_coefficient = 0;
    c->model.router.bias_rate = 0.01;
    c->model.router.balance_coefficient = 0;
}

static void as_frozen(run_case *c)
{
    c->model.router.weights = MIXT_ROUTER_FROZEN;
    c->model.tie_embeddings = true;
}

static void as_gshard(run_case *c)
{
    c->model.router.balance = MIXT_BALANCE_GSHARD;
    c->model.router.balance_coefficient = 0.05;
    c->model.router.z_coefficient = 0.02;
}

static void as_accumulated(run_case *c)
{
    c->train.accumulation = 3;
    c->train.schedule = MIXT_SCHEDULE_WSD;
}

static void as_recomputed(run_case *c)
{
    as_fine_grained(c);
    c->train.recompute = true;
}

/* In the run alone: what is computed with its model and context afterwards is exact. */
static void as_bf16(run_case *c)
{
    c->train.bf16 = true;
}

static void as_bf16_everywhere(run_case *c)
{
    c->train.bf16 = true;
    c->matmul = MIXT_MATMUL_BF16;
}

static void as_blas(run_case *c)
{
    c->matmul = MIXT_MATMUL_BLAS;
}

static void as_interrupted(run_case *c)
{
    c->model.router.bias_rate = 0.01;
    c->train.batch_size = 5;
    c->interrupted = 17;
}

/* Whole tiles, more than one block of k in a product (1,100 columns), a vocabulary in pieces. */
static void as_wide(run_case *c)
{
    c->model.layers = 1;
    c->model.hidden_size = 256;
    c->model.heads = 4;
    c->model.kv_heads = 2;
    c->model.head_dim = 64;
    c->model.ffn_size = 1100;
    c->train.batch_size = 8;
    c->train.steps = 3;
}

/* Rows of whole blocks of every quantised type. */
static void as_blocks(run_case *c)
{
    as_wide(c);
    c->model.layers = 2;
    c->model.ffn_size = 256;
    c->model.leading_dense_layers = 1;
    c->model.dense_ffn_size = 512;
    c->model.shared_experts = 1;
    c->model.router.renormalise = false;
}

static void as_wide_bf16(run_case *c)
{
    as_wide(c);
    as_bf16_everywhere(c);
}

static const struct {
    const char *name;
    void (*change)(run_case *c);
    int threads; /* 1 to this */
    bool heavy;  /* not among the few */
} runs[] = {
    {"dense", as_dense, 3, false},
    {"top2", as_top2, 3, false},
    {"fine-grained", as_fine_grained, 3, false},
    {"sigmoid-bias", as_sigmoid, 3, false},
    {"frozen", as_frozen, 2, false},
    {"gshard-z", as_gshard, 2, false},
    {"accumulated", as_accumulated, 2, false},
    {"recomputed", as_recomputed, 2, false},
    {"bf16", as_bf16, 3, false},
    {"bf16-everywhere", as_bf16_everywhere, 2, false},
    {"blas", as_blas, 1, false},
    {"interrupted", as_interrupted, 2, false},
    {"wide", as_wide, 2, true},
    {"wide-bf16", as_wide_bf16, 2, true},
    {"blocks", as_blocks, 1, false},
};

static void open_shop(shop *s)
{
    mixt_error error = MIXT_ERROR_INIT;
    must(mixt_tokenizer_bytes(&s->tokenizer, &error), &error, "tokenizer");
    s->data = open_data(s->tokenizer);
}

static void close_shop(shop *s)
{
    mixt_data_free(s->data);
    mixt_tokenizer_free(s->tokenizer);
}

static void print_training(const char *families)
{
    shop s = {.families = families};
    write_text();
    if (mkdir("training", 0777) != 0) {
        fail("training", "the working folder must be empty");
    }
    open_shop(&s);
    printf("training/data %s\n", mixt_data_hash(s.data));
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
        bool wanted = !few || !runs[i].heavy;
        int first = few && runs[i].threads > 1 ? 2 : 1, last = few ? first : runs[i].threads;
        for (int threads = first; wanted && threads <= last; threads++) {
            char name[128];
            snprintf(name, sizeof name, "training/%s-threads%d", runs[i].name, threads);
            run_case c = standard_case(name);
            runs[i].change(&c);
            c.threads = threads;
            print_run(&s, &c);
        }
    }
    print_family_runs(&s);
    close_shop(&s);
}

/* ------------------------------------------------------------------------------------------ */
/* Quantised weights                                                                          */

static void print_converted(const shop *s, mixt_context *context, const char *from,
                            const mixt_convert_options *options, const char *name)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_model *model = open_model(from);
    bool was_refused =
        refused(mixt_convert(context, model, options, NULL, NULL, &error), &error, name);
    mixt_model_free(model);
    if (!was_refused) {
        print_file(name, "file", options->output);
        model = open_model(options->output);
        print_session(context, model, name, 0);
        if (!few) {
            print_measures(s, name, context, model);
        }
        mixt_model_free(model);
    }
}

static void print_quantised(const char *from)
{
    mixt_error error = MIXT_ERROR_INIT;
    shop s = {0};
    open_shop(&s);
    mixt_context *context = new_context(2, MIXT_MATMUL_EXACT);
    mixt_importance *importance;
    mixt_model *model = open_model(from);
    mixt_importance_options gather = {.window = WINDOW, .max_tokens = tokens};
    must(mixt_importance_collect(context, model, s.data, &gather, &importance, &error), &error,
         "importance");
    mixt_model_free(model);
    mixt_convert_options options = mixt_convert_options_default();
    options.output = "converted.gguf";
    for (int i = 0; (options.type = mixt_convert_type(i)) != NULL; i++) {
        char name[64];
        snprintf(name, sizeof name, "quantised/%s", options.type);
        print_converted(&s, context, from, &options, name);
    }
    options.type = "Q4_K_M";
    options.importance = importance;
    print_converted(&s, context, from, &options, "quantised/Q4_K_M-importance");
    mixt_importance_free(importance);
    mixt_context_free(context);
    close_shop(&s);
}

int main(int argc, char **argv)
{
    const char *part = argc > 1 ? argv[1] : "";
    setvbuf(stdout, NULL, _IOLBF, 0);
    few = getenv("BITS_FEW") != NULL;
    tokens = few ? 60 : tokens;
    if (argc == 3 && strcmp(part, "families") == 0) {
        print_families(argv[2]);
    } else if (argc == 3 && strcmp(part, "training") == 0) {
        print_training(argv[2]);
    } else if (argc == 3 && strcmp(part, "quantised") == 0) {
        print_quantised(argv[2]);
    } else if (argc == 4 && strcmp(part, "tensors") == 0) {
        print_tensors(argv[2], argv[3], NULL);
    } else {
        fprintf(stderr, "usage: bits families FOLDER | training FOLDER | quantised FOLDER"
                        " | tensors NAME FILE\n");
        return 2;
    }
    return 0;
}
