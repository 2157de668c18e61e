/* Tiles of one picture, row by row. Each overlaps the one above and the one to the left. */
#include <string.h>

#include "base/memory.h"
#include "pipeline/vae_tiles.h"

typedef struct {
    int64_t rows, columns;
    int64_t in_tile, in_stride;  /* pixels of the input */
    int64_t out_stride, overlap; /* of the output */
} tile_grid;

typedef struct {
    const sp_component *vae;
    sp_vae_half half;
    const sp_vae_settings *settings;
    tile_grid grid;
    sp_plans own, *plans; /* settings' or our own */
    sp_tensor
        *last; /* [columns]: the tiles of the row above, left of here of this row; AutoencoderKL */
} tiling;

/* How many times a tile's side is its overlap. */
static int64_t overlap_share(const sp_vae_config *config)
{
    return config->kind == SP_VAE_TINY ? 8 : 4;
}

int64_t sp_vae_tile_unit(const sp_vae_config *config)
{
    return config->factor * overlap_share(config);
}

int64_t sp_vae_input_tile(const sp_vae_config *config, sp_vae_half half, int64_t tile)
{
    return half == SP_VAE_DECODE ? tile / config->factor : tile;
}

static tile_grid grid_of(const sp_vae_config *config, sp_vae_half half, sp_shape in, int64_t tile)
{
    int64_t share = overlap_share(config), in_tile = sp_vae_input_tile(config, half, tile);
    int64_t out_tile = half == SP_VAE_DECODE ? tile : tile / config->factor;
    int64_t stride = in_tile - in_tile / share;
    return (tile_grid){.rows = (in.dim[2] + stride - 1) / stride,
                       .columns = (in.dim[3] + stride - 1) / stride,
                       .in_tile = in_tile,
                       .in_stride = stride,
                       .out_stride = out_tile - out_tile / share,
                       .overlap = out_tile / share};
}

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static float *row_of(const sp_tensor *x, int64_t sample, int64_t channel, int64_t y)
{
    const int64_t *dim = x->shape.dim;
    return (float *)x->data + ((sample * dim[1] + channel) * dim[2] + y) * dim[3];
}

/* ---- one tile ---- */

static sp_status run_tile(tiling *t, const sp_tensor *in, int64_t sample, int64_t row,
                          int64_t column, const sp_callbacks *callbacks, sp_tensor *out)
{
    const tile_grid *grid = &t->grid;
    int64_t top = row * grid->in_stride, left = column * grid->in_stride;
    int64_t height = least(grid->in_tile, in->shape.dim[2] - top),
            width = least(grid->in_tile, in->shape.dim[3] - left);
    sp_shape shape = sp_shape_of(1, in->shape.dim[1], height, width);
    sp_tensor part = {0};
    sp_run *run;
    SP_TRY(sp_vae_plans_run(t->plans, t->vae, t->half, shape, t->settings->alone, &run));
    SP_TRY(sp_tensor_create(SP_F32, shape, &part));
    for (int64_t c = 0; c < shape.dim[1]; c++)
        for (int64_t y = 0; y < height; y++)
            memcpy(row_of(&part, 0, c, y), row_of(in, sample, c, top + y) + left,
                   (size_t)width * sizeof(float));
    sp_status status = sp_vae_run(run, &part, callbacks, out);
    sp_tensor_free(&part);
    return status;
}

static void mix(float *to, const float *from, int64_t count, double share)
{
    for (int64_t i = 0; i < count; i++)
        to[i] = (float)(from[i] * (1 - share) + to[i] * share);
}

/* ---- AutoencoderKL: into what the neighbours were before they were cut off ---- */

static void blend_below(const sp_tensor *above, sp_tensor *tile, int64_t overlap)
{
    int64_t from = above->shape.dim[2], n = least(least(overlap, from), tile->shape.dim[2]);
    for (int64_t c = 0; c < tile->shape.dim[1]; c++)
        for (int64_t y = 0; y < n; y++)
            mix(row_of(tile, 0, c, y), row_of(above, 0, c, from - n + y), tile->shape.dim[3],
                (double)y / (double)n);
}

static void blend_right(const sp_tensor *left, sp_tensor *tile, int64_t overlap)
{
    int64_t from = left->shape.dim[3], n = least(least(overlap, from), tile->shape.dim[3]);
    for (int64_t c = 0; c < tile->shape.dim[1]; c++)
        for (int64_t y = 0; y < tile->shape.dim[2]; y++)
            for (int64_t x = 0; x < n; x++)
                mix(row_of(tile, 0, c, y) + x, row_of(left, 0, c, y) + from - n + x, 1,
                    (double)x / (double)n);
}

