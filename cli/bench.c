/* splam bench */
#include "options.h"
#include "verbs.h"

static const char description[] =
    "Measures: without a model the operators at Stable Diffusion's shapes, with the share of what this\n"
    "machine can do at best (multiplications and additions in registers, and a walk through memory,\n"
    "both measured when it starts; convolutions count the operations of the direct method, so that\n"
    "one with fewer can pass the peak); with a model also its parts at its own size,\n"
    "and generating (one picture, 4 steps, no guidance, loading included). Times are medians. With\n"
    "--json: unet_forward_seconds, vae_decode_seconds, generate_seconds,\n"
    "unet_forward_backward_seconds, distill_step_seconds, generate_stage_seconds, runs (the seconds of\n"
    "each), peak_rss_bytes of each, operators. --threads-model N instead says of each part which share\n"
    "of a step one thread has at most when N work, from the splits that the kernels make, run share by\n"
    "share on one thread; what oneDNN computes has splits of its own, which are not known.";

static const char *const examples[] = {
    "splam bench --only operators --operator conv2d",
    "splam bench -m sd15 --only generate --precision bf16",
    "splam bench -m sd15 --part vae_decode",
    "splam bench -m emoji-teacher --only train --train-batch-size 32 --json",
    "splam bench -m sd15 --threads-model 64 --part unet_forward",
    "splam bench --support",
    "SPLAM_MAX_ISA=avx2 splam bench --tune > avx2.inc && mv avx2.inc src/backend/cpu/convolution_table/",
    NULL,
};

int cli_bench(int argc, char **argv)
{
    splam_bench_options o = splam_bench_defaults();
    const command c = {.verb = "bench",
                       .synopsis = "[-m MODEL] [options]",
                       .description = description,
                       .computes = true,
                       .target = &o,
                       .examples = examples};
    options_result result = options_parse(&c, argc, argv, NULL);
    if (result != OPTIONS_RUN) return options_exit_code(result);
    if (cli_check_stdout() != CLI_OK) return CLI_FAILURE;
    splam_terminal terminal;
    splam_callbacks callbacks = splam_terminal_callbacks(&terminal);
    char *report;
    splam_status status = splam_bench(&o, &callbacks, &report);
    return cli_print(status, report);
}
