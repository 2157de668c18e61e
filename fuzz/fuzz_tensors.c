/* Files of tensors: safetensors, GGUF, PyTorch's zip and its older form, npz, npy, and pickles alone. The input is a
 * file's bytes; every tensor that is found is read to its last byte. */
#include "formats/npz.h"
#include "formats/pickle.h"
#include "formats/tensor_file.h"
#include "fuzz/fuzz.h"

static unsigned sum_of(const sp_tensor *tensor)
{
    unsigned sum = 0;
    for (size_t k = 0; tensor->data && k < sp_tensor_bytes(tensor); k++)
        sum += ((const unsigned char *)tensor->data)[k];
    return sum;
}

/* Blocks of few bits as numbers and as Q8_0. */
static void decode(const sp_tensor *tensor)
{
    sp_tensor out;
    if (!sp_dtype_is_quantised(tensor->dtype)) return;
    for (int i = 0; i < 2; i++)
        if (sp_tensor_convert(tensor, i ? SP_Q8_0 : SP_F32, &out) == SP_OK) sp_tensor_free(&out);
}

static void read_tensors(const char *path)
{
    sp_tensor_file *file;
    volatile unsigned sum = 0;
    if (sp_tensor_file_open(path, &file) != SP_OK) return;
    for (size_t i = 0; i < sp_tensor_file_count(file); i++) {
        sum += sum_of(sp_tensor_file_at(file, i));
        decode(sp_tensor_file_at(file, i));
    }
    sp_tensor_file_close(file);
}

static void read_arrays(const char *path)
{
    static const char *const names[] = {"mu", "sigma"};
    sp_tensor arrays[2];
    volatile unsigned sum = 0;
    if (sp_npz_load(path, names, 2, arrays) == SP_OK)
        for (int i = 0; i < 2; i++) {
            sum += sum_of(&arrays[i]);
            sp_tensor_free(&arrays[i]);
        }
    if (sp_npy_load(path, arrays) != SP_OK) return;
    sum += sum_of(arrays);
    sp_tensor_free(arrays);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    sp_pickle *pickle;
    const char *path = fuzz_file(data, size);
    read_tensors(path);
    read_arrays(path);
    if (sp_pickle_read(data, size, "input", NULL, &pickle) == SP_OK) sp_pickle_destroy(pickle);
    return 0;
}
