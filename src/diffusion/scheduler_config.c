/* Reading a scheduler's configuration. */
#include "diffusion/scheduler_config.h"
#include <stdio.h>
#include <string.h>
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/text_file.h"
#include "models/config.h"
#include "checkpoints/original.h"

enum {
    DPM = SP_SAMPLER_BIT(DPMPP_2M),
    SDE = SP_SAMPLER_BIT(DPMPP_2M_SDE),
    UNIPC = SP_SAMPLER_BIT(UNIPC),
    EULER = SP_SAMPLER_BIT(EULER),
    EULER_A = SP_SAMPLER_BIT(EULER_A),
    HEUN = SP_SAMPLER_BIT(HEUN),
    LCM = SP_SAMPLER_BIT(LCM),
    TCD = SP_SAMPLER_BIT(TCD),
    DDIM = SP_SAMPLER_BIT(DDIM),
    CLIPPED = LCM | TCD | DDIM, /* clip their estimates if asked to */
    MULTI = DPM | SDE | UNIPC,
    SIGMAS = MULTI | EULER | HEUN,       /* take Karras' sigmas and the like */
    SPACED = SIGMAS | EULER_A | DDIM,    /* have timestep_spacing */
    FLOW = EULER | HEUN | LCM | TCD | DDIM /* have grids of flow matching */
};

/* ---- keys ---- */

/* Keys that some samplers heed, and the value at which nothing is asked for (NULL: null or false). */
typedef struct {
    const char *key, *usual;
    unsigned heeded_by;
} demand_rule;
static const demand_rule demand_rules[] = {
    {"clip_sample", NULL, CLIPPED | HEUN},
    {"thresholding", NULL, CLIPPED | MULTI},
    {"timestep_scaling", "10", LCM},
    {"interpolation_type", "\"linear\"", EULER},
    {"timestep_type", "\"discrete\"", EULER},
    {"sigma_min", NULL, EULER | UNIPC},
    {"sigma_max", NULL, EULER | UNIPC},
    {"use_beta_sigmas", NULL, SIGMAS},
    {"use_lu_lambdas", NULL, DPM | SDE},
    {"use_flow_sigmas", NULL, MULTI},
    {"use_dynamic_shifting", NULL, MULTI | FLOW},
    {"shift_terminal", NULL, UNIPC | FLOW},
    {"invert_sigmas", NULL, FLOW},
    {"stochastic_sampling", NULL, EULER},
    {"scale_factors", NULL, LCM},
    {"lambda_min_clipped", NULL, DPM | SDE},
    {"predict_x0", "true", UNIPC},
    {"disable_corrector", "[]", UNIPC},
    {"solver_p", NULL, UNIPC},
};

/* Keys that are read below, and keys of no consequence for the samplers here or only together with
 * another that is a demand. */
static const char *const plain_keys[] = {
    "num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "prediction_type",
    "timestep_spacing", "steps_offset", "set_alpha_to_one", "original_inference_steps",
    "final_sigmas_type", "lower_order_final", "euler_at_final", "algorithm_type", "solver_type",
    "solver_order", "use_karras_sigmas", "use_exponential_sigmas", "skip_prk_steps",
    "clip_sample_range", "dynamic_thresholding_ratio", "sample_max_value", "variance_type",
    "flow_shift", "time_shift_type", "trained_betas", "rescale_betas_zero_snr"};

/* The same of classes of flow matching. */
static const char *const flow_keys[] = {"shift", "base_shift", "max_shift", "base_image_seq_len", "max_image_seq_len",
                                        "upscale_mode"};

/* Whose an unknown key is, and what a model with this class is sampled with. DDIM, PNDM and DDPM stand in files from
 * before there were faster ones. */
