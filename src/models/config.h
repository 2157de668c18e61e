/* Reading a model's config.json: bounded look-ups, and refusal by name of what this program does
 * not do. */
#ifndef SP_MODELS_CONFIG_H
#define SP_MODELS_CONFIG_H
#include "base/json.h"

#define SP_MODEL_MAX_LEVELS 8  /* resolutions of a UNet or autoencoder */
#define SP_MODEL_MAX_LAYERS 16 /* resnets in one block */
#define SP_MODEL_MAX_CHANNELS 16384

/* One known key. `only` is the JSON text of the one value that is supported; NULL: read elsewhere,
 * or of no consequence. An absent key is always right: each default is the supported value. */
typedef struct {
    const char *key, *only;
} sp_config_rule;

/* `config` must be an object whose keys are all in `rules` and have the values these allow. Keys
 * that begin with '_' are comments; an unknown key is let through only if it is null or false.
 * SP_UNSUPPORTED names the key and its value. */
sp_status sp_config_check(const json_t *config, const char *where, const sp_config_rule *rules,
                          size_t count);

/* An integer in [low,high]; SP_FORMAT otherwise. An absent or null key gives `fallback`. */
sp_status sp_config_int(const json_t *config, const char *key, int64_t fallback, int64_t low,
                        int64_t high, const char *where, int64_t *out);
/* `count` of them; a single number is repeated. */
sp_status sp_config_int_list(const json_t *config, const char *key, int64_t fallback, int64_t low,
                             int64_t high, const char *where, int count, int64_t *out);
/* A list of 1..SP_MODEL_MAX_LEVELS of them; *count is their number. An absent or null key takes the
 * defaults. `what` is for messages: "channel counts". */
sp_status sp_config_int_array(const json_t *config, const char *key, const char *what,
                              const int64_t *defaults, int default_count, int64_t low, int64_t high,
                              const char *where, int64_t *out, int *count);
/* A finite number in (low,high). */
sp_status sp_config_double(const json_t *config, const char *key, double fallback, double low,
                           double high, const char *where, double *out);
/* block_out_channels: 1..SP_MODEL_MAX_LEVELS channel counts, each a multiple of `groups`; *levels
 * is their number. An absent key takes the defaults. */
sp_status sp_config_channels(const json_t *config, const int64_t *defaults, int default_levels,
                             int64_t groups, const char *where, int64_t *channels, int *levels);
/* A list of `count` texts, each one of choices[0..choice_count-1]; out[i] is the index of the
 * choice. An absent key leaves out[] as it is, if default_count is `count`. Another text is
 * SP_UNSUPPORTED, another type or length SP_FORMAT. */
sp_status sp_config_choices(const json_t *config, const char *key, const char *const *choices,
                            int choice_count, const char *where, int count, int default_count,
                            int *out);

#endif
