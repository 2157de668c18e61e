/* Shapes, tensors and safetensors: what is read, written and refused. */
#include "support.h"

#include <math.h>
#include <signal.h>
#include <sys/resource.h>

#include "base/parallel.h"
#include "base/text.h"
#include "formats/safetensors.h"

/* ---- shapes and tensors ---- */

static void test_shapes(void **state)
{
    (void)state;
    sp_shape shape = sp_shape_of(2, 4, 64, 32);
    assert_int_equal(sp_shape_count(shape), 16384);
    assert_string_equal(sp_shape_text(shape), "[2,4,64,32]");
    assert_string_equal(sp_shape_text((sp_shape){0}), "[]");
    assert_int_equal(sp_shape_count((sp_shape){0}), 1);
    assert_int_equal(sp_shape_count(sp_shape_of(3, 0, INT64_MAX)), -1);
    assert_int_equal(sp_shape_count(sp_shape_of(1, 0, INT64_MAX)), 0);
    assert_int_equal(sp_shape_count(sp_shape_of(INT64_MAX, 0, INT64_MAX)), -1);
    assert_int_equal(sp_shape_count(sp_shape_of(1LL << 40, 1LL << 40)), -1);
    assert_int_equal(sp_shape_count(sp_shape_of(-1, 2)), -1);
    assert_true(sp_shape_equal(shape, sp_shape_of(2, 4, 64, 32)));
    assert_false(sp_shape_equal(shape, sp_shape_of(2, 4, 32, 64)));
    assert_false(sp_shape_equal(shape, sp_shape_of(2, 4, 64)));
    sp_shape wide = sp_shape_of(INT64_MIN, INT64_MIN, INT64_MIN, INT64_MIN, INT64_MIN, INT64_MIN);
    assert_int_equal(strlen(sp_shape_text(wide)), 6 * 20 + 7);
}

static void test_tensors(void **state)
{
    (void)state;
    sp_tensor a, b;
    assert_ok(sp_tensor_create(SP_F32, sp_shape_of(2, 3), &a));
    assert_int_equal((uintptr_t)a.data % SP_ALIGNMENT, 0);
    assert_int_equal(sp_tensor_bytes(&a), 24);
    float *x = a.data;
    for (int i = 0; i < 6; i++) {
        assert_true(x[i] == 0);
        x[i] = (float)i;
    }
    assert_ok(sp_tensor_convert(&a, SP_BF16, &b));
    double error;
    assert_ok(sp_tensor_relative_max_error(&a, &b, &error));
    assert_true(error == 0);
    x[4] = 4.5f;
    assert_ok(sp_tensor_relative_max_error(&a, &b, &error));
    assert_true(error == 0.1);
    assert_ok(sp_tensor_check_finite(&a, "latent"));
    x[3] = NAN;
    assert_status(sp_tensor_check_finite(&a, "latent"), SP_NUMERIC);
    assert_message("latent: element 3 of [2,3]");
    assert_ok(sp_tensor_relative_max_error(&a, &b, &error));
    assert_true(isnan(error));
    sp_tensor_free(&b);
    assert_ok(sp_tensor_create(SP_F32, sp_shape_of(3, 2), &b));
    assert_status(sp_tensor_relative_max_error(&a, &b, &error), SP_SHAPE);
    assert_message("[2,3] and [3,2]");
    sp_tensor_free(&b);
    sp_tensor_free(&b);
    sp_tensor_free(&a);
    assert_status(sp_tensor_create(SP_F64, sp_shape_of(1LL << 60), &a), SP_SHAPE);
    assert_status(sp_tensor_create(SP_F64, sp_shape_of(-1), &a), SP_SHAPE);
    sp_alloc_fail_after(0);
    assert_status(sp_tensor_create(SP_F64, sp_shape_of(10), &a), SP_MEMORY);
    sp_alloc_fail_after(-1);
    assert_message("[10]");
}

