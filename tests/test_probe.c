/* Experiments on routing against PyTorch (tests/reference/probe.py), a probe that is stopped and
 * killed, and experts taken out. */
#define _GNU_SOURCE
#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/files.h"
#include "formats/crc32c.h"
#include "formats/safetensors.h"
#include "mixt.h"
#include "model/model.h"
#include "scratch.h"

#define FIXTURES "tests/fixtures/probe/"
#define WINDOW 24
#define TOLERANCE 3e-5 /* fp32 against fp64, of losses of 6 nats */
#define SEED 9         /* of routes and noise: those of tests/reference/probe.py, as DRAWS */
#define DRAWS 6

/* The texts of tests/reference/probe.py. */
static const struct {
    const char *domain, *text[3];
} texts[] = {
    {"code", {"for (i = 0; i < 10; i++) sum += x[i];", "return a * (b - 3) / 7;", "int y = 0;"}},
    {"prose", {"The cat sat on the mat and saw a bird.", "Two birds flew away.", "It rained."}},
};

typedef struct setup {
    mixt_tokenizer *tokenizer;
    mixt_data *data;
    mixt_model *model;
    mixt_probe_options options;
    char *output;
} setup;

static void open_setup(setup *s, const char *model, const char *output)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_corpus *corpus;
    char *folder = scratch_path("text");
    for (size_t d = 0; d < 2; d++) {
        char path[512];
        snprintf(path, sizeof path, "%s/%s", folder, texts[d].domain);
        must(mixt_folder_create(path, &error), &error);
        for (int i = 0; i < 3; i++) {
            snprintf(path, sizeof path, "%s/%s/%d.txt", folder, texts[d].domain, i);
            write_file(path, texts[d].text[i], strlen(texts[d].text[i]));
        }
    }
    const char *paths[] = {folder};
    must(mixt_tokenizer_bytes(&s->tokenizer, &error), &error);
    must(mixt_corpus_open(paths, 1, &corpus, &error), &error);
    must(mixt_data_create(corpus, s->tokenizer, 0, &s->data, &error), &error);
    mixt_corpus_free(corpus);
    s->model = must_open_model(model);
    s->output = scratch_path(output);
    s->options = mixt_probe_options_default();
    s->options.output = s->output;
    s->options.model_name = "model";
    s->options.window = WINDOW;
    free(folder);
}

static void close_setup(setup *s)
{
    mixt_model_free(s->model);
    mixt_data_free(s->data);
    mixt_tokenizer_free(s->tokenizer);
    free(s->output);
}

static mixt_status run(setup *s, mixt_progress progress, void *user, mixt_error *error)
{
    s->options.progress = progress;
    s->options.user = user;
    return mixt_probe_run(scratch_context, s->model, s->data, s->tokenizer, &s->options, error);
}

static json_t *read_json(const char *path)
{
    json_error_t problem;
    json_t *root = json_load_file(path, JSON_REJECT_DUPLICATES, &problem);
    if (root == NULL) {
        fail_msg("%s:%d: %s", path, problem.line, problem.text);
    }
    return root;
}

/* ------------------------------------------------------------------------------------------ */
/* Against PyTorch                                                                            */

static double number_at(const json_t *array, size_t index)
{
    const json_t *value = json_array_get(array, index);
    assert_true(json_is_number(value));
    return json_number_value(value);
}

static void near(double found, double wanted, double tolerance, const char *what)
{
    if (!(fabs(found - wanted) <= tolerance * fmax(1, fabs(wanted)))) {
        fail_msg("%s: %.9g, not %.9g", what, found, wanted);
    }
}

/* [over everything, code, prose] of a row's "effect" and "domains". */
static void check_effect(const json_t *row, const char *key, const json_t *wanted, const char *what)
{
    const json_t *whole = json_object_get(row, key), *domains = json_object_get(row, "domains");
    near(number_at(whole, 0), number_at(wanted, 0), TOLERANCE, what);
    for (size_t d = 0; d < 2; d++) {
        near(number_at(json_array_get(domains, d), 0), number_at(wanted, d + 1), TOLERANCE, what);
    }
    /* Six documents are six groups: there are bounds. */
    assert_true(number_at(whole, 1) <= number_at(whole, 0));
    assert_true(number_at(whole, 2) >= number_at(whole, 0));
    assert_true(json_array_size(json_object_get(row, "classes")) > 10);
}

