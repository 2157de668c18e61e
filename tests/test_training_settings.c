/* What moves while a student is trained: the learning rate, sub-paths, averages; and weights of losses. Runs that are
 * stopped and resumed are those that are not, bit for bit, and another setting is another run. */
#include "distill_support.h"
#include "distill/distill.h"

enum { STEPS = 6 };

/* Six steps on recorded draws. */
static splam_distill_options options_of(const char *objective)
{
    static char teacher[1100], draws[2][1100];
    static int next;
    char *file = draws[next++ % 2], folder[64];
    snprintf(folder, sizeof folder, "distill-%s", objective);
    snprintf(teacher, sizeof teacher, "%s", golden("teacher-epsilon"));
    snprintf(file, sizeof draws[0], "%s/draws.safetensors", golden(folder));
    splam_distill_options o = splam_distill_defaults();
    o.teacher = teacher;
    o.draws = file;
    o.objective = objective;
    o.max_train_steps = STEPS;
    o.train_batch_size = strcmp(objective, "splam") && strcmp(objective, "lcm") ? 2 : 3;
    o.learning_rate = 1e-4;
    o.guidance_scale_w = 2;
    o.precision = SPLAM_F32;
    return o;
}

static sp_status distil(splam_distill_options o, const char *output, const char *resume, int stop_after_steps)
{
    sp_callbacks callbacks = {.context = &stop_after_steps, .report = count_step, .cancelled = stop_after};
    long live = sp_alloc_live();
    o.output = output;
    o.resume = resume;
    sp_status status = sp_distill_given(&o, stop_after_steps ? &callbacks : NULL);
    if (sp_alloc_live() != live) fail_msg("%ld blocks leaked", sp_alloc_live() - live);
    return status;
}

static void assert_same_run(void **state, const char *a, const char *b)
{
    static const char *const files[] = {"unet/diffusion_pytorch_model.safetensors",
                                        "unet_ema/diffusion_pytorch_model.safetensors",
                                        "checkpoint-6/first_moment.safetensors", "splam.json"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char path[2][160];
        snprintf(path[0], sizeof path[0], "%s/%s", a, files[i]);
        snprintf(path[1], sizeof path[1], "%s/%s", b, files[i]);
        assert_same_file(in_folder(state, path[0]), in_folder(state, path[1]));
    }
}

/* Stopped after three of the six steps and resumed. */
static void check_resuming(void **state, splam_distill_options o)
{
    char whole[512], stopped[512];
    snprintf(whole, sizeof whole, "%s", in_folder(state, "whole"));
    snprintf(stopped, sizeof stopped, "%s", in_folder(state, "stopped"));
    assert_ok(distil(o, whole, NULL, 0));
    assert_status(distil(o, stopped, NULL, 3), SP_CANCELLED);
    assert_ok(distil(o, stopped, "latest", 0));
    assert_same_run(state, "whole", "stopped");
}

/* Whether a run resumed with other options is refused, naming the member. */
static void assert_another_run(void **state, splam_distill_options o, const char *member)
{
    char words[80], stopped[512];
    snprintf(stopped, sizeof stopped, "%s", in_folder(state, "stopped"));
    snprintf(words, sizeof words, "was made with `%s` ", member);
    assert_status(distil(o, stopped, "latest", 0), SP_ARGUMENT);
    assert_message(words);
}

static void assert_readme(void **state, const char *output, const char *words)
{
    char path[64], *text;
    snprintf(path, sizeof path, "%s/README.md", output);
    assert_ok(sp_read_file(in_folder(state, path), &text, NULL));
    if (!strstr(text, words)) fail_msg("\"%s\" is not in %s", words, text);
    sp_free(text);
}

/* "learning_rate" of each line of metrics.jsonl. */
static void read_rates(const char *path, double rates[STEPS])
{
    char *text, *rest = NULL;
    int count = 0;
    assert_ok(sp_read_file(path, &text, NULL));
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        json_t *json;
        assert_ok(sp_json_parse(line, strlen(line), "metrics.jsonl", &json));
        assert_true(count < STEPS);
        rates[count++] = case_number(json, "learning_rate");
        json_decref(json);
    }
    assert_int_equal(count, STEPS);
    sp_free(text);
}