static void test_coded_tensors(void **state)
{
    (void)state;
    for (int is_signed = 0; is_signed < 2; is_signed++) {
        sp_dtype dtype = is_signed ? SP_DYNAMIC8_SIGNED : SP_DYNAMIC8_UNSIGNED;
        sp_tensor a, b;
        assert_ok(sp_tensor_create(dtype, sp_shape_of(257), &a));
        assert_int_equal(sp_tensor_count(&a), 257);
        assert_int_equal(sp_tensor_bytes(&a), 512);
        for (int i = 0; i < 512; i++)
            assert_int_equal(((uint8_t *)a.data)[i], is_signed ? SP_DYNAMIC8_ZERO : 0);
        b = sp_tensor_stored(&a);
        assert_true(b.dtype == SP_U8 && b.data == a.data && !b.owned);
        assert_int_equal(sp_tensor_bytes(&b), 257);
        assert_status(sp_tensor_convert(&a, SP_F32, &b), SP_UNSUPPORTED);
        assert_message(sp_dtype_name(dtype));
        assert_status(sp_tensor_convert(&a, dtype, &b), SP_UNSUPPORTED);
        assert_status(sp_tensor_check_finite(&a, "m"), SP_UNSUPPORTED);
        sp_tensor_free(&a);
        assert_ok(sp_tensor_create(SP_F32, sp_shape_of(257), &a));
        assert_status(sp_tensor_convert(&a, dtype, &b), SP_UNSUPPORTED);
        b = sp_tensor_stored(&a);
        assert_true(b.dtype == SP_F32 && b.data == a.data && !b.owned);
        sp_tensor_free(&a);
        assert_status(sp_tensor_create(dtype, sp_shape_of(INT64_MAX), &a), SP_SHAPE);
    }
}

/* ---- safetensors ---- */

static sp_tensor numbers(sp_dtype dtype, sp_shape shape, double first)
{
    sp_tensor tensor;
    assert_ok(sp_tensor_create(dtype, shape, &tensor));
    for (int64_t i = 0; i < sp_tensor_count(&tensor); i++)
        sp_store(tensor.data, dtype, i, first + (double)i);
    return tensor;
}

typedef struct {
    sp_tensor tensors[4];
    sp_named_tensor named[4];
} sample_set;

static void make_samples(sample_set *s)
{
    s->tensors[0] = numbers(SP_BF16, sp_shape_of(3, 1), 1);
    s->tensors[1] = numbers(SP_F32, sp_shape_of(2, 2), -5);
    s->tensors[2] = numbers(SP_I64, (sp_shape){0}, 77);
    s->tensors[3] = numbers(SP_F16, sp_shape_of(0, 4), 0);
    static const char *const names[] = {"z.weight", "a.weight", "scalar \"\xc3\xa9\"", "empty"};
    for (int i = 0; i < 4; i++)
        s->named[i] = (sp_named_tensor){names[i], &s->tensors[i]};
}

static void free_samples(sample_set *s)
{
    for (int i = 0; i < 4; i++)
        sp_tensor_free(&s->tensors[i]);
}

static const char *const sample_metadata[][2] = {{"format", "pt"}, {"seed", "42"}};

static void test_round_trip(void **state)
{
    const char *path = in_folder(state, "model.safetensors");
    sample_set s;
    make_samples(&s);
    assert_ok(sp_safetensors_save(path, s.named, 4, sample_metadata, 2));
    sp_tensor_file *file;
    assert_ok(sp_safetensors_open(path, &file));
    assert_int_equal(sp_tensor_file_count(file), 4);
    for (size_t i = 0; i < 4; i++) {
        const sp_tensor *found = sp_tensor_file_at(file, i);
        assert_string_equal(sp_tensor_file_name(file, i), s.named[i].name);
        assert_ptr_equal(sp_tensor_file_find(file, s.named[i].name), found);
        assert_int_equal(found->dtype, s.tensors[i].dtype);
        assert_true(sp_shape_equal(found->shape, s.tensors[i].shape));
        assert_memory_equal(found->data, s.tensors[i].data, sp_tensor_bytes(found));
        sp_tensor_file_drop(file, found);
        assert_memory_equal(found->data, s.tensors[i].data, sp_tensor_bytes(found));
    }
    assert_int_equal((uintptr_t)sp_tensor_file_at(file, 0)->data % SP_ALIGNMENT, 0);
    assert_string_equal(sp_tensor_file_metadata(file, "seed"), "42");
    assert_null(sp_tensor_file_metadata(file, "absent"));
    assert_string_equal(sp_tensor_file_path(file), path);
    const sp_tensor *tensor;
    assert_status(sp_tensor_file_get(file, "b.weight", &tensor), SP_FORMAT);
    assert_message("model.safetensors: there is no tensor \"b.weight\"");
    sp_tensor_file_close(file);
    sp_tensor_file_close(NULL);
    free_samples(&s);
}

