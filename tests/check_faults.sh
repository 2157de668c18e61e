#!/bin/bash
# Calls of the system and allocations of splam, failing one at a time: check_faults.sh BUILD [POINTS [SCENARIO]]. After
# each the program ends by itself within a minute, with code 1 or 2 and one sentence, or with code 0 and the same
# result as without; what it was to write is whole or not there, nothing is left beside it, and a distillation goes on
# to the bits of one that nothing befell. POINTS of each call and error, and of all allocations, are tried, evenly
# (default 1; all: each). Prints TAP, and with SPLAM_FAULTS=FILE a line for every point: scenario, call, error, which
# call it was, what came of it.
set -u
cd "$(dirname "$0")/.." || exit 1
splam=$PWD/$1/cli/splam points=${2:-1} only=${3:-}
golden=$PWD/tests/golden
log=${SPLAM_FAULTS:-/dev/null}
export GOMP_SPINCOUNT=1000                    # so that the program does not start itself again
export ASAN_OPTIONS=detect_leaks=0${ASAN_OPTIONS:+:$ASAN_OPTIONS} # looking for leaks stops threads as strace does
failing_malloc=$PWD/$1/tests/libfailing_malloc.so
ldd "$splam" | grep -q libasan && failing_malloc="" # which has a malloc of its own
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if ! strace -o /dev/null -e trace=none true 2>/dev/null; then
    echo "1..1"
    echo "ok 1 # SKIP strace is missing, or may not watch processes here"
    exit 0
fi

# call error ...: what is tried of each; calls that are not named cannot fail by a disk, a limit or another's doing.
faults='write ENOSPC,write EIO,pwrite64 ENOSPC,read EIO,pread64 EIO,fsync EIO,rename EIO,renameat2 EIO,openat EMFILE
openat EACCES,newfstatat EIO,mmap ENOMEM,mkdir ENOSPC,close EIO,unlink EACCES,rmdir EACCES,getdents64 EIO
ftruncate EIO,fallocate ENOSPC,flock ENOLCK,lseek EIO,mprotect ENOMEM,madvise ENOMEM,clone3 EAGAIN'

# ---- scenarios: command and results, in $work/now ----

distil() { # more flags
    set -- "$splam" distill --teacher "$golden/teacher-epsilon" --draws "$golden/distill-splam/draws.safetensors" \
        --train-batch-size 3 --max-train-steps 2 --checkpointing-steps 1 --mixed-precision no -t 1 \
        --output "$work/now/out" "$@"
    command=("$@")
}
scenario_generate() {
    mark=assets/teacher
    command=("$splam" generate -m assets/teacher -p 'a cat' --steps 1 -t 1 -o "$work/now/out.png")
    results='out.png'
}
scenario_convert() {
    command=("$splam" convert -m "$golden/original-sd1/model.safetensors" -o "$work/now/out")
    mark=original-sd1
    results='out'
}
scenario_distill() {
    mark=teacher-epsilon
    distil
    results='out/unet out/unet_ema out/checkpoint-2/first_moment.safetensors out/splam.json'
}
scenario_resume() {
    mark=checkpoint-1
    distil --resume latest
    results='out/unet out/unet_ema out/checkpoint-2/first_moment.safetensors out/splam.json'
}
scenario_cache() {
    mark=pictures
    command=("$splam" data "folder:$work/pictures" --cache "$work/now/out" --cache-dtype f32 --teacher assets/teacher
        --resolution 64 -t 1)
    results='out'
}
scenario_score() {
    mark=pictures
    command=("$splam" eval -m assets/teacher --data "folder:$work/pictures" --steps 1 --count 4 --metrics frechet,hit
        -t 1 --output "$work/now/out")
    results='out/report.json'
}
# Allocations alone: of other calls strace would count those of the shell that asks.
scenario_request() {
    mark=/asked
    command=(bash tests/one_request.sh "$splam" "$work/now")
    results='out.txt again.txt'
}

# Ahead of every run: the folder as the command finds it.
before_run() {
    rm -rf "$work/now"
    mkdir -p "$work/now"
    [ "$1" != resume ] || cp -r "$work/begun" "$work/now/out"
}

# ---- one point ----

say() { # WHAT: is wrong at this point
    echo "# $scenario, $call number $number fails with $error: $1"
    wrong=$((wrong + 1))
}
same_results() {
    local result
    for result in $results; do
        diff -r "$work/reference/$result" "$work/now/$result" >/dev/null 2>&1 || return 1
    done
}
# No half of anything: a file under a name of its own is the one that was to be there, and nothing is left beside it.
nothing_unfinished() {
    local file name
    find "$work/now" -name '*.tmp-*' | grep -q . && [ "$call" != unlink ] && [ "$call" != rmdir ] && return 1
    [ "$results" = out.png ] || return 0
    [ ! -e "$work/now/out.png" ] || cmp -s "$work/reference/out.png" "$work/now/out.png"
}
goes_on() { # the same without a fault, from what is there
    distil --resume latest
    "${command[@]}" >"$work/again" 2>&1 || { sed 's/^/#   /' "$work/again" && return 1; }
    same_results
}

