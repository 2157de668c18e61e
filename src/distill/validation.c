/* Validation sheets. */
#include "distill/validation.h"
#include "base/memory.h"
#include "image/sheet.h"
#include "models/guidance.h"
#include "distill/student_folder.h"

enum { SP_VALIDATION_ROWS = 6 };

/* 1, 2 and 4 steps, or as many as the student has. */
static int steps_of_row(const sp_scheduler_config *scheduler, int row)
{
    static const int counts[] = {1, 2, 4};
    int count = counts[row % 3], most = scheduler->original_steps;
    return sp_sampler_for(scheduler) == SP_SAMPLER_LCM && count > most ? most : count;
}

size_t sp_validation_sheet_bytes(int64_t columns, int64_t width, int64_t height)
{
    static const size_t unplanned = 56u << 20;
    size_t row = (size_t)(columns * width * height);
    /* Red, green and blue in f32; of all rows three bytes a pixel in the cells, four where they are drawn, three as the
     * PNG's; the sheet's margins are a third. */
    return unplanned + row * 3 * sizeof(float) + SP_VALIDATION_ROWS * row * (3 + 4 * (4 + 3) / 3);
}

/* A sheet being filled. */
typedef struct {
    const char *output, *title;
    uint64_t seed;
    sp_pipeline *pipeline;
    sp_conditioning conditioning, negative;
    const char *captions[SP_VALIDATION_COLUMNS];
    int rows, picture_width, picture_height;
    int64_t columns, height, width; /* of the latent */
    uint8_t *cells[SP_VALIDATION_ROWS * SP_VALIDATION_COLUMNS];
} validation;

static int64_t chosen(int64_t column, int64_t columns, int64_t count)
{
    return column * count / columns; /* evenly spread */
}

static sp_status draw_row(validation *v, int row, sp_denoise_request request)
{
    sp_philox_noise noise = {.seed = v->seed};
    request.conditioning = &v->conditioning;
    request.negative = &v->negative;
    request.height = v->height;
    request.width = v->width;
    request.noise = sp_noise_philox(&noise);
    sp_tensor latents = {0}, images = {0};
    SP_TRY(sp_pipeline_denoise(v->pipeline, &request, NULL, &latents));
    sp_status status = sp_pipeline_decode(v->pipeline, &latents, NULL, &images);
    sp_tensor_free(&latents);
    SP_TRY(status);
    v->picture_height = (int)images.shape.dim[2];
    v->picture_width = (int)images.shape.dim[3];
    int64_t pixels = 3 * images.shape.dim[2] * images.shape.dim[3];
    for (int64_t i = 0; i < v->columns && !status; i++) {
        uint8_t **cell = &v->cells[row * v->columns + i];
        *cell = sp_alloc((size_t)pixels);
        if (*cell)
            sp_rgb_from_float((const float *)images.data + i * pixels, v->picture_width,
                              v->picture_height, *cell);
        else
            status = SP_MEMORY;
    }
    sp_tensor_free(&images);
    return status;
}

static sp_status save_sheet(const validation *v, const char *const *labels, int64_t step)
{
    const sp_sheet sheet = {
        .title = v->title,
        .rows = v->rows,
        .columns = (int)v->columns,
        .picture_width = v->picture_width,
        .picture_height = v->picture_height,
        .pictures = (const uint8_t *const *)v->cells,
        .row_labels = labels,
        .column_captions = v->captions,
    };
    char *path = sp_format("%s/validation-%lld.png", v->output, (long long)step);
    sp_status status = path ? sp_sheet_save(&sheet, path) : SP_MEMORY;
    sp_free(path);
    return status;
}

static void release(validation *v)
{
    for (size_t i = 0; i < sizeof v->cells / sizeof *v->cells; i++)
        sp_free(v->cells[i]);
    sp_conditioning_free(&v->conditioning);
    sp_conditioning_free(&v->negative);
}

/* ---- students ---- */

/* Captions of training samples, and the conditioning that the feed has already. */
static sp_status take_prompts(validation *v, const sp_distill_feed *feed)
{
    const sp_latent_facts *facts = sp_latent_cache_facts(feed->cache);
    int64_t count = facts->count;
    v->columns = count < SP_VALIDATION_COLUMNS ? count : SP_VALIDATION_COLUMNS;
    v->height = facts->height;
    v->width = facts->width;
    SP_TRY(sp_conditioning_create(sp_latent_cache_conditioning(feed->cache), SP_F32, v->columns, &v->conditioning));
    for (int64_t i = 0; i < v->columns; i++) {
        int64_t k = chosen(i, v->columns, count);
        v->captions[i] = sp_latent_cache_caption(feed->cache, k);
        SP_TRY(sp_latent_cache_read(feed->cache, k, false, feed->moments, &v->conditioning, i));
    }
    return SP_OK;
}

