/* Cosines and the aesthetic head, a row after the other. */
#include "eval/embedding_scores.h"
#include <math.h>

static double product(const float *x, const float *y, int64_t dim)
{
    double sum = 0;
    for (int64_t i = 0; i < dim; i++)
        sum += (double)x[i] * (double)y[i];
    return sum;
}

static sp_status check_length(double square, int64_t row)
{
    if (isfinite(square) && square > 0) return SP_OK;
    return sp_fail(SP_NUMERIC, "embedding %lld has the length %f, expected a finite one above 0", (long long)row,
                   sqrt(square));
}

sp_status sp_cosine_scores(const sp_tensor *images, const sp_tensor *texts, double scale, double *out)
{
    if (images->shape.rank != 2 || !sp_shape_equal(images->shape, texts->shape))
        return sp_fail(SP_SHAPE, "embeddings of pictures %s and of texts %s, expected two of one shape [N,D]",
                       sp_shape_text(images->shape), sp_shape_text(texts->shape));
    int64_t dim = images->shape.dim[1];
    for (int64_t i = 0; i < images->shape.dim[0]; i++) {
        const float *x = (const float *)images->data + i * dim, *y = (const float *)texts->data + i * dim;
        double xx = product(x, x, dim), yy = product(y, y, dim);
        SP_TRY(check_length(xx, i));
        SP_TRY(check_length(yy, i));
        out[i] = scale * product(x, y, dim) / sqrt(xx) / sqrt(yy);
    }
    return SP_OK;
}

sp_status sp_aesthetic_scores(const sp_aesthetic_file *head, const sp_tensor *embeddings, double *out)
{
    const sp_shape *s = &embeddings->shape;
    if (s->rank != 2 || s->dim[1] != head->dim)
        return sp_fail(SP_SHAPE, "embeddings %s, and the aesthetic head takes [N,%lld]", sp_shape_text(*s),
                       (long long)head->dim);
    for (int64_t i = 0; i < s->dim[0]; i++) {
        const float *x = (const float *)embeddings->data + i * head->dim;
        double square = product(x, x, head->dim), sum = 0;
        SP_TRY(check_length(square, i));
        for (int64_t j = 0; j < head->dim; j++)
            sum += head->weight[j] * (double)x[j];
        out[i] = sum / sqrt(square) + head->bias;
    }
    return SP_OK;
}
