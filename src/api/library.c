/* The library as such: version, errors, threads, and public types as its own. */
#include "splam/splam.h"

#include <math.h>
#include <string.h>

#include "api/public_types.h"
#include "backend/registry.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/parallel.h"
#include "base/visible.h"
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

const char *splam_status_text(splam_status status)
{
    return sp_status_text(status);
}

size_t splam_visible_text(const char *text, char *out, size_t size)
{
    return sp_visible(text, strlen(text), out, size);
}

sp_callbacks sp_callbacks_or_none(const splam_callbacks *callbacks)
{
    return callbacks ? *callbacks : (sp_callbacks){0};
}

sp_status sp_check_loras(const splam_lora *loras, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (!loras[i].path) return sp_fail(SP_ARGUMENT, "a LoRA's file is missing");
        if (!isfinite(loras[i].weight))
            return sp_fail(SP_ARGUMENT, "%s: the weight %g is not finite", loras[i].path,
                           loras[i].weight);
    }
    return SP_OK;
}

static double filter(double limit)
{
    return limit == (double)SPLAM_UNSET ? 0 : limit;
}

sp_dataset_options sp_picture_options_of(const splam_picture_options *o, uint64_t seed)
{
    return (sp_dataset_options){
        .resolution = o->resolution == SPLAM_UNSET ? 0 : (int)o->resolution,
        .min_size = o->min_size == SPLAM_UNSET ? 0 : (int)o->min_size,
        .min_aesthetic = filter(o->min_aesthetic),
        .max_watermark = filter(o->max_watermark),
        .min_similarity = filter(o->min_similarity),
        .caption_column = o->caption_column,
        .random_crop = o->random_crop,
        .random_flip = o->random_flip,
        .seed = seed,
    };
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
