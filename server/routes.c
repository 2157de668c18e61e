/* The table of routes. */
#include "internal.h"

/* {method, path, style of errors, open, most bytes of the body, answer} */
const sv_route sv_routes[] = {
    {"GET", "/", SV_OPENAI, true, 0, sv_answer_page},
    {"GET", "/health", SV_OPENAI, true, 0, sv_answer_health},
    {"GET", "/metrics", SV_OPENAI, false, 0, sv_answer_metrics},

    {"GET", "/v1/models", SV_OPENAI, false, 0, sv_answer_models},
    {"POST", "/v1/images/generations", SV_OPENAI, false, SV_BODY_BYTES, sv_answer_generations},
    {"POST", "/v1/images/edits", SV_OPENAI, false, 0, sv_answer_edits},

    {"POST", "/v1/jobs", SV_OPENAI, false, SV_PICTURE_BODY_BYTES, sv_answer_submit},
    {"GET", "/v1/jobs/*", SV_OPENAI, false, 0, sv_answer_job},
    {"DELETE", "/v1/jobs/*", SV_OPENAI, false, 0, sv_answer_delete},
    {"GET", "/v1/jobs/*/events", SV_OPENAI, false, 0, sv_answer_events},

    {"POST", "/sdapi/v1/txt2img", SV_SDAPI, false, SV_BODY_BYTES, sv_answer_txt2img},
    {"POST", "/sdapi/v1/img2img", SV_SDAPI, false, SV_PICTURE_BODY_BYTES, sv_answer_img2img},
    {"POST", "/sdapi/v1/png-info", SV_SDAPI, false, SV_PICTURE_BODY_BYTES, sv_answer_png_info},
    {"GET", "/sdapi/v1/progress", SV_SDAPI, false, 0, sv_answer_progress},
    {"POST", "/sdapi/v1/interrupt", SV_SDAPI, false, 0, sv_answer_interrupt},
    {"POST", "/sdapi/v1/skip", SV_SDAPI, false, 0, sv_answer_skip},
    {"GET", "/sdapi/v1/memory", SV_SDAPI, false, 0, sv_answer_memory},
    {"GET", "/sdapi/v1/options", SV_SDAPI, false, 0, sv_answer_options},
    {"POST", "/sdapi/v1/options", SV_SDAPI, false, SV_BODY_BYTES, sv_answer_set_options},
    {"GET", "/sdapi/v1/loras", SV_SDAPI, false, 0, sv_answer_loras},
    {"GET", "/sdapi/v1/embeddings", SV_SDAPI, false, 0, sv_answer_embeddings},
    {"GET", "/sdapi/v1/sd-models", SV_SDAPI, false, 0, sv_answer_sd_models},
    {"GET", "/sdapi/v1/samplers", SV_SDAPI, false, 0, sv_answer_samplers},
    {"GET", "/sdapi/v1/schedulers", SV_SDAPI, false, 0, sv_answer_schedulers},
    {0},
};
