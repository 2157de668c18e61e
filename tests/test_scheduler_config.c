/* Scheduler files: what is read of them, what is refused, and what samplers do with the rest. */
#include "scheduler_support.h"

#include <math.h>

#include "base/text.h"
#include "diffusion/sampler.h"

static sp_status read_text(const char *text, sp_scheduler_config *config)
{
    json_t *json;
    assert_ok(sp_json_parse(text, strlen(text), "scheduler_config.json", &json));
    sp_status status = sp_scheduler_config_read(json, "scheduler_config.json", config);
    json_decref(json);
    return status;
}

static void check_refused(const char *text, const char *words)
{
    sp_scheduler_config config;
    assert_status(read_text(text, &config), SP_UNSUPPORTED);
    assert_message(words);
}

/* Flow matching: a shift and no betas; a student's class; what asks for another grid is refused by who heeds it. */
static void test_flow(void **state)
{
    sp_scheduler_config config;
    (void)state;
    assert_ok(read_text("{\"_class_name\": \"FlowMatchEulerDiscreteScheduler\", \"shift\": 3.0}", &config));
    assert_int_equal(config.path.kind, SP_PATH_FLOW);
    assert_int_equal(config.path.prediction, SP_PREDICTION_FLOW);
    assert_true(config.path.shift == 3 && config.path.timesteps == 1000);
    assert_int_equal(config.sampler, SP_SAMPLER_EULER);
    assert_int_equal(config.student, SP_STUDENT_NONE);
    assert_int_equal(config.demands, 0);
    assert_ok(read_text("{\"_class_name\": \"FlowMatchLCMScheduler\", \"base_shift\": 0.5}", &config));
    assert_true(config.path.shift == 1);
    assert_int_equal(config.sampler, SP_SAMPLER_LCM);
    assert_int_equal(config.student, SP_STUDENT_LCM);
    assert_status(read_text("{\"_class_name\": \"FlowMatchLCMScheduler\", \"shift\": 0}", &config), SP_FORMAT);
    assert_message("\"shift\"");
    static const char dynamic[] =
        "{\"_class_name\": \"FlowMatchEulerDiscreteScheduler\", \"use_dynamic_shifting\": true}";
    assert_ok(read_text(dynamic, &config));
    assert_status(sp_sampler_check(&config, &(sp_sampler_options){.kind = SP_SAMPLER_EULER}), SP_UNSUPPORTED);
    assert_message("use_dynamic_shifting");
}

/* What no sampler can do without. */
static void test_refused_keys(void **state)
{
    (void)state;
    check_refused("{\"trained_betas\": [0.1, 0.2]}", "trained_betas");
    check_refused("{\"prediction_type\": \"flow_prediction\"}", "\"prediction_type\" is \"flow_prediction\"");
    check_refused("{\"beta_schedule\": \"squaredcos_cap_v2\"}", "squaredcos_cap_v2");
    check_refused("{\"_class_name\": \"FlowMapEulerDiscreteScheduler\"}", "\"FlowMapEulerDiscreteScheduler\"");
    check_refused("{\"_class_name\": \"EDMDPMSolverMultistepScheduler\"}", "\"EDMDPMSolverMultistepScheduler\"");
    sp_scheduler_config config;
    assert_status(read_text("[]", &config), SP_FORMAT);
    assert_status(read_text("{\"set_alpha_to_one\": 3}", &config), SP_FORMAT);
    char many[4096] = "{\"_class_name\": \"PNDMScheduler\"";
    for (int i = 0; i <= SP_MOST_DEMANDS; i++)
        snprintf(many + strlen(many), sizeof many - strlen(many), ", \"new_%d\": %d", i, i + 1);
    strcat(many, "}");
    check_refused(many, "more than 24 keys");
}

typedef struct {
    const sp_scheduler_config *config;
    sp_sampler_kind kind;
} check_context;

static void check_sampler(void *context)
{
    const check_context *c = context;
    assert_ok(sp_sampler_check(c->config, &(sp_sampler_options){.kind = c->kind}));
}