/* Rows of `kind` have layer and expert in their order. */
static void check_changes(const json_t *found, const json_t *wanted, const char *kind)
{
    const json_t *rows = json_object_get(found, kind), *layers = json_object_get(wanted, kind);
    size_t experts = json_array_size(json_array_get(layers, 0));
    assert_int_equal(json_array_size(rows), json_array_size(layers) * experts);
    for (size_t i = 0; i < json_array_size(rows); i++) {
        char what[64];
        const json_t *row = json_array_get(rows, i);
        snprintf(what, sizeof what, "%s of layer %zu, expert %zu", kind, i / experts, i % experts);
        assert_int_equal(json_integer_value(json_object_get(row, "layer")), i / experts);
        assert_int_equal(json_integer_value(json_object_get(row, "expert")), i % experts);
        check_effect(row, "effect",
                     json_array_get(json_array_get(layers, i / experts), i % experts), what);
    }
}

static void check_units(const json_t *found, const json_t *wanted)
{
    static const struct {
        const char *key, *of;
        double tolerance;
    } numbers[] = {{"reap", "reap", 1e-5}, {"largest", "largest", 1e-5}, {"norm", "norm", 1e-5}};
    const json_t *rows = json_object_get(found, "units");
    size_t experts = (size_t)json_integer_value(json_object_get(found, "experts"));
    size_t supers = 0;
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i);
        size_t layer = i / experts, e = i % experts;
        assert_int_equal(
            json_integer_value(json_object_get(row, "choices")),
            (int)number_at(json_array_get(json_object_get(wanted, "choices"), layer), e));
        for (size_t n = 0; n < sizeof numbers / sizeof *numbers; n++) {
            const json_t *value = json_object_get(row, numbers[n].key);
            const json_t *expected = json_array_get(json_object_get(wanted, numbers[n].of), layer);
            near(json_is_array(value) ? number_at(value, 0) : json_number_value(value),
                 number_at(expected, e), numbers[n].tolerance, numbers[n].key);
        }
        const json_t *means = json_array_get(json_object_get(wanted, "near"), layer);
        near(json_number_value(json_object_get(row, "near_outputs_mean")),
             number_at(json_array_get(means, 0), e), 1e-5, "cosine of outputs");
        near(json_number_value(json_object_get(row, "near_weights_mean")),
             number_at(json_array_get(means, 1), e), 1e-5, "cosine of weights");
        bool is = json_is_true(json_object_get(row, "super"));
        supers += is;
        const json_t *list = json_object_get(wanted, "super");
        bool expected = false;
        for (size_t s = 0; s < json_array_size(list); s++) {
            const json_t *pair = json_array_get(list, s);
            expected = expected ||
                       ((size_t)number_at(pair, 0) == layer && (size_t)number_at(pair, 1) == e);
        }
        assert_int_equal(is, expected);
    }
    assert_true(supers > 0);
}

static void check_layers(const json_t *found, const json_t *wanted)
{
    const json_t *rows = json_object_get(found, "lens");
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i);
        near(number_at(json_object_get(row, "cosine_routed"), 0),
             number_at(json_object_get(wanted, "cosine_routed"), i), 1e-5, "cosine, routed");
        near(number_at(json_object_get(row, "cosine_layer"), 0),
             number_at(json_object_get(wanted, "cosine_layer"), i), 1e-5, "cosine, layer");
        check_effect(row, "effect", json_array_get(json_object_get(wanted, "alone"), i), "alone");
    }
    rows = json_object_get(found, "top-k");
    const json_t *ks = json_object_get(wanted, "top_k");
    assert_int_equal(json_array_size(rows), json_array_size(ks));
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i);
        assert_int_equal(json_integer_value(json_object_get(row, "k")), i + 1);
        check_effect(row, "effect", json_array_get(ks, i), "top-k");
    }
}

/* [better, mean, best] at a place of a row of "routes", or nothing where no token was drawn. */
static void check_route(const json_t *row, const char *part, int place, const json_t *wanted)
{
    static const char *const names[] = {"better", "mean", "best"};
    for (size_t i = 0; i < 3; i++) {
        const json_t *found = json_object_get(json_object_get(row, names[i]), part);
        found = place >= 0 ? json_array_get(found, (size_t)place) : found;
        assert_int_equal(json_is_null(found), json_is_null(wanted));
        if (!json_is_null(wanted)) {
            near(number_at(found, 0), number_at(wanted, i), TOLERANCE, names[i]);
        }
    }
}

