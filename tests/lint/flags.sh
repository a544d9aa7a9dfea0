#!/bin/sh
# flags.sh: WERROR=1 and a caller's flags reach every file of library, program, tests, examples,
# benchmarks and fuzzers; theirs stand behind ours, and before what the results rest on. Nothing is
# compiled: make says what it would run.
bad=0

# say RULE: lines on standard input break it
say() {
    lines=$(cat)
    [ -z "$lines" ] || { echo "$1: $(echo "$lines" | wc -l) lines, such as"; echo "$lines" | head -2; bad=1; }
}

# plan VARIABLE=VALUE...: one line a command. The build folder of the fuzzers has everything.
plan() {
    env -u MAKEFLAGS -u CFLAGS -u CPPFLAGS -u LDFLAGS make -n -B V=1 BUILD=build/fuzz "$@" 2>&1 tests guarded \
        program shared bench-build \
        $(ls fuzz/*.c | sed 's|^fuzz/\(.*\)\.c$|build/fuzz/fuzz/\1|') | sed -e ':a' -e '/\\$/N; s/\\\n//; ta'
}

all=$(plan WERROR=1 CC=their-cc CLANG=their-cc AR=their-ar MACHINE=$(uname -m) OPT=-O2 \
    CPPFLAGS=-DTHEIRS CFLAGS=-O7 LDFLAGS=-Wl,-z,theirs)
compiled=$(echo "$all" | grep '^their-cc.*\.c\( \|$\)')
linked=$(echo "$all" | grep '^their-cc.* -o ' | grep -v ' -c ')
for room in src/core src/backend cli serve tests tests/guarded examples bench fuzz; do
    echo "$compiled" | grep -q " $room/[^ ]*\.c" || { echo "no compile line of $room was seen"; bad=1; }
done
echo "$compiled" | grep -v -- ' -Werror' | say "WERROR=1 is not used"
echo "$compiled" | grep -v -- ' -O2 .*-DTHEIRS.* -O7 .*-ffp-contract=off' |
    say "CPPFLAGS and CFLAGS do not stand between ours and -ffp-contract=off"
echo "$linked" | grep -v -- ' -O7 .*-Wl,-z,theirs' | say "CFLAGS and LDFLAGS are not used"
echo "$linked" | grep -q -- '-shared' || { echo "no shared library was linked"; bad=1; }
echo "$all" | grep -E '^(cc|gcc|clang|ar) ' | say "CC, CLANG, AR are not used"
echo "$all" | grep -q '^their-ar ' || { echo "AR is not used"; bad=1; }

for flag in -ffast-math -Ofast -fno-signed-zeros; do
    plan CFLAGS="-O2 $flag" | grep -q "CFLAGS: $flag changes results" || { echo "CFLAGS=$flag is not refused"; bad=1; }
done
exit $bad
