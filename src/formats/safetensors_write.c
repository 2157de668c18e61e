/* Writing safetensors. */
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/text.h"
#include "formats/safetensors.h"

#define LENGTH_BYTES 8

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
    if (sp_dtype_is_coded(tensor->dtype))
        return sp_fail(SP_ARGUMENT, "%s: tensor \"%s\" is %s, a type that no file has", path, named->name,
                       sp_dtype_name(tensor->dtype));
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

/* The header's text, with spaces after it so that the data begin at a multiple of `unit` bytes in the file. */
static sp_status header_text(const char *path, const sp_named_tensor *tensors, size_t count,
                             const char *const (*metadata)[2], size_t metadata_count, size_t unit,
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
        while (!failed && !out->failed && (LENGTH_BYTES + out->length) % unit)
            sp_string_append(out, " ", 1);
        if (failed || out->failed)
            status = sp_fail(SP_MEMORY, "%s: out of memory while writing the header", path);
    }
    json_decref(header);
    return status;
}

static sp_status given_tensor(void *tensors, size_t index, sp_tensor *out)
{
    *out = *((const sp_named_tensor *)tensors)[index].tensor;
    out->owned = false;
    return SP_OK;
}

/* What a watch says ends the file too, at the next tensor. */
static sp_status write_all(sp_atomic_file *file, const sp_string *header, size_t count, const sp_tensor_source *source)
{
    unsigned char length[LENGTH_BYTES];
    for (int i = 0; i < LENGTH_BYTES; i++)
        length[i] = (unsigned char)((uint64_t)header->length >> 8 * i);
    sp_atomic_write(file, length, sizeof length);
    sp_atomic_write(file, header->data, header->length);
    for (size_t i = 0; i < count && !file->ended; i++) {
        sp_tensor tensor = {0};
        SP_TRY(source->next(source->context, i, &tensor));
        sp_atomic_write(file, tensor.data, sp_tensor_bytes(&tensor));
        sp_status status = tensor.owned ? SP_OK : sp_mapped_check(tensor.data); /* a view of another file, perhaps */
        sp_tensor_free(&tensor);
        SP_TRY(status);
    }
    return SP_OK;
}

static sp_status save_file(const char *path, const sp_named_tensor *tensors, size_t count,
                           const char *const (*metadata)[2], size_t metadata_count, size_t unit,
                           const sp_tensor_source *source, const sp_write_watch *watch)
{
    sp_string header = {0};
    sp_status status = header_text(path, tensors, count, metadata, metadata_count, unit, &header);
    sp_atomic_file file;
    if (status == SP_OK) status = sp_atomic_open(path, &file);
    if (status == SP_OK) {
        file.watch = watch;
        status = write_all(&file, &header, count, source);
        if (status)
            sp_atomic_abandon(&file);
        else
            status = sp_atomic_commit(&file);
    }
    sp_string_free(&header);
    return status;
}

sp_status sp_safetensors_save_from(const char *path, const sp_named_tensor *tensors, size_t count,
                                   const char *const (*metadata)[2], size_t metadata_count,
                                   const sp_tensor_source *source, const sp_write_watch *watch)
{
    return save_file(path, tensors, count, metadata, metadata_count, SP_ALIGNMENT, source, watch);
}

sp_status sp_safetensors_save_at(const char *path, const sp_named_tensor *tensors, size_t count,
                                 const char *const (*metadata)[2], size_t metadata_count, size_t unit,
                                 const sp_write_watch *watch)
{
    const sp_tensor_source source = {given_tensor, (void *)(uintptr_t)tensors};
    return save_file(path, tensors, count, metadata, metadata_count, unit, &source, watch);
}

sp_status sp_safetensors_save_watched(const char *path, const sp_named_tensor *tensors,
                                      size_t count, const char *const (*metadata)[2],
                                      size_t metadata_count, const sp_write_watch *watch)
{
    return sp_safetensors_save_at(path, tensors, count, metadata, metadata_count, SP_ALIGNMENT, watch);
}

sp_status sp_safetensors_save(const char *path, const sp_named_tensor *tensors, size_t count,
                              const char *const (*metadata)[2], size_t metadata_count)
{
    return sp_safetensors_save_watched(path, tensors, count, metadata, metadata_count, NULL);
}
