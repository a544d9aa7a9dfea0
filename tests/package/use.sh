#!/bin/sh
# use.sh ROOT: an installed mixt (below ROOT, with prefix /usr) as other programs use it: from C17 and
# C++17 without a warning, against the shared and the static library, and by a program compiled with
# an earlier header. Prints a line for each and "N passed, M failed".
set -u
root=$1
cd "$(dirname "$0")/../.." || exit 1
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
. tests/check.sh

pc=$(find "$root" -name mixt.pc)
PKG_CONFIG_PATH=$(dirname "$pc")
libdir=$(dirname "$PKG_CONFIG_PATH")
export PKG_CONFIG_PATH
# pkg-config gives paths below /usr; the files lie below ROOT.
flags() {
    pkg-config --define-variable=prefix="$root/usr" "$@" mixt
}
warnings='-Wall -Wextra -Wpedantic -Werror'

c() {
    # shellcheck disable=SC2046,SC2086
    ${CC:-cc} -std=c17 $warnings $(flags --cflags) tests/package/user.c $(flags --libs) -o "$folder/c"
}
cxx() {
    # shellcheck disable=SC2046,SC2086
    ${CXX:-c++} -x c++ -std=c++17 $warnings $(flags --cflags) tests/package/user.c -x none $(flags --libs) -o "$folder/cxx"
}
static() {
    # shellcheck disable=SC2046,SC2086
    ${CC:-cc} -std=c17 $warnings $(flags --cflags) tests/package/user.c -Wl,-Bstatic $(flags --libs) \
        -Wl,-Bdynamic $(flags --static --libs | sed 's/-lmixt//') -o "$folder/static"
}
# A chapter of the header says in one line what to include in its place.
chapter() {
    echo '#include <mixt/train.h>' >"$folder/chapter.c"
    # shellcheck disable=SC2046
    ! ${CC:-cc} -std=c17 $(flags --cflags) -c "$folder/chapter.c" -o "$folder/chapter.o" 2>"$folder/chapter.txt" &&
        [ "$(grep -c 'error:' "$folder/chapter.txt")" = 1 ] && grep -q 'error:.*include <mixt\.h>' "$folder/chapter.txt"
}
# Members that came later are still reserved words in its header: same sizes, same offsets.
older() {
    mkdir -p "$folder/older" && tests/package/older.pl >"$folder/older/mixt.h" &&
        tests/package/abi.pl "$folder/older/mixt.h" >"$folder/layout.c" &&
        ${CC:-cc} -std=c17 -I"$folder/older" "$folder/layout.c" -o "$folder/layout" &&
        "$folder/layout" >"$folder/layout.txt" && ! grep -vxFf tests/package/abi.txt "$folder/layout.txt" &&
        # shellcheck disable=SC2046,SC2086
        ${CC:-cc} -std=c17 $warnings -I"$folder/older" tests/package/user.c $(flags --libs) -o "$folder/older/user"
}
needs_shared() {
    readelf -d "$1" | grep -q 'NEEDED.*\[libmixt.so.0\]'
}
runs() {
    rm -rf "$folder/work" && mkdir "$folder/work" &&
        LD_LIBRARY_PATH=$libdir "$1" "$folder/work" >"$2" && grep -q '^drawn: [0-9]' "$2"
}
same() {
    cmp "$1" "$2"
}

check "pkg-config: version" sh -c '[ "$(pkg-config --modversion mixt)" = "'"$(sed -n 's/^.define MIXT_VERSION_[MP][A-Z]* \([0-9]*\)$/\1/p' include/mixt.h | paste -sd.)"'" ]'
check "C17 without warnings, shared" c
check "C++17 without warnings, shared" cxx
check "C17, static" static
check "C17, an earlier header" older
check "a chapter by itself is refused" chapter
check "C needs libmixt.so.0" needs_shared "$folder/c"
check "C++ needs libmixt.so.0" needs_shared "$folder/cxx"
check "C runs" runs "$folder/c" "$folder/c.txt"
check "C++ runs" runs "$folder/cxx" "$folder/cxx.txt"
check "static runs" runs "$folder/static" "$folder/static.txt"
check "earlier header runs" runs "$folder/older/user" "$folder/older.txt"
for kind in cxx static older; do
    check "$kind prints what C does" same "$folder/c.txt" "$folder/$kind.txt"
done
verdict
