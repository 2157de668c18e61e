/* From the public types to the library's own. */
#ifndef SP_API_CONVERT_H
#define SP_API_CONVERT_H
#include "base/progress.h"
#include "data/dataset.h"
#include "splam/splam.h"
#include "checkpoints/lora.h"

/* NULL gives callbacks that do nothing. */
sp_callbacks sp_own_callbacks(const splam_callbacks *callbacks);
sp_dataset_options sp_picture_options_of(const splam_picture_options *options, uint64_t seed);
/* SP_F32 or SP_BF16. */
sp_dtype sp_storage_of(splam_precision precision);
/* SP_ARGUMENT for a path that is missing or a weight that is not finite. */
sp_status sp_check_loras(const splam_lora *loras, size_t count);

#endif
