#include "training.h"

#include <stdlib.h>
#include <string.h>

#include "files.h"
#include "generate.h"
#include "interrupt.h"
#include "ranks.h"
#include "terminal.h"

enum { SAMPLE_TOKENS = 32, SAMPLE_TOP_K = 200, SAMPLE_CONTEXT = SAMPLE_TOKENS + 8 };

/* ---- vocabulary */

typedef struct vocabulary_source {
    mixt_corpus *corpus;
    uint64_t domain_bytes;
    uint64_t *taken; /* bytes of each domain so far */
    int domains;
    mixt_error error;
    progress_line progress;
    uint64_t total;
} vocabulary_source;

static uint64_t *taken_of(vocabulary_source *source, int domain)
{
    if (domain >= source->domains) {
        uint64_t *grown = realloc(source->taken, ((size_t)domain + 1) * sizeof *grown);
        if (grown == NULL) {
            return NULL;
        }
        for (int i = source->domains; i <= domain; i++) {
            grown[i] = 0;
        }
        source->taken = grown;
        source->domains = domain + 1;
    }
    return &source->taken[domain];
}

static const char *next_text(void *user, size_t *length)
{
    vocabulary_source *source = user;
    const mixt_document *document = NULL;
    while (mixt_corpus_next(source->corpus, &document, &source->error) == MIXT_OK &&
           document != NULL) {
        uint64_t *taken = taken_of(source, document->domain);
        if (taken == NULL) {
            set_memory_error(&source->error);
            return NULL;
        }
        if (document->text == NULL ||
            (source->domain_bytes > 0 && *taken >= source->domain_bytes)) {
            continue;
        }
        *taken += document->length;
        source->total += document->length;
        char detail[40];
        format_bytes((double)source->total, detail);
        progress_draw(&source->progress, 0, detail);
        *length = document->length;
        return document->text;
    }
    return NULL;
}

mixt_status train_vocabulary(mixt_corpus *corpus, int vocab_size, uint64_t domain_bytes,
                             mixt_tokenizer **tokenizer, mixt_error *error)
{
    vocabulary_source source = {.corpus = corpus, .domain_bytes = domain_bytes};
    progress_begin(&source.progress, "vocabulary");
    double start = terminal_seconds();
    mixt_status status = mixt_tokenizer_train(next_text, &source, vocab_size, tokenizer, error);
    progress_end(&source.progress);
    free(source.taken);
    if (source.error.status != MIXT_OK) {
        mixt_tokenizer_free(*tokenizer);
        *tokenizer = NULL;
        *error = source.error;
        return source.error.status;
    }
    if (status != MIXT_OK) {
        return status;
    }
    char bytes[24];
    format_bytes((double)source.total, bytes);
    fprintf(stderr, "vocabulary: %d ids from %s of text in %.1f s\n",
            mixt_tokenizer_vocab_size(*tokenizer), bytes, terminal_seconds() - start);
    return mixt_corpus_rewind(corpus, error);
}

/* ---- the loop */

/* The bar and the numbers before it are of what ends the run. */
static void draw_step(progress_line *progress, const training_run *run,
                      const mixt_step_report *report)
{
    char rate[32];
    char left[24];
    char detail[240];
    format_count((uint64_t)(report->tokens_per_second + 0.5), rate);
    format_seconds(report->seconds_left, left);
    double seconds = run->options->seconds;
    int used = seconds > 0 ? snprintf(detail, sizeof detail, "%.0f of %.0f s, step %lld",
                                      report->share * seconds, seconds, (long long)report->step)
                           : snprintf(detail, sizeof detail, "step %lld of %lld",
                                      (long long)report->step, (long long)report->steps);
    used += snprintf(detail + used, sizeof detail - (size_t)used,
                     " loss %.3f %s tok/s %s left load %.2f", report->loss, rate, left,
                     report->load_max_over_mean);
    if (report->dead_fraction > 0) {
        used += snprintf(detail + used, sizeof detail - (size_t)used, " dead %.0f%%",
                         100 * report->dead_fraction);
    }
    if (report->dropped > 0) {
        used += snprintf(detail + used, sizeof detail - (size_t)used, " dropped %.1f%%",
                         100 * report->dropped);
    }
    if (report->skipped > 0) {
        snprintf(detail + used, sizeof detail - (size_t)used, " skipped %lld",
                 (long long)report->skipped);
    }
    progress_draw(progress, report->share, detail);
}

