#!/bin/bash
# Static analysis of src/, cli/ and server/ but for vector kernels, which are arithmetic alone: gcc -fanalyzer,
# cppcheck, clang-tidy's bugprone and cert sets (Debian: cppcheck, clang-tidy): analyze.sh [BUILD [FILE...]]. What is
# known to be said of code that is right, as docs/reliability.md argues, is left out; code 1 if anything else is said.
# BUILD has generated headers.
set -u
cd "$(dirname "$0")/.." || exit 1
build=${1:-build}
[ $# -eq 0 ] || shift
for program in gcc cppcheck clang-tidy; do
    command -v $program >/dev/null || { echo "$program is not installed" >&2 && exit 1; }
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if [ $# -gt 0 ]; then
    printf '%s\n' "$@"
else
    find src cli server -name '*.c' ! -path '*/cpu/vector/*' ! -path '*/cpu/optimizer/*' ! -path '*/cpu/measure/*' |
        sort
fi >"$work/files"
read -ra libraries < <(pkg-config --cflags jansson libutf8proc nettle libxxhash libarchive spng libjpeg libwebp \
    libwebpmux freetype2 harfbuzz cairo libmicrohttpd gnutls libseccomp lapacke openblas ompi-c 2>/dev/null |
    tr '\n' ' ')
flags=(-std=gnu17 -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -Isrc -Iinclude -I. "-I$build/src"
    -fopenmp '-DSP_CLIP_MERGES="assets/clip_tokenizer/merges.txt"' "${libraries[@]}")

# Checks that are about taste here, or that docs/reliability.md argues.
checks="-*,bugprone-*,cert-*"
for check in bugprone-easily-swappable-parameters bugprone-implicit-widening-of-multiplication-result \
    bugprone-narrowing-conversions bugprone-misplaced-widening-cast bugprone-integer-division \
    bugprone-reserved-identifier cert-dcl37-c cert-dcl51-cpp bugprone-branch-clone bugprone-macro-parentheses \
    bugprone-assignment-in-if-condition bugprone-sizeof-expression bugprone-suspicious-missing-comma \
    bugprone-suspicious-string-compare cert-err33-c cert-err34-c; do
    checks="$checks,-$check"
done
# And what is said of a file: "TOOL: FILE CHECK".
cat >"$work/known" <<'END'
gcc: src/backend/cpu/onednn/convolution.c -Wanalyzer-null-argument
gcc: src/base/json.c -Wanalyzer-null-dereference
gcc: src/checkpoints/convert.c -Wanalyzer-null-dereference
gcc: src/checkpoints/original_mmdit.c -Wanalyzer-null-dereference
gcc: src/diffusion/sampler.c -Wanalyzer-null-dereference
gcc: src/eval/frechet.c -Wanalyzer-null-dereference
gcc: src/eval/frechet_interval.c -Wanalyzer-use-of-uninitialized-value
gcc: src/formats/tensor_file.c -Wanalyzer-null-dereference
gcc: src/formats/torch_file.c -Wanalyzer-null-dereference
gcc: src/image/image_png.c -Wanalyzer-null-dereference
gcc: src/image/image_text.c -Wanalyzer-null-dereference
gcc: src/options/options.c -Wanalyzer-null-dereference
clang-tidy: src/pipeline/conditioning.c bugprone-not-null-terminated-result
clang-tidy: src/report/chart.c cert-flp30-c
clang-tidy: src/backend/cpu/isa.c clang-diagnostic-error
cppcheck: server/guard.c memleak
cppcheck: cli/generate.c autoVariables
cppcheck: src/checkpoints/lora_file.c uninitvar
cppcheck: src/pipeline/packed.c uninitvar
cppcheck: src/train/trainer.c unknownEvaluationOrder
cppcheck: src/report/extremes.c uninitStructMember
cppcheck: src/report/report_html.c unknownMacro
cppcheck: src/recipes/train_teacher.c uninitvar
cppcheck: src/ops/attention.c invalidFunctionArg
END

look_at() { # FILE
    gcc "${flags[@]}" -O1 -fanalyzer -Wno-analyzer-malloc-leak -c -o /dev/null "$1" 2>&1 |
        grep -E 'warning: |error: ' | sed 's/^/gcc: /'
    clang-tidy --quiet --checks="$checks" "$1" -- "${flags[@]}" 2>/dev/null | grep -E 'warning: |error: ' |
        sed "s|^$PWD/||; s/^/clang-tidy: /"
}
next=0
while read -r file; do
    look_at "$file" >"$work/$next.found" &
    next=$((next + 1))
    [ $((next % $(nproc))) -ne 0 ] || wait
done <"$work/files"
wait
xargs cppcheck --enable=warning --quiet -Isrc -Iinclude -I. \
    --template='cppcheck: {file}:{line}: {id}: {message}' <"$work/files" 2>"$work/cppcheck.found"
# A line has "TOOL: FILE:LINE..." and the check in brackets behind, or, of cppcheck, between colons.
sort -u "$work"/*.found | awk -v known="$work/known" '
    BEGIN { while ((getline line <known) > 0) { split(line, w, " "); is_known[w[1] " " w[2] " " w[3]] = 1 } }
    {
        tool = $1; file = $2; sub(/:.*/, "", file)
        if (tool == "cppcheck:") { check = $3; sub(/:$/, "", check) }
        else { check = $0; sub(/.*\[/, "", check); sub(/\].*/, "", check) }
        if (!((tool " " file " " check) in is_known)) print
    }' | tee "$work/found"
[ ! -s "$work/found" ]
