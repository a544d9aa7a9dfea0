/* mixt demo: the whole story on text found on this machine. Each stage leaves its result under its
 * final name only when it is whole, so that a demo that was interrupted goes on where it was. */
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "files.h"
#include "gather.h"
#include "generate.h"
#include "terminal.h"
#include "training.h"

enum {
    DOMAIN_BYTES = 2000000,      /* text of each domain, at most */
    DOMAIN_BYTES_LEAST = 120000, /* less is left out */
    VOCABULARY = 4096,
    VOCABULARY_BYTES = 600000, /* text of each domain that the vocabulary sees */
    SCORE_TOKENS = 16384,      /* held-out tokens of each domain */
    TRACE_TOKENS = 16384,
    SAMPLE_TOKENS = 40,
    SAMPLES = 5,
    SAMPLE_LINES = 8,
    SHOWN_TOKENS = 40, /* coloured tokens of a domain */
    DOMAINS_MAX = 32,
};
#define HELDOUT 0.05
/* How many times as fast bfloat16 has to be, for 2^-8 of each operand. */
#define BF16_PAYS 1.2

typedef struct demo_settings {
    machine_settings machine;
    double seconds;
    int keep_checkpoints;
    const char *out;
} demo_settings;

typedef struct demo_state {
    const demo_settings *settings;
    bool matmul_said;
    int matmul;          /* mixt_matmul, of training */
    double bf16_speedup; /* beside fp32; 0: not measured */
    cli_resources resources;
    mixt_error error;
    mixt_score_row *scores; /* of the domains, then of all */
    char *words;            /* what the atlas says: two paragraphs */
    char text[4200], tokenizer[4200], run[4200], model[4200], trace[4200], page[4200];
    char products[4200];
} demo_state;

static const cli_option demo_options[] = {
    {.name = "seconds",
     .kind = OPTION_NUMBER,
     .offset = offsetof(demo_settings, seconds),
     .low = 1,
     .high = 1e7,
     .value = "S",
     .help = "time to train"},
    {.name = "keep-checkpoints",
     .kind = OPTION_INT,
     .offset = offsetof(demo_settings, keep_checkpoints),
     .low = 2,
     .high = 1 << 20,
     .help = "checkpoints that stay, one every 20 s, to see how routing settled (mixt atlas "
             "--measure saturation)"},
    {.name = "out",
     .letter = 'o',
     .kind = OPTION_TEXT,
     .offset = offsetof(demo_settings, out),
     .value = "FOLDER",
     .help = "folder for everything that the demo makes"},
    {0},
};

static void demo_defaults(void *user)
{
    demo_settings *settings = user;
    settings->machine = machine_defaults(MIXT_MATMUL_EXACT);
    settings->seconds = 180;
    settings->keep_checkpoints = 2;
    settings->out = "demo";
}

/* What is done and why, in lines of at most 78 columns. */
static void headline(const demo_state *state, int stage, const char *title, const char *why)
{
    bool color = terminal_color(state->settings->machine.color, stdout);
    printf("\n%s%d/5  %s%s\n%s\n", color ? "\033[1m" : "", stage, title, color ? "\033[0m" : "",
           why);
    fflush(stdout);
}

/* "NAME.part", emptied, as the place where a stage writes. */
static bool begin_part(const char *final, char part[4300])
{
    snprintf(part, 4300, "%s.part", final);
    files_remove(part);
    return files_make_folder(part);
}

static int io_failure(const char *path)
{
    return fail_with(STATUS_FAILED, "%s: %s", path, strerror(errno));
}

/* ---- 1: text */

/* Counts documents and bytes of the text folder through the library, for a demo that goes on. */
static mixt_status print_text_table(const demo_state *state, mixt_error *error)
{
    const char *paths[] = {state->text};
    gather_count counts[DOMAINS_MAX] = {0};
    mixt_corpus *corpus = NULL;
    const mixt_document *document = NULL;
    mixt_status status = mixt_corpus_open(paths, 1, &corpus, error);
    while (status == MIXT_OK) {
        status = mixt_corpus_next(corpus, &document, error);
        if (status != MIXT_OK || document == NULL) {
            break;
        }
        if (document->domain < DOMAINS_MAX) {
            counts[document->domain].documents++;
            counts[document->domain].bytes += document->length;
        }
    }
    if (status == MIXT_OK) {
        printf("%-14s %10s %12s  %s\n", "domain", "documents", "bytes", "");
        for (size_t i = 0; gather_domains[i].name != NULL; i++) {
            for (int d = 0; d < mixt_corpus_domain_count(corpus) && d < DOMAINS_MAX; d++) {
                if (strcmp(mixt_corpus_domain_name(corpus, d), gather_domains[i].name) == 0) {
                    char documents[32];
                    char bytes[32];
                    format_count(counts[d].documents, documents);
                    format_count(counts[d].bytes, bytes);
                    printf("%-14s %10s %12s  %s\n", gather_domains[i].name, documents, bytes,
                           gather_domains[i].what);
                }
            }
        }
        fflush(stdout);
    }
    mixt_corpus_free(corpus);
    return status;
}

