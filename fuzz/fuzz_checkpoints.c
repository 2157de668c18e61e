/* A checkpoint of a training: "=== NAME" a line begins a file (fuzz/input_folder.c), state.json, whose sums are made
 * right, and the sets of tensors. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>
#include "base/file.h"
#include "base/memory.h"
#include "train/checkpoint.h"
#include "train/checksum.h"
#include "fuzz/fuzz.h"

static const char *const names[] = {"online.safetensors", "ema.safetensors", "first_moment.safetensors",
                                    "second_moment.safetensors", "target.safetensors", "state.json", NULL};

/* Two tensors, one of which has coded moments. */
static void make_state(sp_training_state *state)
{
    sp_weights *weights;
    sp_tensor small, large;
    if (sp_weights_create(&weights) || sp_tensor_create(SP_F32, sp_shape_of(3), &small) ||
        sp_tensor_create(SP_F32, sp_shape_of(SP_LEAST_CODED), &large) ||
        sp_weights_add(weights, "small", small) || sp_weights_add(weights, "large", large) ||
        sp_training_state_create(weights, SP_OPTIMIZER_ADAMW8BIT, state))
        abort();
}

static void sum_file(json_t *files, const char *name)
{
    char *bytes, sum[17];
    size_t size;
    if (!sp_path_exists(fuzz_path(name)) || sp_read_file(fuzz_path(name), &bytes, &size) != SP_OK) return;
    snprintf(sum, sizeof sum, "%016llx", (unsigned long long)XXH3_64bits(bytes, size));
    json_object_set_new(files, name, json_pack("{s:I, s:s}", "bytes", (json_int_t)size, "xxh3", sum));
    sp_free(bytes);
}

/* Sums of the files that state.json names, and its own. */
static void sum_all(void)
{
    json_t *json;
    if (!sp_path_exists(fuzz_path("state.json")) || sp_json_load(fuzz_path("state.json"), &json) != SP_OK) return;
    json_t *files = json_object_get(json, "files");
    for (int i = 0; i < SP_TRAINING_PARTS; i++)
        if (json_object_get(files, names[i])) sum_file(files, names[i]);
    char *text = json_is_object(json) && sp_checksum_seal(json) == SP_OK ? sp_json_dumps(json, 0) : NULL;
    if (text) fuzz_write("state.json", text, strlen(text));
    sp_free(text);
    json_decref(json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    sp_training_state state;
    sp_checkpoint_facts facts;
    bool found;
    const char *folder = fuzz_folder(data, size, names);
    json_t *settings = json_pack("{s:s, s:i}", "objective", "splam", "train-batch-size", 3);
    if (!settings) abort();
    sum_all();
    make_state(&state);
    if (sp_checkpoint_facts_read(folder, &facts) == SP_OK) sp_checkpoint_facts_free(&facts);
    (void)sp_checkpoint_load(folder, folder, settings, &state, NULL, &found);
    sp_training_state_free(&state);
    json_decref(settings);
    return 0;
}
