/* The pictures of a row that go best and worst with their captions. */
#ifndef SP_REPORT_EXTREMES_H
#define SP_REPORT_EXTREMES_H
#include "eval/evaluation.h"
#include "image/image.h"

/* *out new: a sheet of up to eight pictures of the highest terms and as many of the lowest, with captions and terms;
 * terms [count], a number for each picture. Pictures are made small. */
sp_status sp_extremes_draw(const sp_evaluation *evaluation, const sp_drawn *drawn, const double *terms, sp_image *out);

#endif
