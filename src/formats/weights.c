/* Weight sets: a map from names to tensors, in the order of adding. */
#include "formats/weights.h"
#include "base/memory.h"
#include "base/text.h"

typedef struct {
    sp_weight_change *item;
    size_t count;
} change_list;

typedef struct entry entry;
struct entry {
    char *name;
    sp_tensor tensor;     /* with changes: of the type and shape that they lead to, and without data */
    sp_tensor below;      /* what they change */
    change_list changes;  /* the entry's own */
    const entry *changed; /* whose `below` and `changes` it is made of: itself, or another set's; NULL: none */
};

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

/* Leaves an entry without a tensor. */
static void empty_entry(entry *e)
{
    for (size_t i = 0; i < e->changes.count; i++)
        e->changes.item[i].release(e->changes.item[i].context);
    sp_free(e->changes.item);
    sp_tensor_free(&e->below);
    sp_tensor_free(&e->tensor);
    *e = (entry){.name = e->name};
}

static void destroy_entry(entry *e)
{
    if (!e) return;
    empty_entry(e);
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
        empty_entry(known);
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

/* ---- changes ---- */

/* From here on the tensor is made when it is taken. */
static sp_status begin_changes(entry *e)
{
    if (!e || (e->changed && e->changed != e))
        return sp_fail(SP_INTERNAL, "a tensor to change is %s", e ? "another set's" : "not there");
    if (e->changed) return SP_OK;
    e->changed = e;
    e->below = e->tensor;
    e->tensor.data = NULL;
    e->tensor.owned = false;
    return SP_OK;
}

static sp_status add_change(entry *e, sp_weight_change change)
{
    SP_TRY(begin_changes(e));
    change_list *list = &e->changes;
    size_t size = sizeof *list->item;
    sp_weight_change *longer = sp_realloc(list->item, list->count * size, (list->count + 1) * size);
    if (!longer) return SP_MEMORY;
    list->item = longer;
    list->item[list->count++] = change;
    return SP_OK;
}

sp_status sp_weights_change(sp_weights *weights, const char *name, sp_dtype dtype, sp_weight_change change)
{
    entry *e = sp_dictionary_get(weights->by_name, name);
    sp_status status = add_change(e, change);
    if (status)
        change.release(change.context);
    else
        e->tensor.dtype = dtype;
    return status;
}

sp_status sp_weights_change_dtype(sp_weights *weights, const char *name, sp_dtype dtype)
{
    entry *e = sp_dictionary_get(weights->by_name, name);
    SP_TRY(begin_changes(e));
    e->tensor.dtype = dtype;
    return SP_OK;
}

bool sp_weights_is_changed(const sp_weights *weights, const char *name)
{
    const entry *e = sp_dictionary_get(weights->by_name, name);
    return e && e->changed;
}

static sp_status take(const entry *e, sp_tensor *out)
{
    *out = e->tensor;
    out->owned = false;
    if (!e->changed) return SP_OK;
    sp_tensor full;
    const change_list *list = &e->changed->changes;
    if (!list->count) return sp_tensor_convert(&e->changed->below, e->tensor.dtype, out);
    SP_TRY(sp_tensor_convert(&e->changed->below, SP_F32, &full));
    sp_status status = SP_OK;
    for (size_t i = 0; i < list->count && !status; i++)
        status = list->item[i].apply(list->item[i].context, &full);
    if (!status && e->tensor.dtype == SP_F32) {
        *out = full;
        return SP_OK;
    }
    if (!status) status = sp_tensor_convert(&full, e->tensor.dtype, out);
    sp_tensor_free(&full);
    return status;
}

sp_status sp_weights_take(const sp_weights *weights, const char *name, sp_tensor *out)
{
    const entry *e = sp_dictionary_get(weights->by_name, name);
    *out = (sp_tensor){0};
    return e ? take(e, out) : sp_fail(SP_INTERNAL, "there is no tensor \"%s\" to take", name);
}

sp_status sp_weights_add_view(sp_weights *weights, const char *as, const sp_weights *from, const char *name)
{
    const entry *source = sp_dictionary_get(from->by_name, name);
    if (!source) return sp_fail(SP_INTERNAL, "there is no tensor \"%s\" to see", name);
    sp_tensor view = source->tensor;
    view.owned = false;
    SP_TRY(sp_weights_add(weights, as, view));
    ((entry *)sp_dictionary_get(weights->by_name, as))->changed = source->changed;
    return SP_OK;
}

/* ---- copies and files ---- */

/* As `dtype`, whatever it is. */
static sp_status convert_entry(const entry *e, sp_dtype dtype, sp_tensor *out)
{
    sp_tensor taken;
    SP_TRY(take(e, &taken));
    if (taken.owned && taken.dtype == dtype) {
        *out = taken;
        return SP_OK;
    }
    sp_status status = sp_tensor_convert(&taken, dtype, out);
    sp_tensor_free(&taken);
    return status;
}

sp_status sp_weights_copy(const sp_weights *weights, sp_dtype dtype, sp_weights **out)
{
    SP_TRY(sp_weights_create(out));
    sp_status status = SP_OK;
    for (size_t i = 0; i < weights->count && !status; i++) {
        sp_tensor copy = {0};
        const char *name = weights->entries[i]->name;
        status = convert_entry(weights->entries[i], dtype, &copy);
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
    const entry *e = sp_dictionary_get(weights->by_name, name);
    if (!e || !weights->file) return;
    const sp_tensor *lies = e->changed ? &e->changed->below : &e->tensor;
    if (!lies->owned) sp_tensor_file_drop(weights->file, lies);
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
    const entry *e = sp_dictionary_get(weights->by_name, name);
    return e && !e->changed && !e->tensor.owned && weights->file;
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

const sp_tensor *sp_weights_stored(const sp_weights *weights, size_t index)
{
    const entry *e = weights->entries[index];
    return e->changed ? &e->changed->below : &e->tensor;
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

typedef struct {
    const sp_weights *weights;
    const sp_tensor *stored; /* types and shapes, as in the file */
    const sp_callbacks *callbacks;
} saving;

static sp_status next_tensor(void *context, size_t index, sp_tensor *out)
{
    const saving *s = context;
    const entry *e = s->weights->entries[index];
    SP_TRY(sp_check_cancelled(s->callbacks));
    sp_status status = e->tensor.dtype == s->stored[index].dtype ? take(e, out)
                                                                 : convert_entry(e, s->stored[index].dtype, out);
    sp_weights_drop(s->weights, e->name);
    return status;
}

sp_status sp_weights_save(const sp_weights *weights, const char *path, sp_dtype dtype,
                          const char *const (*metadata)[2], size_t metadata_count,
                          const sp_callbacks *callbacks)
{
    const sp_write_watch watch = sp_watch_callbacks(callbacks);
    sp_named_tensor *list = sp_alloc_zero((weights->count + 1) * sizeof *list);
    sp_tensor *stored = sp_alloc_zero((weights->count + 1) * sizeof *stored);
    sp_status status = list && stored ? SP_OK : SP_MEMORY;
    for (size_t i = 0; i < weights->count && !status; i++) {
        const sp_tensor *tensor = &weights->entries[i]->tensor;
        bool converts = (sp_dtype_is_float(tensor->dtype) && tensor->dtype != SP_F64) ||
                        sp_dtype_is_quantised(tensor->dtype);
        stored[i] = (sp_tensor){.dtype = converts ? dtype : tensor->dtype, .shape = tensor->shape};
        list[i] = (sp_named_tensor){weights->entries[i]->name, &stored[i]};
    }
    const sp_tensor_source source = {next_tensor, &(saving){weights, stored, callbacks}};
    if (!status)
        status = sp_safetensors_save_from(path, list, weights->count, metadata, metadata_count, &source, &watch);
    sp_free(list);
    sp_free(stored);
    return status;
}
