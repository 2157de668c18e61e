#!/bin/sh
# Writes docs/results.md, one table for each claim, from the measurements in bench/*.csv: make-results.sh [--check]
# With --check nothing is written; the difference is printed and the exit code 1 if the file is not what they make.
set -eu
cd "$(dirname "$0")/.."
export LC_ALL=C

# Fields of a line of CSV, in f[1..n]; texts in quotes may hold commas. Whatever reads a table begins so.
fields='
function split_csv(line,    n, part) {
    n = 0
    while (line != "") {
        if (match(line, /^"[^"]*"/)) { part = substr(line, 2, RLENGTH - 2); line = substr(line, RLENGTH + 1) }
        else { match(line, /^[^,]*/); part = substr(line, 1, RLENGTH); line = substr(line, RLENGTH + 1) }
        f[++n] = part
        if (line == ",") { f[++n] = ""; line = "" }
        sub(/^,/, "", line)
    }
    for (i = n + 1; i <= NF + 1; i++) f[i] = ""
    return n
}
function field(name) { return f[column[name]] }
BEGIN { FS = "," }
{ count = split_csv($0) }
FNR == 1 { for (i = 1; i <= count; i++) column[f[i]] = i; next }
'

# of FILE NAME: what a column says, each value once, in order
of() {
    awk -v name="$2" "$fields"'!seen[field(name)]++ { print field(name) }' "bench/$1.csv" |
        paste -sd ';' | sed 's/;/; /g'
}

# side_by_side FILE WORKS: the newest run of each entry (a later line replaces an earlier one of the same work,
# framework and precision)
side_by_side() {
    awk -v works="$2" "$fields"'
    function seconds(k) {
        return sprintf(wide[k] < 10 ? "%.2f (%.2f-%.2f)" : "%.1f (%.1f-%.1f)", wide[k], low[k], high[k])
    }
    function cell(k) {
        if (!(k in wide)) return ""
        return seconds(k) sprintf(", %.1f", memory[k] / 1e9) (k ~ /^splam/ ? "" : sprintf(", %.2f x", times[k]))
    }
    { k = field("framework") " " field("work") " " field("precision")
      wide[k] = field("median_seconds") + 0; low[k] = field("min_seconds"); high[k] = field("max_seconds")
      memory[k] = field("peak_rss_bytes"); times[k] = field("times_splam") }
    END {
        say["unet"] = "UNet, 1 step"; say["vae"] = "VAE decode"; say["generate"] = "to PNG, 4 steps"
        say["distill"] = "SPLAM step"; say["backward"] = "UNet there and back"
        say["emoji"] = "SPLAM step of 32, emoji teacher"
        print "| work | splam: s, GB | OpenVINO: s, GB, multiple | PyTorch: s, GB, multiple |\n|---|---|---|---|"
        n = split(works, work, ",")
        for (i = 1; i <= n; i++) for (p = 1; p <= 2; p++) {
            tail = " " work[i] (p == 1 ? " bf16" : " f32")
            if (("splam" tail) in wide)
                print "| " say[work[i]] (p == 1 ? ", bf16" : ", f32") " | " cell("splam" tail) " | " \
                    cell("openvino" tail) " | " cell("torch" tail) " |"
        }
    }' "bench/$1.csv" | sed 's/ *| *|/ | |/g'
}

parts() {
    awk "$fields"'
    field("work") == "generate" {
        printf "| %s | %s | %s | %s | %s | %s |\n", field("framework"), field("load_seconds"), field("text_seconds"),
            field("denoise_seconds"), field("decode_seconds"), field("write_seconds") }' bench/results.csv
}

# What the demo measured: a line for each row, mean (range) of each metric.
demo() {
    awk "$fields"'
    !(field("row") in place) { place[field("row")] = ++rows; name[rows] = field("row") }
    !(field("metric") in head) { head[field("metric")]; heading = heading " " field("metric") " |"; rule = rule "---|" }
    { cell = field("mean") (field("seeds") > 1 ? " (" field("low") "-" field("high") ")" : "")
      cells[field("row")] = cells[field("row")] (field("mean") == "" ? " |" : " " cell " |") }
    END { print "| row |" heading "\n|---|" rule
          for (i = 1; i <= rows; i++) print "| " name[i] " |" cells[name[i]] }' bench/demo.csv
}

# ablation VARIED...: means over the seeds; in brackets how far the seeds lie from the base, in percent
ablation() {
    awk -v wanted=",$1," "$fields"'
    function percent(x) { x = sprintf("%+.0f", x); return x == "-0" || x == "+0" ? "0" : x }
    { if (field("ode_error_1") == "") next # measured by trajectory error alone
      k = field("varied") SUBSEP field("name")
      if (!(field("varied") in group)) { group[field("varied")] = ++groups; varied[groups] = field("varied") }
      if (!(k in place)) { place[k] = ++rows; name[rows] = k }
      for (n = 1; n <= 8; n *= 2) {
          x = field("ode_error_" n)
          if (x == "") continue
          value[k, n, field("seed")] = x; sum[k, n] += x; many[k, n]++
      }
      seen[field("seed")] = 1 }
    END {
        print "| varied | setting | 1 step | 2 steps | 4 steps | 8 steps |\n|---|---|---|---|---|---|"
        base = name[1]
        for (g = 1; g <= groups; g++) for (r = 1; r <= rows; r++) {
            split(name[r], part, SUBSEP)
            if (part[1] != varied[g] || !index(wanted, "," part[1] ",")) continue
            line = "| " part[1] " | " part[2] " |"
            for (n = 1; n <= 8; n *= 2) {
                if (!many[name[r], n]) { line = line " |"; continue }
                low = 1e9; high = -1e9
                for (s in seen) if ((name[r], n, s) in value) {
                    off = 100 * (value[name[r], n, s] / value[base, n, s] - 1)
                    if (off < low) low = off
                    if (off > high) high = off
                }
                spread = r == 1 ? "" : " (" percent(low) ".." percent(high) ")"
                mean = substr(sprintf("%.4f", sum[name[r], n] / many[name[r], n]), 2)
                line = line " " mean spread " |"
            }
            print line
        }
    }' bench/ablation.csv
}

# The best SPLAM of the table against LCM, seed by seed.
against_lcm() {
    awk "$fields"'
    function percent(x) { x = sprintf("%+.0f", x); return x == "-0" || x == "+0" ? "0" : x }
    { best = field("name") == "quadratic; uniform, 1 half the time"; lcm = field("name") == "always 1 (lcm)"
      if (!best && !lcm || field("ode_error_1") == "") next
      seeds[field("seed")] = 1
      for (n = 1; n <= 8; n *= 2) value[lcm, n, field("seed")] = field("ode_error_" n) }
    END {
        for (n = 1; n <= 8; n *= 2) {
            line = "| " n " |"; mean = 0; count = 0
            for (s = 0; s in seeds; s++) {
                change = 100 * (value[0, n, s] / value[1, n, s] - 1); mean += change; count++
                line = line " " percent(change) " % |"
            }
            print line " " percent(mean / count) " % |"
        }
    }' bench/ablation.csv
}

parity() {
    awk "$fields"'{
        printf "| %s | %s | %s | %s | %s |\n", field("component"), field("f32_max_error"), field("bf16_rms_error"),
            field("torch_autocast"), field("torch_bf16") }' bench/parity.csv
}

