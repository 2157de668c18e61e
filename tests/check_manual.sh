#!/bin/bash
# Pages for man(1) and completions, which the program makes of what its verbs declare: check_manual.sh BUILD.
# Prints TAP. What zsh and fish offer is asked of them where they are installed, and skipped where not.
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

echo 1..6
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
        /^\./ && !/^\.(TH|SH|SS|PP|TP|B|BR|I|nf|fi)( |$)/ {print verb ": " $0}
        /[^\\]\\[^-&efP]/ {print verb ": " $0}'
done >"$work/requests"
report "pages hold no request but those of man(7)" "$work/requests"

# bash_offers WORD... : what bash offers for the last
bash_offers() {
    bash -c 'source completions/splam.bash; COMP_WORDS=(splam "$@"); COMP_CWORD=$#; _splam; echo "${COMPREPLY[@]}"' \
        - "$@" 2>&1
}
# fish_offers WORD... : likewise; fish sorts
fish_offers() {
    fish --no-config -c 'source completions/splam.fish; complete -C "$argv"' splam "$@" 2>&1 | cut -f1 | xargs
}
# zsh_offers WORD... : likewise. An interactive zsh behind a terminal completes the line, and what is added is written.
cat >"$work/.zshrc" <<'END'
fpath=($PWD/completions $fpath)
autoload -U compinit && compinit -u -D
compadd() {
    local -a offered
    if [[ ${@[1,(i)(-|--)]} != *-(O|A|D)\ * ]]; then
        builtin compadd -A offered "$@"
        print -rn -- "$offered " >>$OFFERED
    fi
    builtin compadd "$@"
}
complete_and_leave() { zle complete-word; mv $OFFERED $OFFERED.whole; exit }
zle -N complete_and_leave
bindkey '^X' complete_and_leave
END
cat >"$work/offers.zsh" <<'END'
zmodload zsh/zpty
: >$OFFERED
zpty -b shell zsh -d -i
zpty -w -n shell "$*"$'\x18'
for try in {1..200}; do
    [[ -e $OFFERED.whole ]] && break
    zpty -r -t shell output
    sleep .05
done
zpty -d shell
cat $OFFERED.whole && rm $OFFERED.whole
END
zsh_offers() {
    OFFERED=$work/offered ZDOTDIR=$work zsh -f "$work/offers.zsh" splam "$@" 2>&1 | xargs
}
# what SHELL offers, in its order or sorted
offers() {
    local shell=$1 objectives="splam lcm pcm tcd progressive dmd"
    [ "$shell" != fish ] || objectives="dmd lcm pcm progressive splam tcd"
    expect generate "$("${shell}_offers" gen)"
    expect "$objectives" "$("${shell}_offers" distill --objective '')"
    expect "lcm" "$("${shell}_offers" distill --objective l)"
    expect "unipc" "$("${shell}_offers" eval --sampler u)"
    expect --cache-dtype "$("${shell}_offers" data --cache-d)"
    expect "--sampler --save-latents --sandbox" "$("${shell}_offers" generate --sa)"
    [ "$shell" = bash ] || expect meson.build "$("${shell}_offers" generate -o meson.b)" # bash leaves files to readline
}
PATH=$(cd "$(dirname "$splam")" && pwd):$PATH
for shell in bash zsh fish; do
    name="$shell completes verbs, flags and choices"
    if [ -z "$(command -v $shell)" ]; then
        number=$((number + 1))
        echo "ok $number # SKIP $name: $shell is not installed"
    else
        offers $shell >"$work/$shell"
        report "$name" "$work/$shell"
    fi
done

DESTDIR=$work/stage meson install -C "$1" --no-rebuild --quiet >"$work/log" 2>&1 || cat "$work/log"
for file in man1/splam.1 man1/splam-distill.1 bash-completion/completions/splam vendor-completions/_splam \
    vendor_completions.d/splam.fish; do
    [ -n "$(find "$work/stage" -path "*/$file" -size +0)" ] || echo "$file is not installed"
done >"$work/installed"
report "all of it is installed" "$work/installed"
[ $failures -eq 0 ]
