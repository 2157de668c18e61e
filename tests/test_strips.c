/* Large pictures are normalised and convolved some rows at a time: the same bits, in less memory. */
#include <math.h>
#include "tiny_model.h"
#include "backend/cpu/cpu.h"
#include "backend/cpu/kernel_table.h"
#include "backend/registry.h"
#include "base/random.h"
#include "graph/run.h"
#include "models/layers.h"
#include "models/runner.h"
#include "pipeline/vae_run.h"

static const int64_t never = INT64_MAX / 8;

/* ---- residual blocks ---- */

typedef struct {
    int64_t H, W, C, M;
    bool twice; /* a second block behind it, whose results may take the first one's places */
} block;

static sp_plan *plan_of(const block *c, sp_dtype precision, int64_t strip)
{
    sp_builder *b;
    sp_plan *plan;
    assert_ok(sp_builder_create(&b));
    sp_value *x = sp_input(b, "x", SP_F32, sp_shape_of(1, c->H, c->W, c->C), SP_RATE_STEP);
    x = sp_affine(b, x, 1, 0); /* an activation, not what lies at the graph's border */
    sp_set_enter(b, "model", SP_RATE_RUN, NULL, NULL);
    x = sp_resnet_block(b, 0, x, NULL, c->M, (sp_norm_settings){8, 1e-6});
    if (c->twice) x = sp_resnet_block(b, 1, x, NULL, c->M, (sp_norm_settings){8, 1e-6});
    sp_set_leave(b);
    sp_output(b, "y", sp_affine(b, x, 1, 0));
    int64_t usual = sp_strip_elements;
    sp_strip_elements = strip;
    assert_ok(sp_runner_plan(b, sp_cpu_device(), precision, &plan));
    sp_strip_elements = usual;
    return plan;
}

static int strip_nodes(const sp_plan *plan)
{
    int count = 0;
    for (int i = 0; i < sp_plan_step_count(plan); i++) {
        sp_plan_step step = sp_plan_step_at(plan, i);
        count += step.packs_input < 0 && step.node->op == &sp_op_norm_conv2d;
    }
    return count;
}

static sp_tensor random_tensor(sp_shape shape, uint64_t sample, float scale)
{
    sp_tensor t;
    assert_ok(sp_tensor_create(SP_F32, shape, &t));
    sp_random_normal((sp_random_key){.seed = 17, .sample = sample}, t.data, (size_t)sp_tensor_count(&t));
    for (int64_t i = 0; i < sp_tensor_count(&t); i++)
        ((float *)t.data)[i] *= scale;
    return t;
}

/* Random values for all parameters of a plan. */
static sp_weights *weights_of(const sp_plan *plan)
{
    const sp_graph *graph = sp_plan_graph(plan);
    sp_weights *weights;
    assert_ok(sp_weights_create(&weights));
    for (int i = 0; i < graph->value_count; i++) {
        const sp_value *v = graph->values[i];
        if (v->kind != SP_VALUE_PARAMETER) continue;
        uint64_t name = 0; /* the same for both plans, whatever the order */
        for (const char *p = v->name; *p; p++)
            name = name * 31 + (unsigned char)*p;
        int64_t row = sp_shape_count(v->shape) / v->shape.dim[0];
        float scale = v->shape.rank > 1 ? (float)(1 / sqrt((double)row)) : 0.5f;
        assert_ok(sp_weights_add(weights, v->name, random_tensor(v->shape, name, scale)));
    }
    return weights;
}

static sp_tensor result_of(const sp_plan *plan, const sp_weights *weights, const sp_tensor *x)
{
    sp_run *run;
    sp_tensor y;
    assert_ok(sp_run_create(plan, &run));
    assert_ok(sp_bind(sp_run_bound(run), "model", weights));
    assert_ok(sp_run_set_input(run, "x", x));
    for (int i = 0; i < 2; i++) /* nothing is left over of the first time */
        assert_ok(sp_run_execute(run, NULL));
    assert_ok(sp_run_get_output(run, "y", &y));
    sp_run_destroy(run);
    return y;
}

/* bf16 has eight bits, of which other sums may lose two. */
static void assert_close_enough(const sp_tensor *a, const sp_tensor *b)
{
    double error;
    assert_ok(sp_tensor_relative_max_error(a, b, &error));
    assert_true(error < 1.0 / 64);
}