typedef struct {
    const char *name;
    unsigned samplers;
    sp_sampler_kind own;
} scheduler_class;
static const scheduler_class classes[] = {
    {"LCMScheduler", LCM, SP_SAMPLER_LCM},
    {"TCDScheduler", TCD, SP_SAMPLER_TCD},
    {"DDIMScheduler", DDIM, SP_SAMPLER_DPMPP_2M},
    {"PNDMScheduler", 0, SP_SAMPLER_DPMPP_2M},
    {"DDPMScheduler", 0, SP_SAMPLER_DPMPP_2M},
    {"DPMSolverMultistepScheduler", DPM | SDE, SP_SAMPLER_DPMPP_2M},
    {"UniPCMultistepScheduler", UNIPC, SP_SAMPLER_UNIPC},
    {"EulerDiscreteScheduler", EULER, SP_SAMPLER_EULER},
    {"EulerAncestralDiscreteScheduler", EULER_A, SP_SAMPLER_EULER_A},
    {"HeunDiscreteScheduler", HEUN, SP_SAMPLER_HEUN},
    {"FlowMatchEulerDiscreteScheduler", EULER, SP_SAMPLER_EULER},
    {"FlowMatchHeunDiscreteScheduler", HEUN, SP_SAMPLER_HEUN},
    {"FlowMatchLCMScheduler", LCM, SP_SAMPLER_LCM},
};

/* NULL: it is none of them. */
static const scheduler_class *find_class(const char *name)
{
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++)
        if (strcmp(name, classes[i].name) == 0) return &classes[i];
    return NULL;
}

static bool is_flow(const char *class_name)
{
    return class_name && strncmp(class_name, "FlowMatch", strlen("FlowMatch")) == 0;
}

static unsigned samplers_of(const char *class_name)
{
    if (!class_name) return sp_all_samplers;
    const scheduler_class *found = find_class(class_name);
    return found ? found->samplers : 0;
}

/* ---- demands ---- */

/* The text and, if it does not fit, "..." at its end. */
static void shorten(char *out, size_t size, const char *text)
{
    if ((size_t)snprintf(out, size, "%s", text) >= size) memcpy(out + size - 4, "...", 4);
}

static sp_status add_demand(sp_scheduler_config *out, const char *key, const json_t *value,
                            unsigned heeded_by, unsigned done_by)
{
    if (out->demands == SP_MOST_DEMANDS)
        return sp_fail(SP_UNSUPPORTED, "%s: more than %d keys ask for what is not supported, the last \"%.64s\"",
                       out->where, SP_MOST_DEMANDS, key);
    char *text = sp_json_dumps(value, JSON_COMPACT);
    if (!text) return SP_MEMORY;
    sp_scheduler_demand *demand = &out->demand[out->demands++];
    shorten(demand->key, sizeof demand->key, key);
    shorten(demand->value, sizeof demand->value, text);
    demand->heeded_by = heeded_by;
    demand->done_by = done_by;
    demand->of_sigmas = strcmp(key, "use_beta_sigmas") == 0 || strcmp(key, "use_karras_sigmas") == 0 ||
                        strcmp(key, "use_exponential_sigmas") == 0;
    demand->of_spacing = strcmp(key, "timestep_spacing") == 0;
    sp_free(text);
    return SP_OK;
}

/* Equal as JSON, but that 10 is 10.0. */
static sp_status is_usual(const json_t *value, const char *usual, bool *out)
{
    *out = json_is_null(value) || (!usual && json_is_false(value));
    if (*out || !usual) return SP_OK;
    json_t *expected = json_loads(usual, JSON_DECODE_ANY, NULL);
    if (!expected) return sp_fail(SP_MEMORY, "out of memory for a scheduler's settings");
    *out = json_is_number(value) && json_is_number(expected)
               ? json_number_value(value) == json_number_value(expected)
               : json_equal(value, expected);
    json_decref(expected);
    return SP_OK;
}

static bool is_among(const char *key, const char *const *keys, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(key, keys[i]) == 0) return true;
    return false;
}

static bool is_plain(const char *key, const char *class_name)
{
    return is_among(key, plain_keys, sizeof plain_keys / sizeof *plain_keys) ||
           (is_flow(class_name) && is_among(key, flow_keys, sizeof flow_keys / sizeof *flow_keys));
}

static sp_status read_demand(const char *key, const json_t *value, const char *class_name,
                             sp_scheduler_config *out)
{
    demand_rule rule = {.key = key, .heeded_by = samplers_of(class_name)};
    bool usual;
    if (key[0] == '_' || is_plain(key, class_name)) return SP_OK;
    for (size_t i = 0; i < sizeof demand_rules / sizeof *demand_rules; i++)
        if (strcmp(key, demand_rules[i].key) == 0) rule = demand_rules[i];
    SP_TRY(is_usual(value, rule.usual, &usual));
    return usual ? SP_OK : add_demand(out, key, value, rule.heeded_by, 0);
}

