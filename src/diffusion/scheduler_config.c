/* Reading a scheduler's configuration. */
#include "diffusion/scheduler_config.h"
#include <string.h>
#include "base/file.h"
#include "base/memory.h"
#include "base/text_file.h"
#include "models/config.h"
#include "models/original.h"

/* Keys that are absent here pass only if null or false: trained_betas, thresholding, clip_sample,
 * rescale_betas_zero_snr, use_karras_sigmas and its like, sigma_min, sigma_max, ... */
static const sp_config_rule rules[] = {
    {"num_train_timesteps", NULL},
    {"beta_start", NULL},
    {"beta_end", NULL},
    {"beta_schedule", NULL},
    {"prediction_type", NULL},
    {"timestep_spacing", NULL},
    {"steps_offset", NULL},
    {"set_alpha_to_one", NULL},
    {"original_inference_steps", NULL},
    {"final_sigmas_type", NULL},
    {"lower_order_final", NULL},
    {"euler_at_final", NULL},
    {"algorithm_type", NULL},
    {"solver_type", NULL},
    {"timestep_scaling", "10"},
    {"solver_order", "2"},
    {"interpolation_type", "\"linear\""},
    {"timestep_type", "\"discrete\""},
    /* of no consequence for the samplers here, or only together with a key that is refused */
    {"skip_prk_steps", NULL},
    {"clip_sample_range", NULL},
    {"dynamic_thresholding_ratio", NULL},
    {"sample_max_value", NULL},
    {"variance_type", NULL},
    {"flow_shift", NULL},
    {"time_shift_type", NULL},
    {"predict_x0", NULL},
    {"disable_corrector", NULL},
};

/* The place of a text among `choices`; absent or null: `fallback`. */
static sp_status read_choice(const json_t *config, const char *key, const char *const *choices,
                             int count, int fallback, const char *where, int *out)
{
    const char *text;
    SP_TRY(sp_json_text(config, key, NULL, where, &text));
    *out = fallback;
    if (!text) return SP_OK;
    for (int i = 0; i < count; i++)
        if (strcmp(text, choices[i]) == 0) {
            *out = i;
            return SP_OK;
        }
    return sp_fail(SP_UNSUPPORTED, "%s: \"%s\" is \"%.64s\", which is not supported", where, key,
                   text);
}

static sp_status read_noise_schedule(const json_t *config, const char *where,
                                     sp_scheduler_config *out)
{
    static const char *const predictions[] = {"epsilon", "v_prediction"};
    int64_t timesteps;
    double start, end;
    const char *betas;
    int prediction;
    SP_TRY(
        sp_config_int(config, "num_train_timesteps", 1000, 2, SP_MAX_TIMESTEPS, where, &timesteps));
    /* the defaults of the class */
    bool latent = out->student == SP_STUDENT_LCM || out->student == SP_STUDENT_TCD;
    SP_TRY(
        sp_json_text(config, "beta_schedule", latent ? "scaled_linear" : "linear", where, &betas));
    SP_TRY(sp_json_double(config, "beta_start", latent ? 0.00085 : 0.0001, where, &start));
    SP_TRY(sp_json_double(config, "beta_end", latent ? 0.012 : 0.02, where, &end));
    SP_TRY(read_choice(config, "prediction_type", predictions, 2, 0, where, &prediction));
    sp_status status =
        sp_schedule_make(betas, start, end, (int)timesteps,
                         prediction ? SP_PREDICTION_V : SP_PREDICTION_EPSILON, &out->schedule);
    return status ? sp_fail_within(status, "%s", where) : SP_OK;
}

