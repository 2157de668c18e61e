/* The README.md in a student's folder. */
#include "distill/student_readme.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/text.h"
#include "diffusion/sampler.h"
#include "models/guidance.h"

typedef struct {
    const sp_distill_options *options;
    bool embedding, ranged, distilled; /* has a cond_proj; which is told guidance; made for one number of steps */
    const char *t5_absent; /* tokens of zeros where they are not diffusers'; NULL: they are */
    bool flow;            /* Stable Diffusion 3's kind: a transformer, and sigmas in place of timesteps */
    const char *denoiser; /* its folder */
    double guidance;                   /* CFG scale */
    const char *pipeline, *whole_pipeline, *sampler; /* the former with a cond_proj, the latter the teacher's */
    int steps;
    const char *eta; /* further arguments in diffusers */
    const json_t *settings; /* of splam.json */
    sp_string *text;
} readme;

const char *sp_student_pipeline_class(const sp_component_config *student)
{
    const sp_denoiser facts = sp_denoiser_of(student);
    if (student->kind == SP_COMPONENT_TRANSFORMER) return "StableDiffusion3Pipeline";
    if (facts.sizes) return "StableDiffusionXLPipeline"; /* which asks for cond_proj itself */
    return facts.time_cond_dim ? "LatentConsistencyModelPipeline" : "StableDiffusionPipeline";
}

/* Of a flow student's pipeline: one without T5, or the teacher's T5. */
static const char *third_encoder(const readme *r)
{
    if (!r->flow) return "";
    return json_object_get(r->settings, "t5") ? ", text_encoder_3=t5, tokenizer_3=t5_tokenizer"
                                              : ", text_encoder_3=None, tokenizer_3=None";
}

static void add_head(const readme *r)
{
    char how[64];
    snprintf(how, sizeof how, r->distilled ? "Made for %d steps" : "1 to 8 steps, %d by default",
             r->steps);
    sp_string_append_format(
        r->text,
        "# A few-step student\n\n"
        "Distilled with splam, objective %s; `splam.json` has every setting. %s, sampler %s, %s.\n\n",
        sp_objective_name(r->options->objective.objective), how, r->sampler,
        r->ranged ? "one pass a step at any\nguidance of the range that it was distilled for"
                  : "no guidance (CFG 1): it is\ndistilled in");
    if (!r->ranged) return;
    const sp_guidance_range *range = &r->options->objective.guidance;
    char low[SP_NUMBER_TEXT], high[SP_NUMBER_TEXT], usual[SP_NUMBER_TEXT];
    sp_string_append_format(r->text,
                            "Guidance (CFG) from %s to %s, %s where nobody says: `splam generate --guidance`, "
                            "diffusers' `guidance_scale`.\n\n",
                            sp_number_text(range->low, low), sp_number_text(range->high, high),
                            sp_number_text(r->guidance, usual));
}

/* What a validation measured of it. */
static void add_error(const readme *r)
{
    const json_t *error = json_object_get(r->settings, "trajectory-error");
    if (!error) return;
    sp_string_append_format(r->text, "\n- trajectory error of the average %.4f (`metrics.jsonl` has its course)",
                            json_number_value(error));
    const json_t *kept = json_object_get(r->settings, "kept-step");
    if (kept)
        sp_string_append_format(r->text, ", the lowest of all validations: this is the student of step %lld",
                                (long long)json_integer_value(kept));
}

/* How it was trained, a line a setting. */
static void add_training(const readme *r)
{
    const sp_distill_options *o = r->options;
    const sp_objective_settings *s = &o->objective;
    char text[SP_AVERAGE_TEXT];
    sp_string_append_format(r->text, "- %lld steps, learning rate %s, %s\n", (long long)o->given.max_train_steps,
                            sp_number_text(o->given.learning_rate, text), sp_lr_schedule_text(&o->lr_schedule));
    if (s->skip) sp_string_append_format(r->text, "- sub-paths of %d timesteps", s->skip);
    if (s->skip_to != s->skip) sp_string_append_format(r->text, " in the first step, %d in the last", s->skip_to);
    sp_string_append_format(r->text, "%s- average %s", s->skip ? "\n" : "", sp_average_text(&o->average, text));
    if (o->target_apart)
        sp_string_append_format(r->text, ", the target's %s", sp_average_text(&o->target_average, text));
    if (s->weighting != SP_WEIGHTING_NONE)
        sp_string_append_format(r->text, "\n- losses weighted by %s", sp_loss_weighting_name(s->weighting));
    if (s->weighting == SP_WEIGHTING_MIN_SNR)
        sp_string_append_format(r->text, ", gamma %s", sp_number_text(s->snr_gamma, text));
    add_error(r);
    sp_string_append_format(r->text, "\n\n");
}

