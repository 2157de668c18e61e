/* What torch.save and torch.jit.save write: a pickle in which tensors are calls of torch._utils._rebuild_tensor_v2 on
 * storages, and the storages' bytes beside it. Of all that a pickle may name, only what is listed
 * here means anything; the rest is inert. */
#include <string.h>

#include "base/visible.h"
#include "formats/pickle.h"
#include "formats/tensor_file_parts.h"
#include "formats/zip.h"

typedef sp_pickle_value value;

typedef struct {
    sp_tensor_file *file;
    const sp_mapped_file *shard;
    sp_arena *arena;  /* entries of the archive, or storages */
    sp_dictionary *storages; /* key -> sp_zip_entry */
    const char *folder; /* of an archive's entries: "NAME" in "NAME/data/KEY"; NULL: no archive */
    size_t copied;      /* bytes of tensors that are no views */
    uint64_t named;     /* bytes of those that are contiguous */
} reader;

/* Of a tensor or of a word beside them; published names have about a hundred bytes. */
enum { LONGEST_NAME = 4096, LONGEST_WORD = 256 };

/* ---- storages ---- */

enum { NO_DTYPE = -1 }; /* known to PyTorch, and its size, but not to sp_dtype */

static const struct {
    const char *global;
    int dtype;
    size_t size;
} storage_types[] = {
#define X(name, dtype) {"torch " name "Storage", SP_##dtype, 0},
    X("Float", F32) X("Half", F16) X("BFloat16", BF16) X("Double", F64) X("Long", I64) X("Int", I32)
        X("Byte", U8) X("Bool", U8)
#undef X
            {"torch ShortStorage", NO_DTYPE, 2},
    {"torch CharStorage", NO_DTYPE, 1},
    {"torch.storage UntypedStorage", NO_DTYPE, 1}, /* counted in bytes; the tensor says its type */
};

typedef struct {
    int dtype;   /* or NO_DTYPE */
    size_t size; /* of an element; 0 if the type is unknown */
    char key[64];
    int64_t count;          /* elements */
    int64_t offset;         /* of a view into it, in elements */
    const value *type_name; /* a global */
} storage;

/* ("storage", type, key, device, count), and before PyTorch 1.6 a view (key, offset, count) or None
 * behind it. False if the value is none. */
static bool read_storage(const value *v, storage *out)
{
    if (!v || v->kind != SP_PICKLE_PERSISTENT) return false;
    const value *id = v->arguments, *type = sp_pickle_item(id, 1), *key = sp_pickle_item(id, 2),
                *count = sp_pickle_item(id, 4), *view = sp_pickle_item(id, 5);
    if (!sp_pickle_is_text(sp_pickle_item(id, 0), "storage")) return false;
    if (!type || type->kind != SP_PICKLE_GLOBAL || !key || key->kind != SP_PICKLE_TEXT)
        return false;
    if (!count || count->kind != SP_PICKLE_INT || count->integer < 0) return false;
    if (!key->length || key->length >= sizeof out->key || memchr(key->text, 0, key->length))
        return false;
    *out = (storage){.count = count->integer, .type_name = type, .dtype = NO_DTYPE};
    memcpy(out->key, key->text, key->length);
    const value *offset = sp_pickle_item(view, 1);
    if (offset && (offset->kind != SP_PICKLE_INT || offset->integer < 0)) return false;
    if (offset) out->offset = offset->integer;
    for (size_t i = 0; i < sizeof storage_types / sizeof *storage_types; i++) {
        if (!sp_pickle_is_global(type, storage_types[i].global)) continue;
        out->dtype = storage_types[i].dtype;
        out->size =
            out->dtype == NO_DTYPE ? storage_types[i].size : sp_dtype_size((sp_dtype)out->dtype);
    }
    return true;
}

static const sp_zip_entry *find_storage(const reader *r, const char *key)
{
    if (!r->folder) return sp_dictionary_get(r->storages, key);
    char *name = sp_format("%s/data/%s", r->folder, key);
    const sp_zip_entry *entry = name ? sp_dictionary_get(r->storages, name) : NULL;
    sp_free(name);
    return entry;
}

