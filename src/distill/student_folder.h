/* The student as a diffusers folder. */
#ifndef SP_DISTILL_STUDENT_FOLDER_H
#define SP_DISTILL_STUDENT_FOLDER_H
#include "pipeline/pipeline.h"
#include "distill/distill.h"

/* Writes output/{unet,unet_ema,scheduler,README.md,splam.json,model_index.json}, of a transformer transformer and
 * transformer_ema, and copies the teacher's other components, so that diffusers opens it (guidance_scale=1): as a
 * LatentConsistencyModelPipeline where the UNet has cond_proj, else as a StableDiffusionPipeline, and a transformer as
 * a StableDiffusion3Pipeline without a third text encoder.
 * settings: the run's flags, for splam.json, which gets "sampler" and "steps" beside them. */
sp_status sp_student_save(const sp_distill_options *options, const sp_component_config *student,
                          const sp_weights *online, const sp_weights *ema, const json_t *settings);

/* The same for adapters over `base`, the teacher's UNet: LoRA files in both namings of `online` in
 * output/, of `ema` in output/ema/, README.md and splam.json; and with lora_merged the whole
 * student. */
sp_status sp_adapters_save(const sp_distill_options *options, const sp_component_config *student,
                           const sp_weights *base, const sp_weights *online, const sp_weights *ema,
                           const json_t *settings);
/* The scheduler_config.json of a student of this teacher (json_decref), with which it is sampled as
 * its objective means it: splam and lcm an LCMScheduler, tcd a TCDScheduler, both with M original
 * steps; dmd an LCMScheduler whose original steps are the student's, with "_distilled_steps", which diffusers passes
 * over; pcm and progressive a DDIMScheduler with trailing timesteps, which ends at timestep 0 and
 * has "_distilled_steps". Of flow teachers, with their shift: splam and lcm a FlowMatchLCMScheduler; the others a
 * FlowMatchEulerDiscreteScheduler, pcm and progressive with "_distilled_steps", tcd with "_student": "tcd". */
sp_status sp_student_scheduler(const sp_objective_settings *objective,
                               const sp_model_folder *teacher, json_t **out);

#endif
