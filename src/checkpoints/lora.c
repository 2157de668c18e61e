/* Adapters in graphs, and as files for other programs. */
#include "checkpoints/lora.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/parallel.h"
#include "base/text.h"
#include "models/guidance.h"
#include "models/initialize.h"
#include "models/runner.h"

enum { MAX_NAME = 512 };
static const char down_end[] = ".lora_A.weight", up_end[] = ".lora_B.weight",
                  weight_end[] = ".weight", cond_proj[] = "time_embedding.cond_proj.weight";

#define X(name, text) text,
static const char *const targets_names[] = {SP_LORA_TARGETS_LIST(X)};
#undef X

const char *sp_lora_targets_name(sp_lora_targets targets)
{
    return targets_names[targets];
}

sp_status sp_lora_targets_of(const char *name, sp_lora_targets *out)
{
    int index;
    SP_TRY(sp_name_index("LoRA targets", name, targets_names, SP_LORA_TARGETS_COUNT, &index));
    *out = (sp_lora_targets)index;
    return SP_OK;
}

/* ---- in a graph ---- */

static bool ends_with_one(const char *layer, const char *const *ends, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (sp_ends_with(layer, ends[i])) return true;
    return false;
}

static bool is_target(const sp_lora_settings *settings, const char *weight)
{
    static const char *const attention[] = {".to_q", ".to_k", ".to_v", ".to_out.0"};
    static const char *const joint[] = {".attn.to_q",       ".attn.to_k",       ".attn.to_v",       ".attn.to_out.0",
                                        ".attn.add_q_proj", ".attn.add_k_proj", ".attn.add_v_proj", ".attn.to_add_out"};
    static const char *const others[] = {".proj_in",
                                         ".proj_out",
                                         ".ff.net.0.proj",
                                         ".ff.net.2",
                                         ".conv1",
                                         ".conv2",
                                         ".conv_shortcut",
                                         ".downsamplers.0.conv",
                                         ".upsamplers.0.conv",
                                         ".time_emb_proj",
                                         ".ff_context.net.0.proj",
                                         ".ff_context.net.2"};
    char layer[MAX_NAME];
    if (!sp_ends_with(weight, weight_end) || strlen(weight) >= sizeof layer) return false;
    snprintf(layer, sizeof layer, "%.*s", (int)(strlen(weight) - strlen(weight_end)), weight);
    if (ends_with_one(layer, joint, sizeof joint / sizeof *joint)) return true;
    bool transformer = sp_starts_with(layer, "transformer_blocks."); /* whose attn2 is not among diffusers' */
    bool all = settings->targets == SP_LORA_ALL;
    if ((all || !transformer) && ends_with_one(layer, attention, sizeof attention / sizeof *attention)) return true;
    return all && ends_with_one(layer, others, sizeof others / sizeof *others);
}

static bool owns(void *context, const char *parameter)
{
    (void)context;
    return sp_ends_with(parameter, down_end) || sp_ends_with(parameter, up_end) ||
           strcmp(parameter, cond_proj) == 0;
}

/* y + alpha/r up(down(x)); the sum is the up product's residual. */
static sp_value *adapt(void *context, sp_builder *b, sp_value *y)
{
    const sp_lora_settings *s = context;
    const sp_node *node = y->producer;
    sp_value *x = node->in[0];
    const sp_value *weight = node->in[1];
    if (weight->kind != SP_VALUE_PARAMETER || !is_target(s, weight->name)) return y;
    double scale = s->alpha / (double)s->rank;
    sp_shape down = weight->shape;
    down.dim[0] = s->rank;
    int64_t features = weight->shape.dim[0];
    sp_value *a = sp_parameter(b, down_end + 1, down), *h;
    if (node->op == &sp_op_linear) {
        h = sp_linear(b, x, a, NULL, NULL);
        if (scale != 1) h = sp_affine(b, h, scale, 0);
        return sp_linear(b, h, sp_parameter(b, up_end + 1, sp_shape_of(features, s->rank)), NULL,
                         y);
    }
    h = sp_conv2d(b, x, a, NULL, NULL, NULL, *(const sp_conv2d_options *)node->options);
    if (scale != 1) h = sp_affine(b, h, scale, 0);
    return sp_conv2d(b, h, sp_parameter(b, up_end + 1, sp_shape_of(features, s->rank, 1, 1)), NULL,
                     NULL, y, (sp_conv2d_options){.stride = 1});
}

