#!/bin/bash
# Pages for man(1) and completions, which the program makes of what its verbs declare: check_manual.sh BUILD.
# Prints TAP.
set -u
cd "$(dirname "$0")/.." || exit 1
splam=$1/cli/splam
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
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
# expect WORDS FOUND: a line if they differ
expect() {
    [ "$1" = "$2" ] || echo "found \"$2\" where \"$1\" was expected"
}

echo 1..4
mapfile -t verbs < <("$splam" --help=flags | cut -f1)
for verb in "${verbs[@]}"; do
    "$splam" "$verb" --help=man >"$work/page" || echo "$verb: no page"
    head -n 1 "$work/page" | grep -q "^\.TH SPLAM" || echo "$verb: the page has no title"
    "$splam" "$verb" --help=flags | cut -f1 | while read -r flag; do
        grep -qF -- "${flag//-/\\-}" "$work/page" || echo "$verb: the page has no $flag"
        "$splam" "$verb" --help | grep -qE -- "(^| )$flag( |$)" || echo "$verb: the help has no $flag"
    done
done >"$work/pages"
[ ${#verbs[@]} -gt 5 ] || echo "only ${#verbs[@]} verbs" >>"$work/pages"
report "a page for every verb, with every flag" "$work/pages"

for verb in '' "${verbs[@]}"; do
    "$splam" ${verb:+"$verb"} --help=man | awk -v verb="$verb" '
        /^\./ && !/^\.(TH|SH|PP|TP|B|BR|I|nf|fi)( |$)/ {print verb ": " $0}
        /[^\\]\\[^-&efP]/ {print verb ": " $0}'
done >"$work/requests"
report "pages hold no request but those of man(7)" "$work/requests"

# complete WORD... : what bash offers for the last
complete_words() {
    bash -c 'source completions/splam.bash; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _splam; echo "${COMPREPLY[@]}"' \
        - "$splam" "$@" 2>&1
}
{
    expect generate "$(complete_words gen)"
    expect "splam lcm pcm tcd progressive" "$(complete_words distill --objective '')"
    expect --cache-dtype "$(complete_words data --cache-d)"
} >"$work/bash"
report "bash completes verbs, flags and choices" "$work/bash"

DESTDIR=$work/stage meson install -C "$1" --no-rebuild --quiet >"$work/log" 2>&1 || cat "$work/log"
for file in man1/splam.1 man1/splam-distill.1 bash-completion/completions/splam vendor-completions/_splam \
    vendor_completions.d/splam.fish; do
    [ -n "$(find "$work/stage" -path "*/$file" -size +0)" ] || echo "$file is not installed"
done >"$work/installed"
report "all of it is installed" "$work/installed"
[ $failures -eq 0 ]
