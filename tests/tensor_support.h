/* For tests of what reads tensors out of files. */
#ifndef SP_TESTS_TENSOR_SUPPORT_H
#define SP_TESTS_TENSOR_SUPPORT_H
#include "support.h"
#include "formats/tensor_file.h"

/* Opens a file of tensors and, if that goes well, reads every byte of every tensor, so that a wrong place in it is seen
 * by a sanitizer or a fault. */
static inline sp_status read_every_byte(const char *path)
{
    sp_tensor_file *file;
    SP_TRY(sp_tensor_file_open(path, &file));
    volatile unsigned sum = 0;
    for (size_t i = 0; i < sp_tensor_file_count(file); i++) {
        const sp_tensor *tensor = sp_tensor_file_at(file, i);
        for (size_t k = 0; k < sp_tensor_bytes(tensor); k++) sum += ((const unsigned char *)tensor->data)[k];
    }
    sp_tensor_file_close(file);
    return SP_OK;
}

#endif
