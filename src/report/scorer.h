/* A scorer from inside, for report/score.c and report/score_text.c. */
#ifndef SP_REPORT_SCORER_H
#define SP_REPORT_SCORER_H
#include "report/score.h"

struct sp_scorer {
    splam_score_options o;
    const sp_callbacks *callbacks;
    sp_ranks *ranks;
    sp_device *device;
    sp_preparation preparation;
    bool wanted[SP_PICTURE_SCORES];
    sp_extractor extractor[SP_EXTRACTORS]; /* those that were opened */
    sp_caption_lines captions;             /* where a score asks for them */
    sp_extraction extraction;              /* of the network that works, or worked last */
    sp_picture_set a, b;
};

/* Whether what is asked for takes this network's features. */
bool sp_scorer_uses(const sp_scorer *scorer, sp_extractor_index network);
/* What was measured, result[SP_PICTURE_SCORES], as the object that `splam score --json` prints (new; NULL: no memory),
 * and as lines. */
json_t *sp_scorer_json(const sp_scorer *scorer, const sp_score_result *result);
void sp_scorer_say(const sp_scorer *scorer, const sp_score_result *result, sp_string *out);

#endif
