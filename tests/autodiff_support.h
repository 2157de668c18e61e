/* Compositions of operators that have a gradient, and running one. */
#ifndef SP_TESTS_AUTODIFF_SUPPORT_H
#define SP_TESTS_AUTODIFF_SUPPORT_H
#include <math.h>
#include "support.h"
#include "backend/cpu/cpu.h"
#include "backend/host/host.h"
#include "backend/registry.h"
#include "base/random.h"
#include "ops/autodiff.h"
#include "graph/passes.h"
#include "graph/run.h"
#include "ops/ops.h"

enum { MAX_VARIABLES = 64 };

/* A graph under test: what it is differentiated for, in order of making. */
typedef struct {
    sp_builder *b;
    sp_dtype dtype;
    bool checkpoint;
    sp_value *variable[MAX_VARIABLES];
    int count;
} composition;
typedef sp_value *compose(composition *c);

static inline sp_value *variable(composition *c, sp_shape shape)
{
    char name[24];
    snprintf(name, sizeof name, "v%d", c->count);
    return c->variable[c->count++] = sp_input(c->b, name, c->dtype, shape, SP_RATE_STEP);
}
#define V(...) variable(c, sp_shape_of(__VA_ARGS__))

static inline void begin(composition *c)
{
    if (c->checkpoint) sp_checkpoint_begin(c->b, true);
}

static inline void end(composition *c)
{
    if (c->checkpoint) sp_checkpoint_end(c->b);
}

static inline sp_value *norm_silu(composition *c, sp_value *x, int groups)
{
    int64_t C = sp_channels(x);
    sp_value *gamma = V(C), *beta = V(C);
    return sp_silu(
        c->b, sp_group_norm(c->b, x, gamma, beta, (sp_group_norm_options){groups, 1e-5, false}));
}

static inline sp_value *convolution(composition *c, sp_value *x, int64_t M, int64_t k)
{
    int pad = (int)k / 2;
    sp_value *weight = V(M, sp_channels(x), k, k), *bias = V(M);
    return sp_conv2d(c->b, x, weight, bias, NULL, NULL,
                     (sp_conv2d_options){1, pad, pad, pad, pad, false});
}

static inline sp_value *linear(composition *c, sp_value *x, int64_t M)
{
    sp_value *weight = V(M, sp_channels(x)), *bias = V(M);
    return sp_linear(c->b, x, weight, bias, NULL);
}

static inline sp_value *resnet_block(composition *c, sp_value *x, sp_value *time, int64_t M)
{
    sp_builder *b = c->b;
    begin(c);
    sp_value *h = convolution(c, norm_silu(c, x, 2), M, 3);
    h = sp_add_per_channel(b, h, linear(c, sp_silu(b, time), M));
    h = convolution(c, norm_silu(c, h, 3), M, 3);
    sp_value *shortcut = sp_channels(x) == M ? x : convolution(c, x, M, 1);
    h = sp_add(b, h, shortcut);
    end(c);
    return h;
}

static inline sp_value *attention_block(composition *c, sp_value *x, sp_value *context)
{
    sp_builder *b = c->b;
    int64_t C = sp_channels(x);
    begin(c);
    sp_value *gamma = V(C), *beta = V(C);
    sp_value *n = sp_layer_norm(b, x, gamma, beta, (sp_layer_norm_options){1e-5, false});
    sp_value *q = linear(c, n, C), *k = linear(c, context, C), *v = linear(c, context, C);
    sp_value *a =
        sp_attention(b, q, k, v, (sp_attention_options){.heads = 2, .scale = 1 / sqrt((double)C / 2)});
    x = sp_add(b, linear(c, a, C), x);
    end(c);
    begin(c);
    sp_value *plain = sp_layer_norm(b, x, NULL, NULL, (sp_layer_norm_options){1e-5, false});
    x = sp_add(b, linear(c, sp_geglu(b, linear(c, plain, 4 * C)), C), x);
    end(c);
    return x;
}

static inline sp_value *to_loss(composition *c, sp_value *y)
{
    sp_value *target =
        sp_input(c->b, "target", c->dtype, y ? y->shape : (sp_shape){0}, SP_RATE_STEP);
    return sp_loss(c->b, y, target, NULL, (sp_loss_options){SP_LOSS_HUBER, 0.5});
}

static inline sp_value *resnet(composition *c)
{
    sp_value *x = V(2, 4, 3, 4), *time = V(2, 5);
    x = resnet_block(c, x, time, 6);
    return to_loss(c, resnet_block(c, x, time, 6));
}

static inline sp_value *attention(composition *c)
{
    sp_value *x = V(2, 5, 8), *context = V(2, 3, 6);
    x = attention_block(c, x, x);
    return to_loss(c, attention_block(c, x, context));
}

