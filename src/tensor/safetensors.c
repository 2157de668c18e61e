#include "tensor/safetensors.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/text.h"

/* The reference implementation refuses longer headers too. */
#define LARGEST_HEADER ((uint64_t)100000000)
#define LENGTH_BYTES 8

typedef struct {
    const char *name;
    sp_tensor tensor;
    size_t begin, end;   /* bytes after the header */
    size_t header_order; /* keeps empty tensors, which share an offset, in the header's order */
} file_entry;

struct sp_tensor_file {
    char *path;
    sp_arena *arena; /* names, metadata, shard tables */
    sp_mapped_file *shards;
    size_t shard_count;
    file_entry *entries;
    size_t count;
    sp_map *by_name;  /* name -> file_entry */
    sp_map *metadata; /* key -> text */
};

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

static sp_status read_offsets(const json_t *value, const char *path, file_entry *entry,
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

static sp_status read_entry(const json_t *value, const char *path, file_entry *entry,
                            size_t data_size)
{
    if (!json_is_object(value))
        return sp_fail(SP_FORMAT, "%s: the header's entry \"%s\" is not an object", path,
                       entry->name);
    const char *dtype_text = json_string_value(json_object_get(value, "dtype"));
    if (!dtype_text)
        return sp_fail(SP_FORMAT, "%s: tensor \"%s\" has no text \"dtype\"", path, entry->name);
    int dtype = sp_dtype_from_name(dtype_text);
    if (dtype < 0 || dtype == SP_PACKED)
        return sp_fail(SP_UNSUPPORTED, "%s: tensor \"%s\" has the unsupported dtype \"%s\"", path,
                       entry->name, dtype_text);
    sp_shape shape;
    SP_TRY(read_shape(json_object_get(value, "shape"), path, entry->name, &shape));
    SP_TRY(read_offsets(json_object_get(value, "data_offsets"), path, entry, data_size));
    uint64_t count = (uint64_t)sp_shape_count(shape), bytes;
    if (__builtin_mul_overflow(count, sp_dtype_size((sp_dtype)dtype), &bytes) ||
        bytes != entry->end - entry->begin)
        return sp_fail(
            SP_FORMAT, "%s: tensor \"%s\": %s of %s does not take the %zu bytes that it is given",
            path, entry->name, sp_shape_text(shape), dtype_text, entry->end - entry->begin);
    entry->tensor = (sp_tensor){.dtype = (sp_dtype)dtype, .shape = shape};
    return SP_OK;
}

/* ---- Reading: one file ---- */

static int compare_entries(const void *a, const void *b)
{
    const file_entry *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    if (x->end != y->end) return x->end < y->end ? -1 : 1;
    return x->header_order < y->header_order ? -1 : x->header_order > y->header_order;
}

/* Every byte of data belongs to exactly one tensor. */
static sp_status check_layout(const char *path, const file_entry *entries, size_t count,
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
        if (sp_map_get(file->metadata, key)) continue; /* the first shard's word counts */
        char *copy = sp_arena_strdup(file->arena, json_string_value(value));
        if (!copy) return SP_MEMORY;
        SP_TRY(sp_map_put(file->metadata, key, copy));
    }
    return SP_OK;
}

/* A header may end anywhere: what then lies across its elements' alignment is copied. */
static sp_status align(sp_tensor_file *file, file_entry *entry)
{
    size_t bytes = entry->end - entry->begin;
    void *data = entry->tensor.data;
    if ((uintptr_t)data % sp_dtype_size(entry->tensor.dtype) == 0) return SP_OK;
    entry->tensor.data = sp_arena_alloc(file->arena, bytes);
    if (!entry->tensor.data) return SP_MEMORY;
    if (bytes) memcpy(entry->tensor.data, data, bytes);
    return SP_OK;
}

