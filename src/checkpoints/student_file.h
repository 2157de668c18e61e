/* splam.json, which distillation leaves in a student's folder: the run's settings under the names of flags, and how to
 * sample. Nobody else opens or writes it. */
#ifndef SP_CHECKPOINTS_STUDENT_FILE_H
#define SP_CHECKPOINTS_STUDENT_FILE_H
#include "base/json.h"

typedef struct {
    json_t *json;                                                    /* the whole; NULL: there is no such file */
    const char *objective, *gamma_conditioning, *sampler, *t5_absent; /* texts of it; NULL: it does not say */
    int64_t steps;                                       /* 0: it does not say */
    double guidance_scale_w;                             /* of a range the middle's; NaN: it does not say */
} sp_student_file;

/* Of the folder, cache or file `model` (checkpoints/model_path.h). SP_FORMAT, naming file, key, what was found and what
 * is expected, for a known key of another type or out of range. Known are the options of distillation, as their table
 * has them, and a few more; other keys are passed over. On failure `out` holds nothing. */
sp_status sp_student_file_read(const char *model, sp_student_file *out);
void sp_student_file_free(sp_student_file *file); /* zeroed is legal */

/* Writes it into `folder`: the settings, then how the student is sampled. */
sp_status sp_student_file_write(const char *folder, const json_t *settings, const char *sampler, int steps);

/* SP_FORMAT as above, for any object of settings; `where` names it. *known (may be NULL): how many keys are. */
sp_status sp_student_file_check(const json_t *settings, const char *where, size_t *known);

#endif
