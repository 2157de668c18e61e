/* What the readers of the file formats fill in; for src/tensor alone. */
#ifndef SP_FORMATS_TENSOR_FILE_PARTS_H
#define SP_FORMATS_TENSOR_FILE_PARTS_H
#include "base/file.h"
#include "base/memory.h"
#include "base/text.h"
#include "formats/tensor_file.h"

typedef struct {
    const char *name;
    sp_tensor tensor;
    size_t begin, end;   /* safetensors: bytes after the header */
    size_t header_order; /* keeps empty tensors, which share an offset, in the header's order */
} sp_file_entry;

struct sp_tensor_file {
    char *path;
    const char *format; /* of the first shard, static text */
    sp_arena *arena;    /* names, metadata, what had to be copied */
    sp_mapped_file *shards;
    size_t shard_count;
    sp_file_entry *entries; /* room for `capacity` */
    size_t count, capacity;
    sp_dictionary *by_name; /* name -> sp_file_entry */
    sp_dictionary *metadata; /* key -> text */
};

/* Each appends the tensors of one mapped file to file->entries, and its words to file->metadata. */
sp_status sp_safetensors_read(sp_tensor_file *file, const sp_mapped_file *shard);
sp_status sp_torch_read(sp_tensor_file *file, const sp_mapped_file *shard);
sp_status sp_gguf_read(sp_tensor_file *file, const sp_mapped_file *shard);
bool sp_gguf_is(const sp_mapped_file *shard);
/* True of what torch.save writes: a zip archive, or before PyTorch 1.6 a row of pickles. */
bool sp_torch_is_zip(const sp_mapped_file *shard);
bool sp_torch_is_legacy(const sp_mapped_file *shard);

/* Makes room for `count` more entries. */
sp_status sp_tensor_file_reserve(sp_tensor_file *file, size_t count);
/* Copies a mapped tensor into the arena if its elements lie across their alignment. */
sp_status sp_tensor_file_align(sp_tensor_file *file, sp_tensor *tensor);

#endif
