#!/bin/bash
# Every flag of every verb runs once and succeeds: check_flags.sh BUILD. A flag that the program lists and no run here
# gives is a failure, so a new one needs a run. Prints TAP.
set -u
cd "$(dirname "$0")/.." || exit 1
splam=$PWD/$1/cli/splam tests=$PWD/$1/tests
teacher=$PWD/assets/teacher golden=$PWD/tests/golden
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
: >wrong
: >given

# Where the kernel has it, --sandbox too: what is named on a command line is all that the run needs.
boxes=--sandbox
"$splam" inspect "$teacher" --sandbox >log 2>&1 || { grep -q 'this kernel lacks' log && boxes=; }

# run VERB WORDS... : must succeed; its flags count as run
run() {
    local verb=$1 word code box=$boxes
    case " $* " in *' --server '* | *' --packed '*) box= ;; esac # the network; and beside the model that is read
    # shellcheck disable=SC2086
    "$splam" "$@" $box >log 2>&1 </dev/null
    code=$?
    if [ $code -ne 0 ]; then
        echo "splam $*: code $code: $(tail -n 1 log)" >>wrong
        return
    fi
    shift
    # shellcheck disable=SC2086
    for word in "$@" $box; do
        case $word in --*) echo "$verb ${word%%=*}" >>given ;; esac
    done
}
# serve WORDS... : the same of a server, which listens and ends when it is told to
serve() {
    local server code word where="--listen 127.0.0.1:0"
    case " $* " in *' --unix '*) where= ;; esac
    # shellcheck disable=SC2086
    "$splam" serve $where "$@" >log 2>&1 </dev/null &
    server=$!
    for _ in $(seq 600); do
        grep -q '^listening at ' log && break
        kill -0 $server 2>/dev/null || break
        sleep .1
    done
    kill -TERM $server
    wait $server
    code=$?
    [ $code -eq 0 ] && grep -q '^listening at ' log || echo "splam serve $*: code $code: $(tail -n 1 log)" >>wrong
    for word in $where "$@"; do
        case $word in --*) echo "serve ${word%%=*}" >>given ;; esac
    done
}
number=0 failures=0
# report NAME: the check holds if nothing was wrong
report() {
    number=$((number + 1))
    if [ -s wrong ] || [ ! -e wrong ]; then
        failures=$((failures + 1))
        echo "not ok $number - $1"
        sed 's/^/# /' wrong
    else
        echo "ok $number - $1"
    fi
    : >wrong
}
echo 1..13

# ---- pictures, and a data set of them ----

run generate --model "$teacher" --prompt "red apple" --negative blue --steps 2 --sampler dpm++2m --sigmas karras \
    --spacing trailing --show-timesteps --guidance 3 --seed 4 --count 2 --width 64 --height 64 --rng torch \
    --precision f32 --device cpu \
    --clip-skip 1 --vae "$teacher" --vae-tiling off --memory-limit 2G --unet unet --prediction-type v_prediction \
    --base "$teacher" \
    --output a.jpg --format jpg --quality 80 --save-latents latents.safetensors --timing --threads 2
printf 'red apple\nblue heart\n' >prompts.txt
mkdir -p pictures
run generate -m "$teacher" --prompts prompts.txt --sampler lcm --old-grid --steps 2 --output pictures/p.png
run generate -m "$teacher" -p "red apple" --sampler tcd --eta 0.5 --steps 2 --init-img a-0.jpg --strength 0.5 -o b.png
for caption in 'red apple' 'blue heart'; do
    printf '{"caption": "%s", "other": "%s", "aesthetic": 6, "pwatermark": 0.1, "similarity": 0.4}\n' \
    "$caption" "$caption"
done | {
    i=0
    while read -r line; do
        echo "$line" >pictures/p-$i.json
        i=$((i + 1))
    done
}
small=(--resolution 64 --min-size 32 --min-aesthetic 5 --max-watermark 0.5 --min-similarity 0.3 --caption-column other)
run data folder:pictures --sheet sheet.png --count 2 --seed 1 "${small[@]}" --random-crop --random-flip --threads 1
run data folder:pictures --center-crop --cache cache --teacher "$teacher" --cache-dtype f32 --precision f32 \
    --device cpu \
    --resolution 64 --min-size 32
report "pictures and data"

# ---- students ----