static sp_status read_entries(sp_tensor_file *file, const sp_mapped_file *shard, size_t data_start,
                              json_t *header)
{
    size_t tensors = json_object_size(header), data_size = shard->size - data_start;
    size_t first = file->count;
    file_entry *grown =
        sp_realloc(file->entries, first * sizeof *grown, (first + tensors) * sizeof *grown);
    if (!grown) return SP_MEMORY;
    file->entries = grown;
    const char *name;
    json_t *value;
    json_object_foreach(header, name, value)
    {
        if (strcmp(name, "__metadata__") == 0) {
            SP_TRY(read_metadata(file, shard->path, value));
            continue;
        }
        file_entry *entry = &file->entries[file->count];
        *entry =
            (file_entry){.name = sp_arena_strdup(file->arena, name), .header_order = file->count};
        if (!entry->name) return SP_MEMORY;
        SP_TRY(read_entry(value, shard->path, entry, data_size));
        /* The mapping is read-only; `owned` stays false, so nobody writes or frees through this
         * pointer. */
        entry->tensor.data = (void *)(uintptr_t)(shard->data + data_start + entry->begin);
        file->count++;
    }
    size_t added = file->count - first;
    if (added) qsort(file->entries + first, added, sizeof *grown, compare_entries);
    SP_TRY(check_layout(shard->path, file->entries + first, added, data_size));
    for (size_t i = first; i < file->count; i++)
        SP_TRY(align(file, &file->entries[i]));
    return SP_OK;
}

static sp_status read_shard(sp_tensor_file *file, const sp_mapped_file *shard)
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

static sp_status index_names(sp_tensor_file *file)
{
    for (size_t i = 0; i < file->count; i++) {
        if (sp_map_get(file->by_name, file->entries[i].name))
            return sp_fail(SP_FORMAT, "%s: tensor \"%s\" is there twice", file->path,
                           file->entries[i].name);
        SP_TRY(sp_map_put(file->by_name, file->entries[i].name, &file->entries[i]));
    }
    return SP_OK;
}

static sp_status create_file(const char *path, size_t shards, sp_tensor_file **out)
{
    sp_tensor_file *file = sp_alloc_zero(sizeof *file);
    *out = file;
    if (!file) return SP_MEMORY;
    file->path = sp_strdup(path);
    file->arena = sp_arena_create();
    file->by_name = sp_map_create();
    file->metadata = sp_map_create();
    file->shards = sp_alloc_zero(shards * sizeof *file->shards);
    return file->path && file->arena && file->by_name && file->metadata && file->shards ? SP_OK
                                                                                        : SP_MEMORY;
}

static sp_status add_shard(sp_tensor_file *file, const char *path)
{
    sp_mapped_file *shard = &file->shards[file->shard_count];
    SP_TRY(sp_map_file(path, shard));
    file->shard_count++;
    return read_shard(file, shard);
}

sp_status sp_safetensors_open(const char *path, sp_tensor_file **out)
{
    *out = NULL;
    sp_tensor_file *file;
    sp_status status = create_file(path, 1, &file);
    if (status == SP_OK) status = add_shard(file, path);
    if (status == SP_OK) status = index_names(file);
    if (status != SP_OK) {
        sp_tensor_file_close(file);
        return status;
    }
    *out = file;
    return SP_OK;
}

/* ---- Reading: a folder ---- */

