/* Files of named tensors: safetensors, what torch.save writes (.ckpt, .bin, .pt), and GGUF. Read
 * memory-mapped; the bytes are taken as hostile. */
#ifndef SP_FORMATS_TENSOR_FILE_H
#define SP_FORMATS_TENSOR_FILE_H
#include "base/hash.h"
#include "base/progress.h"
#include "base/status.h"
#include "tensor/tensor.h"

/* A read-only set of named tensors: one file, or all shards of a folder. Tensors point into the
 * mapping, or to copies where the file does not align them for their dtype or does not keep them
 * contiguous. */
typedef struct sp_tensor_file sp_tensor_file;
/* Opens a file of any of the formats, which its first bytes tell. SP_IO; SP_FORMAT for bytes that
 * do not follow the format; SP_UNSUPPORTED for a dtype that there is no sp_dtype for, or a
 * compressed archive; SP_MEMORY. */
sp_status sp_tensor_file_open(const char *path, sp_tensor_file **out);
/* A component folder: `base`.safetensors, or `base`.safetensors.index.json with its shards, e.g.
 * base = "diffusion_pytorch_model" or "model"; if there is neither, the same with `torch_base` and
 * ".bin" (NULL: none). A variant such as `base`.fp16.safetensors is taken if it is the only one. */
sp_status sp_tensor_file_open_folder(const char *folder, const char *base, const char *torch_base,
                                     sp_tensor_file **out);
void sp_tensor_file_close(sp_tensor_file *file); /* NULL is legal */
size_t sp_tensor_file_count(const sp_tensor_file *file);
const char *sp_tensor_file_name(const sp_tensor_file *file, size_t index); /* in file order */
const sp_tensor *sp_tensor_file_at(const sp_tensor_file *file, size_t index);
const sp_tensor *sp_tensor_file_find(const sp_tensor_file *file,
                                     const char *name); /* NULL when absent */
/* SP_FORMAT naming the file when absent. */
sp_status sp_tensor_file_get(const sp_tensor_file *file, const char *name, const sp_tensor **out);
/* A safetensors file's "__metadata__" entry, or a number or text beside a checkpoint's weights
 * ("global_step"), as text; NULL when absent. */
const char *sp_tensor_file_metadata(const sp_tensor_file *file, const char *key);
const char *sp_tensor_file_path(const sp_tensor_file *file);
const char *sp_tensor_file_format(const sp_tensor_file *file); /* "safetensors", ... */
/* SP_IO, naming the file, if one became shorter since it was opened, which then reads as zeros: asked before what
 * was computed from the tensors is kept or saved. See sp_mapped_file_check. */
sp_status sp_tensor_file_check(const sp_tensor_file *file);
/* Which tensors these are, by names, types, shapes and the first 4,096 bytes of each (sp_tensor_hash): a model that was
 * trained on has others, one of which a part was changed by hand may not. */
uint64_t sp_tensor_file_hash(const sp_tensor_file *file);
/* Size and time of the last change of each of its files as they were opened, "1234@1700000000000000000 ...": a new
 * text (sp_free), NULL without memory. */
char *sp_tensor_file_stamp(const sp_tensor_file *file);
/* XXH3 of all bytes of its files, which are read for it: a second for some gigabytes in memory. */
sp_status sp_tensor_file_sum(const sp_tensor_file *file, const sp_callbacks *callbacks, uint64_t *out);
/* SHA-256 of the bytes of its files, one after the other as an index names them. */
sp_status sp_tensor_file_sha256(const sp_tensor_file *file, char out[SP_SHA256_TEXT]);
/* Lets the kernel drop the mapped pages behind one tensor (after packing it). */
void sp_tensor_file_drop(const sp_tensor_file *file, const sp_tensor *tensor);

#endif
