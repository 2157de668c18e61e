#!/bin/bash
# Runs every test of a build folder and adds up: run-tests.sh [BUILD]
#
# BUILD/tests/programs.txt has one line per run: a cmocka program and the environment it gets. The checks
# tests/check_*.sh are given BUILD and print TAP lines ("ok 1 - name", "not ok 1 - name"). A program that
# crashes, hangs or leaves before its last test counts as one failure more. The last line is the total.
set -u
cd "$(dirname "$0")/.." || exit 1
build=${1:-build}
limit=${SPLAM_TEST_SECONDS:-900}
export SPLAM_SOURCE=$PWD
export CMOCKA_MESSAGE_OUTPUT=tap
passed=0 failed=0 skipped=0
output=$(mktemp)
trap 'rm -f "$output"' EXIT

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
    grep '# SKIP' "$output" | sed 's/^.*# SKIP/    skipped:/'
    if [ $((bad + lost)) -ne 0 ]; then
        grep -v '^ok [0-9]' "$output" | tail -n 60 | sed 's/^/    /'
        [ $lost -eq 0 ] || echo "    $name ended with code $code before its last test (124: after $limit s)"
    fi
}

if [ ! -f "$build/tests/programs.txt" ]; then
    echo "run-tests.sh: $build is not a build folder" >&2
    exit 1
fi
while read -r program environment; do
    [ -n "$program" ] || continue
    # The environment is a list of NAME=VALUE without spaces; splitting it is meant.
    # shellcheck disable=SC2086
    run_one "$program${environment:+ ($environment)}" env $environment "$build/tests/$program"
done <"$build/tests/programs.txt"
for check in tests/check_*.sh; do
    run_one "$(basename "$check")" "$check" "$build"
done

[ $skipped -eq 0 ] || echo "$skipped skipped"
echo "$passed passed, $failed failed"
[ $failed -eq 0 ] && [ $passed -gt 0 ]
