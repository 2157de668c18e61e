/* The backend of reference kernels, in host memory. */
#include "backend/host/host.h"

static void *allocate(sp_backend *backend, size_t bytes)
{
    (void)backend;
    return sp_alloc(bytes);
}

static void release(sp_backend *backend, void *address)
{
    (void)backend;
    sp_free(address);
}

static void upload(sp_backend *backend, void *to, const void *host, size_t bytes)
{
    (void)backend;
    memcpy(to, host, bytes);
}

static void download(sp_backend *backend, void *host, const void *from, size_t bytes)
{
    (void)backend;
    memcpy(host, from, bytes);
}

static void run(void *state, const sp_node *node, void *const *in, void *const *out, void *scratch)
{
    (void)state, (void)scratch;
    node->op->reference(node, (const void *const *)in, out);
}

sp_status sp_reference_prepare(sp_backend *backend, const sp_node *node, sp_kernel *out)
{
    (void)backend;
    if (!node->op->reference)
        return sp_fail(SP_UNSUPPORTED, "%s: there is no reference kernel", node->op->name);
    *out = (sp_kernel){.name = "reference", .run = run};
    return SP_OK;
}

sp_backend *sp_reference_backend(void)
{
    static const sp_backend backend = {
        .name = "reference",
        .host_visible = true,
        .allocate = allocate,
        .release = release,
        .upload = upload,
        .download = download,
        .prepare = sp_reference_prepare,
        .preferred_dtype = SP_F32,
    };
    return (sp_backend *)&backend; /* nobody writes through it */
}
