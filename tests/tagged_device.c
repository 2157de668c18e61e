/* A device whose memory the host cannot read, made of the CPU's. */
#include "tagged_device.h"
#include <pthread.h>
#include "support.h"
#include "backend/cpu/cpu.h"
#include "backend/host/host.h"
#include "backend/registry.h"
#include "base/progress.h"

#define TAG ((uintptr_t)1 << 62)

/* ---- addresses ---- */

static void *tagged(void *address)
{
    return address ? (void *)((uintptr_t)address + TAG) : NULL;
}

static void *untagged(const void *address)
{
    if (!address) return NULL;
    if ((uintptr_t)address < TAG) {
        fprintf(stderr, "%p is not an address of the device\n", address);
        abort();
    }
    return (void *)((uintptr_t)address - TAG);
}

/* ---- work, in order ---- */

typedef struct work work;
struct work {
    void (*run)(work *w);
    work *next;
    void *to;
    const void *from;
    size_t bytes;
    void *kept; /* freed with the work, whether it ran or failed */
    union {
        struct {
            const sp_kernel *kernel;
            const sp_node *node;
            void *in[SP_MAX_INPUTS], *out[SP_MAX_OUTPUTS], *scratch;
        } kernel;
        struct {
            const sp_packing *packing;
            void *scratch;
        } pack;
        struct {
            sp_adamw_options options;
            sp_adamw_tensor tensor;
        } adamw;
        struct {
            const float *x;
            int64_t count;
        } squares;
        struct {
            double decay;
            int64_t count;
        } average;
        int64_t mark;
    };
};

typedef struct {
    sp_device base; /* first */
    bool deferred;
    pthread_mutex_t lock;
    work *first, **last;
    const char *failure; /* of the next work; NULL: none */
    const char *failed;  /* since the last wait; NULL: nothing */
    int64_t marks;
    double reached[SP_MARKS];
} device;

static device *of(sp_device *base)
{
    return (device *)base;
}

static void *checked(void *memory)
{
    if (memory) return memory;
    fprintf(stderr, "out of memory in the tests' device\n");
    abort();
}

static void run_one(device *d, work *w)
{
    if (d->failure) {
        if (!d->failed) d->failed = d->failure;
        d->failure = NULL;
        return;
    }
    w->run(w);
}

/* All that was asked for, in order; under the lock. */
static void drain(device *d)
{
    while (d->first) {
        work *w = d->first;
        d->first = w->next;
        run_one(d, w);
        free(w->kept);
        free(w);
    }
    d->last = &d->first;
}

static sp_status told(device *d)
{
    const char *failed = d->failed;
    d->failed = NULL;
    return failed ? sp_fail(SP_INTERNAL, "device %s: %s", d->base.name, failed) : SP_OK;
}

/* A release waits for nobody where nothing is asked for, so that what a test allocated is gone when it looks. */
static void run_release(work *w)
{
    sp_free(((void **)w->to)[-1]);
}

static void ask(sp_device *base, const work *wanted)
{
    device *d = of(base);
    pthread_mutex_lock(&d->lock);
    bool now = !d->deferred || (!d->first && wanted->run == run_release);
    work *w = checked(malloc(sizeof *w)); /* not counted among what a test lets fail */
    *w = *wanted;
    w->next = NULL;
    *d->last = w;
    d->last = &w->next;
    if (now) drain(d);
    pthread_mutex_unlock(&d->lock);
}

static sp_status finish(sp_device *base)
{
    device *d = of(base);
    pthread_mutex_lock(&d->lock);
    drain(d);
    sp_status status = told(d);
    pthread_mutex_unlock(&d->lock);
    return status;
}

/* ---- memory ---- */

static void *allocate(sp_device *base, size_t bytes)
{
    size_t unit = base->alignment;
    char *block = sp_alloc(bytes + unit);
    if (!block) return NULL;
    /* the distance to the block's beginning lies before what is given out */
    char *address = (char *)(((uintptr_t)block + unit) / unit * unit);
    ((char **)address)[-1] = block;
    memset(address, 0xff, bytes); /* not a number */
    return tagged(address);
}

static void release(sp_device *base, void *address)
{
    if (address) ask(base, &(work){.run = run_release, .to = untagged(address)});
}

