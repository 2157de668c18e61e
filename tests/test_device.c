/* Devices: by name, their memory, and what is asked of them out of the order of calls. */
#include "support.h"
#include "backend/cpu/cpu.h"
#include "backend/host/host.h"
#include "backend/registry.h"

static void by_name(void **state)
{
    (void)state;
    sp_device *device;
    assert_ok(sp_device_of(NULL, &device));
    assert_ptr_equal(device, sp_cpu_device());
    assert_ok(sp_device_of("cpu", &device));
    assert_ptr_equal(device, sp_cpu_device());
    assert_status(sp_device_of("cuda:0", &device), SP_UNSUPPORTED);
    assert_message("\"cuda:0\": this splam is built without CUDA");
    assert_null(device);
    assert_status(sp_device_of("reference", &device), SP_ARGUMENT);
    assert_message("there is no device \"reference\"; choose cpu");
    assert_status(sp_device_of("", &device), SP_ARGUMENT);
}

static void is_complete(void **state)
{
    (void)state;
    sp_device *devices[] = {sp_cpu_device(), sp_reference_device()};
    for (int i = 0; i < 2; i++) {
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(by_name),
        cmocka_unit_test(is_complete),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
