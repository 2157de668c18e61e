/* Tensors: creation, copies, conversion, hashes. */
#include "tensor/tensor.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/parallel.h"

sp_shape sp_shape_make(const int64_t *dim, int rank)
{
    assert(rank >= 0 && rank <= SP_MAX_RANK);
    sp_shape shape = {.rank = rank < 0 ? 0 : rank > SP_MAX_RANK ? SP_MAX_RANK : rank};
    for (int i = 0; i < shape.rank; i++)
        shape.dim[i] = dim[i];
    return shape;
}

int64_t sp_shape_count(sp_shape shape)
{
    int64_t count = 1;
    bool empty = false;
    for (int i = 0; i < shape.rank; i++) {
        if (shape.dim[i] < 0) return -1;
        if (shape.dim[i] == 0)
            empty = true;
        else if (__builtin_mul_overflow(count, shape.dim[i], &count))
            return -1;
    }
    return empty ? 0 : count;
}

bool sp_shape_equal(sp_shape a, sp_shape b)
{
    if (a.rank != b.rank) return false;
    for (int i = 0; i < a.rank; i++)
        if (a.dim[i] != b.dim[i]) return false;
    return true;
}

const char *sp_shape_text(sp_shape shape)
{
    enum { BUFFERS = 8, LENGTH = 2 + SP_MAX_RANK * 21 };
    static _Thread_local char buffers[BUFFERS][LENGTH];
    static _Thread_local unsigned next;
    char *text = buffers[next++ % BUFFERS];
    size_t length = 0;
    text[length++] = '[';
    for (int i = 0; i < shape.rank; i++)
        length += (size_t)snprintf(text + length, LENGTH - length, i ? ",%lld" : "%lld",
                                   (long long)shape.dim[i]);
    snprintf(text + length, LENGTH - length, "]");
    return text;
}

/* What is in it is not set. */
static sp_status create(sp_dtype dtype, sp_shape shape, sp_tensor *out)
{
    *out = (sp_tensor){0};
    size_t bytes = sp_dtype_bytes(dtype, sp_shape_count(shape));
    if (bytes == SIZE_MAX)
        return sp_fail(SP_SHAPE, "a tensor cannot have the shape %s", sp_shape_text(shape));
    void *data = sp_alloc(bytes);
    if (!data)
        return sp_fail(SP_MEMORY, "out of memory: a tensor %s of %s takes %zu bytes",
                       sp_shape_text(shape), sp_dtype_name(dtype), bytes);
    *out = (sp_tensor){.dtype = dtype, .shape = shape, .data = data, .owned = true};
    return SP_OK;
}

#define CLEARED (1 << 18) /* bytes that a thread clears at least */

typedef struct {
    char *data;
    int value;
} clearing;

/* Where memory has several nodes, a page lies on that of the thread that writes it first: each thread has the part of
 * a tensor that it will have when elements are dealt out, as to the optimiser. */
static void clear_range(void *context, int64_t begin, int64_t end)
{
    const clearing *c = context;
    memset(c->data + begin, c->value, (size_t)(end - begin));
}

sp_status sp_tensor_create(sp_dtype dtype, sp_shape shape, sp_tensor *out)
{
    SP_TRY(create(dtype, shape, out));
    clearing c = {.data = out->data, .value = dtype == SP_DYNAMIC8_SIGNED ? SP_DYNAMIC8_ZERO : 0};
    sp_parallel_for((int64_t)sp_tensor_bytes(out), CLEARED, clear_range, &c);
    return SP_OK;
}

void sp_tensor_free(sp_tensor *tensor)
{
    if (tensor->owned) sp_free(tensor->data);
    *tensor = (sp_tensor){0};
}

int64_t sp_tensor_count(const sp_tensor *tensor)
{
    return sp_shape_count(tensor->shape);
}

size_t sp_tensor_bytes(const sp_tensor *tensor)
{
    return sp_dtype_bytes(tensor->dtype, sp_tensor_count(tensor));
}

#define X(name, text, elements, bytes, scale) _Static_assert(!(scale) || (elements) == (bytes), "a code is a byte");
SP_DTYPE_LIST(X)
#undef X

sp_tensor sp_tensor_stored(const sp_tensor *tensor)
{
    sp_tensor stored = *tensor;
    stored.owned = false;
    if (sp_dtype_is_coded(tensor->dtype)) stored.dtype = SP_U8;
    return stored;
}

