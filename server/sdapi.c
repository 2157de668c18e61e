/* A1111's interface. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base64.h"
#include "internal.h"
#include "names.h"

/* ---- what was used ---- */

/* Under A1111's names, from what the first picture carries. */
static const struct {
    const char *name, *from;
} info_names[] = {
    {"prompt", "prompt"}, {"negative_prompt", "negative_prompt"}, {"seed", "seed"}, {"width", "width"},
    {"height", "height"}, {"cfg_scale", "guidance"}, {"steps", "steps"}, {"sd_model_name", "model"},
    {"denoising_strength", "strength"}, {"version", "version"},
};

static json_t *make_info(const sv_server *s, const sv_job *job)
{
    char hash[11];
    json_t *info = json_object(), *prompts = json_array(), *negatives = json_array(), *seeds = json_array(),
           *texts = json_array();
    for (size_t i = 0; i < job->picture_count; i++) {
        const json_t *own = job->pictures[i].info;
        json_t *negative = json_object_get(own, "negative_prompt");
        json_array_append(prompts, json_object_get(own, "prompt"));
        json_array_append_new(negatives, negative ? json_incref(negative) : json_string(""));
        json_array_append(seeds, json_object_get(own, "seed"));
        json_array_append_new(texts, json_string(job->pictures[i].parameters));
    }
    const json_t *first = job->picture_count ? job->pictures[0].info : NULL;
    for (size_t i = 0; i < sizeof info_names / sizeof *info_names; i++) {
        json_t *value = json_object_get(first, info_names[i].from);
        if (value) json_object_set(info, info_names[i].name, value);
    }
    const char *sampler = json_string_value(json_object_get(first, "sampler"));
    if (sampler) json_object_set_new(info, "sampler_name", json_string(splam_sampler_label(sampler)));
    json_t *eta = sampler && strcmp(sampler, "ddim") == 0 ? json_object_get(first, "eta") : NULL;
    json_object_set_new(info, "extra_generation_params", eta ? json_pack("{s:O}", "Eta DDIM", eta) : json_object());
    sv_model_hash(sv_models_facts(s->models, job->request->model), hash);
    json_object_set_new(info, "sd_model_hash", json_string(hash));
    const sv_request *r = job->request;
    json_object_set_new(info, "batch_size", json_integer((json_int_t)(r->options.count / r->rounds)));
    json_object_set_new(info, "index_of_first_image", json_integer(0));
    json_object_set_new(info, "all_prompts", prompts);
    json_object_set_new(info, "all_negative_prompts", negatives);
    json_object_set_new(info, "all_seeds", seeds);
    json_object_set_new(info, "infotexts", texts);
    json_object_set_new(info, "warnings", sv_job_warnings(job));
    return info;
}

/* ---- pictures ---- */

/* As there, an interrupted request is answered with what was drawn. */
static void finish(sv_exchange *x, const sv_interface *interface)
{
    const sv_job *job = x->job;
    bool interrupted = job->status == SPLAM_CANCELLED && !job->late && !job->left && !x->server->closed;
    if (job->status && !interrupted) {
        sv_reply_unfinished(x, job, interface);
        return;
    }
    json_t *images = json_array(), *asked = json_copy(job->request->body), *info = make_info(x->server, job);
    for (size_t i = 0; i < job->picture_count && !job->request->without_images; i++) {
        json_array_append_new(images, sv_json_base64(job->pictures[i].file, job->pictures[i].size));
    }
    json_object_del(asked, "init_images");
    char *info_text = sv_json_text(info);
    sv_reply_json(x, 200, json_pack("{s:o, s:o, s:s}", "images", images, "parameters", asked, "info", info_text));
    free(info_text);
}

static void finish_txt2img(sv_exchange *x)
{
    finish(x, &sv_txt2img_interface);
}

static void finish_img2img(sv_exchange *x)
{
    finish(x, &sv_img2img_interface);
}

void sv_answer_txt2img(sv_exchange *x)
{
    sv_job *job = sv_exchange_job(x, &sv_txt2img_interface, false);
    if (job) sv_exchange_wait(x, job, finish_txt2img);
}

