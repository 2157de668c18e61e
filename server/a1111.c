/* The fields of A1111's interface: which there are, what they are there where nobody says, what they may be here. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "names.h"
#include "request.h"

/* ---- fields that are read ---- */

static bool read_sampler(sv_reading *r, const sv_field *field, const json_t *value)
{
    sv_request *q = r->request;
    const char *name = json_string_value(value), *sigmas = NULL;
    if (name && !*name) return true;
    if (!name || !sv_sampler_by_name(name, q->sampler, &sigmas))
        return sv_refuse(r, 404, field->name, "Sampler not found: %s is \"%.64s\", see /sdapi/v1/samplers", field->name,
                         name ? name : "no text");
    q->options.sampler = q->sampler;
    if (sigmas) q->options.sigmas = sigmas;
    return true;
}

/* An older name, which means nothing beside the newer one. */
static bool read_sampler_index(sv_reading *r, const sv_field *field, const json_t *value)
{
    const char *newer = json_string_value(json_object_get(r->request->body, "sampler_name"));
    return (newer && *newer) || read_sampler(r, field, value);
}

/* What it says is taken once the sampler is known (complete). */
static bool read_scheduler(sv_reading *r, const sv_field *field, const json_t *value)
{
    const char *name = json_string_value(value);
    if (name && !*name) return true;
    r->scheduler = name ? sv_scheduler_by_name(name) : NULL;
    return r->scheduler || sv_refuse(r, r->interface->refusal, field->name, "%s is \"%.64s\", see /sdapi/v1/schedulers",
                                     field->name, name ? name : "no text");
}

/* Rounds of batches: n_iter times as many pictures, of which `skip` leaves out a round. */
static bool read_rounds(sv_reading *r, const sv_field *field, const json_t *value)
{
    double number = json_number_value(value); /* 2.0 is 2, as there */
    if (number >= 1 && number <= 1000000 && number == floor(number)) {
        r->request->rounds = (int64_t)number;
        return true;
    }
    return sv_refuse(r, r->interface->refusal, field->name, "%s is no whole number from 1 to 1000000", field->name);
}

static bool read_send_images(sv_reading *r, const sv_field *field, const json_t *value)
{
    if (!json_is_boolean(value))
        return sv_refuse(r, r->interface->refusal, field->name, "%s is no true or false", field->name);
    r->request->without_images = json_is_false(value);
    return true;
}

static bool read_save_images(sv_reading *r, const sv_field *field, const json_t *value)
{
    if (!json_is_boolean(value))
        return sv_refuse(r, r->interface->refusal, field->name, "%s is no true or false", field->name);
    r->request->saves = json_is_true(value);
    return r->may_save || !r->request->saves ||
           sv_refuse(r, r->interface->refusal, field->name, "%s: this server has no folder for pictures, --output-dir",
                     field->name);
}

static bool read_resize_mode(sv_reading *r, const sv_field *field, const json_t *value)
{
    json_int_t mode = json_is_integer(value) ? json_integer_value(value) : -1;
    r->stretches = mode == 0;
    return mode == 0 || mode == 1 ||
           sv_refuse(r, r->interface->refusal, field->name, "%s is not 0 or 1: other ways are not supported",
                     field->name);
}

static bool read_init_images(sv_reading *r, const sv_field *field, const json_t *value)
{
    if (!json_is_array(value) || json_array_size(value) != 1)
        return sv_refuse(r, r->interface->refusal, field->name, "%s is no list of one picture", field->name);
    return sv_read_image(r, field, json_array_get(value, 0));
}

static const sv_field settings[] = {
    {"sd_model_checkpoint", NULL, sv_read_model, NULL, NULL},
    /* Number n leaves n - 1 layers out; XL's own is 2, which is why more than 1 is not taken. */
    {"CLIP_stop_at_last_layers", NULL, NULL, "1", "[1]"},
    {"samples_format", "format", NULL, "\"png\"", NULL},
};

static bool read_settings(sv_reading *r, const sv_field *field, const json_t *value)
{
    const char *name;
    json_t *setting;
    if (!json_is_object(value))
        return sv_refuse(r, r->interface->refusal, field->name, "%s is no object", field->name);
    json_object_foreach((json_t *)(uintptr_t)value, name, setting) {
        size_t i = 0;
        while (i < SV_COUNT_OF(settings) && strcmp(settings[i].name, name))
            i++;
        if (i == SV_COUNT_OF(settings))
            return sv_refuse(r, r->interface->refusal, field->name, "the setting %.64s is not supported", name);
        if (!json_is_null(setting) && !sv_read_field(r, &settings[i], setting)) return false;
    }
    return true;
}

