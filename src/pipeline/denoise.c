/* From noise to latents: the sampler's loop over a batch, both passes of classifier-free guidance
 * in one run. */
#include <stdio.h>
#include <string.h>
#include "base/memory.h"
#include "models/guidance.h"
#include "pipeline/pipeline.h"

/* Latent pixels of all samples of one batch; beyond this a batch gains nothing and costs memory. */
enum { BATCH_PIXELS = 1 << 12 };

bool sp_pipeline_is_guided(const sp_pipeline *p, double guidance)
{
    return guidance != 1 && !p->facts.time_cond_dim;
}

/* ---- the graph ---- */

static sp_value *twice(sp_builder *b, sp_value *x)
{
    sp_value *pair[] = {x, x};
    return sp_concat(b, 2, pair, 0);
}

/* The conditional half of the inputs, through the network without some of its blocks. */
static sp_value *without_blocks(sp_builder *b, const sp_network_use *network, uint64_t blocks, const sp_values *in,
                                int64_t n)
{
    sp_block_options options = *(const sp_block_options *)network->options;
    sp_network_use third = *network;
    sp_values half = {0};
    options.left_out = blocks;
    third.options = &options;
    for (int i = 0; i < in->count; i++)
        sp_values_add(&half, in->item[i].name, sp_slice(b, in->item[i].value, 0, 0, n));
    return sp_network_value(b, &third, &half);
}

/* Inputs "latent" [N,C,h,w], "scale" and "timestep" [N]; the conditioning in N rows, or in 2N with the negative half
 * second and "cond_weight", "negative_weight", with a third pass "skipped_weight" [N] the weights of the outputs;
 * "timestep_cond" [N,dim] for cond_proj. Output "model_output" [N,C,h,w]. */
static void build_denoiser(sp_builder *b, const sp_pipeline *p, const sp_denoise_shape *shape)
{
    const sp_denoiser *c = &p->facts;
    int64_t n = shape->batch;
    bool guided = shape->guided;
    sp_values in = {0};
    sp_value *z =
        sp_nchw_to_nhwc(b, sp_input(b, "latent", SP_F32,
                                    sp_shape_of(n, c->in_channels, shape->height, shape->width), SP_RATE_STEP));
    sp_value *scaled[] = {sp_input(b, "scale", SP_F32, sp_shape_of(n), SP_RATE_STEP), z};
    z = sp_sample_combine(b, 1, scaled);
    sp_value *timestep = sp_input(b, "timestep", SP_F32, sp_shape_of(n), SP_RATE_STEP);
    sp_values_add(&in, "sample", guided ? twice(b, z) : z);
    sp_values_add(&in, "timestep", guided ? twice(b, timestep) : timestep);
    if (c->time_cond_dim) /* guidance does not change from step to step */
        sp_values_add(&in, "timestep_cond",
                      sp_input(b, "timestep_cond", SP_F32, sp_shape_of(n, c->time_cond_dim), SP_RATE_PROMPT));
    const sp_weight_set set = {.name = "unet", .rate = SP_RATE_RUN, .weights = p->denoiser_weights};
    const sp_block_options options = {.unmarked = true, .same_tokens = sp_model_same_tokens(p->model)};
    const sp_network_use network = {.network = c->network, .config = c->config, .options = &options, .set = &set};
    sp_conditioning_inputs(b, shape->conditioning, c->network, c->config, "", guided ? 2 * n : n, SP_RATE_PROMPT, &in);
    sp_value *output = sp_network_value(b, &network, &in);
    if (guided) {
        sp_value *terms[] = {
            sp_input(b, "cond_weight", SP_F32, sp_shape_of(n), SP_RATE_PROMPT), sp_slice(b, output, 0, 0, n),
            sp_input(b, "negative_weight", SP_F32, sp_shape_of(n), SP_RATE_PROMPT), sp_slice(b, output, 0, n, n),
            NULL, NULL};
        if (shape->left_out) {
            terms[4] = sp_input(b, "skipped_weight", SP_F32, sp_shape_of(n), SP_RATE_PROMPT);
            terms[5] = without_blocks(b, &network, shape->left_out, &in, n);
        }
        output = sp_sample_combine(b, shape->left_out ? 3 : 2, terms);
    }
    sp_output(b, "model_output", sp_nhwc_to_nchw(b, output));
}

