#!/bin/sh
# machines.sh MAKE CLANG: machines that mixt does not run on are refused by one line before anything
# else is compiled, and those that it runs on are not. Closes with "N passed, M failed".
make=$1
clang=$2
passed=0
failed=0
build=build/machines

# expect NAME COMPILER LINE: what make says of that compiler
expect() {
    rm -rf "$build"
    said=$("$make" --no-print-directory -s -j4 CC="$2" BUILD="$build" program 2>&1)
    status=$?
    count=$(printf '%s\n' "$said" | grep -c 'error:')
    objects=$(find "$build" -name '*.o' 2>/dev/null | wc -l)
    if [ "$status" -ne 0 ] && [ "$count" -eq 1 ] && [ "$objects" -eq 0 ] && printf '%s\n' "$said" | grep -q "$3"; then
        passed=$((passed + 1))
        echo "machines $1: refused"
    else
        failed=$((failed + 1))
        echo "machines $1: FAILED: status $status, $count errors, $objects objects"
        printf '%s\n' "$said" | head -5 | sed 's/^/    /'
    fi
}

# taken NAME COMPILER MACHINE: passes src/core/machine.h under that name
taken() {
    name=$($2 -dM -E src/core/machine.h 2>/dev/null | sed -n 's/^.define MIXT_MACHINE "\(.*\)"$/\1/p')
    if [ "$name" = "$3" ]; then
        passed=$((passed + 1))
        echo "machines $1: taken"
    else
        failed=$((failed + 1))
        echo "machines $1: FAILED: \"$name\" is not $3"
    fi
}

if [ "$(uname -m)" = x86_64 ]; then
    expect "i386" "cc -m32" "mixt needs a 64-bit machine"
    taken "x86-64" "cc" x86_64
fi
if command -v "${clang%% *}" >/dev/null; then
    expect "armv7" "$clang --target=armv7-linux-gnueabihf" "mixt needs a 64-bit machine"
    expect "x32" "$clang --target=x86_64-linux-gnux32" "mixt needs a 64-bit machine"
    expect "riscv32" "$clang --target=riscv32-linux-gnu" "mixt needs a 64-bit machine"
    expect "s390x" "$clang --target=s390x-linux-gnu" "mixt needs a little-endian machine"
    expect "powerpc64" "$clang --target=powerpc64-linux-gnu" "mixt needs a little-endian machine"
    expect "aarch64_be" "$clang --target=aarch64_be-linux-gnu" "mixt needs a little-endian machine"
    taken "x86-64, clang" "$clang --target=x86_64-linux-gnu" x86_64
    taken "aarch64" "$clang --target=aarch64-linux-gnu" aarch64
    taken "riscv64" "$clang --target=riscv64-linux-gnu" other
    taken "powerpc64le" "$clang --target=powerpc64le-linux-gnu" other
else
    echo "machines: skipped those of clang, which is not here"
fi
rm -rf "$build"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
