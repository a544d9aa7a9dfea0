/* The atlas page in a real browser (tests/page/check.py), and the terminal tables beside it.
 * With an argument "write FOLDER LAYERS EXPERTS K" it only writes page and tables of the demo
 * trace, to look at; with "write-dropped ..." of one in which layers choose different numbers and
 * some choices were dropped. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "atlas_demo.h"
#include "core/files.h"

typedef struct page_case {
    int layers, experts, k;
    bool dropped;
} page_case;

static mixt_status write_both(const char *folder, const page_case *c, mixt_error *error)
{
    mixt_trace *trace = atlas_demo_make(c->layers, c->experts, c->k);
    if (c->dropped) {
        atlas_demo_drop(trace);
    }
    char *page = mixt_path_join(folder, "page.html");
    char *tables = mixt_path_join(folder, "tables.txt");
    mixt_atlas_options options = {.color = false, .text_tokens = 60, .width = 100};
    FILE *stream = fopen(tables, "w");
    mixt_status status = mixt_atlas_print(trace, &options, stream, error);
    fclose(stream);
    if (status == MIXT_OK) {
        status = mixt_atlas_page(trace, page, error);
    }
    free(page);
    free(tables);
    mixt_trace_free(trace);
    return status;
}

/* Exit status 77 of the script: no browser here; 127 of the shell: no python3. */
static void check_in_browser(const page_case *c)
{
    char folder[] = "/tmp/mixt-page-XXXXXX";
    mixt_error error = MIXT_ERROR_INIT;
    assert_non_null(mkdtemp(folder));
    if (write_both(folder, c, &error) != MIXT_OK) {
        fail_msg("%s", error.message);
    }
    char command[256];
    snprintf(command, sizeof command, "python3 tests/page/check.py %s", folder);
    int status = system(command);
    mixt_folder_remove(folder, &error);
    if (WIFEXITED(status) && (WEXITSTATUS(status) == 77 || WEXITSTATUS(status) == 127)) {
        print_message("skipped: the page was not tried in a browser (no chromium or python3)\n");
        skip();
    }
    assert_int_equal(status, 0);
}

static void test_small(void **state)
{
    (void)state;
    check_in_browser(&(page_case){4, 8, 2, false});
}

static void test_many_experts(void **state)
{
    (void)state;
    check_in_browser(&(page_case){20, 64, 8, false});
}

static void test_one_of_each(void **state)
{
    (void)state;
    check_in_browser(&(page_case){1, 2, 1, false});
}

static void test_dropped(void **state)
{
    (void)state;
    check_in_browser(&(page_case){4, 8, 3, true});
}

int main(int argc, char **argv)
{
    if (argc == 6 && strncmp(argv[1], "write", 5) == 0) {
        mixt_error error = MIXT_ERROR_INIT;
        const page_case c = {atoi(argv[3]), atoi(argv[4]), atoi(argv[5]),
                             strcmp(argv[1], "write-dropped") == 0};
        mixt_status status = write_both(argv[2], &c, &error);
        fprintf(stderr, "%s", error.message);
        return status != MIXT_OK;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small),
        cmocka_unit_test(test_many_experts),
        cmocka_unit_test(test_one_of_each),
        cmocka_unit_test(test_dropped),
    };
    return cmocka_run_group_tests_name("page", tests, NULL, NULL);
}
