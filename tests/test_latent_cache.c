/* Latent caches: the same numbers as encoding in memory, runs that are stopped and go on, damage,
 * and distillation from files. */
#include <math.h>
#include "base/json.h"
#include "base/log.h"
#include "base/progress.h"
#include "base/random.h"
#include "latents/latent_block.h"
#include "latents/latent_cache.h"
#include "pipeline/vae_run.h"
#include "data_support.h"
#include "fontconfig_leak.h"
#include "distill/distill.h"

enum { R = 32, SAMPLES = SP_LATENT_BLOCK + 14, SIDE = 8, CHANNELS = 4 };
#define LATENT (CHANNELS * SIDE * SIDE)

static void write_shard(void **state, int count, int damaged)
{
    write_noise_shard(in_folder(state, "data.tar"), R, count, damaged);
}

static sp_dataset *open_data(void **state, bool flips)
{
    char spec[512];
    sp_dataset *dataset;
    snprintf(spec, sizeof spec, "wds:%s", in_folder(state, "data.tar"));
    const sp_dataset_options options = {.resolution = R, .random_flip = flips};
    assert_ok(sp_dataset_open(spec, &options, NULL, &dataset));
    return dataset;
}

static sp_pipeline *open_teacher(void)
{
    const sp_model_options options = {.parts = SP_PART_TEXT | SP_PART_VAE, .precision = SP_F32};
    sp_pipeline *pipeline;
    assert_ok(sp_pipeline_open(shipped_teacher(), &options, &pipeline));
    return pipeline;
}

static sp_status write_cache(void **state, const char *name, bool flips, sp_dtype dtype,
                             const sp_callbacks *callbacks)
{
    const sp_latent_cache_options options = {.teacher = shipped_teacher(), .dtype = dtype};
    sp_dataset *dataset = open_data(state, flips);
    sp_pipeline *pipeline = open_teacher();
    sp_status status =
        sp_latent_cache_write(dataset, pipeline, &options, in_folder(state, name), callbacks);
    sp_pipeline_close(pipeline);
    sp_dataset_close(dataset);
    return status;
}

static sp_status open_cache(void **state, const char *name, sp_latent_cache **out)
{
    return sp_latent_cache_open(in_folder(state, name), out);
}

/* ---- numbers ---- */

static void files_hold_what_encoding_gives(void **state)
{
    write_shard(state, SAMPLES, -1);
    sp_dataset *dataset = open_data(state, true);
    sp_pipeline *pipeline = open_teacher();
    sp_latent_cache *memory, *exact, *half;
    assert_ok(sp_latent_cache_encode(dataset, pipeline, NULL, &memory));
    assert_ok(write_cache(state, "exact", true, SP_F32, NULL));
    assert_ok(write_cache(state, "half", true, SP_F16, NULL));
    assert_ok(open_cache(state, "exact", &exact));
    assert_ok(open_cache(state, "half", &half));
    const sp_latent_facts *facts = sp_latent_cache_facts(exact);
    assert_int_equal(facts->count, SAMPLES);
    assert_true(facts->gaussian && facts->flips && facts->channels == CHANNELS &&
                facts->height == SIDE && facts->width == SIDE);
    assert_memory_equal(facts, sp_latent_cache_facts(memory), sizeof *facts);
    sp_conditioning given[2];
    for (int i = 0; i < 2; i++)
        assert_ok(sp_conditioning_create(sp_latent_cache_conditioning(exact), SP_F32, 1, &given[i]));
    const sp_tensor *states[] = {sp_conditioning_find(&given[0], "encoder_hidden_states"),
                                 sp_conditioning_find(&given[1], "encoder_hidden_states")};
    const float *x = states[0]->data, *y = states[1]->data;
    int64_t width = sp_tensor_count(states[0]);
    float a[2 * LATENT], b[2 * LATENT];
    for (int64_t k = 0; k < SAMPLES; k++)
        for (int flipped = 0; flipped < 2; flipped++) {
            assert_ok(sp_latent_cache_read(memory, k, flipped, a, &given[0], 0));
            assert_ok(sp_latent_cache_read(exact, k, flipped, b, &given[1], 0));
            assert_memory_equal(a, b, sizeof a);
            assert_memory_equal(x, y, (size_t)width * 4);
            assert_ok(sp_latent_cache_read(half, k, flipped, b, &given[1], 0));
            for (int i = 0; i < 2 * LATENT; i++) /* half a unit in the last of eleven places */
                assert_true(fabsf(a[i] - b[i]) <= fabsf(a[i]) / 2048 + 1e-7f);
            for (int64_t i = 0; i < width; i++)
                assert_true(fabsf(x[i] - y[i]) <= fabsf(x[i]) / 2048 + 1e-7f);
            assert_string_equal(sp_latent_cache_caption(exact, k),
                                sp_dataset_caption(dataset, k, 0));
        }
    assert_ok(sp_latent_cache_verify(exact, NULL));
    assert_ok(sp_latent_cache_check_teacher(exact, shipped_teacher()));
    assert_true(sp_latent_cache_bytes(memory) > 0 && sp_latent_cache_bytes(exact) == 0);
    assert_string_not_equal(sp_latent_cache_key(exact), sp_latent_cache_key(half));
    sp_conditioning_free(&given[0]);
    sp_conditioning_free(&given[1]);
    sp_latent_cache_close(memory);
    sp_latent_cache_close(exact);
    sp_latent_cache_close(half);
    sp_pipeline_close(pipeline);
    sp_dataset_close(dataset);
}

