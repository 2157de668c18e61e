/* A tar file of pictures with captions, its headers' checksums made right: without that, mutations would seldom come
 * past the first. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/memory.h"
#include "data/dataset.h"
#include "fuzz/fuzz.h"

enum { BLOCK = 512, SUM = 148, SUM_BYTES = 8, SIDE = 16 };

static void sum_header(uint8_t *header)
{
    unsigned sum = 0;
    char digits[SUM_BYTES + 1];
    memset(header + SUM, ' ', SUM_BYTES);
    for (int i = 0; i < BLOCK; i++)
        sum += header[i];
    snprintf(digits, sizeof digits, "%06o", sum);
    memcpy(header + SUM, digits, SUM_BYTES - 1);
}

/* Every block that a header may stand in: from one to the next by the size that it says. */
static void sum_headers(uint8_t *tar, size_t size)
{
    for (size_t at = 0; at + BLOCK <= size;) {
        char digits[12] = "";
        memcpy(digits, tar + at + 124, 11);
        unsigned long bytes = strtoul(digits, NULL, 8);
        if (tar[at]) sum_header(tar + at);
        at += BLOCK + (bytes < size ? (bytes + BLOCK - 1) / BLOCK * BLOCK : 0);
    }
}

static void read_samples(sp_dataset *dataset)
{
    static uint8_t rgb[SIDE * SIDE * 3];
    for (int64_t i = 0; i < sp_dataset_count(dataset) && i < 4; i++) {
        char *bytes;
        size_t size;
        for (int k = 0; k < sp_dataset_caption_count(dataset, i); k++)
            (void)strlen(sp_dataset_caption(dataset, i, k));
        if (sp_dataset_bytes(dataset, i, &bytes, &size) == SP_OK) sp_free(bytes);
        if (sp_dataset_image(dataset, i, rgb, NULL) != SP_OK) break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const sp_dataset_options options = {.resolution = SIDE, .min_size = 1, .random_crop = true};
    char spec[128];
    sp_dataset *dataset;
    uint8_t *tar = malloc(size ? size : 1);
    if (!tar) abort();
    memcpy(tar, data, size);
    sum_headers(tar, size);
    snprintf(spec, sizeof spec, "wds:%s", fuzz_file(tar, size));
    if (sp_dataset_open(spec, &options, NULL, &dataset) == SP_OK) {
        read_samples(dataset);
        sp_dataset_close(dataset);
    }
    free(tar);
    return 0;
}
