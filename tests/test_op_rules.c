/* What the operators' builder calls refuse, and what the fusion pass does and leaves alone. */
#include "support.h"
#include "backend/host/host.h"
#include "base/random.h"
#include "graph/passes.h"
#include "graph/run.h"
#include "ops/ops.h"

/* ---- what is refused ---- */
static sp_value *x(sp_builder *b, const char *name, int rank, int64_t n, int64_t h, int64_t w,
                   int64_t c)
{
    return sp_input(b, name, SP_F32, sp_shape_make((int64_t[]){n, h, w, c}, rank), SP_RATE_STEP);
}
#define X1(name, n) x(b, name, 1, n, 0, 0, 0)
#define X2(name, n, h) x(b, name, 2, n, h, 0, 0)
#define X3(name, n, h, w) x(b, name, 3, n, h, w, 0)
#define X4(name, n, h, w, c) x(b, name, 4, n, h, w, c)
#define IDS(name, n) sp_input(b, name, SP_I64, sp_shape_of(n), SP_RATE_STEP)

/* Each: what is built, the operator's name, and the two shapes (or what stands for one) that its
 * message has. */
#define CONV(pad) ((sp_conv2d_options){1, pad, pad, pad, pad, false})
#define HEADS(n) ((sp_attention_options){.heads = n, .scale = 1})
#define GROUPS(n) ((sp_group_norm_options){n, 1e-5, false})
#define BLOCK(...)                                                                                 \
    sp_residual_block(b, (sp_value *[SP_BLOCK_INPUTS]){__VA_ARGS__},                               \
                      (sp_residual_block_options){.norm1 = GROUPS(2), .norm2 = GROUPS(2)})