static sp_status storage_bytes(const reader *r, const char *name, const storage *s,
                               const unsigned char **out)
{
    const char *path = r->shard->path;
    unsigned long failures = sp_alloc_failures();
    const sp_zip_entry *entry = find_storage(r, s->key);
    uint64_t bytes;
    if (sp_alloc_failures() != failures) return SP_MEMORY;
    if (!entry)
        return sp_fail(SP_FORMAT, "%s: tensor \"%s\": its storage \"%s\" is not in the file", path,
                       name, s->key);
    if (!entry->data)
        return sp_fail(SP_UNSUPPORTED,
                       "%s: tensor \"%s\": its storage is compressed or encrypted, and only stored "
                       "entries, as torch.save writes them, are supported",
                       path, name);
    if (__builtin_mul_overflow((uint64_t)s->count, s->size, &bytes) || bytes > entry->size)
        return sp_fail(
            SP_FORMAT,
            "%s: tensor \"%s\": its storage should have %lld elements of %s, but has %zu "
            "bytes",
            path, name, (long long)s->count, sp_dtype_name((sp_dtype)s->dtype), entry->size);
    *out = entry->data;
    return SP_OK;
}

/* ---- tensors ---- */

typedef struct {
    storage storage;
    int64_t offset; /* elements */
    sp_shape shape;
    int64_t stride[SP_MAX_RANK]; /* elements */
} layout;

static sp_status bad_tensor(const reader *r, const char *name, const char *what)
{
    return sp_fail(SP_FORMAT, "%s: tensor \"%s\" %s", r->shard->path, name, what);
}

static bool natural(const value *v, int64_t *out)
{
    if (!v || v->kind != SP_PICKLE_INT || v->integer < 0) return false;
    *out = v->integer;
    return true;
}

static sp_status read_shape(const reader *r, const char *name, const value *sizes,
                            const value *strides, layout *out)
{
    if (!sizes || !strides || sizes->kind != SP_PICKLE_TUPLE || strides->kind != SP_PICKLE_TUPLE ||
        sizes->count != strides->count)
        return bad_tensor(r, name, "has no tuples of sizes and strides of one length");
    if (sizes->count > SP_MAX_RANK)
        return sp_fail(SP_UNSUPPORTED,
                       "%s: tensor \"%s\" has %zu dimensions, at most %d are supported",
                       r->shard->path, name, sizes->count, SP_MAX_RANK);
    out->shape.rank = (int)sizes->count;
    for (size_t i = 0; i < sizes->count; i++)
        if (!natural(sizes->items[i], &out->shape.dim[i]) ||
            !natural(strides->items[i], &out->stride[i]))
            return bad_tensor(r, name, "has a size or a stride that is not a natural number");
    if (sp_shape_count(out->shape) < 0) return bad_tensor(r, name, "has a shape that is too large");
    return SP_OK;
}

/* The elements must lie inside the storage. */
static sp_status check_extent(const reader *r, const char *name, const layout *l)
{
    int64_t last, step;
    bool outside = __builtin_add_overflow(l->offset, l->storage.offset, &last);
    if (sp_shape_count(l->shape) == 0) return SP_OK;
    for (int i = 0; i < l->shape.rank && !outside; i++)
        outside = __builtin_mul_overflow(l->shape.dim[i] - 1, l->stride[i], &step) ||
                  __builtin_add_overflow(last, step, &last);
    if (!outside && last < l->storage.count) return SP_OK;
    return sp_fail(
        SP_FORMAT,
        "%s: tensor \"%s\" of shape %s from element %lld on reaches beyond its storage of "
        "%lld elements",
        r->shard->path, name, sp_shape_text(l->shape), (long long)l->offset,
        (long long)l->storage.count);
}

