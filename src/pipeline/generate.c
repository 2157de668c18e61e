/* Requests that are drawn together, some pictures at a time: whose turn it is, what their batch is given, and who gets
 * what comes out. */
#include "pipeline/generate.h"
#include <string.h>
#include "base/log.h"
#include "base/memory.h"
#include "base/progress.h"
#include "pipeline/generate_memory.h"

/* A picture of a group: pictures that are in memory at once, those of one request being neighbours. */
typedef struct {
    sp_drawing *drawing;
    int64_t number; /* among those of its request */
} member;

typedef struct {
    const member *item;
    int64_t count;
} group;

typedef struct {
    const sp_generate_context *context;
    sp_pipeline *pipeline;
    sp_drawing *drawings;
    size_t count;
    sp_memory_choice memory;
    member *members; /* room for the group at hand */
    group at_hand;   /* what callbacks are about */
    uint8_t *small;  /* a preview */
    double stage_began;
} generation;

/* Adds the time since the last stage ended to one of the seconds. */
static void end_stage(generation *g, double *stage)
{
    double now = sp_now();
    *stage += now - g->stage_began;
    g->stage_began = now;
}

/* ---- a group ---- */

/* The pictures of one request at the beginning of a group. */
static int64_t part_of(const member *first, int64_t left)
{
    int64_t count = 1;
    while (count < left && first[count].drawing == first->drawing)
        count++;
    return count;
}

static bool same_skip_layers(const sp_skip_layers *a, const sp_skip_layers *b)
{
    return a->blocks == b->blocks && a->scale == b->scale && a->start == b->start && a->stop == b->stop;
}

/* What a batch has in common beside the options: two passes or one, the same third one, as many chunks. One that starts
 * from a picture is a group of its own. */
static bool goes_with(const sp_drawing *d, const member *first)
{
    const sp_drawing *other = first->drawing;
    if (d == other) return sp_drawing_chunks(d, d->next) == sp_drawing_chunks(d, first->number);
    return !d->posterior.data && !other->posterior.data && d->guided == other->guided &&
           same_skip_layers(&d->sampling.skip_layers, &other->sampling.skip_layers) &&
           sp_drawing_chunks(d, d->next) == sp_drawing_chunks(other, first->number);
}

/* As many pictures as are in memory at once; none: all requests have ended. */
static group next_group(generation *g)
{
    int64_t count = 0;
    for (size_t i = 0; i < g->count; i++) {
        sp_drawing *d = &g->drawings[i];
        while (!d->has_ended && d->next < d->sizes.total && count < g->memory.group &&
               (!count || goes_with(d, g->members)))
            g->members[count++] = (member){d, d->next++};
    }
    return (group){g->members, count};
}

static bool are_left(const generation *g)
{
    bool left = false;
    for (size_t i = 0; i < g->count; i++)
        left |= !g->drawings[i].has_ended && g->drawings[i].next < g->drawings[i].sizes.total;
    return left;
}

/* ---- what requests are told and asked while a group is drawn ---- */

static void report(void *context, const char *task, int64_t done, int64_t total, const char *detail)
{
    const group *a = &((const generation *)context)->at_hand;
    for (int64_t i = 0; i < a->count; i += part_of(a->item + i, a->count - i))
        if (!a->item[i].drawing->has_ended) sp_report(a->item[i].drawing->callbacks, task, done, total, detail);
}

/* Those who want to stop have ended; the others go on. */
static bool all_have_ended(void *context)
{
    const group *a = &((const generation *)context)->at_hand;
    bool all = true;
    for (int64_t i = 0; i < a->count; i += part_of(a->item + i, a->count - i)) {
        sp_drawing *d = a->item[i].drawing;
        if (!d->has_ended && sp_check_cancelled(d->callbacks)) sp_drawing_end(d, SP_CANCELLED);
        all &= d->has_ended;
    }
    return all;
}

static sp_callbacks callbacks_of(generation *g)
{
    return (sp_callbacks){.context = g, .report = report, .cancelled = all_have_ended};
}

