/* The vowel task of 1991: its plans against PyTorch and numpy, its CSV reader, its t test, and that
 * runs repeat. The formants here are made by a formula. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "backend/context.h"
#include "scratch.h"
#include "study/vowels.h"

/* ---- plans in double against tests/reference/vowels.py */

typedef struct numbers {
    double *values;
    size_t count;
} numbers;

static numbers numbers_of(const json_t *object, const char *key)
{
    const json_t *array = json_object_get(object, key);
    numbers n = {calloc(json_array_size(array) + 1, sizeof(double)), json_array_size(array)};
    assert_true(n.count > 0);
    for (size_t i = 0; i < n.count; i++) {
        n.values[i] = json_number_value(json_array_get(array, i));
    }
    return n;
}

/* A plan with its memory, ready to run. */
typedef struct runner {
    mixt_vowel_plan plan;
    mixt_instance *instance;
    mixt_device_memory weights, gradients;
    int64_t cases;
} runner;

static void create_runner(const mixt_vowel_shape *shape, int64_t cases, runner *r)
{
    mixt_error error = MIXT_ERROR_INIT;
    const mixt_device *device = &scratch_context->device;
    const mixt_backend *backend = mixt_device_backend(device, sizeof(double));
    *r = (runner){.cases = cases};
    must(mixt_vowel_plan_create(shape, cases, sizeof(double), &r->plan, &error), &error);
    size_t bytes = r->plan.weight_count * sizeof(double);
    must(mixt_device_memory_create(backend, bytes, &r->weights, &error), &error);
    must(mixt_device_memory_create(backend, bytes, &r->gradients, &error), &error);
    must(mixt_instance_create(r->plan.plan, device, MIXT_MATMUL_EXACT, &r->instance, &error),
         &error);
    for (int i = 0; i < r->plan.parameter_count; i++) {
        const mixt_vowel_parameter *p = &r->plan.parameters[i];
        mixt_instance_bind(r->instance, p->value, &r->weights, p->first * sizeof(double));
        mixt_instance_bind(r->instance, r->plan.plan->values[p->value].gradient, &r->gradients,
                           p->first * sizeof(double));
    }
}

static void free_runner(runner *r)
{
    mixt_instance_free(r->instance);
    mixt_device_memory_free(&r->weights);
    mixt_device_memory_free(&r->gradients);
    mixt_plan_free(r->plan.plan);
}

/* Mean loss over the cases with these weights. */
static double mean_loss(runner *r, const numbers *weights)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_device_memory_write(&r->weights, 0, weights->values, weights->count * sizeof(double));
    must(mixt_instance_run(r->instance, r->cases, 0, r->plan.plan->forward_count, &error), &error);
    const double *nll = mixt_instance_view(r->instance, r->plan.nll);
    double sum = 0;
    for (int64_t i = 0; i < r->cases; i++) {
        sum += nll[i] / (double)r->cases;
    }
    return sum;
}

/* The worst of written gradients against differences, relative to the number, but no smaller than a
 * thousandth of the largest. */
static double check_differences(runner *r, numbers *weights, const double *gradients)
{
    const double h = 1e-3;
    double worst = 0, most = 0;
    for (size_t i = 0; i < weights->count; i++) {
        most = fmax(most, fabs(gradients[i]));
    }
    for (size_t i = 0; i < weights->count; i++) {
        double here = weights->values[i], at[4];
        for (int k = 0; k < 4; k++) {
            static const double steps[] = {1, -1, 2, -2};
            weights->values[i] = here + steps[k] * h;
            at[k] = mean_loss(r, weights);
        }
        weights->values[i] = here;
        double numeric = (8 * (at[0] - at[1]) - (at[2] - at[3])) / (12 * h);
        double scale = fmax(fmax(fabs(numeric), fabs(gradients[i])), 1e-3 * most);
        worst = fmax(worst, fabs(numeric - gradients[i]) / scale);
    }
    assert_true(worst <= 1e-6);
    return worst;
}

static void expect_near(const char *what, const double *have, const numbers *want, double *worst)
{
    for (size_t i = 0; i < want->count; i++) {
        double off = fabs(have[i] - want->values[i]);
        *worst = fmax(*worst, off);
        if (!(off <= 1e-13)) {
            fail_msg("%s[%zu] is %.17g, the reference has %.17g", what, i, have[i],
                     want->values[i]);
        }
    }
}

