/* Prompts through T5. */
#include "pipeline/t5_run.h"

#include <string.h>

static const char set_name[] = "text-encoder-3";

static sp_status build(const void *context, sp_builder **out)
{
    const sp_model *m = context;
    const sp_t5_file *file = &m->t5->file;
    const sp_weight_set set = {.name = set_name, .rate = SP_RATE_RUN, .weights = file->weights};
    const sp_network_use use = {.network = &sp_t5_network, .config = &file->config, .set = &set};
    const sp_network_sizes sizes = {.batch = 1, .tokens = m->tokens_behind, .ids = SP_I32};
    SP_TRY(sp_builder_create(out));
    sp_network_alone(*out, &use, &sizes);
    return SP_OK;
}

static sp_plan_use use_of(const sp_model *m)
{
    return (sp_plan_use){
        .network = set_name, .shape = "1", .build = build, .context = m, .weights = m->t5->file.weights};
}

sp_status sp_t5_plan(sp_pipeline *p, sp_plan_memory *out)
{
    const sp_plan_use use = use_of(p->model);
    return sp_plans_memory(&p->plans, &use, out);
}

/* What a run works with. */
typedef struct {
    sp_tensor ids, buckets, identity; /* [1,L], [L,L], [L,L] */
} inputs;

static void free_inputs(inputs *in)
{
    sp_tensor_free(&in->ids);
    sp_tensor_free(&in->buckets);
    sp_tensor_free(&in->identity);
}

static sp_status make_inputs(const sp_model *m, inputs *in)
{
    int64_t length = m->tokens_behind;
    SP_TRY(sp_tensor_create(SP_I32, sp_shape_of(1, length), &in->ids));
    SP_TRY(sp_tensor_create(SP_I32, sp_shape_of(length, length), &in->buckets));
    SP_TRY(sp_tensor_create(SP_F32, sp_shape_of(length, length), &in->identity));
    sp_t5_buckets(&m->t5->file.config, length, in->buckets.data);
    for (int64_t i = 0; i < length * length; i++)
        ((float *)in->identity.data)[i] = i % (length + 1) == 0;
    return SP_OK;
}

static sp_status encode_one(sp_pipeline *p, const char *prompt, const inputs *in, sp_run *run, float *to)
{
    sp_tensor states = {0};
    SP_TRY(sp_unigram_encode(p->model->t5->tokenizer, prompt, (size_t)p->model->tokens_behind, in->ids.data, NULL,
                             NULL));
    SP_TRY(sp_run_set_input(run, "input_ids", &in->ids));
    SP_TRY(sp_run_set_input(run, "position_buckets", &in->buckets));
    SP_TRY(sp_run_set_input(run, "identity", &in->identity));
    SP_TRY(sp_run_execute(run, &p->callbacks));
    SP_TRY(sp_run_get_output(run, "last_hidden_state", &states));
    memcpy(to, states.data, sp_tensor_bytes(&states));
    sp_tensor_free(&states);
    return SP_OK;
}

static sp_status encode_all(sp_pipeline *p, const char *const *prompts, int64_t count, inputs *in, sp_tensor *out)
{
    const sp_plan_use use = use_of(p->model);
    int64_t one = p->model->tokens_behind * p->model->t5->file.config.width;
    sp_run *run;
    SP_TRY(make_inputs(p->model, in));
    SP_TRY(sp_plans_run(&p->plans, &use, &run));
    for (int64_t i = 0; i < count; i++)
        SP_TRY(encode_one(p, prompts[i], in, run, (float *)out->data + i * one));
    return SP_OK;
}

/* The file's pages too, of which a mapping has as many. */
static void let_go(sp_pipeline *p)
{
    const sp_tensor_file *file = p->model->t5->file.file;
    sp_plans_forget(&p->plans, set_name);
    for (size_t i = 0; i < sp_tensor_file_count(file); i++)
        sp_tensor_file_drop(file, sp_tensor_file_at(file, i));
}

sp_status sp_t5_encode(sp_pipeline *p, const char *const *prompts, int64_t count, sp_tensor *out)
{
    inputs in = {0};
    *out = (sp_tensor){0};
    if (p->syntax != SP_PROMPT_PLAIN)
        return sp_fail(SP_UNSUPPORTED, "`prompt_syntax` weighted is not supported with `t5` yet");
    SP_TRY(sp_tensor_create(SP_F32, sp_shape_of(count, p->model->tokens_behind, p->model->t5->file.config.width), out));
    sp_status status = encode_all(p, prompts, count, &in, out);
    let_go(p);
    free_inputs(&in);
    if (status) sp_tensor_free(out);
    return status;
}
