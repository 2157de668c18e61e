/* splam_generate and the pipeline behind it, on a tiny but complete model: goldens' UNet and VAE, a
 * text encoder with starting values, a tokenizer learned from a few words. */
#include "generate_support.h"
#include "models/runner.h"

#include <math.h>

#include "backend/registry.h"
#include "base/json.h"
#include "base/random.h"
#include "image/image.h"
#include "pipeline/pipeline.h"
#include "pipeline/forward.h"
#include "splam/splam.h"

/* ---- what is drawn ---- */

static void test_same_seed(void **state)
{
    splam_generate_options o = options_for(state, "teacher");
    char *first, *second;
    size_t first_size, second_size;
    o.steps = 3;
    o.seed = 11;
    o.output = keep(state, "a.png");
    generate(&o);
    o.output = keep(state, "b.png");
    generate(&o);
    assert_ok(sp_read_file(keep(state, "a.png"), &first, &first_size));
    assert_ok(sp_read_file(keep(state, "b.png"), &second, &second_size));
    assert_int_equal(first_size, second_size);
    assert_memory_equal(first, second, first_size);
    sp_free(first);
    sp_free(second);

    sp_tensor a = latents_of(state, o);
    o.seed = 12;
    sp_tensor b = latents_of(state, o);
    assert_true(difference(&a, &b) > 0.1);
    sp_tensor_free(&a);
    sp_tensor_free(&b);
}

/* Picture j of a batch is the picture of seed + j. Kernels may differ with the batch, so to
 * rounding. */
static void test_batch(void **state)
{
    for (int torch = 0; torch < 2; torch++) {
        splam_generate_options o = options_for(state, "student");
        o.rng = torch ? SPLAM_RNG_TORCH : SPLAM_RNG_PHILOX;
        o.steps = 3;
        o.seed = 40;
        o.count = 3;
        sp_tensor all = latents_of(state, o);
        assert_int_equal(all.shape.dim[0], 3);
        o.seed = 42;
        o.count = 1;
        sp_tensor one = latents_of(state, o);
        sp_tensor third = {.shape = one.shape, .data = (float *)all.data + 2 * LATENT_COUNT};
        assert_true(difference(&third, &one) < 1e-5);
        sp_tensor_free(&all);
        sp_tensor_free(&one);
    }
}

/* Text encoder, UNet and VAE are planned and packed once a call, however many groups of pictures it has. */
static void test_planned_once(void **state)
{
    splam_generate_options o = options_for(state, "student");
    o.steps = 1;
    o.width = 1024;
    o.height = 512; /* eight pictures a group */
    o.count = 17;
    o.output = keep(state, "group.png");
    unsigned long before = sp_runners_made();
    generate(&o);
    assert_int_equal(sp_runners_made() - before, 3);
}

static void test_threads(void **state)
{
    splam_generate_options o = options_for(state, "teacher");
    o.steps = 4;
    o.count = 2;
    splam_set_threads(1);
    sp_tensor one = latents_of(state, o);
    splam_set_threads(2);
    sp_tensor two = latents_of(state, o);
    splam_set_threads(0);
    assert_same_bits(&one, &two);
    sp_tensor_free(&one);
    sp_tensor_free(&two);
}

static void test_bf16(void **state)
{
    splam_generate_options o = options_for(state, "student");
    o.steps = 2;
    sp_tensor exact = latents_of(state, o);
    o.precision = SPLAM_BF16;
    sp_tensor rounded = latents_of(state, o);
    /* bf16 has 8 bits, and random weights do not amplify much in two steps */
    double error = difference(&rounded, &exact);
    assert_true(error > 0 && error < 0.1);
    sp_tensor_free(&exact);
    sp_tensor_free(&rounded);
}

/* With the defaults alone the prompt counts, for guidance is the model's 7.5; a struct that does not begin with them is
 * refused, whatever else it says. */
