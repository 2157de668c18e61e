/* The embeddings that a consistency model's cond_proj takes, and what it adds at gamma = 1. */
#include "models/guidance.h"

#include <math.h>

#include "base/memory.h"

#define COND_PROJ "time_embedding.cond_proj.weight"
#define LINEAR "time_embedding.linear_1.weight"

void sp_gamma_embedding(double gamma, int64_t dim, float *out)
{
    int64_t half = dim / 2;
    float v = (float)(10 * (1 - gamma)) * 1000;
    for (int64_t j = 0; j < half; j++) {
        float frequency = (float)exp((double)j * -(log(10000.0) / (double)(half - 1)));
        double phase = (double)(v * frequency);
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
                           const sp_unet_config *c, sp_tensor *out)
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
        sp_gamma_embedding(1, c->time_cond_dim, embedding);
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
