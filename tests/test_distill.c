/* Distillation against PyTorch on recorded draws, LCM as a special case, and runs that are
 * interrupted. */
#include <sys/stat.h>
#include "distill_support.h"
#include "base/parallel.h"
#include "base/text.h"
#include "diffusion/sampler.h"
#include "distill/distill.h"
#include "models/guidance.h"

typedef struct {
    sp_distill_options options;
    char teacher[512], draws[512], start[512];
} golden_case;

static void read_case(const char *name, golden_case *c)
{
    json_t *description = golden_case_json(name);
    const json_t *flags = json_object_get(description, "flags");
    snprintf(c->teacher, sizeof c->teacher, "%s/%s", golden(name),
             json_string_value(json_object_get(description, "teacher")));
    snprintf(c->draws, sizeof c->draws, "%s/draws.safetensors", golden(name));
    sp_distill_options *o = &c->options;
    *o = sp_distill_defaults();
    o->given.teacher = c->teacher;
    o->given.draws = c->draws;
    o->precision = SP_F32;
    sp_objective objective;
    assert_ok(sp_objective_of(case_text(flags, "objective"), &objective));
    sp_objective_settings *s = &o->objective;
    *s = sp_objective_defaults(objective);
    if (objective == SP_OBJECTIVE_SPLAM) {
        assert_ok(sp_sigma_of(case_text(flags, "sigma"), &s->sigma));
        assert_ok(
            sp_gamma_conditioning_of(case_text(flags, "gamma-conditioning"), &s->conditioning));
    }
    s->loss.kind = strcmp(case_text(flags, "loss-type"), "l2") == 0 ? SP_LOSS_L2 : SP_LOSS_HUBER;
    if (json_object_get(flags, "phases")) s->phases = (int)case_number(flags, "phases");
    if (json_object_get(flags, "rounds")) s->rounds = (int)case_number(flags, "rounds");
    s->loss.huber_c = case_number(flags, "huber-c");
    s->guidance_scale_w = case_number(flags, "guidance-scale-w");
    if (case_text(flags, "guidance-range"))
        assert_ok(sp_guidance_range_of("guidance-range", case_text(flags, "guidance-range"), &s->guidance));
    s->ddim_timesteps = (int)case_number(flags, "num-ddim-timesteps");
    s->skip = s->skip_to = (int)case_number(flags, "skip");
    s->solver_steps = (int)case_number(flags, "solver-steps");
    o->given.max_train_steps = (int64_t)case_number(flags, "max-train-steps");
    o->given.train_batch_size = (int64_t)case_number(flags, "train-batch-size");
    o->given.gradient_accumulation_steps = (int64_t)case_number(flags, "gradient-accumulation-steps");
    o->given.learning_rate = case_number(flags, "learning-rate");
    o->average = (sp_average){.value = case_number(flags, "ema-decay")};
    o->lora.rank = (int64_t)case_number(flags, "lora-rank");
    o->lora.alpha = case_number(flags, "lora-alpha");
    if (o->lora.rank) {
        assert_ok(sp_lora_targets_of(json_string_value(json_object_get(flags, "lora-targets")),
                                     &o->lora.targets));
        snprintf(c->start, sizeof c->start, "%s/start.safetensors", golden(name));
        o->given.lora_start = c->start;
    }
    json_decref(description);
}

/* The case's flags, and those that say where things are, in the program's words. */
static void append_flags(void **state, const char *name, const json_t *description, sp_string *line)
{
    const char *flag;
    json_t *value, *none = json_integer(0);
    const char *loss = json_string_value(json_object_get(json_object_get(description, "flags"), "loss-type"));
    json_object_foreach(json_object_get(description, "flags"), flag, value)
    {
        if (strcmp(flag, "skip") == 0 && json_equal(value, none)) continue; /* progressive */
        if (strcmp(flag, "huber-c") == 0 && loss && strcmp(loss, "l2") == 0) continue;
        sp_string_append_format(line, " --%s ", flag);
        if (json_is_string(value))
            sp_string_append_format(line, "%s", json_string_value(value));
        else
            sp_string_append_format(line, "%.17g", json_number_value(value));
    }
    sp_string_append_format(line, " --teacher %s/%s --draws %s", golden(name),
                            case_text(description, "teacher"), case_file(name, description, "draws.safetensors"));
    if (json_object_get(json_object_get(description, "flags"), "lora-rank"))
        sp_string_append_format(line, " --lora-start %s", case_file(name, description, "start.safetensors"));
    sp_string_append_format(line, " --output %s --trace %s >%s 2>&1", in_folder(state, name),
                            in_folder(state, "trace.safetensors"), in_folder(state, "log"));
    json_decref(none);
}