static void check_system(const json_t *system, int64_t cases)
{
    mixt_vowel_shape shape = {
        .experts = (int)json_integer_value(json_object_get(system, "experts")),
        .hidden = (int)json_integer_value(json_object_get(system, "hidden")),
        .outputs = (int)json_integer_value(json_object_get(system, "outputs")),
        .linear = json_is_true(json_object_get(system, "linear")),
    };
    static const char *const keys[] = {"formants", "targets", "weights",
                                       "loss",     "mixture", "gradients"};
    enum { FORMANTS, TARGETS, WEIGHTS, LOSS, MIXTURE, GRADIENTS, KEYS };
    numbers n[KEYS];
    for (int i = 0; i < KEYS; i++) {
        n[i] = numbers_of(system, keys[i]);
    }
    mixt_error error = MIXT_ERROR_INIT;
    runner r;
    create_runner(&shape, cases, &r);
    assert_int_equal(r.plan.weight_count, n[WEIGHTS].count);
    double scale[MIXT_SCALES] = {[MIXT_SCALE_LOSS] = 1.0 / (double)cases};
    mixt_instance_write(r.instance, r.plan.formants, n[FORMANTS].values,
                        n[FORMANTS].count * sizeof(double));
    mixt_instance_write(r.instance, r.plan.targets, n[TARGETS].values,
                        n[TARGETS].count * sizeof(double));
    mixt_instance_write(r.instance, r.plan.scale, scale, sizeof scale);
    (void)mean_loss(&r, &n[WEIGHTS]);
    double worst = 0, *gradients = calloc(n[WEIGHTS].count, sizeof *gradients);
    expect_near("loss", mixt_instance_view(r.instance, r.plan.nll), &n[LOSS], &worst);
    expect_near("mixture", mixt_instance_view(r.instance, r.plan.mixture), &n[MIXTURE], &worst);
    must(mixt_instance_run(r.instance, cases, r.plan.plan->forward_count, r.plan.plan->record_count,
                           &error),
         &error);
    mixt_device_memory_read(&r.gradients, 0, gradients, n[WEIGHTS].count * sizeof(double));
    expect_near("gradients", gradients, &n[GRADIENTS], &worst);
    print_message(
        "%d experts, %d hidden units, %d outputs: %.1e from the reference, worst relative "
        "error of the derivative %.1e\n",
        shape.experts, shape.hidden, shape.outputs, worst,
        check_differences(&r, &n[WEIGHTS], gradients));
    free(gradients);
    free_runner(&r);
    for (int i = 0; i < KEYS; i++) {
        free(n[i].values);
    }
}

static void test_reference(void **state)
{
    (void)state;
    json_t *root = json_load_file("tests/fixtures/study/competitive.json", 0, NULL);
    const json_t *systems = json_object_get(root, "systems");
    assert_int_equal(json_array_size(systems), 5);
    for (size_t i = 0; i < json_array_size(systems); i++) {
        check_system(json_array_get(systems, i),
                     json_integer_value(json_object_get(root, "cases")));
    }
    json_decref(root);
}

/* ---- the task on formants by a formula */

enum { SPEAKERS = 13 };

/* Vowels around four places, a speaker's all scaled by one number, in a folder of the test. */
static char *write_vowels(const char *name, int speakers)
{
    static const struct {
        const char *name;
        double f1, f2;
    } vowels[] = {
        {"i", 300, 2600}, {"I", 430, 2200}, {"A", 800, 1200}, {"V", 680, 1320}, {"u", 340, 900}};
    char *path = scratch_path(name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fprintf(file, "\"sex\",speaker,vowel,f0,f1,f2\r\n");
    for (int s = 0; s < speakers; s++) {
        for (int v = 0; v < 10; v++) {
            double size = 1 + 0.15 * sin(3 * s + 0.5), off = 40 * sin(7 * s + 5 * v);
            fprintf(file, "f,\"%d\",%s,120,%.1f,%.1f\r\n", s + 1, vowels[v / 2].name,
                    vowels[v / 2].f1 * size + off, vowels[v / 2].f2 * size - 2 * off);
        }
    }
    assert_int_equal(fclose(file), 0);
    return path;
}

static mixt_vowel_options small_options(void)
{
    mixt_vowel_options o = mixt_vowel_options_default();
    o.runs = 3;
    o.train_speakers = 8;
    o.test_speakers = 4;
    o.standardise = true;
    o.epochs = 400;
    return o;
}

typedef struct outcome {
    mixt_vowel_report report;
    mixt_vowel_run runs[3 * MIXT_VOWEL_SYSTEMS];
} outcome;

static void run_task(const char *path, const mixt_vowel_options *o, int threads, outcome *to)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_context *context;
    mixt_context_options machine = {.threads = threads};
    memset(to, 0, sizeof *to);
    must(mixt_context_create(&machine, &context, &error), &error);
    must(mixt_vowels(context, path, o, &to->report, to->runs, &error), &error);
    mixt_context_free(context);
}

