/* Callbacks made of others. */
#include "base/inner_callbacks.h"
#include <stdint.h>

static void report(void *context, const char *task, int64_t done, int64_t total, const char *detail)
{
    const sp_renamed_task *name = context;
    sp_report(name->outer, name->task ? name->task : task, done, total, detail);
}

static bool cancelled(void *context)
{
    const sp_renamed_task *name = context;
    return name->outer && name->outer->cancelled && name->outer->cancelled(name->outer->context);
}

sp_callbacks sp_rename_task(const sp_renamed_task *name)
{
    return (sp_callbacks){(void *)(uintptr_t)name, report, cancelled};
}

sp_callbacks sp_without_report(const sp_callbacks *callbacks)
{
    return callbacks ? (sp_callbacks){callbacks->context, NULL, callbacks->cancelled} : (sp_callbacks){0};
}
