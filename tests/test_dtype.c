/* Element types: names, sizes by block, conversions, and what is no number. */
#include "support.h"

#include <math.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/parallel.h"
#include "tensor/dtype.h"

static void test_dtype_names(void **state)
{
    (void)state;
    for (int i = 0; i < SP_DTYPE_COUNT; i++)
        assert_int_equal(sp_dtype_from_name(sp_dtype_name((sp_dtype)i)), sp_dtype_block((sp_dtype)i) > 1 ? -1 : i);
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
        if (sp_dtype_block(dtype) > 1) continue; /* quantised ones: tests/test_gguf.c */
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
            if (sp_dtype_block(in) > 1 || sp_dtype_block(out) > 1) continue;
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
    };
    return cmocka_run_group_tests_name("dtype", tests, NULL, NULL);
}
