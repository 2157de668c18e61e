/* The description of all paths for programs, OpenAPI 3.1, made of the tables that requests are read by. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "internal.h"

/* ---- fields ---- */

/* Those that are no option of the library's, or more or less than one. */
static const struct {
    const char *name, *schema;
} own_schemas[] = {
    {"model", "{\"type\": \"string\", \"description\": \"a name of /v1/models\"}"},
    {"loras", "{\"type\": \"array\", \"maxItems\": 8, \"items\": {\"type\": \"object\", \"required\": [\"name\"],"
              " \"properties\": {\"name\": {\"type\": \"string\"}, \"weight\": {\"type\": \"number\"}},"
              " \"additionalProperties\": false}}"},
    {"deadline", "{\"type\": \"number\", \"exclusiveMinimum\": 0, \"maximum\": 86400,"
                 " \"description\": \"seconds, waiting included\"}"},
    {"init_image", "{\"type\": \"string\", \"contentEncoding\": \"base64\"}"},
    {"init_images", "{\"type\": \"array\", \"minItems\": 1, \"maxItems\": 1,"
                    " \"items\": {\"type\": \"string\", \"contentEncoding\": \"base64\"}}"},
    {"sampler_name", "{\"type\": \"string\", \"description\": \"a name of /sdapi/v1/samplers\"}"},
    {"sampler_index", "{\"type\": \"string\", \"description\": \"as sampler_name\"}"},
    {"scheduler", "{\"type\": \"string\", \"description\": \"a name of /sdapi/v1/schedulers\"}"},
    {"n_iter", "{\"type\": \"integer\", \"minimum\": 1}"},
    {"send_images", "{\"type\": \"boolean\"}"},
    {"save_images", "{\"type\": \"boolean\"}"},
    {"override_settings", "{\"type\": \"object\", \"properties\": {\"sd_model_checkpoint\": {\"type\": \"string\"},"
                          " \"samples_format\": {\"enum\": [\"png\", \"jpg\", \"webp\"]},"
                          " \"CLIP_stop_at_last_layers\": {\"const\": 1}}, \"additionalProperties\": false}"},
    {"resize_mode", "{\"enum\": [0, 1]}"},
    {"size", "{\"type\": \"string\", \"pattern\": \"^(auto|[0-9]{1,5}x[0-9]{1,5})$\"}"},
    {"output_format", "{\"enum\": [\"png\", \"jpeg\", \"jpg\", \"webp\"]}"},
    {"stream", "{\"type\": \"boolean\"}"},
    {"partial_images", "{\"type\": \"integer\", \"minimum\": 0, \"maximum\": 3}"},
};

/* "a|b" as a list. */
static json_t *choice_list(const char *choices)
{
    json_t *list = json_array();
    for (size_t size; *choices; choices += size + (choices[size] == '|')) {
        size = strcspn(choices, "|");
        json_array_append_new(list, json_stringn(choices, size));
    }
    return list;
}

static json_t *number_schema(const splam_option *o)
{
    bool whole = o->kind == SPLAM_OPTION_INTEGER;
    json_t *schema = json_pack("{s:s}", "type", whole ? "integer" : "number");
    if (o->low == 0 && o->high == 0) return schema;
    json_object_set_new(schema, "minimum", whole ? json_integer((json_int_t)o->low) : json_real(o->low));
    json_object_set_new(schema, "maximum", whole ? json_integer((json_int_t)o->high) : json_real(o->high));
    return schema;
}

static json_t *option_schema(const splam_option *o)
{
    switch (o->kind) {
    case SPLAM_OPTION_FLAG:
        return json_pack("{s:s}", "type", "boolean");
    case SPLAM_OPTION_CHOICE:
    case SPLAM_OPTION_ENUM:
        return json_pack("{s:o}", "enum", choice_list(o->choices));
    case SPLAM_OPTION_INTEGER:
    case SPLAM_OPTION_NUMBER:
        return number_schema(o);
    case SPLAM_OPTION_SEED:
        return json_pack("{s:[s, s], s:i, s:s}", "type", "integer", "string", "minimum", -1, "pattern",
                         "^[0-9]{1,20}$");
    default:
        return json_pack("{s:s, s:i}", "type", "string", "maxLength", SV_PROMPT_BYTES);
    }
}

/* What means nothing here, or nothing else than this. */
static json_t *neutral_schema(const char *values)
{
    if (strcmp(values, "*") == 0) return json_pack("{s:s}", "description", "means nothing here");
    return json_pack("{s:o}", "enum", json_loads(values, 0, NULL));
}

static json_t *field_schema(const sv_field *f)
{
    for (size_t i = 0; i < sizeof own_schemas / sizeof *own_schemas; i++)
        if (strcmp(own_schemas[i].name, f->name) == 0) return json_loads(own_schemas[i].schema, 0, NULL);
    if (f->neutral) return neutral_schema(f->neutral);
    const splam_option *o = f->option ? sv_find_option(f->option) : NULL;
    json_t *schema = option_schema(o);
    json_object_set_new(schema, "description", json_string(o->help));
    return schema;
}

