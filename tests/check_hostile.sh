#!/bin/bash
# The program and files that mean harm: escape sequences, checkpoints that lead elsewhere, files that become shorter
# while they are used: check_hostile.sh [BUILD]. Prints TAP.
set -u
cd "$(dirname "$0")/.." || exit 1
splam=$PWD/${1:-build}/cli/splam source=$PWD
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch" || exit 1
export GOMP_SPINCOUNT=1000 # so that the program does not start itself again

number=0 failures=0
report() { # NAME; what is wrong with it is in the file, nothing if it holds
    number=$((number + 1))
    if [ -s .wrong ]; then
        failures=$((failures + 1))
        echo "not ok $number - $1"
        sed 's/^/# /' .wrong | tr -d '\033'
    else
        echo "ok $number - $1"
    fi
}
# fails PATTERN COMMAND...: within a minute, with code 1 or 2 and one clean sentence
fails() {
    local pattern=$1 got
    shift
    timeout -k 5 60 "$@" >out 2>err </dev/null
    got=$?
    [ $got -eq 1 ] || [ $got -eq 2 ] || echo "$*: code $got"
    grep '^splam: ' err | grep -qF -e "$pattern" || echo "$*: \"$(cat err)\" has no \"$pattern\""
    grep -q $'\033' err && echo "$*: a control character"
}

{
    "$splam" inspect "$source/tests/malformed/escape.safetensors" >out 2>&1 || echo "code $?"
    grep -qF '  \x1b]0;pwned\x07\x1b[31mred\x0a second line F32 [1]' out || cat out
    grep -q $'[\033\007]' out && echo "an escape sequence"
    printf 'nothing at all' >$'na\033[2Jme\n.ckpt'
    fails 'na\x1b[2Jme\x0a.ckpt: ' "$splam" tokenize -m $'na\033[2Jme\n.ckpt' text
    fails '"na\x1b[2Jme\x0a.ckpt" is one word too many' "$splam" inspect x na*
} >.wrong 2>&1
report "files and names do not speak to the terminal"

cat >distill <<END
#!/bin/bash
exec "$splam" distill --teacher "$source/tests/golden/teacher-epsilon" \\
    --draws "$source/tests/golden/distill-splam/draws.safetensors" \\
    --train-batch-size 3 --mixed-precision no -t 1 --max-train-steps 2 --checkpointing-steps 1 --output run "\$@"
END
chmod +x distill
{
    ./distill >err 2>&1 || cat err
    for put in 'mkfifo' 'ln -s /dev/zero' "ln -s $PWD/kept"; do
        rm -rf hostile kept && cp -r run/checkpoint-1 hostile
        mv hostile/ema.safetensors kept
        $put hostile/ema.safetensors
        fails 'hostile/ema.safetensors: expected a file' ./distill --resume hostile
    done
} >.wrong 2>&1
report "a checkpoint's parts are files, or it is refused"

# Cuts FILE in two as soon as the command has it in its memory; the command must then end with code 1 and a sentence
# of it.
cut() { # FILE COMMAND...
    local file=$1 child i
    shift
    "$@" >out 2>err </dev/null &
    child=$!
    for ((i = 0; i < 3000; i++)); do
        grep -qF "$file" /proc/$child/maps 2>/dev/null && break
        kill -0 $child 2>/dev/null || break
        sleep .01
    done
    truncate -s $(($(stat -c %s "$file") / 2)) "$file"
    wait $child
    i=$?
    [ $i -eq 1 ] || echo "$*: code $i: $(tail -n 3 err)"
    grep -q "^splam: .*$file: became shorter while it was read" err || tail -n 3 err
}
{
    for part in unet vae; do
        rm -rf model && cp -r "$source/assets/teacher" model && chmod -R u+w model
        cut "model/$part/diffusion_pytorch_model.safetensors" \
            "$splam" generate -m model -p 'red apple' --sampler ddim --steps 200 -t 1 --output picture.png
        [ ! -e picture.png ] || echo "a picture was written"
    done
} >.wrong 2>&1
report "a model that becomes shorter while it draws"

echo "1..$number"
[ $failures -eq 0 ]
