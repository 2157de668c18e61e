/* The discriminator of distribution matching: its layers, its losses, its memory, runs that are interrupted, threads.
 * The comparison with PyTorch is test_distill.c's, of distill-dmd-gan*. */
#include "matching_support.h"
#include "backend/registry.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/parallel.h"
#include "base/text.h"
#include "distill/matching.h"
#include "models/discriminator.h"
#include "ops/autodiff.h"

static void resumed_with_its_discriminator(void **state)
{
    trial t;
    check_resumed(state, "distill-dmd-gan", 1, 3, &t);
    t.options.objective.gan_weight = 0.25;
    assert_status(sp_distill(&t.options, NULL), SP_ARGUMENT);
    assert_message("`gan_weight` 0.3");
    t.options.objective.gan_weight = 0;
    assert_status(sp_distill(&t.options, NULL), SP_ARGUMENT);
    assert_message("`gan_weight` 0.3");
}

/* loss and the part of it that NAME says, of line `step` of metrics.jsonl. */
static double metric(const char *output, int step, const char *name)
{
    char *text;
    assert_ok(sp_read_file(in(output, "metrics.jsonl"), &text, NULL));
    char *line = text;
    for (int i = 0; i < step; i++)
        line = strchr(line, '\n') + 1;
    json_t *object = json_loadb(line, (size_t)(strchr(line, '\n') - line), 0, NULL);
    const json_t *value = json_object_get(object, name);
    double found = json_is_number(value) ? json_number_value(value) : NAN;
    json_decref(object);
    sp_free(text);
    return found;
}

/* A student that matches is pulled by the discriminator alone, in proportion to its weight; each loss is the sum of its
 * parts times their weights; and the fake score is trained by both, also where it denoises perfectly well. */
static void losses_are_the_sum_of_their_parts(void **state)
{
    static const double weights[] = {0.5, 1};
    double norm[2], fake_norm[2];
    for (int i = 0; i < 2; i++) {
        trial t;
        sp_tensor_file *trace;
        make_trial(state, "distill-dmd-gan", i ? "one" : "half", &t);
        t.options.given.learning_rate = 0;
        t.options.given.trace = t.trace;
        t.options.given.max_train_steps = 3;
        t.options.objective.guidance_scale_w = 0; /* the teacher is what the fake score is */
        t.options.objective.gan_weight = weights[i];
        t.options.objective.gan_fake_score_weight = weights[i] * 1e6;
        assert_ok(sp_distill(&t.options, NULL));
        assert_ok(sp_safetensors_open(t.trace, &trace));
        norm[i] = trace_at(trace, "grad_norm", 2);
        fake_norm[i] = trace_at(trace, "grad_norm", 0);
        sp_tensor_file_close(trace);
        double student = metric(t.output, 2, "loss_gan"), matching = metric(t.output, 2, "loss_matching");
        assert_true(student > 1e-3 && matching < 1e-9);
        assert_true(fabs(metric(t.output, 2, "loss") / (matching + weights[i] * student) - 1) < 1e-6);
        double told = metric(t.output, 0, "loss_gan_fake") + metric(t.output, 0, "loss_gan_real"),
               denoising = metric(t.output, 0, "loss_denoising");
        assert_true(told > 1e-3 && denoising > 1e-3);
        assert_true(fabs(metric(t.output, 0, "loss") / (denoising + 1e6 * weights[i] * told) - 1) < 1e-6);
        assert_true(isnan(metric(t.output, 0, "loss_gan")) && isnan(metric(t.output, 2, "loss_gan_real")));
    }
    assert_true(norm[0] > 1e-4 && fabs(norm[1] / norm[0] - 2) < 1e-4);
    assert_true(fake_norm[0] > 1e-4 && fabs(fake_norm[1] / fake_norm[0] - 2) < 1e-4);
}

