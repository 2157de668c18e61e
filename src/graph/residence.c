/* Device copies of weight sets. */
#include "graph/residence.h"
#include <pthread.h>
#include "base/memory.h"
#include "base/text.h"

struct sp_residence {
    sp_device *device;
    const sp_weights *weights;
    int holders;
    uint64_t version;
    sp_dictionary *places; /* name -> address. Of a device that has the host's memory, of changed tensors alone */
    sp_residence *next;
};

/* Who binds the same set to another run finds its copies here. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static sp_residence *all;

static sp_residence *find(const sp_device *device, const sp_weights *weights)
{
    sp_residence *r = all;
    while (r && (r->device != device || r->weights != weights))
        r = r->next;
    return r;
}

static sp_status add(sp_device *device, const sp_weights *weights, sp_residence **out)
{
    sp_residence *r = sp_alloc_zero(sizeof *r);
    if (!r) return SP_MEMORY;
    *r = (sp_residence){.device = device, .weights = weights, .version = 1, .next = all};
    if (!(r->places = sp_dictionary_create())) {
        sp_free(r);
        return SP_MEMORY;
    }
    all = *out = r;
    return SP_OK;
}

sp_status sp_residence_hold(sp_device *device, const sp_weights *weights, sp_residence **out)
{
    pthread_mutex_lock(&lock);
    *out = find(device, weights);
    sp_status status = *out ? SP_OK : add(device, weights, out);
    if (!status) (*out)->holders++;
    pthread_mutex_unlock(&lock);
    return status;
}

static void destroy(sp_residence *r)
{
    size_t index = 0;
    const char *name;
    void *address;
    while (sp_dictionary_next(r->places, &index, &name, &address))
        r->device->release(r->device, address);
    sp_dictionary_destroy(r->places);
    sp_free(r);
}

void sp_residence_release(sp_residence *residence)
{
    if (!residence) return;
    pthread_mutex_lock(&lock);
    bool last = --residence->holders == 0;
    for (sp_residence **r = &all; last && *r; r = &(*r)->next)
        if (*r == residence) {
            *r = residence->next;
            break;
        }
    pthread_mutex_unlock(&lock);
    if (last) destroy(residence);
}

sp_status sp_residence_upload(sp_device *device, const sp_weights *weights, const char *name, void **address)
{
    sp_tensor tensor;
    *address = NULL;
    SP_TRY(sp_weights_take(weights, name, &tensor));
    size_t bytes = sp_tensor_bytes(&tensor);
    *address = device->allocate(device, bytes + 1);
    if (*address) device->upload(device, *address, tensor.data, bytes);
    sp_tensor_free(&tensor);
    return *address ? SP_OK : sp_fail(SP_MEMORY, "out of memory of %s for tensor \"%s\"", device->name, name);
}

static sp_status upload(sp_residence *r, const char *name, void **address)
{
    SP_TRY(sp_residence_upload(r->device, r->weights, name, address));
    sp_status status = sp_dictionary_put(r->places, name, *address);
    if (status)
        r->device->release(r->device, *address);
    else
        sp_weights_drop(r->weights, name);
    return status;
}

sp_status sp_residence_place(sp_residence *residence, const char *name, void **address)
{
    *address = sp_weights_find(residence->weights, name)->data;
    if (residence->device->host_visible && !sp_weights_is_changed(residence->weights, name)) return SP_OK;
    pthread_mutex_lock(&lock);
    *address = sp_dictionary_get(residence->places, name);
    sp_status status = *address ? SP_OK : upload(residence, name, address);
    pthread_mutex_unlock(&lock);
    return status;
}

const sp_weights *sp_residence_weights(const sp_residence *residence)
{
    return residence->weights;
}

uint64_t sp_residence_version(const sp_residence *residence)
{
    return residence->version;
}

void sp_residence_changed(sp_residence *residence)
{
    residence->version++;
}

void sp_residence_update(sp_residence *residence)
{
    sp_residence_changed(residence);
    size_t index = 0;
    const char *name;
    void *address;
    sp_device *device = residence->device;
    pthread_mutex_lock(&lock);
    while (sp_dictionary_next(residence->places, &index, &name, &address)) {
        const sp_tensor *tensor = sp_weights_find(residence->weights, name);
        if (tensor->data) device->upload(device, address, tensor->data, sp_tensor_bytes(tensor));
    }
    pthread_mutex_unlock(&lock);
}

sp_status sp_residence_fetch(sp_residence *residence)
{
    size_t index = 0;
    const char *name;
    void *address;
    sp_device *device = residence->device;
    sp_status status = device->finish(device);
    pthread_mutex_lock(&lock);
    while (!status && sp_dictionary_next(residence->places, &index, &name, &address)) {
        const sp_tensor *tensor = sp_weights_find(residence->weights, name);
        if (tensor->data) status = device->download(device, tensor->data, address, sp_tensor_bytes(tensor));
    }
    pthread_mutex_unlock(&lock);
    return status;
}
