/* Quantised blocks and GGUF files, against llama.cpp's own Python package (tools/golden/make_gguf.py); the rule of
 * Q8_0; and files that are no such. */
#include <math.h>
#include "tensor_support.h"
#include "base/random.h"
#include "formats/safetensors.h"
#include "formats/weights.h"
#include "tensor/quantised.h"

static const sp_dtype types[] = {SP_Q8_0, SP_Q5_1, SP_Q5_0, SP_Q4_1, SP_Q4_0, SP_Q4_K, SP_Q5_K, SP_Q6_K};
enum { TYPES = sizeof types / sizeof *types };

/* ---- blocks ---- */

static void blocks_stand_for_what_they_do_elsewhere(void **state)
{
    (void)state;
    sp_tensor_file *file;
    assert_ok(sp_safetensors_open(golden_file("gguf", "blocks.safetensors"), &file));
    for (int i = 0; i < TYPES; i++) {
        const sp_tensor *blocks, *values;
        assert_ok(sp_tensor_file_get(file, sp_dtype_name(types[i]), &blocks));
        char name[32];
        snprintf(name, sizeof name, "%s.values", sp_dtype_name(types[i]));
        assert_ok(sp_tensor_file_get(file, name, &values));
        int64_t count = sp_tensor_count(values);
        assert_int_equal(sp_dtype_bytes(types[i], count), sp_tensor_bytes(blocks));
        float *found = sp_alloc((size_t)count * sizeof *found);
        sp_dequantise(types[i], blocks->data, 0, count, found);
        assert_memory_equal(found, values->data, (size_t)count * sizeof *found);
        /* from anywhere, one by one, and by way of conversions */
        sp_dequantise(types[i], blocks->data, 37, count - 40, found);
        assert_memory_equal(found, (const float *)values->data + 37, (size_t)(count - 40) * sizeof *found);
        uint16_t half[2];
        for (int64_t k = 0; k < count; k += 7)
            assert_true(sp_load(blocks->data, types[i], k) == (double)((const float *)values->data)[k]);
        sp_convert_elements(found, SP_F32, blocks->data, types[i], count);
        assert_memory_equal(found, values->data, (size_t)count * sizeof *found);
        sp_convert_elements(half, SP_BF16, blocks->data, types[i], 2);
        assert_int_equal(half[1], sp_f32_to_bf16(((const float *)values->data)[1]));
        sp_free(found);
    }
    sp_tensor_file_close(file);
}

static float half_of(const char *block)
{
    uint16_t h;
    memcpy(&h, block, sizeof h);
    return sp_f16_to_f32(h);
}

/* Each number is at most half a step from what it was; the step is the least f16 that reaches the largest. */
static void the_rule_of_q8_0(void **state)
{
    (void)state;
    for (int i = 0; i < 400; i++) {
        float x[32], back[32], least;
        char block[SP_Q8_0_BYTES], again[SP_Q8_0_BYTES];
        sp_random_normal((sp_random_key){.seed = 3, .sample = (uint64_t)i}, x, 32);
        for (int k = 0; k < 32; k++)
            x[k] *= powf(2, (float)(i % 40) - 30);
        sp_quantise(x, block);
        sp_dequantise(SP_Q8_0, block, 0, 32, back);
        float d = half_of(block), most = 0;
        for (int k = 0; k < 32; k++) {
            most = fmaxf(most, fabsf(x[k]));
            assert_true(fabsf(back[k] - x[k]) <= d / 2 * 1.0001f);
        }
        uint16_t below;
        memcpy(&below, block, sizeof below);
        least = sp_f16_to_f32((uint16_t)(below - 1));
        assert_true(d >= most / 127 && least < most / 127);
        sp_quantise(back, again);
        bool reaches = false;
        for (int k = 0; k < 32; k++)
            reaches = reaches || abs((signed char)block[2 + k]) == 127;
        if (reaches) assert_memory_equal(block, again, SP_Q8_0_BYTES);
    }
    char block[SP_Q8_0_BYTES];
    float x[32] = {0}, back[32];
    sp_quantise(x, block);
    for (int i = 0; i < SP_Q8_0_BYTES; i++)
        assert_int_equal(block[i], 0);
    x[3] = INFINITY;
    sp_quantise(x, block);
    sp_dequantise(SP_Q8_0, block, 0, 32, back);
    assert_true(isnan(back[0]) && isnan(back[3]));
    x[3] = NAN;
    sp_quantise(x, block);
    assert_true(isnan(half_of(block)));
    x[3] = 1e9f;
    sp_quantise(x, block);
    sp_dequantise(SP_Q8_0, block, 0, 32, back);
    assert_true(back[3] == 65504.f * 127 && back[4] == 0);
}

