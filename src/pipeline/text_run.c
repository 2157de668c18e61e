/* Prompts through the text encoders, to a conditioning. */
#include "pipeline/text_run.h"
#include <stdio.h>
#include <string.h>
#include "pipeline/t5_run.h"

/* The weights' names, and those of kept plans. */
static const char *const sets[SP_MAX_TEXTS] = {"text-encoder", "text-encoder-2"};

/* Of several encoders the states before the last layer of each are taken. */
static bool are_two(const sp_pipeline *p)
{
    return p->model->text_form != SP_TEXTS_ONE;
}

/* Whether the encoder makes a pooled text too. */
static bool pools(const sp_pipeline *p, int part)
{
    return p->text[part].encoder->config.kind == SP_COMPONENT_TEXT_ENCODER_2;
}

/* Ids of a chunk, which is what the encoders are run on. */
static int64_t chunk_length(const sp_pipeline *p)
{
    return (int64_t)sp_tokenizer_max_length(p->text[0].tokenizer);
}

int64_t sp_pipeline_tokens(const sp_pipeline *p)
{
    return p->chunks * chunk_length(p) + p->model->tokens_behind;
}

int64_t sp_text_most_skipped(const sp_pipeline *p)
{
    int64_t most = INT64_MAX;
    for (int i = 0; i < p->text_count; i++) {
        int64_t own = p->text[i].encoder->config.text.layers - 1 - are_two(p);
        most = own < most ? own : most;
    }
    return p->text_count ? most : 0;
}

void sp_text_forget(sp_pipeline *p)
{
    for (int i = 0; i < SP_MAX_TEXTS; i++)
        sp_plans_forget(&p->plans, sets[i]);
}

/* ---- plans ---- */

typedef struct {
    const sp_pipeline *pipeline;
    int part;
    int64_t batch;
    int clip_skip; /* beside the layer that two encoders do without */
} text_shape;

static sp_status build(const void *context, sp_builder **out)
{
    const text_shape *t = context;
    const sp_component *encoder = t->pipeline->text[t->part].encoder;
    const sp_weight_set set = {.name = sets[t->part], .rate = SP_RATE_RUN, .weights = encoder->weights};
    const sp_clip_text_options options = {.clip_skip = t->clip_skip + are_two(t->pipeline),
                                          .raw = are_two(t->pipeline)};
    const sp_network_use text = {
        .network = pools(t->pipeline, t->part) ? &sp_clip_text_projection_network : &sp_clip_text_network,
        .config = &encoder->config.text,
        .options = &options,
        .set = &set};
    const sp_network_sizes sizes = {.batch = t->batch, .tokens = chunk_length(t->pipeline), .ids = SP_I32};
    SP_TRY(sp_builder_create(out));
    sp_network_alone(*out, &text, &sizes);
    return SP_OK;
}

static sp_plan_use use_of(const text_shape *t, char shape[SP_PLAN_SHAPE])
{
    snprintf(shape, SP_PLAN_SHAPE, "%lld without %d layers", (long long)t->batch, t->clip_skip);
    return (sp_plan_use){.network = sets[t->part],
                         .shape = shape,
                         .build = build,
                         .context = t,
                         .weights = t->pipeline->text[t->part].encoder->weights};
}

static int64_t batch_of(int64_t chunks)
{
    return chunks < SP_TEXT_BATCH ? chunks : SP_TEXT_BATCH;
}

static void add_memory(sp_plan_memory *sum, const sp_plan_memory *one)
{
    sum->arena += one->arena;
    sum->persistent += one->persistent;
    sum->parameters += one->parameters;
    sum->boundary += one->boundary;
}

sp_status sp_pipeline_plan_text(sp_pipeline *p, int64_t prompts, sp_plan_memory *out)
{
    *out = (sp_plan_memory){0};
    for (int i = 0; i < p->text_count; i++) {
        char shape[SP_PLAN_SHAPE];
        sp_plan_memory one;
        const text_shape t = {p, i, batch_of(prompts * p->chunks), p->clip_skip};
        const sp_plan_use use = use_of(&t, shape);
        SP_TRY(sp_plans_memory(&p->plans, &use, &one));
        add_memory(out, &one);
    }
    if (!p->model->t5) return SP_OK;
    sp_plan_memory one;
    SP_TRY(sp_t5_plan(p, &one));
    add_memory(out, &one);
    return SP_OK;
}

