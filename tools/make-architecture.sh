#!/bin/sh
# Draws docs/architecture.svg, the folders of the tree and which of them uses which, from the includes in their files:
# make-architecture.sh [--check]. A folder stands above all that it uses; a line is left out where another way of lines
# leads there too. With --check nothing is written, and the exit code is 1 if the picture is another one.
set -eu
cd "$(dirname "$0")/.."
export LC_ALL=C

# Each folder, its column in the picture, and what it is.
words='splam 1 the public headers
base 1 errors, memory, files, random
options 0 what a verb takes
tensor 1 dtypes, shapes, views
formats 1 safetensors, torch files
text 2 tokenizers
image 0 codecs, resizing, sheets
graph 1 plan, memory, runs, device
ops 1 operators, autodiff
backend 1 kernels
models 2 UNet, VAE, text encoder
checkpoints 1 files of models, LoRA
diffusion 1 paths, samplers, noise
pipeline 1 a model put together
data 0 data sets
latents 0 data sets, encoded
train 2 trainer, checkpoints, ranks
distill 1 objectives, students
eval 2 metrics
report 2 tables, pages, inspect
bench 1 what models take
recipes 0 emoji models, the demo
api 1 the public functions
server 2 HTTP, jobs, interfaces
cli 1 one file a verb'

# Lines "from to": a folder and one that its files include.
uses() {
    for folder in src/*/; do
        folder=$(basename "$folder")
        find "src/$folder" \( -name '*.c' -o -name '*.h' -o -name '*.inc' \) -exec \
            sed -n 's/^[[:space:]]*#[[:space:]]*include[[:space:]]*["<]\([a-z_]*\)\/.*/\1/p' {} + |
            sort -u | sed "s/^/$folder /"
    done
    echo "server api"
    echo "cli api"
    echo "cli server"
}

picture() {
    { echo "$words" | sed 's/^/words /'; uses; } | awk '
    $1 == "words" {
        folder[++folders] = $2; known[$2] = 1
        column[$2] = $3
        text = $0; sub(/^words [a-z]* [0-9] /, "", text); caption[$2] = text
        next
    }
    ($1 in known) && ($2 in known) && $1 != $2 { use[$1, $2] = 1 }
    # floor_of(f): one more than the highest floor of what it uses
    function floor_of(f,    k, best, other) {
        if (f in floor) return floor[f]
        best = 0
        for (k = 1; k <= folders; k++)
            if ((f, folder[k]) in use) { other = floor_of(folder[k]) + 1; if (other > best) best = other }
        return floor[f] = best
    }
    # reaches(f, g): whether f uses g, at whatever distance
    function reaches(f, g,    k) {
        if ((f, g) in reached) return reached[f, g]
        reached[f, g] = 0
        for (k = 1; k <= folders && !reached[f, g]; k++)
            if ((f, folder[k]) in use && (folder[k] == g || reaches(folder[k], g))) reached[f, g] = 1
        return reached[f, g]
    }
    function needless(f, g,    k) {
        for (k = 1; k <= folders; k++) if (folder[k] != g && (f, folder[k]) in use && reaches(folder[k], g)) return 1
        return 0
    }
    function centre(f) { return left[f] + wide / 2 }
    # A line that passes floors by runs between the columns, each in a lane of its own.
    function line(f, g,    y, z, lane, between) {
        y = up[f] + high; z = up[g]
        printf "<path fill=\"none\" stroke=\"#778\" stroke-width=\"1.5\" d=\"M%d %d", centre(f), y
        if (floor[f] - floor[g] > 1) {
            between = column[f] < column[g] || column[f] == 0 ? column[f] : column[f] - 1
            lane = (between + 1) * (wide + gap) + 8 + 7 * lanes[between]++
            printf "C%d %d %d %d %d %d", centre(f), y + 26, lane, y - 4, lane, y + 30
            printf "L%d %dC%d %d %d %d %d %d\"/>\n", lane, z - 30, lane, z + 4, centre(g), z - 26, centre(g), z
        } else
            printf "C%d %d %d %d %d %d\"/>\n", centre(f), y + 24, centre(g), z - 24, centre(g), z
    }
    END {
        wide = 196; high = 44; gap = 56; step = high + 34; columns = 3
        for (k = 1; k <= folders; k++) if (floor_of(folder[k]) > top) top = floor_of(folder[k])
        for (k = 1; k <= folders; k++) {
            left[folder[k]] = gap + column[folder[k]] * (wide + gap)
            up[folder[k]] = 16 + (top - floor[folder[k]]) * step
        }
        across = columns * (wide + gap) + gap; down = (top + 1) * step
        printf "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" font-family=\"sans-serif\">\n",
            across, down
        printf "<rect width=\"%d\" height=\"%d\" fill=\"white\"/>\n", across, down
        for (a = 1; a <= folders; a++) for (b = 1; b <= folders; b++)
            if ((folder[a], folder[b]) in use && !needless(folder[a], folder[b])) line(folder[a], folder[b])
        for (k = 1; k <= folders; k++) {
            f = folder[k]
            printf "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" rx=\"5\" fill=\"#eef3fa\" stroke=\"#446\"/>\n",
                left[f], up[f], wide, high
            printf "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\" font-size=\"15\" font-weight=\"bold\">%s</text>\n",
                centre(f), up[f] + 19, f
            printf "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\" font-size=\"11\">%s</text>\n",
                centre(f), up[f] + 35, caption[f]
        }
        print "</svg>"
    }'
}

if [ "${1:-}" = --check ]; then
    picture | cmp -s - docs/architecture.svg && exit 0
    echo "docs/architecture.svg is not what the includes make: run tools/make-architecture.sh" >&2
    exit 1
fi
picture >docs/architecture.svg.new
mv docs/architecture.svg.new docs/architecture.svg