sp_adapter sp_lora_adapter(const sp_lora_settings *settings)
{
    return (sp_adapter){(void *)(uintptr_t)settings, owns, adapt};
}

sp_status sp_lora_create(const sp_component_config *config, const sp_lora_settings *settings,
                         uint64_t seed, bool random_cond_proj, sp_weights **out)
{
    *out = NULL;
    if (settings->rank < 1 || settings->rank > SP_LORA_MAX_RANK)
        return sp_fail(SP_ARGUMENT, "the LoRA's rank is %lld, expected 1 to %d",
                       (long long)settings->rank, SP_LORA_MAX_RANK);
    if (!(settings->alpha > 0) || !isfinite(settings->alpha))
        return sp_fail(SP_ARGUMENT, "the LoRA's alpha is %g, expected more than 0",
                       settings->alpha);
    const sp_adapter adapter = sp_lora_adapter(settings);
    sp_graph *graph;
    SP_TRY(sp_component_adapted_graph(config, &adapter, &graph));
    sp_status status = sp_weights_create(out);
    const sp_initialize_options initialize = {
        .seed = seed, .zero = {"lora_B", random_cond_proj ? NULL : "cond_proj"}};
    if (!status) status = sp_initialize(graph, "adapter", &initialize, *out);
    sp_graph_destroy(graph);
    if (!status) return SP_OK;
    sp_weights_destroy(*out);
    *out = NULL;
    return status;
}

/* ---- merging ---- */

/* A block of rows. */
typedef struct {
    float *to;
    const float *product; /* on the host */
    float scale;
} addition;

static void add_elements(void *context, int64_t begin, int64_t end)
{
    const addition *a = context;
    for (int64_t i = begin; i < end; i++)
        a->to[i] += a->scale * a->product[i];
}

/* up[rows of a block,rank] down[rank,columns], as the device makes it: SD's layers with a rank of
 * 64 are 1e11 operations. */
static sp_status product_runner(sp_device *device, sp_shape up, sp_shape down, sp_runner *out)
{
    sp_builder *b;
    SP_TRY(sp_builder_create(&b));
    sp_output(b, "product",
              sp_linear_transposed(b, sp_input(b, "up", SP_F32, up, SP_RATE_STEP),
                                   sp_input(b, "down", SP_F32, down, SP_RATE_PROMPT)));
    return sp_runner_create(b, device, SP_F32, out);
}

/* Blocks divide the rows, and are small enough to stay in a cache. */
static int64_t block_rows(int64_t rows)
{
    int64_t block = rows < 64 ? rows : 64;
    while (rows % block)
        block--;
    return block;
}

/* The product of the block that runs, where the host reads it; `room` is for a device with memory of its own. */
static sp_status take_product(sp_run *run, size_t bytes, void *room, const float **out)
{
    sp_device *device = sp_plan_device(sp_run_plan(run));
    void *address = sp_run_output_address(run, "product");
    *out = sp_host_view(device, address);
    if (*out) return device->finish(device);
    *out = room;
    return device->download(device, room, address, bytes);
}

static sp_status add_blocks(sp_runner *runner, const sp_tensor *up, int64_t block, float *room, double scale,
                            sp_tensor *weight)
{
    enum { GRAIN = 1 << 14 };
    int64_t rows = up->shape.dim[0], columns = sp_tensor_count(weight) / rows;
    addition a = {.scale = (float)scale};
    sp_tensor part = *up;
    part.owned = false;
    part.shape.dim[0] = block;
    size_t bytes = sp_tensor_bytes(&part);
    for (int64_t row = 0; row < rows; row += block) {
        part.data = (char *)up->data + (size_t)(row / block) * bytes;
        SP_TRY(sp_run_set_input(runner->run, "up", &part));
        SP_TRY(sp_run_execute(runner->run, NULL));
        SP_TRY(take_product(runner->run, (size_t)(block * columns) * sizeof *room, room, &a.product));
        a.to = (float *)weight->data + row * columns;
        sp_parallel_for(block * columns, GRAIN, add_elements, &a);
    }
    return SP_OK;
}

