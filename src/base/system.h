/* What the machine has and the process takes. */
#ifndef SP_BASE_SYSTEM_H
#define SP_BASE_SYSTEM_H
#include <stddef.h>
#include <stdint.h>

/* Bytes of an entry such as "VmRSS" in /proc/self/status or "MemAvailable" in /proc/meminfo, which
 * are in kB there; -1: there is none. */
int64_t sp_proc_bytes(const char *path, const char *key);
/* Bytes that can be taken without swapping: what is free or can be freed, or less where a control
 * group (a container) allows less; -1: not known. */
int64_t sp_available_memory(void);
/* Bytes of memory that the process has now; -1: not known. */
int64_t sp_resident_memory(void);

/* "3.44 GB", "17.2 MB", "0.5 kB": powers of ten, in one of a few rotating buffers per thread. */
const char *sp_bytes_text(size_t bytes);

#endif
