/* Pictures through a network, a batch after the other. */
#ifndef SP_EVAL_EXTRACT_H
#define SP_EVAL_EXTRACT_H
#include "eval/extractor.h"
#include "eval/pictures.h"

typedef struct {
    const sp_extractor *extractor;
    const sp_preparation *preparation;
    sp_device *device;
    const sp_callbacks *callbacks;
} sp_extraction;

/* out[k] [count,width]: feature k of each picture, which is decoded plainly (sp_image_decode_plain). One that cannot be
 * read is an error naming it. Activations are f32. SP_IO, SP_FORMAT, SP_MEMORY, SP_CANCELLED, SP_NUMERIC for features
 * that are not finite. */
sp_status sp_extract(const sp_extraction *e, const sp_pictures *pictures, sp_tensor out[SP_FEATURES_MOST]);

#endif
