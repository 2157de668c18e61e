#!/bin/bash
# The program as people use it: help, and everything wrong that can be said or given to it: check_cli.sh [BUILD]
# A failure is one sentence on stderr, exit code 1 (failure), 2 (wrong usage) or 130 (interrupted), and nothing half
# written.
set -u
cd "$(dirname "$0")/.." || exit 1
splam=$PWD/${1:-build}/cli/splam
source=$PWD golden=$PWD/tests/golden
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch" || exit 1

number=0 failures=0
report() { # NAME; what is wrong with it is in the file, nothing if it holds
    local wrong
    wrong=$(cat .wrong)
    number=$((number + 1))
    if [ -n "$wrong" ]; then
        failures=$((failures + 1))
        echo "not ok $number - $1"
        sed 's/^/# /' <<<"$wrong"
    else
        echo "ok $number - $1"
    fi
}
skip() { # NAME REASON
    number=$((number + 1))
    echo "ok $number # SKIP $1: $2"
}

# one_sentence CODE PATTERN COMMAND...: what is wrong with a run that should fail so
one_sentence() {
    local code=$1 pattern=$2 got
    shift 2
    "$@" >out 2>err </dev/null
    got=$?
    [ $got -eq "$code" ] || echo "$*: code $got, expected $code"
    [ "$(grep -c '^splam: .' err)" -eq 1 ] && [ "$(tail -n 1 err | cut -c1-7)" = "splam: " ] ||
        echo "$*: not one sentence: $(cat err)"
    grep '^splam: ' err | grep -qE -e "$pattern" || echo "$*: \"$(cat err)\" does not match \"$pattern\""
    [ ! -s out ] || echo "$*: printed on stdout: $(head -c 200 out)"
    rm -f out err
}
# limited BLOCKS COMMAND...: with no file longer than this many KiB, which stands for a full disk
limited() (
    ulimit -f "$1"
    shift
    "$@"
)

# ---- help ----

verbs=$("$splam" --help | sed -n '/^Verbs:/,/^$/s/^  \([a-z]*\) .*/\1/p')
for verb in $verbs; do
    {
        "$splam" "$verb" --help >out 2>err || echo "code $?"
        cat err
        grep -q "^Usage: splam $verb" out || echo "no usage"
        examples=$(sed -n '/^Examples:/,$p' out)
        [ "$(grep -c "^  splam $verb" <<<"$examples")" -ge 2 ] || echo "fewer than two examples"
        # An example may be of another verb, and may go on in the next line.
        awk -v verb="$verb" '/^  [a-z]/{own = $1 == "splam" && $2 == verb} own' <<<"$examples" |
            grep -oE -- ' --[a-z][a-z0-9-]*' | sort -u | while read -r flag; do
                sed '/^Examples:/,$d' out | grep -qE -- "^ *(-[a-zA-Z], )?$flag( |\$)" ||
                    echo "an example has $flag, help does not"
            done
        awk 'length > 110 {print "a line of " length " characters: " $0}' out
    } >.wrong 2>&1
    report "help of $verb"
done
{
    [ "$(wc -w <<<"$verbs")" -ge 5 ] || echo "only these verbs: $verbs"
    "$splam" --version | grep -qE '^splam [0-9]+\.[0-9]+\.[0-9]+$' || echo "version: $("$splam" --version)"
} >.wrong 2>&1
report "the program's own help and version"

# ---- usage ----

