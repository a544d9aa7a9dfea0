# Two sides of a comparison: sources and builds of a revision and of the working tree. Sourced by
# compare.sh and bench/before_after.sh, with `root` set; leaves everything below build/bits/.
# CC as in the Makefile.
# shellcheck shell=bash
store=$root/build/bits
mkdir -p "$store"
unset MAKEFLAGS MFLAGS MAKEOVERRIDES MAKELEVEL MIXT_CPU

exec 9>"$store/lock"
flock -n 9 || { echo "${0##*/}: another comparison runs in $store" >&2; exit 1; }

die() {
    echo "${0##*/}: $*" >&2
    exit 1
}

# source_of REV: prints the folder with that revision's sources; "" is the working tree
source_of() {
    local id folder
    [ -n "$1" ] || { echo "$root"; return; }
    id=$(git -C "$root" rev-parse --verify --quiet "$1^{commit}") || die "$1: no such revision"
    folder=$store/${id:0:12}
    if [ ! -f "$folder/complete" ]; then
        rm -rf "$folder"
        mkdir -p "$folder"
        git -C "$root" archive "$id" | tar -x -C "$folder" || die "$1: cannot be unpacked"
        : >"$folder/complete"
    fi
    echo "$folder"
}

# build_side SOURCE: program and library, in release
build_side() {
    local log=$store/build.log
    make --no-print-directory ${CC:+"CC=$CC"} -s -j"$(nproc)" -C "$1" BUILD=build/release program >"$log" 2>&1 ||
        { tail -20 "$log" >&2; die "$1 does not build"; }
}

# build_with SOURCE FILE PROGRAM [BUILD]: a C file that knows mixt.h alone, with that side's library
build_with() {
    local libraries
    # shellcheck disable=SC2016
    libraries=$(make -s --no-print-directory -C "$1" --eval 'side-libraries: ; @echo $(LIBS)' side-libraries)
    # shellcheck disable=SC2086
    ${CC:-cc} -std=c17 -O1 -Wall -Wextra -D_POSIX_C_SOURCE=200809L -D_DEFAULT_SOURCE -I"$1/include" \
        -o "$3" "$2" "$1/${4:-build/release}/libmixt.a" $libraries || die "$2 does not build with $1"
}
