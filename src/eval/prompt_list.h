/* Prompts from a file, for evaluations that draw them in its order. */
#ifndef SP_EVAL_PROMPT_LIST_H
#define SP_EVAL_PROMPT_LIST_H
#include <stdbool.h>
#include "base/memory.h"
#include "eval/caption_lines.h"

typedef struct {
    int64_t count;
    const char **prompt;          /* [count] */
    char sha256[SP_SHA256_TEXT];  /* of the file */
    bool coco;                    /* it is COCO's */
    sp_caption_lines lines;       /* what prompts of a text file lie in, */
    sp_arena *arena;              /* and those of COCO's */
} sp_prompt_list;

/* A text file, a line a prompt (eval/caption_lines.h). Or COCO's annotations, which begin with "{": of each picture,
 * by rising id, the caption of the lowest annotation id, whatever their order in the file. SP_FORMAT for annotations
 * without image_id, id and caption, and for a picture's that is blank; SP_IO, SP_MEMORY. */
sp_status sp_prompt_list_load(const char *path, sp_prompt_list *out);
void sp_prompt_list_free(sp_prompt_list *list); /* zeroed is legal */

#endif
