/* Convolutions against the reference: every form, forward and both gradients, on sizes that no tile
 * or block divides. */
#include <math.h>
#include "kernel_fixture.h"
#include "backend/cpu/convolution_choice.h"
#include "base/parallel.h"

/* Relative RMS error that a form may have, and the largest error relative to the largest value.
 * Twice what convolution_choice.h gives, which includes the rounding of bf16 results, and five
 * times that: of some ten thousand results the worst lies at about four deviations, while a result
 * in a wrong place or a point left out is off by as much as the results are large. The sums of a weight's gradient are
 * longer than a layer's: direct ones are off by 5.1e-7 there, winograd_2 by 5.3e-7. */
static void bounds_of(sp_convolution_form form, sp_dtype dtype, double *rms, double *largest)
{
    static const double errors[] = {[SP_CONVOLUTION_DIRECT] = 1.2e-6,
                                    [SP_CONVOLUTION_WINOGRAD_2_BF16] = 8.4e-3,
                                    [SP_CONVOLUTION_WINOGRAD_2] = 8e-7,
                                    [SP_CONVOLUTION_WINOGRAD_4] = 5e-6,
                                    [SP_CONVOLUTION_WINOGRAD_6] = 1e-5};
    *rms = errors[form];
    if (dtype == SP_BF16 && form != SP_CONVOLUTION_WINOGRAD_2_BF16)
        *rms = 4e-3; /* stored as bf16, both sides */
    *largest = 5 * *rms;
}

static void compare(const fixture *f, const void *found, const char *name, double rms_bound,
                    double largest_bound)
{
    const sp_value *y = f->node->out[0];
    double squares = 0, off = 0, largest = 0, worst = 0;
    for (int64_t i = 0; i < sp_shape_count(y->shape); i++) {
        double wanted = sp_load(f->expected, y->dtype, i), is = sp_load(found, y->dtype, i);
        squares += wanted * wanted;
        off += (is - wanted) * (is - wanted);
        largest = fmax(largest, fabs(wanted));
        if (!(fabs(is - wanted) <= worst)) worst = fabs(is - wanted); /* NaN sticks */
    }
    double rms = sqrt(off / squares), relative = worst / largest;
    if (!(rms <= rms_bound && relative <= largest_bound))
        fail_msg("%s of %s, %s: RMS error %g, allowed %g; largest %g, allowed %g",
                 f->node->op->name, sp_shape_text(y->shape), name, rms, rms_bound, relative,
                 largest_bound);
}

/* The same bits for 1, 2 and 16 threads, and within bounds. Returns false where the form does not
 * fit. */
static bool check_form(const fixture *f, sp_convolution_form form)
{
    static const int threads[] = {1, 2, 16};
    fenced out[3];
    for (int i = 0; i < 3; i++) {
        sp_kernel kernel = {0};
        sp_set_threads(threads[i]);
        sp_device *device = sp_cpu_device_with(form);
        sp_status status = device->prepare(device, f->node, &kernel);
        if (status == SP_UNSUPPORTED && i == 0) return false;
        assert_ok(status);
        run_kernel(&kernel, f, &out[i]);
        kernel.destroy(kernel.state);
        assert_memory_equal(out[i].block, out[0].block, out[0].bytes + 2 * FENCE);
    }
    sp_set_threads(0);
    double rms, largest;
    bounds_of(form, f->node->out[0]->dtype, &rms, &largest);
    compare(f, out[0].block + FENCE, sp_convolution_form_name(form), rms, largest);
    for (int i = 0; i < 3; i++)
        fenced_free(&out[i]);
    return true;
}

static void check_forms(const sp_value *value, bool channels_fit)
{
    fixture f;
    fixture_make(&f, value, true);
    /* The library has the direct ones from AVX-512 on; their bits are its own. */
    if (sp_cpu_isa() < SP_ISA_AVX512 && channels_fit) assert_true(check_form(&f, SP_CONVOLUTION_DIRECT));
    for (int form = SP_CONVOLUTION_DIRECT + 1; form < SP_CONVOLUTION_FORM_COUNT; form++) {
        bool pairs = form != SP_CONVOLUTION_WINOGRAD_2_BF16 || sp_cpu_isa() == SP_ISA_AVX512_BF16;
        assert_int_equal(check_form(&f, (sp_convolution_form)form), channels_fit && pairs);
    }
    fixture_free(&f);
}

/* Small and odd pictures; one tile; several blocks; one panel, a narrow last panel; paddings of all
 * kinds. */
static const convolution convolutions[] = {
    {2, 5, 7, 32, 16, 3, {1, 1, 1, 1, 1, false}},   {1, 1, 1, 18, 32, 3, {1, 1, 1, 1, 1, false}},
    {1, 13, 23, 34, 80, 3, {1, 1, 1, 1, 1, false}}, {3, 6, 8, 22, 48, 3, {1, 0, 0, 0, 0, false}},
    {1, 9, 6, 16, 16, 3, {1, 2, 0, 1, 2, false}},   {2, 4, 5, 32, 16, 3, {1, 1, 1, 1, 1, true}},
    {1, 11, 9, 16, 48, 3, {1, 1, 1, 1, 1, true}},   {1, 30, 28, 10, 16, 3, {1, 1, 1, 1, 1, false}},
    {1, 5, 6, 278, 32, 3, {1, 1, 1, 1, 1, false}},  {1, 46, 50, 18, 48, 3, {1, 1, 1, 1, 1, false}},
};
#define CONVOLUTIONS (int)(sizeof convolutions / sizeof *convolutions)

