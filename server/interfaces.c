/* The fields of the server's own interface and of OpenAI's. A1111's are in a1111.c. */
#include <stdio.h>
#include <string.h>
#include "request.h"

#define OPTION(field, option) {field, option, NULL, NULL, NULL}
#define READ(field, read) {field, NULL, read, NULL, NULL}
#define NEUTRAL(field, values) {field, NULL, NULL, NULL, values}

/* ---- the server's own: options of splam_generate by their names ---- */

static const sv_field own_fields[] = {
    READ("model", sv_read_model),
    OPTION("prompt", "prompt"),
    READ("loras", sv_read_adapters),
    READ("deadline", sv_read_deadline),
    OPTION("negative", "negative"),
    OPTION("prompt_syntax", "prompt_syntax"),
    OPTION("steps", "steps"),
    OPTION("sampler", "sampler"),
    OPTION("sigmas", "sigmas"),
    OPTION("spacing", "spacing"),
    OPTION("eta", "eta"),
    OPTION("guidance", "guidance"),
    OPTION("seed", "seed"),
    OPTION("count", "count"),
    OPTION("width", "width"),
    OPTION("height", "height"),
    READ("init_image", sv_read_image),
    OPTION("strength", "strength"),
    OPTION("rng", "rng"),
    OPTION("clip_skip", "clip_skip"),
    OPTION("vae_tiling", "vae_tiling"),
    OPTION("old_grid", "old_grid"),
    OPTION("format", "format"),
    OPTION("quality", "quality"),
};
const sv_interface sv_own_interface = {
    .fields = {{own_fields, SV_COUNT_OF(own_fields)}},
    .strict = true,
    .refusal = 400,
    .syntax = SPLAM_PROMPT_PLAIN,
};

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
    READ("model", sv_read_model),
    OPTION("prompt", "prompt"),
    OPTION("n", "count"),
    READ("size", read_size),
    NEUTRAL("response_format", "[\"b64_json\"]"),
    {"output_format", "format", read_format, NULL, NULL},
    OPTION("output_compression", "quality"),
    NEUTRAL("quality", "[\"auto\", \"standard\"]"),
    NEUTRAL("background", "[\"auto\", \"opaque\"]"),
    READ("stream", read_stream),
    READ("partial_images", read_partial_images),
    NEUTRAL("style", "[null]"),
    NEUTRAL("moderation", "*"),
    NEUTRAL("user", "*"),
    /* beyond OpenAI's */
    OPTION("negative_prompt", "negative"),
    READ("loras", sv_read_adapters),
    READ("deadline", sv_read_deadline),
    OPTION("steps", "steps"),
    OPTION("guidance", "guidance"),
    OPTION("sampler", "sampler"),
    OPTION("seed", "seed"),
};
const sv_interface sv_openai_interface = {
    .fields = {{openai_fields, SV_COUNT_OF(openai_fields)}},
    .strict = true,
    .refusal = 400,
    .syntax = SPLAM_PROMPT_PLAIN,
    .complete = complete_openai,
};
