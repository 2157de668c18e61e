/* The CPU behind addresses that nobody but a device may use: every address is a real one + 2^62, which no processor
 * takes. On the deferred one work runs only when somebody waits: in finish, download and elapsed.
 *
 * A program that this is linked into runs on the one that SPLAM_TEST_DEVICE names, "tagged" or "deferred", wherever
 * options name no device; SPLAM_TEST_CASES is a pattern of the cases to run, such as
 * "resumed_*", or after ! of those to leave out. */
#ifndef SP_TESTS_TAGGED_DEVICE_H
#define SP_TESTS_TAGGED_DEVICE_H
#include "graph/device.h"

sp_device *tagged_device(void);
sp_device *deferred_device(void);
/* The next work of the deferred device is not done, and told as this sentence. */
void fail_deferred_work(const char *sentence);

#endif
