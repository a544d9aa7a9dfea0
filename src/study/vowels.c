/* The vowel task of 1991: rates, runs, and what they say. */
#include "study/vowels.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backend/context.h"
#include "core/error.h"
#include "core/threads.h"

enum {
    RUNS_MAX = 1000,
    EXPLORED_RUNS = 3, /* numbered behind RUNS_MAX, so that none is also a run that counts */
    RATE_LOW = -8,     /* powers of the square root of 2: 1/16 */
    RATE_HIGH = 12,    /* 64 */
};

mixt_vowel_options mixt_vowel_options_default(void)
{
    return (mixt_vowel_options){
        .coding = MIXT_VOWELS_PAIRS,
        .runs = 25,
        .train_speakers = 50,
        .test_speakers = 25,
        .seed = 1991,
        .stop_error = 0.08,
        .epochs = 5000,
        .deviation = 0.5,
        .rise = 0.01,
    };
}

static mixt_status out_of_range(const char *name, const char *range, mixt_error *error)
{
    return mixt_fail(error, MIXT_ERROR_ARGUMENT, "vowels: %s is not in %s", name, range);
}

static mixt_status check(const mixt_vowel_options *o, mixt_error *error)
{
    MIXT_TRY(MIXT_CHECK_RESERVED(mixt_vowel_options, o, error));
    if (o->coding != MIXT_VOWELS_PAIRS && o->coding != MIXT_VOWELS_CLASSES) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "vowels: no such coding: %d", (int)o->coding);
    }
    if (o->runs < 1 || o->runs > RUNS_MAX) {
        return out_of_range("runs", "1..1000", error);
    }
    if (o->train_speakers < 1 || o->train_speakers > MIXT_VOWEL_SPEAKERS_MAX ||
        o->test_speakers < 1 || o->test_speakers > MIXT_VOWEL_SPEAKERS_MAX) {
        return out_of_range("train_speakers or test_speakers", "1..1000", error);
    }
    if (!(o->stop_error > 0 && o->stop_error <= 1)) {
        return out_of_range("stop_error", "0..1", error);
    }
    if (o->epochs < 1 || o->epochs > 1000000) {
        return out_of_range("epochs", "1..1000000", error);
    }
    if (!(o->deviation > 0 && o->deviation <= 100)) {
        return out_of_range("deviation", "0..100", error);
    }
    if (!(o->rise >= 0 && o->rise <= 100)) {
        return out_of_range("rise", "0..100", error);
    }
    for (int s = 0; s < MIXT_VOWEL_SYSTEMS; s++) {
        if (!(o->rate[s] >= 0 && o->rate[s] <= 1e6)) {
            return out_of_range("rate", "0..1000000", error);
        }
    }
    return MIXT_OK;
}

/* ------------------------------------------------------------------------------------------ */
/* Side by side                                                                               */

/* What all items of a parallel loop share. An item writes its own run, rate and status alone. */
typedef struct study {
    const mixt_vowel_data *data;
    const mixt_vowel_options *options;
    mixt_context **contexts; /* of one thread, one for each thread of the pool */
    double rates[MIXT_VOWEL_SYSTEMS];
    double tried;                      /* while rates are explored, from the largest down */
    int64_t least[MIXT_VOWEL_SYSTEMS]; /* epochs of the explored runs with the best rate */
    mixt_vowel_run *runs;
    int64_t first;      /* run that item 0 is */
    mixt_error *errors; /* of each item */
} study;

static mixt_status train(const study *s, int thread, const mixt_vowel_task *task,
                         mixt_vowel_run *run, mixt_error *error)
{
    return mixt_vowel_train(&s->contexts[thread]->device, task, run, error);
}

/* Tries a rate on a system: it counts where all runs get there in fewer epochs than with the best
 * so far. A run that is not steady ends there, one that is slower than the best soon. */
