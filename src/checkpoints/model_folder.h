/* Models as a whole: folders as diffusers writes them, and checkpoints of one file
 * (checkpoints/original.h). */
#ifndef SP_CHECKPOINTS_MODEL_FOLDER_H
#define SP_CHECKPOINTS_MODEL_FOLDER_H
#include "checkpoints/component.h"
#include "text/tokenizer.h"

/* A folder with a model_index.json, which says what it is made of; a folder without one is taken at
 * face value. Or a checkpoint of one file. */
typedef struct {
    char *path;             /* of a Hugging Face cache: the snapshot's (checkpoints/model_path.h) */
    json_t *index;          /* NULL: there is no model_index.json */
    sp_tensor_file *single; /* NULL: it is a folder */
    char *unet;             /* another folder or file, which its UNet or transformer is from; NULL: its own */
    sp_component_kind unet_kind; /* of that: SP_COMPONENT_UNET or SP_COMPONENT_TRANSFORMER */
    sp_tensor_file *unet_file; /* that, where it is a file; NULL: it is not */
    const char *prediction; /* what the UNet predicts, known better than the model tells (sp_prediction_type);
                               NULL at first. The caller's */
} sp_model_folder;
/* SP_UNSUPPORTED if the index names a component of another class than SP_COMPONENT_LIST's, or one
 * that would be needed and is not supported (a third text encoder). */
sp_status sp_model_folder_open(const char *path, sp_model_folder *out);
/* The model at `base` with the UNet or transformer at `unet`: a folder (of it, or of a model), a checkpoint of one
 * file, or a file that is one alone. base NULL: the model at `unet`. Of what the UNet predicts and of its noise
 * schedule a file's own marks (sp_original_predicts) go before the base's scheduler. SP_UNSUPPORTED if the base has one
 * of the other kind. */
sp_status sp_model_folder_open_unet(const char *unet, const char *base, sp_model_folder *out);
void sp_model_folder_close(sp_model_folder *folder);
/* The folder is there, and the index, if there is one, does not say null for it. Any name:
 * "scheduler", "unet_ema". A single file has a scheduler if it has a UNet or a transformer, a
 * tokenizer if it has a text encoder. */
bool sp_model_folder_has(const sp_model_folder *folder, const char *component);
/* Opens a component, from where it is; `component` is a folder name, see sp_component_kind_of. */
sp_status sp_model_folder_component(const sp_model_folder *folder, const char *component, sp_component **out);
/* That of a text encoder: MODEL/tokenizer or MODEL/tokenizer_2; a single file's is the built-in one. The caller owns
 * *out. */
sp_status sp_model_folder_tokenizer(const sp_model_folder *folder, sp_component_kind text, sp_tokenizer **out);
/* Its scheduler's configuration, and the file that it is from, for messages, new (json_decref, sp_free): that of
 * MODEL/scheduler/scheduler_config.json, or what a single file tells; with the marks of unet_file and with `prediction`
 * in place of what these say. */
sp_status sp_model_folder_scheduler(const sp_model_folder *folder, json_t **out, char **where);
/* SP_ARGUMENT if something is asked for of a model with a transformer, which predicts a velocity. */
sp_status sp_prediction_fits(const sp_model_folder *folder);
/* SP_ARGUMENT if `prediction` has no such name, or does not fit; a warning if the model says otherwise, which goes for
 * nothing then, or if nobody says anything but the name of a file, x0. */
sp_status sp_prediction_check(const sp_model_folder *folder);
/* The JSON of a scheduler_config.json; Python's bare Infinity, which no JSON can hold, is read as null. */
sp_status sp_scheduler_json_load(const char *path, json_t **out);
/* Whether an absent negative prompt is zeros: "force_zeros_for_empty_prompt" of the index, true where it is not said.
 * Of Stable Diffusion XL alone. */
sp_status sp_model_folder_zero_negative(const sp_model_folder *folder, bool *out);
/* The ids of a text, padded, in a new array, by the tokenizer of a model, or the one whose own folder `model` is. */
sp_status sp_model_tokenize(const char *model, const char *text, int32_t **ids, size_t *count);

#endif
