/* What the demo distils with, on the teacher in assets/: sub-paths and learning rate as a search
 * found them for LCM, SPLAM's sigma and draw of gamma as the ablation did (docs/results.md). */
#ifndef SP_RECIPES_DEMO_SETTINGS_H
#define SP_RECIPES_DEMO_SETTINGS_H
#include <splam/options.h>

typedef struct {
    const char *name, *title; /* the objective, which is the report's "model"; the sheet's rows */
    const char *folder;       /* of the student, in the demo's output */
    const char *sigma, *gamma_conditioning;
    double gamma_one_probability;
} sp_demo_method;

static const sp_demo_method sp_demo_methods[] = {
    {.name = "lcm", .title = "LCM", .folder = "lcm", .gamma_one_probability = (double)SPLAM_UNSET},
    {.name = "splam",
     .title = "SPLAM",
     .folder = "student",
     .sigma = "quadratic",
     .gamma_conditioning = "time",
     .gamma_one_probability = 0.5},
};
enum { SP_DEMO_METHODS = sizeof sp_demo_methods / sizeof *sp_demo_methods };

/* The same for both. */
enum { SP_DEMO_SKIP = 150, SP_DEMO_TRAIN_STEPS = 150, SP_DEMO_BATCH = 32, SP_DEMO_PROMPTS = 128 };
static const double sp_demo_guidance_scale_w = 2, sp_demo_learning_rate = 1e-4;
static const char sp_demo_ema_decay[] = "0.95";
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
