/* Small pictures of latents without the autoencoder's decoder: a pixel for each latent pixel,
 *
 *   rgb[y,x] = sum over i, j in -1..1 of W_ij z[y+i,x+j] + b,    W_ij [3,C], b [3],
 *
 * a convolution, the latents at the border going on beyond it, that is fitted to the autoencoder itself: it encodes a
 * chart, and least squares take its latents to the chart's colours, each the mean of the factor x factor pixels that a
 * latent pixel stands for. The chart is of dead leaves, discs of many sizes and colours over one another, whose edges
 * and flat parts are distributed as those of photographs (Lee, Mumford and Huang 2001); it is the same always. So every
 * autoencoder has a preview, whatever its latents mean, for one encoding of a picture of 32 x 32 latents, once for a
 * model that is held. */
#ifndef SP_PIPELINE_PREVIEW_H
#define SP_PIPELINE_PREVIEW_H
#include "pipeline/pipeline.h"

enum { SP_PREVIEW_CHANNELS = 64, SP_PREVIEW_SIDE = 32 };

typedef struct {
    int64_t channels; /* C; 0: not fitted yet */
    double weight[3][9 * SP_PREVIEW_CHANNELS + 1]; /* of z [9,C] in the order of y and x, and b; colours in [-1,1] */
} sp_preview;

/* Encodes the chart and gives back what that planned. callbacks may be NULL. SP_UNSUPPORTED for latents of more
 * channels than SP_PREVIEW_CHANNELS. */
sp_status sp_preview_fit(sp_pipeline *pipeline, const sp_callbacks *callbacks, sp_preview *out);
/* The picture that the encoder is given, [1,3,side,side]. */
sp_shape sp_preview_chart_shape(const sp_vae_config *vae);
/* z [C,height,width], times the scaling factor as the denoiser sees it, to rgb [height,width,3]. */
void sp_preview_draw(const sp_preview *preview, const float *z, int64_t height, int64_t width, uint8_t *rgb);

#endif
