/* Outputs: found out before the work whether they can be written, and kept from two runs at once. */
#ifndef SP_BASE_OUTPUT_H
#define SP_BASE_OUTPUT_H
#include "base/status.h"

/* Whether sp_atomic_open, after sp_make_parent, could write a file at `path`: folders that it lies
 * in are made and its temporary file is tried; all that is taken away again. SP_IO with the reason;
 * SP_ARGUMENT for "-", which is not standard output here. */
sp_status sp_check_output_file(const char *path);
/* The same of a file `name` in the folder `path`, which may not be there yet. name NULL: of any. */
sp_status sp_check_output_in(const char *path, const char *name);
/* Whether standard output takes anything: SP_IO if it is closed or its device is full. */
sp_status sp_check_stdout(void);

/* Makes the folders that `path` lies in. */
sp_status sp_make_parent(const char *path);

#endif
