/* The transforms of tiles: into the form in which a convolution is a product, and back. */
#include "backend/cpu/vector/product/winograd.h"

/* B^T v of one row or column of a tile, in place; elements `step` apart. */
SP_INLINE void input_line(sp_vf *v, const int step, const int output)
{
    sp_vf d[SP_WINOGRAD_MAX_TILE];
#pragma GCC unroll 8
    for (int i = 0; i < output + 2; i++)
        d[i] = v[i * step];
    if (output == 2) {
        v[0] = d[0] - d[2];
        v[step] = d[1] + d[2];
        v[2 * step] = d[2] - d[1];
        v[3 * step] = d[1] - d[3];
    } else if (output == 4) {
        sp_vf a = d[4] - 4.0f * d[2], b = d[3] - 4.0f * d[1];
        sp_vf c = d[4] - d[2], e = 2.0f * (d[3] - d[1]);
        v[0] = 4.0f * d[0] - 5.0f * d[2] + d[4];
        v[step] = a + b;
        v[2 * step] = a - b;
        v[3 * step] = c + e;
        v[4 * step] = c - e;
        v[5 * step] = 4.0f * d[1] - 5.0f * d[3] + d[5];
    } else {
        sp_vf even = d[2] + d[6] - 4.25f * d[4], odd = d[1] + d[5] - 4.25f * d[3];
        v[0] = d[0] - d[6] + 5.25f * (d[4] - d[2]);
        v[step] = even + odd;
        v[2 * step] = even - odd;
        even = d[6] + 0.25f * d[2] - 1.25f * d[4];
        odd = 0.5f * d[1] - 2.5f * d[3] + 2.0f * d[5];
        v[3 * step] = even + odd;
        v[4 * step] = even - odd;
        even = d[6] + 4.0f * d[2] - 5.0f * d[4];
        odd = 2.0f * d[1] - 2.5f * d[3] + 0.5f * d[5];
        v[5 * step] = even + odd;
        v[6 * step] = even - odd;
        v[7 * step] = d[7] - d[1] + 5.25f * (d[3] - d[5]);
    }
}

/* A^T v, in place: the first `output` elements become the result. */
SP_INLINE void output_line(sp_vf *v, const int step, const int output)
{
    sp_vf d[SP_WINOGRAD_MAX_TILE];
#pragma GCC unroll 8
    for (int i = 0; i < output + 2; i++)
        d[i] = v[i * step];
    if (output == 2) {
        v[0] = d[0] + d[1] + d[2];
        v[step] = d[1] - d[2] - d[3];
        return;
    }
    sp_vf even = d[1] + d[2], odd = d[1] - d[2], even2 = d[3] + d[4], odd2 = d[3] - d[4];
    if (output == 4) {
        v[0] = d[0] + even + even2;
        v[step] = odd + 2.0f * odd2;
        v[2 * step] = even + 4.0f * even2;
        v[3 * step] = odd + 8.0f * odd2 + d[5];
    } else {
        sp_vf even3 = d[5] + d[6], odd3 = d[5] - d[6];
        v[0] = d[0] + even + even2 + even3;
        v[step] = odd + 2.0f * odd2 + 0.5f * odd3;
        v[2 * step] = even + 4.0f * even2 + 0.25f * even3;
        v[3 * step] = odd + 8.0f * odd2 + 0.125f * odd3;
        v[4 * step] = even + 16.0f * even2 + 0.0625f * even3;
        v[5 * step] = odd + 32.0f * odd2 + 0.03125f * odd3 + d[7];
    }
}

/* Where tile `index` of all begins in y. */
typedef struct {
    int64_t n, row, column;
} place;

static place place_of(const sp_winograd_shape *s, int64_t index)
{
    int64_t per_picture = s->tile_rows * s->tile_columns, within = index % per_picture;
    return (place){index / per_picture, within / s->tile_columns * s->output,
                   within % s->tile_columns * s->output};
}

/* Addresses of a tile's pixels; those outside the picture are `zeros`. */
static void find_pixels(const sp_winograd_shape *s, const void *x, const void *zeros, place at,
                        const void **pixel)
{
    int64_t height = s->H << s->doubled, width = s->W << s->doubled;
    int64_t size = (int64_t)sp_dtype_size(s->x_dtype);
    for (int i = 0; i < s->tile; i++) {
        int64_t h = at.row - s->pad_top + i;
        bool inside = h >= 0 && h < height;
        int64_t row = (at.n * s->H + (h >> s->doubled)) * s->W;
        for (int j = 0; j < s->tile; j++) {
            int64_t w = at.column - s->pad_left + j;
            bool there = inside && w >= 0 && w < width;
            *pixel++ = there ? (const char *)x + (row + (w >> s->doubled)) * s->C * size : zeros;
        }
    }
}

typedef struct {
    const void *pixel[SP_WINOGRAD_MAX_POINTS];
    char *v;
    int64_t depth, point_stride, points;
} tile_task;

