/* The list of metrics, and walking it. */
#include "eval/metric.h"
#include <math.h>
#include <string.h>
#include "eval/picture_score.h"

static const sp_metric *const metrics[] = {
#define X(name) &sp_##name##_metric,
    SP_METRIC_LIST(X)
#undef X
};
enum { METRIC_COUNT = sizeof metrics / sizeof *metrics };
_Static_assert((int)METRIC_COUNT <= (int)SP_METRICS_MAX, "there is no room for so many metrics");

const sp_metric *sp_metric_at(int index)
{
    return index >= 0 && index < METRIC_COUNT ? metrics[index] : NULL;
}

const sp_metric_column *sp_column_at(int index, const sp_metric **metric)
{
    for (int i = 0; i < METRIC_COUNT; i++) {
        if (index < metrics[i]->column_count) {
            if (metric) *metric = metrics[i];
            return &metrics[i]->columns[index];
        }
        index -= metrics[i]->column_count;
    }
    return NULL;
}

sp_metric_set sp_metrics_all(void)
{
    return (1u << METRIC_COUNT) - 1;
}

sp_metric_set sp_metrics_of(sp_metric_reference reference)
{
    sp_metric_set set = 0;
    for (int i = 0; i < METRIC_COUNT; i++)
        if (metrics[i]->reference == reference) set |= 1u << i;
    return set;
}

sp_metric_set sp_metrics_of_real_pictures(void)
{
    return sp_metrics_of(SP_REFERENCE_NAMED) | sp_metrics_of(SP_REFERENCE_ALL);
}

double sp_error_curve_mean(const sp_error_curve *curve)
{
    double sum = 0;
    for (int i = 0; i < SP_TRAJECTORY_STEPS; i++)
        sum += curve->error[i];
    return sum / SP_TRAJECTORY_STEPS;
}

enum { NAME_COUNT = METRIC_COUNT + SP_PICTURE_SCORES };

static const char *name_at(int i)
{
    return i < METRIC_COUNT ? metrics[i]->name : sp_picture_score_at(i - METRIC_COUNT)->name;
}

/* "trajectory-error, frechet and clip" */
static sp_status say_names(const char *word, size_t length)
{
    sp_string names = {0};
    for (int i = 0; i < NAME_COUNT; i++)
        sp_string_append_format(&names, "%s%s", i == 0 ? "" : i == NAME_COUNT - 1 ? " and " : ", ", name_at(i));
    sp_status status = length ? sp_fail(SP_ARGUMENT, "there is no metric \"%.*s\"; there are %s",
                                        (int)(length < 32 ? length : 32), word, sp_string_text(&names))
                              : sp_fail(SP_ARGUMENT, "no metric is named; there are %s", sp_string_text(&names));
    sp_string_free(&names);
    return status;
}

sp_status sp_metrics_parse(const char *text, sp_metric_set *out, bool *scores)
{
    *out = 0;
    memset(scores, 0, SP_PICTURE_SCORES * sizeof *scores);
    if (!*text) return say_names(text, 0);
    for (const char *at = text; *at;) {
        size_t length = strcspn(at, ",");
        int found = 0;
        while (found < NAME_COUNT && (strlen(name_at(found)) != length || memcmp(at, name_at(found), length) != 0))
            found++;
        if (found == NAME_COUNT) return say_names(at, length);
        if (found < METRIC_COUNT)
            *out |= 1u << found;
        else
            scores[found - METRIC_COUNT] = true;
        at += length + (at[length] == ',');
    }
    return SP_OK;
}

sp_scores sp_scores_none(void)
{
    sp_scores scores;
    for (int i = 0; i < SP_COLUMNS_MAX; i++)
        scores.value[i] = NAN;
    return scores;
}

double sp_score(const sp_scores *scores, const char *key)
{
    const sp_metric_column *column;
    for (int i = 0; (column = sp_column_at(i, NULL)); i++)
        if (strcmp(column->key, key) == 0) return scores->value[i];
    return NAN;
}
