/* A latent cache: "=== NAME" a line begins a file (fuzz/input_folder.c), index.json, and blocks of tensors whose
 * checksums are made right. Every row is read. */
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "base/memory.h"
#include "latents/latent_cache.h"
#include "latents/latent_cache_parts.h"
#include "fuzz/fuzz.h"

static const char *const names[] = {"index.json", "latents-00000.safetensors", "latents-00001.safetensors", NULL};

/* Where the tensor's data begin in a file whose header was read; 0: it is not there. */
static size_t place_of(const char *file, const char *name)
{
    uint64_t length;
    json_t *header;
    memcpy(&length, file, sizeof length);
    if (sp_json_parse(file + 8, length, "header", &header) != SP_OK) return 0;
    json_t *offsets = json_object_get(json_object_get(header, name), "data_offsets");
    size_t at = 8 + length + (size_t)json_integer_value(json_array_get(offsets, 0));
    json_decref(header);
    return at;
}

static void sum_block(const char *name, const json_t *settings, int64_t first, int64_t rows)
{
    char path[160], *file;
    size_t size;
    uint64_t key;
    sp_latent_block block;
    strcpy(path, fuzz_path(name));
    if (rows < 1 || sp_latent_settings_key(settings, &key) || sp_read_file(path, &file, &size)) return;
    if (sp_latent_block_open(path, rows < SP_LATENT_BLOCK ? rows : SP_LATENT_BLOCK,
                             json_is_true(json_object_get(settings, "random-flip")), false, &block) == SP_OK) {
        const size_t at = place_of(file, "checksums");
        for (int64_t i = 0; at && i <= block.rows; i++) {
            const uint64_t sum = sp_latent_block_checksum(&block, key, first, i);
            memcpy(file + at + 8 * (size_t)i, &sum, sizeof sum);
        }
        sp_latent_block_free(&block);
        fuzz_write(name, file, size);
    }
    sp_free(file);
}

static void sum_blocks(void)
{
    json_t *index;
    if (sp_json_load(fuzz_path("index.json"), &index) != SP_OK) return;
    const json_t *settings = json_object_get(index, "settings");
    const int64_t rows = json_integer_value(json_object_get(settings, "samples"));
    sum_block(names[1], settings, 0, rows);
    sum_block(names[2], settings, SP_LATENT_BLOCK, rows - SP_LATENT_BLOCK);
    json_decref(index);
}

static void read_rows(const sp_latent_cache *cache)
{
    const sp_latent_facts *f = sp_latent_cache_facts(cache);
    sp_conditioning to;
    const size_t count = 2 * (size_t)(f->channels * f->height * f->width);
    float *moments = count < FUZZ_TENSORS ? malloc(count * sizeof *moments) : NULL;
    if (!moments || sp_conditioning_create(sp_latent_cache_conditioning(cache), SP_F32, 1, &to)) {
        free(moments);
        return;
    }
    for (int64_t k = 0; k < f->count; k += k < 4 || k >= SP_LATENT_BLOCK - 2 ? 1 : 50) {
        (void)strlen(sp_latent_cache_caption(cache, k));
        if (sp_latent_cache_read(cache, k, f->flips && k % 2, moments, &to, 0) != SP_OK) break;
    }
    sp_conditioning_free(&to);
    free(moments);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *folder = fuzz_folder(data, size, names);
    sp_latent_cache *cache;
    sum_blocks();
    if (sp_latent_cache_open(folder, &cache) != SP_OK) return 0;
    sp_string summary = {0};
    read_rows(cache);
    sp_latent_cache_summary(cache, &summary);
    sp_string_free(&summary);
    sp_latent_cache_close(cache);
    return 0;
}
