/* splam generate */
#include <stdio.h>
#include <string.h>

#include "options.h"
#include "server/client.h"
#include "verbs.h"

static const char description[] =
    "Draws pictures from prompts with a diffusers model folder. A distilled student is sampled as it was\n"
    "made to be, without guidance: with lcm or tcd in four steps, or with ddim in as many as it has phases\n"
    "or was halved down to; any other model with its scheduler's sampler, or dpm++2m in twenty, with\n"
    "guidance 7.5.\n"
    "With --init-img the last STRENGTH of the steps are taken, from that picture with noise; lcm takes\n"
    "all its steps, beginning with less noise.\n"
    "Pictures are numbered over all prompts from 0; picture j has seed SEED + j, modulo 2^64. They carry what made\n"
    "them: PNG in the text chunks parameters (as A1111's) and splam, JPEG and WebP in EXIF's UserComment\n"
    "(as A1111's) and an XMP property.\n"
    "With --server another process draws, a splam serve: --model and --lora are names that it has then, and\n"
    "options of the machine or that name other files are refused.";

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
    "splam generate -m sdxl-turbo -p 'a lighthouse' --sampler euler-a --spacing trailing --steps 1 --guidance 1",
    "splam generate -m sdxl_lightning_1step_x0.safetensors --prediction-type sample -p 'a lighthouse' --steps 1 \\\n"
    "    --guidance 1",
    "splam generate -m sd15 -p '(masterpiece:1.2), a [foggy] lighthouse BREAK a storm' -n EasyNegative \\\n"
    "    --prompt-syntax weighted --embedding EasyNegative.safetensors",
    "splam generate -m tcd-student -p 'red apple' --steps 8 --eta 0.5",
    "splam generate -m sd15 -p cat --noise noise.safetensors --save-latents latents.safetensors",
    "splam generate --server http://127.0.0.1:7860 -p 'a lighthouse' --lora style:0.7 -o lighthouse.png",
    "splam generate --server https://pictures.example --api-key-file key.txt -p 'a lighthouse'",
    NULL,
};

/* What the library is not asked for. */
typedef struct {
    bool timing;
    sv_client_settings server;
} own_flags;

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

static void print_warning(const char *text)
{
    fprintf(stderr, "warning: %s\n", text);
}

/* By a server. */
static int ask(const splam_generate_options *o, const own_flags *own, const splam_callbacks *callbacks)
{
    char error[SV_CLIENT_ERROR], message[2 * SV_CLIENT_ERROR];
    splam_status status = sv_client_generate(&own->server, o, callbacks, error);
    if (status == SPLAM_OK) return CLI_OK;
    options_translate(error, message, sizeof message);
    return cli_fail(status == SPLAM_CANCELLED  ? CLI_INTERRUPTED
                    : status == SPLAM_ARGUMENT ? CLI_USAGE
                                               : CLI_FAILURE,
                    "%s", message);
}

static int run(splam_generate_options *o, own_flags *own)
{
    uint64_t seed = 0;
    splam_generate_seconds seconds;
    if (!o->prompt && !o->prompts_file)
        return cli_fail(
            CLI_USAGE,
            "a prompt is missing: give --prompt or --prompts; see splam generate --help");
    if (own->server.server && own->timing)
        return cli_fail(CLI_USAGE, "--timing is of this process, and --server draws in another");
    if (own->server.server && options_threads())
        return cli_fail(CLI_USAGE, "--threads is of this process, and --server draws in another");
    if (o->prompt && o->prompts_file)
        return cli_fail(CLI_USAGE, "--prompt and --prompts exclude each other");
    o->seed_used = &seed;
    o->seconds = &seconds;
    char usual[16];
    snprintf(usual, sizeof usual, "out.%s", o->format ? o->format : "png");
    if (!o->output) o->output = usual;
    FILE *text = choose_text_stream(o);
    bool prints = text == stdout && (o->random_seed || own->timing);
    if (prints && cli_check_stdout() != CLI_OK) return CLI_FAILURE;
    splam_terminal terminal;
    splam_callbacks callbacks = splam_terminal_callbacks(&terminal);
    own->server.say = print_warning;
    int asked = own->server.server ? ask(o, own, &callbacks) : CLI_OK;
    if (asked != CLI_OK) return asked;
    splam_status status = own->server.server ? SPLAM_OK : splam_generate(o, &callbacks);
    if (status == SPLAM_OK && o->random_seed)
        fprintf(text, "seed %llu\n", (unsigned long long)seed);
    if (status == SPLAM_OK && own->timing) print_timing(text, o, &seconds);
    return cli_finish(status);
}

int cli_generate(int argc, char **argv)
{
    splam_generate_options o = splam_generate_defaults();
    own_flags own = {0};
    /* clang-format off */
    const option flags[] = {
        {.name = "server", .heading = "By a server", .kind = OPTION_TEXT, .value = &own.server.server,
         .argument = "URL", .suffices = true, .outside = true,
         .help = "let a server draw, http://HOST:PORT, https://HOST:PORT or unix:PATH, see splam serve"},
        {.name = "server-ca", .needs = "server", .kind = OPTION_TEXT, .value = &own.server.ca_file, .argument = "FILE",
         .help = "certificates in PEM, one of which the server's is signed by, or is",
         .fallback = "those that the system trusts"},
        {.name = "api-key-file", .needs = "server", .kind = OPTION_TEXT, .value = &own.server.key_file,
         .argument = "FILE", .help = "a key for the server, the first line of the file"},
        {.name = "timing", .heading = "Computing", .kind = OPTION_FLAG, .value = &own.timing,
         .help = "print the seconds of each stage"},
    };
    /* clang-format on */
    const command c = {
        .verb = "generate",
        .synopsis = "-m MODEL | --server URL, -p TEXT | --prompts FILE [options]",
        .description = description,
        .computes = true,
        .target = &o,
        .options = flags,
        .option_count = OPTION_COUNT(flags),
        .examples = examples,
    };
    options_result result = options_parse(&c, argc, argv, NULL);
    if (result != OPTIONS_RUN) return options_exit_code(result);
    return run(&o, &own);
}
