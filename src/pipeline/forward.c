/* One run of one component on tensors. */
#include "pipeline/forward.h"

#include <string.h>

#include "checkpoints/component.h"
#include "models/layers.h"
#include "models/runner.h"

/* One tensor of the input file and what the graph makes of it. */
typedef struct {
    const char *name;
    bool picture; /* NCHW in the file, NHWC in the graph */
    bool ids;     /* whole numbers; the others are floats */
    bool optional;
    bool whole; /* may be whole numbers too: timesteps */
    int rank;
    sp_rate rate;
} input_rule;

#define MAX_INPUTS 4
typedef struct {
    const char *name, *folder;
    input_rule input[MAX_INPUTS];
    void (*build)(sp_builder *b, const sp_component_config *config, sp_value *const *in);
    const char *output[SP_FORWARD_MAX_OUTPUTS];
} component_rule;

static void output_picture(sp_builder *b, const char *name, sp_value *value)
{
    sp_output(b, name, sp_nhwc_to_nchw(b, value));
}

static void build_unet(sp_builder *b, const sp_component_config *config, sp_value *const *in)
{
    output_picture(b, "sample", sp_unet(b, &config->unet, in[0], in[1], in[2], in[3]));
}

static void build_encoder(sp_builder *b, const sp_component_config *config, sp_value *const *in)
{
    sp_vae_moments moments = sp_vae_encode(b, &config->vae, in[0]);
    output_picture(b, "mean", moments.mean);
    if (moments.logvar) output_picture(b, "logvar", moments.logvar);
}

static void build_decoder(sp_builder *b, const sp_component_config *config, sp_value *const *in)
{
    output_picture(b, "image", sp_vae_decode(b, &config->vae, in[0]));
}

static void build_text(sp_builder *b, const sp_component_config *config, sp_value *const *in)
{
    sp_output(b, "last_hidden_state", sp_clip_text(b, &config->text, in[0], 0));
}

static const component_rule rules[] = {
    {"unet",
     "unet",
     {{.name = "sample", .picture = true, .rank = 4, .rate = SP_RATE_STEP},
      {.name = "timestep", .whole = true, .rank = 1, .rate = SP_RATE_STEP},
      {.name = "encoder_hidden_states", .rank = 3, .rate = SP_RATE_PROMPT},
      {.name = "timestep_cond", .optional = true, .rank = 2, .rate = SP_RATE_STEP}},
     build_unet,
     {"sample"}},
    {"vae-encoder",
     "vae",
     {{.name = "image", .picture = true, .rank = 4, .rate = SP_RATE_STEP}},
     build_encoder,
     {"mean", "logvar"}},
    {"vae-decoder",
     "vae",
     {{.name = "latent", .picture = true, .rank = 4, .rate = SP_RATE_STEP}},
     build_decoder,
     {"image"}},
    {"text-encoder",
     "text_encoder",
     {{.name = "input_ids", .ids = true, .rank = 2, .rate = SP_RATE_STEP}},
     build_text,
     {"last_hidden_state"}},
};

static const component_rule *find_rule(const char *name)
{
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        if (strcmp(name, rules[i].name) == 0) return &rules[i];
    return NULL;
}

/* ---- inputs ---- */

static bool is_whole(sp_dtype dtype)
{
    return dtype == SP_I64 || dtype == SP_I32 || dtype == SP_U8;
}

static sp_status check_input(const input_rule *rule, const sp_tensor *tensor, const char *path)
{
    bool whole = is_whole(tensor->dtype);
    if (rule->ids ? tensor->dtype != SP_I64 && tensor->dtype != SP_I32 : whole && !rule->whole)
        return sp_fail(SP_FORMAT, "%s: tensor \"%s\" has the type %s, expected %s", path,
                       rule->name, sp_dtype_name(tensor->dtype),
                       rule->ids ? "I64 or I32" : "a float type");
    bool good = tensor->shape.rank == rule->rank;
    for (int i = 0; good && i < rule->rank; i++)
        good = tensor->shape.dim[i] > 0;
    if (!good)
        return sp_fail(SP_SHAPE,
                       "%s: tensor \"%s\" has the shape %s, expected %d dimensions, none of them 0",
                       path, rule->name, sp_shape_text(tensor->shape), rule->rank);
    return SP_OK;
}

/* The file's tensors in the order of the rule, NULL for an optional one that is absent. A tensor
 * that nothing asks for is an error: most often it is a name spelt wrongly. */
static sp_status find_inputs(const component_rule *rule, const sp_tensor_file *file,
                             const sp_tensor **found)
{
    size_t count = 0;
    const char *path = sp_tensor_file_path(file);
    for (int i = 0; i < MAX_INPUTS && rule->input[i].name; i++) {
        const char *name = rule->input[i].name;
        found[i] = sp_tensor_file_find(file, name);
        if (!found[i] && rule->input[i].optional) continue;
        if (!found[i]) return sp_fail(SP_FORMAT, "%s: tensor \"%s\" is missing", path, name);
        SP_TRY(check_input(&rule->input[i], found[i], path));
        count++;
    }
    for (size_t i = 0; count < sp_tensor_file_count(file) && i < sp_tensor_file_count(file); i++) {
        const char *name = sp_tensor_file_name(file, i);
        bool known = false;
        for (int k = 0; k < MAX_INPUTS && rule->input[k].name; k++)
            known = known || strcmp(name, rule->input[k].name) == 0;
        if (!known)
            return sp_fail(SP_FORMAT, "%s: tensor \"%s\" is no input of %s", path, name,
                           rule->name);
    }
    return SP_OK;
}

