/* Host tensors: contiguous, row-major, outermost dimension first. */
#ifndef SP_TENSOR_TENSOR_H
#define SP_TENSOR_TENSOR_H
#include <stdbool.h>
#include "base/status.h"
#include "tensor/dtype.h"

#define SP_MAX_RANK 6

typedef struct {
    int rank;                 /* 0: a scalar */
    int64_t dim[SP_MAX_RANK]; /* all >= 0; entries past rank are 0 */
} sp_shape;
/* sp_shape_of(4, n, h, w, c) */
#define sp_shape_of(...)                                                                           \
    sp_shape_make((int64_t[]){__VA_ARGS__},                                                        \
                  (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)))
sp_shape sp_shape_make(const int64_t *dim, int rank);
/* Elements; -1 if a dimension is negative or the product of those that are not 0 is beyond int64_t.
 * Readers refuse the latter, so no product of some of a tensor's dimensions overflows, even of an
 * empty tensor. */
int64_t sp_shape_count(sp_shape shape);
bool sp_shape_equal(sp_shape a, sp_shape b);
/* "[2,4,64,64]" in a per-thread rotating buffer, valid for the next few calls; for messages. */
const char *sp_shape_text(sp_shape shape);

typedef struct {
    sp_dtype dtype;
    sp_shape shape;
    void *data; /* 64-byte aligned when owned; any alignment when mapped from a file */
    bool owned; /* data was allocated with sp_alloc and dies with the tensor */
} sp_tensor;

/* Owned, all elements 0; codes are those of 0, in the rest of the last block too. Of a coded dtype the scales are a
 * tensor beside it, F32 [sp_dtype_scales]. */
sp_status sp_tensor_create(sp_dtype dtype, sp_shape shape, sp_tensor *out);
void sp_tensor_free(sp_tensor *tensor); /* zeroed tensor is legal */
int64_t sp_tensor_count(const sp_tensor *tensor);
size_t sp_tensor_bytes(const sp_tensor *tensor);
/* A view of it as files have it: codes are U8 of the tensor's shape, without the rest of the last block; any other
 * tensor is what it is. */
sp_tensor sp_tensor_stored(const sp_tensor *tensor);
/* A new owned tensor. SP_IO if `tensor` is a view of a file that became shorter; SP_UNSUPPORTED from or to codes,
 * and to a quantised type other than Q8_0, of which `tensor` must be whole blocks (SP_SHAPE). */
sp_status sp_tensor_convert(const sp_tensor *tensor, sp_dtype dtype, sp_tensor *out);
/* SP_NUMERIC, naming `name` and the element, if any element is not finite; SP_UNSUPPORTED for codes. */
sp_status sp_tensor_check_finite(const sp_tensor *tensor, const char *name);
/* 64-bit FNV-1a of a tensor's name, type, shape and first 4096 bytes, begun with SP_HASH_START or
 * the hash of the tensors before. Training moves every tensor, so this tells models apart without
 * reading gigabytes. */
#define SP_HASH_START UINT64_C(0xcbf29ce484222325)
uint64_t sp_tensor_hash(uint64_t hash, const char *name, const sp_tensor *tensor);
/* max|a-b| / max|b| over float tensors of one shape; SP_SHAPE otherwise. */
sp_status sp_tensor_relative_max_error(const sp_tensor *a, const sp_tensor *b, double *out);

#endif
