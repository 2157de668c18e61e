/* group_norm in two steps, for kernels that take what it makes a few rows at a time. */
#ifndef SP_BACKEND_CPU_NORM_ROWS_H
#define SP_BACKEND_CPU_NORM_ROWS_H
#include "backend/cpu/kernel_table.h"

/* `node`: a group_norm of one sample, x and its result of one type. Bytes that the steps share. */
size_t sp_norm_scratch(const sp_node *node);
/* The moments of x, kept in `scratch`. in: x, gamma, beta. */
void sp_norm_moments(const sp_node *node, void *const *in, void *scratch);
/* What the norm makes of positions first .. first+count-1 of x [positions,C], to `to` [count,C]: the bits that it makes
 * of all of x. */
void sp_norm_rows(const sp_node *node, void *const *in, void *scratch, int64_t first, int64_t count, void *to);

#endif