typedef struct sample_of {
    const training_run *run;
    int64_t step;
} sample_of;

/* A few words of the model as it is. They depend on the run's seed and the step alone, and training
 * on nothing of them. */
static mixt_status print_sample(void *user, mixt_error *error)
{
    const training_run *run = ((const sample_of *)user)->run;
    int64_t step = ((const sample_of *)user)->step;
    const mixt_tokenizer *tokenizer = run->resources->tokenizer;
    bool begins = mixt_tokenizer_separator(tokenizer) >= 0 ||
                  mixt_tokenizer_around(tokenizer, MIXT_SPECIAL_BOS) >= 0;
    int context = window_or_context(0, run->resources->model);
    sample_request request = {
        .prompt = "\n",
        .length = begins ? 0 : 1,
        .context_length = context < SAMPLE_CONTEXT ? context : SAMPLE_CONTEXT,
        .tokens = SAMPLE_TOKENS,
        .sampling = mixt_sampling_default(),
    };
    request.sampling.top_k = SAMPLE_TOP_K;
    request.sampling.seed = run->options->seed + (uint64_t)step;
    char *text;
    TRY(sample_text(run->resources, &request, &text, error));
    fprintf(stderr, "step %lld: sample ", (long long)step);
    print_json_text(stderr, text);
    fputc('\n', stderr);
    free(text);
    return MIXT_OK;
}

/* What is said of a step beside the progress line. */
static mixt_status print_step(const training_run *run, progress_line *progress,
                              const mixt_step_report *report, mixt_error *error)
{
    bool samples = run->sample_every > 0 && report->step % run->sample_every == 0;
    if (report->was_skipped || report->evaluated || samples) {
        progress_end(progress);
    }
    if (report->was_skipped) {
        fprintf(stderr, "step %lld skipped: NaN or Inf\n", (long long)report->step);
    }
    if (report->evaluated) {
        fprintf(stderr, "step %lld: train loss %.4f, val loss %.4f\n", (long long)report->step,
                report->train_loss, report->heldout_loss);
    }
    sample_of sample = {run, report->step};
    return samples ? ranks_together(run->resources, print_sample, &sample, error) : MIXT_OK;
}

/* A signal that came to one rank stops all of them, as the exit status of it. */
static mixt_status asked_to_stop(int64_t *signal_status, mixt_error *error)
{
    *signal_status = interrupt_status();
    return program_ranks != NULL ? mixt_ranks_largest(program_ranks, signal_status, error)
                                 : MIXT_OK;
}

/* Steps until done, a failure (error set) or a signal (*stop: the exit status, else 0). */
static mixt_status step_through(const training_run *run, mixt_trainer *trainer,
                                mixt_step_report *report, int64_t *stop, mixt_error *error)
{
    progress_line progress;
    progress_begin(&progress, "train");
    mixt_status status = asked_to_stop(stop, error);
    while (status == MIXT_OK && !mixt_trainer_done(trainer) && *stop == 0) {
        status = mixt_trainer_step(trainer, report, error);
        if (status == MIXT_OK) {
            draw_step(&progress, run, report);
            status = print_step(run, &progress, report, error);
        }
        status = status == MIXT_OK ? asked_to_stop(stop, error) : status;
    }
    progress_end(&progress);
    return status;
}

static int stop_early(mixt_trainer *trainer, const training_run *run,
                      const mixt_step_report *report, int signal_status)
{
    mixt_error error = MIXT_ERROR_INIT;
    if (mixt_trainer_checkpoint(trainer, &error) != MIXT_OK) {
        return fail_error(&error);
    }
    ranks_all_know(); /* and end with the same status */
    say(stderr,
        "stopped at step %lld; a checkpoint is in %s. Go on with: ", (long long)report->step,
        run->folder);
    print_shell_word(stderr, program_path);
    for (const char *const *word = run->again; *word != NULL; word++) {
        fputc(' ', stderr);
        print_shell_word(stderr, *word);
    }
    fputc('\n', stderr);
    return signal_status;
}

/* One line for each checkpoint that was passed over. */
static void print_lines(const char *text)
{
    while (*text != '\0') {
        size_t length = strcspn(text, "\n");
        say(stderr, "%.*s\n", (int)length, text);
        text += length + (text[length] == '\n');
    }
}