static int stage_text(demo_state *state)
{
    char part[4300];
    char what[300];
    gather_count counts[DOMAINS_MAX] = {0};
    headline(state, 1, "Collect text",
             "Real text from below /usr, in domains (kinds of text), so that it can be seen\n"
             "later whether experts divide by topic. A twentieth of the documents is kept\n"
             "apart for the test.");
    if (!files_exist(state->text)) {
        if (!begin_part(state->text, part)) {
            return io_failure(part);
        }
        if (!gather_text(part, DOMAIN_BYTES, DOMAIN_BYTES_LEAST, counts, what)) {
            return fail_with(STATUS_FAILED, "%s", what);
        }
        if (rename(part, state->text) != 0) {
            return io_failure(state->text);
        }
    }
    if (print_text_table(state, &state->error) != MIXT_OK) {
        return fail_error(&state->error);
    }
    return STATUS_DONE;
}

/* ---- 2: vocabulary and model */

static mixt_status make_vocabulary(demo_state *state)
{
    char part[4300];
    const char *paths[] = {state->text};
    mixt_corpus *corpus = NULL;
    mixt_status status = mixt_corpus_open(paths, 1, &corpus, &state->error);
    if (status == MIXT_OK) {
        status = train_vocabulary(corpus, VOCABULARY, VOCABULARY_BYTES, &state->resources.tokenizer,
                                  &state->error);
    }
    mixt_corpus_free(corpus);
    if (status != MIXT_OK) {
        return status;
    }
    if (!begin_part(state->tokenizer, part)) {
        return set_io_error(&state->error, part);
    }
    TRY(mixt_tokenizer_save(state->resources.tokenizer, part, &state->error));
    return rename(part, state->tokenizer) == 0 ? MIXT_OK
                                               : set_io_error(&state->error, state->tokenizer);
}

static mixt_status prepare_training(demo_state *state)
{
    cli_resources *resources = &state->resources;
    const char *paths[] = {state->text};
    TRY(files_exist(state->tokenizer) ? open_tokenizer(state->tokenizer, resources, &state->error)
                                      : make_vocabulary(state));
    return open_training_data(&(string_list){paths, 1}, HELDOUT, resources, &state->error);
}

static const char *const product_words[] = {"exact", "blas", "bf16", NULL}; /* by mixt_matmul */

/* Measures whether this machine multiplies bfloat16 much faster than fp32. */
static bool bf16_pays(demo_state *state)
{
    mixt_host host;
    mixt_bench_host(state->resources.context, &host);
    state->bf16_speedup =
        host.exact_flops > 0 ? host.bf16_flops[host.bf16_chosen] / host.exact_flops : 0;
    return state->bf16_speedup >= BF16_PAYS;
}

static mixt_status read_products(demo_state *state, int *products)
{
    char *word, what[200];
    size_t length;
    mixt_status status = files_read(state->products, 64, &word, &length, what);
    if (status != MIXT_OK) {
        return set_error(&state->error, status, "%.400s: %s", state->products, what);
    }
    for (*products = MIXT_MATMUL_EXACT; product_words[*products] != NULL; ++*products) {
        if (strcmp(word, product_words[*products]) == 0) {
            break;
        }
    }
    free(word);
    return product_words[*products] != NULL
               ? MIXT_OK
               : set_error(&state->error, MIXT_ERROR_FORMAT, "%.400s: is none of exact, blas, bf16",
                           state->products);
}

/* Opens the context. Products are chosen once, by --matmul or by what is faster here, as a run that
 * goes on has to keep them; those of bfloat16 are for training alone. */
