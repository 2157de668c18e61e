/* Weight sets: a map from names to tensors, in the order of adding. */
#include "formats/weights.h"
#include "base/memory.h"
#include "base/text.h"

typedef struct {
    char *name;
    sp_tensor tensor;
} entry;

struct sp_weights {
    entry **entries; /* each allocated alone, so that pointers to tensors stay valid */
    size_t count, capacity;
    sp_dictionary *by_name;
    const sp_tensor_file *file; /* that views lie in, or NULL */
    sp_packed_place *packed;    /* NULL: there are no packed weights of it */
};

sp_status sp_weights_create(sp_weights **out)
{
    *out = sp_alloc_zero(sizeof **out);
    if (!*out) return SP_MEMORY;
    (*out)->by_name = sp_dictionary_create();
    if ((*out)->by_name) return SP_OK;
    sp_free(*out);
    *out = NULL;
    return SP_MEMORY;
}

static void destroy_entry(entry *e)
{
    if (!e) return;
    sp_tensor_free(&e->tensor);
    sp_free(e->name);
    sp_free(e);
}

void sp_weights_destroy(sp_weights *weights)
{
    if (!weights) return;
    for (size_t i = 0; i < weights->count; i++)
        destroy_entry(weights->entries[i]);
    sp_free(weights->entries);
    sp_dictionary_destroy(weights->by_name);
    sp_packed_place_destroy(weights->packed);
    sp_free(weights);
}

static sp_status append(sp_weights *weights, entry *e)
{
    if (weights->count == weights->capacity) {
        size_t wanted = weights->capacity ? 2 * weights->capacity : 64;
        entry **larger = sp_realloc(weights->entries, weights->capacity * sizeof *larger,
                                    wanted * sizeof *larger);
        if (!larger) return SP_MEMORY;
        weights->entries = larger;
        weights->capacity = wanted;
    }
    SP_TRY(sp_dictionary_put(weights->by_name, e->name, e));
    weights->entries[weights->count++] = e;
    return SP_OK;
}

sp_status sp_weights_add(sp_weights *weights, const char *name, sp_tensor tensor)
{
    entry *known = sp_dictionary_get(weights->by_name, name);
    if (known) {
        sp_tensor_free(&known->tensor);
        known->tensor = tensor;
        return SP_OK;
    }
    entry *e = sp_alloc_zero(sizeof *e);
    if (!e) {
        sp_tensor_free(&tensor);
        return SP_MEMORY;
    }
    e->tensor = tensor;
    e->name = sp_strdup(name);
    sp_status status = e->name ? append(weights, e) : SP_MEMORY;
    if (status) destroy_entry(e);
    return status;
}

sp_status sp_weights_remove(sp_weights *weights, const char *name)
{
    entry *e = sp_dictionary_get(weights->by_name, name);
    if (!e) return sp_fail(SP_INTERNAL, "there is no tensor \"%s\" to remove", name);
    SP_TRY(sp_dictionary_put(weights->by_name, name, NULL));
    size_t at = 0;
    while (weights->entries[at] != e)
        at++;
    for (; at + 1 < weights->count; at++)
        weights->entries[at] = weights->entries[at + 1];
    weights->count--;
    destroy_entry(e);
    return SP_OK;
}

sp_status sp_weights_add_file(sp_weights *weights, const sp_tensor_file *file)
{
    sp_weights_set_file(weights, file);
    for (size_t i = 0; i < sp_tensor_file_count(file); i++) {
        sp_tensor view = *sp_tensor_file_at(file, i);
        view.owned = false;
        SP_TRY(sp_weights_add(weights, sp_tensor_file_name(file, i), view));
    }
    return SP_OK;
}

sp_status sp_weights_copy(const sp_weights *weights, sp_dtype dtype, sp_weights **out)
{
    SP_TRY(sp_weights_create(out));
    sp_status status = SP_OK;
    for (size_t i = 0; i < weights->count && !status; i++) {
        sp_tensor copy = {0};
        const char *name = weights->entries[i]->name;
        status = sp_tensor_convert(&weights->entries[i]->tensor, dtype, &copy);
        if (!status) status = sp_weights_add(*out, name, copy);
        sp_weights_drop(weights, name);
    }
    if (!status) status = sp_weights_check(weights);
    if (status) {
        sp_weights_destroy(*out);
        *out = NULL;
    }
    return status;
}

