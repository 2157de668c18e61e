/* The score clip: the mean cosine of CLIP's vectors of pictures and of their captions (Hessel et al. 2021), as papers
 * of text to image print it, and 100 times it, not below 0, as torchmetrics does. */
#include <math.h>
#include <string.h>
#include "base/file.h"
#include "base/hash.h"
#include "base/memory.h"
#include "base/text_file.h"
#include "eval/clip_texts.h"
#include "eval/embedding_scores.h"
#include "eval/picture_score.h"

/* ---- captions ---- */

typedef struct {
    char *text; /* the file, its lines cut apart */
    const char **line;
    int64_t count;
    char sha256[SP_SHA256_TEXT];
} captions;

/* The lines of text, of which the last may end with the file. A blank one would put all behind it beside other
 * pictures. */
static sp_status cut_lines(captions *c, const char *path, char *text, size_t size)
{
    char *end = text + size;
    for (char *line = text; line < end; c->count++) {
        char *stop = memchr(line, '\n', (size_t)(end - line));
        if (!stop) stop = end;
        *stop = 0;
        if (strspn(line, " \t\r") == strlen(line))
            return sp_fail(SP_FORMAT, "%s, line %lld: is blank; each line is the caption of one picture", path,
                           (long long)c->count + 1);
        c->line[c->count] = line;
        line = stop + 1;
    }
    return SP_OK;
}

static sp_status read_captions(const char *path, captions *c)
{
    size_t size, lines = 1;
    const char *text;
    SP_TRY(sp_read_file(path, &c->text, &size));
    sp_sha256_text(c->text, size, c->sha256);
    text = c->text;
    SP_TRY(sp_skip_byte_order_mark(path, &text, &size));
    SP_TRY(sp_check_utf8(path, text, size));
    for (size_t i = 0; i < size; i++)
        lines += text[i] == '\n';
    c->line = sp_alloc(lines * sizeof *c->line);
    return c->line ? cut_lines(c, path, c->text + (text - c->text), size) : SP_MEMORY;
}

static void free_captions(captions *c)
{
    sp_free(c->text);
    sp_free(c->line);
}

/* ---- the score ---- */

static sp_status check_count(const sp_scored *scored, const captions *c, int64_t rows)
{
    bool first = scored->options->count != SPLAM_UNSET;
    int64_t all = scored->a->pictures.count;
    if (rows != all)
        return sp_fail(SP_FORMAT, "%s: %lld of %lld pictures cannot be read, and captions go by their order",
                       scored->a->source, (long long)(all - rows), (long long)all);
    if (c->count == rows || (first && c->count > rows)) return SP_OK;
    return sp_fail(SP_ARGUMENT, "%s: has %lld captions, and %s %lld pictures: each line is the caption of one, in "
                   "their order", scored->options->captions, (long long)c->count, scored->a->source, (long long)rows);
}

static sp_status mean_cosine(const sp_scored *scored, const sp_tensor *images, const captions *c, double *cosines,
                             double *mean)
{
    const sp_clip_file *clip = scored->extractors[SP_EXTRACTOR_CLIP].model;
    int64_t count = images->shape.dim[0];
    sp_tensor texts;
    SP_TRY(check_count(scored, c, count));
    SP_TRY(sp_clip_texts(clip, scored->options->clip_prefix, c->line, count, scored->device, scored->callbacks,
                         &texts));
    sp_status status = sp_cosine_scores(images, &texts, 1, cosines);
    sp_tensor_free(&texts);
    *mean = 0;
    for (int64_t i = 0; i < count && !status; i++)
        *mean += cosines[i] / (double)count;
    return status;
}

static sp_status say(const sp_scored *scored, const captions *c, const double *cosines, int64_t count, double mean,
                     sp_score_result *out)
{
    const splam_score_options *o = scored->options;
    sp_score_add(out, "clip_score", mean);
    if (o->bootstrap != SPLAM_UNSET)
        SP_TRY(sp_bootstrap_mean(cosines, count, o->bootstrap, sp_score_add_interval(out)));
    sp_score_add(out, "clip_score_100", fmax(100 * mean, 0));
    SP_TRY(sp_score_add_words(out, "captions_sha256", c->sha256));
    return o->clip_prefix ? sp_score_add_words(out, "clip_prefix", o->clip_prefix) : SP_OK;
}

static sp_status measure(const sp_picture_score *score, const sp_scored *scored, sp_score_result *out)
{
    const sp_tensor *images = sp_score_rows(score, scored->a);
    captions c = {0};
    double mean, *cosines = sp_alloc((size_t)images->shape.dim[0] * sizeof *cosines);
    sp_status status = cosines ? SP_OK : SP_MEMORY;
    if (!status) status = read_captions(scored->options->captions, &c);
    if (!status) status = mean_cosine(scored, images, &c, cosines, &mean);
    if (!status) status = say(scored, &c, cosines, images->shape.dim[0], mean, out);
    free_captions(&c);
    sp_free(cosines);
    return status;
}

/* What would else be found out hours later. */
static sp_status check(const sp_scored *scored)
{
    const sp_extractor *extractor = &scored->extractors[SP_EXTRACTOR_CLIP];
    const sp_clip_file *clip = extractor->model;
    captions c = {0};
    sp_tensor none;
    if (!scored->options->captions)
        return sp_fail(SP_ARGUMENT, "`captions` is missing: clip compares each picture of A with a line of that file");
    if (!extractor->kind) return sp_fail(SP_ARGUMENT, "%s", sp_clip_extractor.missing);
    SP_TRY(sp_clip_texts(clip, NULL, NULL, 0, scored->device, NULL, &none));
    sp_tensor_free(&none);
    sp_status status = read_captions(scored->options->captions, &c);
    if (!status) status = check_count(scored, &c, scored->a->count);
    free_captions(&c);
    return status;
}

const sp_picture_score sp_clip_score = {
    .name = "clip",
    .network = SP_EXTRACTOR_CLIP,
    .intervals = true,
    .needs = SP_SCORE_OF_PICTURES,
    .check = check,
    .measure = measure,
};