static bool is_batch_of_alone(const sp_pipeline *p, const sp_denoise_shape *shape)
{
    return p->alone && shape->batch > 1;
}

static sp_status make_builder(const sp_pipeline *p, const sp_denoise_shape *shape, sp_builder **out)
{
    SP_TRY(sp_builder_create(out));
    if (is_batch_of_alone(p, shape)) sp_builder_set_samples(*out, !shape->guided ? 1 : shape->left_out ? 3 : 2);
    build_denoiser(*out, p, shape);
    return SP_OK;
}

/* ---- plans ---- */

typedef struct {
    const sp_pipeline *pipeline;
    const sp_denoise_shape *shape;
} denoiser;

static sp_status build(const void *context, sp_builder **out)
{
    const denoiser *d = context;
    return make_builder(d->pipeline, d->shape, out);
}

static sp_plan_use use_of(const denoiser *d, char text[SP_PLAN_SHAPE])
{
    const sp_denoise_shape *s = d->shape;
    char conditioning[SP_PLAN_SHAPE - 128], third[24] = "";
    if (s->left_out) snprintf(third, sizeof third, " less %llx", (unsigned long long)s->left_out);
    sp_conditioning_text(s->conditioning, conditioning, sizeof conditioning);
    snprintf(text, SP_PLAN_SHAPE, "%lld of %lldx%lld%s%s%s, %s", (long long)s->batch, (long long)s->width,
             (long long)s->height, s->guided ? " guided" : "", third,
             is_batch_of_alone(d->pipeline, s) ? " as alone" : "", conditioning);
    return (sp_plan_use){
        .network = "unet", .shape = text, .build = build, .context = d, .weights = d->pipeline->denoiser_weights};
}

sp_status sp_pipeline_plan_denoise(sp_pipeline *p, const sp_denoise_shape *shape, sp_plan_memory *out)
{
    char text[SP_PLAN_SHAPE];
    const denoiser d = {p, shape};
    const sp_plan_use use = use_of(&d, text);
    return sp_plans_memory(&p->plans, &use, out);
}

static sp_status prepare(sp_pipeline *p, const sp_denoise_shape *shape)
{
    char text[SP_PLAN_SHAPE];
    const denoiser d = {p, shape};
    if (shape->left_out && p->plans.most < 2) p->plans.most = 2; /* the other one is needed again */
    const sp_plan_use use = use_of(&d, text);
    return sp_plans_run(&p->plans, &use, &p->denoiser_run);
}

sp_status sp_pipeline_pack_denoise(sp_pipeline *p, const sp_denoise_shape *shape, const sp_callbacks *callbacks)
{
    SP_TRY(prepare(p, shape));
    return sp_run_make_weights(p->denoiser_run, callbacks);
}

/* ---- inputs ---- */

static sp_status set_all(sp_run *run, const char *name, int64_t batch, double value)
{
    sp_tensor values = {0};
    SP_TRY(sp_tensor_create(SP_F32, sp_shape_of(batch), &values));
    for (int64_t i = 0; i < batch; i++)
        ((float *)values.data)[i] = (float)value;
    sp_status status = sp_run_set_input(run, name, &values);
    sp_tensor_free(&values);
    return status;
}

