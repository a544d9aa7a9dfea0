#!/bin/sh
# musl.sh BUILD CC: library and program compiled by musl's compiler into BUILD, without a warning.
# There are no packages of the six libraries for musl: their headers alone are linked into
# BUILD/include, and functions that end the program stand for theirs, so that what is run is what
# needs none of them.
build=$1
musl=$2
. tests/check.sh
subject="musl "

# Without optimisation: what that warns of, the other library's build tells.
objects() {
    make "-j$(nproc)" --no-print-directory -s CC="$musl" BUILD="$build" OPT=-O0 WERROR=1 EXTRA_CFLAGS="-I$build/include" objects
}

link() {
    # shellcheck disable=SC2046
    nm -u $(find "$build/src" "$build/cli" "$build/serve" -name '*.o') | awk '$1 == "U" {print $2}' | sort -u |
        grep -E '^(json_|pcre2_|utf8proc_|ZSTD_|el_|history|MHD_)' | sed 's/.*/void &(void) {__builtin_trap();}/' >"$build/six_libraries.c"
    # shellcheck disable=SC2046
    "$musl" -w $(find "$build/src" "$build/cli" "$build/serve" -name '*.o') "$build/six_libraries.c" -lm -ldl -pthread \
        -o "$build/mixt" && [ "$(wc -l <"$build/six_libraries.c")" -gt 10 ]
}

run() {
    "$build/mixt" --version && "$build/mixt" help train | grep -q '^usage: mixt train' &&
        "$build/mixt" info -m "$build/nothing" 2>&1 | grep -q 'nothing: no such'
}

platform() {
    "$musl" -std=c17 -D_GNU_SOURCE -Isrc -Iinclude tests/musl/platform.c "$build/src/core/platform.o" \
        -o "$build/platform" && "$build/platform"
}

rm -rf "$build/include"
mkdir -p "$build/include"
for header in jansson.h jansson_config.h pcre2.h utf8proc.h zstd.h zstd_errors.h histedit.h microhttpd.h; do
    for folder in /usr/include "/usr/include/$(gcc -print-multiarch 2>/dev/null)"; do
        [ ! -f "$folder/$header" ] || ln -sf "$folder/$header" "$build/include/$header"
    done
done
check objects objects
check link link
check run run
check platform platform
verdict