static bool is_contiguous(const layout *l)
{
    int64_t expected = 1;
    for (int i = l->shape.rank - 1; i >= 0; i--) {
        if (l->shape.dim[i] != 1 && l->stride[i] != expected) return false;
        expected *= l->shape.dim[i];
    }
    return true;
}

/* Tensors may share a storage, as tied weights do; a million that do would take a million times the file to read. */
static sp_status allow_view(reader *r, const char *name, uint64_t bytes)
{
    enum { MOST_SHARED = 16 };
    if (!__builtin_add_overflow(r->named, bytes, &r->named) && r->named / MOST_SHARED <= r->shard->size) return SP_OK;
    return sp_fail(SP_UNSUPPORTED, "%s: the tensors up to \"%s\" share their storages so much that they have %d times "
                   "the file's %zu bytes", r->shard->path, name, MOST_SHARED, r->shard->size);
}

/* Copies take no more memory than the file takes on the disk: one storage can be named by any
 * number of tensors. */
static sp_status allow_copy(reader *r, const char *name, size_t bytes)
{
    if (bytes <= r->shard->size && r->copied <= r->shard->size - bytes) {
        r->copied += bytes;
        return SP_OK;
    }
    return sp_fail(
        SP_UNSUPPORTED,
        "%s: tensor \"%s\" is not contiguous, and copies of such tensors would take more "
        "than the file's %zu bytes",
        r->shard->path, name, r->shard->size);
}

/* Walks the elements in row-major order. `at` never leaves the storage: check_extent knows of the
 * strides times the largest indices alone. */
static void copy_strided(const layout *l, const unsigned char *from, size_t size, unsigned char *to)
{
    int64_t index[SP_MAX_RANK] = {0}, count = sp_shape_count(l->shape), at = 0;
    for (int64_t i = 0; i < count; i++) {
        memcpy(to + (size_t)i * size, from + (size_t)at * size, size);
        for (int d = l->shape.rank - 1; d >= 0; d--) {
            if (index[d] + 1 < l->shape.dim[d]) {
                index[d]++;
                at += l->stride[d];
                break;
            }
            at -= l->stride[d] * index[d];
            index[d] = 0;
        }
    }
}

static sp_status place_tensor(reader *r, const char *name, const layout *l, sp_tensor *out)
{
    const unsigned char *data = NULL;
    size_t size = l->storage.size;
    *out = (sp_tensor){.dtype = (sp_dtype)l->storage.dtype, .shape = l->shape};
    SP_TRY(storage_bytes(r, name, &l->storage, &data));
    SP_TRY(check_extent(r, name, l));
    uint64_t bytes;
    if (__builtin_mul_overflow((uint64_t)sp_shape_count(l->shape), size, &bytes))
        return bad_tensor(r, name, "has a shape that is too large");
    if (!bytes) {
        out->data = (void *)(uintptr_t)r->shard->data;
        return SP_OK;
    }
    data += (size_t)(l->offset + l->storage.offset) * size;
    /* The mapping is read-only; `owned` stays false, so nobody writes or frees through this. */
    out->data = (void *)(uintptr_t)data;
    if (is_contiguous(l)) {
        SP_TRY(allow_view(r, name, bytes));
        if ((uintptr_t)data % size) SP_TRY(allow_copy(r, name, (size_t)bytes));
        return sp_tensor_file_align(r->file, out);
    }
    SP_TRY(allow_copy(r, name, (size_t)bytes));
    out->data = sp_arena_alloc(r->file->arena, (size_t)bytes);
    if (!out->data) return SP_MEMORY;
    copy_strided(l, data, size, out->data);
    return SP_OK;
}

/* Of types that are younger than typed storages; its seventh argument is the type. */
static const char v3[] = "torch._utils _rebuild_tensor_v3";

