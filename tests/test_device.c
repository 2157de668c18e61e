/* Devices: by name, their memory, and what is asked of them out of the order of calls. */
#include "support.h"
#include "backend/cpu/cpu.h"
#include "backend/host/host.h"
#include "backend/registry.h"
#include "base/random.h"
#include "graph/residence.h"
#include "graph/run.h"
#include "ops/ops.h"
#include "tagged_device.h"
#include <sys/wait.h>

static void by_name(void **state)
{
    (void)state;
    sp_device *device;
    assert_ok(sp_device_of(NULL, &device));
    assert_ptr_equal(device, sp_cpu_device());
    assert_ok(sp_device_of("cpu", &device));
    assert_ptr_equal(device, sp_cpu_device());
    assert_status(sp_device_of("cuda:0", &device), SP_UNSUPPORTED);
    assert_message("`device` is \"cuda:0\", and this splam is built without CUDA: it has cpu");
    assert_null(device);
    assert_status(sp_device_of("reference", &device), SP_ARGUMENT);
    assert_message("`device` is \"reference\", cpu is expected");
    assert_status(sp_device_of("", &device), SP_ARGUMENT);
    assert_ptr_equal(sp_default_device(), sp_cpu_device());
    sp_set_default_device(sp_reference_device());
    assert_ok(sp_device_of(NULL, &device));
    assert_ptr_equal(device, sp_reference_device());
    sp_set_default_device(sp_cpu_device());
}

static void is_complete(void **state)
{
    (void)state;
    sp_device *devices[] = {sp_cpu_device(), sp_reference_device(), tagged_device(), deferred_device()};
    for (int i = 0; i < 4; i++) {
        sp_device *device = devices[i];
        unsigned char bytes[300];
        unsigned char *address = device->allocate(device, sizeof bytes);
        assert_non_null(address);
        assert_int_equal((uintptr_t)address % device->alignment, 0);
        memset(bytes, 7, sizeof bytes);
        int64_t before = device->mark(device);
        device->upload(device, address, bytes, sizeof bytes);
        device->zero(device, address + 100, 100);
        assert_true(device->elapsed(device, before, device->mark(device)) >= 0);
        assert_ok(device->download(device, bytes, address, sizeof bytes));
        for (size_t k = 0; k < sizeof bytes; k++)
            assert_int_equal(bytes[k], k >= 100 && k < 200 ? 0 : 7);
        assert_ok(device->finish(device));
        device->release(device, address);
        device->release(device, NULL);
        assert_true(sp_device_allowed(device) > 0);
        assert_non_null(device->optimizer);
    }
}

/* y = silu(x w^T + b): a weight that may be packed, and one that every step reads. */
enum { ROWS = 3, IN = 40, OUT = 24 };
typedef struct {
    sp_plan *plan;
    sp_run *run;
} running;

static running start(sp_device *device, const sp_weights *weights)
{
    sp_builder *b;
    sp_graph *graph;
    running r;
    assert_ok(sp_builder_create(&b));
    sp_value *x = sp_input(b, "x", SP_F32, sp_shape_of(ROWS, IN), SP_RATE_STEP);
    sp_value *y = sp_linear(b, x, sp_parameter(b, "w", sp_shape_of(OUT, IN)), NULL, NULL);
    sp_output(b, "y", sp_silu(b, sp_add(b, y, sp_parameter(b, "b", sp_shape_of(ROWS, OUT)))));
    assert_ok(sp_builder_finish(b, &graph));
    sp_builder_destroy(b);
    assert_ok(sp_plan_create(graph, device, SP_F32, &r.plan));
    assert_ok(sp_run_create(r.plan, &r.run));
    assert_ok(sp_bind(sp_run_bound(r.run), "", weights));
    return r;
}

static void stop(running *r)
{
    sp_run_destroy(r->run);
    sp_plan_destroy(r->plan);
}

static sp_status execute(running *r, sp_tensor *y)
{
    sp_tensor x;
    assert_ok(sp_tensor_create(SP_F32, sp_shape_of(ROWS, IN), &x));
    sp_random_normal((sp_random_key){.seed = 3}, x.data, ROWS * IN);
    assert_ok(sp_run_set_input(r->run, "x", &x));
    memset(x.data, 0xff, sp_tensor_bytes(&x)); /* it was taken */
    sp_tensor_free(&x);
    assert_ok(sp_run_execute(r->run, NULL));
    return sp_run_get_output(r->run, "y", y);
}

static sp_weights *make_weights(void)
{
    sp_weights *weights;
    sp_tensor w, b;
    assert_ok(sp_weights_create(&weights));
    assert_ok(sp_tensor_create(SP_F32, sp_shape_of(OUT, IN), &w));
    assert_ok(sp_tensor_create(SP_F32, sp_shape_of(ROWS, OUT), &b));
    sp_random_normal((sp_random_key){.seed = 1}, w.data, OUT * IN);
    sp_random_normal((sp_random_key){.seed = 2}, b.data, ROWS * OUT);
    assert_ok(sp_weights_add(weights, "w", w));
    assert_ok(sp_weights_add(weights, "b", b));
    return weights;
}