/* B^T d B of one vector of channels. */
SP_INLINE void input_vector(const void *const *pixel, int64_t c, int64_t left, sp_vf *v,
                            const int output, const bool half)
{
    const int tile = output + 2;
#pragma GCC unroll 64
    for (int e = 0; e < tile * tile; e++)
        v[e] = sp_vf_get(pixel[e], c, left, half);
#pragma GCC unroll 8
    for (int j = 0; j < tile; j++)
        input_line(v + j, tile, output);
#pragma GCC unroll 8
    for (int i = 0; i < tile; i++)
        input_line(v + i * tile, 1, output);
}

SP_INLINE void input_tile(const tile_task *t, int64_t channels, const int output, const bool half_x,
                          const bool half_v, const bool doubled)
{
    const int tile = output + 2;
    char *to = t->v;
    for (int64_t c = 0, within = 0; c < channels; c += SP_LANES, within += SP_LANES) {
        sp_vf v[SP_WINOGRAD_MAX_POINTS];
        if (within == t->depth) {
            to += t->points * t->point_stride * (half_v ? 2 : 4);
            within = 0;
        }
        input_vector(t->pixel, c, channels - c, v, output, half_x);
#pragma GCC unroll 64
        for (int e = 0; e < tile * tile; e++) {
            if (sp_winograd_skips(e / tile, e % tile, doubled)) continue;
            int64_t point = sp_winograd_point(e / tile, e % tile, tile, doubled);
            sp_vf_put(to, point * t->point_stride + within, v[e], channels - c, half_v);
        }
    }
}

#define INPUT(output, half_x, half_v)                                                              \
    (s->doubled ? input_tile(&t, s->C, output, half_x, half_v, true)                               \
                : input_tile(&t, s->C, output, half_x, half_v, false))

void sp_winograd_input(const sp_winograd_shape *s, const void *x, const void *zeros, int64_t first,
                       int64_t count, void *v, int64_t depth, int64_t point_stride)
{
    bool half_x = s->x_dtype == SP_BF16;
    int64_t row_bytes = depth * (s->half ? 2 : 4);
    for (int64_t i = 0; i < count; i++) {
        tile_task t = {.v = (char *)v + i * row_bytes,
                       .depth = depth,
                       .point_stride = point_stride,
                       .points = sp_winograd_points(s)};
        find_pixels(s, x, zeros, place_of(s, first + i), t.pixel);
        if (s->half) {
            if (half_x)
                INPUT(2, true, true);
            else
                INPUT(2, false, true);
        } else if (s->output == 2) {
            if (half_x)
                INPUT(2, true, false);
            else
                INPUT(2, false, false);
        } else if (s->output == 4) {
            if (half_x)
                INPUT(4, true, false);
            else
                INPUT(4, false, false);
        } else {
            if (half_x)
                INPUT(6, true, false);
            else
                INPUT(6, false, false);
        }
    }
}

/* ---- back ---- */

/* One vector of channels of one tile: y before the sums are in v[i * tile + j]. */
SP_INLINE void output_vector(sp_vf *v, const float *products, int64_t point_stride,
                             const int output, const bool doubled)
{
    const int tile = output + 2;
#pragma GCC unroll 64
    for (int e = 0; e < tile * tile; e++)
        v[e] = sp_winograd_skips(e / tile, e % tile, doubled)
                   ? (sp_vf){0}
                   : sp_vf_load(products + sp_winograd_point(e / tile, e % tile, tile, doubled) *
                                               point_stride);
#pragma GCC unroll 8
    for (int j = 0; j < tile; j++)
        output_line(v + j, tile, output);
#pragma GCC unroll 8
    for (int i = 0; i < output; i++)
        output_line(v + i * tile, 1, output);
}

SP_INLINE void output_tile(const sp_winograd_shape *s, const float *products, int64_t point_stride,
                           place at, int64_t channel, int64_t columns, const sp_convolution_sums *sums,
                           void *y, const int output, const bool doubled)
{
    const int tile = output + 2;
    bool half = s->y_dtype == SP_BF16;
    int64_t rows = s->Ho - at.row < output ? s->Ho - at.row : output;
    int64_t width = s->Wo - at.column < output ? s->Wo - at.column : output;
    int64_t begin = ((at.n * s->Ho + at.row) * s->Wo + at.column) * s->M + channel;
    for (int64_t m = 0; m < columns; m += SP_LANES) {
        sp_vf v[SP_WINOGRAD_MAX_POINTS], sum = {0};
        output_vector(v, products + m, point_stride, output, doubled);
        if (sums->bias) sum = sp_vf_load(sums->bias + channel + m);
        if (sums->per_channel)
            sum += sp_vf_load_as(sums->per_channel, at.n * s->M + channel + m,
                                 sums->per_channel_dtype == SP_BF16);
        for (int64_t i = 0; i < rows; i++)
            for (int64_t j = 0; j < width; j++) {
                int64_t to = begin + (i * s->Wo + j) * s->M + m;
                sp_vf result = v[i * tile + j] + sum;
                if (sums->residual)
                    result += sp_vf_load_as(sums->residual, to, sums->residual_dtype == SP_BF16);
                sp_vf_store_as(y, to, result, half);
            }
    }
}

