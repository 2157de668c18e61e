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
    int64_t threads = 0;
    bool center = false;
    const char *mixed = NULL;
    /* clang-format off */
    const option options[] = {
        {.name = "teacher", .kind = OPTION_TEXT, .value = &o.teacher, .argument = "MODEL", .required = true,
         .help = "the model to distil: a diffusers folder, or a checkpoint of one file"},
        OPTION_PREDICTION(&o.prediction),
        {.name = "data", .kind = OPTION_TEXT, .value = &o.data, .argument = "SPEC",
         .help = "pictures and captions: emoji:, folder:DIR, wds:SHARDS.tar, coco:FILE.json,DIR, or "
                 "latents:DIR that splam data --cache wrote" FIRST_CAPTION},
        {.name = "output", .kind = OPTION_TEXT, .value = &o.output, .argument = "DIR",
         .help = "folder for the student (required, but with --dry-run)"},
        {.name = "objective", .kind = OPTION_CHOICE, .value = &o.objective, .choices = "splam|lcm|pcm|tcd|progressive",
         .help = "what the student learns, see above", .fallback = "splam"},
        {.name = "max-train-steps", .kind = OPTION_INTEGER, .value = &o.max_train_steps, .argument = "N",
         .low = 1, .high = 1e9, .help = "optimiser steps", .fallback = "1000"},
        {.name = "train-batch-size", .kind = OPTION_INTEGER, .value = &o.train_batch_size, .argument = "N",
         .low = 1, .high = 4096, .help = "pictures per micro-batch", .fallback = "12"},
        {.name = "gradient-accumulation-steps", .kind = OPTION_INTEGER, .value = &o.gradient_accumulation_steps,
         .argument = "N", .low = 1, .high = 4096, .help = "micro-batches per optimiser step", .fallback = "1"},
        {.name = "learning-rate", .kind = OPTION_NUMBER, .value = &o.learning_rate, .argument = "X",
         .low = 1e-12, .high = 1, .help = "of AdamW", .fallback = "8e-6"},
        {.name = "optimizer", .kind = OPTION_CHOICE, .value = &o.optimizer, .choices = "adamw|adamw8bit",
         .help = "adamw8bit: AdamW's moments in a quarter of the memory", .fallback = "adamw"},
        {.name = "loss-type", .kind = OPTION_CHOICE, .value = &o.loss_type, .choices = "huber|l2",
         .help = "sqrt(d^2 + c^2) - c, or d^2", .fallback = "huber; progressive: l2"},
        {.name = "huber-c", .kind = OPTION_NUMBER, .value = &o.huber_c, .argument = "C", .low = 1e-9, .high = 1e3,
         .help = "c of the huber loss", .fallback = "1e-3"},
        {.name = "ema-decay", .kind = OPTION_NUMBER, .value = &o.ema_decay, .argument = "X", .low = 0, .high = 1,
         .help = "of the averaged weights, which make the target (0: the weights themselves do)", .fallback = "0.95"},
        {.name = "guidance-scale-w", .kind = OPTION_NUMBER, .value = &o.guidance_scale_w, .argument = "W",
         .low = 0, .high = 100, .help = "guidance to distil in; users' CFG scale minus 1", .fallback = "8"},
        {.name = "num-ddim-timesteps", .kind = OPTION_INTEGER, .value = &o.num_ddim_timesteps, .argument = "M",
         .low = 1, .high = 1000, .help = "starts of sub-paths along the trajectory; progressive: steps of the first teacher",
         .fallback = "50; progressive: 64"},
        {.name = "skip", .kind = OPTION_INTEGER, .value = &o.skip, .argument = "K", .low = 1, .high = 1000,
         .help = "length of a sub-path in timesteps; not progressive", .fallback = "1000/M"},
        {.name = "solver-steps", .kind = OPTION_INTEGER, .value = &o.solver_steps, .argument = "N", .low = 1,
         .high = 16, .help = "the teacher's DDIM steps inside a sub-path", .fallback = "1; progressive: 2"},
        {.name = "phases", .kind = OPTION_INTEGER, .value = &o.phases, .argument = "P", .low = 1, .high = 1000,
         .help = "pcm: equal phases, and the student's number of steps", .fallback = "4"},
        {.name = "rounds", .kind = OPTION_INTEGER, .value = &o.rounds, .argument = "R", .low = 1, .high = 30,
         .help = "progressive: rounds that the steps are dealt out to; M is divided by N in each", .fallback = "4"},
        {.name = "sigma", .kind = OPTION_CHOICE, .value = &o.sigma, .choices = "quadratic|linear|chord",
         .help = "splam: noise level on the sub-path; linear is exact for DDIM, chord also where the end has no signal",
         .fallback = "quadratic"},
        {.name = "gamma-conditioning", .kind = OPTION_CHOICE, .value = &o.gamma_conditioning,
         .choices = "embedding|time",
         .help = "splam: tell gamma by an embedding (the paper) or by a fractional timestep", .fallback = "embedding"},
        {.name = "gamma-one-probability", .kind = OPTION_NUMBER, .value = &o.gamma_one_probability,
         .argument = "P", .low = 0, .high = 1, .help = "splam: share of samples drawn at the sub-path's start",
         .fallback = "0"},
        {.name = "gamma-power", .kind = OPTION_NUMBER, .value = &o.gamma_power, .argument = "X", .low = 1e-6,
         .high = 100, .help = "splam: gamma = uniform^X; below 1: nearer to the start", .fallback = "1"},
        {.name = "gamma-grid", .kind = OPTION_INTEGER, .value = &o.gamma_grid, .argument = "N", .low = 1,
         .high = 1e6, .help = "splam: gamma is one of 1/N, 2/N, ..., 1: (floor(N uniform^X) + 1)/N",
         .fallback = "any number"},
        {.name = "cond-proj-init", .kind = OPTION_CHOICE, .value = &o.cond_proj_init, .choices = "zero|random",
         .help = "splam by embedding: its layer at the start; zero: the student begins as the teacher",
         .fallback = "zero"},
        {.name = "lora-rank", .kind = OPTION_INTEGER, .value = &o.lora_rank, .argument = "R", .low = 1, .high = 4096,
         .help = "train low-rank adapters (LoRA) over the teacher's weights instead of the whole student"},
        {.name = "lora-alpha", .kind = OPTION_NUMBER, .value = &o.lora_alpha, .argument = "A", .low = 1e-6,
         .high = 1e6, .help = "the adapters' share is A/R", .fallback = "R"},
        {.name = "lora-targets", .kind = OPTION_CHOICE, .value = &o.lora_targets, .choices = "all|attention",
         .help = "layers with adapters: linear layers and convolutions of all blocks, or attention's projections",
         .fallback = "all"},
        {.name = "lora-start", .kind = OPTION_TEXT, .value = &o.lora_start, .argument = "FILE",
         .help = "start from these adapters, of the same rank and layers; else the student begins as the teacher"},
        {.name = "lora-merged", .kind = OPTION_FLAG, .value = &o.lora_merged,
         .help = "also write the whole student with the adapters in its weights"},
        OPTIONS_PICTURES(&o.pictures, &center),
        {.name = "mixed-precision", .kind = OPTION_CHOICE, .value = &mixed, .choices = "no|bf16",
         .help = "products and activations", .fallback = "bf16 where the processor has it"},
        {.name = "gradient-checkpointing", .kind = OPTION_FLAG, .value = &o.gradient_checkpointing,
         .help = "less memory, one more forward pass; without it, of as many blocks as the limit demands"},
        {.name = "memory-limit", .kind = OPTION_BYTES, .value = &o.memory_limit, .argument = "SIZE",
         .help = "refuse what needs more, 19G for example", .fallback = "what is free"},
        {.name = "checkpointing-steps", .kind = OPTION_INTEGER, .value = &o.checkpointing_steps, .argument = "N",
         .high = 1e9, .help = "steps between checkpoints; 0: only at the end and when stopped",
         .fallback = "200"},
        {.name = "checkpoints-total-limit", .kind = OPTION_INTEGER, .value = &o.checkpoints_total_limit,
         .argument = "N", .high = 1e6, .help = "older ones are removed; 0: none is", .fallback = "2"},
        {.name = "validation-steps", .kind = OPTION_INTEGER, .value = &o.validation_steps, .argument = "N",
         .high = 1e9, .help = "steps between sheets of samples, validation-N.png; 0: none", .fallback = "0"},
        {.name = "resume", .kind = OPTION_TEXT, .value = &o.resume, .argument = "latest|DIR",
         .help = "go on from the newest checkpoint in the output, or from this one"},
        {.name = "seed", .letter = 's', .kind = OPTION_SEED, .value = &o.seed, .argument = "S",
         .help = "of data order, noise and draws", .fallback = "0"},
        {.name = "dry-run", .kind = OPTION_FLAG, .value = &o.dry_run,
         .help = "print memory and the time of one step, then stop"},
        {.name = "draws", .kind = OPTION_TEXT, .value = &o.draws, .argument = "FILE",
         .help = "replay recorded draws (safetensors) instead of data"},
        {.name = "trace", .kind = OPTION_TEXT, .value = &o.trace, .argument = "FILE",
         .help = "write losses, gradient norms, predictions and targets (safetensors)"},
        OPTION_THREADS(&threads),
    };
    /* clang-format on */
    const command c = {
        .verb = "distill",
        .synopsis = "--teacher MODEL --data SPEC --output DIR [options]",
        .description = description,
        .options = options,
        .option_count = OPTION_COUNT(options),
        .examples = examples,
    };
    options_result result = options_parse(&c, argc, argv, NULL, NULL);
    if (result == OPTIONS_RUN) result = options_check_crop(&o.pictures, center);
    if (result != OPTIONS_RUN) return options_exit_code(result);
    if (!o.data && !o.draws)
        return cli_fail(CLI_USAGE, "distill needs --data; see splam distill --help");
    if (!o.output && !o.dry_run)
        return cli_fail(CLI_USAGE, "distill needs --output; see splam distill --help");
    o.precision = options_precision(mixed);
    splam_set_threads((int)threads);
    splam_terminal terminal;
    splam_callbacks callbacks = splam_terminal_callbacks(&terminal);
    return cli_finish(splam_distill(&o, &callbacks));
}