sp_status sp_pipeline_pack_text(sp_pipeline *p, int part, const sp_callbacks *callbacks)
{
    char shape[SP_PLAN_SHAPE];
    sp_run *run;
    const text_shape t = {p, part, 1, p->clip_skip};
    const sp_plan_use use = use_of(&t, shape);
    SP_TRY(sp_plans_run(&p->plans, &use, &run));
    return sp_run_make_weights(run, callbacks);
}

/* ---- one encoder ---- */

/* What an encoder works with, and what it makes of all prompts: row i of the chunks is chunk i % chunks of prompt
 * i / chunks. */
typedef struct {
    const sp_text_part *part;
    int64_t rows, chunks;        /* of all prompts, of each */
    sp_tensor all, weights;      /* [rows,L], I32 and f32 */
    sp_tensor ids, ends;         /* of a batch: [batch,L], [batch], I32 */
    sp_tensor states, pooled;    /* [rows,L,D]; [rows,P] of an encoder that pools, f32 */
} encoding;

static void free_encoding(encoding *e)
{
    sp_tensor_free(&e->all);
    sp_tensor_free(&e->weights);
    sp_tensor_free(&e->ids);
    sp_tensor_free(&e->ends);
    sp_tensor_free(&e->states);
    sp_tensor_free(&e->pooled);
}

static sp_status make_room(const sp_pipeline *p, int part, int64_t count, encoding *e)
{
    const sp_clip_text_config *text = &p->text[part].encoder->config.text;
    int64_t rows = count * p->chunks, batch = batch_of(rows), length = chunk_length(p);
    *e = (encoding){.part = &p->text[part], .rows = rows, .chunks = p->chunks};
    SP_TRY(sp_tensor_create(SP_I32, sp_shape_of(rows, length), &e->all));
    SP_TRY(sp_tensor_create(SP_F32, sp_shape_of(rows, length), &e->weights));
    SP_TRY(sp_tensor_create(SP_I32, sp_shape_of(batch, length), &e->ids));
    SP_TRY(sp_tensor_create(SP_I32, sp_shape_of(batch), &e->ends));
    SP_TRY(sp_tensor_create(SP_F32, sp_shape_of(rows, length, text->width), &e->states));
    return pools(p, part) ? sp_tensor_create(SP_F32, sp_shape_of(rows, text->projection), &e->pooled) : SP_OK;
}

/* The chunks of a prompt into its rows. */
static sp_status place_prompt(const sp_prompt_chunks *chunks, int64_t prompt, const encoding *e)
{
    size_t count = (size_t)e->chunks * chunks->length, at = (size_t)prompt * count;
    if (chunks->count != (size_t)e->chunks)
        return sp_fail(SP_INTERNAL, "a prompt takes %zu chunks, and there is room for %lld", chunks->count,
                       (long long)e->chunks);
    memcpy((int32_t *)e->all.data + at, chunks->ids, count * sizeof *chunks->ids);
    memcpy((float *)e->weights.data + at, chunks->weights, count * sizeof *chunks->weights);
    return SP_OK;
}

static sp_status make_ids(const sp_pipeline *p, const char *const *prompts, int64_t count, const encoding *e)
{
    sp_status status = SP_OK;
    for (int64_t i = 0; i < count && !status; i++) {
        sp_prompt_chunks chunks;
        SP_TRY(sp_prompt_chunks_make(e->part->tokenizer, p->syntax, prompts[i], &chunks));
        status = sp_prompt_chunks_pad(e->part->tokenizer, (size_t)p->chunks, &chunks);
        if (!status) status = place_prompt(&chunks, i, e);
        sp_prompt_chunks_free(&chunks);
    }
    return status;
}

/* Rows first..first+count-1, which may be less than a batch. */
static sp_status set_ids(const encoding *e, int64_t first, int64_t count, sp_run *run)
{
    int64_t length = e->ids.shape.dim[1];
    int32_t *ids = e->ids.data, *ends = e->ends.data;
    memcpy(ids, (const int32_t *)e->all.data + first * length, (size_t)(count * length) * sizeof *ids);
    for (int64_t i = 0; i < count; i++)
        ends[i] = (int32_t)(i * length +
                            sp_clip_text_end(&e->part->encoder->config.text, ids + i * length, length));
    SP_TRY(sp_run_set_input(run, "input_ids", &e->ids));
    return e->pooled.data ? sp_run_set_input(run, "end_rows", &e->ends) : SP_OK;
}