/* Against the pipeline's own encoder, picture by picture: the mirrored one is that of the mirrored
 * picture, and the empty caption's context is what guidance takes. */
static void moments_are_the_pictures(void **state)
{
    write_shard(state, 3, -1);
    assert_ok(write_cache(state, "cache", true, SP_F32, NULL));
    sp_dataset *dataset = open_data(state, false);
    sp_pipeline *pipeline = open_teacher();
    sp_latent_cache *cache;
    sp_conditioning negative;
    sp_tensor pictures, posterior;
    uint8_t rgb[R * R * 3];
    float found[2 * LATENT];
    assert_ok(open_cache(state, "cache", &cache));
    assert_ok(sp_tensor_create(SP_F32, sp_shape_of(1, 3, R, R), &pictures));
    for (int64_t k = 0; k < 3; k++)
        for (int flipped = 0; flipped < 2; flipped++) {
            assert_ok(sp_dataset_image(dataset, k, rgb, NULL));
            if (flipped) sp_rgb_mirror(rgb, R, R);
            sp_rgb_to_float(rgb, R, R, pictures.data);
            assert_ok(sp_pipeline_encode_pictures(pipeline, &pictures, NULL, &posterior));
            assert_ok(sp_latent_cache_read(cache, k, flipped, found, NULL, 0));
            const sp_tensor row = {SP_F32, posterior.shape, found, false};
            double error; /* another batch size may sum in another order */
            assert_ok(sp_tensor_relative_max_error(&row, &posterior, &error));
            assert_true(error < 1e-5);
            sp_tensor_free(&posterior);
        }
    assert_ok(sp_pipeline_encode_negative(pipeline, "", &negative));
    assert_true(sp_conditioning_same(&negative, sp_latent_cache_negative(cache)));
    assert_memory_equal(negative.item[0].tensor.data, sp_latent_cache_negative(cache)->item[0].tensor.data,
                        sp_conditioning_bytes(&negative));
    sp_conditioning_free(&negative);
    sp_tensor_free(&pictures);
    sp_latent_cache_close(cache);
    sp_pipeline_close(pipeline);
    sp_dataset_close(dataset);
}

