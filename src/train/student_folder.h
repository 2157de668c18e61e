/* The student as a diffusers folder. */
#ifndef SP_TRAIN_STUDENT_FOLDER_H
#define SP_TRAIN_STUDENT_FOLDER_H
#include "diffusion/pipeline.h"
#include "train/distill.h"

/* Writes output/{unet,unet_ema,scheduler,README.md,splam.json,model_index.json} and copies the
 * teacher's other components, so that diffusers' LatentConsistencyModelPipeline opens it
 * (guidance_scale=1). settings: the run's flags, for splam.json. */
sp_status sp_student_save(const sp_distill_options *options, const sp_unet_config *student,
                          const sp_weights *online, const sp_weights *ema, const json_t *settings);

/* The same for adapters over `base`, the teacher's UNet: LoRA files in both namings of `online` in
 * output/, of `ema` in output/ema/, README.md and splam.json; and with lora_merged the whole
 * student.
 */
sp_status sp_adapters_save(const sp_distill_options *options, const sp_unet_config *student,
                           const sp_weights *base, const sp_weights *online, const sp_weights *ema,
                           const json_t *settings);

#endif