static void test_defaults(void **state)
{
    splam_generate_options o = splam_generate_defaults(), zeroed = {0};
    o.model = keep(state, "teacher");
    o.prompt = "red apple";
    o.steps = 2;
    sp_tensor a = latents_of(state, o);
    o.prompt = "green apple";
    sp_tensor b = latents_of(state, o);
    assert_true(difference(&a, &b) > 1e-3);
    o.guidance = 7.5;
    sp_tensor told = latents_of(state, o);
    assert_same_bits(&b, &told);
    o.guidance = 0; /* asked for, it is the negative prompt alone */
    sp_tensor without = latents_of(state, o);
    o.prompt = "red apple";
    sp_tensor same = latents_of(state, o);
    assert_same_bits(&without, &same);
    assert_true(difference(&without, &a) > 1e-3);
    zeroed.model = o.model;
    zeroed.prompt = o.prompt;
    assert_int_equal(splam_generate(&zeroed, NULL), SPLAM_ARGUMENT);
    assert_message("begin with splam_generate_defaults()");
    sp_tensor_free(&a);
    sp_tensor_free(&b);
    sp_tensor_free(&told);
    sp_tensor_free(&without);
    sp_tensor_free(&same);
}

/* ---- noise ---- */

/* A run from the same numbers in a file gives the same bits, for both generators. */
static void test_noise_file(void **state)
{
    enum { STEPS = 3, COUNT = 2 };
    static float noise[STEPS][COUNT * LATENT_COUNT];
    float *rows[STEPS] = {noise[0], noise[1], noise[2]};
    splam_generate_options o = options_for(state, "student");
    o.steps = STEPS;
    o.count = COUNT;
    o.seed = 21;
    for (int torch = 0; torch < 2; torch++) {
        for (int j = 0; j < COUNT; j++) {
            sp_torch_generator generator;
            sp_torch_seed(&generator, 21 + (uint64_t)j);
            for (int i = 0; i < STEPS; i++) {
                float *row = noise[i] + j * LATENT_COUNT;
                sp_random_key key = {21 + (uint64_t)j, i ? SP_STREAM_FRESH_NOISE : SP_STREAM_NOISE,
                                     (uint64_t)i, 0};
                if (torch)
                    sp_torch_normal(&generator, row, LATENT_COUNT);
                else
                    sp_random_normal(key, row, LATENT_COUNT);
            }
        }
        save_noise(keep(state, "noise.safetensors"), rows, STEPS, COUNT);
        o.noise = NULL;
        o.count = COUNT;
        o.rng = torch ? SPLAM_RNG_TORCH : SPLAM_RNG_PHILOX;
        sp_tensor drawn = latents_of(state, o);
        o.noise = keep(state, "noise.safetensors");
        o.count = SPLAM_UNSET; /* as many as the file has */
        sp_tensor given = latents_of(state, o);
        assert_same_bits(&drawn, &given);
        sp_tensor_free(&drawn);
        sp_tensor_free(&given);
    }
    save_noise(keep(state, "short.safetensors"), rows, STEPS - 1, COUNT);
    o.noise = keep(state, "short.safetensors");
    o.output = keep(state, "x.png");
    assert_int_equal(splam_generate(&o, NULL), SPLAM_FORMAT);
    assert_message("noise.2");
    o.count = 3;
    assert_int_equal(splam_generate(&o, NULL), SPLAM_SHAPE);
    assert_message("3 pictures");
    o.count = SPLAM_UNSET;
    o.width = 64;
    assert_int_equal(splam_generate(&o, NULL), SPLAM_ARGUMENT);
    assert_message("not 64");
    o.width = SPLAM_UNSET;
    noise[1][5] = NAN;
    save_noise(keep(state, "nan.safetensors"), rows, STEPS, COUNT);
    o.noise = keep(state, "nan.safetensors");
    assert_int_equal(splam_generate(&o, NULL), SPLAM_NUMERIC);
    assert_message("noise.1");
}

/* ---- the student's conditioning ---- */

