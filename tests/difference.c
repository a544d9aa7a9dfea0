#include "difference.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "model/model.h"

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