/* Every number that came out, to the last bit. */
static char *text_of(const outcome *o)
{
    char *text = NULL;
    size_t length;
    FILE *stream = open_memstream(&text, &length);
    assert_non_null(stream);
    for (int i = 0; i < MIXT_VOWEL_SYSTEMS; i++) {
        const mixt_vowel_system *s = &o->report.systems[i];
        fprintf(stream, "%a %d %a %a %a %a %a\n", s->rate, s->reached, s->epochs,
                s->epochs_deviation, s->train, s->test, s->active);
    }
    for (int i = 0; i < MIXT_VOWEL_COMPARISONS; i++) {
        const mixt_vowel_comparison *c = &o->report.comparisons[i];
        fprintf(stream, "%d %d %a %d %a\n", c->first, c->second, c->t, c->freedom, c->p);
    }
    for (int i = 0; i < 3 * MIXT_VOWEL_SYSTEMS; i++) {
        const mixt_vowel_run *r = &o->runs[i];
        fprintf(stream, "%d %d %a %a %a %d\n", r->reached, (int)r->epochs, r->error, r->train,
                r->test, r->active);
    }
    assert_int_equal(fclose(stream), 0);
    return text;
}

static void test_task(void **state)
{
    (void)state;
    char *path = write_vowels("vowels.csv", SPEAKERS);
    for (int coding = 0; coding <= MIXT_VOWELS_CLASSES; coding++) {
        mixt_vowel_options o = small_options();
        outcome first, second;
        o.coding = (mixt_vowel_coding)coding;
        o.stop_error = coding == MIXT_VOWELS_PAIRS ? 0.12 : 0.08;
        run_task(path, &o, 1, &first);
        run_task(path, &o, 3, &second);
        char *texts[2] = {text_of(&first), text_of(&second)};
        assert_string_equal(texts[0], texts[1]);
        free(texts[1]);
        assert_int_equal(first.report.speakers, SPEAKERS);
        assert_string_equal(first.report.dropped, "13");
        assert_int_equal(first.report.train_cases, 8 * 8);
        assert_int_equal(first.report.test_cases, 4 * 8);
        static const int parameters[2][MIXT_VOWEL_SYSTEMS] = {{24, 48, 25, 49}, {60, 120, 46, 88}};
        for (int s = 0; s < MIXT_VOWEL_SYSTEMS; s++) {
            const mixt_vowel_system *system = &first.report.systems[s];
            double epochs = 0;
            assert_int_equal(system->parameters, parameters[coding][s]);
            assert_int_equal(system->reached, 3);
            for (int i = 0; i < 3; i++) {
                const mixt_vowel_run *run = &first.runs[3 * s + i];
                assert_true(run->reached && run->error <= o.stop_error && run->epochs > 0);
                assert_true(run->train > 0.8 && run->test > 0.7);
                assert_in_range(run->active, s < 2, system->experts);
                epochs += (double)run->epochs / 3;
            }
            assert_true(fabs(system->epochs - epochs) < 1e-9);
        }
        assert_int_equal(first.report.comparisons[0].freedom, 4);
        o.seed++;
        run_task(path, &o, 1, &second);
        texts[1] = text_of(&second);
        assert_string_not_equal(texts[0], texts[1]);
        free(texts[0]);
        free(texts[1]);
    }
    free(path);
}

/* With given rates nothing is explored; a bound on the epochs is kept; a run that is given up does
 * not count. */
