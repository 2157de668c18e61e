/* Moving averages of weights. */
#include "train/average.h"
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double ramp_up = 0.05; /* of the samples so far, as in Karras et al. 2022 */

/* What stands before the number, and the number's range. */
static const struct {
    const char *prefix;
    double low, high;
} forms[] = {[SP_AVERAGE_RATE] = {"", 0, 1},
             [SP_AVERAGE_POWER] = {"power:", 1e-4, 0.28},
             [SP_AVERAGE_HALF_LIFE] = {"half-life:", 1, 1e15}};

double sp_average_rate(const sp_average *a, int64_t updates, int64_t samples)
{
    double n = (double)updates, rising = (1 + n) / (10 + n);
    if (a->form == SP_AVERAGE_POWER) return pow(1 - 1 / (n + 1), a->gamma + 1);
    if (a->form == SP_AVERAGE_RATE) return a->rises && rising < a->value ? rising : a->value;
    double half_life = fmin(a->value, ramp_up * n * (double)samples);
    return half_life > 0 ? pow(0.5, (double)samples / half_life) : 0;
}

static double width(double gamma)
{
    return sqrt((gamma + 1) / (gamma + 3)) / (gamma + 2);
}

/* The width falls with gamma >= 0 and is below 1/gamma: halving, until no double lies between. */
double sp_average_gamma(double sigma_rel)
{
    double low = 0, high = 1 / sigma_rel;
    for (;;) {
        double middle = low + (high - low) / 2;
        if (middle <= low || middle >= high) return middle;
        if (width(middle) > sigma_rel)
            low = middle;
        else
            high = middle;
    }
}

/* A number that is the whole text, without the names of numbers and spaces that C reads too. */
static bool read_number(const char *text, double *out)
{
    char *end;
    if (!isdigit((unsigned char)*text) && *text != '.') return false;
    *out = strtod(text, &end);
    return !*end && isfinite(*out);
}

sp_status sp_average_of(const char *member, const char *text, sp_average *out)
{
    *out = (sp_average){.form = SP_AVERAGE_RATE};
    for (int form = SP_AVERAGE_POWER; form <= SP_AVERAGE_HALF_LIFE; form++)
        if (sp_starts_with(text, forms[form].prefix)) out->form = (sp_average_form)form;
    const char *prefix = forms[out->form].prefix;
    if (!read_number(text + strlen(prefix), &out->value))
        return sp_fail(SP_ARGUMENT, "`%s` is \"%.64s\", a number from 0 to 1, power:SIGMA_REL or half-life:SAMPLES is "
                                    "expected",
                       member, text);
    double low = forms[out->form].low, high = forms[out->form].high;
    if (out->value < low || out->value > high)
        return sp_fail(SP_ARGUMENT, "`%s` is \"%.64s\", %sX with X from %.12g to %.12g is expected", member, text,
                       prefix, low, high);
    if (out->form == SP_AVERAGE_POWER) out->gamma = sp_average_gamma(out->value);
    return SP_OK;
}

bool sp_average_equal(const sp_average *a, const sp_average *b)
{
    return a->form == b->form && a->value == b->value && a->rises == b->rises;
}

const char *sp_average_text(const sp_average *a, char text[SP_AVERAGE_TEXT])
{
    char number[SP_NUMBER_TEXT];
    snprintf(text, SP_AVERAGE_TEXT, "%s%s", forms[a->form].prefix, sp_number_text(a->value, number));
    return text;
}

sp_setting sp_average_setting(const char *flag, const sp_average *a, char text[SP_AVERAGE_TEXT])
{
    if (a->form == SP_AVERAGE_RATE) return sp_setting_number(flag, a->value);
    return sp_setting_text(flag, sp_average_text(a, text));
}