/* The call that makes a tensor; NULL if the value is no tensor. */
static const value *tensor_call(const value *v)
{
    for (int depth = 0; v && v->kind == SP_PICKLE_OBJECT && depth < 4; depth++) {
        if (sp_pickle_is_global(v->callee, "torch._utils _rebuild_tensor_v2") ||
            sp_pickle_is_global(v->callee, v3) ||
            sp_pickle_is_global(v->callee, "torch._utils _rebuild_tensor"))
            return v;
        if (!sp_pickle_is_global(v->callee, "torch._utils _rebuild_parameter")) return NULL;
        v = sp_pickle_item(v->arguments, 0);
    }
    return NULL;
}

/* The type that the call names; NO_DTYPE if it is none that is known. */
static void read_type(const value *call, storage *s)
{
    static const struct {
        const char *global;
        int dtype;
    } types[] = {{"torch float8_e4m3fn", SP_F8_E4M3}, {"torch float8_e5m2", SP_F8_E5M2}};
    enum { TYPE = 6 };
    const value *type = sp_pickle_item(call->arguments, TYPE);
    bool untyped = sp_pickle_is_global(s->type_name, "torch.storage UntypedStorage");
    s->dtype = NO_DTYPE;
    if (!type || type->kind != SP_PICKLE_GLOBAL) return;
    s->type_name = type;
    for (size_t i = 0; i < sizeof types / sizeof *types && untyped; i++)
        if (sp_pickle_is_global(type, types[i].global)) s->dtype = types[i].dtype;
}

/* Arguments: storage, offset, sizes, strides, and what does not matter here. */
static sp_status read_tensor(reader *r, const char *name, const value *call, sp_tensor *out)
{
    layout l = {0};
    const value *arguments = call->arguments, *of = sp_pickle_item(arguments, 0);
    if (!read_storage(of, &l.storage))
        return bad_tensor(r, name, "is made of something that is no storage");
    if (sp_pickle_is_global(call->callee, v3)) read_type(call, &l.storage);
    if (l.storage.dtype == NO_DTYPE)
        return sp_fail(SP_UNSUPPORTED, "%s: tensor \"%s\" has the unsupported type \"%s\"",
                       r->shard->path, name,
                       sp_shown(l.storage.type_name->text, l.storage.type_name->length));
    if (!natural(sp_pickle_item(arguments, 1), &l.offset))
        return bad_tensor(r, name, "has an offset that is not a natural number");
    SP_TRY(read_shape(r, name, sp_pickle_item(arguments, 2), sp_pickle_item(arguments, 3), &l));
    return place_tensor(r, name, &l, out);
}

/* ---- the dictionary ---- */

static bool is_dictionary(const value *v)
{
    return v && (v->kind == SP_PICKLE_DICT ||
                 (v->kind == SP_PICKLE_OBJECT &&
                  sp_pickle_is_global(v->callee, "collections OrderedDict")));
}

static sp_status add_metadata(reader *r, const char *key, const value *v)
{
    char *text;
    if (v->kind == SP_PICKLE_INT)
        text = sp_arena_format(r->file->arena, "%lld", (long long)v->integer);
    else if (v->kind == SP_PICKLE_TEXT && v->length < LONGEST_WORD &&
             !memchr(v->text, 0, v->length))
        text = sp_arena_strndup(r->file->arena, v->text, v->length);
    else
        return SP_OK;
    if (!text) return SP_MEMORY;
    return sp_dictionary_get(r->file->metadata, key) ? SP_OK : sp_dictionary_put(r->file->metadata, key, text);
}

