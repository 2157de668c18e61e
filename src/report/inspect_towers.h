/* What `inspect` says of weights of CLIP and DINOv2. */
#ifndef SP_REPORT_INSPECT_TOWERS_H
#define SP_REPORT_INSPECT_TOWERS_H
#include "base/text.h"
#include "formats/tensor_file.h"

/* Lines on the architecture, or on why it cannot be used; nothing for a file of another thing. SP_MEMORY. */
sp_status sp_inspect_tower(const sp_tensor_file *file, sp_string *out);

#endif