/* One step of a network with cond_proj: told the embedding of G - 1, sines of 0 and cosines of 0
 * for G = 1. */
static void test_time_cond(void **state)
{
    sp_pipeline *p;
    static float noise[LATENT_COUNT];
    sp_conditioning prompt;
    sp_tensor latents, embedding, timestep = {0};
    assert_ok(sp_pipeline_open(keep(state, "student"), &(sp_model_options){0}, &p));
    assert_ok(sp_pipeline_encode(p, (const char *const[]){"a small house"}, 1, &prompt));
    sp_random_normal((sp_random_key){.seed = 3}, noise, LATENT_COUNT);
    sp_tensor start = {.shape = sp_shape_of(1, 4, LATENT, LATENT), .data = noise};
    const sp_tensor *steps[] = {&start};
    sp_given_noise given = {.step = steps, .steps = 1};
    int64_t dim = p->facts.time_cond_dim;
    assert_int_equal(dim, 256);
    assert_ok(sp_tensor_create(SP_F32, sp_shape_of(1, dim), &embedding));
    assert_ok(sp_tensor_create(SP_F32, sp_shape_of(1), &timestep));
    *(float *)timestep.data = 999;
    for (int i = 0; i < 2; i++) {
        double guidance = i ? 8.5 : 1;
        sp_denoise_request request = {.sampler = {.kind = SP_SAMPLER_LCM, .steps = 1},
                                      .guidance = guidance,
                                      .conditioning = &prompt,
                                      .height = LATENT,
                                      .width = LATENT,
                                      .noise = sp_noise_given(&given)};
        assert_ok(sp_pipeline_denoise(p, &request, NULL, &latents));
        for (int64_t j = 0; j < dim / 2; j++) {
            float phase = (float)(guidance - 1) * 1000 *
                          (float)exp((double)j * -log(10000.0) / (double)(dim / 2 - 1));
            ((float *)embedding.data)[j] = sinf(phase);
            ((float *)embedding.data)[dim / 2 + j] = cosf(phase);
        }
        const sp_named_tensor inputs[] = {
            {"sample", &start},
            {"timestep", &timestep},
            {"encoder_hidden_states", sp_conditioning_find(&prompt, "encoder_hidden_states")},
            {"timestep_cond", &embedding}};
        const char *path = keep(state, "inputs.safetensors");
        sp_tensor_file *file;
        sp_named_outputs outputs;
        assert_ok(sp_safetensors_save(path, inputs, 4, NULL, 0));
        assert_ok(sp_safetensors_open(path, &file));
        assert_ok(sp_component_forward(p->model->folder.path, "unet", file, SP_F32, p->device, &outputs));
        sp_tensor_file_close(file);
        const float *m = outputs.item[0].tensor.data, *found = latents.data;
        sp_pair at = sp_path_at(&p->scheduler.path, 999);
        for (int k = 0; k < LATENT_COUNT; k++)
            /* 1/alpha is 15; the network's float32 rounding is 1e-6 */
            assert_float_equal(found[k], ((double)noise[k] - at.sigma * (double)m[k]) / at.alpha, 1e-3);
        sp_named_outputs_free(&outputs);
        sp_tensor_free(&latents);
    }
    sp_tensor_free(&timestep);
    sp_tensor_free(&embedding);
    sp_conditioning_free(&prompt);
    sp_pipeline_close(p);
}

/* ---- another network's weights ---- */

static sp_tensor run_pipeline(sp_pipeline *p, const sp_conditioning *prompt)
{
    sp_philox_noise seed = {9};
    sp_tensor latents;
    sp_denoise_request request = {.sampler = {.kind = SP_SAMPLER_DDIM, .steps = 2},
                                  .guidance = 1,
                                  .conditioning = prompt,
                                  .height = LATENT,
                                  .width = LATENT,
                                  .noise = sp_noise_philox(&seed)};
    assert_ok(sp_pipeline_denoise(p, &request, NULL, &latents));
    return latents;
}

