/* emoji: and emoji:kinds: every fully-qualified emoji of Unicode's emoji-test.txt as Noto Color Emoji draws it.
 *
 * Pictures are the font's 136x128 CBDT bitmaps on white, padded to a square, scaled with Lanczos. A
 * sequence that HarfBuzz does not shape to one glyph with a coloured bitmap is rejected.
 *
 * Captions of emoji:, which name one picture each: the lower-cased official name; the name with one CLDR
 * keyword, and with three; and a keyword alone where no other emoji has that keyword or name. Captions of
 * emoji:kinds: the subgroup that Unicode sorts the emoji into, "animal bird", which names up to some
 * hundred pictures; and the name.
 *
 * Held out: with tones numbered light 0, medium-light 1, medium 2, medium-dark 3, dark 4, and h the
 * FNV-1a hash (32 bits) of the name without its tones, "woman office worker" say: when h % 7 < 3,
 * the combinations with (first tone + 2 * second tone) % 5 == h / 7 % 5 are held out, the second
 * tone being 0 where there is one only. So one fifth of the combinations of these names is unseen
 * (178 pictures in all), and every name and every tone is seen in others. */
#ifndef SP_DATA_EMOJI_H
#define SP_DATA_EMOJI_H
#include "data/source.h"

typedef struct {
    const char *font;             /* NotoColorEmoji.ttf */
    const char *names;            /* emoji-test.txt */
    const char *keywords;         /* CLDR common/annotations/en.xml */
    const char *derived_keywords; /* CLDR common/annotationsDerived/en.xml */
    bool kinds;                   /* captions of emoji:kinds */
} sp_emoji_files;
/* Where Debian's packages fonts-noto-color-emoji, unicode-data and unicode-cldr-core put them. */
extern const sp_emoji_files sp_emoji_debian_files, sp_emoji_debian_kinds;

/* An sp_dataset_filler; context: an sp_emoji_files. SP_IO naming the Debian package when a file is
 * absent. */
sp_status sp_emoji_fill(sp_dataset *dataset, const void *context, const sp_callbacks *callbacks);

/* True for names of the held-out list. name: lower-cased. */
bool sp_emoji_is_held_out(const char *name);

#endif