/* Rows first..first+count-1 of `to` become the first of the run's output. */
static sp_status take(sp_run *run, const char *name, int64_t first, int64_t count, sp_tensor *to)
{
    sp_tensor out = {0};
    if (!to->data) return SP_OK;
    SP_TRY(sp_run_get_output(run, name, &out));
    size_t one = sp_tensor_bytes(to) / (size_t)to->shape.dim[0];
    memcpy((char *)to->data + (size_t)first * one, out.data, (size_t)count * one);
    sp_tensor_free(&out);
    return SP_OK;
}

static sp_status run_batches(const sp_pipeline *p, sp_run *run, encoding *e)
{
    int64_t batch = e->ids.shape.dim[0];
    for (int64_t first = 0; first < e->rows; first += batch) {
        int64_t n = e->rows - first < batch ? e->rows - first : batch;
        SP_TRY(set_ids(e, first, n, run));
        SP_TRY(sp_run_execute(run, &p->callbacks));
        SP_TRY(take(run, "last_hidden_state", first, n, &e->states));
        SP_TRY(take(run, "text_embeds", first, n, &e->pooled));
    }
    return SP_OK;
}

/* Each token's state times its weight, as sd_embed does it and A1111's interface with emphasis "No norm". */
static void weigh(encoding *e)
{
    const float *weights = e->weights.data;
    int64_t width = e->states.shape.dim[2];
    for (int64_t i = 0; i < sp_tensor_count(&e->weights); i++)
        for (int64_t k = 0; k < width && weights[i] != 1; k++)
            ((float *)e->states.data)[i * width + k] *= weights[i];
}

/* A prompt's chunks one behind the other: states [count,chunks L,D]; the pooled text is that of the first. */
static void join_chunks(encoding *e)
{
    int64_t count = e->rows / e->chunks;
    e->states.shape.dim[0] = count;
    e->states.shape.dim[1] *= e->chunks;
    if (!e->pooled.data) return;
    size_t one = (size_t)e->pooled.shape.dim[1] * sizeof(float);
    for (int64_t i = 1; i < count && e->chunks > 1; i++)
        memcpy((char *)e->pooled.data + (size_t)i * one, (const char *)e->pooled.data + (size_t)(i * e->chunks) * one,
               one);
    e->pooled.shape.dim[0] = count;
}

/* free_encoding in every case. */
static sp_status encode_part(sp_pipeline *p, int part, const char *const *prompts, int64_t count, int clip_skip,
                             encoding *e)
{
    char shape[SP_PLAN_SHAPE];
    sp_run *run;
    const text_shape text = {p, part, batch_of(count * p->chunks), clip_skip};
    const sp_plan_use use = use_of(&text, shape);
    sp_status status = make_room(p, part, count, e);
    if (!status) status = make_ids(p, prompts, count, e);
    if (!status) status = sp_plans_run(&p->plans, &use, &run);
    if (!status) status = run_batches(p, run, e);
    if (!status) {
        weigh(e);
        join_chunks(e);
    }
    if (!p->keeps || status) {
        sp_plans_forget(&p->plans, sets[part]);
        sp_component_drop_pages(p->text[part].encoder);
    }
    return status;
}

/* ---- all of them ---- */

/* The last tokens of `to` become `from`, which is as wide. */
static void place_behind(sp_tensor *to, const sp_tensor *from)
{
    int64_t width = to->shape.dim[2], all = to->shape.dim[1] * width, own = from->shape.dim[1] * width;
    for (int64_t i = 0; i < from->shape.dim[0]; i++)
        memcpy((float *)to->data + (i + 1) * all - own, (const float *)from->data + i * own,
               (size_t)own * sizeof(float));
}

/* Columns at.. of the first tokens of `to` become those of `from`. */
static void place_columns(sp_tensor *to, int64_t at, const sp_tensor *from)
{
    int64_t tokens = to->shape.dim[1], width = to->shape.dim[2], own_tokens = from->shape.dim[1],
            own = from->shape.dim[2];
    for (int64_t i = 0; i < from->shape.dim[0]; i++)
        for (int64_t k = 0; k < own_tokens; k++)
            memcpy((float *)to->data + (i * tokens + k) * width + at,
                   (const float *)from->data + (i * own_tokens + k) * own, (size_t)own * sizeof(float));
}

/* The states of all encoders side by side, *out new, with zeros beside them where the denoiser takes more, and behind
 * them T5's (data NULL: zeros too); one's are taken over. */
