/* Files of packed weights: writing them, and opening those that fit. */
#include "formats/packed_file.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"
#include "formats/safetensors.h"

static const char format_name[] = "splam packed weights 1";
static const char padding_name[] = "padding:";
enum { PAGE = 4096, LARGE = 1 << 16 }; /* bytes; of a weight that begins with a page */
enum { KEY_DIGITS = 16, MOST_TERMS = 8 };

/* ---- which weights ---- */

typedef struct {
    char hash[KEY_DIGITS + 1], sum[KEY_DIGITS + 1];
    char *stamp;
} source_facts;

static void digits(uint64_t value, char out[KEY_DIGITS + 1])
{
    snprintf(out, KEY_DIGITS + 1, "%016" PRIx64, value);
}

/* All but the sum. */
static sp_status look_at(const sp_tensor_file *source, source_facts *out)
{
    *out = (source_facts){.stamp = sp_tensor_file_stamp(source)};
    digits(sp_tensor_file_hash(source), out->hash);
    return out->stamp ? SP_OK : SP_MEMORY;
}

static sp_status sum_up(const sp_tensor_file *source, const sp_callbacks *callbacks, source_facts *out)
{
    uint64_t sum;
    SP_TRY(sp_tensor_file_sum(source, callbacks, &sum));
    digits(sum, out->sum);
    return SP_OK;
}

/* ---- writing ---- */

/* Tensors as they follow each other in a file, with what lies between. */
typedef struct {
    sp_tensor *tensors;
    sp_named_tensor *named;
    char **names;
    size_t count;
    uint64_t end; /* bytes so far */
} layout;

static const unsigned char zeros[PAGE];

static sp_status put(layout *l, char *name, const void *data, size_t bytes)
{
    if (!name) return SP_MEMORY;
    l->names[l->count] = name;
    l->tensors[l->count] = (sp_tensor){
        .dtype = SP_U8, .shape = sp_shape_of((int64_t)bytes), .data = (void *)(uintptr_t)data};
    l->named[l->count] = (sp_named_tensor){name, &l->tensors[l->count]};
    l->count++;
    l->end += bytes;
    return SP_OK;
}

static sp_status put_weight(layout *l, const sp_packed_weight *w)
{
    size_t unit = w->bytes >= LARGE ? PAGE : SP_ALIGNMENT, gap = (unit - l->end % unit) % unit;
    if (gap) SP_TRY(put(l, sp_format("%s%zu", padding_name, l->count), zeros, gap));
    return put(l, sp_format("%016" PRIx64 ":%zu:%s", w->key, w->bytes, w->name), w->data, w->bytes);
}

static sp_status lay_out(const sp_packed_weight *weights, size_t count, layout *l)
{
    size_t most = 2 * count + 1;
    *l = (layout){.tensors = sp_alloc_zero(most * sizeof *l->tensors),
                  .named = sp_alloc_zero(most * sizeof *l->named),
                  .names = sp_alloc_zero(most * sizeof *l->names)};
    if (!l->tensors || !l->named || !l->names) return SP_MEMORY;
    for (size_t i = 0; i < count; i++)
        SP_TRY(put_weight(l, &weights[i]));
    return SP_OK;
}

static void free_layout(layout *l)
{
    for (size_t i = 0; i < l->count; i++)
        sp_free(l->names[i]);
    sp_free(l->names);
    sp_free(l->named);
    sp_free(l->tensors);
}

static sp_status save(const char *path, const layout *l, const sp_packed_terms *terms, const source_facts *facts,
                      const sp_callbacks *callbacks)
{
    const sp_write_watch watch = sp_watch_callbacks(callbacks);
    const char *metadata[MOST_TERMS + 4][2] = {{"format", format_name},
                                               {"source_stamp", facts->stamp},
                                               {"source_hash", facts->hash},
                                               {"source_xxh3", facts->sum}};
    for (size_t i = 0; i < terms->count && i < MOST_TERMS; i++)
        memcpy(metadata[4 + i], terms->pair[i], sizeof *metadata);
    return sp_safetensors_save_at(path, l->named, l->count, (const char *const (*)[2])metadata, 4 + terms->count, PAGE,
                                  &watch);
}

sp_status sp_packed_save(const char *path, const sp_packed_weight *weights, size_t count, const sp_packed_terms *terms,
                         const sp_tensor_file *source, const sp_callbacks *callbacks)
{
    layout l = {0};
    source_facts facts;
    sp_status status = terms->count > MOST_TERMS ? sp_fail(SP_INTERNAL, "%s: too many terms", path) : SP_OK;
    if (status) return status;
    status = look_at(source, &facts);
    if (!status) status = sum_up(source, callbacks, &facts);
    if (!status) status = lay_out(weights, count, &l);
    if (!status) status = save(path, &l, terms, &facts, callbacks);
    free_layout(&l);
    sp_free(facts.stamp);
    return status;
}

/* ---- opening ---- */

struct sp_packed_file {
    sp_tensor_file *file;
    sp_dictionary *names; /* of weights -> the file */
};

static sp_status expect(const sp_tensor_file *file, const char *key, const char *here)
{
    const char *found = sp_tensor_file_metadata(file, key), *path = sp_tensor_file_path(file);
    if (!found) return sp_fail(SP_FORMAT, "%s: the metadata have no \"%s\"", path, key);
    if (strcmp(found, here) == 0) return SP_OK;
    return sp_fail(SP_UNSUPPORTED, "%s: was written for %s \"%s\", and here it is \"%s\"", path, key, found, here);
}

