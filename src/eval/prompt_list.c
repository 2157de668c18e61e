/* Prompts from text files and from COCO's annotations. */
#include "eval/prompt_list.h"
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "base/json.h"
#include "base/text_file.h"

typedef struct {
    int64_t image, id;
    const char *caption;
} annotation;

/* By picture, then by annotation. */
static int by_ids(const void *a, const void *b)
{
    const annotation *x = a, *y = b;
    if (x->image != y->image) return x->image < y->image ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

static sp_status read_annotation(const char *path, size_t index, const json_t *json, annotation *out)
{
    const json_t *image = json_object_get(json, "image_id"), *id = json_object_get(json, "id");
    const char *caption = json_string_value(json_object_get(json, "caption"));
    if (!json_is_integer(image) || !json_is_integer(id) || !caption)
        return sp_fail(SP_FORMAT, "%s: annotation %zu lacks a whole \"image_id\" or \"id\", or a \"caption\"", path,
                       index);
    *out = (annotation){json_integer_value(image), json_integer_value(id), caption};
    return SP_OK;
}

static sp_status add_first(const char *path, const annotation *a, sp_prompt_list *out)
{
    char *copy = sp_arena_strdup(out->arena, a->caption);
    if (!copy) return SP_MEMORY;
    if (!copy[strspn(copy, " \t\r\n")])
        return sp_fail(SP_FORMAT, "%s: annotation %lld of picture %lld is blank", path, (long long)a->id,
                       (long long)a->image);
    out->prompt[out->count++] = copy;
    return SP_OK;
}

static sp_status take_first(const char *path, annotation *all, size_t count, sp_prompt_list *out)
{
    qsort(all, count, sizeof *all, by_ids);
    for (size_t i = 0; i < count; i++)
        if (i == 0 || all[i].image != all[i - 1].image) SP_TRY(add_first(path, &all[i], out));
    return SP_OK;
}

static sp_status read_coco(const char *path, const json_t *document, sp_prompt_list *out)
{
    const json_t *list = json_object_get(document, "annotations");
    size_t count = json_array_size(list);
    if (!count) return sp_fail(SP_FORMAT, "%s: expected a list \"annotations\" of captions, as COCO has it", path);
    annotation *all = sp_alloc(count * sizeof *all);
    out->prompt = sp_alloc(count * sizeof *out->prompt);
    out->arena = sp_arena_create();
    sp_status status = all && out->prompt && out->arena ? SP_OK : SP_MEMORY;
    for (size_t i = 0; i < count && !status; i++)
        status = read_annotation(path, i, json_array_get(list, i), &all[i]);
    if (!status) status = take_first(path, all, count, out);
    sp_free(all);
    return status;
}

static sp_status load_coco(const char *path, const char *text, size_t size, sp_prompt_list *out)
{
    json_t *document;
    sp_sha256_text(text, size, out->sha256);
    SP_TRY(sp_skip_byte_order_mark(path, &text, &size));
    SP_TRY(sp_json_parse_lenient(text, size, path, &document));
    sp_status status = read_coco(path, document, out);
    json_decref(document);
    return status;
}

static sp_status load_lines(const char *path, sp_prompt_list *out)
{
    SP_TRY(sp_caption_lines_load(path, &out->lines));
    memcpy(out->sha256, out->lines.sha256, sizeof out->sha256);
    out->prompt = out->lines.line;
    out->count = out->lines.count;
    return SP_OK;
}

static sp_status load(const char *path, sp_prompt_list *out)
{
    char *text;
    size_t size;
    SP_TRY(sp_read_file(path, &text, &size));
    const char *begin = text + (strncmp(text, "\xef\xbb\xbf", 3) == 0 ? 3 : 0);
    out->coco = begin[strspn(begin, " \t\r\n")] == '{';
    sp_status status = out->coco ? load_coco(path, text, size, out) : load_lines(path, out);
    sp_free(text);
    return status;
}

sp_status sp_prompt_list_load(const char *path, sp_prompt_list *out)
{
    *out = (sp_prompt_list){0};
    sp_status status = load(path, out);
    if (status) sp_prompt_list_free(out);
    return status;
}

void sp_prompt_list_free(sp_prompt_list *list)
{
    if (!list->lines.line) sp_free(list->prompt);
    sp_caption_lines_free(&list->lines);
    sp_arena_destroy(list->arena);
    *list = (sp_prompt_list){0};
}
