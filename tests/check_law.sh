#!/bin/bash
# The rules of the house, one TAP line each: check_law.sh [BUILD]
#   - a folder of src/ includes itself and those before it, never those after; the public headers in include/splam
#     stand before them all and see only each other; the command line and the server see nothing else, and the former
#     of the latter its one header
#   - the library of a folder takes no symbol of those after it
#   - src/api defines the public functions and nothing else, and no other folder defines one, but src/options its own
#   - every .c file opens with a line that says what it is
#   - files of packed weights are told apart by all sources that may lay weights out
#   - every header compiles alone
#   - every symbol that the library exports begins with splam_
#   - no formatter reflows comments: equations and tables in them keep their lines
set -u
cd "$(dirname "$0")/.." || exit 1
build=${1:-build}
order="base options tensor formats text image graph ops backend models checkpoints diffusion pipeline data latents"
order="$order train distill eval bench report recipes api"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

rank() { # place of a folder in the order; nothing if it is not there
    local place=0 folder
    for folder in $order; do
        place=$((place + 1))
        [ "$folder" != "$1" ] || echo $place
    done
}

# includes FOLDER: lines "file:number path" for every include of the project's own headers, or of anything in quotes
includes() {
    find "$1" \( -name '*.c' -o -name '*.h' -o -name '*.inc' \) \
        -exec grep -HnE '^[[:space:]]*#[[:space:]]*include' {} + |
        sed -nE 's/^([^:]*:[0-9]*):[^"<]*["<]([^">]*)([">]).*$/\1 \2 \3/p' |
        while read -r place path mark; do
            if [ "$mark" = '"' ] || [ -n "$(rank "${path%%/*}")" ] || [ "${path%%/*}" = splam ]; then
                echo "$place $path"
            fi
        done
}

# broken_includes ROOT: one line for each include that breaks the law
broken_includes() {
    local folder own place path first theirs
    for folder in "$1"/src/*/; do
        folder=$(basename "$folder")
        own=$(rank "$folder")
        [ -n "$own" ] || echo "src/$folder has no place in the order: $order"
        includes "$1/src/$folder" | while read -r place path; do
            first=${path%%/*}
            theirs=$(rank "$first")
            if [ "$first" = splam ]; then
                continue
            elif [ -z "$theirs" ]; then
                echo "$place: \"$path\" does not name its folder"
            elif [ "$theirs" -gt "${own:-0}" ]; then
                echo "$place: src/$folder must not include $path"
            fi
        done
    done
    for folder in cli server; do
        [ ! -d "$1/$folder" ] || includes "$1/$folder" | while read -r place path; do
            [ "${path%%/*}" = splam ] || { [ -f "$1/$folder/$path" ] && [ "${path#*/}" = "$path" ]; } ||
                case $folder/$path in
                    cli/server/server.h | cli/server/client.h) ;;
                    *) echo "$place: $folder must not include $path" ;;
                esac
        done
    done
    includes "$1/include" | while read -r place path; do
        [ "${path%%/*}" = splam ] || echo "$place: a public header must not include $path"
    done
}

number=0 failures=0
# report NAME FILE: the check holds if the file is empty
report() {
    number=$((number + 1))
    if [ -s "$2" ]; then
        failures=$((failures + 1))
        echo "not ok $number - $1"
        sed 's/^/# /' "$2"
    else
        echo "ok $number - $1"
    fi
}

echo "1..11"
broken_includes . >"$scratch/includes"
report "folders include only what stands before them" "$scratch/includes"

# The check itself, on a small house in which each include breaks another rule.
mkdir -p "$scratch/house/src/base" "$scratch/house/src/graph" "$scratch/house/cli" "$scratch/house/include/splam" \
    "$scratch/house/server"
printf '#include <stdio.h>\n#include "base/x.h"\n#include "graph/graph.h"\n' >"$scratch/house/src/base/a.c"
printf '#include "base/x.h"\n#  include <tensor/x.h>\n#include "graph.h"\n#include "splam/splam.h"\n' \
    >"$scratch/house/src/graph/b.h"