sp_status sp_lora_add_product(sp_device *device, const sp_tensor *up, const sp_tensor *down, double scale,
                              sp_tensor *weight)
{
    int64_t rank = down->shape.dim[0], rows = weight->shape.dim[0], block = block_rows(rows);
    sp_tensor up_rows = *up, down_rows = *down; /* kernels as matrices */
    sp_runner runner = {0};
    up_rows.shape = sp_shape_of(rows, rank);
    down_rows.shape = sp_shape_of(rank, sp_tensor_count(down) / rank);
    up_rows.owned = down_rows.owned = false;
    sp_status status = product_runner(device, sp_shape_of(block, rank), down_rows.shape, &runner);
    if (!status) status = sp_run_set_input(runner.run, "down", &down_rows);
    float *room = sp_alloc((size_t)(block * sp_shape_count(down_rows.shape) / rank) * sizeof *room);
    if (!status) status = room ? add_blocks(&runner, &up_rows, block, room, scale, weight) : SP_MEMORY;
    sp_free(room);
    sp_runner_free(&runner);
    return status;
}

/* The name of another tensor of the same layer. */
static void sibling(const char *name, const char *end, const char *other, char *out, size_t size)
{
    snprintf(out, size, "%.*s%s", (int)(strlen(name) - strlen(end)), name, other);
}

/* One layer's adapter. */
typedef struct {
    sp_device *device;
    const sp_tensor *up, *down;
    double scale;
} product;

static sp_status add_adapter(void *context, sp_tensor *weight)
{
    const product *p = context;
    return sp_lora_add_product(p->device, p->up, p->down, p->scale, weight);
}

static sp_status merge_adapter(sp_device *device, const sp_weights *adapters, const char *name,
                               const sp_lora_settings *settings, sp_weights *out)
{
    char up[MAX_NAME], weight[MAX_NAME];
    sibling(name, down_end, up_end, up, sizeof up);
    sibling(name, down_end, weight_end, weight, sizeof weight);
    product *p = sp_alloc(sizeof *p);
    if (!p) return SP_MEMORY;
    *p = (product){device, sp_weights_find(adapters, up), sp_weights_find(adapters, name),
                   settings->alpha / (double)settings->rank};
    return sp_weights_change(out, weight, SP_F32, (sp_weight_change){add_adapter, sp_free, p});
}

/* A view that may be changed, of a tensor that has no changes. */
static sp_status add_own_view(sp_weights *out, const sp_weights *base, const char *name)
{
    sp_tensor view = *sp_weights_find(base, name);
    view.owned = false;
    return sp_weights_add(out, name, view);
}

sp_status sp_lora_merged(sp_device *device, const sp_weights *base, const sp_weights *adapters,
                         const sp_lora_settings *settings, sp_weights **out)
{
    SP_TRY(sp_weights_create(out));
    sp_status status = SP_OK;
    for (size_t i = 0; i < sp_weights_count(base) && !status; i++)
        status = add_own_view(*out, base, sp_weights_name(base, i));
    for (size_t i = 0; i < sp_weights_count(adapters) && !status; i++) {
        const char *name = sp_weights_name(adapters, i);
        if (sp_ends_with(name, down_end))
            status = merge_adapter(device, adapters, name, settings, *out);
        else if (!sp_ends_with(name, up_end))
            status = sp_weights_add_view(*out, name, adapters, name);
    }
    if (!status) return SP_OK;
    sp_weights_destroy(*out);
    *out = NULL;
    return status;
}
