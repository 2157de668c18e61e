/* Pillow's resampling (Image.resize): separable, antialiased, fixed-point weights of 22 bits, 8-bit
 * result after each pass. Equal arithmetic gives equal pixels. */
#include <math.h>
#include <string.h>
#include "base/memory.h"
#include "base/parallel.h"
#include "image/image.h"

#define WEIGHT_BITS 22
#define ROWS_PER_TASK 16

/* For output position i, input positions first[i] .. first[i]+count[i]-1 weigh weights[i*stride
 * ...]. */
typedef struct {
    int *first, *count;
    int32_t *weights;
    int stride;
} taps;

static double sinc(double x)
{
    return x == 0.0 ? 1.0 : sin(M_PI * x) / (M_PI * x);
}

/* Keys' kernel. */
static double bicubic(double x)
{
    const double a = -0.5;
    if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0;
    return x < 2.0 ? (((x - 5.0) * x + 8.0) * x - 4.0) * a : 0.0;
}

double sp_filter_value(sp_filter filter, double x)
{
    if (filter == SP_FILTER_LANCZOS) return x >= -3.0 && x < 3.0 ? sinc(x) * sinc(x / 3.0) : 0.0;
    x = fabs(x);
    if (filter == SP_FILTER_BICUBIC) return bicubic(x);
    return x < 1.0 ? 1.0 - x : 0.0;
}

double sp_filter_support(sp_filter filter)
{
    return filter == SP_FILTER_LANCZOS ? 3.0 : filter == SP_FILTER_BICUBIC ? 2.0 : 1.0;
}

static void taps_free(taps *t)
{
    sp_free(t->first);
    sp_free(t->count);
    sp_free(t->weights);
}

static void taps_at(taps *t, sp_filter filter, int i, int in, double scale, double support,
                    double *row)
{
    double center = (i + 0.5) * scale, stretch = scale > 1.0 ? scale : 1.0, sum = 0.0;
    int first = (int)(center - support + 0.5), end = (int)(center + support + 0.5);
    first = first > 0 ? first : 0;
    end = end < in ? end : in;
    t->first[i] = first;
    t->count[i] = end - first;
    for (int k = 0; k < end - first; k++) {
        row[k] = sp_filter_value(filter, (k + first - center + 0.5) * (1.0 / stretch));
        sum += row[k];
    }
    for (int k = 0; k < end - first; k++) {
        double weight = (sum != 0.0 ? row[k] / sum : row[k]) * (1 << WEIGHT_BITS);
        t->weights[(size_t)i * t->stride + k] = (int32_t)(weight < 0 ? weight - 0.5 : weight + 0.5);
    }
}

static sp_status taps_make(sp_filter filter, int in, int out, taps *t)
{
    double scale = (double)in / out;
    double support = sp_filter_support(filter) * (scale > 1.0 ? scale : 1.0);
    int stride = (int)ceil(support) * 2 + 1;
    *t = (taps){.first = sp_alloc((size_t)out * sizeof(int)),
                .count = sp_alloc((size_t)out * sizeof(int)),
                .weights = sp_alloc((size_t)out * (size_t)stride * sizeof(int32_t)),
                .stride = stride};
    double *row = sp_alloc((size_t)stride * sizeof(double));
    if (!t->first || !t->count || !t->weights || !row) {
        taps_free(t);
        sp_free(row);
        return SP_MEMORY;
    }
    for (int i = 0; i < out; i++)
        taps_at(t, filter, i, in, scale, support, row);
    sp_free(row);
    return SP_OK;
}

typedef struct {
    const sp_image *in;
    sp_image *out;
    const taps *t;
} pass;

static uint8_t clip(int32_t sum)
{
    sum >>= WEIGHT_BITS;
    return (uint8_t)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
}

static void resize_rows(void *context, int64_t begin, int64_t end)
{
    const pass *p = context;
    for (int64_t y = begin; y < end; y++) {
        const uint8_t *row = p->in->pixels + (size_t)y * p->in->width * 3;
        uint8_t *to = p->out->pixels + (size_t)y * p->out->width * 3;
        for (int x = 0; x < p->out->width; x++, to += 3) {
            const uint8_t *from = row + (size_t)p->t->first[x] * 3;
            const int32_t *weight = p->t->weights + (size_t)x * p->t->stride;
            int32_t r = 1 << (WEIGHT_BITS - 1), g = r, b = r;
            for (int k = 0; k < p->t->count[x]; k++, from += 3) {
                r += from[0] * weight[k];
                g += from[1] * weight[k];
                b += from[2] * weight[k];
            }
            to[0] = clip(r), to[1] = clip(g), to[2] = clip(b);
        }
    }
}

static void resize_columns(void *context, int64_t begin, int64_t end)
{
    const pass *p = context;
    size_t stride = (size_t)p->out->width * 3;
    for (int64_t y = begin; y < end; y++) {
        const uint8_t *from = p->in->pixels + (size_t)p->t->first[y] * stride;
        const int32_t *weight = p->t->weights + (size_t)y * p->t->stride;
        for (size_t x = 0; x < stride; x++) {
            int32_t sum = 1 << (WEIGHT_BITS - 1);
            for (int k = 0; k < p->t->count[y]; k++)
                sum += from[(size_t)k * stride + x] * weight[k];
            p->out->pixels[(size_t)y * stride + x] = clip(sum);
        }
    }
}

static sp_status resize_pass(const sp_image *image, int width, int height, sp_filter filter,
                             sp_image *out)
{
    bool rows = image->width != width;
    taps t;
    SP_TRY(sp_image_create(width, height, out));
    sp_status status =
        taps_make(filter, rows ? image->width : image->height, rows ? width : height, &t);
    if (status != SP_OK) {
        sp_image_free(out);
        return status;
    }
    pass p = {image, out, &t};
    sp_parallel_for(height, ROWS_PER_TASK, rows ? resize_rows : resize_columns, &p);
    taps_free(&t);
    return SP_OK;
}

sp_status sp_image_resize(const sp_image *image, int width, int height, sp_filter filter,
                          sp_image *out)
{
    *out = (sp_image){0};
    if (width == image->width && height == image->height)
        return sp_image_crop(image, 0, 0, width, height, out);
    if (width == image->width || height == image->height)
        return resize_pass(image, width, height, filter, out);
    sp_image between;
    SP_TRY(resize_pass(image, width, image->height, filter, &between));
    sp_status status = resize_pass(&between, width, height, filter, out);
    sp_image_free(&between);
    return status;
}
