/* Large pictures are normalised and convolved some rows at a time, and where memory asks for it some rows more than
 * once: the same bits, in less memory. */
#include <math.h>
#include "tiny_model.h"
#include "backend/cpu/cpu.h"
#include "backend/cpu/kernel_table.h"
#include "backend/registry.h"
#include "base/parallel.h"
#include "base/random.h"
#include "graph/run.h"
#include "models/layers.h"
#include "models/runner.h"
#include "models/vae.h"
#include "pipeline/vae_run.h"

static const int64_t never = INT64_MAX / 8;

/* ---- networks ---- */

typedef struct {
    int64_t H, W, C, M;
    bool up;    /* an upsampling to H, W before it */
    bool twice; /* a second block behind it, whose results may take the first one's places */
    const sp_vae_config *decoder; /* not NULL: this instead, of a latent of H x W x C */
} network;

static sp_shape input_shape(const network *c)
{
    int64_t times = c->up ? 2 : 1;
    return sp_shape_of(1, c->H / times, c->W / times, c->C);
}

static sp_value *blocks(sp_builder *b, const network *c, sp_value *x)
{
    const sp_norm_settings norm = {8, 1e-6};
    x = sp_affine(b, x, 1, 0); /* an activation, not what lies at the graph's border */
    if (c->up) x = sp_upsample_layer(b, "up", x, c->H, c->W);
    x = sp_resnet_block(b, 0, x, NULL, c->M, norm);
    if (c->twice) x = sp_resnet_block(b, 1, x, NULL, c->M, norm);
    return sp_affine(b, x, 1, 0);
}

/* Pictures of six times `strip` elements or more are large, and `bytes` are allowed. */
static sp_plan *plan_of(const network *c, sp_dtype precision, int64_t strip, int64_t bytes)
{
    sp_builder *b;
    sp_plan *plan;
    assert_ok(sp_builder_create(&b));
    sp_value *x = sp_input(b, "x", SP_F32, input_shape(c), SP_RATE_STEP);
    sp_set_enter(b, "model", SP_RATE_RUN, NULL, NULL);
    x = c->decoder ? sp_vae_decode(b, c->decoder, x) : blocks(b, c, x);
    sp_set_leave(b);
    sp_output(b, "y", x);
    sp_large_picture_limits usual = sp_large_pictures;
    sp_large_pictures = (sp_large_picture_limits){strip, bytes};
    assert_ok(sp_runner_plan(b, sp_cpu_device(), precision, &plan));
    sp_large_pictures = usual;
    return plan;
}