static void test_bounds(void **state)
{
    (void)state;
    char *path = write_vowels("bounds.csv", SPEAKERS);
    mixt_vowel_options o = small_options();
    outcome out;
    o.epochs = 7;
    for (int s = 0; s < MIXT_VOWEL_SYSTEMS; s++) {
        o.rate[s] = 0.25 + s;
    }
    run_task(path, &o, 2, &out);
    for (int s = 0; s < MIXT_VOWEL_SYSTEMS; s++) {
        assert_true(out.report.systems[s].rate == 0.25 + s);
        assert_int_equal(out.report.systems[s].reached, 0);
        assert_true(isnan(out.report.systems[s].epochs));
        assert_int_equal(out.runs[3 * s].epochs, 7);
        assert_false(out.runs[3 * s].reached);
    }
    assert_true(isnan(out.report.comparisons[5].t) && isnan(out.report.comparisons[5].p));
    free(path);
}

static bool stop(void *user, double done, double total)
{
    (void)done;
    (void)total;
    return --*(int *)user > 0;
}

static void test_interrupted(void **state)
{
    (void)state;
    char *path = write_vowels("interrupted.csv", SPEAKERS);
    mixt_error error = MIXT_ERROR_INIT;
    mixt_vowel_options o = small_options();
    mixt_vowel_report report;
    int left = 3;
    o.progress = stop;
    o.user = &left;
    assert_int_equal(mixt_vowels(scratch_context, path, &o, &report, NULL, &error),
                     MIXT_ERROR_INTERRUPTED);
    free(path);
}

static void test_option_refusals(void **state)
{
    (void)state;
    mixt_vowel_options bad[9];
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        bad[i] = small_options();
    }
    bad[0].coding = (mixt_vowel_coding)7;
    bad[1].runs = 0;
    bad[2].train_speakers = 0;
    bad[3].stop_error = NAN;
    bad[4].epochs = 0;
    bad[5].deviation = -1;
    bad[6].rise = -1;
    bad[7].rate[2] = INFINITY;
    bad[8].reserved[0] = 1;
    static const char *const rules[] = {"no such coding",    "runs is not",   "speakers is not",
                                        "stop_error is not", "epochs is not", "deviation is not",
                                        "rise is not",       "rate is not",   "mixt_vowel_options"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        mixt_error error = MIXT_ERROR_INIT;
        mixt_vowel_report report;
        must_refuse(mixt_vowels(scratch_context, "none.csv", &bad[i], &report, NULL, &error),
                    &error, "", rules[i], rules[i]);
    }
}

/* ---- the CSV reader */

#define HEADER "speaker,vowel,f1,f2\n"
#define ONE "1,i,300,2600\n1,I,430,2200\n1,A,800,1200\n1,V,680,1320\n"
#define TWO "2,i,310,2610\n2,I,440,2210\n2,A,810,1210\n2,V,690,1330\n"