/* As Q8_0, exactly where that can be; else within half a step. */
static void other_types_as_q8_0(void **state)
{
    (void)state;
    sp_tensor_file *file;
    assert_ok(sp_safetensors_open(golden_file("gguf", "blocks.safetensors"), &file));
    for (int i = 0; i < TYPES; i++) {
        char name[32];
        const sp_tensor *blocks, *values;
        snprintf(name, sizeof name, "%s.values", sp_dtype_name(types[i]));
        assert_ok(sp_tensor_file_get(file, sp_dtype_name(types[i]), &blocks));
        assert_ok(sp_tensor_file_get(file, name, &values));
        sp_tensor source = *blocks, out;
        source.dtype = types[i];
        source.shape = values->shape;
        assert_ok(sp_tensor_convert(&source, SP_Q8_0, &out));
        bool exact = types[i] == SP_Q8_0 || types[i] == SP_Q4_0 || types[i] == SP_Q5_0;
        for (int64_t k = 0; k < sp_tensor_count(values); k++) {
            double wanted = (double)((const float *)values->data)[k], is = sp_load(out.data, SP_Q8_0, k);
            double step = (double)half_of((const char *)out.data + k / 32 * SP_Q8_0_BYTES);
            assert_true(exact ? is == wanted : fabs(is - wanted) <= step / 2 * 1.0001);
        }
        sp_tensor_free(&out);
        assert_status(sp_tensor_convert(&source, SP_Q4_K, &out), SP_UNSUPPORTED);
    }
    sp_tensor odd = {.dtype = SP_F32, .shape = sp_shape_of(3), .data = (float[3]){0}}, out;
    assert_status(sp_tensor_convert(&odd, SP_Q8_0, &out), SP_SHAPE);
    sp_tensor_file_close(file);
}

/* A set makes such a tensor when it is taken, and writes it as what it stands for. */
static void sets_have_them(void **state)
{
    sp_tensor_file *file, *saved;
    sp_weights *weights;
    sp_tensor taken;
    const sp_tensor *found;
    assert_ok(sp_tensor_file_open(golden_file("gguf", "file.gguf"), &file));
    assert_ok(sp_weights_create(&weights));
    assert_ok(sp_weights_add_file(weights, file));
    assert_ok(sp_weights_change_dtype(weights, "four.weight", SP_Q8_0));
    assert_true(sp_weights_is_changed(weights, "four.weight") && !sp_weights_is_view(weights, "four.weight"));
    assert_ok(sp_weights_take(weights, "four.weight", &taken));
    assert_int_equal(taken.dtype, SP_Q8_0);
    for (int64_t i = 0; i < sp_tensor_count(&taken); i++)
        assert_true(sp_load(taken.data, SP_Q8_0, i) ==
                    sp_load(sp_tensor_file_find(file, "four.weight")->data, SP_Q4_0, i));
    sp_tensor_free(&taken);
    assert_ok(sp_weights_save(weights, in_folder(state, "saved.safetensors"), SP_F32, NULL, 0, NULL));
    assert_ok(sp_safetensors_open(in_folder(state, "saved.safetensors"), &saved));
    assert_ok(sp_tensor_file_get(saved, "four.weight", &found));
    assert_int_equal(found->dtype, SP_F32);
    for (int64_t i = 0; i < sp_tensor_count(found); i++)
        assert_true(sp_load(found->data, SP_F32, i) ==
                    sp_load(sp_tensor_file_find(file, "four.weight")->data, SP_Q4_0, i));
    sp_tensor_file_close(saved);
    sp_weights_destroy(weights);
    sp_tensor_file_close(file);
}

/* ---- files ---- */

static void a_file_is_read(void **state)
{
    (void)state;
    sp_tensor_file *file, *values;
    assert_ok(sp_tensor_file_open(golden_file("gguf", "file.gguf"), &file));
    assert_ok(sp_safetensors_open(golden_file("gguf", "file.safetensors"), &values));
    assert_string_equal(sp_tensor_file_format(file), "GGUF");
    assert_string_equal(sp_tensor_file_metadata(file, "model.title"), "a test");
    assert_string_equal(sp_tensor_file_metadata(file, "general.architecture"), "sd");
    assert_null(sp_tensor_file_metadata(file, "some.texts"));
    assert_int_equal(sp_tensor_file_count(file), sp_tensor_file_count(values));
    for (size_t i = 0; i < sp_tensor_file_count(values); i++) {
        const sp_tensor *wanted = sp_tensor_file_at(values, i), *found;
        assert_ok(sp_tensor_file_get(file, sp_tensor_file_name(values, i), &found));
        if (!sp_shape_equal(found->shape, wanted->shape))
            fail_msg("%s is %s", sp_tensor_file_name(values, i), sp_shape_text(found->shape));
        for (int64_t k = 0; k < sp_tensor_count(wanted); k++)
            assert_true(sp_load(found->data, found->dtype, k) == sp_load(wanted->data, wanted->dtype, k));
    }
    assert_int_equal(sp_tensor_file_find(file, "eight.weight")->dtype, SP_Q8_0);
    assert_int_equal(sp_tensor_file_find(file, "laid_out.weight")->dtype, SP_Q8_0);
    assert_int_equal(sp_tensor_file_find(file, "brain.weight")->dtype, SP_BF16);
    sp_tensor_file_close(values);
    sp_tensor_file_close(file);
}

