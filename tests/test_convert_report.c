/* mixt convert --report and --type auto, as a person or a script meets them. */
#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sanitized.h"
#include "scratch.h"
#include "shell.h"

static double number(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_number(value)) {
        fail_msg("no number %s", key);
    }
    return json_number_value(value);
}

static json_t *report(const char *line)
{
    json_error_t error;
    shell_do(line);
    json_t *root = json_loads(shell_out, 0, &error);
    if (root == NULL) {
        fail_msg("%s: %s", error.text, shell_out);
    }
    return root;
}

static double bytes_of(const json_t *root)
{
    size_t i;
    json_t *type;
    double bytes = 0;
    json_array_foreach(json_object_get(root, "types"), i, type)
    {
        bytes += number(type, "bytes");
    }
    return bytes;
}

static void test_text(void **state)
{
    (void)state;
    shell_train();
    shell_do("$MIXT convert run -o q4.gguf --type Q4_0 --report --report-data text");
    assert_has(shell_out, "perplexity    ");
    assert_has(shell_out, "predictions   KL 0.");
    assert_has(shell_out, "layer  same sets     same first    weight kept router KL, bits");
    assert_has(shell_out, "\nQ4_0 ");
    assert_has(shell_err, "tokens to compare on");
    shell_do("$MIXT convert run -o folder --report --data text"); /* nothing changes */
    assert_has(shell_out, "KL 0.000000 nats on average, 0.000000 at 99% of the tokens; the same "
                          "likeliest token at 100.00%");
}

/* Documents that are kept apart are those that the report is on, and nothing else sees them. */
static void test_heldout(void **state)
{
    (void)state;
    shell_train();
    json_t *root = report("$MIXT convert run -o kept.gguf --type Q4_0 --data text --heldout 0.4 "
                          "--report --json");
    shell_do("$MIXT eval -m kept.gguf --data text --heldout 0.4 --json --window 256 | grep -o "
             "'\"perplexity\": [0-9.]*' | tail -n 1");
    double scored = strtod(strstr(shell_out, ": ") + 2, NULL);
    assert_true(fabs(scored / number(root, "perplexity") - 1) < 1e-7);
    assert_true(json_is_true(json_object_get(root, "heldout")));
    assert_false(json_is_true(json_object_get(root, "fitted")));
    json_decref(root);
    shell_do("$MIXT convert run -o all.gguf --type Q4_0 --data text --report; ! cmp -s all.gguf "
             "kept.gguf");
    assert_has(shell_out, "tokens that it was fitted to (--heldout keeps some apart)");
}

/* The perplexities are those of mixt eval, and an own mix of the size of Q4_0's loses less. */
static void test_json(void **state)
{
    (void)state;
    char line[300];
    shell_train();
    json_t *mix = report("$MIXT convert run -o q4.gguf --type Q4_0 --data text --report --json");
    shell_do("$MIXT eval -m q4.gguf --data text --json --window 256 | grep -o "
             "'\"perplexity\": [0-9.]*' | tail -n 1");
    assert_has(shell_out, ": ");
    assert_true(fabs(strtod(strstr(shell_out, ": ") + 2, NULL) / number(mix, "perplexity") - 1) <
                1e-7);
    double bytes = bytes_of(mix);
    snprintf(
        line, sizeof line,
        "$MIXT convert run -o auto.gguf --type auto --budget %.9fGB --data text --report --json",
        bytes / 1e9);
    json_t *chosen = report(line);
    assert_true(bytes_of(chosen) <= bytes && bytes_of(chosen) > 0.9 * bytes);
    assert_true(number(chosen, "kl") < number(mix, "kl"));
    assert_true(number(chosen, "source_perplexity") == number(mix, "source_perplexity"));
    assert_string_equal(json_string_value(json_object_get(chosen, "written")), "auto.gguf");
    const json_t *layer = json_array_get(json_object_get(chosen, "layers"), 0);
    assert_true(number(layer, "sets") > 0.5 && number(layer, "sets") <= 1);
    assert_true(number(layer, "kept") > 0.5 && number(layer, "router_kl") >= 0);
    json_decref(mix);
    json_decref(chosen);
    shell_do("$MIXT convert run -o bits.gguf --type auto --budget 9bits --data text");
    assert_has(shell_err, "bits a weight");
}

static void test_refusals(void **state)
{
    (void)state;
    shell_train();
    shell_refuses("$MIXT convert run -o x.gguf --type auto --data text",
                  "--type auto: needs --budget");
    shell_refuses("$MIXT convert run -o x.gguf --type auto --budget 5bits",
                  "--type auto: needs --data");
    shell_refuses("$MIXT convert run -o x.gguf --type Q8_0 --budget 5bits",
                  "--budget: needs --type auto");
    shell_refuses("$MIXT convert run -o x.gguf --type Q8_0 --heldout 0.2",
                  "--heldout: needs --data");
    shell_refuses("$MIXT convert run -o x.gguf --type Q8_0 --json", "--json: needs --report");
    shell_refuses("$MIXT convert run -o x.gguf --report-data text",
                  "--report-data: needs --report");
    shell_refuses("$MIXT convert run -o x.gguf --report",
                  "--report: needs --report-data, or --data");
    static const char *const sizes[] = {"much", "5 stones", "-3", "0", "1e9x", ".", "5bits "};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        char line[300];
        snprintf(line, sizeof line,
                 "$MIXT convert run -o x.gguf --type auto --data text --budget='%s'", sizes[i]);
        shell_refuses(line, "is not a size: 12GB, 800MB or 4.5bits");
    }
    shell_refuses("$MIXT convert run -o folder2 --type auto --data text --budget 5bits",
                  "--type auto: is for GGUF files alone");
    /* this needs the model, of which and of the texts lines were said before */
    assert_int_equal(shell("$MIXT convert run -o x.gguf --type auto --data text --budget 1kB"), 2);
    assert_has(shell_err, "budget: 1000 bytes, but the tensors have ");
}

/* The time of this test is what is computed on the texts, for every matrix: under sanitizers a
 * quarter of them. */
static int set_up(void **state)
{
    int status = shell_make(state);
    shell_train();
    if (SANITIZED) {
        shell_do("rm text/*/1?.txt text/*/[4-9].txt");
    }
    return status;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_heldout),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, set_up, scratch_remove);
}
