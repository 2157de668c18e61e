/* What a file or folder is, for people: what is said where a model was expected, and what `inspect` says. By the first
 * bytes (formats/magic.h), the names of tensors, and the names in a folder. */
#ifndef SP_CHECKPOINTS_RECOGNISE_H
#define SP_CHECKPOINTS_RECOGNISE_H
#include "checkpoints/model_folder.h"

/* What the file is, if it is something else than a checkpoint of Stable Diffusion for text to image: "a
 * LoRA", "a Stable Diffusion XL checkpoint", "an autoencoder (VAE)". NULL: such a checkpoint, or unknown. Static
 * text. */
const char *sp_recognise_tensors(const sp_tensor_file *file);

/* What the folder or file at `path` is; "" if that is not known. At most size - 1 bytes. */
void sp_recognise(const char *path, char *out, size_t size);

/* SP_OK if the model has these components (a list of SP_COMPONENT_COUNT); else SP_FORMAT or SP_UNSUPPORTED, saying what
 * it is and what is expected. */
sp_status sp_model_expect(const sp_model_folder *folder, const bool *needed);

#endif