{
    one_sentence 2 'verb is missing' "$splam"
    one_sentence 2 'no verb "trian"; did you mean train' "$splam" trian
    one_sentence 2 'no verb "xyzzy"; see splam --help' "$splam" xyzzy
} >.wrong 2>&1
report "no verb and wrong verbs"
{
    one_sentence 2 'no flag --widht; did you mean --width' "$splam" generate --widht 64
    one_sentence 2 'no flag --steps; did you mean --max-train-steps' "$splam" train --steps 3
    one_sentence 2 'no flag --qqqqqqqq; see splam data --help' "$splam" data emoji: --qqqqqqqq
    one_sentence 2 'no flag -Q' "$splam" data emoji: -Q
    one_sentence 2 '--help stands alone' "$splam" data --help=all
    one_sentence 2 '--model is empty' "$splam" generate -m '' -p text
    one_sentence 2 '--output is empty' "$splam" distill --teacher x --data emoji: --output=
    one_sentence 2 '--model is empty' "$splam" eval -m x '' --output x
    one_sentence 2 '--count has no effect without --sheet' "$splam" data emoji: --count 5
    one_sentence 2 '--cache-dtype has no effect without --cache' "$splam" data emoji: --cache-dtype f32
    one_sentence 2 'no flag --' "$splam" data "--$(head -c 5000 /dev/zero | tr '\0' x)"
} >.wrong 2>&1
report "unknown flags, with the nearest one"
{
    for wrong in abc "" " 5" 5x 1e3 99999999999999999999 0 -3; do
        one_sentence 2 '^splam: --max-train-steps ' \
            "$splam" train vae --data emoji: --output x --max-train-steps "$wrong"
    done
    for wrong in abc "" nan inf 2 -1; do
        one_sentence 2 '^splam: --learning-rate ' "$splam" train vae --data emoji: --output x --learning-rate "$wrong"
    done
    for wrong in abc "" " 5" +5 5x 1e3 18446744073709551616 99999999999999999999 -1 -2; do
        one_sentence 2 '--seed is ".*", a whole number from 0 to 18446744073709551615 is expected' \
            "$splam" train vae --data emoji: --output x --seed "$wrong"
    done
    one_sentence 2 'to 18446744073709551615, or -1, is expected' "$splam" generate -m x -p text -s -2
    one_sentence 2 'one of auto\|f32\|bf16 is expected' "$splam" forward --precision f16
    one_sentence 2 '--json takes no value' "$splam" bench --json=1
    one_sentence 2 '--data needs a value' "$splam" train vae --data
    one_sentence 2 'begins with - follows --' "$splam" train vae --data --output x
} >.wrong 2>&1
report "wrong values"
{
    without='^splam: --device is "cuda:0", and this splam is built without CUDA: it has cpu$'
    one_sentence 1 "$without" "$splam" train vae --data emoji: --output x --device cuda:0
    one_sentence 1 "$without" "$splam" distill --teacher x --data emoji: --output x --device cuda:0
    one_sentence 1 "$without" "$splam" generate -m x -p text --device cuda:0
    one_sentence 1 "$without" "$splam" eval --model x --data emoji: --output y --device cuda:0
    one_sentence 1 "$without" "$splam" inspect x --device cuda:0
    one_sentence 1 "$without" "$splam" convert -m x -o y --device cuda:0
    one_sentence 1 "$without" "$splam" bench --only operators --device cuda:0
    one_sentence 2 '^splam: --device is "gpu", cpu is expected$' "$splam" forward -m x --component unet --inputs x \
        --outputs y --device gpu
} >.wrong 2>&1
report "devices that are not there"
{
    one_sentence 2 'tokenize needs --model' "$splam" tokenize text
    one_sentence 2 'needs a text' "$splam" tokenize -m x
    one_sentence 2 '"b" is one word too many' "$splam" tokenize -m x a b
    one_sentence 2 'takes vae or teacher' "$splam" train student --data emoji: --output x
    one_sentence 2 'needs --vae' "$splam" train teacher --data emoji: --output x
    one_sentence 2 'needs a model' "$splam" bench --only train
    one_sentence 2 'not known' "$splam" data nonsense:
    one_sentence 1 '-x: no such file or folder' "$splam" tokenize --model -- -x text
    one_sentence 1 '-x: no such file or folder' "$splam" tokenize --model=-x -- -text
} >.wrong 2>&1
report "missing and superfluous words, and texts that begin with -"
{
    echo short >keys
    one_sentence 2 'serve needs --model or --watch' "$splam" serve
    one_sentence 2 '^splam: --listen is "7860", ADDRESS:PORT in numbers' "$splam" serve -m x --listen 7860
    one_sentence 2 '0.0.0.0:0, which others .* give --api-key-file, or --no-key' "$splam" serve -m x --listen 0.0.0.0:0
    for wrong in 'queue 3' 'lora-dir .' 'precision f32' 'log-prompts'; do
        # shellcheck disable=SC2086
        one_sentence 2 "--${wrong%% *} has no effect without --model" "$splam" serve --watch . --$wrong
    done
    one_sentence 2 '--queue-share is 5, more than --queue, 4' "$splam" serve -m x --queue 4 --queue-share 5
    one_sentence 2 '^splam: --api-key-file and --no-key exclude' "$splam" serve -m x --no-key --api-key-file keys
    one_sentence 1 'keys: line 1: a key has 16' "$splam" serve -m x --api-key-file keys
    one_sentence 1 '^splam: x: no such file or folder' "$splam" serve -m x --listen 127.0.0.1:0
    rm keys
} >.wrong 2>&1
report "a server that cannot begin"
ls >.wrong
report "wrong usage leaves nothing behind"

# ---- forward ----

forward() { # MODEL INPUTS OUTPUTS
    "$splam" forward -m "$1" --component vae-decoder --inputs "$2" --outputs "$3" --precision f32 --device cpu -t 1
}
model=$golden/vae-sd inputs=$golden/vae-sd/inputs_decode_odd.safetensors
weights=diffusion_pytorch_model.safetensors
{
    forward "$model" "$inputs" good.safetensors 2>&1
    "$splam" inspect good.safetensors 2>&1 | grep -q 'image F32 \[' || echo "the output is not there"
} >.wrong 2>&1
report "forward writes what it computes"

copy() { # a model of our own to damage
    rm -rf broken
    cp -r "$model" broken
    chmod -R u+w broken
}
{
    one_sentence 1 'nowhere: no such file or folder' forward nowhere "$inputs" out.safetensors
    echo 'a text, not a model' >text
    "$splam" inspect text | grep -q '^text: a text, ' || echo "inspect of a text"
    one_sentence 1 'nothing.safetensors' forward "$model" nothing.safetensors out.safetensors
    one_sentence 2 'one of unet\|' "$splam" forward -m "$model" --component vae --inputs a --outputs b
    copy && rm broken/$weights
    one_sentence 1 broken forward broken "$inputs" out.safetensors
    copy && rm broken/config.json
    one_sentence 1 broken forward broken "$inputs" out.safetensors
} >.wrong 2>&1
report "missing files"
{
    for bytes in 0 3 8 100 5000 100000; do
        copy && head -c $bytes "$model/$weights" >broken/$weights
        one_sentence 1 "broken/$weights" forward broken "$inputs" out.safetensors
        head -c $bytes "$inputs" >short.safetensors
        [ $bytes -gt 100 ] || one_sentence 1 short.safetensors forward "$model" short.safetensors out.safetensors
    done
} >.wrong 2>&1
report "truncated files"
{
    copy
    deep=$(head -c 100000 /dev/zero | tr '\0' '[')
    for text in '' '{' 'null' '[]' '"text"' '{"block_out_channels": "many"}' '{"block_out_channels": [-1, 2]}' \
        '{"block_out_channels": [1e999]}' '{"latent_channels": 99999999999999999999}' '{"latent_channels": 0}' \
        '{"norm_num_groups": 0}' '{"_class_name": "Transformer2DModel"}' $'{"a": "\xff\xfe"}' "$deep"; do
        printf '%s' "$text" >broken/config.json
        one_sentence 1 broken/config.json forward broken "$inputs" out.safetensors
    done
} >.wrong 2>&1
report "impossible JSON"
{
    copy
    start=$(($(od -An -t u8 -N 8 "$model/$weights") + 8))
    printf '\0\0\300\177' | dd of=broken/$weights bs=1 seek=$start conv=notrunc status=none # a NaN
    one_sentence 1 'broken.*not (a )?finite|broken.*nan' forward broken "$inputs" out.safetensors
    [ ! -e out.safetensors ] || echo "an output was written"
} >.wrong 2>&1
report "NaN in weights"
{
    start=$(($(od -An -t u8 -N 8 "$inputs") + 8))
    cp "$inputs" nan.safetensors && chmod u+w nan.safetensors
    printf '\0\0\200\177' | dd of=nan.safetensors bs=1 seek=$start conv=notrunc status=none # infinity
    one_sentence 1 'nan.safetensors' forward "$model" nan.safetensors out.safetensors
} >.wrong 2>&1
report "infinity in inputs"
{
    one_sentence 1 'timestep|latent' forward "$model" "$golden/vae-sd/inputs_encode_odd.safetensors" out.safetensors
} >.wrong 2>&1
report "inputs of another component"
{
    cp good.safetensors kept.safetensors
    one_sentence 1 'kept.safetensors' limited 1 forward "$model" "$inputs" kept.safetensors
    cmp good.safetensors kept.safetensors
    ls -d kept.safetensors.* 2>/dev/null
    "$splam" inspect good.safetensors >/dev/full 2>err && echo "a full stdout passed"
    grep -q '^splam: standard output cannot be written' err || cat err
} >.wrong 2>&1
report "a full disk keeps what there was"

