/* splam train vae|teacher */
#include <string.h>

#include "options.h"
#include "verbs.h"

static const char description[] =
    "Trains the models of a small latent diffusion system from scratch: first an autoencoder (vae),\n"
    "then text encoders and a UNet on its latents (teacher). The output of `teacher` is a whole\n"
    "diffusers folder. Ctrl-C saves a checkpoint and stops; --resume latest goes on with the same bits.";

static const char *const examples[] = {
    "splam train vae --data emoji: --output emoji-vae",
    "splam train teacher --data emoji: --vae emoji-vae --output emoji-teacher --validation-steps 1000",
    "splam train teacher --data emoji: --vae emoji-vae --output emoji-teacher --resume latest",
    "splam train teacher --data folder:pictures --vae emoji-vae --output mine --v-prediction",
    "splam train teacher --data emoji:kinds --vae emoji-vae --start emoji-teacher --output by-kind \\\n"
    "    --learning-rate 2e-4 --max-train-steps 3000",
    "splam train teacher --data emoji: --vae emoji-vae --family sdxl --width 32 --output small-xl",
    "splam train teacher --data emoji: --vae emoji-vae --family sd3 --output small-3",
    NULL,
};

int cli_train(int argc, char **argv)
{
    splam_train_options o = splam_train_defaults();
    bool v = false;
    /* clang-format off */
    const option own[] = {
        {.name = "v-prediction", .heading = "The model", .kind = OPTION_FLAG, .value = &v,
         .help = "teacher: short for --prediction-type v_prediction"},
    };
    /* clang-format on */
    const command c = {
        .verb = "train",
        .synopsis = "vae|teacher --data SPEC --output DIR [options]",
        .description = description,
        .computes = true,
        .target = &o,
        .options = own,
        .option_count = OPTION_COUNT(own),
        .operand = "vae or teacher",
        .examples = examples,
    };
    const char *what;
    options_result result = options_parse(&c, argc, argv, &what);
    if (result != OPTIONS_RUN) return options_exit_code(result);
    bool teacher = strcmp(what, "teacher") == 0;
    if (!teacher && strcmp(what, "vae") != 0)
        return cli_fail(CLI_USAGE, "train takes vae or teacher, not \"%s\"", what);
    if (teacher && !o.vae)
        return cli_fail(CLI_USAGE, "train teacher needs --vae; see splam train --help");
    if (v) o.prediction_type = "v_prediction";
    splam_terminal terminal;
    splam_callbacks callbacks = splam_terminal_callbacks(&terminal);
    return cli_finish(teacher ? splam_train_teacher(&o, &callbacks)
                              : splam_train_vae(&o, &callbacks));
}
