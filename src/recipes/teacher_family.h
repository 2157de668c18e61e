/* The families of models that a teacher can be of, as a table: the parts of each, their sizes, and the classes that
 * diffusers and transformers open them with. */
#ifndef SP_RECIPES_TEACHER_FAMILY_H
#define SP_RECIPES_TEACHER_FAMILY_H
#include "models/initialize.h"
#include "pipeline/model.h"

/* Sizes are multiples of a unit, a sixteenth of `width`, the channels of a UNet's first level and of a transformer's
 * heads. */
enum { SP_TEACHER_UNITS = 16, SP_TEACHER_WIDTH = 64, SP_TEACHER_TOKENS = 24 };

/* A text encoder with its tokenizer. */
typedef struct {
    const char *folder;
    sp_component_kind kind;
    const char *tokenizer;       /* its folder */
    bool pads_with_zero;         /* as sp_tokenizer_train has it */
    const sp_network *network;   /* with an output text_embeds it makes the pooled text too */
    sp_clip_text_options states; /* which of its states the denoiser is told */
    int64_t units, layers;
    sp_unary_kind activation;
} sp_teacher_text;

typedef struct sp_teacher_family {
    const char *pipeline, *scheduler; /* diffusers' classes */
    double shift; /* of a flow; 0: its schedule is Stable Diffusion's betas */
    const char *pipeline_json, *scheduler_json; /* what the one has in model_index.json beside its parts, and the other
                                                   in its configuration beside the schedule */
    const sp_network *denoiser;       /* takes the encoders' states side by side, and what it declares beside them of
                                         text_embeds, of all encoders that make it pooled_projections, and time_ids */
    sp_component_kind denoiser_kind;
    sp_component_config (*denoiser_config)(const struct sp_teacher_family *family, int64_t width,
                                           const int64_t latent[2]); /* latent: channels and side */
    int text_count;
    sp_teacher_text text[SP_MAX_TEXTS];
    int64_t absent_tokens; /* zeros behind the encoders' states, for another one that is not there */
    const char *zero[SP_INITIALIZE_ZEROS]; /* layers that begin at 0, see sp_initialize_options */
    bool zero_negative; /* a caption that is left out is zeros, as force_zeros_for_empty_prompt says; else the empty
                           text */
} sp_teacher_family;

const char *sp_teacher_family_name(const sp_teacher_family *family); /* as the option `family` has it */
/* By name; NULL: there is none. */
const sp_teacher_family *sp_teacher_family_of(const char *name);
/* The one that a model's parts are those of. SP_UNSUPPORTED if they are of none. */
sp_status sp_teacher_family_of_model(const sp_model_folder *folder, const sp_teacher_family **out);

/* Of text encoder i, for what its tokenizer learned; width is a multiple of SP_TEACHER_UNITS. */
sp_component_config sp_teacher_text_config(const sp_teacher_family *family, int i, int64_t width,
                                           const sp_tokenizer *tokenizer);
bool sp_teacher_pools(const sp_teacher_text *text); /* it makes the pooled text */

#endif
