/* A1111's names. */
#include "names.h"
#include <string.h>
#include <strings.h>

const sv_sampler_name sv_sampler_names[] = {
    {"LCM", "lcm"},   {"DDIM", "ddim"},       {"DPM++ 2M", "dpm++2m"}, {"DPM++ 2M SDE", "dpm++2m-sde"},
    {"UniPC", "unipc"}, {"Euler", "euler"}, {"Euler a", "euler-a"},  {"Heun", "heun"},
    {"TCD", "tcd"},   {0},
};

const sv_scheduler_name sv_scheduler_names[] = {
    {"automatic", "Automatic", NULL, NULL},
    {"karras", "Karras", "karras", NULL},
    {"exponential", "Exponential", "exponential", NULL},
    {"normal", "Normal", "normal", NULL},
    {"sgm_uniform", "SGM Uniform", NULL, "trailing"},
    {0},
};

/* Without regard to letters' case; the first `length` of them. */
static const char *find(const char *name, size_t length)
{
    for (const sv_sampler_name *n = sv_sampler_names; n->name; n++)
        if ((strlen(n->name) == length && strncasecmp(n->name, name, length) == 0) ||
            (strlen(n->sampler) == length && strncmp(n->sampler, name, length) == 0))
            return n->sampler;
    return NULL;
}

const char *sv_sampler_by_name(const char *name, const char **sigmas)
{
    static const char *const endings[] = {" Karras", " Exponential"};
    size_t length = strlen(name);
    const char *found = find(name, length);
    for (int i = 0; i < 2 && !found; i++) {
        size_t ending = strlen(endings[i]);
        if (length <= ending || strcasecmp(name + length - ending, endings[i])) continue;
        found = find(name, length - ending);
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

const char *sv_name_of_sampler(const char *sampler)
{
    for (const sv_sampler_name *n = sv_sampler_names; n->name; n++)
        if (strcmp(n->sampler, sampler) == 0) return n->name;
    return sampler;
}