static void check_block(const block *c, sp_dtype precision)
{
    sp_plan *whole = plan_of(c, precision, never), *strips = plan_of(c, precision, c->W * c->C);
    assert_int_equal(strip_nodes(whole), 0);
    assert_int_equal(strip_nodes(strips), c->twice ? 4 : 2);
    sp_weights *weights = weights_of(whole);
    sp_tensor x = random_tensor(sp_shape_of(1, c->H, c->W, c->C), 1, 2);
    sp_tensor y = result_of(whole, weights, &x), z = result_of(strips, weights, &x);
    if (precision == SP_BF16 && sp_onednn_uses_amx()) /* oneDNN convolves, and may sum in another order */
        assert_close_enough(&y, &z);
    else if (memcmp(y.data, z.data, sp_tensor_bytes(&y)) != 0)
        fail_msg("%lldx%lld, %lld to %lld channels, %s: other bits in strips", (long long)c->H, (long long)c->W,
                 (long long)c->C, (long long)c->M, sp_precision_name(precision));
    sp_tensor_free(&x);
    sp_tensor_free(&y);
    sp_tensor_free(&z);
    sp_weights_destroy(weights);
    sp_plan_destroy(whole);
    sp_plan_destroy(strips);
}

static void strips_have_the_same_bits(void **state)
{
    (void)state;
    static const block blocks[] = {
        {96, 16, 64, 64, true},   {96, 16, 128, 64, true}, {72, 24, 64, 128, false}, {75, 17, 64, 64, true},
        {101, 13, 128, 64, true}, {80, 9, 32, 32, true},   {77, 5, 24, 16, false},
    };
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) {
        check_block(&blocks[i], SP_F32);
        check_block(&blocks[i], SP_BF16);
    }
}

/* x and one more result, where there were three: what the norm makes, what the shortcut makes and the sum need no
 * places. */
static void strips_take_less_memory(void **state)
{
    (void)state;
    const block c = {512, 64, 128, 64, true};
    size_t x = (size_t)(c.H * c.W * c.C) * sizeof(float);
    sp_plan *whole = plan_of(&c, SP_F32, never), *strips = plan_of(&c, SP_F32, c.W * c.C);
    assert_true(sp_plan_get_memory(whole).arena >= 2 * x);
    assert_in_range(sp_plan_get_memory(strips).arena, x + x / 2, x + x / 2 + (size_t)(4 << 20));
    sp_plan_destroy(whole);
    sp_plan_destroy(strips);
}

/* ---- whole autoencoders ---- */

static sp_tensor run_half(const sp_component *vae, sp_vae_half half, const sp_tensor *in, sp_dtype precision,
                          int64_t strip)
{
    const sp_vae_settings settings = {.device = sp_default_device(), .precision = precision};
    int64_t usual = sp_strip_elements;
    sp_tensor out;
    sp_strip_elements = strip;
    assert_ok(sp_vae_run_all(vae, half, in, &settings, NULL, &out));
    sp_strip_elements = usual;
    return out;
}

static void check_half(const sp_component *vae, sp_vae_half half, sp_shape shape, sp_dtype precision)
{
    sp_tensor in = random_tensor(shape, 3, 1);
    sp_tensor whole = run_half(vae, half, &in, precision, never), strips = run_half(vae, half, &in, precision, 100);
    if (precision == SP_BF16 && sp_onednn_uses_amx())
        assert_close_enough(&strips, &whole);
    else
        assert_memory_equal(whole.data, strips.data, sp_tensor_bytes(&whole));
    sp_tensor_free(&in);
    sp_tensor_free(&whole);
    sp_tensor_free(&strips);
}

static void pictures_have_the_same_bits(void **state)
{
    (void)state;
    static const char *const names[] = {"vae-sd", "vae-no-quant", "vae-demo"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        for (int bf16 = 0; bf16 < 2; bf16++) {
            sp_component *vae;
            assert_ok(sp_component_open(golden(names[i]), "vae", &vae));
            int64_t channels = vae->config.vae.latent_channels;
            check_half(vae, SP_VAE_DECODE, sp_shape_of(1, channels, 31, 14), bf16 ? SP_BF16 : SP_F32);
            check_half(vae, SP_VAE_POSTERIOR, sp_shape_of(1, 3, 100, 52), bf16 ? SP_BF16 : SP_F32);
            sp_component_close(vae);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(strips_have_the_same_bits),
        cmocka_unit_test(strips_take_less_memory),
        cmocka_unit_test(pictures_have_the_same_bits),
    };
    return cmocka_run_group_tests_name("strips", tests, NULL, NULL);
}