void sv_answer_img2img(sv_exchange *x)
{
    sv_job *job = sv_exchange_job(x, &sv_img2img_interface, false);
    if (job) sv_exchange_wait(x, job, finish_img2img);
}

/* ---- the picture at hand ---- */

static json_t *state_object(const sv_job *job, const sv_job_view *v)
{
    return json_pack("{s:b, s:b, s:b, s:s, s:I, s:I, s:I, s:I}", "skipped", v->skipped, "interrupted",
                     job && job->cancelled, "stopping_generation", false, "job", job ? v->task : "", "job_count",
                     (json_int_t)(job ? job->request->rounds : 0), "job_no", (json_int_t)v->round, "sampling_step",
                     (json_int_t)v->done, "sampling_steps", (json_int_t)v->total);
}

/* As there, without the picture where nobody wants it. */
static json_t *current_image(sv_exchange *x, const sv_job *job)
{
    const char *skip = MHD_lookup_connection_value(x->connection, MHD_GET_ARGUMENT_KIND, "skip_current_image");
    if (!job || (skip && strcmp(skip, "false") != 0)) return NULL;
    sv_small small = sv_queue_small(x->server->queue, job);
    json_t *image = sv_small_json(&small, "png");
    free(small.rgb);
    return image;
}

static void release_all(sv_queue *queue, sv_job *const *jobs, size_t count)
{
    for (size_t i = 0; i < count; i++)
        sv_job_release(queue, jobs[i]);
}

/* Of the first one of those that are drawn at once. */
void sv_answer_progress(sv_exchange *x)
{
    sv_queue *queue = x->server->queue;
    sv_job *jobs[SV_BATCH];
    size_t count = sv_queue_running(queue, x->client, jobs);
    const sv_job *job = count ? jobs[0] : NULL;
    sv_job_view v = {.seconds_left = -1};
    if (job) sv_queue_look(queue, job, &v);
    sv_reply_json(x, 200,
                  json_pack("{s:f, s:f, s:o, s:o?, s:n}", "progress", v.progress, "eta_relative",
                            v.seconds_left < 0 ? 0 : v.seconds_left, "state", state_object(job, &v), "current_image",
                            current_image(x, job), "textinfo"));
    release_all(queue, jobs, count);
}

static void end_running(sv_exchange *x, void (*end)(sv_queue *queue, sv_job *job))
{
    sv_queue *queue = x->server->queue;
    sv_job *jobs[SV_BATCH];
    size_t count = sv_queue_running(queue, x->client, jobs);
    for (size_t i = 0; i < count; i++)
        end(queue, jobs[i]);
    release_all(queue, jobs, count);
    sv_reply_json(x, 200, json_object());
}

void sv_answer_interrupt(sv_exchange *x)
{
    end_running(x, sv_queue_cancel);
}

void sv_answer_skip(sv_exchange *x)
{
    end_running(x, sv_queue_skip);
}

/* Bytes. As there, `free` is what this process has not. */
void sv_answer_memory(sv_exchange *x)
{
    int64_t total = (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE), used = sv_resident_bytes();
    sv_reply_json(x, 200,
                  json_pack("{s:{s:I, s:I, s:I}, s:{s:s}}", "ram", "free", (json_int_t)(total - used), "used",
                            (json_int_t)used, "total", (json_int_t)total, "cuda", "error", "unavailable"));
}

/* ---- lists ---- */

static const splam_model_facts *chosen_model(const sv_exchange *x)
{
    return sv_models_facts(x->server->models, sv_models_default(x->server->models));
}

/* What POST takes too, as far as it is what it is. */
static json_t *options_object(const sv_exchange *x)
{
    char title[512], hash[11];
    sv_model_hash(chosen_model(x), hash);
    sv_model_title(chosen_model(x), title, sizeof title);
    return json_pack("{s:s, s:s, s:s, s:i}", "sd_model_checkpoint", title, "sd_checkpoint_hash", hash,
                     "samples_format", "png", "CLIP_stop_at_last_layers", 1);
}

void sv_answer_options(sv_exchange *x)
{
    sv_reply_json(x, 200, options_object(x));
}