static void see_estimate(void *context, int number, int64_t first, int64_t count, const float *x0)
{
    const generation *g = context;
    for (int64_t i = 0; i < count; i++) {
        const member *m = &g->at_hand.item[first + i];
        const splam_generate_options *o = m->drawing->request->options;
        const sp_picture_sizes *s = &m->drawing->sizes;
        int64_t height = s->height / s->factor, width = s->width / s->factor;
        if (!o->watch || m->drawing->has_ended) continue;
        sp_preview_draw(g->context->preview, x0 + i * s->channels * height * width, height, width, g->small);
        const splam_preview preview = {.number = m->number,
                                       .done = number + 1,
                                       .total = m->drawing->table.count,
                                       .picture = {width, height, g->small}};
        o->watch(o->watcher, &preview);
    }
}

static bool is_watched(const generation *g)
{
    bool watched = false;
    for (size_t i = 0; i < g->count; i++)
        watched |= !g->drawings[i].has_ended && g->drawings[i].request->options->watch;
    return watched;
}

static sp_status draw_noise(void *context, int64_t sample, int step, float *out, int64_t count)
{
    const member *m = &((const generation *)context)->at_hand.item[sample];
    const sp_noise *noise = &m->drawing->noise.noise;
    return noise->draw(noise->context, m->number, step, out, count);
}

/* ---- what a batch is given ---- */

static const char *prompt_of(const member *m)
{
    return m->drawing->request->prompts.text[m->number / m->drawing->sizes.each];
}

static bool has_prompt_of_last(const group *a, int64_t i)
{
    return i > 0 && strcmp(prompt_of(&a->item[i]), prompt_of(&a->item[i - 1])) == 0;
}

/* Each prompt is encoded once where it stands beside itself. */
static sp_status encode_prompts(generation *g, const group *a, sp_conditioning *out)
{
    const char **distinct = sp_alloc((size_t)a->count * sizeof *distinct);
    sp_conditioning set;
    int64_t count = 0, row = -1;
    if (!distinct) return SP_MEMORY;
    for (int64_t i = 0; i < a->count; i++)
        if (!has_prompt_of_last(a, i)) distinct[count++] = prompt_of(&a->item[i]);
    sp_status status = sp_pipeline_encode(g->pipeline, distinct, count, &set);
    sp_free(distinct);
    SP_TRY(status);
    status = sp_conditioning_create(&set, SP_F32, a->count, out);
    for (int64_t i = 0; i < a->count && !status; i++) {
        row += !has_prompt_of_last(a, i);
        sp_conditioning_copy(out, i, 1, &set, row);
    }
    sp_conditioning_free(&set);
    return status ? status : sp_drawing_frame(g->pipeline, a->item->drawing, out);
}

static const char *text_of(const char *text)
{
    return text ? text : "";
}

/* Unless it is there. `last`: of another request, which may have the same one; NULL: there is none. */
static sp_status encode_negative(generation *g, sp_drawing *d, int64_t chunks, const sp_drawing *last)
{
    sp_encoded_negative *own = &d->negative;
    const char *text = d->request->prompts.negative, *other = last ? last->request->prompts.negative : NULL;
    if (own->set.count && own->chunks == chunks) return SP_OK;
    sp_conditioning_free(&own->set);
    own->chunks = chunks;
    bool same = last && !text == !other && strcmp(text_of(text), text_of(other)) == 0;
    if (same) return sp_conditioning_convert(&last->negative.set, SP_F32, &own->set);
    SP_TRY(sp_pipeline_encode_negative(g->pipeline, text, &own->set));
    return sp_drawing_frame(g->pipeline, d, &own->set);
}

