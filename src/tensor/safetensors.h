/* safetensors: 8-byte little-endian header length, JSON header, data. Read memory-mapped, written
 * beside and renamed. Hostile headers (overlaps, gaps, overflow, bad JSON, wrong sizes, duplicate
 * names) are SP_FORMAT, never a crash. */
#ifndef SP_TENSOR_SAFETENSORS_H
#define SP_TENSOR_SAFETENSORS_H
#include "base/status.h"
#include "tensor/tensor.h"

/* A read-only set of named tensors: one file, or all shards of a folder. Tensors point into the
 * mapping, or to copies where the file does not align them for their dtype. */
typedef struct sp_tensor_file sp_tensor_file;
sp_status sp_safetensors_open(const char *path, sp_tensor_file **out);
/* A component folder: `base`.safetensors, or `base`.safetensors.index.json with its shards, e.g.
 * base = "diffusion_pytorch_model" or "model". A variant such as `base`.fp16.safetensors is taken
 * if it is the only one. */
sp_status sp_safetensors_open_folder(const char *folder, const char *base, sp_tensor_file **out);
void sp_tensor_file_close(sp_tensor_file *file);
size_t sp_tensor_file_count(const sp_tensor_file *file);
const char *sp_tensor_file_name(const sp_tensor_file *file, size_t index); /* in file order */
const sp_tensor *sp_tensor_file_at(const sp_tensor_file *file, size_t index);
const sp_tensor *sp_tensor_file_find(const sp_tensor_file *file,
                                     const char *name); /* NULL when absent */
/* SP_FORMAT naming the file when absent. */
sp_status sp_tensor_file_get(const sp_tensor_file *file, const char *name, const sp_tensor **out);
const char *sp_tensor_file_metadata(const sp_tensor_file *file,
                                    const char *key); /* "__metadata__" entry or NULL */
const char *sp_tensor_file_path(const sp_tensor_file *file);
/* Lets the kernel drop the mapped pages behind one tensor (after packing it). */
void sp_tensor_file_drop(const sp_tensor_file *file, const sp_tensor *tensor);

/* Writing. Tensors are written in the order given; every one keeps its dtype. metadata: count
 * pairs, may be NULL/0. */
typedef struct {
    const char *name;
    const sp_tensor *tensor;
} sp_named_tensor;
sp_status sp_safetensors_save(const char *path, const sp_named_tensor *tensors, size_t count,
                              const char *const (*metadata)[2], size_t metadata_count);

#endif
