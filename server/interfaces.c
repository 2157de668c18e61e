/* The fields of the interfaces: the server's own, A1111's and OpenAI's. */
#include <stdio.h>
#include <string.h>
#include "names.h"
#include "request.h"

#define COUNT(list) (sizeof(list) / sizeof *(list))

/* ---- the server's own: options of splam_generate by their names ---- */

static const sv_field own_fields[] = {
    {"model", NULL, sv_read_model},
    {"prompt", "prompt", NULL},
    {"loras", NULL, sv_read_adapters},
    {"deadline", NULL, sv_read_deadline},
    {"negative", "negative", NULL},
    {"prompt_syntax", "prompt_syntax", NULL},
    {"steps", "steps", NULL},
    {"sampler", "sampler", NULL},
    {"sigmas", "sigmas", NULL},
    {"spacing", "spacing", NULL},
    {"eta", "eta", NULL},
    {"guidance", "guidance", NULL},
    {"seed", "seed", NULL},
    {"count", "count", NULL},
    {"width", "width", NULL},
    {"height", "height", NULL},
    {"init_image", NULL, sv_read_image},
    {"strength", "strength", NULL},
    {"rng", "rng", NULL},
    {"clip_skip", "clip_skip", NULL},
    {"vae_tiling", "vae_tiling", NULL},
    {"old_grid", "old_grid", NULL},
    {"format", "format", NULL},
    {"quality", "quality", NULL},
};
const sv_interface sv_own_interface = {own_fields, COUNT(own_fields), true, 400, NULL, SPLAM_PROMPT_PLAIN, NULL};

/* ---- A1111 ---- */

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

static bool read_scheduler(sv_reading *r, const sv_field *field, const json_t *value)
{
    splam_generate_options *o = &r->request->options;
    const char *name = json_string_value(value);
    if (name && !*name) return true;
    const sv_scheduler_name *scheduler = name ? sv_scheduler_by_name(name) : NULL;
    if (!scheduler)
        return sv_refuse(r, r->interface->refusal, field->name, "%s is \"%.64s\", see /sdapi/v1/schedulers",
                         field->name, name ? name : "no text");
    if (scheduler->sigmas) o->sigmas = scheduler->sigmas;
    if (scheduler->spacing) o->spacing = scheduler->spacing;
    return true;
}