static sp_status open_it(void *path)
{
    sp_tensor_file *file;
    SP_TRY(sp_tensor_file_open(path, &file));
    sp_tensor_file_close(file);
    return SP_OK;
}

static void without_memory(void **state)
{
    (void)state;
    char path[1024];
    snprintf(path, sizeof path, "%s", golden_file("gguf", "file.gguf"));
    assert_true(fail_every_allocation(open_it, path) > 0);
}

/* The file's bytes with `count` of them at `at` replaced, as a file. */
static const char *changed(void **state, const char *whole, size_t size, size_t at, const void *bytes, size_t count)
{
    char *copy = sp_alloc(size + 1);
    memcpy(copy, whole, size);
    memcpy(copy + at, bytes, count);
    const char *path = in_folder(state, "changed.gguf");
    overwrite(path, copy, size);
    sp_free(copy);
    return path;
}

static size_t place_of(const char *whole, size_t size, const char *text)
{
    const char *found = memmem(whole, size, text, strlen(text));
    assert_non_null(found);
    return (size_t)(found - whole);
}

static void files_that_are_none(void **state)
{
    char *whole;
    size_t size;
    sp_tensor_file *file;
    assert_ok(sp_read_file(golden_file("gguf", "file.gguf"), &whole, &size));
    /* cut anywhere: at the end some bytes are only filling */
    const char *path = in_folder(state, "cut.gguf");
    for (size_t length = 4; length < size - 32; length++) {
        overwrite(path, whole, length);
        assert_status(sp_tensor_file_open(path, &file), SP_FORMAT);
        assert_message("cut.gguf");
    }
    /* a byte that is another: an error, or other numbers */
    for (size_t i = 0; i < size - 600; i++)
        if (sp_tensor_file_open(changed(state, whole, size, i, "\xff", 1), &file) == SP_OK) sp_tensor_file_close(file);
    const uint32_t version = 9, type = 10, unknown = 99, ranks = 5;
    const uint64_t many = UINT64_C(1) << 40, offset = 4;
    assert_status(sp_tensor_file_open(changed(state, whole, size, 4, &version, 4), &file), SP_UNSUPPORTED);
    assert_message("version 9");
    assert_status(sp_tensor_file_open(changed(state, whole, size, 8, &many, 8), &file), SP_FORMAT);
    assert_message("1099511627776 tensors");
    assert_status(sp_tensor_file_open(changed(state, whole, size, 16, &many, 8), &file), SP_FORMAT);
    size_t eight = place_of(whole, size, "eight.weight") + strlen("eight.weight");
    assert_status(sp_tensor_file_open(changed(state, whole, size, eight, &ranks, 4), &file), SP_FORMAT);
    assert_message("5 dimensions");
    assert_status(sp_tensor_file_open(changed(state, whole, size, eight + 4, &offset, 8), &file), SP_FORMAT);
    assert_message("rows are blocks of 32");
    assert_status(sp_tensor_file_open(changed(state, whole, size, eight + 4 + 16, &type, 4), &file), SP_UNSUPPORTED);
    assert_message("ggml's type Q2_K (10)");
    assert_status(sp_tensor_file_open(changed(state, whole, size, eight + 4 + 16, &unknown, 4), &file), SP_UNSUPPORTED);
    assert_message("unknown (99)");
    assert_status(sp_tensor_file_open(changed(state, whole, size, eight + 4 + 16 + 4, &offset, 8), &file), SP_FORMAT);
    assert_message("no multiple of 32");
    assert_status(sp_tensor_file_open(changed(state, whole, size, eight + 4 + 16 + 4, &many, 8), &file), SP_FORMAT);
    assert_message("is it truncated?");
    const int32_t five = 5;
    const char *entry = "comfy.gguf.orig_shape.laid_out.weight";
    size_t shape = place_of(whole, size, entry) + strlen(entry) + 4;
    assert_status(sp_tensor_file_open(changed(state, whole, size, shape + 12, &five, 4), &file), SP_FORMAT);
    assert_message("is laid out as [2,256], and is said to have the shape [5,2,8,8]");
    assert_status(sp_tensor_file_open(changed(state, whole, size, shape + 4, &many, 8), &file), SP_FORMAT);
    assert_status(sp_tensor_file_open(changed(state, whole, size, eight - 12, "four.weight", 11), &file), SP_OK);
    sp_tensor_file_close(file);
    sp_free(whole);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_stand_for_what_they_do_elsewhere),
        cmocka_unit_test(the_rule_of_q8_0),
        cmocka_unit_test(other_types_as_q8_0),
        cmocka_unit_test_setup_teardown(sets_have_them, make_test_folder, remove_test_folder),
        cmocka_unit_test(a_file_is_read),
        cmocka_unit_test(without_memory),
        cmocka_unit_test_setup_teardown(files_that_are_none, make_test_folder, remove_test_folder),
    };
    return cmocka_run_group_tests_name("gguf", tests, NULL, NULL);
}
