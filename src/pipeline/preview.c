/* The affine map from latents to colours: the chart, the fit, the picture. */
#include "pipeline/preview.h"
#include <math.h>
#include "base/memory.h"
#include "base/random.h"
#include "image/image.h"

/* ---- the chart ---- */

enum { DISCS = 1200 };

sp_shape sp_preview_chart_shape(const sp_vae_config *vae)
{
    int64_t side = SP_PREVIEW_SIDE * vae->factor;
    return sp_shape_of(1, 3, side, side);
}

typedef struct {
    double x, y, radius;
    float rgb[3]; /* [-1,1] */
} disc;

/* Radii of a density ~ r^-3, from half a latent pixel to a third of the side. */
static disc draw_disc(uint64_t number, double side)
{
    const sp_random_key key = {.stream = SP_STREAM_CHART, .sample = number};
    const double least = .5 / SP_PREVIEW_SIDE, most = 1. / 3;
    float u[6];
    sp_random_uniform(key, u, 6);
    double inverse = 1 / (least * least) - (double)u[2] * (1 / (least * least) - 1 / (most * most));
    disc d = {.x = (double)u[0] * side, .y = (double)u[1] * side, .radius = side / sqrt(inverse)};
    for (int c = 0; c < 3; c++)
        d.rgb[c] = 2 * u[3 + c] - 1;
    return d;
}

static int64_t within(double place, int64_t side)
{
    return place < 0 ? 0 : place > (double)side ? side : (int64_t)place;
}

static void paint(const disc *d, int64_t side, float *nchw)
{
    int64_t bottom = within(d->y + d->radius + 1, side), right = within(d->x + d->radius + 1, side);
    for (int64_t y = within(d->y - d->radius, side); y < bottom; y++)
        for (int64_t x = within(d->x - d->radius, side); x < right; x++) {
            double across = (double)x + .5 - d->x, down = (double)y + .5 - d->y;
            if (across * across + down * down > d->radius * d->radius) continue;
            for (int c = 0; c < 3; c++)
                nchw[(c * side + y) * side + x] = d->rgb[c];
        }
}

static sp_status make_chart(const sp_vae_config *vae, sp_tensor *out)
{
    SP_TRY(sp_tensor_create(SP_F32, sp_preview_chart_shape(vae), out));
    int64_t side = out->shape.dim[2];
    for (int64_t i = 0; i < 3 * side * side; i++)
        ((float *)out->data)[i] = 0;
    for (uint64_t i = 0; i < DISCS; i++) {
        disc d = draw_disc(i, (double)side);
        paint(&d, side, out->data);
    }
    return SP_OK;
}

/* ---- what a colour is made of ---- */

enum { NEAR = 9, TERMS = NEAR * SP_PREVIEW_CHANNELS + 1 };

static int64_t clamp(int64_t place, int64_t size)
{
    return place < 0 ? 0 : place < size ? place : size - 1;
}

/* The latents around pixel (y, x), and 1; their number is returned. */
static int64_t gather(const float *z, int64_t channels, int64_t height, int64_t width, int64_t y, int64_t x,
                      double *out)
{
    int64_t terms = 0;
    for (int i = 0; i < NEAR; i++) {
        int64_t at = clamp(y + i / 3 - 1, height) * width + clamp(x + i % 3 - 1, width);
        for (int64_t k = 0; k < channels; k++)
            out[terms++] = (double)z[k * height * width + at];
    }
    out[terms++] = 1;
    return terms;
}

/* ---- the fit ---- */

/* Sums over all latent pixels of x x^T and x rgb^T. */
typedef struct {
    int64_t terms;
    double square[TERMS][TERMS], right[TERMS][3];
} normal_equations;

static double mean_of_block(const sp_tensor *chart, int c, int64_t y, int64_t x, int64_t factor)
{
    int64_t side = chart->shape.dim[2];
    const float *channel = (const float *)chart->data + c * side * side;
    double sum = 0;
    for (int64_t i = 0; i < factor * factor; i++)
        sum += (double)channel[(y * factor + i / factor) * side + x * factor + i % factor];
    return sum / (double)(factor * factor);
}

static void add_pixel(normal_equations *e, const double *x, const double rgb[3])
{
    for (int64_t i = 0; i < e->terms; i++) {
        for (int64_t j = 0; j < e->terms; j++)
            e->square[i][j] += x[i] * x[j];
        for (int c = 0; c < 3; c++)
            e->right[i][c] += x[i] * rgb[c];
    }
}

