#!/bin/sh
# Builds the Debian packages from a copy of the working tree below build/deb, since dpkg-buildpackage
# writes beside the folder that it builds, and has lintian read them.
set -eu
cd "$(dirname "$0")/.."
version=$(sed -n '1s/^mixt (\([^)]*\)).*/\1/p' debian/changelog)
source=build/deb/mixt-$version
rm -rf build/deb
mkdir -p "$source"
tar -cf - --exclude=./build --exclude=./.git --exclude=./mixt --exclude=./demo . | tar -xf - -C "$source"
# The packages' flags are dpkg-buildflags', whoever calls.
log=$PWD/build/deb/build.txt
(cd "$source" && env -u CFLAGS -u CPPFLAGS -u LDFLAGS -u MAKEFLAGS -u MAKELEVEL -u BUILD -u OPT -u PREFIX -u DESTDIR \
    dpkg-buildpackage -us -uc -b "-j$(nproc)") >"$log" 2>&1 || { tail -n 30 "$log"; exit 1; }
lintian --version
lintian --fail-on error,warning build/deb/*.changes
ls build/deb/*.deb
