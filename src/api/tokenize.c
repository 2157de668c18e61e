#include "api/convert.h"
#include "base/file.h"
#include "base/memory.h"
#include "text/tokenizer.h"

/* MODEL/tokenizer, or MODEL itself. */
static sp_status load(const char *model, sp_tokenizer **out)
{
    char *folder = sp_path_join(model, "tokenizer");
    if (!folder) return SP_MEMORY;
    sp_status status = sp_tokenizer_load(sp_path_is_folder(folder) ? folder : model, out);
    sp_free(folder);
    return status;
}

static sp_status encode(const sp_tokenizer *tokenizer, const char *text, int32_t **ids,
                        size_t *count)
{
    *count = sp_tokenizer_max_length(tokenizer);
    *ids = sp_alloc(*count * sizeof **ids);
    return *ids ? sp_tokenizer_encode(tokenizer, text, *ids, NULL) : SP_MEMORY;
}

splam_status splam_tokenize(const char *model, const char *text, int32_t **ids, size_t *count)
{
    sp_tokenizer *tokenizer = NULL;
    *ids = NULL;
    *count = 0;
    sp_status status = SP_OK;
    if (!model || !text)
        status = sp_fail(SP_ARGUMENT, "a %s is missing", model ? "text" : "model");
    else if (!sp_path_is_folder(model))
        status = sp_fail(SP_IO, "%s: no such folder", model);
    if (!status) status = load(model, &tokenizer);
    if (!status) status = encode(tokenizer, text, ids, count);
    if (status) {
        sp_free(*ids);
        *ids = NULL;
    }
    sp_tokenizer_destroy(tokenizer);
    return sp_public_status(status);
}
