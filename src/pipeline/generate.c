/* A request of pictures, from its options to files and pixels, some pictures at a time. */
#include "pipeline/generate.h"
#include <string.h>
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/progress.h"
#include "base/text.h"
#include "pipeline/generate_memory.h"

/* ---- the options alone ---- */

sp_status sp_request_read(const splam_generate_options *o, bool pixels, sp_request *out)
{
    *out = (sp_request){.options = o};
    if (!o->output && !o->save_latents && !o->receive && !pixels)
        return sp_fail(SP_ARGUMENT,
                       "there is nothing to write: neither pictures nor latents are asked for");
    SP_TRY(sp_picture_output_choose(o, &out->output));
    SP_TRY(sp_prompts_read(o, &out->prompts));
    return sp_start_image_read(o, &out->image);
}

void sp_request_free(sp_request *r)
{
    sp_prompts_free(&r->prompts);
    sp_picture_output_free(&r->output);
    sp_image_free(&r->image);
}

/* ---- a call ---- */

/* Latents that are to be saved, all of them. */
typedef struct {
    const char *path; /* NULL: none */
    sp_tensor all;
    sp_claim claim;
} latents_file;

typedef struct {
    const sp_generate_context *context;
    sp_pipeline *pipeline;
    sp_request *request;
    sp_tensor_file *noise_file;
    sp_sampling sampling;
    sp_sampler table; /* of it */
    sp_picture_sizes sizes;
    sp_request_noise noise;
    sp_memory_choice memory;
    int64_t *chunks;          /* of each prompt, and as many for the negative one beside it */
    sp_conditioning negative; /* where there is guidance; for the chunks of the group at hand */
    sp_tensor posterior;      /* of the picture to start from */
    latents_file latents;
    splam_pictures *pictures; /* NULL: files alone */
    splam_generate_seconds *seconds;
    double stage_began;
} generation;

/* Adds the time since the last stage ended to one of g->seconds. */
static void end_stage(generation *g, double *stage)
{
    double now = sp_now();
    *stage += now - g->stage_began;
    g->stage_began = now;
}

/* Encoded pictures. */
static bool wants_files(const generation *g)
{
    return g->request->options->receive || sp_picture_output_is_wanted(&g->request->output);
}

static bool wants_pictures(const generation *g)
{
    return g->pictures || wants_files(g);
}

static bool is_guided(const generation *g)
{
    return sp_pipeline_is_guided(g->pipeline, g->sampling.guidance);
}

/* ---- pictures ---- */

/* Tells of the pictures' size, where the model asks. */
static sp_status frame(const generation *g, sp_conditioning *set)
{
    const sp_framing framing = sp_framing_whole(g->sizes.height, g->sizes.width);
    return sp_pipeline_frame(g->pipeline, &framing, 1, set);
}

/* How many chunks picture `number` takes. */
static int64_t chunks_of(const generation *g, int64_t number)
{
    return g->chunks[number / g->sizes.each];
}

/* Contexts of pictures first..first+count-1; each prompt is encoded once. */
static sp_status encode_group(generation *g, int64_t first, int64_t count, sp_conditioning *out)
{
    int64_t each = g->sizes.each, prompt = first / each, last = (first + count - 1) / each;
    sp_conditioning distinct;
    SP_TRY(sp_pipeline_encode(g->pipeline, g->request->prompts.text + prompt, last - prompt + 1, &distinct));
    sp_status status = sp_conditioning_create(&distinct, SP_F32, count, out);
    for (int64_t i = 0; i < count && !status; i++)
        sp_conditioning_copy(out, i, 1, &distinct, (first + i) / each - prompt);
    sp_conditioning_free(&distinct);
    return status ? status : frame(g, out);
}

/* For a group of so many chunks, unless the negative prompt is there for that. */
static sp_status encode_negative(generation *g, int64_t chunks)
{
    bool there = g->negative.count && g->pipeline->chunks == chunks;
    sp_pipeline_set_syntax(g->pipeline, g->pipeline->syntax, chunks);
    if (!is_guided(g) || there) return SP_OK;
    sp_conditioning_free(&g->negative);
    SP_TRY(sp_pipeline_encode_negative(g->pipeline, g->request->prompts.negative, &g->negative));
    return frame(g, &g->negative);
}

