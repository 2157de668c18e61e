/* Inception score (Salimans et al. 2016): exp of the mean over pictures of KL(p(y|x) || p(y)), of ten parts of the set,
 * shuffled by numpy's RandomState(2020), as torch-fidelity has it. */
#ifndef SP_EVAL_INCEPTION_SCORE_H
#define SP_EVAL_INCEPTION_SCORE_H
#include "tensor/tensor.h"

enum { SP_INCEPTION_SCORE_SPLITS = 10 };
/* logits [N,classes] f32, without the last layer's bias; softmax and sums in fp64. *mean and *deviation (divisor 10)
 * over the parts. SP_SHAPE for fewer than ten rows, SP_NUMERIC if a value is not finite. */
sp_status sp_inception_score(const sp_tensor *logits, double *mean, double *deviation);

#endif