/* Mean and deviation of z0 = f (mean + exp(logvar / 2) noise - shift), known in closed form. */
static void latents_are_drawn_from_the_posterior(void **state)
{
    (void)state;
    enum { COUNT = 20000 };
    float *mean = sp_alloc(COUNT * 4), *logvar = sp_alloc(COUNT * 4), *z = sp_alloc(COUNT * 4);
    double sum = 0, squares = 0;
    sp_random_normal((sp_random_key){.seed = 1, .stream = SP_STREAM_POSTERIOR}, z, COUNT);
    for (int i = 0; i < COUNT; i++)
        mean[i] = 3, logvar[i] = logf(4);
    sp_vae_draw((sp_latent_scale){0.5, 0.25}, mean, logvar, z, COUNT, z);
    for (int i = 0; i < COUNT; i++) {
        sum += z[i];
        squares += (z[i] - 1.375) * (z[i] - 1.375);
    }
    /* Five standard errors: 1 / sqrt(20000), and its like for the deviation. */
    assert_true(fabs(sum / COUNT - 1.375) < 0.036);
    assert_true(fabs(sqrt(squares / COUNT) - 1) < 0.025);
    sp_vae_draw((sp_latent_scale){0.5, 0}, mean, NULL, z, COUNT, z);
    assert_true(z[7] == 1.5f);
    sp_free(mean);
    sp_free(logvar);
    sp_free(z);
}

/* ---- stopping and going on ---- */

typedef struct {
    int64_t stop_at; /* pictures */
    int64_t done;
} stopper;

static void note(void *context, const char *task, int64_t done, int64_t total, const char *detail)
{
    (void)total, (void)detail;
    if (!strcmp(task, "encoding pictures")) ((stopper *)context)->done = done;
}

static bool stop(void *context)
{
    return ((stopper *)context)->done >= ((stopper *)context)->stop_at;
}

static void assert_same_folder(void **state, const char *a, const char *b)
{
    char **names, path[256];
    size_t count, others, size, other;
    char *x, *y;
    assert_ok(sp_list_folder(in_folder(state, b), &names, &others));
    for (size_t i = 0; i < others; i++)
        sp_free(names[i]);
    sp_free(names);
    assert_ok(sp_list_folder(in_folder(state, a), &names, &count));
    assert_int_equal(count, others);
    for (size_t i = 0; i < count; i++) {
        snprintf(path, sizeof path, "%s/%s", a, names[i]);
        assert_ok(sp_read_file(in_folder(state, path), &x, &size));
        snprintf(path, sizeof path, "%s/%s", b, names[i]);
        assert_ok(sp_read_file(in_folder(state, path), &y, &other));
        assert_int_equal(size, other);
        if (memcmp(x, y, size)) fail_msg("%s differs", names[i]);
        sp_free(x);
        sp_free(y);
        sp_free(names[i]);
    }
    sp_free(names);
}

/* Stopped inside the first file, after it, and inside the second; a picture is damaged, so that
 * what was counted before a stop is counted again. */
static void stopped_runs_go_on(void **state)
{
    write_shard(state, SAMPLES, 5);
    assert_ok(write_cache(state, "whole", true, SP_F16, NULL));
    static const int64_t stops[] = {64, 192, SP_LATENT_BLOCK, SP_LATENT_BLOCK + 1};
    sp_latent_cache *cache;
    for (size_t i = 0; i < 4; i++) {
        stopper s = {.stop_at = stops[i]};
        const sp_callbacks callbacks = {&s, note, stop};
        sp_status status = write_cache(state, "stopped", true, SP_F16, &callbacks);
        if (i < 3) {
            assert_status(status, SP_CANCELLED);
            assert_status(open_cache(state, "stopped", &cache), SP_ARGUMENT);
            assert_message("not complete");
        }
    }
    assert_ok(sp_write_file(in_folder(state, "stopped/latents-00001.safetensors.tmp-1"), "x", 1));
    assert_ok(write_cache(state, "stopped", true, SP_F16, NULL));
    assert_same_folder(state, "whole", "stopped");
    assert_ok(open_cache(state, "whole", &cache));
    assert_string_equal(sp_latent_cache_caption(cache, 5), "picture number 6"); /* the stand-in's */
    sp_string text = {0};
    sp_latent_cache_summary(cache, &text);
    assert_non_null(strstr(sp_string_text(&text), "1 damaged picture (another stands in)"));
    sp_string_free(&text);
    sp_latent_cache_close(cache);
}