/* Takes the tensors of a dictionary, their names behind `prefix`, or its other words. */
static sp_status add_items(reader *r, const value *dictionary, const char *prefix, bool tensors)
{
    if (tensors) SP_TRY(sp_tensor_file_reserve(r->file, dictionary->count / 2));
    for (size_t i = 0; i + 1 < dictionary->count; i += 2) {
        const value *key = dictionary->items[i], *item = dictionary->items[i + 1];
        const value *call = tensor_call(item);
        if (key->kind != SP_PICKLE_TEXT || (!call && tensors)) continue;
        if (key->length > LONGEST_NAME && tensors)
            return sp_fail(SP_FORMAT, "%s: a tensor's name has %zu bytes, \"%s\"", r->shard->path,
                           key->length, sp_shown(key->text, key->length));
        if (key->length > LONGEST_NAME || memchr(key->text, 0, key->length)) continue;
        char *name = sp_arena_strndup(r->file->arena, key->text, key->length);
        if (name && *prefix) name = sp_arena_format(r->file->arena, "%s%s", prefix, name);
        if (!name) return SP_MEMORY;
        if (!tensors) {
            SP_TRY(add_metadata(r, name, item));
            continue;
        }
        sp_file_entry *entry = &r->file->entries[r->file->count];
        *entry = (sp_file_entry){.name = name};
        SP_TRY(read_tensor(r, name, call, &entry->tensor));
        r->file->count++;
    }
    return SP_OK;
}

/* ---- TorchScript: an object is a folder of names, its tensors and the objects within ---- */

enum { MOST_DEPTH = 32 };

static bool is_module(const value *v)
{
    static const char own[] = "__torch__"; /* then a module's name, or none, and a class's */
    enum { LENGTH = sizeof own - 1 };
    const value *callee = v && v->kind == SP_PICKLE_OBJECT ? v->callee : NULL;
    return callee && callee->kind == SP_PICKLE_GLOBAL && callee->length > LENGTH &&
           memcmp(callee->text, own, LENGTH) == 0 && (callee->text[LENGTH] == '.' || callee->text[LENGTH] == ' ') &&
           v->state && v->state->kind == SP_PICKLE_DICT;
}

static sp_status add_scripted_tensor(reader *r, const char *name, const value *call)
{
    SP_TRY(sp_tensor_file_reserve(r->file, 1));
    sp_file_entry *entry = &r->file->entries[r->file->count];
    *entry = (sp_file_entry){.name = name};
    SP_TRY(read_tensor(r, name, call, &entry->tensor));
    r->file->count++;
    return SP_OK;
}

/* Modules may be shared and contain themselves: *left bounds how many members are taken. */
static sp_status add_module(reader *r, const value *module, const char *prefix, int depth, size_t *left)
{
    const value *members = module->state;
    for (size_t i = 0; i + 1 < members->count; i += 2) {
        if (depth > MOST_DEPTH || (*left)-- == 0)
            return sp_fail(SP_FORMAT, "%s: its modules are nested too deep, or contain themselves", r->shard->path);
        const value *key = members->items[i], *item = members->items[i + 1], *call = tensor_call(item);
        bool inner = is_module(item);
        if (key->kind != SP_PICKLE_TEXT || (!call && !inner) || memchr(key->text, 0, key->length)) continue;
        if (key->length + strlen(prefix) > LONGEST_NAME)
            return sp_fail(SP_FORMAT, "%s: a tensor's name has more than %d bytes", r->shard->path, LONGEST_NAME);
        char *last = sp_arena_strndup(r->file->arena, key->text, key->length);
        char *name = last ? sp_arena_format(r->file->arena, "%s%s%s", prefix, last, inner ? "." : "") : NULL;
        if (!name) return SP_MEMORY;
        SP_TRY(inner ? add_module(r, item, name, depth + 1, left) : add_scripted_tensor(r, name, call));
    }
    return SP_OK;
}

/* A1111's embeddings have theirs one dictionary deeper, which may be a torch.nn.ParameterDict. */
static const value *learned_vectors(const value *result)
{
    const value *inner = sp_pickle_find(result, "string_to_param");
    if (inner && inner->kind == SP_PICKLE_OBJECT && !is_dictionary(inner) && inner->state)
        inner = sp_pickle_find(inner->state, "_parameters");
    return is_dictionary(inner) ? inner : NULL;
}

/* Weights are the whole dictionary, or what it has under "state_dict" or, named "string_to_param.NAME", under that;
 * numbers and texts beside them are metadata. */