/* "KEY:BYTES:NAME" of a tensor that is so many bytes; NULL: it is no such name. */
static const char *weight_name(const char *name, size_t bytes)
{
    char *end;
    if (strspn(name, "0123456789abcdef") != KEY_DIGITS || name[KEY_DIGITS] != ':') return NULL;
    const char *number = name + KEY_DIGITS + 1;
    if (*number < '0' || *number > '9') return NULL;
    unsigned long long said = strtoull(number, &end, 10);
    return *end == ':' && end[1] && said == bytes ? end + 1 : NULL;
}

static sp_status check_tensor(sp_packed_file *packed, size_t index)
{
    const sp_tensor *tensor = sp_tensor_file_at(packed->file, index);
    const char *name = sp_tensor_file_name(packed->file, index), *path = sp_tensor_file_path(packed->file);
    if (tensor->dtype != SP_U8 || tensor->shape.rank != 1)
        return sp_fail(SP_FORMAT, "%s: tensor \"%s\" is %s %s, and packed weights are U8 [bytes]", path, name,
                       sp_dtype_name(tensor->dtype), sp_shape_text(tensor->shape));
    if (sp_starts_with(name, padding_name)) return SP_OK;
    const char *weight = weight_name(name, sp_tensor_bytes(tensor));
    if (!weight)
        return sp_fail(SP_FORMAT, "%s: tensor \"%s\" of %zu bytes is not called KEY:BYTES:NAME", path, name,
                       sp_tensor_bytes(tensor));
    if ((uintptr_t)tensor->data % SP_ALIGNMENT)
        return sp_fail(SP_FORMAT, "%s: tensor \"%s\" does not begin at a multiple of %d bytes", path, name,
                       SP_ALIGNMENT);
    return sp_dictionary_put(packed->names, weight, packed);
}

/* With another time it may be a copy, or another model with the same beginnings. */
static sp_status check_sum(const sp_tensor_file *file, const sp_tensor_file *source, source_facts *here)
{
    const char *path = sp_tensor_file_path(file), *of = sp_tensor_file_path(source);
    double began = sp_now();
    SP_TRY(sum_up(source, NULL, here));
    const char *sum = sp_tensor_file_metadata(file, "source_xxh3");
    if (!sum || strcmp(sum, here->sum) != 0)
        return sp_fail(SP_UNSUPPORTED, "%s: was written of other weights than %s has now", path, of);
    sp_log_info("%s: %s has another time than when it was packed, so all of it was compared in %.1f s, and is the same",
                path, of, sp_now() - began);
    return SP_OK;
}

static sp_status check_source(const sp_tensor_file *file, const sp_tensor_file *source)
{
    source_facts here;
    const char *hash = sp_tensor_file_metadata(file, "source_hash"),
               *stamp = sp_tensor_file_metadata(file, "source_stamp");
    sp_status status = look_at(source, &here);
    if (!status && (!hash || strcmp(hash, here.hash) != 0))
        status = sp_fail(SP_UNSUPPORTED, "%s: was written of other weights than %s has now", sp_tensor_file_path(file),
                         sp_tensor_file_path(source));
    if (!status && (!stamp || strcmp(stamp, here.stamp) != 0)) status = check_sum(file, source, &here);
    sp_free(here.stamp);
    return status;
}

static sp_status check(sp_packed_file *packed, const sp_packed_terms *terms, const sp_tensor_file *source)
{
    SP_TRY(expect(packed->file, "format", format_name));
    for (size_t i = 0; i < terms->count; i++)
        SP_TRY(expect(packed->file, terms->pair[i][0], terms->pair[i][1]));
    SP_TRY(check_source(packed->file, source));
    for (size_t i = 0; i < sp_tensor_file_count(packed->file); i++)
        SP_TRY(check_tensor(packed, i));
    return SP_OK;
}

sp_status sp_packed_open(const char *path, const sp_packed_terms *terms, const sp_tensor_file *source,
                         sp_packed_file **out)
{
    *out = NULL;
    sp_packed_file *packed = sp_alloc_zero(sizeof *packed);
    if (!packed) return SP_MEMORY;
    packed->names = sp_dictionary_create();
    sp_status status = packed->names ? sp_safetensors_open(path, &packed->file) : SP_MEMORY;
    if (!status) status = check(packed, terms, source);
    if (status)
        sp_packed_close(packed);
    else
        *out = packed;
    return status;
}

void sp_packed_close(sp_packed_file *packed)
{
    if (!packed) return;
    sp_tensor_file_close(packed->file);
    sp_dictionary_destroy(packed->names);
    sp_free(packed);
}

const char *sp_packed_path(const sp_packed_file *packed)
{
    return sp_tensor_file_path(packed->file);
}

const void *sp_packed_find(const sp_packed_file *packed, const char *name, uint64_t key, size_t bytes)
{
    char *full = sp_format("%016" PRIx64 ":%zu:%s", key, bytes, name);
    const sp_tensor *tensor = full ? sp_tensor_file_find(packed->file, full) : NULL;
    sp_free(full);
    return tensor && sp_tensor_bytes(tensor) == bytes ? tensor->data : NULL;
}

bool sp_packed_knows(const sp_packed_file *packed, const char *name)
{
    return sp_dictionary_get(packed->names, name);
}

sp_status sp_packed_check(const sp_packed_file *packed)
{
    return sp_tensor_file_check(packed->file);
}

void sp_packed_drop(const sp_packed_file *packed, const void *data, size_t bytes)
{
    const sp_tensor tensor = {
        .dtype = SP_U8, .shape = sp_shape_of((int64_t)bytes), .data = (void *)(uintptr_t)data};
    sp_tensor_file_drop(packed->file, &tensor);
}