static sp_status check_ids(const sp_tensor *ids, int64_t vocabulary, const char *path)
{
    for (int64_t i = 0; i < sp_tensor_count(ids); i++) {
        int64_t id = (int64_t)sp_load(ids->data, ids->dtype, i);
        if (id < 0 || id >= vocabulary)
            return sp_fail(SP_FORMAT,
                           "%s: \"input_ids\" holds %lld, and the text encoder knows ids 0..%lld",
                           path, (long long)id, (long long)vocabulary - 1);
    }
    return SP_OK;
}

/* ---- graph and run ---- */

static void build(sp_builder *b, const component_rule *rule, const sp_component *component,
                  const sp_tensor *const *found)
{
    sp_value *in[MAX_INPUTS] = {NULL};
    sp_set_enter(b, "model", SP_RATE_RUN, sp_weights_dtype, component->weights);
    for (int i = 0; i < MAX_INPUTS && rule->input[i].name; i++) {
        const input_rule *r = &rule->input[i];
        if (!found[i]) continue;
        in[i] = sp_input(b, r->name, r->ids ? found[i]->dtype : SP_F32, found[i]->shape, r->rate);
        if (r->picture) in[i] = sp_nchw_to_nhwc(b, in[i]);
    }
    rule->build(b, &component->config, in);
    sp_set_leave(b);
}

static sp_status make_runner(const component_rule *rule, const sp_component *component,
                             const sp_tensor *const *found, sp_dtype precision, sp_device *device,
                             sp_runner *out)
{
    sp_builder *b;
    SP_TRY(sp_builder_create(&b));
    build(b, rule, component, found);
    return sp_runner_create(b, device, precision, out);
}

static sp_status set_input(sp_run *run, const input_rule *rule, const sp_tensor *tensor)
{
    if (rule->ids || !is_whole(tensor->dtype)) return sp_run_set_input(run, rule->name, tensor);
    sp_tensor converted;
    SP_TRY(sp_tensor_convert(tensor, SP_F32, &converted));
    sp_status status = sp_run_set_input(run, rule->name, &converted);
    sp_tensor_free(&converted);
    return status;
}

static sp_status execute(const sp_runner *runner, const component_rule *rule,
                         const sp_component *component, const sp_tensor *const *found,
                         sp_named_outputs *out)
{
    sp_run *run = runner->run;
    SP_TRY(sp_run_bind(run, "model", component->weights));
    for (int i = 0; i < MAX_INPUTS && rule->input[i].name; i++)
        if (found[i]) SP_TRY(set_input(run, &rule->input[i], found[i]));
    SP_TRY(sp_run_execute(run, NULL));
    for (int i = 0; i < SP_FORWARD_MAX_OUTPUTS && rule->output[i]; i++) {
        if (!sp_plan_output(runner->plan, rule->output[i])) continue; /* a tiny VAE has no logvar */
        SP_TRY(sp_run_get_output(run, rule->output[i], &out->item[out->count].tensor));
        out->item[out->count++].name = rule->output[i];
    }
    return SP_OK;
}

static sp_status forward(const component_rule *rule, const sp_component *component,
                         const sp_tensor_file *inputs, sp_dtype precision, sp_device *device,
                         sp_named_outputs *out)
{
    const sp_tensor *found[MAX_INPUTS] = {NULL};
    sp_runner runner;
    SP_TRY(find_inputs(rule, inputs, found));
    if (component->config.kind == SP_COMPONENT_TEXT_ENCODER)
        SP_TRY(check_ids(found[0], component->config.text.vocabulary, sp_tensor_file_path(inputs)));
    sp_status status = make_runner(rule, component, found, precision, device, &runner);
    if (status != SP_OK) return sp_fail_within(status, "%s", sp_tensor_file_path(inputs));
    status = execute(&runner, rule, component, found, out);
    sp_runner_free(&runner);
    return status;
}

sp_status sp_component_forward(const char *path, const char *name, const sp_tensor_file *inputs,
                               sp_dtype precision, sp_device *device, sp_named_outputs *out)
{
    *out = (sp_named_outputs){0};
    const component_rule *rule = find_rule(name);
    if (!rule)
        return sp_fail(
            SP_ARGUMENT,
            "\"%s\" is no component: unet, vae-encoder, vae-decoder and text-encoder are", name);
    if (precision != SP_F32 && precision != SP_BF16)
        return sp_fail(SP_ARGUMENT, "precision %s is not supported: F32 and BF16 are",
                       sp_dtype_name(precision));
    sp_component *component;
    SP_TRY(sp_component_open(path, rule->folder, &component));
    sp_status status = forward(rule, component, inputs, precision, device, out);
    sp_component_close(component);
    if (status != SP_OK) sp_named_outputs_free(out);
    return status;
}

void sp_named_outputs_free(sp_named_outputs *outputs)
{
    for (int i = 0; i < outputs->count; i++)
        sp_tensor_free(&outputs->item[i].tensor);
    *outputs = (sp_named_outputs){0};
}
