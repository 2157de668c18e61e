/* Parallel loops over one OpenMP pool. Splitting depends on the thread count, so a loop's result
 * must not depend on how its range is split. */
#ifndef SP_BASE_PARALLEL_H
#define SP_BASE_PARALLEL_H
#include <stdbool.h>
#include <stdint.h>

typedef void sp_range_function(void *context, int64_t begin, int64_t end);

/* Calls body on disjoint ranges that cover 0..count-1; ranges are multiples of `grain` (but the
 * last); a loop of at most `grain` items runs on the calling thread. Nested calls run in the
 * calling thread. */
void sp_parallel_for(int64_t count, int64_t grain, sp_range_function *body, void *context);

void sp_set_threads(int count); /* process-wide; 0: one per physical core available to it */
int sp_threads(void);
/* Before each call into a library that computes with OpenMP (oneDNN, OpenBLAS): gives it
 * sp_threads() threads, or fewer where the process may not have addresses for them (said once),
 * started here. OpenMP keeps that number for every thread of the process by itself, so
 * what one thread sets no other hears of. */
void sp_library_threads(void);
bool sp_threads_chosen(void); /* whether a number other than 0 was set */

#endif
