/* Writing a student's folder. */
#include "distill/student_folder.h"
#include <unistd.h>
#include "base/file.h"
#include "base/memory.h"
#include "base/text.h"
#include "diffusion/scheduler_config.h"
#include "checkpoints/convert.h"
#include "checkpoints/student_file.h"
#include "distill/student_readme.h"

static sp_status save_denoiser(const sp_distill_options *o, const char *suffix,
                           const sp_component_config *config, const sp_weights *weights)
{
    char *folder = sp_format("%s/%s%s", o->given.output, sp_component_folder_name(config->kind), suffix);
    json_t *json = sp_component_config_write(config);
    sp_status status =
        folder && json ? sp_component_save(folder, config->kind, json, weights, SP_F32, NULL) : SP_MEMORY;
    json_decref(json);
    sp_free(folder);
    return status;
}

/* All but packed weights, which are made for whom they lie beside. */
static sp_status copy_folder(const char *from, const char *to)
{
    char **names;
    size_t count;
    SP_TRY(sp_list_folder(from, &names, &count));
    sp_status status = sp_make_folders(to);
    for (size_t i = 0; i < count; i++) {
        char *source = sp_path_join(from, names[i]), *target = sp_path_join(to, names[i]);
        if (!status && !sp_packed_is_name(names[i]))
            status = source && target ? sp_copy_tree(source, target, NULL) : SP_MEMORY;
        sp_free(source);
        sp_free(target);
        sp_free(names[i]);
    }
    sp_free(names);
    return status;
}

/* The teacher's part as the folder `to`. */
static sp_status write_part(const sp_model_folder *teacher, const char *name, const char *to)
{
    if (teacher->single) return sp_export_part(teacher, name, to);
    char *from = sp_path_join(teacher->path, name);
    sp_status status = from ? copy_folder(from, to) : SP_MEMORY;
    sp_free(from);
    return status;
}

/* Written beside and renamed: half a text encoder must not look like one. */
static sp_status replace_part(const sp_model_folder *teacher, const char *name, const char *to)
{
    char *beside = sp_format("%s.tmp-%ld", to, (long)getpid());
    if (!beside) return SP_MEMORY;
    sp_status status = write_part(teacher, name, beside);
    status = status ? sp_give_up_folder(beside, status) : sp_replace_folder(beside, to);
    sp_free(beside);
    return status;
}

/* What the teacher has of it; recorded draws need no text encoder and no VAE. */
static sp_status copy_part(const sp_distill_options *o, const sp_model_folder *teacher,
                           const char *name)
{
    if (!sp_model_folder_has(teacher, name)) return SP_OK;
    char *to = sp_path_join(o->given.output, name);
    sp_status status = to ? replace_part(teacher, name, to) : SP_MEMORY;
    sp_free(to);
    return status;
}

/* Of teachers whose schedule is a table of betas. */
static json_t *table_scheduler(const sp_objective_settings *objective)
{
    int steps = sp_objective_distilled_steps(objective);
    bool dmd = objective->objective == SP_OBJECTIVE_DMD; /* fresh noise after every step, as it was trained */
    json_t *json =
        steps && !dmd
            ? json_pack("{s:s, s:i, s:s, s:b}", "_class_name", "DDIMScheduler", "_distilled_steps", steps,
                        "timestep_spacing", "trailing", "set_alpha_to_one", 0)
            : json_pack("{s:s, s:i, s:f, s:s}", "_class_name",
                        objective->objective == SP_OBJECTIVE_TCD ? "TCDScheduler" : "LCMScheduler",
                        "original_inference_steps", objective->ddim_timesteps, "timestep_scaling", 10.0,
                        "timestep_spacing", "leading");
    /* an offset of 1 is nothing to these timesteps, and without it diffusers warns */
    json_t *more = json_pack("{s:s, s:b, s:b, s:i}", "_diffusers_version", "0.30.0", "clip_sample", 0,
                             "rescale_betas_zero_snr", 0, "steps_offset", 1);
    bool made = more && json_object_update(json, more) == 0;
    if (made && dmd) made = json_object_set_new(json, "_distilled_steps", json_integer(steps)) == 0;
    json_decref(more);
    if (made) return json;
    json_decref(json);
    return NULL;
}

