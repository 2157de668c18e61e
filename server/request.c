/* Requests read from JSON by an interface's fields and the library's own table of options, and held against limits. */
#include "request.h"
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include "base64.h"
#include "limits.h"

void sv_request_free(sv_request *request)
{
    if (!request) return;
    json_decref(request->body);
    sv_adapters_free(&request->adapters);
    free(request->prompt);
    free(request->image);
    free(request);
}

void sv_note_refusal(sv_reading *r, int code, const char *field, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(r->message, sizeof r->message, format, arguments);
    va_end(arguments);
    r->code = code;
    r->field = field;
}

/* ---- one value ---- */

const splam_option *sv_find_option(const char *name)
{
    const splam_option *o = splam_option_at("generate", 0);
    for (size_t i = 1; o && strcmp(o->name, name); i++)
        o = splam_option_at("generate", i);
    return o;
}

static bool wrong_type(sv_reading *r, const char *field, const char *expected)
{
    return sv_refuse(r, r->interface->refusal, field, "%s is no %s", field, expected);
}

static bool read_text(sv_reading *r, const char *field, const json_t *value, const char **out)
{
    if (!json_is_string(value)) return wrong_type(r, field, "text");
    if (json_string_length(value) > SV_PROMPT_BYTES)
        return sv_refuse(r, r->interface->refusal, field, "%s has %zu bytes, and %d are the most", field,
                         json_string_length(value), SV_PROMPT_BYTES);
    *out = json_string_value(value);
    return true;
}

int sv_place_of(const char *choices, const char *text)
{
    size_t length = strlen(text);
    for (int i = 0;; i++) {
        size_t size = strcspn(choices, "|");
        if (size == length && memcmp(choices, text, size) == 0) return i;
        if (!choices[size]) return -1;
        choices += size + 1;
    }
}

static bool read_choice(sv_reading *r, const char *field, const splam_option *o, const json_t *value, void *member)
{
    const char *text;
    if (!read_text(r, field, value, &text)) return false;
    int place = sv_place_of(o->choices, text);
    if (place < 0)
        return sv_refuse(r, r->interface->refusal, field, "%s is \"%.64s\", one of %s is expected", field, text,
                         o->choices);
    if (o->kind == SPLAM_OPTION_ENUM)
        *(int *)member = place;
    else
        *(const char **)member = text;
    return true;
}

static bool read_number(sv_reading *r, const char *field, const splam_option *o, const json_t *value, double *out)
{
    if (!json_is_number(value)) return wrong_type(r, field, "number");
    double number = json_number_value(value);
    bool any = o->low == 0 && o->high == 0;
    if (!any && !(number >= o->low && number <= o->high))
        return sv_refuse(r, r->interface->refusal, field, "%s is %.12g, a number from %.12g to %.12g is expected",
                         field, number, o->low, o->high);
    *out = number;
    return true;
}

static bool read_integer(sv_reading *r, const char *field, const splam_option *o, const json_t *value, int64_t *out)
{
    double number;
    if (!read_number(r, field, o, value, &number)) return false;
    if (number != floor(number) || fabs(number) > 9e15)
        return sv_refuse(r, r->interface->refusal, field, "%s is %.12g, a whole number is expected", field, number);
    *out = (int64_t)number;
    return true;
}

/* As the library draws one; here, so that a round can go on from it. */
static bool draw_seed(sv_reading *r, const char *field, uint64_t *out)
{
    uint32_t drawn;
    if (getrandom(&drawn, sizeof drawn, 0) != sizeof drawn) return sv_refuse(r, 503, field, "no seed could be drawn");
    *out = drawn;
    return true;
}

/* -1 draws one. Beyond 2^63 - 1 a seed is a text of digits. */
static bool read_seed(sv_reading *r, const char *field, const json_t *value, splam_generate_options *o)
{
    const char *text = json_string_value(value);
    char *end;
    unsigned long long seed = text && *text >= '0' && *text <= '9' ? strtoull(text, &end, 10) : 0;
    if (json_is_integer(value) && json_integer_value(value) == -1)
        return draw_seed(r, field, &o->seed);
    if (json_is_integer(value) && json_integer_value(value) >= 0)
        o->seed = (uint64_t)json_integer_value(value);
    else if (text && *text >= '0' && *text <= '9' && !*end && strlen(text) <= 19 + (*text == '1'))
        o->seed = seed;
    else
        return sv_refuse(r, r->interface->refusal, field, "%s is no whole number from 0 to 2^64 - 1, and not -1",
                         field);
    return true;
}

