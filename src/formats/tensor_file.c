/* Sets of named tensors: opening one file or a folder's shards, and looking into them. */
#include <string.h>
#include <xxhash.h>

#include "base/json.h"
#include "formats/magic.h"
#include "formats/safetensors.h"
#include "formats/tensor_file_parts.h"

/* ---- One file ---- */

sp_status sp_tensor_file_reserve(sp_tensor_file *file, size_t count)
{
    size_t size = sizeof *file->entries, wanted = file->count + count;
    if (file->entries && wanted <= file->capacity) return SP_OK;
    if (wanted < 2 * file->capacity) wanted = 2 * file->capacity;
    sp_file_entry *grown = sp_realloc(file->entries, file->count * size, wanted * size);
    if (!grown) return SP_MEMORY;
    file->entries = grown;
    file->capacity = wanted;
    return SP_OK;
}

sp_status sp_tensor_file_align(sp_tensor_file *file, sp_tensor *tensor)
{
    size_t bytes = sp_tensor_bytes(tensor);
    void *data = tensor->data;
    if (sp_dtype_is_quantised(tensor->dtype)) return SP_OK; /* read byte by byte */
    if ((uintptr_t)data % sp_dtype_size(tensor->dtype) == 0) return SP_OK;
    tensor->data = sp_arena_alloc(file->arena, bytes);
    if (!tensor->data) return SP_MEMORY;
    if (bytes) memcpy(tensor->data, data, bytes);
    return SP_OK;
}

