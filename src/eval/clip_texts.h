/* Vectors of texts by CLIP's text tower. */
#ifndef SP_EVAL_CLIP_TEXTS_H
#define SP_EVAL_CLIP_TEXTS_H
#include "base/progress.h"
#include "checkpoints/clip_file.h"
#include "graph/device.h"

/* Each text behind `prefix` (NULL: nothing), cut to as many tokens as the tower takes -> out [count,projection], F32,
 * new, not of unit length. Tokens are by CLIP's own vocabulary, which is built in, or for a tower of another
 * number of tokens by the tokenizer in the folder of its weights. SP_UNSUPPORTED where there is no text tower or no
 * such tokenizer, SP_MEMORY, SP_CANCELLED, SP_NUMERIC. */
sp_status sp_clip_texts(const sp_clip_file *clip, const char *prefix, const char *const *texts, int64_t count,
                        sp_device *device, const sp_callbacks *callbacks, sp_tensor *out);
/* Whether there are text tower and tokenizer, and vectors as long as those of pictures: SP_SHAPE, or as above. */
sp_status sp_clip_texts_check(const sp_clip_file *clip);

#endif
