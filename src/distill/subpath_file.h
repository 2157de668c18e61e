/* Where the teacher's sub-paths end, kept in a file. The teacher is most of a step where it takes several of its own in
 * a sub-path, and where they end does not depend on the student: runs that differ in objective, rate, average or gamma
 * alone, with the same teacher, data, seed, batch and sub-paths, have the teacher run once.
 *
 * "splam sub-paths 1\n", zeros up to byte 24, and I64 N, the values of a micro-batch; then for micro-batch 0, 1, ... of
 * a run, in places of their own: U64, the XXH3 of what the teacher was given, N values F32, and U64, the XXH3 of that
 * and of the place's number. A place that is not there, or not written whole, is not filled: the file may be cut off at
 * any byte, and two processes that write the same may do so at once. Little-endian. */
#ifndef SP_DISTILL_SUBPATH_FILE_H
#define SP_DISTILL_SUBPATH_FILE_H
#include "base/status.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct sp_subpath_file sp_subpath_file;
/* A file that is not there begins empty. SP_IO; SP_FORMAT for another kind of file; SP_SHAPE if a micro-batch has
 * another number of values there. *out is new. */
sp_status sp_subpath_file_open(const char *path, int64_t values, sp_subpath_file **out);
void sp_subpath_file_close(sp_subpath_file *file); /* NULL is legal */
/* *found: whether the place is filled, with values[N] then. SP_ARGUMENT if the teacher was given something else there:
 * the file is of another run. */
sp_status sp_subpath_file_read(sp_subpath_file *file, int64_t micro, uint64_t given, float *values, bool *found);
sp_status sp_subpath_file_write(sp_subpath_file *file, int64_t micro, uint64_t given, const float *values);

#endif