ranks() {
    awk "$fields"'{
        processor = field("machine")
        sub(/,.*/, "", processor)
        printf "| %s | %s | %s | %s | %s | %s s |\n", processor, field("global_batch"), field("processes"),
            field("threads"), field("transport"), field("seconds") }' bench/ranks.csv
}

# the server under load: each line of the file, turned
load() {
    awk "$fields"'
    FNR > 1 {
        print "Machine: " field("machine") ". " field("date") ".\n"
        print "| | |\n|---|---|"
        print "| clients; requests; places in the line | " field("clients") "; " field("requests") "; " \
            field("queue") " |"
        print "| drawn; cancelled by their clients; malformed | " field("drawn") "; " field("cancelled") "; " \
            field("malformed") " |"
        print "| told to come again (429) | " field("refused_429") " |"
        print "| seconds in all | " field("seconds") " |"
        print "| waiting of what was taken, s: median; of a hundred the longest | " field("waiting_p50") "; " \
            field("waiting_p99") " |"
        print "| alone, ms beside drawing: median; of a hundred the longest | " field("overhead_p50_ms") "; " \
            field("overhead_p99_ms") " |"
        print "| alone, ms over what the parts take by themselves | " field("over_bench_ms") " |"
        printf "| memory after a tenth; at the end, MB | %.1f; %.1f |\n", field("memory_early") / 1e6,
            field("memory_end") / 1e6
    }' bench/load.csv
}


