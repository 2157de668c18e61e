/* Progress of an inner call under the name that its caller gives the work. */
#ifndef SP_EVAL_TASK_NAME_H
#define SP_EVAL_TASK_NAME_H
#include "base/progress.h"

typedef struct {
    const sp_callbacks *outer; /* may be NULL */
    const char *task;          /* NULL: the inner names stay */
} sp_renamed_task;
/* Callbacks that report as `name` says; it outlives them. */
sp_callbacks sp_rename_task(const sp_renamed_task *name);

#endif
