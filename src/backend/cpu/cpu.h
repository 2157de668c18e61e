/* The CPU as a device: oneDNN and our own vectorised kernels, chosen by (operator, shapes, dtypes,
 * instruction set), with the reference kernels for the rest. */
#ifndef SP_BACKEND_CPU_CPU_H
#define SP_BACKEND_CPU_CPU_H
#include "graph/device.h"

/* Instruction sets that kernels are compiled for, each containing those before it: (enumerator,
 * name). baseline x86-64-v2; avx2 x86-64-v3 (with FMA, F16C); avx512 x86-64-v4; avx512_bf16 adds
 * products of bf16. */
#define SP_ISA_LIST(X)                                                                             \
    X(BASELINE, "baseline")                                                                        \
    X(AVX2, "avx2")                                                                                \
    X(AVX512, "avx512")                                                                            \
    X(AVX512_BF16, "avx512_bf16")
typedef enum {
#define X(name, text) SP_ISA_##name,
    SP_ISA_LIST(X)
#undef X
        SP_ISA_COUNT
} sp_isa;

/* The best instruction set of this processor, capped by the environment variable SPLAM_MAX_ISA (one
 * of the names above, or amx, which caps nothing; any other value is warned about and ignored). Found once per process,
 * before the first kernel is prepared. */
sp_isa sp_cpu_isa(void);
/* Whether kernels of avx512_bf16 may go on to AMX where there is one (sp_cpu_uses_amx): no cap was given. */
bool sp_cpu_allows_amx(void);
/* Calls the function compiled for this processor: FUNCTION_baseline, FUNCTION_avx2, ... */
#define SP_ISA_CALL(function, ...)                                                                                     \
    (sp_cpu_isa() == SP_ISA_AVX512_BF16 ? function##_avx512bf16(__VA_ARGS__)                                           \
     : sp_cpu_isa() == SP_ISA_AVX512    ? function##_avx512(__VA_ARGS__)                                               \
     : sp_cpu_isa() == SP_ISA_AVX2      ? function##_avx2(__VA_ARGS__)                                                 \
                                        : function##_baseline(__VA_ARGS__))
const char *sp_isa_name(sp_isa isa);

/* The device. Never NULL, shared by all, never released. preferred_dtype is SP_BF16 where the
 * instruction set is avx512_bf16. */
sp_device *sp_cpu_device(void);

/* The name of the kernel that is tried first for `op` when its first input has `dtype`; "reference"
 * if there is none. A shape that this kernel does not take goes to the next one. */
const char *sp_cpu_support(const sp_op *op, sp_dtype dtype);

#endif
