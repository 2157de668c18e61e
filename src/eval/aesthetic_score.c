/* The score aesthetic: the mean over the pictures of A of what LAION's head (checkpoints/aesthetic_file.h) says of
 * CLIP's vector of each. */
#include <string.h>
#include "base/log.h"
#include "base/memory.h"
#include "checkpoints/clip_file.h"
#include "eval/embedding_scores.h"
#include "eval/picture_score.h"

static const char usual[] = "ViT-L/14";

static int64_t width_of(const sp_picture_score *score, const sp_scored *scored)
{
    const sp_tensor *rows = sp_score_rows(score, scored->a); /* of a file */
    return rows ? rows->shape.dim[1] : scored->extractors[score->network].feature[score->feature].width;
}

static sp_status check_width(const sp_picture_score *score, const sp_scored *scored, const sp_aesthetic_file *head)
{
    int64_t width = width_of(score, scored);
    const sp_clip_file *clip = scored->extractors[score->network].model;
    if (width != head->dim)
        return sp_fail(SP_SHAPE, "%s: takes vectors of %lld numbers, and CLIP's have %lld; the head is of OpenAI's %s",
                       scored->options->aesthetic, (long long)head->dim, (long long)width, usual);
    if (clip && strcmp(clip->name, usual) != 0)
        sp_log_warn("%s: is %s, and aesthetic heads that others publish are of OpenAI's %s",
                    sp_tensor_file_path(clip->file), clip->name, usual);
    return SP_OK;
}

static sp_status check(const sp_picture_score *score, const sp_scored *scored)
{
    sp_aesthetic_file head;
    if (!scored->options->aesthetic)
        return sp_fail(SP_ARGUMENT, "`aesthetic` is missing: the head that scores CLIP's vectors, LAION's "
                       "sac+logos+ava1-l14-linearMSE.pth");
    SP_TRY(sp_aesthetic_file_open(scored->options->aesthetic, &head));
    sp_status status = check_width(score, scored, &head);
    sp_aesthetic_file_free(&head);
    return status;
}

static sp_status add_mean(const sp_scored *scored, const sp_aesthetic_file *head, const sp_tensor *rows,
                          sp_score_result *out)
{
    int64_t count = rows->shape.dim[0];
    double *scores = sp_alloc((size_t)count * sizeof *scores);
    sp_status status = scores ? sp_aesthetic_scores(head, rows, scores) : SP_MEMORY;
    if (!status) status = sp_score_add_mean(out, "aesthetic", scores, count, scored->options->bootstrap);
    sp_free(scores);
    return status;
}

static sp_status measure(const sp_picture_score *score, const sp_scored *scored, sp_score_result *out)
{
    sp_aesthetic_file head;
    SP_TRY(sp_aesthetic_file_open(scored->options->aesthetic, &head));
    sp_status status = add_mean(scored, &head, sp_score_rows(score, scored->a), out);
    if (!status) status = sp_score_add_words(out, "aesthetic_sha256", head.sha256);
    sp_aesthetic_file_free(&head);
    return status;
}

const sp_picture_score sp_aesthetic_score = {
    .name = "aesthetic",
    .network = SP_EXTRACTOR_CLIP,
    .options = "aesthetic,bootstrap",
    .needs = SP_SCORE_OF_ROWS,
    .check = check,
    .measure = measure,
};
