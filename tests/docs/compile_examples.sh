#!/bin/sh
# Compiles every C block of docs/*.md that is marked "file=NAME", *_tmpl.c in fp32 and fp64.
# Prints "N passed, M failed".
set -u
cd "$(dirname "$0")/../.." || exit 1
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
awk -v folder="$folder" '
    /^```c file=/ { name = $2; sub(/^file=/, "", name); gsub(/\//, "_", name)
                    count++; path = folder "/" count "_" name; next }
    /^```/        { if (path != "") close(path); path = ""; next }
    path != ""    { print > path }' docs/*.md
passed=0 failed=0
for file in "$folder"/*.c; do
    [ -e "$file" ] || continue
    case $file in
    *_tmpl.c) kinds="-UMIXT_REAL_DOUBLE -DMIXT_REAL_DOUBLE" ;;
    *) kinds=-UMIXT_REAL_DOUBLE ;;
    esac
    for kind in $kinds; do
        if ${CC:-cc} -std=c17 -D_DEFAULT_SOURCE -Wall -Wextra -Werror -Wmissing-prototypes \
            -Iinclude -Isrc $kind -fsyntax-only "$file"; then
            passed=$((passed + 1))
        else
            echo "failed: $file $kind" >&2
            failed=$((failed + 1))
        fi
    done
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
