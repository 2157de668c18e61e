#!/bin/bash
# A distillation killed with SIGKILL at moments that differ from run to run, and resumed each time, ends with the bits
# of one that was left alone: check_kills.sh BUILD [KILLS]. Prints TAP.
set -u
exec 2>/dev/null # the shell's own words about killed children
cd "$(dirname "$0")/.." || exit 1
splam=$1/cli/splam
kills=${2:-5}
golden=tests/golden
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

run() { # OUTPUT, more flags
    local output=$1
    shift
    "$splam" distill --teacher $golden/teacher-epsilon --draws $golden/distill-splam/draws.safetensors --train-batch-size 3 \
        --max-train-steps 10 --checkpointing-steps 1 --mixed-precision no -t 1 --output "$output" "$@" >"$work/log" 2>&1
}

echo 1..2
if ! run "$work/whole"; then
    sed 's/^/# /' "$work/log"
    echo "not ok 1 - an undisturbed run"
    exit 1
fi
steps() { cat "$work/killed/metrics.jsonl" | wc -l; }
killed=0
for ((i = 0; i < kills; i++)); do
    run "$work/killed" --resume latest &
    child=$!
    # Wait for one step more than the last time, then a moment that is never the same.
    before=$(steps)
    for ((wait = 0; wait < 200; wait++)); do
        [ "$(steps)" -gt "$before" ] && break
        sleep 0.02
    done
    sleep "0.0$((RANDOM % 10))"
    if pkill -KILL -P $child; then killed=$((killed + 1)); fi
    wait $child
done
[ $killed -gt 0 ] && echo "ok 1 - killed $killed times" || echo "not ok 1 - no kill met a running program"
if ! run "$work/killed" --resume latest; then sed 's/^/# /' "$work/log"; fi
same=0
for file in unet/diffusion_pytorch_model.safetensors unet_ema/diffusion_pytorch_model.safetensors \
    checkpoint-10/first_moment.safetensors checkpoint-10/second_moment.safetensors; do
    cmp -s "$work/whole/$file" "$work/killed/$file" && same=$((same + 1))
done
[ $same -eq 4 ] && echo "ok 2 - the same bits" || echo "not ok 2 - $same of 4 files have the same bits"