static void test_set_unet(void **state)
{
    sp_pipeline *p;
    sp_weights *weights;
    sp_conditioning prompt;
    assert_ok(sp_pipeline_open(keep(state, "teacher"), &(sp_model_options){0}, &p));
    assert_ok(sp_pipeline_encode(p, (const char *const[]){"red apple"}, 1, &prompt));
    sp_tensor own = run_pipeline(p, &prompt);
    assert_ok(sp_weights_copy(p->denoiser->weights, SP_F32, &weights));
    assert_ok(sp_pipeline_set_denoiser(p, &p->denoiser->config, weights));
    sp_tensor same = run_pipeline(p, &prompt);
    assert_same_bits(&own, &same);
    sp_tensor *bias = sp_weights_find(weights, "conv_out.bias");
    for (int64_t i = 0; i < sp_tensor_count(bias); i++)
        ((float *)bias->data)[i] += 1;
    assert_ok(sp_pipeline_set_denoiser(p, &p->denoiser->config, weights));
    sp_tensor other = run_pipeline(p, &prompt);
    assert_true(difference(&other, &own) > 0.01);
    assert_ok(sp_pipeline_set_denoiser(p, NULL, NULL));
    sp_tensor again = run_pipeline(p, &prompt);
    assert_same_bits(&own, &again);
    sp_tensor_free(&own);
    sp_tensor_free(&same);
    sp_tensor_free(&other);
    sp_tensor_free(&again);
    sp_conditioning_free(&prompt);
    sp_weights_destroy(weights);
    sp_pipeline_close(p);
}

/* ---- another autoencoder ---- */

/* The picture is what the tiny decoder makes of the latents as they are: its scaling factor is 1. */
static void check_tiny_picture(void **state, const splam_generate_options *o)
{
    sp_tensor_file *file;
    sp_named_outputs outputs;
    sp_image image;
    static uint8_t expected[SIDE * SIDE * 3];
    sp_tensor latents = latents_of(state, *o);
    const sp_named_tensor inputs[] = {{"latent", &latents}};
    assert_ok(sp_safetensors_save(keep(state, "latent.safetensors"), inputs, 1, NULL, 0));
    assert_ok(sp_safetensors_open(keep(state, "latent.safetensors"), &file));
    assert_ok(sp_component_forward(golden("vae-tiny"), "vae-decoder", file, SP_F32,
                                   sp_default_device(), &outputs));
    sp_rgb_from_float(outputs.item[0].tensor.data, SIDE, SIDE, expected);
    assert_ok(sp_image_load(o->output, &image));
    assert_int_equal(image.width, SIDE);
    for (int i = 0; i < SIDE * SIDE * 3; i++) /* a value near a half may round either way */
        assert_in_range(image.pixels[i], expected[i] > 0 ? expected[i] - 1 : 0, expected[i] + 1);
    sp_image_free(&image);
    sp_named_outputs_free(&outputs);
    sp_tensor_file_close(file);
    sp_tensor_free(&latents);
}

static void test_other_vae(void **state)
{
    splam_generate_options o = options_for(state, "student");
    char *bytes;
    size_t size;
    o.steps = 1;
    o.output = keep(state, "tiny.png");
    o.vae = golden("vae-tiny");
    check_tiny_picture(state, &o);
    assert_ok(sp_read_file(o.output, &bytes, &size));
    assert_non_null(memmem(bytes, size, ", Model: student, VAE: vae-tiny, ", 33));
    assert_non_null(memmem(bytes, size, "\"vae\":\"vae-tiny\"", 16));
    sp_free(bytes);

    /* The same as a model's own, and that model as the place to take it from. */
    assert_ok(sp_copy_tree(keep(state, "student"), keep(state, "with-tiny"), NULL));
    assert_ok(sp_remove_tree(keep(state, "with-tiny/vae")));
    assert_ok(sp_copy_tree(golden("vae-tiny"), keep(state, "with-tiny/vae"), NULL));
    write_text(keep(state, "with-tiny/model_index.json"),
               "{\"vae\": [\"diffusers\", \"AutoencoderTiny\"]}");
    o.vae = NULL;
    o.model = keep(state, "with-tiny");
    check_tiny_picture(state, &o);
    o.model = keep(state, "student");
    o.vae = keep(state, "with-tiny");
    check_tiny_picture(state, &o);
    o.vae = golden("vae-tiny-other");
    assert_int_equal(splam_generate(&o, NULL), SPLAM_FORMAT);
    assert_message("vae-tiny-other: the VAE's latents have 6 channels and the UNet's 4");
    o.vae = keep(state, "nowhere");
    assert_int_equal(splam_generate(&o, NULL), SPLAM_IO);
    assert_message("nowhere: no such file or folder");
}