static void run_upload(work *w)
{
    memcpy(w->to, w->kept, w->bytes);
}

static void upload(sp_device *base, void *to, const void *host, size_t bytes)
{
    void *kept = checked(malloc(bytes + 1)); /* the caller may change its own */
    memcpy(kept, host, bytes);
    ask(base, &(work){.run = run_upload, .to = untagged(to), .bytes = bytes, .kept = kept});
}

static sp_status download(sp_device *base, void *host, const void *from, size_t bytes)
{
    sp_status status = finish(base);
    if (!status) memcpy(host, untagged(from), bytes);
    return status;
}

static void run_zero(work *w)
{
    memset(w->to, 0, w->bytes);
}

static void zero(sp_device *base, void *address, size_t bytes)
{
    ask(base, &(work){.run = run_zero, .to = untagged(address), .bytes = bytes});
}

/* ---- time ---- */

static void run_mark(work *w)
{
    ((device *)w->to)->reached[w->mark % SP_MARKS] = sp_now();
}

static int64_t mark(sp_device *base)
{
    device *d = of(base);
    pthread_mutex_lock(&d->lock);
    int64_t number = d->marks++;
    pthread_mutex_unlock(&d->lock);
    ask(base, &(work){.run = run_mark, .to = d, .mark = number});
    return number;
}

static double elapsed(sp_device *base, int64_t from, int64_t to)
{
    device *d = of(base);
    pthread_mutex_lock(&d->lock);
    drain(d); /* what failed is left to finish */
    double seconds = d->reached[to % SP_MARKS] - d->reached[from % SP_MARKS];
    pthread_mutex_unlock(&d->lock);
    return seconds;
}

/* ---- kernels ---- */

typedef struct {
    sp_device *device;
    const sp_packing *inner;
} wrapped_packing;

typedef struct {
    sp_device *device;
    sp_kernel inner;
    wrapped_packing packing[SP_MAX_INPUTS];
} wrapped;

static void run_kernel(work *w)
{
    w->kernel.kernel->run(w->kernel.kernel->state, w->kernel.node, w->kernel.in, w->kernel.out, w->kernel.scratch);
}

static void ask_kernel(void *state, const sp_node *node, void *const *in, void *const *out, void *scratch)
{
    wrapped *k = state;
    work w = {.run = run_kernel, .kernel = {.kernel = &k->inner, .node = node, .scratch = untagged(scratch)}};
    for (int i = 0; i < node->inputs; i++)
        w.kernel.in[i] = untagged(in[i]);
    for (int i = 0; i < node->outputs; i++)
        w.kernel.out[i] = untagged(out[i]);
    ask(k->device, &w);
}

static void run_pack(work *w)
{
    w->pack.packing->pack(w->pack.packing->state, w->from, w->to, w->pack.scratch);
}

static void ask_pack(void *state, const void *source, void *packed, void *scratch)
{
    const wrapped_packing *p = state;
    ask(p->device, &(work){.run = run_pack,
                           .from = untagged(source),
                           .to = untagged(packed),
                           .pack = {.packing = p->inner, .scratch = untagged(scratch)}});
}

static void run_repack(work *w)
{
    w->pack.packing->repack(w->pack.packing->state, w->from, w->to);
}

static void ask_repack(void *state, const void *from, void *packed)
{
    const wrapped_packing *p = state;
    ask(p->device, &(work){.run = run_repack,
                           .from = untagged(from),
                           .to = untagged(packed),
                           .pack = {.packing = p->inner}});
}

static void destroy_wrapped(void *state)
{
    wrapped *k = state;
    if (k->inner.destroy) k->inner.destroy(k->inner.state);
    sp_free(k);
}

