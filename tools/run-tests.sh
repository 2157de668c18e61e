#!/bin/bash
# Runs every test of a build folder and adds up: run-tests.sh [BUILD]
#
# BUILD/tests/programs.txt has one line per run: a cmocka program and the environment it gets. A run under a cap on
# the instruction set that is no lower than the processor's (or than a cap on all of this) repeats the one without
# and is left out. The checks tests/check_*.sh are given BUILD and print TAP lines ("ok 1 - name", "not ok 1 - name").
# A program that crashes, hangs or leaves before its last test counts as one failure more. Before the last line,
# which is the total, come the slowest programs.
set -u
cd "$(dirname "$0")/.." || exit 1
build=${1:-build}
limit=${SPLAM_TEST_SECONDS:-900}
export SPLAM_SOURCE=$PWD
export CMOCKA_MESSAGE_OUTPUT=tap
passed=0 failed=0 skipped=0
output=$(mktemp)
times=$(mktemp)
trap 'rm -f "$output" "$times"' EXIT

# run_one NAME COMMAND... : one line for the program, and its output if anything failed
run_one() {
    local name=$1 started=$SECONDS code planned good bad left_out lost=0
    shift
    timeout "$limit" "$@" >"$output" 2>&1
    code=$?
    planned=$(sed -n 's/^1\.\.\([0-9][0-9]*\)$/\1/p' "$output" | head -n 1)
    left_out=$(grep -c '^\(not \)\?ok [0-9]* # SKIP' "$output")
    good=$(grep '^ok [0-9]' "$output" | grep -vc '^ok [0-9]* # SKIP')
    bad=$(grep '^not ok [0-9]' "$output" | grep -vc '^not ok [0-9]* # SKIP')
    if [ $((good + bad + left_out)) -lt "${planned:-1}" ] || { [ $code -ne 0 ] && [ $((bad + left_out)) -eq 0 ]; }; then
        lost=1
    fi
    passed=$((passed + good)) failed=$((failed + bad + lost)) skipped=$((skipped + left_out))
    printf '%-44s %4d passed' "$name" "$good"
    [ $((bad + lost)) -eq 0 ] || printf ', %d failed' $((bad + lost))
    [ "$left_out" -eq 0 ] || printf ', %d skipped' "$left_out"
    printf '  (%d s)\n' $((SECONDS - started))
    printf '%d %s\n' $((SECONDS - started)) "$name" >>"$times"
    grep '# SKIP' "$output" | sed 's/^.*# SKIP/    skipped:/'
    if [ $((bad + lost)) -ne 0 ]; then
        grep -v '^ok [0-9]' "$output" | tail -n 60 | sed 's/^/    /'
        [ $lost -eq 0 ] || echo "    $name ended with code $code before its last test (124: after $limit s)"
    fi
}

# level_of NAME: instruction sets in order, as SPLAM_MAX_ISA names them
level_of() {
    case $1 in
    baseline) echo 0 ;;
    avx2) echo 1 ;;
    avx512) echo 2 ;;
    *) echo 3 ;;
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
asked=${SPLAM_MAX_ISA:-$native}
[ "$(level_of "$asked")" -ge "$(level_of "$native")" ] || native=$asked

# repeats ENVIRONMENT: whether its cap changes nothing here
repeats() {
    local cap
    cap=$(sed -n 's/.*SPLAM_MAX_ISA=\([a-z0-9_]*\).*/\1/p' <<<"$1")
    [ -n "$cap" ] && [ "$(level_of "$cap")" -ge "$(level_of "$native")" ]
}

if [ ! -f "$build/tests/programs.txt" ]; then
    echo "run-tests.sh: $build is not a build folder" >&2
    exit 1
fi
left=0
while read -r program environment; do
    [ -n "$program" ] || continue
    if repeats "$environment"; then
        left=$((left + 1))
        continue
    fi
    # The environment is a list of NAME=VALUE without spaces; splitting it is meant.
    # shellcheck disable=SC2086
    run_one "$program${environment:+ ($environment)}" env $environment "$build/tests/$program"
done <"$build/tests/programs.txt"
for check in tests/check_*.sh; do
    run_one "$(basename "$check")" "$check" "$build"
done

[ $left -eq 0 ] || echo "$left capped runs left out: they would repeat others at $native"
echo "slowest: $(sort -rn "$times" | head -n 8 | sed 's/^\([0-9]*\) \(.*\)$/\2 \1 s/' | paste -sd , | sed 's/,/, /g')"
[ $skipped -eq 0 ] || echo "$skipped skipped"
echo "$passed passed, $failed failed"
[ $failed -eq 0 ] && [ $passed -gt 0 ]
