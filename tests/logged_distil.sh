# What checks of a tiny distillation share whose writes tests/logged_writes.c sees: sourced in the repository's root
# with $build set. Gives $splam, $golden, a folder $work in memory that goes with the shell, and the function distil.
splam=$build/cli/splam golden=$PWD/tests/golden logged=$build/tests/liblogged_writes.so
export GOMP_SPINCOUNT=1000 # so that the program does not start itself again
if ldd "$splam" | grep -q libasan; then
    echo "1..1"
    echo "ok 1 # SKIP AddressSanitizer wants to be loaded first, and takes memory of its own"
    exit 0
fi
work=$(mktemp -d -p "$([ -d /dev/shm ] && [ -w /dev/shm ] && echo /dev/shm || echo "${TMPDIR:-/tmp}")")
trap 'rm -rf "$work"' EXIT

distil() { # OUTPUT STEPS, more flags
    local output=$1 steps=$2
    shift 2
    "$splam" distill --teacher "$golden/teacher-epsilon" --draws "$golden/distill-splam/draws.safetensors" \
        --train-batch-size 3 --max-train-steps "$steps" --checkpointing-steps 1 --mixed-precision no -t 1 \
        --output "$output" --resume latest "$@"
}
