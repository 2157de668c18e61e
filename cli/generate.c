/* splam generate */
#include <stdio.h>
#include <string.h>

#include "options.h"
#include "verbs.h"

static const char description[] =
    "Draws pictures from prompts with a diffusers model folder. A distilled student is sampled as it was\n"
    "made to be, without guidance: with lcm or tcd in four steps, or with ddim in as many as it has phases\n"
    "or was halved down to; any other model with dpm++2m in twenty with guidance 7.5.\n"
    "With --init-img the last STRENGTH of the steps are taken, from that picture with noise; lcm takes\n"
    "all its steps, beginning with less noise.\n"
    "Pictures are numbered over all prompts from 0; picture j has seed SEED + j, modulo 2^64. They carry what made\n"
    "them: PNG in the text chunks parameters (as A1111's) and splam, JPEG and WebP in EXIF's UserComment\n"
    "(as A1111's) and an XMP property.";

static const char *const examples[] = {
    "splam generate -m emoji-student -p 'red apple' --steps 2 -o apple.png",
    "splam generate -m sd15 -p 'a lighthouse in a storm' -n blurry -s 7 -b 4 -W 512 -H 512",
    "splam generate -m sd15 -p 'a lighthouse' --sampler ddim --steps 50 --rng torch -s 33",
    "splam generate -m sd15 -p 'a lighthouse' --sampler dpm++2m-sde --sigmas karras --steps 25",
    "splam generate -m sd15 --prompts list.txt -o pictures/",
    "splam generate -m sd15 -p 'a lighthouse' -b 4 -o lighthouse.webp --quality 80",
    "splam generate -m sd15 -p 'a lighthouse' -o - --format jpg | convert - -resize 50% small.jpg",
    "splam generate -m sd15 -p 'an oil painting' --init-img photo.jpg --strength 0.6 -W 512 -H 512",
    "splam generate -m sd15 -p 'a lighthouse' -W 1024 -H 768 --memory-limit 3G",
    "splam generate -m sd15 -p 'a lighthouse' --vae taesd -o sketch.png",
    "splam generate -m sd15 -p 'a lighthouse' --lora lcm-lora.safetensors style.safetensors:0.7 \\\n"
    "    --sampler lcm --guidance 1 --steps 4",
    "splam generate -m tcd-student -p 'red apple' --steps 8 --eta 0.5",
    "splam generate -m sd15 -p cat --noise noise.safetensors --save-latents latents.safetensors",
    NULL,
};

/* What is parsed into other types than the library takes. */
typedef struct {
    const char *prompt, *rng, *precision, *vae_tiling;
    int64_t threads, clip_skip, quality;
    double eta, guidance;
    bool timing;
    option_texts loras;
} parsed;

static void print_timing(FILE *to, const splam_generate_options *o,
                         const splam_generate_seconds *s)
{
    fprintf(to, "load %.3f, text %.3f, ", s->load, s->text);
    if (o->init_image) fprintf(to, "encode %.3f, ", s->encode);
    fprintf(to, "denoise %.3f, decode %.3f, write %.3f, total %.3f s\n", s->denoise, s->decode,
            s->write, s->total);
}

/* What is printed goes to stderr where the picture takes standard output. */
static FILE *choose_text_stream(const splam_generate_options *o)
{
    return strcmp(o->output, "-") == 0 ? stderr : stdout;
}

static int run(splam_generate_options *o, const parsed *p)
{
    uint64_t seed = 0;
    splam_generate_seconds seconds;
    if (!p->prompt && !o->prompts_file)
        return cli_fail(
            CLI_USAGE,
            "a prompt is missing: give --prompt or --prompts; see splam generate --help");
    if (p->prompt && o->prompts_file)
        return cli_fail(CLI_USAGE, "--prompt and --prompts exclude each other");
    if (p->prompt) {
        o->prompts = &p->prompt;
        o->prompt_count = 1;
    }
    o->rng = strcmp(p->rng, "torch") == 0 ? SPLAM_RNG_TORCH : SPLAM_RNG_PHILOX;
    o->precision = options_precision(p->precision);
    o->vae_tiling = strcmp(p->vae_tiling, "on") == 0    ? SPLAM_VAE_TILING_ON
                    : strcmp(p->vae_tiling, "off") == 0 ? SPLAM_VAE_TILING_OFF
                                                        : SPLAM_VAE_TILING_AUTO;
    o->clip_skip = (int)p->clip_skip;
    o->seed_used = &seed;
    o->seconds = &seconds;
    o->quality = (int)p->quality;
    char usual[16];
    snprintf(usual, sizeof usual, "out.%s", o->format ? o->format : "png");
    if (!o->output) o->output = usual;
    FILE *text = choose_text_stream(o);
    bool prints = text == stdout && (o->random_seed || p->timing);
    if (prints && cli_check_stdout() != CLI_OK) return CLI_FAILURE;
    splam_set_threads((int)p->threads);
    splam_lora loras[OPTION_LIST_MAX] = {{0}};
    int code = options_loras(&p->loras, loras);
    o->loras = loras;
    o->lora_count = p->loras.count;
    splam_terminal terminal;
    splam_callbacks callbacks = splam_terminal_callbacks(&terminal);
    splam_status status = code ? SPLAM_OK : splam_generate(o, &callbacks);
    options_loras_free(loras, p->loras.count);
    if (code) return code;
    if (status == SPLAM_OK && o->random_seed)
        fprintf(text, "seed %llu\n", (unsigned long long)seed);
    if (status == SPLAM_OK && p->timing) print_timing(text, o, &seconds);
    return cli_finish(status);
}