/* Other routes of tokens, one layer at a time and then all at once. */
static void check_routes(const json_t *found, const json_t *wanted)
{
    const json_t *rows = json_object_get(found, "routes"), *all = json_object_get(wanted, "routes");
    assert_int_equal(json_array_size(rows), 5);
    assert_int_equal(json_array_size(all), 5);
    for (size_t i = 0; i < 5; i++) {
        const json_t *row = json_array_get(rows, i), *expected = json_array_get(all, i);
        assert_int_equal(json_integer_value(json_object_get(row, "layer")), i < 4 ? (int)i : -1);
        check_route(row, "value", -1, json_object_get(expected, "value"));
        for (int place = 0; place < 3; place++) {
            const json_t *list = json_object_get(expected, "difficulty");
            check_route(row, "difficulty", place, json_array_get(list, (size_t)place));
            list = json_object_get(expected, "domains");
            if (place < 2) {
                check_route(row, "domains", place, json_array_get(list, (size_t)place));
            }
        }
    }
}

/* What noise on the routers' inputs changes, of every layer and sigma. */
static void check_noise(const json_t *found, const json_t *wanted)
{
    static const char *const names[] = {"changed", "first_changed", "tokens_changed",
                                        "margin_changed", "margin_kept"};
    const json_t *rows = json_object_get(found, "noise"), *all = json_object_get(wanted, "noise");
    assert_int_equal(json_array_size(rows), 4 * 5);
    assert_int_equal(json_array_size(all), 4 * 5);
    for (size_t i = 0; i < 4 * 5; i++) {
        for (size_t n = 0; n < 5; n++) {
            const json_t *value = json_object_get(json_array_get(rows, i), names[n]);
            const json_t *expected = json_array_get(json_array_get(all, i), n);
            value = json_is_array(value) ? json_array_get(value, 0) : value;
            assert_int_equal(json_is_null(value), json_is_null(expected));
            if (!json_is_null(expected)) {
                near(json_number_value(value), json_number_value(expected), TOLERANCE, names[n]);
            }
        }
    }
}

/* Tokens of all domains are those of all classes, and so are the losses. */
static void check_classes(const json_t *found)
{
    const json_t *tokens = json_object_get(found, "tokens");
    const json_t *base = json_object_get(found, "base"),
                 *classes = json_object_get(base, "classes");
    double count = 0, of_classes = 0, nats = 0;
    for (size_t i = 0; i < json_array_size(tokens); i++) {
        *(i < 2 ? &count : &of_classes) += number_at(tokens, i);
        if (i >= 2 && number_at(tokens, i) > 0) {
            nats += number_at(tokens, i) * number_at(json_array_get(classes, i - 2), 0);
        }
    }
    assert_true(count == of_classes);
    near(nats / count, number_at(json_object_get(base, "loss"), 0), 1e-6, "loss of all classes");
}

static void check_model(const char *name)
{
    char path[128];
    setup s = {0};
    mixt_error error = MIXT_ERROR_INIT;
    snprintf(path, sizeof path, FIXTURES "%s", name);
    open_setup(&s, path, "probe.json");
    s.options.seed = SEED;
    s.options.draws = DRAWS;
    must(run(&s, NULL, NULL, &error), &error);
    json_t *found = read_json(s.output);
    snprintf(path, sizeof path, FIXTURES "%s/expected.json", name);
    json_t *wanted = read_json(path);
    for (size_t d = 0; d < 2; d++) {
        assert_true(number_at(json_object_get(found, "tokens"), d) ==
                    number_at(json_object_get(wanted, "tokens"), d));
    }
    check_effect(json_object_get(found, "base"), "loss", json_object_get(wanted, "loss"), "loss");
    check_classes(found);
    check_changes(found, wanted, "mask");
    check_changes(found, wanted, "first");
    check_units(found, wanted);
    check_layers(found, wanted);
    check_noise(found, wanted);
    check_routes(found, wanted);
    mixt_probe_target pair[] = {{.count = 2, .layer = {2, 1}, .expert = {1, 0}}};
    s.options.targets = pair;
    s.options.target_count = 1;
    s.options.experiments = MIXT_PROBE_MASK;
    must(run(&s, NULL, NULL, &error), &error);
    json_t *together = read_json(s.output);
    const json_t *rows = json_object_get(together, "mask");
    assert_int_equal(json_array_size(rows), 1);
    check_effect(json_array_get(rows, 0), "effect", json_object_get(wanted, "pair"), "pair");
    json_decref(together);
    json_decref(found);
    json_decref(wanted);
    close_setup(&s);
}

static void test_mixtral(void **state)
{
    (void)state;
    check_model("mixtral");
}

static void test_shared_expert(void **state)
{
    (void)state;
    check_model("qwen2_moe");
}

