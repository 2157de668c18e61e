/* A model's work at its own size, as graphs: what `inspect` plans and `bench` times. */
#ifndef SP_BENCH_WORKLOAD_H
#define SP_BENCH_WORKLOAD_H
#include "distill/objective.h"
#include "checkpoints/component.h"
#include "train/step_memory.h"

typedef struct {
    sp_component *unet, *transformer, *vae, *text, *text_2; /* NULL: the folder has none */
    sp_device *device;     /* that steps are planned for */
    int64_t height, width; /* of the latent; 64 where no config says */
    int64_t tokens;         /* of a prompt; 77 where no config says */
    int64_t context_tokens; /* that the denoiser is shown */
} sp_work_model;

/* Opens the components of a model's folder, or the one whose own folder it is; prediction as of
 * sp_component_open_as. SP_FORMAT if there is none. */
sp_status sp_work_model_open(const char *folder, const char *prediction, sp_device *device,
                             sp_work_model *out);
/* Pictures of that size instead, in pixels; SPLAM_UNSET leaves a side as it is. SP_ARGUMENT if the latent's pixels do
 * not divide it. */
sp_status sp_work_model_resize(sp_work_model *model, int64_t width, int64_t height);
/* sp_component_quantise of each component. */
sp_status sp_work_model_quantise(sp_work_model *model);
void sp_work_model_close(sp_work_model *model); /* zeroed is legal */

typedef enum {
    SP_WORK_TEXT,          /* a prompt to its context; weight set "text" */
    SP_WORK_TEXT_2,        /* the same of the second encoder; set "text 2" */
    SP_WORK_UNET,          /* one evaluation; set "online" */
    SP_WORK_TRANSFORMER,   /* the same of Stable Diffusion 3's transformer; set "transformer" */
    SP_WORK_UNET_BACKWARD, /* one evaluation and the gradients of its mean square; set "online" */
    SP_WORK_DECODE,        /* latents to pictures; set "vae" */
    SP_WORK_STEP           /* one distillation step; sets "teacher", "ema", "online" */
} sp_work;

/* The component whose network the work runs; NULL: the model has none. */
sp_component *sp_work_component(const sp_work_model *model, sp_work work);
const char *sp_work_set(sp_work work); /* the name of its weight set */
/* True if the model has the components that the work needs. */
bool sp_work_possible(const sp_work_model *model, sp_work work);
/* For `batch` samples; a step is that of splam with cond_proj. sp_graph_destroy. */
sp_status sp_work_graph(const sp_work_model *model, sp_work work, int64_t batch, sp_graph **out);
/* The step, with these blocks of the student's forward pass recomputed (sp_block_options). */
sp_status sp_work_step_graph(const sp_work_model *model, int64_t batch, uint64_t recompute,
                             sp_graph **out);
/* Its plan and the memory that it takes (train/step_memory.h), latents and conditioning apart. limit 0:
 * nothing is recomputed; else what it takes to keep within it; *plan NULL: even that is too much. */
sp_status sp_work_step_plan(const sp_work_model *model, int64_t batch, sp_dtype precision,
                            sp_optimizer optimizer, size_t limit, sp_step_memory *memory,
                            sp_plan **plan);
/* The student that a step trains: the teacher's UNet with cond_proj. */
sp_component_config sp_work_student(const sp_work_model *model);

#endif
