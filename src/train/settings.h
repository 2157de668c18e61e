/* The record of a run: an object of the flags that determine it, for its checkpoints and for what it makes. */
#ifndef SP_TRAIN_SETTINGS_H
#define SP_TRAIN_SETTINGS_H
#include "base/json.h"

/* One flag, without the dashes in front, and its value. */
typedef struct {
    const char *flag;
    enum { SP_SETTING_WHOLE, SP_SETTING_NUMBER, SP_SETTING_TEXT, SP_SETTING_SEED } kind;
    int64_t whole;
    double number;
    const char *text; /* NULL: not given, and not recorded */
    uint64_t seed;
} sp_setting;

static inline sp_setting sp_setting_whole(const char *flag, int64_t value)
{
    return (sp_setting){.flag = flag, .kind = SP_SETTING_WHOLE, .whole = value};
}

static inline sp_setting sp_setting_number(const char *flag, double value)
{
    return (sp_setting){.flag = flag, .kind = SP_SETTING_NUMBER, .number = value};
}

static inline sp_setting sp_setting_text(const char *flag, const char *value)
{
    return (sp_setting){.flag = flag, .kind = SP_SETTING_TEXT, .text = value};
}

static inline sp_setting sp_setting_seed(const char *flag, uint64_t value)
{
    return (sp_setting){.flag = flag, .kind = SP_SETTING_SEED, .seed = value};
}

/* Adds them in this order; SP_ARGUMENT, naming the flag, for a text that is not UTF-8. */
sp_status sp_settings_add(json_t *settings, const sp_setting *list, size_t count);
#define SP_SETTINGS_ADD(settings, ...)                                                                           \
    sp_settings_add((settings), (const sp_setting[]){__VA_ARGS__},                                               \
                    sizeof((const sp_setting[]){__VA_ARGS__}) / sizeof(sp_setting))

/* The member of the options that a setting is called after, in `member`. */
const char *sp_setting_member(const char *flag, char member[64]);

#endif
