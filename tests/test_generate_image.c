/* splam_generate from a picture, in tiles, and within a limit of memory. */
#include "generate_support.h"

#include <math.h>

#include "backend/registry.h"
#include "base/json.h"
#include "base/random.h"
#include "base/system.h"
#include "image/image.h"
#include "pipeline/pipeline.h"
#include "pipeline/forward.h"

static const char *save_picture(void **state, const char *name, int width, int height)
{
    sp_image image;
    const char *path = keep(state, name);
    assert_ok(sp_image_create(width, height, &image));
    for (int i = 0; i < width * height * 3; i++)
        image.pixels[i] = (uint8_t)(127 + 120 * sin(0.02 * i) * cos(0.3 * (i % 7)));
    assert_ok(sp_image_save_png(&image, path, NULL, 0));
    sp_image_free(&image);
    return path;
}

static int set_up_picture(void **state)
{
    if (set_up(state)) return -1;
    save_picture(state, "init.png", SIDE, SIDE);
    return 0;
}

static splam_generate_options image_options(void **state, const char *model)
{
    splam_generate_options o = options_for(state, model);
    o.init_image = keep(state, "init.png");
    return o;
}

static void draw_torch(sp_torch_generator *generator, sp_tensor *out)
{
    assert_ok(sp_tensor_create(SP_F32, sp_shape_of(1, 4, LATENT, LATENT), out));
    sp_torch_normal(generator, out->data, LATENT_COUNT);
}

/* The encoder's outputs for the picture, by way of `forward`. */
static void encode(const char *vae, const char *picture, void **state, sp_named_outputs *out)
{
    sp_image image;
    sp_tensor pixels;
    sp_tensor_file *file;
    const char *path = keep(state, "picture.safetensors");
    assert_ok(sp_image_load(picture, &image));
    assert_ok(sp_tensor_create(SP_F32, sp_shape_of(1, 3, image.height, image.width), &pixels));
    sp_rgb_to_float(image.pixels, image.width, image.height, pixels.data);
    assert_ok(sp_safetensors_save(path, (sp_named_tensor[]){{"image", &pixels}}, 1, NULL, 0));
    assert_ok(sp_safetensors_open(path, &file));
    assert_ok(sp_component_forward(vae, "vae-encoder", file, SP_F32, sp_default_device(), out));
    sp_tensor_file_close(file);
    sp_tensor_free(&pixels);
    sp_image_free(&image);
}

/* ---- what the first state is made of ---- */

/* A run from the picture, and one from latents made by hand of the encoder's moments and PyTorch's
 * numbers, drawn in diffusers' order: posterior, start, fresh noise. */
static void check_order(void **state, const char *model, const char *vae)
{
    splam_generate_options o = image_options(state, model);
    bool lcm = strcmp(model, "student") == 0;
    o.vae = vae;
    o.sampler = lcm ? "lcm" : "ddim";
    o.steps = lcm ? 3 : 4; /* two of three draw again */
    o.strength = 0.5;
    o.guidance = unguided;
    o.rng = SPLAM_RNG_TORCH;
    o.seed = 5;
    sp_tensor found = latents_of(state, o), posterior, noise[3], latents;
    sp_named_outputs moments;
    encode(vae ? vae : golden("vae-demo"), o.init_image, state, &moments);
    sp_torch_generator generator;
    sp_torch_seed(&generator, 5);
    float *z = moments.item[0].tensor.data;
    if (moments.count == 2) {
        draw_torch(&generator, &posterior);
        const float *logvar = moments.item[1].tensor.data, *n = posterior.data;
        for (int i = 0; i < LATENT_COUNT; i++)
            z[i] = (float)(0.18215 * (z[i] + exp(0.5 * (double)logvar[i]) * n[i]));
        sp_tensor_free(&posterior);
    }
    const sp_tensor *steps[3];
    for (int i = 0; i < 3; i++) {
        draw_torch(&generator, &noise[i]);
        steps[i] = &noise[i];
    }
    sp_given_noise given = {.step = steps, .steps = 3};
    sp_pipeline *p;
    sp_conditioning prompt;
    assert_ok(sp_pipeline_open(o.model, &(sp_model_options){0}, &p));
    assert_ok(sp_pipeline_encode(p, o.prompts, 1, &prompt));
    sp_denoise_request request = {.sampler = {.kind = lcm ? SP_SAMPLER_LCM : SP_SAMPLER_DDIM,
                                              .steps = o.steps,
                                              .strength = 0.5},
                                  .guidance = 1,
                                  .conditioning = &prompt,
                                  .image = &moments.item[0].tensor,
                                  .height = LATENT,
                                  .width = LATENT,
                                  .noise = sp_noise_given(&given)};
    assert_ok(sp_pipeline_denoise(p, &request, NULL, &latents));
    assert_true(difference(&found, &latents) < 1e-5);
    sp_tensor_free(&found);
    sp_tensor_free(&latents);
    sp_conditioning_free(&prompt);
    for (int i = 0; i < 3; i++)
        sp_tensor_free(&noise[i]);
    sp_named_outputs_free(&moments);
    sp_pipeline_close(p);
}

