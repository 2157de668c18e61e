/* Reading GGUF, versions 2 and 3, as ggml's programs write it: one mapped file. Little-endian numbers without padding:
 *   "GGUF", u32 version, u64 tensors, u64 entries
 *   entries: text key, u32 type, value; of an array u32 type, u64 count, values. A text is u64 bytes and these
 *   tensors: text name, u32 rank, u64 dimensions, innermost first, u32 type, u64 offset
 *   data: from the next multiple of the entry "general.alignment", or of 32, on; a tensor's at its offset
 * https://github.com/ggml-org/ggml/blob/master/docs/gguf.md */
#include <string.h>

#include "base/text.h"
#include "formats/tensor_file_parts.h"

enum { USUAL_ALIGNMENT = 32, LONGEST_NAME = 4096, LONGEST_WORD = 4096, MOST_TENSORS = 1 << 20, MOST_ENTRIES = 1 << 20 };
static const char magic[4] = {'G', 'G', 'U', 'F'};

typedef struct {
    sp_tensor_file *file;
    const sp_mapped_file *shard;
    size_t at;
    size_t alignment;
    sp_dictionary *shapes; /* tensor -> sp_shape, of tensors that are laid out as another */
} reader;

bool sp_gguf_is(const sp_mapped_file *shard)
{
    return shard->size >= sizeof magic && memcmp(shard->data, magic, sizeof magic) == 0;
}

/* ---- numbers and texts ---- */

static sp_status fail_short(const reader *r, const char *what)
{
    return sp_fail(SP_FORMAT, "%s: ends in %s, at byte %zu of %zu (is it truncated?)", r->shard->path, what, r->at,
                   r->shard->size);
}

/* `to` is cleared where there is too little. */
static sp_status take(reader *r, void *to, size_t bytes, const char *what)
{
    bool there = bytes <= r->shard->size - r->at;
    if (to && there) memcpy(to, r->shard->data + r->at, bytes);
    if (to && !there) memset(to, 0, bytes);
    if (!there) return fail_short(r, what);
    r->at += bytes;
    return SP_OK;
}

/* A new text of the file's arena; NUL within is refused. */
static sp_status take_text(reader *r, size_t longest, const char *what, char **out)
{
    uint64_t length;
    SP_TRY(take(r, &length, sizeof length, what));
    if (length > r->shard->size - r->at) return fail_short(r, what);
    const char *text = (const char *)r->shard->data + r->at;
    if (length > longest || memchr(text, 0, (size_t)length))
        return sp_fail(SP_FORMAT, "%s: %s has %llu bytes%s, at most %zu are read", r->shard->path, what,
                       (unsigned long long)length, length > longest ? "" : " with a NUL among them", longest);
    *out = sp_arena_alloc(r->file->arena, (size_t)length + 1);
    if (!*out) return SP_MEMORY;
    memcpy(*out, text, (size_t)length);
    (*out)[length] = 0;
    r->at += (size_t)length;
    return SP_OK;
}

/* ---- entries ---- */

enum { TYPE_U32 = 4, TYPE_I32 = 5, TYPE_TEXT = 8, TYPE_ARRAY = 9 };
/* Bytes of a value by its type; 0: a text or an array. */
static const size_t value_bytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
enum { TYPES = sizeof value_bytes / sizeof *value_bytes };

static sp_status fail_type(const reader *r, const char *key, uint32_t type)
{
    return sp_fail(SP_FORMAT, "%s: the entry \"%s\" is of the unknown type %u", r->shard->path, key, type);
}

/* Over a text, whatever its length. */
static sp_status skip_text(reader *r)
{
    uint64_t length;
    SP_TRY(take(r, &length, sizeof length, "an entry"));
    return length > r->shard->size - r->at ? fail_short(r, "an entry") : take(r, NULL, (size_t)length, "an entry");
}

/* ComfyUI-GGUF lays tensors whose rows are no whole blocks out in rows of 256, and says what they were, outermost
 * dimension first: entries "comfy.gguf.orig_shape.NAME", arrays of i32. */
static const char laid_out[] = "comfy.gguf.orig_shape.";

static sp_status read_laid_out(reader *r, const char *name, uint64_t count)
{
    sp_shape *shape = sp_arena_alloc(r->file->arena, sizeof *shape);
    if (!shape) return SP_MEMORY;
    if (count > SP_MAX_RANK)
        return sp_fail(SP_FORMAT, "%s: the shape of tensor \"%s\" has %llu dimensions, at most %d are possible",
                       r->shard->path, name, (unsigned long long)count, SP_MAX_RANK);
    *shape = (sp_shape){.rank = (int)count};
    for (int i = 0; i < shape->rank; i++) {
        int32_t dim;
        SP_TRY(take(r, &dim, sizeof dim, "an entry"));
        shape->dim[i] = dim;
    }
    return sp_dictionary_put(r->shapes, name, shape);
}

