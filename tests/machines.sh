#!/bin/sh
# machines.sh MAKE CLANG: machines that mixt does not run on are refused by one line before anything
# else is compiled, and those that it runs on are not. Closes with "N passed, M failed".
make=$1
clang=$2
build=build/machines
. tests/check.sh
subject="machines "

# refused COMPILER LINE: what make says of that compiler is one line, and no object is made
refused() {
    rm -rf "$build"
    said=$("$make" --no-print-directory -s -j4 CC="$1" BUILD="$build" program 2>&1)
    status=$?
    printf '%s\n' "$said" | head -5
    count=$(printf '%s\n' "$said" | grep -c 'error:')
    objects=$(find "$build" -name '*.o' 2>/dev/null | wc -l)
    echo "status $status, $count errors, $objects objects"
    [ "$status" -ne 0 ] && [ "$count" -eq 1 ] && [ "$objects" -eq 0 ] && printf '%s\n' "$said" | grep -q "$2"
}

# taken COMPILER MACHINE: passes src/core/machine.h under that name
taken() {
    name=$($1 -dM -E src/core/machine.h 2>/dev/null | sed -n 's/^.define MIXT_MACHINE "\(.*\)"$/\1/p')
    echo "\"$name\" is not $2"
    [ "$name" = "$2" ]
}

if [ "$(uname -m)" = x86_64 ]; then
    check "i386" refused "cc -m32" "mixt needs a 64-bit machine"
    check "x86-64" taken "cc" x86_64
fi
if command -v "${clang%% *}" >/dev/null; then
    check "armv7" refused "$clang --target=armv7-linux-gnueabihf" "mixt needs a 64-bit machine"
    check "x32" refused "$clang --target=x86_64-linux-gnux32" "mixt needs a 64-bit machine"
    check "riscv32" refused "$clang --target=riscv32-linux-gnu" "mixt needs a 64-bit machine"
    check "s390x" refused "$clang --target=s390x-linux-gnu" "mixt needs a little-endian machine"
    check "powerpc64" refused "$clang --target=powerpc64-linux-gnu" "mixt needs a little-endian machine"
    check "aarch64_be" refused "$clang --target=aarch64_be-linux-gnu" "mixt needs a little-endian machine"
    check "x86-64, clang" taken "$clang --target=x86_64-linux-gnu" x86_64
    check "aarch64" taken "$clang --target=aarch64-linux-gnu" aarch64
    check "riscv64" taken "$clang --target=riscv64-linux-gnu" other
    check "powerpc64le" taken "$clang --target=powerpc64le-linux-gnu" other
else
    echo "machines: skipped those of clang, which is not here"
fi
rm -rf "$build"
verdict
