#!/bin/sh
# fuzz.sh SECONDS PROGRAM...: runs each fuzz program for that time on its corpus and closes with
# "N passed, M failed". Seeds: fuzz/corpus/NAME; what is found: build/fuzz/found/NAME.
seconds=$1
shift
passed=0
failed=0
[ "$#" -gt 0 ] || { echo "fuzz: no programs in fuzz/" >&2; exit 1; }
for program in "$@"; do
    name=$(basename "$program")
    corpus=build/fuzz/corpus/$name
    found=build/fuzz/found/$name
    log=build/fuzz/log/$name.txt
    mkdir -p "$corpus" "$found" build/fuzz/log
    seeds=
    [ -d "fuzz/corpus/$name" ] && seeds=fuzz/corpus/$name
    # shellcheck disable=SC2086
    if "$program" -max_total_time="$seconds" -rss_limit_mb=2048 -timeout=10 -max_len=65536 \
        -print_final_stats=1 -artifact_prefix="$found/" "$corpus" $seeds >"$log" 2>&1; then
        passed=$((passed + 1))
        runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
        echo "fuzz $name: $runs inputs, nothing found"
    else
        failed=$((failed + 1))
        echo "fuzz $name: FAILED ($log)"
        grep -E 'ERROR|SUMMARY|Test unit written' "$log" | head -5 | sed 's/^/    /'
    fi
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
