/* The embeddings that a consistency model's cond_proj takes, and what it adds; ranges of guidance. */
#include "models/guidance.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"

#define COND_PROJ "time_embedding.cond_proj.weight"
#define LINEAR "time_embedding.linear_1.weight"

void sp_guidance_embedding(double v, int64_t dim, float *out)
{
    int64_t half = dim / 2;
    float scaled = (float)v * 1000;
    for (int64_t j = 0; j < half; j++) {
        float frequency = (float)exp((double)j * -(log(10000.0) / (double)(half - 1)));
        double phase = (double)(scaled * frequency);
        out[j] = (float)sin(phase);
        out[half + j] = (float)cos(phase);
    }
    if (dim % 2) out[dim - 1] = 0;
}

/* y[r] = sum_k matrix[r,k] x[k] */
static void multiply(const sp_tensor *matrix, const double *x, double *y)
{
    int64_t rows = matrix->shape.dim[0], columns = matrix->shape.dim[1];
    for (int64_t r = 0; r < rows; r++) {
        y[r] = 0;
        for (int64_t k = 0; k < columns; k++)
            y[r] += sp_load(matrix->data, matrix->dtype, r * columns + k) * x[k];
    }
}

sp_status sp_guidance_bias(const sp_weights *unet, const sp_weights *student,
                           const sp_unet_config *c, double guidance, sp_tensor *out)
{
    sp_tensor cond_proj = {0}, linear = {0};
    size_t dim = (size_t)c->time_cond_dim, width = (size_t)c->channels[0],
           time = (size_t)c->time_dim;
    float *embedding = sp_alloc(dim * sizeof *embedding);
    double *x = sp_alloc((dim + width + time) * sizeof *x);
    sp_status status = embedding && x ? SP_OK : SP_MEMORY;
    if (!status) status = sp_weights_take(student, COND_PROJ, &cond_proj);
    if (!status) status = sp_weights_take(unet, LINEAR, &linear);
    if (!status) status = sp_tensor_create(SP_F32, sp_shape_of(c->time_dim), out);
    if (!status) {
        double *inner = x + dim, *sum = inner + width;
        sp_guidance_embedding(guidance - 1, c->time_cond_dim, embedding);
        for (size_t i = 0; i < dim; i++)
            x[i] = (double)embedding[i];
        multiply(&cond_proj, x, inner);
        multiply(&linear, inner, sum);
        for (size_t i = 0; i < time; i++)
            ((float *)out->data)[i] = (float)sum[i];
    }
    sp_tensor_free(&cond_proj);
    sp_tensor_free(&linear);
    sp_free(embedding);
    sp_free(x);
    return status;
}

/* ---- ranges ---- */

sp_status sp_guidance_range_of(const char *name, const char *text, sp_guidance_range *out)
{
    const double most = 101; /* --guidance-scale-w 100 */
    char *end;
    sp_guidance_range range = {.low = strtod(text, &end)};
    bool good = end != text && *end == ':';
    const char *second = end + 1;
    if (good) range.high = strtod(second, &end);
    if (!good || end == second || *end || !(range.low >= 1 && range.low < range.high && range.high <= most))
        return sp_fail(SP_ARGUMENT, "`%s` is \"%.64s\", LOW:HIGH is expected, two CFG scales from 1 to %g", name, text,
                       most);
    *out = range;
    return SP_OK;
}

const char *sp_guidance_range_text(const sp_guidance_range *range, char text[SP_GUIDANCE_RANGE_TEXT])
{
    char low[SP_NUMBER_TEXT], high[SP_NUMBER_TEXT];
    snprintf(text, SP_GUIDANCE_RANGE_TEXT, "%s:%s", sp_number_text(range->low, low), sp_number_text(range->high, high));
    return text;
}

double sp_usual_guidance(const sp_guidance_range *range)
{
    return range->high > 0 ? (range->low + range->high) / 2 : 1;
}
