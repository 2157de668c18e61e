/* Progress of long work, and the way to stop it. The library reports through callbacks; the bar is
 * one of them. */
#ifndef SP_BASE_PROGRESS_H
#define SP_BASE_PROGRESS_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/status.h"

/* Given to every long call; a NULL pointer is legal too. */
typedef splam_callbacks sp_callbacks;
void sp_report(const sp_callbacks *callbacks, const char *task, int64_t done, int64_t total,
               const char *detail);
sp_status sp_check_cancelled(const sp_callbacks *callbacks); /* SP_OK or SP_CANCELLED */

/* The bar on stderr: on a terminal one line redrawn (task, bar, done/total, rate, detail, time
 * left); elsewhere a plain line every few seconds and at the end. Use sp_progress_report as
 * callbacks.report with an sp_progress as context. */
typedef struct {
    bool terminal;
    double started, last_shown; /* seconds */
    int64_t first; /* `done` at the first report of this task, so that a resumed run shows its own
                      rate */
    char task[64];
} sp_progress;
void sp_progress_init(sp_progress *progress);
void sp_progress_report(void *progress, const char *task, int64_t done, int64_t total,
                        const char *detail);

/* "12s", "3m05s", "2h07m", cut to `size`. */
void sp_duration_text(double seconds, char *out, size_t size);

double sp_now(void);       /* seconds, monotonic */
int64_t sp_peak_rss(void); /* bytes, of this process so far */
/* Ctrl-C and SIGTERM set a flag (a second one kills); true once asked to stop. */
void sp_install_interrupt(void);
bool sp_interrupted(void *unused);

#endif