static mixt_status open_products(demo_state *state)
{
    machine_settings machine = state->settings->machine;
    bool begun = files_exist(state->products);
    int said = machine.matmul;
    state->matmul = said;
    if (begun) {
        TRY(read_products(state, &state->matmul));
    }
    if (begun && state->matmul_said && state->matmul != said) {
        return set_error(&state->error, MIXT_ERROR_ARGUMENT,
                         "--matmul %s: %.400s says that this demo was begun with %s; go on with "
                         "that, or give another --out",
                         product_words[said], state->products, product_words[state->matmul]);
    }
    machine.matmul = state->matmul == MIXT_MATMUL_BF16 ? MIXT_MATMUL_EXACT : state->matmul;
    TRY(open_context(&machine, &state->resources, &state->error));
    if (begun || files_exist(state->model)) {
        return MIXT_OK;
    }
    if (!state->matmul_said && bf16_pays(state)) {
        state->matmul = MIXT_MATMUL_BF16;
    }
    const char *word = product_words[state->matmul];
    return files_replace(state->products, word, strlen(word))
               ? MIXT_OK
               : set_io_error(&state->error, state->products);
}

/* docs/results.md, section 7, has what each of these is worth. */
static mixt_train_options demo_training(const demo_settings *settings)
{
    mixt_train_options options = mixt_train_options_default();
    options.seconds = settings->seconds;
    options.steps = 0;
    options.checkpoint_seconds = 20;
    options.keep_checkpoints = settings->keep_checkpoints;
    options.warmup = 20;
    return options;
}

/* Small, so that it sees much text in its time (docs/results.md, section 7). */
static void set_shape(mixt_model_options *shape)
{
    shape->hidden_size = 128;
    shape->heads = 4;
    shape->ffn_size = 256;
    shape->attention.qk_norm = MIXT_QK_NORM_HEAD;
}

static void print_model_line(const mixt_model *model)
{
    mixt_model_info info;
    char total[32], active[32];
    describe_model(model, &info, total, active);
    printf("The model: %d layers; in each a router chooses %d of %d experts for every token.\n"
           "%s parameters, of which a token uses %s.\n",
           info.options.layers, info.options.experts_per_token, info.options.experts, total,
           active);
    fflush(stdout);
}

/* What stands in the lines that come while it trains. */
static void print_legend(const mixt_model_options *shape)
{
    printf("\nWhile it trains:\n"
           "  loss  surprise at the next token, in nats; guessing evenly gives %.2f\n"
           "  load  choices of a layer's busiest expert over the mean: 1 is even, %d that\n"
           "        every token takes it\n"
           "  dead  share of the experts that no token of the step chose, if any\n\n",
           log(shape->vocab_size), shape->experts / shape->experts_per_token);
    fflush(stdout);
}

static int train_model(demo_state *state, const char *const *again)
{
    cli_resources *resources = &state->resources;
    mixt_train_options options = demo_training(state->settings);
    mixt_model_options shape = mixt_model_options_default();
    char part[4300];
    shape.vocab_size = mixt_tokenizer_vocab_size(resources->tokenizer);
    set_shape(&shape);
    if (shape.context_length < options.window) {
        shape.context_length = options.window;
    }
    if (mixt_model_create(&shape, options.seed, &resources->model, &state->error) != MIXT_OK) {
        return fail_error(&state->error);
    }
    print_model_line(resources->model);
    options.bf16 = state->matmul == MIXT_MATMUL_BF16;
    if (options.bf16 && state->bf16_speedup > 0) {
        printf("It learns with products of bfloat16, %.1f times as fast here as those of fp32\n"
               "(--matmul exact: fp32).\n",
               state->bf16_speedup);
    }
    print_legend(&shape);
    int status = train_run(&(training_run){
        .resources = resources, .options = &options, .folder = state->run, .again = again});
    if (status != STATUS_DONE) {
        return status;
    }
    if (!begin_part(state->model, part)) {
        return io_failure(part);
    }
    if (save_model(resources, part, &state->error) != MIXT_OK) {
        return fail_error(&state->error);
    }
    return rename(part, state->model) == 0 ? STATUS_DONE : io_failure(state->model);
}

static int stage_training(demo_state *state, const char *const *again)
{
    headline(state, 2, "Train",
             "First a vocabulary: the pieces of words (tokens) that this text is best\n"
             "written with. Then the model, which learns to say the next token from those\n"
             "before it.");
    if (open_products(state) != MIXT_OK || prepare_training(state) != MIXT_OK) {
        return fail_error(&state->error);
    }
    if (!files_exist(state->model)) {
        return train_model(state, again);
    }
    if (open_model(state->model, &state->resources, &state->error) != MIXT_OK) {
        return fail_error(&state->error);
    }
    print_model_line(state->resources.model);
    say(stdout, "trained before: %s\n", state->model);
    return STATUS_DONE;
}

