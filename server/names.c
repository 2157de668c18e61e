/* A1111's names. */
#include "names.h"
#include <splam/splam.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

const sv_scheduler_name sv_scheduler_names[] = {
    {"automatic", "Automatic", NULL, NULL},
    {"karras", "Karras", "karras", NULL},
    {"exponential", "Exponential", "exponential", NULL},
    {"normal", "Normal", "normal", NULL},
    {"sgm_uniform", "SGM Uniform", NULL, "trailing"},
    {0},
};

/* The choices of `splam generate --sampler`, "a|b|c". */
static const char *sampler_choices(void)
{
    const splam_option *o = splam_option_at("generate", 0);
    for (size_t i = 1; o && strcmp(o->name, "sampler"); i++)
        o = splam_option_at("generate", i);
    return o ? o->choices : "";
}

bool sv_sampler_at(int i, char out[SV_SAMPLER_BYTES])
{
    const char *at = sampler_choices();
    for (; i > 0 && at; i--)
        if ((at = strchr(at, '|'))) at++;
    if (!at || !*at) return false;
    snprintf(out, SV_SAMPLER_BYTES, "%.*s", (int)strcspn(at, "|"), at);
    return true;
}

/* The first `length` letters of a name: A1111's, in either case, or the library's. */
static bool find(const char *name, size_t length, char out[SV_SAMPLER_BYTES])
{
    for (int i = 0; sv_sampler_at(i, out); i++) {
        const char *label = splam_sampler_label(out);
        if ((strlen(label) == length && strncasecmp(label, name, length) == 0) ||
            (strlen(out) == length && strncmp(out, name, length) == 0))
            return true;
    }
    return false;
}

bool sv_sampler_by_name(const char *name, char out[SV_SAMPLER_BYTES], const char **sigmas)
{
    static const char *const endings[] = {" Karras", " Exponential"};
    size_t length = strlen(name);
    bool found = find(name, length, out);
    for (int i = 0; i < 2 && !found; i++) {
        size_t ending = strlen(endings[i]);
        if (length <= ending || strcasecmp(name + length - ending, endings[i])) continue;
        found = find(name, length - ending, out);
        *sigmas = i ? "exponential" : "karras";
    }
    return found;
}

const sv_scheduler_name *sv_scheduler_by_name(const char *name)
{
    for (const sv_scheduler_name *n = sv_scheduler_names; n->name; n++)
        if (strcasecmp(n->name, name) == 0 || strcasecmp(n->label, name) == 0) return n;
    return NULL;
}
