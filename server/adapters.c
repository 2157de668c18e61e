/* Adapters that a request asks for: a list of names, and A1111's way of naming them in a prompt. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "request.h"

enum { MOST_WEIGHT = 100 };

bool sv_read_adapter(sv_reading *r, const char *field, const char *name, double weight)
{
    sv_adapters *a = &r->request->adapters;
    if (a->count == SV_ADAPTERS)
        return sv_refuse(r, r->interface->refusal, field, "%s: %d LoRAs are the most", field, SV_ADAPTERS);
    if (!(fabs(weight) <= MOST_WEIGHT))
        return sv_refuse(r, r->interface->refusal, field, "%s: a weight of %.12g, -%d to %d is expected", field,
                         weight, MOST_WEIGHT, MOST_WEIGHT);
    sv_adapter *added = &a->item[a->count];
    if (!(added->path = sv_models_find_adapter(r->models, name)))
        return sv_refuse(r, 404, field, "%s: there is no LoRA \"%.128s\", see /sdapi/v1/loras", field, name);
    snprintf(added->name, sizeof added->name, "%s", name);
    added->weight = weight;
    a->count++;
    return true;
}

bool sv_read_adapters(sv_reading *r, const sv_field *field, const json_t *value)
{
    size_t i;
    const json_t *item;
    if (!json_is_array(value)) return sv_refuse(r, r->interface->refusal, field->name, "%s is no list", field->name);
    json_array_foreach(value, i, item)
    {
        const json_t *name = json_object_get(item, "name"), *weight = json_object_get(item, "weight");
        if (!json_is_string(name) || (weight && !json_is_number(weight)) ||
            json_object_size(item) != 1 + (weight != NULL))
            return sv_refuse(r, r->interface->refusal, field->name,
                             "%s: {\"name\": TEXT, \"weight\": NUMBER} is expected", field->name);
        if (!sv_read_adapter(r, field->name, json_string_value(name), weight ? json_number_value(weight) : 1))
            return false;
    }
    return true;
}

/* "NAME" or "NAME:WEIGHT", of `length` bytes. */
static bool read_tag(sv_reading *r, const char *field, const char *tag, size_t length)
{
    char text[SV_NAME_BYTES + 64], *end;
    if (length >= sizeof text)
        return sv_refuse(r, r->interface->refusal, field, "%s: a LoRA's name has %zu bytes", field, length);
    snprintf(text, sizeof text, "%.*s", (int)length, tag);
    char *colon = strchr(text, ':');
    double weight = colon ? strtod(colon + 1, &end) : 1;
    if (colon && (end == colon + 1 || *end || !strchr("+-.0123456789", colon[1])))
        return sv_refuse(r, r->interface->refusal, field,
                         "%s: <lora:%.*s>, and <lora:NAME:WEIGHT> is expected: one weight, "
                         "a number",
                         field, (int)length, tag);
    if (colon) *colon = 0;
    return sv_read_adapter(r, field, text, weight);
}

/* Appends the prompt to `to`, which has room for it, without its tags. */
static bool strip(sv_reading *r, const char *field, const char *from, char *to)
{
    static const char *const heads[] = {"<lora:", "<lyco:"};
    while (*from) {
        size_t head = strlen(heads[0]);
        bool tag = strncmp(from, heads[0], head) == 0 || strncmp(from, heads[1], head) == 0;
        const char *end = tag ? strchr(from, '>') : NULL;
        if (!end) {
            *to++ = *from++;
            continue;
        }
        if (!read_tag(r, field, from + head, (size_t)(end - from) - head)) return false;
        from = end + 1;
    }
    *to = 0;
    return true;
}

bool sv_read_tagged_prompt(sv_reading *r, const sv_field *field, const json_t *value)
{
    sv_request *q = r->request;
    if (!sv_read_option(r, field->name, field->option, value)) return false;
    const char *text = json_string_value(value);
    if (strstr(text, "<hypernet:"))
        return sv_refuse(r, r->interface->refusal, field->name, "%s: hypernetworks are not supported", field->name);
    if (!strstr(text, "<lora:") && !strstr(text, "<lyco:")) return true;
    free(q->prompt);
    if (!(q->prompt = malloc(strlen(text) + 1))) return sv_refuse(r, 503, field->name, "out of memory");
    q->options.prompt = q->prompt;
    return strip(r, field->name, text, q->prompt);
}
