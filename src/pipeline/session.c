/* Models that are held, sessions of them, and both for one call. */
#include <string.h>
#include "pipeline/session.h"
#include "backend/precision.h"
#include "backend/registry.h"
#include "base/memory.h"
#include "pipeline/forward.h"
#include "pipeline/request.h"

/* ---- models ---- */

static sp_status open_model(const char *path, const splam_model_options *o, const sp_callbacks *callbacks,
                            splam_model *out)
{
    sp_device *device;
    SP_TRY(sp_device_of(o->device, &device));
    const sp_model_options options = {.base = o->base,
                                      .unet = o->unet,
                                      .prediction = o->prediction_type,
                                      .vae = o->vae,
                                      .loras = o->loras,
                                      .lora_count = o->lora_count,
                                      .embeddings = o->embeddings,
                                      .embedding_count = o->embedding_count,
                                      .t5_absent = o->t5_absent,
                                      .t5 = o->t5,
                                      .weights = o->weights,
                                      .device = device,
                                      .precision = sp_precision_dtype(device, o->precision),
                                      .callbacks = callbacks};
    if (!path) return sp_fail(SP_ARGUMENT, "a model is missing");
    SP_TRY(sp_model_open(path, &options, &out->parts));
    return sp_model_facts_read(path, &options, out->parts, &out->facts);
}

sp_status sp_held_model_open(const char *path, const splam_model_options *o, const sp_callbacks *callbacks,
                             splam_model **out)
{
    splam_model *model = sp_alloc_zero(sizeof *model);
    if (!model) return SP_MEMORY;
    sp_status status = open_model(path, o, callbacks, model);
    if (status)
        sp_held_model_close(model);
    else
        *out = model;
    return status;
}

void sp_held_model_close(splam_model *model)
{
    if (!model) return;
    sp_model_close(model->parts);
    sp_model_facts_free(&model->facts);
    sp_free(model);
}

sp_status sp_held_model_describe(const splam_model *model, splam_model_facts *out)
{
    const splam_generate_options nothing = splam_generate_defaults();
    const sp_denoiser denoiser = sp_denoiser_of(&model->parts->denoiser->config);
    int64_t factor = model->parts->vae->config.vae.factor, side = denoiser.sample_size * factor;
    sp_sampling usual;
    SP_TRY(sp_sampling_choose(&nothing, &model->parts->scheduler, &denoiser, &usual));
    *out = (splam_model_facts){.size = sizeof *out,
                               .name = model->facts.name,
                               .hash = model->facts.hash,
                               .width = side,
                               .height = side,
                               .multiple = factor * denoiser.unit,
                               .sampler = sp_sampler_name(usual.sampler.kind),
                               .steps = usual.sampler.steps,
                               .guidance = usual.guidance,
                               .batch_pixels = sp_batch_pixels(model->parts)};
    return SP_OK;
}

/* ---- sessions ---- */

sp_status sp_session_create(const splam_model *model, const splam_session_options *o, splam_session **out)
{
    if (!model) return sp_fail(SP_ARGUMENT, "a model is missing");
    splam_session *session = sp_alloc_zero(sizeof *session);
    if (!session) return SP_MEMORY;
    session->model = model;
    sp_status status = sp_pipeline_create(model->parts, &session->pipeline);
    if (!status) session->pipeline->plans.most = (int)o->sizes;
    if (status)
        sp_session_destroy(session);
    else
        *out = session;
    return status;
}

void sp_session_destroy(splam_session *session)
{
    if (!session) return;
    sp_pipeline_close(session->pipeline);
    sp_free(session);
}

static void draw(splam_session *session, bool held, double began, sp_drawing *drawings, size_t count,
                 splam_generate_seconds *seconds)
{
    const sp_generate_context context = {.pipeline = session->pipeline,
                                         .model = &session->model->facts,
                                         .held = held,
                                         .preview = &session->preview,
                                         .began = began,
                                         .seconds = seconds};
    sp_generate(&context, drawings, count);
}

