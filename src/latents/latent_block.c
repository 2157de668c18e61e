/* A block of a latent cache: some hundred samples in one safetensors file. */
#include "latents/latent_block.h"
#include <stdio.h>
#include <string.h>
#include <xxhash.h>
#include "base/memory.h"

enum { PARTS = 6, MOST_TENSORS = PARTS + 2 * SP_MAX_CONDITIONS };

typedef struct {
    const char *name;
    sp_tensor *tensor;
} part;

/* What a block has beside its conditioning, in the order in which a file has them. */
static void list_parts(sp_latent_block *b, part out[PARTS])
{
    const part parts[PARTS] = {
        {"moments", &b->moments[0]}, {"moments_flipped", &b->moments[1]}, {"sample", &b->sample},
        {"text", &b->text},          {"text_ends", &b->text_ends},        {"checksums", &b->checksums},
    };
    memcpy(out, parts, sizeof parts);
}

void sp_latent_block_free(sp_latent_block *block)
{
    part parts[PARTS];
    list_parts(block, parts);
    for (int i = 0; i < PARTS; i++)
        sp_tensor_free(parts[i].tensor);
    sp_conditioning_free(&block->conditioning);
    sp_conditioning_free(&block->negative);
    sp_tensor_file_close(block->file);
    *block = (sp_latent_block){0};
}

/* ---- text ---- */

static int64_t text_end(const sp_latent_block *block, int64_t i)
{
    int64_t end = 0; /* of a file, whose tensors may lie anywhere */
    if (i >= 0) memcpy(&end, (const char *)block->text_ends.data + 8 * i, sizeof end);
    return end;
}

/* The same when `text` is read: a file that is written anew since it was opened may say anything. */
static int64_t place_in_text(const sp_latent_block *block, int64_t i)
{
    int64_t end = text_end(block, i);
    return end >= 0 && end <= block->text.shape.dim[0] ? end : 0;
}

const char *sp_latent_block_name(const sp_latent_block *block, int64_t i)
{
    return (const char *)block->text.data + place_in_text(block, 2 * i - 1);
}

const char *sp_latent_block_caption(const sp_latent_block *block, int64_t i)
{
    return (const char *)block->text.data + place_in_text(block, 2 * i);
}

/* ---- checksums ---- */

static uint64_t add_row(uint64_t sum, const sp_tensor *tensor, int64_t i)
{
    if (!tensor->data) return sum;
    size_t one = sp_tensor_bytes(tensor) / (size_t)tensor->shape.dim[0];
    return XXH3_64bits_withSeed((const char *)tensor->data + (size_t)i * one, one, sum);
}

static uint64_t add_conditions(uint64_t sum, const sp_conditioning *set, int64_t i)
{
    for (int k = 0; k < set->count; k++)
        sum = add_row(sum, &set->item[k].tensor, i);
    return sum;
}

uint64_t sp_latent_block_checksum(const sp_latent_block *block, uint64_t key, int64_t first,
                                  int64_t i)
{
    int64_t place = i < block->rows ? first + i : -1;
    uint64_t sum = XXH3_64bits_withSeed(&place, sizeof place, key);
    if (i == block->rows) return add_conditions(sum, &block->negative, 0);
    sum = add_row(sum, &block->moments[0], i);
    sum = add_row(sum, &block->moments[1], i);
    sum = add_conditions(sum, &block->conditioning, i);
    sum = add_row(sum, &block->sample, i);
    if (!block->text.data) return sum;
    int64_t begin = place_in_text(block, 2 * i - 1), end = place_in_text(block, 2 * i + 1);
    if (end < begin) end = begin;
    return XXH3_64bits_withSeed((const char *)block->text.data + begin, (size_t)(end - begin), sum);
}

sp_status sp_latent_block_check(const sp_latent_block *block, uint64_t key, int64_t first,
                                int64_t i)
{
    uint64_t written;
    SP_TRY(block->file ? sp_tensor_file_check(block->file) : SP_OK);
    memcpy(&written, (const char *)block->checksums.data + 8 * i, sizeof written);
    uint64_t found = sp_latent_block_checksum(block, key, first, i);
    if (found == written) return SP_OK;
    char row[48] = "the empty caption";
    if (i < block->rows) snprintf(row, sizeof row, "sample %lld", (long long)(first + i));
    return sp_fail(
        SP_FORMAT,
        "%s is damaged: %s has the checksum %016llx and was written with %016llx; making the "
        "cache again mends it",
        sp_tensor_file_path(block->file), row, (unsigned long long)found,
        (unsigned long long)written);
}

/* ---- files ---- */

/* The tensors that there are: moments, conditioning, the rest. */
static size_t list_tensors(sp_latent_block *b, sp_condition_names names[2], sp_named_tensor out[MOST_TENSORS])
{
    part parts[PARTS];
    size_t count = 0;
    list_parts(b, parts);
    for (int i = 0; i < PARTS; i++) {
        if (i == 2) {
            count += (size_t)sp_conditioning_named(&b->conditioning, SP_CONDITIONING, &names[0], out + count);
            count += (size_t)sp_conditioning_named(&b->negative, SP_NEGATIVE, &names[1], out + count);
        }
        if (parts[i].tensor->data) out[count++] = (sp_named_tensor){parts[i].name, parts[i].tensor};
    }
    return count;
}