static sp_picture_facts facts_of(const generation *g, int64_t number)
{
    const splam_generate_options *o = g->request->options;
    const sp_pipeline *p = g->pipeline;
    const sp_sampling *s = &g->sampling;
    const sp_prompts *prompts = &g->request->prompts;
    int64_t width = g->sizes.width, height = g->sizes.height;
    return (sp_picture_facts){
        .model = g->context->model,
        .precision = p->precision,
        .prompt = prompts->text[number / g->sizes.each],
        .negative = !g->negative.count ? NULL : prompts->negative ? prompts->negative : "",
        .sampler = s->sampler.kind,
        .sigmas = sp_sampler_sigmas(&p->scheduler, &s->sampler),
        .spacing = sp_sampler_spacing(&p->scheduler, &s->sampler),
        .steps = s->sampler.steps,
        .table = &g->table,
        .eta = s->sampler.eta,
        .guidance = s->guidance,
        .has_seed = !g->noise_file,
        .seed = s->seed + (uint64_t)number,
        .torch = o->rng == SPLAM_RNG_TORCH,
        .width = width,
        .height = height,
        .clip_skip = (int)o->clip_skip,
        .vae_tile = width > p->vae_tile || height > p->vae_tile ? p->vae_tile : 0,
        .strength = s->sampler.strength,
        .syntax = p->syntax,
        .init_image = sp_starts_from_image(o) ? sp_path_base(sp_start_image_name(o)) : NULL,
    };
}

/* "NAME: HASH, NAME: HASH" of the learned tokens in a picture's prompts, new; NULL if there are none. */
static sp_status list_learned(const generation *g, const sp_picture_facts *f, char **out)
{
    const sp_model_facts *m = f->model;
    sp_string s = {0};
    sp_status status = SP_OK;
    for (size_t i = 0; i < m->learned_count && !status; i++) {
        bool used = false;
        status = sp_pipeline_has_vectors(g->pipeline, f->prompt, m->learned[i].first, &used);
        if (!status && !used && f->negative)
            status = sp_pipeline_has_vectors(g->pipeline, f->negative, m->learned[i].first, &used);
        if (used) sp_string_append_format(&s, "%s%s: %s", s.length ? ", " : "", m->learned[i].name, m->learned[i].hash);
    }
    if (!status && s.failed) status = SP_MEMORY;
    if (status) sp_string_free(&s);
    *out = s.data;
    return status;
}

/* To whoever receives pictures, and to its file. */
static sp_status hand_out(generation *g, int64_t number, const sp_image *image, const sp_image_texts *texts)
{
    const splam_generate_options *o = g->request->options;
    sp_picture_output *output = &g->request->output;
    uint8_t *file;
    size_t size;
    SP_TRY(sp_image_encode(image, &output->encoding, texts, &file, &size));
    const splam_drawn drawn = {.number = number,
                               .seed = g->sampling.seed + (uint64_t)number,
                               .picture = {image->width, image->height, image->pixels},
                               .file = file,
                               .file_size = size,
                               .parameters = texts->parameters,
                               .json = texts->json};
    sp_status status = SP_OK;
    if (sp_picture_output_is_wanted(output)) status = sp_picture_output_write(output, number, file, size);
    if (!status && o->receive) o->receive(o->receiver, &drawn);
    sp_free(file);
    return status;
}

static sp_status write_picture(generation *g, int64_t number, const sp_image *image)
{
    sp_picture_facts facts = facts_of(g, number);
    char *parameters, *json, *learned;
    SP_TRY(list_learned(g, &facts, &learned));
    facts.learned = learned;
    sp_status made = sp_picture_texts(&facts, &parameters, &json);
    sp_free(learned);
    SP_TRY(made);
    sp_status status = hand_out(g, number, image, &(sp_image_texts){parameters, json});
    sp_free(parameters);
    sp_free(json);
    return status;
}

static sp_status save_picture(generation *g, int64_t number, const float *nchw)
{
    sp_image image = {0};
    SP_TRY(sp_image_create((int)g->sizes.width, (int)g->sizes.height, &image));
    sp_rgb_from_float(nchw, image.width, image.height, image.pixels);
    size_t bytes = (size_t)image.width * (size_t)image.height * 3;
    if (g->pictures) {
        memcpy(g->pictures->rgb + (size_t)number * bytes, image.pixels, bytes);
        g->pictures->count = number + 1;
    }
    sp_status status = wants_files(g) ? write_picture(g, number, &image) : SP_OK;
    sp_image_free(&image);
    return status;
}

