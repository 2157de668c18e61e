/* group_norm in two steps: the copy for the instruction set in use. */
#include "backend/cpu/norm_rows.h"

#define DECLARE(isa)                                                                                                   \
    sp_norm_scratch_bytes sp_norm_scratch_##isa(const sp_node *node);                                                  \
    void sp_norm_moments_##isa(const sp_node *node, void *const *in, void *moments, void *parts, int64_t first,        \
                               int64_t count);                                                                         \
    void sp_norm_rows_##isa(const sp_node *node, void *const *in, void *moments, int64_t count, void *to);
DECLARE(baseline)
DECLARE(avx2)
DECLARE(avx512)
DECLARE(avx512bf16)

sp_norm_scratch_bytes sp_norm_scratch(const sp_node *node)
{
    return SP_ISA_CALL(sp_norm_scratch, node);
}

void sp_norm_moments(const sp_node *node, void *const *in, void *moments, void *parts, int64_t first, int64_t count)
{
    SP_ISA_CALL(sp_norm_moments, node, in, moments, parts, first, count);
}

void sp_norm_rows(const sp_node *node, void *const *in, void *moments, int64_t count, void *to)
{
    SP_ISA_CALL(sp_norm_rows, node, in, moments, count, to);
}