/* Rounds of batches: n_iter times as many pictures, of which `skip` leaves out a round. */
static bool read_rounds(sv_reading *r, const sv_field *field, const json_t *value)
{
    if (json_is_integer(value) && json_integer_value(value) >= 1 && json_integer_value(value) <= 1000000) {
        r->request->rounds = json_integer_value(value);
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

/* Whether override_settings are for this request alone; it is the only way here. */
static bool read_restoring(sv_reading *r, const sv_field *field, const json_t *value)
{
    return json_is_true(value) ||
           sv_refuse(r, r->interface->refusal, field->name,
                     "%s is supported as true alone: POST /sdapi/v1/options changes settings", field->name);
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

/* Number n leaves n - 1 layers out; XL's own is 2, which is why more than 1 is not taken. */
static bool read_clip_setting(sv_reading *r, const sv_field *field, const json_t *value)
{
    return (json_is_integer(value) && json_integer_value(value) == 1) ||
           sv_refuse(r, r->interface->refusal, "override_settings", "%s is supported as 1 alone", field->name);
}

static const sv_field settings[] = {
    {"sd_model_checkpoint", NULL, sv_read_model},
    {"CLIP_stop_at_last_layers", NULL, read_clip_setting},
    {"samples_format", "format", NULL},
};

static bool read_settings(sv_reading *r, const sv_field *field, const json_t *value)
{
    const char *name;
    json_t *setting;
    if (!json_is_object(value))
        return sv_refuse(r, r->interface->refusal, field->name, "%s is no object", field->name);
    json_object_foreach((json_t *)(uintptr_t)value, name, setting) {
        size_t i = 0;
        while (i < COUNT(settings) && strcmp(settings[i].name, name))
            i++;
        if (i == COUNT(settings))
            return sv_refuse(r, r->interface->refusal, field->name, "the setting %.64s is not supported", name);
        if (json_is_null(setting)) continue;
        if (settings[i].read ? !settings[i].read(r, &settings[i], setting)
                             : !sv_read_option(r, settings[i].name, settings[i].option, setting))
            return false;
    }
    return true;
}

/* Most of what follows the first ones asks for what is not there: hires, inpainting, scripts. */
#define SDAPI_FIELDS                                                                                             \
    {"prompt", "prompt", sv_read_tagged_prompt}, {"negative_prompt", "negative", NULL},                          \
        {"steps", "steps", NULL},                                                                                \
        {"cfg_scale", "guidance", NULL}, {"seed", "seed", NULL}, {"width", "width", NULL},                       \
        {"height", "height", NULL}, {"batch_size", "count", NULL}, {"n_iter", NULL, read_rounds},                \
        {"sampler_name", "sampler", read_sampler}, {"sampler_index", "sampler", read_sampler},                   \
        {"scheduler", NULL, read_scheduler}, {"send_images", NULL, read_send_images},                            \
        {"override_settings", NULL, read_settings},                                                              \
        {"override_settings_restore_afterwards", NULL, read_restoring},                                          \
        {"save_images", NULL, read_save_images},                                                                 \
        {"styles", NULL, sv_read_neutral}, {"tiling", NULL, sv_read_neutral},                                    \
        {"restore_faces", NULL, sv_read_neutral}, {"subseed_strength", NULL, sv_read_neutral},                   \
        {"seed_resize_from_w", NULL, sv_read_neutral}, {"seed_resize_from_h", NULL, sv_read_neutral},            \
        {"eta", "eta", NULL}, {"s_churn", NULL, sv_read_neutral}, {"s_tmin", NULL, sv_read_neutral},   \
        {"s_min_uncond", NULL, sv_read_neutral}, {"script_name", NULL, sv_read_neutral},                         \
        {"script_args", NULL, sv_read_neutral}, {"alwayson_scripts", NULL, sv_read_neutral},                     \
        {"refiner_checkpoint", NULL, sv_read_neutral},                                                           \
        {"firstphase_width", NULL, sv_read_neutral}, {"firstphase_height", NULL, sv_read_neutral},               \
        {"infotext", NULL, sv_read_neutral},                                                                     \
        {"deadline", NULL, sv_read_deadline} /* beyond A1111's */

static const sv_field txt2img_fields[] = {
    SDAPI_FIELDS,
    {"enable_hr", NULL, sv_read_neutral},
};
static const sv_field img2img_fields[] = {
    SDAPI_FIELDS,
    {"init_images", NULL, read_init_images},
    {"denoising_strength", "strength", NULL},
    {"resize_mode", NULL, read_resize_mode},
    {"mask", NULL, sv_read_neutral},
    {"latent_mask", NULL, sv_read_neutral},
    {"image_cfg_scale", NULL, NULL}, /* of models that edit by words, of which there are none */
    {"include_init_images", NULL, sv_read_neutral},
};
/* A1111's clients send an eta with every request. There samplers that have none leave it out; those that have one are
 * drawn with that of A1111's defaults here, but for TCD, whose eta can be chosen. */
static bool complete_eta(sv_reading *r)
{
    static const struct {
        const char *sampler;
        double eta;
    } fixed[] = {{"ddim", 0}, {"euler-a", 1}, {"dpm++2m-sde", 1}};
    splam_generate_options *o = &r->request->options;
    const char *sampler = o->sampler ? o->sampler : sv_models_facts(r->models, r->request->model)->sampler;
    if (!splam_is_given(o->eta) || strcmp(sampler, "tcd") == 0) return true;
    for (size_t i = 0; i < COUNT(fixed); i++)
        if (strcmp(sampler, fixed[i].sampler) == 0 && o->eta != fixed[i].eta)
            return sv_refuse(r, r->interface->refusal, "eta", "eta is %g, and %s is supported with %g alone", o->eta,
                             sampler, fixed[i].eta);
    o->eta = (double)SPLAM_UNSET;
    return true;
}

/* A1111's strength where none is given. */
static bool complete_img2img(sv_reading *r)
{
    splam_generate_options *o = &r->request->options;
    if (!splam_is_given(o->strength)) o->strength = .75;
    if (!complete_eta(r)) return false;
    return r->request->image || sv_refuse(r, 404, "init_images", "Init image not found: init_images is missing");
}

const sv_interface sv_txt2img_interface = {txt2img_fields, COUNT(txt2img_fields), false, 422, "",
                                           SPLAM_PROMPT_WEIGHTED, complete_eta};
const sv_interface sv_img2img_interface = {img2img_fields, COUNT(img2img_fields), false, 422, "",
                                           SPLAM_PROMPT_WEIGHTED, complete_img2img};

/* ---- OpenAI ---- */

/* "auto" or "WIDTHxHEIGHT". */
static bool read_size(sv_reading *r, const sv_field *field, const json_t *value)
{
    const char *text = json_string_value(value);
    int width, height, end = 0;
    if (text && strcmp(text, "auto") == 0) return true;
    if (!text || sscanf(text, "%5dx%5d%n", &width, &height, &end) != 2 || text[end] || width < 1 || height < 1)
        return sv_refuse(r, r->interface->refusal, field->name, "%s is \"%.32s\", auto or WIDTHxHEIGHT is expected",
                         field->name, text ? text : "no text");
    r->request->options.width = width;
    r->request->options.height = height;
    return true;
}

static bool read_one_of(sv_reading *r, const sv_field *field, const json_t *value, const char *choices)
{
    const char *text = json_string_value(value);
    return (text && sv_place_of(choices, text) >= 0) ||
           sv_refuse(r, r->interface->refusal, field->name, "%s is \"%.32s\", and %s is supported", field->name,
                     text ? text : "no text", choices);
}

static bool read_response_format(sv_reading *r, const sv_field *field, const json_t *value)
{
    return read_one_of(r, field, value, "b64_json");
}

static bool read_any_quality(sv_reading *r, const sv_field *field, const json_t *value)
{
    return read_one_of(r, field, value, "auto|standard");
}

static bool read_background(sv_reading *r, const sv_field *field, const json_t *value)
{
    return read_one_of(r, field, value, "auto|opaque");
}

static bool read_format(sv_reading *r, const sv_field *field, const json_t *value)
{
    const char *text = json_string_value(value);
    if (text && strcmp(text, "jpeg") == 0) {
        r->request->options.format = "jpg";
        return true;
    }
    return sv_read_option(r, field->name, "format", value);
}

static bool read_stream(sv_reading *r, const sv_field *field, const json_t *value)
{
    if (!json_is_boolean(value))
        return sv_refuse(r, r->interface->refusal, field->name, "%s is no true or false", field->name);
    r->request->streams = json_is_true(value);
    return true;
}

static bool read_partial_images(sv_reading *r, const sv_field *field, const json_t *value)
{
    enum { MOST = 3 };
    r->request->partial_images = json_is_integer(value) ? json_integer_value(value) : -1;
    return (r->request->partial_images >= 0 && r->request->partial_images <= MOST) ||
           sv_refuse(r, r->interface->refusal, field->name, "%s is no whole number from 0 to %d", field->name, MOST);
}

/* An event has no number of the picture that it is of. */
static bool complete_openai(sv_reading *r)
{
    const sv_request *q = r->request;
    if (q->partial_images && !q->streams)
        return sv_refuse(r, r->interface->refusal, "partial_images", "partial_images is for stream: true");
    return !q->streams || q->options.count == SPLAM_UNSET || q->options.count == 1 ||
           sv_refuse(r, r->interface->refusal, "n", "n is %lld, and stream has one picture",
                     (long long)q->options.count);
}

static const sv_field openai_fields[] = {
    {"model", NULL, sv_read_model},
    {"prompt", "prompt", NULL},
    {"n", "count", NULL},
    {"size", NULL, read_size},
    {"response_format", NULL, read_response_format},
    {"output_format", "format", read_format},
    {"output_compression", "quality", NULL},
    {"quality", NULL, read_any_quality},
    {"background", NULL, read_background},
    {"stream", NULL, read_stream},
    {"partial_images", NULL, read_partial_images},
    {"style", NULL, sv_read_neutral},
    {"moderation", NULL, NULL},
    {"user", NULL, NULL},
    /* beyond OpenAI's */
    {"negative_prompt", "negative", NULL},
    {"loras", NULL, sv_read_adapters},
    {"deadline", NULL, sv_read_deadline},
    {"steps", "steps", NULL},
    {"guidance", "guidance", NULL},
    {"sampler", "sampler", NULL},
    {"seed", "seed", NULL},
};
const sv_interface sv_openai_interface = {openai_fields, COUNT(openai_fields), true, 400, NULL, SPLAM_PROMPT_PLAIN,
                                          complete_openai};
