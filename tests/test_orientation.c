/* EXIF's orientation in PNG and WebP: files made here, against what JPEG's does, which test_image holds
 * against Pillow. */
#include <webp/encode.h>
#include "base/random.h"
#include "base/text.h"
#include "image/image.h"
#include "image/image_orientation.h"
#include "support.h"

static void put(sp_string *s, uint32_t value, int bytes, bool big_endian)
{
    for (int i = 0; i < bytes; i++) {
        char byte = (char)(value >> 8 * (big_endian ? bytes - 1 - i : i));
        sp_string_append(s, &byte, 1);
    }
}

/* A directory of two entries, of which the second is the orientation. */
static void put_tiff(sp_string *s, int orientation, bool big_endian)
{
    sp_string_append(s, big_endian ? "MM" : "II", 2);
    put(s, 42, 2, big_endian);
    put(s, 8, 4, big_endian);
    put(s, 2, 2, big_endian);
    const uint32_t entries[2][2] = {{0x0100, 40}, {0x0112, (uint32_t)orientation}};
    for (int i = 0; i < 2; i++) {
        put(s, entries[i][0], 2, big_endian);
        put(s, 3, 2, big_endian);
        put(s, 1, 4, big_endian);
        put(s, entries[i][1], 2, big_endian);
        put(s, 0, 2, big_endian);
    }
    put(s, 0, 4, big_endian);
}

static uint32_t checksum(const char *bytes, size_t size)
{
    uint32_t sum = ~0u;
    for (size_t i = 0; i < size; i++) {
        sum ^= (uint8_t)bytes[i];
        for (int k = 0; k < 8; k++)
            sum = sum >> 1 ^ (sum & 1 ? 0xEDB88320u : 0);
    }
    return ~sum;
}

/* The PNG with a chunk eXIf before the pixels, or behind them. */
static sp_string png_with(const uint8_t *png, size_t size, const sp_string *exif, bool behind)
{
    size_t at = behind ? size - 12 : 8 + 25; /* before IEND, behind IHDR */
    sp_string s = {0};
    sp_string_append(&s, (const char *)png, at);
    put(&s, (uint32_t)exif->length, 4, true);
    size_t type = s.length;
    sp_string_append(&s, "eXIf", 4);
    sp_string_append(&s, exif->data, exif->length);
    put(&s, checksum(s.data + type, s.length - type), 4, true);
    sp_string_append(&s, (const char *)png + at, size - at);
    return s;
}

/* The WebP as an extended file: VP8X, the pixels, EXIF. */
static sp_string webp_with(const uint8_t *webp, size_t size, const sp_image *image,
                           const sp_string *exif)
{
    sp_string s = {0};
    sp_string_append(&s, "RIFF", 4);
    put(&s, (uint32_t)(size - 8 + 18 + 8 + exif->length + exif->length % 2), 4, false);
    sp_string_append(&s, "WEBPVP8X", 8);
    put(&s, 10, 4, false);
    put(&s, 8, 4, false); /* there is EXIF */
    put(&s, (uint32_t)image->width - 1, 3, false);
    put(&s, (uint32_t)image->height - 1, 3, false);
    sp_string_append(&s, (const char *)webp + 12, size - 12);
    sp_string_append(&s, "EXIF", 4);
    put(&s, (uint32_t)exif->length, 4, false);
    sp_string_append(&s, exif->data, exif->length);
    if (exif->length % 2) sp_string_append(&s, "", 1);
    return s;
}

static void check_oriented(const sp_string *file, const sp_image *stored, int orientation)
{
    sp_image expected, found;
    int width, height;
    assert_false(file->failed);
    assert_ok(sp_image_create(stored->width, stored->height, &expected));
    memcpy(expected.pixels, stored->pixels, (size_t)stored->width * (size_t)stored->height * 3);
    if (orientation > 1) assert_ok(sp_image_orient(&expected, orientation));
    assert_ok(sp_image_decode(file->data, file->length, "oriented", &found));
    assert_int_equal(found.width, expected.width);
    assert_int_equal(found.height, expected.height);
    assert_memory_equal(found.pixels, expected.pixels,
                        (size_t)found.width * (size_t)found.height * 3);
    assert_ok(sp_image_probe(file->data, file->length, "oriented", &width, &height));
    assert_int_equal(width, expected.width);
    assert_int_equal(height, expected.height);
    sp_image_free(&expected);
    sp_image_free(&found);
}