static sp_status read_demands(const json_t *config, const char *class_name, sp_scheduler_config *out)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)config, key, value)
        SP_TRY(read_demand(key, value, class_name, out));
    return SP_OK;
}

/* ---- values ---- */

/* The place of a text among `choices`; absent or null: `fallback`, and -2 for another one. */
static sp_status find_choice(const json_t *config, const char *key, const char *const *choices,
                             int count, int fallback, const char *where, int *out)
{
    const char *text;
    SP_TRY(sp_json_text(config, key, NULL, where, &text));
    *out = text ? -2 : fallback;
    for (int i = 0; text && i < count; i++)
        if (strcmp(text, choices[i]) == 0) *out = i;
    return SP_OK;
}

/* Another text than `choices` is a demand on some samplers, and `fallback` to the others. */
static sp_status read_choice(const json_t *config, const char *key, const char *const *choices,
                             int count, int fallback, unsigned heeded_by, sp_scheduler_config *out,
                             int *choice)
{
    SP_TRY(find_choice(config, key, choices, count, fallback, out->where, choice));
    if (*choice != -2) return SP_OK;
    *choice = fallback;
    return add_demand(out, key, json_object_get(config, key), heeded_by, 0);
}

static sp_status refuse(const json_t *config, const char *key, const sp_scheduler_config *out)
{
    const json_t *value = json_object_get(config, key);
    if (!value || json_is_null(value) || json_is_false(value)) return SP_OK;
    char *text = sp_json_dumps(value, JSON_COMPACT);
    sp_status status = sp_fail(SP_UNSUPPORTED, "%s: \"%s\" (%.48s) is not supported", out->where, key,
                               text ? text : "?");
    sp_free(text);
    return status;
}

/* What a model that can be opened predicts: the first of sp_prediction. */
#define X(name, text) text,
static const char *const predictions[] = {SP_PREDICTION_TYPE_LIST(X)};
#undef X
enum { PREDICTIONS = sizeof predictions / sizeof *predictions };

static sp_status read_flow(const json_t *config, int timesteps, sp_scheduler_config *out)
{
    const double least = 0, most = 1000;
    double shift;
    SP_TRY(sp_config_double(config, "shift", 1, least, most, out->where, &shift));
    sp_path_of_flow(shift, timesteps, &out->path);
    return SP_OK;
}

static sp_status read_path(const json_t *config, const char *class_name, sp_scheduler_config *out)
{
    const char *where = out->where, *betas;
    int64_t timesteps;
    double start, end;
    int prediction;
    SP_TRY(sp_config_int(config, "num_train_timesteps", 1000, 2, SP_MAX_TIMESTEPS, where, &timesteps));
    if (is_flow(class_name)) return read_flow(config, (int)timesteps, out);
    /* the defaults of the class */
    bool latent = out->student == SP_STUDENT_LCM || out->student == SP_STUDENT_TCD;
    SP_TRY(sp_json_text(config, "beta_schedule", latent ? "scaled_linear" : "linear", where, &betas));
    SP_TRY(sp_json_double(config, "beta_start", latent ? 0.00085 : 0.0001, where, &start));
    SP_TRY(sp_json_double(config, "beta_end", latent ? 0.012 : 0.02, where, &end));
    SP_TRY(refuse(config, "trained_betas", out));
    SP_TRY(find_choice(config, "prediction_type", predictions, PREDICTIONS, 0, where, &prediction));
    if (prediction < 0)
        return sp_fail(SP_UNSUPPORTED, "%s: \"prediction_type\" is \"%.64s\", which is not supported", where,
                       json_string_value(json_object_get(config, "prediction_type")));
    sp_status status = sp_path_of_betas(betas, start, end, (int)timesteps,
                                        (sp_prediction)prediction, &out->path);
    return status ? sp_fail_within(status, "%s", where) : SP_OK;
}

/* Heun's method has no use for a first sigma of 4096: diffusers' class does not know the key. */
static sp_status read_zero_snr(const json_t *config, sp_scheduler_config *out)
{
    static const char key[] = "rescale_betas_zero_snr";
    bool zero_snr;
    SP_TRY(sp_json_bool(config, key, false, out->where, &zero_snr));
    if (!zero_snr) return SP_OK;
    sp_path_rescale_zero_snr(&out->path);
    return add_demand(out, key, json_object_get(config, key), HEUN, sp_all_samplers & ~(unsigned)HEUN);
}

