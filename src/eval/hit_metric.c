/* The metric hit: the caption hit rate (eval/hit_rate.h) by the pictures' latents, pooled to 8 x 8 places. */
#include "base/memory.h"
#include "eval/evaluation.h"
#include "eval/hit_rate.h"
#include "eval/vae_features.h"

static sp_status features(const sp_tensor *latents, sp_tensor *out)
{
    return sp_features_pool(latents, SP_HIT_GRID, out);
}

static sp_status score(const sp_measured *m, double *out)
{
    const sp_evaluation *e = m->evaluation;
    int64_t *rank = sp_alloc((size_t)e->count * sizeof *rank);
    if (!rank) return SP_MEMORY;
    sp_status status = sp_caption_ranks(m->features, m->reference, e->real, e->place, rank);
    for (int i = 0; i < 4 && !status; i++) /* in the order of the columns */
        out[i] = sp_hit_rate(rank, e->held_out, i >= 2, e->count, i % 2 ? 5 : 1);
    sp_free(rank);
    return status;
}

static void explain(const sp_evaluation *e, double guidance_scale_w, sp_string *out)
{
    (void)guidance_scale_w;
    sp_string_append_format(
        out,
        "<p><b>hit@1, hit@5</b>: a picture that the caption names is the nearest, or among the five nearest, of %lld "
        "real ones, by latents pooled to 8&times;8 places. Pictures that are drawn exactly alike count as one.</p>\n",
        (long long)e->real_count);
}

static const sp_metric_column columns[] = {
    {.key = "hit1", .label = "hit@1", .chart = "Captions hit at once, seen in training", .share = true,
     .higher_is_better = true},
    {.key = "hit5", .label = "hit@5", .chart = "Captions among the five nearest, seen in training", .share = true,
     .higher_is_better = true},
    {.key = "hit1_heldout", .label = "unseen@1", .chart = "Captions hit at once, unseen combinations", .share = true,
     .higher_is_better = true},
    {.key = "hit5_heldout", .label = "unseen@5", .share = true, .higher_is_better = true, .page_only = true},
};

const sp_metric sp_hit_metric = {
    .name = "hit",
    .columns = columns,
    .column_count = 4,
    .reference = SP_REFERENCE_ALL,
    .features = features,
    .score = score,
    .explain = explain,
};