static sp_status read_array(reader *r, const char *key)
{
    uint32_t type;
    uint64_t count;
    SP_TRY(take(r, &type, sizeof type, "an entry"));
    SP_TRY(take(r, &count, sizeof count, "an entry"));
    if (sp_starts_with(key, laid_out) && type == TYPE_I32)
        return read_laid_out(r, key + sizeof laid_out - 1, count);
    if (type >= TYPES || type == TYPE_ARRAY) return fail_type(r, key, type);
    size_t least = type == TYPE_TEXT ? sizeof count : value_bytes[type];
    if (count > (r->shard->size - r->at) / least) return fail_short(r, "an entry");
    if (type != TYPE_TEXT) return take(r, NULL, (size_t)count * value_bytes[type], "an entry");
    for (uint64_t i = 0; i < count; i++)
        SP_TRY(skip_text(r));
    return SP_OK;
}

/* Texts are the file's metadata; of the rest only the alignment and shapes say something about tensors. */
static sp_status read_entry(reader *r)
{
    char *key, *text;
    uint32_t type;
    SP_TRY(take_text(r, LONGEST_NAME, "the key of an entry", &key));
    SP_TRY(take(r, &type, sizeof type, "an entry"));
    if (type >= TYPES) return fail_type(r, key, type);
    if (type == TYPE_ARRAY) return read_array(r, key);
    if (strcmp(key, "general.alignment") == 0) {
        uint32_t alignment = 0;
        if (type == TYPE_U32) SP_TRY(take(r, &alignment, sizeof alignment, "an entry"));
        if (!alignment || alignment % 8)
            return sp_fail(SP_FORMAT, "%s: \"general.alignment\" must be a u32 and a multiple of 8", r->shard->path);
        r->alignment = alignment;
        return SP_OK;
    }
    if (type != TYPE_TEXT) return take(r, NULL, value_bytes[type], "an entry");
    uint64_t length = 0;
    if (r->shard->size - r->at >= sizeof length) memcpy(&length, r->shard->data + r->at, sizeof length);
    if (length > LONGEST_WORD || sp_dictionary_get(r->file->metadata, key)) return skip_text(r);
    SP_TRY(take_text(r, LONGEST_WORD, "an entry", &text));
    return sp_dictionary_put(r->file->metadata, key, text);
}

/* ---- tensors ---- */

/* ggml's types, by number. */
static const struct {
    const char *name;
    int dtype; /* -1: there is none */
} tensor_types[] = {
    {"F32", SP_F32},   {"F16", SP_F16},   {"Q4_0", SP_Q4_0}, {"Q4_1", SP_Q4_1}, {"Q4_2", -1},      {"Q4_3", -1},
    {"Q5_0", SP_Q5_0}, {"Q5_1", SP_Q5_1}, {"Q8_0", SP_Q8_0}, {"Q8_1", -1},      {"Q2_K", -1},      {"Q3_K", -1},
    {"Q4_K", SP_Q4_K}, {"Q5_K", SP_Q5_K}, {"Q6_K", SP_Q6_K}, {"Q8_K", -1},      {"IQ2_XXS", -1},   {"IQ2_XS", -1},
    {"IQ3_XXS", -1},   {"IQ1_S", -1},     {"IQ4_NL", -1},    {"IQ3_S", -1},     {"IQ2_S", -1},     {"IQ4_XS", -1},
    {"I8", -1},        {"I16", -1},       {"I32", SP_I32},   {"I64", SP_I64},   {"F64", SP_F64},   {"IQ1_M", -1},
    {"BF16", SP_BF16},
};

static sp_status read_type(reader *r, const char *name, sp_dtype *out)
{
    uint32_t type;
    SP_TRY(take(r, &type, sizeof type, "the list of tensors"));
    bool known = type < sizeof tensor_types / sizeof *tensor_types;
    if (!known || tensor_types[type].dtype < 0)
        return sp_fail(SP_UNSUPPORTED,
                       "%s: tensor \"%s\" is of ggml's type %s (%u); F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, "
                       "Q4_K, Q5_K and Q6_K are read", r->shard->path, name,
                       known ? tensor_types[type].name : "that is unknown", type);
    *out = (sp_dtype)tensor_types[type].dtype;
    return SP_OK;
}

/* Outermost first. ggml leaves out outer dimensions of 1, of which a name says that there was one. */
static sp_status read_shape(reader *r, const char *name, sp_shape *out)
{
    uint32_t rank;
    uint64_t dim;
    SP_TRY(take(r, &rank, sizeof rank, "the list of tensors"));
    if (rank > 4)
        return sp_fail(SP_FORMAT, "%s: tensor \"%s\" has %u dimensions, at most 4 are possible", r->shard->path,
                       name, rank);
    *out = (sp_shape){.rank = (int)rank};
    for (int i = (int)rank - 1; i >= 0; i--) {
        SP_TRY(take(r, &dim, sizeof dim, "the list of tensors"));
        out->dim[i] = dim > INT64_MAX ? -1 : (int64_t)dim;
    }
    if (sp_shape_count(*out) < 0)
        return sp_fail(SP_FORMAT, "%s: tensor \"%s\": its shape is too large", r->shard->path, name);
    if (rank == 2 && sp_ends_with(name, "pos_embed")) *out = sp_shape_of(1, out->dim[0], out->dim[1]);
    return SP_OK;
}

