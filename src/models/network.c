/* A network put into a graph: its inputs by name, its weight set, its outputs. */
#include "models/network.h"
#include <string.h>
#include "ops/ops.h"

const sp_port *sp_ports_find(const sp_ports *ports, const char *name)
{
    for (int i = 0; i < ports->count; i++)
        if (strcmp(ports->port[i].name, name) == 0) return &ports->port[i];
    return NULL;
}

void sp_values_add(sp_values *values, const char *name, sp_value *value)
{
    if (values->count == SP_MAX_PORTS) return;
    values->item[values->count].name = name;
    values->item[values->count++].value = value;
}

sp_value *sp_values_get(const sp_values *values, const char *name)
{
    for (int i = 0; i < values->count; i++)
        if (strcmp(values->item[i].name, name) == 0) return values->item[i].value;
    return NULL;
}

/* ---- the network ---- */

static void enter_set(sp_builder *b, const sp_weight_set *set)
{
    if (set->below) enter_set(b, set->below);
    if (set->adapter)
        sp_set_enter_over(b, set->name, set->rate, set->adapter);
    else /* the builder asks the weights for dtypes alone */
        sp_set_enter(b, set->name, set->rate, set->weights ? sp_weights_dtype : NULL,
                     (void *)(uintptr_t)set->weights);
}

static void leave_set(sp_builder *b, const sp_weight_set *set)
{
    for (; set; set = set->below)
        sp_set_leave(b);
}

static void check_present(sp_builder *b, const sp_network_use *use, const sp_values *in)
{
    sp_ports ports = {0};
    use->network->inputs(use->config, &ports);
    for (int i = 0; i < ports.count; i++)
        if (!ports.port[i].optional && !sp_values_get(in, ports.port[i].name))
            sp_builder_fail(b, SP_SHAPE, "the %s has no \"%s\"", use->network->name, ports.port[i].name);
}

void sp_block_begin(sp_builder *b, const sp_block_options *options, int index)
{
    if (options->unmarked) return;
    int block = options->first_block + index, bit = block < SP_MAX_BLOCKS ? block : SP_MAX_BLOCKS - 1;
    sp_checkpoint_begin(b, (options->recompute >> bit) & 1);
}

sp_values sp_network_graph(sp_builder *b, const sp_network_use *use, const sp_values *in)
{
    sp_values out = {0};
    check_present(b, use, in);
    if (sp_builder_failed(b)) return out;
    if (use->set) enter_set(b, use->set);
    if (use->scope) sp_scope_enter(b, "%s", use->scope);
    use->network->build(b, use->config, use->options, in, &out);
    if (use->scope) sp_scope_leave(b);
    leave_set(b, use->set);
    return out;
}

sp_value *sp_network_value(sp_builder *b, const sp_network_use *use, const sp_values *in)
{
    return sp_network_graph(b, use, in).item[0].value;
}

/* ---- around it ---- */

sp_network_sizes sp_network_least(const sp_network *network, const void *config)
{
    int64_t side = network->least_side ? network->least_side(config) : 1;
    return (sp_network_sizes){.batch = 1, .height = side, .width = side, .tokens = 1, .ids = SP_I64};
}

sp_value *sp_port_input(sp_builder *b, const sp_port *port, sp_dtype dtype, sp_shape shape, sp_rate rate)
{
    sp_value *value = sp_input(b, port->name, dtype, shape, rate);
    return port->kind == SP_PORT_PICTURE ? sp_nchw_to_nhwc(b, value) : value;
}

static sp_shape sized(sp_shape shape, const sp_network_sizes *sizes)
{
    for (int i = 0; i < shape.rank; i++) {
        int64_t *dim = &shape.dim[i];
        *dim = *dim == SP_SIZE_N   ? sizes->batch
               : *dim == SP_SIZE_H ? sizes->height
               : *dim == SP_SIZE_W ? sizes->width
               : *dim == SP_SIZE_L ? sizes->tokens
                                   : *dim;
    }
    return shape;
}

void sp_network_inputs(sp_builder *b, const sp_network *network, const void *config, const sp_network_sizes *sizes,
                       sp_values *in)
{
    sp_ports ports = {0};
    network->inputs(config, &ports);
    for (int i = 0; i < ports.count; i++) {
        const sp_port *port = &ports.port[i];
        if (sp_values_get(in, port->name)) continue;
        sp_dtype dtype = port->kind == SP_PORT_IDS ? sizes->ids : SP_F32;
        sp_values_add(in, port->name,
                      sp_port_input(b, port, dtype, sized(port->shape, sizes),
                                    sizes->training ? SP_RATE_STEP : port->rate));
    }
}

void sp_network_outputs(sp_builder *b, const sp_network *network, const void *config, const sp_values *out)
{
    sp_ports ports = {0};
    network->outputs(config, &ports);
    for (int i = 0; i < ports.count; i++) {
        sp_value *value = sp_values_get(out, ports.port[i].name);
        if (value)
            sp_output(b, ports.port[i].name,
                      ports.port[i].kind == SP_PORT_PICTURE ? sp_nhwc_to_nchw(b, value) : value);
    }
}

void sp_network_alone(sp_builder *b, const sp_network_use *use, const sp_network_sizes *sizes)
{
    sp_values in = {0};
    sp_network_inputs(b, use->network, use->config, sizes, &in);
    sp_values out = sp_network_graph(b, use, &in);
    sp_network_outputs(b, use->network, use->config, &out);
}

sp_status sp_network_least_graph(const sp_network *network, const void *config, sp_graph **out)
{
    const sp_network_use use = {.network = network, .config = config};
    const sp_network_sizes sizes = sp_network_least(network, config);
    sp_builder *b;
    *out = NULL;
    SP_TRY(sp_builder_create(&b));
    sp_network_alone(b, &use, &sizes);
    sp_status status = sp_builder_finish(b, out);
    sp_builder_destroy(b);
    return status;
}