static void same_bits_as_the_cpu(void **state)
{
    (void)state;
    sp_weights *weights = make_weights();
    sp_device *devices[] = {sp_cpu_device(), tagged_device(), deferred_device()};
    sp_tensor y[3], changed[3];
    running r[3];
    for (int i = 0; i < 3; i++) {
        r[i] = start(devices[i], weights);
        assert_ok(execute(&r[i], &y[i]));
        assert_memory_equal(y[i].data, y[0].data, sp_tensor_bytes(&y[0]));
    }
    ((float *)sp_weights_find(weights, "w")->data)[5] += 1;
    ((float *)sp_weights_find(weights, "b")->data)[7] += 1;
    for (int i = 0; i < 3; i++) { /* the host's tensors were changed: packed ones and others */
        sp_bound_weights_changed(sp_run_bound(r[i].run));
        assert_ok(execute(&r[i], &changed[i]));
        assert_memory_not_equal(changed[i].data, y[0].data, sp_tensor_bytes(&y[0]));
        assert_memory_equal(changed[i].data, changed[0].data, sp_tensor_bytes(&y[0]));
        stop(&r[i]);
    }
    for (int i = 0; i < 3; i++) {
        sp_tensor_free(&y[i]);
        sp_tensor_free(&changed[i]);
    }
    sp_weights_destroy(weights);
}

/* What no kernel of the device takes: the reference, on copies. */
static void reference_by_copies(void **state)
{
    (void)state;
    sp_device *devices[] = {sp_reference_device(), tagged_device(), deferred_device()};
    double numbers[6] = {1, -2, 3, 0.5, -0.25, 8}, doubled[3][6];
    sp_builder *b;
    assert_ok(sp_builder_create(&b));
    sp_value *x = sp_input(b, "x", SP_F64, sp_shape_of(2, 3), SP_RATE_STEP), *y = sp_add(b, x, x);
    for (int i = 0; i < 3; i++) {
        sp_kernel kernel;
        sp_device *device = devices[i];
        assert_ok(device->prepare(device, y->producer, &kernel));
        assert_string_equal(kernel.name, "reference");
        void *from = device->allocate(device, sizeof numbers), *to = device->allocate(device, sizeof numbers);
        device->upload(device, from, numbers, sizeof numbers);
        kernel.run(kernel.state, y->producer, (void *[]){from, from}, &to, NULL);
        assert_ok(device->download(device, doubled[i], to, sizeof numbers));
        if (kernel.destroy) kernel.destroy(kernel.state);
        device->release(device, from);
        device->release(device, to);
        for (int k = 0; k < 6; k++)
            assert_true(doubled[i][k] == 2 * numbers[k]);
    }
    sp_builder_destroy(b);
}

static void one_residence_for_all(void **state)
{
    (void)state;
    sp_device *device = tagged_device();
    sp_weights *weights = make_weights();
    sp_residence *first, *second, *other;
    void *here, *there;
    assert_ok(sp_residence_hold(device, weights, &first));
    assert_ok(sp_residence_hold(device, weights, &second));
    assert_ok(sp_residence_hold(deferred_device(), weights, &other));
    assert_ptr_equal(first, second);
    assert_ptr_not_equal(first, other);
    assert_ok(sp_residence_place(first, "w", &here));
    sp_residence_release(first);
    assert_ok(sp_residence_place(second, "w", &there));
    assert_ptr_equal(here, there);
    device->zero(device, here, OUT * IN * sizeof(float));
    const float *w = sp_weights_find(weights, "w")->data;
    assert_true(w[0] != 0);
    assert_ok(sp_residence_fetch(second));
    assert_true(w[0] == 0 && w[OUT * IN - 1] == 0);
    sp_residence_release(second);
    sp_residence_release(other);
    assert_ok(sp_residence_hold(sp_cpu_device(), weights, &first));
    assert_ok(sp_residence_place(first, "w", &here));
    assert_ptr_equal(here, w); /* where it lies */
    sp_residence_release(first);
    sp_weights_destroy(weights);
}

/* Work that fails is told by who waits, once. */
static void failures_are_told_late(void **state)
{
    (void)state;
    sp_weights *weights = make_weights();
    running r = start(deferred_device(), weights);
    sp_tensor y;
    fail_deferred_work("a launch failed");
    assert_status(execute(&r, &y), SP_INTERNAL);
    assert_message("device deferred: a launch failed");
    assert_null(y.data);
    assert_ok(deferred_device()->finish(deferred_device()));
    stop(&r);
    sp_weights_destroy(weights);
}

/* What all of this is for: a host that reads a device's address does not get far. */
static void a_host_dereference_faults(void **state)
{
    (void)state;
    sp_device *device = tagged_device();
    volatile float *address = device->allocate(device, sizeof *address);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        signal(SIGSEGV, SIG_DFL);
        _exit(address[0] == 0);
    }
    int code;
    assert_int_equal(waitpid(child, &code, 0), child);
    assert_true(WIFSIGNALED(code) && WTERMSIG(code) == SIGSEGV);
    device->release(device, (void *)address);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(by_name),
        cmocka_unit_test(is_complete),
        cmocka_unit_test(same_bits_as_the_cpu),
        cmocka_unit_test(reference_by_copies),
        cmocka_unit_test(one_residence_for_all),
        cmocka_unit_test(failures_are_told_late),
        cmocka_unit_test(a_host_dereference_faults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
