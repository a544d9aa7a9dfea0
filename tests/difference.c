#include "difference.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "formats/gguf.h"
#include "model/model.h"
#include "scratch.h"

/* Not by fmax, which passes over NAN, and on which gcc 12 for aarch64 ends with an internal error
 * (vect_transform_reduction) where the count is known. */
double test_largest_difference(const float *a, const float *b, size_t count)
{
    double worst = 0;
    for (size_t i = 0; i < count; i++) {
        double difference = fabs((double)a[i] - (double)b[i]);
        if (isnan(difference)) {
            return difference;
        }
        worst = difference > worst ? difference : worst;
    }
    return worst;
}

void test_same_values(const char *what, const mixt_model *a, const mixt_model *b)
{
    assert_int_equal(a->parameter_count, b->parameter_count);
    for (int i = 0; i < a->parameter_count; i++) {
        const mixt_parameter *p = &a->parameters[i];
        assert_int_equal(p->count, b->parameters[i].count);
        float *x = malloc(p->count * sizeof *x), *y = malloc(p->count * sizeof *y);
        assert_true(x != NULL && y != NULL);
        mixt_model_values(a, i, 0, p->count, x);
        mixt_model_values(b, i, 0, p->count, y);
        if (memcmp(x, y, p->count * sizeof *x) != 0) {
            fail_msg("%s: parameter %s differs", what, p->name);
        }
        free(x);
        free(y);
    }
}

void test_same_tensors(const char *what, const char *path, const char *other)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_gguf *a, *b;
    must(mixt_gguf_open(path, &a, &error), &error);
    must(mixt_gguf_open(other, &b, &error), &error);
    assert_int_equal(mixt_gguf_tensor_count(a), mixt_gguf_tensor_count(b));
    for (size_t i = 0; i < mixt_gguf_tensor_count(a); i++) {
        const mixt_gguf_tensor *x = mixt_gguf_tensor_at(a, i), *y = mixt_gguf_tensor_at(b, i);
        if (strcmp(x->name, y->name) != 0 || x->type != y->type || x->bytes != y->bytes ||
            memcmp(x->data, y->data, x->bytes) != 0) {
            fail_msg("%s: tensor %s, and %s", what, x->name, y->name);
        }
    }
    mixt_gguf_close(a);
    mixt_gguf_close(b);
}
