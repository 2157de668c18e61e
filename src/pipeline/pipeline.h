/* A latent diffusion model put together: prompts to a conditioning, noise to latents, latents to
 * pictures. */
#ifndef SP_PIPELINE_PIPELINE_H
#define SP_PIPELINE_PIPELINE_H
#include "diffusion/noise.h"
#include "diffusion/sampler.h"
#include "pipeline/conditioning.h"
#include "pipeline/denoiser.h"
#include "pipeline/model.h"
#include "pipeline/plans.h"
#include "pipeline/vae_run.h"
#include "text/chunks.h"

/* Read freely; changed by the functions below alone. Not for several threads at once; several pipelines may share a
 * model in as many threads, and with it the packed weights. */
typedef struct {
    const sp_model *model;
    sp_model *owned; /* the same, if it goes with the pipeline; else NULL */
    sp_component *denoiser, *vae; /* the model's, as what follows */
    const sp_text_part *text;
    int text_count;
    sp_scheduler_config scheduler;
    sp_device *device;
    sp_dtype precision;
    int clip_skip;              /* sp_pipeline_set_clip_skip; 0 at first */
    sp_prompt_syntax syntax;    /* sp_pipeline_set_syntax; SP_PROMPT_PLAIN and 1 at first */
    int64_t chunks;
    sp_callbacks callbacks;     /* asked while prompts are encoded; their context must outlive the pipeline */
    int64_t vae_tile;           /* sp_pipeline_set_vae_tile; 0 at first */
    bool alone;                 /* sp_pipeline_set_alone; false at first */
    sp_component_config denoiser_config; /* of the network in use */
    sp_denoiser facts;                   /* of that config; zeroed where there is no such network */
    const sp_weights *denoiser_weights;
    sp_plans plans;
    sp_run *denoiser_run; /* of these plans, while it denoises */
    bool keeps;       /* sp_pipeline_keep */
} sp_pipeline;

/* A pipeline on a model that outlives it, or with a model of its own, whose options' callbacks become the
 * pipeline's. */
sp_status sp_pipeline_create(const sp_model *model, sp_pipeline **out);
sp_status sp_pipeline_open(const char *path, const sp_model_options *options, sp_pipeline **out);
void sp_pipeline_close(sp_pipeline *pipeline); /* NULL is legal */
/* Closes the VAE or the text encoder, of SP_PART_*, of its own model when it has done its work. */
void sp_pipeline_close_parts(sp_pipeline *pipeline, unsigned parts);

/* Denoises with another network from here on: a trainer's weights, which must outlive the pipeline
 * or the next such call. weights NULL: the folder's own again. Call it again when the weights have
 * changed. */
sp_status sp_pipeline_set_denoiser(sp_pipeline *pipeline, const sp_component_config *config,
                                   const sp_weights *weights);
/* Pictures that are larger than `tile` pixels go through the VAE in tiles of this side from here on, see vae_run.h; 0:
 * none do. SP_ARGUMENT unless it is a multiple of sp_vae_tile_unit. */
sp_status sp_pipeline_set_vae_tile(sp_pipeline *pipeline, int64_t tile);
/* Whether a picture's bits are those that it has drawn alone, whatever is in its batch, or depend on how many those
 * are, in kernels that are faster for so many. */
void sp_pipeline_set_alone(sp_pipeline *pipeline, bool alone);
/* Leaves out so many last layers of the text encoder for prompts. SP_ARGUMENT if it does not have them. */
sp_status sp_pipeline_set_clip_skip(sp_pipeline *pipeline, int layers);
/* How prompts are read from here on, and in how many chunks of the tokenizer's length each is encoded, negative ones
 * too: 1 or more, of which those that a prompt does not need are empty ones. */
void sp_pipeline_set_syntax(sp_pipeline *pipeline, sp_prompt_syntax syntax, int64_t chunks);
/* Gives back the denoiser's memory until it is needed again. */
void sp_pipeline_release(sp_pipeline *pipeline);
/* Whether text encoder and VAE stay planned and packed after a call that used them, for the next one
 * of the same sizes, or give back their memory, as they do at first. */
void sp_pipeline_keep(sp_pipeline *pipeline, bool keep);

