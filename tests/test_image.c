/* Pictures: Pillow's resizing and crops, decoding against Pillow, PNG round trips, damaged files. */
#include <math.h>
#include <spng.h>
#include <webp/mux.h>
#include "base/random.h"
#include "image/image.h"
#include "image/image_orientation.h"
#include "image/sheet.h"
#include "support.h"
#include "fontconfig_leak.h"
#include "formats/safetensors.h"

static int open_golden(void **state)
{
    const char *root = getenv("SPLAM_SOURCE");
    char *path = sp_path_join(root ? root : ".", "tests/golden/image.safetensors");
    sp_status status = sp_safetensors_open(path, (sp_tensor_file **)state);
    if (status != SP_OK) fprintf(stderr, "%s\n", sp_error_message());
    sp_free(path);
    return status == SP_OK ? 0 : -1;
}

static int close_golden(void **state)
{
    sp_tensor_file_close(*state);
    return 0;
}

static sp_image golden_image(const sp_tensor_file *file, const char *name)
{
    const sp_tensor *tensor = sp_tensor_file_find(file, name);
    assert_non_null(tensor);
    assert_int_equal(tensor->shape.rank, 3);
    sp_image image;
    assert_int_equal(sp_image_create((int)tensor->shape.dim[1], (int)tensor->shape.dim[0], &image),
                     SP_OK);
    memcpy(image.pixels, tensor->data, sp_tensor_bytes(tensor));
    return image;
}

static int largest_difference(const sp_image *a, const sp_image *b)
{
    assert_int_equal(a->width, b->width);
    assert_int_equal(a->height, b->height);
    int most = 0;
    for (int i = 0; i < a->width * a->height * 3; i++) {
        int difference = abs(a->pixels[i] - b->pixels[i]);
        most = difference > most ? difference : most;
    }
    return most;
}

/* The arithmetic is Pillow's, integers included, so the tolerance is nothing. */
static void resizes_as_pillow(void **state)
{
    static const int sizes[][2] = {{16, 16}, {64, 64}, {61, 20}, {30, 47}, {7, 90}, {1, 1}};
    static const char *const names[] = {"bilinear", "lanczos", "bicubic"};
    sp_image source = golden_image(*state, "resize.source");
    for (int filter = SP_FILTER_BILINEAR; filter <= SP_FILTER_BICUBIC; filter++)
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            char name[64];
            snprintf(name, sizeof name, "resize.%s.%dx%d", names[filter], sizes[i][0], sizes[i][1]);
            sp_image expected = golden_image(*state, name), found;
            assert_int_equal(
                sp_image_resize(&source, sizes[i][0], sizes[i][1], (sp_filter)filter, &found),
                SP_OK);
            assert_int_equal(largest_difference(&found, &expected), 0);
            sp_image_free(&found);
            sp_image_free(&expected);
        }
    sp_image_free(&source);
}

/* torchvision's transforms of a Pillow image, as diffusers' training scripts call them: equal. */
static void crops_as_training(void **state)
{
    static const int sides[] = {16, 33, 64};
    sp_image source = golden_image(*state, "resize.source"), upright;
    assert_ok(sp_image_create(source.height, source.width, &upright));
    for (int y = 0; y < upright.height; y++) /* Pillow's ROTATE_90, against the clock */
        for (int x = 0; x < upright.width; x++)
            memcpy(upright.pixels + (y * upright.width + x) * 3,
                   source.pixels + (x * source.width + source.width - 1 - y) * 3, 3);
    for (size_t i = 0; i < 3; i++)
        for (int way = 0; way < 3; way++) {
            static const char *const names[] = {"crop.%d", "flip.%d", "crop.upright.%d"};
            char name[32];
            snprintf(name, sizeof name, names[way], sides[i]);
            sp_image expected = golden_image(*state, name), found;
            assert_ok(sp_image_fit_square(way == 2 ? &upright : &source, sides[i], SP_FILTER_BILINEAR, NULL,
                                          &found));
            if (way == 1) sp_rgb_mirror(found.pixels, found.width, found.height);
            assert_int_equal(largest_difference(&found, &expected), 0);
            sp_image_free(&found);
            sp_image_free(&expected);
        }
    sp_image outside;
    assert_int_equal(sp_image_crop(&source, 60, 0, 2, 2, &outside), SP_ARGUMENT);
    assert_int_equal(sp_image_center_crop(&source, 62, 2, &outside), SP_ARGUMENT);
    sp_image_free(&source);
    sp_image_free(&upright);
}

