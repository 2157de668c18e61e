/* A backend: a device's memory and a table of kernels. Addresses that it allocates are dereferenced
 * by it alone. */
#ifndef SP_GRAPH_BACKEND_H
#define SP_GRAPH_BACKEND_H
#include "graph/op.h"

typedef struct sp_backend sp_backend;
typedef struct sp_kernel sp_kernel;

/* A weight in the layout a kernel wants. The plan makes it once per change of the source. What is not
 * packed a kernel reads where it lies: a parameter anywhere that its elements may lie, for files have
 * tensors at any multiple of their elements' size, all other values and scratch at multiples of
 * SP_ALIGNMENT. Packing reads its source there too. A kernel that needs a parameter aligned asks for a
 * copy as its packing. */
typedef struct {
    size_t bytes;   /* 0: the kernel reads the value as it is */
    uint64_t key;   /* equal (value, key, bytes): the same packed bytes, shared. 0: not shared */
    size_t scratch; /* bytes that packing needs, 64-byte aligned; planned into the arena */
    void (*pack)(void *state, const void *source, void *packed, void *scratch);
    void *state; /* lives as long as the kernel's */
} sp_packing;

/* A kernel made ready for one node: shapes, dtypes and layouts are fixed. Immutable once prepared. */
struct sp_kernel {
    const char *name; /* "onednn conv2d bf16", for profiles and --support */
    void (*run)(void *state, const sp_node *node, void *const *in, void *const *out, void *scratch);
    void *state;
    void (*destroy)(void *state); /* may be NULL */
    size_t scratch;               /* bytes, 64-byte aligned; planned into the arena */
    sp_packing packing[SP_MAX_INPUTS];
};

/* What a machine can do at best, measured when asked; 0: not known. */
typedef struct {
    double f32_flops, bf16_flops; /* multiply and add counted as two, per second, all threads */
    double bytes;                 /* read and written per second, far beyond the caches */
} sp_ceiling;
/* The share of the ceiling that work took: the time that arithmetic or memory alone would take,
 * whichever is longer, over `seconds`. 1 is the ceiling of direct arithmetic in `dtype`; a kernel
 * that needs fewer operations than the operator counts can pass it. 0: not known. */
double sp_ceiling_share(const sp_ceiling *ceiling, sp_dtype dtype, double flops, double bytes,
                        double seconds);

struct sp_backend {
    const char *name;
    /* Host memory and device memory are the same: weights are used where they lie. */
    bool host_visible;
    void *(*allocate)(sp_backend *backend, size_t bytes);
    void (*release)(sp_backend *backend, void *address);
    void (*upload)(sp_backend *backend, void *to, const void *host, size_t bytes);
    void (*download)(sp_backend *backend, void *host, const void *from, size_t bytes);
    /* Chooses and prepares the kernel of a node by (op, shapes, dtypes, instruction set): never by
     * timing. SP_UNSUPPORTED with the reason if there is none. */
    sp_status (*prepare)(sp_backend *backend, const sp_node *node, sp_kernel *out);
    /* SP_BF16 if bf16 products are fast here, else SP_F32. */
    sp_dtype preferred_dtype;
    void (*measure_ceiling)(sp_backend *backend, sp_ceiling *out); /* NULL: not known */
};

#endif
