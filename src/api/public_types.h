/* From the public types to the library's own. */
#ifndef SP_API_PUBLIC_TYPES_H
#define SP_API_PUBLIC_TYPES_H
#include "backend/precision.h"
#include "base/progress.h"
#include "data/dataset.h"
#include "options/options.h"
#include "splam/splam.h"
#include "checkpoints/lora.h"

/* NULL gives callbacks that do nothing. */
sp_callbacks sp_callbacks_or_none(const splam_callbacks *callbacks);
sp_dataset_options sp_picture_options_of(const splam_picture_options *options, uint64_t seed);
/* SP_ARGUMENT for a path that is missing or a weight that is not finite. */
sp_status sp_check_loras(const splam_lora *loras, size_t count);

#endif
