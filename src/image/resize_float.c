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

static void taps_free(taps *t)
{
    sp_free(t->first);
    sp_free(t->count);
    sp_free(t->weights);
}

static sp_status taps_create(int out, int stride, taps *t)
{
    *t = (taps){.first = sp_alloc_zero((size_t)out * sizeof(int)),
                .count = sp_alloc_zero((size_t)out * sizeof(int)),
                .weights = sp_alloc_zero((size_t)out * (size_t)stride * sizeof(double)),
                .stride = stride};
    if (t->first && t->count && t->weights) return SP_OK;
    taps_free(t);
    return SP_MEMORY;
}

static sp_status pillow_taps(int in, int out, taps *t)
{
    const sp_filter filter = SP_FILTER_BICUBIC;
    double scale = (double)in / out, stretch = scale > 1 ? scale : 1, support = sp_filter_support(filter) * stretch;
    SP_TRY(taps_create(out, (int)ceil(support) * 2 + 1, t));
    for (int i = 0; i < out; i++) {
        double centre = (i + 0.5) * scale, sum = 0, *w = t->weights + (size_t)i * (size_t)t->stride;
        int first = (int)(centre - support + 0.5), end = (int)(centre + support + 0.5);
        t->first[i] = first > 0 ? first : 0;
        t->count[i] = (end < in ? end : in) - t->first[i];
        for (int k = 0; k < t->count[i]; k++)
            sum += w[k] = sp_filter_value(filter, (k + t->first[i] - centre + 0.5) * (1 / stretch));
        for (int k = 0; k < t->count[i] && sum != 0; k++)
            w[k] /= sum;
    }
    return SP_OK;
}

static sp_status antialias_taps(int in, int out, taps *t)
{
    float scale = (float)in / (float)out, support = scale >= 1 ? scale : 1, inverse = scale >= 1 ? 1 / scale : 1;
    SP_TRY(taps_create(out, (int)ceilf(support) * 2 + 1, t));
    for (int i = 0; i < out; i++) {
        float centre = scale * ((float)i + 0.5f), sum = 0;
        double *w = t->weights + (size_t)i * (size_t)t->stride;
        int64_t first = (int64_t)(centre - support + 0.5f), end = (int64_t)(centre + support + 0.5f);
        t->first[i] = first > 0 ? (int)first : 0;
        t->count[i] = (int)(end < in ? end : in) - t->first[i];
        for (int k = 0; k < t->count[i]; k++) {
            float x = fabsf(((float)(k + t->first[i]) - centre + 0.5f) * inverse), value = x < 1 ? 1 - x : 0;
            w[k] = (double)value;
            sum += value;
        }
        for (int k = 0; k < t->count[i] && sum != 0; k++)
            w[k] = (double)((float)w[k] / sum);
    }
    return SP_OK;
}

/* Two neighbours; half: pixels' centres lie half a pixel in. */
static sp_status bilinear_taps(int in, int out, bool half, taps *t)
{
    float scale = (float)in / (float)out;
    SP_TRY(taps_create(out, 2, t));
    for (int i = 0; i < out; i++) {
        float x = half ? scale * ((float)i + 0.5f) - 0.5f : (float)i * scale;
        x = x > 0 ? x : 0;
        int first = (int)x < in - 1 ? (int)x : in - 1;
        float part = first < in - 1 ? x - (float)first : 0;
        t->first[i] = first;
        t->count[i] = first < in - 1 ? 2 : 1;
        t->weights[2 * i] = (double)(1 - part);
        t->weights[2 * i + 1] = (double)part;
    }
    return SP_OK;
}

static sp_status taps_make(int in, int out, sp_float_resize how, taps *t)
{
    if (how == SP_RESIZE_PILLOW_BICUBIC) return pillow_taps(in, out, t);
    if (how == SP_RESIZE_TORCH_ANTIALIAS) return antialias_taps(in, out, t);
    return bilinear_taps(in, out, how == SP_RESIZE_TORCH_BILINEAR, t);
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

/* The weights of a size that stays are 1 and nothing else, so a pass leaves it as it is. */
static sp_status make_both(const sp_image *image, int side, sp_float_resize how, taps *columns, taps *rows)
{
    sp_float_resize stays = SP_RESIZE_TF1_BILINEAR;
    *columns = *rows = (taps){0};
    SP_TRY(taps_make(image->width, side, image->width == side ? stays : how, columns));
    return taps_make(image->height, side, image->height == side ? stays : how, rows);
}

static void clip(float *x, size_t count)
{
    for (size_t i = 0; i < count; i++)
        x[i] = x[i] < 0 ? 0 : x[i] > 255 ? 255 : x[i];
}

sp_status sp_image_resize_float(const sp_image *image, int side, sp_float_resize how, float *out)
{
    taps columns, rows;
    size_t plane = (size_t)side * (size_t)side;
    float *between = sp_alloc((size_t)image->height * (size_t)side * sizeof *between);
    double *sums = sp_alloc((size_t)side * sizeof *sums);
    sp_status status = make_both(image, side, how, &columns, &rows);
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
