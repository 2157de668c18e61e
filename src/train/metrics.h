/* metrics.jsonl: one JSON object per line and training step. */
#ifndef SP_TRAIN_METRICS_H
#define SP_TRAIN_METRICS_H
#include <stdio.h>
#include "base/json.h"

/* Opens output/metrics.jsonl for appending after dropping every line whose "step" is beyond
 * last_step. */
sp_status sp_metrics_open(const char *output, int64_t last_step, FILE **out);
/* Writes and flushes one line; takes the object. */
sp_status sp_metrics_write(FILE *file, json_t *object);
/* Forces to the disk what was written: before a checkpoint, or steps that it has might have no lines after a power
 * cut. SP_IO. */
sp_status sp_metrics_force(FILE *file);

#endif
