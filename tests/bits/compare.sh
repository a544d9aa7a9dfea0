#!/bin/bash
# Whether two revisions compute the same bits.
#
#   tests/bits/compare.sh REV [REV2]     REV2 (the working tree): what is compared with REV
#   tests/bits/compare.sh --aarch64      the working tree's builds for this machine and for aarch64,
#                                        the latter as `make build-aarch64` has left it: each of its
#                                        tiers (TIERS; i8mm, whose kernels are of all of NEON's
#                                        files) with the scalar tier here, fewer models and steps
#
# Each side is built in release, REV below build/bits/ from `git archive`, and run with every CPU
# tier of this machine (MIXT_CPU): bits.c over its library, then its program. Lines are compared by
# name; those that only the second side has are counted and nothing else, so that it may write more
# columns and files. Fixtures are those of REV. Exit status 1: lines differ or are missing, or
# something failed. CC as in the Makefile; TIERS="scalar avx2" chooses tiers.
set -u
if [ $# -lt 1 ] || [ $# -gt 2 ] || [ -z "$1" ]; then
    echo "usage: tests/bits/compare.sh REV [REV2] (make bits REV=...)" >&2
    exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
cd "$root" || exit 1
. "$here/sides.sh"
unset BITS_FEW
# Where one tier has failed, the programs of the others end too.
trap 'for job in $(jobs -p); do pkill -P "$job"; done' EXIT

# What the program prints and writes; in the folder that `bits training` has left. Paths are the
# same on both sides, so that nothing has to be cut out of the texts.
program_lines() {
    local mixt=$1 bits=$2 text=text/mathematics/00.txt
    line() { # line NAME COMMAND...: the hash of its standard output
        local name=$1
        shift
        "$@" >out.txt 2>err.txt || { tail -3 err.txt >&2; die "failed: $*"; }
        echo "program/$name $(sha256sum <out.txt)" | sed 's/ *-$//'
    }
    "$mixt" train --data text --out cli --steps "${BITS_FEW:-60}" --vocab-size 320 --layers 2 \
        --hidden-size 48 --heads 4 --kv-heads 2 --head-dim 12 --ffn-size 40 --experts 6 --window 48 \
        --context-length 48 --batch-size 3 --warmup 5 --learning-rate 0.004 --heldout 0.2 \
        --optimizer adamw --balance-coefficient 0.1 --threads 2 --seed 5 >out.txt 2>err.txt ||
        { tail -3 err.txt >&2; die "mixt train failed"; }
    line train/weights cat cli/model/model.safetensors
    line train/vocabulary cat cli/model/tokenizer.json
    line info "$mixt" info -m cli/model
    line tokenize "$mixt" tokenize -m cli/model -f $text
    local run=("$mixt" run -m cli/model -p "three fish and" -n 40 -q --threads 2)
    line run/greedy "${run[@]}" --temp 0
    line run/sampled "${run[@]}" --seed 11
    line run/penalties "${run[@]}" --seed 12 --repeat-penalty 1.2 --frequency-penalty 0.1 --top-k 0
    line run/masked "${run[@]}" --seed 11 --mask-experts 1,3
    line run/forced "${run[@]}" --seed 11 --force-experts 0:2
    line run/one-expert "${run[@]}" --seed 11 --top-experts 1:1
    line eval/table "$mixt" eval -m cli/model --data text
    line eval/json "$mixt" eval -m cli/model --data text --json --heldout 0.2
    line eval/perplexity "$mixt" eval -m cli/model --ppl-file $text -c 32
    line trace/said "$mixt" trace -m cli/model --data text -n 500 --logits -o trace.safetensors
    "$bits" tensors program/trace trace.safetensors || die "the trace cannot be read"
    line atlas/text "$mixt" atlas trace.safetensors --color always --html atlas.html
    line atlas/page cat atlas.html
    line convert/said "$mixt" convert cli/model -o cli.gguf --type Q8_0
    line convert/file cat cli.gguf
    line convert/run "$mixt" run -m cli.gguf -p "three fish and" -n 20 -q --temp 0
}

# tier_lines TIER MIXT BITS FIXTURES: prints the lines; in build/bits/work/TIER
tier_lines() {
    local tier=$1 mixt=$2 bits=$3 fixtures=$4
    rm -rf "$store/work/$tier"
    mkdir -p "$store/work/$tier" && cd "$store/work/$tier" || return 1
    export MIXT_CPU=$tier
    [ "$tier" != scalar ] || export BITS_FEW=12
    "$bits" families "$fixtures" && "$bits" training "$fixtures" &&
        "$bits" quantised training/blocks-threads1/step-* && program_lines "$mixt" "$bits"
}

# lines_of MIXT BITS FIXTURES OUTPUT: the tiers side by side
lines_of() {
    local tier tiers=() jobs=()
    read -ra tiers <<<"$TIERS"
    for tier in "${tiers[@]}"; do
        mkdir -p "$store/work"
        (tier_lines "$tier" "$1" "$2" "$3" >"$store/work/$tier.lines") &
        jobs+=($!)
    done
    : >"$4.part"
    for i in "${!jobs[@]}"; do
        wait "${jobs[i]}" || die "$1 failed with MIXT_CPU=${tiers[i]} (files: $store/work/${tiers[i]})"
        sed "s|^|${tiers[i]}/|" "$store/work/${tiers[i]}.lines" >>"$4.part"
    done
    mv "$4.part" "$4"
}

# compare_lines BASE OLD NEW: by name
compare_lines() {
    awk -v base="$1" -v most=40 '
    { name = $1; value = substr($0, length(name) + 2) }
    NR == FNR { if (name in old) twice++; old[name] = value; order[++count] = name; next }
    { if (name in new) twice++; new[name] = value; more += !(name in old) }
    END {
        for (i = 1; i <= count; i++) {
            name = order[i]
            text = ""
            if (!(name in new)) text = "missing  " name
            else if (new[name] != old[name]) text = "differs  " name ": " old[name] " -> " new[name]
            if (text != "" && ++bad <= most) print text
        }
        if (bad > most) print "... and " bad - most " more"
        if (twice) print twice " names stand there twice: the comparison is worth nothing"
        printf "%d lines of %s compared, %d differ, %d new lines not compared\n", count, base, bad, more
        exit bad > 0 || twice > 0 || count == 0
    }' "$2" "$3"
}

if [ "$1" = --aarch64 ]; then
    there=$root/build/aarch64 wanted=${TIERS:-i8mm}
    fixtures=$root/tests/fixtures/families
    export BITS_FEW=12
    build_side "$root"
    build_with "$root" "$here/bits.c" "$store/bits-now"
    CC=${CC_AARCH64:-aarch64-linux-gnu-gcc} build_with "$root" "$here/bits.c" "$there/examples/bits" build/aarch64
    tests/emulate.sh build/aarch64 "${QEMU_AARCH64:-qemu-aarch64}" || exit 1
    echo "running this machine: scalar"
    TIERS=scalar lines_of "$root/build/release/mixt" "$store/bits-now" "$fixtures" "$store/lines-scalar"
    for tier in $wanted; do
        sed "s|^scalar/|$tier/|" "$store/lines-scalar"
    done >"$store/lines-base"
    echo "running aarch64: $wanted"
    TIERS=$wanted lines_of "$there/emulated/mixt" "$there/emulated/examples/bits" "$fixtures" "$store/lines-now"
    for side in base now; do # OpenBLAS adds in each machine's own order
        sed -i '\|^[a-z0-9]*/training/blas|d' "$store/lines-$side"
    done
    compare_lines "this machine" "$store/lines-base" "$store/lines-now"
    exit
fi

base=$(source_of "$1") && now=$(source_of "${2:-}") || exit 1
echo "building $1 and ${2:-the working tree}"
for side in base now; do
    build_side "${!side}"
    build_with "${!side}" "$here/bits.c" "$store/bits-$side"
done
# Tiers that this machine has; scalar makes do with fewer models and steps.
if [ -z "${TIERS:-}" ]; then
    TIERS=
    for tier in scalar avx2 avx512 amx neon dotprod i8mm; do
        MIXT_CPU=$tier "$now/build/release/mixt" bench -r 1 --no-limits --layers 1 -p 1 -n 0 \
            >/dev/null 2>&1 && TIERS="$TIERS $tier"
    done
fi
# A revision's lines on a machine stay: they are made once for each form of these two files.
key=$({ cat "$here/bits.c" "$here/compare.sh" && grep -E '^(model name|flags)' /proc/cpuinfo &&
    echo "$TIERS ${CC:-cc}"; } | sha256sum)
kept=$base/lines-${key:0:16}
fixtures=$base/tests/fixtures/families
if [ ! -f "$kept" ]; then
    echo "running $1:$TIERS"
    lines_of "$base/build/release/mixt" "$store/bits-base" "$fixtures" "$kept"
fi
echo "running ${2:-the working tree}:$TIERS"
lines_of "$now/build/release/mixt" "$store/bits-now" "$fixtures" "$store/lines-now"

compare_lines "$1" "$kept" "$store/lines-now"