/* The expert that was made important is the first by every measure that is to find it. */
static void test_planted(void **state)
{
    (void)state;
    static const char *const lists[] = {"mask", "units", "units"};
    static const char *const keys[] = {"effect", "reap", "largest"};
    setup s = {0};
    mixt_error error = MIXT_ERROR_INIT;
    open_setup(&s, FIXTURES "mixtral", "planted.json");
    s.options.experiments = MIXT_PROBE_MASK | MIXT_PROBE_REAP | MIXT_PROBE_SUPER;
    must(run(&s, NULL, NULL, &error), &error);
    json_t *found = read_json(s.output);
    for (int i = 0; i < 3; i++) {
        const json_t *rows = json_object_get(found, lists[i]), *best = NULL;
        double most = -INFINITY;
        for (size_t r = 0; r < json_array_size(rows); r++) {
            const json_t *row = json_array_get(rows, r), *value = json_object_get(row, keys[i]);
            double number =
                json_is_array(value) ? fabs(number_at(value, 0)) : json_number_value(value);
            best = number > most ? row : best;
            most = number > most ? number : most;
        }
        assert_int_equal(json_integer_value(json_object_get(best, "layer")), 1);
        assert_int_equal(json_integer_value(json_object_get(best, "expert")), 2);
    }
    uint8_t drop[4 * 4];
    json_array_remove(json_object_get(found, "mask"), 6);
    assert_int_equal(json_dump_file(found, s.output, 0), 0);
    must_refuse(mixt_experts_choose(s.model, s.output, MIXT_PRUNE_PROBE, 0.25, drop, &error),
                &error, s.output,
                "layer 1, expert 2 was not measured; mixt probe --experiments mask",
                "an expert left out");
    json_decref(found);
    close_setup(&s);
}

/* 256 small experts with weights by chance, of one of which the down projection is `times` as
 * large. */
static mixt_model *super_model(const mixt_tokenizer *tokenizer, int layer, int expert, float times)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_model_options options = mixt_model_options_default();
    mixt_model *model;
    options.vocab_size = mixt_tokenizer_vocab_size(tokenizer);
    options.hidden_size = 16;
    options.heads = options.kv_heads = 2;
    options.head_dim = 8;
    options.layers = 4;
    options.experts = 64;
    options.experts_per_token = 8;
    options.ffn_size = 8;
    must(mixt_model_create(&options, 5, &model, &error), &error);
    const mixt_parameter *down =
        &model->parameters[mixt_model_find(model, MIXT_SLOT_EXPERT_DOWN, layer)];
    size_t size = down->count / (size_t)options.experts;
    for (size_t i = 0; i < size; i++) {
        model->weights[down->offset + (size_t)expert * size + i] *= times;
    }
    return model;
}

/* Rows of experts' outputs of the model at hand. */
static json_t *probe_units(setup *s, mixt_model *model)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_model_free(s->model);
    s->model = model;
    must(run(s, NULL, NULL, &error), &error);
    json_t *found = read_json(s->output);
    json_t *rows = json_incref(json_object_get(found, "units"));
    json_decref(found);
    assert_int_equal(json_array_size(rows), 256);
    return rows;
}

/* The most chosen expert of each layer in turn, whose choices its own output cannot change, is made
 * a super expert: it is found, and only it; in the last quarter of the layers the rule knows none.
 */
static void test_planted_super(void **state)
{
    (void)state;
    setup s = {0};
    open_setup(&s, FIXTURES "mixtral", "super.json");
    s.options.experiments = MIXT_PROBE_SUPER;
    json_t *before = probe_units(&s, super_model(s.tokenizer, 0, 0, 1));
    for (size_t layer = 0; layer < 4; layer++) {
        size_t planted = 64 * layer;
        for (size_t r = planted; r < 64 * layer + 64; r++) {
            const json_t *row = json_array_get(before, r), *most = json_array_get(before, planted);
            bool more = json_integer_value(json_object_get(row, "choices")) >
                        json_integer_value(json_object_get(most, "choices"));
            planted = more ? r : planted;
        }
        json_t *rows =
            probe_units(&s, super_model(s.tokenizer, (int)layer, (int)(planted % 64), 100));
        for (size_t r = 0; r < 256; r++) {
            assert_int_equal(json_is_true(json_object_get(json_array_get(rows, r), "super")),
                             r == planted && layer < 3);
        }
        json_decref(rows);
    }
    json_decref(before);
    close_setup(&s);
}