/* Adapters are merged for the pictures, one network at a time. */
static sp_status set_student(validation *v, const sp_distill_options *o,
                             const sp_component_config *student, const sp_weights *weights,
                             sp_weights **merged)
{
    sp_pipeline_release(v->pipeline);
    sp_weights_destroy(*merged);
    *merged = NULL;
    if (!o->lora.rank) return sp_pipeline_set_denoiser(v->pipeline, student, weights);
    SP_TRY(sp_lora_merged(v->pipeline->device, v->pipeline->denoiser->weights, weights, &o->lora,
                          merged));
    return sp_pipeline_set_denoiser(v->pipeline, student, *merged);
}

static sp_status draw_student(validation *v, const sp_distill_options *o,
                              const sp_scheduler_config *scheduler, const sp_component_config *student,
                              const sp_training_state *state)
{
    const sp_weights *weights[] = {state->online, state->ema};
    char text[SP_VALIDATION_ROWS][32];
    const char *labels[SP_VALIDATION_ROWS];
    sp_weights *merged = NULL;
    sp_status status = SP_OK;
    v->rows = SP_VALIDATION_ROWS;
    for (int row = 0; row < v->rows && !status; row++) {
        if (row % 3 == 0) status = set_student(v, o, student, weights[row / 3], &merged);
        const sp_sampler_kind kind = sp_sampler_for(scheduler);
        const sp_sampler_options sampler = {
            .kind = kind, .steps = steps_of_row(scheduler, row), .eta = sp_sampler_eta_for(kind)};
        snprintf(text[row], sizeof text[row], "%s, %d step%s", row / 3 ? "average" : "online", sampler.steps,
                 sampler.steps > 1 ? "s" : "");
        labels[row] = text[row];
        const double guidance = sp_usual_guidance(&v->pipeline->facts.guidance);
        const sp_denoise_request request = {.sampler = sampler, .scheduler = scheduler, .guidance = guidance};
        if (!status) status = draw_row(v, row, request);
    }
    if (!status) status = save_sheet(v, labels, state->step);
    sp_pipeline_release(v->pipeline);
    sp_weights_destroy(merged);
    return status;
}

sp_status sp_validation_sheet(const sp_distill_options *options, const sp_distill_feed *feed,
                              const sp_component_config *student, const sp_training_state *state)
{
    char title[64];
    snprintf(title, sizeof title, "Student after %lld steps", (long long)state->step);
    validation v = {.output = options->given.output, .title = title, .seed = options->given.seed};
    const sp_model_options parts = {
        .parts = SP_PART_VAE | (options->lora.rank ? SP_PART_UNET : 0), /* what adapters are merged into */
        .prediction = options->given.prediction_type,
        .device = options->device,
        .precision = options->precision};
    sp_scheduler_config scheduler;
    json_t *json = NULL;
    SP_TRY(sp_pipeline_open(options->given.teacher, &parts, &v.pipeline));
    sp_status status = sp_student_scheduler(&options->objective, &v.pipeline->model->folder, &json);
    if (!status) status = sp_scheduler_config_read(json, "the student's scheduler", &scheduler);
    if (!status) status = take_prompts(&v, feed);
    if (!status) status = draw_student(&v, options, &scheduler, student, state);
    json_decref(json);
    release(&v);
    sp_pipeline_close(v.pipeline);
    return status;
}

/* ---- teachers ---- */

static sp_status draw_teacher(validation *v, sp_dataset *dataset, int64_t step)
{
    int64_t count = sp_dataset_training_count(dataset),
            factor = v->pipeline->vae->config.vae.factor;
    v->rows = 1;
    v->columns = count < SP_VALIDATION_COLUMNS ? count : SP_VALIDATION_COLUMNS;
    v->height = v->width = sp_dataset_resolution(dataset) / factor;
    for (int64_t i = 0; i < v->columns; i++)
        v->captions[i] = sp_dataset_caption(
            dataset, sp_dataset_training_sample(dataset, chosen(i, v->columns, count)), 0);
    const sp_framing framing = sp_framing_whole(v->height * factor, v->width * factor);
    SP_TRY(sp_pipeline_encode(v->pipeline, v->captions, v->columns, &v->conditioning));
    SP_TRY(sp_pipeline_frame(v->pipeline, &framing, 1, &v->conditioning));
    SP_TRY(sp_pipeline_encode_negative(v->pipeline, NULL, &v->negative));
    SP_TRY(sp_pipeline_frame(v->pipeline, &framing, 1, &v->negative));
    const sp_sampler_options sampler = {.kind = SP_SAMPLER_DDIM, .steps = 25};
    SP_TRY(draw_row(v, 0, (sp_denoise_request){.sampler = sampler, .guidance = 3}));
    static const char *const labels[] = {"25 DDIM steps, guidance 3"};
    return save_sheet(v, labels, step);
}

sp_status sp_teacher_sheet(const char *output, sp_dataset *dataset, sp_device *device,
                           sp_dtype precision, uint64_t seed, int64_t step)
{
    char title[64];
    snprintf(title, sizeof title, "Teacher after %lld steps", (long long)step);
    validation v = {.output = output, .title = title, .seed = seed};
    const sp_model_options options = {.device = device, .precision = precision};
    sp_status status = sp_pipeline_open(output, &options, &v.pipeline);
    if (!status) status = draw_teacher(&v, dataset, step);
    release(&v);
    sp_pipeline_close(v.pipeline);
    return status;
}