/* `heeded` refuses the file and names key and value, when it is checked and when it is made; `done` does as
 * it says; the others pass it over with one line that names the key. */
static void check_done(void **state, const char *text, unsigned heeded, unsigned done, const char *words)
{
    sp_scheduler_config config;
    assert_ok(read_text(text, &config));
    for (int k = 0; k < SP_SAMPLER_COUNT; k++) {
        sp_sampler sampler;
        sp_sampler_kind kind = (sp_sampler_kind)k;
        sp_status made = sp_sampler_create(&config, &(sp_sampler_options){.kind = kind, .steps = 4}, &sampler);
        if (heeded & 1u << k) {
            assert_int_equal(made, SP_UNSUPPORTED);
            assert_message(words);
            assert_message(sp_sampler_name(kind));
            assert_status(sp_sampler_check(&config, &(sp_sampler_options){.kind = kind}), SP_UNSUPPORTED);
            assert_message(words);
        } else {
            assert_ok(made);
            sp_sampler_free(&sampler);
            char *warning = captured(state, check_sampler, &(check_context){&config, kind});
            bool one = strstr(warning, words) && strchr(warning, '\n') == strrchr(warning, '\n');
            if (done & 1u << k ? *warning != 0 : !one)
                fail_msg("%s with %s: \"%s\"", text, sp_sampler_name(kind), warning);
            sp_free(warning);
        }
    }
}

static void check_demand(void **state, const char *text, unsigned heeded, const char *words)
{
    check_done(state, text, heeded, 0, words);
}

/* A key of another sampler keeps nobody from sampling. */
static void test_demands(void **state)
{
    const unsigned clipped = SP_SAMPLER_BIT(LCM) | SP_SAMPLER_BIT(TCD) | SP_SAMPLER_BIT(DDIM);
    const unsigned euler = SP_SAMPLER_BIT(EULER), heun = SP_SAMPLER_BIT(HEUN), unipc = SP_SAMPLER_BIT(UNIPC);
    const unsigned dpm = SP_SAMPLER_BIT(DPMPP_2M), sde = SP_SAMPLER_BIT(DPMPP_2M_SDE), multi = dpm | sde | unipc;
    const unsigned sigmas = multi | euler | heun;
    check_demand(state, "{\"thresholding\": true}", clipped | multi, "\"thresholding\" is true");
    check_demand(state, "{\"clip_sample\": true}", clipped | heun, "\"clip_sample\" is true");
    check_done(state, "{\"use_karras_sigmas\": true}", 0, sigmas, "\"use_karras_sigmas\" is true");
    check_done(state, "{\"use_exponential_sigmas\": true}", 0, sigmas, "use_exponential_sigmas");
    check_demand(state, "{\"use_beta_sigmas\": true}", sigmas, "use_beta_sigmas");
    check_demand(state, "{\"use_lu_lambdas\": true}", dpm | sde, "use_lu_lambdas");
    check_demand(state, "{\"use_flow_sigmas\": true}", multi, "use_flow_sigmas");
    check_done(state, "{\"rescale_betas_zero_snr\": true, \"prediction_type\": \"v_prediction\"}", heun,
               sp_all_samplers & ~heun, "\"rescale_betas_zero_snr\" is true");
    check_done(state, "{\"solver_order\": 3}", sde, dpm | unipc, "\"solver_order\" is 3");
    check_done(state, "{\"solver_order\": 1}", 0, multi, "\"solver_order\" is 1");
    check_demand(state, "{\"solver_order\": 4}", multi, "\"solver_order\" is 4");
    check_done(state, "{\"algorithm_type\": \"sde-dpmsolver++\"}", 0, sde, "sde-dpmsolver++");
    check_demand(state, "{\"algorithm_type\": \"dpmsolver\", \"final_sigmas_type\": \"sigma_min\"}", dpm | sde,
                 "dpmsolver");
    check_done(state, "{\"solver_type\": \"heun\"}", 0, multi, "heun");
    check_demand(state, "{\"solver_type\": \"other\"}", multi, "other");
    check_demand(state, "{\"lambda_min_clipped\": -5.1}", dpm | sde, "lambda_min_clipped");
    check_demand(state, "{\"timestep_spacing\": \"random\"}",
                 sp_all_samplers & ~(SP_SAMPLER_BIT(LCM) | SP_SAMPLER_BIT(TCD)), "random");
    check_demand(state, "{\"final_sigmas_type\": \"new\"}", euler | multi, "final_sigmas_type");
    check_demand(state, "{\"interpolation_type\": \"log_linear\"}", euler, "log_linear");
    check_demand(state, "{\"timestep_scaling\": 5.5}", SP_SAMPLER_BIT(LCM), "\"timestep_scaling\" is 5.5");
    check_demand(state, "{\"sigma_max\": 80}", euler | unipc, "\"sigma_max\" is 80");
    check_demand(state, "{\"predict_x0\": false}", unipc, "\"predict_x0\" is false");
    check_demand(state, "{\"disable_corrector\": [0, 1]}", unipc, "\"disable_corrector\" is [0,1]");
    /* an unknown key is the named class's */
    check_demand(state, "{\"something_new\": 3}", sp_all_samplers, "\"something_new\" is 3");
    check_demand(state, "{\"_class_name\": \"PNDMScheduler\", \"something_new\": 3}", 0, "something_new");
    check_demand(state, "{\"_class_name\": \"EulerDiscreteScheduler\", \"something_new\": 3}", euler, "something_new");
    check_demand(state, "{\"something_new_of_a_length_that_nobody_would_ever_write\": true}", sp_all_samplers,
                 "something_new_of_a_length_that_nobody_would_...");
}

