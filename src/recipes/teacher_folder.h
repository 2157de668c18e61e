/* Writing a teacher's folder. */
#ifndef SP_RECIPES_TEACHER_FOLDER_H
#define SP_RECIPES_TEACHER_FOLDER_H
#include "diffusion/path.h"
#include "recipes/teacher_family.h"

/* What a teacher is made of but for the weights that are trained. */
typedef struct {
    const sp_teacher_family *family;
    sp_component_config denoiser, text[SP_MAX_TEXTS];
    sp_tokenizer *tokenizer[SP_MAX_TEXTS];
    bool zero_negative;
    const sp_component *vae;
    sp_path path;
} sp_teacher;

/* The family's schedule: Stable Diffusion's, of a network that predicts that, or the family's own flow. */
sp_status sp_teacher_path(const sp_teacher_family *family, sp_prediction prediction, sp_path *out);

/* Writes output/, a diffusers folder. `trained` has the parameters of the training's graph, PART.NAME: a parameter that
 * no output depends on, such as those of a last layer that is left out, is not among them. It is what `start` (may be
 * NULL) has of that name, or a starting value by the seed. */
sp_status sp_teacher_save(const sp_teacher *teacher, const char *output, const sp_weights *trained,
                          const sp_weights *start, uint64_t seed);

#endif