/* PNG is exact. JPEG and WebP decoders of different versions may round differently, by one level in
 * a plane, which colour conversion can make two. */
static void decodes_as_pillow(void **state)
{
    const sp_tensor_file *file = *state;
    int files = 0;
    for (size_t i = 0; i < sp_tensor_file_count(file); i++) {
        const char *name = sp_tensor_file_name(file, i);
        if (strncmp(name, "file.", 5)) continue;
        const sp_tensor *bytes = sp_tensor_file_at(file, i);
        char pixels[80];
        snprintf(pixels, sizeof pixels, "pixels.%s", name + 5);
        sp_image expected = golden_image(file, pixels), found;
        sp_status status = sp_image_decode(bytes->data, sp_tensor_bytes(bytes), name, &found);
        if (status != SP_OK) fail_msg("%s", sp_error_message());
        int difference = largest_difference(&found, &expected);
        if (difference > (strncmp(name, "file.png", 8) ? 2 : 0))
            fail_msg("%s differs by %d levels", name, difference);
        int width, height;
        assert_int_equal(sp_image_probe(bytes->data, sp_tensor_bytes(bytes), name, &width, &height),
                         SP_OK);
        assert_int_equal(width, found.width);
        assert_int_equal(height, found.height);
        sp_image_free(&found);
        sp_image_free(&expected);
        files++;
    }
    assert_true(files >= 20);
}

/* Every proper prefix of every file is refused, and none crashes. */
static void refuses_truncated_files(void **state)
{
    const sp_tensor_file *file = *state;
    for (size_t i = 0; i < sp_tensor_file_count(file); i++) {
        const char *name = sp_tensor_file_name(file, i);
        if (strncmp(name, "file.", 5)) continue;
        const sp_tensor *bytes = sp_tensor_file_at(file, i);
        size_t size = sp_tensor_bytes(bytes);
        /* The last bytes say nothing: IEND's checksum, JPEG's end marker, RIFF's padding. */
        size_t end = size - (strncmp(name, "file.png", 8) ? 3 : 5);
        for (size_t length = 0; length <= end; length += 1 + (end - length > 64) * (length / 16)) {
            uint8_t *copy = sp_alloc(length); /* its own block, so that sanitizers see an overrun */
            memcpy(copy, bytes->data, length);
            sp_image image;
            sp_status status = sp_image_decode(copy, length, "cut.bin", &image);
            if (status != SP_FORMAT) fail_msg("%s cut to %zu bytes gives %d", name, length, status);
            assert_non_null(strstr(sp_error_message(), "cut.bin"));
            assert_null(image.pixels);
            sp_free(copy);
        }
    }
}

/* libjpeg would paint the rest of a picture grey when its data end early, and only warn. */
static void refuses_a_patched_jpeg(void **state)
{
    const sp_tensor *bytes = sp_tensor_file_find(*state, "file.jpeg");
    size_t size = sp_tensor_bytes(bytes);
    uint8_t *copy = sp_alloc(size);
    memcpy(copy, bytes->data, size);
    memcpy(copy + size - 60, "\xFF\xD9", 2); /* the end marker, in the middle of the data */
    sp_image image;
    assert_status(sp_image_decode(copy, size, "early.jpg", &image), SP_FORMAT);
    assert_message("early.jpg");
    sp_free(copy);
}