static void a_learning_rate_that_falls(void **state)
{
    static const double factors[STEPS] = {0, 0.5, 1, 0.75, 0.5, 0.25};
    double rates[STEPS];
    splam_distill_options o = options_of("lcm");
    o.lr_scheduler = "linear";
    o.lr_warmup_steps = 2;
    check_resuming(state, o);
    read_rates(in_folder(state, "stopped/metrics.jsonl"), rates);
    for (int i = 0; i < STEPS; i++)
        assert_float_equal(rates[i], 1e-4 * factors[i], 1e-12);
    assert_readme(state, "whole",
                  "- 6 steps, learning rate 0.0001, linear after 2 steps of warm-up\n- sub-paths of 20 timesteps\n"
                  "- average 0.95\n\n");
    o.max_train_steps = 7; /* the rates of all steps would be others */
    assert_another_run(state, o, "max_train_steps");
    o.max_train_steps = STEPS;
    o.lr_warmup_steps = 1;
    assert_another_run(state, o, "lr_warmup_steps");
    o.lr_scheduler = "cosine";
    assert_another_run(state, o, "lr_scheduler");
}

/* A run whose rates do not depend on its length may be prolonged. */
static void a_constant_run_is_prolonged(void **state)
{
    char output[512];
    splam_distill_options o = options_of("lcm");
    o.lr_scheduler = "constant_with_warmup";
    o.lr_warmup_steps = 4;
    assert_ok(distil(o, in_folder(state, "whole"), NULL, 0));
    o.max_train_steps = 3; /* within the warm-up */
    snprintf(output, sizeof output, "%s", in_folder(state, "prolonged"));
    assert_ok(distil(o, output, NULL, 0));
    o.max_train_steps = STEPS;
    assert_ok(distil(o, output, "latest", 0));
    assert_same_run(state, "whole", "prolonged");
}

static void sub_paths_that_shorten(void **state)
{
    json_t *json;
    splam_distill_options o = options_of("splam");
    o.skip = 90;
    o.skip_to = 5;
    o.solver_steps = 2;
    check_resuming(state, o);
    assert_readme(state, "whole", "\n- sub-paths of 90 timesteps in the first step, 5 in the last\n- average 0.95\n\n");
    assert_ok(sp_json_load(in_folder(state, "whole/splam.json"), &json));
    assert_string_equal(case_text(json, "skip"), "90:5");
    json_decref(json);
    o.max_train_steps = 7;
    assert_another_run(state, o, "max_train_steps");
    o.max_train_steps = STEPS;
    o.skip_to = SPLAM_UNSET;
    assert_another_run(state, o, "skip");
    o.skip = SPLAM_UNSET;
    o.skip_to = 5;
    assert_status(splam_option_check("distill", &o), SPLAM_ARGUMENT);
    assert_message("`skip` has an end, 5, and no beginning");
    o.skip = 1;
    o.skip_to = 2000;
    assert_status(splam_option_check("distill", &o), SPLAM_ARGUMENT);
    assert_message("`skip` is 2000, a whole number from 1 to 1000");
    o = options_of("progressive");
    o.skip = 20;
    assert_status(distil(o, in_folder(state, "progressive"), NULL, 0), SP_ARGUMENT);
    assert_message("`skip` says nothing to `objective` progressive");
}

static void averages_named_after_their_papers(void **state)
{
    json_t *json;
    splam_distill_options o = options_of("lcm");
    o.ema_decay = "power:0.15";
    check_resuming(state, o);
    assert_readme(state, "whole", "\n- average power:0.15\n");
    assert_ok(sp_json_load(in_folder(state, "whole/splam.json"), &json));
    assert_string_equal(case_text(json, "ema-decay"), "power:0.15");
    json_decref(json);
    o.ema_decay = "half-life:0.15";
    assert_status(distil(o, in_folder(state, "none"), NULL, 0), SP_ARGUMENT);
    assert_message("half-life:X with X from 1");
    o.ema_decay = "0.15"; /* a number there is, as it was before there were other forms */
    assert_another_run(state, o, "ema_decay");
    assert_message("resuming it with 0.15 would");
    assert_ok(sp_remove_tree(in_folder(state, "whole")));
    assert_ok(sp_remove_tree(in_folder(state, "stopped")));
    o.ema_decay = "half-life:4";
    check_resuming(state, o);
}

/* A set of its own in checkpoints; none where it is the same average, or the
 * online weights, which are there already. */