/* What diffusers is told to step along: 1, 3/4, 2/4, 1/4, each shifted once, as its scheduler's own are not. */
static void add_sigmas(const readme *r)
{
    char number[SP_NUMBER_TEXT];
    sp_string_append_format(r->text, "    sigmas = [");
    for (int i = 0; i < r->steps; i++)
        sp_string_append_format(r->text, "%s%s", i ? ", " : "",
                                sp_number_text((double)(r->steps - i) / r->steps, number));
    char length[64] = "";
    if (r->t5_absent) snprintf(length, sizeof length, ", max_sequence_length=%s", r->t5_absent);
    sp_string_append_format(r->text, "]  # (N - i)/N for N steps\n"
                                     "    image = pipe(\"...\", sigmas=sigmas, num_inference_steps=len(sigmas), "
                                     "guidance_scale=1%s).images[0]\n\n", length);
    if (json_object_get(r->settings, "t5"))
        sp_string_append_format(r->text, "It was distilled with T5: `t5` and `t5_tokenizer` are the teacher's "
                                         "`text_encoder_3` and `tokenizer_3`; `splam generate --t5` names them.\n\n");
    if (r->t5_absent)
        sp_string_append_format(r->text, "`max_sequence_length=%s`: it was distilled with so many tokens for the "
                                         "text encoder that is absent, as ComfyUI has them%s.\n\n", r->t5_absent,
                                r->options->lora.rank ? "; in splam `--t5-absent` says it" : "");
}

static void add_image_line(const readme *r)
{
    char guidance[SP_NUMBER_TEXT];
    if (r->flow) {
        add_sigmas(r);
        return;
    }
    sp_string_append_format(
        r->text,
        "    image = pipe(\"...\", num_inference_steps=%d, guidance_scale=%s%s).images[0]\n\n",
        r->steps, sp_number_text(r->guidance, guidance), r->eta);
}

static void add_folder(const readme *r)
{
    char at[SP_NUMBER_TEXT + 16] = "", guidance[SP_NUMBER_TEXT];
    if (r->ranged) snprintf(at, sizeof at, " --guidance %s", sp_number_text(r->guidance, guidance));
    sp_string_append_format(
        r->text,
        "    splam generate -m . -p \"...\" --steps %d\n\n"
        "`%s/` has the weights %s, `%s_ema/` their moving average.\n\n"
        "In diffusers%s:\n\n"
        "    pipe = diffusers.%s.from_pretrained(\".\"%s)\n",
        r->steps, r->denoiser, json_object_get(r->settings, "kept-step") ? "of that step" : "at the end of training",
        r->denoiser,
        r->embedding && !r->ranged ? " (say guidance_scale=1: the pipeline's default of 8.5 would be read as "
                                     "another position on the sub-path)"
                                   : "",
        r->pipeline, third_encoder(r));
    add_image_line(r);
    if (r->flow) return;
    if (r->embedding)
        sp_string_append_format(
            r->text,
            "Programs that know nothing of `cond_proj` take the folded model, a plain UNet%s:\n\n"
            "    splam convert -m . -o plain --fold-guidance%s    # diffusers' StableDiffusionPipeline\n",
            r->ranged ? " of one guidance" : "", at);
    else
        sp_string_append_format(r->text, "As one file for ComfyUI and A1111:\n\n");
    sp_string_append_format(
        r->text,
        "    splam convert -m . -o student.safetensors %s%s%s--single-file    # ComfyUI, A1111; needs CLIP's own "
        "tokenizer\n",
        r->embedding ? "--fold-guidance" : "", at, r->embedding ? " " : "");
}

