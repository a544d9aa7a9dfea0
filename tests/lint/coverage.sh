#!/bin/sh
# coverage.sh BUILD: lines and branches of src/ and cli/ that were run, by file and together, from
# gcov. A file that is compiled twice (*_tmpl.c) counts with the better of both.
build=$1
find "$build/src" "$build/cli" -name '*.gcda' | sort | while read -r data; do
    gcov -b -n -s "$PWD" -r "$data" 2>/dev/null
done | awk '
/^File / {name = $2; gsub(/\047/, "", name); keep = name ~ /^(src|cli)\/.*\.c$/}
keep && /^Lines executed:/ {split($2, a, ":"); p = a[2] + 0; n = $4 + 0; if (!(name in lines) || p > lp[name]) {lp[name] = p}; lines[name] = n}
keep && /^Taken at least once:/ {split($4, a, ":"); p = a[2] + 0; n = $6 + 0; if (!(name in branches) || p > bp[name]) {bp[name] = p}; branches[name] = n}
END {
    for (name in lines) {
        printf "%-44s %6.1f %% of %4d lines  %6.1f %% of %4d branches\n", name, lp[name], lines[name], bp[name], branches[name] | "sort"
        hit += lp[name] * lines[name] / 100; all += lines[name]
        bhit += bp[name] * branches[name] / 100; ball += branches[name]
    }
    close("sort")
    if (all > 0 && ball > 0) printf "coverage: %.1f %% of %d lines, %.1f %% of %d branches\n", 100 * hit / all, all, 100 * bhit / ball, ball
}'
