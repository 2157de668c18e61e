#!/bin/bash
# A distillation stopped at moments that differ from run to run (SIGKILL, every third time SIGTERM or SIGINT), and
# resumed each time, with one thread and with two in turn, ends with the bits of one that was left alone:
# check_kills.sh BUILD [KILLS] [--emoji]. --emoji distils the demo's teacher on the emoji, with checkpoints that take
# long enough to be hit while they are written; else it is a tiny model on recorded draws. Prints TAP.
set -u
exec 2>/dev/null # the shell's own words about killed children
cd "$(dirname "$0")/.." || exit 1
splam=$1/cli/splam
shift
kills=5 emoji="" steps=10 every=1
for word in "$@"; do
    case $word in
    --emoji) emoji=1 steps=80 every=2 ;;
    *) kills=$word ;;
    esac
done
golden=tests/golden
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export GOMP_SPINCOUNT=1000 # so that the program does not start itself again, and has the number of the child

if [ -n "$emoji" ]; then
    "$splam" data emoji: --cache "$work/latents" --teacher assets/teacher >"$work/log" 2>&1
    flags="--teacher assets/teacher --data latents:$work/latents --train-batch-size 1 --learning-rate 1e-4"
    flags="$flags --guidance-scale-w 2"
else
    flags="--teacher $golden/teacher-epsilon --draws $golden/distill-splam/draws.safetensors --train-batch-size 3"
fi

run() { # OUTPUT THREADS, more flags: becomes the program
    local output=$1 count=$2
    shift 2
    # The flags are a list without spaces in words.
    # shellcheck disable=SC2086
    exec "$splam" distill $flags --max-train-steps $steps --checkpointing-steps $every --mixed-precision no \
        -t "$count" --output "$output" "$@" >"$work/log" 2>&1
}
done_steps() { wc -l <"$work/killed/metrics.jsonl" || echo 0; }
fail_with_log() { sed 's/^/# /' "$work/log"; }

echo 1..4
if ! (run "$work/whole" 2); then
    fail_with_log
    echo "not ok 1 - an undisturbed run"
    exit 1
fi
# How long a run may go on before it is stopped, in thousandths of a second: a step, and a checkpoint.
moment=$(sed 's/.*"seconds":\([0-9.e-]*\).*/\1/' "$work/whole/metrics.jsonl" | tail -n 1 |
    awk -v every=$every '{printf "%d", 1000 * $1 * (every + 1) + 100}')
# What a run that came to its end left is what the undisturbed one left, losses too: what was logged of steps that were
# done again is cut off.
losses() { sed 's/,"learning_rate.*//' "$1/metrics.jsonl"; }
runs=0 other_bits=0 other_losses=0
compare() {
    runs=$((runs + 1))
    for file in unet/diffusion_pytorch_model.safetensors unet_ema/diffusion_pytorch_model.safetensors \
        checkpoint-$steps/first_moment.safetensors checkpoint-$steps/second_moment.safetensors; do
        cmp -s "$work/whole/$file" "$work/killed/$file" || other_bits=$((other_bits + 1))
    done
    [ "$(losses "$work/whole")" = "$(losses "$work/killed")" ] && [ "$(done_steps)" -eq $steps ] ||
        other_losses=$((other_losses + 1))
    rm -rf "$work/killed"
}
killed=0 asked=0 writing=0 wrong=0
for ((i = 0; killed + asked < kills && i < 4 * kills; i++)); do
    (run "$work/killed" $((1 + i % 2)) --resume latest) &
    child=$!
    # Wait until it has started training, then a moment that is never the same.
    before=$(done_steps)
    for ((wait = 0; wait < 6000; wait++)); do
        [ "$(done_steps)" -ne "$before" ] && break
        kill -0 $child || break
        sleep 0.01
    done
    sleep "$(awk -v m="$moment" -v r=$RANDOM 'BEGIN {printf "%.3f", m * r / 32768000}')"
    signal=KILL
    [ $((i % 3)) -ne 2 ] || { [ $((i % 2)) -eq 0 ] && signal=TERM || signal=INT; }
    if ls -d "$work"/killed/checkpoint-*.tmp-* >/dev/null; then unfinished=1; else unfinished=0; fi
    kill -$signal $child
    wait $child
    case $?:$signal in
    0:*) compare ;; # it was at its end already
    137:KILL) killed=$((killed + 1)) writing=$((writing + unfinished)) ;;
    130:TERM | 130:INT) asked=$((asked + 1)) writing=$((writing + unfinished)) ;;
    *) wrong=$((wrong + 1)) && fail_with_log ;;
    esac
done
[ $killed -gt 0 ] && [ $((killed + asked)) -ge "$kills" ] &&
    echo "ok 1 - killed $killed times, $writing of all stops while a checkpoint was written" ||
    echo "not ok 1 - of $kills stops $((killed + asked)) met a running program"
[ $wrong -eq 0 ] && echo "ok 2 - asked to stop $asked times" || echo "not ok 2 - $wrong runs ended in another way"
if [ -e "$work/killed" ]; then
    if ! (run "$work/killed" 1 --resume latest); then fail_with_log; fi
    compare
fi
[ $other_bits -eq 0 ] && echo "ok 3 - the same bits, $runs runs" ||
    echo "not ok 3 - $other_bits files of $runs runs have other bits"
[ $other_losses -eq 0 ] && echo "ok 4 - the same losses" ||
    echo "not ok 4 - other losses in $other_losses of $runs runs"
