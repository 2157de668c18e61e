/* A file of sub-paths: the first byte is how many values a micro-batch has, the rest the file, with the sums of places
 * made right. Every place is read; one is written, and must read as that. */
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>
#include "distill/subpath_file.h"
#include "fuzz/fuzz.h"

enum { HEADER = 32, MOST_VALUES = 8 };

static void sum_places(uint8_t *file, size_t size, size_t values)
{
    const size_t place = values * sizeof(float) + 2 * sizeof(uint64_t);
    for (size_t k = 0, at = HEADER; at + place <= size; k++, at += place) {
        if (file[at] == 255) continue; /* damaged */
        const uint64_t sum = XXH3_64bits_withSeed(file + at, place - sizeof(uint64_t), k);
        memcpy(file + at + place - sizeof sum, &sum, sizeof sum);
    }
}

static void read_places(sp_subpath_file *file, size_t size)
{
    float values[MOST_VALUES], written[MOST_VALUES] = {1, 2, 3};
    bool found;
    for (int64_t k = 0; k < (int64_t)(size / 20) + 2; k++)
        (void)sp_subpath_file_read(file, k, 0x6161616161616161, values, &found);
    if (sp_subpath_file_write(file, 3, 7, written) != SP_OK || sp_subpath_file_read(file, 3, 7, values, &found) ||
        !found || values[0] != 1)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size) return 0;
    const size_t values = 1 + data[0] % MOST_VALUES;
    sp_subpath_file *file;
    uint8_t *bytes = malloc(size);
    if (!bytes) abort();
    memcpy(bytes, data + 1, size - 1);
    sum_places(bytes, size - 1, values);
    fuzz_write("subpaths", bytes, size - 1);
    if (sp_subpath_file_open(fuzz_path("subpaths"), (int64_t)values, &file) == SP_OK) {
        read_places(file, size);
        sp_subpath_file_close(file);
    }
    free(bytes);
    return 0;
}
