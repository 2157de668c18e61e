/* Prompts cut into chunks. */
#include "text/chunks.h"

#include <stdbool.h>
#include <string.h>
#include "base/memory.h"
#include "base/visible.h"
#include "text/token_table.h"
#include "text/weighted_prompt.h"

/* Chunks as they fill up. */
typedef struct {
    const sp_tokenizer *tokenizer;
    sp_prompt_chunks *chunks;
    bool open;   /* the last one takes more */
    size_t used; /* tokens that it has, without begin and end */
} filling;

static size_t room_of(const filling *f)
{
    return f->chunks->length - 2;
}

/* An empty chunk behind the others: begin, end, padding. */
static sp_status open_chunk(filling *f)
{
    sp_prompt_chunks *c = f->chunks;
    size_t begin = c->count * c->length, need = begin + c->length;
    int32_t *ids = sp_grown(c->ids, sizeof *ids, need, &c->capacity[0]);
    if (!ids) return SP_MEMORY;
    c->ids = ids;
    float *weights = sp_grown(c->weights, sizeof *weights, need, &c->capacity[1]);
    if (!weights) return SP_MEMORY;
    c->weights = weights;
    for (size_t i = begin; i < need; i++) {
        ids[i] = sp_tokenizer_pad(f->tokenizer);
        weights[i] = 1;
    }
    ids[begin] = sp_tokenizer_bos(f->tokenizer);
    ids[begin + 1] = sp_tokenizer_eos(f->tokenizer);
    c->count++;
    f->open = true;
    f->used = 0;
    return SP_OK;
}

static sp_status check_count(const filling *f)
{
    if (f->chunks->count <= SP_MAX_CHUNKS) return SP_OK;
    return sp_fail(SP_ARGUMENT, "takes more than %d chunks of %zu tokens", SP_MAX_CHUNKS, room_of(f));
}

static sp_status add_token(filling *f, int32_t id, double weight)
{
    if (!f->open || f->used == room_of(f)) SP_TRY(open_chunk(f));
    SP_TRY(check_count(f));
    sp_prompt_chunks *c = f->chunks;
    size_t at = (c->count - 1) * c->length + 1 + f->used++;
    c->ids[at] = id;
    c->ids[at + 1] = sp_tokenizer_eos(f->tokenizer);
    c->weights[at] = (float)weight;
    return SP_OK;
}

static sp_status add_tokens(filling *f, const int32_t *ids, size_t count, double weight)
{
    for (size_t i = 0; i < count; i++) {
        size_t run = sp_tokenizer_run(f->tokenizer, ids[i]), room = room_of(f);
        if (run > 1 && run <= room && f->used + run > room) f->open = false;
        SP_TRY(add_token(f, ids[i], weight));
    }
    return SP_OK;
}

static sp_status add_break(filling *f)
{
    if (!f->open) SP_TRY(open_chunk(f));
    f->open = false;
    return check_count(f);
}

static sp_status add_part(filling *f, const sp_prompt_part *part)
{
    int32_t *ids;
    size_t count;
    if (!part->text) return add_break(f);
    SP_TRY(sp_tokenizer_encode_all(f->tokenizer, part->text, &ids, &count));
    sp_status status = add_tokens(f, ids, count, part->weight);
    sp_free(ids);
    return status;
}

static sp_status add_weighted(filling *f, const char *prompt)
{
    sp_weighted_prompt parsed;
    SP_TRY(sp_weighted_prompt_parse(prompt, &parsed));
    sp_status status = SP_OK;
    for (size_t i = 0; i < parsed.count && !status; i++)
        status = add_part(f, &parsed.parts[i]);
    if (status == SP_ARGUMENT) sp_fail_within(status, "the prompt \"%s\"", sp_shown(prompt, strlen(prompt)));
    sp_weighted_prompt_free(&parsed);
    return status;
}

sp_status sp_prompt_chunks_make(const sp_tokenizer *tokenizer, sp_prompt_syntax syntax, const char *prompt,
                                sp_prompt_chunks *out)
{
    *out = (sp_prompt_chunks){.length = sp_tokenizer_max_length(tokenizer)};
    filling f = {.tokenizer = tokenizer, .chunks = out};
    sp_status status = syntax == SP_PROMPT_WEIGHTED ? add_weighted(&f, prompt) : SP_OK;
    if (!status && !out->count) status = open_chunk(&f);
    if (!status && syntax == SP_PROMPT_PLAIN) status = sp_tokenizer_encode(tokenizer, prompt, out->ids, NULL);
    if (status) sp_prompt_chunks_free(out);
    return status;
}

sp_status sp_prompt_chunks_pad(const sp_tokenizer *tokenizer, size_t count, sp_prompt_chunks *chunks)
{
    filling f = {.tokenizer = tokenizer, .chunks = chunks};
    while (chunks->count < count)
        SP_TRY(open_chunk(&f));
    return SP_OK;
}

void sp_prompt_chunks_free(sp_prompt_chunks *chunks)
{
    sp_free(chunks->ids);
    sp_free(chunks->weights);
    *chunks = (sp_prompt_chunks){0};
}
