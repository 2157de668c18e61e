/* The list of networks that pictures are scored by, and what they share. */
#include "eval/extractor.h"
#include <string.h>
#include "base/log.h"

static const sp_extractor_kind *const kinds[] = {
#define X(name, record) &sp_##record##_extractor,
    SP_EXTRACTOR_LIST(X)
#undef X
};

const sp_extractor_kind *sp_extractor_kind_at(sp_extractor_index index)
{
    return kinds[index];
}

static void compare_with_usual(const sp_extractor *e, const char *path)
{
    if (e->kind->usual && strcmp(e->name, e->kind->usual) != 0)
        sp_log_warn("%s: is %s, and figures by %s that others publish are of %s", path, e->name, e->kind->title,
                    e->kind->usual);
}

sp_status sp_extractor_open(sp_extractor_index index, const char *path, const splam_score_options *options,
                            sp_extractor *out)
{
    *out = (sp_extractor){.kind = kinds[index]};
    sp_status status = out->kind->open(path, options, out);
    if (status)
        sp_extractor_close(out);
    else
        compare_with_usual(out, path);
    return status;
}

void sp_extractor_close(sp_extractor *extractor)
{
    if (extractor->kind && !extractor->borrowed) extractor->kind->close(extractor);
    *extractor = (sp_extractor){0};
}

/* One before it that is open and reads the same file alike. */
static const sp_extractor *lender_of(int index, const char *path, const splam_score_options *options,
                                     const sp_extractor *all)
{
    for (int i = 0; i < index; i++)
        if (all[i].kind && kinds[i]->open == kinds[index]->open && strcmp(kinds[i]->weights(options), path) == 0)
            return &all[i];
    return NULL;
}

sp_status sp_extractors_open(const bool wanted[SP_EXTRACTORS], const splam_score_options *options,
                             sp_extractor out[SP_EXTRACTORS])
{
    for (int i = 0; i < SP_EXTRACTORS; i++) {
        const char *path = wanted[i] ? kinds[i]->weights(options) : NULL;
        if (!path) continue;
        const sp_extractor *lender = lender_of(i, path, options, out);
        if (!lender) {
            SP_TRY(sp_extractor_open((sp_extractor_index)i, path, options, &out[i]));
            continue;
        }
        out[i] = *lender;
        out[i].kind = kinds[i];
        out[i].borrowed = true;
        compare_with_usual(&out[i], path);
    }
    return SP_OK;
}

void sp_extractors_close(sp_extractor extractors[SP_EXTRACTORS])
{
    for (int i = 0; i < SP_EXTRACTORS; i++)
        sp_extractor_close(&extractors[i]);
}

sp_status sp_extractor_prepare(const sp_extractor *extractor, const sp_preparation *preparation, sp_image *image,
                               float *nchw)
{
    SP_TRY(sp_transform_apply(preparation->transform, image));
    return extractor->kind->prepare(extractor, preparation, image, nchw);
}

sp_status sp_extractor_prepare_tower(const sp_extractor *extractor, const sp_preparation *preparation,
                                     const sp_image *image, float *nchw)
{
    (void)preparation;
    return sp_image_to_tower(image, extractor->kind->input, (int)extractor->side, nchw);
}

sp_status sp_extractor_run_network(const sp_extractor *extractor, const sp_network *network, const void *config,
                                   const sp_weights *weights, sp_device *device, sp_runner *out)
{
    const sp_weight_set set = {.name = extractor->kind->name, .rate = SP_RATE_RUN, .weights = weights};
    const sp_network_use use = {.network = network, .config = config, .set = &set};
    const sp_network_sizes sizes = {.batch = extractor->batch, .height = extractor->side, .width = extractor->side};
    sp_builder *b;
    *out = (sp_runner){0};
    SP_TRY(sp_builder_create(&b));
    sp_network_alone(b, &use, &sizes);
    SP_TRY(sp_runner_create(b, device, SP_F32, out));
    sp_status status = sp_bind(sp_run_bound(out->run), set.name, weights);
    if (status) sp_runner_free(out);
    return status;
}

sp_feature_origin sp_feature_origin_of(sp_extractor_index index, const sp_extractor *extractor,
                                       const sp_preparation *preparation)
{
    return (sp_feature_origin){
        .network = kinds[index]->name,
        .convention = kinds[index]->convention ? kinds[index]->convention(preparation) : kinds[index]->name,
        .transform = sp_transform_name(preparation->transform),
        .weights = extractor->kind ? extractor->sha256 : NULL,
    };
}
