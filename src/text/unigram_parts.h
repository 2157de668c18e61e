/* What a unigram tokenizer is made of, for the files of this folder that load one and use it. */
#ifndef SP_TEXT_UNIGRAM_PARTS_H
#define SP_TEXT_UNIGRAM_PARTS_H
#include "text/charsmap.h"
#include "text/split.h"
#include "text/unigram.h"

#define SP_WORD_BEGIN "\xe2\x96\x81" /* U+2581 */
enum { SP_WORD_BEGIN_BYTES = 3 };

struct sp_unigram {
    sp_token_table pieces; /* id by text */
    double *scores;        /* of each */
    size_t longest;        /* bytes of a piece, at most */
    double unknown_score;
    int32_t unknown, end, padding;
    sp_added_tokens added;
    sp_charsmap charsmap;
    bool blanks_alone; /* words end at blanks, not at all white space, which is what the older of two forms does */
    size_t size;
};

#endif
