/* Files of packed weights that are not as they were written. */
#ifndef SP_TESTS_PACKED_SUPPORT_H
#define SP_TESTS_PACKED_SUPPORT_H
#include "support.h"
#include "base/text.h"
#include "formats/packed_file.h"
#include "formats/safetensors.h"

/* Writes the file anew with another value of one key of its metadata (NULL: none), and one tensor's place taken by
 * another, or under another name. */
static inline void save_changed(const char *path, const char *key, const char *value, size_t tensor,
                                const sp_tensor *other, const char *other_name)
{
    static const char *const keys[] = {"format",       "instruction_set", "onednn",     "kernels",
                                       "source_stamp", "source_hash",     "source_xxh3"};
    enum { KEYS = sizeof keys / sizeof *keys };
    const char *metadata[KEYS][2];
    sp_tensor_file *file;
    assert_ok(sp_safetensors_open(path, &file));
    size_t count = sp_tensor_file_count(file), said = 0;
    sp_named_tensor *list = sp_alloc(count * sizeof *list);
    for (size_t i = 0; i < count; i++)
        list[i] = (sp_named_tensor){sp_tensor_file_name(file, i), sp_tensor_file_at(file, i)};
    if (other) list[tensor].tensor = other;
    if (other_name) list[tensor].name = other_name;
    for (int i = 0; i < KEYS; i++) {
        bool changed = key && strcmp(keys[i], key) == 0;
        metadata[said][0] = keys[i];
        metadata[said][1] = changed ? value : sp_tensor_file_metadata(file, keys[i]);
        said += metadata[said][1] != NULL;
    }
    assert_ok(sp_safetensors_save(path, list, count, (const char *const (*)[2])metadata, said));
    sp_free(list);
    sp_tensor_file_close(file);
}

/* The first tensor that is no padding. */
static inline size_t a_weight(const char *path, sp_tensor *out, char name[256])
{
    sp_tensor_file *file;
    assert_ok(sp_safetensors_open(path, &file));
    size_t i = 0;
    while (sp_starts_with(sp_tensor_file_name(file, i), "padding:"))
        i++;
    snprintf(name, 256, "%s", sp_tensor_file_name(file, i));
    assert_ok(sp_tensor_create(SP_U8, sp_tensor_file_at(file, i)->shape, out));
    sp_tensor_file_close(file);
    return i;
}

#endif
