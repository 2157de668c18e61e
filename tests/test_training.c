/* What a training does when things go wrong around it: damaged checkpoints, a full disk, other
 * flags, leftovers of killed processes, want of memory. The training is a distillation of a tiny
 * teacher on recorded draws; the loop and its checkpoints are those of every training. */
#include <math.h>
#include <signal.h>
#include <sys/resource.h>
#include "distill_support.h"
#include "base/json.h"
#include "formats/weights.h"
#include "train/checkpoint.h"
#include "distill/distill.h"
#include "distill/distill_settings.h"

typedef struct {
    sp_distill_options options;
    char teacher[512], draws[512], output[512];
} training;

/* Four steps of three pictures, a checkpoint after each. */
static training make_training(const char *output)
{
    static training t;
    const char *source = getenv("SPLAM_SOURCE");
    snprintf(t.teacher, sizeof t.teacher, "%s/tests/golden/teacher-epsilon", source);
    snprintf(t.draws, sizeof t.draws, "%s/tests/golden/distill-splam/draws.safetensors", source);
    t.options = sp_distill_defaults();
    t.options.given.teacher = t.teacher;
    t.options.given.draws = t.draws;
    snprintf(t.output, sizeof t.output, "%s", output);
    t.options.given.output = t.output;
    t.options.precision = SP_F32;
    t.options.given.train_batch_size = 3;
    t.options.given.max_train_steps = 4;
    t.options.given.learning_rate = 1e-3;
    t.options.given.checkpointing_steps = 1;
    t.options.given.checkpoints_total_limit = 0;
    return t;
}

static char *read_text(const char *path, size_t *size)
{
    char *text;
    assert_ok(sp_read_file(path, &text, size));
    return text;
}

static void assert_same_bytes(const char *a, const char *b)
{
    size_t x_size, y_size;
    char *x = read_text(a, &x_size), *y = read_text(b, &y_size);
    if (x_size != y_size || memcmp(x, y, x_size)) fail_msg("%s and %s differ", a, b);
    sp_free(x);
    sp_free(y);
}

/* Both outputs, folders in the test's folder, ended with the same weights and moments, and logged
 * every step once. */
static void assert_same_end(void **state, const char *a, const char *b)
{
    static const char *const files[] = {"unet/diffusion_pytorch_model.safetensors",
                                        "unet_ema/diffusion_pytorch_model.safetensors",
                                        "checkpoint-4/second_moment.safetensors"};
    char x[256], y[256];
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        snprintf(x, sizeof x, "%s/%s", a, files[i]);
        snprintf(y, sizeof y, "%s/%s", b, files[i]);
        assert_same_bytes(in_folder(state, x), in_folder(state, y));
    }
    snprintf(y, sizeof y, "%s/metrics.jsonl", b);
    char *text = read_text(in_folder(state, y), NULL);
    int64_t expected = 1;
    for (char *line = text, *end; (end = strchr(line, '\n')); line = end + 1) {
        json_t *object;
        assert_ok(sp_json_parse(line, (size_t)(end - line), "metrics.jsonl", &object));
        assert_int_equal(json_integer_value(json_object_get(object, "step")), expected++);
        json_decref(object);
    }
    assert_int_equal(expected, 5);
    sp_free(text);
}

static void run_whole(void **state)
{
    training t = make_training(in_folder(state, "whole"));
    assert_ok(sp_distill(&t.options, NULL));
}

/* ---- checkpoints ---- */

static void cut_file(const char *path)
{
    size_t size;
    char *bytes = read_text(path, &size);
    assert_ok(sp_write_file(path, bytes, size - size / 3));
    sp_free(bytes);
}