/* Rows first.. of `from` into rows at.. of `to`; the last row of `from` stands for those beyond. */
static void copy_rows(sp_tensor *to, int64_t at, int64_t count, const sp_tensor *from,
                      int64_t first)
{
    int64_t rows = from->shape.dim[0];
    size_t one = sp_tensor_bytes(from) / (size_t)rows;
    for (int64_t i = 0; i < count; i++) {
        int64_t row = first + i < rows ? first + i : rows - 1;
        memcpy((char *)to->data + (size_t)(at + i) * one,
               (const char *)from->data + (size_t)row * one, one);
    }
}

/* Of sample `i`; the last one's stands for those beyond. */
static double guidance_of(const sp_denoise_request *r, int64_t i)
{
    int64_t rows = sp_conditioning_rows(r->conditioning);
    return r->guidance_of_each ? r->guidance_of_each[i < rows ? i : rows - 1] : r->guidance;
}

/* `skipped`: the scale of what a third pass is without; 0: there is none. */
static sp_status set_weights(sp_pipeline *p, const sp_denoise_request *r, double skipped, int64_t first, int64_t batch)
{
    sp_tensor cond = {0}, negative = {0};
    sp_status status = sp_tensor_create(SP_F32, sp_shape_of(batch), &cond);
    if (skipped != 0) SP_TRY(set_all(p->denoiser_run, "skipped_weight", batch, -skipped));
    if (!status) status = sp_tensor_create(SP_F32, sp_shape_of(batch), &negative);
    for (int64_t i = 0; i < batch && !status; i++) {
        ((float *)cond.data)[i] = (float)(guidance_of(r, first + i) + skipped);
        ((float *)negative.data)[i] = (float)(1 - guidance_of(r, first + i));
    }
    if (!status) status = sp_run_set_input(p->denoiser_run, "cond_weight", &cond);
    if (!status) status = sp_run_set_input(p->denoiser_run, "negative_weight", &negative);
    sp_tensor_free(&cond);
    sp_tensor_free(&negative);
    return status;
}

static sp_status set_guidance(sp_pipeline *p, const sp_denoise_request *r, double skipped, int64_t first,
                              int64_t batch)
{
    int64_t dim = p->facts.time_cond_dim;
    if (sp_pipeline_is_guided(p, r->guidance)) return set_weights(p, r, skipped, first, batch);
    if (!dim) return SP_OK;
    sp_tensor timestep_cond = {0};
    SP_TRY(sp_tensor_create(SP_F32, sp_shape_of(batch, dim), &timestep_cond));
    for (int64_t i = 0; i < batch; i++)
        sp_guidance_embedding(guidance_of(r, first + i) - 1, dim, (float *)timestep_cond.data + i * dim);
    sp_status status = sp_run_set_input(p->denoiser_run, "timestep_cond", &timestep_cond);
    sp_tensor_free(&timestep_cond);
    return status;
}

static sp_status set_conditioning(sp_pipeline *p, const sp_denoise_request *r, double skipped, int64_t first,
                                  int64_t batch)
{
    bool guided = sp_pipeline_is_guided(p, r->guidance);
    sp_conditioning rows;
    SP_TRY(sp_conditioning_create(r->conditioning, SP_F32, guided ? 2 * batch : batch, &rows));
    sp_conditioning_copy(&rows, 0, batch, r->conditioning, first);
    if (guided) {
        sp_conditioning_copy(&rows, batch, batch, r->negative, first);
        sp_conditioning_copy_picture(&rows, batch, batch, r->conditioning, first, p->facts.network, p->facts.config);
    }
    sp_status status = sp_conditioning_set(p->denoiser_run, "", &rows);
    sp_conditioning_free(&rows);
    return status ? status : set_guidance(p, r, skipped, first, batch);
}

/* ---- the loop ---- */

typedef struct {
    sp_tensor z, fresh;     /* [batch,C,h,w] */
    sp_tensor estimate;     /* likewise, where somebody looks at it */
    sp_tensor kept;         /* [kept * batch,C,h,w], the sampler's */
    const sp_tensor *given; /* what z starts as, of all samples; NULL: it is drawn */
    int64_t done, total;    /* steps of batches, for the report */
} denoise_state;

