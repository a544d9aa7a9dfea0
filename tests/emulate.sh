#!/bin/sh
# emulate.sh BUILD EMULATOR: BUILD/emulated holds a script for each program of BUILD, which runs it
# under the emulator, so that tests start each other and the program as they do natively, whether
# or not the kernel knows the emulator (binfmt_misc). MIXT_EMULATED: fewer of the same cases.
set -e
build=$(cd "$1" && pwd)
emulator=$2
rm -rf "$build/emulated"
for folder in . tests examples; do
    mkdir -p "$build/emulated/$folder"
    for program in "$build/$folder"/*; do
        case ${program##*/} in *.*) continue ;; esac # objects, archives, lists
        [ -f "$program" ] && [ -x "$program" ] || continue
        script=$build/emulated/$folder/${program##*/}
        printf '#!/bin/sh\nexport MIXT_EMULATED=1\nexec %s -0 "$0" "%s" "$@"\n' "$emulator" "$program" >"$script"
        chmod +x "$script"
    done
done
