/* What is to be drawn: a named set of tensors, made once from prompts (sp_pipeline_encode) and handed unopened through
 * denoising, distillation, latent caches, recorded draws and evaluation. Networks pick by name what they declare
 * (sp_port.condition); nobody between knows a name. So a model that needs another tensor needs it made, and declared.
 *
 * Row i of every tensor belongs to sample i. Members are in the order of their names. */
#ifndef SP_PIPELINE_CONDITIONING_H
#define SP_PIPELINE_CONDITIONING_H
#include "formats/safetensors.h"
#include "graph/run.h"
#include "models/network.h"

enum { SP_MAX_CONDITIONS = SP_MAX_PORTS, SP_CONDITION_NAME = 64 };
typedef struct {
    char name[SP_CONDITION_NAME]; /* diffusers': "encoder_hidden_states" */
    sp_tensor tensor;             /* [N,...] of a float type; data NULL: of a description, its shape alone */
} sp_condition;
typedef struct {
    int count;
    sp_condition item[SP_MAX_CONDITIONS];
} sp_conditioning;

/* ---- sets ---- */

/* Takes the tensor over, and frees it when it fails: SP_FORMAT for a name that is there or too long, or one tensor too
 * many; SP_SHAPE for another number of rows than the set's. */
sp_status sp_conditioning_add(sp_conditioning *set, const char *name, sp_tensor tensor);
void sp_conditioning_free(sp_conditioning *set); /* zeroed is legal; leaves it zeroed */
const sp_tensor *sp_conditioning_find(const sp_conditioning *set, const char *name); /* NULL: there is none */
int64_t sp_conditioning_rows(const sp_conditioning *set);  /* 0 for an empty one */
size_t sp_conditioning_bytes(const sp_conditioning *set);  /* of the data; 0 for a description */
/* "encoder_hidden_states [77,768], text_embeds [1280]": one row of it, for people. */
void sp_conditioning_text(const sp_conditioning *set, char *out, size_t size);

/* The names and shapes alone, with so many rows: what plans are made for. */
sp_conditioning sp_conditioning_shape(const sp_conditioning *set, int64_t rows);
/* The description of what a network declares, for prompts of so many tokens. */
sp_conditioning sp_conditioning_declared(const sp_network *network, const void *config, int64_t rows, int64_t tokens);
/* Whether names and shapes are the same, apart from the number of rows; types do not matter. */
bool sp_conditioning_same(const sp_conditioning *a, const sp_conditioning *b);
/* SP_SHAPE, naming what differs, unless they are the same; `where` begins the message. */
sp_status sp_conditioning_expect(const sp_conditioning *set, const sp_conditioning *like, const char *where);
/* SP_SHAPE, naming it, unless all that the network declares is there in its shape. What it does not declare may be
 * there. */
sp_status sp_conditioning_check(const sp_conditioning *set, const sp_network *network, const void *config,
                                const char *where);
/* SP_NUMERIC naming the tensor. */
sp_status sp_conditioning_check_finite(const sp_conditioning *set, const char *what);

/* A new set of these names and shapes with so many rows of zeros. */
sp_status sp_conditioning_create(const sp_conditioning *like, sp_dtype dtype, int64_t rows, sp_conditioning *out);
/* A new set, all of it. */
sp_status sp_conditioning_convert(const sp_conditioning *set, sp_dtype dtype, sp_conditioning *out);
/* Rows at.. of `to` become rows first.. of `from`, converted to the type of `to`; the last row of `from` stands for
 * those beyond. The sets are the same, but that dimensions of `from` may be smaller: what it lacks becomes zeros. */
void sp_conditioning_copy(sp_conditioning *to, int64_t at, int64_t count, const sp_conditioning *from, int64_t first);

/* That of the members which are of the picture (sp_port.picture) alone. */
void sp_conditioning_copy_picture(sp_conditioning *to, int64_t at, int64_t count, const sp_conditioning *from,
                                  int64_t first, const sp_network *network, const void *config);

/* ---- in graphs ---- */

/* Makes an input of the graph, PREFIXNAME with so many rows, of every member that the network declares, and adds it
 * under its own name. */
void sp_conditioning_inputs(sp_builder *b, const sp_conditioning *set, const sp_network *network, const void *config,
                            const char *prefix, int64_t rows, sp_rate rate, sp_values *in);
/* Sets those of these inputs that the run's graph has. */
sp_status sp_conditioning_set(sp_run *run, const char *prefix, const sp_conditioning *set);

/* ---- in files ---- */

/* In files of tensors a set stands as PREFIX.NAME, the prompts' under SP_CONDITIONING and the unconditional one, of one
 * row, under SP_NEGATIVE; a suffix, ".3", numbers sets of one file. Files from before sets had names hold "context" and
 * "uncond", which are read as encoder_hidden_states. */
#define SP_CONDITIONING "conditioning"
#define SP_NEGATIVE "negative"
/* Views of all tensors of that prefix and suffix. SP_FORMAT if there are none; SP_SHAPE, naming file and tensor, if one
 * has another number of rows, no elements or no float type. */
sp_status sp_conditioning_read(const sp_tensor_file *file, const char *prefix, const char *suffix, int64_t rows,
                               sp_conditioning *out);
/* The members as tensors to save; `names` is where their names are. Returns how many. */
typedef struct {
    char text[SP_MAX_CONDITIONS][2 * SP_CONDITION_NAME];
} sp_condition_names;
int sp_conditioning_named(const sp_conditioning *set, const char *prefix, sp_condition_names *names,
                          sp_named_tensor out[SP_MAX_CONDITIONS]);

#endif
