#!/bin/bash
# tests/fault/kill_ranks.sh BUILD KILLS [SEED]: several processes train one model, and one of them gets
# SIGKILL at a random moment, KILLS times; the others must end by themselves within a bound, and the
# next start, of the same or another number of ranks, goes on from the newest checkpoint that was
# there. A run that came to its end is compared with one that nobody disturbed: with --exact-reduce
# starts of all layouts train the same bits; without it starts of one layout, in any chunks. The ranks are carried by
# the hub (tests/hub.h), so no MPI is needed. The last line is "N passed, M failed".
set -u
build=$1
kills=$2
RANDOM=${3:-1}
cd "$(dirname "$0")/../.." || exit 1
. tests/check.sh
subject="kills of ranks: "
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
bound=60 # seconds that a start may take, whatever became of it
killed=0 hangs=0 lost=0 other=0 ends=0

words=(red green blue one two three fish bird tree runs is and the of)
for ((i = 0; i < 200; i++)); do
    text=
    for ((j = 0; j < 40; j++)); do
        text="$text ${words[RANDOM % ${#words[@]}]}"
    done
    echo "{\"domain\": \"a\", \"text\": \"$text\"}"
done >"$folder/corpus.jsonl"

# start RUN STEPS COUNT [ARGUMENTS...] [-- OF LAUNCH]: a start of a run on so many ranks, into $folder/out
start() {
    local run=$1 steps=$2 count=$3 launch=()
    shift 3
    local arguments=()
    while [ $# -gt 0 ] && [ "$1" != -- ]; do
        arguments+=("$1")
        shift
    done
    [ $# -eq 0 ] || launch=("${@:2}")
    launch=("$build/tests/launch" -n "$count" --seconds "$bound" "${launch[@]}")
    [ "$count" -gt 1 ] || launch=()
    "${launch[@]}" "$build/mixt" train --data "$folder/corpus.jsonl" --out "$run" --layers 2 --hidden-size 16 \
        --heads 2 --kv-heads 1 --head-dim 8 --ffn-size 16 --experts 6 --experts-per-token 2 --bias-rate 0.01 \
        --score sigmoid --renormalise --vocab-size 300 --context-length 32 --window 32 --batch-size 1 \
        --accumulation 12 --steps "$steps" --warmup 4 --checkpoint-every 2 --checkpoint-seconds 0 \
        --heldout 0.05 --threads 1 "${arguments[@]}" >"$folder/out" 2>&1
}

newest() {
    local step
    step=$(find "$1" -maxdepth 1 -name 'step-????????' 2>/dev/null | sort | tail -n 1)
    step=${step##*step-}
    echo "$((10#${step:-0}))"
}

same() {
    cmp "$1/model/model.safetensors" "$2/model/model.safetensors" >/dev/null &&
        cmp "$1/model/tokenizer.json" "$2/model/tokenizer.json" >/dev/null
}

complain() {
    echo "$1:"
    head -n 20 "$folder/out" | sed 's/^/    /'
}

# disturb WHICH STEPS REFERENCE LAYOUT...: starts of the layouts ("COUNT ARGUMENTS") until so many kills
disturb() {
    local which=$1 steps=$2 reference=$3 before layout count status moment run=$folder/run target=$4
    shift 4
    local layouts=("$@")
    rm -rf "$run"
    while [ "$killed" -lt "$target" ] && [ $((lost + hangs + other)) -lt 5 ]; do
        layout=${layouts[RANDOM % ${#layouts[@]}]}
        count=${layout%% *}
        if [ $((RANDOM % 2)) = 0 ]; then
            moment="--kill-after $((RANDOM % count)):0.$(printf %03d $((RANDOM % 500)))"
        else
            moment="--kill-message $((RANDOM % count)):$((1 + RANDOM % 5000))"
        fi
        before=$(newest "$run")
        # shellcheck disable=SC2086
        start "$run" "$steps" $layout $which -- $moment
        status=$?
        if [ "$status" = 124 ]; then
            hangs=$((hangs + 1))
            complain "a hang ($layout, $moment)"
        elif [ "$status" = 0 ]; then
            ends=$((ends + 1))
            if ! same "$run" "$reference"; then
                lost=$((lost + 1))
                complain "other bits ($layout)"
            fi
            rm -rf "$run"
        elif grep -qE 'was lost|ended' "$folder/out" || ! grep -q '^mixt' "$folder/out"; then
            killed=$((killed + 1))
        else
            other=$((other + 1))
            complain "status $status ($layout, $moment)"
        fi
        if [ "$status" != 0 ] && [ "$(newest "$run")" -lt "$before" ]; then
            lost=$((lost + 1))
            complain "a checkpoint is gone ($layout, $moment)"
        fi
        if [ "$before" -gt 0 ] && grep -q '^resumed' "$folder/out" &&
            ! grep -qE "^resumed .*/step-0*$before at step $before\$" "$folder/out"; then
            lost=$((lost + 1))
            complain "step $before was not resumed ($layout, $moment)"
        fi
    done
}

reference() {
    # shellcheck disable=SC2086
    start "$folder/$1" "$2" $3 || cat "$folder/out"
}

exact() {
    reference exact 30 "1 --exact-reduce" &&
        disturb --exact-reduce 30 "$folder/exact" $((kills * 3 / 4)) "2 --data-parallel 2" "2 --expert-parallel 2" \
            "2 --expert-parallel 2 --exchange-chunks 3" "3 --expert-parallel 3 --exchange-chunks 2" "3 --data-parallel 3" "4 --data-parallel 4" "4 --expert-parallel 4"
    [ $((hangs + lost + other)) = 0 ]
}

split() {
    reference split 30 "4 --data-parallel 2" && disturb "" 30 "$folder/split" "$kills" "4 --data-parallel 2" \
        "4 --data-parallel 2 --exchange-chunks 3"
    [ $((hangs + lost + other)) = 0 ]
}

SECONDS=0
exact && passed=$((passed + 1)) || failed=$((failed + 1))
hangs=0 lost=0 other=0
split && passed=$((passed + 1)) || failed=$((failed + 1))
[ "$killed" -ge "$kills" ] && [ "$ends" -gt 0 ] && passed=$((passed + 1)) || failed=$((failed + 1))
echo "ranks: $killed kills, $ends runs came to their end, in $SECONDS s"
verdict
