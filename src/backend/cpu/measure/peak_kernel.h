/* The loops that the peak is measured with, once per instruction set. */
#ifndef SP_BACKEND_CPU_MEASURE_PEAK_KERNEL_H
#define SP_BACKEND_CPU_MEASURE_PEAK_KERNEL_H
#include <stdint.h>

/* Each returns the floating-point operations that it made, multiply and add counted as two.
 * *result: a small number, and something that depends on all of them. */
typedef struct {
    double (*f32)(int64_t rounds, float *result);
    double (*bf16)(int64_t rounds, float *result);
    double (*amx)(int64_t rounds, float *result); /* only where sp_cpu_uses_amx */
} sp_peak_loops;

extern const sp_peak_loops sp_peak_loops_baseline;
extern const sp_peak_loops sp_peak_loops_avx2;
extern const sp_peak_loops sp_peak_loops_avx512;
extern const sp_peak_loops sp_peak_loops_avx512bf16;

#endif
