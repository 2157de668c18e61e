/* Reading safetensors: one mapped file. */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/memory.h"
#include "formats/tensor_file_parts.h"

/* The reference implementation refuses longer headers too. */
#define LARGEST_HEADER ((uint64_t)100000000)
#define LENGTH_BYTES 8

/* ---- Reading: one entry of a header ---- */

static sp_status read_shape(const json_t *value, const char *path, const char *name,
                            sp_shape *shape)
{
    *shape = (sp_shape){0};
    if (!json_is_array(value))
        return sp_fail(SP_FORMAT, "%s: tensor \"%s\" has no list \"shape\"", path, name);
    size_t rank = json_array_size(value);
    if (rank > SP_MAX_RANK)
        return sp_fail(SP_UNSUPPORTED,
                       "%s: tensor \"%s\" has %zu dimensions, at most %d are supported", path, name,
                       rank, SP_MAX_RANK);
    shape->rank = (int)rank;
    for (size_t i = 0; i < rank; i++) {
        const json_t *dim = json_array_get(value, i);
        if (!json_is_integer(dim) || json_integer_value(dim) < 0)
            return sp_fail(SP_FORMAT, "%s: tensor \"%s\": dimension %zu is not a natural number",
                           path, name, i);
        shape->dim[i] = json_integer_value(dim);
    }
    if (sp_shape_count(*shape) < 0)
        return sp_fail(SP_FORMAT, "%s: tensor \"%s\": the shape %s is too large", path, name,
                       sp_shape_text(*shape));
    return SP_OK;
}

static sp_status read_offsets(const json_t *value, const char *path, sp_file_entry *entry,
                              size_t data_size)
{
    const json_t *begin = json_array_get(value, 0), *end = json_array_get(value, 1);
    if (json_array_size(value) != 2 || !json_is_integer(begin) || !json_is_integer(end))
        return sp_fail(SP_FORMAT, "%s: tensor \"%s\": \"data_offsets\" must be two integers", path,
                       entry->name);
    json_int_t from = json_integer_value(begin), to = json_integer_value(end);
    if (from < 0 || to < from || (uint64_t)to > data_size)
        return sp_fail(
            SP_FORMAT,
            "%s: tensor \"%s\" lies at bytes %lld to %lld, but the file holds %zu bytes of data "
            "(is it truncated?)",
            path, entry->name, (long long)from, (long long)to, data_size);
    entry->begin = (size_t)from;
    entry->end = (size_t)to;
    return SP_OK;
}

static sp_status read_entry(const json_t *value, const char *path, sp_file_entry *entry,
                            size_t data_size)
{
    if (!json_is_object(value))
        return sp_fail(SP_FORMAT, "%s: the header's entry \"%s\" is not an object", path,
                       entry->name);
    const char *dtype_text = json_string_value(json_object_get(value, "dtype"));
    if (!dtype_text)
        return sp_fail(SP_FORMAT, "%s: tensor \"%s\" has no text \"dtype\"", path, entry->name);
    int dtype = sp_dtype_from_name(dtype_text);
    if (dtype < 0)
        return sp_fail(SP_UNSUPPORTED, "%s: tensor \"%s\" has the unsupported dtype \"%s\"", path,
                       entry->name, dtype_text);
    sp_shape shape;
    SP_TRY(read_shape(json_object_get(value, "shape"), path, entry->name, &shape));
    SP_TRY(read_offsets(json_object_get(value, "data_offsets"), path, entry, data_size));
    if (sp_dtype_bytes((sp_dtype)dtype, sp_shape_count(shape)) != entry->end - entry->begin)
        return sp_fail(
            SP_FORMAT, "%s: tensor \"%s\": %s of %s does not take the %zu bytes that it is given",
            path, entry->name, sp_shape_text(shape), dtype_text, entry->end - entry->begin);
    entry->tensor = (sp_tensor){.dtype = (sp_dtype)dtype, .shape = shape};
    return SP_OK;
}

/* ---- Reading: one file ---- */

static int compare_entries(const void *a, const void *b)
{
    const sp_file_entry *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    if (x->end != y->end) return x->end < y->end ? -1 : 1;
    return x->header_order < y->header_order ? -1 : x->header_order > y->header_order;
}

/* Every byte of data belongs to exactly one tensor. */
static sp_status check_layout(const char *path, const sp_file_entry *entries, size_t count,
                              size_t data_size)
{
    size_t end = 0;
    for (size_t i = 0; i < count; i++) {
        if (entries[i].begin != end)
            return sp_fail(SP_FORMAT,
                           "%s: tensor \"%s\" begins at byte %zu, expected %zu: tensors %s", path,
                           entries[i].name, entries[i].begin, end,
                           entries[i].begin < end ? "overlap" : "leave a gap");
        end = entries[i].end;
    }
    if (end != data_size)
        return sp_fail(SP_FORMAT,
                       "%s: the tensors end at byte %zu, but the file holds %zu bytes of data",
                       path, end, data_size);
    return SP_OK;
}

