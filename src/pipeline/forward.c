/* One run of one component on tensors. */
#include "pipeline/forward.h"

#include <stdio.h>
#include <string.h>

#include "checkpoints/component.h"
#include "models/layers.h"
#include "models/runner.h"

typedef struct {
    const sp_network *network; /* its name is the component's */
    const char *folder;
} component_rule;

static const component_rule rules[] = {
    {&sp_unet_network, "unet"},
    {&sp_vae_encoder_network, "vae"},
    {&sp_vae_decoder_network, "vae"},
    {&sp_clip_text_network, "text_encoder"},
};

/* A component opened, and the tensors of the file that its ports take; NULL for an optional one that is absent. */
typedef struct {
    const sp_network *network;
    const sp_component *component;
    sp_ports inputs, outputs;
    const sp_tensor *found[SP_MAX_PORTS];
    const char *path;
} forward_call;

static const component_rule *find_rule(const char *name)
{
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        if (strcmp(name, rules[i].network->name) == 0) return &rules[i];
    return NULL;
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

/* A tensor that nothing asks for is an error: most often it is a name spelt wrongly. */
static sp_status find_inputs(forward_call *call, const sp_tensor_file *file)
{
    for (int i = 0; i < call->inputs.count; i++) {
        const sp_port *port = &call->inputs.port[i];
        call->found[i] = sp_tensor_file_find(file, port->name);
        if (!call->found[i] && port->optional) continue;
        if (!call->found[i]) return sp_fail(SP_FORMAT, "%s: tensor \"%s\" is missing", call->path, port->name);
        SP_TRY(check_input(port, call->found[i], call->path));
    }
    for (size_t i = 0; i < sp_tensor_file_count(file); i++) {
        const char *name = sp_tensor_file_name(file, i);
        if (!sp_ports_find(&call->inputs, name)) return fail_unknown(call, name);
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

static void build(sp_builder *b, const forward_call *call)
{
    const sp_weight_set set = {.name = "model", .rate = SP_RATE_RUN, .weights = call->component->weights};
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
    sp_values out = sp_network_graph(b, &use, &in);
    sp_network_outputs(b, use.network, use.config, &out);
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

static sp_status execute(const forward_call *call, const sp_runner *runner, sp_named_outputs *out)
{
    sp_run *run = runner->run;
    SP_TRY(sp_bind(sp_run_bound(run), "model", call->component->weights));
    for (int i = 0; i < call->inputs.count; i++)
        if (call->found[i]) SP_TRY(set_input(run, &call->inputs.port[i], call->found[i]));
    SP_TRY(sp_run_execute(run, NULL));
    for (int i = 0; i < call->outputs.count; i++) {
        const char *name = call->outputs.port[i].name;
        if (!sp_plan_output(runner->plan, name)) continue; /* a tiny VAE has no logvar */
        SP_TRY(sp_run_get_output(run, name, &out->item[out->count].tensor));
        out->item[out->count++].name = name;
    }
    return SP_OK;
}

static sp_status forward(forward_call *call, const sp_tensor_file *inputs, sp_dtype precision,
                         sp_device *device, sp_named_outputs *out)
{
    const sp_component_config *config = &call->component->config;
    sp_runner runner;
    sp_builder *b;
    call->network->inputs(sp_component_config_of(config), &call->inputs);
    call->network->outputs(sp_component_config_of(config), &call->outputs);
    SP_TRY(find_inputs(call, inputs));
    if (config->kind == SP_COMPONENT_TEXT_ENCODER)
        SP_TRY(check_ids(call->found[0], config->text.vocabulary, call->path));
    SP_TRY(sp_builder_create(&b));
    build(b, call);
    sp_status status = sp_runner_create(b, device, precision, &runner);
    if (status != SP_OK) return sp_fail_within(status, "%s", call->path);
    status = execute(call, &runner, out);
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
    forward_call call = {
        .network = rule->network, .component = component, .path = sp_tensor_file_path(inputs)};
    sp_status status = forward(&call, inputs, precision, device, out);
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