/* ---- the table ---- */

/* As of A1111's version 1.10: modules/processing.py and modules/api/models.py. Where the default there is null, a
 * setting of the program decides. Fields that it does not have are ignored here as there.
 *
 * name, the default there, what may be sent here of what is not there ("*": anything), option, how it is read */
#define FIELD(name, original, neutral, option, read) {name, option, read, original, neutral}
static const sv_field sdapi_fields[] = {
    FIELD("prompt", "\"\"", NULL, "prompt", sv_read_tagged_prompt),
    FIELD("negative_prompt", "\"\"", NULL, "negative", NULL),
    FIELD("seed", "-1", NULL, "seed", NULL),
    FIELD("steps", "50", NULL, "steps", NULL),
    FIELD("cfg_scale", "7.0", NULL, "guidance", NULL),
    FIELD("width", "512", NULL, "width", NULL),
    FIELD("height", "512", NULL, "height", NULL),
    FIELD("batch_size", "1", NULL, "count", NULL),
    FIELD("n_iter", "1", NULL, NULL, read_rounds),
    FIELD("sampler_name", "null", NULL, "sampler", read_sampler),
    FIELD("sampler_index", "\"Euler\"", NULL, "sampler", read_sampler_index),
    FIELD("scheduler", "null", NULL, NULL, read_scheduler),
    FIELD("eta", "null", NULL, "eta", NULL),
    FIELD("send_images", "true", NULL, NULL, read_send_images),
    FIELD("save_images", "false", NULL, NULL, read_save_images),
    FIELD("override_settings", "null", NULL, NULL, read_settings),
    FIELD("override_settings_restore_afterwards", "true", "[true]", NULL, NULL), /* false would change them for all */
    FIELD("styles", "null", "[[]]", NULL, NULL),
    FIELD("tiling", "null", "[false]", NULL, NULL),
    FIELD("restore_faces", "null", "[false]", NULL, NULL),
    FIELD("disable_extra_networks", "false", "[false]", NULL, NULL),
    FIELD("subseed_strength", "0", "[0]", NULL, NULL),
    FIELD("subseed", "-1", "*", NULL, NULL), /* of subseed_strength */
    FIELD("seed_resize_from_w", "-1", "[-1, 0]", NULL, NULL),
    FIELD("seed_resize_from_h", "-1", "[-1, 0]", NULL, NULL),
    FIELD("s_churn", "null", "[0]", NULL, NULL),
    FIELD("s_tmin", "null", "*", NULL, NULL), /* of s_churn, as the next one */
    FIELD("s_tmax", "null", "*", NULL, NULL),
    FIELD("s_noise", "null", "*", NULL, NULL), /* but see `fixed` */
    FIELD("s_min_uncond", "null", "[0]", NULL, NULL),
    FIELD("refiner_checkpoint", "null", "[\"\", \"None\", \"none\"]", NULL, NULL),
    FIELD("refiner_switch_at", "null", "*", NULL, NULL), /* of refiner_checkpoint */
    FIELD("script_name", "null", "[\"\"]", NULL, NULL),
    FIELD("script_args", "[]", "*", NULL, NULL), /* of script_name */
    FIELD("alwayson_scripts", "{}", "[{}]", NULL, NULL),
    FIELD("infotext", "null", "[\"\"]", NULL, NULL),
    FIELD("do_not_save_samples", "false", "*", NULL, NULL), /* save_images decides, as the next one */
    FIELD("do_not_save_grid", "false", "*", NULL, NULL),
    FIELD("comments", "null", "*", NULL, NULL),      /* made anew there */
    FIELD("force_task_id", "null", "*", NULL, NULL), /* a name for progress alone */
    FIELD("deadline", NULL, NULL, NULL, sv_read_deadline),
};
static const sv_field txt2img_fields[] = {
    FIELD("enable_hr", "false", "[false]", NULL, NULL),
    FIELD("denoising_strength", "0.75", "*", NULL, NULL), /* of enable_hr, as what follows up to hr_negative_prompt */
    FIELD("hr_scale", "2.0", "*", NULL, NULL),
    FIELD("hr_upscaler", "null", "*", NULL, NULL),
    FIELD("hr_second_pass_steps", "0", "*", NULL, NULL),
    FIELD("hr_resize_x", "0", "*", NULL, NULL),
    FIELD("hr_resize_y", "0", "*", NULL, NULL),
    FIELD("hr_checkpoint_name", "null", "*", NULL, NULL),
    FIELD("hr_sampler_name", "null", "*", NULL, NULL),
    FIELD("hr_scheduler", "null", "*", NULL, NULL),
    FIELD("hr_prompt", "\"\"", "*", NULL, NULL),
    FIELD("hr_negative_prompt", "\"\"", "*", NULL, NULL),
    FIELD("firstpass_image", "null", "*", NULL, NULL),
    FIELD("firstphase_width", "0", "[0]", NULL, NULL), /* the picture's size there, whatever enable_hr is */
    FIELD("firstphase_height", "0", "[0]", NULL, NULL),
};
static const sv_field img2img_fields[] = {
    FIELD("init_images", "null", NULL, NULL, read_init_images),
    FIELD("denoising_strength", "0.75", NULL, "strength", NULL),
    FIELD("resize_mode", "0", NULL, NULL, read_resize_mode),
    FIELD("include_init_images", "false", "[false]", NULL, NULL),
    FIELD("initial_noise_multiplier", "null", "[1]", NULL, NULL),
    FIELD("image_cfg_scale", "null", "*", NULL, NULL), /* of models that edit by words, of which there are none */
    FIELD("mask", "null", "[\"\"]", NULL, NULL),
    FIELD("latent_mask", "null", "[\"\"]", NULL, NULL),
    FIELD("mask_blur", "null", "*", NULL, NULL), /* of mask, as what follows */
    FIELD("mask_blur_x", "4", "*", NULL, NULL),
    FIELD("mask_blur_y", "4", "*", NULL, NULL),
    FIELD("mask_round", "true", "*", NULL, NULL),
    FIELD("inpainting_fill", "0", "*", NULL, NULL),
    FIELD("inpaint_full_res", "true", "*", NULL, NULL),
    FIELD("inpaint_full_res_padding", "0", "*", NULL, NULL),
    FIELD("inpainting_mask_invert", "0", "*", NULL, NULL),
};
#undef FIELD