static void test_saving_refusals(void **state)
{
    const char *path = in_folder(state, "x.safetensors");
    sample_set s;
    make_samples(&s);
    s.named[1].name = s.named[0].name;
    assert_status(sp_safetensors_save(path, s.named, 4, NULL, 0), SP_ARGUMENT);
    s.named[1].name = "__metadata__";
    assert_status(sp_safetensors_save(path, s.named, 4, NULL, 0), SP_ARGUMENT);
    s.named[1].name = "\xff";
    assert_status(sp_safetensors_save(path, s.named, 4, NULL, 0), SP_ARGUMENT);
    assert_message("UTF-8");
    s.named[1].name = "fine";
    s.tensors[1].dtype = SP_DYNAMIC8_SIGNED;
    assert_status(sp_safetensors_save(path, s.named, 4, NULL, 0), SP_ARGUMENT);
    assert_message("\"fine\" is DYNAMIC8_SIGNED");
    s.tensors[1].dtype = SP_F32;
    static const char *const bad_metadata[][2] = {{"a", "\xff"}};
    assert_status(sp_safetensors_save(path, s.named, 4, bad_metadata, 1), SP_ARGUMENT);
    assert_status(sp_safetensors_save(in_folder(state, "no/x"), s.named, 4, NULL, 0), SP_IO);
    assert_false(sp_path_exists(path));
    assert_ok(sp_safetensors_save(path, NULL, 0, NULL, 0));
    sp_tensor_file *file;
    assert_ok(sp_safetensors_open(path, &file));
    assert_int_equal(sp_tensor_file_count(file), 0);
    sp_tensor_file_close(file);
    free_samples(&s);
}

static void test_saving_on_a_full_disk(void **state)
{
    const char *path = in_folder(state, "x.safetensors");
    sp_tensor large = numbers(SP_F32, sp_shape_of(50000), 0);
    sp_named_tensor named = {"large", &large};
    assert_ok(sp_safetensors_save(path, &named, 1, NULL, 0));
    large.shape.dim[0] = 40000;
    struct rlimit before, small;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = before;
    small.rlim_cur = 8192;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    sp_status status = sp_safetensors_save(path, &named, 1, NULL, 0);
    setrlimit(RLIMIT_FSIZE, &before);
    assert_status(status, SP_IO);
    sp_tensor_file *file;
    assert_ok(sp_safetensors_open(path, &file));
    assert_int_equal(sp_tensor_file_at(file, 0)->shape.dim[0], 50000);
    sp_tensor_file_close(file);
    sp_tensor_free(&large);
}

/* Writes a file with this header and `data_size` bytes of data, and opens it. */
static sp_status open_header(void **state, const char *header, size_t data_size,
                             sp_tensor_file **file)
{
    const char *path = in_folder(state, "crafted.safetensors");
    size_t length = strlen(header), size = 8 + length + data_size;
    char *bytes = sp_alloc_zero(size);
    for (int i = 0; i < 8; i++)
        bytes[i] = (char)(length >> 8 * i);
    memcpy(bytes + 8, header, length);
    overwrite(path, bytes, size);
    sp_free(bytes);
    return sp_safetensors_open(path, file);
}

