/* One call of splam_generate, as its files share it. */
#ifndef SP_API_GENERATION_H
#define SP_API_GENERATION_H
#include "api/convert.h"
#include "base/output.h"
#include "image/image.h"
#include "pipeline/pipeline.h"

enum {
    SP_GENERATION_MAX_SIDE = 16384, /* pixels of a picture */
    SP_GENERATION_GROUP = 1 << 22,  /* pixels of the pictures that are in memory at once */
};

/* Pictures are numbered over all prompts: prompt j / count, seed + j modulo 2^64. */
typedef struct {
    const splam_generate_options *o;
    sp_callbacks callbacks;
    sp_pipeline *pipeline;
    const char **prompts; /* the list and its own copy of the file */
    size_t prompt_count;
    char *prompts_text;
    char *model_name, *vae_name; /* vae_name NULL: the model's own */
    json_t *distillation;        /* NULL: not a student of ours */
    uint64_t model_hash;
    sp_sampler_options sampler;
    double guidance;
    uint64_t seed;
    int64_t count, total;  /* pictures per prompt, and of all */
    int64_t group;         /* as many are in memory at once */
    int64_t batch;         /* and at most so many are denoised at once; 0: by size */
    bool release;          /* the UNet's memory is given back for every decoding */
    bool keep;             /* text encoder and decoder stay packed between groups */
    int64_t width, height; /* pixels */
    int64_t factor;        /* pixels per latent pixel */
    sp_image image;        /* to start from; without pixels where there is none */
    sp_tensor posterior;   /* of it */
    sp_conditioning negative; /* where there is guidance */
    sp_tensor_file *noise_file;
    sp_tensor *given, given_posterior; /* noise.0, ..., noise.posterior as f32 */
    const sp_tensor **given_steps;
    int given_count;
    sp_torch_noise torch;
    sp_philox_noise philox;
    sp_given_noise given_noise;
    sp_noise noise;
    sp_tensor all_latents; /* when they are to be saved */
    char *output;          /* the pictures' path with a suffix; NULL: none, or standard output */
    bool to_stdout;
    sp_claim output_claim, latents_claim;
    sp_image_encoding encoding;
    int64_t written; /* pictures */
    splam_generate_seconds seconds;
    double stage_began;
} sp_generation;

/* The caller's prompts and those of the file, one a line. SP_FORMAT, with the line, if it is not
 * UTF-8. */
sp_status sp_generation_read_prompts(sp_generation *generation);
/* Says of each prompt what the text encoder does not take of it, and once what looks like syntax
 * that there is not. */
sp_status sp_generation_warn_of_prompts(const sp_generation *generation);

/* What is asked for: prompts, sampler, seed, the picture to start from, sizes and noise. The
 * pipeline is opened in between, for most of it depends on the model. Whatever can be wrong is
 * found. */
sp_status sp_generation_read_request(sp_generation *generation);

/* Decides whether the VAE works in tiles and, where there is a limit of memory, what else is done
 * to stay within it; SP_MEMORY with what each part needs if nothing helps. */
sp_status sp_generation_plan_memory(sp_generation *generation);

/* Where pictures go and in what format, as the options alone say: SP_ARGUMENT. */
sp_status sp_generation_choose_output(sp_generation *generation);
/* Claims all that is to be written; its pictures' number and size are known. */
sp_status sp_generation_claim_output(sp_generation *generation);
/* Picture `number` into its file, or to standard output. */
sp_status sp_generation_write(sp_generation *generation, int64_t number, const sp_image *image,
                              const sp_image_texts *texts);

/* Encodes the picture to start from. Nothing without one. */
sp_status sp_generation_encode_image(sp_generation *generation);
/* The latents that pictures first..first+count-1 start from, new [count,C,h,w]; *out stays empty
 * where there is no picture. */
sp_status sp_generation_start(sp_generation *generation, int64_t first, int64_t count,
                              sp_tensor *out);

#endif