/* A shard lies beside its index; anything else could point anywhere on the disk. */
static bool is_plain_name(const char *name)
{
    return *name && !strchr(name, '/') && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

/* Opens, in the index's order, each shard it names once. */
static sp_status open_listed_shards(sp_tensor_file *file, const char *folder,
                                    const char *index_path, json_t *weight_map)
{
    const char *name;
    json_t *value;
    json_object_foreach(weight_map, name, value)
    {
        const char *shard = json_string_value(value);
        if (!shard || !is_plain_name(shard))
            return sp_fail(SP_FORMAT, "%s: \"%s\" is not in a file beside the index", index_path,
                           name);
        char *path = sp_path_join(folder, shard);
        if (!path) return SP_MEMORY;
        bool opened = false;
        for (size_t i = 0; i < file->shard_count && !opened; i++)
            opened = strcmp(file->shards[i].path, path) == 0;
        sp_status status = opened ? SP_OK : add_shard(file, path);
        sp_free(path);
        if (status != SP_OK) return status;
    }
    return SP_OK;
}

static sp_status check_listed_names(const sp_tensor_file *file, json_t *weight_map)
{
    const char *name;
    json_t *value;
    json_object_foreach(weight_map, name, value)
    {
        if (!sp_map_get(file->by_name, name))
            return sp_fail(SP_FORMAT, "%s: tensor \"%s\" should be in %s, but is not", file->path,
                           name, json_string_value(value));
    }
    return SP_OK;
}

/* An index names at most as many shards as it has entries. */
static sp_status open_index(const char *folder, const char *index_path, sp_tensor_file **out)
{
    json_t *index;
    SP_TRY(sp_json_load(index_path, &index));
    json_t *weight_map = json_object_get(index, "weight_map");
    sp_tensor_file *file = NULL;
    sp_status status;
    if (json_is_object(weight_map))
        status = create_file(index_path, json_object_size(weight_map), &file);
    else
        status = sp_fail(SP_FORMAT, "%s: there is no object \"weight_map\"", index_path);
    if (status == SP_OK) status = open_listed_shards(file, folder, index_path, weight_map);
    if (status == SP_OK) status = index_names(file);
    if (status == SP_OK) status = check_listed_names(file, weight_map);
    json_decref(index);
    if (status != SP_OK) {
        sp_tensor_file_close(file);
        return status;
    }
    *out = file;
    return SP_OK;
}

/* base.VARIANT.safetensors or base.safetensors.index.VARIANT.json, where VARIANT has no dot */
static bool is_variant(const char *name, const char *base)
{
    if (!sp_starts_with(name, base)) return false;
    const char *rest = name + strlen(base);
    const char *variant, *tail;
    if (sp_starts_with(rest, ".safetensors.index.")) {
        variant = rest + strlen(".safetensors.index.");
        tail = ".json";
    } else if (*rest == '.') {
        variant = rest + 1;
        tail = ".safetensors";
    } else {
        return false;
    }
    const char *dot = strchr(variant, '.');
    return dot && dot != variant && strcmp(dot, tail) == 0;
}

/* The path of the only variant in the folder. */
static sp_status find_variant(const char *folder, const char *base, char **path)
{
    *path = NULL;
    char **names;
    size_t count, found = 0;
    const char *choice = NULL, *other = NULL;
    SP_TRY(sp_list_folder(folder, &names, &count));
    for (size_t i = 0; i < count; i++) {
        if (!is_variant(names[i], base)) continue;
        other = choice;
        choice = names[i];
        found++;
    }
    sp_status status = SP_OK;
    if (found == 1) {
        *path = sp_path_join(folder, choice);
        if (!*path) status = SP_MEMORY;
    } else if (found == 0) {
        status = sp_fail(SP_IO, "%s: there is no %s.safetensors and no %s.safetensors.index.json",
                         folder, base, base);
    } else {
        status = sp_fail(SP_ARGUMENT,
                         "%s: there is no %s.safetensors, but several variants (%s, %s): keep one",
                         folder, base, other, choice);
    }
    for (size_t i = 0; i < count; i++)
        sp_free(names[i]);
    sp_free(names);
    return status;
}

static sp_status open_either(const char *folder, const char *path, sp_tensor_file **out)
{
    return sp_ends_with(path, ".json") ? open_index(folder, path, out)
                                       : sp_safetensors_open(path, out);
}

sp_status sp_safetensors_open_folder(const char *folder, const char *base, sp_tensor_file **out)
{
    *out = NULL;
    for (int sharded = 0; sharded < 2; sharded++) {
        char *path = sp_format("%s/%s.safetensors%s", folder, base, sharded ? ".index.json" : "");
        if (!path) return SP_MEMORY;
        bool exists = sp_path_exists(path);
        sp_status status = exists ? open_either(folder, path, out) : SP_OK;
        sp_free(path);
        if (exists) return status;
    }
    char *path;
    SP_TRY(find_variant(folder, base, &path));
    sp_status status = open_either(folder, path, out);
    sp_free(path);
    return status;
}

/* ---- Looking ---- */

void sp_tensor_file_close(sp_tensor_file *file)
{
    if (!file) return;
    for (size_t i = 0; i < file->shard_count; i++)
        sp_unmap_file(&file->shards[i]);
    sp_free(file->shards);
    sp_free(file->entries);
    sp_map_destroy(file->by_name);
    sp_map_destroy(file->metadata);
    sp_arena_destroy(file->arena);
    sp_free(file->path);
    sp_free(file);
}

size_t sp_tensor_file_count(const sp_tensor_file *file)
{
    return file->count;
}

const char *sp_tensor_file_name(const sp_tensor_file *file, size_t index)
{
    return file->entries[index].name;
}

const sp_tensor *sp_tensor_file_at(const sp_tensor_file *file, size_t index)
{
    return &file->entries[index].tensor;
}

const sp_tensor *sp_tensor_file_find(const sp_tensor_file *file, const char *name)
{
    const file_entry *entry = sp_map_get(file->by_name, name);
    return entry ? &entry->tensor : NULL;
}

sp_status sp_tensor_file_get(const sp_tensor_file *file, const char *name, const sp_tensor **out)
{
    *out = sp_tensor_file_find(file, name);
    if (!*out) return sp_fail(SP_FORMAT, "%s: there is no tensor \"%s\"", file->path, name);
    return SP_OK;
}

const char *sp_tensor_file_metadata(const sp_tensor_file *file, const char *key)
{
    return sp_map_get(file->metadata, key);
}

const char *sp_tensor_file_path(const sp_tensor_file *file)
{
    return file->path;
}

void sp_tensor_file_drop(const sp_tensor_file *file, const sp_tensor *tensor)
{
    const unsigned char *data = tensor->data;
    for (size_t i = 0; i < file->shard_count; i++) {
        const sp_mapped_file *shard = &file->shards[i];
        if (shard->data && data >= shard->data && data <= shard->data + shard->size)
            sp_mapped_file_drop(shard, (size_t)(data - shard->data), sp_tensor_bytes(tensor));
    }
}

/* ---- Writing ---- */

/* Why Jansson refused: for want of memory since `failures` was read, or because of the words it was
 * given. */
static sp_status refused(const char *path, unsigned long failures, const char *what,
                         const char *words)
{
    if (sp_alloc_failures() != failures)
        return sp_fail(SP_MEMORY, "%s: out of memory while writing the header", path);
    return sp_fail(SP_ARGUMENT, "%s: %s \"%s\" is not UTF-8", path, what, words);
}

static sp_status header_entry(json_t *header, const char *path, const sp_named_tensor *named,
                              uint64_t *offset)
{
    const sp_tensor *tensor = named->tensor;
    if (strcmp(named->name, "__metadata__") == 0)
        return sp_fail(SP_ARGUMENT, "%s: no tensor can have the name \"__metadata__\"", path);
    if (json_object_get(header, named->name))
        return sp_fail(SP_ARGUMENT, "%s: two tensors have the name \"%s\"", path, named->name);
    if (tensor->dtype == SP_PACKED)
        return sp_fail(SP_ARGUMENT,
                       "%s: tensor \"%s\" is in a backend's own layout, which no file has", path,
                       named->name);
    unsigned long failures = sp_alloc_failures();
    uint64_t end = *offset + sp_tensor_bytes(tensor);
    json_t *entry = json_pack("{s:s,s:[],s:[I,I]}", "dtype", sp_dtype_name(tensor->dtype), "shape",
                              "data_offsets", (json_int_t)*offset, (json_int_t)end);
    json_t *shape = json_object_get(entry, "shape");
    int failed = !shape;
    for (int i = 0; i < tensor->shape.rank && !failed; i++)
        failed = json_array_append_new(shape, json_integer(tensor->shape.dim[i]));
    if (failed)
        json_decref(entry);
    else
        failed = json_object_set_new(header, named->name,
                                     entry); /* takes the entry, whatever it returns */
    if (failed) return refused(path, failures, "the tensor name", named->name);
    *offset = end;
    return SP_OK;
}

static sp_status header_metadata(json_t *header, const char *path, const char *const (*metadata)[2],
                                 size_t count)
{
    if (count == 0) return SP_OK;
    unsigned long failures = sp_alloc_failures();
    json_t *object = json_object();
    if (json_object_set_new(header, "__metadata__", object))
        return refused(path, failures, "the text", "");
    for (size_t i = 0; i < count; i++) {
        if (json_object_set_new(object, metadata[i][0], json_string(metadata[i][1])))
            return refused(path, failures, "the metadata entry", metadata[i][0]);
    }
    return SP_OK;
}

static int append_piece(const char *buffer, size_t size, void *text)
{
    sp_string_append(text, buffer, size);
    return ((sp_string *)text)->failed ? -1 : 0;
}

/* The header's text, with spaces after it so that the data begin at a multiple of 64 bytes in the
 * file. */
static sp_status header_text(const char *path, const sp_named_tensor *tensors, size_t count,
                             const char *const (*metadata)[2], size_t metadata_count,
                             sp_string *out)
{
    json_t *header = json_object();
    if (!header) return SP_MEMORY;
    uint64_t offset = 0;
    sp_status status = header_metadata(header, path, metadata, metadata_count);
    for (size_t i = 0; i < count && status == SP_OK; i++)
        status = header_entry(header, path, &tensors[i], &offset);
    if (status == SP_OK) {
        int failed = json_dump_callback(header, append_piece, out, JSON_COMPACT);
        while (!failed && !out->failed && (LENGTH_BYTES + out->length) % SP_ALIGNMENT)
            sp_string_append(out, " ", 1);
        if (failed || out->failed)
            status = sp_fail(SP_MEMORY, "%s: out of memory while writing the header", path);
    }
    json_decref(header);
    return status;
}

static bool write_all(FILE *stream, const sp_string *header, const sp_named_tensor *tensors,
                      size_t count)
{
    unsigned char length[LENGTH_BYTES];
    for (int i = 0; i < LENGTH_BYTES; i++)
        length[i] = (unsigned char)((uint64_t)header->length >> 8 * i);
    if (fwrite(length, 1, sizeof length, stream) != sizeof length) return false;
    if (fwrite(header->data, 1, header->length, stream) != header->length) return false;
    for (size_t i = 0; i < count; i++) {
        size_t bytes = sp_tensor_bytes(tensors[i].tensor);
        if (bytes && fwrite(tensors[i].tensor->data, 1, bytes, stream) != bytes) return false;
    }
    return true;
}

sp_status sp_safetensors_save(const char *path, const sp_named_tensor *tensors, size_t count,
                              const char *const (*metadata)[2], size_t metadata_count)
{
    sp_string header = {0};
    sp_status status = header_text(path, tensors, count, metadata, metadata_count, &header);
    sp_atomic_file file;
    if (status == SP_OK) status = sp_atomic_open(path, &file);
    if (status == SP_OK) {
        /* What goes wrong here stays set on the stream, and commit reports it. */
        write_all(file.stream, &header, tensors, count);
        status = sp_atomic_commit(&file);
    }
    sp_string_free(&header);
    return status;
}
