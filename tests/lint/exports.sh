#!/bin/sh
# exports.sh BUILD: libmixt.so exports what the public header marks MIXT_API and nothing else, under
# the version of its soname.
build=$1
library=$build/libmixt.so
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
bad=0

soname=$(readelf -d "$library" | sed -n 's/.*SONAME.*\[\(.*\)\]$/\1/p')
version=MIXT_${soname#libmixt.so.}
tests/package/header.pl | perl -0ne 's{/\*.*?\*/}{}gs; print "$1\n" while /^MIXT_API[^;{(\[]*?\b(mixt_\w+)(?=[(\[;])/gm' | sort >"$folder/wanted"
nm -D --defined-only "$library" | awk -v version="$version" '$NF != version {print $NF}' |
    sed "s/@@$version\$//" | sort >"$folder/exported"
[ -s "$folder/wanted" ] || { echo "mixt.h: no MIXT_API found"; bad=1; }
for name in $(comm -23 "$folder/wanted" "$folder/exported"); do
    echo "libmixt.so: $name of mixt.h is not exported as $name@@$version"
    bad=1
done
for name in $(comm -13 "$folder/wanted" "$folder/exported"); do
    echo "libmixt.so: exports $name, which mixt.h does not have"
    bad=1
done
exit $bad
