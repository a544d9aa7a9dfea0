#!/bin/bash
# The quick form of every spec of examples/studies that trains on text, on two domains that every
# checkout has: the project's own code and its documentation. Each study gives a number for every
# cell; a second call trains nothing and writes the same table. Closes with "N passed, M failed".
# Usage: tests/studies.sh [BUILD]
mixt=$(realpath "${1:-build/release}/mixt")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
passed=0
failed=0

mkdir -p "$folder/text/code" "$folder/text/prose"
find src -name '*.c' -exec cp --parents -t "$folder/text/code" {} +
find docs -name '*.md' -exec cp --parents -t "$folder/text/prose" {} +

# quick SPEC: one call
quick() {
    "$mixt" study "examples/studies/$1.study" --quick --data "$folder/text" --out "$folder/$1" -t 2 "${@:2}"
}

# Is there a loss in every row, and a row for every cell?
whole() {
    awk -F, -v cells="$2" 'NR == 1 {for (i = 1; i <= NF; i++) if ($i == "loss") at = i}
        NR > 1 && $at > 0 {found++} END {exit !(found == cells && NR == cells + 1)}' "$1"
}

study() {
    local out=$folder/$1 begun=$SECONDS cells
    cells=$(quick "$1" --dry-run | sed -n 's/^\([0-9]*\) cells\?, .*/\1/p')
    if quick "$1" >"$out.txt" 2>"$out.err" && whole "$out/results.csv" "$cells" &&
        grep -q '<svg' "$out/study.html" && [ -s "$out/figures/curves.svg" ] && cp "$out/results.csv" "$out.csv" &&
        quick "$1" >"$out.txt" 2>"$out.err" && cmp "$out.csv" "$out/results.csv" &&
        [ -z "$(find "$out/cells" -name log.jsonl -newer "$out.csv")" ]; then
        printf '%-16s %3d cells  ok  (%d s)\n' "$1" "$cells" $((SECONDS - begun))
        passed=$((passed + 1))
    else
        printf '%-16s FAILED  (%d s)\n' "$1" $((SECONDS - begun))
        tail -n 5 "$out.txt" "$out.err"
        failed=$((failed + 1))
    fi
}

# The vowel task is a study of another kind, on data that are not part of mixt: tests/test_vowels.c.
for spec in $(grep -L '^task' examples/studies/*.study); do
    study "$(basename -s .study "$spec")"
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
