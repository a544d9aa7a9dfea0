#!/bin/sh
# Two builds in two folders are equal, byte by byte: the working tree's release build and that of a
# copy elsewhere. Prints "N passed, M failed".
set -u
cd "$(dirname "$0")/../.." || exit 1
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
jobs=$(nproc)
. tests/check.sh
copy=$folder/a-longer-name/of-another-folder
mkdir -p "$copy" && tar -cf - --exclude=./build --exclude=./.git --exclude=./mixt --exclude=./demo . | tar -xf - -C "$copy" || exit 1

# One after the other: `all` is a make of its own, and two at once would write into one folder.
build() {
    "$@" "-j$jobs" all PREFIX=/usr &&
        "$@" PREFIX=/usr build/release/share/mixt.1 build/release/share/mixt.bash build/release/share/mixt.pc
}

# Another folder, another day, another language.
{
    build make --no-print-directory &&
        build env TZ=Asia/Tokyo LC_ALL=C.UTF-8 make --no-print-directory -C "$copy"
} >"$folder/log.txt" || { tail -n 20 "$folder/log.txt"; exit 1; }
holds_no_folder() {
    ! grep -F -e "$PWD" -e "$copy" "build/release/$1"
}

mpi=
[ ! -f build/release/libmixt-mpi.so ] || mpi=libmixt-mpi.so
for name in mixt libmixt.a libmixt.so $mpi share/mixt.1 share/mixt.bash share/mixt.pc; do
    check "$name is equal" cmp "build/release/$name" "$copy/build/release/$name"
done
for name in mixt libmixt.so libmixt.a $mpi; do
    check "$name does not hold the folder's path" holds_no_folder "$name"
done
verdict