static sp_status refuse_codes(sp_dtype dtype)
{
    if (!sp_dtype_is_coded(dtype)) return SP_OK;
    return sp_fail(SP_UNSUPPORTED, "%s is no number without its scale, and is not converted", sp_dtype_name(dtype));
}

static sp_status check_blocks(const sp_tensor *tensor, sp_dtype dtype)
{
    if (dtype != SP_Q8_0)
        return sp_fail(SP_UNSUPPORTED, "%s is read, and not written", sp_dtype_name(dtype));
    if (sp_tensor_count(tensor) % sp_dtype_block(dtype) == 0) return SP_OK;
    return sp_fail(SP_SHAPE, "%s is in blocks of %d elements, and a tensor of %s has others", sp_dtype_name(dtype),
                   (int)sp_dtype_block(dtype), sp_shape_text(tensor->shape));
}

sp_status sp_tensor_convert(const sp_tensor *tensor, sp_dtype dtype, sp_tensor *out)
{
    *out = (sp_tensor){0};
    SP_TRY(refuse_codes(tensor->dtype));
    SP_TRY(refuse_codes(dtype));
    if (sp_dtype_is_quantised(dtype)) SP_TRY(check_blocks(tensor, dtype));
    SP_TRY(create(dtype, tensor->shape, out)); /* all of it is written */
    sp_convert_elements(out->data, dtype, tensor->data, tensor->dtype, sp_tensor_count(tensor));
    sp_status status = tensor->owned ? SP_OK : sp_mapped_check(tensor->data);
    if (status) sp_tensor_free(out);
    return status;
}

/* By their exponents, several at a time. */
static bool all_finite(const float *x, int64_t count)
{
    uint32_t bad = 0;
    for (int64_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        bad |= (bits & 0x7f800000) == 0x7f800000;
    }
    return !bad;
}

sp_status sp_tensor_check_finite(const sp_tensor *tensor, const char *name)
{
    int64_t count = sp_tensor_count(tensor);
    SP_TRY(refuse_codes(tensor->dtype));
    if (tensor->dtype == SP_F32 && (uintptr_t)tensor->data % sizeof(float) == 0 && all_finite(tensor->data, count))
        return SP_OK;
    for (int64_t i = 0; i < count; i++) {
        double value = sp_load(tensor->data, tensor->dtype, i);
        if (!isfinite(value))
            return sp_fail(SP_NUMERIC, "%s: element %lld of %s is %f, expected a finite number",
                           name, (long long)i, sp_shape_text(tensor->shape), value);
    }
    return SP_OK;
}

static uint64_t fnv1a(uint64_t hash, const void *data, size_t size)
{
    const unsigned char *bytes = data;
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ bytes[i]) * UINT64_C(0x100000001b3);
    return hash;
}

uint64_t sp_tensor_hash(uint64_t hash, const char *name, const sp_tensor *tensor)
{
    enum { HASHED_BYTES = 4096 };
    const char *type = sp_dtype_name(tensor->dtype);
    size_t bytes = sp_tensor_bytes(tensor);
    hash = fnv1a(hash, name, strlen(name));
    hash = fnv1a(hash, type, strlen(type));
    hash = fnv1a(hash, tensor->shape.dim, (size_t)tensor->shape.rank * sizeof *tensor->shape.dim);
    return fnv1a(hash, tensor->data, bytes < HASHED_BYTES ? bytes : HASHED_BYTES);
}

sp_status sp_tensor_relative_max_error(const sp_tensor *a, const sp_tensor *b, double *out)
{
    if (!sp_shape_equal(a->shape, b->shape))
        return sp_fail(SP_SHAPE, "tensors of one shape are compared, found %s and %s",
                       sp_shape_text(a->shape), sp_shape_text(b->shape));
    if (!sp_dtype_is_float(a->dtype) || !sp_dtype_is_float(b->dtype))
        return sp_fail(SP_SHAPE, "float tensors are compared, found %s and %s",
                       sp_dtype_name(a->dtype), sp_dtype_name(b->dtype));
    double difference = 0, largest = 0;
    int64_t count = sp_tensor_count(a);
    for (int64_t i = 0; i < count; i++) {
        double x = sp_load(a->data, a->dtype, i), y = sp_load(b->data, b->dtype, i);
        /* fmax would pass over a NaN, which must never look like agreement. */
        if (isnan(x) || isnan(y)) {
            *out = NAN;
            return SP_OK;
        }
        if (x != y) difference = fmax(difference, fabs(x - y));
        largest = fmax(largest, fabs(y));
    }
    *out = difference == 0 ? 0 : difference / largest;
    return SP_OK;
}
