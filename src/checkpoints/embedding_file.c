/* Files of learned tokens. */
#include <string.h>
#include "base/file.h"
#include "base/memory.h"
#include "base/text.h"
#include "checkpoints/embedding.h"
#include "checkpoints/model_path.h"
#include "checkpoints/recognise.h"

/* ---- the file ---- */

/* FOLDER/learned_embeds.safetensors, or .bin. */
static sp_status file_in_folder(char **path)
{
    static const char *const names[] = {"learned_embeds.safetensors", "learned_embeds.bin"};
    char *file = NULL;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        sp_free(file);
        file = sp_path_join(*path, names[i]);
        if (!file) return SP_MEMORY;
        if (sp_path_exists(file)) break;
    }
    bool there = sp_path_exists(file);
    sp_status status = there ? SP_OK : sp_fail(SP_IO, "%s: has neither %s nor %s", *path, names[0], names[1]);
    sp_free(there ? *path : file);
    if (there) *path = file;
    return status;
}

static sp_status open_file(const char *path, sp_learned *e)
{
    SP_TRY(sp_model_path(path, &e->path));
    if (sp_path_is_folder(e->path)) SP_TRY(file_in_folder(&e->path));
    return sp_tensor_file_open(e->path, &e->file);
}

/* ---- its tensors ---- */

static sp_status no_embedding(const sp_learned *e)
{
    const char *kind = sp_recognise_tensors(e->file);
    size_t count = sp_tensor_file_count(e->file);
    if (kind && !strstr(kind, "embedding"))
        return sp_fail(SP_FORMAT, "%s: is %s, and an embedding (textual inversion) was expected", e->path, kind);
    return sp_fail(SP_FORMAT,
                   "%s: has %zu tensors, and an embedding has one of any name, or clip_l and clip_g", e->path, count);
}

static sp_status take(sp_learned *e, int encoder, const char *name)
{
    const sp_tensor *found;
    SP_TRY(sp_tensor_file_get(e->file, name, &found));
    sp_tensor *vectors = &e->vectors[encoder];
    int rank = found->shape.rank;
    int64_t count = rank == 2 ? found->shape.dim[0] : 1;
    if (!sp_dtype_is_float(found->dtype) || rank < 1 || rank > 2 || sp_tensor_count(found) < 1 ||
        count > SP_MAX_LEARNED_VECTORS)
        return sp_fail(SP_SHAPE, "%s: tensor \"%s\" is %s %s, expected floats [n,width] or [width], n at most %d",
                       e->path, name, sp_dtype_name(found->dtype), sp_shape_text(found->shape),
                       SP_MAX_LEARNED_VECTORS);
    if (e->count && e->count != count)
        return sp_fail(SP_SHAPE, "%s: clip_l has %lld vectors and clip_g %lld", e->path, (long long)e->count,
                       (long long)count);
    e->count = count;
    *vectors = *found;
    vectors->owned = false;
    vectors->shape = sp_shape_of(count, sp_tensor_count(found) / count);
    sp_status status = sp_tensor_check_finite(vectors, name);
    return status ? sp_fail_within(status, "%s", e->path) : SP_OK;
}

/* The file's name without its suffix. */
static char *name_of_file(const char *path)
{
    const char *name = sp_path_base(path), *point = strrchr(name, '.');
    return point && point > name ? sp_strndup(name, (size_t)(point - name)) : sp_strdup(name);
}

/* What the file calls its token. */
static char *own_token(const sp_learned *e, const char *tensor)
{
    const char *name = sp_tensor_file_metadata(e->file, "name");
    bool nameless = strcmp(tensor, "emb_params") == 0 || strcmp(tensor, "clip_l") == 0;
    if (!sp_starts_with(tensor, "string_to_param.")) return nameless ? name_of_file(e->path) : sp_strdup(tensor);
    return name && *name ? sp_strdup(name) : name_of_file(e->path);
}

static sp_status take_all(const splam_embedding *source, sp_learned *e)
{
    size_t count = sp_tensor_file_count(e->file);
    bool two = count == 2 && sp_tensor_file_find(e->file, "clip_l") && sp_tensor_file_find(e->file, "clip_g");
    if (!two && (count != 1 || sp_tensor_file_find(e->file, "clip_g"))) return no_embedding(e);
    const char *first = two ? "clip_l" : sp_tensor_file_name(e->file, 0);
    SP_TRY(take(e, 0, first));
    if (two) SP_TRY(take(e, 1, "clip_g"));
    e->token = source->token ? sp_strdup(source->token) : own_token(e, first);
    return e->token ? SP_OK : SP_MEMORY;
}

sp_status sp_learned_open(const splam_embedding *source, sp_learned *out)
{
    *out = (sp_learned){.first = -1};
    SP_TRY(open_file(source->path, out));
    return take_all(source, out);
}

void sp_learned_free(sp_learned *e)
{
    sp_tensor_file_close(e->file);
    sp_free(e->path);
    sp_free(e->token);
    *e = (sp_learned){0};
}

sp_status sp_learned_sha256(const sp_learned *e, char out[SP_SHA256_TEXT])
{
    return sp_tensor_file_sha256(e->file, out);
}

/* ---- several ---- */

sp_status sp_learned_list_open(const splam_embedding *sources, size_t count, sp_learned_list *out)
{
    *out = (sp_learned_list){0};
    if (!count) return SP_OK;
    out->items = sp_alloc_zero(count * sizeof *out->items);
    if (!out->items) return SP_MEMORY;
    sp_status status = SP_OK;
    for (size_t i = 0; i < count && !status; i++) {
        out->count = i + 1;
        status = sp_learned_open(&sources[i], &out->items[i]);
    }
    if (status) sp_learned_list_close(out);
    return status;
}

void sp_learned_list_close(sp_learned_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        sp_learned_free(&list->items[i]);
    sp_free(list->items);
    *list = (sp_learned_list){0};
}