printf '#include <splam/splam.h>\n#include "c.h"\n#include "base/x.h"\n#include "server/server.h"\n%s\n' \
    '#include "server/s.h"' >"$scratch/house/cli/c.c"
printf '#include <splam/splam.h>\n#include "s.h"\n#include "pipeline/x.h"\n' >"$scratch/house/server/s.c"
touch "$scratch/house/cli/c.h" "$scratch/house/server/s.h"
printf '#include <stdint.h>\n#include "base/x.h"\n' >"$scratch/house/include/splam/splam.h"
broken_includes "$scratch/house" | sed "s|^$scratch/house/||;s|^\\([^:]*:[0-9]*\\):.*|\\1|" | sort >"$scratch/found"
printf '%s\n' cli/c.c:3 cli/c.c:5 include/splam/splam.h:2 server/s.c:3 src/base/a.c:3 src/graph/b.h:3 \
    >"$scratch/expected"
diff "$scratch/expected" "$scratch/found" >"$scratch/difference"
report "an illegal include is found" "$scratch/difference"

# libraries BUILD: "folder file" of each folder's static libraries, in order; a folder may have several, as its kernels
# for instruction sets.
libraries() {
    local folder
    for folder in $order; do
        find "$1/src/$folder" -name 'lib*.a' 2>/dev/null | sort | sed "s/^/$folder /"
    done
}

# upward_symbols BUILD: one line for each symbol that a folder's libraries lack and one after it defines. `seen` grows
# by what each folder defines and by what it asks for: what a folder defines that was asked for before it stands too
# late.
upward_symbols() {
    libraries "$1" | while read -r folder archive; do
        nm "$archive" 2>/dev/null | awk -v f="$folder" \
            'NF == 3 && $2 ~ /[TDBRVWC]/ {print "d", f, $3} $1 == "U" && $2 ~ /^sp(lam)?_/ {print "u", f, $2}'
    done | awk '
        $1 == "d" { if (!($3 in home)) home[$3] = $2 }
        $1 == "u" { asked[$2 " " $3] = 1 }
        END { for (pair in asked) { split(pair, p, " "); if (p[2] in home) print p[1], home[p[2]], p[2] } }' |
        while read -r asking defining symbol; do
            [ "$(rank "$defining")" -le "$(rank "$asking")" ] ||
                echo "src/$asking uses $symbol, which src/$defining defines"
        done
}

upward_symbols "$build" >"$scratch/upward"
[ -n "$(libraries "$build")" ] || echo "there are no libraries in $build" >>"$scratch/upward"
report "no library takes a symbol of a folder after it" "$scratch/upward"

# The check itself, on two libraries of which the lower calls the upper.
mkdir -p "$scratch/build/src/base" "$scratch/build/src/graph"
printf 'void sp_upper(void);\nvoid sp_lower(void) { sp_upper(); }\n' >"$scratch/lower.c"
printf 'void sp_lower(void);\nvoid sp_upper(void) { sp_lower(); }\n' >"$scratch/upper.c"
for place in base/lower graph/upper; do
    "${CC:-gcc}" -c -o "$scratch/${place#*/}.o" "$scratch/${place#*/}.c"
    ar rcs "$scratch/build/src/${place%/*}/lib${place#*/}.a" "$scratch/${place#*/}.o"
done
upward_symbols "$scratch/build" >"$scratch/found"
echo "src/base uses sp_upper, which src/graph defines" | diff - "$scratch/found" >"$scratch/difference"
report "a symbol from above is found" "$scratch/difference"