/* The scheduler of these adapters over the teacher's. */
static void add_lora_scheduler(const readme *r, sp_sampler_kind kind)
{
    if (r->flow) {
        if (kind == SP_SAMPLER_LCM)
            sp_string_append_format(r->text, "    pipe.scheduler = diffusers.FlowMatchLCMScheduler.from_config("
                                             "pipe.scheduler.config)\n");
        return;
    }
    if (kind == SP_SAMPLER_DDIM)
        sp_string_append_format(
            r->text,
            "    pipe.scheduler = diffusers.DDIMScheduler.from_config(pipe.scheduler.config,\n"
            "        timestep_spacing=\"trailing\", set_alpha_to_one=False)\n");
    else
        sp_string_append_format(
            r->text,
            "    pipe.scheduler = diffusers.%s.from_config(pipe.scheduler.config, original_inference_steps=%d)\n",
            kind == SP_SAMPLER_TCD ? "TCDScheduler" : "LCMScheduler",
            r->options->objective.ddim_timesteps);
}

static void add_lora(const readme *r, sp_sampler_kind kind)
{
    sp_string_append_format(
        r->text,
        "These are adapters (LoRA) for the teacher: `pytorch_lora_weights.safetensors` in diffusers' names, "
        "`kohya.safetensors`\n"
        "in those of %s, and in `ema/` the same of their moving average.\n\n",
        r->flow ? "ComfyUI" : "A1111 and ComfyUI");
    sp_string_append_format(
        r->text, "    splam generate -m TEACHER --lora kohya.safetensors --steps %d%s%s -p \"...\"\n", r->steps,
        r->t5_absent ? " --t5-absent " : "", r->t5_absent ? r->t5_absent : "");
    sp_string_append_format(
        r->text, "    splam convert -m TEACHER --merge-lora kohya.safetensors -o merged\n\n"
                 "In diffusers:\n\n"
                 "    pipe = diffusers.");
    sp_string_append_format(r->text, "%s.from_pretrained(TEACHER%s)\n", r->whole_pipeline,
                            third_encoder(r));
    add_lora_scheduler(r, kind);
    sp_string_append_format(
        r->text,
        "    pipe.load_lora_weights(\".\", weight_name=\"pytorch_lora_weights.safetensors\")\n");
    add_image_line(r);
    sp_string_append_format(
        r->text,
        "%s: the teacher with `kohya.safetensors` at strength 1, CFG 1.\n\n",
        r->flow ? "ComfyUI" : "A1111 and ComfyUI");
}

sp_status sp_student_readme_save(const sp_distill_options *o, const sp_component_config *student,
                                 const json_t *settings, const sp_scheduler_config *scheduler)
{
    sp_string text = {0};
    sp_sampler_kind kind = sp_sampler_for(scheduler);
    const sp_denoiser facts = sp_denoiser_of(student);
    const readme r = {.options = o,
                      .embedding = facts.time_cond_dim > 0,
                      .ranged = facts.guidance.high > 0,
                      .guidance = sp_usual_guidance(&facts.guidance),
                      .flow = student->kind == SP_COMPONENT_TRANSFORMER,
                      .denoiser = sp_component_folder_name(student->kind),
                      .whole_pipeline = student->kind == SP_COMPONENT_UNET && !facts.sizes
                                            ? "StableDiffusionPipeline"
                                            : sp_student_pipeline_class(student),
                      .distilled = scheduler->distilled_steps > 0,
                      .pipeline = sp_student_pipeline_class(student),
                      .sampler = sp_sampler_name(kind),
                      .steps = sp_sampler_steps_for(scheduler, kind),
                      .eta = kind == SP_SAMPLER_TCD ? ", eta=0.3" : "",
                      .t5_absent = json_string_value(json_object_get(settings, "t5-absent")),
                      .settings = settings,
                      .text = &text};
    add_head(&r);
    add_training(&r);
    if (o->lora.rank) add_lora(&r, kind);
    if (o->given.lora_merged)
        sp_string_append_format(&text,
                                "This folder is the whole student too, adapters merged.\n\n");
    if (!o->lora.rank || o->given.lora_merged) add_folder(&r);
    char *path = sp_path_join(o->given.output, "README.md");
    sp_status status =
        path && !text.failed ? sp_write_file(path, text.data, text.length) : SP_MEMORY;
    sp_free(path);
    sp_string_free(&text);
    return status;
}