/* What is asked for goes before the file's sigmas, those that are not done included. */
static void test_sigmas(void **state)
{
    (void)state;
    sp_scheduler_config config;
    sp_sampler sampler;
    sp_sigmas sigmas;
    assert_ok(read_text("{\"use_karras_sigmas\": true, \"beta_schedule\": \"scaled_linear\"}", &config));
    sp_sampler_options o = {.kind = SP_SAMPLER_EULER, .steps = 3};
    const double normal = 499.5;
    for (int i = 0; i < 3; i++) {
        o.sigmas = (sp_sigmas[]){SP_SIGMAS_OWN, SP_SIGMAS_KARRAS, SP_SIGMAS_NORMAL}[i];
        assert_ok(sp_sampler_create(&config, &o, &sampler));
        assert_int_equal(sampler.step[1].timestep == normal, i == 2);
        sp_sampler_free(&sampler);
    }
    assert_ok(read_text("{\"use_beta_sigmas\": true}", &config));
    o.sigmas = SP_SIGMAS_OWN;
    assert_status(sp_sampler_create(&config, &o, &sampler), SP_UNSUPPORTED);
    o.sigmas = SP_SIGMAS_EXPONENTIAL;
    assert_ok(sp_sampler_create(&config, &o, &sampler));
    sp_sampler_free(&sampler);
    o.kind = SP_SAMPLER_DDIM;
    assert_status(sp_sampler_create(&config, &o, &sampler), SP_ARGUMENT);
    assert_message("ddim");
    assert_ok(read_text("{\"use_karras_sigmas\": true, \"use_exponential_sigmas\": true}", &config));
    o = (sp_sampler_options){.kind = SP_SAMPLER_HEUN, .steps = 3};
    assert_status(sp_sampler_create(&config, &o, &sampler), SP_UNSUPPORTED);
    assert_status(sp_sigmas_of("beta", &sigmas), SP_ARGUMENT);
    assert_message("exponential");
    assert_ok(sp_sigmas_of("karras", &sigmas));
    assert_string_equal(sp_sigmas_name(sigmas), "karras");
}

