/* The page of `mixt serve` in a real browser: tests/page/serve.py, with a tiny model. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "sanitized.h"
#include "scratch.h"
#include "shell.h"

/* Exit status 77 of the script: no browser here; 127 of the shell: no python3. */
static void test_page(void **state)
{
    (void)state;
    if (SANITIZED) {
        print_message("skipped: the browser is shown the release build's page\n");
        skip();
    }
    shell_train();
    shell_do("\"$MIXT\" train --data text --out dense --steps 2 --vocab-size 300 --layers 2 "
             "--hidden-size 32 --heads 2 --experts 0 --batch-size 2 --heldout 0.3 -t 1");
    shell_do("\"$MIXT\" train --data text --out large --steps 2 --vocab-size 300 --layers 3 "
             "--hidden-size 64 --heads 2 --experts 16 --batch-size 2 --heldout 0.3 -t 1");
    int status =
        shell("python3 \"$PAGE_TEST\" \"$MIXT\" run/model dense/model large/model \"$PWD\"");
    if (status == 77 || status == 127) {
        print_message(
            "skipped: mixt serve's page was not tried in a browser (no chromium or python3)\n");
        skip();
    }
    if (status != 0) {
        fail_msg("status %d: %.3000s", status, shell_err);
    }
    print_message("%s", shell_out);
}

int main(void)
{
    static char script[4096 + 32];
    char folder[4096];
    if (getcwd(folder, sizeof folder) == NULL) {
        return 1;
    }
    snprintf(script, sizeof script, "%s/tests/page/serve.py", folder);
    setenv("PAGE_TEST", script, 1);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_page)};
    return cmocka_run_group_tests_name("serve page", tests, shell_make, scratch_remove);
}
