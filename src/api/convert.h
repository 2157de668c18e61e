/* From the public types to the library's own. */
#ifndef SP_API_CONVERT_H
#define SP_API_CONVERT_H
#include "backend/storage.h"
#include "base/progress.h"
#include "data/dataset.h"
#include "options/options.h"
#include "splam/splam.h"
#include "checkpoints/lora.h"

/* NULL gives callbacks that do nothing. */
sp_callbacks sp_own_callbacks(const splam_callbacks *callbacks);
sp_dataset_options sp_picture_options_of(const splam_picture_options *options, uint64_t seed);
/* SP_ARGUMENT for a path that is missing or a weight that is not finite. */
sp_status sp_check_loras(const splam_lora *loras, size_t count);

#endif
