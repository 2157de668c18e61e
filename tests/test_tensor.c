#include "support.h"

#include <math.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/parallel.h"
#include "base/text.h"
#include "formats/safetensors.h"

/* ---- dtype ---- */

static void test_dtype_names(void **state)
{
    (void)state;
    for (int i = 0; i < SP_DTYPE_COUNT; i++)
        assert_int_equal(sp_dtype_from_name(sp_dtype_name((sp_dtype)i)), sp_dtype_is_coded((sp_dtype)i) ? -1 : i);
    assert_int_equal(sp_dtype_from_name("BOOL"), -1);
    assert_int_equal(sp_dtype_size(SP_BF16), 2);
    assert_int_equal(sp_dtype_size(SP_I64), 8);
}

static void test_dtype_sizes(void **state)
{
    (void)state;
    static const sp_dtype coded[] = {SP_DYNAMIC8_SIGNED, SP_DYNAMIC8_UNSIGNED};
    static const int64_t counts[][3] = {{0, 0, 0},     {1, 256, 1},   {255, 256, 1}, /* elements, bytes, scales */
                                        {256, 256, 1}, {257, 512, 2}, {512, 512, 2}};
    for (size_t k = 0; k < 2; k++) {
        for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
            assert_int_equal(sp_dtype_bytes(coded[k], counts[i][0]), counts[i][1]);
            assert_int_equal(sp_dtype_scales(coded[k], counts[i][0]), counts[i][2]);
        }
        assert_int_equal(sp_dtype_bytes(coded[k], INT64_MAX - 255), INT64_MAX - 255);
        assert_true(sp_dtype_bytes(coded[k], INT64_MAX - 254) == SIZE_MAX);
        assert_true(sp_dtype_bytes(coded[k], INT64_MAX) == SIZE_MAX);
        assert_int_equal(sp_dtype_scales(coded[k], INT64_MAX), INT64_MAX / 256 + 1);
        assert_true(sp_dtype_bytes(coded[k], -1) == SIZE_MAX);
    }
    for (int i = 0; i < SP_DTYPE_COUNT; i++) {
        sp_dtype dtype = (sp_dtype)i;
        if (sp_dtype_is_coded(dtype)) continue;
        assert_int_equal(sp_dtype_bytes(dtype, 257), 257 * sp_dtype_size(dtype));
        assert_int_equal(sp_dtype_scales(dtype, 257), 0);
    }
    assert_int_equal(sp_dtype_bytes(SP_F64, INT64_MAX / 8), INT64_MAX / 8 * 8);
    assert_true(sp_dtype_bytes(SP_F64, INT64_MAX / 8 + 1) == SIZE_MAX);
    assert_true(sp_dtype_bytes(SP_DTYPE_COUNT, 1) == SIZE_MAX);
}

static void size_of_a_code(void)
{
    sp_dtype_size(SP_DYNAMIC8_SIGNED);
}

static void load_a_code(void)
{
    sp_load("", SP_DYNAMIC8_SIGNED, 0);
}

static void store_a_code(void)
{
    char byte;
    sp_store(&byte, SP_DYNAMIC8_UNSIGNED, 0, 1);
}

static void convert_codes(void)
{
    char to;
    sp_convert_elements(&to, SP_DYNAMIC8_UNSIGNED, "", SP_DYNAMIC8_UNSIGNED, 1);
}

static void decode_codes(void)
{
    float to;
    sp_convert_elements(&to, SP_F32, "", SP_DYNAMIC8_SIGNED, 1);
}

/* What would take a code for a number ends the program. */
static void test_codes_are_no_numbers(void **state)
{
    (void)state;
    void (*const wrong[])(void) = {size_of_a_code, load_a_code, store_a_code, convert_codes, decode_codes};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        int status;
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            const struct rlimit no_core = {0, 0};
            setrlimit(RLIMIT_CORE, &no_core);
            close(STDERR_FILENO);
            wrong[i]();
            _exit(0);
        }
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    }
}

/* The value of a half from its definition: sign, 5 bits of exponent, 10 of fraction. */
static double half_value(uint16_t h)
{
    int exponent = h >> 10 & 31, fraction = h & 1023;
    double magnitude = exponent == 31  ? (fraction ? NAN : INFINITY)
                       : exponent == 0 ? ldexp(fraction, -24)
                                       : ldexp(1024 + fraction, exponent - 25);
    return h & 0x8000 ? -magnitude : magnitude;
}