# misplaced_symbols BUILD: one line for each public function out of src/api, and for each other symbol in it.
misplaced_symbols() {
    libraries "$1" | while read -r folder archive; do
        nm "$archive" 2>/dev/null | awk 'NF == 3 && $2 ~ /[TDBRVWC]/ && $3 ~ /^sp(lam)?_/ {print $3}' |
            while read -r symbol; do
                case $folder/$symbol in
                api/splam_* | options/splam_option_*) ;;
                api/*) echo "src/api defines $symbol, which is no public function" ;;
                */splam_*) echo "src/$folder defines $symbol, which belongs to src/api" ;;
                esac
            done
    done
}

misplaced_symbols "$build" >"$scratch/misplaced"
find src/api -name '*.h' | sed 's/$/: src\/api has nothing for others to include/' >>"$scratch/misplaced"
report "src/api defines the public functions, and nothing else" "$scratch/misplaced"

# The check itself, on two libraries of which each has what is the other's.
mkdir -p "$scratch/public/src/base" "$scratch/public/src/api"
printf 'void splam_option_count(void) {}\nvoid sp_right(void) {}\n' >"$scratch/base.c"
printf 'void splam_right(void) {}\nvoid sp_wrong(void) {}\n' >"$scratch/api.c"
for place in base api; do
    "${CC:-gcc}" -c -o "$scratch/$place.o" "$scratch/$place.c"
    ar rcs "$scratch/public/src/$place/lib$place.a" "$scratch/$place.o"
done
misplaced_symbols "$scratch/public" >"$scratch/found"
printf '%s\n' "src/base defines splam_option_count, which belongs to src/api" \
    "src/api defines sp_wrong, which is no public function" | diff - "$scratch/found" >"$scratch/difference"
report "a symbol in the wrong folder is found" "$scratch/difference"

find src cli server -name '*.c' | sort | while read -r file; do
    head -n 1 "$file" | grep -q '^/\* ' || echo "$file does not begin with a line that says what it is"
done >"$scratch/first"
report "every source says first what it is" "$scratch/first"

sed -n '/^pack_sources = /,/^)/p' src/backend/meson.build >"$scratch/listed"
(cd src/backend && ls cpu/vector/product/*.[ch] cpu/onednn/*.[ch]) | while read -r file; do
    grep -qF "'$file'" "$scratch/listed" || echo "pack_sources of src/backend/meson.build lacks $file"
done >"$scratch/sources"
report "packed weights know all sources that lay weights out" "$scratch/sources"

flags=$(pkg-config --cflags jansson libutf8proc spng libjpeg libwebp libarchive libxxhash freetype2 harfbuzz cairo \
    libmicrohttpd)
find src include cli server -name '*.h' | sort | while read -r header; do
    # shellcheck disable=SC2086
    printf '#include "%s"\n' "$PWD/$header" |
        "${CC:-gcc}" -std=gnu17 -D_GNU_SOURCE -Wall -Wextra -Werror -Wno-unused-function -fopenmp -fsyntax-only \
            -Isrc -Iinclude $flags -x c - 2>&1 | head -n 5
done >"$scratch/headers"
report "every header compiles alone" "$scratch/headers"

library=$(find "$build" -maxdepth 3 -name 'libsplam.so' | head -n 1)
if [ -n "$library" ]; then
    nm -D --defined-only "$library" | awk '$2 != "A" && $3 !~ /^splam_/ {print $3}' >"$scratch/symbols"
    nm -D --defined-only "$library" | grep -q ' splam_' || echo "nothing is exported" >>"$scratch/symbols"
else
    echo "there is no libsplam.so in $build" >"$scratch/symbols"
fi
report "every exported symbol begins with splam_" "$scratch/symbols"

# What a reflowing formatter leaves behind: a comment's end alone on a line, for it counts the two characters.
{
    grep -q '^ReflowComments: false' .clang-format || echo ".clang-format lets comments be reflowed"
    grep -rnE '^[[:space:]]*\*/$' src include cli server tests bench --include='*.[ch]'
} >"$scratch/comments"
report "comments keep their lines" "$scratch/comments"
[ $failures -eq 0 ]