static json_t *body_schema(const sv_interface *interface)
{
    const sv_field *field;
    json_t *properties = json_object();
    if (!interface) {
        json_decref(properties);
        return json_pack("{s:s}", "type", "object");
    }
    for (size_t i = 0; (field = sv_field_at(interface, i)); i++)
        json_object_set_new(properties, field->name, field_schema(field));
    json_t *schema = json_pack("{s:s, s:o, s:b}", "type", "object", "properties", properties, "additionalProperties",
                               !interface->strict);
    if (!interface->prompt) json_object_set_new(schema, "required", json_pack("[s]", "prompt"));
    return schema;
}

/* ---- paths ---- */

static json_t *parameters(const sv_route *route)
{
    json_t *list = json_array();
    if (strchr(route->path, '*'))
        json_array_append_new(list, json_pack("{s:s, s:s, s:b, s:{s:s}}", "name", "id", "in", "path", "required",
                                              true, "schema", "type", "string"));
    if (route->about.query)
        json_array_append_new(list, json_pack("{s:s, s:s, s:{s:s}}", "name", route->about.query, "in", "query",
                                              "schema", "type", "boolean"));
    return list;
}

/* What an answer may be: "text/plain", or several, "a/b|c/d". */
static json_t *contents(const char *types)
{
    json_t *all = json_object();
    while (types && *types) {
        size_t length = strcspn(types, "|");
        json_object_setn_new(all, types, length, json_object());
        types += length + (types[length] == '|');
    }
    return all;
}

static json_t *operation(const sv_route *route)
{
    const char *type = route->about.type ? route->about.type : "application/json";
    const char *error = route->style == SV_SDAPI ? "#/components/schemas/SdapiError" : "#/components/schemas/Error";
    json_t *o = json_pack("{s:s, s:o, s:{s:{s:s, s:o}, s:{s:s, s:{s:{s:{s:s}}}}}}", "summary", route->about.summary,
                          "parameters", parameters(route), "responses", "2XX", "description", "as asked", "content",
                          contents(type), "default", "description", "why not", "content", "application/json", "schema",
                          "$ref", error);
    if (route->body)
        json_object_set_new(o, "requestBody",
                            json_pack("{s:b, s:{s:{s:o}}}", "required", true, "content", "application/json", "schema",
                                      body_schema(route->about.body)));
    if (route->access == SV_OPEN) json_object_set_new(o, "security", json_array());
    return o;
}

/* "/v1/jobs/{id}" of a path with *. */
static void name_path(const char *path, char out[128])
{
    const char *star = strchr(path, '*');
    int head = star ? (int)(star - path) : (int)strlen(path);
    snprintf(out, 128, "%.*s%s%s", head, path, star ? "{id}" : "", star ? star + 1 : "");
}

static json_t *all_paths(void)
{
    json_t *paths = json_object();
    for (const sv_route *route = sv_routes; route->path; route++) {
        char path[128], method[16];
        size_t i = 0;
        name_path(route->path, path);
        for (; route->method[i] && i + 1 < sizeof method; i++)
            method[i] = (char)(route->method[i] | 32); /* lower case */
        method[i] = 0;
        if (!json_object_get(paths, path)) json_object_set_new(paths, path, json_object());
        json_object_set_new(json_object_get(paths, path), method, operation(route));
    }
    return paths;
}

char *sv_openapi_make(bool has_key)
{
    static const char components[] =
        "{\"securitySchemes\": {\"key\": {\"type\": \"http\", \"scheme\": \"bearer\"}},"
        " \"schemas\": {\"Error\": {\"type\": \"object\", \"required\": [\"error\"], \"properties\":"
        " {\"error\": {\"type\": \"object\", \"required\": [\"message\", \"type\"], \"properties\":"
        " {\"message\": {\"type\": \"string\"}, \"type\": {\"type\": \"string\"},"
        " \"param\": {\"type\": [\"string\", \"null\"]}, \"code\": {\"type\": [\"string\", \"null\"]}}}}},"
        " \"SdapiError\": {\"type\": \"object\", \"required\": [\"error\", \"detail\"], \"properties\":"
        " {\"error\": {\"type\": \"string\"}, \"detail\": {\"type\": \"string\"}}}}}";
    sv_json_begin();
    json_t *document =
        json_pack("{s:s, s:{s:s, s:s, s:s}, s:o, s:o?}", "openapi", "3.1.0", "info", "title", "splam", "version",
                  splam_version(), "description",
                  "Pictures from models that are held in memory: A1111's interface, OpenAI's, and jobs", "paths",
                  all_paths(), "components", json_loads(components, 0, NULL));
    if (has_key) json_object_set_new(document, "security", json_pack("[{s:[]}]", "key"));
    return sv_json_text(document);
}

void sv_answer_openapi(sv_exchange *x)
{
    char *text = x->server->openapi;
    sv_reply(x, 200, "application/json", MHD_create_response_from_buffer(strlen(text), text, MHD_RESPMEM_PERSISTENT));
}
