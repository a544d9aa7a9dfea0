/* What ranks do together, over the hub: each collective against what it says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "hub.h"

static mixt_status add_up(mixt_ranks *ranks, int rank, void *user, mixt_error *error)
{
    int count = mixt_ranks_count(ranks);
    int64_t values[3] = {rank, 1, -rank * rank};
    (void)user;
    MIXT_TRY(mixt_ranks_sum(ranks, MIXT_GROUP_ALL, values, 3, error));
    HUB_CHECK(values[0] == count * (count - 1) / 2);
    HUB_CHECK(values[1] == count);
    HUB_CHECK(values[2] == -(count - 1) * count * (2 * count - 1) / 6);
    return MIXT_OK;
}

static void test_sum(void **state)
{
    (void)state;
    hub_run(1, add_up, NULL);
    hub_run(2, add_up, NULL);
    hub_run(8, add_up, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sum),
    };
    return cmocka_run_group_tests_name("ranks", tests, NULL, NULL);
}