static void other_settings_are_refused(void **state)
{
    write_shard(state, 4, -1);
    assert_ok(write_cache(state, "cache", false, SP_F16, NULL));
    assert_status(write_cache(state, "cache", true, SP_F16, NULL), SP_ARGUMENT);
    assert_message("\"random-flip\": false, and now it is true");
    assert_status(write_cache(state, "cache", false, SP_F32, NULL), SP_ARGUMENT);
    assert_message("\"cache-dtype\"");
    write_shard(state, 3, -1);
    assert_status(write_cache(state, "cache", false, SP_F16, NULL), SP_ARGUMENT);
    assert_message("\"samples\"");
    sp_latent_cache *cache;
    float moments[2 * LATENT];
    assert_ok(open_cache(state, "cache", &cache));
    assert_status(sp_latent_cache_read(cache, 0, true, moments, NULL, 0), SP_ARGUMENT);
    sp_latent_cache_close(cache);
}

/* ---- damage ---- */

static void change_byte(void **state, const char *name, int64_t at)
{
    FILE *file = fopen(in_folder(state, name), "r+b");
    assert_non_null(file);
    assert_int_equal(fseek(file, at, at < 0 ? SEEK_END : SEEK_SET), 0);
    int byte = fgetc(file);
    assert_int_equal(fseek(file, -1, SEEK_CUR), 0);
    fputc(byte ^ 1, file);
    fclose(file);
}

/* Any byte of any tensor: opening or the checksums find it, by name. */
static void damage_is_found(void **state)
{
    const char *name = "cache/latents-00000.safetensors";
    write_shard(state, 3, -1);
    assert_ok(write_cache(state, "cache", true, SP_F16, NULL));
    char *bytes;
    size_t size;
    uint64_t header;
    assert_ok(sp_read_file(in_folder(state, name), &bytes, &size));
    memcpy(&header, bytes, 8);
    sp_latent_cache *cache;
    for (int64_t at = 0; at < (int64_t)size; at += at < 8 + (int64_t)header ? 1 : 97) {
        change_byte(state, name, at);
        sp_status status = open_cache(state, "cache", &cache);
        if (!status) {
            status = sp_latent_cache_verify(cache, NULL);
            if (status) assert_message("latents-00000.safetensors is damaged");
            sp_latent_cache_close(cache);
        }
        /* In the header padding and metadata are free to change. */
        if (!status && at >= 8 + (int64_t)header)
            fail_msg("byte %lld is not missed", (long long)at);
        assert_ok(sp_write_file(in_folder(state, name), bytes, size));
    }
    /* Whole, but in another place, or in a cache of other settings. */
    sp_latent_block block;
    assert_ok(open_cache(state, "cache", &cache));
    uint64_t key = strtoull(sp_latent_cache_key(cache), NULL, 16);
    sp_latent_cache_close(cache);
    assert_ok(sp_latent_block_open(in_folder(state, name), 3, true, false, &block));
    assert_ok(sp_latent_block_check(&block, key, 0, 1));
    assert_status(sp_latent_block_check(&block, key, 256, 1), SP_FORMAT);
    assert_status(sp_latent_block_check(&block, key + 1, 0, 1), SP_FORMAT);
    sp_latent_block_free(&block);
    change_byte(state, name, -3000);
    assert_ok(write_cache(state, "cache", true, SP_F16, NULL)); /* made again */
    char *again;
    size_t same;
    assert_ok(sp_read_file(in_folder(state, name), &again, &same));
    assert_int_equal(same, size);
    assert_memory_equal(again, bytes, size);
    assert_int_equal(truncate(in_folder(state, name), (off_t)size - 1), 0);
    assert_status(open_cache(state, "cache", &cache), SP_FORMAT);
    assert_message("latents-00000.safetensors");
    assert_int_equal(unlink(in_folder(state, name)), 0);
    assert_status(open_cache(state, "cache", &cache), SP_FORMAT);
    assert_message("latents-00000.safetensors");
    sp_free(bytes);
    sp_free(again);
}