/* What has to hold of noise and other routes whatever is drawn. */
static void test_noise_and_routes(void **state)
{
    (void)state;
    setup s = {0};
    mixt_error error = MIXT_ERROR_INIT;
    open_setup(&s, FIXTURES "mixtral", "noise.json");
    s.options.experiments = MIXT_PROBE_NOISE | MIXT_PROBE_ROUTES;
    must(run(&s, NULL, NULL, &error), &error);
    json_t *found = read_json(s.output);
    const json_t *noise = json_object_get(found, "noise"),
                 *routes = json_object_get(found, "routes");
    assert_int_equal(json_array_size(noise), 4 * 5);
    for (size_t i = 0; i < json_array_size(noise); i++) {
        const json_t *row = json_array_get(noise, i);
        double changed = number_at(json_object_get(row, "changed"), 0);
        assert_true(changed >= 0 &&
                    changed <= number_at(json_object_get(row, "tokens_changed"), 0));
        if (i % 5 == 0) { /* a hundredth moves few, and those that stood close */
            assert_true(changed < 0.2);
            assert_true(number_at(json_object_get(json_array_get(noise, i + 4), "changed"), 0) >
                        changed);
        }
    }
    assert_int_equal(json_array_size(routes), 5); /* four layers, and all at once */
    for (size_t i = 0; i < 5; i++) {
        const json_t *row = json_array_get(routes, i);
        double better = number_at(json_object_get(json_object_get(row, "better"), "value"), 0);
        double mean = number_at(json_object_get(json_object_get(row, "mean"), "value"), 0);
        double best = number_at(json_object_get(json_object_get(row, "best"), "value"), 0);
        assert_true(better >= 0 && better <= 1 && best >= mean);
        assert_int_equal(json_integer_value(json_object_get(row, "layer")), i < 4 ? (int)i : -1);
    }
    json_decref(found);
    close_setup(&s);
}

/* ------------------------------------------------------------------------------------------ */
/* Stopped, killed                                                                            */

typedef struct stop {
    int left;
    bool kill;
} stop;

static bool count_down(void *user, double done, double total)
{
    stop *s = user;
    assert_true(done > 0 && done <= total * (1 + 1e-9));
    if (s->left-- > 0) {
        return true;
    }
    if (s->kill) {
        raise(SIGKILL);
    }
    return false;
}

static void same_files(const char *a, const char *b)
{
    size_t x, y;
    char *one = read_file(a, &x), *two = read_file(b, &y);
    assert_int_equal(x, y);
    assert_memory_equal(one, two, x);
    free(one);
    free(two);
}

/* Stopped behind every few steps, by turns in order and by SIGKILL in a process of its own. */
static void test_resumed(void **state)
{
    (void)state;
    setup s = {0};
    mixt_error error = MIXT_ERROR_INIT;
    open_setup(&s, FIXTURES "qwen2_moe", "whole.json");
    must(run(&s, NULL, NULL, &error), &error);
    char *whole = s.output, *partial = scratch_path("parts.json.partial");
    s.output = scratch_path("parts.json");
    s.options.output = s.output;
    s.options.save_seconds = -1;
    int turns = 0;
    for (mixt_status status = MIXT_ERROR_INTERRUPTED; status == MIXT_ERROR_INTERRUPTED; turns++) {
        stop at = {.left = 5 + turns % 3, .kill = true};
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            mixt_context *own = NULL;
            if (mixt_context_create(NULL, &own, NULL) == MIXT_OK) {
                s.options.progress = count_down;
                s.options.user = &at;
                (void)mixt_probe_run(own, s.model, s.data, s.tokenizer, &s.options, NULL);
            }
            _exit(0);
        }
        int ended;
        assert_int_equal(waitpid(child, &ended, 0), child);
        if (!WIFSIGNALED(ended)) { /* it came to the end */
            break;
        }
        assert_true(mixt_path_exists(partial));
        at = (stop){.left = 4};
        error = (mixt_error)MIXT_ERROR_INIT;
        status = run(&s, count_down, &at, &error);
        assert_true(status == MIXT_OK || status == MIXT_ERROR_INTERRUPTED);
    }
    assert_true(turns > 3);
    assert_false(mixt_path_exists(partial));
    same_files(whole, s.output);
    free(whole);
    free(partial);
    close_setup(&s);
}

/* A state of something else, or none, is not gone on with. */
/* A cursor that no probe leaves is refused, its checksum may fit. */
static void refuse_cursors(setup *s, const char *partial)
{
    static const double wrong[] = {-1, 0.5, NAN, INFINITY, 1e17};
    size_t length;
    char *bytes = read_file(partial, &length);
    mixt_safetensors *file;
    assert_int_equal(mixt_safetensors_open(partial, &file, NULL), MIXT_OK);
    const mixt_tensor_info *sums = mixt_safetensors_find(file, "sums");
    const mixt_tensor_info *check = mixt_safetensors_find(file, "checksum");
    for (size_t i = 0; i < 3 * sizeof wrong / sizeof *wrong; i++) {
        mixt_error error = MIXT_ERROR_INIT;
        char *changed = malloc(length);
        assert_non_null(changed);
        memcpy(changed, bytes, length);
        memcpy(changed + sums->offset + i % 3 * sizeof *wrong, &wrong[i / 3], sizeof *wrong);
        uint32_t sum = mixt_crc32c(0, changed + sums->offset, (size_t)sums->bytes);
        memcpy(changed + check->offset, &sum, sizeof sum);
        write_file(partial, changed, length);
        must_refuse(run(s, NULL, NULL, &error), &error, partial, "not a whole number", "a cursor");
        free(changed);
    }
    write_file(partial, bytes, length);
    mixt_safetensors_close(file);
    free(bytes);
}

