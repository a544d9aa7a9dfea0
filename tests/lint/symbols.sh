#!/bin/sh
# symbols.sh BUILD: the library neither ends the program nor prints by itself, and what it defines
# begins with mixt_. Every function of the public header exists.
build=$1
library=$build/libmixt.a
bad=0

complain() {
    echo "$1"
    bad=1
}

nm -A "$library" 2>/dev/null | awk '$(NF-1) == "U" {print $1, $NF}' | sed 's/^[^:]*:\([^:]*\):.*[ ]\([^ ]*\)$/\1 \2/' |
    grep -v '^map\.o sigaction' | # a mapped file that somebody shortens raises SIGBUS
    awk '$2 ~ /^(abort|exit|_exit|_Exit|quick_exit|printf|puts|putchar|perror|stdout|stderr|stdin|signal|sigaction|system|popen)(@.*)?$/ {print "libmixt.a: " $1 " uses " $2; bad = 1} END {exit bad}' ||
    bad=1
case $build in
*/release) nm "$library" 2>/dev/null | grep -q ' __assert_fail' && complain "libmixt.a: asserts in the release build" ;;
esac
nm -g --defined-only "$library" 2>/dev/null | awk 'NF == 3 && $3 !~ /^_*mixt_/ {print "libmixt.a: defines " $3; bad = 1} END {exit bad}' ||
    bad=1
nm -g --defined-only "$library" 2>/dev/null | awk 'NF == 3 {print $3}' | sort -u >"$build/defined.txt"
for name in $(tests/package/header.pl | perl -0ne 'print "$1\n" while /^MIXT_API[^;{]*?\b(mixt_\w+)\(/gm'); do
    grep -qx "$name" "$build/defined.txt" || complain "mixt.h: $name is not in the library"
done
exit $bad