enum { SP_TEXT_BATCH = 16 }; /* prompts that are encoded at once, where there are so many */
/* The conditioning of `count` prompts, a new set of that many rows, f32: encoder_hidden_states [count,L,D], L the
 * tokenizer's length times `chunks`, and of two text encoders text_embeds [count,P], of the first chunk. Two encoders'
 * states are those before the last layer of each, without the final norm, side by side; one's are after the norm of its
 * last layer. States of tokens with weights are multiplied by these. SP_ARGUMENT of text/chunks.h. */
sp_status sp_pipeline_encode(sp_pipeline *pipeline, const char *const *prompts, int64_t count,
                             sp_conditioning *out);
/* That of a negative prompt, of one row; NULL: nobody gave one, which is zeros (sp_model.zero_negative) or "". Layers
 * are never left out of it, as in diffusers, whatever clip_skip says. */
sp_status sp_pipeline_encode_negative(sp_pipeline *pipeline, const char *prompt, sp_conditioning *out);
/* The set, new, without the zeros beside and behind Stable Diffusion 3's states, but where T5's
 * stand behind: what is worth keeping of it.
 * sp_conditioning_copy puts them back. */
sp_status sp_pipeline_trim(const sp_pipeline *pipeline, const sp_conditioning *set, sp_conditioning *out);
/* What a model with time_ids is told of a picture beside the prompt, in pixels: the size it had, where it was cropped,
 * the size it is to have. */
typedef struct {
    int64_t original_height, original_width, crop_top, crop_left, target_height, target_width;
} sp_framing;
sp_framing sp_framing_whole(int64_t height, int64_t width); /* of a picture that was not cropped */
/* Adds time_ids [rows,6] where the UNet takes them: row i of framing i, the last one standing for those beyond. */
sp_status sp_pipeline_frame(const sp_pipeline *pipeline, const sp_framing *framing, int64_t count,
                            sp_conditioning *set);
int64_t sp_pipeline_tokens(const sp_pipeline *pipeline); /* L, of a pipeline with its text encoders */
/* How many chunks a prompt takes as prompts are read now. SP_ARGUMENT of text/chunks.h. */
sp_status sp_pipeline_count_chunks(const sp_pipeline *pipeline, const char *prompt, int64_t *out);
/* Whether a token that stands for vectors, `first` being the first of its ids, is in what is encoded of a prompt. */
sp_status sp_pipeline_has_vectors(const sp_pipeline *pipeline, const char *prompt, int32_t first, bool *out);
/* The description of what they all give for so many prompts; the pipeline has its text encoders and a UNet. */
sp_conditioning sp_pipeline_conditioning(const sp_pipeline *pipeline, int64_t count);

/* Sees the latents between evaluations: point 0 is where samples first..first+count-1 start, point i what evaluation i
 * left of them. z [count,C,height,width] is the loop's, and gone afterwards. */
typedef struct {
    void *context;
    void (*see)(void *context, int point, int64_t first, int64_t count, const float *z); /* NULL: nobody looks */
    /* What evaluation `number`, from 0, takes the clean latents to be, [count,C,height,width] as well. */
    void (*estimate)(void *context, int number, int64_t first, int64_t count, const float *x0); /* NULL likewise */
} sp_denoise_observer;

typedef struct {
    sp_sampler_options sampler;
    const sp_scheduler_config *scheduler; /* NULL: the model's own */
    double guidance; /* CFG scale G: uncond + G (cond - uncond); 1: one pass. A network with
                        cond_proj is told G - 1 instead, in one pass */
    const double *guidance_of_each; /* [N] instead: 1 is in all of them or in none; NULL: the same for all */
    sp_skip_layers skip_layers;
    const sp_conditioning *conditioning; /* of N samples */
    const sp_conditioning *negative; /* of one or N; only looked at where there are two passes */
    const sp_tensor *image; /* what a sampler with a strength starts from: latents as the UNet
                               sees them, [1,C,height,width] or [N,...] f32 */
    int64_t height, width;  /* of the latent */
    sp_noise noise;
    int64_t first_sample; /* what `noise` calls the first of the N samples; the others follow */
    int64_t batch;        /* at most so many at once; 0: by size */
    sp_denoise_observer observer;
} sp_denoise_request;

