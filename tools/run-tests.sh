#!/bin/bash
# Runs every test of a build folder and adds up: run-tests.sh [BUILD [PROGRAM...]]
#
# BUILD/tests/programs.txt has one line per run: a cmocka program and the environment it gets. A run under a cap on
# the instruction set that is no lower than the processor's (or than a cap on all of this) repeats the one without
# and is left out. The checks tests/check_*.sh are given BUILD and print TAP lines ("ok 1 - name", "not ok 1 - name").
# With PROGRAMs only those run, and no checks. A program that crashes, hangs, leaves before its last test or has none
# counts as one failure more. Before the last line, which is the total, come the slowest programs.
#
# Two run at a time (SPLAM_TEST_JOBS), each on its share of the processors, so that none waits for a processor that
# another one has; the long ones begin. What needs all processors for itself runs behind them.
set -u
cd "$(dirname "$0")/.." || exit 1
build=${1:-build}
[ $# -eq 0 ] || shift
only=$*
limit=${SPLAM_TEST_SECONDS:-900}
export SPLAM_SOURCE=$PWD
export CMOCKA_MESSAGE_OUTPUT=tap
TIMEFORMAT='%R %U %S'

# The longest, longest first.
slow="check_cli.sh test_data test_cpu_backend test_api test_generate test_distill test_winograd"
# test_ranks, test_eval_ranks: processes of MPI poll for each other, and on one processor each answer would take a
# slice of its time.
alone="test_ranks test_eval_ranks"

passed=0 failed=0 skipped=0
work=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

# report SLOT: one line for the program that ran there, and its output if anything failed
report() {
    local name code wall user system planned good bad left_out lost=0 output=$work/$1.out
    name=$(cat "$work/$1.name")
    read -r code wall user system <"$work/$1.end"
    planned=$(sed -n 's/^1\.\.\([0-9][0-9]*\)$/\1/p' "$output" | head -n 1)
    left_out=$(grep -c '^\(not \)\?ok [0-9]* # SKIP' "$output")
    good=$(grep '^ok [0-9]' "$output" | grep -vc '^ok [0-9]* # SKIP')
    bad=$(grep '^not ok [0-9]' "$output" | grep -vc '^not ok [0-9]* # SKIP')
    [ $((good + bad + left_out)) -ge "${planned:-1}" ] || lost=1
    [ $((good + bad + left_out)) -gt 0 ] || lost=1 # a pattern that no test is called by
    [ "$code" -eq 0 ] || [ $((bad + left_out)) -ne 0 ] || lost=1
    passed=$((passed + good)) failed=$((failed + bad + lost)) skipped=$((skipped + left_out))
    printf '%-44s %4d passed' "$name" "$good"
    [ $((bad + lost)) -eq 0 ] || printf ', %d failed' $((bad + lost))
    [ "$left_out" -eq 0 ] || printf ', %d skipped' "$left_out"
    printf '  (%.0f s)\n' "$wall"
    echo "$user $system $wall $name" >>"$work/times"
    grep '# SKIP' "$output" | sed 's/^.*# SKIP/    skipped:/'
    if [ $((bad + lost)) -ne 0 ]; then
        grep -v '^ok [0-9]' "$output" | tail -n 60 | sed 's/^/    /'
        [ $lost -eq 0 ] || echo "    $name ended with code $code before its last test (124: after $limit s) or has none"
    fi
}

# run SLOT PROCESSORS PROGRAM [ENVIRONMENT]: runs it there and leaves name, output, exit code and seconds behind
run() {
    local slot=$work/$1 processors=$2 program=$3 environment=${4:-} command code
    command="$build/tests/$program"
    [ "${program%.sh}" = "$program" ] || command="bash tests/$program $build"
    echo "$program${environment:+ ($environment)}" >"$slot.name"
    # Lists of words without spaces, patterns of tests among them; splitting them is meant, finding files is not.
    set -f
    # shellcheck disable=SC2086
    {
        time taskset -c "$processors" timeout "$limit" env $environment $command >"$slot.out" 2>&1 </dev/null
    } 2>"$slot.time"
    code=$?
    set +f
    echo "$code $(tail -n 1 "$slot.time")" >"$slot.end"
}

# level_of NAME: instruction sets in order, as SPLAM_MAX_ISA names them
level_of() {
    case $1 in
    baseline) echo 0 ;;
    avx2) echo 1 ;;
    avx512) echo 2 ;;
    avx512_bf16) echo 3 ;;
    *) echo 4 ;;
    esac
}

# has FLAG... : whether the processor has them all
has() {
    local flag
    for flag in "$@"; do
        grep -qw "$flag" <<<"$processor" || return 1
    done
}

