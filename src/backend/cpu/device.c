/* The CPU as a device: the choice of kernels. */
#include <pthread.h>
#include "backend/cpu/measure/peak.h"
#include "backend/cpu/kernel_table.h"
#include "backend/cpu/pool.h"
#include "backend/host/host.h"

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

/* The first that offers a kernel has its way. */
#define TABLE_COUNT 5
static const sp_cpu_kernel *table(int index)
{
    const sp_cpu_kernel *const tables[TABLE_COUNT] = {vector_table(sp_cpu_isa()), sp_cpu_fused, sp_cpu_residual_block,
                                                      sp_cpu_pool, sp_cpu_onednn};
    return tables[index];
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

/* oneDNN cuts products for AMX by their size, and says nothing of it. */
static bool varies_by_batch(const sp_device *device, sp_dtype dtype)
{
    (void)device;
    return dtype == SP_BF16 && sp_cpu_uses_amx();
}

static sp_status prepare(sp_device *device, const sp_node *node, sp_kernel *out)
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
    return sp_reference_prepare(device, node, out);
}

const char *sp_cpu_support(const sp_op *op, sp_dtype dtype)
{
    for (int t = 0; t < TABLE_COUNT; t++)
        for (const sp_cpu_kernel *k = table(t); k->op; k++)
            if (offers(k, op, dtype)) return k->name;
    return "reference";
}

static pthread_once_t once = PTHREAD_ONCE_INIT;
static sp_device shared; /* written once, under `once` */

static void initialise(void)
{
    sp_isa isa = sp_cpu_isa();
    sp_onednn_limit_isa(isa);
    shared = sp_host_device("cpu");
    shared.prepare = prepare;
    shared.varies_by_batch = varies_by_batch;
    shared.optimizer = &sp_cpu_optimizer;
    shared.packed_terms = sp_cpu_packed_terms();
    shared.measure_peak = sp_cpu_measure_peak;
    shared.preferred_dtype = isa == SP_ISA_AVX512_BF16 ? SP_BF16 : SP_F32;
}

sp_device *sp_cpu_device(void)
{
    pthread_once(&once, initialise);
    return &shared;
}
