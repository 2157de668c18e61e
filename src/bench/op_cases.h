/* The one list of operator cases, used in four modes: test (a device's kernels against the
 * reference) and gradient (against finite differences) by tests/test_ops.c, speed and support by
 * `splam bench`. It lies in ops/ because it needs nothing but the builder calls and both tests and
 * the program above the library's folders can link it; it is a library of its own, so that only
 * they carry it. */
#ifndef SP_BENCH_OP_CASES_H
#define SP_BENCH_OP_CASES_H
#include "graph/device.h"
#include "ops/ops.h"

/* How closely a kernel must agree with the reference, as relative max error. */
typedef enum {
    SP_CASE_MOVE,      /* no arithmetic: exact */
    SP_CASE_POINTWISE, /* a few roundings and approximated functions per element */
    SP_CASE_SUM,       /* sums of many terms in fp32 */
    SP_CASE_ATTENTION, /* as SUM, with intermediate probabilities that may be rounded to bf16 */
    SP_CASE_CHAIN,     /* a norm and a convolution in Winograd's form behind it, each with its roundings */
} sp_case_class;

/* What the list's build functions declare about the graph's inputs "in0", "in1", ... */
typedef struct {
    sp_value *value;
    double low, high; /* float inputs: uniform in [low,high) */
    int64_t rows;     /* integer inputs: uniform in -1..rows, so that both ends are out of range */
    bool differentiable; /* a float input through which gradients are defined */
    bool activation;     /* never a weight of a file: kernels may rely on SP_ALIGNMENT */
} sp_case_input;

typedef struct {
    sp_builder *b;
    sp_dtype dtype; /* of the float inputs */
    int count;
    sp_case_input input[SP_MAX_INPUTS];
} sp_case_inputs;

typedef struct sp_op_case sp_op_case;
struct sp_op_case {
    const sp_op *op;  /* the operator that this is a case of: the last node built */
    const char *name; /* shapes and options, for people */
    sp_value *(*build)(sp_case_inputs *inputs, const sp_op_case *c);
    sp_case_class class;
    bool large;       /* for speed: Stable Diffusion's sizes, too slow for the reference */
    int64_t size[13]; /* what build wants to know */
    double number[2];
};
extern const sp_op_case sp_op_cases[];
extern const int sp_op_case_count;

/* Builds the case with inputs of `dtype` (F32 or F64), the weights among them of rate RUN; the
 * result's output 0, or NULL after an error in b. */
sp_value *sp_op_case_build(const sp_op_case *c, sp_builder *b, sp_dtype dtype,
                           sp_case_inputs *inputs);
/* The data of one input in a new tensor of the value's dtype. Always the same numbers, all of which
 * bf16 holds exactly, so that kernels of every dtype can be given the same. */
sp_status sp_op_case_data(const sp_op_case *c, const sp_case_inputs *inputs, int index,
                          sp_tensor *out);
/* The largest relative max error allowed in an output of `dtype`. */
double sp_op_case_tolerance(const sp_op_case *c, sp_dtype dtype);

/* One case set up to run on one device, with every buffer between guards. */
typedef struct sp_op_trial sp_op_trial;
/* precision: SP_F32, SP_BF16 (dtypes as the precision pass gives them to a node whose inputs are
 * lowered), or SP_F64 for results rounded nowhere: fp32 inputs and double results, on the reference
 * device alone. */
/* as_stored: inputs that are no activations lie as a mapped file may have them, at an odd multiple of
 * their elements' size; else at cache lines, as everything else does. */
sp_status sp_op_trial_create(const sp_op_case *c, sp_device *device, sp_dtype precision,
                             bool as_stored, sp_op_trial **out);
void sp_op_trial_destroy(sp_op_trial *trial); /* NULL is legal */
sp_status sp_op_trial_run(sp_op_trial *trial); /* and waits */
const sp_node *sp_op_trial_node(const sp_op_trial *trial);
const char *sp_op_trial_kernel(const sp_op_trial *trial); /* "reference" or a device's own */
/* Output `index` of the node as a new tensor. Before the first run it is NaN. */
sp_status sp_op_trial_output(const sp_op_trial *trial, int index, sp_tensor *out);
/* SP_INTERNAL, naming the buffer, if anything was written before or behind one, or over an input. */
sp_status sp_op_trial_check_guards(const sp_op_trial *trial);

#endif
