/* What the tests of splam_generate share: a tiny teacher and a tiny student, requests, latents. */
#ifndef SP_TESTS_GENERATE_SUPPORT_H
#define SP_TESTS_GENERATE_SUPPORT_H
#include "tiny_model.h"
#include "splam/splam.h"

enum { SIDE = 32, LATENT = 8, LATENT_COUNT = 4 * LATENT * LATENT };

/* A path in the test's folder, in one of many rotating buffers: requests keep theirs for long. */
static inline const char *keep(void **state, const char *name)
{
    static char paths[64][512];
    static unsigned next;
    char *path = paths[next++ % 64];
    snprintf(path, sizeof paths[0], "%s/%s", (const char *)*state, name);
    return path;
}

static const char lcm_scheduler[] =
    "{\"_class_name\": \"LCMScheduler\", \"original_inference_steps\": 50}";

static inline int set_up(void **state)
{
    if (make_test_folder(state) != 0) return -1;
    make_model(keep(state, "teacher"), "unet-demo", ddim_scheduler);
    make_model(keep(state, "student"), "unet-guided", lcm_scheduler);
    write_text(keep(state, "student/splam.json"),
               "{\"objective\": \"splam\", \"skip\": 100, \"data\": \"folder:/home\"}");
    return 0;
}

/* ---- helpers ---- */

static const double unguided = 1;

static inline splam_generate_options options_for(void **state, const char *model)
{
    static const char *const prompts[] = {"red apple"};
    splam_generate_options o = splam_generate_defaults();
    o.prompts = prompts;
    o.prompt_count = 1;
    o.precision = SPLAM_F32;
    o.model = keep(state, model);
    return o;
}

static inline void generate(const splam_generate_options *o)
{
    splam_status status = splam_generate(o, NULL);
    if (status != SPLAM_OK) fail_msg("splam_generate: %s", splam_error_message());
}

static inline sp_tensor load_latents(const char *path)
{
    sp_tensor_file *file;
    const sp_tensor *tensor;
    sp_tensor copy;
    assert_ok(sp_safetensors_open(path, &file));
    assert_int_equal(sp_tensor_file_count(file), 1);
    assert_ok(sp_tensor_file_get(file, "latents", &tensor));
    assert_ok(sp_tensor_convert(tensor, SP_F32, &copy));
    sp_tensor_file_close(file);
    return copy;
}

/* The latents of a request; `o` may have an output too. */
static inline sp_tensor latents_of(void **state, splam_generate_options o)
{
    o.save_latents = keep(state, "latents.safetensors");
    generate(&o);
    return load_latents(o.save_latents);
}

static inline void assert_same_bits(const sp_tensor *a, const sp_tensor *b)
{
    assert_true(sp_shape_equal(a->shape, b->shape));
    assert_memory_equal(a->data, b->data, sp_tensor_bytes(a));
}

static inline double difference(const sp_tensor *a, const sp_tensor *b)
{
    double error;
    assert_ok(sp_tensor_relative_max_error(a, b, &error));
    return error;
}

/* noise.0, noise.1, ... [count,4,8,8] */
static inline void save_noise(const char *path, float *const *noise, int steps, int64_t count)
{
    sp_tensor tensors[8];
    sp_named_tensor named[8];
    char names[8][16];
    for (int i = 0; i < steps; i++) {
        snprintf(names[i], sizeof names[i], "noise.%d", i);
        tensors[i] = (sp_tensor){.shape = sp_shape_of(count, 4, LATENT, LATENT), .data = noise[i]};
        named[i] = (sp_named_tensor){names[i], &tensors[i]};
    }
    assert_ok(sp_safetensors_save(path, named, (size_t)steps, NULL, 0));
}

#endif