static void test_hostile_headers(void **state)
{
    /* With 8 bytes of data behind each. */
    static const struct {
        const char *header, *message;
    } cases[] = {
        {"", "JSON"},
        {"[]", "not a JSON object"},
        {"{\"a\":1}", "not an object"},
        {"{\"a\":{}}", "dtype"},
        {"{\"a\":{\"dtype\":3,\"shape\":[8],\"data_offsets\":[0,8]}}", "dtype"},
        {"{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,8]}}", "shape"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[-8],\"data_offsets\":[0,8]}}", "dimension 0"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[8.0],\"data_offsets\":[0,8]}}", "dimension 0"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,8]}}",
         "too large"},
        {"{\"a\":{\"dtype\":\"F64\",\"shape\":[2305843009213693952],\"data_offsets\":[0,0]}}",
         "does not take"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[8]}}", "data_offsets"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[8],\"data_offsets\":[0,8,8]}}", "data_offsets"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[8],\"data_offsets\":[8,0]}}", "truncated"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[8],\"data_offsets\":[-8,0]}}", "truncated"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[16],\"data_offsets\":[0,16]}}", "truncated"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[9223372036854775806,9223372036854775807]}}",
         "truncated"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,8]}}", "does not take"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}",
         "the tensors end at byte 4"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[4,8]}}", "leave a gap"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[5],\"data_offsets\":[0,5]},"
         "\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[4,8]}}",
         "overlap"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
         "\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[4,8]}}",
         "duplicate"},
        {"{\"__metadata__\":3}", "__metadata__"},
        {"{\"__metadata__\":{\"k\":3}}", "metadata"},
    };
    sp_tensor_file *file;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        sp_status status = open_header(state, cases[i].header, 8, &file);
        if (status != SP_FORMAT) fail_msg("case %zu: %s", i, sp_status_text(status));
        assert_null(file);
        assert_message("crafted.safetensors: ");
        if (i > 0) assert_message(cases[i].message);
    }
    assert_status(
        open_header(state, "{\"a\":{\"dtype\":\"F8_E8M0\",\"shape\":[8],\"data_offsets\":[0,8]}}",
                    8, &file),
        SP_UNSUPPORTED);
    assert_status(open_header(state, "{\"a\":{\"dtype\":\"DYNAMIC8_SIGNED\",\"shape\":[256],\"data_offsets\":[0,256]}}",
                              256, &file),
                  SP_UNSUPPORTED);
    assert_message("unsupported dtype \"DYNAMIC8_SIGNED\"");
    assert_status(
        open_header(state,
                    "{\"a\":{\"dtype\":\"U8\",\"shape\":[8,1,1,1,1,1,1],\"data_offsets\":[0,8]}}",
                    8, &file),
        SP_UNSUPPORTED);
}

/* Tensors come in the order of their bytes, whatever the header's; data may begin at any address,
 * and are aligned for their type all the same. */
static void test_unordered_header(void **state)
{
    sp_tensor_file *file;
    assert_ok(open_header(state,
                          "{\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[4,8]},"
                          "\"e\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[4,4]},"
                          "\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}  ",
                          8, &file));
    assert_int_equal((uintptr_t)sp_tensor_file_at(file, 0)->data % sizeof(float), 0);
    assert_string_equal(sp_tensor_file_name(file, 0), "a");
    assert_string_equal(sp_tensor_file_name(file, 1), "e");
    assert_string_equal(sp_tensor_file_name(file, 2), "b");
    sp_tensor copy;
    assert_ok(sp_tensor_convert(sp_tensor_file_at(file, 0), SP_F64, &copy));
    sp_tensor_free(&copy);
    sp_tensor_file_close(file);
}

/* Opens the bytes; what opens must be readable to its last byte. */
static sp_status try_bytes(const char *path, const char *bytes, size_t size)
{
    overwrite(path, bytes, size);
    sp_tensor_file *file;
    SP_TRY(sp_safetensors_open(path, &file));
    unsigned sum = 0;
    for (size_t i = 0; i < sp_tensor_file_count(file); i++) {
        const sp_tensor *tensor = sp_tensor_file_at(file, i);
        for (size_t j = 0; j < sp_tensor_bytes(tensor); j++)
            sum += ((const unsigned char *)tensor->data)[j];
        assert_non_null(sp_tensor_file_name(file, i));
    }
    sp_tensor_file_close(file);
    return sum == UINT32_MAX ? SP_INTERNAL : SP_OK;
}