static void test_every_half(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x10000; h++) {
        double expected = half_value((uint16_t)h);
        float f = sp_f16_to_f32((uint16_t)h);
        uint16_t back = sp_f32_to_f16(f);
        if (isnan(expected)) {
            assert_true(isnan(f));
            assert_true(isnan(half_value(back)));
            continue;
        }
        assert_true((double)f == expected);
        assert_int_equal(back, h);
        /* Halfway to the next one goes to the even one; a little less or more goes to the nearer. */
        if ((h & 0x7fff) >= 0x7bff) continue;
        float next = sp_f16_to_f32((uint16_t)(h + 1)), middle = (f + next) / 2;
        assert_int_equal(sp_f32_to_f16(middle), h & 1 ? h + 1 : h);
        assert_int_equal(sp_f32_to_f16(nextafterf(middle, f)), h);
        assert_int_equal(sp_f32_to_f16(nextafterf(middle, next)), h + 1);
    }
    assert_int_equal(sp_f32_to_f16(65519.9f), 0x7bff);
    assert_int_equal(sp_f32_to_f16(65520.0f), 0x7c00);
    assert_int_equal(sp_f32_to_f16(-1e30f), 0xfc00);
    assert_int_equal(sp_f32_to_f16(1e-30f), 0);
}

static void test_every_bf16(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x10000; h++) {
        float f = sp_bf16_to_f32((uint16_t)h);
        uint16_t back = sp_f32_to_bf16(f);
        if (isnan(f)) {
            assert_true(isnan(sp_bf16_to_f32(back)));
            continue;
        }
        assert_int_equal(back, h);
        if ((h & 0x7fff) >= 0x7f7f) continue;
        uint32_t bits = h << 16 | 0x8000;
        float middle;
        memcpy(&middle, &bits, 4);
        assert_int_equal(sp_f32_to_bf16(middle), h & 1 ? h + 1 : h);
        assert_int_equal(sp_f32_to_bf16(nextafterf(middle, f)), h);
    }
}

/* The value of an eight-bit float from its definition: sign, exponent, the rest fraction. E4M3 has no infinities, and
 * NaN at its largest code alone; E5M2 is as IEEE 754 has it. */
static double f8_value(uint8_t code, bool e4m3)
{
    int digits = e4m3 ? 3 : 2, bias = e4m3 ? 7 : 15, fractions = 1 << digits;
    int exponent = (code & 0x7f) >> digits, fraction = code & (fractions - 1);
    double magnitude = exponent ? ldexp(fractions + fraction, exponent - bias - digits)
                                : ldexp(fraction, 1 - bias - digits);
    if (e4m3 && (code & 0x7f) == 0x7f) magnitude = NAN;
    if (!e4m3 && exponent == 31) magnitude = fraction ? NAN : INFINITY;
    return code & 0x80 ? -magnitude : magnitude;
}

static void check_f8_rounding(uint8_t code, sp_dtype dtype)
{
    double value = f8_value(code, dtype == SP_F8_E4M3), next = f8_value((uint8_t)(code + 1), dtype == SP_F8_E4M3);
    double middle = (value + next) / 2;
    uint8_t back[4];
    sp_store(back, dtype, 0, value);
    assert_int_equal(back[0], code);
    if (!isfinite(next)) return;
    sp_store(back, dtype, 1, middle);
    sp_store(back, dtype, 2, nextafter(middle, value));
    sp_store(back, dtype, 3, nextafter(middle, next));
    assert_int_equal(back[1], code & 1 ? code + 1 : code);
    assert_int_equal(back[2], code);
    assert_int_equal(back[3], code + 1);
}