static void explore(void *context, int64_t item, int thread)
{
    study *s = context;
    mixt_vowel_task task = {
        .data = s->data,
        .options = s->options,
        .system = (int)item,
        .rate = s->tried,
        .rise = s->options->rise,
    };
    int64_t epochs = 0, least = s->least[item];
    bool reached = s->options->rate[item] == 0 && s->tried * 4 >= s->rates[item];
    for (int i = 0; i < EXPLORED_RUNS && reached && epochs < least; i++) {
        mixt_vowel_run run = {0};
        task.run = RUNS_MAX + i;
        task.epochs = least - epochs < s->options->epochs ? least - epochs : s->options->epochs;
        reached = train(s, thread, &task, &run, &s->errors[item]) == MIXT_OK && run.reached;
        epochs += run.epochs;
    }
    if (reached && epochs < least) {
        s->least[item] = epochs;
        s->rates[item] = task.rate;
    }
}

static void run_one(void *context, int64_t item, int thread)
{
    study *s = context;
    int64_t number = s->first + item;
    mixt_vowel_task task = {
        .data = s->data,
        .options = s->options,
        .system = (int)(number / s->options->runs),
        .run = (int)(number % s->options->runs),
        .epochs = s->options->epochs,
    };
    task.rate = s->rates[task.system];
    if (task.rate > 0) {
        (void)train(s, thread, &task, &s->runs[number], &s->errors[item]);
    }
}

static mixt_status first_error(const study *s, int64_t count, mixt_error *error)
{
    for (int64_t i = 0; i < count; i++) {
        if (s->errors[i].status != MIXT_OK) {
            return mixt_fail(error, s->errors[i].status, "%s", s->errors[i].message);
        }
    }
    return MIXT_OK;
}

/* All runs, as many at once as there are threads, so that progress is told between them. */
static mixt_status run_all(study *s, mixt_pool *pool, mixt_error *error)
{
    const mixt_vowel_options *o = s->options;
    int64_t total = (int64_t)MIXT_VOWEL_SYSTEMS * o->runs, side = mixt_pool_threads(pool);
    for (int i = 0; i < MIXT_VOWEL_SYSTEMS; i++) {
        s->rates[i] = o->rate[i];
        s->least[i] = EXPLORED_RUNS * o->epochs + 1;
    }
    for (int power = RATE_HIGH; power >= RATE_LOW; power--) {
        MIXT_TRY(mixt_go_on(o->progress, o->user, 0, (double)total, error));
        s->tried = pow(2, power / 2.0);
        mixt_pool_run(pool, MIXT_VOWEL_SYSTEMS, explore, s);
        MIXT_TRY(first_error(s, MIXT_VOWEL_SYSTEMS, error));
    }
    for (s->first = 0; s->first < total; s->first += side) {
        int64_t count = side < total - s->first ? side : total - s->first;
        MIXT_TRY(mixt_go_on(o->progress, o->user, (double)s->first, (double)total, error));
        mixt_pool_run(pool, count, run_one, s);
        MIXT_TRY(first_error(s, count, error));
    }
    return mixt_go_on(o->progress, o->user, (double)total, (double)total, error);
}

/* ------------------------------------------------------------------------------------------ */
/* What came out                                                                              */

/* Each unit has a weight for each of its inputs and a bias. */
static int parameters_of(int experts, int hidden, mixt_vowel_coding coding)
{
    int inputs = MIXT_VOWEL_FORMANTS + 1, outputs = mixt_vowel_outputs(coding);
    return experts > 0 ? experts * inputs * (outputs + 1)
                       : hidden * inputs + outputs * (hidden + 1);
}

static void summarise(const study *s, int system, mixt_vowel_system *to, double *epochs)
{
    const mixt_vowel_run *runs = s->runs + (int64_t)system * s->options->runs;
    *to = (mixt_vowel_system){
        .rate = s->rates[system],
    };
    mixt_vowel_system_size(system, &to->experts, &to->hidden);
    to->parameters = parameters_of(to->experts, to->hidden, s->options->coding);
    for (int i = 0; i < s->options->runs; i++) {
        if (runs[i].reached) {
            epochs[to->reached++] = (double)runs[i].epochs;
            to->epochs += (double)runs[i].epochs;
            to->train += runs[i].train;
            to->test += runs[i].test;
            to->active += runs[i].active;
        }
    }
    double *const means[] = {&to->epochs, &to->train, &to->test, &to->active};
    for (size_t i = 0; i < sizeof means / sizeof *means; i++) {
        *means[i] = to->reached > 0 ? *means[i] / to->reached : NAN;
    }
    double squares = 0;
    for (int i = 0; i < to->reached; i++) {
        squares += pow(epochs[i] - to->epochs, 2);
    }
    to->epochs_deviation = to->reached > 1 ? sqrt(squares / (to->reached - 1)) : NAN;
}