static sp_status save_group(generation *g, int64_t first, const sp_tensor *latents)
{
    int64_t count = latents->shape.dim[0];
    sp_tensor images;
    SP_TRY(sp_pipeline_decode(g->pipeline, latents, g->context->callbacks, &images));
    end_stage(g, &g->seconds->decode);
    int64_t one = sp_tensor_count(&images) / count;
    sp_status status = SP_OK;
    for (int64_t i = 0; i < count && !status; i++)
        status = save_picture(g, first + i, (const float *)images.data + i * one);
    sp_tensor_free(&images);
    end_stage(g, &g->seconds->write);
    return status;
}

/* The latents that pictures first..first+count-1 start from, new; *out stays empty where there is no picture. */
static sp_status start_group(generation *g, int64_t first, int64_t count, sp_tensor *out)
{
    *out = (sp_tensor){0};
    if (!g->posterior.data) return SP_OK;
    bool mean = g->noise_file && !g->noise.posterior.data;
    return sp_pipeline_draw_latents(g->pipeline, &g->posterior, mean ? NULL : &g->noise.noise, first, count, out);
}

typedef struct {
    generation *generation;
    int64_t first; /* of the group */
    uint8_t *rgb;
} previewer;

static void see_estimate(void *context, int number, int64_t first, int64_t count, const float *x0)
{
    const previewer *v = context;
    const generation *g = v->generation;
    const splam_generate_options *o = g->request->options;
    const sp_picture_sizes *s = &g->sizes;
    int64_t height = s->height / s->factor, width = s->width / s->factor;
    for (int64_t i = 0; i < count; i++) {
        sp_preview_draw(g->context->preview, x0 + i * s->channels * height * width, height, width, v->rgb);
        const splam_preview preview = {.number = v->first + first + i,
                                       .done = number + 1,
                                       .total = g->table.count,
                                       .picture = {width, height, v->rgb}};
        o->watch(o->watcher, &preview);
    }
}

/* The request's observer, where somebody watches. */
static sp_status watch(previewer *v, sp_denoise_request *request)
{
    const generation *g = v->generation;
    if (!g->request->options->watch) return SP_OK;
    v->rgb = sp_alloc((size_t)(request->height * request->width * 3));
    request->observer = (sp_denoise_observer){.context = v, .estimate = see_estimate};
    return v->rgb ? SP_OK : SP_MEMORY;
}

static sp_status denoise_group(generation *g, int64_t first, int64_t count, sp_tensor *latents)
{
    sp_conditioning conditioning;
    sp_tensor image;
    SP_TRY(encode_negative(g, chunks_of(g, first)));
    SP_TRY(encode_group(g, first, count, &conditioning));
    end_stage(g, &g->seconds->text);
    sp_status status = start_group(g, first, count, &image);
    sp_denoise_request request = {
        .sampler = g->sampling.sampler,
        .guidance = g->sampling.guidance,
        .conditioning = &conditioning,
        .negative = &g->negative,
        .image = &image,
        .height = g->sizes.height / g->sizes.factor,
        .width = g->sizes.width / g->sizes.factor,
        .noise = g->noise.noise,
        .batch = g->memory.batch,
        .first_sample = first,
    };
    previewer preview = {.generation = g, .first = first};
    if (!status) status = watch(&preview, &request);
    if (!status) status = sp_pipeline_denoise(g->pipeline, &request, g->context->callbacks, latents);
    sp_free(preview.rgb);
    sp_conditioning_free(&conditioning);
    sp_tensor_free(&image);
    return status;
}

static sp_status draw_group(generation *g, int64_t first, int64_t count)
{
    bool more = g->context->held || first + count < g->sizes.total;
    sp_tensor latents = {0};
    sp_pipeline_keep(g->pipeline, g->memory.keep && more);
    SP_TRY(denoise_group(g, first, count, &latents));
    /* Room for the VAE; packing the weights again for the next group takes seconds. */
    if (g->memory.release || !more) sp_pipeline_release(g->pipeline);
    if (g->latents.path) {
        size_t bytes = sp_tensor_bytes(&latents), one = bytes / (size_t)count;
        memcpy((char *)g->latents.all.data + (size_t)first * one, latents.data, bytes);
    }
    end_stage(g, &g->seconds->denoise);
    sp_status status = wants_pictures(g) ? save_group(g, first, &latents) : SP_OK;
    sp_tensor_free(&latents);
    return status;
}

