/* Where a model lies: folders of a Hugging Face cache stand for the snapshot in them. */
#ifndef SP_CHECKPOINTS_MODEL_PATH_H
#define SP_CHECKPOINTS_MODEL_PATH_H
#include "base/status.h"

/* The file or folder that `path` means, new (sp_free): of a cache's repository folder, models--ORG--NAME, that is
 * snapshots/HASH, HASH being what refs/main says or, without it, the only one; of a cache (or of the folder that has it
 * as "hub") its only such repository; of anything else `path` itself, whether it is there or not. SP_ARGUMENT, naming
 * them, where there are several; SP_FORMAT or SP_IO where a snapshot is not what refs/main says. */
sp_status sp_model_path(const char *path, char **out);
/* That with "/NAME" behind it. */
sp_status sp_model_file(const char *path, const char *name, char **out);

#endif
