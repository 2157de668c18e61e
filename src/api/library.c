/* The library as such: version, errors, log, threads. */
#include "splam/splam.h"

#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "base/parallel.h"
#include "base/progress.h"
#include "base/visible.h"
#include "diffusion/sampler.h"
#include "train/distributed.h"

const char *splam_version(void)
{
    return SPLAM_VERSION;
}

const char *splam_mpi(void)
{
    return sp_ranks_library();
}

const char *splam_error_message(void)
{
    return sp_error_message();
}

const char *splam_sampler_label(const char *sampler)
{
    for (int i = 0; i < SP_SAMPLER_COUNT; i++)
        if (strcmp(sp_sampler_name((sp_sampler_kind)i), sampler) == 0) return sp_sampler_label((sp_sampler_kind)i);
    return NULL;
}

const char *splam_status_text(splam_status status)
{
    return sp_status_text(status);
}

size_t splam_visible_text(const char *text, char *out, size_t size)
{
    return sp_visible(text, strlen(text), out, size);
}

splam_callbacks splam_terminal_callbacks(splam_terminal *terminal)
{
    _Static_assert(sizeof(sp_progress) <= sizeof(splam_terminal), "splam_terminal is too small");
    sp_progress_init((sp_progress *)terminal);
    sp_install_interrupt();
    return (splam_callbacks){terminal, sp_progress_report, sp_interrupted};
}

void splam_set_log(splam_log_fn *log, void *context)
{
    sp_log_set_sink(log, context);
}

void splam_set_threads(int count)
{
    sp_set_threads(count);
}

void splam_free(void *pointer)
{
    sp_free(pointer);
}
