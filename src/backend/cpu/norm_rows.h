/* group_norm in two steps, for kernels that have some rows at a time of what it reads or makes. */
#ifndef SP_BACKEND_CPU_NORM_ROWS_H
#define SP_BACKEND_CPU_NORM_ROWS_H
#include "backend/cpu/kernel_table.h"

/* Bytes, aligned as scratch: what stays from the first step on, and what the first step needs beside it. */
typedef struct {
    size_t moments, parts;
} sp_norm_scratch_bytes;
/* `node`: a group_norm of one sample, x and its result of one type. */
sp_norm_scratch_bytes sp_norm_scratch(const sp_node *node);
/* Takes positions first .. first+count-1 of x [positions,C] into its moments, which are there when the last position
 * has come: the bits of those taken of all of x at once. Positions come in their order, each once; `parts` is kept
 * between. in: those positions, gamma, beta. */
void sp_norm_moments(const sp_node *node, void *const *in, void *moments, void *parts, int64_t first, int64_t count);
/* What the norm makes of some positions, once the moments are there, to `to` [count,C]: the bits that it makes of all
 * of x. in: those positions, gamma, beta. */
void sp_norm_rows(const sp_node *node, void *const *in, void *moments, int64_t count, void *to);

#endif