#define BLOCK_X X4("x", 1, 6, 6, 8)
#define BLOCK_OF(m, c) BLOCK_X, X4("w", m, c, 3, 3), X4("v", m, m, 3, 3)
#define NORM ((sp_layer_norm_options){1e-5, false})
#define HUBER ((sp_loss_options){SP_LOSS_HUBER, 1e-3})
#define REFUSED(X)                                                                                 \
    X(sp_reshape(b, X2("x", 3, 4), sp_shape_of(5, -1)), "reshape", "[3,4]", "[5,-1]")              \
    X(sp_reshape(b, X2("x", 3, 4), sp_shape_of(-1, -1)), "reshape", "[3,4]", "[-1,-1]")            \
    X(sp_reshape(b, X2("x", 3, 4), sp_shape_of(13)), "reshape", "[3,4]", "[13]")                   \
    X(sp_permute(b, X2("x", 3, 4), (int[]){0, 0}), "permute", "[3,4]", "entry 1")                  \
    X(sp_permute(b, X2("x", 3, 4), (int[]){0, 2}), "permute", "[3,4]", "is 2")                     \
    X(sp_nchw_to_nhwc(b, X2("x", 3, 4)), "permute", "[3,4]", "four dimensions")                    \
    X(sp_concat(b, 2, (sp_value *[]){X2("x", 3, 4), X2("y", 4, 4)}, 1), "concat", "[3,4]",         \
      "[4,4]")                                                                                     \
    X(sp_concat(b, 2, (sp_value *[]){X2("x", 3, 4), X1("y", 3)}, 1), "concat", "[3,4]", "[3]")     \
    X(sp_concat(b, 2, (sp_value *[]){X2("x", 3, 4), X2("y", 3, 4)}, 2), "concat", "[3,4]", "axis") \
    X(sp_slice(b, X2("x", 3, 4), 1, 2, 3), "slice", "[3,4]", "2 .. 5 of 4")                        \
    X(sp_slice(b, X2("x", 3, 4), 1, -1, 3), "slice", "[3,4]", "-1 .. 2 of 4")                      \
    X(sp_slice(b, X2("x", 3, 4), 2, 0, 0), "slice", "[3,4]", "axis 2")                             \
    X(sp_unslice(b, X2("x", 3, 4), 1, 2, 5), "unslice", "[3,4]", "2 .. 6 of 5")                    \
    X(sp_upsample_nearest(b, X3("x", 1, 2, 3), 4, 6), "upsample_nearest", "[1,2,3]", "[N,4,6,C]")  \
    X(sp_upsample_nearest(b, X4("x", 1, 2, 3, 4), 0, 6), "upsample_nearest", "[1,2,3,4]",          \
      "[N,0,6,C]")                                                                                 \
    X(sp_add(b, X2("x", 3, 4), X1("y", 3)), "add", "[3,4]", "[3]")                                 \
    X(sp_add(b, X1("x", 4), X2("y", 3, 4)), "add", "[4]", "[3,4]")                                 \
    X(sp_mul(b, X2("x", 3, 4), X1("y", 4)), "mul", "[3,4]", "[4]")                                 \
    X(sp_add_per_channel(b, X3("h", 2, 3, 4), X2("t", 2, 3)), "add_per_channel", "[2,3,4]",        \
      "[2,3]")                                                                                     \
    X(sp_add_per_channel(b, X1("h", 2), X2("t", 2, 3)), "add_per_channel", "[2]", "[N,..,C]")      \
    X(sp_modulate(b, X3("x", 2, 3, 4), X2("f", 2, 3), NULL, NULL, 1), "modulate", "[2,3]", "[2,3,4]") \
    X(sp_modulate(b, X3("x", 2, 3, 4), X2("f", 2, 4), X2("o", 3, 4), NULL, 1), "modulate", "[3,4]", "[2,3,4]") \
    X(sp_modulate(b, X3("x", 2, 3, 4), X2("f", 2, 4), NULL, X3("r", 2, 4, 4), 1), "modulate", "[2,4,4]", \
      "[2,3,4]")                                                                                   \
    X(sp_modulate(b, X1("x", 4), X1("f", 4), NULL, NULL, 1), "modulate", "[4]", "[N,..,C]")        \
    X(sp_sample_combine(b, 1, (sp_value *[]){X1("c", 3), X2("x", 2, 4)}), "sample_combine", "[3]", \
      "[2,4]")                                                                                     \
    X(sp_sample_combine(b, 2,                                                                      \
                        (sp_value *[]){X1("c", 2), X2("x", 2, 4), X1("c", 2), X2("y", 2, 5)}),     \
      "sample_combine", "[2,4]", "[2,5]")                                                          \
    X(sp_unary_gradient(b, X1("x", 3), X1("dy", 4), (sp_unary_options){0}), "unary_gradient",      \
      "[3]", "[4]")                                                                                \
    X(sp_pool2d(b, X4("x", 1, 2, 5, 3), (sp_pool2d_options){3, 1, 0, false}), "pool2d",            \
      "[1,2,5,3]", "3 cells")                                                                      \
    X(sp_geglu(b, X2("x", 2, 5)), "geglu", "[2,5]", "[..,2C]")                                     \
    X(sp_geglu_gradient(b, X2("x", 2, 6), X2("dy", 2, 6)), "geglu_gradient", "[2,6]", "dy")        \
    X(sp_sum_leading(b, X2("x", 2, 6), 3), "sum_leading", "[2,6]", "3 dimensions")                 \
    X(sp_fill(b, X1("x", 2), sp_shape_of(2, 3), 1), "fill", "[2]", "[2,3]")                        \
    X(sp_sum_middle(b, X1("x", 2)), "sum_middle", "[2]", "[N,..,C]")                               \
    X(sp_broadcast_middle(b, X2("x", 2, 3), sp_shape_of(2, 3, 4)), "broadcast_middle", "[2,3]",    \
      "[2,3,4]")                                                                                   \
    X(sp_mean(b, X1("x", 0)), "mean", "[0]", "at least one")                                       \
    X(sp_inverse_mean_abs(b, X1("x", 0)), "inverse_mean_abs", "[0]", "at least one")               \
    X(sp_loss(b, X2("p", 2, 3), X2("t", 3, 2), NULL, HUBER), "loss", "[2,3]", "[3,2]")             \
    X(sp_loss(b, X2("p", 2, 3), X2("t", 2, 3), X1("w", 3), HUBER), "loss", "[2,3]", "[3]")         \
    X(sp_loss_gradient(b, X1("p", 2), X1("t", 2), NULL, X1("dy", 2), HUBER), "loss_gradient",      \
      "[2]", "scalar")                                                                             \
    X(sp_linear(b, X2("x", 2, 3), X2("w", 5, 4), NULL, NULL), "linear", "[2,3]", "[5,4]")          \
    X(sp_linear(b, X2("x", 2, 3), X2("w", 5, 3), X1("bias", 3), NULL), "linear", "[3]", "[5,3]")   \
    X(sp_linear(b, X2("x", 2, 3), X2("w", 5, 3), NULL, X2("r", 2, 3)), "linear", "[2,3]", "[2,5]") \
    X(sp_linear_geglu(b, X2("x", 2, 3), X2("w", 6, 4), NULL), "linear_geglu", "[2,3]", "[6,4]")    \
    X(sp_linear_geglu(b, X2("x", 2, 3), X2("w", 5, 3), NULL), "linear_geglu", "[5,3]", "[2C,K]")   \
    X(sp_linear_geglu(b, X2("x", 2, 3), X2("w", 6, 3), X1("bias", 3)), "linear_geglu", "[3]",      \
      "[6,3]")                                                                                     \
    X(sp_linear_transposed(b, X2("x", 2, 3), X2("w", 5, 3)), "linear", "[2,3]", "[5,3]")           \
    X(BLOCK(X2("x", 2, 3), X4("w", 8, 8, 3, 3), X4("v", 8, 8, 3, 3)), "residual_block", "[2,3]", "[N,H,W,C]") \
    X(BLOCK(BLOCK_OF(8, 4)), "residual_block", "[8,4,3,3]", "[1,6,6,8]")                           \
    X(BLOCK(BLOCK_X, X2("w", 8, 8), X4("v", 8, 8, 3, 3)), "residual_block", "[8,8]", "[M,C,3,3]")  \
    X(BLOCK(BLOCK_X, X4("w", 8, 8, 1, 1), X4("v", 8, 8, 3, 3)), "residual_block", "[8,8,1,1]", "[1,6,6,8]") \
    X(BLOCK(BLOCK_X, X4("w", 8, 8, 3, 3), X4("v", 4, 8, 3, 3)), "residual_block", "weight2", "[8,8,3,3]") \
    X(BLOCK(X4("x", 1, 6, 6, 9), X4("w", 9, 9, 3, 3), X4("v", 9, 9, 3, 3)), "residual_block", "9 channels", \
      "2 groups")                                                                                  \
    X(BLOCK(BLOCK_OF(8, 8), [SP_BLOCK_BIAS2] = X1("b", 4)), "residual_block", "bias2", "[8,8,3,3]") \
    X(BLOCK(BLOCK_OF(8, 8), [SP_BLOCK_GAMMA1] = X1("g", 4)), "residual_block", "gamma1", "[8,8,3,3]") \
    X(BLOCK(BLOCK_OF(4, 8)), "residual_block", "[4,8,3,3]", "which is added")                      \
    X(BLOCK(BLOCK_OF(4, 8), [SP_BLOCK_SHORTCUT] = X4("s", 4, 4, 1, 1)), "residual_block", "[4,4,1,1]", \
      "[4,8,3,3]")                                                                                 \
    X(BLOCK(BLOCK_OF(8, 8), [SP_BLOCK_UP_WEIGHT] = X4("u", 8, 8, 3, 3)), "residual_block", "up_weight", \
      "without a shortcut")                                                                        \
    X(BLOCK(BLOCK_OF(8, 8), [SP_BLOCK_UP_WEIGHT] = X4("u", 8, 4, 3, 3)), "residual_block", "up_weight", "[1,6,6,8]") \
    X(sp_linear_weight_gradient(b, X2("x", 2, 3), X2("dy", 3, 3)), "linear_weight_gradient",       \
      "[2,3]", "[3,3]")                                                                            \
    X(sp_conv2d(b, X4("x", 1, 4, 4, 3), X4("w", 5, 4, 3, 3), NULL, NULL, NULL, CONV(1)), "conv2d", \
      "[1,4,4,3]", "[5,4,3,3]")                                                                    \
    X(sp_conv2d(b, X3("x", 4, 4, 3), X4("w", 5, 3, 3, 3), NULL, NULL, NULL, CONV(1)), "conv2d",    \
      "[4,4,3]", "[N,H,W,C]")                                                                      \
    X(sp_conv2d(b, X4("x", 1, 2, 4, 3), X4("w", 5, 3, 3, 3), NULL, NULL, NULL, CONV(0)), "conv2d", \
      "[1,2,4,3]", "[5,3,3,3]")                                                                    \
    X(sp_conv2d(b, X4("x", 1, 4, 4, 3), X4("w", 5, 3, 3, 3), X1("b", 3), NULL, NULL, CONV(1)),     \
      "conv2d", "[3]", "[5,3,3,3]")                                                                \
    X(sp_conv2d(b, X4("x", 2, 4, 4, 3), X4("w", 5, 3, 3, 3), NULL, X2("p", 1, 5), NULL, CONV(1)),  \
      "conv2d", "[1,5]", "[2,5]")                                                                  \
    X(sp_conv2d(b, X4("x", 2, 4, 4, 3), X4("w", 5, 3, 3, 3), NULL, NULL, X4("r", 2, 4, 4, 3),      \
                CONV(1)),                                                                          \
      "conv2d", "[2,4,4,3]", "[2,4,4,5]")                                                          \
    X(sp_conv2d_data_gradient(b, X4("dy", 1, 4, 4, 5), X4("w", 5, 3, 3, 3), 5, 4, CONV(1)),        \
      "conv2d_data_gradient", "[1,4,4,5]", "[1,5,4,3]")                                            \
    X(sp_conv2d_weight_gradient(b, X4("x", 1, 5, 4, 3), X4("dy", 1, 4, 4, 5), 3, 3, CONV(1)),      \
      "conv2d_weight_gradient", "[1,5,4,3]", "[1,4,4,5]")                                          \
    X(sp_attention(b, X3("q", 1, 5, 8), X3("k", 1, 5, 6), X3("v", 1, 5, 6), HEADS(2)),             \
      "attention", "[1,5,8]", "[1,5,6]")                                                           \
    X(sp_attention(b, X3("q", 1, 5, 8), X3("k", 1, 7, 8), X3("v", 1, 5, 8), HEADS(2)),             \
      "attention", "[1,7,8]", "[1,5,8]")                                                           \
    X(sp_attention(b, X3("q", 1, 5, 8), X3("k", 1, 7, 8), X3("v", 1, 7, 8), HEADS(3)),             \
      "attention", "[1,5,8]", "3 heads")                                                           \
    X(sp_attention_gradient(b, X3("q", 1, 5, 8), X3("k", 1, 7, 8), X3("v", 1, 7, 8),               \
                            X3("o", 1, 5, 8), X3("l", 1, 2, 5), X3("d", 1, 7, 8), HEADS(2)),       \
      "attention_gradient", "[1,5,8]", "[1,7,8]")                                                  \
    X(sp_attention_gradient(b, X3("q", 1, 5, 8), X3("k", 1, 7, 8), X3("v", 1, 7, 8),               \
                            X3("o", 1, 5, 8), X3("l", 1, 5, 2), X3("d", 1, 5, 8), HEADS(2)),       \
      "attention_gradient", "[1,5,2]", "[1,5,8]")                                                  \
    X(sp_group_norm(b, X3("x", 1, 5, 8), NULL, NULL, GROUPS(3)), "group_norm", "[1,5,8]",          \
      "3 groups")                                                                                  \
    X(sp_group_norm(b, X3("x", 1, 5, 8), X1("g", 5), NULL, GROUPS(2)), "group_norm", "[1,5,8]",    \
      "[5]")                                                                                       \
    X(sp_group_norm(b, X3("x", 1, 5, 8), NULL, X1("b", 5), GROUPS(2)), "group_norm", "[1,5,8]",    \
      "[5]")                                                                                       \
    X(sp_group_norm_gradient(b, X3("x", 1, 5, 8), NULL, NULL, X3("d", 1, 8, 5), GROUPS(2)),        \
      "group_norm_gradient", "[1,5,8]", "[1,8,5]")                                                 \
    X(sp_layer_norm(b, X2("x", 5, 8), X1("g", 5), NULL, NORM), "layer_norm", "[5,8]", "[5]")       \
    X(sp_layer_norm_gradient(b, X2("x", 5, 8), NULL, X2("d", 8, 5), NORM), "layer_norm_gradient",  \
      "[5,8]", "[8,5]")                                                                            \
    X(sp_embedding(b, IDS("i", 3), X1("t", 5)), "embedding", "[5]", "[V,C]")                       \
    X(sp_embedding(b, X1("i", 3), X2("t", 5, 2)), "embedding", "F32", "I64")                       \
    X(sp_embedding_gradient(b, IDS("i", 3), X2("d", 4, 2), 5), "embedding_gradient", "[3]",        \
      "[4,2]")                                                                                     \
    X(sp_sinusoidal(b, X2("t", 3, 1), (sp_sinusoidal_options){8, false, 0, 1e4, 1}), "sinusoidal", \
      "[3,1]", "[N]")                                                                              \
    X(sp_sinusoidal(b, X1("t", 3), (sp_sinusoidal_options){7, false, 0, 1e4, 1}), "sinusoidal",    \
      "[3]", "7 channels")

