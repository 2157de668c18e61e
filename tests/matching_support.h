/* What tests of distribution matching share: the cases golden/distill-dmd* as options of the library, and runs that are
 * interrupted. */
#ifndef SP_TESTS_MATCHING_SUPPORT_H
#define SP_TESTS_MATCHING_SUPPORT_H
#include "distill_support.h"

typedef struct {
    sp_distill_options options;
    char teacher[600], draws[600], output[600], trace[600];
} trial;

static inline void make_trial(void **state, const char *name, const char *output, trial *t)
{
    json_t *description = golden_case_json(name);
    const json_t *flags = json_object_get(description, "flags");
    snprintf(t->teacher, sizeof t->teacher, "%s/%s", golden(name), case_text(description, "teacher"));
    snprintf(t->draws, sizeof t->draws, "%s/draws.safetensors", golden(name));
    snprintf(t->output, sizeof t->output, "%s", in_folder(state, output));
    snprintf(t->trace, sizeof t->trace, "%s", in_folder(state, "trace.safetensors"));
    t->options = sp_distill_defaults();
    t->options.objective = sp_objective_defaults(SP_OBJECTIVE_DMD);
    t->options.objective.ddim_timesteps = (int)case_number(flags, "student-steps");
    t->options.objective.fake_score_steps = (int)case_number(flags, "fake-score-steps");
    t->options.objective.guidance_scale_w = case_number(flags, "guidance-scale-w");
    t->options.objective.gan_weight = case_number(flags, "gan-weight"); /* 0 where it is absent */
    t->options.objective.gan_fake_score_weight = case_number(flags, "gan-fake-score-weight");
    splam_distill_options *o = &t->options.given;
    o->teacher = t->teacher;
    o->draws = t->draws;
    o->output = t->output;
    o->train_batch_size = (int64_t)case_number(flags, "train-batch-size");
    o->gradient_accumulation_steps = (int64_t)case_number(flags, "gradient-accumulation-steps");
    o->max_train_steps = 10;
    o->learning_rate = 1e-3;
    json_decref(description);
}

static inline void assert_same_students(const char *a, const char *b)
{
    assert_same_file(in(a, "unet/diffusion_pytorch_model.safetensors"),
                     in(b, "unet/diffusion_pytorch_model.safetensors"));
    assert_same_file(in(a, "unet_ema/diffusion_pytorch_model.safetensors"),
                     in(b, "unet_ema/diffusion_pytorch_model.safetensors"));
    static const char *const beside[] = {"checkpoint-10/fake_score_online.safetensors",
                                         "checkpoint-10/fake_score_first_moment.safetensors",
                                         "checkpoint-10/fake_score_second_moment.safetensors"};
    for (int i = 0; i < 3; i++)
        assert_same_file(in(a, beside[i]), in(b, beside[i]));
}

/* A run stopped after each of `first` to `last` steps, and resumed, is the run not stopped; *t: the last one. */
static inline void check_resumed(void **state, const char *name, int first, int last, trial *t)
{
    trial whole;
    make_trial(state, name, "whole", &whole);
    assert_ok(sp_distill(&whole.options, NULL));
    for (int after = first; after <= last; after++) {
        char output[32];
        snprintf(output, sizeof output, "stopped-%d", after);
        make_trial(state, name, output, t);
        int left = after;
        const sp_callbacks callbacks = {.context = &left, .report = count_step, .cancelled = stop_after};
        assert_status(sp_distill(&t->options, &callbacks), SP_CANCELLED);
        t->options.given.resume = "latest";
        assert_ok(sp_distill(&t->options, NULL));
        assert_same_students(whole.output, t->output);
    }
}

#endif