static void damaged_checkpoints_are_skipped(void **state)
{
    run_whole(state);
    training t = make_training(in_folder(state, "damaged"));
    t.options.given.max_train_steps = 3;
    assert_ok(sp_distill(&t.options, NULL));
    t.options.given.max_train_steps = 4;
    t.options.given.resume = "latest";
    cut_file(in_folder(state, "damaged/checkpoint-3/second_moment.safetensors"));
    assert_ok(sp_write_file(in_folder(state, "damaged/checkpoint-2/state.json"),
                            "{\"step\": \"two\"}", 15));
    assert_ok(sp_distill(&t.options, NULL)); /* from checkpoint-1 */
    assert_same_end(state, "whole", "damaged");
    /* None is whole: a run that is to go on does not begin anew over what is there. */
    for (int step = 1; step <= 4; step++) {
        char name[64];
        snprintf(name, sizeof name, "damaged/checkpoint-%d/second_moment.safetensors", step);
        cut_file(in_folder(state, name));
    }
    assert_status(sp_distill(&t.options, NULL), SP_IO);
    assert_message("no checkpoint could be read whole");
    /* One that is asked for by name is not passed over. */
    t.options.given.resume = in_folder(state, "damaged/checkpoint-4");
    assert_status(sp_distill(&t.options, NULL), SP_FORMAT);
    assert_message("second_moment.safetensors");
    t.options.given.resume = in_folder(state, "nowhere");
    assert_status(sp_distill(&t.options, NULL), SP_IO);
}

/* Changes one bit, or the last letter of a text that occurs once. */
static void damage(const char *path, const char *text, char to)
{
    sp_mapped_file file;
    assert_ok(sp_mapped_file_open(path, &file));
    size_t at = file.size - file.size / 3;
    char letter = text ? to : (char)(file.data[at] ^ 4);
    if (text) {
        const char *place = memmem(file.data, file.size, text, strlen(text));
        assert_non_null(place);
        at = (size_t)(place - (const char *)file.data) + strlen(text) - 1;
    }
    sp_mapped_file_close(&file);
    FILE *stream = fopen(path, "r+");
    assert_non_null(stream);
    assert_int_equal(fseek(stream, (long)at, SEEK_SET), 0);
    assert_int_equal(fputc(letter, stream), (unsigned char)letter);
    assert_int_equal(fclose(stream), 0);
}

/* What no look at shapes and sizes can find. */
static void checksums_find_one_bit(void **state)
{
    training t = make_training(in_folder(state, "bits"));
    t.options.given.max_train_steps = 3;
    t.options.given.checkpoints_total_limit = 1;
    assert_ok(sp_distill(&t.options, NULL));
    const char *good = in_folder(state, "good"), *folder = in_folder(state, "bits/checkpoint-3");
    char file[600];
    assert_ok(sp_copy_tree(folder, good, NULL));
    static const char *const parts[] = {"online", "ema", "first_moment", "second_moment"};
    t.options.given.resume = folder;
    t.options.given.max_train_steps = 4;
    t.options.given.checkpointing_steps = 0;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        snprintf(file, sizeof file, "%s/%s.safetensors", folder, parts[i]);
        damage(file, NULL, 0);
        assert_status(sp_distill(&t.options, NULL), SP_FORMAT);
        assert_message(parts[i]);
        assert_message("checksum");
        assert_ok(sp_remove_tree(file));
        assert_status(sp_distill(&t.options, NULL), SP_IO);
        assert_message(parts[i]);
        assert_ok(sp_remove_tree(folder));
        assert_ok(sp_copy_tree(good, folder, NULL));
    }
    static const char *const words[][2] = {
        {"\"step\": 3", "2"}, {"\"online.s", "x"}, {"\"bytes\": 1", "2"}};
    snprintf(file, sizeof file, "%s/state.json", folder);
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        damage(file, words[i][0], *words[i][1]);
        assert_status(sp_distill(&t.options, NULL), SP_FORMAT);
        assert_message("state.json has the checksum");
        assert_ok(sp_remove_tree(folder));
        assert_ok(sp_copy_tree(good, folder, NULL));
    }
    assert_ok(sp_distill(&t.options, NULL));
    run_whole(state);
    assert_same_bytes(in_folder(state, "whole/unet/diffusion_pytorch_model.safetensors"),
                      in_folder(state, "bits/unet/diffusion_pytorch_model.safetensors"));
}

static size_t file_size(const char *path)
{
    sp_mapped_file file;
    assert_ok(sp_mapped_file_open(path, &file));
    size_t size = file.size;
    sp_mapped_file_close(&file);
    return size;
}

/* A disk that takes no more than `bytes` in one file. */
static sp_status distill_on_small_disk(const sp_distill_options *options, size_t bytes)
{
    struct rlimit before, small;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = before;
    small.rlim_cur = bytes;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    sp_status status = sp_distill(options, NULL);
    setrlimit(RLIMIT_FSIZE, &before);
    return status;
}