static void test_states(void **state)
{
    (void)state;
    setup s = {0};
    mixt_error error = MIXT_ERROR_INIT;
    stop at = {.left = 3};
    open_setup(&s, FIXTURES "mixtral", "state.json");
    char *partial = scratch_path("state.json.partial");
    s.options.save_seconds = -1;
    assert_int_equal(run(&s, count_down, &at, &error), MIXT_ERROR_INTERRUPTED);
    error = (mixt_error)MIXT_ERROR_INIT;
    s.options.window = 20;
    must_refuse(run(&s, NULL, NULL, &error), &error, partial, "other options", "another window");
    s.options.window = WINDOW;
    refuse_cursors(&s, partial);
    size_t length;
    char *bytes = read_file(partial, &length);
    bytes[length - 40] ^= 1;
    write_file(partial, bytes, length);
    error = (mixt_error)MIXT_ERROR_INIT;
    must_refuse(run(&s, NULL, NULL, &error), &error, partial, "checksum", "a changed byte");
    write_file(partial, bytes, length / 2);
    error = (mixt_error)MIXT_ERROR_INIT;
    assert_int_not_equal(run(&s, NULL, NULL, &error), MIXT_OK);
    assert_non_null(strstr(error.message, partial));
    assert_int_equal(unlink(partial), 0);
    free(bytes);
    free(partial);
    close_setup(&s);
}

static void test_options(void **state)
{
    (void)state;
    setup s = {0};
    open_setup(&s, FIXTURES "mixtral", "options.json");
    mixt_probe_target targets[] = {{.count = 1, .layer = {4}, .expert = {0}},
                                   {.count = 1, .layer = {0}, .expert = {4}},
                                   {.count = 0}};
    const char *rules[] = {"layer 4", "expert 4", "0 experts"};
    for (size_t i = 0; i < 3; i++) {
        mixt_error error = MIXT_ERROR_INIT;
        s.options.targets = &targets[i];
        s.options.target_count = 1;
        must_refuse(run(&s, NULL, NULL, &error), &error, "probe", rules[i], rules[i]);
    }
    s.options.targets = NULL;
    s.options.last_layer = 4;
    mixt_error error = MIXT_ERROR_INIT;
    must_refuse(run(&s, NULL, NULL, &error), &error, "probe", "0..3", "too many layers");
    s.options.last_layer = -1;
    s.options.experiments = 1 << 20;
    error = (mixt_error)MIXT_ERROR_INIT;
    must_refuse(run(&s, NULL, NULL, &error), &error, "probe", "experiments", "unknown experiments");
    close_setup(&s);
    open_setup(&s, "tests/fixtures/model/dense", "options.json");
    error = (mixt_error)MIXT_ERROR_INIT;
    assert_int_not_equal(run(&s, NULL, NULL, &error), MIXT_OK);
    close_setup(&s);
}

/* ------------------------------------------------------------------------------------------ */
/* Experts taken out                                                                          */

static double loss_of(const setup *s, const mixt_model *model)
{
    mixt_score_row rows[3];
    mixt_error error = MIXT_ERROR_INIT;
    must(mixt_evaluate(scratch_context, model, s->data, false, WINDOW, 0, rows, NULL, NULL, &error),
         &error);
    return rows[2].nats;
}

/* Written in both forms and opened again: the loss that it has in memory. */
static void check_written(const setup *s, double loss)
{
    static const char *const names[] = {"pruned", "pruned.gguf"};
    for (int i = 0; i < 2; i++) {
        mixt_error error = MIXT_ERROR_INIT;
        char *path = scratch_path(names[i]);
        mixt_convert_options options = mixt_convert_options_default();
        options.output = path;
        must(mixt_convert(scratch_context, s->model, &options, NULL, NULL, &error), &error);
        mixt_model *again = must_open_model(path);
        assert_int_equal(again->options.experts, 3);
        near(loss_of(s, again), loss, 1e-6, path);
        mixt_model_free(again);
        free(path);
    }
}

