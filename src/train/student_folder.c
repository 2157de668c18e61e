/* Writing a student's folder. */
#include "train/student_folder.h"
#include <unistd.h>
#include "backend/cpu/cpu.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/text.h"
#include "diffusion/scheduler_config.h"
#include "models/convert.h"

static const char readme_head[] =
    "# A few-step student\n"
    "\n"
    "Distilled with splam; `splam.json` has the objective and every setting. 1 to 4 steps of LCM, no guidance (CFG 1):\n"
    "it is distilled in.\n"
    "\n";

static const char readme_folder[] =
    "    splam generate -m . -p \"...\" --steps 4\n"
    "\n"
    "`unet/` has the weights at the end of training, `unet_ema/` their moving average.\n"
    "\n";

/* A UNet that is told gamma by cond_proj. */
static const char readme_embedding[] =
    "In diffusers say guidance_scale=1: the pipeline's default of 8.5 would be read as another position on the sub-path.\n"
    "\n"
    "    pipe = diffusers.LatentConsistencyModelPipeline.from_pretrained(\".\")\n"
    "    image = pipe(\"...\", num_inference_steps=4, guidance_scale=1).images[0]\n"
    "\n"
    "Programs that know nothing of `cond_proj` take the folded model, a plain UNet:\n"
    "\n"
    "    splam convert -m . -o plain --fold-guidance                                # StableDiffusionPipeline, as below\n"
    "    splam convert -m . -o student.safetensors --fold-guidance --single-file    # ComfyUI, A1111: sampler LCM, CFG 1\n";

static const char readme_plain[] =
    "In diffusers:\n"
    "\n"
    "    pipe = diffusers.StableDiffusionPipeline.from_pretrained(\".\")    # its scheduler is LCMScheduler\n"
    "    image = pipe(\"...\", num_inference_steps=4, guidance_scale=1).images[0]\n"
    "\n"
    "As one file for ComfyUI and A1111 (sampler LCM, CFG 1):\n"
    "\n"
    "    splam convert -m . -o student.safetensors --single-file\n";

static const char readme_lora[] =
    "These are adapters (LoRA) for the teacher: `pytorch_lora_weights.safetensors` in diffusers' names, `kohya.safetensors`\n"
    "in those of A1111 and ComfyUI, and in `ema/` the same of their moving average.\n"
    "\n"
    "    splam generate -m TEACHER --lora kohya.safetensors --sampler lcm --guidance 1 --steps 4 -p \"...\"\n"
    "    splam convert -m TEACHER --merge-lora kohya.safetensors -o merged\n"
    "\n"
    "In diffusers:\n"
    "\n"
    "    pipe = diffusers.StableDiffusionPipeline.from_pretrained(TEACHER)\n"
    "    pipe.scheduler = diffusers.LCMScheduler.from_config(pipe.scheduler.config)\n"
    "    pipe.load_lora_weights(\".\", weight_name=\"pytorch_lora_weights.safetensors\")\n"
    "    image = pipe(\"...\", num_inference_steps=4, guidance_scale=1).images[0]\n"
    "\n"
    "(after --num-ddim-timesteps M other than 50: from_config(..., original_inference_steps=M).)\n"
    "A1111 and ComfyUI: the teacher with `kohya.safetensors` at strength 1, sampler LCM, CFG 1.\n"
    "\n";

static sp_status save_unet(const sp_distill_options *o, const char *name,
                           const sp_unet_config *config, const sp_weights *weights)
{
    char *folder = sp_path_join(o->output, name);
    json_t *json = sp_unet_config_write(config);
    sp_status status = folder && json
                           ? sp_component_save(folder, SP_COMPONENT_UNET, json, weights, SP_F32)
                           : SP_MEMORY;
    json_decref(json);
    sp_free(folder);
    return status;
}

/* The teacher's part as the folder `to`. */
static sp_status write_part(const sp_model_folder *teacher, const char *name, const char *to)
{
    if (teacher->single) return sp_export_part(teacher, name, to);
    char *from = sp_path_join(teacher->path, name);
    sp_status status = from ? sp_copy_tree(from, to) : SP_MEMORY;
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
    char *to = sp_path_join(o->output, name);
    sp_status status = to ? replace_part(teacher, name, to) : SP_MEMORY;
    sp_free(to);
    return status;
}

static sp_status save_scheduler(const sp_distill_options *o, const sp_model_folder *teacher_model)
{
    static const char *const kept[] = {"num_train_timesteps", "beta_start",      "beta_end",
                                       "beta_schedule",       "prediction_type", "set_alpha_to_one",
                                       "steps_offset"};
    char *folder = sp_path_join(o->output, "scheduler");
    char *to = folder ? sp_path_join(folder, "scheduler_config.json") : NULL;
    json_t *teacher = NULL;
    json_t *lcm = json_pack(
        "{s:s, s:s, s:i, s:f, s:s, s:b, s:b}", "_class_name", "LCMScheduler", "_diffusers_version",
        "0.30.0", "original_inference_steps", o->objective.ddim_timesteps, "timestep_scaling", 10.0,
        "timestep_spacing", "leading", "clip_sample", 0, "rescale_betas_zero_snr", 0);
    sp_scheduler_config *config = sp_alloc(sizeof *config);
    sp_status status =
        to && lcm && config ? sp_scheduler_config_of(teacher_model, &teacher, config) : SP_MEMORY;
    sp_free(config);
    for (size_t i = 0; i < sizeof kept / sizeof *kept && !status; i++) {
        json_t *value = json_object_get(teacher, kept[i]);
        if (value && json_object_set(lcm, kept[i], value)) status = SP_MEMORY;
    }
    if (!status) status = sp_make_folders(folder);
    if (!status) status = sp_json_save(to, lcm);
    json_decref(teacher);
    json_decref(lcm);
    sp_free(to);
    sp_free(folder);
    return status;
}

