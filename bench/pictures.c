/* Writes pictures of the emoji data set as files of eight sizes, 256 to 640 pixels, as many of each, for
 * bench/compare/score.py: COUNT of them, from place FIRST of the set's order on. Files of a size follow each other.
 * Usage: pictures FOLDER COUNT FIRST png|jpg */
#include <stdio.h>
#include <stdlib.h>
#include "base/file.h"
#include "base/memory.h"
#include "data/dataset.h"
#include "image/image.h"

static void check(sp_status status)
{
    if (!status) return;
    fprintf(stderr, "%s\n", sp_error_message());
    exit(1);
}

/* The pictures `first` to `end` - 1. */
static void write_size(const char *const *argv, int size, int64_t first, int64_t end)
{
    const sp_dataset_options options = {.resolution = size};
    sp_image image;
    sp_dataset *set;
    sp_dataset_order *order;
    check(sp_dataset_open("emoji:", &options, NULL, &set));
    check(sp_dataset_order_create(0, sp_dataset_count(set), &order));
    check(sp_image_create(size, size, &image));
    for (int64_t i = first; i < end; i++) {
        char *path = sp_format("%s/%04lld-%d.%s", argv[1], (long long)i, size, argv[4]);
        check(path ? SP_OK : SP_MEMORY);
        check(sp_dataset_image(set, sp_dataset_order_at(order, (uint64_t)(atoll(argv[3]) + i)), image.pixels, NULL));
        check(sp_image_save(&image, path, NULL));
        sp_free(path);
    }
    sp_image_free(&image);
    sp_dataset_order_destroy(order);
    sp_dataset_close(set);
}

int main(int argc, char **argv)
{
    static const int sizes[] = {256, 299, 320, 384, 448, 512, 576, 640};
    enum { SIZES = sizeof sizes / sizeof *sizes };
    if (argc != 5) return 2;
    check(sp_make_folders(argv[1]));
    for (int k = 0; k < SIZES; k++)
        write_size((const char *const *)argv, sizes[k], atoll(argv[2]) * k / SIZES, atoll(argv[2]) * (k + 1) / SIZES);
    return 0;
}
