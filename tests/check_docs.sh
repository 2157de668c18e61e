#!/bin/bash
# What the documentation promises, one TAP line each: check_docs.sh [BUILD]
#   - docs/results.md is what tools/make-results.sh makes of bench/*.csv
#   - docs/architecture.svg is what tools/make-architecture.sh makes of the includes
#   - links between the documents lead to files and headings that are there
#   - files that they name are there
#   - no line of a text, a script or a source is longer than 120 columns
set -u
cd "$(dirname "$0")/.." || exit 1
documents=$(ls ./*.md docs/*.md docs/lab/*.md tests/*/README.md 2>/dev/null)

# anchor: the names that headings on standard input get as links, as GitHub makes them
anchors() {
    sed -n 's/^##* //p' "$1" | tr '[:upper:]' '[:lower:]' | sed 's/[^a-z0-9 _-]//g; s/ /-/g'
}

# broken_links FILE: links whose file or heading is missing
broken_links() {
    local folder target file heading
    folder=$(dirname "$1")
    tr '\n' ' ' <"$1" | grep -oE '\]\([^)]*\)' | sed 's/^](//; s/)$//; s/ //g' | grep -v '^[a-z]*:' |
        while read -r target; do
            file=${target%%#*} heading=
            [ "$target" = "$file" ] || heading=${target#*#}
            file=${file:+$folder/$file}
            if [ ! -e "${file:-$1}" ]; then
                echo "$1: no file $target"
            elif [ -n "$heading" ] && ! anchors "${file:-$1}" | grep -qxF -- "$heading"; then
                echo "$1: no heading $target"
            fi
        done
}

# missing_files FILE: paths of the tree in a text that are not there
missing_files() {
    local roots='src|tests|tools|docs|bench|cli|include|examples' kinds='c|h|inc|py|sh|md|csv'
    grep -oE "(^|[ (\`])($roots)/[a-zA-Z0-9_./-]+\\.($kinds)\\b" "$1" |
        sed 's/^[ (`]//' | grep -v NAME | sort -u | while read -r path; do
            [ -e "$path" ] || echo "$1: no file $path"
        done
}

# too_long: lines of texts, scripts and sources that are longer than 120 columns
too_long() {
    local -x LC_ALL=C.UTF-8
    git ls-files '*.md' '*.sh' '*.py' '*.[ch]' '*.inc' completions Makefile .ci meson.build tests/meson.build |
        while read -r path; do
            awk -v path="$path" 'length($0) > 120 {print path ":" FNR ": " length($0) " columns"}' "$path"
        done
}

number=0 failed=0
# check NAME FINDINGS: passes if there are none
check() {
    number=$((number + 1))
    if [ -z "$2" ]; then
        echo "ok $number - $1"
    else
        failed=1
        echo "not ok $number - $1"
        printf '%s\n' "$2"
    fi
}

echo 1..5
check "results.md is what bench/*.csv makes" "$(tools/make-results.sh --check 2>&1)"
check "architecture.svg is what the includes make" "$(tools/make-architecture.sh --check 2>&1)"
check "links lead somewhere" "$(for document in $documents; do broken_links "$document"; done)"
check "files that are named are there" "$(for document in $documents; do missing_files "$document"; done)"
check "lines have at most 120 columns" "$(too_long)"
exit $failed
