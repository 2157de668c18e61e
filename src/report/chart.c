/* Charts as SVG, and text in HTML. */
#include "report/chart.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

/* Pixels of the drawing; the page scales it. */
enum { WIDTH = 480, HEIGHT = 300, LEFT = 56, RIGHT = 14, TOP = 72, BOTTOM = 42, MAX_TICKS = 12 };

typedef struct {
    double low, high; /* in what is drawn: logarithms on a log axis */
    bool log;
    double tick[MAX_TICKS];
    int ticks;
} axis;

void sp_html_append(sp_string *out, const char *text)
{
    sp_string seen = {0};
    sp_string_append_visible(&seen, text, strlen(text));
    out->failed |= seen.failed;
    for (text = sp_string_text(&seen); *text; text++) {
        const char *escape = *text == '&'   ? "&amp;"
                             : *text == '<' ? "&lt;"
                             : *text == '>' ? "&gt;"
                             : *text == '"' ? "&quot;"
                                            : NULL;
        if (escape)
            sp_string_append_format(out, "%s", escape);
        else
            sp_string_append(out, text, 1);
    }
    sp_string_free(&seen);
}

static bool drawable(const axis *a, double value)
{
    return isfinite(value) && (!a->log || value > 0);
}

static double drawn(const axis *a, double value)
{
    return a->log ? log10(value) : value;
}

static void stretch(axis *a, double value)
{
    double v = drawn(a, value);
    a->low = fmin(a->low, v);
    a->high = fmax(a->high, v);
}

/* 1, 2 or 5 times a power of ten, the smallest that divides the range into at most `most` parts. */
static double round_step(double range, int most)
{
    double power = pow(10, floor(log10(range / most)));
    for (int i = 0; i < 4; i++) {
        double step = power * (double[]){1, 2, 5, 10}[i];
        if (range / step <= most * 1.0001) return step;
    }
    return power * 20;
}

static void add_tick(axis *a, double value)
{
    double v = drawn(a, value), slack = 1e-9 * fmax(1, fabs(a->high - a->low));
    if (v >= a->low - slack && v <= a->high + slack && a->ticks < MAX_TICKS)
        a->tick[a->ticks++] = value;
}

static void round_ticks(axis *a)
{
    if (a->log) {
        bool few = a->high - a->low < 1.7;
        for (double power = floor(a->low); power <= a->high; power++)
            for (int i = 0; i < 3; i++)
                if (i == 0 || few) add_tick(a, pow(10, power) * (double[]){1, 2, 5}[i]);
        if (a->ticks > 1) return;
        a->ticks = 0;
    }
    double low = a->log ? pow(10, a->low) : a->low, high = a->log ? pow(10, a->high) : a->high;
    double step = round_step(high - low, 5), first = ceil(low / step - 1e-9);
    for (int i = 0; first * step + i * step <= high + 1e-9 * step && i < MAX_TICKS; i++)
        add_tick(a, (first + i) * step + 0.0); /* never -0 */
}

/* Both axes' ranges; false if there is nothing to draw. */
static bool find_ranges(const sp_chart *chart, axis *x, axis *y)
{
    *x = (axis){.low = INFINITY, .high = -INFINITY, .log = chart->log_x};
    *y = (axis){.low = INFINITY, .high = -INFINITY, .log = chart->log_y};
    for (int s = 0; s < chart->count; s++)
        for (int64_t i = 0; i < chart->series[s].count; i++) {
            double px = chart->series[s].x[i], py = chart->series[s].y[i];
            if (!drawable(x, px) || !drawable(y, py)) continue;
            stretch(x, px);
            stretch(y, py);
        }
    if (!(x->low <= x->high)) return false;
    if (chart->percent) {
        y->low = 0;
        y->high = 1;
    } else if (!chart->log_y) {
        y->low = fmin(y->low, 0);
    }
    double room = 0.06 * (y->high - y->low);
    if (y->high - y->low < 1e-12) room = fmax(0.1, fabs(y->high) * 0.1);
    if (!chart->percent) y->high += room;
    if (y->log) y->low -= room;
    room = x->high - x->low < 1e-12 ? 0.5 : chart->x_ticks ? 0.05 * (x->high - x->low) : 0;
    x->low -= room;
    x->high += room;
    return true;
}

static double place_x(const axis *a, double value)
{
    return LEFT + (drawn(a, value) - a->low) / (a->high - a->low) * (WIDTH - LEFT - RIGHT);
}