/* Asked for, a spacing goes before the file's, those that are not done included. */
static void test_spacing(void **state)
{
    (void)state;
    sp_scheduler_config told = config_of("{\"timestep_spacing\": \"trailing\"}"),
                        odd = config_of("{\"timestep_spacing\": \"random\"}");
    sp_timestep_spacing spacing;
    for (int k = 0; k < SP_SAMPLER_COUNT; k++) {
        sp_sampler a, b;
        sp_sampler_options o = {.kind = (sp_sampler_kind)k, .steps = 4, .eta = .3, .spacing = SP_SPACING_TRAILING};
        if (k == SP_SAMPLER_LCM || k == SP_SAMPLER_TCD) {
            assert_status(sp_sampler_check(&odd, &o), SP_ARGUMENT);
            assert_message("takes no spacing");
            continue;
        }
        assert_ok(sp_sampler_create(&odd, &o, &a));
        o.spacing = SP_SPACING_OWN;
        assert_status(sp_sampler_create(&odd, &o, &b), SP_UNSUPPORTED);
        assert_ok(sp_sampler_create(&told, &o, &b));
        assert_true(a.step[0].timestep == 999 && a.initial_sigma == b.initial_sigma);
        assert_memory_equal(a.step, b.step, (size_t)a.count * sizeof *a.step);
        sp_sampler_free(&a);
        sp_sampler_free(&b);
    }
    assert_status(sp_spacing_of("even", &spacing), SP_ARGUMENT);
    assert_message("leading");
    assert_ok(sp_spacing_of("linspace", &spacing));
    assert_string_equal(sp_spacing_name(spacing), "linspace");
}

/* Settings with which diffusers ends in NaN, and others that look like it. */
static void test_last_steps(void **state)
{
    (void)state;
    sp_scheduler_config config;
    sp_sampler sampler;
    const sp_sampler_options o = {.kind = SP_SAMPLER_UNIPC, .steps = 4};
    assert_ok(read_text("{\"lower_order_final\": false}", &config));
    assert_status(sp_sampler_create(&config, &o, &sampler), SP_NUMERIC);
    assert_message("evaluation 4 of 4");
    assert_ok(read_text("{\"use_karras_sigmas\": true, \"final_sigmas_type\": \"sigma_min\"}", &config));
    assert_ok(sp_sampler_create(&config, &o, &sampler)); /* to where it is already: the corrected state */
    assert_true(sampler.step[3].next.kept[0] == 1);
    sp_sampler_free(&sampler);
}

/* The file's algorithm is taken where nobody names a sampler. */
static void test_stochastic_default(void **state)
{
    (void)state;
    sp_scheduler_config config;
    assert_ok(read_text("{\"algorithm_type\": \"sde-dpmsolver++\"}", &config));
    assert_int_equal(sp_sampler_for(&config), SP_SAMPLER_DPMPP_2M_SDE);
    assert_ok(read_text("{\"algorithm_type\": \"dpmsolver++\"}", &config));
    assert_int_equal(sp_sampler_for(&config), SP_SAMPLER_DPMPP_2M);
    for (int k = 0; k < SP_SAMPLER_COUNT; k++) /* who has noise in its rows, and with an eta alone */
        for (int drawn = 0; drawn < 2; drawn++) {
            sp_sampler sampler;
            sp_sampler_options o = {.kind = (sp_sampler_kind)k, .steps = 3, .eta = drawn ? 0.3 : 0};
            bool draws = k == SP_SAMPLER_LCM || k == SP_SAMPLER_EULER_A || k == SP_SAMPLER_DPMPP_2M_SDE ||
                         (drawn && (k == SP_SAMPLER_TCD || k == SP_SAMPLER_DDIM));
            assert_ok(sp_sampler_create(&config, &o, &sampler));
            assert_int_equal(draws, sampler.step[0].next.fresh != 0);
            assert_true(sampler.step[sampler.count - 1].next.fresh == 0);
            assert_int_equal(sp_sampler_has_eta(o.kind), k == SP_SAMPLER_TCD || k == SP_SAMPLER_DDIM);
            sp_sampler_free(&sampler);
        }
}