/* The CPU's kernels; what it has none for runs by copies in host memory, as on any device. */
static sp_status prepare(sp_device *base, const sp_node *node, sp_kernel *out)
{
    wrapped *k = sp_alloc_zero(sizeof *k);
    if (!k) return SP_MEMORY;
    k->device = base;
    sp_status status = sp_cpu_device()->prepare(sp_cpu_device(), node, &k->inner);
    bool reference = !status && strcmp(k->inner.name, "reference") == 0;
    if (status || reference) {
        if (reference && k->inner.destroy) k->inner.destroy(k->inner.state);
        sp_free(k);
        return reference ? sp_reference_prepare(base, node, out) : status;
    }
    *out = k->inner;
    out->run = ask_kernel;
    out->state = k;
    out->destroy = destroy_wrapped;
    for (int i = 0; i < SP_MAX_INPUTS; i++) {
        k->packing[i].device = base;
        k->packing[i].inner = &k->inner.packing[i];
        if (!k->inner.packing[i].bytes) continue;
        out->packing[i].pack = ask_pack;
        if (out->packing[i].repack) out->packing[i].repack = ask_repack;
        out->packing[i].state = &k->packing[i];
    }
    return SP_OK;
}

/* ---- the optimizer ---- */

static void run_adamw(work *w)
{
    sp_cpu_device()->optimizer->adamw(sp_cpu_device(), &w->adamw.options, &w->adamw.tensor);
}

static sp_moment untagged_moment(const sp_moment *m)
{
    return (sp_moment){.values = untagged(m->values), .codes = untagged(m->codes), .scales = untagged(m->scales)};
}

static void adamw(sp_device *base, const sp_adamw_options *options, const sp_adamw_tensor *t)
{
    ask(base, &(work){.run = run_adamw,
                      .adamw = {.options = *options,
                                .tensor = {.count = t->count,
                                           .weight = untagged(t->weight),
                                           .first = untagged_moment(&t->first),
                                           .second = untagged_moment(&t->second),
                                           .gradient = untagged(t->gradient),
                                           .ema = untagged(t->ema)}}});
}

static void run_squares(work *w)
{
    sp_cpu_device()->optimizer->sum_of_squares(sp_cpu_device(), w->squares.x, w->squares.count, w->to);
}

static void sum_of_squares(sp_device *base, const float *x, int64_t count, double *sum)
{
    ask(base, &(work){.run = run_squares, .to = untagged(sum), .squares = {.x = untagged(x), .count = count}});
}

static void run_average(work *w)
{
    sp_cpu_device()->optimizer->average(sp_cpu_device(), w->average.decay, w->from, w->to, w->average.count);
}

static void average(sp_device *base, double decay, const float *weight, float *average, int64_t count)
{
    ask(base, &(work){.run = run_average,
                      .from = untagged(weight),
                      .to = untagged(average),
                      .average = {.decay = decay, .count = count}});
}

static const sp_optimizer_kernels optimizer = {adamw, sum_of_squares, average};

/* ---- the two ---- */

static pthread_once_t once = PTHREAD_ONCE_INIT;
static device devices[2];

static void initialise(void)
{
    for (int i = 0; i < 2; i++) {
        device *d = &devices[i];
        d->base = *sp_cpu_device(); /* memory, preferred_dtype, measure_peak */
        d->base.name = i ? "deferred" : "tagged";
        d->base.host_visible = false;
        d->base.alignment = 256;
        d->base.allocate = allocate;
        d->base.release = release;
        d->base.upload = upload;
        d->base.download = download;
        d->base.zero = zero;
        d->base.finish = finish;
        d->base.mark = mark;
        d->base.elapsed = elapsed;
        d->base.prepare = prepare;
        d->base.optimizer = &optimizer;
        d->deferred = i;
        d->last = &d->first;
        pthread_mutex_init(&d->lock, NULL);
    }
}

sp_device *tagged_device(void)
{
    pthread_once(&once, initialise);
    return &devices[0].base;
}

sp_device *deferred_device(void)
{
    pthread_once(&once, initialise);
    return &devices[1].base;
}

void fail_deferred_work(const char *sentence)
{
    of(deferred_device())->failure = sentence;
}

__attribute__((constructor(200))) static void choose(void)
{
    const char *name = getenv("SPLAM_TEST_DEVICE"), *cases = getenv("SPLAM_TEST_CASES");
    if (cases && *cases == '!')
        cmocka_set_skip_filter(cases + 1);
    else if (cases)
        cmocka_set_test_filter(cases);
    if (!name || !*name) return;
    if (strcmp(name, "tagged") == 0)
        sp_set_default_device(tagged_device());
    else if (strcmp(name, "deferred") == 0)
        sp_set_default_device(deferred_device());
    else
        abort();
}
