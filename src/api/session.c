/* Models that are held and sessions of them. */
#include "splam/splam.h"
#include <string.h>
#include "base/memory.h"
#include "options/options.h"
#include "pipeline/session.h"

splam_status splam_model_open(const char *path, const splam_model_options *options, const splam_callbacks *callbacks,
                              splam_model **out)
{
    splam_model_options o = splam_model_defaults();
    *out = NULL;
    if (options) SP_TRY(sp_options_take(&sp_verb_model, options, &o));
    return sp_held_model_open(path, &o, callbacks, out);
}

splam_status splam_model_describe(const splam_model *model, splam_model_facts *facts)
{
    enum { MOST = 1 << 16 }; /* what is above is no size */
    splam_model_facts own;
    size_t size = facts->size;
    if (size < sizeof size || size > MOST)
        return sp_fail(SP_ARGUMENT, "`size` is %zu, and splam_model_facts has %zu: set it to sizeof(splam_model_facts)",
                       size, sizeof own);
    SP_TRY(sp_held_model_describe(model, &own));
    memset(facts, 0, size);
    memcpy(facts, &own, size < sizeof own ? size : sizeof own);
    facts->size = size;
    return SP_OK;
}

void splam_model_close(splam_model *model)
{
    sp_held_model_close(model);
}

splam_status splam_session_create(const splam_model *model, const splam_session_options *options, splam_session **out)
{
    splam_session_options o = splam_session_defaults();
    *out = NULL;
    if (options) SP_TRY(sp_options_take(&sp_verb_session, options, &o));
    return sp_session_create(model, &o, out);
}

void splam_session_destroy(splam_session *session)
{
    sp_session_destroy(session);
}

/* What is the model's was said when it was opened. */
static sp_status check_for_session(const splam_generate_options *o)
{
    const char *given = o->model             ? "model"
                        : o->unet            ? "unet"
                        : o->prediction_type ? "prediction_type"
                        : o->vae             ? "vae"
                        : o->lora_count      ? "loras"
                        : o->embedding_count ? "embeddings"
                        : o->t5_absent       ? "t5_absent"
                        : o->t5              ? "t5"
                        : o->weights         ? "weights"
                        : o->precision       ? "precision"
                        : o->device          ? "device"
                                             : NULL;
    if (!given) return SP_OK;
    return sp_fail(SP_ARGUMENT, "`%s` is given for a picture, and belongs to splam_model_open", given);
}

/* As of splam_generate, but for the model, which its table requires. */
static sp_status take_for_session(const splam_generate_options *given, splam_generate_options *own)
{
    SP_TRY(sp_options_copy(&sp_verb_generate, given, own));
    SP_TRY(check_for_session(own));
    own->model = "the session's";
    return sp_options_check(&sp_verb_generate, own);
}

splam_status splam_session_generate(splam_session *session, const splam_generate_options *options,
                                    const splam_callbacks *callbacks, splam_pictures *pictures)
{
    splam_generate_options o;
    if (pictures) *pictures = (splam_pictures){0};
    SP_TRY(take_for_session(options, &o));
    return sp_session_generate(session, &o, callbacks, pictures);
}

bool splam_generate_may_batch(const splam_generate_options *a, const splam_generate_options *b)
{
    splam_generate_options one, other;
    return !sp_options_copy(&sp_verb_generate, a, &one) && !sp_options_copy(&sp_verb_generate, b, &other) &&
           sp_may_batch(&one, &other);
}

static sp_status take_batch(const splam_session_request *given, size_t count, splam_generate_options *options,
                            splam_session_request *own)
{
    for (size_t i = 0; i < count; i++) {
        own[i] = given[i];
        own[i].options = &options[i];
        SP_TRY(take_for_session(given[i].options, &options[i]));
        if (i && !sp_may_batch(&options[0], &options[i]))
            return sp_fail(SP_ARGUMENT, "request %zu cannot be drawn in one batch with the first one", i);
    }
    return SP_OK;
}

splam_status splam_session_generate_batch(splam_session *session, const splam_session_request *requests, size_t count)
{
    splam_generate_options *options = sp_alloc_zero(count * sizeof *options);
    splam_session_request *own = sp_alloc_zero(count * sizeof *own);
    sp_status status = options && own ? take_batch(requests, count, options, own) : SP_MEMORY;
    if (!status) status = sp_session_generate_batch(session, own, count);
    sp_free(options);
    sp_free(own);
    return status;
}

void splam_pictures_free(splam_pictures *pictures)
{
    sp_pictures_free(pictures);
}

splam_status splam_session_forward(splam_session *session, const char *component, const splam_tensor *inputs,
                                   size_t count, const splam_callbacks *callbacks, splam_tensors *outputs)
{
    *outputs = (splam_tensors){0};
    return sp_session_forward(session, component, inputs, count, callbacks, outputs);
}

void splam_tensors_free(splam_tensors *tensors)
{
    sp_tensors_free(tensors);
}