/* ---- 3: scores, 4: generated text */

/* Bits for a byte of the text of a row that an even guess among all tokens needs. */
static double guessing_bits(const demo_state *state, const mixt_score_row *row)
{
    int vocabulary = mixt_tokenizer_vocab_size(state->resources.tokenizer);
    return row->bytes > 0 ? (double)row->tokens * log2(vocabulary) / (double)row->bytes : 0;
}

static int stage_scores(demo_state *state)
{
    headline(state, 3, "Test it",
             "On the documents that were kept apart. bits/byte: what it needs to spell out\n"
             "text that it never saw. perplexity: among how many tokens it is in doubt, on\n"
             "average. For both, less is better.");
    const score_request request = {"held-out text", true,
                                   window_or_context(0, state->resources.model), SCORE_TOKENS};
    if (score_data(&state->resources, &request, &state->scores, &state->error) != MIXT_OK) {
        return fail_error(&state->error);
    }
    int domains = mixt_data_domain_count(state->resources.data);
    print_scores(state->resources.model, state->scores, domains, stdout);
    printf("%-20s %12s %12s %10.4f %10d\n", "guessing evenly", "", "",
           guessing_bits(state, &state->scores[domains]),
           mixt_tokenizer_vocab_size(state->resources.tokenizer));
    fflush(stdout);
    return STATUS_DONE;
}

static bool has_domain(const mixt_data *data, const char *name)
{
    for (int d = 0; d < mixt_data_domain_count(data); d++) {
        if (strcmp(mixt_data_domain_name(data, d), name) == 0) {
            return true;
        }
    }
    return false;
}

/* Its first lines, with a mark that says whose they are; empty ones are left out. */
static void print_marked(const char *mark, const char *text)
{
    for (int lines = 0; *text != 0 && lines < SAMPLE_LINES;) {
        size_t length = strcspn(text, "\n");
        if (length > strspn(text, " \t")) {
            printf("  %-7s | %.*s\n", lines == 0 ? mark : "", (int)length, text);
            lines++;
        }
        text += length + (text[length] == '\n');
    }
}

static mixt_status print_sample(demo_state *state, const gather_domain *domain, bool color)
{
    sample_request request = {
        .prompt = domain->prompt,
        .length = strlen(domain->prompt),
        .tokens = SAMPLE_TOKENS,
        .sampling = mixt_sampling_default(),
        .on_terminal = terminal_is_one(stdout),
    };
    request.sampling.temperature = 0.7;
    request.sampling.seed = 1;
    char *text;
    TRY(sample_text(&state->resources, &request, &text, &state->error));
    printf("\n%s%s%s (%s)\n", color ? "\033[1m" : "", domain->name, color ? "\033[0m" : "",
           domain->what);
    print_marked("given", domain->prompt);
    print_marked("writes", text);
    fflush(stdout);
    free(text);
    return MIXT_OK;
}

static int stage_samples(demo_state *state)
{
    headline(state, 4, "Let it write",
             "It is given the beginning of a text and goes on. Do not expect sense of a few\n"
             "minutes: first come the frequent pieces, then the form, and meaning last.");
    bool color = terminal_color(state->settings->machine.color, stdout);
    int shown = 0;
    for (size_t i = 0; gather_domains[i].name != NULL; i++) {
        bool last = gather_domains[i + 1].name == NULL;
        if (!has_domain(state->resources.data, gather_domains[i].name) ||
            (shown >= SAMPLES - 1 && !last)) {
            continue;
        }
        shown++;
        if (print_sample(state, &gather_domains[i], color) != MIXT_OK) {
            return fail_error(&state->error);
        }
    }
    return STATUS_DONE;
}

/* ---- 5: routes */

static int write_trace(demo_state *state)
{
    char part[4300];
    snprintf(part, sizeof part, "%s.part", state->trace);
    const mixt_trace_options options = {
        .output = part,
        .model_name = "mixt demo",
        .window = window_or_context(0, state->resources.model),
        .max_tokens = TRACE_TOKENS,
        .heldout = true,
    };
    if (trace_data(&state->resources, &options, &state->error) != MIXT_OK) {
        return fail_error(&state->error);
    }
    return rename(part, state->trace) == 0 ? STATUS_DONE : io_failure(state->trace);
}

