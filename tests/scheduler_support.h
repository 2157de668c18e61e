/* Scheduler configurations from texts, for tests. */
#ifndef SP_TESTS_SCHEDULER_SUPPORT_H
#define SP_TESTS_SCHEDULER_SUPPORT_H
#include "support.h"
#include "base/json.h"
#include "diffusion/scheduler_config.h"

/* scheduler_config.json of SDXL and its fine-tunes, which has keys of its classes' common ancestor too, without the
 * last brace. */
static const char sdxl_scheduler[] =
    "{\"_class_name\": \"EulerDiscreteScheduler\", \"_diffusers_version\": \"0.19.0.dev0\", \"beta_end\": 0.012,"
    " \"beta_schedule\": \"scaled_linear\", \"beta_start\": 0.00085, \"clip_sample\": false,"
    " \"interpolation_type\": \"linear\", \"num_train_timesteps\": 1000, \"prediction_type\": \"epsilon\","
    " \"sample_max_value\": 1.0, \"set_alpha_to_one\": false, \"skip_prk_steps\": true, \"steps_offset\": 1,"
    " \"timestep_spacing\": \"leading\", \"trained_betas\": null, \"use_karras_sigmas\": false";

static inline sp_scheduler_config config_of(const char *text)
{
    sp_scheduler_config config;
    json_t *json;
    assert_ok(sp_json_parse(text, strlen(text), "scheduler_config.json", &json));
    assert_ok(sp_scheduler_config_read(json, "scheduler_config.json", &config));
    json_decref(json);
    return config;
}


#endif