static void bad_indices_are_refused(void **state)
{
    static const char *const bad[] = {
        "",
        "[]",
        "{}",
        "{\"format\": 3}",
        "{\"format\": 1, \"complete\": true}",
        "{\"format\": 1, \"complete\": true, \"settings\": 7}",
        "{\"format\": 1, \"complete\": true, \"settings\": {\"samples\": -1}}",
        "{\"format\": 1, \"complete\": true, \"settings\": {\"samples\": 4294967294, \"resolution\": 32, "
        "\"latent-channels\": 4, \"scaling-factor\": 1.0}}",
        "{\"format\": 1, \"complete\": true, \"settings\": {\"samples\": 3, \"resolution\": 32, "
        "\"latent-channels\": 4, \"scaling-factor\": 0}}",
        "{\"format\": 1, \"complete\": true, \"settings\": {\"samples\": 3, \"resolution\": 32, "
        "\"latent-channels\": 3, \"scaling-factor\": 1.0}}",
        "{\"format\": 1, \"complete\": true, \"settings\": {\"samples\": 2, \"resolution\": 32, "
        "\"latent-channels\": 4, \"scaling-factor\": 1.0}}",
        "{\"format\": 1, \"complete\": true, \"settings\": {\"samples\": 3, \"resolution\": 32, "
        "\"latent-channels\": 4, \"scaling-factor\": 1.0, \"random-flip\": true}}",
        "{\"format\": 1, \"complete\": true, \"settings\": {\"samples\": \"3\"}}"};
    write_shard(state, 3, -1);
    assert_ok(write_cache(state, "cache", false, SP_F16, NULL));
    sp_latent_cache *cache;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_ok(sp_write_file(in_folder(state, "cache/index.json"), bad[i], strlen(bad[i])));
        assert_status(open_cache(state, "cache", &cache), SP_FORMAT);
        assert_null(cache);
    }
    assert_status(open_cache(state, "nowhere", &cache), SP_IO);
    assert_message("nowhere");
}

static sp_status open_and_read(void *state)
{
    sp_latent_cache *cache;
    float moments[2 * LATENT];
    sp_status status = open_cache(state, "cache", &cache);
    if (status) return status;
    status = sp_latent_cache_read(cache, 1, false, moments, NULL, 0);
    sp_latent_cache_close(cache);
    return status;
}

/* A file that is cut while it is open: an error of that file, and no signal, whatever is asked of it. */
static void shortened_files_are_errors(void **state)
{
    float moments[2 * LATENT];
    sp_latent_cache *cache;
    write_shard(state, 3, -1);
    assert_ok(write_cache(state, "cache", false, SP_F16, NULL));
    assert_ok(open_cache(state, "cache", &cache));
    assert_int_equal(truncate(in_folder(state, "cache/latents-00000.safetensors"), 10), 0);
    assert_status(sp_latent_cache_read(cache, 1, false, moments, NULL, 0), SP_IO);
    assert_message("latents-00000.safetensors: became shorter while it was read");
    assert_status(sp_latent_cache_verify(cache, NULL), SP_IO);
    assert_non_null(sp_latent_cache_caption(cache, 2));
    sp_latent_cache_close(cache);
}

static void lack_of_memory_is_survived(void **state)
{
    write_shard(state, 3, -1);
    assert_ok(write_cache(state, "cache", false, SP_F16, NULL));
    assert_true(fail_every_allocation(open_and_read, state) > 30);
}

/* ---- distilling ---- */

static sp_distill_options short_run(void **state, const char *data, const char *output)
{
    sp_distill_options o = sp_distill_defaults();
    o.given.teacher = shipped_teacher();
    o.given.data = data;
    o.given.output = in_folder(state, output);
    o.given.max_train_steps = 3;
    o.given.train_batch_size = 3;
    o.precision = SP_F32;
    o.given.checkpointing_steps = 0;
    o.given.pictures.random_flip = true;
    return o;
}

static void assert_same_student(void **state, const char *a, const char *b, bool same)
{
    char *x, *y, path[128];
    size_t size, other;
    snprintf(path, sizeof path, "%s/unet/diffusion_pytorch_model.safetensors", a);
    assert_ok(sp_read_file(in_folder(state, path), &x, &size));
    snprintf(path, sizeof path, "%s/unet/diffusion_pytorch_model.safetensors", b);
    assert_ok(sp_read_file(in_folder(state, path), &y, &other));
    assert_int_equal(size, other);
    assert_true(!memcmp(x, y, size) == same);
    sp_free(x);
    sp_free(y);
}

