/* Stable Diffusion 3's transformer in a checkpoint of one file, under the names of Stability's own program or under
 * diffusers'. Within src/checkpoints. */
#ifndef SP_CHECKPOINTS_ORIGINAL_MMDIT_H
#define SP_CHECKPOINTS_ORIGINAL_MMDIT_H
#include "checkpoints/component.h"

/* What a parameter of the graph is in such a file. Queries, keys and values lie below each other in one tensor
 * ("x_block.attn.qkv."), of which a parameter is third `part` of `parts`, which is 1 of all others. Where the graph has
 * scale before shift (norm_out and the text's norm in the last block) the file has the halves the other way. */
typedef struct {
    char name[128]; /* without the prefix, "joint_blocks.3.x_block.attn.qkv.weight" */
    int part, parts;
    bool swapped;
} sp_original_mmdit;
/* `name` is a parameter's of a transformer with that many blocks; false if it has no name there. */
bool sp_original_mmdit_of(const char *name, int64_t blocks, sp_original_mmdit *out);

/* The file has a transformer, by tensors at both ends: in a whole checkpoint ("model.diffusion_model."), or in a file
 * that is one alone, without prefix or under diffusers' names. */
bool sp_original_has_mmdit(const sp_tensor_file *file);
/* Its config.json (json_decref), told by names and shapes: heads are as wide as their norms, or else have 64 channels;
 * the size of latents is 128, or what positions there are for. SP_FORMAT naming the tensor that is missing or does not
 * fit. */
sp_status sp_original_mmdit_config(const sp_tensor_file *file, json_t **out);
/* Adds its tensors under the names of the graph; what the graph has no use for stays under its own name. SP_FORMAT if a
 * tensor cannot be cut. */
sp_status sp_add_original_mmdit(sp_weights *weights, const sp_tensor_file *file);
/* Adds the tensors of a transformer under original names, with "model.diffusion_model.". */
sp_status sp_original_mmdit_write(sp_weights *out, const sp_component *transformer);

#endif
