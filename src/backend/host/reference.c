/* The device of reference kernels, in host memory, and their use by devices with memory of their own. */
#include <pthread.h>
#include "backend/cpu/kernel_table.h"
#include "backend/host/host.h"
#include "base/memory.h"

static void run(void *state, const sp_node *node, void *const *in, void *const *out, void *scratch)
{
    (void)state, (void)scratch;
    node->op->reference(node, (const void *const *)in, out);
}

/* ---- on another device ---- */

/* Host copies of a node's values. */
typedef struct {
    sp_device *device;
    void *in[SP_MAX_INPUTS], *out[SP_MAX_OUTPUTS];
} copies;

static void run_by_copies(void *state, const sp_node *node, void *const *in, void *const *out, void *scratch)
{
    (void)scratch;
    copies *c = state;
    bool there = true;
    for (int i = 0; i < node->inputs; i++) /* what fails, the next finish tells */
        if (node->in[i]) there &= c->device->download(c->device, c->in[i], in[i], sp_value_bytes(node->in[i])) == SP_OK;
    if (!there) return;
    node->op->reference(node, (const void *const *)c->in, c->out);
    for (int i = 0; i < node->outputs; i++)
        c->device->upload(c->device, out[i], c->out[i], sp_value_bytes(node->out[i]));
}

static void destroy_copies(void *state)
{
    copies *c = state;
    for (int i = 0; i < SP_MAX_INPUTS; i++)
        sp_free(c->in[i]);
    for (int i = 0; i < SP_MAX_OUTPUTS; i++)
        sp_free(c->out[i]);
    sp_free(c);
}

static sp_status prepare_copies(sp_device *device, const sp_node *node, sp_kernel *out)
{
    copies *c = sp_alloc_zero(sizeof *c);
    if (!c) return SP_MEMORY;
    c->device = device;
    *out = (sp_kernel){.name = "reference", .run = run_by_copies, .state = c, .destroy = destroy_copies};
    bool made = true;
    for (int i = 0; i < node->inputs; i++)
        if (node->in[i]) made &= (c->in[i] = sp_alloc(sp_value_bytes(node->in[i]) + 1)) != NULL;
    for (int i = 0; i < node->outputs; i++)
        made &= (c->out[i] = sp_alloc(sp_value_bytes(node->out[i]) + 1)) != NULL;
    if (made) return SP_OK;
    destroy_copies(c);
    *out = (sp_kernel){0};
    return SP_MEMORY;
}

sp_status sp_reference_prepare(sp_device *device, const sp_node *node, sp_kernel *out)
{
    if (!node->op->reference)
        return sp_fail(SP_UNSUPPORTED, "%s: there is no reference kernel", node->op->name);
    if (!device->host_visible) return prepare_copies(device, node, out);
    *out = (sp_kernel){.name = "reference", .run = run};
    return SP_OK;
}

/* ---- the device ---- */

static pthread_once_t once = PTHREAD_ONCE_INIT;
static sp_device shared; /* written once, under `once` */

static void initialise(void)
{
    shared = sp_host_device("reference");
    shared.prepare = sp_reference_prepare;
    shared.optimizer = &sp_cpu_optimizer;
    shared.preferred_dtype = SP_F32;
}

sp_device *sp_reference_device(void)
{
    pthread_once(&once, initialise);
    return &shared;
}
