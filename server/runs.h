/* Distillations that are watched: what `splam distill` writes into its output folders (docs/formats.md), read as it
 * grows. Whoever writes there may be anyone: files have to be plain ones, of bounded sizes and lines, and what is no
 * number in them is nothing. */
#ifndef SERVER_RUNS_H
#define SERVER_RUNS_H
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct sv_runs sv_runs;
/* The folders need not be there yet. NULL: out of memory. The texts are needed until sv_runs_free. */
sv_runs *sv_runs_create(const char *const *folders, size_t count);
void sv_runs_free(sv_runs *runs); /* after all threads; NULL is legal */
/* Reads what is new, of each folder so much at most; whoever does so is one thread. */
void sv_runs_read(sv_runs *runs);

/* ---- any thread; nothing here reads more than a folder's entry ---- */

size_t sv_runs_count(const sv_runs *runs);
/* [{"id", "name", "state" (absent, running, stopped, finished), "step", "max_train_steps", "loss", "steps_per_second",
 * "seconds_left", "peak_rss_bytes", "silent_seconds", "sheets": [STEP...], "checkpoints": [STEP...], "settings"}...];
 * what is not known is null. New; NULL: out of memory. */
json_t *sv_runs_list(sv_runs *runs);
/* One of them with "series": {"step": [...], "loss": [...], ...}, of each as many numbers or null, at most
 * SV_RUN_POINTS. NULL: there is none of that number, or no memory. */
json_t *sv_runs_at(sv_runs *runs, size_t i);
/* The validation sheet of a step, opened for reading, a PNG of *size bytes. -1: there is none. */
int sv_runs_open_sheet(const sv_runs *runs, size_t i, int64_t step, size_t *size);

enum { SV_RUN_POINTS = 1000 };

#endif