static void print_nothing_to_do(const training_run *run, const mixt_trainer *trainer)
{
    long long step = (long long)mixt_trainer_steps(trainer);
    if (run->options->seconds > 0) {
        say(stderr,
            "nothing to train: %s has trained for %g seconds (step %lld); --seconds "
            "asks for no more\n",
            run->folder, run->options->seconds, step);
    } else {
        say(stderr, "nothing to train: %s is at step %lld, and --steps is %lld\n", run->folder,
            step, (long long)run->options->steps);
    }
}

/* Says what learns where that is not all: values by part, and their share of the model's. */
static void print_learning(const mixt_train_options *options, const mixt_trainer *trainer)
{
    uint64_t total = mixt_trainer_values(trainer), learning = 0;
    char count[32];
    const char *before = "learning: ";
    bool all = options->parts == 0 || options->parts == MIXT_PART_ALL;
    if (all && options->lora_rank == 0) {
        return;
    }
    for (int i = -1; i < 0 || mixt_train_part_name(i) != NULL; i++) {
        int64_t part = i < 0 ? MIXT_PART_ADAPTERS : (int64_t)1 << i;
        uint64_t values = mixt_trainer_learning(trainer, part);
        if (values > 0) {
            format_count(values, count);
            fprintf(stderr, "%s%s %s", before, i < 0 ? "adapters" : mixt_train_part_name(i), count);
            before = ", ";
        }
        learning += values;
    }
    format_count(total, count);
    fprintf(stderr, "; %.3g%% of the model's %s\n", 100 * (double)learning / (double)total, count);
}

int train_run(const training_run *run)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_trainer *trainer = NULL;
    mixt_step_report report = {0};
    const cli_resources *resources = run->resources;
    if (mixt_trainer_create(resources->context, resources->model, resources->data,
                            resources->tokenizer, run->options, run->folder, &trainer,
                            &error) != MIXT_OK) {
        return fail_error(&error);
    }
    if (mixt_trainer_resumed(trainer) != NULL) {
        print_lines(mixt_trainer_resumed(trainer));
    }
    if (run->began != NULL) {
        *run->began = true;
    }
    print_learning(run->options, trainer);
    if (mixt_trainer_done(trainer)) {
        print_nothing_to_do(run, trainer);
    }
    interrupt_begin();
    int64_t stop = 0;
    mixt_status status = step_through(run, trainer, &report, &stop, &error);
    int result = STATUS_DONE;
    if (status != MIXT_OK) {
        result = fail_error(&error);
    } else if (stop != 0 && !mixt_trainer_done(trainer)) {
        result = stop_early(trainer, run, &report, (int)stop);
    } else if (report.step > 0) {
        char rate[32];
        char spent[24];
        format_count((uint64_t)(report.tokens_per_second + 0.5), rate);
        format_seconds(report.seconds, spent);
        char dropped[32] = "";
        if (report.dropped > 0) {
            snprintf(dropped, sizeof dropped, ", dropped %.1f%%", 100 * report.dropped);
        }
        fprintf(stderr, "trained %lld step%s in %s: loss %.4f, %s tokens/s, load %.2f%s\n",
                (long long)report.step, plural((uint64_t)report.step), spent, report.loss, rate,
                report.load_max_over_mean, dropped);
    }
    interrupt_end();
    mixt_trainer_free(trainer);
    return result;
}

/* ---- what comes out */

static mixt_status save_alone(const cli_resources *resources, const char *folder, mixt_error *error)
{
    if (!files_make_folder(folder)) {
        return set_io_error(error, folder);
    }
    TRY(mixt_model_save(resources->model, folder, error));
    return mixt_tokenizer_save(resources->tokenizer, folder, error); /* adds its ends */
}

mixt_status save_model(const cli_resources *resources, const char *folder, mixt_error *error)
{
    if (program_ranks == NULL) {
        return save_alone(resources, folder, error);
    }
    mixt_status status = MIXT_OK;
    if (ranks_lead()) {
        status = save_alone(resources, folder, error);
    } else if (mixt_ranks_expert(program_ranks) > 1) { /* it needs the others' experts */
        status = mixt_model_save(resources->model, folder, error);
    }
    return mixt_ranks_agree(program_ranks, status, error);
}