/* The shape that the tensor had before it was laid out in rows of another length. */
static sp_status take_shape(const reader *r, sp_file_entry *entry)
{
    const sp_shape *shape = sp_dictionary_get(r->shapes, entry->name);
    if (!shape) return SP_OK;
    if (sp_shape_count(*shape) != sp_tensor_count(&entry->tensor))
        return sp_fail(SP_FORMAT, "%s: tensor \"%s\" is laid out as %s, and is said to have the shape %s",
                       r->shard->path, entry->name, sp_shape_text(entry->tensor.shape), sp_shape_text(*shape));
    entry->tensor.shape = *shape;
    return SP_OK;
}

static sp_status read_tensor(reader *r)
{
    sp_file_entry *entry = &r->file->entries[r->file->count];
    char *name;
    uint64_t offset;
    *entry = (sp_file_entry){0};
    SP_TRY(take_text(r, LONGEST_NAME, "the name of a tensor", &name));
    entry->name = name;
    SP_TRY(read_shape(r, name, &entry->tensor.shape));
    SP_TRY(read_type(r, name, &entry->tensor.dtype));
    SP_TRY(take(r, &offset, sizeof offset, "the list of tensors"));
    const sp_shape *shape = &entry->tensor.shape;
    int64_t block = sp_dtype_block(entry->tensor.dtype), row = shape->rank ? shape->dim[shape->rank - 1] : 1;
    if (row % block)
        return sp_fail(SP_FORMAT, "%s: tensor \"%s\" is of %s, whose rows are blocks of %lld, and has the shape %s",
                       r->shard->path, name, sp_dtype_name(entry->tensor.dtype), (long long)block,
                       sp_shape_text(*shape));
    if (offset % r->alignment)
        return sp_fail(SP_FORMAT, "%s: tensor \"%s\" begins at %llu, which is no multiple of %zu", r->shard->path,
                       name, (unsigned long long)offset, r->alignment);
    entry->begin = offset;
    r->file->count++;
    return take_shape(r, entry);
}

/* Where the data of entries from `first` on lie, now that it is known where the list ends. */
static sp_status place_tensors(const reader *r, size_t first)
{
    size_t past = r->at % r->alignment, start = r->at + (past ? r->alignment - past : 0);
    size_t data = start < r->shard->size ? r->shard->size - start : 0;
    for (size_t i = first; i < r->file->count; i++) {
        sp_file_entry *entry = &r->file->entries[i];
        size_t bytes = sp_tensor_bytes(&entry->tensor);
        if (entry->begin > data || bytes > data - entry->begin)
            return sp_fail(SP_FORMAT,
                           "%s: tensor \"%s\" lies at bytes %zu to %zu, but the file holds %zu bytes of data (is it "
                           "truncated?)", r->shard->path, entry->name, entry->begin,
                           entry->begin + bytes, data);
        entry->end = entry->begin + bytes;
        entry->tensor.data = (void *)(uintptr_t)(r->shard->data + start + entry->begin);
        SP_TRY(sp_tensor_file_align(r->file, &entry->tensor));
    }
    return SP_OK;
}

static sp_status read_file(reader *r)
{
    uint32_t version;
    uint64_t tensors, entries;
    const sp_mapped_file *shard = r->shard;
    const size_t first = r->file->count;
    SP_TRY(take(r, &version, sizeof version, "the header"));
    SP_TRY(take(r, &tensors, sizeof tensors, "the header"));
    SP_TRY(take(r, &entries, sizeof entries, "the header"));
    if (version != 2 && version != 3)
        return sp_fail(SP_UNSUPPORTED, "%s: is GGUF of version %u, and 2 and 3 are read", shard->path, version);
    if (tensors > MOST_TENSORS || entries > MOST_ENTRIES)
        return sp_fail(SP_FORMAT, "%s: says to have %llu tensors and %llu entries, at most %d of each are read",
                       shard->path, (unsigned long long)tensors, (unsigned long long)entries, MOST_TENSORS);
    for (uint64_t i = 0; i < entries; i++)
        SP_TRY(read_entry(r));
    const size_t least = 8 + 4 + 4 + 8; /* bytes of a tensor in the list */
    if (tensors > (shard->size - r->at) / least) return fail_short(r, "the list of tensors");
    SP_TRY(sp_tensor_file_reserve(r->file, (size_t)tensors));
    for (uint64_t i = 0; i < tensors; i++)
        SP_TRY(read_tensor(r));
    return place_tensors(r, first);
}

sp_status sp_gguf_read(sp_tensor_file *file, const sp_mapped_file *shard)
{
    reader r = {file, shard, sizeof magic, USUAL_ALIGNMENT, sp_dictionary_create()};
    sp_status status = r.shapes ? read_file(&r) : SP_MEMORY;
    sp_dictionary_destroy(r.shapes);
    return status;
}