quick=(--max-train-steps 1 --train-batch-size 2 --checkpointing-steps 0 --threads 2)
run distill --teacher "$teacher" --data folder:pictures --output student --objective splam \
    --gradient-accumulation-steps 2 \
    --learning-rate 1e-5 --lr-scheduler constant_with_warmup --lr-warmup-steps 2 --optimizer adamw8bit \
    --loss-type huber --huber-c 0.001 --ema-decay 0.9 --guidance-scale-w 3 \
    --num-ddim-timesteps 50 --skip 20 --solver-steps 1 --sigma linear --gamma-conditioning time \
    --gamma-one-probability 0.1 --gamma-power 2 "${small[@]}" --random-crop --random-flip --mixed-precision no \
    --device cpu --gradient-checkpointing --memory-limit 4G --checkpoints-total-limit 1 --validation-steps 1 --seed 3 \
    --validation-metrics trajectory-error --validation-prompts 1 --keep best \
    --trace trace.safetensors --prediction-type v_prediction "${quick[@]}"
run distill --teacher "$teacher" --data folder:pictures --center-crop --resolution 64 --min-size 32 --output student2 \
    --gamma-conditioning embedding --cond-proj-init random --gamma-grid 4 --loss-weighting min-snr --snr-gamma 4 \
    "${quick[@]}"
run distill --teacher "$teacher" --data latents:cache --output ranged --objective lcm --guidance-range 2:6 \
    --cond-proj-init random --validation-steps 1 --validation-metrics trajectory-error --validation-prompts 1 \
    --sub-paths sub-paths "${quick[@]}"
run distill --teacher "$teacher" --data latents:cache --output lora --objective lcm --lora-rank 2 --lora-alpha 4 \
    --lora-targets attention --lora-merged "${quick[@]}"
run distill --teacher "$teacher" --data latents:cache --output lora2 --objective lcm --lora-rank 2 \
    --lora-targets attention \
    --lora-start "$(find lora -name pytorch_lora_weights.safetensors | head -n 1)" "${quick[@]}"
run distill --teacher "$teacher" --data latents:cache --output pcm --objective pcm --phases 4 --skip 40:10 \
    --target-ema-decay half-life:100 --loss-weighting inverse-length \
    --dry-run "${quick[@]}"
run distill --teacher "$teacher" --data latents:cache --output halves --objective progressive --rounds 1 "${quick[@]}"
run distill --teacher "$teacher" --data folder:pictures --resolution 64 --min-size 32 --output student2 \
    --resume latest \
    --gamma-conditioning embedding --cond-proj-init random --gamma-grid 4 --loss-weighting min-snr --snr-gamma 4 \
    --max-train-steps 2 --train-batch-size 2
run distill --teacher "$teacher" --data latents:cache --output further --objective lcm --student-start student2 \
    "${quick[@]}"
run distill --teacher "$teacher" --data latents:cache --output matched --objective dmd --student-steps 2 \
    --fake-score-steps 1 --gan-weight 0.001 --gan-fake-score-weight 0.02 --validation-steps 1 "${quick[@]}"
report "students"

run distill --teacher "$golden/teacher-epsilon" --draws "$golden/distill-splam/draws.safetensors" --output drawn \
    --max-train-steps 1 --train-batch-size "$(grep -o '"train-batch-size": *[0-9]*' "$golden/distill-splam/case.json" |
        grep -o '[0-9]*$')" --mixed-precision no
report "a student of recorded draws"

run distill --teacher "$golden/sd3" --data folder:pictures --resolution 64 --min-size 32 --output flowing \
    --timestep-sampling logit-normal --t5-absent 77 "${quick[@]}"
run generate -m flowing -p red --unet transformer_ema -W 64 -H 64 --t5-absent 256 -o flowing.png
run generate -m "$golden/sd3" -p red -W 64 -H 64 --steps 3 -g 4 --skip-layers 1,2 --skip-layer-scale 2 \
    --skip-layer-start .2 --skip-layer-stop 1 --weights q8 -o guided.png
run distill --teacher "$golden/sd3" --data folder:pictures --resolution 64 --output three --t5 "$golden/t5" \
    "${quick[@]}"
run generate -m three -p red -W 64 -H 64 --t5 "$golden/t5" -o three.png
run data folder:pictures --cache cache3 --teacher "$golden/sd3" --resolution 64 --t5 "$golden/t5"
run eval --model three --data folder:pictures --output report6 --metrics frechet --steps 1 --count 2 \
    --resolution 64 --t5 "$golden/t5" --weights q8