static void full_disk_keeps_what_is_saved(void **state)
{
    run_whole(state);
    training t = make_training(in_folder(state, "full"));
    t.options.given.max_train_steps = 2;
    assert_ok(sp_distill(&t.options, NULL));
    size_t size = file_size(in_folder(state, "full/checkpoint-2/online.safetensors"));
    t.options.given.max_train_steps = 4;
    t.options.given.resume = "latest";
    assert_status(distill_on_small_disk(&t.options, size / 2), SP_IO);
    assert_message("online.safetensors");
    assert_message("cannot write");
    char **names;
    size_t count;
    assert_ok(sp_list_folder(in_folder(state, "full"), &names, &count));
    for (size_t i = 0; i < count; i++) {
        if (strstr(names[i], ".tmp-") || strcmp(names[i], "checkpoint-3") == 0)
            fail_msg("%s is left", names[i]);
        sp_free(names[i]);
    }
    sp_free(names);
    assert_same_bytes(in_folder(state, "whole/checkpoint-2/online.safetensors"),
                      in_folder(state, "full/checkpoint-2/online.safetensors"));
    assert_same_bytes(in_folder(state, "whole/unet/config.json"),
                      in_folder(state, "full/unet/config.json"));
    assert_ok(sp_distill(&t.options, NULL));
    assert_same_end(state, "whole", "full");
}

static void other_runs_do_not_mix(void **state)
{
    training t = make_training(in_folder(state, "twice"));
    assert_ok(sp_distill(&t.options, NULL));
    char *before, *after;
    size_t size, size_after;
    assert_ok(sp_read_file(in_folder(state, "twice/metrics.jsonl"), &before, &size));
    assert_status(sp_distill(&t.options, NULL), SP_ARGUMENT);
    assert_message("twice, which has checkpoint-4 of an earlier run");
    t.options.given.learning_rate = 1e-4;
    t.options.given.resume = "latest";
    assert_status(sp_distill(&t.options, NULL), SP_ARGUMENT);
    assert_message("`learning_rate` 0.001; resuming it with 0.0001");
    assert_ok(sp_read_file(in_folder(state, "twice/metrics.jsonl"), &after, &size_after));
    assert_true(size == size_after && memcmp(before, after, size) == 0);
    sp_free(before);
    sp_free(after);
}

/* Of another program, or another model. */
static void files_of_others_are_kept(void **state)
{
    static const char *const files[] = {"README.md", "splam.json", "unet/config.json", "model_index.json"};
    training t = make_training(in_folder(state, "theirs"));
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char path[700], *text;
        size_t size;
        snprintf(path, sizeof path, "%s/%s", in_folder(state, "theirs"), files[i]);
        assert_ok(sp_make_folders(in_folder(state, "theirs/unet")));
        assert_ok(sp_write_file(path, "mine", 4));
        assert_status(sp_distill(&t.options, NULL), SP_ARGUMENT);
        assert_message(files[i]);
        assert_ok(sp_read_file(path, &text, &size));
        assert_true(size == 4 && memcmp(text, "mine", 4) == 0);
        sp_free(text);
        assert_ok(sp_remove_tree(in_folder(state, "theirs")));
    }
    assert_ok(sp_make_folders(in_folder(state, "theirs")));
    assert_ok(sp_write_file(in_folder(state, "theirs/log.txt"), "a shell's", 9)); /* in nobody's way */
    assert_ok(sp_distill(&t.options, NULL));
}

/* A model is the same however its path is spelled. */
static void the_teacher_is_a_place(void **state)
{
    training t = make_training(in_folder(state, "spelled"));
    char other[700];
    t.options.given.max_train_steps = 1;
    assert_ok(sp_distill(&t.options, NULL));
    t.options.given.resume = "latest";
    snprintf(other, sizeof other, "%s//", t.options.given.teacher);
    t.options.given.teacher = other;
    assert_ok(sp_distill(&t.options, NULL));
}

