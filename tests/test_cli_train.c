/* mixt train as somebody meets it who knows nanoGPT, and who was given a folder by a stranger. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "shell.h"

/* A model that trains in a moment, for a new run. */
#define SHAPE                                                                                      \
    " --vocab-size 300 --layers 2 --hidden-size 32 --heads 2 --kv-heads 1 --head-dim 16 "          \
    "--ffn-size 32 --experts 4 --window 32 --context-length 64 --batch-size 4 --warmup 2 "         \
    "--heldout 0.3 -t 1 "
#define NEW "\"$MIXT\" train --data text " SHAPE

/* ---- folders of strangers */

/* No file of a run is written through a link. */
static void links_are_not_followed(void **state)
{
    (void)state;
    shell_train();
    shell_do("rm -rf v; mkdir v; for n in log lock latest conf token state; do echo kept >v/$n; "
             "done; mkdir v/tokenizer v/model");
    shell_do("rm -rf linked; cp -r run linked; rm linked/log.jsonl; ln -s ../v/log "
             "linked/log.jsonl");
    assert_int_equal(shell("\"$MIXT\" train --out linked --steps 14"), 2);
    assert_has(shell_err, "linked/log.jsonl: is a link");
    shell_do("rm linked/log.jsonl; ln -s ../v/latest linked/LATEST.tmp; ln -s ../v/state "
             "linked/step-00000014.tmp; \"$MIXT\" train --out linked --steps 14");
    shell_do("rm linked/LATEST; ln -s ../v/latest linked/LATEST; \"$MIXT\" train --out linked "
             "--steps 15; ! test -L linked/LATEST");
    shell_do("rm -rf linked/model; ln -s ../v/model linked/model");
    shell_refuses("\"$MIXT\" train --out linked --steps 16", "linked/model: is a link");
    shell_do("rm -rf linked; mkdir linked; ln -s ../v/conf linked/train.conf.part; " NEW
             "--out linked --steps 2; ! test -L linked/train.conf");
    shell_do("rm -rf linked; mkdir linked; ln -s ../v/tokenizer linked/tokenizer");
    shell_refuses(NEW "--out linked --steps 2", "linked/tokenizer: is a link");
    shell_do("rm -rf linked; mkdir -p linked/tokenizer; for n in tokenizer.json "
             "tokenizer_config.json generation_config.json; do ln -s ../../v/token "
             "linked/tokenizer/$n.tmp; done; " NEW "--out linked --steps 2");
    shell_do("rm -rf linked; mkdir -p linked/model; for n in config.json tokenizer.json "
             "model.safetensors generation_config.json; do ln -s ../../v/token "
             "linked/model/$n.tmp; done; " NEW "--out linked --steps 2");
    shell_do("grep -L kept v/log v/lock v/latest v/conf v/token v/state >list; test ! -s list; "
             "test -z \"$(ls v/tokenizer v/model | grep -v :)\"");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(links_are_not_followed),
    };
    return cmocka_run_group_tests(tests, shell_make, shell_remove);
}