run data folder:pictures --cache cache77 --teacher "$golden/sd3" --resolution 64 --t5-absent 77
run eval --model flowing --data folder:pictures --output report77 --metrics frechet --steps 1 --count 2 \
    --resolution 64 --t5-absent 77
report "a student of a flow teacher"

adapter=$(find lora -name pytorch_lora_weights.safetensors | head -n 1)
run convert --model student2 --output plain --dtype f16 --fold-guidance --device cpu
run convert --model ranged --output plain3 --fold-guidance --guidance 3
run convert --model "$teacher" --output merged --merge-lora "$adapter:0.5"
run convert --model "$golden/original-sd1/model.safetensors" --output again --prediction-type epsilon
run convert --model "$golden/original-sd1/model.safetensors" --base again --output again2
run convert --model again --output one.safetensors --single-file --unet unet
run convert --model merged --packed --size 64x64 96x64 --precision f32 --threads 1
report "other forms"

# one vector of 128 numbers for the token toy
head='{"emb_params":{"dtype":"F32","shape":[1,128],"data_offsets":[0,512]}}'
{
    printf '%b\0\0\0\0\0\0\0%s' "\\x$(printf %x ${#head})" "$head"
    head -c 512 /dev/zero
} >toy.safetensors
run generate -m "$teacher" -p "(red:1.3) toy" --steps 1 -o lora.png \
    --lora "$adapter:0.5" --prompt-syntax weighted --embedding toy.safetensors
report "adapters"

echo 0123456789abcdef >keys
mkdir saved loras && cp "$adapter" loras && mkdir tokens && cp toy.safetensors tokens
serve --model "$teacher" --base "$teacher" --unet unet --prediction-type v_prediction --vae "$teacher" \
    --lora "$adapter:0.5" --embedding toy.safetensors --precision f32 --device cpu --host pictures.example \
    --lora-dir loras --embedding-dir tokens --output-dir saved --api-key-file keys --queue 2 \
    --queue-share 1 --deadline 60 --memory-limit 2G --stop-seconds 1 --log-prompts --threads 1
serve -m "$teacher" --no-key
serve -m "$golden/sd3" --t5-absent 77 --weights q8
serve -m "$golden/sd3" --t5 "$golden/t5"
"$tests/write_certificate" cert.pem key.pem
serve -m "$teacher" --tls-cert cert.pem --tls-key key.pem
"$splam" serve --model "$teacher" --listen 127.0.0.1:0 --tls-cert cert.pem --tls-key key.pem >log 2>&1 </dev/null &
server=$!
for _ in $(seq 600); do grep -q '^listening at ' log && break; sleep .1; done
url=$(sed -n 's/^listening at //p' log)
run generate --server "$url" --server-ca cert.pem -p toy --steps 1 -o asked-over-tls.png
kill -TERM $server
wait $server
serve -m "$teacher" --unix socket
serve -m "$teacher" --watch out nowhere
"$splam" serve --model "$teacher" --unix there --api-key-file keys >log 2>&1 </dev/null &
server=$!
for _ in $(seq 600); do grep -q '^listening at ' log && break; sleep .1; done
run generate --server "unix:$PWD/there" --api-key-file keys -p toy --steps 1 -o asked.png
kill -TERM $server
wait $server
report "a server"

run eval --model "$teacher" student --data folder:pictures --caption-column other --output report \
    --metrics frechet,hit \
    --steps 1 --count 2 --seed 2 --precision f32 --device cpu --threads 2 --resolution 64 --unet unet --sampler ddim
run eval --model student --teacher "$teacher" --guidance-scale-w 3 --data folder:pictures --output report2 --steps 1 \
    --count 2 --metrics trajectory-error --resolution 64
report "measures"

mkdir large
run generate -m "$teacher" -p "red apple" --steps 1 -W 256 -H 256 -o large/p.png
echo '{"other": "red apple"}' >large/p.json
run train vae --data folder:large --caption-column other --output vae --max-train-steps 1 --train-batch-size 1 \
    --learning-rate 1e-3 --ema-decay 0.9 --checkpointing-steps 1 --seed 1 --mixed-precision no --device cpu \
    --threads 2 --lr-scheduler constant_with_warmup --lr-warmup-steps 1
run train vae --data folder:large --caption-column other --output vae --max-train-steps 1 --train-batch-size 1 \
    --learning-rate 1e-3 --ema-decay 0.9 --seed 1 --mixed-precision no --resume latest \
    --lr-scheduler constant_with_warmup --lr-warmup-steps 1