sp_status sp_latent_block_save(const sp_latent_block *block, const char *path, uint64_t key,
                               int64_t first)
{
    sp_latent_block b = *block; /* views, of the rows that are there */
    b.rows = b.filled;
    sp_tensor *by_row[] = {&b.moments[0], &b.moments[1], &b.sample, &b.text_ends};
    for (size_t i = 0; i < sizeof by_row / sizeof *by_row; i++)
        by_row[i]->shape.dim[0] = b.rows;
    SP_TRY(sp_tensor_create(SP_I64, sp_shape_of(b.rows + 1), &b.checksums));
    for (int64_t i = 0; i <= b.rows; i++)
        ((int64_t *)b.checksums.data)[i] = (int64_t)sp_latent_block_checksum(&b, key, first, i);
    sp_condition_names names[2];
    sp_named_tensor tensors[MOST_TENSORS];
    size_t count = list_tensors(&b, names, tensors);
    static const char *const metadata[][2] = {{"format", "splam latents"}};
    sp_status status = sp_safetensors_save(path, tensors, count, metadata, 1);
    sp_tensor_free(&b.checksums);
    return status;
}

static sp_status wrong(const sp_latent_block *b, const char *name, const sp_tensor *found)
{
    return sp_fail(SP_FORMAT, "%s: \"%s\" is %s %s, which is no block of %lld samples",
                   sp_tensor_file_path(b->file), name, sp_dtype_name(found->dtype),
                   sp_shape_text(found->shape), (long long)b->rows);
}

/* Takes a tensor with this many dimensions and `rows` in the first; dtype < 0: F16 or F32. */
static sp_status take(sp_latent_block *b, const char *name, int dtype, int rank, int64_t rows,
                      sp_tensor *out)
{
    const sp_tensor *found;
    SP_TRY(sp_tensor_file_get(b->file, name, &found));
    bool typed =
        dtype < 0 ? found->dtype == SP_F16 || found->dtype == SP_F32 : (int)found->dtype == dtype;
    if (!typed || found->shape.rank != rank || found->shape.dim[0] != rows ||
        sp_tensor_count(found) < 1)
        return wrong(b, name, found);
    *out = *found;
    out->owned = false;
    return SP_OK;
}

static sp_status take_moments(sp_latent_block *b, bool flips)
{
    SP_TRY(take(b, "moments", -1, 4, b->rows, &b->moments[0]));
    SP_TRY(take(b, "sample", SP_I64, 1, b->rows, &b->sample));
    SP_TRY(take(b, "checksums", SP_I64, 1, b->rows + 1, &b->checksums));
    if (!flips) return SP_OK;
    SP_TRY(take(b, "moments_flipped", b->moments[0].dtype, 4, b->rows, &b->moments[1]));
    return sp_shape_equal(b->moments[0].shape, b->moments[1].shape)
               ? SP_OK
               : wrong(b, "moments_flipped", &b->moments[1]);
}

static sp_status take_text(sp_latent_block *b)
{
    const sp_tensor *text;
    SP_TRY(sp_conditioning_read(b->file, SP_CONDITIONING, "", b->rows, &b->conditioning));
    SP_TRY(sp_conditioning_read(b->file, SP_NEGATIVE, "", 1, &b->negative));
    SP_TRY(take(b, "text_ends", SP_I64, 2, b->rows, &b->text_ends));
    SP_TRY(sp_tensor_file_get(b->file, "text", &text));
    SP_TRY(take(b, "text", SP_U8, 1, text->shape.rank ? text->shape.dim[0] : 0, &b->text));
    sp_status status = sp_conditioning_expect(&b->negative, &b->conditioning, "the negative conditioning");
    if (status) return sp_fail_within(status, "%s", sp_tensor_file_path(b->file));
    if (b->text_ends.shape.dim[1] != 2) return wrong(b, "text_ends", &b->text_ends);
    const char *bytes = b->text.data;
    for (int64_t i = 0, begin = 0; i < 2 * b->rows; i++) {
        int64_t end = text_end(b, i);
        if (end <= begin || end > b->text.shape.dim[0] || bytes[end - 1] != 0)
            return sp_fail(SP_FORMAT, "%s: \"text_ends\" has %lld after %lld, in %lld bytes",
                           sp_tensor_file_path(b->file), (long long)end, (long long)begin,
                           (long long)b->text.shape.dim[0]);
        begin = end;
    }
    return SP_OK;
}

static sp_status take_all(sp_latent_block *b, bool flips, bool partial)
{
    if (!partial) {
        SP_TRY(take_moments(b, flips));
        return take_text(b);
    }
    const sp_tensor *moments;
    SP_TRY(sp_tensor_file_get(b->file, "moments", &moments));
    int64_t rows = moments->shape.rank ? moments->shape.dim[0] : 0;
    if (rows < 1 || rows > b->rows) return wrong(b, "moments", moments);
    b->rows = rows;
    return take_moments(b, flips);
}

sp_status sp_latent_block_open(const char *path, int64_t rows, bool flips, bool partial,
                               sp_latent_block *out)
{
    *out = (sp_latent_block){.rows = rows};
    SP_TRY(sp_safetensors_open(path, &out->file));
    sp_status status = take_all(out, flips, partial);
    out->filled = out->rows;
    if (status) sp_latent_block_free(out);
    return status;
}
