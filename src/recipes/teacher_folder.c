/* Writing a teacher's folder. */
#include "recipes/teacher_folder.h"
#include <string.h>
#include "base/file.h"
#include "base/memory.h"
#include "base/output.h"
#include "base/text.h"
#include "models/initialize.h"

static const char beta_schedule[] = "scaled_linear";
static const double beta_start = 0.00085, beta_end = 0.012;
enum { TRAIN_TIMESTEPS = 1000 };

sp_status sp_teacher_path(const sp_teacher_family *family, sp_prediction prediction, sp_path *out)
{
    if (family->shift > 0) {
        sp_path_of_flow(family->shift, TRAIN_TIMESTEPS, out);
        return SP_OK;
    }
    return sp_path_of_betas(beta_schedule, beta_start, beta_end, TRAIN_TIMESTEPS, prediction, out);
}

/* ---- a part ---- */

/* Adds views of the weights under `prefix`, without it, that are not there yet. */
static sp_status add_without_prefix(const sp_weights *weights, const char *prefix, sp_weights *part)
{
    for (size_t i = 0; i < sp_weights_count(weights); i++) {
        const char *name = sp_weights_name(weights, i);
        if (!sp_starts_with(name, prefix) || sp_weights_find(part, name + strlen(prefix))) continue;
        sp_tensor view = *sp_weights_at((sp_weights *)weights, i);
        view.owned = false;
        SP_TRY(sp_weights_add(part, name + strlen(prefix), view));
    }
    return SP_OK;
}

static sp_status add_starting_values(const sp_component_config *config, uint64_t seed, sp_weights *part)
{
    sp_graph *graph;
    SP_TRY(sp_component_graph(config, &graph));
    sp_status status = sp_initialize(graph, "", &(sp_initialize_options){.seed = seed}, part);
    sp_graph_destroy(graph);
    return status;
}

static sp_status fill_part(const sp_component_config *config, const char *prefix, const sp_weights *trained,
                           const sp_weights *start, uint64_t seed, sp_weights *part)
{
    SP_TRY(add_without_prefix(trained, prefix, part));
    if (start) SP_TRY(add_without_prefix(start, prefix, part));
    return add_starting_values(config, seed, part);
}

static sp_status save_part(const sp_component_config *config, const char *name, const char *output,
                           const sp_weights *trained, const sp_weights *start, uint64_t seed)
{
    char *folder = sp_path_join(output, name), *prefix = sp_format("%s.", name);
    json_t *json = sp_component_config_write(config);
    sp_weights *part = NULL;
    sp_status status = folder && prefix && json ? sp_weights_create(&part) : SP_MEMORY;
    if (!status) status = fill_part(config, prefix, trained, start, seed, part);
    if (!status) status = sp_component_save(folder, config->kind, json, part, SP_F32, NULL);
    sp_weights_destroy(part);
    json_decref(json);
    sp_free(prefix);
    sp_free(folder);
    return status;
}

static sp_status save_tokenizer(const sp_tokenizer *tokenizer, const char *output, const char *name)
{
    char *folder = sp_path_join(output, name);
    sp_status status = folder ? sp_tokenizer_save(tokenizer, folder) : SP_MEMORY;
    sp_free(folder);
    return status;
}

static sp_status save_vae(const sp_component *vae, const char *output)
{
    char *folder = sp_path_join(output, sp_component_folder_name(SP_COMPONENT_VAE));
    sp_status status =
        folder ? sp_component_save(folder, SP_COMPONENT_VAE, vae->json, vae->weights, SP_F32, NULL) : SP_MEMORY;
    sp_free(folder);
    return status;
}

/* ---- what holds them together ---- */

static sp_status save_json(const char *folder, const char *name, const json_t *value)
{
    char *path = sp_path_join(folder, name);
    sp_status status = path ? sp_make_parent(path) : SP_MEMORY;
    if (!status) status = sp_json_save(path, value);
    sp_free(path);
    return status;
}