/* ---- what goes wrong ---- */

static void check_error(const splam_generate_options *o, splam_status expected, const char *words)
{
    splam_status status = splam_generate(o, NULL);
    if (status != expected)
        fail_msg("status %d, expected %d: %s", (int)status, (int)expected, splam_error_message());
    assert_message(words);
    assert_null(strchr(splam_error_message(), '\n'));
}

static void test_wrong_requests(void **state)
{
    splam_generate_options o = options_for(state, "teacher");
    o.output = keep(state, "never.png");
    const splam_generate_options good = o;
    o.model = NULL;
    check_error(&o, SPLAM_ARGUMENT, "`model` is missing");
    o.model = keep(state, "nowhere");
    check_error(&o, SPLAM_IO, "nowhere: no such file or folder");
    o = good;
    o.prompt_count = 0;
    check_error(&o, SPLAM_ARGUMENT, "prompt is missing");
    o.prompts_file = keep(state, "empty.txt");
    write_text(o.prompts_file, "\n\n");
    check_error(&o, SPLAM_FORMAT, "empty.txt: there is no prompt");
    write_text(o.prompts_file, "red\ncaf\xE9\n");
    check_error(&o, SPLAM_FORMAT, "empty.txt: line 2, byte 4: 0xE9 is not UTF-8");
    o = good;
    o.width = 34;
    check_error(&o, SPLAM_ARGUMENT, "width of 34 pixels is not a multiple of 4");
    o = good;
    o.height = 20000;
    check_error(&o, SPLAM_ARGUMENT, "`height` is 20000");
    o = good;
    o.sampler = "dpm";
    check_error(&o, SPLAM_ARGUMENT, "\"dpm\"");
    o = good;
    o.sampler = "lcm";
    o.steps = 60;
    check_error(&o, SPLAM_ARGUMENT, "60 steps of lcm");
    o = good;
    o.clip_skip = 2;
    check_error(&o, SPLAM_ARGUMENT, "`clip_skip` is 2");
    o = good;
    static const char *const latin[] = {"caf\xE9"};
    o.prompts = latin;
    check_error(&o, SPLAM_FORMAT, "a prompt: line 1, byte 4: 0xE9 is not UTF-8 text");
    o = good;
    o.negative = latin[0];
    check_error(&o, SPLAM_FORMAT, "the negative prompt: line 1, byte 4");
    o = good;
    o.guidance = -1;
    check_error(&o, SPLAM_ARGUMENT, "`guidance` is -1, a number from 0 to 1000 is expected");
    o.guidance = NAN;
    check_error(&o, SPLAM_ARGUMENT, "`guidance` is nan");
    o = good;
    o.unet = "unet_ema";
    check_error(&o, SPLAM_IO, "unet_ema");
    o = good;
    o.count = 2000000;
    check_error(&o, SPLAM_ARGUMENT, "`count` is 2000000");
    o = good;
    o.noise = keep(state, "no-noise.safetensors");
    check_error(&o, SPLAM_IO, "no-noise.safetensors");
    o = good;
    o.output = NULL;
    check_error(&o, SPLAM_ARGUMENT, "nothing to write");
    o.output = keep(state, "empty.txt/out.png");
    check_error(&o, SPLAM_IO, "empty.txt");
    o = good;
    o.quality = 90;
    check_error(&o, SPLAM_ARGUMENT, "PNG has none");
    o.output = keep(state, "never.jpg");
    o.quality = 101;
    check_error(&o, SPLAM_ARGUMENT, "`quality` is 101");
    o.quality = SPLAM_UNSET;
    o.format = "png";
    check_error(&o, SPLAM_ARGUMENT, "never.jpg: the name and the format png do not agree");
    o.format = "gif";
    check_error(&o, SPLAM_ARGUMENT, "`format` is \"gif\", one of png|jpg|webp is expected");
    o = good;
    o.output = keep(state, "never.tar.gz");
    check_error(&o, SPLAM_ARGUMENT, "written as .png, .jpg, .jpeg or .webp, not as \".gz\"");
    o.output = keep(state, "never.webp");
    o.width = 16384;
    check_error(&o, SPLAM_ARGUMENT, "do not fit into a WebP");
    o = good;
    o.output = "-";
    o.count = 2;
    check_error(&o, SPLAM_ARGUMENT, "2 pictures do not go to standard output");
    assert_false(sp_path_exists(good.output));
}