static sp_status draw(const sp_denoise_request *r, int64_t first, int64_t count, int step,
                      double scale, sp_tensor *out)
{
    int64_t one = sp_tensor_count(out) / out->shape.dim[0];
    float *data = out->data;
    for (int64_t i = 0; i < count; i++)
        SP_TRY(r->noise.draw(r->noise.context, r->first_sample + first + i, step, data + i * one,
                             one));
    for (int64_t i = 0; i < count * one && scale != 1; i++)
        data[i] = (float)(data[i] * scale);
    return SP_OK;
}

/* z is given, or initial_sigma noise + initial_image image. */
static sp_status start(const sp_denoise_request *r, const sp_sampler *sampler, int64_t first,
                       int64_t count, denoise_state *s)
{
    memset(s->z.data, 0, sp_tensor_bytes(&s->z));
    if (s->given) {
        copy_rows(&s->z, 0, count, s->given, first);
        return SP_OK;
    }
    SP_TRY(draw(r, first, count, 0, sampler->initial_sigma, &s->z));
    if (sampler->initial_image == 0) return SP_OK;
    copy_rows(&s->fresh, 0, count, r->image, first); /* not in use before the first step */
    int64_t elements = count * (sp_tensor_count(&s->z) / s->z.shape.dim[0]);
    float *z = s->z.data;
    const float *image = s->fresh.data;
    for (int64_t i = 0; i < elements; i++)
        z[i] = (float)(z[i] + sampler->initial_image * image[i]);
    return SP_OK;
}

static sp_status run_step(sp_pipeline *p, const sp_sampler *sampler, int i, denoise_state *s,
                          const sp_callbacks *callbacks)
{
    const sp_sampler_step *step = &sampler->step[i];
    sp_run *run = p->denoiser_run;
    int64_t batch = s->z.shape.dim[0];
    sp_tensor output = {0};
    SP_TRY(sp_run_set_input(run, "latent", &s->z));
    SP_TRY(set_all(run, "scale", batch, step->input_scale));
    SP_TRY(set_all(run, "timestep", batch, step->timestep));
    SP_TRY(sp_run_execute(run, callbacks));
    SP_TRY(sp_run_get_output(run, "model_output", &output));
    if (s->estimate.data)
        sp_sampler_estimate(sampler, i, s->z.data, output.data, s->estimate.data, sp_tensor_count(&s->z));
    sp_sampler_advance(sampler, i, s->z.data, output.data, s->kept.data, s->fresh.data,
                       sp_tensor_count(&s->z));
    sp_tensor_free(&output);
    return SP_OK;
}

static void show(const sp_denoise_request *r, int point, int64_t first, int64_t count, const denoise_state *s)
{
    if (r->observer.see) r->observer.see(r->observer.context, point, first, count, s->z.data);
}

/* Whether evaluation i has a third pass. */
static bool skips_in(const sp_pipeline *p, const sp_denoise_request *r, const sp_sampler *sampler, int i)
{
    const sp_skip_layers *skip = &r->skip_layers;
    return skip->blocks && sp_pipeline_is_guided(p, r->guidance) && i > sampler->count * skip->start &&
           i < sampler->count * skip->stop;
}

/* The run of evaluation i with what the batch is told, where it is not that of the one before. */
static sp_status change_run(sp_pipeline *p, const sp_denoise_request *r, const sp_sampler *sampler, int i,
                            int64_t first, const sp_denoise_shape *shape)
{
    bool skips = skips_in(p, r, sampler, i);
    if (i > 0 && skips == skips_in(p, r, sampler, i - 1)) return SP_OK;
    sp_denoise_shape own = *shape;
    if (skips) own.left_out = r->skip_layers.blocks;
    SP_TRY(prepare(p, &own));
    return set_conditioning(p, r, skips ? r->skip_layers.scale : 0, first, shape->batch);
}

