/* Pictures through a network, a batch after the other, those of which the features are not there yet. */
#ifndef SP_EVAL_EXTRACT_H
#define SP_EVAL_EXTRACT_H
#include "data/rejections.h"
#include "eval/feature_store.h"
#include "eval/pictures.h"
#include "train/distributed.h"

/* The first five are the caller's; the rest is made when it is needed. */
typedef struct {
    const sp_extractor *extractor;
    const sp_preparation *preparation;
    sp_device *device;
    const sp_callbacks *callbacks;
    sp_ranks *ranks; /* that compute together: rank 0 has pictures and features, the others help it. NULL: alone */
    sp_runner runner;
    sp_tensor pixels;       /* of a batch for each rank */
    float *mine, *features; /* of this rank's batch, of all; with ranks */
} sp_extraction;
void sp_extraction_free(sp_extraction *e); /* leaves what is the caller's */
/* From here on by this extractor; what was made for the one before stays where their models are the same. */
void sp_extraction_turn(sp_extraction *e, const sp_extractor *extractor);

/* For rank 0. row[i]: where in the store, in which the network has begun, the features of picture i are now; -1 for a
 * picture that cannot be read, which `unreadable` (NULL: nobody) counts, with a warning that names it. Pictures are
 * decoded plainly (sp_image_decode_plain); the bits of a row do not depend on what else is in its batch. What was
 * computed so far is in the store after a failure too. SP_MEMORY, SP_CANCELLED, SP_NUMERIC for features that are not
 * finite, and what saving says. */
sp_status sp_extract(sp_extraction *e, const sp_pictures *pictures, sp_feature_store *store, int64_t *row,
                     sp_rejections *unreadable);
/* Ends what the other ranks do in sp_extraction_help; of rank 0, and alone nothing. */
sp_status sp_extraction_dismiss(sp_extraction *e);
/* The others: compute what rank 0 extracts by any of these networks (kind NULL: it is not asked for) until it dismisses
 * them. */
sp_status sp_extraction_help(sp_extraction *e, const sp_extractor extractors[SP_EXTRACTORS]);

#endif