void sp_weights_set_file(sp_weights *weights, const sp_tensor_file *file)
{
    weights->file = file;
}

void sp_weights_drop(const sp_weights *weights, const char *name)
{
    const sp_tensor *tensor = sp_weights_find(weights, name);
    if (tensor && !tensor->owned && weights->file) sp_tensor_file_drop(weights->file, tensor);
}

sp_status sp_weights_check(const sp_weights *weights)
{
    if (weights->packed) SP_TRY(sp_packed_place_check(weights->packed));
    return weights->file ? sp_tensor_file_check(weights->file) : SP_OK;
}

sp_status sp_weights_set_packed(sp_weights *weights, const char *prefix)
{
    sp_packed_place_destroy(weights->packed);
    weights->packed = NULL;
    if (!prefix) return SP_OK;
    if (!weights->file) return sp_fail(SP_INTERNAL, "packed weights belong to a file, and the set has none");
    return sp_packed_place_create(prefix, weights->file, &weights->packed);
}

sp_packed_place *sp_weights_packed(const sp_weights *weights)
{
    return weights->packed;
}

bool sp_weights_is_view(const sp_weights *weights, const char *name)
{
    const sp_tensor *tensor = sp_weights_find(weights, name);
    return tensor && !tensor->owned && weights->file;
}

size_t sp_weights_count(const sp_weights *weights)
{
    return weights->count;
}

const char *sp_weights_name(const sp_weights *weights, size_t index)
{
    return weights->entries[index]->name;
}

sp_tensor *sp_weights_at(const sp_weights *weights, size_t index)
{
    return &weights->entries[index]->tensor;
}

sp_tensor *sp_weights_find(const sp_weights *weights, const char *name)
{
    entry *e = sp_dictionary_get(weights->by_name, name);
    return e ? &e->tensor : NULL;
}

size_t sp_weights_bytes(const sp_weights *weights)
{
    size_t bytes = 0;
    for (size_t i = 0; i < weights->count; i++)
        bytes += sp_tensor_bytes(&weights->entries[i]->tensor);
    return bytes;
}

sp_dtype sp_weights_dtype(void *weights, const char *name)
{
    const sp_tensor *tensor = sp_weights_find(weights, name);
    return tensor ? tensor->dtype : SP_F32;
}

sp_status sp_weights_save(const sp_weights *weights, const char *path, sp_dtype dtype,
                          const char *const (*metadata)[2], size_t metadata_count,
                          const sp_callbacks *callbacks)
{
    const sp_write_watch watch = sp_watch_callbacks(callbacks);
    sp_named_tensor *list = sp_alloc_zero((weights->count + 1) * sizeof *list);
    sp_tensor *converted = sp_alloc_zero((weights->count + 1) * sizeof *converted);
    sp_status status = list && converted ? SP_OK : SP_MEMORY;
    for (size_t i = 0; i < weights->count && !status; i++) {
        const sp_tensor *tensor = &weights->entries[i]->tensor;
        list[i] = (sp_named_tensor){weights->entries[i]->name, tensor};
        bool converts = sp_dtype_is_float(tensor->dtype) && tensor->dtype != SP_F64;
        if (tensor->dtype == dtype || !converts) continue;
        status = sp_check_cancelled(callbacks);
        if (!status) status = sp_tensor_convert(tensor, dtype, &converted[i]);
        list[i].tensor = &converted[i];
    }
    if (!status)
        status = sp_safetensors_save_watched(path, list, weights->count, metadata, metadata_count, &watch);
    for (size_t i = 0; i < weights->count && converted; i++)
        sp_tensor_free(&converted[i]);
    sp_free(list);
    sp_free(converted);
    return status;
}
