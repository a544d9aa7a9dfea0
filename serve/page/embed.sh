#!/bin/sh
# embed.sh serve|atlas FILES...: C source with the bytes of each file, and the table of them that
# serve/page.h or src/atlas/page.h declares. Of the server page.html is served as /, every other file
# under its name.
set -e
table=$1
shift

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
case $table in
serve) echo '#include "page.h"' ;;
atlas) echo '#include "atlas/page.h"' ;;
*)
    echo "embed.sh: $table: neither serve nor atlas" >&2
    exit 1
    ;;
esac
number=0
for file; do
    printf '\n/* %s */\nstatic const unsigned char bytes_%d[] = {\n' "${file##*/}" "$number"
    od -An -v -tu1 "$file" | sed 's/  */,/g; s/^,//; s/$/,/'
    echo '};'
    number=$((number + 1))
done
if [ "$table" = serve ]; then
    printf '\nconst serve_page_file serve_page_files[] = {\n'
else
    printf '\nconst mixt_page_file mixt_page_files[] = {\n'
fi
number=0
for file; do
    name=${file##*/}
    if [ "$table" = atlas ]; then
        printf '    {"%s", bytes_%d, sizeof bytes_%d},\n' "$name" "$number" "$number"
        number=$((number + 1))
        continue
    fi
    path=/$name
    [ "$name" != page.html ] || path=/
    type=$(type_of "$name")
    sum=$(cksum <"$file" | sed 's/ /-/')
    printf '    {"%s", "%s", "\\"%s\\"", bytes_%d, sizeof bytes_%d},\n' "$path" "$type" "$sum" "$number" "$number"
    number=$((number + 1))
done
printf '    {0},\n};\n'