/* Adds what a family's table says. */
static sp_status add_text(json_t *object, const char *text)
{
    json_t *more;
    SP_TRY(sp_json_parse(text, strlen(text), "a family of teachers", &more));
    sp_status status = json_object_update(object, more) == 0 ? SP_OK : SP_MEMORY;
    json_decref(more);
    return status;
}

static json_t *schedule_of(const sp_teacher *t)
{
    if (t->family->shift > 0)
        return json_pack("{s:s, s:s, s:f, s:i}", "_class_name", t->family->scheduler, "_diffusers_version", "0.35.0",
                         "shift", t->family->shift, "num_train_timesteps", (int)TRAIN_TIMESTEPS);
    return json_pack("{s:s, s:s, s:f, s:f, s:s, s:s, s:i}", "_class_name", t->family->scheduler, "_diffusers_version",
                     "0.30.0", "beta_start", beta_start, "beta_end", beta_end, "beta_schedule", beta_schedule,
                     "prediction_type", sp_prediction_name(t->path.prediction), "num_train_timesteps",
                     (int)TRAIN_TIMESTEPS);
}

static sp_status save_scheduler(const sp_teacher *t, const char *output)
{
    json_t *config = schedule_of(t);
    sp_status status = config ? add_text(config, t->family->scheduler_json) : SP_MEMORY;
    if (!status) status = save_json(output, "scheduler/scheduler_config.json", config);
    json_decref(config);
    return status;
}

/* One of a pipeline's parts; nothing else is written once one failed. */
static void add_part(json_t *index, const char *name, const char *library, const char *class_name, sp_status *status)
{
    if (!*status && json_object_set_new(index, name, json_pack("[s,s]", library, class_name))) *status = SP_MEMORY;
}

static sp_status fill_index(const sp_teacher *t, json_t *index)
{
    const sp_teacher_family *f = t->family;
    const char *vae_class = json_string_value(json_object_get(t->vae->json, "_class_name"));
    sp_status status = add_text(index, f->pipeline_json);
    add_part(index, "scheduler", "diffusers", f->scheduler, &status);
    for (int i = 0; i < f->text_count; i++) {
        add_part(index, f->text[i].folder, "transformers", sp_component_class_name(f->text[i].kind), &status);
        add_part(index, f->text[i].tokenizer, "transformers", "CLIPTokenizer", &status);
    }
    add_part(index, sp_component_folder_name(f->denoiser_kind), "diffusers",
             sp_component_class_name(f->denoiser_kind), &status);
    add_part(index, "vae", "diffusers", vae_class ? vae_class : sp_component_class_name(SP_COMPONENT_VAE), &status);
    if (status || !f->zero_negative) return status;
    return json_object_set_new(index, "force_zeros_for_empty_prompt", json_boolean(t->zero_negative)) ? SP_MEMORY
                                                                                                     : SP_OK;
}

static sp_status save_index(const sp_teacher *t, const char *output)
{
    json_t *index =
        json_pack("{s:s, s:s}", "_class_name", t->family->pipeline, "_diffusers_version", "0.30.0");
    sp_status status = index ? fill_index(t, index) : SP_MEMORY;
    if (!status) status = save_json(output, "model_index.json", index);
    json_decref(index);
    return status;
}

sp_status sp_teacher_save(const sp_teacher *t, const char *output, const sp_weights *trained, const sp_weights *start,
                          uint64_t seed)
{
    SP_TRY(save_part(&t->denoiser, sp_component_folder_name(t->denoiser.kind), output, trained, start, seed));
    for (int i = 0; i < t->family->text_count; i++) {
        SP_TRY(save_part(&t->text[i], t->family->text[i].folder, output, trained, start, seed));
        SP_TRY(save_tokenizer(t->tokenizer[i], output, t->family->text[i].tokenizer));
    }
    SP_TRY(save_vae(t->vae, output));
    SP_TRY(save_scheduler(t, output));
    return save_index(t, output);
}
