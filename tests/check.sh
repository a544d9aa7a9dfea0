# Sourced by scripts of checks, sh or bash; `subject` stands before each name. What a check prints is
# seen where it fails alone. The last line is "N passed, M failed".
# shellcheck shell=sh
passed=0
failed=0
subject=

# check NAME COMMAND...
check() {
    check_name=$subject$1
    shift
    if check_output=$("$@" 2>&1); then
        passed=$((passed + 1))
        echo "$check_name: ok"
    else
        failed=$((failed + 1))
        echo "$check_name: FAILED"
        echo "$check_output" | head -n 40 | sed 's/^/    /'
    fi
}

# check_script COMMAND...: one that closes so itself; its counts are added
check_script() {
    check_output=$("$@" 2>&1)
    echo "$check_output"
    check_counts=$(echo "$check_output" | tail -n 1 | sed -n 's/^\([0-9]*\) passed, \([0-9]*\) failed$/\1 \2/p')
    passed=$((passed + ${check_counts% *} + 0))
    failed=$((failed + ${check_counts#* } + 0))
    [ -n "$check_counts" ] || failed=$((failed + 1))
}

verdict() {
    echo "$passed passed, $failed failed"
    [ "$failed" -eq 0 ]
}