/* diffusers reads other classes' settings as these: DEIS's algorithm and logrho as DPM-Solver++'s own, UniPC's
 * types as the midpoint, DPM-Solver's as bh2. */
static sp_status read_solver(const json_t *config, sp_scheduler_config *out)
{
    static const char *const algorithms[] = {"dpmsolver++", "deis", "sde-dpmsolver++"};
    static const char *const solvers[] = {"midpoint", "logrho", "bh1", "bh2", "heun"};
    int algorithm, solver;
    int64_t order;
    SP_TRY(read_choice(config, "algorithm_type", algorithms, 3, 0, DPM | SDE, out, &algorithm));
    SP_TRY(read_choice(config, "solver_type", solvers, 5, 0, MULTI, out, &solver));
    SP_TRY(sp_json_int(config, "solver_order", 2, out->where, &order));
    out->sde = algorithm == 2;
    out->solver_bh1 = solver == 2;
    out->solver_heun = solver == 4;
    out->solver_order = order >= 1 && order <= SP_MOST_ORDERS ? (int)order : 2;
    if (out->sde) SP_TRY(add_demand(out, "algorithm_type", json_object_get(config, "algorithm_type"), 0, SDE));
    if (out->solver_heun) SP_TRY(add_demand(out, "solver_type", json_object_get(config, "solver_type"), 0, MULTI));
    if (order == 2) return SP_OK;
    /* diffusers' form of order 3 of the stochastic equation is not consistent: its D2 has the weight -1 for h = 0 */
    unsigned refused = order < 1 || order > SP_MOST_ORDERS ? MULTI : order == 3 ? SDE : 0;
    return add_demand(out, "solver_order", json_object_get(config, "solver_order"), refused, MULTI & ~refused);
}

static sp_status read_sigmas(const json_t *config, sp_scheduler_config *out)
{
    static const char *const keys[] = {"use_karras_sigmas", "use_exponential_sigmas"};
    static const sp_sigmas values[] = {SP_SIGMAS_KARRAS, SP_SIGMAS_EXPONENTIAL};
    out->sigmas = SP_SIGMAS_NORMAL;
    for (int i = 0; i < 2; i++) {
        bool wanted;
        SP_TRY(sp_json_bool(config, keys[i], false, out->where, &wanted));
        if (!wanted) continue;
        unsigned refused = out->sigmas == SP_SIGMAS_NORMAL ? 0 : SIGMAS; /* not both */
        SP_TRY(add_demand(out, keys[i], json_object_get(config, keys[i]), refused, SIGMAS & ~refused));
        out->sigmas = values[i];
    }
    return SP_OK;
}

static sp_status read_sampling(const json_t *config, sp_scheduler_config *out)
{
    static const char *const spacings[] = {"leading", "linspace", "trailing"};
    static const char *const finals[] = {"zero", "sigma_min"};
    const char *where = out->where;
    int64_t offset, original;
    int spacing, final;
    int64_t last = out->path.timesteps - 1;
    SP_TRY(read_choice(config, "timestep_spacing", spacings, 3, -1, SPACED, out, &spacing));
    SP_TRY(read_choice(config, "final_sigmas_type", finals, 2, 0, MULTI | EULER, out, &final));
    SP_TRY(sp_config_int(config, "steps_offset", 0, 0, last, where, &offset));
    SP_TRY(sp_config_int(config, "original_inference_steps",
                         out->path.timesteps < 50 ? out->path.timesteps : 50, 1,
                         out->path.timesteps, where, &original));
    SP_TRY(sp_json_bool(config, "set_alpha_to_one", true, where, &out->alpha_to_one));
    SP_TRY(sp_json_bool(config, "lower_order_final", true, where, &out->lower_order_final));
    SP_TRY(sp_json_bool(config, "euler_at_final", false, where, &out->euler_at_final));
    out->spacing = (sp_timestep_spacing)(spacing + 1);
    out->final_sigma_min = final == 1;
    out->steps_offset = (int)offset;
    out->original_steps = (int)original;
    return SP_OK;
}