int cli_generate(int argc, char **argv)
{
    splam_generate_options o = {0};
    parsed p = {.rng = "philox", .vae_tiling = "auto"};
    /* clang-format off */
    const option options[] = {
        OPTION_MODEL(&o.model),
        {.name = "prompt", .letter = 'p', .kind = OPTION_TEXT, .value = &p.prompt, .argument = "TEXT",
         .help = "what to draw"},
        {.name = "prompts", .kind = OPTION_TEXT, .value = &o.prompts_file, .argument = "FILE",
         .help = "one prompt a line instead, UTF-8; blank lines are left out; - is standard input"},
        {.name = "negative", .letter = 'n', .kind = OPTION_TEXT, .value = &o.negative, .argument = "TEXT",
         .help = "what not to draw, where there is guidance"},
        {.name = "steps", .kind = OPTION_INTEGER, .value = &o.steps, .argument = "N", .low = 1, .high = 4000,
         .help = "of the sampler; each is an evaluation of the network, with heun two",
         .fallback = "a student's own, else lcm and tcd 4, ddim 50, euler and euler-a 30, the others 20"},
        {.name = "sampler", .kind = OPTION_CHOICE, .value = &o.sampler, 
         .choices = "lcm|tcd|ddim|dpm++2m|dpm++2m-sde|unipc|euler|euler-a|heun",
         .help = "how the noise is removed", .fallback = "a student's own, else dpm++2m"},
        {.name = "sigmas", .kind = OPTION_CHOICE, .value = &o.sigmas, .choices = "normal|karras|exponential",
         .help = "how noise levels are spread, for dpm++2m, dpm++2m-sde, unipc, euler and heun",
         .fallback = "as the model's scheduler says, mostly normal"},
        {.name = "spacing", .kind = OPTION_CHOICE, .value = &o.spacing, .choices = "leading|linspace|trailing",
         .help = "how timesteps are spread, for all but lcm and tcd; trailing begins at the last one",
         .fallback = "as the model's scheduler says"},
        {.name = "eta", .kind = OPTION_NUMBER, .value = &p.eta, .chosen = &o.eta, .argument = "X", .low = 0, .high = 1,
         .help = "tcd: how much is drawn anew between steps, from 0, nothing, to 1", .fallback = "0.3"},
        {.name = "guidance", .letter = 'g', .kind = OPTION_NUMBER, .value = &p.guidance, .chosen = &o.guidance,
         .argument = "G", .high = 1000, .help = "classifier-free guidance scale", .fallback = "by the model: 1 or 7.5"},
        {.name = "seed", .letter = 's', .kind = OPTION_SEED, .value = &o.seed, .random = &o.random_seed,
         .argument = "SEED", .help = "of the noise; -1 draws one and prints it", .fallback = "0"},
        {.name = "count", .letter = 'b', .kind = OPTION_INTEGER, .value = &o.count, .argument = "COUNT",
         .low = 1, .high = 1e6, .help = "pictures of each prompt", .fallback = "1"},
        {.name = "width", .letter = 'W', .kind = OPTION_INTEGER, .value = &o.width, .argument = "PIXELS",
         .low = 1, .high = 16384, .help = "of a picture", .fallback = "the model's own"},
        {.name = "height", .letter = 'H', .kind = OPTION_INTEGER, .value = &o.height, .argument = "PIXELS",
         .low = 1, .high = 16384, .help = "of a picture", .fallback = "the model's own"},
        {.name = "init-img", .letter = 'i', .kind = OPTION_TEXT, .value = &o.init_image, .argument = "FILE",
         .help = "JPEG, PNG or WebP to start from; scaled to cover the size and cut, which without -W or -H is "
                 "its own, rounded down to what the model takes"},
        {.name = "strength", .kind = OPTION_NUMBER, .value = &o.strength, .argument = "S", .low = 0.001, .high = 1,
         .help = "how much of that picture is replaced", .fallback = "0.8"},
        {.name = "rng", .kind = OPTION_CHOICE, .value = &p.rng, .choices = "torch|philox",
         .help = "random numbers; torch: those of diffusers on a CPU", .fallback = "philox"},
        OPTION_PRECISION(&p.precision),
        {.name = "device", .kind = OPTION_TEXT, .value = &o.device, .argument = "DEVICE", .help = "to compute with",
         .fallback = "cpu"},
        {.name = "clip-skip", .kind = OPTION_INTEGER, .value = &p.clip_skip, .argument = "N", .high = 1000,
         .help = "last layers of the text encoder left out", .fallback = "0"},
        {.name = "vae", .kind = OPTION_TEXT, .value = &o.vae, .argument = "PATH",
         .help = "another autoencoder, AutoencoderKL or AutoencoderTiny (TAESD): its folder or its file, or a model with "
                 "one",
         .fallback = "the model's own"},
        {.name = "vae-tiling", .kind = OPTION_CHOICE, .value = &p.vae_tiling, .choices = "auto|on|off",
         .help = "pictures larger than 512 pixels (or what the VAE was trained on) go through it in overlapping "
                 "tiles: less memory, not quite the same picture; auto: where the whole would not fit",
         .fallback = "auto"},
        {.name = "memory-limit", .kind = OPTION_BYTES, .value = &o.memory_limit, .argument = "SIZE",
         .help = "print what will be needed, do with less memory where possible, refuse where not: 3G is 3 * 10^9 "
                 "bytes, 3Gi 3 * 2^30"},
        {.name = "lora", .kind = OPTION_TEXTS, .value = &p.loras, .argument = "PATH[:WEIGHT]...",
         .help = "low-rank adapters (a file or its folder; names of diffusers, PEFT, kohya, ComfyUI), merged into UNet and text encoder as they are "
                 "loaded; WEIGHT is 1 where none is given"},
        {.name = "unet", .kind = OPTION_TEXT, .value = &o.unet, .argument = "NAME",
         .help = "the UNet's folder; unet_ema is a student's average", .fallback = "unet"},
        OPTION_PREDICTION(&o.prediction),
        {.name = "old-grid", .kind = OPTION_FLAG, .value = &o.old_grid,
         .help = "lcm: the older timesteps, 999 759 519 279 for four steps"},
        {.name = "output", .letter = 'o', .kind = OPTION_TEXT, .value = &o.output, .argument = "FILE",
         .help = "the picture's file, .png, .jpg, .jpeg or .webp; several go to NAME-0.png, NAME-1.png, ...; without "
                 "a suffix .png (or the --format's) is appended; in a folder, one that is there or DIR/, the name is out; "
                 "- is standard output, for one picture", .fallback = "out.png"},
        {.name = "format", .kind = OPTION_CHOICE, .value = &o.format, .choices = "png|jpg|webp",
         .help = "of pictures whose name has no suffix", .fallback = "png"},
        {.name = "quality", .kind = OPTION_INTEGER, .value = &p.quality, .argument = "N", .low = 1, .high = 100,
         .help = "of JPEG, with colours in full resolution from 90 on, and of WebP, which is lossless at 100",
         .fallback = "JPEG 95, WebP 90"},
        {.name = "noise", .kind = OPTION_TEXT, .value = &o.noise, .argument = "FILE",
         .help = "safetensors with noise.0 [N,4,h,w]; noise.1, ... for lcm, tcd, euler-a and dpm++2m-sde; noise.posterior for --init-img, without "
                 "which the latent's mean is taken"},
        {.name = "save-latents", .kind = OPTION_TEXT, .value = &o.save_latents, .argument = "FILE",
         .help = "safetensors for latents [N,4,h,w]"},
        {.name = "timing",
         .kind = OPTION_FLAG,
         .value = &p.timing,
         .help = "print the seconds of each stage"},
        OPTION_THREADS(&p.threads),
    };
    /* clang-format on */
    const command c = {
        .verb = "generate",
        .synopsis = "-m MODEL -p TEXT | --prompts FILE [options]",
        .description = description,
        .options = options,
        .option_count = OPTION_COUNT(options),
        .examples = examples,
    };
    options_result result = options_parse(&c, argc, argv, NULL);
    if (result != OPTIONS_RUN) return options_exit_code(result);
    return run(&o, &p);
}
