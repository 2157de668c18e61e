/* T5's encoder from the files that it is published in, for Stable Diffusion 3 and 3.5. */
#ifndef SP_CHECKPOINTS_T5_FILE_H
#define SP_CHECKPOINTS_T5_FILE_H
#include "formats/weights.h"
#include "models/t5_text.h"

typedef struct {
    sp_tensor_file *file;
    sp_t5_config config;
    sp_weights *weights; /* views of the file, by the names of sp_t5_network */
    char *folder; /* that has its config.json; of a file alone the file's own path */
} sp_t5_file;

/* `path`: a model's folder with text_encoder_3/, such a folder itself, with config.json and model.safetensors or its
 * shards, or what a folder of a Hugging Face cache stands for; or a file, of T5 alone or with it under
 * "text_encoders.t5xxl.transformer.", whose shapes tell all but max_distance and epsilon, which are v1.1's. Weights of
 * any float type that tensors have, or quantised. Every parameter must be there with its shape: else SP_FORMAT or
 * SP_SHAPE naming file and tensor. SP_UNSUPPORTED: another class, T5 without a gate (before v1.1), scaled fp8. SP_IO,
 * SP_MEMORY. */
sp_status sp_t5_file_open(const char *path, sp_t5_file *out);
/* Weights of its linear layers become Q8_0 (sp_quantise_weights). */
sp_status sp_t5_file_quantise(sp_t5_file *t5);
void sp_t5_file_close(sp_t5_file *file); /* zeroed is legal; leaves it zeroed */

#endif
