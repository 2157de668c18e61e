#!/bin/bash
# The examples do what they say, one TAP line each: check_examples.sh BUILD.
set -u
cd "$(dirname "$0")/.." || exit 1
programs=$(cd "${1:-build}" && pwd)/examples
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
number=0

# check NAME COMMAND...: an "ok" line if the command succeeds
check() {
    local name=$1
    shift
    number=$((number + 1))
    if "$@" >"$work/log" 2>&1; then
        echo "ok $number - $name"
    else
        sed 's/^/# /' "$work/log" | tail -n 40
        echo "not ok $number - $name"
    fi
}

draws_ten() {
    "$programs/$1" assets/teacher "$work/last.ppm" && [ "$(grep -c '^picture' "$work/log")" = 10 ] &&
        [ "$(head -c 2 "$work/last.ppm")" = P6 ]
}

distils() {
    "$programs/example_distill" assets/teacher "$work/student" 2 2>"$work/errors" &&
        [ -e "$work/student/unet/config.json" ] && grep -q 'of 2, loss' "$work/log" && [ ! -s "$work/errors" ]
}

looks_at_own_data() {
    "$programs/example_own_data" "$work/sheet.png" && [ -s "$work/sheet.png" ] && grep -q 'no caption' "$work/log"
}

check "a held model draws ten pictures" draws_ten example_draw_ten
if [ -x "$programs/example_draw_ten_cpp" ]; then
    check "and does so as C++" draws_ten example_draw_ten_cpp
fi
check "from a picture in memory to one in memory" "$programs/example_image_to_image" assets/teacher
check "a student is distilled of the program's own pictures, with progress, and nothing on stderr" distils
check "the program's own pictures are a data set" looks_at_own_data
echo "1..$number"