/* Of flow teachers: diffusers has no class of TCD for them, so what the student is stands in a key of its own. */
static json_t *flow_scheduler(const sp_objective_settings *objective)
{
    int steps = sp_objective_distilled_steps(objective);
    bool tcd = objective->objective == SP_OBJECTIVE_TCD, dmd = objective->objective == SP_OBJECTIVE_DMD;
    json_t *json = json_pack("{s:s, s:s}", "_class_name",
                             (steps && !dmd) || tcd ? "FlowMatchEulerDiscreteScheduler" : "FlowMatchLCMScheduler",
                             "_diffusers_version", "0.35.0");
    bool made = json != NULL;
    if (made && steps) made = json_object_set_new(json, "_distilled_steps", json_integer(steps)) == 0;
    if (made && tcd) made = json_object_set_new(json, "_student", json_string("tcd")) == 0;
    if (made) return json;
    json_decref(json);
    return NULL;
}

/* What stands of the noise schedule in the teacher's file. */
static sp_status keep_schedule(const json_t *from, bool flow, json_t *to)
{
    static const char *const of_table[] = {"num_train_timesteps", "beta_start",      "beta_end",
                                           "beta_schedule",       "prediction_type", "rescale_betas_zero_snr", NULL};
    static const char *const of_flow[] = {"num_train_timesteps", "shift", NULL};
    for (const char *const *key = flow ? of_flow : of_table; *key; key++) {
        json_t *value = json_object_get(from, *key);
        if (value && json_object_set(to, *key, value)) return SP_MEMORY;
    }
    return SP_OK;
}

sp_status sp_student_scheduler(const sp_objective_settings *objective,
                               const sp_model_folder *teacher, json_t **out)
{
    json_t *from = NULL;
    sp_scheduler_config *config = sp_alloc(sizeof *config);
    *out = NULL;
    sp_status status = config ? sp_scheduler_config_of(teacher, &from, config) : SP_MEMORY;
    bool flow = !status && config->path.kind == SP_PATH_FLOW;
    if (!status) *out = flow ? flow_scheduler(objective) : table_scheduler(objective);
    if (!status) status = *out ? keep_schedule(from, flow, *out) : SP_MEMORY;
    sp_free(config);
    json_decref(from);
    if (status) {
        json_decref(*out);
        *out = NULL;
    }
    return status;
}

static sp_status save_scheduler(const sp_distill_options *o, const json_t *scheduler)
{
    char *folder = sp_path_join(o->given.output, "scheduler");
    char *to = folder ? sp_path_join(folder, "scheduler_config.json") : NULL;
    sp_status status = to ? sp_make_folders(folder) : SP_MEMORY;
    if (!status) status = sp_json_save(to, scheduler);
    sp_free(to);
    sp_free(folder);
    return status;
}

static sp_status save_json(const sp_distill_options *o, const char *name, const json_t *value)
{
    char *path = sp_path_join(o->given.output, name);
    sp_status status = path && value ? sp_json_save(path, value) : SP_MEMORY;
    sp_free(path);
    return status;
}

/* The flags, and how to sample. */
static sp_status save_settings(const sp_distill_options *o, const json_t *settings,
                               const sp_scheduler_config *scheduler)
{
    sp_sampler_kind kind = sp_sampler_for(scheduler);
    return sp_student_file_write(o->given.output, settings, sp_sampler_name(kind),
                                 sp_sampler_steps_for(scheduler, kind));
}

/* What StableDiffusionXLPipeline has more and less; whether an absent negative prompt is zeros is the teacher's. */
static sp_status add_second_encoder(const sp_distill_options *o, json_t *index)
{
    sp_model_folder teacher;
    bool zeros;
    SP_TRY(sp_model_folder_open(o->given.teacher, &teacher));
    sp_status status = sp_model_folder_zero_negative(&teacher, &zeros);
    sp_model_folder_close(&teacher);
    SP_TRY(status);
    json_t *more = json_pack("{s:[s,s], s:[s,s], s:[n,n], s:b}", "text_encoder_2", "transformers",
                             "CLIPTextModelWithProjection", "tokenizer_2", "transformers", "CLIPTokenizer",
                             "image_encoder", "force_zeros_for_empty_prompt", (int)zeros);
    json_object_del(index, "safety_checker");
    json_object_del(index, "requires_safety_checker");
    int failed = json_object_update(index, more);
    json_decref(more);
    return failed ? SP_MEMORY : SP_OK;
}