/* All codes, alone and through every way of converting. */
static void test_every_f8(void **state)
{
    (void)state;
    enum { CODES = 256 };
    for (int e4m3 = 0; e4m3 < 2; e4m3++) {
        sp_dtype dtype = e4m3 ? SP_F8_E4M3 : SP_F8_E5M2;
        uint8_t codes[CODES];
        float wide[CODES];
        uint16_t half[CODES], bf16[CODES];
        for (int i = 0; i < CODES; i++)
            codes[i] = (uint8_t)i;
        sp_convert_elements(wide, SP_F32, codes, dtype, CODES);
        sp_convert_elements(half, SP_F16, codes, dtype, CODES);
        sp_convert_elements(bf16, SP_BF16, codes, dtype, CODES);
        for (int i = 0; i < CODES; i++) {
            double expected = f8_value(codes[i], e4m3);
            const double found[] = {
                (double)(e4m3 ? sp_f8_e4m3_to_f32(codes[i]) : sp_f8_e5m2_to_f32(codes[i])), (double)wide[i],
                (double)sp_f16_to_f32(half[i]), (double)sp_bf16_to_f32(bf16[i]), sp_load(codes, dtype, i)};
            for (size_t k = 0; k < sizeof found / sizeof *found; k++) {
                if (isnan(expected) ? !isnan(found[k]) : found[k] != expected)
                    fail_msg("%s 0x%02x: way %zu gives %g, expected %g", sp_dtype_name(dtype), i, k, found[k],
                             expected);
                assert_int_equal(!signbit(found[k]), !signbit(expected));
            }
            if (!isnan(expected)) check_f8_rounding(codes[i], dtype);
        }
    }
    uint8_t code;
    static const struct {
        sp_dtype dtype;
        double value;
        int code;
    } beyond[] = {{SP_F8_E4M3, 464, 0x7e},      {SP_F8_E4M3, 465, 0x7f},       {SP_F8_E4M3, -1e9, 0xff},
                  {SP_F8_E5M2, 61439, 0x7b},    {SP_F8_E5M2, 61440, 0x7c},     {SP_F8_E5M2, -INFINITY, 0xfc},
                  {SP_F8_E4M3, INFINITY, 0x7f}, {SP_F8_E4M3, 0x1p-10, 0x00},   {SP_F8_E4M3, 0x1.8p-10, 0x01}};
    for (size_t i = 0; i < sizeof beyond / sizeof *beyond; i++) {
        sp_store(&code, beyond[i].dtype, 0, beyond[i].value);
        assert_int_equal(code, beyond[i].code);
    }
}

static void test_store_clamps(void **state)
{
    (void)state;
    int64_t wide;
    int32_t narrow;
    uint8_t byte;
    static const double values[] = {1e300, -1e300, NAN, -2.9, 254.9, INFINITY};
    static const int64_t wides[] = {INT64_MAX, INT64_MIN, 0, -2, 254, INT64_MAX};
    static const int32_t narrows[] = {INT32_MAX, INT32_MIN, 0, -2, 254, INT32_MAX};
    static const uint8_t bytes[] = {255, 0, 0, 0, 254, 255};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        sp_store(&wide, SP_I64, 0, values[i]);
        sp_store(&narrow, SP_I32, 0, values[i]);
        sp_store(&byte, SP_U8, 0, values[i]);
        assert_true(wide == wides[i] && narrow == narrows[i] && byte == bytes[i]);
    }
}

/* Every pair of dtypes, from and to odd addresses, in many threads, against element by element. */
static void test_convert(void **state)
{
    (void)state;
    enum { COUNT = 200003 };
    char *from = sp_alloc(COUNT * 8 + 1), *to = sp_alloc(COUNT * 8 + 1);
    sp_set_threads(3);
    for (int a = 0; a < SP_DTYPE_COUNT; a++) {
        for (int b = 0; b < SP_DTYPE_COUNT; b++) {
            sp_dtype in = (sp_dtype)a, out = (sp_dtype)b;
            if (sp_dtype_is_coded(in) || sp_dtype_is_coded(out)) continue;
            for (int64_t i = 0; i < COUNT; i++)
                sp_store(from + 1, in, i, (double)(i % 509) * 0.37 - (in == SP_U8 ? 0 : 90));
            sp_convert_elements(to + 1, out, from + 1, in, COUNT);
            for (int64_t i = 0; i < COUNT; i++) {
                char expected[8], found[8];
                sp_store(expected, out, 0, sp_load(from + 1, in, i));
                memcpy(found, to + 1 + i * (int64_t)sp_dtype_size(out), sp_dtype_size(out));
                assert_memory_equal(expected, found, sp_dtype_size(out));
            }
        }
    }
    sp_set_threads(0);
    sp_convert_elements(to, SP_F32, from, SP_F16, 0);
    sp_free(from);
    sp_free(to);
}

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
    FILE *stream = fopen(path, "wb");
    assert_int_equal(fwrite(bytes, 1, size, stream), size);
    fclose(stream);
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
    FILE *stream = fopen(path, "wb");
    assert_int_equal(fwrite(bytes, 1, size, stream), size);
    fclose(stream);
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
        cmocka_unit_test(test_dtype_names),
        cmocka_unit_test(test_dtype_sizes),
        cmocka_unit_test(test_codes_are_no_numbers),
        cmocka_unit_test(test_every_half),
        cmocka_unit_test(test_every_bf16),
        cmocka_unit_test(test_every_f8),
        cmocka_unit_test(test_store_clamps),
        cmocka_unit_test(test_convert),
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
