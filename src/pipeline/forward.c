/* One run of one component on tensors. */
#include "pipeline/forward.h"

#include <stdio.h>
#include <string.h>

#include "checkpoints/component.h"
#include "models/layers.h"
#include "base/memory.h"

typedef struct {
    const sp_network *network; /* its name is the component's */
    const char *folder;
    const char *set; /* the weights' name, and that of kept plans */
} component_rule;

static const component_rule rules[] = {
    {&sp_unet_network, "unet", "forward unet"},
    {&sp_mmdit_network, "transformer", "forward transformer"},
    {&sp_vae_encoder_network, "vae", "forward vae-encoder"},
    {&sp_vae_decoder_network, "vae", "forward vae-decoder"},
    {&sp_clip_text_network, "text_encoder", "forward text-encoder"},
    {&sp_clip_text_projection_network, "text_encoder_2", "forward text-encoder-2"},
};

/* A component opened, and the tensors that its ports take; NULL for an optional one that is absent. */
typedef struct {
    const component_rule *rule;
    const sp_network *network;
    const sp_component *component;
    const sp_named_tensor *given;
    size_t given_count;
    sp_ports inputs, outputs;
    const sp_tensor *found[SP_MAX_PORTS];
    const char *path; /* for messages: where the inputs come from */
} forward_call;

static const component_rule *find_rule(const char *name)
{
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        if (strcmp(name, rules[i].network->name) == 0) return &rules[i];
    return NULL;
}

const char *sp_forward_folder(const char *name)
{
    const component_rule *rule = find_rule(name);
    return rule ? rule->folder : NULL;
}

/* ---- inputs ---- */

static bool is_whole(sp_dtype dtype)
{
    return dtype == SP_I64 || dtype == SP_I32 || dtype == SP_U8;
}

static sp_status check_input(const sp_port *port, const sp_tensor *tensor, const char *path)
{
    bool ids = port->kind == SP_PORT_IDS, whole = is_whole(tensor->dtype);
    if (ids ? tensor->dtype != SP_I64 && tensor->dtype != SP_I32 : whole && port->kind != SP_PORT_TIMESTEP)
        return sp_fail(SP_FORMAT, "%s: tensor \"%s\" has the type %s, expected %s", path,
                       port->name, sp_dtype_name(tensor->dtype), ids ? "I64 or I32" : "a float type");
    bool good = tensor->shape.rank == port->shape.rank;
    for (int i = 0; good && i < port->shape.rank; i++)
        good = tensor->shape.dim[i] > 0;
    if (!good)
        return sp_fail(SP_SHAPE,
                       "%s: tensor \"%s\" has the shape %s, expected %d dimensions, none of them 0",
                       path, port->name, sp_shape_text(tensor->shape), port->shape.rank);
    return SP_OK;
}

static sp_status fail_unknown(const forward_call *call, const char *name)
{
    char known[256] = "";
    for (int i = 0, length = 0; i < call->inputs.count && length < (int)sizeof known; i++)
        length += snprintf(known + length, sizeof known - (size_t)length, "%s%s", i ? ", " : "",
                           call->inputs.port[i].name);
    return sp_fail(SP_FORMAT, "%s: tensor \"%s\" is no input of %s, which takes %s", call->path, name,
                   call->network->name, known);
}

static const sp_tensor *find_given(const forward_call *call, const char *name)
{
    for (size_t i = 0; i < call->given_count; i++)
        if (strcmp(call->given[i].name, name) == 0) return call->given[i].tensor;
    return NULL;
}

/* A tensor that nothing asks for is an error: most often it is a name spelt wrongly. */
static sp_status find_inputs(forward_call *call)
{
    for (int i = 0; i < call->inputs.count; i++) {
        const sp_port *port = &call->inputs.port[i];
        call->found[i] = find_given(call, port->name);
        if (!call->found[i] && port->optional) continue;
        if (!call->found[i]) return sp_fail(SP_FORMAT, "%s: tensor \"%s\" is missing", call->path, port->name);
        SP_TRY(check_input(port, call->found[i], call->path));
    }
    for (size_t i = 0; i < call->given_count; i++)
        if (!sp_ports_find(&call->inputs, call->given[i].name)) return fail_unknown(call, call->given[i].name);
    return SP_OK;
}