/* Of fields that mean something to some samplers alone: those that are here, and the values that they have. The eta of
 * DDIM and TCD can be chosen. */
static const struct {
    const char *field, *sampler;
    double value;
} fixed[] = {
    {"eta", "euler-a", 1}, {"eta", "dpm++2m-sde", 1}, {"s_noise", "dpm++2m-sde", 1},
};

/* ---- after all fields ---- */

/* The end of a sampler's name goes before the scheduler, as there. */
static void take_scheduler(sv_reading *r)
{
    splam_generate_options *o = &r->request->options;
    if (o->sigmas || !r->scheduler) return;
    o->sigmas = r->scheduler->sigmas;
    o->spacing = r->scheduler->spacing;
}

/* Clients send an eta and s_noise with every request, which most samplers leave out. */
static bool check_fixed(sv_reading *r)
{
    splam_generate_options *o = &r->request->options;
    const char *sampler = o->sampler ? o->sampler : sv_models_facts(r->models, r->request->model)->sampler;
    for (size_t i = 0; i < SV_COUNT_OF(fixed); i++) {
        const json_t *value = json_object_get(r->request->body, fixed[i].field);
        if (strcmp(fixed[i].sampler, sampler) || !value || json_is_null(value)) continue;
        if (!json_is_number(value) || json_number_value(value) != fixed[i].value)
            return sv_refuse(r, r->interface->refusal, fixed[i].field, "%s is supported as %g alone with %s",
                             fixed[i].field, fixed[i].value, sampler);
    }
    if (strcmp(sampler, "tcd") && strcmp(sampler, "ddim")) o->eta = (double)SPLAM_UNSET;
    return true;
}

static bool complete(sv_reading *r)
{
    take_scheduler(r);
    return check_fixed(r);
}

/* A1111's strength where none is given. */
static bool complete_img2img(sv_reading *r)
{
    splam_generate_options *o = &r->request->options;
    if (!splam_is_given(o->strength)) o->strength = .75;
    if (!complete(r)) return false;
    return r->request->image || sv_refuse(r, 404, "init_images", "Init image not found: init_images is missing");
}

const sv_interface sv_txt2img_interface = {
    .fields = {{txt2img_fields, SV_COUNT_OF(txt2img_fields)}, {sdapi_fields, SV_COUNT_OF(sdapi_fields)}},
    .refusal = 422,
    .prompt = "",
    .syntax = SPLAM_PROMPT_WEIGHTED,
    .complete = complete,
};
const sv_interface sv_img2img_interface = {
    .fields = {{img2img_fields, SV_COUNT_OF(img2img_fields)}, {sdapi_fields, SV_COUNT_OF(sdapi_fields)}},
    .refusal = 422,
    .prompt = "",
    .syntax = SPLAM_PROMPT_WEIGHTED,
    .complete = complete_img2img,
};
