/* numpy's .npz: a zip archive of arrays, stored or deflated, as statistics of features are exchanged. */
#ifndef SP_FORMATS_NPZ_H
#define SP_FORMATS_NPZ_H
#include "formats/safetensors.h"

/* Reads the arrays of these names: out[i] new, or zeroed where there is none of names[i]; other arrays are passed over.
 * Arrays are in C order, of '<f8', '<f4' or '|u1'. SP_IO; SP_FORMAT for what is no such archive, is damaged or
 * truncated; SP_UNSUPPORTED for another type or order; SP_MEMORY. On failure nothing is left in `out`. */
sp_status sp_npz_load(const char *path, const char *const *names, size_t count, sp_tensor *out);
/* The same of a .npy file, which is one array. */
sp_status sp_npy_load(const char *path, sp_tensor *out);
/* Writes F64, F32 and U8 tensors, deflated; atomic. The bytes follow from the tensors alone. */
sp_status sp_npz_save(const char *path, const sp_named_tensor *tensors, size_t count);

#endif