/* What the next tiles will not overlap goes to the output. Takes the tile. */
static void place_kl(tiling *t, int64_t sample, int64_t row, int64_t column, sp_tensor *tile,
                     sp_tensor *out)
{
    const tile_grid *grid = &t->grid;
    if (row > 0) blend_below(&t->last[column], tile, grid->overlap);
    if (column > 0) blend_right(&t->last[column - 1], tile, grid->overlap);
    int64_t top = row * grid->out_stride, left = column * grid->out_stride;
    int64_t height = least(grid->out_stride, tile->shape.dim[2]),
            width = least(grid->out_stride, tile->shape.dim[3]);
    for (int64_t c = 0; c < tile->shape.dim[1]; c++)
        for (int64_t y = 0; y < height; y++)
            memcpy(row_of(out, sample, c, top + y) + left, row_of(tile, 0, c, y),
                   (size_t)width * sizeof(float));
    sp_tensor_free(&t->last[column]);
    t->last[column] = *tile;
}

/* ---- AutoencoderTiny: over what is there, the share rising from 0 to 1 on the overlap ---- */

static double share_at(int64_t place, int64_t position, int64_t overlap)
{
    if (place == 0 || position >= overlap - 1) return 1;
    return (double)position / (double)(overlap - 1);
}

static void place_tiny(const tiling *t, int64_t sample, int64_t row, int64_t column,
                       sp_tensor *tile, sp_tensor *out)
{
    const tile_grid *grid = &t->grid;
    int64_t top = row * grid->out_stride, left = column * grid->out_stride;
    for (int64_t c = 0; c < tile->shape.dim[1]; c++)
        for (int64_t y = 0; y < tile->shape.dim[2]; y++) {
            double share = share_at(row, y, grid->overlap);
            float *to = row_of(out, sample, c, top + y) + left;
            const float *from = row_of(tile, 0, c, y);
            for (int64_t x = 0; x < tile->shape.dim[3]; x++) {
                double s = share * share_at(column, x, grid->overlap);
                to[x] = (float)(s * from[x] + (1 - s) * to[x]);
            }
        }
    sp_tensor_free(tile);
}

/* ---- all tiles ---- */

static sp_status create_output(const tiling *t, const sp_tensor *in, int64_t channels,
                               sp_tensor *out)
{
    const int64_t *dim = in->shape.dim, factor = t->vae->config.vae.factor;
    bool up = t->half == SP_VAE_DECODE;
    if (out->data) return SP_OK;
    return sp_tensor_create(SP_F32,
                            sp_shape_of(dim[0], channels, up ? dim[2] * factor : dim[2] / factor,
                                        up ? dim[3] * factor : dim[3] / factor),
                            out);
}

static sp_status run_sample(tiling *t, const sp_tensor *in, int64_t sample,
                            const sp_callbacks *callbacks, sp_tensor *out)
{
    const char *task = t->half == SP_VAE_DECODE ? "decoding tiles" : "encoding tiles";
    int64_t tiles = t->grid.rows * t->grid.columns;
    if (sample == 0) sp_report(callbacks, task, 0, in->shape.dim[0] * tiles, NULL);
    for (int64_t i = 0; i < tiles; i++) {
        int64_t row = i / t->grid.columns, column = i % t->grid.columns;
        sp_tensor tile = {0};
        SP_TRY(sp_check_cancelled(callbacks));
        SP_TRY(run_tile(t, in, sample, row, column, callbacks, &tile));
        sp_status status = create_output(t, in, tile.shape.dim[1], out);
        if (status) {
            sp_tensor_free(&tile);
            return status;
        }
        if (t->vae->config.vae.kind == SP_VAE_TINY)
            place_tiny(t, sample, row, column, &tile, out);
        else
            place_kl(t, sample, row, column, &tile, out);
        sp_report(callbacks, task, sample * tiles + i + 1, in->shape.dim[0] * tiles, NULL);
    }
    return SP_OK;
}

sp_status sp_vae_run_tiles(const sp_component *vae, sp_vae_half half, const sp_tensor *in,
                           const sp_vae_settings *settings, const sp_callbacks *callbacks,
                           sp_tensor *out)
{
    tiling t = {.vae = vae,
                .half = half,
                .settings = settings,
                .grid = grid_of(&vae->config.vae, half, in->shape, settings->tile)};
    t.own = (sp_plans){settings->device, settings->precision, 1, NULL};
    t.plans = settings->plans ? settings->plans : &t.own;
    t.last = sp_alloc_zero((size_t)t.grid.columns * sizeof *t.last);
    sp_status status = t.last ? SP_OK : SP_MEMORY;
    for (int64_t i = 0; i < in->shape.dim[0] && !status; i++)
        status = run_sample(&t, in, i, callbacks, out);
    for (int64_t i = 0; i < t.grid.columns && t.last; i++)
        sp_tensor_free(&t.last[i]);
    sp_free(t.last);
    sp_plans_free(&t.own);
    return status;
}