static sp_status read_metadata(sp_tensor_file *file, const char *path, const json_t *metadata)
{
    if (!json_is_object(metadata))
        return sp_fail(SP_FORMAT, "%s: \"__metadata__\" is not an object", path);
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)metadata, key, value)
    {
        if (!json_is_string(value))
            return sp_fail(SP_FORMAT, "%s: the metadata entry \"%s\" is not a text", path, key);
        if (sp_dictionary_get(file->metadata, key)) continue; /* the first shard's word counts */
        char *copy = sp_arena_strdup(file->arena, json_string_value(value));
        if (!copy) return SP_MEMORY;
        SP_TRY(sp_dictionary_put(file->metadata, key, copy));
    }
    return SP_OK;
}

static sp_status read_entries(sp_tensor_file *file, const sp_mapped_file *shard, size_t data_start,
                              json_t *header)
{
    size_t tensors = json_object_size(header), data_size = shard->size - data_start;
    size_t first = file->count;
    SP_TRY(sp_tensor_file_reserve(file, tensors));
    const char *name;
    json_t *value;
    json_object_foreach(header, name, value)
    {
        if (strcmp(name, "__metadata__") == 0) {
            SP_TRY(read_metadata(file, shard->path, value));
            continue;
        }
        sp_file_entry *entry = &file->entries[file->count];
        *entry = (sp_file_entry){.name = sp_arena_strdup(file->arena, name),
                                 .header_order = file->count};
        if (!entry->name) return SP_MEMORY;
        SP_TRY(read_entry(value, shard->path, entry, data_size));
        /* The mapping is read-only; `owned` stays false, so nobody writes or frees through this
         * pointer. */
        entry->tensor.data = (void *)(uintptr_t)(shard->data + data_start + entry->begin);
        file->count++;
    }
    size_t added = file->count - first;
    if (added) qsort(file->entries + first, added, sizeof *file->entries, compare_entries);
    SP_TRY(check_layout(shard->path, file->entries + first, added, data_size));
    for (size_t i = first; i < file->count; i++)
        SP_TRY(sp_tensor_file_align(file, &file->entries[i].tensor));
    return SP_OK;
}

/* Jansson takes hundreds of bytes for an empty object. A header of real files has some thousand tensors, each with
 * three brackets and half a dozen commas; those in texts count too, it is only a bound. */
static sp_status check_pieces(const char *path, const char *header, size_t length)
{
    enum { MOST_BRACKETS = 1 << 20, MOST_COMMAS = 1 << 22 };
    size_t brackets = 0, commas = 0;
    for (size_t i = 0; i < length; i++) {
        brackets += header[i] == '{' || header[i] == '[';
        commas += header[i] == ',';
    }
    if (brackets <= MOST_BRACKETS && commas <= MOST_COMMAS) return SP_OK;
    return sp_fail(SP_UNSUPPORTED, "%s: the header has %zu brackets and %zu commas, at most %d and %d are read", path,
                   brackets, commas, MOST_BRACKETS, MOST_COMMAS);
}

sp_status sp_safetensors_read(sp_tensor_file *file, const sp_mapped_file *shard)
{
    if (shard->size < LENGTH_BYTES)
        return sp_fail(SP_FORMAT, "%s: %zu bytes are too few for a safetensors file", shard->path,
                       shard->size);
    uint64_t length = 0;
    for (int i = LENGTH_BYTES - 1; i >= 0; i--)
        length = length << 8 | shard->data[i];
    size_t rest = shard->size - LENGTH_BYTES;
    if (length > LARGEST_HEADER || length > rest)
        return sp_fail(SP_FORMAT, "%s: the header should be %llu bytes long, but %zu bytes follow",
                       shard->path, (unsigned long long)length, rest);
    SP_TRY(check_pieces(shard->path, (const char *)shard->data + LENGTH_BYTES, (size_t)length));
    json_t *header;
    SP_TRY(sp_json_parse((const char *)shard->data + LENGTH_BYTES, (size_t)length, shard->path,
                         &header));
    sp_status status;
    if (json_is_object(header))
        status = read_entries(file, shard, LENGTH_BYTES + (size_t)length, header);
    else
        status = sp_fail(SP_FORMAT, "%s: the header is not a JSON object", shard->path);
    json_decref(header);
    return status;
}