# A line for each score and size: splam's cell, and the tool's if it was run.
# A part a line, the frameworks side by side.
# One table for each machine, the newest first.
large() {
    awk "$fields"'
    function cell(k,    side) {
        if (!(k in seconds)) return ""
        side = sprintf("%.2f, %.1f", seconds[k], memory[k] / 1e9)
        return k ~ /splam$/ ? side : side sprintf(", %.2f x", seconds[k] / seconds[base])
    }
    { m = field("machine"); w = field("family") " " field("part") " " field("pixels")
      if (!(m in machine)) { machine[m] = ++machines; about[machines] = m; date[machines] = field("date") }
      if (!((m, w) in row)) { row[m, w] = 1; works[machine[m]]++; work[machine[m], works[machine[m]]] = w }
      k = m " " w " " field("framework")
      seconds[k] = field("seconds"); memory[k] = field("peak_rss_bytes")
      version[machine[m], field("framework")] = field("version"); threads[machines] = field("threads") }
    END {
        name["sdxl"] = "SDXL"; name["ssd1b"] = "SSD-1B"; name["vega"] = "Segmind-Vega"; name["sd35m"] = "SD3.5 Medium"
        name["sd35l"] = "SD3.5 Large, weights of 8 bits"
        text["transformer_forward"] = "transformer, one evaluation"
        text["unet_forward"] = "UNet, one evaluation"; text["vae_decode"] = "VAE, one picture decoded"
        text["generate"] = "prompt to PNG, 4 steps"; text["lora_step"] = "distilling step, adapters of rank 64"
        text["whole_step"] = "distilling step, the whole UNet, moments of 8 bits"
        for (i = machines; i >= 1; i--) {
            print "Machine: " about[i] ", " threads[i] " threads. " date[i] ".\n"
            print "| work | splam: s, GB | OpenVINO: s, GB, multiple | PyTorch: s, GB, multiple |\n|---|---|---|---|"
            for (r = 1; r <= works[i]; r++) {
                split(work[i, r], part, " ")
                base = about[i] " " work[i, r] " splam"
                print "| " name[part[1]] ", " text[part[2]] ", " part[3] " | " cell(base) " | " \
                    cell(about[i] " " work[i, r] " OpenVINO") " | " cell(about[i] " " work[i, r] " PyTorch") " |"
            }
            if (i > 1) print ""
        }
    }' bench/large.csv | sed 's/ *| *|/ | |/g'
}

distances() {
    awk "$fields"'
    function cell() { return sprintf("%.1f, %.1f", field("processor_seconds"), field("peak_rss_bytes") / 1e9) }
    { k = field("score") " | " field("count") " x " field("width")
      if (!(k in place)) { place[k] = ++rows; name[rows] = k }
      if (field("framework") == "splam") { ours[k] = cell(); value[k] = field("value") }
      else { theirs[k] = cell() ", " field("framework") " " field("version"); other[k] = field("value") } }
    END {
        print "| score | rows | splam: s, GB | the tool: s, GB | apart |\n|---|---|---|---|---|"
        for (i = 1; i <= rows; i++) {
            k = name[i]; apart = ""
            if (k in theirs) {
                d = value[k] / other[k] - 1
                apart = d ? sprintf("%.0e", d < 0 ? -d : d) : "0"
            }
            print "| " k " | " ours[k] " | " theirs[k] " | " apart " |"
        }
    }' bench/distances.csv
}

