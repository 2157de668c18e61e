/* Model folders as diffusers writes them, and their components: a config, a file of weights, and
 * the parameters that the graph built from the config asks for. */
#ifndef SP_CHECKPOINTS_COMPONENT_H
#define SP_CHECKPOINTS_COMPONENT_H
#include "graph/graph.h"
#include "models/clip_text.h"
#include "models/mmdit.h"
#include "models/unet.h"
#include "models/vae.h"
#include "formats/weights.h"

/* (kind, usual folder, usual class in its config, base name of its weights as safetensors, as pickles, its networks) */
#define SP_COMPONENT_LIST(X)                                                                                          \
    X(UNET, "unet", "UNet2DConditionModel", "diffusion_pytorch_model", "diffusion_pytorch_model", &sp_unet_network)   \
    X(VAE, "vae", "AutoencoderKL", "diffusion_pytorch_model", "diffusion_pytorch_model", &sp_vae_encoder_network,     \
      &sp_vae_decoder_network)                                                                                        \
    X(TEXT_ENCODER, "text_encoder", "CLIPTextModel", "model", "pytorch_model", &sp_clip_text_network)                 \
    X(TEXT_ENCODER_2, "text_encoder_2", "CLIPTextModelWithProjection", "model", "pytorch_model",                      \
      &sp_clip_text_projection_network)                                                                               \
    X(TRANSFORMER, "transformer", "SD3Transformer2DModel", "diffusion_pytorch_model", "diffusion_pytorch_model",      \
      &sp_mmdit_network)

typedef enum {
#define X(name, ...) SP_COMPONENT_##name,
    SP_COMPONENT_LIST(X)
#undef X
        SP_COMPONENT_COUNT
} sp_component_kind;

const char *sp_component_folder_name(sp_component_kind kind); /* "unet" */
const char *sp_component_class_name(sp_component_kind kind);  /* the usual one: "UNet2DConditionModel" */
bool sp_component_is_text(sp_component_kind kind);             /* one of the text encoders */
bool sp_component_is_denoiser(sp_component_kind kind);         /* a UNet, or the transformer in its place */
/* The kind of a folder name such as "unet", "unet_ema", "vae", "text_encoder"; -1 if it is none. */
int sp_component_kind_of(const char *folder_name);
/* The kind of a class such as "AutoencoderTiny", of several that may be it the first; -1 if it is none that is
 * supported. */
int sp_component_kind_of_class(const char *class_name);

typedef struct {
    sp_component_kind kind;
    union {
        sp_unet_config unet;
        sp_vae_config vae;
        sp_clip_text_config text;
        sp_mmdit_config transformer;
    };
} sp_component_config;
/* The config as its networks take it. */
const void *sp_component_config_of(const sp_component_config *config);
/* Reads the JSON of a config of that kind; `where` names the file in messages. SP_FORMAT if it says
 * it is another class. */
sp_status sp_component_config_read(sp_component_kind kind, const json_t *config, const char *where,
                                   sp_component_config *out);

/* The config.json that diffusers or transformers read (json_decref); NULL when out of memory. */
json_t *sp_component_config_write(const sp_component_config *config);

/* SP_UNSUPPORTED if `found` (NULL: nothing is said) is another class than that kind's. */
sp_status sp_component_check_class(sp_component_kind kind, const char *found, const char *where);

typedef struct {
    sp_component_kind place; /* of the folder name that it was opened by: Stable Diffusion 3's two text encoders are of
                                one kind */
    sp_component_config config;
    json_t *json;         /* config.json as it stands in the file */
    char *folder;         /* where it was found; a checkpoint of one file: that */
    sp_tensor_file *file; /* what the weights are views of */
    sp_weights *weights;  /* by the names that the graph uses; their packed files are FOLDER/packed-*.splam, of one file
                             FILE.COMPONENT-packed-*.splam (formats/packed_file.h) */
} sp_component;

/* Opens MODEL/COMPONENT, or MODEL itself if that is the component's own folder; or that component
 * in MODEL, a checkpoint of one file (checkpoints/original.h), or what a folder of a Hugging Face cache stands for
 * (checkpoints/model_path.h); or MODEL, a file that is an autoencoder
 * alone, under original names, diffusers' or TAESD's (checkpoints/vae_file.h). `component` is a folder name, see
 * sp_component_kind_of. Names in the file are brought to today's form (the text encoder's
 * "text_model." prefix, the VAE's old attention names and their 1x1 kernels; all of a single
 * file's). Every parameter of the graph must be there with its shape and a float type, or quantised as GGUF has it
 * (sp_quantise_weights): else SP_FORMAT or SP_SHAPE naming file and tensor. Tensors without use are counted in a
 * warning. */
sp_status sp_component_open(const char *model, const char *component, sp_component **out);
/* prediction: see sp_original_predicts, known better than a single file tells; NULL: as above. */
sp_status sp_component_open_as(const char *model, const char *component, const char *prediction,
                               sp_component **out);
/* The component of that folder name as one of another kind, of the same base name: Stable Diffusion 3's first text
 * encoder is one with a projection. */
sp_status sp_component_open_kind(const char *model, const char *component, sp_component_kind kind,
                                 const char *prediction, sp_component **out);
void sp_component_close(sp_component *component); /* NULL is legal */
/* Lets the kernel take back the mapped pages of a component that has been run. */
void sp_component_drop_pages(const sp_component *component);
/* Weights of linear layers and 1x1 convolutions become Q8_0 (sp_quantise_weights), after adapters are merged. */
sp_status sp_component_quantise(sp_component *component);
/* sp_tensor_hash over all its weights as they are stored, without adapters: which model it is. */
uint64_t sp_component_hash(const sp_component *component);

/* Writes FOLDER/config.json and the weights beside it so that diffusers or transformers open them.
 * Float weights are stored as `dtype`. The folder is made if need be.
 * callbacks, which may be NULL, can stop it: SP_CANCELLED. */
sp_status sp_component_save(const char *folder, sp_component_kind kind, const json_t *config,
                            const sp_weights *weights, sp_dtype dtype,
                            const sp_callbacks *callbacks);

/* The whole component as a small graph (both halves of a VAE, cond_proj if there is one), for its
 * parameters: their names, shapes and order. sp_graph_destroy. */
sp_status sp_component_graph(const sp_component_config *config, sp_graph **out);
/* The same with an adapter over it, whose parameters are of the set "adapter" (the others: ""). */
sp_status sp_component_adapted_graph(const sp_component_config *config, const sp_adapter *adapter,
                                     sp_graph **out);
/* Elements of all parameters in a graph. */
int64_t sp_graph_parameter_count(const sp_graph *graph);

#endif