/* By its results a quarter of four experts goes in each layer; with softmax over the chosen, what
 * is left is the model in which they are masked. */
static void test_dropped(void **state)
{
    (void)state;
    static const mixt_prune_by ways[] = {MIXT_PRUNE_REAP, MIXT_PRUNE_FREQUENCY, MIXT_PRUNE_PROBE};
    static const char *const keys[] = {"reap", "choices", "effect"};
    setup s = {0};
    mixt_error error = MIXT_ERROR_INIT;
    open_setup(&s, FIXTURES "mixtral", "dropped.json");
    s.options.experiments = MIXT_PROBE_MASK | MIXT_PROBE_REAP;
    must(run(&s, NULL, NULL, &error), &error);
    json_t *found = read_json(s.output);
    for (int way = 0; way < 3; way++) {
        uint8_t drop[4 * 4];
        const json_t *rows = json_object_get(found, way < 2 ? "units" : "mask");
        must(mixt_experts_choose(s.model, s.output, ways[way], 0.25, drop, &error), &error);
        mixt_model *masked = must_open_model(FIXTURES "mixtral");
        for (int layer = 0; layer < 4; layer++) {
            int gone = -1, least = 0;
            double values[4];
            for (int e = 0; e < 4; e++) {
                const json_t *value =
                    json_object_get(json_array_get(rows, (size_t)(layer * 4 + e)), keys[way]);
                values[e] = json_is_array(value) ? number_at(value, 0) : json_number_value(value);
                least = values[e] < values[least] ? e : least;
                gone = drop[layer * 4 + e] != 0 ? e : gone;
            }
            assert_true(gone >= 0 && values[gone] == values[least]);
            must(mixt_model_change_routing(masked, MIXT_ROUTING_MASK, layer, gone, &error), &error);
        }
        mixt_model_free(s.model);
        s.model = must_open_model(FIXTURES "mixtral");
        must(mixt_model_drop_experts(s.model, drop, &error), &error);
        assert_int_equal(s.model->options.experts, 3);
        double loss = loss_of(&s, s.model);
        near(loss, loss_of(&s, masked), 1e-6, keys[way]);
        check_written(&s, loss);
        mixt_model_free(masked);
        mixt_model_free(s.model);
        s.model = must_open_model(FIXTURES "mixtral");
    }
    json_decref(found);
    close_setup(&s);
}

/* One fp32 block, as trained models have it, and shared experts. */
static void test_dropped_block(void **state)
{
    (void)state;
    setup s = {0};
    mixt_error error = MIXT_ERROR_INIT;
    open_setup(&s, FIXTURES "qwen2_moe", "block.json");
    uint8_t drop[16] = {0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0};
    mixt_model *block = must_open_model(FIXTURES "qwen2_moe");
    must(mixt_model_load(block, &error), &error);
    must(mixt_model_drop_experts(block, drop, &error), &error);
    must(mixt_model_drop_experts(s.model, drop, &error), &error);
    assert_non_null(block->weights);
    double loss = loss_of(&s, s.model);
    /* Rows of BF16 are summed by lanes, the same weights as fp32 are not. */
    near(loss_of(&s, block), loss, 1e-7, "block");
    check_written(&s, loss);
    mixt_model_free(block);
    close_setup(&s);
}