static void files_distil_as_pictures_do(void **state)
{
    char data[512], latents[512];
    snprintf(data, sizeof data, "wds:%s", in_folder(state, "data.tar"));
    snprintf(latents, sizeof latents, "latents:%s", in_folder(state, "cache"));
    write_shard(state, 7, -1);
    assert_ok(write_cache(state, "cache", true, SP_F32, NULL));
    sp_distill_options o = short_run(state, data, "from-pictures");
    o.given.pictures.resolution = R;
    assert_ok(sp_distill(&o, NULL));
    o = short_run(state, latents, "from-files");
    o.given.validation_steps = 3; /* the VAE is opened for it; nothing else changes */
    assert_ok(sp_distill(&o, NULL));
    assert_same_student(state, "from-pictures", "from-files", true);
    assert_true(sp_path_exists(in_folder(state, "from-files/validation-3.png")));
    o = short_run(state, latents, "adapters");
    o.lora = (sp_lora_settings){.rank = 2, .alpha = 2};
    o.given.validation_steps = 3; /* adapters are merged into the teacher's weights for it */
    assert_ok(sp_distill(&o, NULL));
    assert_true(sp_path_exists(in_folder(state, "adapters/validation-3.png")));
    o = short_run(state, latents, "not-flipped");
    o.given.pictures.random_flip = false;
    assert_ok(sp_distill(&o, NULL));
    assert_same_student(state, "from-files", "not-flipped", false);
}

static void what_does_not_fit_is_refused(void **state)
{
    char latents[512], other[512];
    write_shard(state, 3, -1);
    assert_ok(write_cache(state, "cache", false, SP_F16, NULL));
    snprintf(latents, sizeof latents, "latents:%s", in_folder(state, "cache"));
    sp_distill_options o = short_run(state, latents, "student");
    assert_status(sp_distill(&o, NULL), SP_ARGUMENT);
    assert_message("`random_flip`");
    o.given.pictures = splam_distill_defaults().pictures;
    o.given.pictures.min_aesthetic = 5;
    assert_status(sp_distill(&o, NULL), SP_ARGUMENT);
    assert_message("`min_aesthetic`");
    o.given.pictures = splam_distill_defaults().pictures;
    o.given.pictures.resolution = 64;
    assert_status(sp_distill(&o, NULL), SP_ARGUMENT);
    assert_message("`resolution` is 64");
    snprintf(other, sizeof other, "%s", in_folder(state, "other"));
    assert_ok(sp_copy_tree(shipped_teacher(), other, NULL));
    o.given.pictures = splam_distill_defaults().pictures;
    o.given.teacher = other;
    change_byte(state, "other/text_encoder/model.safetensors", -1);
    assert_status(sp_distill(&o, NULL), SP_ARGUMENT);
    assert_message("text-encoder of ");
    assert_message("assets/teacher (");
    assert_message("other has another");
    change_byte(state, "other/text_encoder/model.safetensors", -1);
    change_byte(state, "other/vae/diffusion_pytorch_model.safetensors", -1);
    assert_status(sp_distill(&o, NULL), SP_ARGUMENT);
    assert_message("vae of ");
}

#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, make_test_folder, remove_test_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_FOLDER(files_hold_what_encoding_gives),
        IN_FOLDER(moments_are_the_pictures),
        cmocka_unit_test(latents_are_drawn_from_the_posterior),
        IN_FOLDER(stopped_runs_go_on),
        IN_FOLDER(other_settings_are_refused),
        IN_FOLDER(damage_is_found),
        IN_FOLDER(bad_indices_are_refused),
        IN_FOLDER(shortened_files_are_errors),
        IN_FOLDER(lack_of_memory_is_survived),
        IN_FOLDER(files_distil_as_pictures_do),
        IN_FOLDER(what_does_not_fit_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
