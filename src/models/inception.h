/* The Inception-v3 that FID is measured by (Szegedy et al. 2015, as the TensorFlow graph of 2015-12-05 has it): not
 * torchvision's. Mean pools divide by the cells inside alone, the last block pools by the largest, and there are 1008
 * classes. Batch norm (eps 1e-3) is folded into the convolutions, so that each is weight, bias and ReLU. */
#ifndef SP_MODELS_INCEPTION_H
#define SP_MODELS_INCEPTION_H
#include "models/network.h"

enum { SP_INCEPTION_SIDE = 299, SP_INCEPTION_FEATURES = 2048, SP_INCEPTION_CLASSES = 1008 };
#define SP_INCEPTION_EPSILON 1e-3 /* of its batch norms */

/* image [N,3,299,299] -> features [N,2048], the mean over the last 8 x 8 places, and logits [N,1008] = features
 * fc.weight^T, without a bias. config NULL. Parameters, in pytorch-fid's names: NAME.conv.weight and NAME.conv.bias,
 * the latter what is left of the batch norm, and fc.weight. */
extern const sp_network sp_inception_network;

#endif
