#!/bin/sh
# run.sh BUILD: every check of the source; closes with "N passed, M failed".
build=$1
passed=0
failed=0

# check NAME COMMAND...: silent commands pass
check() {
    name=$1
    shift
    if output=$("$@" 2>&1); then
        passed=$((passed + 1))
        echo "lint $name: ok"
    else
        failed=$((failed + 1))
        echo "lint $name: FAILED"
        echo "$output" | head -40 | sed 's/^/    /'
    fi
}

no_match() {
    pattern=$1
    shift
    ! grep -nE "$pattern" "$@"
}

layout() {
    # shellcheck disable=SC2046
    clang-format --dry-run -Werror $(git ls-files '*.c' '*.h')
}

check includes tests/lint/includes.pl
check touch tests/lint/touch.pl
check limits tests/lint/limits.pl
check numbers tests/lint/numbers.pl
check symbols tests/lint/symbols.sh "$build"
# shellcheck disable=SC2046
check unfinished no_match '\b(TODO|FIXME|XXX|HACK)\b' $(git ls-files 'src/*' 'cli/*' 'include/*' 'tests/*.c' 'examples/*' Makefile)
case $(clang-format --version 2>/dev/null) in
*" 14."*) check layout layout ;;
*) echo "lint layout: skipped, it needs clang-format 14" ;;
esac
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
