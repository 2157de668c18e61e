/* splam distill */

#include "options.h"
#include "verbs.h"

static const char description[] =
    "Turns a teacher into a student that needs one to four steps. The output is a whole diffusers\n"
    "folder: unet/ (the weights at the end), unet_ema/ (their average), the teacher's other parts, and\n"
    "metrics.jsonl. Ctrl-C saves a checkpoint and stops; --resume latest goes on with the same bits.\n"
    "With --lora-rank only adapters are trained, and the output has pytorch_lora_weights.safetensors\n"
    "(diffusers' names), kohya.safetensors (A1111, ComfyUI) and ema/ with the same of the average.\n"
    "Under mpirun R processes train together, each on --train-batch-size pictures of its own.\n"
    "Objectives, and how splam generate and splam eval sample their students when not told otherwise:\n"
    "  splam        from anywhere on a sub-path to the clean picture; lcm, any few steps\n"
    "  lcm          from the sub-path's start alone, gamma = 1; lcm, any few steps\n"
    "  pcm          to the lower edge of one of P equal phases; ddim, P steps\n"
    "  tcd          to any timestep below the sub-path; tcd, any few steps, with --eta\n"
    "  progressive  one step for N of the teacher's, which is then the next teacher; ddim, M/N^R steps.\n"
    "               Step t of S belongs to round floor(t R/S); --ema-decay makes unet_ema/ alone\n"
    "  dmd          what it makes is brought to be as likely as the teacher's, by a fake score trained in turn\n"
    "               with it; lcm, --student-steps. Of N + 1 steps N are the fake score's (--fake-score-steps).\n"
    "               --gan-weight adds a discriminator on the fake score's features, which looks at the pictures\n"
    "With --guidance-range a student of lcm or splam is told its guidance, and its user chooses it in that range.\n"
    "A flag that an objective has no use for is refused.";

static const char *const examples[] = {
    "splam distill --teacher assets/teacher --data emoji: --output student --max-train-steps 300 \\\n"
    "    --learning-rate 2e-4 --train-batch-size 32 --guidance-scale-w 2",
    "splam distill --teacher sd15 --data folder:pictures --output student --gamma-conditioning time \\\n"
    "    --gamma-one-probability 0.5",
    "splam distill --teacher sd15 --data folder:pictures --output lora --lora-rank 64 --learning-rate 1e-4",
    "splam distill --teacher sd15 --data 'wds:laion/*.tar' --min-aesthetic 5.5 --output student --dry-run",
    "splam distill --teacher sd15 --data latents:latents --random-flip --output student",
    "splam distill --teacher sd15 --data folder:pictures --output student --objective pcm --phases 4",
    "splam distill --teacher sd15 --data folder:pictures --output student --objective tcd --solver-steps 2 \\\n"
    "    --skip 40",
    "splam distill --teacher sd15 --data folder:pictures --output student --objective progressive \\\n"
    "    --num-ddim-timesteps 64 --rounds 4 --max-train-steps 20000",
    "splam distill --teacher sd15 --data latents:latents --output student --max-train-steps 20000 \\\n"
    "    --lr-scheduler cosine --lr-warmup-steps 500 --skip 100:10 --ema-decay power:0.05 --target-ema-decay 0.95",
    "splam distill --teacher sd15 --data folder:pictures --output student --objective dmd \\\n"
    "    --student-start splam-student",
    "splam distill --teacher sd15 --data latents:latents --output student --objective lcm --guidance-range 3:13",
    "splam distill --teacher sd15 --data latents:latents --output slower --learning-rate 4e-6 --sub-paths kept",
    "splam distill --teacher sd15 --data latents:latents --output student --objective dmd --gan-weight 0.001",
    "splam distill --teacher sd15 --data folder:pictures --output student --train-batch-size 1 \\\n"
    "    --optimizer adamw8bit --memory-limit 19G",
    "splam distill --teacher sd15 --data folder:pictures --output student --resume latest",
    "mpirun --hostfile hosts --map-by ppr:1:node --bind-to none \\\n"
    "    splam distill --teacher sd15 --data folder:pictures --output student",
    NULL,
};

int cli_distill(int argc, char **argv)
{
    splam_distill_options o = splam_distill_defaults();
    bool center = false;
    /* clang-format off */
    const option own[] = {
        OPTION_CENTER_CROP(&center),
    };
    /* clang-format on */
    const command c = {
        .verb = "distill",
        .synopsis = "--teacher MODEL --data SPEC --output DIR [options]",
        .description = description,
        .computes = true,
        .target = &o,
        .options = own,
        .option_count = OPTION_COUNT(own),
        .examples = examples,
    };
    options_result result = options_parse(&c, argc, argv, NULL);
    if (result == OPTIONS_RUN) result = options_check_crop(&o.pictures, center);
    if (result != OPTIONS_RUN) return options_exit_code(result);
    if (!o.data && !o.draws)
        return cli_fail(CLI_USAGE, "distill needs --data; see splam distill --help");
    if (!o.output && !o.dry_run)
        return cli_fail(CLI_USAGE, "distill needs --output; see splam distill --help");
    splam_terminal terminal;
    splam_callbacks callbacks = splam_terminal_callbacks(&terminal);
    return cli_finish(splam_distill(&o, &callbacks));
}