typedef struct {
    sp_image image;
    uint8_t *png, *webp;
    size_t png_size, webp_size;
} stored_picture;

/* 40 x 28 pixels, all different. */
static stored_picture store(void)
{
    stored_picture p = {0};
    assert_ok(sp_image_create(40, 28, &p.image));
    for (int i = 0; i < 40 * 28; i++) {
        const uint8_t rgb[3] = {(uint8_t)(i % 40 * 6), (uint8_t)(i / 40 * 9), (uint8_t)(i * 7)};
        memcpy(p.image.pixels + 3 * i, rgb, 3);
    }
    assert_ok(sp_image_encode_png(&p.image, NULL, 0, &p.png, &p.png_size));
    p.webp_size = WebPEncodeLosslessRGB(p.image.pixels, p.image.width, p.image.height,
                                        p.image.width * 3, &p.webp);
    assert_true(p.webp_size > 0);
    return p;
}

static void stored_free(stored_picture *p)
{
    sp_image_free(&p->image);
    sp_free(p->png);
    WebPFree(p->webp);
}

/* Writes the files with this EXIF and checks that they stand so. */
static void check_files(const stored_picture *p, const sp_string *exif, int orientation)
{
    for (int behind = 0; behind < 2; behind++) {
        sp_string png = png_with(p->png, p->png_size, exif, behind);
        check_oriented(&png, &p->image, orientation);
        sp_string_free(&png);
    }
    sp_string webp = webp_with(p->webp, p->webp_size, &p->image, exif);
    check_oriented(&webp, &p->image, orientation);
    sp_string_free(&webp);
}

/* As in JPEG, which is held against Pillow; with the prefix that belongs to JPEG, too. */
static void orientation_is_heeded(void **state)
{
    (void)state;
    stored_picture p = store();
    for (int orientation = 0; orientation <= 9; orientation++)
        for (int form = 0; form < 4; form++) {
            sp_string exif = {0};
            if (form & 1) sp_string_append(&exif, "Exif\0\0", 6);
            put_tiff(&exif, orientation, form & 2);
            check_files(&p, &exif, orientation <= 8 ? orientation : 0);
            sp_string_free(&exif);
        }
    stored_free(&p);
}

/* Cut, damaged and absurd EXIF says nothing, or something, and never crashes. */
static void hostile_exif_is_survived(void **state)
{
    (void)state;
    stored_picture p = store();
    sp_string whole = {0};
    put_tiff(&whole, 6, true);
    /* The orientation stands behind; an empty chunk is damage to libspng. */
    for (size_t length = 1; length < 34; length++) {
        sp_string exif = {0};
        sp_string_append(&exif, whole.data, length);
        check_files(&p, &exif, 0);
        sp_string_free(&exif);
    }
    for (uint64_t trial = 0; trial < 500; trial++) {
        uint32_t bits[4];
        sp_random_bits((sp_random_key){.seed = 2, .step = trial}, bits, 4);
        sp_string png = png_with(p.png, p.png_size, &whole, trial % 2),
                  webp = webp_with(p.webp, p.webp_size, &p.image, &whole);
        for (int k = 0; k < 2; k++) {
            sp_string *file = k ? &webp : &png;
            size_t begin = k ? file->length - whole.length - 8
                             : (trial % 2 ? file->length - whole.length - 24 : 33);
            char *copy = sp_alloc(file->length); /* its own block, so that sanitizers see an overrun */
            memcpy(copy, file->data, file->length);
            copy[begin + bits[0] % (whole.length + 8)] ^= (char)(1 + bits[1] % 255);
            copy[begin + bits[2] % (whole.length + 8)] ^= (char)(bits[3] % 256);
            sp_image image;
            if (sp_image_decode(copy, file->length, "hostile", &image) == SP_OK)
                sp_image_free(&image);
            sp_free(copy);
        }
        sp_string_free(&png);
        sp_string_free(&webp);
    }
    sp_string_free(&whole);
    stored_free(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(orientation_is_heeded),
        cmocka_unit_test(hostile_exif_is_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