static sp_status index_names(sp_tensor_file *file)
{
    for (size_t i = 0; i < file->count; i++) {
        if (sp_dictionary_get(file->by_name, file->entries[i].name))
            return sp_fail(SP_FORMAT, "%s: tensor \"%s\" is there twice", file->path,
                           file->entries[i].name);
        SP_TRY(sp_dictionary_put(file->by_name, file->entries[i].name, &file->entries[i]));
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
    file->by_name = sp_dictionary_create();
    file->metadata = sp_dictionary_create();
    file->shards = sp_alloc_zero(shards * sizeof *file->shards);
    return file->path && file->arena && file->by_name && file->metadata && file->shards ? SP_OK
                                                                                        : SP_MEMORY;
}

typedef sp_status read_function(sp_tensor_file *file, const sp_mapped_file *shard);

static sp_status read_any(sp_tensor_file *file, const sp_mapped_file *shard)
{
    const char *format = "safetensors";
    read_function *read = sp_safetensors_read;
    if (sp_torch_is_zip(shard) || sp_torch_is_legacy(shard)) {
        format = sp_torch_is_zip(shard) ? "PyTorch archive" : "PyTorch checkpoint of old form";
        read = sp_torch_read;
    } else if (sp_gguf_is(shard)) {
        format = "GGUF";
        read = sp_gguf_read;
    } else {
        /* The first eight bytes of safetensors are a length, and no text or magic number is so short a one. */
        const char *known = sp_magic_text(shard->data, shard->size);
        bool header = shard->size > 8 && shard->data[8] == '{'; /* where its header begins */
        if (known || !header)
            return sp_fail(SP_FORMAT, "%s: is %s%sneither a safetensors file nor GGUF nor what torch.save writes",
                           shard->path, known ? known : "", known ? ", " : "");
    }
    if (!file->format) file->format = format;
    return read(file, shard);
}

static sp_status read_safetensors(sp_tensor_file *file, const sp_mapped_file *shard)
{
    file->format = "safetensors";
    return sp_safetensors_read(file, shard);
}

static sp_status add_shard(sp_tensor_file *file, const char *path, read_function *read)
{
    sp_mapped_file *shard = &file->shards[file->shard_count];
    SP_TRY(sp_mapped_file_open(path, shard));
    file->shard_count++;
    sp_status status = read(file, shard), whole = sp_mapped_file_check(shard);
    return whole ? whole : status; /* zeros may have looked like a malformed file */
}

static sp_status open_one(const char *path, read_function *read, sp_tensor_file **out)
{
    *out = NULL;
    sp_tensor_file *file;
    sp_status status = create_file(path, 1, &file);
    if (status == SP_OK) status = add_shard(file, path, read);
    if (status == SP_OK) status = index_names(file);
    if (status != SP_OK) {
        sp_tensor_file_close(file);
        return status;
    }
    *out = file;
    return SP_OK;
}

sp_status sp_tensor_file_open(const char *path, sp_tensor_file **out)
{
    return open_one(path, read_any, out);
}

sp_status sp_safetensors_open(const char *path, sp_tensor_file **out)
{
    return open_one(path, read_safetensors, out);
}

/* ---- A folder ---- */

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
        sp_status status = opened ? SP_OK : add_shard(file, path, read_any);
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
        if (!sp_dictionary_get(file->by_name, name))
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

/* "weights.fp16.safetensors" and "weights.safetensors.index.fp16.json" are variants of base
 * "weights" and extension "safetensors"; a variant's name has no dot. */
static bool is_variant(const char *name, const char *base, const char *extension)
{
    if (!sp_starts_with(name, base)) return false;
    const char *rest = name + strlen(base);
    if (*rest++ != '.') return false;
    size_t length = strlen(extension);
    bool is_index =
        strncmp(rest, extension, length) == 0 && sp_starts_with(rest + length, ".index.");
    const char *variant = is_index ? rest + length + strlen(".index.") : rest;
    const char *dot = strchr(variant, '.');
    return dot && dot != variant && strcmp(dot + 1, is_index ? "json" : extension) == 0;
}

/* The path of the only variant in the folder; NULL if there is none. */
static sp_status find_variant(const char *folder, const char *base, const char *extension,
                              char **path)
{
    *path = NULL;
    char **names;
    size_t count, found = 0;
    const char *choice = NULL, *other = NULL;
    SP_TRY(sp_list_folder(folder, &names, &count));
    for (size_t i = 0; i < count; i++) {
        if (!is_variant(names[i], base, extension)) continue;
        other = choice;
        choice = names[i];
        found++;
    }
    sp_status status = SP_OK;
    if (found == 1) {
        *path = sp_path_join(folder, choice);
        if (!*path) status = SP_MEMORY;
    } else if (found > 1) {
        status =
            sp_fail(SP_ARGUMENT, "%s: there is no %s.%s, but several variants (%s, %s): keep one",
                    folder, base, extension, other, choice);
    }
    for (size_t i = 0; i < count; i++)
        sp_free(names[i]);
    sp_free(names);
    return status;
}

/* The path of the weights under that base and extension: whole, in shards, or the only variant;
 * NULL if there are none. */
static sp_status find_weights(const char *folder, const char *base, const char *extension,
                              char **path)
{
    for (int sharded = 0; sharded < 2; sharded++) {
        *path = sp_format("%s/%s.%s%s", folder, base, extension, sharded ? ".index.json" : "");
        if (!*path) return SP_MEMORY;
        if (sp_path_exists(*path)) return SP_OK;
        sp_free(*path);
    }
    return find_variant(folder, base, extension, path);
}

sp_status sp_tensor_file_open_folder(const char *folder, const char *base, const char *torch_base,
                                     sp_tensor_file **out)
{
    *out = NULL;
    char *path = NULL;
    SP_TRY(find_weights(folder, base, "safetensors", &path));
    if (!path && torch_base) SP_TRY(find_weights(folder, torch_base, "bin", &path));
    if (!path)
        return sp_fail(SP_IO, "%s: there is no %s.safetensors and no %s.safetensors.index.json",
                       folder, base, base);
    sp_status status = sp_ends_with(path, ".json") ? open_index(folder, path, out)
                                                   : sp_tensor_file_open(path, out);
    sp_free(path);
    return status;
}

/* ---- Looking ---- */

void sp_tensor_file_close(sp_tensor_file *file)
{
    if (!file) return;
    for (size_t i = 0; i < file->shard_count; i++)
        sp_mapped_file_close(&file->shards[i]);
    sp_free(file->shards);
    sp_free(file->entries);
    sp_dictionary_destroy(file->by_name);
    sp_dictionary_destroy(file->metadata);
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
    const sp_file_entry *entry = sp_dictionary_get(file->by_name, name);
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
    return sp_dictionary_get(file->metadata, key);
}

const char *sp_tensor_file_path(const sp_tensor_file *file)
{
    return file->path;
}

const char *sp_tensor_file_format(const sp_tensor_file *file)
{
    return file->format;
}

sp_status sp_tensor_file_check(const sp_tensor_file *file)
{
    for (size_t i = 0; i < file->shard_count; i++)
        SP_TRY(sp_mapped_file_check(&file->shards[i]));
    return SP_OK;
}

/* ---- which file it is ---- */

uint64_t sp_tensor_file_hash(const sp_tensor_file *file)
{
    uint64_t hash = SP_HASH_START;
    for (size_t i = 0; i < file->count; i++)
        hash = sp_tensor_hash(hash, file->entries[i].name, &file->entries[i].tensor);
    return hash;
}

char *sp_tensor_file_stamp(const sp_tensor_file *file)
{
    sp_string text = {0};
    for (size_t i = 0; i < file->shard_count; i++)
        sp_string_append_format(&text, "%s%zu@%lld", i ? " " : "", file->shards[i].size,
                                (long long)file->shards[i].modified);
    if (text.failed) sp_string_free(&text);
    return text.data;
}

sp_status sp_tensor_file_sum(const sp_tensor_file *file, const sp_callbacks *callbacks, uint64_t *out)
{
    enum { PIECE = 16 << 20 };
    XXH3_state_t *state = XXH3_createState();
    if (!state) return sp_fail(SP_MEMORY, "out of memory for a checksum");
    XXH3_64bits_reset(state);
    sp_status status = SP_OK;
    for (size_t i = 0; i < file->shard_count; i++) {
        const sp_mapped_file *shard = &file->shards[i];
        for (size_t at = 0; at < shard->size && !status; at += PIECE) {
            size_t bytes = shard->size - at < PIECE ? shard->size - at : PIECE;
            XXH3_64bits_update(state, shard->data + at, bytes);
            sp_mapped_file_drop(shard, at, bytes);
            status = sp_check_cancelled(callbacks);
        }
    }
    *out = XXH3_64bits_digest(state);
    XXH3_freeState(state);
    return status ? status : sp_tensor_file_check(file);
}

sp_status sp_tensor_file_sha256(const sp_tensor_file *file, char out[SP_SHA256_TEXT])
{
    sp_piece *pieces = sp_alloc(file->shard_count * sizeof *pieces);
    if (!pieces) return SP_MEMORY;
    for (size_t i = 0; i < file->shard_count; i++)
        pieces[i] = (sp_piece){file->shards[i].data, file->shards[i].size};
    sp_sha256_pieces(pieces, file->shard_count, out);
    sp_free(pieces);
    return sp_tensor_file_check(file);
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