static int block_nodes(const sp_plan *plan)
{
    int count = 0;
    for (int i = 0; i < sp_plan_step_count(plan); i++) {
        sp_plan_step step = sp_plan_step_at(plan, i);
        count += step.packs_input < 0 && step.node->op == &sp_op_residual_block;
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

static size_t arena_of(const sp_plan *plan)
{
    return sp_plan_get_memory(plan).arena;
}

static void assert_same(const network *c, sp_dtype precision, const sp_tensor *whole, const sp_tensor *strips,
                        int64_t bytes)
{
    if (precision == SP_BF16 && sp_cpu_uses_amx()) /* oneDNN convolves, and may sum in another order */
        assert_close_enough(whole, strips);
    else if (memcmp(whole->data, strips->data, sp_tensor_bytes(whole)) != 0)
        fail_msg("%lldx%lld, %lld to %lld channels, %s, %lld bytes: other bits in strips", (long long)c->H,
                 (long long)c->W, (long long)c->C, (long long)c->M, sp_precision_name(precision), (long long)bytes);
}

/* In strips of `strip` elements, of which there are `nodes` blocks: without a limit and with limits below what that
 * takes, down to two fifths in steps of a twentieth, the bits are those of the whole. Returns how many limits were kept
 * with rows made more than once. */
static int check(const network *c, sp_dtype precision, int64_t strip, int nodes)
{
    sp_plan *whole = plan_of(c, precision, never, 0), *strips = plan_of(c, precision, strip, 0);
    assert_int_equal(block_nodes(whole), 0);
    assert_int_equal(block_nodes(strips), nodes);
    sp_weights *weights = weights_of(whole);
    sp_tensor x = random_tensor(input_shape(c), 1, 2);
    sp_tensor y = result_of(whole, weights, &x), z = result_of(strips, weights, &x);
    assert_same(c, precision, &y, &z, 0);
    sp_tensor_free(&z);
    int kept = 0;
    size_t least = arena_of(strips), without = least;
    for (int share = 19; share >= 8; share--) {
        int64_t bytes = (int64_t)without * share / 20;
        sp_plan *limited = plan_of(c, precision, strip, bytes);
        if (arena_of(limited) < least) {
            least = arena_of(limited);
            kept += least <= (size_t)bytes;
            z = result_of(limited, weights, &x);
            assert_same(c, precision, &y, &z, bytes);
            sp_tensor_free(&z);
        }
        sp_plan_destroy(limited);
    }
    sp_tensor_free(&x);
    sp_tensor_free(&y);
    sp_weights_destroy(weights);
    sp_plan_destroy(whole);
    sp_plan_destroy(strips);
    return kept;
}

static void strips_have_the_same_bits(void **state)
{
    (void)state;
    static const network networks[] = {
        {96, 16, 64, 64, .twice = true},
        {96, 16, 128, 64, .twice = true},
        {72, 24, 64, 128, .up = false},
        {75, 17, 64, 64, .twice = true},
        {101, 13, 128, 64, .twice = true},
        {80, 9, 32, 32, .twice = true},
        {77, 5, 24, 16, .up = false},
        {144, 16, 128, 64, .up = true, .twice = true},
        {130, 18, 128, 64, .up = true},
        {158, 6, 192, 64, .up = true, .twice = true},
        {98, 10, 48, 16, .up = true},
    };
    for (size_t i = 0; i < sizeof networks / sizeof *networks; i++) {
        const network *c = &networks[i];
        check(c, SP_F32, c->W * c->C, c->twice ? 2 : 1);
        check(c, SP_BF16, c->W * c->C, c->twice ? 2 : 1);
    }
}

/* Limits are kept down to 1.6 of x by a block, which without one takes 2, and to 1.0 of what an upsampling before it
 * makes, where that takes 1.3. */
static void limits_are_kept(void **state)
{
    (void)state;
    static const network same = {384, 64, 64, 64, .up = false}, up = {384, 64, 128, 64, .up = true};
    assert_in_range(check(&same, SP_F32, 384 * 64, 1), 3, 20);
    assert_in_range(check(&up, SP_F32, 384 * 64, 1), 3, 20);
}

/* Stable Diffusion's decoder, a quarter as wide: blocks with and without a shortcut, upsamplings before the former, and
 * what stands between them. */
static void a_decoder_has_the_same_bits(void **state)
{
    (void)state;
    static const sp_vae_config config = {
        .kind = SP_VAE_KL,
        .factor = 8,
        .in_channels = 3,
        .out_channels = 3,
        .latent_channels = 4,
        .scaling_factor = 1,
        .kl = {4, {32, 64, 128, 128}, 2, 8, .quant_conv = true, .post_quant_conv = true, .mid_attention = true}};
    static const network tall = {19, 9, 4, 3, .decoder = &config}, wide = {13, 24, 4, 3, .decoder = &config};
    int kept = 0;
    for (int bf16 = 0; bf16 < 2; bf16++) {
        kept += check(&tall, bf16 ? SP_BF16 : SP_F32, 20000, 6);
        kept += check(&wide, bf16 ? SP_BF16 : SP_F32, 20000, 9);
    }
    assert_in_range(kept, 2, 80);
}

/* x and one more result, where there were three: what the norm makes, what the shortcut makes and the sum need no
 * places. */
static void strips_take_less_memory(void **state)
{
    (void)state;
    const network c = {512, 64, 128, 64, .twice = true};
    size_t x = (size_t)(c.H * c.W * c.C) * sizeof(float);
    sp_plan *whole = plan_of(&c, SP_F32, never, 0), *strips = plan_of(&c, SP_F32, c.W * c.C, 0);
    assert_true(arena_of(whole) >= 2 * x);
    assert_in_range(arena_of(strips), x + x / 2, x + x / 2 + (size_t)(4 << 20));
    sp_plan_destroy(whole);
    sp_plan_destroy(strips);
}

/* The upsampling's result is never there beside what is made of it. */
static void upsampled_strips_take_less_memory(void **state)
{
    (void)state;
    const network c = {512, 64, 128, 64, .up = true};
    size_t v = (size_t)(c.H * c.W * c.C) * sizeof(float);
    sp_plan *whole = plan_of(&c, SP_F32, never, 0), *strips = plan_of(&c, SP_F32, c.W * c.C, 0);
    assert_true(arena_of(whole) >= 2 * v);
    assert_in_range(arena_of(strips), v, v + v / 4 + (size_t)(4 << 20));
    sp_plan_destroy(whole);
    sp_plan_destroy(strips);
}

/* ---- whole autoencoders ---- */

static sp_tensor run_half(const sp_component *vae, sp_vae_half half, const sp_tensor *in, sp_dtype precision,
                          sp_large_picture_limits limits)
{
    const sp_vae_settings settings = {.device = sp_default_device(), .precision = precision};
    sp_large_picture_limits usual = sp_large_pictures;
    sp_tensor out;
    sp_large_pictures = limits;
    assert_ok(sp_vae_run_all(vae, half, in, &settings, NULL, &out));
    sp_large_pictures = usual;
    return out;
}

static void check_half(const sp_component *vae, sp_vae_half half, sp_shape shape, sp_dtype precision)
{
    sp_tensor in = random_tensor(shape, 3, 1);
    sp_tensor whole = run_half(vae, half, &in, precision, (sp_large_picture_limits){never, 0});
    sp_tensor strips = run_half(vae, half, &in, precision, (sp_large_picture_limits){100, 0});
    if (precision == SP_BF16 && sp_cpu_uses_amx())
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
        cmocka_unit_test(limits_are_kept),
        cmocka_unit_test(a_decoder_has_the_same_bits),
        cmocka_unit_test(strips_take_less_memory),
        cmocka_unit_test(upsampled_strips_take_less_memory),
        cmocka_unit_test(pictures_have_the_same_bits),
    };
    sp_set_threads(2); /* each thread has scratch, which would be most of these small plans */
    return cmocka_run_group_tests_name("strips", tests, NULL, NULL);
}