# figures of 2,000 pictures, and speed
scores() {
    awk -v what="$1" "$fields"'
    function apart(a, b) { if (b == "") return ""; d = a / b - 1; return d ? sprintf("%.0e", d < 0 ? -d : d) : "0" }
    (field("score") == "speed") != (what == "speed") { next }
    !titled++ {
        if (what == "speed")
            print "| tool | convention | pictures | splam: a second, GB | the tool: a second, GB, multiple |"
        else
            print "| tool | convention | pictures | score | splam | the tool | apart | of its own features: apart |"
        print what == "speed" ? "|---|---|---|---|---|" : "|---|---|---|---|---|---|---|---|"
    }
    { tool = field("tool"); version = field("version"); sub(/,.*/, "", version); n = 2 * field("pictures")
      sub(/ |$/, " " version " ", tool)
      begin = "| " tool " | " field("convention") " | " n " | " }
    what == "speed" {
        printf "%s%.1f, %.2f | %.1f, %.2f, %.2f x |\n", begin, n / field("seconds"), field("peak_rss_bytes") / 1e9,
            n / field("tool_seconds"), field("tool_peak_rss_bytes") / 1e9, field("tool_seconds") / field("seconds")
        next
    }
    { print begin field("score") " | " field("value") " | " field("tool_value") " | " \
          apart(field("value"), field("tool_value")) " | " apart(field("value"), field("exact_value")) " |" }
    ' bench/score.csv | sed 's/ *| */ | /g; s/^ //; s/ $//'
}

# What diffusers makes of students, beside splam.
opened() {
    awk "$fields"'
    { what = field("opened")
      sub(/^Stable[A-Za-z]*, /, "", what)
      if (!titled++)
          print "| pipeline | opened | steps | latents | picture | PNG | without |\n|---|---|---|---|---|---|---|"
      print "| " field("pipeline") " | " what " | " field("steps") " | " field("latents") " | " field("picture") " | " \
          field("png_levels") " | " field("without") " |" }' bench/open_student.csv
}

resumed() {
    awk "$fields"'{ print "| " field("how") " | " field("pictures") " | " field("sha256") " |" }' bench/resume.csv
}