/* Any bytes may come: flipped ones in real files, and noise behind a right signature. */
static void survives_damage(void **state)
{
    const sp_tensor_file *file = *state;
    for (size_t i = 0; i < sp_tensor_file_count(file); i++) {
        if (strncmp(sp_tensor_file_name(file, i), "file.", 5)) continue;
        const sp_tensor *bytes = sp_tensor_file_at(file, i);
        size_t size = sp_tensor_bytes(bytes);
        uint8_t *copy = sp_alloc(size);
        for (uint64_t trial = 0; trial < 60; trial++) {
            uint32_t bits[8];
            sp_random_bits((sp_random_key){.seed = 1, .step = trial, .sample = i}, bits, 8);
            memcpy(copy, bytes->data, size);
            for (int k = 0; k < 1 + (int)(trial % 4); k++)
                copy[bits[k] % size] ^= (uint8_t)(1 + bits[k + 4] % 255);
            if (trial >= 50) /* keep the head, then noise */
                for (size_t at = 16 + trial; at < size; at++)
                    copy[at] = (uint8_t)(copy[at] * 31 + bits[at % 8]);
            sp_image image;
            sp_status status = sp_image_decode(copy, size, "damaged", &image);
            assert_true(status == SP_OK || status == SP_FORMAT || status == SP_UNSUPPORTED);
            if (status == SP_OK) sp_image_free(&image);
        }
        sp_free(copy);
    }
    static const uint8_t tiff[] = "Exif\0\0MM\0\x2A\xFF\xFF\xFF\xFF";
    for (size_t size = 0; size < sizeof tiff; size++)
        assert_int_equal(sp_exif_orientation(tiff, size), 0);
}

/* A PNG that says 2^31 - 1 x 2^31 - 1 must not make anybody allocate. */
static void refuses_huge_pictures(void **state)
{
    const sp_tensor *bytes = sp_tensor_file_find(*state, "file.jpeg");
    size_t size = sp_tensor_bytes(bytes);
    uint8_t *copy = sp_alloc(size);
    memcpy(copy, bytes->data, size);
    for (size_t i = 0; i + 9 < size; i++)
        if (copy[i] == 0xFF && copy[i + 1] == 0xC0) memset(copy + i + 5, 0xFF, 4);
    sp_image image;
    assert_int_equal(sp_image_decode(copy, size, "huge.jpg", &image), SP_FORMAT);
    assert_non_null(strstr(sp_error_message(), "huge.jpg"));
    sp_free(copy);
    assert_int_equal(sp_image_create(SP_IMAGE_MAX_SIDE, SP_IMAGE_MAX_SIDE, &image), SP_ARGUMENT);
    assert_int_equal(sp_image_create(0, 5, &image), SP_ARGUMENT);
}

static const char *find_text(spng_ctx *png, const char *key, int type)
{
    static char value[256]; /* spng's strings die with its context */
    struct spng_text texts[8];
    uint32_t count = 8;
    assert_int_equal(spng_get_text(png, texts, &count), 0);
    for (uint32_t i = 0; i < count; i++)
        if (!strcmp(texts[i].keyword, key)) {
            assert_int_equal(texts[i].type, type);
            snprintf(value, sizeof value, "%.*s", (int)texts[i].length, texts[i].text);
            return value;
        }
    return NULL;
}

static void png_round_trip(void **state)
{
    sp_image source = golden_image(*state, "resize.source"), found;
    static const char prompt[] = "a cat\nSteps: 4, Sampler: LCM",
                      accents[] = "caf\xC3\xA9 \xF0\x9F\x98\x80";
    const sp_png_text texts[] = {{"parameters", prompt}, {"Comment", accents}};
    char path[] = "/tmp/splam-test-XXXXXX";
    int descriptor = mkstemp(path);
    assert_true(descriptor >= 0);
    close(descriptor);
    assert_int_equal(sp_image_save_png(&source, path, texts, 2), SP_OK);
    assert_int_equal(sp_image_load(path, &found), SP_OK);
    assert_int_equal(largest_difference(&source, &found), 0);
    char *bytes;
    size_t size;
    assert_int_equal(sp_read_file(path, &bytes, &size), SP_OK);
    spng_ctx *png = spng_ctx_new(0);
    spng_set_png_buffer(png, bytes, size);
    assert_string_equal(find_text(png, "parameters", SPNG_TEXT), prompt);
    assert_string_equal(find_text(png, "Comment", SPNG_ITXT), accents);
    spng_ctx_free(png);
    sp_free(bytes);
    sp_image_free(&found);
    unlink(path);

    uint8_t *memory;
    const sp_png_text bad = {"", "no key"};
    assert_int_equal(sp_image_encode_png(&source, &bad, 1, &memory, &size), SP_ARGUMENT);
    assert_int_equal(sp_image_save_png(&source, "/nonexistent/folder/x.png", NULL, 0), SP_IO);
    sp_image_free(&source);
}

