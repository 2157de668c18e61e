/* Bounded look-ups in a config.json, and the refusal of what is not done. */
#include "models/config.h"

#include <math.h>
#include <string.h>

/* Equal as JSON, except that 1 is 1.0 and that a list of equal values is that value. */
static bool agrees(const json_t *value, const json_t *expected)
{
    if (json_is_number(value) && json_is_number(expected))
        return json_number_value(value) == json_number_value(expected);
    if (json_is_array(value) && !json_is_array(expected)) {
        for (size_t i = 0; i < json_array_size(value); i++)
            if (!agrees(json_array_get(value, i), expected)) return false;
        return json_array_size(value) > 0;
    }
    return json_equal(value, expected);
}

static sp_status check_key(const char *key, const json_t *value, const char *where,
                           const sp_config_rule *rules, size_t count)
{
    char text[64];
    const sp_config_rule *rule = NULL;
    for (size_t i = 0; i < count && !rule; i++)
        if (strcmp(key, rules[i].key) == 0) rule = &rules[i];
    if (!rule) {
        if (json_is_null(value) || json_is_false(value)) return SP_OK;
        return sp_fail(SP_UNSUPPORTED, "%s: \"%.64s\" (%s) is not supported", where, key,
                       sp_json_brief(value, text, sizeof text));
    }
    if (!rule->only) return SP_OK;
    json_t *expected = json_loads(rule->only, JSON_DECODE_ANY, NULL);
    if (!expected) return sp_fail(SP_MEMORY, "%s: out of memory while checking \"%s\"", where, key);
    bool good = agrees(value, expected);
    json_decref(expected);
    if (good) return SP_OK;
    return sp_fail(SP_UNSUPPORTED, "%s: \"%s\" is %s, and only %s is supported", where, key,
                   sp_json_brief(value, text, sizeof text), rule->only);
}

sp_status sp_config_check(const json_t *config, const char *where, const sp_config_rule *rules,
                          size_t count)
{
    if (!json_is_object(config)) return sp_fail(SP_FORMAT, "%s: must hold a JSON object", where);
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)config, key, value)
    {
        if (key[0] == '_') continue;
        SP_TRY(check_key(key, value, where, rules, count));
    }
    return SP_OK;
}

static sp_status check_range(const char *key, int64_t value, int64_t low, int64_t high,
                             const char *where)
{
    if (value >= low && value <= high) return SP_OK;
    return sp_fail(SP_FORMAT, "%s: \"%s\" is %lld, and must lie in %lld..%lld", where, key,
                   (long long)value, (long long)low, (long long)high);
}

sp_status sp_config_int(const json_t *config, const char *key, int64_t fallback, int64_t low,
                        int64_t high, const char *where, int64_t *out)
{
    SP_TRY(sp_json_int(config, key, fallback, where, out));
    return check_range(key, *out, low, high, where);
}

sp_status sp_config_int_list(const json_t *config, const char *key, int64_t fallback, int64_t low,
                             int64_t high, const char *where, int count, int64_t *out)
{
    SP_TRY(sp_json_int_list(config, key, fallback, where, count, out));
    for (int i = 0; i < count; i++)
        SP_TRY(check_range(key, out[i], low, high, where));
    return SP_OK;
}

sp_status sp_config_double(const json_t *config, const char *key, double fallback, double low,
                           double high, const char *where, double *out)
{
    SP_TRY(sp_json_double(config, key, fallback, where, out));
    if (isfinite(*out) && *out > low && *out < high) return SP_OK;
    return sp_fail(SP_FORMAT, "%s: \"%s\" is %g, and must lie between %g and %g", where, key, *out,
                   low, high);
}

sp_status sp_config_int_array(const json_t *config, const char *key, const char *what,
                              const int64_t *defaults, int default_count, int64_t low, int64_t high,
                              const char *where, int64_t *out, int *count)
{
    const json_t *list = json_object_get(config, key);
    if (!list || json_is_null(list)) {
        memcpy(out, defaults, (size_t)default_count * sizeof *out);
        *count = default_count;
        return SP_OK;
    }
    size_t size = json_array_size(list);
    if (!json_is_array(list) || size < 1 || size > SP_MODEL_MAX_LEVELS)
        return sp_fail(SP_FORMAT, "%s: \"%s\" must be a list of 1 to %d %s", where, key,
                       SP_MODEL_MAX_LEVELS, what);
    *count = (int)size;
    return sp_config_int_list(config, key, 0, low, high, where, *count, out);
}

sp_status sp_config_channels(const json_t *config, const int64_t *defaults, int default_levels,
                             int64_t groups, const char *where, int64_t *channels, int *levels)
{
    static const char key[] = "block_out_channels";
    SP_TRY(sp_config_int_array(config, key, "channel counts", defaults, default_levels, 1,
                               SP_MODEL_MAX_CHANNELS, where, channels, levels));
    for (int i = 0; i < *levels; i++)
        if (channels[i] % groups)
            return sp_fail(
                SP_FORMAT,
                "%s: \"%s\" holds %lld, which \"norm_num_groups\" (%lld) does not divide", where,
                key, (long long)channels[i], (long long)groups);
    return SP_OK;
}

sp_status sp_config_choices(const json_t *config, const char *key, const char *const *choices,
                            int choice_count, const char *where, int count, int default_count,
                            int *out)
{
    const json_t *list = json_object_get(config, key);
    if ((!list || json_is_null(list)) && default_count == count) return SP_OK;
    if (!json_is_array(list) || json_array_size(list) != (size_t)count)
        return sp_fail(
            SP_FORMAT,
            "%s: \"%s\" must be a list of %d block types, one for each of \"block_out_channels\"",
            where, key, count);
    for (int i = 0; i < count; i++) {
        const json_t *item = json_array_get(list, (size_t)i);
        if (!json_is_string(item))
            return sp_fail(SP_FORMAT, "%s: \"%s\" must be a list of texts", where, key);
        const char *text = json_string_value(item);
        out[i] = -1;
        for (int j = 0; j < choice_count && out[i] < 0; j++)
            if (strcmp(text, choices[j]) == 0) out[i] = j;
        if (out[i] < 0)
            return sp_fail(SP_UNSUPPORTED, "%s: block type \"%.64s\" in \"%s\" is not supported",
                           where, text, key);
    }
    return SP_OK;
}
