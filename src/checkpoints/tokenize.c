/* The ids of a text, as a model takes it. */
#include "base/memory.h"
#include "checkpoints/model_folder.h"

/* The model's, or MODEL itself is the folder of one. */
static sp_status load(const char *model, sp_tokenizer **out)
{
    sp_model_folder folder;
    SP_TRY(sp_model_folder_open(model, &folder));
    bool own = !folder.single && !sp_model_folder_has(&folder, "tokenizer");
    sp_status status =
        own ? sp_tokenizer_load(model, out) : sp_model_folder_tokenizer(&folder, SP_COMPONENT_TEXT_ENCODER, out);
    sp_model_folder_close(&folder);
    return status;
}

static sp_status encode(const sp_tokenizer *tokenizer, const char *text, int32_t **ids,
                        size_t *count)
{
    *count = sp_tokenizer_max_length(tokenizer);
    *ids = sp_alloc(*count * sizeof **ids);
    return *ids ? sp_tokenizer_encode(tokenizer, text, *ids, NULL) : SP_MEMORY;
}

sp_status sp_model_tokenize(const char *model, const char *text, int32_t **ids, size_t *count)
{
    sp_tokenizer *tokenizer;
    *ids = NULL;
    SP_TRY(load(model, &tokenizer));
    sp_status status = encode(tokenizer, text, ids, count);
    if (status) {
        sp_free(*ids);
        *ids = NULL;
    }
    sp_tokenizer_destroy(tokenizer);
    return status;
}
