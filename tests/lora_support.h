/* Models that adapters are merged into, and what is drawn with them. */
#ifndef SP_TESTS_LORA_SUPPORT_H
#define SP_TESTS_LORA_SUPPORT_H
#include "tiny_model.h"
#include "checkpoints/lora.h"
#include "pipeline/pipeline.h"

enum { LATENT = 8 };

static inline const char *base_model(void **state)
{
    static char model[512]; /* in_folder's buffers come round again */
    snprintf(model, sizeof model, "%s", in_folder(state, "model"));
    if (!sp_path_exists(model)) make_model(model, "unet-demo", ddim_scheduler);
    return model;
}

/* ---- drawing ---- */

/* Latents of three steps of LCM at guidance 1, from noise that is always the same. */
static inline sp_tensor draw(sp_pipeline *p)
{
    const char *prompt = "red apple";
    sp_philox_noise noise = {.seed = 3};
    sp_conditioning conditioning;
    sp_tensor latents;
    assert_ok(sp_pipeline_encode(p, &prompt, 1, &conditioning));
    const sp_denoise_request request = {.sampler = {.kind = SP_SAMPLER_LCM, .steps = 3},
                                        .guidance = 1,
                                        .conditioning = &conditioning,
                                        .height = LATENT,
                                        .width = LATENT,
                                        .noise = sp_noise_philox(&noise)};
    assert_ok(sp_pipeline_denoise(p, &request, NULL, &latents));
    sp_conditioning_free(&conditioning);
    return latents;
}

static inline sp_tensor draw_model(const char *model, const char *lora, double weight)
{
    const splam_lora source = {lora, weight};
    const sp_model_options options = {.loras = &source, .lora_count = lora ? 1 : 0};
    sp_pipeline *p;
    assert_ok(sp_pipeline_open(model, &options, &p));
    sp_tensor latents = draw(p);
    sp_pipeline_close(p);
    return latents;
}

/* Frees both. */
static inline double difference(sp_tensor a, sp_tensor b)
{
    double error;
    assert_ok(sp_tensor_relative_max_error(&a, &b, &error));
    sp_tensor_free(&a);
    sp_tensor_free(&b);
    return error;
}

#endif
