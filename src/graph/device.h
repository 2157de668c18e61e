/* A device: memory of its own, kernels, and work that is done in the order in which it is asked for. Addresses that it
 * allocates are dereferenced by it alone; others count with them, as with those of host memory.
 *
 * Work may still go on when a call that asks for it returns: kernels, packing, upload, copy, zero and the optimiser's.
 * Host memory that such a call was given may be changed when it returns. What fails then is told by whoever waits:
 * download and finish. */
#ifndef SP_GRAPH_DEVICE_H
#define SP_GRAPH_DEVICE_H
#include "formats/packed_file.h"
#include "graph/op.h"
#include "graph/optimizer.h"

typedef struct sp_kernel sp_kernel;

/* A weight in the layout a kernel wants. The plan makes it once per change of the source. What is not
 * packed a kernel reads where it lies: a parameter anywhere that its elements may lie, for files have
 * tensors at any multiple of their elements' size, all other values and scratch at multiples of
 * the device's alignment. Packing reads its source there too. A kernel that needs a parameter aligned asks for a
 * copy as its packing. */
typedef struct {
    size_t bytes;   /* 0: the kernel reads the value as it is */
    uint64_t key;   /* equal (value, key, bytes): the same packed bytes, shared. 0: not shared */
    size_t scratch; /* bytes that packing needs, aligned as the device says; planned into the arena */
    void (*pack)(void *state, const void *source, void *packed, void *scratch);
    /* The same bytes made of a pack of the weight that has this key and size. Where that one is kept, this one is made
     * for the step that reads it. from_key 0: they are made of the weight alone. */
    uint64_t from_key;
    size_t from_bytes;
    void (*repack)(void *state, const void *from, void *packed);
    void *state; /* lives as long as the kernel's */
} sp_packing;

/* A kernel made ready for one node: shapes, dtypes and layouts are fixed. Immutable once prepared. */
struct sp_kernel {
    const char *name; /* "onednn conv2d bf16", for profiles and --support */
    void (*run)(void *state, const sp_node *node, void *const *in, void *const *out, void *scratch);
    void *state;
    void (*destroy)(void *state); /* may be NULL */
    size_t scratch;               /* bytes, aligned as the device says; planned into the arena */
    bool in_place;                /* output 0 may be written over input 0, of equal shape and type */
    sp_packing packing[SP_MAX_INPUTS];
};

/* What a machine can do at best, measured when asked; 0: not known. */
typedef struct {
    double f32_flops, bf16_flops; /* multiply and add counted as two, per second, all threads */
    double bytes;                 /* read and written per second, far beyond the caches */
} sp_peak;
/* The share of the peak that work took: the time that arithmetic or memory alone would take,
 * whichever is longer, over `seconds`. 1 is the peak of direct arithmetic in `dtype`; a kernel
 * that needs fewer operations than the operator counts can pass it. 0: not known. */
double sp_peak_share(const sp_peak *peak, sp_dtype dtype, double flops, double bytes,
                     double seconds);

/* Bytes; 0: not known. */
typedef struct {
    size_t available; /* can be taken now */
    size_t in_use;    /* by this process */
} sp_device_memory;

struct sp_device {
    const char *name; /* as sp_device_of takes it */
    /* Device addresses are host addresses: weights are used where they lie. */
    bool host_visible;
    size_t alignment; /* of what is allocated, and of values placed within it: a power of 2, SP_ALIGNMENT or more */
    void *(*allocate)(sp_device *device, size_t bytes); /* NULL: there is no memory */
    void (*release)(sp_device *device, void *address);  /* when the work asked for before is done; NULL is legal */
    void (*upload)(sp_device *device, void *to, const void *host, size_t bytes);
    /* Waits for all work before. */
    sp_status (*download)(sp_device *device, void *host, const void *from, size_t bytes);
    void (*zero)(sp_device *device, void *address, size_t bytes);
    /* Waits for all work asked for so far; the first failure since the last finish or download. */
    sp_status (*finish)(sp_device *device);
    /* A point in the order of work, and the seconds between two of them when both are reached, which elapsed waits for.
     * A mark is good until SP_MARKS later ones are made. */
    int64_t (*mark)(sp_device *device);
    double (*elapsed)(sp_device *device, int64_t from, int64_t to);
    void (*memory)(sp_device *device, sp_device_memory *out);
    /* Chooses and prepares the kernel of a node by (op, shapes, dtypes, instruction set): never by
     * timing. SP_UNSUPPORTED with the reason if there is none. */
    sp_status (*prepare)(sp_device *device, const sp_node *node, sp_kernel *out);
    const sp_optimizer_kernels *optimizer;
    /* What layouts of packed weights depend on beside their keys: with the same terms, equal (weight, key, bytes) are
     * equal packed bytes in any process, so they may be kept in a file. NULL: they may not. Not NULL only where the
     * memory is host_visible. */
    const sp_packed_terms *packed_terms;
    /* SP_BF16 if bf16 products are fast here, else SP_F32. */
    sp_dtype preferred_dtype;
    void (*measure_peak)(sp_device *device, sp_peak *out); /* NULL: not known */
    /* Whether bits of activations of that type depend on how many samples a batch has, in spite of
     * sp_builder_set_samples. NULL: they never do. */
    bool (*varies_by_batch)(const sp_device *device, sp_dtype dtype);
};
enum { SP_MARKS = 4096 };

/* Where the host finds what lies at a device's address, once the device has finished; NULL: it has to be downloaded. */
static inline void *sp_host_view(const sp_device *device, void *address)
{
    return device->host_visible ? address : NULL;
}

/* Bytes of the device's memory that this process may have in all, what it has included; 0: not known. */
size_t sp_device_allowed(sp_device *device);

#endif
