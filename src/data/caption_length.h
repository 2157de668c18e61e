/* Captions that are longer than what a text encoder takes. */
#ifndef SP_DATA_CAPTION_LENGTH_H
#define SP_DATA_CAPTION_LENGTH_H
#include "data/dataset.h"
#include "text/tokenizer.h"

typedef struct {
    int64_t captions, cut; /* of so many, so many do not fit */
    int64_t tokens;        /* that fit */
} sp_caption_cuts;

/* Looks at all captions of a data set, or at the first of each sample alone, which is what caches
 * and distillation take. SP_MEMORY. */
sp_status sp_count_cut_captions(const sp_dataset *dataset, const sp_tokenizer *tokenizer,
                                bool first_only, sp_caption_cuts *out);
/* The same, said in one warning where there are any. */
sp_status sp_warn_of_cut_captions(const sp_dataset *dataset, const sp_tokenizer *tokenizer,
                                  bool first_only, sp_caption_cuts *out);

#endif