/* ---- writing by format ---- */

static void formats_by_suffix(void **state)
{
    static const struct {
        const char *path;
        int format; /* -1: none */
    } cases[] = {
        {"a.png", SP_IMAGE_PNG},   {"a.PNG", SP_IMAGE_PNG},   {"b/a.Jpg", SP_IMAGE_JPEG},
        {"a.jpeg", SP_IMAGE_JPEG}, {"a.b.webp", SP_IMAGE_WEBP}, {"a.gif", -1},
        {"a", -1},                 {"dir.png/a", -1},         {".png", -1},
        {"a.", -1},                {"a.png ", -1},            {"", -1},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        sp_image_format found = SP_IMAGE_PNG;
        bool known = sp_image_format_of(cases[i].path, &found);
        if ((known ? (int)found : -1) != cases[i].format)
            fail_msg("%s: format %d", cases[i].path, known ? (int)found : -1);
    }
    assert_ok(sp_image_check_encoding(&(sp_image_encoding){SP_IMAGE_WEBP, 100}, 16383, 16383));
    assert_status(sp_image_check_encoding(&(sp_image_encoding){SP_IMAGE_WEBP, 1}, 16384, 1), SP_ARGUMENT);
    assert_status(sp_image_check_encoding(&(sp_image_encoding){SP_IMAGE_PNG, 90}, 1, 1), SP_ARGUMENT);
    assert_message("PNG has none");
    assert_status(sp_image_check_encoding(&(sp_image_encoding){SP_IMAGE_JPEG, 101}, 1, 1), SP_ARGUMENT);
    assert_status(sp_image_check_encoding(&(sp_image_encoding){SP_IMAGE_JPEG, -1}, 1, 1), SP_ARGUMENT);
}

static double mean_difference(const sp_image *a, const sp_image *b)
{
    double sum = 0;
    int count = a->width * a->height * 3;
    for (int i = 0; i < count; i++)
        sum += abs(a->pixels[i] - b->pixels[i]);
    return sum / count;
}

/* How far a picture comes back from a file; its size goes to *size. */
static double loss_of(const sp_image *source, sp_image_encoding encoding, size_t *size)
{
    uint8_t *bytes;
    sp_image found;
    assert_ok(sp_image_encode(source, &encoding, NULL, &bytes, size));
    assert_ok(sp_image_decode(bytes, *size, "encoded", &found));
    assert_int_equal(found.width, source->width);
    assert_int_equal(found.height, source->height);
    double loss = mean_difference(source, &found);
    sp_image_free(&found);
    sp_free(bytes);
    return loss;
}

/* A smooth picture, as photographs mostly are, with colours that change fast across. */
static sp_image smooth_picture(void)
{
    sp_image image;
    assert_ok(sp_image_create(67, 45, &image));
    for (int y = 0; y < image.height; y++)
        for (int x = 0; x < image.width; x++) {
            uint8_t *pixel = image.pixels + (y * image.width + x) * 3;
            pixel[0] = (uint8_t)(2 * x + y), pixel[1] = (uint8_t)(x / 4 % 2 ? 200 : 90);
            pixel[2] = (uint8_t)(255 - 3 * y);
        }
    return image;
}

/* PNG and WebP at 100 are exact. JPEG and WebP lose .35, .71 and 7.6 levels in the mean here, the
 * last because WebP halves the resolution of colours; exchanged channels differ by 69. */