/* The program itself with the flags by name, so that each is seen to reach its place. */
static void check_case(void **state, const char *name)
{
    json_t *description = golden_case_json(name);
    sp_string line = {0};
    char *log;
    sp_string_append_format(&line, "exec %s distill", splam_program());
    append_flags(state, name, description, &line);
    assert_false(line.failed);
    int code = system(line.data);
    assert_ok(sp_read_file(in_folder(state, "log"), &log, NULL));
    if (code != 0) fail_msg("%s ended with %d: %s", line.data, code, log);
    sp_free(log);
    compare_traces(name, in_folder(state, "trace.safetensors"),
                   (int64_t)case_number(json_object_get(description, "flags"), "max-train-steps"));
    sp_string_free(&line);
    json_decref(description);
}

static void traces_equal_pytorch(void **state)
{
    char **names;
    size_t count;
    int cases = 0;
    assert_ok(sp_list_folder(golden(""), &names, &count));
    for (size_t i = 0; i < count; i++) {
        if (strncmp(names[i], "distill-", 8) == 0) {
            check_case(state, names[i]);
            cases++;
        }
        sp_free(names[i]);
    }
    sp_free(names);
    assert_true(cases >= 40);
}

/* ---- files compared byte by byte ---- */

static const char *unet_of(const char *output, const char *which)
{
    static char path[4][600];
    static unsigned next;
    char *text = path[next++ % 4];
    snprintf(text, sizeof path[0], "%s/%s/diffusion_pytorch_model.safetensors", output, which);
    return text;
}

/* ---- splam is lcm ---- */

/* With the types that the tensors have: indices are integers. */
static void save_all(const sp_weights *weights, const char *path)
{
    enum { MOST = 256 };
    sp_named_tensor named[MOST];
    size_t count = sp_weights_count(weights);
    assert_true(count <= MOST);
    for (size_t i = 0; i < count; i++)
        named[i] = (sp_named_tensor){sp_weights_name(weights, i),
                                     sp_weights_at((sp_weights *)(uintptr_t)weights, i)};
    assert_ok(sp_safetensors_save(path, named, count, NULL, 0));
}

/* Recorded gammas, all 1, for draws that have none or others. */
static void write_gamma_ones(void **state, golden_case *c)
{
    const char *path = in_folder(state, "ones.safetensors");
    sp_tensor_file *file;
    sp_weights *views, *ones;
    assert_ok(sp_safetensors_open(c->draws, &file));
    assert_ok(sp_weights_create(&views));
    assert_ok(sp_weights_create(&ones));
    assert_ok(sp_weights_add_file(views, file));
    for (size_t i = 0; i < sp_weights_count(views); i++) {
        const char *name = sp_weights_name(views, i);
        sp_tensor copy = *sp_weights_at(views, i);
        copy.owned = false;
        if (strncmp(name, "gamma.", 6) != 0) assert_ok(sp_weights_add(ones, name, copy));
    }
    for (int64_t k = 0; k < c->options.given.max_train_steps; k++) {
        char name[32];
        sp_tensor gamma;
        snprintf(name, sizeof name, "gamma.%lld", (long long)k);
        assert_ok(sp_tensor_create(SP_F32, sp_shape_of(c->options.given.train_batch_size), &gamma));
        for (int64_t i = 0; i < c->options.given.train_batch_size; i++)
            ((float *)gamma.data)[i] = 1;
        assert_ok(sp_weights_add(ones, name, gamma));
    }
    save_all(ones, path);
    sp_weights_destroy(ones);
    sp_weights_destroy(views);
    sp_tensor_file_close(file);
    snprintf(c->draws, sizeof c->draws, "%s", path);
}

