#!/bin/bash
# --sandbox: what is named works as without it, bit for bit, and nothing else does. check_sandbox.sh BUILD
set -u
cd "$(dirname "$0")/.." || exit 1
splam=$PWD/$1/cli/splam escaping=$PWD/$1/tests/libescaping.so
golden=$PWD/tests/golden
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export GOMP_SPINCOUNT=1000 # so that the program does not start itself again
number=0
result() { # code name
    number=$((number + 1))
    if [ "$1" -eq 0 ]; then echo "ok $number - $2"; else echo "not ok $number - $2"; fi
}

if ! "$splam" inspect "$golden/original-sd1/model.safetensors" --sandbox >/dev/null 2>"$work/said" &&
    grep -q "this kernel lacks" "$work/said"; then
    echo "1..1"
    echo "ok 1 # SKIP the kernel has no Landlock"
    exit 0
fi

# ---- what is named works ----

mkdir "$work/out" "$work/store" "$work/pictures"
plain() { "$splam" "$@" >"$work/said" 2>&1; }
boxed() { "$splam" "$@" --sandbox >"$work/said" 2>&1; }
draw=(generate -p 'red apple' --steps 1 -t 2 -m)
plain "${draw[@]}" assets/teacher -o "$work/plain.png" && boxed "${draw[@]}" assets/teacher -o "$work/out/boxed.png" &&
    cmp "$work/plain.png" "$work/out/boxed.png"
result $? "a picture has the same bits"

# As a cache of a hub's files has them: names that lead to where the bytes are.
mkdir "$work/linked" && cp -r assets/teacher "$work/linked"
find "$work/linked" -type f | while read -r file; do
    stored=$work/store/$(sha256sum "$file" | cut -c 1-16)
    mv "$file" "$stored" && ln -s "$stored" "$file"
done
boxed "${draw[@]}" "$work/linked/teacher" -o "$work/out/linked.png" && cmp "$work/plain.png" "$work/out/linked.png"
result $? "links in a model's folder are followed"

(cd "$work/out" && "$splam" "${draw[@]}" "$OLDPWD/assets/teacher" --sandbox >"$work/said" 2>&1 && [ -s out.png ])
result $? "without an output's name it lies where the program runs"

boxed convert -m "$golden/original-sd1/model.safetensors" -o "$work/out/new/folder" &&
    [ -s "$work/out/new/folder/unet/diffusion_pytorch_model.safetensors" ]
result $? "folders of the output are made"

for i in 1 2 3 4; do cp "$work/plain.png" "$work/pictures/$i.png" && echo "a cat $i" >"$work/pictures/$i.txt"; done
boxed distill --teacher assets/teacher --data "folder:$work/pictures" --resolution 64 --max-train-steps 2 \
    --train-batch-size 2 --checkpointing-steps 1 -t 2 --output "$work/out/student" &&
    boxed distill --teacher assets/teacher --data "folder:$work/pictures" --resolution 64 --max-train-steps 3 \
        --train-batch-size 2 --checkpointing-steps 1 -t 2 --output "$work/out/student" --resume latest &&
    boxed eval -m "$work/out/student" --data "folder:$work/pictures" --steps 1 --count 4 --metrics frechet,hit -t 2 \
        --output "$work/out/report"
result $? "a student is distilled, resumed and measured"

# ---- nothing else does ----

"$splam" "${draw[@]}" assets/teacher -o "$work/out/x.png" --prompts "$work/none" --sandbox >"$work/said" 2>&1
[ $? -eq 2 ]
result $? "wrong usage is told as without it"

"$splam" generate --server http://127.0.0.1:9 -p cat --sandbox >"$work/said" 2>&1
[ $? -eq 2 ] && grep -q -- "--sandbox leaves no network, which --server needs" "$work/said"
result $? "what needs the network is refused"

if ldd "$splam" | grep -q libasan; then
    echo "ok $((number + 1)) # SKIP a sanitizer comes before what is preloaded"
    number=$((number + 1))
else
    echo secret >"$work/secret"
    mkdir "$work/elsewhere"
    try() { # more flags
        ESCAPING_READ=$work/secret ESCAPING_WRITE=$work/elsewhere/made ESCAPING_SAID=3 LD_PRELOAD=$escaping \
            "$splam" "${draw[@]}" assets/teacher -o "$work/out/tried.png" "$@" 3>"$work/tried" >"$work/said" 2>&1
    }
    # EACCES of Landlock is 13, EPERM of seccomp 1; a link across folders may also be EXDEV, 18.
    try --sandbox
    code=$?
    [ $code -eq 0 ] && diff <(sed 's/^link 18$/link 13/' "$work/tried") - <<'END'
read 13
write 13
link 13
tcp 1
unix 1
signal 1
trace 1
execute 1
fork 1
END
    result $? "files that are not named, sockets, signals, processes: none"
    [ ! -e "$work/elsewhere/made" ] && cmp "$work/plain.png" "$work/out/tried.png"
    result $? "and the picture is drawn all the same"
fi
echo "1..$number"
