/* Decoding pictures of every format with each allocation failing in turn. */
#include "image/image.h"
#include "support.h"
#include "formats/safetensors.h"

typedef struct {
    const void *data;
    size_t size;
} picture_file;

static sp_status decode_once(void *context)
{
    const picture_file *file = context;
    sp_image image;
    sp_status status = sp_image_decode(file->data, file->size, "picture", &image);
    if (status)
        assert_null(image.pixels);
    else
        sp_image_free(&image);
    return status;
}

static sp_status probe_once(void *context)
{
    const picture_file *file = context;
    int width, height;
    return sp_image_probe(file->data, file->size, "picture", &width, &height);
}

/* Those that test_image holds against Pillow: JPEG with CMYK, grey, progressive, turned; PNG; WebP. */
static void lack_of_memory_is_survived(void **state)
{
    (void)state;
    char *path = sp_path_join(getenv("SPLAM_SOURCE"), "tests/golden/image.safetensors");
    int formats[3] = {0};
    sp_tensor_file *all;
    assert_ok(sp_safetensors_open(path, &all));
    for (size_t i = 0; i < sp_tensor_file_count(all); i++) {
        const char *name = sp_tensor_file_name(all, i);
        const sp_tensor *bytes = sp_tensor_file_at(all, i);
        picture_file file = {bytes->data, sp_tensor_bytes(bytes)};
        if (strncmp(name, "file.", 5)) continue;
        assert_true(fail_every_allocation(decode_once, &file) >= 1);
        fail_every_allocation(probe_once, &file);
        formats[name[5] == 'j' ? 0 : name[5] == 'p' ? 1 : 2]++;
    }
    for (int k = 0; k < 3; k++)
        assert_true(formats[k] > 0);
    sp_tensor_file_close(all);
    sp_free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(lack_of_memory_is_survived)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