/* "_student", for what no class of flow matching says. */
static sp_status read_flow_student(const json_t *config, const char *class_name, sp_scheduler_config *out)
{
    const char *student;
    SP_TRY(sp_json_text(config, "_student", NULL, out->where, &student));
    if (!student || !is_flow(class_name)) return SP_OK;
    if (strcmp(student, "tcd") != 0)
        return sp_fail(SP_UNSUPPORTED, "%s: \"_student\" is \"%.64s\", expected \"tcd\"", out->where, student);
    out->student = SP_STUDENT_TCD;
    return SP_OK;
}

static sp_status read_student(const json_t *config, const char *class_name, sp_scheduler_config *out)
{
    int64_t steps;
    SP_TRY(sp_config_int(config, "_distilled_steps", 0, 0, SP_MAX_TIMESTEPS, out->where, &steps));
    out->distilled_steps = (int)steps;
    if (class_name && (strcmp(class_name, "LCMScheduler") == 0 || strcmp(class_name, "FlowMatchLCMScheduler") == 0))
        out->student = SP_STUDENT_LCM;
    else if (class_name && strcmp(class_name, "TCDScheduler") == 0)
        out->student = SP_STUDENT_TCD;
    else if (steps > 0)
        out->student = SP_STUDENT_DDIM;
    return read_flow_student(config, class_name, out);
}

/* Whose schedule is neither of betas nor that of flow matching. */
static sp_status check_class(const char *class_name, const sp_scheduler_config *out)
{
    static const char *const others[] = {"FlowMap", "EDM", "IPNDM", "CMStochastic", "Cosine", "KarrasVe", "ScoreSde"};
    for (size_t i = 0; class_name && i < sizeof others / sizeof *others; i++)
        if (strstr(class_name, others[i]))
            return sp_fail(SP_UNSUPPORTED, "%s: a model of the class \"%.64s\" is not supported", out->where,
                           class_name);
    return SP_OK;
}

static void read_class(const char *class_name, sp_scheduler_config *out)
{
    const scheduler_class *found = class_name ? find_class(class_name) : NULL;
    out->sampler = found ? found->own : SP_SAMPLER_DPMPP_2M;
    if (out->student == SP_STUDENT_DDIM) out->sampler = SP_SAMPLER_DDIM;
    if (out->student == SP_STUDENT_TCD) out->sampler = SP_SAMPLER_TCD;
    if (out->sde && out->sampler == SP_SAMPLER_DPMPP_2M) out->sampler = SP_SAMPLER_DPMPP_2M_SDE;
    if (class_name && !found && !out->student) shorten(out->foreign, sizeof out->foreign, class_name);
}

/* The end of a path that is too long. */
static void set_where(sp_scheduler_config *out, const char *where)
{
    size_t length = strlen(where), most = sizeof out->where - 1;
    bool fits = length <= most;
    snprintf(out->where, sizeof out->where, "%s%s", fits ? "" : "...",
             fits ? where : where + length - (most - strlen("...")));
}

sp_status sp_scheduler_config_read(const json_t *config, const char *where, sp_scheduler_config *out)
{
    memset(out, 0, sizeof *out);
    set_where(out, where);
    if (!json_is_object(config)) return sp_fail(SP_FORMAT, "%s: must hold a JSON object", out->where);
    const char *class_name = json_string_value(json_object_get(config, "_class_name"));
    SP_TRY(read_student(config, class_name, out));
    SP_TRY(check_class(class_name, out));
    SP_TRY(read_path(config, class_name, out));
    SP_TRY(read_zero_snr(config, out));
    SP_TRY(read_sampling(config, out));
    SP_TRY(read_solver(config, out));
    SP_TRY(read_sigmas(config, out));
    read_class(class_name, out);
    return read_demands(config, class_name, out);
}

sp_status sp_scheduler_config_load(const char *path, sp_scheduler_config *out)
{
    json_t *config;
    SP_TRY(sp_scheduler_json_load(path, &config));
    sp_status status = sp_scheduler_config_read(config, path, out);
    json_decref(config);
    return status;
}

sp_status sp_scheduler_config_of(const sp_model_folder *model, json_t **json, sp_scheduler_config *out)
{
    json_t *config = NULL;
    char *where = NULL;
    memset(out, 0, sizeof *out);
    sp_status status = sp_model_folder_scheduler(model, &config, &where);
    if (!status) status = sp_scheduler_config_read(config, where, out);
    if (json) *json = json_incref(config);
    json_decref(config);
    sp_free(where);
    return status;
}
