#!/bin/sh
# trace_overhead.sh MIXT MODEL DATA [TOKENS [ROUNDS]]: what mixt trace costs over mixt eval on the same text. Wall clocks of
# a shared machine scatter by more than that, so each run is profiled (perf), and the part of its samples that fall
# on matrix products and SwiGLU, which both do alike, says how much else there was. Ratios, one a round.
set -eu
mixt=$1 model=$2 data=$3 tokens=${4:-12000} rounds=${5:-3}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# share COMMAND...: percent of the samples in what both do
share() {
    perf record -q -F 2000 -o "$folder/profile" "$mixt" "$@" -m "$model" --data "$data" --heldout 0.05 -n "$tokens" \
        -c 256 --threads 1 >/dev/null 2>&1
    perf report -i "$folder/profile" --stdio --no-children 2>/dev/null |
        awk '!/^#/ && /tile_full_|pack_transposed|kernel_swiglu/ { sum += $1 } END { print sum }'
}

for round in $(seq "$rounds"); do
    eval_share=$(share eval)
    trace_share=$(share trace -o "$folder/trace.safetensors")
    awk -v round="$round" -v e="$eval_share" -v t="$trace_share" \
        'BEGIN { if (t + 0 == 0) exit 1; printf "round %d: %.4f\n", round, e / t }'
done