/* At gamma = 1, told by time, a whole run of splam is one of lcm: the same weights. */
static void splam_at_gamma_one_trains_lcm(void **state)
{
    golden_case c;
    read_case("distill-lcm-v", &c);
    c.options.given.max_train_steps = 3;
    c.options.given.output = in_folder(state, "lcm");
    assert_ok(sp_distill(&c.options, NULL));
    golden_case d;
    read_case("distill-splam-v-linear-time-l2", &d);
    const sp_loss_options loss = c.options.objective.loss;
    c.options.objective = d.options.objective;
    c.options.objective.loss = loss;
    c.options.objective.gamma.grid = 1;
    write_gamma_ones(state, &c);
    c.options.given.output = in_folder(state, "splam");
    assert_ok(sp_distill(&c.options, NULL));
    assert_same_file(unet_of(in_folder(state, "lcm"), "unet"),
                     unet_of(in_folder(state, "splam"), "unet"));
}

/* ---- runs that are interrupted ---- */

/* A run stopped after 4 steps and resumed equals the run not stopped, bit for bit. */
static void check_resuming(void **state, sp_optimizer optimizer)
{
    golden_case c;
    read_case("distill-splam-accumulate", &c);
    c.options.optimizer = optimizer;
    c.options.given.output = in_folder(state, "whole");
    assert_ok(sp_distill(&c.options, NULL));
    c.options.given.output = in_folder(state, "resumed");
    int left = 4;
    const sp_callbacks callbacks = {.context = &left, .report = count_step, .cancelled = stop_after};
    assert_status(sp_distill(&c.options, &callbacks), SP_CANCELLED);
    c.options.given.resume = "latest";
    assert_ok(sp_distill(&c.options, NULL));
    assert_same_file(unet_of(in_folder(state, "whole"), "unet"),
                     unet_of(in_folder(state, "resumed"), "unet"));
    assert_same_file(unet_of(in_folder(state, "whole"), "unet_ema"),
                     unet_of(in_folder(state, "resumed"), "unet_ema"));
    c.options.given.learning_rate *= 2;
    assert_status(sp_distill(&c.options, NULL), SP_ARGUMENT);
    assert_message("`learning_rate`");
    c.options.given.learning_rate /= 2;
    c.options.optimizer = optimizer ? SP_OPTIMIZER_ADAMW : SP_OPTIMIZER_ADAMW8BIT;
    assert_status(sp_distill(&c.options, NULL), SP_ARGUMENT);
    assert_message("optimizer");
}

static void resumed_equals_undisturbed(void **state)
{
    check_resuming(state, SP_OPTIMIZER_ADAMW);
}

/* Checkpoints hold codes and scales as they are; small tensors stay f32. */
static void resumed_equals_undisturbed_in_8_bits(void **state)
{
    check_resuming(state, SP_OPTIMIZER_ADAMW8BIT);
    sp_tensor_file *file;
    assert_ok(sp_safetensors_open(in_folder(state, "whole/checkpoint-10/second_moment.safetensors"),
                                  &file));
    int coded = 0, small = 0;
    for (size_t i = 0; i < sp_tensor_file_count(file); i++) {
        const sp_tensor *t = sp_tensor_file_at(file, i), *scales;
        char name[256];
        snprintf(name, sizeof name, "%s.scales", sp_tensor_file_name(file, i));
        scales = sp_tensor_file_find(file, name);
        assert_true((t->dtype == SP_U8) == (scales != NULL));
        assert_true(t->dtype != SP_F32 || sp_tensor_count(t) < SP_LEAST_CODED);
        if (scales) assert_int_equal(sp_tensor_count(scales), (sp_tensor_count(t) + 255) / 256);
        coded += t->dtype == SP_U8;
        small += t->dtype == SP_F32;
    }
    assert_true(coded > 0 && small > coded);
    sp_tensor_file_close(file);
}

/* Blocks are chosen by the memory there is, so a run that goes on elsewhere must not depend on
 * them. */
static void recomputing_changes_no_bit(void **state)
{
    static const sp_dtype precisions[] = {SP_F32, SP_BF16};
    for (int i = 0; i < 2; i++) {
        golden_case c;
        read_case("distill-splam", &c);
        c.options.precision = precisions[i];
        c.options.given.max_train_steps = 3;
        c.options.given.output = in_folder(state, i ? "kept16" : "kept");
        assert_ok(sp_distill(&c.options, NULL));
        c.options.given.output = in_folder(state, i ? "again16" : "again");
        c.options.given.gradient_checkpointing = true;
        assert_ok(sp_distill(&c.options, NULL));
        assert_same_file(unet_of(in_folder(state, i ? "kept16" : "kept"), "unet"),
                         unet_of(in_folder(state, i ? "again16" : "again"), "unet"));
    }
}