# The instruction set that a program without a cap of its own uses: the rules of src/backend/cpu/isa.c.
processor=$(grep -m 1 '^flags' /proc/cpuinfo)
native=baseline
has avx2 fma f16c bmi2 movbe && native=avx2
[ $native = avx2 ] && has avx512f avx512bw avx512cd avx512dq avx512vl && native=avx512
[ $native = avx512 ] && has avx512_bf16 && native=avx512_bf16
[ $native = avx512_bf16 ] && has amx_tile amx_bf16 && native=amx
asked=${SPLAM_MAX_ISA:-$native}
[ "$(level_of "$asked")" -ge "$(level_of "$native")" ] || native=$asked

# repeats ENVIRONMENT: whether its cap changes nothing here
repeats() {
    local cap
    cap=$(sed -n 's/.*SPLAM_MAX_ISA=\([a-z0-9_]*\).*/\1/p' <<<"$1")
    [ -n "$cap" ] && [ "$(level_of "$cap")" -ge "$(level_of "$native")" ]
}

# share I N: the I-th of N shares of the processors at hand, as taskset takes them
share() {
    awk -v i="$1" -v n="$2" -v all="$processors" 'BEGIN {
        count = split(all, cpu, " ")
        for (k = int(count * (i - 1) / n) + 1; k <= int(count * i / n); k++) printf "%s%s", sep++ ? "," : "", cpu[k]
    }'
}
processors=$(taskset -pc $$ | sed 's/^.*: //' | tr , '\n' |
    while IFS=- read -r first last; do seq "$first" "${last:-$first}"; done | paste -sd ' ')
count=$(wc -w <<<"$processors")
slots=${SPLAM_TEST_JOBS:-2}
[ "$slots" -le "$count" ] || slots=$count

# What there is to run, in $work/beside and $work/alone: lines "PROGRAM ENVIRONMENT", the long ones first.
if [ ! -f "$build/tests/programs.txt" ]; then
    echo "run-tests.sh: $build is not a build folder" >&2
    exit 1
fi
left=0
while read -r program environment; do
    [ -n "$program" ] && { [ -z "$only" ] || [[ " $only " == *" $program "* ]]; } || continue
    if repeats "$environment"; then
        left=$((left + 1))
    else
        echo "$program $environment"
    fi
done <"$build/tests/programs.txt" >"$work/programs"
[ -n "$only" ] || (cd tests && ls check_*.sh) >>"$work/programs"
for program in $slow; do grep "^$program\( \|$\)" "$work/programs"; done >"$work/order"
awk 'FILENAME == ARGV[1] { seen[$1] = 1; next } !($1 in seen)' "$work/order" "$work/programs" >"$work/rest"
cat "$work/order" "$work/rest" | awk -v alone=" $alone " -v folder="$work" \
    '{ print >(folder "/" (index(alone, " " $1 " ") ? "alone" : "beside")) }'
touch "$work/alone" "$work/beside" "$work/times"
for program in $only; do
    grep -q "^$program\( \|$\)" "$work/programs" && continue
    echo "run-tests.sh: there is no test program $program" >&2
    exit 1
done

began=$SECONDS
declare -A slot_of=()
free=$(seq 1 "$slots")
# finish: waits for the next program to end, reports it and gives its slot back
finish() {
    local pid
    wait -n -p pid
    report "${slot_of[$pid]}"
    free="$free ${slot_of[$pid]}"
    unset "slot_of[$pid]"
}
while read -r -u 3 program environment; do
    [ -n "${free// /}" ] || finish
    # shellcheck disable=SC2086
    set -- $free
    slot=$1
    shift
    free=$*
    run "$slot" "$(share "$slot" "$slots")" "$program" "$environment" &
    slot_of[$!]=$slot
done 3<"$work/beside"
while [ ${#slot_of[@]} -gt 0 ]; do finish; done
while read -r -u 3 program environment; do
    run 0 "${processors// /,}" "$program" "$environment"
    report 0
done 3<"$work/alone"

[ $left -eq 0 ] || echo "$left capped runs left out: they would repeat others at $native"
echo "slowest, seconds of a processor:" \
    "$(sed -E 's/\(.*SPLAM_(MAX_ISA|TEST_DEVICE)=([a-z0-9_]*).*\)/(\2)/' "$work/times" |
        awk '{ printf "%.0f", $1 + $2; $1 = $2 = $3 = ""; print }' | sort -rn | head -n 10 |
        awk '{ n = $1; $1 = ""; printf "%s%s %d", sep, substr($0, 2), n; sep = ", " }')"
awk -v wall=$((SECONDS - began)) -v slots="$slots" \
    '{ sum += $1 + $2 } END { printf "%d s, %d of a processor, %d at a time\n", wall, sum, slots }' "$work/times"
[ $skipped -eq 0 ] || echo "$skipped skipped"
echo "$passed passed, $failed failed"
[ $failed -eq 0 ] && [ $passed -gt 0 ]
