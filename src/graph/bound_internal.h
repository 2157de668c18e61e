/* The insides of a plan with its weights, for runs. */
#ifndef SP_GRAPH_BOUND_INTERNAL_H
#define SP_GRAPH_BOUND_INTERNAL_H
#include <pthread.h>
#include "graph/bound.h"
#include "graph/plan_internal.h"
#include "graph/residence.h"

/* Memory of packed weights that were asked for together. */
typedef struct {
    sp_device *device;
    void *memory;
    int packs; /* in it that somebody holds */
} sp_pack_block;

/* One weight in one layout. */
typedef struct sp_pack {
    const sp_residence *residence; /* of its weight set */
    char *name;                    /* the parameter's */
    uint64_t key;
    size_t bytes;
    void *address;
    sp_pack_block *block;       /* NULL: it lies in a file, whose pages are read alone */
    const sp_packed_file *file; /* then that, of the weight set's */
    uint64_t version; /* of the residence, when it was packed; 0: not yet */
    int holders;
    struct sp_pack *next;
} sp_pack;

struct sp_bound {
    const sp_plan *plan;
    void *kept;                 /* what steps of RUN rate leave for slower ones and is not a pack */
    void **parameters;          /* addresses by parameter index; NULL: not bound, or transient and not there now */
    sp_residence **residences;  /* by parameter index; NULL: none is held */
    const sp_weights **sources; /* the sets that parameters were bound from, by parameter index */
    bool *transient;            /* by parameter index: there while steps of RUN rate read it, see sp_bound_bring */
    uint64_t *versions;         /* of the residences, when what is kept was made; 0: never */
    sp_pack **packs;            /* by the plan's index; NULL: its set is not bound */
    uint64_t generation;        /* how often what is made of weights was made */
    int runs;
};

/* Steps of RUN rate are one thread's at a time in the process: they write what bound plans share. */
extern pthread_mutex_t sp_weights_lock;

/* Under the lock: whether all that is made of weights is there and new; after it was made. */
bool sp_bound_is_fresh(const sp_bound *bound);
void sp_bound_made(sp_bound *bound);
/* Under the lock: the pack that a step of RUN rate makes, NULL if it is a step of another kind; whether it has to be
 * made, and that it was. */
sp_pack *sp_bound_pack(const sp_bound *bound, int step);
bool sp_pack_is_fresh(const sp_pack *pack);
void sp_pack_made(sp_pack *pack);
/* Before it is made: gives one that lies in a file memory of its own. */
sp_status sp_pack_own(sp_bound *bound, sp_pack *pack);
/* Brings the transient parameters that a step reads to the device, and lets go of those that no later step of RUN rate
 * reads: their file can hold them. */
sp_status sp_bound_bring(sp_bound *bound, int step);
void sp_bound_drop(sp_bound *bound, int step);

#endif
