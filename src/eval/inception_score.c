/* The Inception score of ten parts of a set. */
#include "eval/inception_score.h"
#include <math.h>
#include "base/memory.h"
#include "eval/numpy_random.h"

enum { SPLITS = SP_INCEPTION_SCORE_SPLITS, SEED = 2020 };

static void softmax(const float *logits, int64_t classes, double *p)
{
    double most = -INFINITY, sum = 0;
    for (int64_t c = 0; c < classes; c++)
        most = fmax(most, (double)logits[c]);
    for (int64_t c = 0; c < classes; c++)
        sum += p[c] = exp((double)logits[c] - most);
    for (int64_t c = 0; c < classes; c++)
        p[c] /= sum;
}

/* Of rows order[begin..end). p and all have room for one row. */
static double score_part(const sp_tensor *logits, const int64_t *order, int64_t begin, int64_t end, double *p,
                         double *all)
{
    int64_t classes = logits->shape.dim[1];
    double count = (double)(end - begin), sum = 0;
    for (int64_t c = 0; c < classes; c++)
        all[c] = 0;
    for (int64_t i = begin; i < end; i++) {
        softmax((const float *)logits->data + order[i] * classes, classes, p);
        for (int64_t c = 0; c < classes; c++) {
            all[c] += p[c] / count;
            if (p[c] > 0) sum += p[c] * log(p[c]) / count;
        }
    }
    for (int64_t c = 0; c < classes; c++)
        if (all[c] > 0) sum -= all[c] * log(all[c]);
    return exp(sum);
}

sp_status sp_inception_score(const sp_tensor *logits, double *mean, double *deviation)
{
    int64_t count = logits->shape.dim[0], classes = logits->shape.dim[1];
    sp_torch_generator generator;
    double score[SPLITS];
    if (count < SPLITS)
        return sp_fail(SP_SHAPE, "the Inception score is of %d parts, and there are %lld pictures", SPLITS,
                       (long long)count);
    SP_TRY(sp_tensor_check_finite(logits, "logits"));
    int64_t *order = sp_alloc((size_t)count * sizeof *order);
    double *p = sp_alloc((size_t)(2 * classes) * sizeof *p);
    sp_status status = order && p ? SP_OK : SP_MEMORY;
    sp_torch_seed(&generator, SEED);
    if (!status) sp_numpy_permutation(&generator, order, count);
    *mean = *deviation = 0;
    for (int i = 0; i < SPLITS && !status; i++) {
        score[i] = score_part(logits, order, i * count / SPLITS, (i + 1) * count / SPLITS, p, p + classes);
        *mean += score[i] / SPLITS;
    }
    for (int i = 0; i < SPLITS && !status; i++)
        *deviation += (score[i] - *mean) * (score[i] - *mean) / SPLITS;
    *deviation = sqrt(*deviation);
    sp_free(order);
    sp_free(p);
    return status;
}
