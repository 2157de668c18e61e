/* One request on its way to pictures. */
#include "pipeline/drawing.h"
#include <string.h>
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"

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

/* ---- beginning ---- */

static bool has_negative(const sp_drawing *d)
{
    return d->guided && d->request->prompts.negative;
}

/* The chunks of every prompt. */
static sp_status count_chunks(sp_pipeline *p, sp_drawing *d)
{
    const sp_prompts *prompts = &d->request->prompts;
    int64_t negative = 1;
    d->most_chunks = 1;
    d->chunks = sp_alloc(prompts->count * sizeof *d->chunks);
    if (!d->chunks) return SP_MEMORY;
    if (has_negative(d)) SP_TRY(sp_pipeline_count_chunks(p, prompts->negative, &negative));
    for (size_t i = 0; i < prompts->count; i++) {
        SP_TRY(sp_pipeline_count_chunks(p, prompts->text[i], &d->chunks[i]));
        if (d->chunks[i] < negative) d->chunks[i] = negative;
        if (d->chunks[i] > d->most_chunks) d->most_chunks = d->chunks[i];
    }
    return SP_OK;
}

/* Learned tokens that no prompt has. */
static sp_status warn_of_unused(const sp_pipeline *p, const sp_drawing *d)
{
    const sp_prompts *prompts = &d->request->prompts;
    const sp_learned_list *list = &p->model->embeddings;
    for (size_t k = 0; k < list->count; k++) {
        bool used = false;
        for (size_t i = 0; i < prompts->count && !used; i++)
            SP_TRY(sp_pipeline_has_vectors(p, prompts->text[i], list->items[k].first, &used));
        if (!used && has_negative(d))
            SP_TRY(sp_pipeline_has_vectors(p, prompts->negative, list->items[k].first, &used));
        if (!used) sp_log_warn("no prompt has \"%s\", the token of %s", list->items[k].token, list->items[k].path);
    }
    return SP_OK;
}

static sp_status choose_sizes(const sp_pipeline *p, sp_drawing *d)
{
    const sp_request *r = d->request;
    const sp_size_question question = {.options = r->options,
                                       .prompt_count = r->prompts.count,
                                       .image = &r->image,
                                       .noise = d->noise_file,
                                       .denoiser = &p->facts,
                                       .vae = &p->vae->config.vae};
    return sp_picture_sizes_choose(&question, &d->sizes);
}

static sp_status make_noise(sp_drawing *d)
{
    const sp_request *r = d->request;
    return sp_request_noise_create(r->options, d->noise_file, &d->table, &d->sampling, &d->sizes,
                                   sp_starts_from_image(r->options), &d->noise);
}

sp_status sp_drawing_renew_noise(sp_drawing *d)
{
    sp_request_noise_free(&d->noise);
    return make_noise(d);
}

sp_status sp_drawing_prepare(sp_pipeline *p, const sp_model_facts *model, bool held, sp_drawing *d)
{
    sp_request *r = d->request;
    const splam_generate_options *o = r->options;
    d->model = model;
    SP_TRY(sp_pipeline_set_clip_skip(p, (int)o->clip_skip));
    sp_pipeline_set_syntax(p, (sp_prompt_syntax)o->prompt_syntax, 1);
    if (o->noise) SP_TRY(sp_safetensors_open(o->noise, &d->noise_file));
    SP_TRY(sp_sampling_choose(o, &p->scheduler, &p->facts, &d->sampling));
    SP_TRY(sp_sampler_create(&p->scheduler, &d->sampling.sampler, &d->table));
    if (o->show_timesteps) sp_sampler_log(&p->scheduler, &d->sampling.sampler, &d->table);
    d->guided = sp_pipeline_is_guided(p, d->sampling.guidance);
    if (!d->guided && r->prompts.negative && *r->prompts.negative)
        sp_log_warn("the negative prompt is left out: only guidance in two passes draws away from one");
    SP_TRY(choose_sizes(p, d));
    SP_TRY(count_chunks(p, d));
    SP_TRY(sp_prompts_warn(&r->prompts, p->syntax, p->text[0].tokenizer, d->guided));
    if (!held) SP_TRY(warn_of_unused(p, d)); /* of a held model they are there for all calls */
    SP_TRY(make_noise(d));
    SP_TRY(sp_picture_output_claim(&r->output, d->sizes.total, d->sizes.width, d->sizes.height));
    if (o->save_latents) SP_TRY(sp_claim_file(o->save_latents, &d->latents.claim));
    d->latents.path = o->save_latents;
    return SP_OK;
}

sp_status sp_drawing_make_room(sp_drawing *d)
{
    const sp_picture_sizes *sizes = &d->sizes;
    if (d->latents.path) SP_TRY(sp_tensor_create(SP_F32, sp_latent_shape(sizes, sizes->total), &d->latents.all));
    if (!d->pictures) return SP_OK;
    *d->pictures = (splam_pictures){.width = sizes->width, .height = sizes->height, .seed = d->sampling.seed};
    d->pictures->rgb = sp_alloc((size_t)sizes->total * (size_t)(sizes->width * sizes->height * 3));
    return d->pictures->rgb ? SP_OK : SP_MEMORY;
}

/* ---- ending ---- */