# The command with its fault; strace's further flags ahead, which may make it slow.
faulty() {
    local limit=60
    [ "$1" != -k ] || limit=600
    if [ "$call" = malloc ]; then
        timeout -k 5 $limit env LD_PRELOAD="$failing_malloc" FAILING_MALLOC_FROM=$mark FAILING_MALLOC_AT="$number" \
            FAILING_MALLOC_WHO="$work/who" "${command[@]}"
    else
        timeout -k 5 $limit strace -f "$@" -e "trace=$call" -e "inject=$call:error=$error:when=$number" "${command[@]}"
    fi >"$work/out" 2>"$work/err"
}
# The library that was denied memory and did not look at that; fails where it was splam. oneDNN does not for the machine
# code that it makes, and throws where other memory is missing, which nobody can catch; fontconfig does not either.
library() {
    if [ "$call" = malloc ]; then
        grep -oE 'lib(dnnl|stdc|fontconfig)' "$work/who" | head -n 1 | grep .
    elif [ "$call" = mmap ] || [ "$call" = mprotect ]; then
        before_run "$scenario"
        { faulty -k -o "$work/stack"; } 2>/dev/null
        sed -n '/INJECTED/,/^[0-9]/p' "$work/stack" | grep -oE 'lib(dnnl|fontconfig)' | head -n 1 | grep .
    else
        return 1
    fi
}

try() { # NUMBER: this call of that name fails
    number=$1
    rm -f "$work/who"
    before_run "$scenario"
    { faulty --seccomp-bpf -o /dev/null; } 2>/dev/null # the shell's own words
    local code=$? outcome=refused name
    case $code in
    0)
        outcome=passed
        [ "$call" != fsync ] || say "code 0, and a power cut may take it"
        if grep -q '^1 rejected' "$work/out" "$work/err"; then
            outcome="one picture rejected"
        else
            same_results || say "code 0, and other results"
        fi
        ;;
    1 | 2)
        [ "$(grep -c '^splam: ' "$work/err")" -eq 1 ] || say "code $code and no sentence: $(tail -n 2 "$work/err")"
        nothing_unfinished || say "unfinished files are left: $(cd "$work/now" && find . -name '*.tmp-*' | head -n 3)"
        ;;
    *)
        outcome="code $code"
        if name=$(library); then outcome="ended inside $name"; else say "code $code: $(tail -n 2 "$work/err")"; fi
        ;;
    esac
    echo "$scenario $call $error $number $outcome" >>"$log"
    tried=$((tried + 1))
    case $scenario:$code in
    distill:1 | resume:1)
        goes_on || say "it does not go on to the same bits"
        "scenario_$scenario"
        ;;
    esac
}

# ---- all points of a scenario ----

points_of() { # BEGIN END: what of begin+1..end is tried
    local step=1 n
    [ "$points" = all ] || step=$((($2 - $1 + points - 1) / points))
    [ "$step" -ge 1 ] || step=1
    for ((n = $1 + 1 + (step - 1) / 2; n <= $2; n += step)); do
        echo $n
    done
}

# From where the program opens what it was given; before, it is the loader's.
calls_of_trace() {
    local main begun
    main=$(head -n 1 "$work/trace" | cut -d ' ' -f 1)
    begun=$(grep -n "$mark" "$work/trace" | grep -v execve | head -n 1 | cut -d : -f 1)
    points_of "$(head -n "$begun" "$work/trace" | grep -c "^$main *$call(")" "$(grep -c "^$main *$call(" "$work/trace")"
}
allocations() {
    before_run "$scenario"
    rm -f "$work/count"
    LD_PRELOAD=$failing_malloc FAILING_MALLOC_FROM=$mark FAILING_MALLOC_COUNT=$work/count "${command[@]}" \
        >"$work/out" 2>&1
    points_of 0 "$(cat "$work/count" 2>/dev/null || echo 0)"
}

run_scenario() {
    scenario=$1 tried=0 wrong=0
    "scenario_$scenario"
    before_run "$scenario"
    if ! strace -f -o "$work/trace" "${command[@]}" >"$work/out" 2>&1; then
        sed 's/^/# /' "$work/out"
        wrong=1
    fi
    rm -rf "$work/reference"
    cp -r "$work/now" "$work/reference"
    while [ "$scenario" != request ] && read -r call error; do
        for n in $(calls_of_trace); do
            try "$n"
        done
    done < <(tr ',' '\n' <<<"$faults")
    call=malloc error=ENOMEM
    [ -n "$failing_malloc" ] || return 0
    local before=$tried
    for n in $(allocations); do
        try "$n"
    done
    [ "$tried" -gt "$before" ] || say "no allocation was counted"
}

mkdir "$work/pictures"
for name in a b c d e f; do
    "$splam" generate -m assets/teacher -p "$name" --steps 1 -o "$work/pictures/$name.png" >/dev/null 2>&1
    echo "picture $name" >"$work/pictures/$name.txt"
done
before_run none
distil --max-train-steps 1
"${command[@]}" >/dev/null 2>&1
mv "$work/now/out" "$work/begun"

scenarios=${only:-generate convert distill resume cache score request}
# shellcheck disable=SC2086
set -- $scenarios
echo "1..$#"
count=0
for name in "$@"; do
    count=$((count + 1))
    run_scenario "$name"
    [ $wrong -eq 0 ] && [ $tried -gt 0 ] && echo "ok $count - $name: $tried calls fail" ||
        echo "not ok $count - $name: $wrong of $tried"
done
