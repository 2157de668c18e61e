/* Counting captions that are cut. */
#include "data/caption_length.h"
#include <stdatomic.h>
#include <string.h>
#include "base/log.h"
#include "base/memory.h"
#include "base/parallel.h"

enum { SAMPLES_PER_TASK = 256 };

typedef struct {
    const sp_dataset *dataset;
    const sp_tokenizer *tokenizer;
    bool first_only;
    size_t tokens; /* that fit */
    atomic_llong captions, cut;
    atomic_bool failed; /* for want of memory */
} counting;

static sp_status is_cut(const counting *c, const char *caption, bool *cut)
{
    int32_t *ids;
    size_t count;
    *cut = false;
    if (strlen(caption) <= c->tokens) return SP_OK; /* a token has a byte at least */
    SP_TRY(sp_tokenizer_encode_all(c->tokenizer, caption, &ids, &count));
    sp_free(ids);
    *cut = count > c->tokens;
    return SP_OK;
}

static void count_range(void *context, int64_t begin, int64_t end)
{
    counting *c = context;
    for (int64_t i = begin; i < end; i++) {
        int variants = c->first_only ? 1 : sp_dataset_caption_count(c->dataset, i);
        for (int v = 0; v < variants; v++) {
            bool cut;
            if (is_cut(c, sp_dataset_caption(c->dataset, i, v), &cut)) c->failed = true;
            c->cut += cut;
        }
        c->captions += variants;
    }
}

sp_status sp_count_cut_captions(const sp_dataset *dataset, const sp_tokenizer *tokenizer,
                                bool first_only, sp_caption_cuts *out)
{
    counting c = {.dataset = dataset,
                  .tokenizer = tokenizer,
                  .first_only = first_only,
                  .tokens = sp_tokenizer_max_length(tokenizer) - 2};
    sp_parallel_for(sp_dataset_count(dataset), SAMPLES_PER_TASK, count_range, &c);
    *out = (sp_caption_cuts){c.captions, c.cut, (int64_t)c.tokens};
    return c.failed ? sp_fail(SP_MEMORY, "out of memory for the tokens of captions") : SP_OK;
}

sp_status sp_warn_of_cut_captions(const sp_dataset *dataset, const sp_tokenizer *tokenizer,
                                  bool first_only, sp_caption_cuts *out)
{
    SP_TRY(sp_count_cut_captions(dataset, tokenizer, first_only, out));
    if (out->cut)
        sp_log_warn("%lld of %lld captions have more than the %lld tokens that the text encoder "
                    "takes, and are cut",
                    (long long)out->cut, (long long)out->captions, (long long)out->tokens);
    return SP_OK;
}
