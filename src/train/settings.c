/* Recording the flags that determine a run. */
#include "train/settings.h"
#include <stdio.h>
#include "base/memory.h"

const char *sp_setting_member(const char *flag, char member[64])
{
    snprintf(member, 64, "%s", flag);
    for (char *c = member; *c; c++)
        if (*c == '-') *c = '_';
    return member;
}

static json_t *value_of(const sp_setting *s)
{
    switch (s->kind) {
    case SP_SETTING_WHOLE:
        return json_integer((json_int_t)s->whole);
    case SP_SETTING_NUMBER:
        return json_real(s->number);
    case SP_SETTING_SEED:
        return sp_json_seed(s->seed);
    default:
        return json_string(s->text);
    }
}

static sp_status add(json_t *settings, const sp_setting *s)
{
    unsigned long failures = sp_alloc_failures();
    char member[64];
    if (s->kind == SP_SETTING_TEXT && !s->text) return SP_OK;
    if (json_object_set_new(settings, s->flag, value_of(s)) == 0) return SP_OK;
    if (s->kind != SP_SETTING_TEXT || sp_alloc_failures() != failures) return SP_MEMORY;
    return sp_fail(SP_ARGUMENT, "`%s` \"%s\" is not UTF-8", sp_setting_member(s->flag, member), s->text);
}

sp_status sp_settings_add(json_t *settings, const sp_setting *list, size_t count)
{
    for (size_t i = 0; i < count; i++)
        SP_TRY(add(settings, &list[i]));
    return SP_OK;
}
