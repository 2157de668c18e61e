/* The list of all operators. */
#include "graph/passes.h"
#include "ops/ops.h"

#define ADDRESS(name) &sp_op_##name,
const sp_op *const sp_all_ops[] = {
    SP_OP_LIST(ADDRESS) /* clang-format off */
    &sp_op_cast, /* clang-format on */
};
const int sp_all_ops_count = sizeof(sp_all_ops) / sizeof(sp_all_ops[0]);