/* One request, with the pictures that a failure leaves. */
static sp_status draw_one(splam_session *session, bool held, double began, sp_drawing *d,
                          splam_generate_seconds *seconds)
{
    draw(session, held, began, d, 1, seconds);
    sp_status status = d->status;
    sp_picture_output *output = &d->request->output;
    if (status == SP_CANCELLED && sp_picture_output_is_wanted(output))
        status = sp_fail(status, "interrupted: %lld of %lld pictures were written", (long long)output->written,
                         (long long)d->sizes.total);
    if (status && status != SP_CANCELLED && d->pictures) sp_pictures_free(d->pictures);
    sp_drawing_free(d);
    return status;
}

sp_status sp_session_generate(splam_session *session, const splam_generate_options *o, const sp_callbacks *callbacks,
                              splam_pictures *pictures)
{
    double began = sp_now();
    sp_request request = {0};
    splam_generate_seconds seconds = {0};
    sp_drawing drawing = {.request = &request, .callbacks = callbacks, .pictures = pictures};
    if (pictures) *pictures = (splam_pictures){0};
    sp_status status = sp_request_read(o, pictures, &request);
    if (!status) status = draw_one(session, true, began, &drawing, &seconds);
    sp_request_free(&request);
    seconds.total = sp_now() - began;
    if (o->seconds) *o->seconds = seconds;
    return status;
}

static void read_each(const splam_session_request *requests, size_t count, sp_request *read, sp_drawing *drawings)
{
    for (size_t i = 0; i < count; i++) {
        const splam_session_request *r = &requests[i];
        drawings[i] = (sp_drawing){
            .request = &read[i], .callbacks = &r->callbacks, .warn = r->warn, .ended = r->ended};
        sp_status status = sp_request_read(r->options, false, &read[i]);
        if (status) sp_drawing_end(&drawings[i], status);
    }
}

sp_status sp_session_generate_batch(splam_session *session, const splam_session_request *requests, size_t count)
{
    double began = sp_now();
    splam_generate_seconds seconds = {0};
    sp_drawing *drawings = sp_alloc_zero(count * sizeof *drawings);
    sp_request *read = sp_alloc_zero(count * sizeof *read);
    sp_status status = drawings && read ? SP_OK : SP_MEMORY;
    if (!status) read_each(requests, count, read, drawings);
    if (!status) draw(session, true, began, drawings, count, &seconds);
    seconds.total = sp_now() - began;
    for (size_t i = 0; i < count && !status; i++) {
        sp_drawing_free(&drawings[i]);
        sp_request_free(&read[i]);
        if (requests[i].options->seconds) *requests[i].options->seconds = seconds;
    }
    sp_free(drawings);
    sp_free(read);
    return status;
}

void sp_pictures_free(splam_pictures *pictures)
{
    sp_free(pictures->rgb);
    *pictures = (splam_pictures){0};
}

/* ---- one run on arrays ---- */

static sp_status view(const splam_tensor *given, sp_tensor *out)
{
    if (!given->name || !given->data) return sp_fail(SP_ARGUMENT, "an input has no name or no data");
    if (given->rank < 0 || given->rank > SP_MAX_RANK)
        return sp_fail(SP_SHAPE, "the inputs: tensor \"%s\" has %d dimensions, and %d are the most", given->name,
                       given->rank, SP_MAX_RANK);
    *out = (sp_tensor){.dtype = SP_F32, .shape.rank = given->rank, .data = (void *)(uintptr_t)given->data};
    for (int i = 0; i < given->rank; i++)
        out->shape.dim[i] = given->shape[i];
    return SP_OK;
}

/* Ids are whole numbers within. */
static sp_status take_input(const splam_tensor *given, sp_tensor *out, sp_named_tensor *named)
{
    sp_tensor tensor;
    SP_TRY(view(given, &tensor));
    *named = (sp_named_tensor){given->name, out};
    if (strcmp(given->name, "input_ids") == 0 || strcmp(given->name, "end_rows") == 0)
        return sp_tensor_convert(&tensor, SP_I32, out);
    *out = tensor;
    return SP_OK;
}

