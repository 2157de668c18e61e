/* Runs one operator case on one device without a plan: the plan would put buffers side by side,
 * here each lies between guards. */
#include "graph/passes.h"
#include "bench/op_cases.h"

enum { GUARD = SP_ALIGNMENT, GUARD_BYTE = 0xa5, MAX_NODES = 4, MAX_BUFFERS = 32 };

typedef struct {
    const char *name;
    unsigned char *block; /* of the device: guard, bytes, guard */
    unsigned char
        *kept; /* on the host: what an input must still hold; NULL for what kernels write */
    size_t lead, bytes; /* of the guard before it */
} buffer;

struct sp_op_trial {
    sp_device *device;
    sp_graph *graph;
    sp_kernel kernel[MAX_NODES];
    int kernels;
    buffer buffers[MAX_BUFFERS];
    int buffer_count;
    void *in[MAX_NODES][SP_MAX_INPUTS], *out[MAX_NODES][SP_MAX_OUTPUTS], *scratch[MAX_NODES];
};

/* The dtypes that the precision pass gives to nodes whose float inputs are lowered. A cast goes the
 * other way round. */
static void lower(sp_graph *graph, sp_dtype precision)
{
    for (int n = 0; n < graph->node_count; n++) {
        sp_node *node = graph->nodes[n];
        bool cast = node->op == &sp_op_cast, exact = precision == SP_F64;
        for (int i = 0; i < node->inputs && !exact; i++)
            if (node->in[i] && node->in[i]->dtype == SP_F32 && !(node->op->full_inputs >> i & 1))
                node->in[i]->dtype = precision;
        for (int i = 0; i < node->outputs && !(cast && precision == SP_F32); i++)
            node->out[i]->dtype =
                cast || (!exact && node->op->full_outputs >> i & 1) ? SP_F32 : precision;
    }
}

static size_t size_with_guards(const buffer *b)
{
    return b->lead + b->bytes + GUARD;
}

/* A new buffer full of 0xff, which is NaN in every float dtype, or of `content`; it begins `shift` bytes
 * behind a cache line. */
static sp_status add_buffer(sp_op_trial *trial, const char *name, size_t bytes, size_t shift,
                            const void *content, void **out)
{
    sp_device *device = trial->device;
    if (trial->buffer_count == MAX_BUFFERS)
        return sp_fail(SP_INTERNAL, "an operator case has too many buffers");
    buffer *b = &trial->buffers[trial->buffer_count++];
    *b = (buffer){.name = name, .bytes = bytes, .lead = GUARD + shift};
    size_t size = size_with_guards(b);
    unsigned char *image = sp_alloc(size);
    b->block = device->allocate(device, size);
    if (!image || !b->block) {
        sp_free(image);
        return sp_fail(SP_MEMORY, "out of memory for an operator case");
    }
    memset(image, GUARD_BYTE, size);
    if (content)
        memcpy(image + b->lead, content, bytes);
    else
        memset(image + b->lead, 0xff, bytes);
    device->upload(device, b->block, image, size);
    if (content)
        b->kept = image;
    else
        sp_free(image);
    *out = b->block + b->lead;
    return SP_OK;
}

/* Gives every value of the graph an address, kept in value->scratch. */
static sp_status add_values(sp_op_trial *trial, const sp_op_case *c, bool as_stored,
                            const sp_case_inputs *inputs)
{
    void *address;
    for (int i = 0; i < inputs->count; i++) {
        sp_tensor data = {0};
        SP_TRY(sp_op_case_data(c, inputs, i, &data));
        size_t shift =
            as_stored && !inputs->input[i].activation ? sp_dtype_size(data.dtype) : 0;
        sp_status status =
            add_buffer(trial, "an input", sp_tensor_bytes(&data), shift, data.data, &address);
        sp_tensor_free(&data);
        if (status) return status;
        inputs->input[i].value->scratch = address;
    }
    for (int n = 0; n < trial->graph->node_count; n++)
        for (int k = 0; k < trial->graph->nodes[n]->outputs; k++) {
            sp_value *value = trial->graph->nodes[n]->out[k];
            SP_TRY(add_buffer(trial, "an output", sp_value_bytes(value), 0, NULL, &address));
            value->scratch = address;
        }
    return SP_OK;
}

static void run_node(sp_op_trial *trial, int n)
{
    sp_kernel *kernel = &trial->kernel[n];
    kernel->run(kernel->state, trial->graph->nodes[n], trial->in[n], trial->out[n],
                trial->scratch[n]);
}