static void test_drawing_order(void **state)
{
    check_order(state, "teacher", NULL);
    check_order(state, "student", NULL);
    check_order(state, "teacher", golden("vae-tiny"));
}

/* A file's noise.posterior replays the drawing of the latent; without it the mean is taken. */
static void test_noise_file(void **state)
{
    splam_generate_options o = image_options(state, "teacher");
    sp_tensor posterior, start;
    sp_torch_generator generator;
    sp_torch_seed(&generator, 9);
    draw_torch(&generator, &posterior);
    draw_torch(&generator, &start);
    const sp_named_tensor both[] = {{"noise.0", &start}, {"noise.posterior", &posterior}};
    o.sampler = "dpm++2m";
    o.steps = 4;
    o.rng = SPLAM_RNG_TORCH;
    o.seed = 9;
    sp_tensor drawn = latents_of(state, o);
    o.noise = keep(state, "image-noise.safetensors");
    assert_ok(sp_safetensors_save(o.noise, both, 2, NULL, 0));
    sp_tensor replayed = latents_of(state, o);
    assert_same_bits(&drawn, &replayed);
    assert_ok(sp_safetensors_save(o.noise, both, 1, NULL, 0));
    sp_tensor mean = latents_of(state, o);
    assert_true(difference(&mean, &drawn) > 1e-3);
    sp_tensor_free(&posterior);
    sp_tensor_free(&start);
    sp_tensor_free(&drawn);
    sp_tensor_free(&replayed);
    sp_tensor_free(&mean);
}

/* The less is replaced, the nearer the result is to the picture; picture j of a batch has seed + j
 * here too. */
static void test_strength(void **state)
{
    for (int rng = 0; rng < 2; rng++) {
        splam_generate_options o = image_options(state, "teacher");
        sp_named_outputs moments;
        encode(golden("vae-demo"), o.init_image, state, &moments);
        float *mean = moments.item[0].tensor.data;
        for (int i = 0; i < LATENT_COUNT; i++)
            mean[i] *= 0.18215f;
        o.sampler = "euler";
        o.steps = 10;
        o.guidance = unguided;
        o.rng = rng ? SPLAM_RNG_TORCH : SPLAM_RNG_PHILOX;
        o.strength = 0.1;
        sp_tensor near = latents_of(state, o);
        o.strength = 0.9;
        o.seed = 3;
        o.count = 2;
        sp_tensor far = latents_of(state, o);
        o.count = 1;
        o.seed = 4;
        sp_tensor one = latents_of(state, o);
        sp_tensor first = {.shape = one.shape, .data = far.data};
        sp_tensor second = {.shape = one.shape, .data = (float *)far.data + LATENT_COUNT};
        assert_true(difference(&second, &one) < 1e-5);
        assert_true(difference(&second, &first) > 0.01);
        assert_true(4 * difference(&near, &moments.item[0].tensor) <
                    difference(&one, &moments.item[0].tensor));
        sp_tensor_free(&near);
        sp_tensor_free(&far);
        sp_tensor_free(&one);
        sp_named_outputs_free(&moments);
    }
}

/* ---- sizes ---- */

static void check_size(const splam_generate_options *o, int width, int height)
{
    sp_image image;
    generate(o);
    assert_ok(sp_image_load(o->output, &image));
    assert_int_equal(image.width, width);
    assert_int_equal(image.height, height);
    sp_image_free(&image);
}