/* Where nobody names a sampler the class that the file names does, and one that is none of them is refused. */
static void test_classes(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        sp_sampler_kind kind;
    } cases[] = {{"LCMScheduler", SP_SAMPLER_LCM},
                 {"TCDScheduler", SP_SAMPLER_TCD},
                 {"EulerDiscreteScheduler", SP_SAMPLER_EULER},
                 {"EulerAncestralDiscreteScheduler", SP_SAMPLER_EULER_A},
                 {"HeunDiscreteScheduler", SP_SAMPLER_HEUN},
                 {"UniPCMultistepScheduler", SP_SAMPLER_UNIPC},
                 {"DPMSolverMultistepScheduler", SP_SAMPLER_DPMPP_2M},
                 {"PNDMScheduler", SP_SAMPLER_DPMPP_2M},
                 {"DDIMScheduler", SP_SAMPLER_DPMPP_2M}};
    char text[256];
    sp_sampler_kind kind;
    sp_scheduler_config config = config_of("{}");
    assert_ok(sp_sampler_choose(&config, NULL, &kind));
    assert_int_equal(kind, SP_SAMPLER_DPMPP_2M);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        snprintf(text, sizeof text, "{\"_class_name\": \"%s\"}", cases[i].name);
        config = config_of(text);
        assert_ok(sp_sampler_choose(&config, NULL, &kind));
        assert_int_equal(kind, cases[i].kind);
        assert_ok(sp_sampler_choose(&config, "heun", &kind));
        assert_int_equal(kind, SP_SAMPLER_HEUN);
    }
    config = config_of("{\"_class_name\": \"DEISMultistepScheduler\", \"algorithm_type\": \"deis\"}");
    assert_status(sp_sampler_choose(&config, NULL, &kind), SP_UNSUPPORTED);
    assert_message("scheduler_config.json: the sampler of the class \"DEISMultistepScheduler\" is not supported; "
                   "give a `sampler`, such as dpm++2m");
    assert_ok(sp_sampler_choose(&config, "ddim", &kind));
    assert_int_equal(kind, SP_SAMPLER_DDIM);
    assert_status(sp_sampler_choose(&config, "deis", &kind), SP_ARGUMENT);
}

/* A file with everything of diffusers at its own values asks for nothing. */
static void test_usual_keys(void **state)
{
    static const char text[] =
        "{\"_class_name\": \"DPMSolverMultistepScheduler\", \"algorithm_type\": \"dpmsolver++\","
        " \"beta_schedule\": \"scaled_linear\", \"dynamic_thresholding_ratio\": 0.995,"
        " \"euler_at_final\": false, \"final_sigmas_type\": \"zero\", \"flow_shift\": 1.0,"
        " \"lambda_min_clipped\": null, \"lower_order_final\": true, \"solver_order\": 2,"
        " \"solver_type\": \"midpoint\", \"thresholding\": false, \"trained_betas\": null,"
        " \"use_karras_sigmas\": false, \"use_lu_lambdas\": false, \"variance_type\": null,"
        " \"timestep_scaling\": 10.0, \"timestep_type\": \"discrete\", \"predict_x0\": true,"
        " \"disable_corrector\": [], \"solver_p\": null, \"rescale_betas_zero_snr\": false}";
    char sdxl[sizeof sdxl_scheduler + 1];
    snprintf(sdxl, sizeof sdxl, "%s}", sdxl_scheduler);
    for (int i = 0; i < 2; i++) {
        sp_scheduler_config config = config_of(i ? sdxl : text);
        assert_int_equal(config.demands, 0);
        for (int k = 0; k < SP_SAMPLER_COUNT; k++) {
            char *warning = captured(state, check_sampler, &(check_context){&config, (sp_sampler_kind)k});
            assert_string_equal(warning, "");
            sp_free(warning);
        }
    }
}

/* A path that is longer than the message has room for. */
static void test_long_path(void **state)
{
    (void)state;
    char path[400];
    sp_scheduler_config config;
    json_t *json = json_pack("{s:i}", "something_new", 1);
    memset(path, 'a', sizeof path);
    strcpy(path + 380, "/config.json");
    assert_ok(sp_scheduler_config_read(json, path, &config));
    json_decref(json);
    assert_true(strlen(config.where) == sizeof config.where - 1 && sp_starts_with(config.where, "...a"));
    assert_status(sp_sampler_check(&config, &(sp_sampler_options){.kind = SP_SAMPLER_DDIM}), SP_UNSUPPORTED);
    assert_message("aa/config.json");
}