/* A tiny UNet: down, up, and a skip that leaves one checkpointing block and is read after another. */
static inline sp_value *unet(composition *c)
{
    sp_builder *b = c->b;
    sp_value *time = V(2, 5), *weight = V(6, 6, 3, 3);
    sp_value *skip = resnet_block(c, V(2, 5, 4, 4), time, 6);
    sp_value *x =
        sp_conv2d(b, skip, weight, NULL, NULL, NULL, (sp_conv2d_options){2, 0, 0, 1, 1, false});
    sp_value *tokens = sp_reshape(b, x, sp_shape_of(2, -1, 6));
    x = sp_reshape(b, attention_block(c, tokens, tokens), x ? x->shape : (sp_shape){0});
    x = sp_upsample_nearest(b, x, 5, 4);
    return to_loss(c, resnet_block(c, sp_concat(b, 2, (sp_value *[]){x, skip}, -1), time, 6));
}

/* ---- running a composition ---- */
typedef struct {
    sp_plan *plan;
    sp_run *run;
    int variables, nodes, fused_geglus;
} running;

typedef struct {
    sp_dtype dtype, precision;
    bool checkpoint, fuse, gradients;
} how;

static inline void fill_random(sp_tensor *tensor, uint64_t seed)
{
    float uniform[1024];
    int64_t count = sp_tensor_count(tensor);
    assert_in_range(count, 1, 1024);
    sp_random_uniform((sp_random_key){.seed = seed}, uniform, (size_t)count);
    for (int64_t i = 0; i < count; i++)
        sp_store(tensor->data, tensor->dtype, i, 2 * (double)uniform[i] - 1);
}

/* Input `name` gets the numbers of its seed, moved by h in random directions. */
static inline void set_input(running *r, const char *name, uint64_t seed, double h)
{
    const sp_value *value = sp_plan_input(r->plan, name);
    sp_tensor x = {0}, d = {0};
    if (!value) return;
    assert_ok(sp_tensor_create(SP_F64, value->shape, &x));
    assert_ok(sp_tensor_create(SP_F64, value->shape, &d));
    fill_random(&x, seed);
    fill_random(&d, seed + 1000);
    for (int64_t i = 0; i < sp_tensor_count(&x); i++)
        ((double *)x.data)[i] += h * ((double *)d.data)[i];
    assert_ok(sp_run_set_input(r->run, name, &x));
    sp_tensor_free(&x);
    sp_tensor_free(&d);
}

static inline const char *numbered(const char *prefix, int i)
{
    static char name[2][24];
    char *text = name[*prefix == 'v'];
    snprintf(text, sizeof name[0], "%s%d", prefix, i);
    return text;
}

static inline running start(compose *make, how options)
{
    composition c = {.dtype = options.dtype, .checkpoint = options.checkpoint};
    sp_graph *graph;
    running r = {0};
    assert_ok(sp_builder_create(&c.b));
    sp_value *loss = make(&c);
    sp_output(c.b, "loss", loss);
    if (options.fuse) assert_ok(sp_pass_fuse(sp_builder_graph(c.b)));
    if (options.gradients) {
        sp_value *gradient[MAX_VARIABLES] = {NULL};
        assert_ok(sp_gradient(c.b, loss, c.variable, c.count, gradient));
        for (int i = 0; i < c.count; i++) {
            assert_non_null(gradient[i]);
            sp_output(c.b, numbered("gradient", i), gradient[i]);
        }
    }
    if (options.fuse) assert_ok(sp_pass_fuse_inference(sp_builder_graph(c.b)));
    assert_ok(sp_builder_finish(c.b, &graph));
    sp_builder_destroy(c.b);
    r.variables = c.count;
    for (int n = 0; n < graph->node_count; n++)
        r.fused_geglus += graph->nodes[n]->op == &sp_op_linear_geglu;
    r.nodes = graph->node_count;
    /* the oracle, but where the whole program is asked to run on another device */
    sp_device *device = sp_default_device() == sp_cpu_device() ? sp_reference_device() : sp_default_device();
    assert_ok(sp_plan_create(graph, device, options.precision, &r.plan));
    assert_ok(sp_run_create(r.plan, &r.run));
    for (int i = 0; i < c.count; i++)
        set_input(&r, numbered("v", i), (uint64_t)i, 0);
    set_input(&r, "target", 99, 0);
    assert_ok(sp_run_execute(r.run, NULL));
    return r;
}

static inline void stop(running *r)
{
    sp_run_destroy(r->run);
    sp_plan_destroy(r->plan);
}

static inline sp_tensor output(running *r, const char *name)
{
    sp_tensor out = {0};
    assert_ok(sp_run_get_output(r->run, name, &out));
    return out;
}

static inline double loss_of(running *r)
{
    assert_ok(sp_run_execute(r->run, NULL));
    sp_tensor loss = output(r, "loss");
    double value = sp_load(loss.data, loss.dtype, 0);
    sp_tensor_free(&loss);
    return value;
}

#endif
