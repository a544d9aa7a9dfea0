#!/bin/bash
# ranks.sh BUILD KILLS TEST...: ranks as processes over MPI, started by mpirun: every collective against
# its reference; ranks that fail, stand still, send what nobody expects; the program; the tests
# test_TEST, whose ranks are threads elsewhere, over 2, 4 and 8; KILLS times SIGKILL to one of them at a
# random moment. MPIRUN names another launcher, of the MPI that the library was built with. Prints "N passed, M failed".
set -u
build=$1
kills=$2
mpirun=${MPIRUN:-mpirun}
shift 2
tests=("$@")
cd "$(dirname "$0")/.." || exit 1
. tests/check.sh
subject="ranks "

if ! command -v "$mpirun" >/dev/null || [ ! -f "$build/libmixt-mpi.so" ]; then
    echo "ranks: skipped, there is no $mpirun or no $build/libmixt-mpi.so (make deps-mpi installs Open MPI)"
    verdict
    exit
fi
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
# Open MPI 4 and 5: more ranks than cores, and root, as in a container.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1 \
    PRTE_MCA_rmaps_default_mapping_policy=:oversubscribe
export MIXT_TRANSPORT=$build/libmixt-mpi.so
# Leaks of a build for sanitizers that are MPI's own.
export LSAN_OPTIONS=suppressions=$PWD/tests/fault/openmpi.supp:print_suppressions=0
conform=$build/tests/conform

# ranks COUNT SECONDS ARGUMENTS...: status and output (into $folder/out) of so many ranks
ranks() {
    local count=$1 seconds=$2
    shift 2
    timeout -k 5 "$seconds" "$mpirun" -n "$count" "$conform" "$@" >"$folder/out" 2>&1
}

agree() {
    ranks "$1" 300 "${@:2}" && grep -qx "$1 ranks agree" "$folder/out" || { cat "$folder/out"; return 1; }
}

# What Open MPI, and MPICH, take for a way without shared memory.
by_tcp() {
    OMPI_MCA_btl=tcp,self MPIR_CVAR_NOLOCAL=1 agree 4 5 20 60000
}

pieces() {
    MIXT_TRANSPORT=$build/tests/pieces/libmixt-mpi.so agree 2 5 1 200000
}

# What is under way and what is there behind it is no wrong message, however often it is asked.
hasty() {
    MIXT_TRANSPORT=$build/tests/hasty/libmixt-mpi.so agree 4 5 2 60000
}

hasty_by_tcp() {
    OMPI_MCA_btl=tcp,self MPIR_CVAR_NOLOCAL=1 hasty
}

# ends LINES PATTERN COUNT SECONDS ARGUMENTS...: all end in time and fail; so many say the line
ends() {
    local lines=$1 pattern=$2 status
    shift 2
    ranks "$@"
    status=$?
    if [ "$status" = 0 ] || [ "$status" = 124 ] || [ "$status" = 137 ] ||
        [ "$(grep -cE "^conform: $pattern\$" "$folder/out")" -lt "$lines" ] || grep -q 'written outside' "$folder/out"; then
        echo "status $status"
        cat "$folder/out"
        return 1
    fi
}

alone() {
    env -u MIXT_TRANSPORT "$mpirun" -n 2 "$conform" >"$folder/out" 2>&1
    grep -q '^conform: started as 2 ranks, but libmixt-mpi.so is not there: install libopenmpi-dev and run make' "$folder/out"
}

# As `make install` puts them.
installed() {
    mkdir -p "$folder/bin" "$folder/lib/mixt" && cp "$conform" "$folder/bin" && cp "$build/libmixt-mpi.so" "$folder/lib/mixt" &&
        env -u MIXT_TRANSPORT "$mpirun" -n 2 "$folder/bin/conform" 1 1 1000 | grep -x "2 ranks agree"
}

# The program itself: what it prints with its experts spread over so many ranks is what it prints alone.
# It does not keep what MPI unloads, whose leaks have no names then.
make_model() {
    for ((i = 0; i < 400; i++)); do
        echo "line $i: the quick brown $((i * 7919 % 97)) jumps over $((i * 31 % 11)) dogs and runs $((i * i % 1013))"
    done >"$folder/text.txt"
    "$build/mixt" train --data "$folder/text.txt" --out "$folder/run" --steps 20 --layers 2 --hidden-size 32 --ffn-size 32 \
        --heads 2 --head-dim 16 --experts 8 --vocab-size 300 --threads 1
}

spread() {
    local count=$1
    shift
    "$build/mixt" "$@" -m "$folder/run" --threads 1 >"$folder/alone.txt" 2>"$folder/err.txt" &&
        ASAN_OPTIONS=detect_leaks=0 timeout 120 "$mpirun" -n "$count" "$build/mixt" "$@" -m "$folder/run" --threads 1 >"$folder/spread.txt" 2>"$folder/err.txt" ||
        { cat "$folder/err.txt"; return 1; }
    diff "$folder/alone.txt" "$folder/spread.txt" && [ -s "$folder/spread.txt" ]
}

