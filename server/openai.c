/* OpenAI's interface of pictures. */
#include <stdlib.h>
#include <time.h>
#include "base64.h"
#include "internal.h"

/* What clients of OpenAI's know, and `info`: what made each picture. */
static void finish(sv_exchange *x)
{
    const sv_job *job = x->job;
    if (job->status) {
        sv_reply_unfinished(x, job, &sv_openai_interface);
        return;
    }
    json_t *data = json_array();
    for (size_t i = 0; i < job->picture_count; i++) {
        char *text = sv_base64_encode(job->pictures[i].file, job->pictures[i].size);
        json_array_append_new(data, json_pack("{s:s?, s:o?}", "b64_json", text, "info", sv_picture_info(job, i)));
        free(text);
    }
    const char *format = job->request->options.format;
    sv_reply_json(x, 200,
                  json_pack("{s:I, s:o, s:s, s:o}", "created", (json_int_t)time(NULL), "data", data, "output_format",
                            !format ? "png" : format[0] == 'j' ? "jpeg" : format, "warnings", sv_job_warnings(job)));
}

void sv_answer_generations(sv_exchange *x)
{
    sv_job *job = sv_exchange_job(x, &sv_openai_interface, false);
    if (job) sv_exchange_wait(x, job, finish);
}

void sv_answer_edits(sv_exchange *x)
{
    sv_reply_error(x, 501, NULL,
                   "edits of pictures (inpainting) are not supported; /sdapi/v1/img2img and init_image of /v1/jobs "
                   "begin with a picture");
}