static void test_sizes(void **state)
{
    splam_generate_options o = image_options(state, "student");
    o.steps = 1;
    o.output = keep(state, "sized.png");
    o.init_image = save_picture(state, "wide.png", 43, 22);
    check_size(&o, 40, 20);
    o.width = 80;
    check_size(&o, 80, 40); /* 40.9 */
    o.height = 12;
    check_size(&o, 80, 12);
    o.width = SPLAM_UNSET;
    check_size(&o, 20, 12); /* 23.4 */
    o.init_image = save_picture(state, "thin.png", 3, 22);
    o.height = SPLAM_UNSET;
    assert_int_equal(splam_generate(&o, NULL), SPLAM_ARGUMENT);
    assert_message("thin.png: is 3 x 22 pixels, and 4 is the least for a side");
    o.width = o.height = 16;
    check_size(&o, 16, 16);
    o.init_image = save_picture(state, "line.png", 3000, 1);
    o.width = o.height = 64;
    assert_int_equal(splam_generate(&o, NULL), SPLAM_ARGUMENT);
    assert_message("line.png: 3000 x 1 pixels cannot be made to cover 64 x 64");
}

/* ---- tiles and the limit of memory ---- */

enum { WIDE = 2048, HIGH = 64 };

static splam_generate_options wide_options(void **state, const char *name)
{
    splam_generate_options o = options_for(state, "student");
    o.steps = 1;
    o.width = WIDE;
    o.height = HIGH;
    o.output = keep(state, name);
    return o;
}

/* How many bytes of two pictures differ. */
static int different_bytes(const char *a, const char *b)
{
    sp_image x, y;
    int count = 0;
    assert_ok(sp_image_load(a, &x));
    assert_ok(sp_image_load(b, &y));
    assert_int_equal(x.width, y.width);
    assert_int_equal(x.height, y.height);
    for (int i = 0; i < x.width * x.height * 3; i++)
        count += x.pixels[i] != y.pixels[i];
    sp_image_free(&x);
    sp_image_free(&y);
    return count;
}

static bool says(const char *path, const char *words)
{
    char *bytes;
    size_t size;
    assert_ok(sp_read_file(path, &bytes, &size));
    bool found = memmem(bytes, size, words, strlen(words)) != NULL;
    sp_free(bytes);
    return found;
}

/* With the lowest limit that is enough, to the megabyte. In one piece the wide picture's decoder
 * takes 20 MB beside what the program has, in tiles a fourth. */
static void generate_in_least_memory(splam_generate_options *o)
{
    splam_status status = SPLAM_MEMORY;
    o->memory_limit = sp_resident_memory() + (30 << 20);
    while (status == SPLAM_MEMORY && o->memory_limit < INT64_C(1) << 40) {
        o->memory_limit += 1 << 20;
        status = splam_generate(o, NULL);
    }
    if (status) fail_msg("splam_generate: %s", splam_error_message());
}

static void test_tiling(void **state)
{
    splam_generate_options whole = wide_options(state, "whole.png"),
                           tiled = wide_options(state, "tiled.png"),
                           free = wide_options(state, "free.png"),
                           limited = wide_options(state, "limited.png");
    whole.vae_tiling = SPLAM_VAE_TILING_OFF;
    tiled.vae_tiling = SPLAM_VAE_TILING_ON;
    generate(&whole);
    generate(&tiled);
    generate(&free);
    generate_in_least_memory(&limited);
    assert_int_equal(different_bytes(whole.output, free.output), 0);
    assert_int_equal(different_bytes(tiled.output, limited.output), 0);
    assert_true(different_bytes(whole.output, tiled.output) > 1000);
    assert_true(says(tiled.output, "\"vae_tile\":512") && says(limited.output, "\"vae_tile\":512"));
    assert_false(says(whole.output, "vae_tile") || says(free.output, "vae_tile"));
    tiled.width = 512; /* fits into a tile */
    generate(&tiled);
    assert_false(says(tiled.output, "vae_tile"));
}