static void formats_round_trip(void **state)
{
    (void)state;
    sp_image source = smooth_picture();
    size_t png, exact, fine, usual, coarse, webp, small;
    assert_true(loss_of(&source, (sp_image_encoding){SP_IMAGE_PNG, 0}, &png) == 0);
    assert_true(loss_of(&source, (sp_image_encoding){SP_IMAGE_WEBP, 100}, &exact) == 0);
    assert_true(loss_of(&source, (sp_image_encoding){SP_IMAGE_JPEG, 100}, &fine) < 0.5);
    assert_true(loss_of(&source, (sp_image_encoding){SP_IMAGE_JPEG, 0}, &usual) < 1);
    loss_of(&source, (sp_image_encoding){SP_IMAGE_JPEG, 95}, &coarse);
    assert_int_equal(usual, coarse); /* 95 is the default */
    loss_of(&source, (sp_image_encoding){SP_IMAGE_JPEG, 30}, &coarse);
    assert_true(coarse < usual && usual < fine);
    assert_true(loss_of(&source, (sp_image_encoding){SP_IMAGE_WEBP, 0}, &webp) < 10);
    loss_of(&source, (sp_image_encoding){SP_IMAGE_WEBP, 90}, &small);
    assert_int_equal(webp, small);
    loss_of(&source, (sp_image_encoding){SP_IMAGE_WEBP, 30}, &small);
    assert_true(small < webp);
    sp_image_free(&source);
}

static bool holds(const void *bytes, size_t size, const void *part, size_t length)
{
    return memmem(bytes, size, part, length) != NULL;
}

/* TIFF by hand: one entry that leads to the EXIF directory, ExifVersion, UserComment of 8 + 2 * 4
 * bytes, "a", e with an acute accent, and the surrogates of U+1F34E. */
static const char exif[] = "MM\0*\0\0\0\10\0\1\x87\x69\0\4\0\0\0\1\0\0\0\x1A\0\0\0\0"
                           "\0\2\x90\0\0\7\0\0\0\4" "0232"
                           "\x92\x86\0\7\0\0\0\x10\0\0\0\x38\0\0\0\0"
                           "UNICODE\0\0a\0\xE9\xD8\x3C\xDF\x4E";
static const char json[] = "{\"prompt\":\"<a> & \xC3\xA9 \xEF\xBF\xBE \xEF\xBC\x81\"}",
                  xmp_json[] = "<splam:json>{\"prompt\":\"&lt;a&gt; &amp; \xC3\xA9 \\ufffe \xEF\xBC\x81\"}"
                               "</splam:json>";

static void texts_in_jpeg(void **state)
{
    (void)state;
    static const sp_image_texts texts = {"a\xC3\xA9\xF0\x9F\x8D\x8E", json};
    const sp_image_encoding jpeg = {SP_IMAGE_JPEG, 0};
    sp_image source = smooth_picture(), found;
    uint8_t *bytes;
    size_t size;
    char segment[sizeof exif + 10] = "\xFF\xE1\0\0Exif\0";
    segment[3] = (char)(2 + 6 + sizeof exif - 1);
    memcpy(segment + 10, exif, sizeof exif - 1);
    assert_ok(sp_image_encode(&source, &jpeg, &texts, &bytes, &size));
    assert_true(holds(bytes, size, segment, 10 + sizeof exif - 1));
    assert_true(holds(bytes, size, "http://ns.adobe.com/xap/1.0/\0<?xpacket", 38));
    assert_true(holds(bytes, size, xmp_json, sizeof xmp_json - 1));
    assert_ok(sp_image_decode(bytes, size, "encoded", &found));
    sp_image_free(&found);
    sp_free(bytes);

    /* 65,533 bytes are what a segment holds. */
    char *longest = sp_alloc(40001);
    memset(longest, 'x', 40000);
    longest[40000] = 0;
    assert_ok(sp_image_encode(&source, &jpeg, &(sp_image_texts){longest, longest}, &bytes, &size));
    assert_false(holds(bytes, size, "UNICODE", 7));
    assert_true(holds(bytes, size, longest, 40000)); /* XMP has a byte for each */
    assert_ok(sp_image_decode(bytes, size, "encoded", &found));
    sp_image_free(&found);
    sp_free(bytes);
    sp_free(longest);
    sp_image_free(&source);
}

