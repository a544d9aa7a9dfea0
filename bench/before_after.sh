#!/bin/bash
# Speed of a revision and of the working tree, taken in turns so that both meet the same machine.
#
#   bench/before_after.sh REV [ROUNDS]     5 rounds: 6 to 10 minutes on 2 cores
#
# A round runs `mixt bench` four times for each row: before, after, after, before. Both sides run at
# real-time priority where that is allowed (chrt -r 5): other programs then wait. Prints medians,
# the median of the ratios of neighbouring runs, and the ratio of the best runs, which says more
# where other programs disturb. ROWS="regular expression" chooses rows, THREADS a number of threads.
# Models with random weights are made once, below build/bits/ (2 files of 0.5 GB, by way of 4 GB).
set -u
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/.." && pwd)
rounds=${2:-5}
if [ $# -lt 1 ] || [ $# -gt 2 ] || [ -z "$1" ] || ! [ "$rounds" -gt 0 ]; then
    echo "usage: bench/before_after.sh REV [ROUNDS]" >&2
    exit 2
fi
. "$root/tests/bits/sides.sh"
threads=${THREADS:-$(nproc)}

before=$(source_of "$1") && after=$(source_of "") || exit 1
echo "building $1 and the working tree" >&2
build_side "$before"
build_side "$after"

# random_model NAME LAYERS EXPERTS TYPE
random_model() {
    [ ! -f "$store/$1.gguf" ] || return
    echo "making $1.gguf" >&2
    build_with "$before" "$here/random_model.c" "$store/random_model"
    "$store/random_model" "$2" "$3" "$4" "$store/$1.part.gguf" || die "$1.gguf cannot be made"
    mv "$store/$1.part.gguf" "$store/$1.gguf"
}

# The sides' programs are copied: what is measured stays, whatever is built meanwhile.
cp "$before/build/release/mixt" "$store/mixt-before" || exit 1
cp "$after/build/release/mixt" "$store/mixt-after" || exit 1
random_model random-q4 8 32 Q4_K_M
random_model random-bf16 4 16 BF16

# Name, then arguments of mixt bench. A and B are the shapes of docs/results.md; B with 2 layers and
# batches of 2, for every run has to fill the memory of its weights first.
shape_a="--vocab-size 256 --hidden-size 256 --layers 4 --heads 8 --kv-heads 8 --head-dim 0 --experts 8 --ffn-size 512 --window 256 --batch-size 8"
shape_b="--vocab-size 8192 --hidden-size 512 --layers 2 --heads 8 --kv-heads 8 --head-dim 0 --experts 8 --ffn-size 1024 --window 512 --batch-size 2"
rows="train A, exact fp32|--train -r 3 $shape_a
train A, bf16|--train -r 3 --matmul bf16 $shape_a
train B, 2 layers, exact fp32|--train -r 3 $shape_b
train B, 2 layers, bf16|--train -r 3 --matmul bf16 $shape_b
prompt 128, Q4_K_M|-m $store/random-q4.gguf -r 3 -p 128 -n 0
generation 32, Q4_K_M|-m $store/random-q4.gguf -r 3 -p 0 -n 32
prompt 128, BF16|-m $store/random-bf16.gguf -r 3 -p 128 -n 0
generation 16, BF16|-m $store/random-bf16.gguf -r 3 -p 0 -n 16"
rows=$(grep -E "${ROWS:-.}" <<<"$rows") || die "no row is called $ROWS"

priority="real-time priority (chrt -r 5)"
first=(chrt -r 5)
if ! "${first[@]}" true 2>/dev/null; then
    priority="ordinary priority (chrt -r 5 is not permitted)"
    first=()
fi
# measure SIDE PAIR NAME ARGUMENTS: appends "NAME|PAIR|SIDE|tokens/s"
results=$store/before_after.txt
measure() {
    local out speed
    # shellcheck disable=SC2086
    out=$("${first[@]}" "$store/mixt-$1" bench --no-limits -o csv --threads "$threads" $4) || die "$1: $3 failed"
    # Behind the header: model,params,active,threads,cpu,matmul,test,direction,tokens_per_second,...
    speed=$(awk -F, 'NR == 2 { print $9 }' <<<"$out")
    echo "$3|$2|$1|$speed" >>"$results"
}

: >"$results"
load=$(cut -d' ' -f1 /proc/loadavg)
started=$SECONDS
for round in $(seq "$rounds"); do
    while IFS='|' read -r name arguments; do
        measure before $((2 * round - 1)) "$name" "$arguments" </dev/null
        measure after $((2 * round - 1)) "$name" "$arguments" </dev/null
        measure after $((2 * round)) "$name" "$arguments" </dev/null
        measure before $((2 * round)) "$name" "$arguments" </dev/null
    done <<<"$rows"
    echo "round $round of $rounds: $((SECONDS - started)) s" >&2
done

cpu=$(sed -n 's/^model name[^:]*: //p;T;q' /proc/cpuinfo)
tier=$("$store/mixt-after" bench --no-limits -o csv --layers 1 -r 1 -p 1 -n 0 | awk -F, 'NR == 2 { print $5 }')
echo "$cpu, $threads threads, tier $tier"
echo "$priority; load before $load, behind $(cut -d' ' -f1 /proc/loadavg); $rounds rounds in $((SECONDS - started)) s"
echo "before: $1 ($(git -C "$root" rev-parse --short=7 "$1")), after: $(git -C "$root" describe --always --dirty)"
echo
awk -F'|' '
    function median(list, count,    i, j, t) {
        for (i = 2; i <= count; i++)
            for (j = i; j > 1 && list[j - 1] > list[j]; j--) { t = list[j]; list[j] = list[j - 1]; list[j - 1] = t }
        return count % 2 ? list[(count + 1) / 2] : (list[count / 2] + list[count / 2 + 1]) / 2
    }
    !($1 in seen) { seen[$1] = 1; names[++rows] = $1 }
    { speed[$1, $2, $3] = $4; pairs = $2 > pairs ? $2 : pairs }
    END {
        print "| row | before, tokens/s | range | after, tokens/s | range | after / before | range | best / best |"
        print "|---|---|---|---|---|---|---|---|"
        for (i = 1; i <= rows; i++) {
            for (r = 1; r <= pairs; r++) {
                a[r] = speed[names[i], r, "before"]
                b[r] = speed[names[i], r, "after"]
                q[r] = b[r] / a[r]
            }
            ma = median(a, pairs); mb = median(b, pairs); mq = median(q, pairs) # sorted behind this
            printf "| %s | %.4g | %.4g - %.4g | %.4g | %.4g - %.4g | %.3f | %.3f - %.3f | %.3f |\n", names[i],
                ma, a[1], a[pairs], mb, b[1], b[pairs], mq, q[1], q[pairs], b[pairs] / a[pairs]
        }
    }' "$results"