/* As many pictures from `first` on as are in memory at once and have prompts of as many chunks: what a picture is does
 * not depend on the prompts beside its own. */
static int64_t group_size(const generation *g, int64_t first)
{
    int64_t left = g->sizes.total - first, most = left < g->memory.group ? left : g->memory.group, count = 1;
    while (count < most && chunks_of(g, first + count) == chunks_of(g, first))
        count++;
    return count;
}

/* ---- the whole ---- */

/* The chunks of every prompt; the pipeline is left at the most, which memory is planned for. */
static sp_status count_chunks(generation *g)
{
    sp_pipeline *p = g->pipeline;
    const sp_prompts *prompts = &g->request->prompts;
    int64_t negative = 1, most = 1;
    sp_pipeline_set_syntax(p, (sp_prompt_syntax)g->request->options->prompt_syntax, 1);
    g->chunks = sp_alloc(prompts->count * sizeof *g->chunks);
    if (!g->chunks) return SP_MEMORY;
    if (is_guided(g) && prompts->negative) SP_TRY(sp_pipeline_count_chunks(p, prompts->negative, &negative));
    for (size_t i = 0; i < prompts->count; i++) {
        SP_TRY(sp_pipeline_count_chunks(p, prompts->text[i], &g->chunks[i]));
        if (g->chunks[i] < negative) g->chunks[i] = negative;
        if (g->chunks[i] > most) most = g->chunks[i];
    }
    sp_pipeline_set_syntax(p, p->syntax, most);
    return SP_OK;
}

/* Learned tokens that no prompt has; of a held model they are there for all calls. */
static sp_status warn_of_unused(const generation *g)
{
    const sp_prompts *prompts = &g->request->prompts;
    const sp_learned_list *list = &g->pipeline->model->embeddings;
    for (size_t k = 0; k < list->count && !g->context->held; k++) {
        bool used = false;
        for (size_t i = 0; i < prompts->count && !used; i++)
            SP_TRY(sp_pipeline_has_vectors(g->pipeline, prompts->text[i], list->items[k].first, &used));
        if (!used && is_guided(g) && prompts->negative)
            SP_TRY(sp_pipeline_has_vectors(g->pipeline, prompts->negative, list->items[k].first, &used));
        if (!used) sp_log_warn("no prompt has \"%s\", the token of %s", list->items[k].token, list->items[k].path);
    }
    return SP_OK;
}

static sp_status choose_sizes(generation *g)
{
    const sp_pipeline *p = g->pipeline;
    const sp_request *r = g->request;
    const sp_size_question question = {.options = r->options,
                                       .prompt_count = r->prompts.count,
                                       .image = &r->image,
                                       .noise = g->noise_file,
                                       .denoiser = &p->facts,
                                       .vae = &p->vae->config.vae};
    return sp_picture_sizes_choose(&question, &g->sizes);
}

/* Previews are wanted, and nobody has fitted them yet. */
static bool wants_fit(const generation *g)
{
    return g->request->options->watch && !g->context->preview->channels;
}

static sp_status choose_memory(generation *g)
{
    const sp_request *r = g->request;
    int64_t limit = r->options->memory_limit;
    const splam_generate_options *o = r->options;
    const sp_memory_question question = {.sizes = &g->sizes,
                                         .make_room = o->make_room,
                                         .keeper = o->keeper,
                                         .prompt_count = r->prompts.count,
                                         .guided = is_guided(g),
                                         .encodes = r->image.pixels,
                                         .fits = wants_fit(g),
                                         .decodes = wants_pictures(g),
                                         .held = g->context->held,
                                         .tiling = r->options->vae_tiling,
                                         .limit = limit == SPLAM_UNSET ? 0 : limit};
    return sp_memory_choose(g->pipeline, &question, &g->memory);
}

/* Where the results go. */
static sp_status make_room(generation *g)
{
    const sp_picture_sizes *sizes = &g->sizes;
    if (g->latents.path)
        SP_TRY(sp_tensor_create(SP_F32, sp_latent_shape(sizes, sizes->total), &g->latents.all));
    if (!g->pictures) return SP_OK;
    *g->pictures = (splam_pictures){.width = sizes->width, .height = sizes->height, .seed = g->sampling.seed};
    g->pictures->rgb = sp_alloc((size_t)sizes->total * (size_t)(sizes->width * sizes->height * 3));
    return g->pictures->rgb ? SP_OK : SP_MEMORY;
}