# ---- the other readers ----

{
    one_sentence 1 'nowhere' "$splam" inspect nowhere
    "$splam" inspect "$source/assets/teacher/unet/diffusion_pytorch_model.safetensors" | grep -q '^unet  *7.6 M' ||
        echo "inspect of a UNet's file beside its config.json"
    "$splam" inspect "$golden" | grep -q 'golden: the folder of a tokenizer' || echo "inspect of a folder"
    copy && head -c 1000 "$model/$weights" >cut.safetensors
    one_sentence 1 'cut.safetensors' "$splam" inspect cut.safetensors
    printf '{"_class_name": ' >broken/config.json
    one_sentence 1 'broken' "$splam" inspect broken
    mkdir -p checkpoint && printf '{"step": "many"}' >checkpoint/state.json
    one_sentence 1 'checkpoint/state.json' "$splam" inspect checkpoint
    for folder in vae-sd unet-sd1 unet-sd2 text-sd1 teacher-epsilon; do
        "$splam" inspect "$golden/$folder" >out 2>&1 || cat out
        grep -q 'parameters' out && grep -qE 'generate: .* [kMG]B' out || echo "$folder: $(cat out)"
    done
} >.wrong 2>&1
report "inspect"
{
    one_sentence 1 'nowhere: no such file or folder' "$splam" tokenize -m nowhere text
    mkdir -p words
    one_sentence 1 words "$splam" tokenize -m words text
    printf '{"a": 1e999}' >words/vocab.json && printf 'a b c\n' >words/merges.txt
    one_sentence 1 words "$splam" tokenize -m words text
    "$splam" tokenize -m "$source/assets/teacher" -- "-red apple" >out 2>&1
    grep -qE '^\[[0-9]+(, [0-9]+){23}\]$' out || echo "not an array of 24 ids: $(cat out)"
    "$splam" tokenize -m "$source/assets/teacher/tokenizer" -- "-red apple" | cmp - out
} >.wrong 2>&1
report "tokenize"
{
    one_sentence 1 'nowhere' "$splam" data folder:nowhere
    mkdir -p pictures
    one_sentence 1 'pictures' "$splam" data folder:pictures
    printf '{"file_name": \n' >pictures/metadata.jsonl
    one_sentence 1 'metadata.jsonl' "$splam" data folder:pictures
    rm pictures/metadata.jsonl
    printf 'no picture' >pictures/a.png && printf 'a caption' >pictures/a.txt
    one_sentence 1 'pictures' "$splam" data folder:pictures
    one_sentence 2 'no file matches' "$splam" data 'wds:pictures/*.tar'
    one_sentence 2 'braces do not match' "$splam" data 'wds:pictures/{0.tar'
    printf 'no tar' >pictures/0.tar
    one_sentence 1 'no plain tar file' "$splam" data wds:pictures/0.tar
    one_sentence 2 'expected coco:ANNOTATIONS.json,IMAGES' "$splam" data coco:pictures
    printf '{"images": 7}' >pictures/c.json
    one_sentence 1 'c.json: expected lists' "$splam" data coco:pictures/c.json,pictures
    one_sentence 1 'nowhere is no latent cache' "$splam" data latents:nowhere
    one_sentence 2 'two ways to cut' "$splam" data folder:pictures --center-crop --random-crop
    one_sentence 2 '--max-watermark is "0"' "$splam" data folder:pictures --max-watermark 0
    one_sentence 2 '--caption-column is for sets of picture files' "$splam" data emoji: --caption-column text
    one_sentence 2 '--min-similarity is for sets of picture files' "$splam" data emoji: --min-similarity 0.3
    one_sentence 2 '--cache and --teacher go together' "$splam" data emoji: --cache new
    [ ! -e new ] || echo "a cache was begun"
} >.wrong 2>&1
report "data"
{
    one_sentence 1 'nowhere' "$splam" generate -m nowhere -p text
    one_sentence 1 'teacher-epsilon' "$splam" generate -m "$golden/teacher-epsilon" -p text
    one_sentence 2 'prompt' "$splam" generate -m "$golden/teacher-epsilon"
    one_sentence 1 'list.txt' "$splam" generate -m "$golden/teacher-epsilon" --prompts list.txt
    teacher=$source/assets/teacher
    one_sentence 2 'memory-limit is "3x", a size such as 3G' "$splam" generate -m "$teacher" -p text --memory-limit 3x
    one_sentence 2 'memory-limit' "$splam" generate -m "$teacher" -p text --memory-limit 0
    one_sentence 2 'memory-limit' "$splam" generate -m "$teacher" -p text --memory-limit G
    one_sentence 1 'limit of 2.1 MB is too small' "$splam" generate -m "$teacher" -p text --memory-limit 2Mi
    one_sentence 2 'vae-tiling' "$splam" generate -m "$teacher" -p text --vae-tiling maybe
    one_sentence 2 'strength' "$splam" generate -m "$teacher" -p text --init-img a.png --strength 0
    one_sentence 2 'no picture to start from' "$splam" generate -m "$teacher" -p text --strength 0.5
    one_sentence 1 'absent.png' "$splam" generate -m "$teacher" -p text --init-img absent.png
    one_sentence 1 'no-vae' "$splam" generate -m "$teacher" -p text --vae no-vae
    one_sentence 2 'the sampler lcm has timesteps of its own and takes no spacing' \
        "$splam" generate -m "$teacher" -p text --sampler lcm --spacing trailing
    for spacing in leading linspace trailing; do
        "$splam" generate -m "$teacher" -p text --sampler euler --steps 2 --spacing $spacing -o spaced.png \
            --show-timesteps --save-latents $spacing.safetensors 2>err || cat err
        grep -q "sampler euler, spacing $spacing, timesteps [0-9]*, [0-9]*$" err || cat err
        grep -qa "\"spacing\":\"$spacing\"" spaced.png || echo "the picture does not tell its spacing"
    done
    cmp -s leading.safetensors trailing.safetensors && echo "spacings are one"
    mkdir -p foreign
    cp -R "$teacher"/* foreign
    sed -i 's/DDIMScheduler/DEISMultistepScheduler/' foreign/scheduler/scheduler_config.json
    one_sentence 1 'class "DEISMultistepScheduler" is not supported; give a --sampler, such as' \
        "$splam" generate -m foreign -p text -o foreign.png
    "$splam" generate -m foreign -p text --sampler dpm++2m --steps 1 -o foreign.png 2>err || cat err
    one_sentence 1 'standard input: there is no prompt in it' "$splam" generate -m "$teacher" --prompts -
    one_sentence 2 'out.gif: pictures are written as .png, .jpg, .jpeg or .webp' \
        "$splam" generate -m "$teacher" -p text -o out.gif
    one_sentence 2 'quality' "$splam" generate -m "$teacher" -p text --quality 90
    one_sentence 2 'quality.*from 1 to 100' "$splam" generate -m "$teacher" -p text -o out.jpg --quality 0
    one_sentence 2 'one of png\|jpg\|webp' "$splam" generate -m "$teacher" -p text --format gif
    one_sentence 2 '2 pictures do not go to standard output' "$splam" generate -m "$teacher" -p text -b 2 -o -
    [ ! -e out.png ] || echo "a picture was written"
    printf '\357\273\277red apple\n   \ngreen apple\n' |
        "$splam" generate -m "$teacher" --prompts - --steps 1 -s 18446744073709551615 -t 1 >out 2>err || cat err
    grep -q '^red apple$' out-0.png && grep -q 'Seed: 18446744073709551615,' out-0.png &&
        grep -q 'Seed: 0,' out-1.png && [ ! -e out-2.png ] || echo "from standard input: $(ls) $(cat out err)"
    rm -f out-0.png out-1.png out-2.png
    "$splam" generate -m "$teacher" -p text --steps 2 -t 1 >out 2>err || cat err
    "$splam" generate -m "$teacher" -p text --init-img out.png --steps 2 --strength 0.5 -o again.png --memory-limit 1G \
        --timing -t 1 >out 2>err || cat err
    grep -q '^memory: .*UNet .*; peak .* of 1.00 GB$' err && grep -q 'encode' out &&
        grep -q 'Denoising strength: 0.5' again.png ||
        echo "from a picture: $(cat out err)"
    "$splam" generate -m "$teacher" -p text --steps 1 --vae "$golden/vae-tiny" -o tiny.png -t 1 >out 2>err || cat err
    rm -f out.png again.png tiny.png
} >.wrong 2>&1
report "generate"
draw() { "$splam" generate -m "$source/assets/teacher" -p text --steps 1 -t 1 "$@"; }
{
    draw -o file.webp 2>err || cat err
    draw -o - --format webp --timing >piped 2>err || cat err
    cmp file.webp piped # the bytes alone; what is said goes to stderr
    grep -q '^load ' err && [ ! -e ./- ] || echo "not said on stderr: $(ls) $(cat err)"
    draw -o - >/dev/full 2>err && echo "a full stdout passed"
    grep -q '^splam: standard output cannot be written' err && ! grep -q denoising err || cat err
    draw -o - >&- 2>err && echo "a closed stdout passed"
    grep -q '^splam: standard output cannot be written' err && ! grep -q denoising err || cat err
    # A file must not get the number of a stream that is closed: the seed would be written into it.
    draw -o closed.png -s -1 >&- 2>err && echo "a closed stdout passed that a seed is printed to"
    draw -o closed.png >&- 2>err || echo "nothing is printed, yet a closed stdout failed: $(cat err)"
    draw -o bare --format jpg >out 2>err && [ -e bare.jpg ] || cat err
    grep -q '^bare has no suffix, and pictures are written as bare.jpg$' err || cat err
    draw -o pictures.d/ -b 2 >out 2>err && [ -e pictures.d/out-1.png ] || cat err
    if command -v script >/dev/null; then
        script -qec "'$splam' generate -m '$source/assets/teacher' -p text --steps 1 -o -" /dev/null </dev/null >out
        grep -q 'splam: a picture is not written to a terminal' out || cat out
    fi
    rm -rf file.webp piped closed.png bare.jpg pictures.d
} >.wrong 2>&1
report "pictures by format, and to standard output"
{
    one_sentence 1 'nowhere' "$splam" distill --teacher nowhere --data emoji: --output new
    one_sentence 2 'distill needs --teacher' "$splam" distill --data emoji: --output new
    one_sentence 2 'skip' "$splam" distill --teacher "$source/assets/teacher" --data emoji: --output new --skip 99999
    for wrong in 'gamma-power 2 --objective lcm' 'gamma-conditioning time --objective pcm' 'phases 3 --objective tcd' \
        'skip 10 --objective progressive' 'rounds 2' 'cond-proj-init zero --gamma-conditioning time' \
        'rounds 5 --objective progressive' 'num-ddim-timesteps 50 --objective progressive' \
        'fake-score-steps 2' 'student-steps 4 --objective lcm' 'skip 20 --objective dmd' \
        'guidance-range 8:2' 'guidance-range 1:8' 'guidance-range 1:8 --objective tcd' \
        'guidance-scale-w 3 --objective lcm --guidance-range 1:8' 'cond-proj-init zero --objective lcm' \
        'gan-weight 0.001' 'gan-fake-score-weight 0.01 --objective dmd' 'huber-c 0.1 --loss-type l2' \
        'huber-c 0.1 --objective progressive' 'huber-c 0.1 --objective dmd' 'lora-alpha 4' 'keep best' \
        'solver-steps 2 --objective dmd' 'loss-type l2 --objective dmd'; do
        # shellcheck disable=SC2086
        one_sentence 2 "--${wrong%% *}" "$splam" distill --teacher "$source/assets/teacher" --data emoji: --output new \
            --max-train-steps 4 --$wrong
    done
    one_sentence 1 '--guidance-range tells the student.*--lora-rank' "$splam" distill \
        --teacher "$source/assets/teacher" --data emoji: --output new --objective lcm --guidance-range 1:8 --lora-rank 2
    one_sentence 2 '--resolution is 65, expected a multiple of 4' "$splam" distill \
        --teacher "$source/assets/teacher" --data emoji: --output new --resolution 65
    one_sentence 1 'nowhere' "$splam" convert -m nowhere -o new
    one_sentence 2 '--guidance has no effect without --fold-guidance' \
        "$splam" convert -m "$source/assets/teacher" -o new --guidance 3
    one_sentence 2 '--threads is of this process' "$splam" generate --server http://127.0.0.1:1 -p text -t 1
    one_sentence 2 '--old-grid is for the sampler lcm, and this is ddim' \
        "$splam" generate -m "$source/assets/teacher" -p text --old-grid --sampler ddim
    one_sentence 2 '--size has "64"' "$splam" convert -m "$source/assets/teacher" -o new --packed --size 64
    one_sentence 2 'multiple of 4' "$splam" convert -m "$source/assets/teacher" -o new --packed --size 65x64
    [ ! -e new ] || echo "convert left a model whose size was refused"
    one_sentence 2 'one of f32\|f16\|bf16' "$splam" convert -m "$source/assets/teacher" -o new --dtype f8
    one_sentence 1 'nowhere' "$splam" eval -m nowhere --data emoji: --output new
    one_sentence 2 'no metric "beauty"' \
        "$splam" eval -m "$source/assets/teacher" --data emoji: --output new --metrics beauty
    one_sentence 2 'inception is missing: .*pt_inception-2015-12-05-6726825d.pth' \
        "$splam" eval -m "$source/assets/teacher" --data emoji: --output new --metrics fid
    for wrong in 'inception x' 'kid-subsets 3' 'bootstrap 100' 'convention clean' 'clip-prefix x' 'real x'; do
        # shellcheck disable=SC2086
        one_sentence 2 "--${wrong%% *}.* among --metrics" "$splam" eval -m "$source/assets/teacher" --data emoji: \
            --output new --metrics hit --$wrong
    done
    one_sentence 2 'data is missing' "$splam" eval -m "$source/assets/teacher" --output new
    one_sentence 2 'coco2014-30k\|coco2017-5k\|laion' \
        "$splam" eval -m "$source/assets/teacher" --data emoji: --output new --protocol coco
    one_sentence 2 'captions is missing: coco2017-5k draws .*captions_val2017.json' \
        "$splam" eval -m "$source/assets/teacher" --output new --protocol coco2017-5k
    [ ! -e new/unet ] && [ ! -e new/report.json ] || echo "something was written: $(ls new)"
} >.wrong 2>&1
report "distill, convert and eval"
{
    mkdir hollow
    printf 'PK\003\004' >short.npz
    one_sentence 2 'needs a folder' "$splam" score
    one_sentence 1 'nowhere: no such file' "$splam" score nowhere nowhere
    one_sentence 2 'one word too many' "$splam" score a b c
    one_sentence 2 'metric "lpips" is not known.*fid, fid_infinity, kid' "$splam" score a b --metrics lpips
    one_sentence 2 'compares two sets' "$splam" score a --metrics fid
    one_sentence 2 'prdc compares two sets' "$splam" score a --metrics is,prdc
    one_sentence 2 'bootstrap is for fid, prdc, ' "$splam" score a --metrics is --bootstrap 100
    one_sentence 2 'kid-seed is for kid, and none' "$splam" score a --metrics is --kid-seed 1
    one_sentence 2 'captions is for clip' "$splam" score a --metrics is --captions lines.txt
    one_sentence 2 'captions is missing: clip compares' "$splam" score a --metrics clip,hps
    one_sentence 1 'lines.txt' "$splam" score a --metrics pickscore --captions lines.txt
    one_sentence 2 'nothing is asked for' "$splam" score a
    one_sentence 1 'holds 0 pictures' "$splam" score hollow hollow
    one_sentence 1 'short.npz' "$splam" score short.npz short.npz
    one_sentence 2 'clean\|pytorch' "$splam" score a b --convention keras
    one_sentence 1 'hollow: holds 0 pictures' "$splam" score emoji: hollow
    one_sentence 1 'nowhere' "$splam" score folder:nowhere hollow
    rm -r hollow short.npz
} >.wrong 2>&1
report "score"
{
    # what is no model is named, by every verb that takes one
    printf 'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n' >pointer.ckpt
    lora=$golden/distill-lora/start.safetensors
    for model in pointer.ckpt "$lora"; do
        what="$model: is a LoRA, expected a Stable Diffusion 1.x, 2.x, XL or 3 model"
        [ "$model" = "$lora" ] || what="$model: is a Git LFS pointer"
        one_sentence 1 "$what" "$splam" generate -m "$model" -p text -o new.png
        one_sentence 1 "$what" "$splam" tokenize -m "$model" text
        one_sentence 1 "$what" "$splam" convert -m "$model" -o new
        one_sentence 1 "$what" "$splam" distill --teacher "$model" --data emoji: --output new
        one_sentence 1 "$what" "$splam" eval -m "$model" --data emoji: --output new
    done
    one_sentence 1 'pointer.ckpt: is a Git LFS pointer' "$splam" bench -m pointer.ckpt
    one_sentence 1 'is a LoRA, expected a vae' \
        "$splam" forward -m "$lora" --component vae-decoder --inputs "$inputs" --outputs y
    "$splam" inspect pointer.ckpt | grep -q 'pointer.ckpt: a Git LFS pointer' || echo "inspect of a pointer"
    "$splam" inspect "$lora" | grep -q '  a LoRA: 129 adapters for the unet' || "$splam" inspect "$lora"
    "$splam" inspect "$golden/text-sd1" >/dev/null || echo "inspect of a text encoder"
    [ ! -e new/unet ] || echo "something was written"
    rm -rf pointer.ckpt new new.png out err
} >.wrong 2>&1
report "what is no model"
merge() { # LORA
    "$splam" convert -m "$golden/teacher-epsilon" -o merged --merge-lora "$1"
}
{
    # a colon in a name, with a weight and without; what is there decides
    touch a:b.safetensors c.safetensors
    for lora in a:b.safetensors a:b.safetensors:0.5 c.safetensors:1e-1; do
        one_sentence 1 "^splam: ${lora%:[0-9]*}: " merge $lora
    done
    one_sentence 1 '^splam: x:y.safetensors: cannot open: No such file' merge x:y.safetensors
    one_sentence 2 '"c.safetensors:0,7" is no LoRA: ' merge c.safetensors:0,7
    one_sentence 2 '"c.safetensors:" is no LoRA: ' merge c.safetensors:
    one_sentence 2 '"c.safetensors:inf" is no LoRA: ' merge c.safetensors:inf
    mkdir loras
    one_sentence 1 '^splam: loras: is a folder with no LoRA' merge loras:0.7
    "$splam" convert -m "$golden/teacher-epsilon" -o merged \
        --merge-lora "$golden/distill-lora/start.safetensors" >out 2>err || cat err
    grep -q 'start.safetensors: 129 adapters applied to the unet' err || cat err
    rm -rf a:b.safetensors c.safetensors loras merged out err
} >.wrong 2>&1
report "names of LoRA files"
learn() { # EMBEDDING...
    "$splam" generate -m "$source/assets/teacher" -p "a toy" --steps 1 -o new.png --embedding "$@"
}
{
    # one vector of 128 numbers; a colon in a name, with a token and without
    head='{"emb_params":{"dtype":"F32","shape":[1,128],"data_offsets":[0,512]}}'
    {
        printf '%b\0\0\0\0\0\0\0%s' "\\x$(printf %x ${#head})" "$head"
        head -c 512 /dev/zero
    } >toy.safetensors
    cp toy.safetensors a:b.safetensors
    for embedding in toy.safetensors a:b.safetensors:toy toy.safetensors:TOY ./toy.safetensors; do
        learn "$embedding" >out 2>err || cat err
        grep -qi ': "toy" stands for 1 vector$' err || cat err
        grep -q warning err && cat err
    done
    learn a:b.safetensors toy.safetensors >out 2>err || cat err
    grep -q 'warning: no prompt has "a:b", the token of a:b.safetensors' err || cat err
    learn toy.safetensors -n dog --guidance 1 >out 2>err || cat err
    grep -q 'warning: the negative prompt is left out' err || cat err
    one_sentence 1 '^splam: x.pt: ' learn x.pt:toy
    one_sentence 1 '^splam: x:y.pt: ' learn x:y.pt:toy
    one_sentence 2 'the tokenizer has the token "toy" already' learn toy.safetensors a:b.safetensors:toy
    one_sentence 2 'toy.safetensors: "" is no token' learn toy.safetensors:
    one_sentence 1 'half.bin: its vectors have 8 numbers, and the text encoder takes 128' \
        learn "$golden/prompts/embeddings/half.bin"
    one_sentence 1 'is a LoRA, and an embedding \(textual inversion\) was expected' \
        learn "$golden/distill-lora/start.safetensors"
    "$splam" inspect toy.safetensors | grep -q 'an embedding (textual inversion): "toy", 1 vector of 128' ||
        "$splam" inspect toy.safetensors
    one_sentence 2 'prompt-syntax is "a1111", one of plain|weighted' learn toy.safetensors --prompt-syntax a1111
    one_sentence 2 'the prompt "\(a:1.2.3\)": a weight is "1.2.3"' \
        "$splam" generate -m "$source/assets/teacher" --prompt-syntax weighted -p '(a:1.2.3)'
    learn toy.safetensors --prompt-syntax weighted -p "$(printf '(toy:1.3), a cat, %.0s' $(seq 40))" -n '[dog]' \
        -g 3 >out 2>err || cat err
    grep -q warning err && cat err
    grep -aq 'Emphasis: No norm' new.png || echo "no emphasis"
    rm -f toy.safetensors a:b.safetensors new.png out err
} >.wrong 2>&1
report "learned tokens and weighted prompts"
{
    "$splam" bench --support | grep -q '^conv2d ' || echo "support: $("$splam" bench --support | head -n 3)"
    "$splam" bench -m "$golden/teacher-epsilon" --only train --json -t 1 >out 2>err || cat err
    grep -qE '"distill_step_seconds": [0-9.e-]+' out &&
        grep -qE '"unet_forward_backward_seconds": [0-9.e-]+' out || cat out
    one_sentence 2 'operator' "$splam" bench --operator nonsense
    # Binding threads leaves their number as it is.
    for binding in OMP_PROC_BIND=false 'OMP_PROC_BIND=close OMP_PLACES=cores' OMP_PLACES=threads; do
        env $binding "$splam" bench -m "$golden/teacher-epsilon" --only train --part unet_forward --json 2>err |
            grep '"threads"'
    done | sort -u >out
    [ "$(wc -l <out)" = 1 ] || { echo "numbers of threads, bound and not:"; cat out; }
    one_sentence 2 'needs a model' "$splam" bench --part unet_forward
    one_sentence 2 'threads-model.* needs a model' "$splam" bench --threads-model 4
    one_sentence 2 'threads-model' "$splam" bench --threads-model 4 -m "$golden/teacher-epsilon" --support
    "$splam" bench -m "$golden/teacher-epsilon" --threads-model 4 --only train >out 2>err || cat err
    grep -q '^  step .* s on one thread, .* s on 4' out && grep -q '^step  *update of weights ' out || cat out
    "$splam" bench -m "$source/assets/teacher" --part generate --json -t 1 >out 2>err || cat err
    for key in generate_seconds generate_stage_seconds load text denoise decode write runs; do
        grep -q "\"$key\": " out || echo "no $key in the report: $(cat out)"
    done
    ! grep -q unet_forward_seconds out || echo "more than the part asked for"
    SPLAM_PROFILE=shapes "$splam" bench -m "$source/assets/teacher" --part vae_decode -t 1 >out 2>err || cat err
    grep -q '^profile of vae: ' err && grep -qE '^conv2d .* [0-9]+%  \[1,16,16,' err || cat err
    "$splam" generate -m "$source/assets/teacher" -p text --steps 1 --sampler lcm -t 1 --timing >out 2>err || cat err
    seconds='[0-9.]+'
    grep -qE "^load $seconds, text $seconds, denoise $seconds, decode $seconds, write $seconds, total $seconds s$" \
        out || cat out
    rm -f out.png
    one_sentence 1 nowhere "$splam" bench -m nowhere --only generate
} >.wrong 2>&1
report "bench"

# ---- little memory ----

# What a library asks for before main or in the middle of its work must not hang or kill the program.
if ldd "$splam" | grep -q libasan; then
    skip "little memory ends in a sentence" "AddressSanitizer's addresses are beyond any limit"
else
    {
        for kilobytes in 200000 215000 240000 300000 400000 600000; do
            for isa in baseline avx512_bf16; do
                for arguments in "--version" "--help" "generate --help" \
                    "generate -m $source/assets/teacher -p cat --steps 1 -t 2 -o little.png"; do
                    # shellcheck disable=SC2086
                    (
                        ulimit -c 0
                        ulimit -v $kilobytes
                        SPLAM_MAX_ISA=$isa exec timeout -s KILL 100 "$splam" $arguments
                    ) >out 2>err </dev/null
                    got=$?
                    case $got:$arguments in
                    0:*) ;;
                    1:generate*-p*)
                        tail -n 1 err | grep -q '^splam: .*out of memory' || echo "$kilobytes KB, $isa: $(cat err)"
                        ;;
                    *) echo "$kilobytes KB, $isa, $arguments: code $got: $(cat err)" ;;
                    esac
                done
            done
        done
        rm -f little.png out err
    } >.wrong 2>&1
    report "little memory ends in a sentence"
fi

# ---- training: it needs pictures, and those of emoji come with a package ----

train() { "$splam" train vae --data emoji: --output trained --train-batch-size 1 -t 1 "$@"; }
if ! "$splam" data emoji: >/dev/null 2>&1; then
    skip "train on a full disk" "emoji: cannot be opened here"
    skip "train, interrupted" "emoji: cannot be opened here"
else
    {
        one_sentence 1 trained limited 4 train --max-train-steps 1
        [ ! -e trained/vae ] && ! ls -d trained/checkpoint-* 2>/dev/null || echo "something half written is there"
    } >.wrong 2>&1
    report "train on a full disk"
    {
        rm -rf trained
        "$splam" train vae --data emoji: --output trained --train-batch-size 1 -t 1 --max-train-steps 1000000 \
            --seed 7 2>said &
        child=$!
        for _ in $(seq 600); do
            [ -s trained/metrics.jsonl ] && break
            sleep 0.1
        done
        one_sentence 1 "trained: another run, process $child, is writing there" train --max-train-steps 1
        kill -INT $child
        wait $child
        code=$?
        [ $code -eq 130 ] || echo "code $code, expected 130"
        tail -n 1 said | grep -q '^splam: interrupted after step .* --resume latest$' || cat said
        step=$(tail -n 1 trained/metrics.jsonl | sed 's/.*"step":\([0-9]*\).*/\1/')
        "$splam" inspect "trained/checkpoint-$step" 2>&1 | grep -q "after $step steps" ||
            echo "no checkpoint of step $step: $(ls trained)"
        one_sentence 2 'learning-rate' train --max-train-steps 1000000 --seed 7 --resume latest --learning-rate 0.5
    } >.wrong 2>&1
    report "train, interrupted, and resumed with another flag"
