#!/bin/sh
# Runs every test program of the build folders given, or those that FOLDER/programs lists, and closes with
# "N passed, M failed". MIXT_TEST_JOBS of them run at once (one more than there are cores: some wait, for
# disks or for limits of time); those that tests/longest.txt names begin first, in its order, so that no
# long one is left when all others have ended. One of several builds comes behind another name's, so that
# those that wait run beside those that compute.
# A program that dies, or that runs no test, counts as one failure. Logs: FOLDER/log/NAME.txt. A program
# that takes longer than MIXT_TEST_SECONDS (900; the longest needs 240 under sanitizers) is cut, which is
# one failure too: its last lines say where it stood.
limit=${MIXT_TEST_SECONDS:-900}

# count LABEL LOG: the number that cmocka prints behind a label such as PASSED
count() {
    sed -n "s/^\[ *$1 *\] \([0-9]*\) test.*/\1/p" "$2" | awk '{sum += $1} END {print sum + 0}'
}

# One program: "PASSED FAILED SKIPPED" into its .counts, what is to be seen to the output in one piece.
run_one() {
    folder=$1
    name=$2
    log="$folder/log/$name.txt"
    start=$(date +%s)
    timeout -k 10 "$limit" "$folder/tests/$name" >"$log" 2>&1
    status=$?
    seconds=$(($(date +%s) - start))
    good=$(count PASSED "$log")
    bad=$(count FAILED "$log")
    skip=$(count SKIPPED "$log")
    cut=
    case $status in
    124 | 137) [ "$seconds" -lt "$limit" ] || cut=1 ;;
    esac
    if [ -n "$cut" ]; then
        bad=$((bad + 1))
        verdict="cut after $limit s"
    elif [ "$status" -ne 0 ] && [ "$bad" -eq 0 ]; then
        bad=1
        verdict="ended with status $status"
    elif [ "$((good + bad + skip))" -eq 0 ]; then
        bad=1
        verdict="ran no test"
    elif [ "$bad" -gt 0 ]; then
        verdict="$bad FAILED"
    else
        verdict="ok"
    fi
    [ "$skip" -eq 0 ] || verdict="$verdict, $skip skipped"
    {
        printf '%-32s %4d passed  %s  (%d s)\n' "$folder $name" "$good" "$verdict" "$seconds" |
            sed 's|^build/||'
        if [ -n "$cut" ]; then
            tail -n 8 "$log" | sed 's/^/    /' # the test that began and did not end is among them
        elif [ "$bad" -gt 0 ]; then
            grep -v '^\[ RUN\|^\[       OK\|^\[==' "$log" | tail -n 25 | sed 's/^/    /'
        fi
    } >"$folder/log/$name.seen"
    cat "$folder/log/$name.seen"
    rm "$folder/log/$name.seen"
    echo "$good $bad $skip" >"$folder/log/$name.counts"
}

if [ "$1" = --one ]; then
    run_one "$2" "$3"
    exit 0
fi

export ASAN_OPTIONS="${ASAN_OPTIONS:-detect_stack_use_after_return=0:allocator_may_return_null=1}"
export UBSAN_OPTIONS="${UBSAN_OPTIONS:-print_stacktrace=1}"

# "FOLDER NAME" of each program, folder by folder
list() {
    for folder in "$@"; do
        if [ -f "$folder/programs" ]; then
            cat "$folder/programs"
        else
            basename -s .c tests/test_*.c
        fi | sed "s|^|$folder |"
    done
}

for folder in "$@"; do
    mkdir -p "$folder/log"
    rm -f "$folder"/log/*.counts
done
programs=$(list "$@")
echo "$programs" | awk 'FILENAME != "-" {rank[$1] = FNR; next} $1 != folder {folder = $1; builds++}
        {print ($2 in rank ? 2 * rank[$2] + 3 * builds : 1e6), FNR, $0}' \
    "$(dirname "$0")/longest.txt" - | sort -k 1,1n -k 2,2n | cut -d ' ' -f 3- |
    xargs -P "${MIXT_TEST_JOBS:-$(($(nproc 2>/dev/null || echo 1) + 1))}" -n 2 "$0" --one

passed=0
failed=0
skipped=0
while read -r folder name; do
    if ! read -r good bad skip <"$folder/log/$name.counts"; then # its runner was killed
        echo "$folder $name: FAILED, no result"
        good=0 bad=1 skip=0
    fi
    passed=$((passed + good))
    failed=$((failed + bad))
    skipped=$((skipped + skip))
done <<END
$programs
END
if [ "$skipped" -gt 0 ]; then
    echo "$passed passed, $failed failed, $skipped skipped"
else
    echo "$passed passed, $failed failed"
fi
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