/* Samples first..first+count-1; the rest of the batch is zeros that nobody looks at. */
static sp_status denoise_batch(sp_pipeline *p, const sp_denoise_request *r, const sp_denoise_shape *shape,
                               const sp_sampler *sampler, int64_t first, int64_t count,
                               denoise_state *s, const sp_callbacks *callbacks)
{
    SP_TRY(start(r, sampler, first, count, s));
    show(r, 0, first, count, s);
    for (int i = 0; i < sampler->count; i++) {
        SP_TRY(sp_check_cancelled(callbacks));
        SP_TRY(change_run(p, r, sampler, i, first, shape));
        if (sampler->step[i].next.fresh != 0) SP_TRY(draw(r, first, count, i + 1, 1, &s->fresh));
        SP_TRY(run_step(p, sampler, i, s, callbacks));
        show(r, i + 1, first, count, s);
        if (s->estimate.data) r->observer.estimate(r->observer.context, i, first, count, s->estimate.data);
        sp_report(callbacks, "denoising", ++s->done, s->total, NULL);
    }
    return SP_OK;
}

static sp_status check_image(const sp_pipeline *p, const sp_denoise_request *r)
{
    const sp_tensor *image = r->image;
    if (r->sampler.strength == 0) return SP_OK;
    if (!image) return sp_fail(SP_INTERNAL, "there is no picture to start from");
    sp_shape expected =
        sp_shape_of(image->shape.dim[0], p->facts.in_channels, r->height, r->width);
    int64_t rows = image->shape.dim[0];
    if (image->dtype == SP_F32 && sp_shape_equal(image->shape, expected) &&
        (rows == 1 || rows == sp_conditioning_rows(r->conditioning)))
        return SP_OK;
    return sp_fail(SP_SHAPE, "the latents to start from are %s, expected F32 [1,%lld,%lld,%lld]",
                   sp_shape_text(image->shape), (long long)expected.dim[1], (long long)r->height,
                   (long long)r->width);
}

static sp_status check_request(const sp_pipeline *p, const sp_denoise_request *r)
{
    if (!p->denoiser_weights) return sp_fail(SP_INTERNAL, "the pipeline has no denoiser");
    if (r->height < 1 || r->width < 1)
        return sp_fail(SP_ARGUMENT, "a latent of %lld x %lld is not possible", (long long)r->width,
                       (long long)r->height);
    SP_TRY(sp_conditioning_check(r->conditioning, p->facts.network, p->facts.config, "the conditioning"));
    if (!sp_pipeline_is_guided(p, r->guidance)) return SP_OK;
    if (!r->negative) return sp_fail(SP_INTERNAL, "guidance needs a negative conditioning");
    SP_TRY(sp_conditioning_expect(r->negative, r->conditioning, "the negative conditioning"));
    int64_t rows = sp_conditioning_rows(r->negative), count = sp_conditioning_rows(r->conditioning);
    if (rows == 1 || rows == count) return SP_OK;
    return sp_fail(SP_SHAPE, "the negative conditioning is of %lld samples and the other of %lld", (long long)rows,
                   (long long)count);
}

int64_t sp_denoise_batch(int64_t samples, int64_t height, int64_t width, int64_t most)
{
    int64_t area = height * width;
    if (most <= 0) most = area < BATCH_PIXELS ? BATCH_PIXELS / area : 1;
    int64_t batches = (samples + most - 1) / most;
    return (samples + batches - 1) / batches;
}

int64_t sp_batch_pixels(const sp_model *m)
{
    int64_t factor = m->vae->config.vae.factor;
    bool varies = m->device->varies_by_batch && m->device->varies_by_batch(m->device, m->precision);
    return varies ? 0 : BATCH_PIXELS * factor * factor;
}

