#!/bin/sh
# fuzz.sh SECONDS PROGRAM...: runs each fuzz program for that time on its corpus, one on each core,
# and closes with "N passed, M failed". Seeds: fuzz/corpus/NAME; what is found: build/fuzz/found/NAME;
# what was reached before: build/fuzz/corpus/NAME.
# An input may take 10 s and the process 2 GiB, but no single allocation more than 256 MiB: no input
# is larger than 64 KiB.

# One program; its line goes to the log folder.
run_one() {
    program=$2
    name=$(basename "$program")
    corpus=build/fuzz/corpus/$name
    found=build/fuzz/found/$name
    log=build/fuzz/log/$name.txt
    mkdir -p "$corpus" "$found"
    seeds=
    [ -d "fuzz/corpus/$name" ] && seeds=fuzz/corpus/$name
    # shellcheck disable=SC2086
    if "$program" -max_total_time="$1" -rss_limit_mb=2048 -malloc_limit_mb=256 -timeout=10 \
        -max_len=65536 -print_final_stats=1 -artifact_prefix="$found/" "$corpus" $seeds >"$log" 2>&1; then
        runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
        echo "fuzz $name: $runs inputs, nothing found"
    else
        echo "fuzz $name: FAILED ($log)"
        grep -E 'ERROR|SUMMARY|does not hold|Test unit written' "$log" | head -5 | sed 's/^/    /'
    fi >"build/fuzz/log/$name.line"
    cat "build/fuzz/log/$name.line"
}

if [ "$1" = one ]; then
    run_one "$2" "$3"
    exit 0
fi
seconds=$1
shift
[ "$#" -gt 0 ] || { echo "fuzz: no programs in fuzz/" >&2; exit 1; }
mkdir -p build/fuzz/log
rm -f build/fuzz/log/*.line
memory=/tmp
[ -w /dev/shm ] && memory=/dev/shm
TMPDIR=$(mktemp -d "$memory/mixt-fuzz-XXXXXX") || exit 1
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT
trap 'exit 1' INT TERM
printf '%s\n' "$@" | xargs -P "$(nproc 2>/dev/null || echo 1)" -n 1 "$0" one "$seconds"
passed=$(cat build/fuzz/log/*.line | grep -c 'nothing found$')
failed=$(($# - passed))
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