# The program trains over COUNT ranks, D of them copies: with --exact-reduce the model that one rank trains, byte for byte.
train_alone() {
    "$build/mixt" "${train[@]}" --out "$folder/exact-1" >"$folder/out" 2>&1 || { cat "$folder/out"; return 1; }
}

train_over() {
    local count=$1 data=$2 run=$folder/exact-$1x$2
    ASAN_OPTIONS=detect_leaks=0 timeout 120 "$mpirun" -n "$count" "$build/mixt" "${train[@]}" --out "$run" --data-parallel "$data" \
        >"$folder/out" 2>&1 || { cat "$folder/out"; return 1; }
    cmp "$folder/exact-1/model/model.safetensors" "$run/model/model.safetensors"
}

# Another MPI's launcher, where there is one: no run at all, in place of one of each in the same folder.
find_stranger() {
    local name
    for name in mpirun.mpich mpirun.openmpi; do
        command -v $name >/dev/null && [ "$(realpath "$(command -v $name)")" != "$(realpath "$(command -v "$mpirun")")" ] && echo $name
    done | head -n 1
}

strange() {
    timeout 60 "$1" -n 2 "$build/mixt" "${train[@]}" --out "$folder/strange" >"$folder/out" 2>&1
    [ ! -e "$folder/strange" ] &&
        grep -q "started as 2 ranks, but it sees 1: the launcher is another MPI's than the library was built with" "$folder/out" ||
        { cat "$folder/out"; return 1; }
}

# A test program whose ranks are threads elsewhere, as so many processes (tests/hub.h).
suite() {
    local count=$1 name=$2
    ASAN_OPTIONS=detect_leaks=0 timeout -k 5 300 "$mpirun" -n "$count" "$build/tests/test_$name" >"$folder/out" 2>&1 &&
        grep -qE "^[1-9][0-9]* runs of $count processes$" "$folder/out" || { grep -v '^\[ *\(RUN\|OK\|=*\) *\]' "$folder/out"; return 1; }
}

# The others end, by themselves or by mpirun, and nothing is left running.
kill_all() {
    local i seed begin
    for ((i = 0; i < kills; i++)); do
        seed=$((1000000 * $$ % 1000000007 + i)) # names the run
        begin=$SECONDS
        ranks 3 60 "$seed" 100000 100000 --kill $((RANDOM % 3)) $((RANDOM % 700))
        if [ $((SECONDS - begin)) -gt 30 ] || pgrep -f "conform $seed " >/dev/null; then
            echo "kill $i: $((SECONDS - begin)) s"
            cat "$folder/out"
            return 1
        fi
    done
}

for count in 1 2 4 8; do
    check "$count agree" agree "$count" $((count + 1)) 1 $((count < 8 ? 3000000 : 300000))
done
check "4 by TCP" by_tcp
check "messages in pieces" pieces
check "a long message behind which others come" hasty
check "the same by TCP" hasty_by_tcp
check "one that fails: all say its line" ends 2 "rank 1: fails, as it was told" 3 60 1 100 1000 --fail 1
check "one that stands still: the others say so" ends 1 "rank 1 let rank [02] wait for 2 seconds" 3 60 1 100 1000 --stop 1 --timeout 2
for bytes in 1 99 101 5000 5000000; do
    check "$bytes bytes for 100" ends 1 "rank 0 sent $bytes bytes where rank 1 expects 100" 2 60 1 1 1000 --wrong $bytes --timeout 3
done
check "no library" alone
check "an installed library" installed
check "a model" make_model
check "eval over 2" spread 2 eval --data "$folder/text.txt"
check "eval over 4" spread 4 eval --data "$folder/text.txt"
check "run over 2" spread 2 run -p "line 7: the" -n 20 --temperature 0
check "run over 8" spread 8 run -p "line 7: the" -n 20 --temperature 0
train=(train --data "$folder/text.txt" --steps 10 --layers 2 --hidden-size 32 --ffn-size 32 --heads 2 --head-dim 16 --experts 8
    --vocab-size 300 --window 32 --batch-size 1 --accumulation 8 --threads 1 --exact-reduce)
check "train alone" train_alone
check "train 2 x 1" train_over 2 2
check "train 1 x 2" train_over 2 1
check "train 1 x 4" train_over 4 1
check "train 2 x 2" train_over 4 2
check "train 8 x 1" train_over 8 8
check "train 1 x 8" train_over 8 1
stranger=$(find_stranger)
[ -z "$stranger" ] || check "started by $stranger" strange "$stranger"
for count in 2 4 8; do
    for name in "${tests[@]}"; do
        check "test_$name over $count" suite "$count" "$name"
    done
done
check "$kills kills" kill_all
verdict
