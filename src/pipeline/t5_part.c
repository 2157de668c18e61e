/* T5 and its tokenizer found. */
#include "pipeline/t5_part.h"

#include <string.h>
#include "base/file.h"
#include "base/memory.h"

static const char tokenizer_folder[] = "tokenizer_3";

/* BASE/NAME if a tokenizer.json is in it, new; else NULL, with SP_MEMORY or SP_OK. */
static sp_status look(const char *base, const char *name, char **out)
{
    char *folder = sp_path_join(base, name), *file = folder ? sp_path_join(folder, "tokenizer.json") : NULL;
    sp_status status = file ? SP_OK : SP_MEMORY;
    bool there = file && sp_path_exists(file);
    sp_free(file);
    *out = there ? folder : NULL;
    if (!there) sp_free(folder);
    return status;
}

/* The folder that something lies in. */
static char *parent_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return !slash ? sp_strdup(".") : sp_strndup(path, slash == path ? 1 : (size_t)(slash - path));
}

static sp_status find_tokenizer(const char *encoder, const char *model, char **out)
{
    char *beside = parent_of(encoder);
    const struct {
        const char *base, *name;
    } places[] = {{encoder, ""}, {beside, tokenizer_folder}, {beside, ""}, {model, tokenizer_folder}};
    sp_status status = beside ? SP_OK : SP_MEMORY;
    *out = NULL;
    for (size_t i = 0; i < sizeof places / sizeof *places && !status && !*out; i++)
        status = look(places[i].base, places[i].name, out);
    sp_free(beside);
    if (status || *out) return status;
    return sp_fail(SP_IO, "%s: there is no tokenizer.json in it, beside it, in a tokenizer_3 beside it or in %s/%s",
                   encoder, model, tokenizer_folder);
}

static sp_status open_tokenizer(const char *model, sp_t5_part *part)
{
    char *folder;
    SP_TRY(find_tokenizer(part->file.folder, model, &folder));
    sp_status status = sp_unigram_load(folder, &part->tokenizer);
    size_t ids = status ? 0 : sp_unigram_size(part->tokenizer);
    if (ids > (size_t)part->file.config.vocabulary)
        status = sp_fail(SP_FORMAT, "%s: the tokenizer has %zu ids and T5 of %s knows %lld", folder, ids,
                         part->file.folder, (long long)part->file.config.vocabulary);
    sp_free(folder);
    return status;
}

sp_status sp_t5_part_open(const char *path, const char *model, sp_t5_part **out)
{
    sp_t5_part *part = *out = sp_alloc_zero(sizeof *part);
    sp_status status = part ? sp_t5_file_open(path, &part->file) : SP_MEMORY;
    if (!status) status = open_tokenizer(model, part);
    if (!status) return SP_OK;
    sp_t5_part_close(part);
    *out = NULL;
    return status;
}

void sp_t5_part_close(sp_t5_part *part)
{
    if (!part) return;
    sp_unigram_destroy(part->tokenizer);
    sp_t5_file_close(&part->file);
    sp_free(part);
}
