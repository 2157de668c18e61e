/* Recorded draws of a distillation, and noise and latents of a request: a file of tensors as fuzz/input_tensors.c takes
 * them, read for two objectives of a tiny teacher and for a sampler that wants noise at every step. */
#include <stdlib.h>
#include <string.h>
#include "base/memory.h"
#include "distill/distill_feed.h"
#include "distill/objective.h"
#include "pipeline/request.h"
#include "fuzz/fuzz.h"

static const char scheduler_json[] = "{\"_class_name\": \"DDIMScheduler\"}";
static const char unet_json[] =
    "{\"_class_name\": \"UNet2DConditionModel\", \"sample_size\": 8, \"in_channels\": 4, \"out_channels\": 4, "
    "\"block_out_channels\": [32, 32], \"down_block_types\": [\"DownBlock2D\", \"CrossAttnDownBlock2D\"], "
    "\"up_block_types\": [\"CrossAttnUpBlock2D\", \"UpBlock2D\"], \"layers_per_block\": 1, "
    "\"cross_attention_dim\": 6, \"attention_head_dim\": 4, \"time_cond_proj_dim\": 8}";

static sp_pipeline teacher;
static sp_component_config student;

static void make_teacher(void)
{
    static bool made;
    json_t *unet, *scheduler;
    if (made) return;
    if (sp_json_parse(unet_json, sizeof unet_json - 1, "unet", &unet) ||
        sp_json_parse(scheduler_json, sizeof scheduler_json - 1, "scheduler", &scheduler) ||
        sp_component_config_read(SP_COMPONENT_UNET, unet, "unet", &student) ||
        sp_scheduler_config_read(scheduler, "scheduler", &teacher.scheduler))
        abort();
    json_decref(unet);
    json_decref(scheduler);
    made = true;
}

static void replay(const char *path, sp_objective objective)
{
    sp_distill_options options = sp_distill_defaults();
    sp_distill_feed feed;
    sp_step_shape shape = {0};
    sp_tensor view;
    options.given.draws = path;
    options.given.train_batch_size = 2;
    options.ranks = 1;
    options.objective.objective = objective;
    if (sp_distill_feed_create(&options, &teacher, &student, NULL, &feed, &shape) != SP_OK) return;
    for (int64_t micro = 0; micro < 3; micro++) {
        if (sp_feed_replay_conditioning(&feed, micro) != SP_OK) break;
        if (sp_feed_recorded(&feed, "index", micro, SP_I64, sp_shape_of(2), &view) == SP_OK)
            (void)sp_feed_integer_at(&view, 1);
    }
    sp_distill_feed_free(&feed);
}

static void draw_noise(const char *path)
{
    const sp_sampler_options lcm = {.kind = SP_SAMPLER_LCM, .steps = 2};
    const sp_sampling sampling = {.seed = 1};
    splam_generate_options options = {.noise = path};
    const sp_picture_sizes sizes = {.each = 1, .total = 1, .width = 16, .height = 16, .factor = 8, .channels = 4};
    sp_tensor_file *file;
    sp_sampler sampler;
    sp_request_noise noise;
    float out[16];
    if (sp_safetensors_open(path, &file) != SP_OK) return;
    if (sp_sampler_create(&teacher.scheduler, &lcm, &sampler)) abort();
    if (sp_request_noise_create(&options, file, &sampler, &sampling, &sizes, true, &noise) == SP_OK)
        for (int step = SP_NOISE_POSTERIOR; step < 3; step++)
            (void)noise.noise.draw(noise.noise.context, 0, step, out, 16);
    sp_request_noise_free(&noise);
    sp_sampler_free(&sampler);
    sp_tensor_file_close(file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    make_teacher();
    data = fuzz_tensors(data, &size);
    const char *path = fuzz_file(data, size);
    replay(path, SP_OBJECTIVE_SPLAM);
    replay(path, SP_OBJECTIVE_DMD);
    draw_noise(path);
    return 0;
}