static void test_lists(void **state)
{
    (void)state;
    mixt_error error = MIXT_ERROR_INIT;
    mixt_model *model = must_open_model(FIXTURES "mixtral");
    char *path = scratch_path("list");
    uint8_t drop[16];
    const char good[] = "# which go\n0: 1\n1: 0, 2\n\n2: 3 # one\r\n3:\n";
    write_file(path, good, sizeof good - 1);
    must(mixt_experts_read(model, path, drop, &error), &error);
    const uint8_t wanted[16] = {0, 1, 0, 0, 1, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0};
    assert_memory_equal(drop, wanted, sizeof drop);
    must_refuse(mixt_model_drop_experts(model, drop, &error), &error, "drop experts",
                "one number of experts", "unequal layers");
    static const struct {
        const char *text, *rule;
    } bad[] = {{"0 1\n", ":1: must begin"},
               {"0: 1\n4: 1\n", ":2: must begin"},
               {"0: 4\n", ":1: an expert"},
               {"0: x\n", ":1: an expert"},
               {"0: -1\n", ":1: an expert"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        error = (mixt_error)MIXT_ERROR_INIT;
        write_file(path, bad[i].text, strlen(bad[i].text));
        must_refuse(mixt_experts_read(model, path, drop, &error), &error, path, bad[i].rule,
                    bad[i].text);
    }
    const uint8_t most[16] = {1, 1, 1, 0, 1, 1, 1, 0, 1, 1, 1, 0, 1, 1, 1, 0};
    error = (mixt_error)MIXT_ERROR_INIT;
    must_refuse(mixt_model_drop_experts(model, most, &error), &error, "drop experts",
                "1 would stay, and every token has 2", "too few");
    assert_int_equal(model->options.experts, 4);
    error = (mixt_error)MIXT_ERROR_INIT;
    must_refuse(mixt_experts_choose(model, path, MIXT_PRUNE_REAP, 0.01, drop, &error), &error,
                "drop experts", "is not one", "a share of none");
    mixt_model_free(model);
    free(path);
}

/* Groups keep one size: as many of each go, or the line says so. */
static void test_groups(void **state)
{
    (void)state;
    mixt_error error = MIXT_ERROR_INIT;
    mixt_model *model = must_open_model("tests/fixtures/families/deepseek_v3");
    const mixt_model_options o = model->options;
    int layers = mixt_model_moe_layers(model), size = o.experts / o.router.groups;
    assert_true(o.router.groups > 1 && size > 1);
    uint8_t *drop = calloc((size_t)(layers * o.experts), 1);
    assert_non_null(drop);
    for (int layer = 0; layer < layers; layer++) {
        drop[layer * o.experts] = 1;
    }
    must_refuse(mixt_model_drop_experts(model, drop, &error), &error, "drop experts", "group",
                "one of one group");
    for (int layer = 0; layer < layers; layer++) {
        for (int g = 0; g < o.router.groups; g++) {
            drop[layer * o.experts + g * size] = 1;
        }
    }
    error = (mixt_error)MIXT_ERROR_INIT;
    mixt_status status = mixt_model_drop_experts(model, drop, &error);
    if (status == MIXT_OK) {
        assert_int_equal(model->options.experts, o.experts - o.router.groups);
        assert_int_equal(model->options.router.groups, o.router.groups);
        char *path = scratch_path("groups");
        mixt_convert_options options = mixt_convert_options_default();
        options.output = path;
        must(mixt_convert(scratch_context, model, &options, NULL, NULL, &error), &error);
        free(path);
    } else { /* what is left of the groups that are used is less than a token has */
        assert_non_null(strstr(error.message, "group"));
        assert_int_equal(model->options.experts, o.experts);
    }
    free(drop);
    mixt_model_free(model);
}

/* The likeliest token, again and again, as a session gives it. */
static void test_continuations(void **state)
{
    (void)state;
    setup s = {0};
    mixt_error error = MIXT_ERROR_INIT;
    mixt_continuations said;
    mixt_session *session;
    open_setup(&s, FIXTURES "mixtral", "said.json");
    const mixt_continuation_options options = {.count = 2, .prompt = 12, .length = 6};
    must(mixt_continue(scratch_context, s.model, s.data, &options, &said, &error), &error);
    assert_int_equal(said.count, 4); /* the third of each domain is too short */
    for (int i = 0; i < said.count; i++) {
        assert_int_equal(said.domain[i], i / 2);
        int32_t *ids;
        size_t count;
        const char *text = texts[i / 2].text[i % 2];
        must(mixt_tokenizer_encode(s.tokenizer, text, 11, false, &ids, &count, &error), &error);
        must(mixt_session_create(scratch_context, s.model, 32, &session, &error), &error);
        const int32_t separator = 256;
        must(mixt_session_feed(session, &separator, 1, &error), &error);
        must(mixt_session_feed(session, ids, count, &error), &error);
        for (int t = 0; t < said.length; t++) {
            const float *logits = mixt_session_logits(session);
            int32_t token = said.tokens[i * said.length + t];
            for (int v = 0; v < 257; v++) {
                assert_true(logits[v] <= logits[token]);
            }
            must(mixt_session_feed(session, &token, 1, &error), &error);
        }
        mixt_session_free(session);
        free(ids);
    }
    mixt_continuations_free(&said);
    close_setup(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mixtral),
        cmocka_unit_test(test_shared_expert),
        cmocka_unit_test(test_planted),
        cmocka_unit_test(test_planted_super),
        cmocka_unit_test(test_noise_and_routes),
        cmocka_unit_test(test_resumed),
        cmocka_unit_test(test_states),
        cmocka_unit_test(test_options),
        cmocka_unit_test(test_dropped),
        cmocka_unit_test(test_dropped_block),
        cmocka_unit_test(test_lists),
        cmocka_unit_test(test_groups),
        cmocka_unit_test(test_continuations),
    };
    return cmocka_run_group_tests(tests, scratch_make_context, scratch_remove_context);
}