static void add_chart(normal_equations *e, const sp_tensor *chart, const sp_tensor *latents)
{
    const int64_t side = SP_PREVIEW_SIDE, channels = latents->shape.dim[1], factor = chart->shape.dim[2] / side;
    for (int64_t i = 0; i < side * side; i++) {
        double x[TERMS], rgb[3];
        e->terms = gather(latents->data, channels, side, side, i / side, i % side, x);
        for (int c = 0; c < 3; c++)
            rgb[c] = mean_of_block(chart, c, i / side, i % side, factor);
        add_pixel(e, x, rgb);
    }
}

/* By Cholesky's decomposition, in place. A thousandth of the mean of the diagonal is added to it: channels that say the
 * same, or nothing, then have small weights and not large ones of opposite signs. */
static void solve(normal_equations *e, sp_preview *out)
{
    int64_t n = e->terms;
    double trace = 0;
    for (int64_t i = 0; i < n; i++)
        trace += e->square[i][i];
    for (int64_t i = 0; i < n; i++)
        e->square[i][i] += 1e-3 * trace / (double)n;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j <= i; j++) {
            double sum = e->square[i][j];
            for (int64_t k = 0; k < j; k++)
                sum -= e->square[i][k] * e->square[j][k];
            e->square[i][j] = i == j ? sqrt(sum) : sum / e->square[j][j];
        }
    for (int c = 0; c < 3; c++) {
        double *x = out->weight[c];
        for (int64_t i = 0; i < n; i++) {
            x[i] = e->right[i][c];
            for (int64_t k = 0; k < i; k++)
                x[i] -= e->square[i][k] * x[k];
            x[i] /= e->square[i][i];
        }
        for (int64_t i = n - 1; i >= 0; i--) {
            for (int64_t k = i + 1; k < n; k++)
                x[i] -= e->square[k][i] * x[k];
            x[i] /= e->square[i][i];
        }
    }
    out->channels = n / NEAR;
}

static sp_status fit_chart(sp_pipeline *p, const sp_tensor *chart, const sp_callbacks *callbacks, sp_preview *out)
{
    sp_tensor posterior = {0}, latents = {0};
    normal_equations *e = sp_alloc_zero(sizeof *e);
    sp_status status = e ? sp_pipeline_encode_pictures(p, chart, callbacks, &posterior) : SP_MEMORY;
    if (!status) status = sp_pipeline_draw_latents(p, &posterior, NULL, 0, 1, &latents);
    if (!status) {
        add_chart(e, chart, &latents);
        solve(e, out);
    }
    sp_tensor_free(&posterior);
    sp_tensor_free(&latents);
    sp_free(e);
    return status;
}

sp_status sp_preview_fit(sp_pipeline *p, const sp_callbacks *callbacks, sp_preview *out)
{
    const sp_vae_config *vae = &p->vae->config.vae;
    bool keeps = p->keeps;
    sp_tensor chart = {0};
    *out = (sp_preview){0};
    if (vae->latent_channels > SP_PREVIEW_CHANNELS)
        return sp_fail(SP_UNSUPPORTED, "latents of %lld channels have no preview: %d are the most",
                       (long long)vae->latent_channels, SP_PREVIEW_CHANNELS);
    sp_pipeline_keep(p, false);
    sp_status status = make_chart(vae, &chart);
    if (!status) status = fit_chart(p, &chart, callbacks, out);
    sp_pipeline_keep(p, keeps);
    sp_tensor_free(&chart);
    return status;
}

/* ---- the picture ---- */

static uint8_t byte_of(double colour)
{
    double scaled = 255 * (colour / 2 + .5);
    return scaled > 0 ? scaled < 255 ? (uint8_t)lrint(scaled) : 255 : 0;
}

void sp_preview_draw(const sp_preview *p, const float *z, int64_t height, int64_t width, uint8_t *rgb)
{
    for (int64_t i = 0; i < height * width; i++) {
        double x[TERMS];
        int64_t terms = gather(z, p->channels, height, width, i / width, i % width, x);
        for (int c = 0; c < 3; c++) {
            double sum = 0;
            for (int64_t k = 0; k < terms; k++)
                sum += p->weight[c][k] * x[k];
            rgb[3 * i + c] = byte_of(sum);
        }
    }
}
