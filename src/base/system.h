/* What the machine has and the process takes. */
#ifndef SP_BASE_SYSTEM_H
#define SP_BASE_SYSTEM_H
#include <sched.h>
#include <stdbool.h>
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
/* Gives back to the system what the C library keeps of freed memory, some tens of MB: for who has just freed much and
 * is about to take as much elsewhere. */
void sp_return_freed_memory(void);

/* The processors that this process may run on; false: not known. Where OpenMP was asked to bind threads
 * (OMP_PROC_BIND, OMP_PLACES), it has bound the first one to a place of its own before main, and the system would say
 * that place alone; these are all places. */
bool sp_processors(cpu_set_t *out);

/* What is always left to libraries that do not survive a failed allocation, as oneDNN, which then writes its
 * code to address 0 or throws through C. */
#define SP_RESERVE_BYTES ((size_t)32 << 20)
/* Whether so many bytes could be had now; addresses alone (ulimit -v), or memory that is written to as well, where the
 * system counts that. Takes nothing. */
bool sp_has_addresses(size_t bytes);
bool sp_has_memory(size_t bytes);

/* "3.44 GB", "17.2 MB", "0.5 kB": powers of ten, in one of a few rotating buffers per thread. */
const char *sp_bytes_text(size_t bytes);

#endif
