/* Small line charts as inline SVG, for pages that need nothing but themselves. */
#ifndef SP_REPORT_CHART_H
#define SP_REPORT_CHART_H
#include <stdbool.h>
#include <stdint.h>
#include "base/text.h"

typedef struct {
    const char *name;   /* in the legend; NULL: not there */
    const char *colour; /* "#2563eb" */
    bool dashed, faint, marked;
    const double *x, *y; /* [count]; points that are not finite, or not above 0 on a log axis, are
                            left out */
    int64_t count;
} sp_series;

typedef struct {
    const char *title, *x_label;
    bool log_x, log_y;
    bool percent;          /* y is a share, shown from 0 to 100 % */
    const double *x_ticks; /* NULL: round numbers */
    int x_tick_count;
    const sp_series *series;
    int count;
} sp_chart;

/* Appends an <svg> element; a chart without a point to draw appends nothing. Texts are escaped. */
void sp_chart_append_svg(const sp_chart *chart, sp_string *out);

/* Appends text with & < > " escaped for HTML, and visible (base/visible.h): nothing turns the page's direction. */
void sp_html_append(sp_string *out, const char *text);

#endif
