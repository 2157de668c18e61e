/* Protocols: their settings, and published figures beside which they stand. */
#include "report/protocol.h"
#include <math.h>
#include <stddef.h>
#include <string.h>

/* Figures whose number of pictures and data set are named where they are published; Stable Diffusion 1.5 throughout. */
static const sp_published coco2014[] = {
    {"SPLAM (Xu et al. 2024)", 4, 10.06, NAN},
    {"DMD2 (Yin et al. 2024)", 1, 8.35, NAN},
    {"SiD-LSG (Zhou et al. 2024)", 1, 8.15, NAN},
    {"SCott (Liu et al. 2024)", 2, 11.13, NAN},
    {"SCott (Liu et al. 2024)", 4, 10.68, NAN},
    {"LCM-LoRA, as others measured it", 2, 24.28, NAN},
    {"LCM-LoRA, as others measured it", 4, 23.62, NAN},
    {"PeRFlow (Yan et al. 2024)", 4, 11.31, NAN},
    {"PeRFlow (Yan et al. 2024)", 8, 14.16, NAN},
    {"LCM, as PeRFlow's page has it", 4, 23.49, NAN},
    {"LCM, as PeRFlow's page has it", 8, 29.63, NAN},
    {"InstaFlow (Liu et al. 2023)", 1, 13.1, NAN},
    {"the teacher, guidance 3, as DMD2's code has it", 50, 8.59, NAN},
};
static const sp_published coco2017[] = {
    {"SPLAM (Xu et al. 2024)", 4, 20.77, NAN},
    {"InstaFlow (Liu et al. 2023)", 1, 23.4, 0.304},
};
/* 512 pixels, w = 8, as papers print them beside LCM's (Luo et al. 2023). */
static const sp_published laion[] = {
    {"DDIM, in LCM's tables (w = 8)", 1, 183.29, NAN},
    {"DDIM, in LCM's tables (w = 8)", 2, 81.05, NAN},
    {"DDIM, in LCM's tables (w = 8)", 4, 22.38, NAN},
    {"DDIM, in LCM's tables (w = 8)", 8, 13.83, NAN},
    {"DPM-Solver++, in LCM's tables (w = 8)", 1, 185.78, NAN},
    {"DPM-Solver++, in LCM's tables (w = 8)", 2, 72.81, NAN},
    {"DPM-Solver++, in LCM's tables (w = 8)", 4, 18.43, NAN},
    {"DPM-Solver++, in LCM's tables (w = 8)", 8, 12.2, NAN},
    {"guided distillation, in LCM's tables (w = 8)", 1, 108.21, NAN},
    {"guided distillation, in LCM's tables (w = 8)", 2, 33.25, NAN},
    {"guided distillation, in LCM's tables (w = 8)", 4, 15.12, NAN},
    {"guided distillation, in LCM's tables (w = 8)", 8, 13.89, NAN},
    {"LCM, in LCM's tables (w = 8)", 1, 35.36, NAN},
    {"LCM, in LCM's tables (w = 8)", 2, 13.31, NAN},
    {"LCM, in LCM's tables (w = 8)", 4, 11.1, NAN},
    {"LCM, in LCM's tables (w = 8)", 8, 11.84, NAN},
};

static const sp_protocol protocols[] = {
    {
        .name = "coco2014-30k",
        .count = 30000,
        .repeats = 1,
        .captions = SP_PROTOCOL_LINES,
        .captions_sha256 = "edabd2a556026cbf5d36a5fffa35ad43d7ba71b72f6d640b727c1edefb7f1945",
        .convention = "clean",
        .transform = "center-crop-256",
        .clip_prefix = "A photo depicts ",
        .real_count = 40504,
        .words = "30,000 captions of COCO 2014's validation set, one line each, against all 40,504 pictures of "
                 "val2014; both sides' middle squares at 256 pixels by Lanczos, then as clean-fid; so do GigaGAN, "
                 "DMD2 and SiD-LSG (floats become bytes by rounding, where DMD2's code cuts off)",
        .published = coco2014,
        .published_count = sizeof coco2014 / sizeof *coco2014,
    },
    {
        .name = "coco2017-5k",
        .count = 5000,
        .repeats = 1,
        .captions = SP_PROTOCOL_COCO,
        .convention = "clean",
        .transform = "center-crop-256",
        .other_transform = "center-crop-512",
        .real_count = 5000,
        .words = "the caption of the lowest annotation id of each picture of COCO 2017's validation set, against those "
                 "5,000 pictures; both sides' middle squares at 256 or 512 pixels by Lanczos, on which the literature "
                 "does not agree, then as clean-fid",
        .published = coco2017,
        .published_count = sizeof coco2017 / sizeof *coco2017,
    },
    {
        .name = "laion",
        .count = 30000,
        .repeats = 3,
        .captions = SP_PROTOCOL_DATA,
        .convention = "clean",
        .transform = "center-crop-512",
        .other_transform = "none",
        .words = "10,000 captions of a set, three pictures of each, against the set's own pictures; middle squares at "
                 "512 pixels by Lanczos, then as clean-fid",
        .published = laion,
        .published_count = sizeof laion / sizeof *laion,
    },
};

const sp_protocol *sp_protocol_find(const char *name)
{
    for (size_t i = 0; i < sizeof protocols / sizeof *protocols; i++)
        if (strcmp(protocols[i].name, name) == 0) return &protocols[i];
    return NULL;
}

/* ---- what options say ---- */

/* *member is `wanted` from here on, if it was not given; else it must be that or `other`, which may be NULL. */
static sp_status settle(const sp_protocol *p, const char *member, const char *wanted, const char *other,
                        const char **value)
{
    if (!*value) *value = wanted;
    if (strcmp(*value, wanted) == 0 || (other && strcmp(*value, other) == 0)) return SP_OK;
    return sp_fail(SP_ARGUMENT, "`%s` is %s, and %s is measured with %s%s%s", member, *value, p->name, wanted,
                   other ? " or " : "", other ? other : "");
}

static sp_status check_sources(const sp_protocol *p, const splam_eval_options *o)
{
    static const char *const captions[] = {
        "a text file of a caption a line, captions_coco14_test.txt of DMD2",
        "COCO's own file, captions_val2017.json",
        NULL,
    };
    if (p->captions == SP_PROTOCOL_DATA) {
        if (o->captions || !o->data)
            return sp_fail(SP_ARGUMENT, "`data` is missing: %s draws the captions of a data set, without `captions`",
                           p->name);
        return SP_OK;
    }
    if (o->data || !o->captions)
        return sp_fail(SP_ARGUMENT, "`captions` is missing: %s draws those of %s, without `data`", p->name,
                       captions[p->captions]);
    if (o->real) return SP_OK;
    return sp_fail(SP_ARGUMENT, "`real` is missing: %s compares with the pictures of a validation set, or their "
                   "statistics", p->name);
}

sp_status sp_protocol_apply(const sp_protocol *p, splam_eval_options *o)
{
    SP_TRY(check_sources(p, o));
    SP_TRY(settle(p, "convention", p->convention, NULL, &o->convention));
    SP_TRY(settle(p, "transform", p->transform, p->other_transform, &o->transform));
    if (o->count == SPLAM_UNSET) o->count = p->count;
    if (o->count > p->count)
        return sp_fail(SP_ARGUMENT, "`count` is %lld, and %s has %lld pictures: fewer can be asked for",
                       (long long)o->count, p->name, (long long)p->count);
    if (!o->metrics) o->metrics = o->clip ? "fid,clip" : "fid";
    if (!o->clip_prefix) o->clip_prefix = p->clip_prefix;
    return SP_OK;
}
