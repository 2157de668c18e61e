/* Scheduler configurations from texts, for tests. */
#ifndef SP_TESTS_SCHEDULER_SUPPORT_H
#define SP_TESTS_SCHEDULER_SUPPORT_H
#include "support.h"
#include "base/json.h"
#include "diffusion/scheduler_config.h"

static inline sp_scheduler_config config_of(const char *text)
{
    sp_scheduler_config config;
    json_t *json;
    assert_ok(sp_json_parse(text, strlen(text), "scheduler_config.json", &json));
    assert_ok(sp_scheduler_config_read(json, "scheduler_config.json", &config));
    json_decref(json);
    return config;
}


#endif