static void a_target_of_its_own(void **state)
{
    splam_distill_options o = options_of("lcm");
    o.target_ema_decay = "power:0.2";
    check_resuming(state, o);
    assert_true(sp_path_exists(in_folder(state, "whole/checkpoint-6/target.safetensors")));
    assert_same_file(in_folder(state, "whole/checkpoint-6/target.safetensors"),
                     in_folder(state, "stopped/checkpoint-6/target.safetensors"));
    assert_readme(state, "whole", "\n- average 0.95, the target's power:0.2\n\n");
    o.target_ema_decay = "0";
    assert_another_run(state, o, "target_ema_decay");
    o.target_ema_decay = NULL;
    assert_another_run(state, o, "target_ema_decay");
    assert_ok(sp_remove_tree(in_folder(state, "stopped")));
    assert_ok(distil(o, in_folder(state, "plain"), NULL, 0));
    o.target_ema_decay = "0.950";
    assert_ok(distil(o, in_folder(state, "stopped"), NULL, 0));
    assert_same_run(state, "plain", "stopped");
    assert_false(sp_path_exists(in_folder(state, "stopped/checkpoint-6/target.safetensors")));
    o = options_of("progressive");
    o.target_ema_decay = "0";
    assert_status(distil(o, in_folder(state, "progressive"), NULL, 0), SP_ARGUMENT);
    assert_message("`target_ema_decay` says nothing to `objective` progressive");
}

/* The online weights as the target are those of an average of rate 0; what is shown is another. */
static void online_weights_as_the_target(void **state)
{
    splam_distill_options o = options_of("splam");
    o.target_ema_decay = "0";
    o.ema_decay = "0.9";
    check_resuming(state, o);
    assert_false(sp_path_exists(in_folder(state, "whole/checkpoint-6/target.safetensors")));
    o.target_ema_decay = NULL;
    o.ema_decay = "0";
    assert_ok(distil(o, in_folder(state, "released"), NULL, 0));
    assert_same_file(in_folder(state, "whole/unet/diffusion_pytorch_model.safetensors"),
                     in_folder(state, "released/unet/diffusion_pytorch_model.safetensors"));
}

static void weighted_losses(void **state)
{
    splam_distill_options o = options_of("pcm");
    o.skip = 200;
    o.loss_weighting = "inverse-length";
    check_resuming(state, o);
    assert_readme(state, "whole", "\n- losses weighted by inverse-length\n\n");
    o.loss_weighting = "none";
    assert_another_run(state, o, "loss_weighting");
    o.loss_weighting = "min-snr";
    assert_status(distil(o, in_folder(state, "other"), NULL, 0), SP_ARGUMENT);
    assert_message("`loss_weighting` min-snr says nothing to `objective` pcm; it is for splam and lcm");
    o = options_of("splam");
    o.snr_gamma = 3;
    assert_status(distil(o, in_folder(state, "other"), NULL, 0), SP_ARGUMENT);
    assert_message("`snr_gamma` says nothing to `loss_weighting` none; it is for min-snr");
    o.loss_weighting = "min-snr";
    assert_ok(sp_remove_tree(in_folder(state, "whole")));
    assert_ok(sp_remove_tree(in_folder(state, "stopped")));
    check_resuming(state, o);
    assert_readme(state, "whole", "\n- losses weighted by min-snr, gamma 3\n\n");
    o.snr_gamma = SPLAM_UNSET;
    assert_another_run(state, o, "snr_gamma");
}

/* Everything at once, with a sample of allocations refused. */
static void want_of_memory(void **state)
{
    enum { TRIALS = 24 };
    splam_distill_options o = options_of("splam");
    o.max_train_steps = 2;
    o.skip = 40;
    o.skip_to = 10;
    o.lr_scheduler = "cosine";
    o.ema_decay = "power:0.1";
    o.target_ema_decay = "half-life:4";
    o.loss_weighting = "min-snr";
    char output[512];
    snprintf(output, sizeof output, "%s", in_folder(state, "starved"));
    o.output = output;
    sp_distill_options options;
    assert_ok(sp_distill_options_of(&o, &options));
    long works = 1000;
    while (starved(&options, works) == SP_MEMORY)
        works *= 2;
    for (long i = 0; i < TRIALS; i++) /* half of it was too few */
        assert_status(starved(&options, i * works / 2 / TRIALS), SP_MEMORY);
    assert_ok(starved(&options, -1));
}

#define with_folder(test) cmocka_unit_test_setup_teardown(test, make_test_folder, remove_test_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        with_folder(a_learning_rate_that_falls),
        with_folder(a_constant_run_is_prolonged),
        with_folder(sub_paths_that_shorten),
        with_folder(averages_named_after_their_papers),
        with_folder(a_target_of_its_own),
        with_folder(online_weights_as_the_target),
        with_folder(weighted_losses),
        with_folder(want_of_memory),
    };
    return cmocka_run_group_tests_name("training_settings", tests, NULL, NULL);
}
