#!/bin/bash
# install.sh BUILD: `make install` puts every file where it belongs, programs use it (use.sh), and
# `make uninstall` removes exactly these. With /usr and with directories of its own.
set -u
build=$1
cd "$(dirname "$0")/../.." || exit 1
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
. tests/check.sh

# The rows of packaging.mk would be compared with themselves: these are written out.
expect() {
    local lib=$1
    cat <<EOF
usr/bin/mixt
usr/include/mixt.h
usr/include/mixt/atlas.h
usr/include/mixt/bench.h
usr/include/mixt/engine.h
usr/include/mixt/fidelity.h
usr/include/mixt/measures.h
usr/include/mixt/probe.h
usr/include/mixt/ranks.h
usr/include/mixt/sampling.h
usr/include/mixt/store.h
usr/include/mixt/study.h
usr/include/mixt/train.h
usr/$lib/libmixt.a
usr/$lib/libmixt.so
usr/$lib/libmixt.so.0
usr/$lib/libmixt.so.$version
usr/$lib/pkgconfig/mixt.pc
usr/lib/systemd/system/mixt-serve@.service
usr/share/bash-completion/completions/mixt
usr/share/doc/mixt/CHANGELOG.md
usr/share/doc/mixt/LICENSE
usr/share/doc/mixt/README.md
usr/share/man/man1/mixt.1
EOF
    [ ! -f "$build/libmixt-mpi.so" ] || echo "usr/$lib/mixt/libmixt-mpi.so"
    for file in docs/*.md docs/*/*.md docs/*.png examples/*.c; do
        echo "usr/share/doc/mixt/$file"
    done
}

files() {
    (cd "$1" && find . -type f -o -type l | sed 's|^\./||' | LC_ALL=C sort)
}

install_into() {
    make --no-print-directory BUILD="$build" DESTDIR="$1" PREFIX=/usr "${@:2}" install
}

is_as_expected() {
    diff <(expect "$2" | LC_ALL=C sort) <(files "$1")
}

# Somebody else's file lies beside ours before, and alone behind.
removed() {
    mkdir -p "$1/usr/lib" && echo theirs >"$1/usr/lib/libtheirs.a" &&
        make --no-print-directory BUILD="$build" DESTDIR="$1" PREFIX=/usr "${@:2}" uninstall &&
        [ "$(files "$1")" = usr/lib/libtheirs.a ] && [ ! -e "$1/usr/share/doc/mixt" ] &&
        [ ! -e "$1/usr/include/mixt" ] && [ ! -e "$1/usr/lib/mixt" ]
}

version=$("$build/mixt" --version | sed 's/^mixt //')
root=$folder/root
multiarch=lib/x86_64-linux-gnu
check "install" install_into "$root"
check "every file is there" is_as_expected "$root" lib
check "the program runs" "$root/usr/bin/mixt" --version
check "the man page is one" grep -q '^\.TH MIXT 1' "$root/usr/share/man/man1/mixt.1"
check "the completion parses" bash -n "$root/usr/share/bash-completion/completions/mixt"
check_script tests/package/use.sh "$root"
check "uninstall leaves others' files alone" removed "$root"
check "install with libdir" install_into "$folder/multiarch" "libdir=/usr/$multiarch"
check "every file is there" is_as_expected "$folder/multiarch" "$multiarch"
check "mixt.pc knows libdir" grep -qx "libdir=\${prefix}/$multiarch" "$folder/multiarch/usr/$multiarch/pkgconfig/mixt.pc"
check "uninstall with libdir" removed "$folder/multiarch" "libdir=/usr/$multiarch"
verdict
