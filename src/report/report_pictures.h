/* The page's part on scores of sets of pictures: a table beside published figures, how they were measured, the best and
 * the worst pictures. */
#ifndef SP_REPORT_REPORT_PICTURES_H
#define SP_REPORT_REPORT_PICTURES_H
#include "report/report.h"

/* Appends HTML; nothing where there are no such scores. */
sp_status sp_report_append_pictures(const sp_evaluation_report *report, sp_string *out);

#endif
