/* Callbacks for an inner call, made of the caller's: under the name that the caller gives the work, or without a
 * report. */
#ifndef SP_BASE_INNER_CALLBACKS_H
#define SP_BASE_INNER_CALLBACKS_H
#include "base/progress.h"

typedef struct {
    const sp_callbacks *outer; /* may be NULL */
    const char *task;          /* NULL: the inner names stay */
} sp_renamed_task;
/* Callbacks that report as `name` says; it outlives them. */
sp_callbacks sp_rename_task(const sp_renamed_task *name);

/* Work that can be stopped, and does not show. callbacks may be NULL. */
sp_callbacks sp_without_report(const sp_callbacks *callbacks);

#endif
