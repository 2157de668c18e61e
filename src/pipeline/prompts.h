/* The prompts of a request. */
#ifndef SP_PIPELINE_PROMPTS_H
#define SP_PIPELINE_PROMPTS_H
#include <splam/generate.h>
#include "text/chunks.h"

typedef struct {
    const char **text; /* the caller's, and the lines of the file that are not blank */
    size_t count;
    const char *negative; /* the caller's; NULL: none */
    char *file;           /* what the lines are parts of */
} sp_prompts;
/* SP_ARGUMENT or SP_FORMAT if there is none, or one is not UTF-8, with the line. sp_prompts_free in every case. */
sp_status sp_prompts_read(const splam_generate_options *options, sp_prompts *out);
void sp_prompts_free(sp_prompts *prompts);
/* Says of each what the text encoder does not take of it, and once what looks like syntax that there is not. guided:
 * the negative one is looked at. */
sp_status sp_prompts_warn(const sp_prompts *prompts, sp_prompt_syntax syntax, const sp_tokenizer *tokenizer,
                          bool guided);

#endif
