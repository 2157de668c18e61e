/* A model that is none: what the public interface says of models and sessions, with pictures of one colour that are
 * there at once. Options are read, checked and compared as in the library, and what a request is drawn with is asked
 * and told in its order, so that a fuzzer goes through all of the server and waits for no network. */
#include <stdlib.h>
#include <string.h>
#include <splam/splam.h>
#include "base/log.h"
#include "base/memory.h"
#include "base/status.h"
#include "base/visible.h"
#include "diffusion/sampler_kind.h"
#include "options/options.h"

struct splam_model {
    int unused;
};
struct splam_session {
    uint8_t rgb[4 * 4 * 3];
};

const char *splam_version(void)
{
    return SPLAM_VERSION;
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

void splam_free(void *pointer)
{
    sp_free(pointer);
}

void splam_set_log(splam_log_fn *log, void *context)
{
    sp_log_set_sink(log, context);
}

const char *splam_sampler_label(const char *sampler)
{
    static const char *const labels[][2] = {
#define X(name, text, steps, label) {text, label},
        SP_SAMPLER_LIST(X)
#undef X
    };
    for (size_t i = 0; i < sizeof labels / sizeof *labels; i++)
        if (strcmp(labels[i][0], sampler) == 0) return labels[i][1];
    return NULL;
}

splam_status splam_model_open(const char *path, const splam_model_options *options, const splam_callbacks *callbacks,
                              splam_model **out)
{
    (void)path, (void)options;
    *out = NULL;
    if (callbacks && callbacks->cancelled && callbacks->cancelled(callbacks->context)) return SPLAM_CANCELLED;
    *out = calloc(1, sizeof **out);
    return *out ? SPLAM_OK : SPLAM_MEMORY;
}

splam_status splam_model_describe(const splam_model *model, splam_model_facts *facts)
{
    (void)model;
    *facts = (splam_model_facts){.size = sizeof *facts, .name = "teacher", .hash = 0x0123456789abcdef, .width = 64,
                                 .height = 64, .multiple = 8, .sampler = "ddim", .steps = 20, .guidance = 7.5,
                                 .batch_pixels = 1 << 16};
    return SPLAM_OK;
}

void splam_model_close(splam_model *model)
{
    free(model);
}

splam_status splam_session_create(const splam_model *model, const splam_session_options *options, splam_session **out)
{
    (void)model, (void)options;
    *out = calloc(1, sizeof **out);
    return *out ? SPLAM_OK : SPLAM_MEMORY;
}

void splam_session_destroy(splam_session *session)
{
    free(session);
}

void splam_pictures_free(splam_pictures *pictures)
{
    free(pictures->rgb);
    *pictures = (splam_pictures){0};
}

bool splam_generate_may_batch(const splam_generate_options *a, const splam_generate_options *b)
{
    return sp_may_batch(a, b);
}

static void give(const splam_session *session, const splam_generate_options *o)
{
    static const uint8_t file[] = "a file";
    const splam_picture picture = {4, 4, session->rgb};
    for (int64_t i = 0; i < o->count; i++) {
        const splam_preview preview = {.number = i, .done = 1, .total = 1, .picture = picture};
        const splam_drawn drawn = {.number = i, .seed = o->seed + (uint64_t)i, .picture = picture, .file = file,
                                   .file_size = sizeof file, .parameters = o->prompt, .json = "{\"seed\": 1}"};
        if (o->watch) o->watch(o->watcher, &preview);
        o->receive(o->receiver, &drawn);
    }
}

splam_status splam_session_generate_batch(splam_session *session, const splam_session_request *requests, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const splam_session_request *r = &requests[i];
        splam_generate_options own = *r->options;
        own.model = "the session's";
        splam_status status = sp_options_check(&sp_verb_generate, &own);
        if (i && !sp_may_batch(requests[0].options, r->options)) abort();
        if (!status && r->callbacks.cancelled(r->callbacks.context)) status = SPLAM_CANCELLED;
        if (!status && r->warn) r->warn(r->callbacks.context, own.prompt);
        if (!status) r->callbacks.report(r->callbacks.context, "denoising", 1, 1, NULL);
        if (!status) give(session, &own);
        r->ended(r->callbacks.context, status, status ? sp_error_message() : "");
    }
    return SPLAM_OK;
}
