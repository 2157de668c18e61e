#!/bin/bash
# A server and the same request to it three times, for a model that it opens then: one_request.sh SPLAM FOLDER, which
# receives the pictures in base64, out.txt and again.txt; exit code 0. Something may fail meanwhile. A server that
# cannot begin ends with code 1 or 2 and its sentence, which are this script's. One of the first two requests may be
# answered with 500 or more and a reason, or not at all: it is said as splam says its own, "splam: WHY", and the code is
# 1. Else, where the last is not answered with the picture or the server does not end with code 0, the code is another.
set -u
splam=$1 folder=$2 socket=$2/socket
ln -sfn "$PWD/assets/teacher" "$folder/asked"
"$splam" serve -m assets/teacher -m "$folder/asked" --unix "$socket" -t 1 2>"$folder/log" &
server=$!
trap 'kill -9 $server 2>/dev/null' EXIT

ask() { # OUT: the answer's code
    curl -s -m 50 --unix-socket "$socket" -o "$1" -w '%{http_code}' -H 'Content-Type: application/json' \
        -d '{"prompt": "a cat", "steps": 1, "seed": 7, "override_settings": {"sd_model_checkpoint": "asked"}}' \
        http://localhost/sdapi/v1/txt2img
}
wrong() { # CODE WHAT
    echo "$2" >&2
    exit "$1"
}

while ! grep -q '^listening' "$folder/log" && kill -0 $server 2>/dev/null; do
    sleep 0.05
done
codes=$(ask "$folder/1")" "$(ask "$folder/2")" "$(ask "$folder/3")
kill -TERM $server 2>/dev/null
wait $server
ended=$?
case $ended in
0) ;;
1 | 2) wrong $ended "$(grep '^splam: ' "$folder/log")" ;;
*) wrong $ended "the server ended with code $ended: $(tail -n 2 "$folder/log")" ;;
esac
for i in 1 2 3; do
    sed -n 's/.*"images":\["\([^"]*\)".*/\1/p' "$folder/$i" >"$folder/$i.txt" 2>/dev/null
done
why=$(sed -n 's/.*"detail":"\(.*\)"}.*/\1/p' "$folder/1" "$folder/2" 2>/dev/null)
mv "$folder/3.txt" "$folder/again.txt"
mv "$folder/1.txt" "$folder/out.txt"
[ -s "$folder/out.txt" ] || mv "$folder/2.txt" "$folder/out.txt"
rm -f "$folder/log" "$folder"/[123]*
case $codes in
"200 200 200") exit 0 ;;
"000 200 200" | "200 000 200") wrong 1 "splam: no answer" ;;
5??" 200 200" | "200 "5??" 200") [ -n "$why" ] && wrong 1 "splam: $codes, $why" ;;
esac
wrong 97 "answers $codes, $why"