/* The fake score's graph for a UNet, of the trial's sizes. */
static sp_graph *fake_score_graph(const sp_objective_settings *s, const sp_component_config *unet, uint64_t recompute)
{
    sp_graph *graph;
    const sp_conditioning conditioning = sp_conditioning_declared(&sp_unet_network, &unet->unet, 2, 7);
    const sp_step_shape shape = {.batch = 2, .channels = 4, .height = 8, .width = 8, .conditioning = &conditioning,
                                 .teacher = unet, .student = unet, .recompute = recompute};
    assert_ok(sp_matching_graph(s, &shape, SP_STEP_FAKE_SCORE, &graph));
    return graph;
}

/* Its way down has blocks of gradient checkpointing of its own, which count on from those of the whole UNet: each of
 * them is computed again by itself, and there are no more. */
static void its_blocks_follow_the_unets(void **state)
{
    trial t;
    sp_component *unet;
    make_trial(state, "distill-dmd-gan", "blocks", &t);
    assert_ok(sp_component_open_as(t.teacher, "unet", NULL, &unet));
    const sp_unet_config *c = &unet->config.unet;
    enum { WHOLE = 11, DOWN = 5 }; /* three levels of one layer, a middle block of two */
    assert_int_equal(sp_unet_block_count(c), WHOLE);
    sp_graph *none = fake_score_graph(&t.options.objective, &unet->config, 0);
    for (int k = 0; k <= WHOLE + DOWN; k++) {
        sp_graph *graph = fake_score_graph(&t.options.objective, &unet->config, (uint64_t)1 << k);
        assert_int_equal(graph->node_count > none->node_count, k < WHOLE + DOWN);
        sp_graph_destroy(graph);
    }
    sp_graph_destroy(none);
    sp_component_close(unet);
}

/* Its weights and moments are planned for. */
static void memory_of_a_discriminator_is_counted(void **state)
{
    trial t;
    size_t fake[2], inputs[2], head = 0;
    make_trial(state, "distill-dmd-gan", "counted", &t);
    sp_component *unet;
    sp_tensor_file *draws;
    assert_ok(sp_safetensors_open(t.draws, &draws));
    for (size_t i = 0; i < sp_tensor_file_count(draws); i++)
        if (strncmp(sp_tensor_file_name(draws, i), "discriminator.", 14) == 0)
            head += sp_tensor_bytes(sp_tensor_file_at(draws, i));
    assert_true(head > 0);
    sp_tensor_file_close(draws);
    assert_ok(sp_component_open_as(t.teacher, "unet", NULL, &unet));
    for (int i = 0; i < 2; i++) {
        sp_plan *plan;
        sp_objective_settings s = t.options.objective;
        if (!i) s.gan_weight = 0;
        sp_graph *graph = fake_score_graph(&s, &unet->config, 0);
        assert_ok(sp_plan_create(graph, sp_default_device(), SP_F32, &plan));
        fake[i] = sp_plan_set_bytes(plan, SP_FAKE_SCORE);
        inputs[i] = sp_plan_get_memory(plan).boundary;
        sp_plan_destroy(plan);
    }
    assert_int_equal(fake[1] - fake[0], head);
    assert_true(inputs[1] > inputs[0]);
    sp_component_close(unet);
}