void sp_drawing_end(sp_drawing *d, sp_status status)
{
    if (d->has_ended) return;
    d->has_ended = true;
    d->status = status;
    const sp_callbacks *c = d->callbacks;
    if (d->ended) d->ended(c ? c->context : NULL, status, status ? sp_error_message() : "");
}

void sp_drawing_free(sp_drawing *d)
{
    sp_request_noise_free(&d->noise);
    sp_sampler_free(&d->table);
    sp_conditioning_free(&d->negative.set);
    sp_free(d->chunks);
    sp_tensor_free(&d->posterior);
    sp_tensor_free(&d->latents.all);
    sp_claim_end(&d->latents.claim);
    sp_tensor_file_close(d->noise_file);
}

sp_status sp_drawing_save_latents(const sp_drawing *d)
{
    const sp_named_tensor tensors[] = {{"latents", &d->latents.all}};
    return d->latents.path ? sp_safetensors_save(d->latents.path, tensors, 1, NULL, 0) : SP_OK;
}

/* ---- pictures ---- */

/* Encoded pictures. */
static bool wants_files(const sp_drawing *d)
{
    return d->request->options->receive || sp_picture_output_is_wanted(&d->request->output);
}

bool sp_drawing_wants_pictures(const sp_drawing *d)
{
    return d->pictures || wants_files(d);
}

sp_status sp_drawing_frame(const sp_pipeline *p, const sp_drawing *d, sp_conditioning *set)
{
    const sp_framing framing = sp_framing_whole(d->sizes.height, d->sizes.width);
    return sp_pipeline_frame(p, &framing, 1, set);
}

int64_t sp_drawing_chunks(const sp_drawing *d, int64_t number)
{
    return d->chunks[number / d->sizes.each];
}

static sp_picture_facts facts_of(const sp_pipeline *p, const sp_drawing *d, int64_t number)
{
    const splam_generate_options *o = d->request->options;
    const sp_sampling *s = &d->sampling;
    const sp_prompts *prompts = &d->request->prompts;
    int64_t width = d->sizes.width, height = d->sizes.height;
    return (sp_picture_facts){
        .model = d->model,
        .precision = p->precision,
        .prompt = prompts->text[number / d->sizes.each],
        .negative = !d->guided ? NULL : prompts->negative ? prompts->negative : "",
        .sampler = s->sampler.kind,
        .sigmas = sp_sampler_sigmas(&p->scheduler, &s->sampler),
        .spacing = sp_sampler_spacing(&p->scheduler, &s->sampler),
        .steps = s->sampler.steps,
        .table = &d->table,
        .eta = s->sampler.eta,
        .guidance = s->guidance,
        .skip_layers = s->skip_layers,
        .skipped = o->skip_layers,
        .has_seed = !d->noise_file,
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
static sp_status list_learned(const sp_pipeline *p, const sp_picture_facts *f, char **out)
{
    const sp_model_facts *m = f->model;
    sp_string s = {0};
    sp_status status = SP_OK;
    for (size_t i = 0; i < m->learned_count && !status; i++) {
        bool used = false;
        status = sp_pipeline_has_vectors(p, f->prompt, m->learned[i].first, &used);
        if (!status && !used && f->negative)
            status = sp_pipeline_has_vectors(p, f->negative, m->learned[i].first, &used);
        if (used) sp_string_append_format(&s, "%s%s: %s", s.length ? ", " : "", m->learned[i].name, m->learned[i].hash);
    }
    if (!status && s.failed) status = SP_MEMORY;
    if (status) sp_string_free(&s);
    *out = s.data;
    return status;
}

/* To whoever receives pictures, and to its file. */
static sp_status hand_out(sp_drawing *d, int64_t number, const sp_image *image, const sp_image_texts *texts)
{
    const splam_generate_options *o = d->request->options;
    sp_picture_output *output = &d->request->output;
    uint8_t *file;
    size_t size;
    SP_TRY(sp_image_encode(image, &output->encoding, texts, &file, &size));
    const splam_drawn drawn = {.number = number,
                               .seed = d->sampling.seed + (uint64_t)number,
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

static sp_status write_picture(const sp_pipeline *p, sp_drawing *d, int64_t number, const sp_image *image)
{
    sp_picture_facts facts = facts_of(p, d, number);
    char *parameters, *json, *learned;
    SP_TRY(list_learned(p, &facts, &learned));
    facts.learned = learned;
    sp_status made = sp_picture_texts(&facts, &parameters, &json);
    sp_free(learned);
    SP_TRY(made);
    sp_status status = hand_out(d, number, image, &(sp_image_texts){parameters, json});
    sp_free(parameters);
    sp_free(json);
    return status;
}

sp_status sp_drawing_give(const sp_pipeline *p, sp_drawing *d, int64_t number, const float *nchw)
{
    sp_image image = {0};
    SP_TRY(sp_image_create((int)d->sizes.width, (int)d->sizes.height, &image));
    sp_rgb_from_float(nchw, image.width, image.height, image.pixels);
    size_t bytes = (size_t)image.width * (size_t)image.height * 3;
    if (d->pictures) {
        memcpy(d->pictures->rgb + (size_t)number * bytes, image.pixels, bytes);
        d->pictures->count = number + 1;
    }
    sp_status status = wants_files(d) ? write_picture(p, d, number, &image) : SP_OK;
    sp_image_free(&image);
    return status;
}
