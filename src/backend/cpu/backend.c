/* Memory and the choice of kernels. */
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include "backend/cpu/measure/ceiling.h"
#include "backend/cpu/kernel_table.h"
#include "backend/host/host.h"

#define HUGE_PAGE ((size_t)2 << 20)
#define HUGE_LIMIT ((size_t)1 << 30)

static void *allocate(sp_backend *backend, size_t bytes)
{
    (void)backend;
    void *address = sp_alloc(bytes);
    if (!address || bytes < 2 * HUGE_PAGE || bytes > HUGE_LIMIT) return address;
    /* Activations are walked over many times: fewer, larger pages spare faults and misses. Only a
     * hint. Packed weights of gigabytes are streamed, and the system would first move other memory
     * out of the way to find so many large pages. */
    uintptr_t first = ((uintptr_t)address + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1);
    uintptr_t last = ((uintptr_t)address + bytes) & ~(HUGE_PAGE - 1);
    if (last > first) madvise((void *)first, last - first, MADV_HUGEPAGE);
    return address;
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

static const sp_cpu_kernel *vector_table(sp_isa isa)
{
    switch (isa) {
    case SP_ISA_AVX512_BF16:
        return sp_cpu_vector_avx512bf16;
    case SP_ISA_AVX512:
        return sp_cpu_vector_avx512;
    case SP_ISA_AVX2:
        return sp_cpu_vector_avx2;
    default:
        return sp_cpu_vector_baseline;
    }
}

#define TABLE_COUNT 3
static const sp_cpu_kernel *table(int index)
{
    return index == 0 ? vector_table(sp_cpu_isa()) : index == 1 ? sp_cpu_fused : sp_cpu_onednn;
}

static bool offers(const sp_cpu_kernel *kernel, const sp_op *op, sp_dtype dtype)
{
    return kernel->op == op && (kernel->dtypes & SP_DTYPE_BIT(dtype));
}

static sp_dtype first_dtype(const sp_node *node)
{
    for (int i = 0; i < node->inputs; i++)
        if (node->in[i]) return node->in[i]->dtype;
    return node->out[0]->dtype;
}

static sp_status prepare(sp_backend *backend, const sp_node *node, sp_kernel *out)
{
    sp_dtype dtype = first_dtype(node);
    for (int t = 0; t < TABLE_COUNT; t++) {
        for (const sp_cpu_kernel *k = table(t); k->op; k++) {
            if (!offers(k, node->op, dtype) || (k->supports && !k->supports(node))) continue;
            *out = (sp_kernel){.name = k->name};
            sp_status status = k->prepare(node, out);
            if (status != SP_UNSUPPORTED) return status;
        }
    }
    *out = (sp_kernel){0};
    return sp_reference_prepare(backend, node, out);
}

const char *sp_cpu_support(const sp_op *op, sp_dtype dtype)
{
    for (int t = 0; t < TABLE_COUNT; t++)
        for (const sp_cpu_kernel *k = table(t); k->op; k++)
            if (offers(k, op, dtype)) return k->name;
    return "reference";
}

static pthread_once_t once = PTHREAD_ONCE_INIT;
static sp_backend shared = {.name = "cpu",
                            .host_visible = true,
                            .allocate = allocate,
                            .release = release,
                            .upload = upload,
                            .download = download,
                            .prepare = prepare,
                            .measure_ceiling = sp_cpu_measure_ceiling,
                            .preferred_dtype = SP_F32}; /* the last is set once, under `once` */

static void initialise(void)
{
    sp_isa isa = sp_cpu_isa();
    sp_onednn_limit_isa(isa);
    if (isa == SP_ISA_AVX512_BF16) shared.preferred_dtype = SP_BF16;
}

sp_backend *sp_cpu_backend(void)
{
    pthread_once(&once, initialise);
    return &shared;
}
