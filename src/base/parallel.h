/* Parallel loops over one OpenMP pool, and a record of how they are shared out. Splitting depends on the thread count,
 * so a loop's result must not depend on how its range is split. */
#ifndef SP_BASE_PARALLEL_H
#define SP_BASE_PARALLEL_H
#include <stdbool.h>
#include <stdint.h>

typedef void sp_range_function(void *context, int64_t begin, int64_t end);

/* Calls body on disjoint ranges that cover 0..count-1; ranges are multiples of `grain` (but the
 * last); a loop of at most `grain` items runs on the calling thread. Nested calls run in the
 * calling thread. */
void sp_parallel_for(int64_t count, int64_t grain, sp_range_function *body, void *context);

/* `items` pieces of independent work dealt to at most `slots` workers, each with its own scratch memory. Whoever is
 * done takes the next few: a processor that other programs use too keeps nobody waiting. */
typedef struct {
    int64_t items, slots;
    void (*work)(void *context, int64_t begin, int64_t end, int64_t slot);
    void *context;
    int64_t next, few; /* set by sp_slots_run */
} sp_slots;
void sp_slots_run(sp_slots *slots);

void sp_set_threads(int count); /* process-wide; 0: one per physical core available to it */
int sp_threads(void);
/* Before each call into a library that computes with OpenMP (oneDNN, OpenBLAS): gives it
 * sp_threads() threads, or fewer where the process may not have addresses for them (said once),
 * started here. OpenMP keeps that number for every thread of the process by itself, so
 * what one thread sets no other hears of. */
void sp_library_threads(void);
bool sp_threads_chosen(void); /* whether a number other than 0 was set */

/* How work is shared out among threads that need not be there. While a thread has a record, sp_threads() is `threads`
 * for it, and each of its loops is cut by the code above for so many, but runs in that thread alone, one share after
 * the other; of slots, shares are what equal items give workers of equal speed. Libraries get one thread, for their
 * split is theirs. Seconds are the processor time of that thread. Results are the same, as with any number. */
typedef struct {
    int threads;
    int64_t loops;    /* of work, so far */
    double seconds;   /* that all shares of these loops took */
    double longest;   /* the same of the loop that took longest */
    int64_t items;    /* of that loop */
    double share;     /* that a thread has of that loop's items at most: 1 where it has all */
    double critical;  /* sum over loops of seconds times the largest share */
    bool library;     /* sp_library_threads was called */
} sp_split_record;
void sp_record_splits(sp_split_record *record); /* of the calling thread from now on; NULL: none */
void sp_split_record_clear(sp_split_record *record); /* all but `threads` */
double sp_thread_seconds(void); /* processor time that the calling thread has used */

#endif