/* Among the settings that a run is resumed with; nothing where nothing is asked for. */
static void the_captions_column_is_a_setting(void **state)
{
    (void)state;
    sp_distill_options o = sp_distill_defaults();
    json_t *settings;
    o.given.teacher = "teacher";
    o.given.data = "folder:pictures";
    o.given.seed = UINT64_MAX;
    assert_ok(sp_distill_settings(&o, SP_PREDICTION_EPSILON, &settings));
    assert_null(json_object_get(settings, "caption-column"));
    assert_string_equal(json_string_value(json_object_get(settings, "seed")), "18446744073709551615");
    json_decref(settings);
    o.given.pictures.caption_column = "prompt";
    assert_ok(sp_distill_settings(&o, SP_PREDICTION_EPSILON, &settings));
    assert_string_equal(json_string_value(json_object_get(settings, "caption-column")), "prompt");
    json_decref(settings);
}

static void changed_flags_are_refused(void **state)
{
    training t = make_training(in_folder(state, "flags"));
    t.options.given.max_train_steps = 1;
    assert_ok(sp_distill(&t.options, NULL));
    t.options.given.max_train_steps = 2;
    t.options.given.resume = "latest";
    const sp_distill_options same = t.options;
    sp_distill_options o;
#define REFUSED(change, member)                                                                      \
    o = same;                                                                                      \
    o.change;                                                                                      \
    assert_status(sp_distill(&o, NULL), SP_ARGUMENT);                                              \
    assert_message("was made with `" member "` ")
    REFUSED(objective = sp_objective_defaults(SP_OBJECTIVE_LCM), "objective");
    REFUSED(objective.sigma = SP_SIGMA_LINEAR, "sigma");
    REFUSED(objective.gamma.one_probability = 0.5, "gamma_one_probability");
    REFUSED(objective.gamma.power = 0.5, "gamma_power");
    REFUSED(objective.gamma.grid = 5, "gamma_grid");
    REFUSED(objective.guidance_scale_w = 2, "guidance_scale_w");
    REFUSED(objective.ddim_timesteps = 25, "num_ddim_timesteps");
    REFUSED(objective.skip = o.objective.skip_to = 40, "skip");
    REFUSED(objective.skip_to = 10, "skip");
    REFUSED(objective.solver_steps = 2, "solver_steps");
    REFUSED(objective.loss.kind = SP_LOSS_L2, "loss_type");
    REFUSED(objective.loss.huber_c = 1e-2, "huber_c");
    REFUSED(given.gradient_accumulation_steps = 2, "gradient_accumulation_steps");
    REFUSED(given.learning_rate = 2e-3, "learning_rate");
    REFUSED(average.value = 0.9, "ema_decay");
    REFUSED(given.seed = 1, "seed");
    REFUSED(precision = SP_BF16, "mixed_precision");
    REFUSED(random_cond_proj = true, "cond_proj_init");
    assert_ok(sp_copy_tree(same.given.teacher, in_folder(state, "teacher"), NULL));
    REFUSED(given.teacher = in_folder(state, "teacher"), "teacher");
    assert_ok(sp_distill(&same, NULL));
}

static void leftovers_are_removed(void **state)
{
    training t = make_training(in_folder(state, "left"));
    char mine[64];
    snprintf(mine, sizeof mine, "left/checkpoint-7.tmp-%ld", (long)getpid());
    /* No process has this number: it is above the kernel's largest. */
    assert_ok(sp_make_folders(in_folder(state, "left/checkpoint-7.tmp-99999999")));
    assert_ok(sp_write_file(in_folder(state, "left/checkpoint-7.tmp-99999999/online.safetensors"),
                            "x", 1));
    assert_ok(sp_make_folders(in_folder(state, mine)));
    assert_ok(sp_make_folders(in_folder(state, "left/checkpoint-7.tmp-99999999x")));
    t.options.given.max_train_steps = 1;
    assert_ok(sp_distill(&t.options, NULL));
    assert_false(sp_path_exists(in_folder(state, "left/checkpoint-7.tmp-99999999")));
    assert_true(sp_path_exists(in_folder(state, "left/checkpoint-7.tmp-99999999x")));
    assert_true(sp_path_exists(in_folder(state, mine)));
}

/* ---- bad requests ---- */