static void test_csv(void **state)
{
    (void)state;
    static const struct {
        const char *text, *rule;
    } cases[] = {
        {"", "line 1: no header"},
        {"1,i,300,2600\n", "line 1: no column speaker"},
        {"speaker,vowel,f1\n" ONE, "line 1: no column f2"},
        {"speaker,vowel,f1,f2,f1\n", "line 1: two columns f1"},
        {HEADER ONE "2,i,300\n", "line 6: 3 fields, the header has 4"},
        {HEADER ONE "2,i,300,2600,7\n", "line 6: 5 fields, the header has 4"},
        {HEADER ONE "\n" TWO, "line 6: 1 fields, the header has 4"},
        {HEADER "1,i,fast,2600\n", "line 2: f1 \"fast\" is not in 0..20000 Hz"},
        {HEADER "1,i,300,\n", "line 2: f2 \"\" is not in 0..20000 Hz"},
        {HEADER "1,i,300,26e99\n", "line 2: f2 \"26e99\" is not in"},
        {HEADER "1,i,nan,2600\n", "line 2: f1 \"nan\" is not in"},
        {HEADER "1,i,-300,2600\n", "line 2: f1 \"-300\" is not in"},
        {HEADER "1,i,300 Hz,2600\n", "line 2: f1 \"300 Hz\" is not in"},
        {HEADER ",i,300,2600\n", "line 2: the speaker's name has 0 bytes, not 1..63"},
        {HEADER "1,\"i,300,2600\n", "line 2: field 2: a quote that does not end it"},
        {HEADER "1,\"i\"i,300,2600\n", "line 2: field 2: a quote that does not end it"},
        {HEADER ONE, "1 speakers with the vowels i, I, A and V; 1 + 1 are needed"},
        {HEADER ONE "2,i,310,2610\n", "1 speakers with the vowels"},
        {HEADER "1,i,5,6\n1,I,5,7\n1,A,5,8\n1,V,5,9\n2,i,5,6\n2,I,5,7\n2,A,5,8\n2,V,5,9\n",
         "f1 is the same in all training cases"},
    };
    mixt_vowel_options o = small_options();
    o.train_speakers = o.test_speakers = 1;
    char *path = scratch_path("bad.csv");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        mixt_error error = MIXT_ERROR_INIT;
        mixt_vowel_report report;
        write_file(path, cases[i].text, strlen(cases[i].text));
        must_refuse(mixt_vowels(scratch_context, path, &o, &report, NULL, &error), &error,
                    "bad.csv: ", cases[i].rule, cases[i].rule);
        assert_null(strchr(error.message, '\n'));
        assert_true(mixt_status_is_refusal(error.status));
    }
    mixt_error error = MIXT_ERROR_INIT;
    mixt_vowel_data data;
    write_file(path, HEADER "1\0", sizeof HEADER + 1);
    must_refuse(mixt_vowel_data_read(path, &o, &data, &error), &error, "bad.csv", "a zero byte at",
                "zero");
    static const char good[] = HEADER ONE TWO "3,i,1,1";
    error = (mixt_error)MIXT_ERROR_INIT;
    write_file(path, good, sizeof good - 1);
    must(mixt_vowel_data_read(path, &o, &data, &error), &error);
    assert_int_equal(data.train, 4);
    assert_int_equal(data.test, 4);
    assert_int_equal(data.speakers, 2);
    assert_string_equal(data.dropped, "");
    mixt_vowel_data_free(&data);
    error = (mixt_error)MIXT_ERROR_INIT;
    must_refuse(mixt_vowel_data_read("none.csv", &o, &data, &error), &error, "none.csv", "",
                "none");
    free(path);
}

/* ---- Student's t */

static void test_student(void **state)
{
    (void)state;
    const double pi = acos(-1);
    /* means 2 and 5, sums of squares 2 and 10 over 5 degrees of freedom: pooled variance 12 / 5, so
     * t = -3 / sqrt(12 / 5 (1/3 + 1/4)) */
    static const double first[] = {1, 2, 3}, second[] = {3, 5, 5, 7}, same[] = {4, 4};
    assert_true(fabs(mixt_student_pooled(first, 3, (const double[]){3, 4, 6, 7}, 4) +
                     3 / sqrt(12.0 / 5 * 7 / 12)) < 1e-14);
    assert_true(fabs(mixt_student_pooled(first, 3, second, 4) + 3 / sqrt(2.0 * 7 / 12)) < 1e-14);
    assert_true(isnan(mixt_student_pooled(first, 1, second, 4)));
    assert_true(isnan(mixt_student_pooled(same, 2, same, 2)));
    assert_true(isnan(mixt_student_tails(NAN, 48)));
    /* One and two degrees of freedom have a closed form; then values of printed tables. */
    for (double t = -6; t <= 6; t += 0.75) {
        assert_true(fabs(mixt_student_tails(t, 1) - (1 - 2 / pi * atan(fabs(t)))) < 1e-13);
        assert_true(fabs(mixt_student_tails(t, 2) - (1 - fabs(t) / sqrt(2 + t * t))) < 1e-13);
    }
    assert_true(fabs(mixt_student_tails(2.2281388520, 10) - 0.05) < 1e-10);
    assert_true(fabs(mixt_student_tails(2.0106347576, 48) - 0.05) < 1e-10);
    assert_true(fabs(mixt_student_tails(-2.6822040269, 48) - 0.01) < 1e-10);
    double far = mixt_student_tails(60, 48);
    assert_true(far > 0 && far < 1e-40);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reference),       cmocka_unit_test(test_task),
        cmocka_unit_test(test_bounds),          cmocka_unit_test(test_interrupted),
        cmocka_unit_test(test_option_refusals), cmocka_unit_test(test_csv),
        cmocka_unit_test(test_student),
    };
    return cmocka_run_group_tests(tests, scratch_make_context, scratch_remove_context);
}