/* Whether all of them may be set as is asked; *model is the chosen one. */
static bool check_options(sv_exchange *x, const json_t *body, size_t *model)
{
    const char *name;
    const json_t *value;
    json_t *own = options_object(x);
    json_object_foreach((json_t *)(uintptr_t)body, name, value) {
        const char *text = json_string_value(value);
        bool chooses = strcmp(name, "sd_model_checkpoint") == 0;
        if (chooses && (!text || !sv_models_find(x->server->models, text, model)))
            sv_reply_error(x, 404, name, "%s is \"%.128s\", see /sdapi/v1/sd-models", name, text ? text : "no text");
        else if (!chooses && !json_equal(value, json_object_get(own, name)))
            sv_reply_error(x, 422, name, "the option %.64s cannot be set; sd_model_checkpoint can", name);
        if (x->response) break;
    }
    json_decref(own);
    return !x->response;
}

/* For all clients that name no model themselves, as there. */
void sv_answer_set_options(sv_exchange *x)
{
    json_t *body = sv_exchange_json(x);
    size_t model = sv_models_default(x->server->models);
    if (!body) return;
    if (!json_is_object(body))
        sv_reply_error(x, 422, NULL, "the body is no object");
    else if (check_options(x, body, &model)) {
        sv_models_set_default(x->server->models, model);
        sv_reply_json(x, 200, json_null());
    }
    json_decref(body);
}

void sv_answer_sd_models(sv_exchange *x)
{
    json_t *list = json_array();
    for (size_t i = 0; i < sv_models_count(x->server->models); i++) {
        const splam_model_facts *facts = sv_models_facts(x->server->models, i);
        char title[512], hash[11];
        sv_model_hash(facts, hash);
        sv_model_title(facts, title, sizeof title);
        json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:n, s:s, s:n}", "title", title, "model_name",
                                              facts->name, "hash", hash, "sha256", "filename", facts->name, "config"));
    }
    sv_reply_json(x, 200, list);
}

/* Paths are the server's alone: where one stands there, the name does here. */
void sv_answer_loras(sv_exchange *x)
{
    size_t i;
    const json_t *name;
    json_t *names = sv_models_adapters(x->server->models), *list = json_array();
    json_array_foreach(names, i, name) {
        const char *text = json_string_value(name);
        json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:{}}", "name", text, "alias", text, "path", text,
                                              "metadata"));
    }
    json_decref(names);
    sv_reply_json(x, 200, list);
}

void sv_answer_embeddings(sv_exchange *x)
{
    sv_reply_json(x, 200, sv_models_embeddings(x->server->models));
}

void sv_answer_samplers(sv_exchange *x)
{
    json_t *list = json_array();
    char sampler[SV_SAMPLER_BYTES];
    for (int i = 0; sv_sampler_at(i, sampler); i++)
        json_array_append_new(list, json_pack("{s:s, s:[s], s:{}}", "name", splam_sampler_label(sampler), "aliases",
                                              sampler, "options"));
    sv_reply_json(x, 200, list);
}

void sv_answer_schedulers(sv_exchange *x)
{
    json_t *list = json_array();
    for (const sv_scheduler_name *n = sv_scheduler_names; n->name; n++)
        json_array_append_new(list, json_pack("{s:s, s:s, s:n, s:f, s:b}", "name", n->name, "label", n->label,
                                              "aliases", "default_rho", -1.0, "need_inner_model", false));
    sv_reply_json(x, 200, list);
}

void sv_answer_png_info(sv_exchange *x)
{
    uint8_t *file = NULL;
    size_t size = 0;
    char *text = NULL;
    json_t *body = sv_exchange_json(x), *image = json_object_get(body, "image");
    if (!body) return;
    if (!json_is_string(image))
        sv_reply_error(x, 422, "image", "image is no picture in base64");
    else if (!sv_base64_decode(json_string_value(image), json_string_length(image), &file, &size))
        sv_reply_error(x, 422, "image", "image is no base64");
    else if (splam_picture_parameters(file, size, &text))
        sv_reply_error(x, 422, "image", "%s", splam_error_message());
    else
        sv_reply_json(x, 200, text ? json_pack("{s:s, s:{s:s}}", "info", text, "items", "parameters", text)
                                   : json_pack("{s:s, s:{}}", "info", "", "items"));
    splam_free(text);
    free(file);
    json_decref(body);
}
