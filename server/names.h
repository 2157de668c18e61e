/* Samplers and schedules under the names that A1111's web interface has for them. */
#ifndef SERVER_NAMES_H
#define SERVER_NAMES_H
#include <stdbool.h>

/* The library's i-th sampler, from 0; false: there are no more. What A1111 calls it: splam_sampler_label. */
enum { SV_SAMPLER_BYTES = 32 };
bool sv_sampler_at(int i, char out[SV_SAMPLER_BYTES]);

typedef struct {
    const char *name, *label;
    const char *sigmas, *spacing; /* the library's; NULL: as the model says */
} sv_scheduler_name;
extern const sv_scheduler_name sv_scheduler_names[]; /* an empty one is the last */

/* The library's sampler of "DPM++ 2M", and of "DPM++ 2M Karras", as older versions call it, with *sigmas; its own name
 * is known too. False: there is none. */
bool sv_sampler_by_name(const char *name, char out[SV_SAMPLER_BYTES], const char **sigmas);
const sv_scheduler_name *sv_scheduler_by_name(const char *name); /* by either name; NULL: there is none */

#endif
