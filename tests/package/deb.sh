#!/bin/bash
# The Debian packages of build/deb: no flag was lost on the way into them, hardening-check agrees, and
# unpacked into a folder they serve C and C++ programs. Prints "N passed, M failed".
set -u
cd "$(dirname "$0")/../.." || exit 1
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
. tests/check.sh

unpack() {
    local package
    for package in build/deb/*.deb; do
        case $package in
        *-dbgsym_*) ;;
        *) dpkg-deb -x "$package" "$folder/root" || return 1 ;;
        esac
    done
}

# blhc's question: did every compile and link get what dpkg-buildflags says?
flags_used() {
    local commands compiles links
    commands=$(sed -e ':a' -e '/\\$/N; s/\\\n//; ta' build/deb/build.txt)
    compiles=$(echo "$commands" | grep -E ' -c [^ ]*\.c -o build/release/(src|cli)/')
    links=$(echo "$commands" | grep -E ' -o build/release/(mixt|libmixt\.so[^ ]*) ')
    [ "$(echo "$compiles" | wc -l)" -gt 100 ] && [ "$(echo "$links" | wc -l)" -ge 2 ] &&
        ! echo "$compiles" | grep -v -- '-D_FORTIFY_SOURCE=2.*-fstack-protector-strong' &&
        ! echo "$links" | grep -v -- '-Wl,-z,relro.*-Wl,-z,now'
}

# Control flow integrity needs start files of the C library that have it, and Debian 12's do not: no
# program of that release is marked, /usr/bin/ls neither.
hardened() {
    if hardening-check /usr/bin/ls | grep -q 'Control flow integrity: yes'; then
        hardening-check "$1"
    else
        hardening-check --nocfprotection "$1"
    fi
}

tested() {
    grep -E '^[0-9]+ passed, 0 failed' build/deb/build.txt
}

check "unpack" unpack
check "the package's build ran the short tests" tested
check "dpkg-buildflags reached every file" flags_used
check "hardening-check mixt" hardened "$folder/root/usr/bin/mixt"
check "hardening-check libmixt.so" hardened "$(echo "$folder"/root/usr/lib/*/libmixt.so.*.*)"
check "the licence is there" test -s "$folder/root/usr/share/doc/mixt/copyright"
check "the program runs" "$folder/root/usr/bin/mixt" --version
check_script tests/package/use.sh "$folder/root"
verdict