static void test_infinity(void **state)
{
    static const char text[] =
        "{\"_class_name\": \"DPMSolverMultistepScheduler\", \"lambda_min_clipped\": -Infinity,"
        " \"_note\": \"Infinity \\\" -Infinity\", \"final_sigmas_type\": \"sigma_min\"}";
    sp_scheduler_config config;
    const char *path = in_folder(state, "scheduler_config.json");
    assert_ok(sp_write_file(path, text, sizeof text - 1));
    assert_ok(sp_scheduler_config_load(path, &config));
    assert_true(config.final_sigma_min && config.student == SP_STUDENT_NONE && config.alpha_to_one);
    assert_ok(sp_write_file(path, "{\"steps_offset\": 1e", 19));
    assert_status(sp_scheduler_config_load(path, &config), SP_FORMAT);
    assert_status(sp_scheduler_config_load(in_folder(state, "absent.json"), &config), SP_IO);
}

/* With final_sigmas_type sigma_min the last of 15 steps or more is second order, and ends with the
 * noise of timestep 0. */
static void test_final_sigma(void **state)
{
    (void)state;
    sp_scheduler_config config = config_of("{\"final_sigmas_type\": \"sigma_min\"}");
    sp_sampler sampler;
    assert_ok(sp_sampler_create(
        &config, &(sp_sampler_options){.kind = SP_SAMPLER_DPMPP_2M, .steps = 15}, &sampler));
    assert_true(sampler.step[14].next.kept[0] != 0 && sampler.step[0].next.kept[0] == 0);
    sp_sampler_free(&sampler);
    assert_ok(sp_sampler_create(
        &config, &(sp_sampler_options){.kind = SP_SAMPLER_DPMPP_2M, .steps = 14}, &sampler));
    assert_true(sampler.step[13].next.kept[0] == 0 && sampler.step[12].next.kept[0] != 0);
    sp_sampler_free(&sampler);
    config.final_sigma_min = false;
    assert_ok(sp_sampler_create(
        &config, &(sp_sampler_options){.kind = SP_SAMPLER_DPMPP_2M, .steps = 15}, &sampler));
    double t = sampler.step[14].timestep;
    const sp_estimate e = sp_estimate_from(SP_PREDICTION_EPSILON, sp_path_at(&config.path, t));
    assert_true(sampler.step[14].next.kept[0] == 0 && fabs(sampler.step[14].next.z - e.x0_z) < 1e-14);
    sp_sampler_free(&sampler);
}

static sp_status load_and_sample(void *path)
{
    sp_scheduler_config config;
    sp_sampler sampler;
    SP_TRY(sp_scheduler_config_load(path, &config));
    SP_TRY(sp_sampler_create(&config, &(sp_sampler_options){.kind = SP_SAMPLER_EULER, .steps = 3},
                             &sampler));
    sp_sampler_free(&sampler);
    return SP_OK;
}

static void test_failing_allocations(void **state)
{
    char path[512];
    snprintf(path, sizeof path, "%s/failing.json", (const char *)*state);
    assert_ok(sp_copy_file(golden("sampler-dpm-leading/scheduler_config.json"), path, NULL));
    assert_in_range(fail_every_allocation(load_and_sample, path), 5, 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_flow), cmocka_unit_test(test_refused_keys),
        cmocka_unit_test(test_demands),
        cmocka_unit_test(test_sigmas),
        cmocka_unit_test(test_spacing),
        cmocka_unit_test(test_last_steps),
        cmocka_unit_test(test_stochastic_default),
        cmocka_unit_test(test_classes),
        cmocka_unit_test(test_usual_keys),
        cmocka_unit_test(test_long_path),
        cmocka_unit_test(test_infinity),
        cmocka_unit_test(test_final_sigma),
        cmocka_unit_test(test_failing_allocations),
    };
    return cmocka_run_group_tests(tests, make_test_folder, remove_test_folder);
}