static sp_status give_outputs(sp_named_outputs *from, splam_tensors *to)
{
    to->item = sp_alloc_zero((size_t)from->count * sizeof *to->item);
    if (!to->item) return SP_MEMORY;
    for (int i = 0; i < from->count; i++) {
        sp_tensor *tensor = &from->item[i].tensor;
        SP_TRY(sp_tensor_check_finite(tensor, from->item[i].name));
        splam_tensor *out = &to->item[to->count++];
        *out = (splam_tensor){.name = from->item[i].name, .rank = tensor->shape.rank, .data = tensor->data};
        for (int d = 0; d < tensor->shape.rank; d++)
            out->shape[d] = tensor->shape.dim[d];
        *tensor = (sp_tensor){0}; /* its data is the caller's */
    }
    return SP_OK;
}

sp_status sp_session_forward(splam_session *session, const char *component, const splam_tensor *inputs, size_t count,
                             const sp_callbacks *callbacks, splam_tensors *outputs)
{
    sp_tensor tensors[SP_MAX_PORTS] = {0};
    sp_named_tensor named[SP_MAX_PORTS];
    sp_named_outputs results = {0};
    if (!component) return sp_fail(SP_ARGUMENT, "a component is missing");
    if (count > SP_MAX_PORTS)
        return sp_fail(SP_ARGUMENT, "%zu inputs are given, and no component takes more than %d", count, SP_MAX_PORTS);
    sp_status status = SP_OK;
    for (size_t i = 0; i < count && !status; i++)
        status = take_input(&inputs[i], &tensors[i], &named[i]);
    sp_pipeline *p = session->pipeline;
    if (!status)
        status = sp_model_forward(session->model->parts, &p->plans, component, named, count, callbacks, &results);
    if (!status) status = give_outputs(&results, outputs);
    if (status) sp_tensors_free(outputs);
    sp_named_outputs_free(&results);
    for (size_t i = 0; i < SP_MAX_PORTS; i++)
        sp_tensor_free(&tensors[i]);
    return status;
}

void sp_tensors_free(splam_tensors *tensors)
{
    for (size_t i = 0; i < tensors->count; i++)
        sp_free((void *)(uintptr_t)tensors->item[i].data);
    sp_free(tensors->item);
    *tensors = (splam_tensors){0};
}

/* ---- for one call ---- */

static sp_status open_and_draw(const splam_generate_options *o, const sp_callbacks *callbacks, double began,
                               splam_generate_seconds *seconds)
{
    const splam_model_options options = {.base = o->base,
                                         .unet = o->unet,
                                         .prediction_type = o->prediction_type,
                                         .vae = o->vae,
                                         .loras = o->loras,
                                         .lora_count = o->lora_count,
                                         .embeddings = o->embeddings,
                                         .embedding_count = o->embedding_count,
                                         .t5_absent = o->t5_absent,
                                         .t5 = o->t5,
                                         .weights = o->weights,
                                         .precision = o->precision,
                                         .device = o->device};
    splam_model model = {0};
    splam_session session = {.model = &model};
    sp_request request = {0};
    sp_status status = sp_request_read(o, false, &request);
    if (!status) status = open_model(o->model, &options, callbacks, &model);
    if (!status) status = sp_pipeline_create(model.parts, &session.pipeline);
    sp_drawing drawing = {.request = &request, .callbacks = callbacks};
    if (!status) status = draw_one(&session, false, began, &drawing, seconds);
    sp_request_free(&request);
    sp_pipeline_close(session.pipeline);
    sp_model_close(model.parts);
    sp_model_facts_free(&model.facts);
    return status;
}

sp_status sp_generate_once(const splam_generate_options *o, const sp_callbacks *callbacks)
{
    double began = sp_now();
    splam_generate_seconds seconds = {0};
    sp_status status = open_and_draw(o, callbacks, began, &seconds);
    seconds.total = sp_now() - began;
    if (o->seconds) *o->seconds = seconds;
    return status;
}
