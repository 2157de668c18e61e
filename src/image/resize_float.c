/* Float resizes: for each of them the cells and weights of an output position, and one pair of passes. */
#include "image/resize_float.h"
#include <math.h>
#include <string.h>
#include "base/memory.h"

/* Output position i is the sum of weights[i*stride + k] times input first[i] + k, k < count[i]. */
typedef struct {
    int *first, *count;
    double *weights;
    int stride;
} taps;

/* Of `in` cells made `out`, the `side` positions from `first` on. */
typedef struct {
    int in, out, first, side;
} span;

static void taps_free(taps *t)
{
    sp_free(t->first);
    sp_free(t->count);
    sp_free(t->weights);
    *t = (taps){0};
}

static sp_status taps_create(int side, int stride, taps *t)
{
    *t = (taps){.first = sp_alloc_zero((size_t)side * sizeof(int)),
                .count = sp_alloc_zero((size_t)side * sizeof(int)),
                .weights = sp_alloc_zero((size_t)side * (size_t)stride * sizeof(double)),
                .stride = stride};
    if (t->first && t->count && t->weights) return SP_OK;
    taps_free(t);
    return SP_MEMORY;
}

static sp_status pillow_taps(const span *s, taps *t)
{
    const sp_filter filter = SP_FILTER_BICUBIC;
    double scale = (double)s->in / s->out, stretch = scale > 1 ? scale : 1;
    double support = sp_filter_support(filter) * stretch;
    SP_TRY(taps_create(s->side, (int)ceil(support) * 2 + 1, t));
    for (int i = 0; i < s->side; i++) {
        double centre = (s->first + i + 0.5) * scale, sum = 0, *w = t->weights + (size_t)i * (size_t)t->stride;
        int first = (int)(centre - support + 0.5), end = (int)(centre + support + 0.5);
        t->first[i] = first > 0 ? first : 0;
        t->count[i] = (end < s->in ? end : s->in) - t->first[i];
        for (int k = 0; k < t->count[i]; k++)
            sum += w[k] = sp_filter_value(filter, (k + t->first[i] - centre + 0.5) * (1 / stretch));
        for (int k = 0; k < t->count[i] && sum != 0; k++)
            w[k] /= sum;
    }
    return SP_OK;
}

static sp_status antialias_taps(const span *s, sp_filter filter, taps *t)
{
    float scale = (float)s->in / (float)s->out, inverse = scale >= 1 ? 1 / scale : 1;
    float support = (float)sp_filter_support(filter) * (scale >= 1 ? scale : 1);
    SP_TRY(taps_create(s->side, (int)ceilf(support) * 2 + 1, t));
    for (int i = 0; i < s->side; i++) {
        float centre = scale * ((float)(s->first + i) + 0.5f), sum = 0;
        double *w = t->weights + (size_t)i * (size_t)t->stride;
        int64_t first = (int64_t)(centre - support + 0.5f), end = (int64_t)(centre + support + 0.5f);
        t->first[i] = first > 0 ? (int)first : 0;
        t->count[i] = (int)(end < s->in ? end : s->in) - t->first[i];
        for (int k = 0; k < t->count[i]; k++) {
            float x = ((float)(k + t->first[i]) - centre + 0.5f) * inverse;
            float value = (float)sp_filter_value(filter, (double)x);
            w[k] = (double)value;
            sum += value;
        }
        for (int k = 0; k < t->count[i] && sum != 0; k++)
            w[k] = (double)((float)w[k] / sum);
    }
    return SP_OK;
}

/* Two neighbours; half: pixels' centres lie half a pixel in. */
static sp_status bilinear_taps(const span *s, bool half, taps *t)
{
    float scale = (float)s->in / (float)s->out;
    SP_TRY(taps_create(s->side, 2, t));
    for (int i = 0; i < s->side; i++) {
        float at = (float)(s->first + i), x = half ? scale * (at + 0.5f) - 0.5f : at * scale;
        x = x > 0 ? x : 0;
        int first = (int)x < s->in - 1 ? (int)x : s->in - 1;
        float part = first < s->in - 1 ? x - (float)first : 0;
        t->first[i] = first;
        t->count[i] = first < s->in - 1 ? 2 : 1;
        t->weights[2 * i] = (double)(1 - part);
        t->weights[2 * i + 1] = (double)part;
    }
    return SP_OK;
}