static void expect_refusal(sp_builder *b, sp_value *y, const char *call, const char *op,
                           const char *first, const char *second)
{
    sp_graph *graph;
    if (y) fail_msg("%s was accepted", call);
    assert_status(sp_builder_finish(b, &graph), SP_SHAPE);
    const char *words[] = {op, first, second};
    for (int i = 0; i < 3; i++)
        if (!strstr(sp_error_message(), words[i]))
            fail_msg("%s: \"%s\" is not in \"%s\"", call, words[i], sp_error_message());
    sp_builder_destroy(b);
}

static void test_wrong_shapes_are_errors(void **state)
{
    (void)state;
    sp_builder *b;
#define X(call, op, first, second)                                                                 \
    assert_ok(sp_builder_create(&b));                                                              \
    expect_refusal(b, call, #call, op, first, second);
    REFUSED(X)
#undef X
}

/* Elements may be counted where their bytes cannot; a plan of them would be one of the wrong size. */
static void test_too_large_a_value_is_not_planned(void **state)
{
    (void)state;
    sp_builder *b;
    sp_graph *graph;
    sp_plan *plan;
    assert_ok(sp_builder_create(&b));
    sp_output(b, "y", sp_affine(b, sp_input(b, "x", SP_F32, sp_shape_of(INT64_C(1) << 61), SP_RATE_STEP), 2, 0));
    assert_ok(sp_builder_finish(b, &graph));
    sp_builder_destroy(b);
    assert_status(sp_plan_create(graph, sp_reference_device(), SP_F32, &plan), SP_SHAPE);
    assert_message("[2305843009213693952]");
}

/* ---- fusion ---- */
static void fill_random(sp_tensor *tensor, uint64_t seed, double low, double high)
{
    int64_t count = sp_tensor_count(tensor);
    float *uniform = sp_alloc((size_t)count * sizeof *uniform + 1);
    assert_non_null(uniform);
    sp_random_uniform((sp_random_key){.seed = seed}, uniform, (size_t)count);
    for (int64_t i = 0; i < count; i++)
        sp_store(tensor->data, tensor->dtype, i, low + (high - low) * (double)uniform[i]);
    sp_free(uniform);
}

typedef sp_value *build_function(sp_builder *b, int variant);

/* Builds `make`, fuses, and returns how many nodes are left; checks that the numbers stay. */
static int fused_nodes(build_function *make, int variant)
{
    sp_tensor result[2] = {{0}, {0}};
    int nodes = 0;
    for (int fuse = 0; fuse < 2; fuse++) {
        sp_builder *b;
        sp_graph *graph;
        sp_plan *plan;
        sp_run *run;
        assert_ok(sp_builder_create(&b));
        sp_value *y = make(b, variant);
        sp_output(b, "y", y);
        assert_ok(sp_builder_finish(b, &graph));
        sp_builder_destroy(b);
        if (fuse) {
            assert_ok(sp_pass_fuse(graph));
            nodes = graph->node_count;
        }
        assert_ok(sp_plan_create(graph, sp_reference_device(), SP_F32, &plan));
        assert_ok(sp_run_create(plan, &run));
        for (int i = 0; i < sp_plan_graph(plan)->value_count; i++) {
            const sp_value *value = sp_plan_graph(plan)->values[i];
            if (value->kind != SP_VALUE_INPUT) continue;
            sp_tensor data = {0};
            assert_ok(sp_tensor_create(value->dtype, value->shape, &data));
            fill_random(&data, (uint64_t)i, -1, 1);
            assert_ok(sp_run_set_input(run, value->name, &data));
            sp_tensor_free(&data);
        }
        assert_ok(sp_run_execute(run, NULL));
        assert_ok(sp_run_get_output(run, "y", &result[fuse]));
        sp_run_destroy(run);
        sp_plan_destroy(plan);
    }
    double error;
    assert_ok(sp_tensor_relative_max_error(&result[1], &result[0], &error));
    assert_true(error <= 1e-14); /* double; the order of a sum changes */
    sp_tensor_free(&result[0]);
    sp_tensor_free(&result[1]);
    return nodes;
}

static sp_value *d(sp_builder *b, const char *name, sp_shape shape)
{
    return sp_input(b, name, SP_F64, shape, SP_RATE_STEP);
}

/* norm, silu, convolution, time embedding, residual: 6 nodes, the embedding's own linear layer
 * among them. */
static sp_value *resnet_half(sp_builder *b, int variant)
{
    sp_shape image = sp_shape_of(2, 3, 4, 6);
    sp_value *input = d(b, "x", image);
    sp_value *norm = sp_group_norm(b, input, d(b, "gamma", sp_shape_of(6)), NULL, GROUPS(2));
    sp_value *h = sp_silu(b, norm);
    if (variant == 1) h = sp_mul(b, h, norm);
    if (variant == 2) sp_output(b, "norm", norm);
    h = sp_conv2d(b, h, d(b, "weight", sp_shape_of(6, 6, 3, 3)), d(b, "bias", sp_shape_of(6)), NULL,
                  NULL, CONV(1));
    if (variant == 3) sp_checkpoint_begin(b, true);
    sp_value *t =
        sp_linear(b, d(b, "t", sp_shape_of(2, 5)), d(b, "time", sp_shape_of(6, 5)), NULL, NULL);
    h = sp_add_per_channel(b, h, t);
    if (variant == 4) return sp_add(b, input, h);
    if (variant == 5) return sp_add_scaled(b, h, input, 0.5);
    if (variant == 6) return sp_add(b, h, h);
    if (variant == 7) return sp_add(b, h, d(b, "suffix", sp_shape_of(6)));
    h = sp_add(b, h, input);
    if (variant == 8) h = sp_add(b, h, input);
    if (variant == 3) sp_checkpoint_end(b);
    return h;
}

static sp_value *attention_end(sp_builder *b, int variant)
{
    sp_value *input = d(b, "x", sp_shape_of(2, 3, 6)), *weight = d(b, "weight", sp_shape_of(6, 6));
    sp_value *h = sp_linear(b, input, weight, d(b, "bias", sp_shape_of(6)), NULL);
    if (variant == 1) return sp_add(b, h, sp_linear(b, h, weight, NULL, NULL));
    if (variant == 2) return sp_silu(b, h);
    return variant == 3 ? sp_add(b, input, h) : sp_add(b, h, input);
}

static void test_fusion(void **state)
{
    (void)state;
    assert_int_equal(fused_nodes(resnet_half, 0),
                     3); /* norm with silu, linear, convolution with everything */
    assert_int_equal(fused_nodes(resnet_half, 1), 5); /* the norm's result is read twice */
    assert_int_equal(fused_nodes(resnet_half, 2), 4); /* the norm's result is an output */
    assert_int_equal(fused_nodes(resnet_half, 3), 5); /* the convolution lies outside the block */
    assert_int_equal(fused_nodes(resnet_half, 4), 3); /* the operands of + exchanged */
    assert_int_equal(fused_nodes(resnet_half, 5), 4); /* the addition scales */
    assert_int_equal(fused_nodes(resnet_half, 6), 4); /* x + x reads the convolution twice */
    assert_int_equal(fused_nodes(resnet_half, 7), 4); /* shapes differ */
    assert_int_equal(fused_nodes(resnet_half, 8), 4); /* one residual only */
    assert_int_equal(fused_nodes(attention_end, 0), 1);
    assert_int_equal(fused_nodes(attention_end, 1),
                     2); /* the second layer takes the first as residual */
    assert_int_equal(fused_nodes(attention_end, 2), 2);
    assert_int_equal(fused_nodes(attention_end, 3), 1);
}

/* What is computed once per prompt must not be dragged into every step. */
static void test_fusion_keeps_rates(void **state)
{
    (void)state;
    sp_builder *b;
    sp_graph *graph;
    assert_ok(sp_builder_create(&b));
    sp_value *context = sp_input(b, "context", SP_F32, sp_shape_of(2, 6), SP_RATE_PROMPT);
    sp_value *weight = sp_input(b, "weight", SP_F32, sp_shape_of(6, 6), SP_RATE_RUN);
    sp_output(b, "y", sp_add(b, sp_linear(b, context, weight, NULL, NULL), X2("x", 2, 6)));
    assert_ok(sp_builder_finish(b, &graph));
    assert_ok(sp_pass_fuse(graph));
    assert_int_equal(graph->node_count, 2);
    sp_graph_destroy(graph);
    sp_builder_destroy(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wrong_shapes_are_errors),
        cmocka_unit_test(test_too_large_a_value_is_not_planned),
        cmocka_unit_test(test_fusion),
        cmocka_unit_test(test_fusion_keeps_rates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