/* The short tables, the page, and the words for the end. */
static mixt_status show_routes(demo_state *state, const mixt_trace *trace)
{
    mixt_atlas_options options = {
        .color = terminal_color(state->settings->machine.color, stdout),
        .text_tokens = SHOWN_TOKENS,
        .width = terminal_width(stdout),
        .part = MIXT_ATLAS_SHORT,
    };
    size_t length = 0;
    TRY(show_trace(trace, &options, &state->error));
    TRY(mixt_atlas_page(trace, state->page, &state->error));
    FILE *words = open_memstream(&state->words, &length);
    if (words == NULL) {
        return set_memory_error(&state->error);
    }
    options.part = MIXT_ATLAS_WORDS;
    options.width -= 3; /* they stand behind a number */
    mixt_status status = mixt_atlas_print(trace, &options, words, &state->error);
    return fclose(words) == 0 ? status : set_io_error(&state->error, "the words of the atlas");
}

static int stage_atlas(demo_state *state)
{
    mixt_model_info info;
    char why[600];
    mixt_model_describe(state->resources.model, &info);
    int experts = info.options.experts;
    snprintf(why, sizeof why,
             "Every token of the kept-apart text, in every layer: which experts did it take?\n"
             "If routers chose at random, a token would go to the expert of the one before\n"
             "it in %.1f%% of the cases. More means that experts keep to stretches of text.",
             100.0 / experts);
    headline(state, 5, "Look at its routers", why);
    int status = files_exist(state->trace) ? STATUS_DONE : write_trace(state);
    if (status != STATUS_DONE) {
        return status;
    }
    mixt_trace *trace = NULL;
    mixt_status opened = mixt_trace_open(state->trace, &trace, &state->error);
    if (opened == MIXT_OK) {
        opened = show_routes(state, trace);
    }
    mixt_trace_free(trace);
    return opened == MIXT_OK ? STATUS_DONE : fail_error(&state->error);
}

/* ---- the end */

/* Behind "N. ", further lines below the first word. */
static void print_finding(int number, const char *text, size_t length)
{
    printf("\n%d. ", number);
    for (size_t i = 0; i < length; i++) {
        putchar(text[i]);
        if (text[i] == '\n' && i + 1 < length) {
            fputs("   ", stdout);
        }
    }
    printf(length > 0 && text[length - 1] == '\n' ? "" : "\n");
}

static void print_findings(const demo_state *state)
{
    int domains = mixt_data_domain_count(state->resources.data);
    const mixt_score_row *all = &state->scores[domains];
    const mixt_score_row *best = NULL, *worst = NULL;
    for (int d = 0; d < domains; d++) {
        const mixt_score_row *row = &state->scores[d];
        if (row->bytes > 0) {
            best = best == NULL || bits_per_byte(row) < bits_per_byte(best) ? row : best;
            worst = worst == NULL || bits_per_byte(row) > bits_per_byte(worst) ? row : worst;
        }
    }
    char text[600];
    int used = snprintf(text, sizeof text,
                        "It learned: of text that it never saw it needs %.2f bits a byte, where\n"
                        "guessing needs %.2f.",
                        bits_per_byte(all), guessing_bits(state, all));
    if (best != NULL && best != worst) {
        snprintf(text + used, sizeof text - (size_t)used,
                 " Easiest was %s (%.2f), hardest %s (%.2f).", best->domain, bits_per_byte(best),
                 worst->domain, bits_per_byte(worst));
    }
    bool color = terminal_color(state->settings->machine.color, stdout);
    printf("\n%sWhat came out%s\n", color ? "\033[1m" : "", color ? "\033[0m" : "");
    print_finding(1, text, strlen(text));
    const char *gap = strstr(state->words, "\n\n");
    size_t first = gap != NULL ? (size_t)(gap - state->words) + 1 : strlen(state->words);
    print_finding(2, state->words, first);
    if (gap != NULL) {
        print_finding(3, gap + 2, strlen(gap + 2));
    }
    fputs("\nFrom the mean: the part of its choices that a domain would have to move to other\n"
          "experts to be like the average. The paper is \"Mixtral of Experts\" (Jiang et al.\n"
          "2024, arXiv 2401.04088); its section 5 asks the same of a model of 47 billion\n"
          "parameters.\n",
          stdout);
}

