/* Scores of sets of pictures as users of pytorch-fid, clean-fid and torch-fidelity know them. */
#ifndef SP_REPORT_SCORE_H
#define SP_REPORT_SCORE_H
#include <splam/eval.h>
#include "base/json.h"
#include "base/progress.h"
#include "eval/picture_score.h"

/* splam_score of options that were taken. */
sp_status sp_score_sets(const splam_score_options *options, const sp_callbacks *callbacks, char **report);

/* ---- many folders, one after the other, against one set ---- */

/* Networks and the set B, with its features, for as many folders as are scored. */
typedef struct sp_scorer sp_scorer;
/* `a` of the options is what folders are called before they are there, `count` how many pictures each has, `metrics`
 * what is asked for; texts are the caller's. What folders of so many pictures lack for that (weights, captions) is
 * found now. Features are kept, and known ones taken, from files that begin with `features`, of B and of each folder:
 * FEATURES-NETWORK-CONVENTION-TRANSFORM-WEIGHTS.safetensors, WEIGHTS being the first digits of their SHA-256. With
 * ranks (NULL: alone) all compute features together: rank 0 has pictures, features and scores, and the others call
 * sp_scorer_help where it calls sp_scorer_score. Errors as of sp_score_sets; SP_ARGUMENT for ranks of other weights. */
sp_status sp_scorer_create(const splam_score_options *options, const char *features, sp_ranks *ranks,
                           const sp_callbacks *callbacks, sp_scorer **out);
void sp_scorer_destroy(sp_scorer *scorer); /* NULL is legal */
/* result[SP_PICTURE_SCORES], zeroed, sp_score_results_free; *json (json_decref): the object that `splam score` prints
 * of these two sets. A picture that cannot be read is an error. */
sp_status sp_scorer_score(sp_scorer *scorer, const char *folder, const char *features, sp_score_result *result,
                          json_t **json);
sp_status sp_scorer_help(sp_scorer *scorer);
void sp_score_results_free(sp_score_result *result);
int64_t sp_scorer_real_count(const sp_scorer *scorer); /* of B; 0: there is none, or a file does not say */
/* Lines for people: a value; what is the same for all folders. */
void sp_scorer_say_value(const sp_score_value *value, sp_string *out);
void sp_scorer_say_settings(const sp_scorer *scorer, sp_string *out);

#endif