/* Everything that can be wrong with the request is found here, before the first long computation. */
static sp_status prepare(generation *g)
{
    sp_request *r = g->request;
    const splam_generate_options *o = r->options;
    const sp_scheduler_config *scheduler = &g->pipeline->scheduler;
    SP_TRY(sp_pipeline_set_clip_skip(g->pipeline, (int)o->clip_skip));
    if (o->noise) SP_TRY(sp_safetensors_open(o->noise, &g->noise_file));
    SP_TRY(sp_sampling_choose(o, scheduler, &g->pipeline->facts, &g->sampling));
    SP_TRY(sp_sampler_create(scheduler, &g->sampling.sampler, &g->table));
    if (o->show_timesteps) sp_sampler_log(scheduler, &g->sampling.sampler, &g->table);
    SP_TRY(choose_sizes(g));
    SP_TRY(count_chunks(g));
    SP_TRY(sp_prompts_warn(&r->prompts, g->pipeline->syntax, g->pipeline->text[0].tokenizer, is_guided(g)));
    SP_TRY(warn_of_unused(g));
    SP_TRY(sp_request_noise_create(o, g->noise_file, &g->table, &g->sampling, &g->sizes, r->image.pixels, &g->noise));
    SP_TRY(sp_picture_output_claim(&r->output, g->sizes.total, g->sizes.width, g->sizes.height));
    if (o->save_latents) SP_TRY(sp_claim_file(o->save_latents, &g->latents.claim));
    g->latents.path = o->save_latents;
    SP_TRY(choose_memory(g));
    return make_room(g);
}

static sp_status encode_image(generation *g)
{
    sp_image *image = &g->request->image;
    sp_tensor picture = {0};
    if (!image->pixels) return SP_OK;
    SP_TRY(sp_start_image_fit(image, sp_start_image_name(g->request->options), g->sizes.width, g->sizes.height,
                              &picture));
    sp_image_free(image);
    sp_status status = sp_pipeline_encode_pictures(g->pipeline, &picture, g->context->callbacks, &g->posterior);
    sp_tensor_free(&picture);
    return status;
}

static sp_status fit_preview(generation *g)
{
    return wants_fit(g) ? sp_preview_fit(g->pipeline, g->context->callbacks, g->context->preview) : SP_OK;
}

static sp_status save_latents(const latents_file *latents)
{
    const sp_named_tensor tensors[] = {{"latents", &latents->all}};
    return latents->path ? sp_safetensors_save(latents->path, tensors, 1, NULL, 0) : SP_OK;
}

static sp_status generate(generation *g)
{
    SP_TRY(prepare(g));
    end_stage(g, &g->seconds->load);
    sp_pipeline_keep(g->pipeline, g->memory.keep && g->context->held);
    SP_TRY(encode_negative(g, chunks_of(g, 0)));
    end_stage(g, &g->seconds->text);
    SP_TRY(encode_image(g));
    SP_TRY(fit_preview(g));
    end_stage(g, &g->seconds->encode);
    for (int64_t first = 0, count; first < g->sizes.total; first += count) {
        count = group_size(g, first);
        SP_TRY(draw_group(g, first, count));
    }
    SP_TRY(save_latents(&g->latents));
    end_stage(g, &g->seconds->write);
    return SP_OK;
}

sp_status sp_generate(const sp_generate_context *context, sp_request *request, splam_pictures *pictures,
                      splam_generate_seconds *seconds)
{
    generation g = {.context = context,
                    .pipeline = context->pipeline,
                    .request = request,
                    .pictures = pictures,
                    .seconds = seconds,
                    .stage_began = context->began};
    if (pictures) *pictures = (splam_pictures){0};
    sp_status status = generate(&g);
    if (status == SP_CANCELLED && sp_picture_output_is_wanted(&request->output))
        status = sp_fail(status, "interrupted: %lld of %lld pictures were written",
                         (long long)request->output.written, (long long)g.sizes.total);
    sp_request_noise_free(&g.noise);
    sp_sampler_free(&g.table);
    sp_conditioning_free(&g.negative);
    sp_free(g.chunks);
    sp_tensor_free(&g.posterior);
    sp_tensor_free(&g.latents.all);
    sp_claim_end(&g.latents.claim);
    sp_tensor_file_close(g.noise_file);
    return status;
}