static void test_truncation_and_flips(void **state)
{
    const char *path = in_folder(state, "good.safetensors"),
               *damaged = in_folder(state, "bad.safetensors");
    sample_set s;
    make_samples(&s);
    assert_ok(sp_safetensors_save(path, s.named, 4, sample_metadata, 2));
    free_samples(&s);
    char *bytes;
    size_t size;
    assert_ok(sp_read_file(path, &bytes, &size));
    assert_ok(try_bytes(damaged, bytes, size));
    size_t header_end = 8 + (unsigned char)bytes[0] + 256u * (unsigned char)bytes[1];
    for (size_t length = 0; length < size; length++) {
        assert_status(try_bytes(damaged, bytes, length), SP_FORMAT);
        assert_message(length < 8            ? "too few"
                       : length < header_end ? "the header should be"
                                             : "truncated");
    }
    long live = sp_alloc_live();
    int refused = 0;
    static const unsigned char flips[] = {1, 2, 4, 16, 32, 128, 255};
    for (size_t i = 0; i < size; i++) {
        for (size_t f = 0; f < sizeof flips; f++) {
            bytes[i] ^= (char)flips[f];
            sp_status status = try_bytes(damaged, bytes, size);
            assert_true(status == SP_OK || status == SP_FORMAT || status == SP_UNSUPPORTED);
            refused += status != SP_OK;
            assert_int_equal(sp_alloc_live(), live);
            bytes[i] ^= (char)flips[f];
        }
    }
    assert_in_range(refused, 500, size * sizeof flips);
    sp_free(bytes);
}

/* ---- folders ---- */

static void save_one(void **state, const char *file, const char *name, double value)
{
    sp_tensor tensor = numbers(SP_F32, sp_shape_of(2), value);
    sp_named_tensor named = {name, &tensor};
    assert_ok(sp_safetensors_save(in_folder(state, file), &named, 1, NULL, 0));
    sp_tensor_free(&tensor);
}

static sp_status write_index(void **state, const char *text)
{
    return sp_write_file(in_folder(state, "model.safetensors.index.json"), text, strlen(text));
}

static void test_sharded_folder(void **state)
{
    save_one(state, "model-1.safetensors", "a", 1);
    save_one(state, "model-2.safetensors", "b", 5);
    assert_ok(write_index(
        state, "{\"weight_map\":{\"b\":\"model-2.safetensors\",\"a\":\"model-1.safetensors\"}}"));
    sp_tensor_file *file;
    assert_ok(sp_tensor_file_open_folder(*state, "model", NULL, &file));
    assert_int_equal(sp_tensor_file_count(file), 2);
    assert_true(((const float *)sp_tensor_file_find(file, "b")->data)[1] == 6);
    assert_true(((const float *)sp_tensor_file_find(file, "a")->data)[0] == 1);
    sp_tensor_file_drop(file, sp_tensor_file_find(file, "a"));
    sp_tensor_file_close(file);

    static const char *const bad[] = {
        "{}",
        "{\"weight_map\":[]}",
        "{\"weight_map\":{\"a\":3}}",
        "{\"weight_map\":{\"a\":\"../x.safetensors\"}}",
        "{\"weight_map\":{\"a\":\"/etc/passwd\"}}",
        "{\"weight_map\":{\"a\":\"..\"}}",
        "{\"weight_map\":{\"a\":\"model-1.safetensors\",\"c\":\"model-2.safetensors\"}}",
        "{\"weight_map\":{\"a\":\"model-1.safetensors\",\"b\":\"copy.safetensors\"}}",
    };
    save_one(state, "copy.safetensors", "a", 1);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_ok(write_index(state, bad[i]));
        assert_status(sp_tensor_file_open_folder(*state, "model", NULL, &file), SP_FORMAT);
        assert_null(file);
    }
    assert_message("\"a\" is there twice");
    assert_ok(write_index(state, "{\"weight_map\":{\"a\":\"absent.safetensors\"}}"));
    assert_status(sp_tensor_file_open_folder(*state, "model", NULL, &file), SP_IO);
    /* The whole file goes before the index. */
    save_one(state, "model.safetensors", "whole", 1);
    assert_ok(sp_tensor_file_open_folder(*state, "model", NULL, &file));
    assert_non_null(sp_tensor_file_find(file, "whole"));
    sp_tensor_file_close(file);
}