/* A row for each picture, new; nothing where there is no guidance. */
static sp_status encode_negatives(generation *g, const group *a, int64_t chunks, sp_conditioning *out)
{
    const sp_drawing *last = NULL;
    *out = (sp_conditioning){0};
    if (!a->item->drawing->guided) return SP_OK;
    for (int64_t i = 0, part; i < a->count; i += part) {
        sp_drawing *d = a->item[i].drawing;
        part = part_of(a->item + i, a->count - i);
        SP_TRY(encode_negative(g, d, chunks, last));
        if (!out->count) SP_TRY(sp_conditioning_create(&d->negative.set, SP_F32, a->count, out));
        sp_conditioning_copy(out, i, part, &d->negative.set, 0);
        last = d;
    }
    return SP_OK;
}

/* The latents that pictures start from, new; *out stays empty where there is no picture. */
static sp_status start_group(generation *g, const group *a, sp_tensor *out)
{
    const sp_drawing *d = a->item->drawing;
    *out = (sp_tensor){0};
    if (!d->posterior.data) return SP_OK;
    bool mean = d->noise_file && !d->noise.posterior.data;
    return sp_pipeline_draw_latents(g->pipeline, &d->posterior, mean ? NULL : &d->noise.noise, a->item->number,
                                    a->count, out);
}

typedef struct {
    sp_conditioning conditioning, negative;
    sp_tensor image;
    double *guidance; /* of each */
} inputs;

static sp_status make_inputs(generation *g, const group *a, inputs *in)
{
    const member *first = a->item;
    int64_t chunks = sp_drawing_chunks(first->drawing, first->number);
    sp_pipeline_set_syntax(g->pipeline, g->pipeline->syntax, chunks);
    in->guidance = sp_alloc((size_t)a->count * sizeof *in->guidance);
    if (!in->guidance) return SP_MEMORY;
    for (int64_t i = 0; i < a->count; i++)
        in->guidance[i] = first[i].drawing->sampling.guidance;
    SP_TRY(encode_negatives(g, a, chunks, &in->negative));
    SP_TRY(encode_prompts(g, a, &in->conditioning));
    end_stage(g, &g->context->seconds->text);
    return start_group(g, a, &in->image);
}

static void free_inputs(inputs *in)
{
    sp_conditioning_free(&in->conditioning);
    sp_conditioning_free(&in->negative);
    sp_tensor_free(&in->image);
    sp_free(in->guidance);
}

/* ---- drawing ---- */

static sp_status denoise_group(generation *g, const group *a, sp_tensor *latents)
{
    const sp_drawing *d = a->item->drawing;
    const sp_callbacks callbacks = callbacks_of(g);
    inputs in = {0};
    sp_status status = make_inputs(g, a, &in);
    const sp_denoise_request request = {
        .sampler = d->sampling.sampler,
        .guidance = d->sampling.guidance,
        .guidance_of_each = in.guidance,
        .skip_layers = d->sampling.skip_layers,
        .conditioning = &in.conditioning,
        .negative = &in.negative,
        .image = &in.image,
        .height = d->sizes.height / d->sizes.factor,
        .width = d->sizes.width / d->sizes.factor,
        .noise = {g, draw_noise},
        .batch = g->memory.batch,
        .observer = {.context = g, .estimate = is_watched(g) ? see_estimate : NULL},
    };
    if (!status) status = sp_pipeline_denoise(g->pipeline, &request, &callbacks, latents);
    free_inputs(&in);
    return status;
}

static void keep_latents(const group *a, const sp_tensor *latents)
{
    size_t one = sp_tensor_bytes(latents) / (size_t)a->count;
    for (int64_t i = 0; i < a->count; i++) {
        const sp_latents_file *file = &a->item[i].drawing->latents;
        if (file->path)
            memcpy((char *)file->all.data + (size_t)a->item[i].number * one,
                   (const char *)latents->data + (size_t)i * one, one);
    }
}

static bool wants_pictures(const group *a)
{
    bool wanted = false;
    for (int64_t i = 0; i < a->count; i++)
        wanted |= !a->item[i].drawing->has_ended && sp_drawing_wants_pictures(a->item[i].drawing);
    return wanted;
}