static void forward_with(sp_convolution_filters filters)
{
    sp_convolution_packed_filters = filters;
    for (int i = 0; i < CONVOLUTIONS * 4; i++) {
        sp_dtype dtype = i & 1 ? SP_BF16 : SP_F32;
        sp_builder *b;
        assert_ok(sp_builder_create(&b));
        check_forms(convolve(b, &convolutions[i / 4], dtype, dtype, i & 2 ? WITH_ALL : 0), true);
        sp_builder_destroy(b);
    }
    sp_convolution_packed_filters = SP_FILTERS_BY_SIZE;
}

static void forward_by_taps(void **state)
{
    (void)state;
    forward_with(SP_FILTERS_TAPS);
}

static void forward_by_points(void **state)
{
    (void)state;
    forward_with(SP_FILTERS_POINTS);
}

static void data_gradient_with(sp_convolution_filters filters)
{
    sp_convolution_packed_filters = filters;
    for (int i = 0; i < CONVOLUTIONS * 2; i++) {
        const convolution *c = &convolutions[i / 2];
        sp_dtype dtype = i & 1 ? SP_BF16 : SP_F32;
        sp_builder *b;
        assert_ok(sp_builder_create(&b));
        if (!c->o.doubled) {
            sp_value *y = convolve(b, c, dtype, dtype, 0);
            assert_non_null(y);
            sp_value *dy = input(b, "dy", dtype, y->shape), *w = y->producer->in[1];
            check_forms(sp_conv2d_data_gradient(b, dy, w, c->h, c->w, c->o),
                        c->c % 16 == 0 && c->m % 2 == 0);
        }
        sp_builder_destroy(b);
    }
    sp_convolution_packed_filters = SP_FILTERS_BY_SIZE;
}

static void data_gradient_by_taps(void **state)
{
    (void)state;
    data_gradient_with(SP_FILTERS_TAPS);
}

static void data_gradient_by_points(void **state)
{
    (void)state;
    data_gradient_with(SP_FILTERS_POINTS);
}

/* More tiles than are multiplied at a time; several blocks of rows, of unequal size. */
static const convolution large = {1, 46, 26, 80, 208, 3, {1, 1, 1, 1, 1, false}};

static void weight_gradient(void **state)
{
    (void)state;
    for (int i = 0; i < (CONVOLUTIONS + 1) * 4; i++) {
        const convolution *c = i / 4 < CONVOLUTIONS ? &convolutions[i / 4] : &large;
        sp_dtype dtype = i & 1 ? SP_BF16 : SP_F32, other = i & 2 ? SP_F32 : dtype;
        sp_builder *b;
        assert_ok(sp_builder_create(&b));
        sp_value *y = convolve(b, c, dtype, dtype, 0);
        assert_non_null(y);
        fixture f;
        fixture_make(&f,
                     sp_conv2d_weight_gradient(b, y->producer->in[0],
                                               input(b, "dy", other, y->shape), 3, 3, c->o),
                     true);
        for (int form = SP_CONVOLUTION_DIRECT + 1; form < SP_CONVOLUTION_FORM_COUNT; form++)
            assert_int_equal(check_form(&f, (sp_convolution_form)form),
                             (form == SP_CONVOLUTION_WINOGRAD_2 || form == SP_CONVOLUTION_WINOGRAD_4 ||
                              (form == SP_CONVOLUTION_WINOGRAD_2_BF16 && sp_cpu_isa() == SP_ISA_AVX512_BF16)) &&
                                 c->c % 16 == 0 && c->m % 16 == 0);
        fixture_free(&f);
        sp_builder_destroy(b);
    }
}

static void weights_of_other_dtypes(void **state)
{
    (void)state;
    for (sp_dtype stored = SP_F32; stored <= SP_F16; stored++) {
        sp_builder *b;
        assert_ok(sp_builder_create(&b));
        check_forms(convolve(b, &convolutions[0], SP_F32, stored, 0), true);
        check_forms(convolve(b, &convolutions[0], SP_BF16, stored, 0), true);
        sp_builder_destroy(b);
    }
}

/* What no form does is left to others. */
static void refusals(void **state)
{
    (void)state;
    static const struct {
        int64_t c, m, kernel;
        int stride;
    } refused[] = {{16, 3, 3, 1}, {16, 16, 1, 1}, {16, 16, 3, 2}, {16, 16, 5, 1}};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        sp_builder *b;
        assert_ok(sp_builder_create(&b));
        int64_t k = refused[i].kernel;
        sp_value *x = input(b, "x", SP_F32, sp_shape_of(1, 8, 8, refused[i].c));
        sp_value *w = input(b, "w", SP_F32, sp_shape_of(refused[i].m, refused[i].c, k, k));
        sp_value *y = sp_conv2d(b, x, w, NULL, NULL, NULL,
                                (sp_conv2d_options){refused[i].stride, 1, 1, 1, 1, false});
        assert_non_null(y);
        for (int form = 0; form < SP_CONVOLUTION_FORM_COUNT; form++) {
            sp_kernel kernel = {0};
            assert_status(sp_winograd_prepare((sp_convolution_form)form, SP_FILTERS_BY_SIZE, y->producer, &kernel),
                          SP_UNSUPPORTED);
        }
        sp_builder_destroy(b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forward_by_taps), cmocka_unit_test(forward_by_points),
        cmocka_unit_test(data_gradient_by_taps), cmocka_unit_test(data_gradient_by_points),
        cmocka_unit_test(weight_gradient), cmocka_unit_test(weights_of_other_dtypes),
        cmocka_unit_test(refusals),
    };
    return cmocka_run_group_tests_name("winograd", tests, NULL, NULL);
}