static void texts_in_webp(void **state)
{
    (void)state;
    static const sp_image_texts texts = {"a\xC3\xA9\xF0\x9F\x8D\x8E", json};
    sp_image source = smooth_picture(), found;
    uint8_t *bytes;
    size_t size;
    WebPData chunk;
    assert_ok(sp_image_encode(&source, &(sp_image_encoding){SP_IMAGE_WEBP, 100}, &texts, &bytes, &size));
    WebPMux *mux = WebPMuxCreate(&(WebPData){bytes, size}, 0);
    assert_non_null(mux);
    assert_int_equal(WebPMuxGetChunk(mux, "EXIF", &chunk), WEBP_MUX_OK);
    assert_int_equal(chunk.size, sizeof exif - 1);
    assert_memory_equal(chunk.bytes, exif, chunk.size);
    assert_int_equal(WebPMuxGetChunk(mux, "XMP ", &chunk), WEBP_MUX_OK);
    assert_true(holds(chunk.bytes, chunk.size, xmp_json, sizeof xmp_json - 1));
    WebPMuxDelete(mux);
    assert_ok(sp_image_decode(bytes, size, "encoded", &found));
    assert_int_equal(largest_difference(&source, &found), 0);
    sp_image_free(&found);
    sp_free(bytes);
    sp_image_free(&source);
}

/* Every writer of pictures goes by the name. */
static void saves_by_name(void **state)
{
    (void)state;
    static const struct {
        const char *name, *start;
    } cases[] = {{"a.png", "\x89PNG"}, {"a.jpg", "\xFF\xD8\xFF\xE0"}, {"a.WebP", "RIFF"}};
    sp_image source = smooth_picture();
    char folder[] = "/tmp/splam-test-XXXXXX";
    assert_non_null(mkdtemp(folder));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *path = sp_path_join(folder, cases[i].name), *bytes;
        assert_ok(sp_image_save(&source, path, NULL));
        assert_ok(sp_read_file(path, &bytes, NULL));
        assert_memory_equal(bytes, cases[i].start, 4);
        sp_free(bytes);
        sp_free(path);
    }
    assert_ok(sp_remove_tree(folder));
    assert_status(sp_image_save(&source, "/nonexistent/a.gif", NULL), SP_ARGUMENT);
    assert_message("not as \".gif\"");
    assert_status(sp_image_save(&source, "/nonexistent/a", NULL), SP_ARGUMENT);
    assert_message("without a suffix");
    assert_status(sp_image_save(&source, "/nonexistent/a.jpg", NULL), SP_IO);
    sp_image_free(&source);
}

typedef struct {
    sp_image source;
    sp_image_format format;
} encoding_attempt;

static sp_status encode_attempt(void *context)
{
    const encoding_attempt *a = context;
    static const sp_image_texts texts = {"a", json};
    uint8_t *bytes;
    size_t size;
    SP_TRY(sp_image_encode(&a->source, &(sp_image_encoding){a->format, 0}, &texts, &bytes, &size));
    sp_free(bytes);
    return SP_OK;
}

static void writing_survives_want_of_memory(void **state)
{
    (void)state;
    encoding_attempt attempt = {smooth_picture(), SP_IMAGE_PNG};
    for (int format = SP_IMAGE_PNG; format <= SP_IMAGE_WEBP; format++) {
        attempt.format = (sp_image_format)format;
        assert_true(fail_every_allocation(encode_attempt, &attempt) > 0);
    }
    sp_image_free(&attempt.source);
}

static void data_uri_is_base64(void **state)
{
    (void)state;
    static const char head[] = "data:image/png;base64,iVBORw0KGgo"; /* the signature in base64 */
    sp_image image;
    sp_string text = {0};
    assert_int_equal(sp_image_create(3, 2, &image), SP_OK);
    assert_int_equal(sp_image_append_data_uri(&image, &text), SP_OK);
    assert_memory_equal(sp_string_text(&text), head, sizeof head - 1);
    size_t length = text.length - (sizeof "data:image/png;base64," - 1);
    assert_int_equal(length % 4, 0);
    sp_string_free(&text);
    sp_image_free(&image);
}