static double place_y(const axis *a, double value)
{
    return HEIGHT - BOTTOM -
           (drawn(a, value) - a->low) / (a->high - a->low) * (HEIGHT - TOP - BOTTOM);
}

static void append_axes(const sp_chart *chart, const axis *x, const axis *y, sp_string *out)
{
    for (int i = 0; i < y->ticks; i++) {
        double at = place_y(y, y->tick[i]);
        sp_string_append_format(
            out, "<line x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\" stroke=\"#e5e7eb\"/>", LEFT,
            WIDTH - RIGHT, at, at);
        sp_string_append_format(
            out, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%g%s</text>", LEFT - 8, at + 4,
            chart->percent ? round(y->tick[i] * 100) : y->tick[i], chart->percent ? " %" : "");
    }
    for (int i = 0; i < x->ticks; i++)
        sp_string_append_format(out, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%g</text>",
                                place_x(x, x->tick[i]), HEIGHT - BOTTOM + 18, x->tick[i]);
    sp_string_append_format(out, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">",
                            (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6);
    sp_html_append(out, chart->x_label);
    sp_string_append_format(out, "</text>");
}

static void append_series(const sp_series *s, const axis *x, const axis *y, sp_string *out)
{
    sp_string_append_format(out,
                            "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"%s\" "
                            "stroke-linejoin=\"round\"%s%s points=\"",
                            s->colour, s->faint ? "1" : "2",
                            s->dashed ? " stroke-dasharray=\"6 4\"" : "",
                            s->faint ? " stroke-opacity=\"0.25\"" : "");
    for (int64_t i = 0; i < s->count; i++)
        if (drawable(x, s->x[i]) && drawable(y, s->y[i]))
            sp_string_append_format(out, "%.1f,%.1f ", place_x(x, s->x[i]), place_y(y, s->y[i]));
    sp_string_append_format(out, "\"/>");
    for (int64_t i = 0; s->marked && i < s->count; i++)
        if (drawable(x, s->x[i]) && drawable(y, s->y[i]))
            sp_string_append_format(out,
                                    "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"4\" fill=\"%s\" "
                                    "stroke=\"#fff\" stroke-width=\"1.5\"/>",
                                    place_x(x, s->x[i]), place_y(y, s->y[i]), s->colour);
}

/* Widths are guessed from the number of characters; what does not fit begins a second line. */
static void append_legend(const sp_chart *chart, sp_string *out)
{
    double at = LEFT;
    int line = 40;
    for (int i = 0; i < chart->count; i++) {
        const sp_series *s = &chart->series[i];
        if (!s->name) continue;
        double width = 21 + 7.2 * (double)strlen(s->name);
        if (at > LEFT && at + width > WIDTH - RIGHT) {
            at = LEFT;
            line += 17;
        }
        if (s->marked && s->count == 1)
            sp_string_append_format(out, "<circle cx=\"%.0f\" cy=\"%d\" r=\"4\" fill=\"%s\"/>",
                                    at + 8, line, s->colour);
        else
            sp_string_append_format(out,
                                    "<line x1=\"%.0f\" x2=\"%.0f\" y1=\"%d\" y2=\"%d\" "
                                    "stroke=\"%s\" stroke-width=\"3\"%s/>",
                                    at, at + 16, line, line, s->colour,
                                    s->dashed ? " stroke-dasharray=\"5 3\"" : "");
        sp_string_append_format(out, "<text x=\"%.0f\" y=\"%d\">", at + 21, line + 4);
        sp_html_append(out, s->name);
        sp_string_append_format(out, "</text>");
        at += width + 14;
    }
}

void sp_chart_append_svg(const sp_chart *chart, sp_string *out)
{
    axis x, y;
    if (!find_ranges(chart, &x, &y)) return;
    round_ticks(&y);
    for (int i = 0; i < chart->x_tick_count; i++)
        add_tick(&x, chart->x_ticks[i]);
    if (!chart->x_ticks) round_ticks(&x);
    sp_string_append_format(out,
                            "<svg viewBox=\"0 0 %d %d\" role=\"img\"><text x=\"%d\" y=\"20\" "
                            "class=\"title\">",
                            WIDTH, HEIGHT, LEFT);
    sp_html_append(out, chart->title);
    sp_string_append_format(out, "</text>");
    append_legend(chart, out);
    append_axes(chart, &x, &y, out);
    for (int i = 0; i < chart->count; i++)
        append_series(&chart->series[i], &x, &y, out);
    sp_string_append_format(out, "</svg>\n");
}