static sp_status join(const sp_pipeline *p, encoding *e, const sp_tensor *t5, sp_tensor *out)
{
    sp_shape shape = e[0].states.shape;
    int64_t at = 0;
    if (!are_two(p)) {
        *out = e[0].states;
        e[0].states = (sp_tensor){0};
        return SP_OK;
    }
    for (int i = 1; i < p->text_count; i++)
        shape.dim[2] += e[i].states.shape.dim[2];
    if (p->model->text_form == SP_TEXTS_SD3) shape.dim[2] = p->facts.context_dim;
    shape.dim[1] += p->model->tokens_behind;
    SP_TRY(sp_tensor_create(SP_F32, shape, out));
    memset(out->data, 0, sp_tensor_bytes(out));
    for (int i = 0; i < p->text_count; i++) {
        place_columns(out, at, &e[i].states);
        at += e[i].states.shape.dim[2];
    }
    if (t5->data) place_behind(out, t5);
    return SP_OK;
}

/* XL's, the second encoder's; SD3's, all encoders' one behind the other. */
static sp_status join_pooled(const sp_pipeline *p, encoding *e, sp_tensor *out)
{
    bool all = p->model->text_form == SP_TEXTS_SD3;
    sp_shape shape = e[1].pooled.shape;
    if (!all) {
        *out = e[1].pooled;
        e[1].pooled = (sp_tensor){0};
        return SP_OK;
    }
    int64_t first = e[0].pooled.shape.dim[1], second = shape.dim[1];
    shape.dim[1] += first;
    SP_TRY(sp_tensor_create(SP_F32, shape, out));
    for (int64_t i = 0; i < shape.dim[0]; i++) {
        float *row = (float *)out->data + i * shape.dim[1];
        memcpy(row, (const float *)e[0].pooled.data + i * first, (size_t)first * sizeof *row);
        memcpy(row + first, (const float *)e[1].pooled.data + i * second, (size_t)second * sizeof *row);
    }
    return SP_OK;
}

static sp_status add_all(const sp_pipeline *p, encoding *e, const sp_tensor *t5, sp_conditioning *out)
{
    static const char *const pooled_names[] = {[SP_TEXTS_XL] = "text_embeds", [SP_TEXTS_SD3] = "pooled_projections"};
    sp_tensor states, pooled;
    SP_TRY(join(p, e, t5, &states));
    SP_TRY(sp_conditioning_add(out, "encoder_hidden_states", states));
    if (are_two(p)) {
        SP_TRY(join_pooled(p, e, &pooled));
        SP_TRY(sp_conditioning_add(out, pooled_names[p->model->text_form], pooled));
    }
    return sp_conditioning_check_finite(out, "the prompts");
}

/* Here the set is made: what another family of models takes is added here. */
static sp_status encode(sp_pipeline *p, const char *const *prompts, int64_t count, int clip_skip, sp_conditioning *out)
{
    encoding e[SP_MAX_TEXTS] = {0};
    sp_tensor t5 = {0};
    *out = (sp_conditioning){0};
    if (!p->text_count) return sp_fail(SP_INTERNAL, "the pipeline was opened without its text encoder");
    if (count < 1) return sp_fail(SP_ARGUMENT, "there is no prompt");
    if (p->model->text_form == SP_TEXTS_SD3 && !p->facts.context_dim)
        return sp_fail(SP_UNSUPPORTED, "%s: prompts of Stable Diffusion 3 are encoded with its transformer open alone",
                       p->model->folder.path);
    sp_status status = SP_OK;
    for (int i = 0; i < p->text_count && !status; i++)
        status = encode_part(p, i, prompts, count, clip_skip, &e[i]);
    if (!status && p->model->t5) status = sp_t5_encode(p, prompts, count, &t5);
    if (!status) status = add_all(p, e, &t5, out);
    sp_tensor_free(&t5);
    for (int i = 0; i < SP_MAX_TEXTS; i++)
        free_encoding(&e[i]);
    if (status) sp_conditioning_free(out);
    return status;
}

sp_status sp_pipeline_encode(sp_pipeline *p, const char *const *prompts, int64_t count, sp_conditioning *out)
{
    return encode(p, prompts, count, p->clip_skip, out);
}

/* Zeros in the shape of a prompt. */
static sp_status encode_zeros(const sp_pipeline *p, sp_conditioning *out)
{
    int64_t width = 0;
    *out = (sp_conditioning){0};
    for (int i = 0; i < p->text_count; i++)
        width += p->text[i].encoder->config.text.width;
    sp_conditioning shape = {
        .count = 2,
        .item = {{.name = "encoder_hidden_states", .tensor.shape = sp_shape_of(1, sp_pipeline_tokens(p), width)},
                 {.name = "text_embeds", .tensor.shape = sp_shape_of(1, p->text[1].encoder->config.text.projection)}}};
    return sp_conditioning_create(&shape, SP_F32, 1, out);
}

