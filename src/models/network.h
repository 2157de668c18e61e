/* Networks as the rest of the program sees them: what each takes and gives by diffusers' names, and the one way to put
 * one into a graph. A new network is a file with one sp_network entry; who runs it needs to know no more.
 *
 * Letters of shapes: N samples, H and W of the picture or latent, L tokens. Pictures are [N,C,H,W] outside of graphs
 * and [N,H,W,C] within. */
#ifndef SP_MODELS_NETWORK_H
#define SP_MODELS_NETWORK_H
#include "base/json.h"
#include "formats/weights.h"
#include "graph/graph.h"

enum { SP_MAX_PORTS = 8 };
/* Sizes that a network leaves to its user, in the shape of a port. */
enum { SP_SIZE_N = -1, SP_SIZE_H = -2, SP_SIZE_W = -3, SP_SIZE_L = -4 };

typedef enum {
    SP_PORT_NUMBERS, /* f32 in the same layout outside and within */
    SP_PORT_PICTURE,
    SP_PORT_IDS,      /* whole numbers */
    SP_PORT_TIMESTEP, /* f32, in files whole numbers too */
} sp_port_kind;

/* One tensor that a network takes or gives. */
typedef struct {
    const char *name; /* diffusers' or transformers' */
    sp_port_kind kind;
    sp_shape shape;  /* outside of graphs; sizes or SP_SIZE_* */
    sp_rate rate;    /* how often it changes when pictures are made */
    bool optional;   /* inputs: may be absent; outputs: not every config has it */
    bool condition;  /* an input that says what is to be made: of prompts and sizes, by name */
    bool picture;    /* a condition that is of the picture, not of the prompt: without a prompt it is the same */
} sp_port;
typedef struct {
    int count;
    sp_port port[SP_MAX_PORTS];
} sp_ports;
/* NULL if there is none of that name. */
const sp_port *sp_ports_find(const sp_ports *ports, const char *name);

/* The options of networks that are made of blocks of gradient checkpointing (sp_checkpoint_begin). Bit k of
 * `recompute`: the backward pass computes block k, counted from 0 in the order of building, again; the last bit is that
 * of all further ones. A graph that has several such networks counts on: first_block is the number that the first one
 * of this one has. */
enum { SP_MAX_BLOCKS = 64 };
typedef struct {
    bool unmarked; /* no block is one of checkpointing */
    uint64_t recompute;
    int first_block;
    uint64_t left_out; /* bit k: the network's block k is not there, of transformers alone; the rest as ever */
    int64_t same_tokens; /* the last so many of the text are the same, and are computed once; of transformers alone */
} sp_block_options;
/* Begins block `index` of a network, counted from 0, which sp_checkpoint_end ends. */
void sp_block_begin(sp_builder *b, const sp_block_options *options, int index);

/* Values of a graph by name, in the layout within. */
typedef struct {
    int count;
    struct {
        const char *name; /* a constant, or of the graph's arena */
        sp_value *value;
    } item[SP_MAX_PORTS];
} sp_values;
void sp_values_add(sp_values *values, const char *name, sp_value *value);
sp_value *sp_values_get(const sp_values *values, const char *name); /* NULL: there is none */

/* config is of the network's own type, as options are; both constant while a graph is built. */
typedef struct sp_network {
    const char *name; /* "unet", "vae-decoder": what people call it */
    /* Reads config.json; `where` names the file in messages. */
    sp_status (*read)(const json_t *config, const char *where, void *out);
    void (*inputs)(const void *config, sp_ports *out);
    void (*outputs)(const void *config, sp_ports *out);
    int64_t (*least_side)(const void *config); /* of its pictures, H and W */
    /* Checks the inputs' shapes and adds the outputs. Parameters are named as in the checkpoint, within the builder's
     * scope. options NULL: the usual. */
    void (*build)(sp_builder *b, const void *config, const void *options, const sp_values *in, sp_values *out);
} sp_network;

/* Where a network's parameters come from. */
typedef struct sp_weight_set {
    const char *name;          /* "unet", "teacher", "online" */
    sp_rate rate;              /* STEP: they are trained */
    const sp_weights *weights; /* for their dtypes; NULL: F32 */
    const sp_adapter *adapter; /* its parameters are of this set, over all others of `below` */
    const struct sp_weight_set *below;
} sp_weight_set;

/* A network with what fixes its graph. */
typedef struct {
    const sp_network *network;
    const void *config, *options;
    const sp_weight_set *set; /* NULL: the one entered already */
    const char *scope;        /* before the parameters' names; NULL: none */
} sp_network_use;

/* Builds the network on what it declares of `in`; other values are not looked at. An input that is declared, not
 * optional and absent is an error, as is a value of another shape. */
sp_values sp_network_graph(sp_builder *b, const sp_network_use *use, const sp_values *in);
/* The first output of it. */
sp_value *sp_network_value(sp_builder *b, const sp_network_use *use, const sp_values *in);

/* Sizes for SP_SIZE_*. */
typedef struct {
    int64_t batch, height, width, tokens;
    sp_dtype ids;  /* SP_I32 or SP_I64 */
    bool training; /* what is constant for a picture changes at every step */
} sp_network_sizes;
/* The smallest that the network takes. */
sp_network_sizes sp_network_least(const sp_network *network, const void *config);
/* Makes the port an input of the graph, of this shape as outside of it. */
sp_value *sp_port_input(sp_builder *b, const sp_port *port, sp_dtype dtype, sp_shape shape, sp_rate rate);
/* Makes inputs of the graph of all that the network declares and `in` lacks, optional ones too, and adds them. */
void sp_network_inputs(sp_builder *b, const sp_network *network, const void *config, const sp_network_sizes *sizes,
                       sp_values *in);
/* Makes the network's outputs those of the graph, by their names. */
void sp_network_outputs(sp_builder *b, const sp_network *network, const void *config, const sp_values *out);
/* All three: the network alone, as a graph's only content. */
void sp_network_alone(sp_builder *b, const sp_network_use *use, const sp_network_sizes *sizes);
/* That as a finished graph at its least sizes, for its parameters: their names, shapes and order. sp_graph_destroy. */
sp_status sp_network_least_graph(const sp_network *network, const void *config, sp_graph **out);

#endif
