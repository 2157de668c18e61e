/* A weight set: named tensors of one model, either views into a mapped file or owned (trained)
 * memory; or such a tensor with changes (adapters), which is made when it is taken. */
#ifndef SP_FORMATS_WEIGHTS_H
#define SP_FORMATS_WEIGHTS_H
#include "formats/packed_file.h"
#include "formats/safetensors.h"

typedef struct sp_weights sp_weights;
sp_status sp_weights_create(sp_weights **out);
void sp_weights_destroy(sp_weights *weights); /* owned tensors too, not files; NULL is legal */
/* Views of all tensors of a file (which must outlive the set). */
sp_status sp_weights_add_file(sp_weights *weights, const sp_tensor_file *file);
/* Takes tensor (ownership of its data if tensor->owned, also on failure). A name already there is
 * replaced. */
sp_status sp_weights_add(sp_weights *weights, const char *name, sp_tensor tensor);
/* SP_INTERNAL if there is none of that name. */
sp_status sp_weights_remove(sp_weights *weights, const char *name);
/* An owned copy of every tensor, converted to dtype. Mapped pages that it read are dropped, see
 * sp_weights_drop. */
sp_status sp_weights_copy(const sp_weights *weights, sp_dtype dtype, sp_weights **out);
/* A change of a tensor: `apply` does it to its values as F32, in place. */
typedef struct {
    sp_status (*apply)(void *context, sp_tensor *weight);
    void (*release)(void *context); /* when the set is destroyed, or loses the tensor */
    void *context;
} sp_weight_change;
/* Changes tensor `name` after the changes that it has, and its dtype. It is in memory only where somebody takes it:
 * until then `data` is NULL, and what it is made of stays where it is. Takes the change, also on failure. SP_INTERNAL
 * if the tensor is not there, or is another set's. */
sp_status sp_weights_change(sp_weights *weights, const char *name, sp_dtype dtype, sp_weight_change change);
/* The tensor in another type, made like a change of it: without loss where Q8_0 is made of what sp_requantise takes. */
sp_status sp_weights_change_dtype(sp_weights *weights, const char *name, sp_dtype dtype);
bool sp_weights_is_changed(const sp_weights *weights, const char *name);
/* The tensor as it is used: a view, or a new one with its changes. sp_tensor_free either way. */
sp_status sp_weights_take(const sp_weights *weights, const char *name, sp_tensor *out);
/* A view of a tensor of another set, which must outlive this one, under the name `as`: with its changes. */
sp_status sp_weights_add_view(sp_weights *weights, const char *as, const sp_weights *from, const char *name);
/* Says which file views among the tensors lie in; NULL: none does. It must outlive the set.
 * sp_weights_add_file says so itself. */
void sp_weights_set_file(sp_weights *weights, const sp_tensor_file *file);
/* Lets the kernel take back the mapped pages of tensor `name`: the file holds them if they are read
 * again. Does nothing to a tensor that is absent, owned, or outside the set's file. */
void sp_weights_drop(const sp_weights *weights, const char *name);
/* sp_tensor_file_check of the set's file, if it has one, and of its packed weights. */
sp_status sp_weights_check(const sp_weights *weights);
/* Says that packed weights of the set may lie in files PREFIXpacked-SET-PRECISION.splam (formats/packed_file.h); they
 * are of the tensors that are still the file's. NULL: they do not. */
sp_status sp_weights_set_packed(sp_weights *weights, const char *prefix);
sp_packed_place *sp_weights_packed(const sp_weights *weights); /* NULL: nothing is said */
/* Whether the tensor is a view of the set's file, as all are that nobody has replaced. */
bool sp_weights_is_view(const sp_weights *weights, const char *name);
size_t sp_weights_count(const sp_weights *weights);
const char *sp_weights_name(const sp_weights *weights, size_t index); /* order of adding */
sp_tensor *sp_weights_at(const sp_weights *weights, size_t index);
/* What it is made of where it has changes or another type (sp_weights_change), else itself. */
const sp_tensor *sp_weights_stored(const sp_weights *weights, size_t index);
sp_tensor *sp_weights_find(const sp_weights *weights, const char *name); /* NULL when absent */
size_t sp_weights_bytes(const sp_weights *weights);
/* The dtype of `name` (F32 if absent); an sp_parameter_dtype for builders, context = the set. */
sp_dtype sp_weights_dtype(void *weights, const char *name);
/* F32, BF16, F16 and F8 tensors are stored as `dtype`, others as they are; one at a time is in memory. callbacks (may
 * be NULL) are asked between tensors and pieces of the file. */
sp_status sp_weights_save(const sp_weights *weights, const char *path, sp_dtype dtype,
                          const char *const (*metadata)[2], size_t metadata_count,
                          const sp_callbacks *callbacks);

#endif