/* What cannot be written is found before the first step, and nothing is left of the trial. */
static void test_unwritable(void **state)
{
    splam_generate_options o = options_for(state, "teacher");
    char **names;
    size_t before, after;
    o.steps = 1;
    assert_ok(sp_make_folders(keep(state, "taken-1.png")));
    write_text(keep(state, "a-file"), "");
    assert_ok(sp_list_folder(*state, &names, &before));
    for (size_t i = 0; i < before; i++)
        sp_free(names[i]);
    sp_free(names);
    splam_generate_seconds seconds = {0};
    o.seconds = &seconds;
    o.count = 2;
    o.output = keep(state, "taken.png");
    check_error(&o, SPLAM_IO, "taken-1.png: cannot be replaced by a file: it is a folder");
    o.output = keep(state, "a-file/new/out.png");
    check_error(&o, SPLAM_IO, "a-file");
    o.output = keep(state, "fresh/new/out.png");
    o.save_latents = keep(state, "a-file/latents.safetensors");
    check_error(&o, SPLAM_IO, "a-file");
    o.save_latents = "-";
    check_error(&o, SPLAM_ARGUMENT, "not written to standard output");
    assert_true(seconds.text == 0 && seconds.denoise == 0);
    assert_ok(sp_list_folder(*state, &names, &after));
    for (size_t i = 0; i < after; i++)
        sp_free(names[i]);
    sp_free(names);
    assert_int_equal(before, after);
}