/* What the memory of denoising depends on. */
typedef struct {
    int64_t batch, height, width; /* samples at once; of the latent */
    const sp_conditioning *conditioning; /* a description; its rows do not matter */
    bool guided;                  /* two passes */
    uint64_t left_out;            /* guided: blocks that a third pass is without; 0: there is none */
} sp_denoise_shape;
/* Into how large batches denoising cuts `samples`, none larger than `most`; 0: by size. */
int64_t sp_denoise_batch(int64_t samples, int64_t height, int64_t width, int64_t most);
/* Pixels of all pictures of a batch, beyond which it gains nothing; 0: a batch would change their bits. */
int64_t sp_batch_pixels(const sp_model *model);

/* True if the request takes two passes a step, and so needs `negative`. */
bool sp_pipeline_is_guided(const sp_pipeline *pipeline, double guidance);

/* *latents: new [N,C,height,width] f32, as the VAE takes them times its scaling factor. Reports one
 * unit per step of a batch, "denoising". The same numbers for any thread count. SP_NUMERIC if the
 * latents are not finite, SP_CANCELLED, SP_ARGUMENT, SP_SHAPE. */
sp_status sp_pipeline_denoise(sp_pipeline *pipeline, const sp_denoise_request *request,
                              const sp_callbacks *callbacks, sp_tensor *latents);
/* The same loop from latents that are given, `start` [N,C,height,width] f32, by a table of the caller's: the request's
 * sampler, scheduler and image say nothing, and its noise only where a row draws. */
sp_status sp_pipeline_advance(sp_pipeline *pipeline, const sp_denoise_request *request, const sp_sampler *sampler,
                              const sp_tensor *start, const sp_callbacks *callbacks, sp_tensor *latents);

/* What the VAE makes of pictures [N,3,H,W] in [-1,1]: new [N,2C,h,w] f32, the posterior's mean and
 * log variance, unscaled; of an AutoencoderTiny [N,C,h,w], the latents. */
sp_status sp_pipeline_encode_pictures(sp_pipeline *pipeline, const sp_tensor *pictures,
                                      const sp_callbacks *callbacks, sp_tensor *posterior);
/* `count` latents from the posterior of one picture [1,2C,h,w], new [count,C,h,w], as the UNet sees
 * them: scaling factor * (mean + deviation * noise - shift factor). noise NULL, or [1,C,h,w]: the mean; else it is
 * asked for SP_NOISE_POSTERIOR of the samples from first_sample on. */
sp_status sp_pipeline_draw_latents(const sp_pipeline *pipeline, const sp_tensor *posterior,
                                   const sp_noise *noise, int64_t first_sample, int64_t count,
                                   sp_tensor *latents);

/* Makes what runs of a part have of weights alone, packed weights above all, which stays with the plans. */
sp_status sp_pipeline_pack_text(sp_pipeline *pipeline, int part, const sp_callbacks *callbacks); /* for one prompt */
sp_status sp_pipeline_pack_denoise(sp_pipeline *pipeline, const sp_denoise_shape *shape, const sp_callbacks *callbacks);
sp_status sp_pipeline_pack_vae(sp_pipeline *pipeline, sp_vae_half half, sp_shape in, const sp_callbacks *callbacks);

/* The memory that a run of a part takes, known before it: of the text encoder for so many prompts;
 * of the denoiser; of a half of the VAE for an input of shape `in`, in tiles or not by vae_tile. */
sp_status sp_pipeline_plan_text(sp_pipeline *pipeline, int64_t prompts, sp_plan_memory *out);
sp_status sp_pipeline_plan_denoise(sp_pipeline *pipeline, const sp_denoise_shape *shape,
                                   sp_plan_memory *out);
sp_status sp_pipeline_plan_vae(sp_pipeline *pipeline, sp_vae_half half, sp_shape in,
                               sp_plan_memory *out);

/* Pictures [N,3,H,W] in about [-1,1] from latents [N,C,h,w], new tensor f32. */
sp_status sp_pipeline_decode(sp_pipeline *pipeline, const sp_tensor *latents,
                             const sp_callbacks *callbacks, sp_tensor *images);

#endif
