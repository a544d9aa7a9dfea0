#!/bin/sh
# abi.sh check|record: the layout of the public structs and the values of the enumerators against
# tests/package/abi.txt. What a program was compiled with has to stay: members are added from the
# reserved words, enumerators behind the last. Anything else needs a new SOVERSION.
set -u
cd "$(dirname "$0")/../.." || exit 1
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
known=tests/package/abi.txt
tests/package/abi.pl >"$folder/layout.c" &&
    ${CC:-cc} -std=c17 -Iinclude -o "$folder/layout" "$folder/layout.c" &&
    "$folder/layout" >"$folder/now.txt" || exit 1
if [ "$1" = record ]; then
    cp "$folder/now.txt" "$known"
    exit 0
fi
bad=0
# A struct that a program allocates can grow: one without reserved words is listed here, with its reason.
#   mixt_error         a status and a line: MIXT_ERROR_INIT is in programs
#   mixt_chat_message  more than role and content goes through mixt_chat_options.variables
#   mixt_document      the library allocates it
#   mixt_logit_bias    a token and a number, in long lists
fixed='mixt_error mixt_chat_message mixt_document mixt_logit_bias'
tests/package/header.pl >"$folder/mixt.h" || exit 1
perl -0ne 's{/\*.*?\*/}{}gs; print "$1\n" while /typedef struct (\w+) \{(?:(?!\n\}).)*?(?<!reserved\[\d\];)(?<!reserved\[\d\d\];)\n\} \1;/gs' \
    "$folder/mixt.h" >"$folder/fixed.txt"
for type in $(cat "$folder/fixed.txt"); do
    case " $fixed " in
    *" $type "*) ;;
    *) echo "include/mixt.h: $type does not end in reserved words"; bad=1 ;;
    esac
done
# Options are refused where a word is set that this library does not know.
for type in $(perl -ne 'print "$1\n" if /^\} (mixt_\w+_options|mixt_sampling);/' "$folder/mixt.h"); do
    grep -rq "MIXT_CHECK_RESERVED($type," src || { echo "src: nothing checks the reserved words of $type"; bad=1; }
done
# One version in all places.
version=$(sed -n 's/^.define MIXT_VERSION_[MP][A-Z]* \([0-9]*\)$/\1/p' include/mixt.h | paste -sd.)
head -n 1 debian/changelog | grep -q "^mixt ($version)" || { echo "debian/changelog: the version is not $version"; bad=1; }
soversion=$(sed -n 's/^SOVERSION := //p' Makefile)
grep -q "^MIXT_$soversion {" src/libmixt.map || { echo "src/libmixt.map: the version is not MIXT_$soversion"; bad=1; }
grep -q "^libmixt.so.$soversion libmixt$soversion " "debian/libmixt$soversion.symbols" || { echo "debian: no libmixt$soversion"; bad=1; }
if lost=$(grep -vxFf "$folder/now.txt" "$known"); then
    echo "include/mixt.h: these lines of $known no longer hold:"
    echo "$lost"
    echo "A released interface keeps them, or gets a new SOVERSION; then \`make abi\` writes the file anew."
    bad=1
fi
exit $bad
