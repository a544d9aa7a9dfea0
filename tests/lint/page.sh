#!/bin/sh
# The page of `mixt serve` and that of `mixt atlas`: nothing evaluated, nothing made of text that could
# be markup, nothing from elsewhere; and their syntax, where there is a node to read it.
bad=0

refuse() { # refuse WHAT PATTERN FILES...
    what=$1
    pattern=$2
    shift 2
    if grep -nE "$pattern" "$@"; then
        echo "the page: $what"
        bad=1
    fi
}

scripts() { # the scripts of the folder that this is called in; $1 is its name
    refuse "code from text" '\b(eval|Function|setTimeout|setInterval)\(["'\''`]|\beval\b|new Function' -- *.js
    refuse "markup from text" 'innerHTML|outerHTML|insertAdjacentHTML|document\.write|createContextualFragment|DOMParser|srcdoc' -- *.js
    refuse "handlers or styles as attributes" "setAttribute\\('(on|style)" -- *.js
    refuse "a module from elsewhere" "(from|import\\() ?['\"\`]([^.]|\\.[^/])" -- *.js
    refuse "cookies or storage" 'document\.cookie|localStorage|sessionStorage|indexedDB' -- *.js
    refuse "something loaded by the style" 'url\(|@import|expression\(' -- *.css
    # The name of SVG's elements is the one address, and nothing is asked of it.
    if grep -nE 'https?://' -- *.js | grep -v "'http://www.w3.org/2000/svg'"; then
        echo "the page: an address"
        bad=1
    fi
    for file in *.js; do
        [ "$(wc -l <"$file")" -le 1000 ] || { echo "$1/$file: more than 1,000 lines"; bad=1; }
    done
    if command -v node >/dev/null; then
        folder=$(mktemp -d)
        for file in *.js; do
            cp "$file" "$folder/${file%.js}.mjs" # as a module, whatever node's version
            node --check "$folder/${file%.js}.mjs" || bad=1
        done
        rm -rf "$folder"
    else
        echo "no node here: the syntax of the scripts in $1 was not checked"
    fi
}

top=$(pwd)
cd "$top/serve/page" || exit 1
scripts serve/page
refuse "an address" '(https?:)?//[a-z0-9-]+\.[a-z]' -- page.html page.css
refuse "handlers, styles or scripts in the markup" ' on[a-z]+=| style=|<style|<script[^>]*>[^<]|javascript:' page.html

# The atlas' script stands inside its page: it asks nobody for anything, and no text of it may end the
# element that it stands in.
cd "$top/src/atlas/page" || exit 1
scripts src/atlas/page
refuse "a request" '\b(fetch|XMLHttpRequest|WebSocket|EventSource|sendBeacon|Worker|import)\b ?\(' -- *.js
refuse "the end of its element" '</script|<!--' -- *.js
refuse "the end of its element" '</style' -- *.css
for file in *.js *.css; do
    grep -q "src/atlas/page/,.*\b$file\b" "$top/Makefile" || { echo "src/atlas/page/$file: not in ATLAS_PAGE_FILES"; bad=1; }
done
exit $bad