/* Latents and, where somebody wants them, pictures, each new. */
static sp_status draw_group(generation *g, const group *a, sp_tensor *images)
{
    sp_tensor latents = {0};
    bool more = g->context->held || are_left(g);
    const sp_callbacks callbacks = callbacks_of(g);
    *images = (sp_tensor){0};
    g->at_hand = *a;
    sp_pipeline_keep(g->pipeline, g->memory.keep && more);
    SP_TRY(denoise_group(g, a, &latents));
    /* Room for the VAE; packing the weights again for the next group takes seconds. */
    if (g->memory.release || !more) sp_pipeline_release(g->pipeline);
    keep_latents(a, &latents);
    end_stage(g, &g->context->seconds->denoise);
    sp_status status = wants_pictures(a) ? sp_pipeline_decode(g->pipeline, &latents, &callbacks, images) : SP_OK;
    sp_tensor_free(&latents);
    end_stage(g, &g->context->seconds->decode);
    return status;
}

/* Everybody gets theirs. */
static void give_group(generation *g, const group *a, const sp_tensor *images)
{
    int64_t one = images->data ? sp_tensor_count(images) / a->count : 0;
    for (int64_t i = 0; i < a->count; i++) {
        const member *m = &a->item[i];
        sp_drawing *d = m->drawing;
        sp_status status = SP_OK;
        if (d->has_ended) continue;
        if (sp_drawing_wants_pictures(d))
            status = sp_drawing_give(g->pipeline, d, m->number, (const float *)images->data + i * one);
        bool last = m->number + 1 == d->sizes.total;
        if (!status && last) status = sp_drawing_save_latents(d);
        if (status || last) sp_drawing_end(d, status);
    }
    end_stage(g, &g->context->seconds->write);
}

static sp_status draw_and_give(generation *g, const group *a)
{
    sp_tensor images;
    sp_status status = draw_group(g, a, &images);
    if (!status) give_group(g, a, &images);
    sp_tensor_free(&images);
    return status;
}

/* What a group cannot do, the requests in it are asked for one by one, so that each has its own failure alone. */
static void draw_apart(generation *g, const group *a)
{
    for (int64_t i = 0, part; i < a->count; i += part) {
        sp_drawing *d = a->item[i].drawing;
        part = part_of(a->item + i, a->count - i);
        if (d->has_ended) continue;
        const group own = {a->item + i, part};
        sp_status status = sp_drawing_renew_noise(d);
        if (!status) status = draw_and_give(g, &own);
        if (status) sp_drawing_end(d, status);
    }
}

static void draw_all(generation *g)
{
    for (group a; (a = next_group(g)).count;) {
        sp_status status = draw_and_give(g, &a);
        if (!status) continue;
        if (part_of(a.item, a.count) < a.count)
            draw_apart(g, &a);
        else
            sp_drawing_end(a.item->drawing, status);
    }
}

/* ---- before ---- */

static void prepare(generation *g)
{
    for (size_t i = 0; i < g->count; i++) {
        sp_drawing *d = &g->drawings[i];
        if (d->has_ended) continue;
        sp_log_take_warnings(d->warn, d->callbacks ? d->callbacks->context : NULL);
        sp_status status = sp_drawing_prepare(g->pipeline, g->context->model, g->context->held, d);
        sp_log_take_warnings(NULL, NULL);
        if (status) sp_drawing_end(d, status);
    }
}

/* Previews are wanted, and nobody has fitted them yet. */
static bool wants_fit(const generation *g)
{
    return is_watched(g) && !g->context->preview->channels;
}