static void test_variants(void **state)
{
    sp_tensor_file *file;
    assert_status(sp_tensor_file_open_folder(*state, "model", NULL, &file), SP_IO);
    assert_message("model.safetensors");
    save_one(state, "model-00001-of-00002.safetensors", "shard", 1);
    save_one(state, "model_ema.safetensors", "ema", 1);
    assert_status(sp_tensor_file_open_folder(*state, "model", NULL, &file), SP_IO);
    save_one(state, "model.fp16.safetensors", "half", 1);
    assert_ok(sp_tensor_file_open_folder(*state, "model", NULL, &file));
    assert_non_null(sp_tensor_file_find(file, "half"));
    sp_tensor_file_close(file);
    save_one(state, "model.non_ema.safetensors", "other", 1);
    assert_status(sp_tensor_file_open_folder(*state, "model", NULL, &file), SP_ARGUMENT);
    assert_message("model.fp16.safetensors");
    assert_ok(sp_remove_tree(in_folder(state, "model.non_ema.safetensors")));
    assert_ok(sp_remove_tree(in_folder(state, "model.fp16.safetensors")));
    static const char index[] = "{\"weight_map\":{\"shard\":\"model-00001-of-00002.safetensors\"}}";
    assert_ok(
        sp_write_file(in_folder(state, "model.safetensors.index.fp16.json"), index, strlen(index)));
    assert_ok(sp_tensor_file_open_folder(*state, "model", NULL, &file));
    assert_non_null(sp_tensor_file_find(file, "shard"));
    sp_tensor_file_close(file);
}

/* ---- allocation failures ---- */

static sp_status open_and_close(void *folder)
{
    sp_tensor_file *file;
    SP_TRY(sp_tensor_file_open_folder(folder, "model", NULL, &file));
    sp_tensor_file_close(file);
    return SP_OK;
}

typedef struct {
    const char *path;
    sample_set samples;
} saving;

static sp_status save_samples(void *context)
{
    const saving *s = context;
    return sp_safetensors_save(s->path, s->samples.named, 4, sample_metadata, 2);
}

static void test_allocation_failures(void **state)
{
    saving s = {.path = in_folder(state, "model.fp16.safetensors")};
    make_samples(&s.samples);
    assert_in_range(fail_every_allocation(save_samples, &s), 20, 1000);
    assert_in_range(fail_every_allocation(open_and_close, *state), 20, 1000); /* the only variant */
    assert_int_equal(rename(s.path, in_folder(state, "part.safetensors")), 0);
    assert_ok(write_index(state, "{\"weight_map\":{\"z.weight\":\"part.safetensors\"}}"));
    assert_in_range(fail_every_allocation(open_and_close, *state), 20, 1000); /* an index */
    free_samples(&s.samples);
}

#define with_folder(test)                                                                          \
    cmocka_unit_test_setup_teardown(test, make_test_folder, remove_test_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shapes),
        cmocka_unit_test(test_tensors),
        cmocka_unit_test(test_coded_tensors),
        with_folder(test_round_trip),
        with_folder(test_saving_refusals),
        with_folder(test_saving_on_a_full_disk),
        with_folder(test_hostile_headers),
        with_folder(test_unordered_header),
        with_folder(test_truncation_and_flips),
        with_folder(test_sharded_folder),
        with_folder(test_variants),
        with_folder(test_allocation_failures),
    };
    return cmocka_run_group_tests_name("tensor", tests, NULL, NULL);
}
