/* Weights in a device's memory: one copy of each tensor of a weight set, made when it is first asked for and shared by
 * all who hold the set there. Where the device's memory is the host's, a tensor is used where it lies, unless it has
 * changes (sp_weights_change). */
#ifndef SP_GRAPH_RESIDENCE_H
#define SP_GRAPH_RESIDENCE_H
#include "formats/weights.h"
#include "graph/device.h"

typedef struct sp_residence sp_residence;

/* The one residence of this set on this device; it is there until all who hold it have let it go. The set lives longer,
 * and no tensor of it is replaced meanwhile. Any thread. */
sp_status sp_residence_hold(sp_device *device, const sp_weights *weights, sp_residence **out);
void sp_residence_release(sp_residence *residence); /* NULL is legal */
const sp_weights *sp_residence_weights(const sp_residence *residence);
/* Where tensor `name`, which the set has, lies on the device; uploaded if it was not there. Mapped pages that this read
 * are dropped (sp_weights_drop). */
sp_status sp_residence_place(sp_residence *residence, const char *name, void **address);
/* A new copy of tensor `name` on a device, as sp_weights_take has it: the device's release. */
sp_status sp_residence_upload(sp_device *device, const sp_weights *weights, const char *name, void **address);
/* Counts the changes of the set's tensors that residences were told of, from 1: what was made of them at another count
 * is stale. */
uint64_t sp_residence_version(const sp_residence *residence);
/* The host's tensors were changed: those on the device become equal to them. */
void sp_residence_update(sp_residence *residence);
/* The device's were changed, by calls of it: what was made of them is stale. */
void sp_residence_changed(sp_residence *residence);
/* The device's were: the host's tensors, which are owned, become equal to them. Waits for the device. */
sp_status sp_residence_fetch(sp_residence *residence);

#endif
