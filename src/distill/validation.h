/* A look at a student while it trains. */
#ifndef SP_DISTILL_VALIDATION_H
#define SP_DISTILL_VALIDATION_H
#include "distill/distill_feed.h"
#include "train/training_state.h"

enum { SP_VALIDATION_COLUMNS = 8 }; /* pictures in a row */

/* What a sheet takes beside the two networks' plans and weights: its pictures of width * height pixels, a row of them
 * as the VAE gives them and all as the sheet has them, and what no plan knows of: code of the two, fonts. */
size_t sp_validation_sheet_bytes(int64_t columns, int64_t width, int64_t height);

/* Writes output/validation-STEP.png: online and averaged weights at 1, 2 and 4 steps, on prompts
 * and noise that are always the same, gamma = 1. The teacher's VAE is open for that time only. */
sp_status sp_validation_sheet(const sp_distill_options *options, const sp_distill_feed *feed,
                              const sp_component_config *student, const sp_training_state *state);

/* Writes output/validation-STEP.png for a teacher just saved in `output`: 25 guided DDIM steps on
 * the captions of evenly spread samples of the data set. */
sp_status sp_teacher_sheet(const char *output, sp_dataset *dataset, sp_device *device,
                           sp_dtype precision, uint64_t seed, int64_t step);

#endif