static sp_status check_ends(const sp_tensor *ends, int64_t rows, const char *path)
{
    for (int64_t i = 0; i < sp_tensor_count(ends); i++) {
        int64_t row = (int64_t)sp_load(ends->data, ends->dtype, i);
        if (row < 0 || row >= rows)
            return sp_fail(SP_FORMAT, "%s: \"end_rows\" holds %lld, and \"input_ids\" has rows 0..%lld", path,
                           (long long)row, (long long)rows - 1);
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

static sp_status build(const void *context, sp_builder **out)
{
    const forward_call *call = context;
    SP_TRY(sp_builder_create(out));
    sp_builder *b = *out;
    const sp_weight_set set = {.name = call->rule->set, .rate = SP_RATE_RUN, .weights = call->component->weights};
    const sp_network_use use = {
        .network = call->network, .config = sp_component_config_of(&call->component->config), .set = &set};
    sp_values in = {0};
    for (int i = 0; i < call->inputs.count; i++) {
        const sp_port *port = &call->inputs.port[i];
        const sp_tensor *tensor = call->found[i];
        if (!tensor) continue;
        sp_dtype dtype = port->kind == SP_PORT_IDS ? tensor->dtype : SP_F32;
        sp_values_add(&in, port->name, sp_port_input(b, port, dtype, tensor->shape, port->rate));
    }
    sp_values values = sp_network_graph(b, &use, &in);
    sp_network_outputs(b, use.network, use.config, &values);
    return SP_OK;
}

static sp_status set_input(sp_run *run, const sp_port *port, const sp_tensor *tensor)
{
    if (port->kind == SP_PORT_IDS || !is_whole(tensor->dtype)) return sp_run_set_input(run, port->name, tensor);
    sp_tensor converted;
    SP_TRY(sp_tensor_convert(tensor, SP_F32, &converted));
    sp_status status = sp_run_set_input(run, port->name, &converted);
    sp_tensor_free(&converted);
    return status;
}

static sp_status execute(const forward_call *call, sp_run *run, const sp_callbacks *callbacks, sp_named_outputs *out)
{
    for (int i = 0; i < call->inputs.count; i++)
        if (call->found[i]) SP_TRY(set_input(run, &call->inputs.port[i], call->found[i]));
    SP_TRY(sp_run_execute(run, callbacks));
    for (int i = 0; i < call->outputs.count; i++) {
        const char *name = call->outputs.port[i].name;
        if (!sp_plan_output(sp_run_plan(run), name)) continue; /* a tiny VAE has no logvar */
        SP_TRY(sp_run_get_output(run, name, &out->item[out->count].tensor));
        out->item[out->count++].name = name;
    }
    return SP_OK;
}

/* "sample [1,4,8,8], timestep [1]" */
static void inputs_text(const forward_call *call, char *out, size_t size)
{
    int used = 0;
    *out = 0;
    for (int i = 0; i < call->inputs.count && used < (int)size; i++)
        if (call->found[i])
            used += snprintf(out + used, size - (size_t)used, "%s%s %s %s", used ? ", " : "", call->inputs.port[i].name,
                             sp_dtype_name(call->found[i]->dtype), sp_shape_text(call->found[i]->shape));
}

static sp_status forward(forward_call *call, sp_plans *plans, const sp_callbacks *callbacks, sp_named_outputs *out)
{
    const sp_component_config *config = &call->component->config;
    char shape[SP_PLAN_SHAPE];
    sp_run *run;
    call->network->inputs(sp_component_config_of(config), &call->inputs);
    call->network->outputs(sp_component_config_of(config), &call->outputs);
    SP_TRY(find_inputs(call));
    if (sp_component_is_text(config->kind))
        SP_TRY(check_ids(call->found[0], config->text.vocabulary, call->path));
    if (call->inputs.count > 1 && strcmp(call->inputs.port[1].name, "end_rows") == 0)
        SP_TRY(check_ends(call->found[1], sp_tensor_count(call->found[0]), call->path));
    inputs_text(call, shape, sizeof shape);
    const sp_plan_use use = {.network = call->rule->set,
                             .shape = shape,
                             .build = build,
                             .context = call,
                             .weights = call->component->weights};
    sp_status status = sp_plans_run(plans, &use, &run);
    if (status != SP_OK) return sp_fail_within(status, "%s", call->path);
    return execute(call, run, callbacks, out);
}

static sp_status fail_component(const char *name)
{
    return sp_fail(SP_ARGUMENT,
                   "\"%s\" is no component: unet, transformer, vae-encoder, vae-decoder, text-encoder and "
                   "text-encoder-2 are",
                   name);
}

static const sp_component *part_of(const sp_model *model, const char *folder)
{
    return strcmp(folder, "unet") == 0             ? model->denoiser
           : strcmp(folder, "vae") == 0            ? model->vae
           : strcmp(folder, "text_encoder") == 0   ? model->text[0].encoder
           : strcmp(folder, "text_encoder_2") == 0 ? model->text[1].encoder
                                                   : NULL;
}

sp_status sp_model_forward(const sp_model *model, sp_plans *plans, const char *name, const sp_named_tensor *inputs,
                           size_t count, const sp_callbacks *callbacks, sp_named_outputs *out)
{
    *out = (sp_named_outputs){0};
    const component_rule *rule = find_rule(name);
    if (!rule) return fail_component(name);
    forward_call call = {.rule = rule,
                         .network = rule->network,
                         .component = part_of(model, rule->folder),
                         .given = inputs,
                         .given_count = count,
                         .path = "the inputs"};
    if (!call.component) return sp_fail(SP_ARGUMENT, "%s: has no %s", model->folder.path, name);
    sp_status status = forward(&call, plans, callbacks, out);
    if (status != SP_OK) sp_named_outputs_free(out);
    return status;
}

/* Tensors of a file as a list; sp_free. */
static sp_named_tensor *list_file(const sp_tensor_file *file)
{
    size_t count = sp_tensor_file_count(file);
    sp_named_tensor *list = sp_alloc_zero((count + 1) * sizeof *list);
    for (size_t i = 0; i < count && list; i++)
        list[i] = (sp_named_tensor){sp_tensor_file_name(file, i), sp_tensor_file_at(file, i)};
    return list;
}

sp_status sp_component_forward(const char *path, const char *name, const sp_tensor_file *inputs,
                               sp_dtype precision, sp_device *device, sp_named_outputs *out)
{
    *out = (sp_named_outputs){0};
    const component_rule *rule = find_rule(name);
    if (!rule) return fail_component(name);
    if (precision != SP_F32 && precision != SP_BF16)
        return sp_fail(SP_ARGUMENT, "precision %s is not supported: F32 and BF16 are",
                       sp_dtype_name(precision));
    sp_component *component;
    SP_TRY(sp_component_open(path, rule->folder, &component));
    sp_named_tensor *given = list_file(inputs);
    sp_plans plans = {.device = device, .precision = precision, .most = 1};
    forward_call call = {.rule = rule,
                         .network = rule->network,
                         .component = component,
                         .given = given,
                         .given_count = sp_tensor_file_count(inputs),
                         .path = sp_tensor_file_path(inputs)};
    sp_status status = given ? forward(&call, &plans, NULL, out) : SP_MEMORY;
    sp_plans_free(&plans);
    sp_component_close(component);
    sp_free(given);
    if (status != SP_OK) sp_named_outputs_free(out);
    return status;
}

void sp_named_outputs_free(sp_named_outputs *outputs)
{
    for (int i = 0; i < outputs->count; i++)
        sp_tensor_free(&outputs->item[i].tensor);
    *outputs = (sp_named_outputs){0};
}
