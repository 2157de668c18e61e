/* What the demo distils with, on the teacher in assets/. Sub-paths of 100 timesteps with one step of the teacher, of
 * 200 with two and with four, and of 400 with four were tried with both methods, in 500 steps, on other captions and
 * noise than are shown (docs/study.md). The last are the best of both; they are the same, so that the teacher runs
 * once for the two students. SPLAM's gamma is above .8 nine times in ten, where hops are long, as a short training
 * needs them. The number of steps is what two cores with AVX2 do in the time that a demo may take. */
#ifndef SP_RECIPES_DEMO_SETTINGS_H
#define SP_RECIPES_DEMO_SETTINGS_H
#include <splam/options.h>

typedef struct {
    const char *name, *title; /* the objective, which is the report's "model"; the sheet's rows */
    const char *folder;       /* of the student, in the demo's output */
    int64_t skip;             /* length of a sub-path in timesteps */
    int64_t solver_steps;     /* the teacher's inside it */
    double learning_rate;
    const char *ema_decay;
    const char *sigma, *gamma_conditioning;
    double gamma_one_probability, gamma_power;
} sp_demo_method;

static const sp_demo_method sp_demo_methods[] = {
    {.name = "lcm",
     .title = "LCM",
     .folder = "lcm",
     .skip = 400,
     .solver_steps = 4,
     .learning_rate = 2e-4,
     .ema_decay = "0.95",
     .gamma_one_probability = (double)SPLAM_UNSET,
     .gamma_power = (double)SPLAM_UNSET},
    {.name = "splam",
     .title = "SPLAM",
     .folder = "student",
     .skip = 400,
     .solver_steps = 4,
     .learning_rate = 2e-4,
     .ema_decay = "0.95",
     .sigma = "linear",
     .gamma_conditioning = "time",
     .gamma_one_probability = 0,
     .gamma_power = 0.1},
};
enum { SP_DEMO_METHODS = sizeof sp_demo_methods / sizeof *sp_demo_methods };

/* The same for both. */
enum { SP_DEMO_TRAIN_STEPS = 96, SP_DEMO_BATCH = 32, SP_DEMO_PROMPTS = 80 };
static const double sp_demo_guidance_scale_w = 7; /* the paper's tables are at 8 */
static const char sp_demo_lr_scheduler[] = "cosine";
static const char sp_demo_unet[] = "unet_ema"; /* the weights that are shown: the average */

/* The columns of the sheet: kinds of many pictures (emoji:kinds). */
static const char *const sp_demo_prompts[] = {
    "person role",      "animal mammal", "animal bird", "face smiling", "food fruit",
    "transport ground", "country flag",  "clothing",    "heart",        "plant flower",
};
enum { SP_DEMO_SHEET_PROMPTS = sizeof sp_demo_prompts / sizeof *sp_demo_prompts };

#endif