static void test_memory_limit(void **state)
{
    splam_generate_options o = wide_options(state, "never-made.png");
    o.memory_limit = 1000000;
    assert_int_equal(splam_generate(&o, NULL), SPLAM_MEMORY);
    assert_message("a memory limit of 1.0 MB is too small");
    assert_message("UNet ");
    assert_message("VAE decoder ");
    o.memory_limit = -1;
    assert_int_equal(splam_generate(&o, NULL), SPLAM_ARGUMENT);
    assert_false(sp_path_exists(o.output));

    /* Enough of it changes nothing; less makes batches smaller, which is the same but for rounding. */
    o = options_for(state, "teacher");
    o.steps = 2;
    o.width = o.height = 64;
    o.count = 16;
    sp_tensor all = latents_of(state, o);
    o.memory_limit = INT64_C(1) << 40;
    sp_tensor plenty = latents_of(state, o);
    assert_same_bits(&all, &plenty);
    o.save_latents = keep(state, "little.safetensors");
    generate_in_least_memory(&o);
    sp_tensor little = load_latents(o.save_latents);
    assert_true(difference(&little, &all) < 1e-5);
    sp_tensor_free(&all);
    sp_tensor_free(&plenty);
    sp_tensor_free(&little);
}

/* ---- text and errors ---- */

static void test_text(void **state)
{
    splam_generate_options o = image_options(state, "student");
    char *bytes;
    size_t size;
    o.steps = 2;
    o.strength = 0.65;
    o.output = keep(state, "text.png");
    generate(&o);
    assert_ok(sp_read_file(o.output, &bytes, &size));
    assert_non_null(memmem(bytes, size, ", Model: student, Denoising strength: 0.65, Version", 51));
    assert_non_null(memmem(bytes, size, "\"init_image\":\"init.png\",\"strength\":0.65", 38));
    sp_free(bytes);
}

/* As A1111 writes it: nothing in front of the first word, and what would be read as more than one
 * entry in quotes. */
static void test_text_of_odd_names(void **state)
{
    static const char *const nothing[] = {""};
    splam_generate_options o = options_for(state, "student");
    o.model = keep(state, "old, new: \"x\"");
    assert_ok(sp_copy_tree(keep(state, "student"), o.model, NULL));
    o.prompts = nothing;
    o.steps = 1;
    o.output = keep(state, "odd.png");
    generate(&o);
    char *bytes;
    size_t size;
    assert_ok(sp_read_file(o.output, &bytes, &size));
    assert_non_null(memmem(bytes, size, "parameters\0Steps: 1, Sampler: LCM, ", 35));
    assert_non_null(memmem(bytes, size, ", Model: \"old, new: \\\"x\\\"\", Version", 35));
    sp_free(bytes);
}

static void test_wrong_requests(void **state)
{
    splam_generate_options o = image_options(state, "teacher");
    o.output = keep(state, "never.png");
    const splam_generate_options good = o;
    o.strength = 1.5;
    assert_int_equal(splam_generate(&o, NULL), SPLAM_ARGUMENT);
    assert_message("`strength` is 1.5, a number from 0.001 to 1 is expected");
    o.strength = NAN;
    assert_int_equal(splam_generate(&o, NULL), SPLAM_ARGUMENT);
    assert_message("`strength` is nan");
    o.strength = 0.04;
    assert_int_equal(splam_generate(&o, NULL), SPLAM_ARGUMENT);
    assert_message("none of 20 steps of dpm++2m is left at strength 0.04");
    o.sampler = "lcm";
    o.steps = 4;
    assert_int_equal(splam_generate(&o, NULL), SPLAM_ARGUMENT);
    assert_message("4 steps of lcm are not possible at strength 0.04, which leaves 2 timesteps");
    o = good;
    o.init_image = NULL;
    o.strength = 0.5;
    assert_int_equal(splam_generate(&o, NULL), SPLAM_ARGUMENT);
    assert_message("no picture to start from");
    o = good;
    o.init_image = keep(state, "absent.png");
    assert_int_equal(splam_generate(&o, NULL), SPLAM_IO);
    assert_message("absent.png");
    o.init_image = keep(state, "teacher/model_index.json");
    assert_int_equal(splam_generate(&o, NULL), SPLAM_FORMAT);
    assert_message("model_index.json");
    assert_false(sp_path_exists(o.output));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_drawing_order),
        cmocka_unit_test(test_noise_file),
        cmocka_unit_test(test_strength),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_tiling),
        cmocka_unit_test(test_memory_limit),
        cmocka_unit_test(test_text_of_odd_names),
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_wrong_requests),
    };
    return cmocka_run_group_tests(tests, set_up_picture, remove_test_folder);
}