results() {
    cat <<EOF
# Results

One table for each claim. tools/make-results.sh writes this file from bench/*.csv, and the tests ask whether it did;
how each thing was measured, and what did not work, is in [the notebook](lab/2026-11.md), kernel by kernel in
[kernels.md](kernels.md).

Machine: $(of results machine), $(of results threads) threads, $(of results instruction_set).

## Faster than OpenVINO and PyTorch at Stable Diffusion 1.5's size

512x512, the same weights, machine and threads, taking turns in one run: median seconds (and range), peak memory, and
the multiple of splam's seconds. \`bench/compare/sd.py\`, $(of results date).

$(side_by_side results unet,vae,generate)

Prompt to PNG by part, seconds, bf16:

| | open | text | denoise | decode | write |
|---|---|---|---|---|---|
$(parts)

## Stable Diffusion XL and 3.5

Random weights of the exact shapes, batch 1, bf16, in turns in one run; PyTorch with diffusers' models, OpenVINO with
their graphs, weights in f16: \`bench/compare/large.py build/cli/splam FOLDER --csv\`.
Models are single files of 16-bit weights, files in memory's cache. Prompt to PNG counts opening, text and VAE too; a
step of distilling is SPLAM's, batch 1, with cached latents, and takes what memory is free to compute less anew. A
processor without products of bf16 computes in f32.

$(large)

The whole of SSD-1B at 512, moments of 8 bits, in f32, is planned with 22.62 GB of 22.70 free on a machine of 24, five
of 16 blocks computed again (\`splam distill --dry-run\`, AMD EPYC, family 25, model 1, 2026-11-30); no step was timed.
Decoding 1024x1024 in f32 is planned with 994 MB of activations, 1,723 before rows were made twice.
The transformer of 3.5 Large (8.1 billion parameters) ran at 512 with weights of 8 bits in 9.13 GB, in f32 (\`splam
bench --weights q8\`, AMD EPYC, family 25, model 1, 2026-12-01); its seconds were not measured, other work ran beside
it.

## A server under load

\`bench/load.py build/cli/splam --clients 200 --requests 2000 --csv\`: the emoji teacher at 4 steps over the loopback
interface, each client with a key of its own. A third of the requests are cancelled by their clients, a tenth are
malformed, ten clients more are slow. Every other request got its picture, byte for byte the file that \`splam
generate\` writes. "Parts" are \`splam bench\`'s text encoder, four steps and decoder.

$(load)

## Training twice as fast as PyTorch, with masters in f32

One SPLAM step of the whole UNet at 512x512, batch 1: two teacher passes, target, forward, backward, clipping, AdamW
with 8-bit moments, average. PyTorch's module, moments and average are bfloat16, for in f32 they do not fit in 24 GB.
"There and back": the UNet's forward and backward pass alone.

$(side_by_side results distill,backward)

## On AVX2 alone

The same in f32: \`bench/compare/sd.py --rounds 2\`, with --generate-f32 for pictures; the emoji teacher's step by
\`splam bench -m assets/teacher --only train --part distill_step --train-batch-size 32\` in turns with
\`bench/compare/distill_torch.py --only fp32_channels_last\`. The Xeon has AVX-512, and all three are kept to AVX2
there by SPLAM_MAX_ISA, ONEDNN_MAX_CPU_ISA and ATEN_CPU_CAPABILITY. There and back falls short of the 1.6 that we aim
at on it: linear layers and attention, which are more than half of it, have as many products there as MKL's.
Machine: $(of results-avx2 machine), $(of results-avx2 threads) threads. $(of results-avx2 date).

$(side_by_side results-avx2 unet,vae,generate,backward,emoji)

Machine: $(of results-avx2-amd machine), $(of results-avx2-amd threads) threads; it has no more than AVX2.
$(of results-avx2-amd date).

$(side_by_side results-avx2-amd unet,vae,generate,backward,emoji)

## With AMX

bf16 in AMX tiles ([kernels](kernels.md#amx-tiles-vectorproductamx_productc)): \`bench/compare/sd.py --rounds 3\`,
weights in f16. Before there were kernels for tiles, one evaluation took 1.09 s there and a prompt to PNG 7.1.
Machine: $(of results-amx machine), $(of results-amx threads) threads. $(of results-amx date).

$(side_by_side results-amx unet,vae,generate,distill)

## As exact as PyTorch

One forward pass against diffusers in f32 on the same file: relative max error in f32 (1e-3 allowed), relative RMS error
in bf16 beside PyTorch's own (1.5 times the better allowed). \`tools/golden/compare_sd15.py\`.

| component | f32 | bf16 | PyTorch autocast | PyTorch bf16 |
|---|---|---|---|---|
$(parity)

## Students open in diffusers

Final latents and pictures from the same noise in f32, relative max error (1e-3 allowed), the largest difference of
the PNG in levels of 255, and how far the teacher's own latents are from what it draws with the adapters. diffusers
warns of nothing while it opens them but that adapters of a UNet have nothing for text encoders, which it says of all.
An emoji teacher of Stable Diffusion XL's shape, adapters of rank 8 after 60 steps and a whole student after 40:

\`\`\`
splam train teacher --data emoji: --vae assets/teacher --family sdxl --width 32 --max-train-steps 300 \\
    --train-batch-size 16 --learning-rate 2e-3 --output xl
splam distill --teacher xl --data emoji: --objective lcm --lora-rank 8 --max-train-steps 60 --train-batch-size 8 \\
    --learning-rate 1e-3 --output xl-lora
splam distill --teacher xl --data emoji: --max-train-steps 40 --train-batch-size 8 --learning-rate 3e-4 \\
    --output xl-whole
python tools/open_student.py xl --folder work --steps 1,2,4 --csv bench/open_student.csv \\
    --lora xl-lora/pytorch_lora_weights.safetensors xl-lora/kohya.safetensors:0.5
python tools/open_student.py xl-whole --folder work --steps 1,2,4 --csv bench/open_student.csv
\`\`\`

Rows of StableDiffusionPipeline are of assets/teacher and adapters after 40 such steps. $(of open_student version).

$(opened)

## Fewer steps: the demo

\`bench/demo.py\`, which runs \`splam demo --seed S\`: the emoji teacher at guidance w = 7, by kinds of emoji, and
students of 96 steps in sub-paths of 400 timesteps with four steps of the teacher, which runs once for both. All of it
took 5 min 18 s on this machine. Seeds: $(of demo seeds).
"Unguided" is what students begin as; a guided step of the teacher is two evaluations. Trajectory error: how far one
evaluation lies from where the teacher's 50-step path leads, in latents, at the sampler's timesteps and over the whole
path. Frechet distances are of the autoencoder's features (not FID), to the teacher's pictures and to the real ones;
hit is the share of pictures whose nearest real picture is of the kind that is named. SPLAM and LCM are not told apart
by 80 pictures: [what is known of that](study.md).
Machine: $(of demo machine), $(of demo threads) threads.

$(demo)

## SPLAM against LCM

On an emoji teacher that was shipped before, at guidance w = 2; what is known of the present one, at w = 7, is in
[study.md](study.md). ode-error, the distance between the ends of the model's deterministic chain and of the teacher's
50 steps, of the best SPLAM (the paper's sigma, told by the timestep, gamma = 1 half of the time) against that of LCM at
the same sub-paths, rate, average and budget (150 steps of 32 on the emoji teacher), seed by seed: nearer to the end of
the trajectory from four steps on; two are a tie, and one step is LCM's. Beyond one step that is to be measured anew by
trajectory error.

| steps | seed 0 | seed 1 | seed 2 | mean |
|---|---|---|---|---|
$(against_lcm)

## What each choice does

The former teacher too. The same budget, one choice varied at a time (\`bench/ablation.py\`): mean ode-error over
the seeds $(of ablation seed | tr ';' ,), in brackets how far they lie from the first line, in percent. M: DDIM
points; K: the length of a sub-path.

$(ablation base,sigma,conditioning,gamma,ema,points,training)

Other objectives lie nearer to the trajectory's end at 4 and 8 steps and fail below the steps that they are made for:

$(ablation base,objective)

## Distances of 30,000 pictures

Of features of 2,048 numbers and of embeddings of 768, in files: seconds of the processor with one thread, and peak
memory with the features. Each side has the same files in one run, \`bench/compare/distances.py --threads 1\`;
splam's are of the whole process, the tools' of the arithmetic alone. "Apart" is the relative difference of what they
say. fid is by numpy's covariances and scipy's square root, as pytorch-fid and clean-fid have it; kid of 100 subsets of
1,000, which the tool multiplies in f32 and splam in fp64; prdc with k = 5, its coverage compared; cmmd's tool
subtracts means of kernels near 1 in f32, which leaves 1.5e-4 of 1,000.
Machine: $(of distances machine). $(of distances date).

$(distances)

## Scores as the tools of the field print them

Two folders of emoji, drawn at 256 to 640 pixels, one of PNG and one of JPEG, and random weights, which all have alike:
\`bench/compare/score.py build/cli/splam figures\`, and \`speed\`. "Of its own features" is the distance without a
matrix square root, which is good to a few digits where there are fewer pictures than features. torch-fidelity's kid is
computed in f32, over 100 subsets of half of the pictures. Seconds are of splam's whole process, with opening the
weights and the distance, and of a tool's features alone, without imports; a tool has two threads, two workers that read
where it knows such, and batches of 25 pictures of a size where it can (torchmetrics one), nothing else running.
Machines, of the figures and of the seconds:
$(of score machine).
$(of score date).

$(scores figures)

$(scores speed)

## An evaluation that was killed, and one of two processes

The first digits of report.json's SHA-256: \`bench/resume.sh build/cli/splam WEIGHTS REAL OUTPUT\`, which draws with
the emoji teacher, \`--metrics fid,kid,is --steps 2\`, against pictures of a folder. "Killed twice": with SIGKILL at a
third of the pictures, and again a minute into their features. $(of resume date).

| how | pictures | report.json |
|---|---|---|
$(resumed)

## Several processes train as one

Seconds a step of the demo's distillation on two cores; sums of gradients run beside the backward pass.

| processor | global batch | processes | threads of each | over | a step |
|---|---|---|---|---|---|
$(ranks)
EOF
}

if [ "${1:-}" = --check ]; then
    results | sed "s,|  |,| |,g" | diff docs/results.md - && exit 0
    echo "docs/results.md is not what bench/*.csv makes: run tools/make-results.sh" >&2
    exit 1
fi
results | sed "s,|  |,| |,g" >docs/results.md.new
mv docs/results.md.new docs/results.md