static sp_status add_dictionary(reader *r, const value *result)
{
    enum { MOST_MEMBERS = 100000 };
    size_t left = MOST_MEMBERS;
    if (is_module(result)) return add_module(r, result, "", 0, &left);
    if (!is_dictionary(result)) {
        const value *callee = result->kind == SP_PICKLE_OBJECT ? result->callee : NULL;
        bool named = callee && callee->kind == SP_PICKLE_GLOBAL;
        return sp_fail(SP_FORMAT, "%s: holds %s where a dictionary of tensors was expected",
                       r->shard->path,
                       named ? sp_shown(callee->text, callee->length) : "another thing");
    }
    const value *weights = sp_pickle_find(result, "state_dict"), *vectors = learned_vectors(result);
    SP_TRY(add_items(r, result, "", false));
    if (vectors) SP_TRY(add_items(r, vectors, "string_to_param.", true));
    return add_items(r, is_dictionary(weights) ? weights : result, "", true);
}

/* ---- archives ---- */

bool sp_torch_is_zip(const sp_mapped_file *shard)
{
    return shard->size >= 4 && memcmp(shard->data, "PK\3\4", 4) == 0;
}

/* The entry "NAME/data.pkl"; r->folder becomes NAME. */
static sp_status find_pickle(reader *r, const sp_zip_entry **out)
{
    static const char tail[] = "/data.pkl";
    const char *name;
    void *entry;
    for (size_t i = 0; sp_dictionary_next(r->storages, &i, &name, &entry);) {
        if (!sp_ends_with(name, tail) || strchr(name, '/') != name + strlen(name) - strlen(tail))
            continue;
        *out = entry;
        r->folder = sp_arena_strndup(r->arena, name, strlen(name) - strlen(tail));
        return r->folder ? SP_OK : SP_MEMORY;
    }
    return sp_fail(SP_FORMAT, "%s: is a zip archive without the data.pkl that torch.save writes",
                   r->shard->path);
}

/* Archives of big-endian machines say so in an entry "NAME/byteorder". */
static sp_status check_byte_order(const reader *r)
{
    char *name = sp_format("%s/byteorder", r->folder);
    if (!name) return SP_MEMORY;
    const sp_zip_entry *order = sp_dictionary_get(r->storages, name);
    sp_free(name);
    if (!order || !order->data || order->size != 3 || memcmp(order->data, "big", 3) != 0)
        return SP_OK;
    return sp_fail(SP_UNSUPPORTED,
                   "%s: was written on a big-endian machine, which is not supported",
                   r->shard->path);
}

static sp_status read_archive(reader *r)
{
    const sp_zip_entry *entry = NULL;
    sp_pickle *pickle;
    SP_TRY(sp_zip_read(r->shard->data, r->shard->size, r->shard->path, r->arena, r->storages));
    SP_TRY(find_pickle(r, &entry));
    SP_TRY(check_byte_order(r));
    if (!entry->data)
        return sp_fail(SP_UNSUPPORTED,
                       "%s: its data.pkl is compressed or encrypted, and only stored entries, as "
                       "torch.save writes them, are supported",
                       r->shard->path);
    SP_TRY(sp_pickle_read(entry->data, entry->size, r->shard->path, NULL, &pickle));
    sp_status status = add_dictionary(r, sp_pickle_result(pickle));
    sp_pickle_destroy(pickle);
    return status;
}

/* ---- the form before PyTorch 1.6: pickles of a magic number, a version, the machine, the object
 * and the storages' keys, then for each key its count and elements ---- */

static const unsigned char magic[] = {0x8a, 10,   0x6c, 0xfc, 0x9c, 0x46,
                                      0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19};

bool sp_torch_is_legacy(const sp_mapped_file *shard)
{
    return shard->size > 2 + sizeof magic && shard->data[0] == 0x80 && shard->data[1] <= 5 &&
           memcmp(shard->data + 2, magic, sizeof magic) == 0;
}

static sp_status next_pickle(const reader *r, size_t *at, sp_pickle **out)
{
    size_t used;
    SP_TRY(sp_pickle_read(r->shard->data + *at, r->shard->size - *at, r->shard->path, &used, out));
    *at += used;
    return SP_OK;
}

