/* Scores of single pictures by their embeddings of CLIP's kind. */
#ifndef SP_EVAL_EMBEDDING_SCORES_H
#define SP_EVAL_EMBEDDING_SCORES_H
#include "checkpoints/aesthetic_file.h"

/* scale times the cosine of picture and text, in fp64. images, texts [N,D], f32; out [N]. The scale is
 *   PickScore (Kirstain et al. 2023)   exp(logit_scale) of its checkpoint, about 100
 *   HPSv2, v2.1 (Wu et al. 2023)       1, or 100 as its benchmark's tables have it
 * SP_SHAPE if the shapes differ, SP_NUMERIC if a value is not finite or a row is 0. */
sp_status sp_cosine_scores(const sp_tensor *images, const sp_tensor *texts, double scale, double *out);
/* The head's of embeddings divided by their length, about 1 to 10. embeddings [N,D], f32; out [N]. Errors as above. */
sp_status sp_aesthetic_scores(const sp_aesthetic_file *head, const sp_tensor *embeddings, double *out);

#endif
