/* Learned tokens (textual inversion, Gal et al. 2022): files of vectors that stand in a prompt where a token's row of
 * the text encoder's table would. */
#ifndef SP_CHECKPOINTS_EMBEDDING_H
#define SP_CHECKPOINTS_EMBEDDING_H
#include <splam/model.h>
#include "checkpoints/component.h"
#include "text/tokenizer.h"

enum { SP_LEARNED_ENCODERS = 2, SP_MAX_LEARNED_VECTORS = 1000 };

/* A file, safetensors or what torch.save wrote, or a folder with learned_embeds.safetensors or learned_embeds.bin. Its
 * tensors, [n,width] or [width] of a float type, are
 *
 *   NAME                 diffusers': the only one; NAME is the token
 *   string_to_param.*    A1111's .pt, a dictionary or a ParameterDict: the only one; the token is what it has as "name"
 *   emb_params           the only one; the token is the file's name without its suffix
 *   clip_l, clip_g       of the first and the second text encoder (Stable Diffusion XL), n the same; likewise */
typedef struct {
    char *path;  /* of the file */
    char *token; /* as it was given, else as above */
    sp_tensor_file *file;
    sp_tensor vectors[SP_LEARNED_ENCODERS]; /* [n,width], views; without data: none for that encoder */
    int64_t count;                            /* n */
    int32_t first; /* of its ids in the first text encoder's tokenizer, once it is added there */
} sp_learned;
/* SP_IO; SP_FORMAT for other tensors, naming what the file is if that is known; SP_SHAPE, SP_NUMERIC, SP_UNSUPPORTED of
 * its tensors; SP_MEMORY. sp_learned_free in every case. */
sp_status sp_learned_open(const splam_embedding *source, sp_learned *out);
void sp_learned_free(sp_learned *embedding);
/* SHA-256 of the file's bytes. */
sp_status sp_learned_sha256(const sp_learned *embedding, char out[SP_SHA256_TEXT]);

typedef struct {
    sp_learned *items;
    size_t count;
} sp_learned_list;
sp_status sp_learned_list_open(const splam_embedding *sources, size_t count, sp_learned_list *out);
void sp_learned_list_close(sp_learned_list *list); /* zeroed is legal; leaves it zeroed */

/* A text encoder with its tokenizer, one of `encoders`. */
typedef struct {
    int number, encoders; /* from 0 on */
    sp_tokenizer *tokenizer;
    sp_component *text;
} sp_learned_place;
/* Gives the tokenizer the tokens (sp_tokenizer_add_vectors) and the text encoder a longer table, a copy in memory,
 * whose further rows are the vectors. exact: where the table's type does not hold them as they are, the copy is f32;
 * else they are rounded to its type (of F8: BF16). SP_SHAPE, naming file, found and expected, for vectors of another
 * width; SP_ARGUMENT for vectors of another number of text encoders, and tokens that are there; SP_MEMORY. After a
 * failure the two are good for closing only. */
sp_status sp_learned_list_add(sp_learned_list *list, const sp_learned_place *place, bool exact);

#endif
