/* Names of shards from a pattern: braces as a shell expands them, then wildcards. */
#ifndef SP_DATA_SHARD_NAMES_H
#define SP_DATA_SHARD_NAMES_H
#include <stddef.h>
#include "base/status.h"

/* {00000..00012} counts with as many digits, {a,b} alternates, and both nest; * ? [...] stand for
 * files that exist, sorted. What has no wildcard is named whether it exists or not, so that an
 * absent shard is seen. *names: sp_free each and the array. SP_ARGUMENT for braces that do not
 * match, for more than a million names, and if there is none. */
sp_status sp_shard_names(const char *pattern, char ***names, size_t *count);

#endif