bool sv_read_option(sv_reading *r, const char *field, const char *option, const json_t *value)
{
    const splam_option *o = sv_find_option(option);
    char *options = (char *)&r->request->options;
    void *member = options + o->offset;
    switch (o->kind) {
    case SPLAM_OPTION_FLAG:
        if (!json_is_boolean(value)) return wrong_type(r, field, "true or false");
        *(bool *)member = json_is_true(value);
        return true;
    case SPLAM_OPTION_TEXT:
        return read_text(r, field, value, member);
    case SPLAM_OPTION_CHOICE:
    case SPLAM_OPTION_ENUM:
        return read_choice(r, field, o, value, member);
    case SPLAM_OPTION_INTEGER:
        return read_integer(r, field, o, value, member);
    case SPLAM_OPTION_SEED:
        return read_seed(r, field, value, &r->request->options);
    case SPLAM_OPTION_NUMBER:
        return read_number(r, field, o, value, member);
    default:
        return sv_refuse(r, 500, field, "%s cannot be read", field);
    }
}

static bool is_same(const json_t *a, const json_t *b)
{
    return json_is_number(a) && json_is_number(b) ? json_number_value(a) == json_number_value(b) : json_equal(a, b);
}

static bool read_neutral(sv_reading *r, const sv_field *field, const json_t *value)
{
    size_t i;
    const json_t *one;
    if (strcmp(field->neutral, "*") == 0) return true;
    json_t *list = json_loads(field->neutral, 0, NULL);
    bool neutral = false;
    json_array_foreach(list, i, one) neutral |= is_same(one, value);
    json_decref(list);
    return neutral ||
           sv_refuse(r, r->interface->refusal, field->name, "%s is not supported: %.*s is all that may be sent",
                     field->name, (int)strlen(field->neutral) - 2, field->neutral + 1);
}

bool sv_read_field(sv_reading *r, const sv_field *field, const json_t *value)
{
    if (field->read) return field->read(r, field, value);
    return field->neutral ? read_neutral(r, field, value) : sv_read_option(r, field->name, field->option, value);
}

bool sv_read_deadline(sv_reading *r, const sv_field *field, const json_t *value)
{
    double seconds = json_is_number(value) ? json_number_value(value) : 0;
    r->request->deadline = seconds;
    return (seconds > 0 && seconds <= SV_DEADLINE_SECONDS) ||
           sv_refuse(r, r->interface->refusal, field->name, "%s is no number of seconds beyond 0, up to %d",
                     field->name, SV_DEADLINE_SECONDS);
}

bool sv_read_model(sv_reading *r, const sv_field *field, const json_t *value)
{
    const char *text;
    if (!read_text(r, field->name, value, &text)) return false;
    return !*text || sv_models_find(r->models, text, &r->request->model) ||
           sv_refuse(r, 404, field->name, "%s is \"%.128s\", and there is no such model here", field->name, text);
}

/* Its header says what decoding it would take; that is done by whoever draws. */
bool sv_read_image(sv_reading *r, const sv_field *field, const json_t *value)
{
    sv_request *q = r->request;
    int64_t width, height;
    if (!json_is_string(value)) return wrong_type(r, field->name, "picture in base64");
    if (q->image) return sv_refuse(r, r->interface->refusal, field->name, "%s: one picture is the most", field->name);
    if (!sv_base64_decode(json_string_value(value), json_string_length(value), &q->image, &q->image_size))
        return sv_refuse(r, r->interface->refusal, field->name, "%s is no base64", field->name);
    if (splam_picture_size(q->image, q->image_size, &width, &height) != SPLAM_OK)
        return sv_refuse(r, r->interface->refusal, field->name, "%s: %s", field->name, splam_error_message());
    if (width * height > SV_START_PIXELS)
        return sv_refuse(r, r->interface->refusal, field->name, "%s has %lld x %lld pixels, and %d are the most",
                         field->name, (long long)width, (long long)height, SV_START_PIXELS);
    return true;
}

/* ---- the whole ---- */

const sv_field *sv_field_at(const sv_interface *interface, size_t i)
{
    size_t own = interface->fields[0].count;
    if (i < own) return &interface->fields[0].item[i];
    return i - own < interface->fields[1].count ? &interface->fields[1].item[i - own] : NULL;
}

static const sv_field *find_field(const sv_interface *interface, const char *name)
{
    const sv_field *field;
    for (size_t i = 0; (field = sv_field_at(interface, i)); i++)
        if (strcmp(field->name, name) == 0) break;
    return field;
}

static bool read_named(sv_reading *r, const char *name, const json_t *value)
{
    const sv_field *field = find_field(r->interface, name);
    if (!field && r->interface->strict)
        return sv_refuse(r, r->interface->refusal, NULL, "there is no field \"%.64s\"", name);
    if (!field || json_is_null(value)) return true;
    return sv_read_field(r, field, value);
}

/* Of an option, in the interface's words. */
static const char *name_of(const sv_interface *interface, const char *option, size_t length)
{
    const sv_field *field;
    for (size_t i = 0; (field = sv_field_at(interface, i)); i++) {
        const char *own = field->option;
        if (own && strlen(own) == length && memcmp(own, option, length) == 0) return field->name;
    }
    return NULL;
}

bool sv_request_may_batch(const sv_request *a, const sv_request *b)
{
    return a->batch > 1 && b->batch > 1 && a->model == b->model && sv_adapters_same(&a->adapters, &b->adapters) &&
           splam_generate_may_batch(&a->options, &b->options);
}