static sp_status read_sampling(const json_t *config, const char *where, sp_scheduler_config *out)
{
    static const char *const spacings[] = {"leading", "linspace", "trailing"};
    static const char *const finals[] = {"zero", "sigma_min"};
    static const char *const algorithms[] = {"dpmsolver++",
                                             "deis"}; /* diffusers reads DEIS's settings as these */
    static const char *const solvers[] = {"midpoint", "logrho", "bh1", "bh2"};
    int64_t offset, original;
    int spacing, final, unused;
    int64_t last = out->schedule.timesteps - 1;
    SP_TRY(read_choice(config, "timestep_spacing", spacings, 3, -1, where, &spacing));
    SP_TRY(read_choice(config, "final_sigmas_type", finals, 2, 0, where, &final));
    SP_TRY(read_choice(config, "algorithm_type", algorithms, 2, 0, where, &unused));
    SP_TRY(read_choice(config, "solver_type", solvers, 4, 0, where, &unused));
    SP_TRY(sp_config_int(config, "steps_offset", 0, 0, last, where, &offset));
    SP_TRY(sp_config_int(config, "original_inference_steps",
                         out->schedule.timesteps < 50 ? out->schedule.timesteps : 50, 1,
                         out->schedule.timesteps, where, &original));
    SP_TRY(sp_json_bool(config, "set_alpha_to_one", true, where, &out->alpha_to_one));
    SP_TRY(sp_json_bool(config, "lower_order_final", true, where, &out->lower_order_final));
    SP_TRY(sp_json_bool(config, "euler_at_final", false, where, &out->euler_at_final));
    out->spacing = (sp_timestep_spacing)(spacing + 1);
    out->final_sigma_min = final == 1;
    out->steps_offset = (int)offset;
    out->original_steps = (int)original;
    return SP_OK;
}

static sp_status read_student(const json_t *config, const char *where, const char *class_name,
                              sp_scheduler_config *out)
{
    int64_t steps;
    SP_TRY(sp_config_int(config, "_distilled_steps", 0, 0, SP_MAX_TIMESTEPS, where, &steps));
    out->distilled_steps = (int)steps;
    if (class_name && strcmp(class_name, "LCMScheduler") == 0)
        out->student = SP_STUDENT_LCM;
    else if (class_name && strcmp(class_name, "TCDScheduler") == 0)
        out->student = SP_STUDENT_TCD;
    else if (steps > 0)
        out->student = SP_STUDENT_DDIM;
    return SP_OK;
}

sp_status sp_scheduler_config_read(const json_t *config, const char *where,
                                   sp_scheduler_config *out)
{
    SP_TRY(sp_config_check(config, where, rules, sizeof rules / sizeof *rules));
    const char *class_name = json_string_value(json_object_get(config, "_class_name"));
    memset(out, 0, sizeof *out);
    SP_TRY(read_student(config, where, class_name, out));
    if (class_name && strstr(class_name, "Flow"))
        return sp_fail(SP_UNSUPPORTED, "%s: a flow model's %.64s is not supported", where,
                       class_name);
    SP_TRY(read_noise_schedule(config, where, out));
    return read_sampling(config, where, out);
}

/* Python writes infinite numbers as no JSON can hold them (lambda_min_clipped is one in many
 * files): null instead. */
static void replace_infinities(char *text)
{
    bool quoted = false;
    for (char *p = text; *p; p++) {
        if (*p == '\\' && quoted && p[1]) {
            p++;
        } else if (*p == '"') {
            quoted = !quoted;
        } else if (!quoted && strncmp(p, "Infinity", 8) == 0) {
            if (p > text && p[-1] == '-') p[-1] = ' ';
            memcpy(p, "null    ", 8);
        }
    }
}

static sp_status load_json(const char *path, json_t **out)
{
    char *text;
    SP_TRY(sp_read_text(path, &text, NULL));
    replace_infinities(text);
    sp_status status = sp_json_parse(text, strlen(text), path, out);
    sp_free(text);
    return status;
}

sp_status sp_scheduler_config_load(const char *path, sp_scheduler_config *out)
{
    json_t *config;
    SP_TRY(load_json(path, &config));
    sp_status status = sp_scheduler_config_read(config, path, out);
    json_decref(config);
    return status;
}

sp_status sp_scheduler_config_of(const sp_model_folder *model, json_t **json,
                                 sp_scheduler_config *out)
{
    json_t *config = NULL;
    char *path = model->single ? sp_strdup(model->path)
                               : sp_format("%s/scheduler/scheduler_config.json", model->path);
    sp_status status = !path           ? SP_MEMORY
                       : model->single ? sp_original_scheduler(model->single, NULL, &config)
                                       : load_json(path, &config);
    if (!status) status = sp_scheduler_config_read(config, path, out);
    if (json) *json = json_incref(config);
    json_decref(config);
    sp_free(path);
    return status;
}
