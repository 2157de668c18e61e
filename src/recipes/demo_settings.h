/* What the demo distils with, on the teacher in assets/: each method's own best, as the search of bench/study.py found
 * it at this budget (docs/study.md), on other captions and noise than are shown. */
#ifndef SP_RECIPES_DEMO_SETTINGS_H
#define SP_RECIPES_DEMO_SETTINGS_H
#include <splam/options.h>

typedef struct {
    const char *name, *title; /* the objective, which is the report's "model"; the sheet's rows */
    const char *folder;       /* of the student, in the demo's output */
    int64_t skip;             /* length of a sub-path in timesteps: from, */
    int64_t skip_to;          /* and to; SPLAM_UNSET: it does not change */
    double learning_rate;
    const char *lr_scheduler, *ema_decay;
    const char *sigma, *gamma_conditioning;
    double gamma_one_probability;
} sp_demo_method;

static const sp_demo_method sp_demo_methods[] = {
    {.name = "lcm",
     .title = "LCM",
     .folder = "lcm",
     .skip = 20,
     .skip_to = SPLAM_UNSET,
     .learning_rate = 2.5e-5,
     .lr_scheduler = "constant",
     .ema_decay = "0.95",
     .gamma_one_probability = (double)SPLAM_UNSET},
    {.name = "splam",
     .title = "SPLAM",
     .folder = "student",
     .skip = 50,
     .skip_to = SPLAM_UNSET,
     .learning_rate = 2.5e-5,
     .lr_scheduler = "cosine",
     .ema_decay = "0.95",
     .sigma = "quadratic",
     .gamma_conditioning = "time",
     .gamma_one_probability = 0.5},
};
enum { SP_DEMO_METHODS = sizeof sp_demo_methods / sizeof *sp_demo_methods };

/* The same for both. */
enum { SP_DEMO_TRAIN_STEPS = 100, SP_DEMO_BATCH = 32, SP_DEMO_PROMPTS = 96 };
static const double sp_demo_guidance_scale_w = 7; /* the paper's tables are at 8 */
static const char sp_demo_unet[] = "unet_ema"; /* the weights that are shown: the average */

/* The columns of the sheet: what is easy and what is not, then combinations that are held out. */
static const char *const sp_demo_prompts[] = {
    "red apple",
    "cat face",
    "pizza",
    "rocket",
    "smiling face with sunglasses",
    "woman office worker: medium skin tone",
    "man astronaut: medium-dark skin tone",
    "woman scientist: light skin tone",
    "woman police officer: medium skin tone",
    "santa claus: dark skin tone",
};
enum { SP_DEMO_SHEET_PROMPTS = sizeof sp_demo_prompts / sizeof *sp_demo_prompts };

#endif