static sp_status save_json(const sp_distill_options *o, const char *name, const json_t *value)
{
    char *path = sp_path_join(o->output, name);
    sp_status status = path && value ? sp_json_save(path, value) : SP_MEMORY;
    sp_free(path);
    return status;
}

/* diffusers opens a component as the class that the index says. LatentConsistencyModelPipeline is
 * for UNets with cond_proj. */
static sp_status save_index(const sp_distill_options *o, const sp_unet_config *student)
{
    char *path = sp_path_join(o->output, "vae/config.json");
    json_t *vae = NULL;
    sp_status status = path ? SP_OK : SP_MEMORY;
    if (!status && sp_path_exists(path)) status = sp_json_load(path, &vae);
    const char *vae_class = json_string_value(json_object_get(vae, "_class_name"));
    json_t *index = json_pack(
        "{s:s, s:s, s:[n,n], s:[n,n], s:b, s:[s,s], s:[s,s], s:[s,s], s:[s,s], s:[s,s]}",
        "_class_name",
        student->time_cond_dim ? "LatentConsistencyModelPipeline" : "StableDiffusionPipeline",
        "_diffusers_version", "0.30.0", "feature_extractor", "safety_checker",
        "requires_safety_checker", 0, "scheduler", "diffusers", "LCMScheduler", "text_encoder",
        "transformers", "CLIPTextModel", "tokenizer", "transformers", "CLIPTokenizer", "unet",
        "diffusers", "UNet2DConditionModel", "vae", "diffusers",
        vae_class ? vae_class : "AutoencoderKL");
    if (!status) status = save_json(o, "model_index.json", index);
    json_decref(index);
    json_decref(vae);
    sp_free(path);
    return status;
}

static sp_status save_teacher_parts(const sp_distill_options *o)
{
    static const char *const parts[] = {"text_encoder", "tokenizer", "vae"};
    sp_model_folder teacher;
    SP_TRY(sp_model_folder_open(o->teacher, &teacher));
    sp_status status = SP_OK;
    for (size_t i = 0; i < sizeof parts / sizeof *parts && !status; i++)
        status = copy_part(o, &teacher, parts[i]);
    if (!status) status = save_scheduler(o, &teacher);
    sp_model_folder_close(&teacher);
    return status;
}

static sp_status save_readme(const sp_distill_options *o, const sp_unet_config *student)
{
    sp_string text = {0};
    bool adapters = o->lora.rank > 0;
    sp_string_append_format(&text, "%s", readme_head);
    if (adapters) sp_string_append_format(&text, "%s", readme_lora);
    if (o->lora_merged)
        sp_string_append_format(&text,
                                "This folder is the whole student too, adapters merged.\n\n");
    if (!adapters || o->lora_merged)
        sp_string_append_format(&text, "%s%s", readme_folder,
                                student->time_cond_dim ? readme_embedding : readme_plain);
    char *path = sp_path_join(o->output, "README.md");
    sp_status status =
        path && !text.failed ? sp_write_file(path, text.data, text.length) : SP_MEMORY;
    sp_free(path);
    sp_string_free(&text);
    return status;
}

sp_status sp_student_save(const sp_distill_options *o, const sp_unet_config *student,
                          const sp_weights *online, const sp_weights *ema, const json_t *settings)
{
    SP_TRY(save_unet(o, "unet", student, online));
    SP_TRY(save_unet(o, "unet_ema", student, ema));
    SP_TRY(save_teacher_parts(o));
    SP_TRY(save_json(o, "splam.json", settings));
    SP_TRY(save_readme(o, student));
    return save_index(o, student);
}

/* ---- adapters ---- */

static sp_status save_adapters(const sp_distill_options *o, const char *folder,
                               const sp_unet_config *student, const sp_weights *base,
                               const sp_weights *adapters)
{
    static const char *const names[] = {[SP_LORA_DIFFUSERS] = "pytorch_lora_weights.safetensors",
                                        [SP_LORA_KOHYA] = "kohya.safetensors"};
    char *inside = sp_path_join(o->output, folder);
    sp_status status = inside ? sp_make_folders(inside) : SP_MEMORY;
    for (int i = 0; i < 2 && !status; i++) {
        char *path = sp_path_join(inside, names[i]);
        status = path ? sp_lora_save(path, (sp_lora_naming)i, student, base, adapters, &o->lora)
                      : SP_MEMORY;
        sp_free(path);
    }
    sp_free(inside);
    return status;
}

static sp_status save_merged(const sp_distill_options *o, const sp_unet_config *student,
                             const sp_weights *base, const sp_weights *online,
                             const sp_weights *ema, const json_t *settings)
{
    sp_weights *merged = NULL, *merged_ema = NULL;
    sp_status status = sp_lora_merged(sp_cpu_backend(), base, online, &o->lora, &merged);
    if (!status) status = sp_lora_merged(sp_cpu_backend(), base, ema, &o->lora, &merged_ema);
    if (!status) status = sp_student_save(o, student, merged, merged_ema, settings);
    sp_weights_destroy(merged);
    sp_weights_destroy(merged_ema);
    return status;
}

sp_status sp_adapters_save(const sp_distill_options *o, const sp_unet_config *student,
                           const sp_weights *base, const sp_weights *online, const sp_weights *ema,
                           const json_t *settings)
{
    SP_TRY(save_adapters(o, ".", student, base, online));
    SP_TRY(save_adapters(o, "ema", student, base, ema));
    if (o->lora_merged) return save_merged(o, student, base, online, ema, settings);
    SP_TRY(save_json(o, "splam.json", settings));
    return save_readme(o, student);
}
