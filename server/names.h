/* Samplers and schedules under the names that A1111's web interface has for them. */
#ifndef SERVER_NAMES_H
#define SERVER_NAMES_H

typedef struct {
    const char *name, *sampler; /* the library's */
} sv_sampler_name;
extern const sv_sampler_name sv_sampler_names[]; /* an empty one is the last */

typedef struct {
    const char *name, *label;
    const char *sigmas, *spacing; /* the library's; NULL: as the model says */
} sv_scheduler_name;
extern const sv_scheduler_name sv_scheduler_names[]; /* likewise */

/* The library's sampler of "DPM++ 2M", and of "DPM++ 2M Karras", as older versions call it, with *sigmas; its own name
 * is known too. NULL: there is none. */
const char *sv_sampler_by_name(const char *name, const char **sigmas);
const sv_scheduler_name *sv_scheduler_by_name(const char *name); /* by either name; NULL: there is none */
/* A1111's name of a sampler of the library. */
const char *sv_name_of_sampler(const char *sampler);

#endif