/* Of SD 1.5's and SDXL's features, and of the demo's and the smallest: DMD2's layers, and fewer. */
static void its_layers_follow_the_features(void **state)
{
    (void)state;
    static const struct {
        int64_t height, width, channels, groups;
        const char *parameters;
    } cases[] = {
        {8, 8, 1280, 32, "0.weight [1280,1280,4,4] 0.bias [1280] 1.weight [1280] 1.bias [1280] "
                         "3.weight [1280,20480] 3.bias [1280] 4.weight [1280] 4.bias [1280] 6.weight [1,1280] "
                         "6.bias [1] "},
        {8, 12, 4, 1, "0.weight [4,4,4,4] 0.bias [4] 1.weight [4] 1.bias [4] 3.weight [4,96] 3.bias [4] 4.weight [4] "
                      "4.bias [4] 6.weight [1,4] 6.bias [1] "},
        {32, 32, 4, 1, "0.weight [4,4,4,4] 0.bias [4] 1.weight [4] 1.bias [4] 3.weight [4,4,4,4] 3.bias [4] "
                       "4.weight [4] 4.bias [4] 6.weight [4,4,4,4] 6.bias [4] 7.weight [4] 7.bias [4] "
                       "9.weight [4,64] 9.bias [4] 10.weight [4] 10.bias [4] 12.weight [1,4] 12.bias [1] "},
        {4, 4, 144, 16, "0.weight [144,2304] 0.bias [144] 1.weight [144] 1.bias [144] 3.weight [1,144] 3.bias [1] "},
        {1, 1, 6, 6, "0.weight [6,6] 0.bias [6] 1.weight [6] 1.bias [6] 3.weight [1,6] 3.bias [1] "},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        sp_builder *b;
        sp_string found = {0};
        sp_value **parameters;
        int count;
        assert_ok(sp_builder_create(&b));
        sp_set_enter(b, SP_FAKE_SCORE, SP_RATE_STEP, NULL, NULL);
        sp_value *d = sp_discriminator(b,
                                       sp_input(b, "features", SP_F32,
                                                sp_shape_of(2, cases[i].height, cases[i].width, cases[i].channels),
                                                SP_RATE_STEP),
                                       cases[i].groups);
        assert_false(sp_builder_failed(b));
        assert_true(sp_shape_equal(d->shape, sp_shape_of(2, 1, 1)));
        assert_ok(sp_parameters_of(b, SP_FAKE_SCORE, &parameters, &count));
        for (int k = 0; k < count; k++)
            sp_string_append_format(&found, "%s %s ", parameters[k]->name + strlen("discriminator."),
                                    sp_shape_text(parameters[k]->shape));
        assert_string_equal(sp_string_text(&found), cases[i].parameters);
        sp_string_free(&found);
        sp_builder_destroy(b);
    }
}

/* Its 4x4 convolutions too have one order of sums. */
static void threads_change_no_bit(void **state)
{
    static const char *const outputs[2][2] = {{"one", "three"}, {"one-half", "three-half"}};
    trial t[2];
    for (int half = 0; half < 2; half++) {
        for (int i = 0; i < 2; i++) {
            make_trial(state, "distill-dmd-gan-v-accumulate", outputs[half][i], &t[i]);
            t[i].options.precision = half ? SP_BF16 : SP_F32;
            sp_set_threads(i ? 3 : 1);
            assert_ok(sp_distill(&t[i].options, NULL));
        }
        sp_set_threads(0);
        assert_same_students(t[0].output, t[1].output);
    }
}

static void bad_draws_of_a_discriminator_are_refused(void **state)
{
    trial t;
    make_trial(state, "distill-dmd-gan", "bad", &t);
    t.options.objective.fake_score_steps = 3; /* the third step has no latents of the data */
    t.options.given.max_train_steps = 3;
    assert_status(sp_distill(&t.options, NULL), SP_FORMAT);
    assert_message("latents.2");
    make_trial(state, "distill-dmd", "bad", &t);
    t.options.objective.gan_weight = t.options.objective.gan_fake_score_weight = 1;
    assert_status(sp_distill(&t.options, NULL), SP_FORMAT);
    assert_message("discriminator.0.weight");
}

#define with_folder(test) cmocka_unit_test_setup_teardown(test, make_test_folder, remove_test_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(its_layers_follow_the_features),
        with_folder(losses_are_the_sum_of_their_parts),
        with_folder(resumed_with_its_discriminator),
        with_folder(its_blocks_follow_the_unets),
        with_folder(memory_of_a_discriminator_is_counted),
        with_folder(threads_change_no_bit),
        with_folder(bad_draws_of_a_discriminator_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
