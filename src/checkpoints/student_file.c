/* splam.json: one table of its keys, by which it is read. */
#include "checkpoints/student_file.h"
#include <math.h>
#include <string.h>
#include "base/file.h"
#include "base/memory.h"
#include "base/text.h"
#include "checkpoints/model_path.h"
#include "models/guidance.h"
#include "options/options.h"

static const char file_name[] = "splam.json";

/* ---- the keys ---- */

/* What no option of distillation says. */
static const splam_option more[] = {
    {.name = "sampler", .kind = SPLAM_OPTION_CHOICE, .choices = SP_CHOICES(SP_SAMPLER_LIST)},
    {.name = "steps", .kind = SPLAM_OPTION_INTEGER, .low = 1, .high = 1000},
    {.name = "ranks", .kind = SPLAM_OPTION_INTEGER, .low = 1, .high = 1e6},
    {.name = "data-key", .kind = SPLAM_OPTION_TEXT},
    {.name = "trajectory-error", .kind = SPLAM_OPTION_NUMBER},
    {.name = "kept-step", .kind = SPLAM_OPTION_INTEGER, .low = 1, .high = 1e9},
};

/* "min-size" is the flag of "pictures.min_size". */
static bool has_flag(const splam_option *o, const char *key)
{
    const char *dot = strrchr(o->name, '.'), *name = o->flag ? o->flag : dot ? dot + 1 : o->name;
    for (; *name && *key; name++, key++)
        if (*name != *key && !(*name == '_' && *key == '-')) return false;
    return *name == *key;
}

static const splam_option *find_key(const char *key)
{
    for (size_t i = 0; i < sizeof more / sizeof *more; i++)
        if (has_flag(&more[i], key)) return &more[i];
    for (size_t i = 0; i < sp_verb_distill.count; i++)
        if (has_flag(&sp_verb_distill.options[i], key)) return &sp_verb_distill.options[i];
    return NULL;
}

static bool is_choice(const char *choices, const json_t *value)
{
    return json_is_string(value) && sp_choice_index(choices, json_string_value(value)) >= 0;
}

/* 0 stands where an objective has no use for a number (`skip` of progressive). */
static bool is_within(const splam_option *o, const json_t *value)
{
    double number = json_number_value(value);
    return (o->low == 0 && o->high == 0) || number == 0 || (number >= o->low && number <= o->high);
}

static bool fits(const splam_option *o, const json_t *value)
{
    switch (o->kind) {
    case SPLAM_OPTION_FLAG:
        return json_is_boolean(value) || (json_is_integer(value) && json_integer_value(value) >> 1 == 0);
    case SPLAM_OPTION_TEXT:
        return json_is_string(value) || (o->high > o->low && json_is_number(value) && is_within(o, value));
    case SPLAM_OPTION_CHOICE:
    case SPLAM_OPTION_ENUM:
        return is_choice(o->choices, value);
    case SPLAM_OPTION_INTEGER:
    case SPLAM_OPTION_BYTES:
        return json_is_integer(value) && is_within(o, value);
    case SPLAM_OPTION_SPAN: /* "FROM:TO" is for people alone */
        return (json_is_integer(value) && is_within(o, value)) || json_is_string(value);
    case SPLAM_OPTION_NUMBER:
        return json_is_number(value) && is_within(o, value);
    case SPLAM_OPTION_SEED: /* beyond 2^63 - 1 its digits */
        return (json_is_integer(value) && json_integer_value(value) >= 0) || json_is_string(value);
    default:
        return true;
    }
}

static sp_status fail_key(const splam_option *o, const char *key, const json_t *value, const char *where)
{
    char found[64];
    sp_json_brief(value, found, sizeof found);
    if (o->choices)
        return sp_fail(SP_FORMAT, "%s: \"%s\" is %s, one of %s is expected", where, key, found, o->choices);
    if (o->kind == SPLAM_OPTION_TEXT || o->kind == SPLAM_OPTION_FLAG)
        return sp_fail(SP_FORMAT, "%s: \"%s\" is %s, a %s is expected", where, key, found,
                       o->kind == SPLAM_OPTION_TEXT ? "text" : "truth value");
    const char *kind = o->kind == SPLAM_OPTION_NUMBER ? "number" : "whole number";
    if (o->low == 0 && o->high == 0)
        return sp_fail(SP_FORMAT, "%s: \"%s\" is %s, a %s is expected", where, key, found, kind);
    return sp_fail(SP_FORMAT, "%s: \"%s\" is %s, a %s from %.12g to %.12g is expected", where, key, found, kind, o->low,
                   o->high);
}

sp_status sp_student_file_check(const json_t *settings, const char *where, size_t *known)
{
    const char *key;
    json_t *value;
    size_t count = 0;
    if (!json_is_object(settings)) return sp_fail(SP_FORMAT, "%s: an object of settings is expected", where);
    json_object_foreach((json_t *)(uintptr_t)settings, key, value)
    {
        const splam_option *o = find_key(key);
        if (o && !json_is_null(value) && !fits(o, value)) return fail_key(o, key, value, where);
        count += o != NULL;
    }
    if (known) *known = count;
    return SP_OK;
}

/* ---- the file ---- */

static sp_status read_at(const char *path, sp_student_file *out)
{
    json_t *json;
    SP_TRY(sp_json_load(path, &json));
    out->json = json;
    SP_TRY(sp_student_file_check(json, path, NULL));
    out->objective = json_string_value(json_object_get(json, "objective"));
    out->gamma_conditioning = json_string_value(json_object_get(json, "gamma-conditioning"));
    out->sampler = json_string_value(json_object_get(json, "sampler"));
    out->t5_absent = json_string_value(json_object_get(json, "t5-absent"));
    out->steps = json_integer_value(json_object_get(json, "steps"));
    const json_t *w = json_object_get(json, "guidance-scale-w");
    if (json_is_number(w)) out->guidance_scale_w = json_number_value(w);
    const char *text = json_string_value(json_object_get(json, "guidance-range"));
    sp_guidance_range range;
    if (!text) return SP_OK;
    if (sp_guidance_range_of("guidance-range", text, &range)) return sp_fail_within(SP_FORMAT, "%s", path);
    out->guidance_scale_w = sp_usual_guidance(&range) - 1;
    return SP_OK;
}

sp_status sp_student_file_read(const char *model, sp_student_file *out)
{
    char *path;
    *out = (sp_student_file){.guidance_scale_w = NAN};
    SP_TRY(sp_model_file(model, file_name, &path));
    sp_status status = sp_path_exists(path) ? read_at(path, out) : SP_OK;
    if (status) sp_student_file_free(out);
    sp_free(path);
    return status;
}

void sp_student_file_free(sp_student_file *file)
{
    json_decref(file->json);
    *file = (sp_student_file){.guidance_scale_w = NAN};
}

sp_status sp_student_file_write(const char *folder, const json_t *settings, const char *sampler, int steps)
{
    char *path = sp_path_join(folder, file_name);
    json_t *json = json_copy((json_t *)(uintptr_t)settings);
    bool good = path && json && json_object_set_new(json, "sampler", json_string(sampler)) == 0 &&
                json_object_set_new(json, "steps", json_integer(steps)) == 0;
    sp_status status = good ? sp_json_save(path, json) : SP_MEMORY;
    json_decref(json);
    sp_free(path);
    return status;
}