/* In the place of an earlier run. */
static void distil_anew(const golden_case *c)
{
    assert_ok(sp_remove_tree(c->options.given.output));
    assert_ok(sp_distill(&c->options, NULL));
}

/* The first run's file has the teacher's part, and runs that stand elsewhere on the sub-paths take it from there. */
static void subpaths_from_a_file_change_no_bit(void **state)
{
    static const sp_dtype precisions[] = {SP_F32, SP_BF16};
    for (int i = 0; i < 4; i++) {
        golden_case c;
        read_case("distill-splam", &c);
        c.options.objective.sigma = i % 2 ? SP_SIGMA_LINEAR : SP_SIGMA_QUADRATIC;
        c.options.precision = precisions[i / 2];
        c.options.given.max_train_steps = 3;
        c.options.given.output = in_folder(state, "without");
        distil_anew(&c);
        c.options.given.sub_paths = in_folder(state, i / 2 ? "sub-paths16" : "sub-paths");
        for (int again = 0; again < 2; again++) {
            c.options.given.output = in_folder(state, again ? "from" : "kept");
            distil_anew(&c);
            assert_same_file(unet_of(in_folder(state, "without"), "unet"), unet_of(c.options.given.output, "unet"));
        }
    }
}

static void set_byte(const char *path, long at, char byte)
{
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    assert_int_equal(fseek(file, at, SEEK_SET), 0);
    assert_int_equal(fwrite(&byte, 1, 1, file), 1);
    assert_int_equal(fclose(file), 0);
}

static void damaged_subpaths_are_made_again(void **state)
{
    golden_case c;
    read_case("distill-splam", &c);
    const char *path = in_folder(state, "sub-paths"), *whole = in_folder(state, "whole");
    c.options.given.max_train_steps = 3;
    c.options.given.sub_paths = path;
    c.options.given.output = in_folder(state, "student");
    assert_ok(sp_distill(&c.options, NULL));
    assert_ok(sp_copy_tree(path, whole, NULL));
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    for (long size = 0; size < info.st_size; size += info.st_size / 7) {
        assert_int_equal(truncate(path, size), 0);
        distil_anew(&c);
        assert_same_file(path, whole);
    }
    for (long at = 32; at < info.st_size; at += info.st_size / 5) {
        set_byte(path, at, 77);
        distil_anew(&c);
        assert_same_file(path, whole);
    }
}

static void other_subpaths_are_refused(void **state)
{
    golden_case c;
    read_case("distill-splam", &c);
    const char *path = in_folder(state, "sub-paths");
    c.options.given.max_train_steps = 1;
    c.options.given.sub_paths = path;
    c.options.given.output = in_folder(state, "student");
    assert_ok(sp_distill(&c.options, NULL));
    c.options.given.output = in_folder(state, "other");
    c.options.objective.guidance_scale_w += 1;
    assert_status(sp_distill(&c.options, NULL), SP_ARGUMENT);
    assert_message("another run");
    c.options.objective.guidance_scale_w -= 1;
    c.options.precision = SP_BF16;
    assert_status(sp_distill(&c.options, NULL), SP_ARGUMENT);
    c.options.precision = SP_F32;
    set_byte(path, 24, 1);
    assert_status(sp_distill(&c.options, NULL), SP_SHAPE);
    assert_message("values");
    set_byte(path, 3, 'x');
    assert_status(sp_distill(&c.options, NULL), SP_FORMAT);
    assert_message("splam sub-paths 1");
    c.options.given.sub_paths = in_folder(state, ".");
    assert_status(sp_distill(&c.options, NULL), SP_IO);
    c.options.given.sub_paths = in_folder(state, "none/sub-paths");
    assert_status(sp_distill(&c.options, NULL), SP_IO);
    splam_distill_options given = c.options.given;
    given.sub_paths = path;
    given.objective = "progressive";
    assert_status(sp_distill_given(&given, NULL), SP_ARGUMENT);
    assert_message("sub_paths");
}

/* At w = 0 the second pass of the teacher counts nothing: leaving it out changes no more than that
 * a batch of half the size may be summed another way. */