static void floats_round_trip(void **state)
{
    (void)state;
    uint8_t rgb[256 * 3], back[256 * 3];
    float nchw[3 * 256];
    for (int i = 0; i < 256 * 3; i++)
        rgb[i] = (uint8_t)(i / 3 + 5 * (i % 3));
    sp_rgb_to_float(rgb, 16, 16, nchw);
    assert_true(nchw[0] == -1.0f && nchw[256] == (5.0f / 255.0f - 0.5f) / 0.5f);
    sp_rgb_from_float(nchw, 16, 16, back);
    assert_memory_equal(rgb, back, sizeof rgb);
    /* 0.5 levels round to even: -1 + 2 * 0.5/255 is level 0.5; out of range is clipped. */
    float odd[3] = {-5.0f, NAN, 7.0f};
    uint8_t clipped[3];
    sp_rgb_from_float(odd, 1, 1, clipped);
    assert_int_equal(clipped[0], 0);
    assert_int_equal(clipped[1], 0);
    assert_int_equal(clipped[2], 255);
}

static void sheet_holds_pictures(void **state)
{
    sp_image source = golden_image(*state, "resize.source"), found;
    const uint8_t *pictures[2] = {source.pixels, NULL};
    const char *labels[1] = {
        "bad \xFF utf-8 and a label that is much too long for one line of text"};
    const char *captions[2] = {"a caption", NULL};
    sp_sheet sheet = {.title = "Title",
                      .rows = 1,
                      .columns = 2,
                      .scale = 3,
                      .pictures = pictures,
                      .picture_width = source.width,
                      .picture_height = source.height,
                      .row_labels = labels,
                      .column_captions = captions,
                      .cell_captions = captions};
    assert_int_equal(sp_sheet_draw(&sheet, &found), SP_OK);
    /* The picture is somewhere, each pixel as a 3x3 block. */
    int matches = 0;
    for (int y = 0; y + source.height * 3 <= found.height; y++)
        for (int x = 0; x + source.width * 3 <= found.width; x++) {
            bool same = true;
            for (int i = 0; same && i < source.width * source.height; i++) {
                int at_x = x + i % source.width * 3 + 1, at_y = y + i / source.width * 3 + 2;
                same = !memcmp(found.pixels + ((size_t)at_y * found.width + at_x) * 3,
                               source.pixels + (size_t)i * 3, 3);
            }
            matches += same;
        }
    assert_int_equal(matches, 9); /* at each of the nine pixels of a block */
    sp_image_free(&found);
    sheet.rows = 0;
    assert_int_equal(sp_sheet_draw(&sheet, &found), SP_ARGUMENT);
    sheet.rows = 30000, sheet.row_labels = NULL, sheet.column_captions = NULL;
    sheet.cell_captions = NULL;
    assert_int_equal(sp_sheet_draw(&sheet, &found), SP_ARGUMENT);
    sp_image_free(&source);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(resizes_as_pillow),      cmocka_unit_test(crops_as_training),
        cmocka_unit_test(decodes_as_pillow),      cmocka_unit_test(refuses_truncated_files),
        cmocka_unit_test(refuses_a_patched_jpeg), cmocka_unit_test(survives_damage),
        cmocka_unit_test(refuses_huge_pictures),  cmocka_unit_test(png_round_trip),
        cmocka_unit_test(data_uri_is_base64),     cmocka_unit_test(floats_round_trip),
        cmocka_unit_test(sheet_holds_pictures),   cmocka_unit_test(formats_by_suffix),
        cmocka_unit_test(formats_round_trip),     cmocka_unit_test(texts_in_jpeg),
        cmocka_unit_test(texts_in_webp),          cmocka_unit_test(saves_by_name),
        cmocka_unit_test(writing_survives_want_of_memory),
    };
    return cmocka_run_group_tests(tests, open_golden, close_golden);
}