static sp_status add_node(sp_op_trial *trial, int n)
{
    sp_node *node = trial->graph->nodes[n];
    sp_kernel *kernel = &trial->kernel[n];
    SP_TRY(trial->device->prepare(trial->device, node, kernel));
    trial->kernels++;
    for (int i = 0; i < node->inputs; i++) {
        if (!node->in[i]) continue;
        const sp_packing *packing = &kernel->packing[i];
        trial->in[n][i] = node->in[i]->scratch;
        if (!packing->bytes) continue;
        SP_TRY(add_buffer(trial, "a packed weight", packing->bytes, 0, NULL, &trial->in[n][i]));
        void *scratch;
        SP_TRY(add_buffer(trial, "the scratch of packing", packing->scratch, 0, NULL, &scratch));
        packing->pack(packing->state, node->in[i]->scratch, trial->in[n][i], scratch);
    }
    for (int k = 0; k < node->outputs; k++)
        trial->out[n][k] = node->out[k]->scratch;
    return add_buffer(trial, "the scratch", kernel->scratch, 0, NULL, &trial->scratch[n]);
}

static sp_status set_up(sp_op_trial *trial, const sp_op_case *c, sp_dtype precision, bool as_stored)
{
    sp_builder *b;
    sp_case_inputs inputs;
    SP_TRY(sp_builder_create(&b));
    sp_op_case_build(c, b, SP_F32, &inputs);
    sp_status status = sp_builder_finish(b, &trial->graph);
    sp_builder_destroy(b);
    if (status) return status;
    if (trial->graph->node_count > MAX_NODES)
        return sp_fail(SP_INTERNAL, "an operator case has too many nodes");
    lower(trial->graph, precision);
    SP_TRY(add_values(trial, c, as_stored, &inputs));
    for (int n = 0; n < trial->graph->node_count; n++) {
        SP_TRY(add_node(trial, n));
        if (n + 1 < trial->graph->node_count) run_node(trial, n);
    }
    return SP_OK;
}

sp_status sp_op_trial_create(const sp_op_case *c, sp_device *device, sp_dtype precision,
                             bool as_stored, sp_op_trial **out)
{
    *out = NULL;
    sp_op_trial *trial = sp_alloc_zero(sizeof *trial);
    if (!trial) return SP_MEMORY;
    trial->device = device;
    sp_status status = set_up(trial, c, precision, as_stored);
    if (status) {
        sp_op_trial_destroy(trial);
        return sp_fail_within(status, "%s %s", c->op->name, c->name);
    }
    *out = trial;
    return SP_OK;
}

void sp_op_trial_destroy(sp_op_trial *trial)
{
    if (!trial) return;
    for (int i = 0; i < trial->kernels; i++)
        if (trial->kernel[i].destroy) trial->kernel[i].destroy(trial->kernel[i].state);
    for (int i = 0; i < trial->buffer_count; i++) {
        if (trial->buffers[i].block)
            trial->device->release(trial->device, trial->buffers[i].block);
        sp_free(trial->buffers[i].kept);
    }
    sp_graph_destroy(trial->graph);
    sp_free(trial);
}

sp_status sp_op_trial_run(sp_op_trial *trial)
{
    run_node(trial, trial->kernels - 1);
    return trial->device->finish(trial->device);
}

const sp_node *sp_op_trial_node(const sp_op_trial *trial)
{
    return trial->graph->nodes[trial->kernels - 1];
}

const char *sp_op_trial_kernel(const sp_op_trial *trial)
{
    return trial->kernel[trial->kernels - 1].name;
}

sp_status sp_op_trial_output(const sp_op_trial *trial, int index, sp_tensor *out)
{
    const sp_value *value = sp_op_trial_node(trial)->out[index];
    SP_TRY(sp_tensor_create(value->dtype, value->shape, out));
    sp_status status = trial->device->download(trial->device, out->data, value->scratch, sp_tensor_bytes(out));
    if (status) sp_tensor_free(out);
    return status;
}

static bool is_intact(const buffer *b, const unsigned char *image)
{
    if (b->kept) return memcmp(image, b->kept, size_with_guards(b)) == 0;
    for (size_t i = 0; i < b->lead; i++)
        if (image[i] != GUARD_BYTE) return false;
    for (size_t i = 0; i < GUARD; i++)
        if (image[b->lead + b->bytes + i] != GUARD_BYTE) return false;
    return true;
}

sp_status sp_op_trial_check_guards(const sp_op_trial *trial)
{
    for (int i = 0; i < trial->buffer_count; i++) {
        const buffer *b = &trial->buffers[i];
        unsigned char *image = sp_alloc(size_with_guards(b));
        if (!image) return SP_MEMORY;
        sp_status status = trial->device->download(trial->device, image, b->block, size_with_guards(b));
        bool intact = !status && is_intact(b, image);
        sp_free(image);
        SP_TRY(status);
        if (!intact)
            return sp_fail(SP_INTERNAL, "%s: kernel \"%s\" wrote over %s or beside it",
                           sp_op_trial_node(trial)->op->name, sp_op_trial_kernel(trial), b->name);
    }
    return SP_OK;
}