static void unguided_teacher_runs_once(void **state)
{
    golden_case c;
    read_case("distill-splam", &c);
    c.options.given.max_train_steps = 3;
    const char *traces[] = {in_folder(state, "once.safetensors"),
                            in_folder(state, "twice.safetensors")};
    for (int i = 0; i < 2; i++) {
        c.options.given.output = in_folder(state, i ? "twice" : "once");
        c.options.given.trace = traces[i];
        c.options.objective.guidance_scale_w = i ? 1e-30 : 0; /* vanishes beside 1 */
        assert_ok(sp_distill(&c.options, NULL));
    }
    sp_tensor_file *once, *twice;
    assert_ok(sp_safetensors_open(traces[0], &once));
    assert_ok(sp_safetensors_open(traces[1], &twice));
    for (int64_t i = 0; i < 3; i++)
        assert_true(fabs(trace_at(once, "loss", i) / trace_at(twice, "loss", i) - 1) <= 1e-6);
    sp_tensor_file_close(once);
    sp_tensor_file_close(twice);
}

static void too_small_a_limit_is_refused_before_the_first_step(void **state)
{
    golden_case c;
    read_case("distill-splam", &c);
    c.options.given.output = in_folder(state, "limited");
    c.options.given.memory_limit = 1000000;
    assert_status(sp_distill(&c.options, NULL), SP_MEMORY);
    assert_message("`memory_limit` of 1.0 MB is too small");
    assert_false(sp_path_exists(in_folder(state, "limited/metrics.jsonl")));
}

/* Stages are a part of the step's time, and none is missing. */
static void metrics_split_the_time(void **state)
{
    static const char *const stages[] = {"data",     "teacher",       "target",   "forward",
                                         "backward", "recomputation", "optimizer"};
    golden_case c;
    read_case("distill-splam-accumulate", &c);
    c.options.given.max_train_steps = 1;
    c.options.given.gradient_checkpointing = true;
    c.options.given.output = in_folder(state, "staged");
    assert_ok(sp_distill(&c.options, NULL));
    json_t *line;
    assert_ok(sp_json_load(in_folder(state, "staged/metrics.jsonl"), &line));
    const json_t *times = json_object_get(line, "stage_seconds");
    assert_int_equal(json_object_size(times), sizeof stages / sizeof *stages);
    double sum = 0, whole = case_number(line, "seconds");
    for (size_t i = 0; i < sizeof stages / sizeof *stages; i++) {
        assert_true(case_number(times, stages[i]) > 0);
        sum += case_number(times, stages[i]);
    }
    assert_true(sum <= whole && sum > whole / 2);
    assert_true(case_number(line, "peak_rss_bytes") > 1e6);
    json_decref(line);
}

/* The same for every step of a run in rounds, before, at and after the boundary; and from another
 * folder, where the round's teacher has to be found. */
static void resumed_in_a_round_equals_undisturbed(void **state)
{
    golden_case c;
    read_case("distill-progressive", &c);
    char whole[512], stopped[512], elsewhere[512], checkpoint[600];
    snprintf(whole, sizeof whole, "%s", in_folder(state, "whole"));
    snprintf(elsewhere, sizeof elsewhere, "%s", in_folder(state, "elsewhere"));
    c.options.given.output = whole;
    assert_ok(sp_distill(&c.options, NULL));
    for (int after = 3; after <= 8; after++) {
        char name[32];
        snprintf(name, sizeof name, "stopped-%d", after);
        snprintf(stopped, sizeof stopped, "%s", in_folder(state, name));
        c.options.given.output = stopped;
        c.options.given.resume = NULL;
        int left = after;
        const sp_callbacks callbacks = {.context = &left, .report = count_step, .cancelled = stop_after};
        assert_status(sp_distill(&c.options, &callbacks), SP_CANCELLED);
        c.options.given.resume = "latest";
        assert_ok(sp_distill(&c.options, NULL));
        assert_same_file(unet_of(whole, "unet"), unet_of(stopped, "unet"));
        assert_same_file(unet_of(whole, "unet_ema"), unet_of(stopped, "unet_ema"));
        assert_same_file(in(whole, "round-1.safetensors"), in(stopped, "round-1.safetensors"));
    }
    snprintf(checkpoint, sizeof checkpoint, "%s/checkpoint-8", stopped);
    c.options.given.output = elsewhere;
    c.options.given.resume = checkpoint;
    assert_ok(sp_distill(&c.options, NULL));
    assert_same_file(unet_of(whole, "unet"), unet_of(elsewhere, "unet"));
    assert_same_file(in(whole, "round-1.safetensors"), in(elsewhere, "round-1.safetensors"));
}

