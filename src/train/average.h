/* Moving averages of weights: the share that an average keeps of itself at each update,
 * average = beta average + (1 - beta) weights. */
#ifndef SP_TRAIN_AVERAGE_H
#define SP_TRAIN_AVERAGE_H
#include <stdbool.h>
#include <stdint.h>
#include "base/text.h"
#include "train/settings.h"

/* beta of update t = 1, 2, ... with n samples each:
 *   rate       a constant; 0: the weights themselves
 *   power      (1 - 1/t)^(gamma + 1), gamma from sigma_rel: weights of update i have the share (i/t)^(gamma+1) -
 *              ((i-1)/t)^(gamma+1), a profile that grows as the run does and whose width, as a standard deviation, is
 *              sigma_rel of the run so far (Karras et al. 2024, "Analyzing and Improving the Training Dynamics of
 *              Diffusion Models", equation 127). What was there before the first update is forgotten
 *   half-life  .5^(n/H), H = min(half-life, .05 samples so far), in samples: a ramp-up while the run is shorter than
 *              twenty half-lives (Karras et al. 2022, their training loop); update 1 is the weights */
typedef enum { SP_AVERAGE_RATE, SP_AVERAGE_POWER, SP_AVERAGE_HALF_LIFE } sp_average_form;
typedef struct {
    sp_average_form form;
    double value; /* beta, sigma_rel or the half-life */
    double gamma; /* power */
    bool rises;   /* rate: at most t/(t + 9), so that the start is forgotten, as `splam train` has it */
} sp_average;

/* updates: those that there were before, t - 1. */
double sp_average_rate(const sp_average *average, int64_t updates, int64_t samples);
/* The exponent of the profile t^gamma on [0,1] whose standard deviation is sigma_rel: the largest root of
 * sigma_rel^2 = (gamma + 1)/((gamma + 2)^2 (gamma + 3)). sigma_rel in 1e-4..1/sqrt(12), of which gamma = 0. */
double sp_average_gamma(double sigma_rel);

/* Of "X", X in 0..1, "power:SIGMA_REL", SIGMA_REL in 1e-4..0.28, or "half-life:SAMPLES", 1 or more. SP_ARGUMENT, naming
 * the member, for any other text. */
sp_status sp_average_of(const char *member, const char *text, sp_average *out);
/* Whether it is the weights themselves, of rate 0. */
static inline bool sp_average_is_weights(const sp_average *average)
{
    return average->form == SP_AVERAGE_RATE && average->value == 0;
}
bool sp_average_equal(const sp_average *a, const sp_average *b);
enum { SP_AVERAGE_TEXT = SP_NUMBER_TEXT + 16 };
/* The same text; and the same as a setting, a number where it is one. `text` has to outlive the setting. */
const char *sp_average_text(const sp_average *average, char text[SP_AVERAGE_TEXT]);
sp_setting sp_average_setting(const char *flag, const sp_average *average, char text[SP_AVERAGE_TEXT]);

#endif
