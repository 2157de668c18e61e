#!/bin/bash
# Power cuts: check_power.sh BUILD [POINTS]. While a distillation is begun, and while one goes on and removes older
# checkpoints, all that it does to its output is written down (tests/logged_writes.c); of each moment, what a disk may
# hold when the power goes then is made of that (tests/power_cut.c), once for each way in which what was not forced to
# the disk may be lost. In all of them
#   - what was forced to the disk and nobody has changed since is there, and a checkpoint is the one that was saved,
#   - every file of the student is the old one or the new one, whole,
#   - `--resume latest` goes on, from the newest checkpoint that has lasted or a later one, and ends with the bits and
#     the losses of a run that nothing befell.
# POINTS of the states of each are tried, evenly (default 12; all: each). Prints TAP.
set -u
cd "$(dirname "$0")/.." || exit 1
build=$(cd "$1" && pwd) points=${2:-12}
. tests/logged_distil.sh
out=$work/now/out

losses() { sed 's/,"learning_rate.*//' "$1/metrics.jsonl"; }

wrong=0
say() {
    echo "# $name, $(head -n 1 "$work/states/$state.txt"): $1"
    wrong=$((wrong + 1))
}

lasting() { # has the state what must have lasted
    local lasts
    newest=0
    while read -r lasts; do
        [ -e "$out/$lasts" ] || say "$lasts is gone"
        case $lasts in
        checkpoint-*.tmp-*) ;;
        checkpoint-*)
            diff -r "$work/whole/$lasts" "$out/$lasts" >/dev/null || say "$lasts is another"
            [ "${lasts#checkpoint-}" -le "$newest" ] || newest=${lasts#checkpoint-}
            ;;
        esac
    done < <(sed -n 's/^lasts //p' "$work/states/$state.txt")
}
student() { # are its files whole
    local file
    [ -d "$out" ] || return
    while read -r file; do
        cmp -s "$work/whole/$file" "$out/$file" || cmp -s "$work/before/$file" "$out/$file" || say "$file is half"
    done < <(cd "$out" && find . -type f ! -path '*.tmp-*' ! -path './checkpoint-*' ! -name metrics.jsonl)
    [ ! -e "$out/model_index.json" ] || [ -e "$out/unet/config.json" ] || say "a student without a UNet"
}
goes_on() {
    local from result
    if ! distil "$out" "$steps" "${flags[@]}" >"$work/log" 2>&1; then
        say "$(grep '^splam: ' "$work/log")"
        return
    fi
    from=$(sed -n 's/.*resuming after step \([0-9]*\)$/\1/p' "$work/log")
    [ "${from:-0}" -ge "$newest" ] || say "goes on from step ${from:-0}, and step $newest was saved"
    for result in unet unet_ema scheduler splam.json model_index.json "checkpoint-$steps"; do
        diff -r -x '*.tmp-*' "$work/whole/$result" "$out/$result" >/dev/null 2>&1 || say "$result has other bits"
    done
    [ "$(losses "$work/whole")" = "$(losses "$out")" ] || say "other losses: $(losses "$out" | tr '\n' ' ')"
}

scenario() { # NAME STEPS, more flags; what is there before is in $work/before, if anything is
    name=$1 steps=$2 wrong=0
    shift 2
    flags=("$@")
    local before=- most=$points state made
    [ "$points" != all ] || most=100000
    rm -rf "$work/now" "$work/log.d" "$work/states" "$work/whole"
    mkdir -p "$work/now" "$work/log.d" "$work/states"
    [ ! -d "$work/before" ] || { cp -r "$work/before" "$out" && before=$work/before; }
    distil "$out" "$steps" --checkpoints-total-limit 0 >"$work/log" 2>&1 || sed 's/^/# /' "$work/log"
    mv "$out" "$work/whole" # with all checkpoints
    [ ! -d "$work/before" ] || { cp -r "$work/before" "$out" && find "$out" -printf '%i %P\n' >"$work/before.inodes"; }
    LD_PRELOAD=$logged LOGGED_FOLDER=$out LOGGED_TO=$work/log.d distil "$out" "$steps" "$@" \
        >"$work/log" 2>&1 || sed 's/^/# /' "$work/log"
    made=$("$build/tests/power_cut" "$before" "$work/log.d" "$out" "$work/states" "$most") ||
        wrong=1
    for ((state = 0; state < ${made% *}; state++)); do
        rm -rf "$work/now"
        mkdir "$work/now"
        mv "$work/states/$state" "$out" || wrong=1
        # A state in which not even the folder has lasted is none at all.
        rmdir "$out" 2>/dev/null
        lasting
        student
        goes_on
    done
    grep -q '^lasts checkpoint-' "$work/states"/*.txt || wrong=1
    count=$((count + 1))
    [ $wrong -eq 0 ] && echo "ok $count - $name: ${made% *} of ${made#* } states of the disk" ||
        echo "not ok $count - $name: $wrong wrong in ${made% *} states"
}

echo "1..2"
count=0
scenario "a run that begins" 2
mv "$work/whole" "$work/before"
scenario "a run that goes on" 4 --checkpoints-total-limit 1
