#!/bin/sh
# Faults at every system call of saving a checkpoint.
#
#   tests/fault/run.sh [COUNT]      COUNT trials (0, the default: every fault at every call, and every
#                                   allocation failing, once)
#
# A trial starts the writer on a run folder with two checkpoints, injects one fault into its save and
# asks then: does the newest checkpoint load with the right bits, is it the old or the new one, is it
# the new one wherever the writer said that it saved, and is nothing that was left half written taken
# for a checkpoint? After that an undisturbed save must work and leave no litter.
# CC, BUILD (with libmixt.a in it, build/release) and MIXT_LIBS as in the Makefile.
set -u
count=${1:-0}
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
build=${BUILD:-build/release}
case $build in /*) ;; *) build=$root/$build ;; esac
cc=${CC:-cc}
libs=${MIXT_LIBS:-$(pkg-config --libs jansson libpcre2-8 libutf8proc libzstd)}
shm=/tmp # memory where there is some: a disk would only make the real fsyncs slow
[ -d /dev/shm ] && [ -w /dev/shm ] && shm=/dev/shm
work=$(mktemp -d "${TMPDIR:-$shm}/mixt-fault-XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
[ -f "$build/libmixt.a" ] || { echo "$build/libmixt.a is missing: build it first"; exit 1; }
$cc -std=c17 -O1 -D_GNU_SOURCE -DMIXT_FAULT_PRELOAD -shared -fPIC -o "$work/shim.so" \
    "$here/shim.c" -ldl || exit 1
# shellcheck disable=SC2086
$cc -std=c17 -O1 -D_GNU_SOURCE -I"$root/include" -I"$root/src" -o "$work/writer" "$here/writer.c" \
    "$build/libmixt.a" $libs -lm -ldl -pthread || exit 1

run=$work/run
passed=0
failed=0
trial=0

fresh() {
    rm -rf "$run"
    "$work/writer" save "$run" 100 && "$work/writer" save "$run" 200 || exit 1
}

wrong() {
    echo "FAILED: $1: $2"
    failed=$((failed + 1))
    fresh
}

# Saves step 300 under the environment given as arguments and judges what is left.
attempt() {
    name=$*
    trial=$((trial + 1))
    env LD_PRELOAD="$work/shim.so" MIXT_FAULT_FOLDER="$run" "$@" "$work/writer" save "$run" 300 \
        >"$work/out" 2>"$work/err"
    code=$?
    if [ $code -ne 0 ] && [ $code -ne 1 ] && [ $code -ne 137 ]; then
        wrong "$name" "exit status $code"
        return
    fi
    if [ $code -eq 1 ] && [ "$(wc -l <"$work/err")" -ne 1 ]; then
        wrong "$name" "not one line: $(cat "$work/err")"
        return
    fi
    step=$("$work/writer" check "$run" 2>"$work/passed")
    if [ $? -ne 0 ] || [ -s "$work/passed" ]; then
        wrong "$name" "after exit $code: $(cat "$work/passed")"
        return
    fi
    if [ "$step" != 200 ] && [ "$step" != 300 ]; then
        wrong "$name" "newest is step $step"
        return
    fi
    if [ $code -eq 0 ] && [ "$step" != 300 ]; then
        wrong "$name" "reported as saved, but the newest is step $step"
        return
    fi
    if [ ! -d "$run/step-00000200" ]; then
        wrong "$name" "the one before is gone"
        return
    fi
    if ! "$work/writer" save "$run" 400 2>"$work/err"; then
        wrong "$name" "the next save failed: $(cat "$work/err")"
        return
    fi
    if [ "$("$work/writer" check "$run")" != 400 ] || ls "$run" | grep -q tmp; then
        wrong "$name" "litter or wrong step after the next save: $(ls "$run" | tr '\n' ' ')"
        return
    fi
    passed=$((passed + 1))
    fresh
}

enough() {
    [ "$count" -gt 0 ] && [ "$trial" -ge "$count" ]
}

fresh
env LD_PRELOAD="$work/shim.so" MIXT_FAULT_FOLDER="$run" MIXT_FAULT_REPORT="$work/calls" \
    "$work/writer" save "$run" 300 || exit 1
read -r calls allocations <"$work/calls"
echo "one start and save makes $calls counted system calls and $allocations allocations"
fresh

# Every allocation fails: once, and with all that follow.
n=1
while [ "$n" -le "$allocations" ]; do
    [ "$count" -gt 0 ] && [ "$n" -gt $((count / 4)) ] && break
    attempt MIXT_FAULT_MEMORY="$n"
    attempt MIXT_FAULT_MEMORY="$n" MIXT_FAULT_FOREVER=1
    n=$((n + 1))
done

# In turn for every call: kill before it, kill in the middle of it, and errors once and for ever
# (ENOSPC 28, EIO 5, EINTR 4, EDQUOT 122, EROFS 30, EMFILE 24). Where COUNT asks for more than there
# are, the writes become short ones: other numbers of calls.
short=0
while :; do
    n=1
    while [ "$n" -le "$calls" ]; do
        attempt MIXT_FAULT_SHORT=$short MIXT_FAULT_KILL="$n"
        enough && break 2
        attempt MIXT_FAULT_SHORT=$short MIXT_FAULT_KILL="$n" MIXT_FAULT_HALF=1
        enough && break 2
        for number in 28 5 122 30 24; do
            attempt MIXT_FAULT_SHORT=$short MIXT_FAULT_AT="$n" MIXT_FAULT_ERRNO=$number
            enough && break 3
            attempt MIXT_FAULT_SHORT=$short MIXT_FAULT_AT="$n" MIXT_FAULT_ERRNO=$number \
                MIXT_FAULT_FOREVER=1
            enough && break 3
        done
        attempt MIXT_FAULT_SHORT=$short MIXT_FAULT_AT="$n" MIXT_FAULT_ERRNO=4
        enough && break 2
        n=$((n + 1))
    done
    [ "$count" -gt 0 ] || break
    if [ "$short" -eq 0 ]; then short=1000; else short=$((short / 2)); fi
    [ "$short" -lt 30 ] && short=1000
    env LD_PRELOAD="$work/shim.so" MIXT_FAULT_FOLDER="$run" MIXT_FAULT_REPORT="$work/calls" \
        MIXT_FAULT_SHORT=$short "$work/writer" save "$run" 300 || exit 1
    read -r calls allocations <"$work/calls"
    fresh
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