static sp_status skip_preamble(const reader *r, size_t *at)
{
    for (int i = 0; i < 3; i++) {
        sp_pickle *pickle;
        SP_TRY(next_pickle(r, at, &pickle));
        const value *little = sp_pickle_find(sp_pickle_result(pickle), "little_endian");
        bool big = i == 2 && little && little->kind == SP_PICKLE_BOOL && !little->truth;
        sp_pickle_destroy(pickle);
        if (big)
            return sp_fail(SP_UNSUPPORTED,
                           "%s: was written on a big-endian machine, which is not supported",
                           r->shard->path);
    }
    return SP_OK;
}

/* Puts one entry for each storage that the object names: its type tells the elements' size. */
static sp_status name_storages(const reader *r, const sp_pickle *object)
{
    for (size_t i = 0; i < sp_pickle_persistent_count(object); i++) {
        storage s;
        if (!read_storage(sp_pickle_persistent(object, i), &s)) continue;
        sp_zip_entry *entry = sp_arena_alloc(r->arena, sizeof *entry);
        if (!entry) return SP_MEMORY;
        entry->size = s.size; /* until its bytes are found */
        SP_TRY(sp_dictionary_put(r->storages, s.key, entry));
    }
    return SP_OK;
}

static sp_status locate_storage(const reader *r, const value *key, size_t *at)
{
    enum { COUNT_BYTES = 8, LONGEST_KEY = 64 };
    char name[LONGEST_KEY] = {0};
    if (key->kind == SP_PICKLE_TEXT && key->length < sizeof name)
        memcpy(name, key->text, key->length);
    sp_zip_entry *entry = sp_dictionary_get(r->storages, name);
    if (!entry || entry->data || !entry->size)
        return sp_fail(
            SP_FORMAT,
            "%s: the storage \"%s\" is listed twice, or no tensor of a known type names it",
            r->shard->path, name);
    const unsigned char *data = r->shard->data + *at;
    size_t rest = r->shard->size - *at;
    uint64_t count = 0, bytes;
    for (int i = COUNT_BYTES - 1; i >= 0 && rest >= COUNT_BYTES; i--)
        count = count << 8 | data[i];
    if (rest < COUNT_BYTES || __builtin_mul_overflow(count, entry->size, &bytes) ||
        bytes > rest - COUNT_BYTES)
        return sp_fail(
            SP_FORMAT,
            "%s: the storage \"%s\" of %llu elements reaches beyond the file's end (is it "
            "truncated?)",
            r->shard->path, name, (unsigned long long)count);
    *entry = (sp_zip_entry){.data = data + COUNT_BYTES, .size = (size_t)bytes};
    *at += COUNT_BYTES + (size_t)bytes;
    return SP_OK;
}

static sp_status read_legacy(reader *r)
{
    size_t at = 0;
    sp_pickle *object = NULL, *keys = NULL;
    SP_TRY(skip_preamble(r, &at));
    sp_status status = next_pickle(r, &at, &object);
    if (!status) status = name_storages(r, object);
    if (!status) status = next_pickle(r, &at, &keys);
    const value *key;
    for (size_t i = 0; !status && (key = sp_pickle_item(sp_pickle_result(keys), i)); i++)
        status = locate_storage(r, key, &at);
    if (!status) status = add_dictionary(r, sp_pickle_result(object));
    sp_pickle_destroy(object);
    sp_pickle_destroy(keys);
    return status;
}

sp_status sp_torch_read(sp_tensor_file *file, const sp_mapped_file *shard)
{
    reader r = {
        .file = file, .shard = shard, .arena = sp_arena_create(), .storages = sp_dictionary_create()};
    sp_status status = r.arena && r.storages ? SP_OK : SP_MEMORY;
    if (!status) status = sp_torch_is_zip(shard) ? read_archive(&r) : read_legacy(&r);
    sp_dictionary_destroy(r.storages);
    sp_arena_destroy(r.arena);
    return status;
}