/* What all of them come to; false: none is left. */
static bool ask_memory(const generation *g, sp_picture_sizes *sizes, sp_memory_question *q, int64_t *chunks)
{
    int64_t total = 0;
    *q = (sp_memory_question){.sizes = sizes, .held = g->context->held, .fits = wants_fit(g)};
    *chunks = 1;
    for (size_t i = 0; i < g->count; i++) {
        const sp_drawing *d = &g->drawings[i];
        const splam_generate_options *o = d->request->options;
        if (d->has_ended) continue;
        *sizes = d->sizes;
        total += d->sizes.total;
        if (d->most_chunks > *chunks) *chunks = d->most_chunks;
        q->prompt_count += d->request->prompts.count;
        q->guided |= d->guided;
        q->left_out |= d->sampling.skip_layers.blocks;
        q->encodes |= d->request->image.pixels != NULL;
        q->decodes |= sp_drawing_wants_pictures(d);
        q->make_room = o->make_room;
        q->keeper = o->keeper;
        q->tiling = o->vae_tiling;
        q->limit = o->memory_limit == SPLAM_UNSET ? 0 : o->memory_limit;
    }
    sizes->total = total;
    return total > 0;
}

static sp_status choose_memory(generation *g)
{
    sp_picture_sizes sizes;
    sp_memory_question question;
    int64_t chunks;
    if (!ask_memory(g, &sizes, &question, &chunks)) return SP_OK;
    sp_pipeline_set_syntax(g->pipeline, g->pipeline->syntax, chunks);
    SP_TRY(sp_memory_choose(g->pipeline, &question, &g->memory));
    g->members = sp_alloc((size_t)g->memory.group * sizeof *g->members);
    g->small = sp_alloc((size_t)(sizes.width / sizes.factor * (sizes.height / sizes.factor) * 3));
    return g->members && g->small ? SP_OK : SP_MEMORY;
}

static sp_status encode_image(generation *g, sp_drawing *d)
{
    sp_image *image = &d->request->image;
    sp_tensor picture = {0};
    if (!image->pixels) return SP_OK;
    SP_TRY(sp_start_image_fit(image, sp_start_image_name(d->request->options), d->sizes.width, d->sizes.height,
                              &picture));
    sp_image_free(image);
    sp_status status = sp_pipeline_encode_pictures(g->pipeline, &picture, d->callbacks, &d->posterior);
    sp_tensor_free(&picture);
    return status;
}

static void begin_each(generation *g)
{
    for (size_t i = 0; i < g->count; i++) {
        sp_drawing *d = &g->drawings[i];
        if (d->has_ended) continue;
        sp_status status = sp_drawing_make_room(d);
        if (!status) status = encode_image(g, d);
        if (status) sp_drawing_end(d, status);
    }
}

/* All of them are asked whether to go on. */
static sp_status fit_preview(generation *g)
{
    member *each = sp_alloc(g->count * sizeof *each);
    if (!each) return SP_MEMORY;
    for (size_t i = 0; i < g->count; i++)
        each[i] = (member){&g->drawings[i], 0};
    const sp_callbacks callbacks = callbacks_of(g);
    g->at_hand = (group){each, (int64_t)g->count};
    sp_status status = wants_fit(g) ? sp_preview_fit(g->pipeline, &callbacks, g->context->preview) : SP_OK;
    sp_free(each);
    return status;
}

static void end_all(generation *g, sp_status status)
{
    for (size_t i = 0; i < g->count && status; i++)
        sp_drawing_end(&g->drawings[i], status);
}

void sp_generate(const sp_generate_context *context, sp_drawing *drawings, size_t count)
{
    splam_generate_seconds *seconds = context->seconds;
    generation g = {.context = context,
                    .pipeline = context->pipeline,
                    .drawings = drawings,
                    .count = count,
                    .stage_began = context->began};
    sp_pipeline_set_alone(g.pipeline, true);
    g.pipeline->callbacks = callbacks_of(&g);
    prepare(&g);
    end_all(&g, choose_memory(&g));
    end_stage(&g, &seconds->load);
    sp_pipeline_keep(g.pipeline, g.memory.keep && context->held);
    begin_each(&g);
    end_all(&g, fit_preview(&g));
    end_stage(&g, &seconds->encode);
    draw_all(&g);
    g.pipeline->callbacks = (sp_callbacks){0};
    sp_free(g.members);
    sp_free(g.small);
}