fi

# ---- outputs: what cannot be written is found before the work, and two runs do not write to one place ----

# refused PATTERN COMMAND...: one sentence at once, with nothing said before it and nothing left behind
refused() {
    local pattern=$1 before after
    shift
    rm -f out err
    before=$(find . | sort)
    "$@" >out 2>err </dev/null
    [ $? -eq 1 ] && [ "$(wc -l <err)" -eq 1 ] && grep -qE -e "^splam: .*$pattern" err || echo "$*: $(cat err)"
    rm -f out err
    after=$(find . | sort)
    [ "$before" = "$after" ] || echo "$*: left behind: $(diff <(echo "$before") <(echo "$after"))"
}
teacher=$source/assets/teacher
forward_to() { forward "$model" "$inputs" "$1"; }
single() { "$splam" convert -m "$teacher" --single-file -o "$1"; }
convert() { "$splam" convert -m "$teacher" -o "$1"; }
sheet() { "$splam" data emoji: --sheet "$1"; }
cache() { "$splam" data emoji: --teacher "$teacher" --cache "$1"; }
distill() { "$splam" distill --teacher "$teacher" --data emoji: --output "$1" -t 1; }
adapters() { "$splam" distill --teacher "$teacher" --data emoji: --output "$1" --lora-rank 4 -t 1; }
trace() { "$splam" distill --teacher "$teacher" --data emoji: --output student --trace "$1" -t 1; }
train_vae() { "$splam" train vae --data emoji: --output "$1" -t 1; }
train_teacher() { "$splam" train teacher --data emoji: --vae "$teacher" --output "$1" -t 1; }
evaluate() { "$splam" eval -m "$teacher" --data emoji: --output "$1" -t 1; }
show() { "$splam" demo --output "$1" -t 1; }
latents() { "$splam" generate -m "$teacher" -p text -o drawn.png --save-latents "$1" -t 1; }
draw_to() { draw -o "$1"; }
{
    echo text >file
    mkdir -p folder/in
    for verb in forward_to trace latents; do # to files
        refused 'folder: .*it is a folder' $verb folder
    done
    for verb in forward_to sheet trace latents draw_to single; do
        case $verb in draw_to | sheet) name=x.webp ;; *) name=x.safetensors ;; esac
        refused file $verb file/$name
        refused file $verb file/new/$name
        refused /proc $verb /proc/$name
    done
    mkdir -p folder/x.png
    refused 'folder/x.png: .*it is a folder' sheet folder/x.png
    for verb in convert cache distill adapters train_vae train_teacher evaluate show; do # to folders
        refused file $verb file
        refused file $verb file/new
        refused /proc $verb /proc/new
    done
    mkdir -p taken/{report.html,splam.json,vae/config.json,index.json,metrics.jsonl}
    for verb in cache distill adapters train_vae train_teacher evaluate; do # a folder where a file should be
        refused 'taken/.*it is a folder' $verb taken
    done
    mkdir -p demo && echo text >demo/student
    refused demo/student show demo
    one_sentence 2 'x.gif: pictures are written as .png, .jpg, .jpeg or .webp, not as' sheet x.gif
    one_sentence 2 'without a suffix' sheet x
    for verb in forward_to latents trace single cache convert train_vae; do
        one_sentence 2 'not written to standard output|must end in .safetensors' $verb -
    done
    ls ./-* 2>/dev/null
} >.wrong 2>&1
report "what cannot be written is refused at the start"
{
    for verb in "inspect $teacher" "tokenize -m $teacher text" "bench --support" "data emoji:" \
        "eval -m $teacher --data emoji: --output new" "demo --output new"; do
        for stream in /dev/full closed; do
            # shellcheck disable=SC2086
            if [ $stream = closed ]; then "$splam" $verb >&- 2>err; else "$splam" $verb >$stream 2>err; fi
            [ $? -eq 1 ] && [ "$(wc -l <err)" -eq 1 ] && grep -q '^splam: standard output cannot be written' err ||
                echo "$verb to $stream: $(cat err)"
        done
    done
    "$splam" --help >/dev/full 2>err && echo "help to a full stdout passed"
    "$splam" tokenize --help >&- 2>err && echo "help to a closed stdout passed"
    [ ! -e new ] || echo "something was begun"
} >.wrong 2>&1
report "a standard output that takes nothing is refused at the start"
{
    mkdir held
    touch held/x.png.lock held/x.safetensors.lock
    for lock in held held/x.png.lock held/x.safetensors.lock; do
        exec {fd}<$lock
        flock -n $fd || echo "$lock could not be locked"
    done
    for verb in convert cache distill adapters train_vae train_teacher evaluate show; do
        refused "held: another run, process [0-9]+, is writing there" $verb held
    done
    for verb in forward_to trace latents single draw_to sheet; do
        case $verb in draw_to | sheet) name=x.png ;; *) name=x.safetensors ;; esac
        refused "held/$name: another run, process [0-9]+, is writing there" $verb held/$name
    done
    # A run that was killed leaves the lock's file, and it is nobody's.
    touch left.png.lock
    draw -o left.png 2>err || cat err
    [ ! -e left.png.lock ] || echo "the lock is still there"
    rm -rf held left.png
} >.wrong 2>&1
report "a second run to the same output ends at once"

echo "1..$number"
[ $failures -eq 0 ]
