/* Names of checkpoint tensors: from every form that is about to the one that the graphs use, and
 * back. */
#ifndef SP_CHECKPOINTS_RENAME_H
#define SP_CHECKPOINTS_RENAME_H
#include "checkpoints/component.h"

/* Adds views of the file's tensors to `weights` under the names of the graphs of that kind:
 *   text encoder: without "text_model."; position_ids, a buffer of old versions, is left out
 *   VAE: attention query, key, value, proj_attn become to_q, to_k, to_v, to_out.0; a 1x1 kernel
 *        [C,C,1,1] there is seen as [C,C]
 * SP_FORMAT if two tensors come to the same name. */
sp_status sp_add_renamed(sp_weights *weights, const sp_tensor_file *file, sp_component_kind kind);

/* Views of a text encoder's weights under "text_model." names, which all versions of transformers
 * read. */
sp_status sp_add_prefixed(const sp_weights *weights, sp_weights **out);

#endif