/* A round's teacher that is missing, or of a run with other flags, is not taken. */
static void another_runs_round_is_refused(void **state)
{
    golden_case c;
    read_case("distill-progressive", &c);
    char output[512], file[600];
    snprintf(output, sizeof output, "%s", in_folder(state, "run"));
    c.options.given.output = output;
    int left = 7;
    sp_callbacks callbacks = {.context = &left, .report = count_step, .cancelled = stop_after};
    assert_status(sp_distill(&c.options, &callbacks), SP_CANCELLED);
    snprintf(file, sizeof file, "%s", in_folder(state, "kept.safetensors"));
    assert_ok(sp_copy_file(in(output, "round-1.safetensors"), file, NULL));
    c.options.given.learning_rate *= 2;
    c.options.given.output = in_folder(state, "other");
    left = 6;
    assert_status(sp_distill(&c.options, &callbacks), SP_CANCELLED);
    c.options.given.learning_rate /= 2;
    assert_ok(sp_copy_file(in_folder(state, "other/round-1.safetensors"),
                           in(output, "round-1.safetensors"), NULL));
    c.options.given.output = output;
    c.options.given.resume = "latest";
    assert_status(sp_distill(&c.options, NULL), SP_ARGUMENT);
    assert_message("round-1.safetensors is of a run with other flags");
    assert_int_equal(remove(in(output, "round-1.safetensors")), 0);
    assert_status(sp_distill(&c.options, NULL), SP_IO);
    assert_message("round-1.safetensors");
    assert_ok(sp_copy_file(file, in(output, "round-1.safetensors"), NULL));
    assert_ok(sp_distill(&c.options, NULL));
    c.options.given.max_train_steps = 9; /* rounds would begin elsewhere */
    assert_status(sp_distill(&c.options, NULL), SP_ARGUMENT);
    assert_message("`max_train_steps`");
}

/* What a student's folder says about its sampling, to diffusers and to us. */
static void students_say_how_they_are_sampled(void **state)
{
    static const struct {
        const char *name, *scheduler, *pipeline, *sampler;
        int steps;
    } students[] = {
        {"distill-splam", "LCMScheduler", "LatentConsistencyModelPipeline", "lcm", 4},
        {"distill-splam-linear-time", "LCMScheduler", "StableDiffusionPipeline", "lcm", 4},
        {"distill-lcm", "LCMScheduler", "StableDiffusionPipeline", "lcm", 4},
        {"distill-lcm-guidance", "LCMScheduler", "LatentConsistencyModelPipeline", "lcm", 4},
        {"distill-pcm-v-skip150-solver2", "DDIMScheduler", "StableDiffusionPipeline", "ddim", 3},
        {"distill-tcd", "TCDScheduler", "StableDiffusionPipeline", "tcd", 4},
        {"distill-progressive", "DDIMScheduler", "StableDiffusionPipeline", "ddim", 2},
    };
    for (size_t i = 0; i < sizeof students / sizeof *students; i++) {
        golden_case c;
        json_t *json;
        sp_scheduler_config config;
        read_case(students[i].name, &c);
        if (c.options.objective.rounds == 1) c.options.given.max_train_steps = 2;
        c.options.given.output = in_folder(state, students[i].name);
        char output[512];
        snprintf(output, sizeof output, "%s", c.options.given.output);
        c.options.given.output = output;
        assert_ok(sp_distill(&c.options, NULL));
        const char *scheduler = in(output, "scheduler/scheduler_config.json");
        assert_ok(sp_scheduler_config_load(scheduler, &config));
        sp_sampler_kind kind = sp_sampler_for(&config);
        assert_string_equal(sp_sampler_name(kind), students[i].sampler);
        assert_int_equal(sp_sampler_steps_for(&config, kind), students[i].steps);
        assert_true(config.student != SP_STUDENT_NONE);
        assert_ok(sp_json_load(scheduler, &json));
        assert_string_equal(case_text(json, "_class_name"), students[i].scheduler);
        json_decref(json);
        assert_ok(sp_json_load(in(output, "model_index.json"), &json));
        assert_string_equal(case_text(json, "_class_name"), students[i].pipeline);
        assert_string_equal(
            json_string_value(json_array_get(json_object_get(json, "scheduler"), 1)),
            students[i].scheduler);
        json_decref(json);
        assert_ok(sp_json_load(in(output, "splam.json"), &json));
        assert_string_equal(case_text(json, "objective"),
                            sp_objective_name(c.options.objective.objective));
        assert_string_equal(case_text(json, "sampler"), students[i].sampler);
        assert_int_equal(case_number(json, "steps"), students[i].steps);
        json_decref(json);
    }
}