static void print_next(const demo_state *state)
{
    const struct {
        const char *command, *path, *rest;
    } rows[] = {
        {" run -m ", state->model,
         " -p 'This program ' -n 100\n      let it go on with a text of yours\n"},
        {" atlas ", state->trace,
         " --color | less -R\n      all tables: every layer, domain and expert\n"},
        {" train --data ", state->text,
         " --out my-run --experts 16 --seconds 60\n      train another one on the same text\n"},
    };
    fputs("\nNext, to type:\n", stdout);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        fputs("  ", stdout);
        print_shell_word(stdout, program_path);
        fputs(rows[i].command, stdout);
        print_shell_word(stdout, rows[i].path);
        fputs(rows[i].rest, stdout);
    }
}

static void print_intro(const demo_state *state)
{
    printf("mixt demo: a small Mixture-of-Experts language model, made from nothing.\n\n"
           "Each layer of such a model has several experts (small networks) and a router\n"
           "that sends every token to a few of them. The demo trains one for %.0f seconds,\n"
           "tests it, and looks where its routers send text: five stages, a few minutes.\n"
           "Everything goes into %s. Ctrl-C stops; the same command goes on from there.\n",
           state->settings->seconds, state->settings->out);
    fflush(stdout);
}

static int run_stages(demo_state *state, const char *const *again)
{
    int status = stage_text(state);
    if (status == STATUS_DONE) {
        status = stage_training(state, again);
    }
    if (status == STATUS_DONE) {
        status = stage_scores(state);
    }
    if (status == STATUS_DONE) {
        status = stage_samples(state);
    }
    if (status == STATUS_DONE) {
        status = stage_atlas(state);
    }
    return status;
}

static int run_demo(void *user, cli_arguments *arguments)
{
    const demo_settings *settings = user;
    char shown[PATH_MAX];
    demo_state *state = calloc(1, sizeof *state);
    /* what was typed, to go on with */
    const char **again = calloc((size_t)arguments->argc + 2, sizeof *again);
    if (state == NULL || again == NULL) {
        free(state);
        free(again);
        return fail_with(STATUS_FAILED, "out of memory");
    }
    again[0] = "demo";
    memcpy(again + 1, arguments->argv, (size_t)arguments->argc * sizeof *again);
    state->settings = settings;
    state->matmul_said = options_given(arguments, "matmul") != NULL;
    const char *out = settings->out;
    bool fits = files_join(state->text, sizeof state->text, out, "text") &&
                files_join(state->tokenizer, sizeof state->tokenizer, out, "tokenizer") &&
                files_join(state->products, sizeof state->products, out, "products") &&
                files_join(state->run, sizeof state->run, out, "run") &&
                files_join(state->model, sizeof state->model, out, "model") &&
                files_join(state->trace, sizeof state->trace, out, "trace.safetensors") &&
                files_join(state->page, sizeof state->page, out, "atlas.html");
    int status = STATUS_DONE;
    if (!fits || strlen(out) > 4000) {
        status = fail_usage("--out: the path is too long");
    } else if (!files_make_folder(out) || !files_make_folder(state->run)) {
        status = io_failure(out);
    } else {
        print_intro(state);
        status = run_stages(state, again);
    }
    if (status == STATUS_DONE) {
        fflush(stderr);
        print_findings(state);
        print_next(state);
        printf("\nThe page with the figures:\n");
        say(stdout, "%s\n", realpath(state->page, shown) != NULL ? shown : state->page);
    }
    resources_free(&state->resources);
    free(state->scores);
    free(state->words);
    free(state);
    free(again);
    return status;
}

const cli_command command_demo = {
    .name = "demo",
    .summary = "the whole story on text found on this machine",
    .synopsis = "[--seconds 180] [--out demo]",
    .about = "Gathers real text by domain below /usr, trains a vocabulary and a small "
             "Mixture-of-Experts model on it, scores held-out text, generates some, and shows "
             "where the routers sent it, in the terminal and as a page. Everything stays below "
             "--out. Interrupted at any time, it goes on where it was when started again; remove "
             "the folder to begin anew.",
    .examples = "  mixt demo\n  mixt demo --seconds 600 --out longer\n",
    .groups = (const cli_group[]){{"options", demo_options, 0},
                                  {"machine", options_machine, offsetof(demo_settings, machine)},
                                  {0}},
    .leaves_files = true,
    .settings_size = sizeof(demo_settings),
    .defaults = demo_defaults,
    .run = run_demo,
};
