/* splam train vae|teacher */
#include <string.h>

#include "options.h"
#include "verbs.h"

static const char description[] =
    "Trains the models of a small latent diffusion system from nothing: first an autoencoder (vae),\n"
    "then a text encoder and a UNet on its latents (teacher). The output of `teacher` is a whole\n"
    "diffusers folder. Ctrl-C saves a checkpoint and stops; --resume latest goes on with the same bits.";

static const char *const examples[] = {
    "splam train vae --data emoji: --output emoji-vae",
    "splam train teacher --data emoji: --vae emoji-vae --output emoji-teacher --validation-steps 1000",
    "splam train teacher --data emoji: --vae emoji-vae --output emoji-teacher --resume latest",
    "splam train teacher --data folder:pictures --vae emoji-vae --output mine --v-prediction",
    NULL,
};

int cli_train(int argc, char **argv)
{
    splam_train_options o = {
        .checkpointing_steps = 500, .caption_dropout = 0.1, .caption_variety = 0.25};
    int64_t threads = 0;
    const char *mixed = NULL, *prediction = "epsilon";
    bool v = false;
    /* clang-format off */
    const option options[] = {
        {.name = "data", .kind = OPTION_TEXT, .value = &o.data, .argument = "SPEC",
         .required = true,
         .help = "pictures and captions: " DATA_SETS "; each line of a .txt is a caption of its picture"},
        OPTION_CAPTION_COLUMN(&o.caption_column),
        {.name = "output", .kind = OPTION_TEXT, .value = &o.output, .argument = "DIR",
         .required = true, .help = "folder for the model, checkpoint-N/ and metrics.jsonl"},
        {.name = "vae", .kind = OPTION_TEXT, .value = &o.vae, .argument = "PATH",
         .help = "teacher: the autoencoder's folder or file, or a model with one"},
        {.name = "max-train-steps", .kind = OPTION_INTEGER, .value = &o.max_train_steps,
         .argument = "N", .low = 1, .high = 1e9, .help = "optimiser steps",
         .fallback = "vae 2000, teacher 8000"},
        {.name = "train-batch-size", .kind = OPTION_INTEGER, .value = &o.train_batch_size,
         .argument = "N", .low = 1, .high = 4096, .help = "pictures per step",
         .fallback = "vae 32, teacher 64"},
        {.name = "learning-rate", .kind = OPTION_NUMBER, .value = &o.learning_rate,
         .argument = "X", .low = 1e-12, .high = 1, .help = "of AdamW, at its highest",
         .fallback = "vae 1e-3, teacher 8e-4"},
        {.name = "ema-decay", .kind = OPTION_NUMBER, .value = &o.ema_decay, .argument = "X",
         .low = 1e-12, .high = 1, .help = "of the averaged weights, which are the result",
         .fallback = "vae 0.995, teacher 0.999"},
        {.name = "v-prediction", .kind = OPTION_FLAG, .value = &v,
         .help = "teacher: short for --prediction-type v_prediction"},
        {.name = "prediction-type", .kind = OPTION_CHOICE, .value = &prediction,
         .choices = "epsilon|v_prediction", .help = "teacher: what the UNet predicts",
         .fallback = "epsilon"},
        {.name = "caption-dropout", .kind = OPTION_NUMBER, .value = &o.caption_dropout,
         .argument = "P", .high = 1, .help = "teacher: share of empty captions, for guidance",
         .fallback = "0.1"},
        {.name = "caption-variety", .kind = OPTION_NUMBER, .value = &o.caption_variety,
         .argument = "P", .high = 1,
         .help = "teacher: share of captions other than the first (or the official name)", .fallback = "0.25"},
        {.name = "checkpointing-steps", .kind = OPTION_INTEGER, .value = &o.checkpointing_steps,
         .argument = "N", .high = 1e9,
         .help = "steps between checkpoints; 0: only at the end and when stopped",
         .fallback = "500"},
        {.name = "validation-steps", .kind = OPTION_INTEGER, .value = &o.validation_steps,
         .argument = "N", .high = 1e9, .help = "teacher: steps between sheets of samples; 0: none",
         .fallback = "0"},
        {.name = "resume", .kind = OPTION_TEXT, .value = &o.resume, .argument = "latest|DIR",
         .help = "go on from the newest checkpoint in the output, or from this one"},
        {.name = "seed", .letter = 's', .kind = OPTION_SEED, .value = &o.seed, .argument = "S",
         .help = "of initial weights, data order and draws", .fallback = "0"},
        {.name = "mixed-precision", .kind = OPTION_CHOICE, .value = &mixed, .choices = "no|bf16",
         .help = "products and activations", .fallback = "bf16 where the processor has it"},
        OPTION_THREADS(&threads),
    };
    /* clang-format on */
    const command c = {
        .verb = "train",
        .synopsis = "vae|teacher --data SPEC --output DIR [options]",
        .description = description,
        .options = options,
        .option_count = OPTION_COUNT(options),
        .operand = "vae or teacher",
        .operands_min = 1,
        .operands_max = 1,
        .examples = examples,
    };
    const char *what;
    options_result result = options_parse(&c, argc, argv, &what, NULL);
    if (result != OPTIONS_RUN) return options_exit_code(result);
    bool teacher = strcmp(what, "teacher") == 0;
    if (!teacher && strcmp(what, "vae") != 0)
        return cli_fail(CLI_USAGE, "train takes vae or teacher, not \"%s\"", what);
    if (teacher && !o.vae)
        return cli_fail(CLI_USAGE, "train teacher needs --vae; see splam train --help");
    o.precision = options_precision(mixed);
    o.v_prediction = v || strcmp(prediction, "v_prediction") == 0;
    splam_set_threads((int)threads);
    splam_terminal terminal;
    splam_callbacks callbacks = splam_terminal_callbacks(&terminal);
    return cli_finish(teacher ? splam_train_teacher(&o, &callbacks)
                              : splam_train_vae(&o, &callbacks));
}
