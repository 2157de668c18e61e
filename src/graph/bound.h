/* A plan with its weights: where every parameter lies on the device, and what is made of weights alone (packed and cast
 * weights), which all runs of it share. Packed weights are shared further: a layer's weight that another bound plan of
 * the same weight set, of another size say, wants in the same layout is in memory once. Where the set has a file of
 * packed weights for the device (formats/packed_file.h), a pack that is in it is used where it is mapped, and nothing
 * is read or made for it.
 *
 * Runs of one bound plan may be executed by several threads, each run by one. What is made of weights is made by the
 * first of them while the others wait. Nobody executes while weights are bound or change. */
#ifndef SP_GRAPH_BOUND_H
#define SP_GRAPH_BOUND_H
#include "graph/plan.h"

typedef struct sp_bound sp_bound;

/* The plan lives longer. */
sp_status sp_bound_create(const sp_plan *plan, sp_bound **out);
void sp_bound_destroy(sp_bound *bound); /* after its runs; NULL is legal */
const sp_plan *sp_bound_plan(const sp_bound *bound);
/* Binds every parameter of `set` from `weights`, which must outlive the bound plan. A missing name, wrong shape or
 * dtype is an error naming it; SP_MEMORY where packed weights find no room. A device with memory of its own has one
 * copy for all (residence.h), and of a parameter that only steps of RUN rate read (packing, casts) none but while these
 * run; its mapped pages are dropped after the last of them. So it is, on every device, with tensors that have changes
 * (sp_weights_change). Binding again makes what was computed from RUN-rate weights
 * stale. */
sp_status sp_bind(sp_bound *bound, const char *set, const sp_weights *weights);
/* The host's tensors were changed. Other bound plans of the same sets see it too. */
void sp_bound_weights_changed(sp_bound *bound);

/* The packs of a weight set that are held now and made, in the order of their names, for a file: names and data are
 * those in use. *out: sp_free. The device has packed_terms. */
sp_status sp_packs_list(const sp_weights *weights, sp_packed_weight **out, size_t *count);

/* Bytes of packed weights in this process's memory, each counted once, without those that lie in files, and how often a
 * weight was packed so far. */
size_t sp_packed_bytes(void);
unsigned long sp_packed_count(void);

#endif
