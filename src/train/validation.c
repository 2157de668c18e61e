/* Validation sheets. */
#include "train/validation.h"
#include "base/memory.h"
#include "data/sheet.h"

enum { SP_VALIDATION_COLUMNS = 8, SP_VALIDATION_ROWS = 6 };
static const int step_counts[] = {1, 2, 4};

typedef struct {
    const sp_distill_options *options;
    sp_pipeline *teacher;
    sp_scheduler_config scheduler; /* the student's */
    sp_tensor contexts;            /* [columns,L,D] */
    const char *captions[SP_VALIDATION_COLUMNS];
    int64_t columns, height, width; /* of the latent */
    int picture_width, picture_height;
    uint8_t *cells[SP_VALIDATION_ROWS * SP_VALIDATION_COLUMNS];
} validation;

/* Evenly spread training samples: their captions and the contexts that the feed has already. */
static sp_status choose_prompts(validation *v, const sp_distill_feed *feed)
{
    int64_t count = feed->latents.count;
    v->columns = count < SP_VALIDATION_COLUMNS ? count : SP_VALIDATION_COLUMNS;
    v->height = feed->latents.height;
    v->width = feed->latents.width;
    SP_TRY(sp_tensor_create(SP_F32, sp_shape_of(v->columns, feed->contexts.shape.dim[1], feed->contexts.shape.dim[2]), &v->contexts));
    size_t one = sp_tensor_bytes(&v->contexts) / (size_t)v->columns;
    for (int64_t i = 0; i < v->columns; i++) {
        int64_t k = i * count / v->columns;
        v->captions[i] = sp_dataset_caption(feed->dataset, sp_dataset_training_sample(feed->dataset, k), 0);
        memcpy((char *)v->contexts.data + (size_t)i * one, (char *)feed->contexts.data + (size_t)k * one, one);
    }
    return SP_OK;
}

static sp_status draw_row(validation *v, int row, int steps)
{
    sp_philox_noise noise = {.seed = v->options->seed};
    const sp_denoise_request request = {
        .sampler = {.kind = SP_SAMPLER_LCM, .steps = steps},
        .scheduler = &v->scheduler,
        .guidance = 1,
        .context = &v->contexts,
        .height = v->height,
        .width = v->width,
        .noise = sp_noise_philox(&noise),
    };
    sp_tensor latents = {0}, images = {0};
    SP_TRY(sp_pipeline_denoise(v->teacher, &request, NULL, &latents));
    sp_status status = sp_pipeline_decode(v->teacher, &latents, NULL, &images);
    sp_tensor_free(&latents);
    SP_TRY(status);
    v->picture_height = (int)images.shape.dim[2];
    v->picture_width = (int)images.shape.dim[3];
    int64_t pixels = 3 * images.shape.dim[2] * images.shape.dim[3];
    for (int64_t i = 0; i < v->columns && !status; i++) {
        uint8_t **cell = &v->cells[row * v->columns + i];
        *cell = sp_alloc((size_t)pixels);
        if (*cell)
            sp_rgb_from_float((const float *)images.data + i * pixels, v->picture_width, v->picture_height, *cell);
        else
            status = SP_MEMORY;
    }
    sp_tensor_free(&images);
    return status;
}

static sp_status draw_sheet(validation *v, const sp_unet_config *student, const sp_training_state *state)
{
    const sp_weights *weights[] = {state->online, state->ema};
    static const char *const labels[] = {"online, 1 step", "online, 2 steps", "online, 4 steps",
                                         "average, 1 step", "average, 2 steps", "average, 4 steps"};
    for (int row = 0; row < SP_VALIDATION_ROWS; row++) {
        if (row % 3 == 0) SP_TRY(sp_pipeline_set_unet(v->teacher, student, weights[row / 3]));
        SP_TRY(draw_row(v, row, step_counts[row % 3]));
    }
    char title[64];
    snprintf(title, sizeof title, "Student after %lld steps", (long long)state->step);
    const sp_sheet sheet = {
        .title = title,
        .rows = SP_VALIDATION_ROWS,
        .columns = (int)v->columns,
        .picture_width = v->picture_width,
        .picture_height = v->picture_height,
        .pictures = (const uint8_t *const *)v->cells,
        .row_labels = labels,
        .column_captions = v->captions,
    };
    char *path = sp_format("%s/validation-%lld.png", v->options->output, (long long)state->step);
    sp_status status = path ? sp_sheet_save(&sheet, path) : SP_MEMORY;
    sp_free(path);
    return status;
}

sp_status sp_validation_sheet(const sp_distill_options *options, sp_pipeline *teacher, const sp_distill_feed *feed,
                              const sp_unet_config *student, const sp_training_state *state)
{
    validation v = {.options = options, .teacher = teacher, .scheduler = teacher->scheduler};
    v.scheduler.is_lcm = true;
    v.scheduler.original_steps = options->objective.ddim_timesteps;
    sp_status status = choose_prompts(&v, feed);
    if (!status) status = draw_sheet(&v, student, state);
    for (size_t i = 0; i < sizeof v.cells / sizeof *v.cells; i++)
        sp_free(v.cells[i]);
    sp_tensor_free(&v.contexts);
    sp_pipeline_release(teacher);
    return status ? status : sp_pipeline_set_unet(teacher, NULL, NULL);
}
