#!/bin/sh
# embed.sh FILES...: C source with the bytes of each file and the table that serve/page.h declares.
# page.html is served as /, every other file under its name.
set -e

type_of() {
    case $1 in
    *.html) echo 'text/html; charset=utf-8' ;;
    *.css) echo 'text/css; charset=utf-8' ;;
    *.js) echo 'text/javascript; charset=utf-8' ;;
    *)
        echo "embed.sh: $1: no type is known for it" >&2
        exit 1
        ;;
    esac
}

echo '/* Made by serve/page/embed.sh. */'
echo '#include "page.h"'
number=0
for file; do
    printf '\n/* %s */\nstatic const unsigned char bytes_%d[] = {\n' "${file##*/}" "$number"
    od -An -v -tu1 "$file" | sed 's/  */,/g; s/^,//; s/$/,/'
    echo '};'
    number=$((number + 1))
done
printf '\nconst serve_page_file serve_page_files[] = {\n'
number=0
for file; do
    name=${file##*/}
    path=/$name
    [ "$name" != page.html ] || path=/
    type=$(type_of "$name")
    sum=$(cksum <"$file" | sed 's/ /-/')
    printf '    {"%s", "%s", "\\"%s\\"", bytes_%d, sizeof bytes_%d},\n' "$path" "$type" "$sum" "$number" "$number"
    number=$((number + 1))
done
printf '    {0},\n};\n'