static void test_wrong_models(void **state)
{
    splam_generate_options o = options_for(state, "broken");
    o.output = keep(state, "never.png");
    o.steps = 1;
    assert_ok(sp_copy_tree(keep(state, "teacher"), keep(state, "broken"), NULL));
    const char *scheduler = keep(state, "broken/scheduler/scheduler_config.json");
    write_text(scheduler, "{\"trained_betas\": [0.5]}");
    check_error(&o, SPLAM_UNSUPPORTED, "trained_betas");
    write_text(scheduler, ddim_scheduler);

    sp_component *unet;
    sp_weights *weights;
    assert_ok(sp_component_open(keep(state, "teacher"), "unet", &unet));
    assert_ok(sp_weights_copy(unet->weights, SP_F32, &weights));
    ((float *)sp_weights_find(weights, "conv_in.weight")->data)[0] = NAN;
    assert_ok(sp_component_save(keep(state, "broken/unet"), SP_COMPONENT_UNET, unet->json, weights,
                                SP_F32, NULL));
    sp_weights_destroy(weights);
    sp_component_close(unet);
    check_error(&o, SPLAM_NUMERIC, "latents");

    const char *config = keep(state, "broken/text_encoder/config.json");
    assert_ok(sp_remove_tree(keep(state, "broken/text_encoder")));
    assert_ok(sp_copy_tree(golden("text-sd1"), keep(state, "broken/text_encoder"), NULL));
    check_error(&o, SPLAM_FORMAT, "tokenizer has");
    assert_ok(sp_remove_tree(config));
    check_error(&o, SPLAM_IO, "text_encoder/config.json");
    assert_ok(sp_remove_tree(keep(state, "broken/text_encoder")));
    make_text_encoder(keep(state, "broken/text_encoder"), 600, 32);
    check_error(&o, SPLAM_FORMAT, "text encoder is 32 wide");
    assert_ok(sp_remove_tree(keep(state, "broken/text_encoder")));
    make_text_encoder(keep(state, "broken/text_encoder"), 600, 24);
    assert_ok(sp_remove_tree(keep(state, "broken/vae")));
    assert_ok(sp_copy_tree(golden("vae-no-quant"), keep(state, "broken/vae"), NULL));
    assert_ok(sp_remove_tree(keep(state, "broken/unet")));
    assert_ok(sp_copy_tree(golden("unet-demo"), keep(state, "broken/unet"), NULL));
    check_error(&o, SPLAM_FORMAT, "latents have 8 channels");
    assert_ok(sp_remove_tree(keep(state, "broken/tokenizer")));
    check_error(&o, SPLAM_IO, "tokenizer");
    assert_false(sp_path_exists(o.output));
}

/* A model whose schedule has no signal at its end begins there. */
static void test_zero_terminal_snr(void **state)
{
    splam_generate_options o = options_for(state, "zero-snr");
    o.output = keep(state, "zero-snr.png");
    o.steps = 3;
    assert_ok(sp_copy_tree(keep(state, "teacher"), keep(state, "zero-snr"), NULL));
    write_text(keep(state, "zero-snr/scheduler/scheduler_config.json"),
               "{\"_class_name\": \"EulerDiscreteScheduler\", \"beta_schedule\": \"scaled_linear\","
               " \"beta_start\": 0.00085, \"beta_end\": 0.012, \"prediction_type\": \"v_prediction\","
               " \"timestep_spacing\": \"trailing\", \"rescale_betas_zero_snr\": true}");
    for (int k = 0; k < SP_SAMPLER_COUNT; k++) {
        o.sampler = sp_sampler_name((sp_sampler_kind)k);
        if (k == SP_SAMPLER_HEUN)
            check_error(&o, SPLAM_UNSUPPORTED, "\"rescale_betas_zero_snr\" is true");
        else
            generate(&o);
    }
}

static bool stop_after_three(void *context)
{
    return ++*(int *)context > 3;
}

static void test_cancelled(void **state)
{
    splam_generate_options o = options_for(state, "teacher");
    int asked = 0;
    splam_callbacks callbacks = {.context = &asked, .cancelled = stop_after_three};
    o.steps = 10;
    o.output = keep(state, "cancelled.png");
    assert_int_equal(splam_generate(&o, &callbacks), SPLAM_CANCELLED);
    assert_int_equal(asked, 4);
    assert_message("interrupted: 0 of 1 pictures were written");
    assert_false(sp_path_exists(o.output));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_planned_once),
        cmocka_unit_test(test_same_seed),
        cmocka_unit_test(test_batch),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_bf16),
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_noise_file),
        cmocka_unit_test(test_time_cond),
        cmocka_unit_test(test_set_unet),
        cmocka_unit_test(test_other_vae),
        cmocka_unit_test(test_wrong_requests),
        cmocka_unit_test(test_wrong_models),
        cmocka_unit_test(test_zero_terminal_snr),
        cmocka_unit_test(test_cancelled),
        cmocka_unit_test(test_unwritable),
    };
    return cmocka_run_group_tests(tests, set_up, remove_test_folder);
}
