/* Texts through CLIP's text tower, a batch after the other. */
#include "eval/clip_texts.h"
#include <string.h>
#include "base/file.h"
#include "base/memory.h"
#include "models/runner.h"
#include "text/tokenizer.h"

enum { BATCH = 16, CLIP_VOCABULARY = 49408 };
static const char set_name[] = "clip text";

typedef struct {
    const sp_clip_file *clip;
    const char *prefix;
    sp_tokenizer *tokenizer;
    sp_runner runner;
    sp_tensor ids, ends; /* [BATCH,L], [BATCH], I64 */
} text_run;

/* ---- tokens ---- */

static sp_status load_tokenizer(const sp_clip_file *clip, sp_tokenizer **out)
{
    const char *path = sp_tensor_file_path(clip->file);
    *out = NULL;
    if (!clip->text_weights)
        return sp_fail(SP_UNSUPPORTED, "%s: has no text tower, and texts are compared by one", path);
    if (clip->text.vocabulary == CLIP_VOCABULARY) return sp_tokenizer_clip(false, out);
    char *folder = sp_path_beside(path, ".");
    if (!folder) return SP_MEMORY;
    sp_status status = sp_tokenizer_load(folder, out);
    sp_free(folder);
    if (status == SP_IO)
        return sp_fail(SP_UNSUPPORTED, "%s: has %lld tokens, not CLIP's %d, and no tokenizer.json, or vocab.json and "
                       "merges.txt, beside it", path, (long long)clip->text.vocabulary, CLIP_VOCABULARY);
    if (status || (int64_t)sp_tokenizer_vocabulary_size(*out) <= clip->text.vocabulary) return status;
    sp_tokenizer_destroy(*out);
    *out = NULL;
    return sp_fail(SP_UNSUPPORTED, "%s: has %lld tokens, fewer than the tokenizer beside it", path,
                   (long long)clip->text.vocabulary);
}

/* Begin, as many tokens as there is room for, end, and ends for padding; *end is the place of the first end. */
static sp_status fill_row(const text_run *r, const char *text, int64_t *row, int64_t *end)
{
    int64_t length = r->clip->text.max_tokens, eos = sp_tokenizer_eos(r->tokenizer);
    char *whole = sp_format("%s%s", r->prefix ? r->prefix : "", text);
    int32_t *ids = NULL;
    size_t count = 0;
    sp_status status = whole ? sp_tokenizer_encode_all(r->tokenizer, whole, &ids, &count) : SP_MEMORY;
    for (int64_t i = 0; i < length && !status; i++)
        row[i] = i == 0 ? sp_tokenizer_bos(r->tokenizer) : i < length - 1 && (size_t)i <= count ? ids[i - 1] : eos;
    for (*end = 0; !status && row[*end] != eos;)
        ++*end;
    sp_free(ids);
    sp_free(whole);
    return status;
}

/* ---- the tower ---- */

static sp_status make_run(text_run *r, sp_device *device)
{
    const sp_clip_text_config *c = &r->clip->text;
    const sp_weight_set set = {.name = set_name, .rate = SP_RATE_RUN, .weights = r->clip->text_weights};
    const sp_network_use use = {.network = &sp_clip_text_tower_network, .config = c, .set = &set};
    const sp_network_sizes sizes = {.batch = BATCH, .tokens = c->max_tokens, .ids = SP_I64};
    sp_builder *b;
    SP_TRY(sp_tensor_create(SP_I64, sp_shape_of(BATCH, c->max_tokens), &r->ids));
    SP_TRY(sp_tensor_create(SP_I64, sp_shape_of(BATCH), &r->ends));
    SP_TRY(sp_builder_create(&b));
    sp_network_alone(b, &use, &sizes);
    SP_TRY(sp_runner_create(b, device, SP_F32, &r->runner));
    return sp_bind(sp_run_bound(r->runner.run), set_name, r->clip->text_weights);
}

static sp_status run_batch(text_run *r, const char *const *texts, int64_t count, const sp_callbacks *callbacks,
                           float *out)
{
    int64_t length = r->clip->text.max_tokens, *ids = r->ids.data, *ends = r->ends.data;
    sp_tensor result;
    for (int64_t i = 0; i < count; i++) {
        SP_TRY(fill_row(r, texts[i], ids + i * length, &ends[i]));
        ends[i] += i * length;
    }
    SP_TRY(sp_run_set_input(r->runner.run, "input_ids", &r->ids));
    SP_TRY(sp_run_set_input(r->runner.run, "end_rows", &r->ends));
    SP_TRY(sp_run_execute(r->runner.run, callbacks));
    SP_TRY(sp_run_get_output(r->runner.run, "text_embeds", &result));
    memcpy(out, result.data, sp_tensor_bytes(&result) / BATCH * (size_t)count);
    sp_tensor_free(&result);
    return SP_OK;
}

static sp_status run_all(text_run *r, const char *const *texts, int64_t count, const sp_callbacks *callbacks,
                         sp_tensor *out)
{
    int64_t width = out->shape.dim[1];
    sp_report(callbacks, "captions", 0, count, NULL);
    for (int64_t first = 0; first < count; first += BATCH) {
        int64_t n = count - first < BATCH ? count - first : BATCH;
        SP_TRY(sp_check_cancelled(callbacks));
        SP_TRY(run_batch(r, texts + first, n, callbacks, (float *)out->data + first * width));
        sp_report(callbacks, "captions", first + n, count, NULL);
    }
    return sp_tensor_check_finite(out, "CLIP's vectors of texts");
}

sp_status sp_clip_texts(const sp_clip_file *clip, const char *prefix, const char *const *texts, int64_t count,
                        sp_device *device, const sp_callbacks *callbacks, sp_tensor *out)
{
    text_run r = {.clip = clip, .prefix = prefix};
    *out = (sp_tensor){0};
    sp_status status = load_tokenizer(clip, &r.tokenizer);
    if (!status) status = sp_tensor_create(SP_F32, sp_shape_of(count, clip->text.projection), out);
    if (!status) status = make_run(&r, device);
    if (!status) status = run_all(&r, texts, count, callbacks, out);
    sp_runner_free(&r.runner);
    sp_tensor_free(&r.ids);
    sp_tensor_free(&r.ends);
    sp_tokenizer_destroy(r.tokenizer);
    if (status) sp_tensor_free(out);
    return status;
}

sp_status sp_clip_texts_check(const sp_clip_file *clip)
{
    sp_tokenizer *tokenizer;
    SP_TRY(load_tokenizer(clip, &tokenizer));
    sp_tokenizer_destroy(tokenizer);
    if (clip->text.projection == clip->image.projection) return SP_OK;
    return sp_fail(SP_SHAPE, "%s: gives texts %lld numbers and pictures %lld, and cannot compare them",
                   sp_tensor_file_path(clip->file), (long long)clip->text.projection,
                   (long long)clip->image.projection);
}