static mixt_status report_all(const study *s, mixt_vowel_report *report, mixt_error *error)
{
    double *epochs = malloc((size_t)MIXT_VOWEL_SYSTEMS * (size_t)s->options->runs * sizeof *epochs);
    if (epochs == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "vowels: no memory");
    }
    *report = (mixt_vowel_report){
        .train_cases = (int)s->data->train,
        .test_cases = (int)s->data->test,
        .speakers = s->data->speakers,
    };
    memcpy(report->dropped, s->data->dropped, sizeof report->dropped);
    mixt_vowel_comparison *c = report->comparisons;
    for (int second = 0; second < MIXT_VOWEL_SYSTEMS; second++) {
        mixt_vowel_system *systems = report->systems;
        summarise(s, second, &systems[second], epochs + second * s->options->runs);
        for (int first = 0; first < second; first++, c++) {
            *c = (mixt_vowel_comparison){
                .first = first,
                .second = second,
                .t = mixt_student_pooled(epochs + first * s->options->runs, systems[first].reached,
                                         epochs + second * s->options->runs,
                                         systems[second].reached),
                .freedom = systems[first].reached + systems[second].reached - 2,
            };
            c->p = mixt_student_tails(c->t, c->freedom);
        }
    }
    free(epochs);
    return MIXT_OK;
}

/* A context of one thread, on the tier of another. */
static mixt_status create_contexts(const mixt_context *context, int count, mixt_context **contexts,
                                   mixt_error *error)
{
    mixt_context_options one = {.threads = 1, .cpu = mixt_context_cpu(context)};
    for (int i = 0; i < count; i++) {
        MIXT_TRY(mixt_context_create(&one, &contexts[i], error));
    }
    return MIXT_OK;
}

mixt_status mixt_vowels(mixt_context *context, const char *path, const mixt_vowel_options *options,
                        mixt_vowel_report *report, mixt_vowel_run *runs, mixt_error *error)
{
    *report = (mixt_vowel_report){0};
    MIXT_TRY(check(options, error));
    mixt_vowel_data data;
    MIXT_TRY(mixt_vowel_data_read(path, options, &data, error));
    mixt_pool *pool = mixt_context_pool(context);
    int threads = mixt_pool_threads(pool);
    size_t total = (size_t)MIXT_VOWEL_SYSTEMS * (size_t)options->runs;
    size_t items = total > (size_t)threads ? total : (size_t)threads;
    study s = {
        .data = &data,
        .options = options,
        .contexts = calloc((size_t)threads, sizeof *s.contexts),
        .runs = calloc(total, sizeof *s.runs),
        .errors = calloc(items, sizeof *s.errors),
    };
    mixt_status status = MIXT_OK;
    if (s.contexts == NULL || s.runs == NULL || s.errors == NULL) {
        status = mixt_fail(error, MIXT_ERROR_MEMORY, "vowels: no memory");
    }
    if (status == MIXT_OK) {
        status = create_contexts(context, threads, s.contexts, error);
    }
    if (status == MIXT_OK) {
        status = run_all(&s, pool, error);
    }
    if (status == MIXT_OK) {
        status = report_all(&s, report, error);
    }
    if (status == MIXT_OK && runs != NULL) {
        memcpy(runs, s.runs, total * sizeof *runs);
    }
    for (int i = 0; i < threads && s.contexts != NULL; i++) {
        mixt_context_free(s.contexts[i]);
    }
    free(s.contexts);
    free(s.runs);
    free(s.errors);
    mixt_vowel_data_free(&data);
    return status;
}