static void save_draws(const char *from, const char *to, const char *changed, sp_tensor value)
{
    sp_tensor_file *file;
    sp_weights *draws;
    assert_ok(sp_safetensors_open(from, &file));
    assert_ok(sp_weights_create(&draws));
    assert_ok(sp_weights_add_file(draws, file));
    assert_ok(sp_weights_add(draws, changed, value));
    assert_ok(sp_weights_save(draws, to, SP_F32, NULL, 0, NULL));
    sp_weights_destroy(draws);
    sp_tensor_file_close(file);
}

/* Draws with one tensor replaced by `dtype` `shape`, filled with `fill`. */
static sp_status distill_with(void **state, const char *name, sp_dtype dtype, sp_shape shape,
                              double fill)
{
    training t = make_training(in_folder(state, "bad"));
    sp_tensor value;
    assert_ok(sp_tensor_create(dtype, shape, &value));
    for (int64_t i = 0; i < sp_tensor_count(&value); i++)
        sp_store(value.data, dtype, i, fill);
    save_draws(t.draws, in_folder(state, "draws.safetensors"), name, value);
    t.options.given.draws = in_folder(state, "draws.safetensors");
    return sp_distill(&t.options, NULL);
}

static void bad_draws_are_refused(void **state)
{
    static const struct {
        const char *name;
        sp_dtype dtype;
        sp_shape shape;
        double fill;
        sp_status status;
        const char *words;
    } cases[] = {
        {"uncond", SP_F32, {3, {2, 7, 24}}, 0, SP_SHAPE, "uncond"},
        {"uncond", SP_F32, {3, {1, 0, 24}}, 0, SP_SHAPE, "uncond"},
        {"uncond", SP_F32, {3, {1, 7, 23}}, 0, SP_SHAPE, "[1,7,23], and the unet takes [N,L,24]"},
        {"uncond", SP_F32, {3, {1, 8, 24}}, 0, SP_SHAPE,
         "the conditioning of draw 0 is encoder_hidden_states [7,24], expected"},
        {"latents.0", SP_F32, {4, {3, 4, 0, INT64_MAX / 16}}, 0, SP_SHAPE, "latents.0"},
        {"latents.0", SP_F32, {4, {3, 5, 8, 8}}, 0, SP_SHAPE, "latents.0"},
        {"latents.0", SP_F32, {3, {3, 4, 64}}, 0, SP_SHAPE, "latents.0"},
        {"latents.0", SP_F32, {4, {3, 4, 8, 8}}, (double)NAN, SP_NUMERIC, "step 1"},
        {"noise.0", SP_F32, {4, {3, 4, 8, 7}}, 0, SP_SHAPE, "noise.0"},
        {"index.0", SP_I64, {1, {3}}, 50, SP_FORMAT, "index 50"},
        {"index.0", SP_I64, {1, {3}}, -1, SP_FORMAT, "index -1"},
        {"index.0", SP_I64, {1, {3}}, 9.3e18, SP_FORMAT, "index 9223372036854775807"},
        {"index.0", SP_F32, {1, {3}}, 1, SP_SHAPE, "index.0"},
        {"gamma.0", SP_F32, {1, {3}}, (double)NAN, SP_FORMAT, "gamma nan"},
        {"gamma.0", SP_F32, {1, {3}}, 1.01, SP_FORMAT, "gamma 1.01"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        sp_status status =
            distill_with(state, cases[i].name, cases[i].dtype, cases[i].shape, cases[i].fill);
        if (status != cases[i].status || !strstr(sp_error_message(), cases[i].words))
            fail_msg("case %zu: %s: %s", i, sp_status_text(status), sp_error_message());
    }
}

static void bad_requests_are_refused(void **state)
{
    training t = make_training(in_folder(state, "teacher"));
    const sp_distill_options good = t.options;
    sp_distill_options o = good;
    o.given.train_batch_size = 0;
    assert_status(sp_distill(&o, NULL), SP_ARGUMENT);
    assert_message("`train_batch_size`");
    o = good;
    assert_ok(sp_copy_tree(good.given.teacher, in_folder(state, "teacher"), NULL));
    o.given.teacher = o.given.output = in_folder(state, "teacher");
    assert_status(sp_distill(&o, NULL), SP_ARGUMENT);
    assert_message("`output` is the teacher's folder");
    o = good;
    assert_ok(sp_write_file(in_folder(state, "a-file"), "x", 1));
    o.given.output = in_folder(state, "a-file/student");
    assert_status(sp_distill(&o, NULL), SP_IO);
    assert_message("a-file");
    /* A path need not be UTF-8, but what goes into a JSON file must. */
    o = good;
    assert_ok(sp_copy_file(good.given.draws, in_folder(state, "draws-\xff.safetensors"), NULL));
    o.given.draws = in_folder(state, "draws-\xff.safetensors");
    o.given.output = in_folder(state, "bytes");
    assert_status(sp_distill(&o, NULL), SP_ARGUMENT);
    assert_message("`draws`");
}

/* ---- want of memory ---- */

static void every_allocation_of_a_step_may_fail(void **state)
{
    enum { TRIALS = 120 };
    training t = make_training(in_folder(state, "starved"));
    t.options.given.max_train_steps = 1;
    t.options.given.trace = in_folder(state, "trace.safetensors");
    long fails = 0, works = 1000;
    while (starved(&t.options, works) != SP_OK)
        fails = works, works *= 2;
    while (works - fails > 1) {
        long middle = fails + (works - fails) / 2;
        if (starved(&t.options, middle) == SP_OK)
            works = middle;
        else
            fails = middle;
    }
    /* There are some fifty thousand: a sample, spread evenly. */
    for (long i = 0; i < TRIALS; i++)
        assert_status(starved(&t.options, i * works / TRIALS), SP_MEMORY);
}

typedef struct {
    const char *output, *which;
    json_t *settings;
    sp_training_state state;
} resumption;

static sp_status load(void *context)
{
    resumption *r = context;
    bool found;
    SP_TRY(sp_checkpoint_load(r->output, r->which, r->settings, &r->state, NULL, &found));
    assert_true(found);
    assert_int_equal(r->state.step, 2);
    return SP_OK;
}

/* From checkpoint-1, which must outlive what happens. */
static sp_status resumed(void **state, const sp_distill_options *options, long count)
{
    assert_ok(sp_remove_tree(in_folder(state, "run/checkpoint-2")));
    long live = sp_alloc_live();
    sp_alloc_fail_after(count);
    sp_status status = sp_distill(options, NULL);
    sp_alloc_fail_after(-1);
    if (sp_alloc_live() != live)
        fail_msg("after %ld allocations: %ld blocks leaked", count, sp_alloc_live() - live);
    assert_true(sp_path_exists(in_folder(state, "run/checkpoint-1/state.json")));
    return status;
}

static sp_weights *one_tensor(const char *name, float value)
{
    sp_weights *weights;
    sp_tensor tensor;
    assert_ok(sp_weights_create(&weights));
    assert_ok(sp_tensor_create(SP_F32, sp_shape_of(5, 3), &tensor));
    for (int i = 0; i < 15; i++)
        ((float *)tensor.data)[i] = value + (float)i;
    assert_ok(sp_weights_add(weights, name, tensor));
    return weights;
}

static sp_training_state two_networks(float value)
{
    sp_training_state two;
    assert_ok(sp_training_state_create(one_tensor("w", value), SP_OPTIMIZER_ADAMW, &two));
    assert_ok(sp_training_state_add(&two, "critic", one_tensor("v", 2 * value), SP_OPTIMIZER_ADAMW));
    return two;
}

/* A network beside the first has files of its own, without an average, which must be there and whole. */
static void networks_beside_are_saved_and_read(void **state)
{
    const char *output = in_folder(state, "two");
    json_t *settings = json_pack("{s:i}", "seed", 1);
    sp_training_state saved = two_networks(7), loaded = two_networks(0), one;
    bool found;
    saved.step = 3;
    assert_ok(sp_checkpoint_save(output, &saved, settings, 0, NULL));
    assert_true(sp_path_exists(in_folder(state, "two/checkpoint-3/critic_second_moment.safetensors")));
    assert_false(sp_path_exists(in_folder(state, "two/checkpoint-3/critic_ema.safetensors")));
    assert_ok(sp_checkpoint_load(output, "latest", settings, &loaded, NULL, &found));
    assert_memory_equal(sp_weights_find(loaded.beside->online, "v")->data,
                        sp_weights_find(saved.beside->online, "v")->data, 15 * sizeof(float));
    assert_ok(sp_training_state_create(one_tensor("w", 0), SP_OPTIMIZER_ADAMW, &one));
    assert_status(sp_checkpoint_load(output, "latest", settings, &one, NULL, &found), SP_IO);
    assert_message("names 7 files, and a checkpoint has 4");
    cut_file(in_folder(state, "two/checkpoint-3/critic_online.safetensors"));
    assert_status(sp_checkpoint_load(output, "latest", settings, &loaded, NULL, &found), SP_IO);
    assert_message("critic_online.safetensors");
    sp_training_state_free(&one);
    sp_training_state_free(&loaded);
    sp_training_state_free(&saved);
    json_decref(settings);
}

/* Of a small state each one, of a whole run that goes on a sample. */
static void every_allocation_of_resuming_may_fail(void **state)
{
    enum { TRIALS = 24 };
    char output[512], named[600];
    snprintf(output, sizeof output, "%s", in_folder(state, "small"));
    snprintf(named, sizeof named, "%s/checkpoint-2", output);
    resumption r = {output, named, json_pack("{s:i, s:s}", "seed", 1, "data", "emoji:"), two_networks(0)};
    for (r.state.step = 1; r.state.step < 3; r.state.step++)
        assert_ok(sp_checkpoint_save(output, &r.state, r.settings, 0, NULL));
    assert_in_range(fail_every_allocation(load, &r), 50, 2000);
    r.which = "latest";
    assert_in_range(fail_every_allocation(load, &r), 50, 2000);
    sp_training_state_free(&r.state);
    json_decref(r.settings);

    training t = make_training(in_folder(state, "run"));
    t.options.given.max_train_steps = 1;
    assert_ok(sp_distill(&t.options, NULL));
    t.options.given.max_train_steps = 2;
    t.options.given.resume = "latest";
    long works = 1000;
    while (resumed(state, &t.options, works) == SP_MEMORY)
        works *= 2;
    for (long i = 0; i < TRIALS; i++) /* half of it was too few */
        assert_status(resumed(state, &t.options, i * works / 2 / TRIALS), SP_MEMORY);
    assert_ok(resumed(state, &t.options, -1));
}

/* diffusers wants a pair for what a pipeline does without, and the autoencoder's own class. */
static void index_is_as_diffusers_reads_it(void **state)
{
    static char teacher[512], vae[1024];
    training t = make_training(in_folder(state, "student"));
    json_t *index;
    snprintf(teacher, sizeof teacher, "%s", in_folder(state, "teacher"));
    snprintf(vae, sizeof vae, "%s/tests/golden/vae-tiny", getenv("SPLAM_SOURCE"));
    assert_ok(sp_copy_tree(t.options.given.teacher, teacher, NULL));
    assert_ok(sp_copy_tree(vae, in_folder(state, "teacher/vae"), NULL));
    t.options.given.teacher = teacher;
    t.options.given.max_train_steps = 1;
    assert_ok(sp_distill(&t.options, NULL));
    assert_ok(sp_json_load(in_folder(state, "student/model_index.json"), &index));
    assert_int_equal(json_array_size(json_object_get(index, "safety_checker")), 2);
    assert_int_equal(json_array_size(json_object_get(index, "feature_extractor")), 2);
    assert_string_equal(json_string_value(json_array_get(json_object_get(index, "vae"), 1)),
                        "AutoencoderTiny");
    json_decref(index);
}

#define with_folder(test)                                                                          \
    cmocka_unit_test_setup_teardown(test, make_test_folder, remove_test_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        with_folder(damaged_checkpoints_are_skipped),
        with_folder(checksums_find_one_bit),
        with_folder(full_disk_keeps_what_is_saved),
        with_folder(other_runs_do_not_mix),
        with_folder(files_of_others_are_kept),
        with_folder(the_teacher_is_a_place),
        with_folder(networks_beside_are_saved_and_read),
        with_folder(index_is_as_diffusers_reads_it),
        cmocka_unit_test(the_captions_column_is_a_setting),
        with_folder(changed_flags_are_refused),
        with_folder(leftovers_are_removed),
        with_folder(bad_draws_are_refused),
        with_folder(bad_requests_are_refused),
        with_folder(every_allocation_of_a_step_may_fail),
        with_folder(every_allocation_of_resuming_may_fail),
    };
    return cmocka_run_group_tests_name("training", tests, NULL, NULL);
}