# One run with emoji: drawing all of them takes most of this check's time.
run train teacher --data emoji: --vae "$teacher" --output taught --max-train-steps 1 --train-batch-size 2 \
    --prediction-type v_prediction --v-prediction --caption-dropout 0.2 --caption-variety 0.5 --validation-steps 1 \
    --start "$teacher"
run train teacher --data folder:large --caption-column other --vae "$teacher" --output xl --max-train-steps 1 \
    --train-batch-size 1 --family sdxl --width 16 --resolution 32
report "models from scratch"

"$tests/write_inception" inception.safetensors
run score pictures pictures --metrics fid,kid --inception inception.safetensors --convention pytorch --count 2 \
    --kid-subsets 3 --kid-subset-size 2 --kid-seed 5 --json --device cpu --threads 2
run score pictures --save-stats statistics.npz --inception inception.safetensors
run score statistics.npz statistics.npz
run score pictures pictures --metrics fid,prdc --inception inception.safetensors --nearest-k 1 --bootstrap 10 \
    --transform center-crop-256
"$tests/write_towers" clip.safetensors dino.safetensors head.safetensors
mkdir pick
cp clip.safetensors pick/model.safetensors
echo '{"model_type": "clip", "vision_config": {"hidden_act": "gelu", "num_attention_heads": 1},
    "text_config": {"hidden_act": "gelu", "num_attention_heads": 1}}' >pick/config.json
run score pictures pictures --metrics clip,cmmd,fd --clip clip.safetensors --clip-activation gelu \
    --dino dino.safetensors --clip-prefix "A photo depicts " --captions prompts.txt --count 2
run score pictures --metrics aesthetic,pickscore,hps --clip clip.safetensors --clip-activation gelu \
    --aesthetic head.safetensors --pickscore pick --hps clip.safetensors --captions prompts.txt --count 2
run eval --model "$teacher" --data folder:pictures --caption-column other --output report3 --steps 1 --count 2 \
    --resolution 64 --real pictures --metrics fid,kid,prdc,clip,fd,aesthetic,pickscore,hps \
    --inception inception.safetensors --convention pytorch --transform center-crop-256 --kid-subsets 3 \
    --kid-subset-size 2 --kid-seed 1 --nearest-k 1 \
    --bootstrap 10 --clip clip.safetensors --clip-activation gelu --clip-prefix 'A photo depicts ' \
    --dino dino.safetensors --aesthetic head.safetensors --pickscore pick --hps clip.safetensors
run eval --model "$teacher" --protocol coco2014-30k --captions prompts.txt --real pictures --count 2 --steps 1 \
    --inception inception.safetensors --output report4
run score folder:pictures pictures --inception inception.safetensors --count 2 --features kept.safetensors --strict
run score pictures emoji: --resolution 32 --inception inception.safetensors --count 2
report "scores of pictures"

run inspect "$teacher" --prediction-type epsilon --device cpu
run tokenize --model "$teacher" "red apple"
run bench --model "$teacher" --only generate --part vae_decode --precision f32 --weights q8 --device cpu --json \
    --threads 2
run bench --model "$teacher" --only train --part distill_step --train-batch-size 1 --optimizer adamw -W 32 -H 16
run bench --model "$teacher" --threads-model 8 --width 32 --height 32 --part unet_forward --only generate --json
run bench --operator add
run bench --support
report "looking and timing"
run generate -m "$teacher" -p "red apple" --steps 1 \
    --noise "$golden/sampler-euler/steps1_guidance1.safetensors" -o n.png
run forward --model "$golden/original-sd1/model.safetensors" --component unet \
    --inputs "$golden/original-sd1/inputs_unet.safetensors" --outputs unet.safetensors --precision f32 --device cpu \
    --threads 1
report "noise from a file, a component alone"

# ---- what no run has given ----

for verb in $("$splam" --help=flags | cut -f1); do
    echo "$verb --help" >>given
    "$splam" "$verb" --help=flags | cut -f1 | sed "s/^/$verb /"
done | sort -u >all
# Minutes each: the demo, which tests/test_demo.c runs through the library, and measuring convolutions for their table.
# And the sandbox where the kernel has none.
left='^(demo --|bench --tune$)'
[ -n "$boxes" ] || left='^(demo --|bench --tune$|.* --sandbox$)'
sort -u given | comm -23 all - | grep -vE "$left" | sed 's/$/ is run by no check/' >wrong
report "no flag is left out"
[ $failures -eq 0 ]