static sp_status denoise(sp_pipeline *p, const sp_denoise_request *r, const sp_sampler *sampler,
                         const sp_tensor *given, const sp_callbacks *callbacks, sp_tensor *latents)
{
    int64_t count = sp_conditioning_rows(r->conditioning),
            batch = sp_denoise_batch(count, r->height, r->width, r->batch);
    const sp_denoise_shape plan = {.batch = batch,
                                   .height = r->height,
                                   .width = r->width,
                                   .conditioning = r->conditioning,
                                   .guided = sp_pipeline_is_guided(p, r->guidance)};
    SP_TRY(prepare(p, &plan));
    denoise_state s = {.given = given, .total = (count + batch - 1) / batch * sampler->count};
    sp_shape shape = sp_shape_of(batch, p->facts.in_channels, r->height, r->width);
    sp_status status = sp_tensor_create(SP_F32, shape, &s.z);
    if (!status) status = sp_tensor_create(SP_F32, shape, &s.fresh);
    if (!status && r->observer.estimate) status = sp_tensor_create(SP_F32, shape, &s.estimate);
    shape.dim[0] = batch * sampler->kept;
    if (!status && sampler->kept) status = sp_tensor_create(SP_F32, shape, &s.kept);
    shape.dim[0] = count;
    if (!status) status = sp_tensor_create(SP_F32, shape, latents);
    size_t one = sp_tensor_bytes(&s.z) / (size_t)batch;
    sp_report(callbacks, "denoising", 0, s.total, NULL);
    for (int64_t first = 0; first < count && !status; first += batch) {
        int64_t n = count - first < batch ? count - first : batch;
        status = denoise_batch(p, r, &plan, sampler, first, n, &s, callbacks);
        if (!status) memcpy((char *)latents->data + (size_t)first * one, s.z.data, (size_t)n * one);
    }
    sp_tensor_free(&s.z);
    sp_tensor_free(&s.kept);
    sp_tensor_free(&s.estimate);
    sp_tensor_free(&s.fresh);
    return status;
}

/* *latents is empty on failure. */
static sp_status denoise_finite(sp_pipeline *p, const sp_denoise_request *r, const sp_sampler *sampler,
                                const sp_tensor *given, const sp_callbacks *callbacks, sp_tensor *latents)
{
    sp_status status = denoise(p, r, sampler, given, callbacks, latents);
    if (!status) status = sp_tensor_check_finite(latents, "the latents");
    if (status) sp_tensor_free(latents);
    return status;
}

sp_status sp_pipeline_denoise(sp_pipeline *p, const sp_denoise_request *r,
                              const sp_callbacks *callbacks, sp_tensor *latents)
{
    *latents = (sp_tensor){0};
    sp_sampler sampler;
    SP_TRY(check_request(p, r));
    SP_TRY(check_image(p, r));
    SP_TRY(sp_sampler_create(r->scheduler ? r->scheduler : &p->scheduler, &r->sampler, &sampler));
    sp_status status = denoise_finite(p, r, &sampler, NULL, callbacks, latents);
    sp_sampler_free(&sampler);
    return status;
}

sp_status sp_pipeline_advance(sp_pipeline *p, const sp_denoise_request *r, const sp_sampler *sampler,
                              const sp_tensor *start, const sp_callbacks *callbacks, sp_tensor *latents)
{
    *latents = (sp_tensor){0};
    SP_TRY(check_request(p, r));
    const sp_shape expected =
        sp_shape_of(sp_conditioning_rows(r->conditioning), p->facts.in_channels, r->height, r->width);
    if (start->dtype != SP_F32 || !sp_shape_equal(start->shape, expected))
        return sp_fail(SP_SHAPE, "the latents to start from are %s, expected F32 [%lld,%lld,%lld,%lld]",
                       sp_shape_text(start->shape), (long long)expected.dim[0], (long long)expected.dim[1],
                       (long long)expected.dim[2], (long long)expected.dim[3]);
    return denoise_finite(p, r, sampler, start, callbacks, latents);
}
