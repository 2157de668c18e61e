/* The text side of emoji: code points and names from emoji-test.txt, keywords from CLDR, captions
 * from both. */
#ifndef SP_DATA_EMOJI_NAMES_H
#define SP_DATA_EMOJI_NAMES_H
#include "base/memory.h"
#include "data/emoji.h"

#define SP_EMOJI_MAX_CODEPOINTS 16 /* the longest sequence of Unicode 15 has 10 */

typedef struct {
    uint32_t codepoints[SP_EMOJI_MAX_CODEPOINTS];
    int codepoint_count;
    const char *id;        /* "1f469 200d 1f4bc" */
    const char *name;      /* lower-cased official name */
    const char *kind;      /* its subgroup in emoji-test.txt, "animal bird", which others have too */
    const char **captions; /* captions[0] is name */
    int caption_count;
} sp_emoji;

/* All fully-qualified emoji, in the order of emoji-test.txt. Strings live in `arena`; *out itself
 * is sp_free'd. SP_IO when a file is absent (the message names its Debian package), SP_FORMAT for a
 * malformed one. */
sp_status sp_emoji_names(const sp_emoji_files *files, sp_arena *arena, sp_emoji **out,
                         int64_t *count);
/* SP_IO with the package's name unless `path` exists. */
sp_status sp_emoji_require(const char *path, const char *package);

#endif