/* The weights of a size that stays are 1 and nothing else, so a pass leaves it as it is. */
static sp_status taps_make(const span *s, sp_float_resize how, taps *t)
{
    if (s->in == s->out) return bilinear_taps(s, false, t);
    if (how == SP_RESIZE_PILLOW_BICUBIC) return pillow_taps(s, t);
    if (how == SP_RESIZE_TORCH_ANTIALIAS) return antialias_taps(s, SP_FILTER_BILINEAR, t);
    if (how == SP_RESIZE_TORCH_BICUBIC) return antialias_taps(s, SP_FILTER_BICUBIC, t);
    return bilinear_taps(s, how == SP_RESIZE_TORCH_BILINEAR, t);
}

/* One channel of rows x columns pixels to rows x side. */
static void across(const uint8_t *from, int rows, int columns, const taps *t, int side, float *to)
{
    for (int y = 0; y < rows; y++, from += (size_t)columns * 3)
        for (int x = 0; x < side; x++, to++) {
            const double *w = t->weights + (size_t)x * (size_t)t->stride;
            double sum = 0;
            for (int k = 0; k < t->count[x]; k++)
                sum += from[(size_t)(t->first[x] + k) * 3] * w[k];
            *to = (float)sum;
        }
}

static void down(const float *from, const taps *t, int side, double *sums, float *to)
{
    for (int y = 0; y < side; y++, to += side) {
        const double *w = t->weights + (size_t)y * (size_t)t->stride;
        memset(sums, 0, (size_t)side * sizeof *sums);
        for (int k = 0; k < t->count[y]; k++) {
            const float *row = from + (size_t)(t->first[y] + k) * (size_t)side;
            for (int x = 0; x < side; x++)
                sums[x] += (double)row[x] * w[k];
        }
        for (int x = 0; x < side; x++)
            to[x] = (float)sums[x];
    }
}

static sp_status make_both(const span *x, const span *y, sp_float_resize how, taps *columns, taps *rows)
{
    *columns = *rows = (taps){0};
    SP_TRY(taps_make(x, how, columns));
    return taps_make(y, how, rows);
}

static void clip(float *x, size_t count)
{
    for (size_t i = 0; i < count; i++)
        x[i] = x[i] < 0 ? 0 : x[i] > 255 ? 255 : x[i];
}

/* x and y have one side. */
static sp_status resize(const sp_image *image, const span *x, const span *y, sp_float_resize how, float *out)
{
    int side = x->side;
    taps columns, rows;
    size_t plane = (size_t)side * (size_t)side;
    float *between = sp_alloc((size_t)image->height * (size_t)side * sizeof *between);
    double *sums = sp_alloc((size_t)side * sizeof *sums);
    sp_status status = make_both(x, y, how, &columns, &rows);
    if (!between || !sums) status = SP_MEMORY;
    for (int c = 0; c < 3 && !status; c++) {
        across(image->pixels + c, image->height, image->width, &columns, side, between);
        down(between, &rows, side, sums, out + (size_t)c * plane);
    }
    if (!status && how == SP_RESIZE_PILLOW_BICUBIC) clip(out, 3 * plane);
    taps_free(&columns);
    taps_free(&rows);
    sp_free(between);
    sp_free(sums);
    return status;
}

sp_status sp_image_resize_float(const sp_image *image, int side, sp_float_resize how, float *out)
{
    const span x = {image->width, side, 0, side}, y = {image->height, side, 0, side};
    return resize(image, &x, &y, how, out);
}

sp_status sp_image_fit_float(const sp_image *image, int side, sp_float_resize how, float *out)
{
    int width, height;
    SP_TRY(sp_image_fit_size(image, side, &width, &height));
    const span x = {image->width, width, sp_image_center_offset(width - side), side};
    const span y = {image->height, height, sp_image_center_offset(height - side), side};
    return resize(image, &x, &y, how, out);
}
