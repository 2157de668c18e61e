/* Stable Diffusion 3's third text encoder, opened: T5 with its tokenizer. */
#ifndef SP_PIPELINE_T5_PART_H
#define SP_PIPELINE_T5_PART_H
#include "checkpoints/t5_file.h"
#include "text/unigram.h"

typedef struct {
    sp_t5_file file;
    sp_unigram *tokenizer;
} sp_t5_part;

/* `path`: of sp_t5_file_open. The tokenizer is the first tokenizer.json of: the encoder's folder, tokenizer_3 beside
 * that (or beside the file), the folder of both, and tokenizer_3 in the model's folder. SP_FORMAT if it has more ids
 * than T5 knows, SP_IO where there is none; and as sp_t5_file_open and sp_unigram_load. The caller owns *out. */
sp_status sp_t5_part_open(const char *path, const char *model, sp_t5_part **out);
void sp_t5_part_close(sp_t5_part *part); /* NULL is legal */

#endif
