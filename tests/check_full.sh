#!/bin/bash
# A disk that is full after any number of bytes, and limits on the size of files, on open files and on memory, while a
# distillation goes on from a checkpoint: check_full.sh BUILD [POINTS]. Each time the program ends by itself, with code
# 1 or 2 and one sentence, or with code 0 and the result of a run without limits; the checkpoint that was there is as
# it was, every file of the student is the old one or the new one, nothing is left beside it, and without the limit it
# goes on to the same bits. POINTS of each kind are tried, evenly (default 4). Prints TAP, and with SPLAM_LIMITS=FILE a
# line for every point: kind, limit, code.
set -u
cd "$(dirname "$0")/.." || exit 1
build=$(cd "$1" && pwd) points=${2:-4} table=${SPLAM_LIMITS:-/dev/null}
. tests/logged_distil.sh
out=$work/out
results="unet unet_ema scheduler splam.json model_index.json checkpoint-2"
same_results() {
    local result
    for result in $results; do
        diff -r "$work/whole/$result" "$out/$result" >/dev/null 2>&1 || return 1
    done
}

wrong=0
say() { # WHAT: is wrong at this point
    echo "# $kind $limit: $1"
    wrong=$((wrong + 1))
}
whole_files() {
    local file
    find "$out" -name '*.tmp-*' | grep -q . && say "unfinished: $(cd "$out" && find . -name '*.tmp-*' | head -n 2)"
    diff -r "$work/begun/checkpoint-1" "$out/checkpoint-1" >/dev/null || say "the checkpoint that was there is another"
    while read -r file; do
        cmp -s "$work/whole/$file" "$out/$file" || cmp -s "$work/begun/$file" "$out/$file" || say "$file is half"
    done < <(cd "$out" && find . -type f ! -name metrics.jsonl)
}

# One run under a limit, which the function "under_KIND" sets in a shell of its own, and one without.
try() { # LIMIT
    limit=$1
    local code
    rm -rf "$out"
    cp -r "$work/begun" "$out"
    # By a pipe: what is said must not be what is too large.
    ("under_$kind" "$limit" && distil "$out" 2) 2>&1 >/dev/null </dev/null | cat >"$work/err"
    code=${PIPESTATUS[0]}
    echo "$kind $limit $code $(grep '^splam: ' "$work/err" | head -n 1)" >>"$table"
    tried=$((tried + 1))
    case $code in
    0) same_results || say "code 0, and other results" ;;
    1 | 2)
        refused=$((refused + 1))
        [ "$(grep -c '^splam: ' "$work/err")" -eq 1 ] || say "code $code and no sentence: $(tail -n 2 "$work/err")"
        whole_files
        ;;
    127) ;; # it was not started
    *) library "$code" || say "code $code: $(tail -n 2 "$work/err")" ;;
    esac
    distil "$out" 2 >"$work/log" 2>&1 </dev/null || say "does not go on: $(grep '^splam: ' "$work/log")"
    same_results || say "goes on to other bits"
}
# What ends inside a library that was denied memory: an exception, which nobody can catch, or a failed thread.
library() {
    [ "$kind" = memory ] && [ "$1" -ge 128 ] && inside=$((inside + 1))
}

under_full() { export LD_PRELOAD=$logged LOGGED_FOLDER=$out FULL_AFTER=$1; }
under_size() { ulimit -f "$1"; }
under_files() { ulimit -n "$1"; }
under_memory() { ulimit -v "$1"; }

all() { # KIND FIRST LAST: POINTS limits from the first to the last
    local i next
    kind=$1 tried=0 refused=0 wrong=0 inside=0 limit=
    for ((i = 0; i < points; i++)); do
        next=$(($2 + ($3 - $2) * i / (points > 1 ? points - 1 : 1)))
        [ "$next" = "$limit" ] || try "$next"
    done
    count=$((count + 1))
    # How much memory and how many files a machine's libraries take is not known here.
    case $kind in
    full | size) [ $refused -gt 0 ] || wrong=$((wrong + 1)) ;;
    esac
    [ $wrong -eq 0 ] && echo "ok $count - $kind: $tried limits, $refused refused, $inside ended inside a library" ||
        echo "not ok $count - $kind: $wrong wrong of $tried"
}

echo 1..4
distil "$out" 1 >"$work/log" 2>&1 </dev/null || sed 's/^/# /' "$work/log"
cp -r "$out" "$work/begun"
(
    export LD_PRELOAD=$logged LOGGED_FOLDER=$out FULL_COUNT=$work/bytes
    distil "$out" 2
) >"$work/log" 2>&1 </dev/null || sed 's/^/# /' "$work/log"
cp -r "$out" "$work/whole"
count=0
bytes=$(cat "$work/bytes")
all full 0 $((bytes - 1))
all size 0 1500 # KiB; the largest file has 1,400
all files 3 6
all memory 100000 200000 # KiB