static void bad_input_is_refused(void **state)
{
    golden_case c;
    read_case("distill-splam", &c);
    c.options.given.output = in_folder(state, "bad");
    c.options.given.train_batch_size = 4;
    assert_status(sp_distill(&c.options, NULL), SP_SHAPE);
    assert_message("`train_batch_size`");
    c.options.given.train_batch_size = 3;
    c.options.given.max_train_steps = 11;
    assert_status(sp_distill(&c.options, NULL), SP_FORMAT);
    assert_message("latents.10");
    c.options.given.draws = NULL;
    assert_status(sp_distill(&c.options, NULL), SP_ARGUMENT);
    assert_message("`data`");
    c.options.given.teacher = in_folder(state, "nowhere");
    assert_status(sp_distill(&c.options, NULL), SP_IO);
}

/* A weight that is not a number: training stops at once, says so, and saves nothing. */
static void not_a_number_stops(void **state)
{
    golden_case c;
    read_case("distill-splam", &c);
    const char *teacher = in_folder(state, "teacher"),
               *weights = in_folder(state, "teacher/unet/diffusion_pytorch_model.safetensors");
    sp_tensor_file *file;
    sp_weights *copy, *views;
    assert_ok(sp_copy_tree(c.teacher, teacher, NULL));
    assert_ok(sp_safetensors_open(weights, &file));
    assert_ok(sp_weights_create(&views));
    assert_ok(sp_weights_add_file(views, file));
    assert_ok(sp_weights_copy(views, SP_F32, &copy));
    ((float *)sp_weights_find(copy, "conv_in.bias")->data)[0] = NAN;
    assert_ok(sp_weights_save(copy, weights, SP_F32, NULL, 0, NULL));
    sp_weights_destroy(copy);
    sp_weights_destroy(views);
    sp_tensor_file_close(file);
    c.options.given.teacher = teacher;
    c.options.given.output = in_folder(state, "student");
    assert_status(sp_distill(&c.options, NULL), SP_NUMERIC);
    assert_message("step 1: the loss is");
    assert_false(sp_path_exists(in_folder(state, "student/checkpoint-1")));
    assert_false(sp_path_exists(in_folder(state, "student/unet")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(traces_equal_pytorch, make_test_folder, remove_test_folder),
        cmocka_unit_test_setup_teardown(splam_at_gamma_one_trains_lcm, make_test_folder,
                                        remove_test_folder),
        cmocka_unit_test_setup_teardown(resumed_in_a_round_equals_undisturbed, make_test_folder,
                                        remove_test_folder),
        cmocka_unit_test_setup_teardown(another_runs_round_is_refused, make_test_folder,
                                        remove_test_folder),
        cmocka_unit_test_setup_teardown(students_say_how_they_are_sampled, make_test_folder,
                                        remove_test_folder),
        cmocka_unit_test_setup_teardown(resumed_equals_undisturbed_in_8_bits, make_test_folder,
                                        remove_test_folder),
        cmocka_unit_test_setup_teardown(recomputing_changes_no_bit, make_test_folder,
                                        remove_test_folder),
        cmocka_unit_test_setup_teardown(subpaths_from_a_file_change_no_bit, make_test_folder, remove_test_folder),
        cmocka_unit_test_setup_teardown(damaged_subpaths_are_made_again, make_test_folder, remove_test_folder),
        cmocka_unit_test_setup_teardown(other_subpaths_are_refused, make_test_folder, remove_test_folder),
        cmocka_unit_test_setup_teardown(unguided_teacher_runs_once, make_test_folder,
                                        remove_test_folder),
        cmocka_unit_test_setup_teardown(too_small_a_limit_is_refused_before_the_first_step,
                                        make_test_folder, remove_test_folder),
        cmocka_unit_test_setup_teardown(metrics_split_the_time, make_test_folder,
                                        remove_test_folder),
        cmocka_unit_test_setup_teardown(resumed_equals_undisturbed, make_test_folder,
                                        remove_test_folder),
        cmocka_unit_test_setup_teardown(not_a_number_stops, make_test_folder, remove_test_folder),
        cmocka_unit_test_setup_teardown(bad_input_is_refused, make_test_folder, remove_test_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
