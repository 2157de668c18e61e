/* One component run once, from named tensors to named tensors in diffusers' names and layouts
 * (NCHW). */
#ifndef SP_PIPELINE_FORWARD_H
#define SP_PIPELINE_FORWARD_H
#include "graph/device.h"
#include "formats/safetensors.h"
#include "models/network.h"
#include "pipeline/model.h"
#include "pipeline/plans.h"
#include <splam/model.h>

typedef struct {
    int count;
    struct {
        const char *name; /* a constant */
        sp_tensor tensor; /* owned, f32 */
    } item[SP_MAX_PORTS];
} sp_named_outputs;
void sp_named_outputs_free(sp_named_outputs *outputs); /* zeroed is legal */

/* The folder of what `forward` calls a component: of "vae-decoder" it is "vae"; NULL if there is none of the name. */
const char *sp_forward_folder(const char *name);
/* component, inputs -> outputs:
 *   unet          sample [N,C,H,W], timestep [N] (whole or float), encoder_hidden_states [N,L,D],
 *                 optional timestep_cond [N,dim] (absent: cond_proj is skipped) -> sample
 *   vae-encoder   image [N,3,H,W] -> mean, logvar (a tiny VAE: mean)
 *   vae-decoder   latent [N,c,h,w], already divided by the scaling factor -> image
 *   text-encoder  input_ids [N,L] -> last_hidden_state
 *   text-encoder-2  input_ids [N,L], end_rows [N] -> last_hidden_state, text_embeds; end_rows[n] = n L + the place of
 *                 the end token in row n
 * `path` is a model folder or the component's own. precision: SP_F32 or SP_BF16. A missing or extra
 * tensor, a wrong shape, type or token id is one sentence naming the tensor. On failure `out` holds
 * nothing. */
sp_status sp_component_forward(const char *path, const char *component,
                               const sp_tensor_file *inputs, sp_dtype precision,
                               sp_device *device, sp_named_outputs *out);

/* The same from file to file: as splam_forward, of options that are checked. */
sp_status sp_forward_files(const splam_forward_options *options);

/* The same of an opened model and the tensors named, with the plans that are kept. */
sp_status sp_model_forward(const sp_model *model, sp_plans *plans, const char *component, const sp_named_tensor *inputs,
                           size_t count, const sp_callbacks *callbacks, sp_named_outputs *out);

#endif
