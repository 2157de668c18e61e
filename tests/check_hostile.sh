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

# What stands where a file is expected: a pipe that nobody writes to, a folder, a device without end, links to nothing
# and to themselves, a socket.
put() { # KIND PATH
    rm -rf "$2"
    case $1 in
    pipe) mkfifo "$2" ;;
    folder) mkdir "$2" ;;
    device) ln -s /dev/zero "$2" ;;
    nowhere) ln -s nowhere "$2" ;;
    loop) ln -s "$(basename "$2")" "$2" ;;
    socket)
        perl -MIO::Socket::UNIX -e 'IO::Socket::UNIX->new(Local => $ARGV[0], Listen => 1) or die' "$2" 2>/dev/null ||
            mkfifo "$2"
        ;;
    esac
}
# no_file PATH COMMAND...: is refused, by name, whichever of them stands there, and of pipes alone where only=pipe
no_file() {
    local path=$1 kind
    shift
    for kind in ${only:-pipe folder device nowhere loop socket}; do
        put "$kind" "$path"
        fails "$(basename "$path")" "$@"
    done
    rm -rf "$path"
}
{
    cp -r "$source/assets/teacher" model && chmod -R u+w model
    draw=("$splam" generate -m model -p 'red apple' --steps 1 -t 1 --output picture.png)
    "${draw[@]}" >out 2>&1 || cat out
    cp picture.png kept.png
    only="pipe device nowhere loop socket" # a folder is looked at
    no_file file.safetensors "$splam" inspect file.safetensors
    only=""
    no_file file.safetensors "$splam" generate -m file.safetensors -p x --output picture.png
    only="pipe socket"
    for option in lora embedding noise prompts init-img vae; do
        words=(--prompt x)
        [ $option != prompts ] || words=()
        no_file "a$option" "$splam" generate -m model "${words[@]}" "--$option" "a$option" --output picture.png
    done
    only="pipe nowhere loop"
    for part in model_index.json scheduler/scheduler_config.json unet/config.json tokenizer/vocab.json \
        tokenizer/merges.txt vae/diffusion_pytorch_model.safetensors; do
        mv "model/$part" kept.part
        no_file "model/$part" "${draw[@]}"
        mv kept.part "model/$part"
    done
    only="pipe loop"
    no_file draws "$splam" distill --teacher "$source/tests/golden/teacher-epsilon" --draws draws --output new
    no_file index.json "$splam" distill --teacher model --data latents:. --output new
    no_file shard.tar "$splam" data wds:shard.tar
    no_file all.json "$splam" data coco:all.json,.
    no_file stats.npz "$splam" score stats.npz stats.npz
    no_file inputs "$splam" forward -m model --component unet --inputs inputs --outputs outputs
    no_file places "$splam" distill --teacher "$source/tests/golden/teacher-epsilon" \
        --draws "$source/tests/golden/distill-splam/draws.safetensors" --train-batch-size 3 --skip 100 \
        --sub-paths places --output new
    mkdir pictures && cp kept.png pictures/a.png && echo 'an apple' >pictures/a.txt
    for file in b.png b.txt metadata.jsonl; do
        put pipe pictures/$file
        timeout -k 5 60 "$splam" data folder:pictures >out 2>&1 </dev/null
        [ $? -le 2 ] || echo "a pipe $file among pictures: $(tail -n 2 out)"
        rm pictures/$file
    done
    [ ! -e new ] && [ ! -e outputs ] || echo "something was written"
} >.wrong 2>&1
report "pipes, folders, devices, sockets and links that lead nowhere are no files"

# A model that another one is renamed over while it draws goes on as it was opened; one that is written over in place
# may draw anything, and ends by itself.
{
    drawn() {
        exec "$splam" generate -m model -p 'red apple' --sampler ddim --steps 100 -t 1 --output "$1" \
            >out 2>err </dev/null
    }
    unet=model/unet/diffusion_pytorch_model.safetensors
    (drawn whole.png) || cat err
    for way in rename write; do
        cp $unet other && printf 'another one' | dd of=other bs=1 seek=100000 conv=notrunc status=none
        (drawn $way.png) &
        child=$!
        for ((i = 0; i < 3000; i++)); do
            grep -qF "$unet" /proc/$child/maps 2>/dev/null && break
            kill -0 $child 2>/dev/null || break
            sleep .01
        done
        if [ $way = rename ]; then mv other $unet; else cat other >$unet; fi
        wait $child
        got=$?
        [ $got -le 1 ] || echo "$way: code $got: $(tail -n 2 err)"
    done
    cmp whole.png rename.png
    rm -rf model ./*.png
} >.wrong 2>&1
report "a model that is replaced while it draws"

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
