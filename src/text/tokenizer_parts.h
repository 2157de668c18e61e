/* What a tokenizer is made of, for the files of this folder that load, learn and save one. */
#ifndef SP_TEXT_TOKENIZER_PARTS_H
#define SP_TEXT_TOKENIZER_PARTS_H
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "text/split.h"
#include "text/tokenizer.h"
#include "text/vocabulary.h"

#define SP_CLIP_BEGIN "<|startoftext|>"
#define SP_CLIP_END "<|endoftext|>"
#define SP_CLIP_MAX_LENGTH 77
#define SP_LONGEST_SEQUENCE 65536 /* a model_max_length beyond this means "no limit" */

typedef enum {
    SP_TOKEN_BEGIN,
    SP_TOKEN_END,
    SP_TOKEN_UNKNOWN,
    SP_TOKEN_PAD,
    SP_TOKEN_ROLES
} sp_token_role;

struct sp_tokenizer {
    sp_vocabulary vocabulary;
    sp_added_tokens added;
    size_t *new_items; /* of `added`, those whose ids follow the vocabulary's, in their order */
    size_t new_count, new_capacity;
    size_t size; /* largest id + 1 */
    size_t max_length;
    int32_t roles[SP_TOKEN_ROLES];
};

sp_tokenizer *sp_tokenizer_create(void); /* empty; NULL when out of memory */
/* The text of an id, or NULL when no token has it. */
const char *sp_tokenizer_text(const sp_tokenizer *tokenizer, int32_t id);
/* Makes `content` an added token: one that exists keeps its id, a new one gets the next. Ends with
 * sp_added_tokens_finish. SP_MEMORY. */
sp_status sp_tokenizer_put_added(sp_tokenizer *tokenizer, const char *content, bool normalized,
                                 bool special);
/* Ends the vocabulary with the begin and the end token, which is the unknown one and the padding
 * too. normalized: found in text after normalising it, else as it is typed. SP_MEMORY. */
sp_status sp_tokenizer_add_special(sp_tokenizer *tokenizer, bool begin_normalized,
                                   bool end_normalized);
/* Makes "!", id 0, a special token, and the padding. */
sp_status sp_tokenizer_pad_with_zero(sp_tokenizer *tokenizer);
/* The id of a token by its content, or -1. */
int32_t sp_tokenizer_find(const sp_tokenizer *tokenizer, const char *content);

/* A folder's settings: tokenizer_config.json, special_tokens_map.json, added_tokens.json and
 * tokenizer.json, read with numbers as reals; NULL for a file that is not there. */
typedef struct {
    json_t *config, *special_map, *added, *whole;
} sp_tokenizer_settings;
/* Adds the special and other added tokens in transformers' order, so that flags and new ids come
 * out as there, and sets the roles. The vocabulary is read before. SP_FORMAT, SP_UNSUPPORTED,
 * SP_MEMORY. */
sp_status sp_tokenizer_read_special(sp_tokenizer *tokenizer, const sp_tokenizer_settings *settings,
                                    const char *folder);

#endif