static const splam_model_facts *facts_of(const sv_reading *r)
{
    return sv_models_facts(r->models, r->request->model);
}

static bool check_side(sv_reading *r, const char *option, int64_t side)
{
    int64_t multiple = facts_of(r)->multiple;
    if (side == SPLAM_UNSET || side % multiple == 0) return true;
    const char *name = name_of(r->interface, option, strlen(option));
    return sv_refuse(r, r->interface->refusal, name, "the %s is %lld, a multiple of %lld is expected", option,
                     (long long)side, (long long)multiple);
}

/* The sides as the library will choose them: asked for, in the proportions of the picture to start from, the
 * model's. */
static bool find_sides(sv_reading *r, double *width, double *height)
{
    const splam_generate_options *o = &r->request->options;
    int64_t wide = facts_of(r)->width, high = facts_of(r)->height;
    if (r->request->image && splam_picture_size(r->request->image, r->request->image_size, &wide, &high) != SPLAM_OK)
        return sv_refuse(r, r->interface->refusal, NULL, "%s", splam_error_message());
    bool has_width = o->width != SPLAM_UNSET, has_height = o->height != SPLAM_UNSET;
    double shape = r->request->image && high ? (double)wide / (double)high : 0;
    *width = has_width ? (double)o->width : shape > 0 && has_height ? (double)o->height * shape : (double)wide;
    *height = has_height ? (double)o->height : shape > 0 && has_width ? (double)o->width / shape : (double)high;
    if (r->stretches && has_width && has_height && shape > 0 && fabs(*width / *height / shape - 1) > .01)
        return sv_refuse(r, r->interface->refusal, "resize_mode",
                         "the picture to start from has other proportions than width and height: it would be "
                         "stretched, which is not supported; resize_mode 1 cuts it");
    return true;
}

/* One picture of as many as a batch gains by. More of one request are a batch already, and each starting picture is
 * encoded for itself. */
static size_t batch_of(const sv_reading *r, double width, double height)
{
    double most = (double)facts_of(r)->batch_pixels / (width * height);
    bool one = r->request->options.count == 1 && !r->request->image;
    return !one || most < 2 ? 1 : most < SV_BATCH ? (size_t)most : SV_BATCH;
}

static bool check_sizes(sv_reading *r)
{
    splam_generate_options *o = &r->request->options;
    double width, height;
    int64_t count = (o->count == SPLAM_UNSET ? 1 : o->count) * r->request->rounds;
    if (!check_side(r, "width", o->width) || !check_side(r, "height", o->height) || !find_sides(r, &width, &height))
        return false;
    if (count > SV_COUNT)
        return sv_refuse(r, r->interface->refusal, NULL, "%lld pictures are asked for, and %d are the most",
                         (long long)count, SV_COUNT);
    if (width * height > SV_PIXELS || width * height * (double)count > SV_ALL_PIXELS)
        return sv_refuse(r, r->interface->refusal, NULL,
                         "%lld pictures of %.0f x %.0f are asked for; %d pixels are the most of one, and %d of all",
                         (long long)count, width, height, SV_PIXELS, SV_ALL_PIXELS);
    o->count = count;
    r->request->batch = batch_of(r, width, height);
    return true;
}

static bool read_all(sv_reading *r, json_t *body)
{
    const char *name;
    json_t *value;
    if (!json_is_object(body)) return sv_refuse(r, r->interface->refusal, NULL, "the body is no object");
    json_object_foreach(body, name, value)
        if (!read_named(r, name, value)) return false;
    if (!r->request->options.prompt) r->request->options.prompt = r->interface->prompt;
    if (!r->request->options.prompt)
        return sv_refuse(r, r->interface->refusal, "prompt", "a prompt is missing");
    if (r->interface->complete && !r->interface->complete(r)) return false;
    return check_sizes(r);
}

sv_request *sv_request_read(sv_reading *r, json_t *body)
{
    r->request = calloc(1, sizeof *r->request);
    if (!r->request) {
        json_decref(body);
        sv_note_refusal(r, 503, NULL, "out of memory");
        return NULL;
    }
    r->request->body = body;
    r->request->rounds = 1;
    r->request->model = sv_models_default(r->models);
    r->request->options = splam_generate_defaults();
    r->request->options.prompt_syntax = r->interface->syntax;
    if (read_all(r, body)) return r->request;
    sv_request_free(r->request);
    return r->request = NULL;
}

void sv_translate(const sv_interface *interface, const char *message, char *out, size_t size)
{
    size_t used = 0;
    while (*message && used + 1 < size) {
        const char *end = *message == '`' ? strchr(message + 1, '`') : NULL;
        const char *name = end ? name_of(interface, message + 1, (size_t)(end - message - 1)) : NULL;
        if (name) {
            int length = snprintf(out + used, size - used, "%s", name);
            used = used + (size_t)length < size ? used + (size_t)length : size - 1;
            message = end + 1;
        } else {
            out[used++] = *message++;
        }
    }
    out[used] = 0;
}