static json_t *unet_index(const char *pipeline, const char *scheduler)
{
    return json_pack("{s:s, s:s, s:[n,n], s:[n,n], s:b, s:[s,s], s:[s,s], s:[s,s], s:[s,s]}", "_class_name", pipeline,
                     "_diffusers_version", "0.30.0", "feature_extractor", "safety_checker", "requires_safety_checker",
                     0, "scheduler", "diffusers", scheduler, "text_encoder", "transformers", "CLIPTextModel",
                     "tokenizer", "transformers", "CLIPTokenizer", "unet", "diffusers", "UNet2DConditionModel");
}

/* The third text encoder was not there when the student was made. */
static json_t *transformer_index(const char *pipeline, const char *scheduler)
{
    return json_pack("{s:s, s:s, s:[n,n], s:[n,n], s:[n,n], s:[n,n], s:[s,s], s:[s,s], s:[s,s], s:[s,s], s:[s,s], "
                     "s:[s,s]}",
                     "_class_name", pipeline, "_diffusers_version", "0.35.0", "feature_extractor", "image_encoder",
                     "text_encoder_3", "tokenizer_3", "scheduler", "diffusers", scheduler, "text_encoder",
                     "transformers", "CLIPTextModelWithProjection", "text_encoder_2", "transformers",
                     "CLIPTextModelWithProjection", "tokenizer", "transformers", "CLIPTokenizer", "tokenizer_2",
                     "transformers", "CLIPTokenizer", "transformer", "diffusers", "SD3Transformer2DModel");
}

/* diffusers opens a component as the class that the index says. */
static sp_status save_index(const sp_distill_options *o, const sp_component_config *student,
                            const json_t *scheduler)
{
    char *path = sp_path_join(o->given.output, "vae/config.json");
    json_t *vae = NULL;
    sp_status status = path ? SP_OK : SP_MEMORY;
    if (!status && sp_path_exists(path)) status = sp_json_load(path, &vae);
    const char *vae_class = json_string_value(json_object_get(vae, "_class_name"));
    const char *pipeline = sp_student_pipeline_class(student),
               *class_name = json_string_value(json_object_get(scheduler, "_class_name"));
    json_t *index = student->kind == SP_COMPONENT_TRANSFORMER ? transformer_index(pipeline, class_name)
                                                              : unet_index(pipeline, class_name);
    json_t *vae_part = json_pack("[s,s]", "diffusers", vae_class ? vae_class : "AutoencoderKL");
    if (json_object_set_new(index, "vae", vae_part) && !status) status = SP_MEMORY;
    if (!status && sp_denoiser_of(student).sizes) status = add_second_encoder(o, index);
    if (!status) status = save_json(o, "model_index.json", index);
    json_decref(index);
    json_decref(vae);
    sp_free(path);
    return status;
}

