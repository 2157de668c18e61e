/* Outputs: found out before the work whether they can be written, and kept from two runs at once. */
#ifndef SP_BASE_OUTPUT_H
#define SP_BASE_OUTPUT_H
#include <stdbool.h>
#include <stddef.h>
#include "base/status.h"

/* Whether sp_atomic_open, after sp_make_parent, could write a file at `path`: folders that it lies
 * in are made and its temporary file is tried; all that is taken away again. SP_IO with the reason;
 * SP_ARGUMENT for "-", which is not standard output here. */
sp_status sp_check_output_file(const char *path);
/* The same of files in the folder `path`, which need not be there: of each of `names`, a list that
 * NULL ends, or, if that is NULL, of any. */
sp_status sp_check_output_folder(const char *path, const char *const *names);
/* Whether standard output takes anything: SP_IO if it is closed or its device is full. */
sp_status sp_check_stdout(void);

/* Makes the folders that `path` lies in. */
sp_status sp_make_parent(const char *path);

/* A run's hold on what it writes. The lock is flock's: it ends with the process, so a run that was
 * killed is in nobody's way. A folder is locked itself; for a file, PATH.lock beside
 * it, which sp_claim_end removes. */
typedef struct {
    bool held;
    int descriptor; /* -1: the file system has no locks */
    char *path;     /* of the folder or the file */
    char *lock;     /* PATH.lock; NULL: the folder's own descriptor */
    size_t kept;    /* length of the part of `path` that was there before */
} sp_claim;
/* Checks the output as above, makes the folders and locks it. SP_IO, naming path and process, if
 * another run holds it. A file system without locks is a warning. */
sp_status sp_claim_folder(const char *path, const char *const *names, sp_claim *out);
sp_status sp_claim_file(const char *path, sp_claim *out);
/* Lets go. Folders that were made for the claim and are still empty are removed. A zeroed claim is
 * legal. */
void sp_claim_end(sp_claim *claim);
/* In a copy of the process (fork): the copy keeps no hold on it, the process does. NULL is legal. */
void sp_claim_leave(const sp_claim *claim);

#endif
