/* What a file of CPU kernels offers to the device. */
#ifndef SP_BACKEND_CPU_KERNEL_TABLE_H
#define SP_BACKEND_CPU_KERNEL_TABLE_H
#include "backend/cpu/cpu.h"
#include "ops/ops.h"

#define SP_DTYPE_BIT(dtype) (1u << (dtype))

/* One way of running one operator. For a node the first entry with its operator, its dtype and
 * supports() == true whose prepare() does not return SP_UNSUPPORTED is taken. Tables are asked in
 * this order, each from its beginning: our own kernels for the instruction set in use (they exist
 * where they beat the library), then those made of others, then oneDNN, then the reference. */
typedef struct {
    const sp_op *op;                       /* NULL ends a table */
    unsigned dtypes;                       /* SP_DTYPE_BITs of the first input */
    bool (*supports)(const sp_node *node); /* by shape and dtypes alone; NULL: always */
    sp_status (*prepare)(const sp_node *node, sp_kernel *out); /* *out is zeroed but for its name */
    const char *name;                                          /* static, such as "onednn conv2d" */
} sp_cpu_kernel;

/* vector/ is compiled once per instruction set, with SP_ISA defined as one of the suffixes below.
 * Whatever is not static there is named through SP_ISA_SYMBOL, so that the copies do not meet. */
#define SP_ISA_JOIN2(name, isa) name##_##isa
#define SP_ISA_JOIN(name, isa) SP_ISA_JOIN2(name, isa)
#define SP_ISA_SYMBOL(name) SP_ISA_JOIN(name, SP_ISA)

extern const sp_cpu_kernel sp_cpu_vector_baseline[];
extern const sp_cpu_kernel sp_cpu_vector_avx2[];
extern const sp_cpu_kernel sp_cpu_vector_avx512[];
extern const sp_cpu_kernel sp_cpu_vector_avx512bf16[];

extern const sp_optimizer_kernels sp_cpu_optimizer;

extern const sp_cpu_kernel sp_cpu_onednn[];
/* Kernels made of other kernels. */
extern const sp_cpu_kernel sp_cpu_fused[];
extern const sp_cpu_kernel sp_cpu_residual_block[];
/* What layouts of packed weights depend on in this process beside their keys (graph/device.h). */
const sp_packed_terms *sp_cpu_packed_terms(void);
/* "2.6.3 avx2": the library's version and the instruction set it may use. `out` has room for SP_ONEDNN_NAME bytes. */
void sp_onednn_name(char *out);
enum { SP_ONEDNN_NAME = 64 };
/* Tells oneDNN the cap; before any of its primitives is made. */
void sp_onednn_limit_isa(sp_isa isa);
/* Products of bf16 may be made in AMX tiles, six to twelve times as fast as in vectors: the processor has them, the
 * system lets this process use them, and no cap forbids it (oneDNN's ONEDNN_MAX_CPU_ISA counts for all). */
bool sp_cpu_uses_amx(void);

#endif