#define OUTPUT(output)                                                                             \
    (s->doubled                                                                                    \
         ? output_tile(s, from, point_stride, at, channel, columns, sums, y, output, true)         \
         : output_tile(s, from, point_stride, at, channel, columns, sums, y, output, false))

void sp_winograd_output(const sp_winograd_shape *s, const float *products, int64_t point_stride,
                        int64_t row_stride, int64_t first, int64_t count, int64_t channel,
                        int64_t columns, const sp_convolution_sums *sums, void *y)
{
    for (int64_t i = 0; i < count; i++) {
        const float *from = products + i * row_stride;
        place at = place_of(s, first + i);
        if (s->output == 2)
            OUTPUT(2);
        else if (s->output == 4)
            OUTPUT(4);
        else
            OUTPUT(6);
    }
}

/* ---- for the gradient of kernels ---- */

/* A d of one row or column of a tile of y, in place: the first `output` elements become output + 2. */
SP_INLINE void spread_line(sp_vf *v, const int step, const int output)
{
    sp_vf a = v[0], b = v[step];
    if (output == 2) {
        v[step] = a + b;
        v[2 * step] = a - b;
        v[3 * step] = -b;
        return;
    }
    sp_vf c = v[2 * step], d = v[3 * step];
    sp_vf even = a + c, odd = b + d, even2 = a + 4.0f * c, odd2 = 2.0f * b + 8.0f * d;
    v[step] = even + odd;
    v[2 * step] = even - odd;
    v[3 * step] = even2 + odd2;
    v[4 * step] = even2 - odd2;
    v[5 * step] = d;
}

/* A dy A^T of one vector of channels, whose output x output pixels are the first of the tile's rows. */
SP_INLINE void spread_vector(const void *const *pixel, int64_t c, sp_vf *v, const int output, const bool half)
{
    const int tile = output + 2;
#pragma GCC unroll 4
    for (int i = 0; i < output; i++)
#pragma GCC unroll 4
        for (int j = 0; j < output; j++)
            v[tile * i + j] = sp_vf_load_as(pixel[tile * i + j], c, half);
#pragma GCC unroll 4
    for (int j = 0; j < output; j++)
        spread_line(v + j, tile, output);
#pragma GCC unroll 6
    for (int i = 0; i < tile; i++)
        spread_line(v + tile * i, 1, output);
}

/* Both transforms of one vector of channels. */
SP_INLINE void tile_vector(const sp_winograd_tiles *t, const void *const *pixel, int64_t c, int64_t channels, sp_vf *v,
                           const int output, const bool half)
{
    if (t->spread)
        spread_vector(pixel, c, v, output, half);
    else
        input_vector(pixel, c, channels - c, v, output, half);
}

SP_INLINE void transform_step(const sp_winograd_tiles *t, const void *const pixel[2][SP_WINOGRAD_GRADIENT_POINTS],
                              int64_t step, const int output, const bool half, const bool pairs)
{
    const int tile = output + 2;
    const int64_t channels = t->shape->C;
    for (int64_t c = 0; c < channels; c += SP_LANES) {
        sp_vf v[2][SP_WINOGRAD_GRADIENT_POINTS];
        int64_t first = c / t->panel * t->panel, left = channels - first;
        int64_t width = left < t->panel ? left : t->panel;
        float *to = t->to + first * t->steps + step * width + c - first;
        tile_vector(t, pixel[0], c, channels, v[0], output, half);
        if (pairs) tile_vector(t, pixel[1], c, channels, v[1], output, half);
#pragma GCC unroll 36
        for (int e = 0; e < tile * tile; e++) {
            if (sp_winograd_skips(e / tile, e % tile, t->doubled)) continue;
            sp_vf_store(to + sp_winograd_point(e / tile, e % tile, tile, t->doubled) * t->point_stride,
                        pairs ? sp_vf_pair_bf16(v[0][e], v[1][e]) : v[0][e]);
        }
    }
}

void sp_winograd_transform_tiles(void *context, int64_t begin, int64_t end)
{
    const sp_winograd_tiles *t = context;
    const sp_winograd_shape *s = t->shape;
    const int count = s->half ? 2 : 1; /* tiles of a step */
    const bool half = s->x_dtype == SP_BF16;
    const void *pixel[2][SP_WINOGRAD_GRADIENT_POINTS];
    for (int64_t step = begin; step < end; step++) {
        for (int i = 0; i < count; i++)
            if (count * step + i < s->tiles)
                find_pixels(s, t->data, t->zeros, place_of(s, count * step + i), pixel[i]);
            else
                for (int e = 0; e < s->tile * s->tile; e++)
                    pixel[i][e] = t->zeros;
        if (s->half && half)
            transform_step(t, pixel, step, 2, true, true);
        else if (s->half)
            transform_step(t, pixel, step, 2, false, true);
        else if (s->output == 2 && half)
            transform_step(t, pixel, step, 2, true, false);
        else if (s->output == 2)
            transform_step(t, pixel, step, 2, false, false);
        else if (half)
            transform_step(t, pixel, step, 4, true, false);
        else
            transform_step(t, pixel, step, 4, false, false);
    }
}
