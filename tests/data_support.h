/* What tests of data sets share; pictures and tar shards are made, so that nothing binary is kept. */
#ifndef SP_TESTS_DATA_SUPPORT_H
#define SP_TESTS_DATA_SUPPORT_H
#include "base/memory.h"
#include "base/random.h"
#include "base/text.h"
#include "data/dataset.h"
#include "image/image.h"
#include "support.h"

static inline int64_t rejected(sp_dataset *dataset, const char *reason)
{
    sp_rejection list[SP_MAX_REASONS];
    size_t count = sp_dataset_rejections(dataset, list, SP_MAX_REASONS);
    for (size_t i = 0; i < count; i++)
        if (!strcmp(list[i].reason, reason)) return list[i].count;
    return 0;
}

/* A PNG of one colour, so that a test can tell which file it came from; sp_free. */
static inline uint8_t *grey_png(int width, int height, uint8_t shade, size_t *size)
{
    sp_image image;
    uint8_t *png;
    assert_ok(sp_image_create(width, height, &image));
    memset(image.pixels, shade, (size_t)width * (size_t)height * 3);
    assert_ok(sp_image_encode_png(&image, NULL, 0, &png, size));
    sp_image_free(&image);
    return png;
}

/* A grey picture of that name among pictures/, captioned so. */
static inline void write_grey_picture(void **state, const char *name, int width, int height, uint8_t shade)
{
    char file[64];
    size_t size;
    uint8_t *png = grey_png(width, height, shade, &size);
    snprintf(file, sizeof file, "pictures/%s.png", name);
    assert_ok(sp_write_file(in_folder(state, file), png, size));
    sp_free(png);
    snprintf(file, sizeof file, "pictures/%s.txt", name);
    assert_ok(sp_write_file(in_folder(state, file), name, strlen(name)));
}

/* A test's folder with pictures/: one wide, one tall, one square. */
static inline int set_up_pictures(void **state)
{
    if (make_test_folder(state) != 0) return -1;
    assert_ok(sp_make_folders(in_folder(state, "pictures")));
    write_grey_picture(state, "a wide fog", 120, 80, 40);
    write_grey_picture(state, "b tall fox", 80, 130, 90);
    write_grey_picture(state, "c red", 96, 96, 200);
    return 0;
}

/* One entry of a ustar file; type '0' is a file, '2' a symbolic link, '5' a folder. */
static inline void tar_add(sp_string *tar, const char *name, char type, const void *data,
                           size_t size)
{
    char header[512] = {0};
    unsigned sum = 0;
    snprintf(header, 100, "%s", name);
    snprintf(header + 100, 8, "%07o", 0644);
    snprintf(header + 108, 8, "%07o", 0);
    snprintf(header + 116, 8, "%07o", 0);
    snprintf(header + 124, 12, "%011o", (unsigned)size);
    snprintf(header + 136, 12, "%011o", 0);
    memset(header + 148, ' ', 8);
    header[156] = type;
    if (type == '2') snprintf(header + 157, 100, "/etc/passwd");
    memcpy(header + 257, "ustar\00000", 8);
    for (int i = 0; i < 512; i++)
        sum += (unsigned char)header[i];
    snprintf(header + 148, 8, "%06o", sum);
    sp_string_append(tar, header, 512);
    sp_string_append(tar, data, size);
    static const char zeros[512];
    sp_string_append(tar, zeros, (512 - size % 512) % 512);
}

static inline void tar_text(sp_string *tar, const char *name, const char *text)
{
    tar_add(tar, name, '0', text, strlen(text));
}

static inline void tar_picture(sp_string *tar, const char *name, int width, int height,
                               uint8_t shade)
{
    size_t size;
    uint8_t *png = grey_png(width, height, shade, &size);
    tar_add(tar, name, '0', png, size);
    sp_free(png);
}

/* Ends the tar file, writes it and starts anew. */
static inline void tar_write(sp_string *tar, const char *path)
{
    static const char zeros[1024];
    sp_string_append(tar, zeros, sizeof zeros);
    assert_false(tar->failed);
    assert_ok(sp_write_file(path, tar->data, tar->length));
    sp_string_free(tar);
    *tar = (sp_string){0};
}

/* A shard of `count` pictures of noise, side x side, "picture number I"; of number `damaged` (-1: of none) a byte is
 * another. */
static inline void write_noise_shard(const char *path, int side, int count, int damaged)
{
    sp_string tar = {0};
    for (int i = 0; i < count; i++) {
        char name[32], caption[64];
        sp_image image;
        uint8_t *png;
        size_t size;
        uint32_t *bits = sp_alloc((size_t)(side * side) * sizeof *bits);
        assert_non_null(bits);
        assert_ok(sp_image_create(side, side, &image));
        sp_random_bits((sp_random_key){.seed = 9, .sample = (uint64_t)i}, bits, (size_t)(side * side));
        for (int k = 0; k < side * side * 3; k++)
            image.pixels[k] = (uint8_t)(bits[k / 3] >> 8 * (k % 3) & 127) + (uint8_t)(k / 30);
        assert_ok(sp_image_encode_png(&image, NULL, 0, &png, &size));
        if (i == damaged) png[size - 20] ^= 1;
        snprintf(name, sizeof name, "%03d.png", i);
        tar_add(&tar, name, '0', png, size);
        snprintf(name, sizeof name, "%03d.txt", i);
        snprintf(caption, sizeof caption, "picture number %d", i);
        tar_text(&tar, name, caption);
        sp_free(bits);
        sp_free(png);
        sp_image_free(&image);
    }
    tar_write(&tar, path);
}

#endif
