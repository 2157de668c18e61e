/* safetensors: 8-byte little-endian header length, JSON header, data. Read memory-mapped, written
 * beside and renamed. Hostile headers (overlaps, gaps, overflow, bad JSON, wrong sizes, duplicate
 * names) are SP_FORMAT, never a crash. */
#ifndef SP_FORMATS_SAFETENSORS_H
#define SP_FORMATS_SAFETENSORS_H
#include "base/file.h"
#include "formats/tensor_file.h"

/* Opens a file that must be safetensors, as inputs and recorded draws are. */
sp_status sp_safetensors_open(const char *path, sp_tensor_file **out);

/* Writing. Tensors are written in the order given; every one keeps its dtype. metadata: count
 * pairs, may be NULL/0. */
typedef struct {
    const char *name;
    const sp_tensor *tensor;
} sp_named_tensor;
sp_status sp_safetensors_save(const char *path, const sp_named_tensor *tensors, size_t count,
                              const char *const (*metadata)[2], size_t metadata_count);
/* The same; `watch` is told of every piece of the file as it is written. */
sp_status sp_safetensors_save_watched(const char *path, const sp_named_tensor *tensors,
                                      size_t count, const char *const (*metadata)[2],
                                      size_t metadata_count, const sp_write_watch *watch);
/* Gives the tensors of a file one after the other, each as the list describes it; sp_tensor_free. */
typedef struct {
    sp_status (*next)(void *context, size_t index, sp_tensor *out);
    void *context;
} sp_tensor_source;
/* The same with tensors, in the list without data, that are asked for as they are written. */
sp_status sp_safetensors_save_from(const char *path, const sp_named_tensor *tensors, size_t count,
                                   const char *const (*metadata)[2], size_t metadata_count,
                                   const sp_tensor_source *source, const sp_write_watch *watch);
/* The same with the first tensor at a multiple of `unit` bytes in the file, elsewhere SP_ALIGNMENT. */
sp_status sp_safetensors_save_at(const char *path, const sp_named_tensor *tensors, size_t count,
                                 const char *const (*metadata)[2], size_t metadata_count, size_t unit,
                                 const sp_write_watch *watch);

#endif
