/* What was left out and why: counts by reason, each with an example. */
#ifndef SP_DATA_REJECTIONS_H
#define SP_DATA_REJECTIONS_H
#include <stdint.h>
#include "base/text.h"

typedef struct {
    char reason[96]; /* "no caption", ... */
    int64_t count;
    char example[200]; /* the first one met: its name, and what was wrong with it */
} sp_rejection;
enum { SP_MAX_REASONS = 32 }; /* that one list can have */

typedef struct sp_rejections sp_rejections;
sp_rejections *sp_rejections_create(void);             /* NULL when out of memory */
void sp_rejections_destroy(sp_rejections *rejections); /* NULL is legal */
/* Counts one; any thread. `detail` may be NULL. Texts may be any bytes. */
void sp_rejections_add(sp_rejections *rejections, const char *reason, const char *name, const char *detail);
/* Counts those of another list too. */
void sp_rejections_add_list(sp_rejections *rejections, const sp_rejection *list, size_t count);
/* Copies the reasons so far, up to `capacity`, in the order met; returns how many there are. */
size_t sp_rejections_list(sp_rejections *rejections, sp_rejection *out, size_t capacity);

int64_t sp_rejections_sum(const sp_rejection *list, size_t count);
/* Appends lines for people: how many were rejected, and by reason. */
void sp_rejections_append(const sp_rejection *list, size_t count, sp_string *out);

#endif