sp_status sp_pipeline_encode_negative(sp_pipeline *p, const char *prompt, sp_conditioning *out)
{
    if (!prompt && p->model->zero_negative && are_two(p)) return encode_zeros(p, out);
    const char *text = prompt ? prompt : "";
    return encode(p, &text, 1, 0, out);
}

/* The first tokens' first columns. */
static sp_status crop(const sp_tensor *from, int64_t tokens, int64_t width, sp_tensor *out)
{
    int64_t rows = from->shape.dim[0], own_tokens = from->shape.dim[1], own = from->shape.dim[2];
    SP_TRY(sp_tensor_create(SP_F32, sp_shape_of(rows, tokens, width), out));
    for (int64_t i = 0; i < rows; i++)
        for (int64_t k = 0; k < tokens; k++)
            memcpy((float *)out->data + (i * tokens + k) * width,
                   (const float *)from->data + (i * own_tokens + k) * own, (size_t)width * sizeof(float));
    return SP_OK;
}

sp_status sp_pipeline_trim(const sp_pipeline *p, const sp_conditioning *set, sp_conditioning *out)
{
    int64_t width = 0;
    sp_status status = SP_OK;
    *out = (sp_conditioning){0};
    for (int i = 0; i < p->text_count; i++)
        width += p->text[i].encoder->config.text.width;
    for (int i = 0; i < set->count && !status; i++) {
        const sp_tensor *member = &set->item[i].tensor;
        bool states = strcmp(set->item[i].name, "encoder_hidden_states") == 0;
        sp_tensor kept;
        status = states && p->model->text_form == SP_TEXTS_SD3 && !p->model->t5
                     ? crop(member, member->shape.dim[1] - p->model->tokens_behind, width, &kept)
                     : sp_tensor_convert(member, SP_F32, &kept);
        if (!status) status = sp_conditioning_add(out, set->item[i].name, kept);
    }
    if (status) sp_conditioning_free(out);
    return status;
}

sp_conditioning sp_pipeline_conditioning(const sp_pipeline *p, int64_t count)
{
    return sp_conditioning_declared(p->facts.network, p->facts.config, count, sp_pipeline_tokens(p));
}

/* ---- what is in a prompt ---- */

sp_status sp_pipeline_count_chunks(const sp_pipeline *p, const char *prompt, int64_t *out)
{
    *out = 1;
    for (int i = 0; i < p->text_count; i++) {
        sp_prompt_chunks chunks;
        SP_TRY(sp_prompt_chunks_make(p->text[i].tokenizer, p->syntax, prompt, &chunks));
        if ((int64_t)chunks.count > *out) *out = (int64_t)chunks.count;
        sp_prompt_chunks_free(&chunks);
    }
    return SP_OK;
}

sp_status sp_pipeline_has_vectors(const sp_pipeline *p, const char *prompt, int32_t first, bool *out)
{
    sp_prompt_chunks chunks;
    SP_TRY(sp_prompt_chunks_make(p->text[0].tokenizer, p->syntax, prompt, &chunks));
    *out = false;
    for (size_t i = 0; i < chunks.count * chunks.length; i++)
        *out = *out || chunks.ids[i] == first;
    sp_prompt_chunks_free(&chunks);
    return SP_OK;
}

/* ---- beside the prompt ---- */

sp_framing sp_framing_whole(int64_t height, int64_t width)
{
    return (sp_framing){
        .original_height = height, .original_width = width, .target_height = height, .target_width = width};
}

sp_status sp_pipeline_frame(const sp_pipeline *p, const sp_framing *framing, int64_t count, sp_conditioning *set)
{
    sp_tensor ids;
    int64_t rows = sp_conditioning_rows(set);
    bool asked = p->denoiser ? p->facts.sizes : p->model->text_form == SP_TEXTS_XL; /* a cache is made without */
    if (!asked) return SP_OK;
    SP_TRY(sp_tensor_create(SP_F32, sp_shape_of(rows, SP_UNET_SIZES), &ids));
    for (int64_t i = 0; i < rows; i++) {
        const sp_framing *f = &framing[i < count ? i : count - 1];
        const int64_t sizes[SP_UNET_SIZES] = {f->original_height, f->original_width, f->crop_top,
                                              f->crop_left,       f->target_height,  f->target_width};
        for (int k = 0; k < SP_UNET_SIZES; k++)
            ((float *)ids.data)[i * SP_UNET_SIZES + k] = (float)sizes[k];
    }
    return sp_conditioning_add(set, "time_ids", ids);
}