static sp_status save_teacher_parts(const sp_distill_options *o, const sp_model_folder *teacher)
{
    static const char *const parts[] = {"text_encoder", "tokenizer", "vae", "text_encoder_2", "tokenizer_2"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        SP_TRY(copy_part(o, teacher, parts[i]));
    return SP_OK;
}

/* What diffusers and splam read to know how to sample. */
static sp_status save_descriptions(const sp_distill_options *o, const sp_component_config *student,
                                   const json_t *settings, const json_t *scheduler)
{
    sp_scheduler_config *config = sp_alloc(sizeof *config);
    sp_status status =
        config ? sp_scheduler_config_read(scheduler, "the student's scheduler", config) : SP_MEMORY;
    if (!status) status = save_scheduler(o, scheduler);
    if (!status) status = save_settings(o, settings, config);
    if (!status) status = sp_student_readme_save(o, student, settings, config);
    if (!status) status = save_index(o, student, scheduler);
    sp_free(config);
    return status;
}

sp_status sp_student_save(const sp_distill_options *o, const sp_component_config *student,
                          const sp_weights *online, const sp_weights *ema, const json_t *settings)
{
    sp_model_folder teacher;
    json_t *scheduler = NULL;
    SP_TRY(save_denoiser(o, "", student, online));
    SP_TRY(save_denoiser(o, "_ema", student, ema));
    SP_TRY(sp_model_folder_open(o->given.teacher, &teacher));
    teacher.prediction = o->given.prediction_type;
    sp_status status = save_teacher_parts(o, &teacher);
    if (!status) status = sp_student_scheduler(&o->objective, &teacher, &scheduler);
    if (!status) status = save_descriptions(o, student, settings, scheduler);
    json_decref(scheduler);
    sp_model_folder_close(&teacher);
    return status;
}

/* ---- adapters ---- */

static sp_status save_adapters(const sp_distill_options *o, const char *folder,
                               const sp_component_config *student, const sp_weights *base,
                               const sp_weights *adapters, const char *scheduler)
{
    static const char *const names[] = {[SP_LORA_DIFFUSERS] = "pytorch_lora_weights.safetensors",
                                        [SP_LORA_KOHYA] = "kohya.safetensors"};
    char *inside = sp_path_join(o->given.output, folder);
    sp_status status = inside ? sp_make_folders(inside) : SP_MEMORY;
    for (int i = 0; i < 2 && !status; i++) {
        char *path = sp_path_join(inside, names[i]);
        status = path ? sp_lora_save(path, (sp_lora_naming)i, student, base, adapters, &o->lora, scheduler)
                      : SP_MEMORY;
        sp_free(path);
    }
    sp_free(inside);
    return status;
}

static sp_status save_merged(const sp_distill_options *o, const sp_component_config *student,
                             const sp_weights *base, const sp_weights *online,
                             const sp_weights *ema, const json_t *settings)
{
    sp_weights *merged = NULL, *merged_ema = NULL;
    sp_status status = sp_lora_merged(o->device, base, online, &o->lora, &merged);
    if (!status) status = sp_lora_merged(o->device, base, ema, &o->lora, &merged_ema);
    if (!status) status = sp_student_save(o, student, merged, merged_ema, settings);
    sp_weights_destroy(merged);
    sp_weights_destroy(merged_ema);
    return status;
}

/* What merged weights are sampled with. */
static sp_status adapters_scheduler(const sp_distill_options *o, json_t **out)
{
    sp_model_folder teacher;
    SP_TRY(sp_model_folder_open(o->given.teacher, &teacher));
    teacher.prediction = o->given.prediction_type;
    sp_status status = sp_student_scheduler(&o->objective, &teacher, out);
    sp_model_folder_close(&teacher);
    return status;
}

/* It is told by adapters' folders too. */
static sp_status describe_adapters(const sp_distill_options *o, const sp_component_config *student,
                                   const json_t *settings, const json_t *json)
{
    sp_scheduler_config *scheduler = sp_alloc(sizeof *scheduler);
    if (!scheduler) return SP_MEMORY;
    sp_status status = sp_scheduler_config_read(json, "the student's scheduler", scheduler);
    if (!status) status = save_settings(o, settings, scheduler);
    if (!status) status = sp_student_readme_save(o, student, settings, scheduler);
    sp_free(scheduler);
    return status;
}

sp_status sp_adapters_save(const sp_distill_options *o, const sp_component_config *student,
                           const sp_weights *base, const sp_weights *online, const sp_weights *ema,
                           const json_t *settings)
{
    json_t *scheduler = NULL;
    SP_TRY(adapters_scheduler(o, &scheduler));
    char *text = sp_json_dumps(scheduler, JSON_COMPACT);
    sp_status status = text ? SP_OK : SP_MEMORY;
    if (!status) status = save_adapters(o, ".", student, base, online, text);
    if (!status) status = save_adapters(o, "ema", student, base, ema, text);
    if (!status)
        status = o->given.lora_merged ? save_merged(o, student, base, online, ema, settings)
                                      : describe_adapters(o, student, settings, scheduler);
    sp_free(text);
    json_decref(scheduler);
    return status;
}
