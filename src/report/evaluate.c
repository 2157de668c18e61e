/* Models, one after the other, on the same prompts and noise. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "report/evaluate.h"
#include "backend/precision.h"
#include "backend/registry.h"
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/visible.h"
#include "eval/prompt_list.h"
#include "report/protocol.h"
#include "report/results.h"
#include "checkpoints/student_file.h"
#include "models/guidance.h"
#include "models/vae.h"
#include "options/options.h"

typedef struct {
    const splam_eval_options *o; /* `own` */
    splam_eval_options own;      /* with what the protocol says */
    const sp_protocol *protocol; /* NULL: none */
    sp_ranks *ranks;
    sp_device *device;
    sp_callbacks callbacks;
    double began;
    sp_metric_set metrics;
    bool scores[SP_PICTURE_SCORES]; /* of sets of pictures, that are asked for */
    double guidance_scale_w; /* NaN: nobody said */
    sp_pipeline *evaluator; /* the teacher, or else the first model; open to the end */
    sp_dataset *dataset;
    sp_prompt_list list;     /* of `captions` */
    const char **repeated;   /* of the data set, as a protocol has them */
    const char *rule;        /* which captions are drawn, in words */
    char captions_sha256[SP_SHA256_TEXT]; /* of the file; of a data set's, of captions.txt */
    json_t *about;           /* the report's "pictures" */
    sp_evaluation *evaluation;
    char *pictures, *captions, *real_features, *score_metrics; /* paths in the output; scores by name */
    sp_scorer *scorer;
    sp_trajectory trajectory;
    sp_results *results;
    sp_claim claim; /* of the output */
} evaluation_run;

/* ---- what is asked for ---- */

/* The guidance that a student was distilled with; left alone if its folder does not say. */
static sp_status read_guidance(const char *model, double *out)
{
    sp_student_file file;
    SP_TRY(sp_student_file_read(model, &file));
    if (isfinite(file.guidance_scale_w)) *out = file.guidance_scale_w;
    sp_student_file_free(&file);
    return SP_OK;
}

/* The first metric asked for that compares with the teacher; NULL if none does. */
static const sp_metric *needs_teacher(const evaluation_run *r)
{
    sp_metric_set rest = r->metrics & ~sp_metrics_of_real_pictures();
    return rest ? sp_metric_at(__builtin_ctz(rest)) : NULL;
}

static sp_status check_teacher(const evaluation_run *r)
{
    const sp_metric *needing = needs_teacher(r);
    if (!needing) return SP_OK;
    if (!r->o->teacher) return sp_fail(SP_ARGUMENT, "`teacher` is missing: %s needs its folder", needing->name);
    if (!isfinite(r->guidance_scale_w))
        return sp_fail(SP_ARGUMENT,
                       "%s needs `guidance_scale_w`: no model's splam.json says which it was distilled with",
                       needing->name);
    return SP_OK;
}

/* "student" of "runs/student/". "teacher" is what its trajectory is called, where one is compared with. */
static char *model_name(const splam_eval_options *o, const char *folder)
{
    size_t length = strlen(folder);
    while (length > 1 && folder[length - 1] == '/')
        length--;
    size_t begin = length;
    while (begin > 0 && folder[begin - 1] != '/')
        begin--;
    length -= begin;
    bool taken = o->teacher && length == 7 && strncmp(folder + begin, "teacher", 7) == 0;
    size_t room = SP_VISIBLE_GROWTH * length + sizeof "-model";
    char *name = sp_alloc(room);
    if (!name) return NULL;
    size_t shown = sp_visible(folder + begin, length, name, room); /* which reports can carry, whatever it holds */
    if (taken) memcpy(name + shown, "-model", sizeof "-model");
    return name;
}

static splam_score_options score_options(const evaluation_run *r);

/* Weights and pictures that scores need, before the work. */
static sp_status check_scores(const evaluation_run *r)
{
    const splam_score_options options = score_options(r);
    for (int i = 0; i < SP_PICTURE_SCORES; i++) {
        const sp_picture_score *score = sp_picture_score_at(i);
        const sp_extractor_kind *network = sp_extractor_kind_at(score->network);
        if (r->scores[i] && !network->weights(&options)) return sp_fail(SP_ARGUMENT, "%s", network->missing);
        if (r->scores[i] && score->two_sets && !options.b)
            return sp_fail(SP_ARGUMENT, "`real` is missing: %s compares with a folder of pictures, a data set or "
                           "statistics", score->name);
    }
    return SP_OK;
}

/* Rows and pictures go by names. */
static sp_status check_names(const splam_eval_options *o)
{
    sp_dictionary *names = sp_dictionary_create();
    sp_status status = names ? SP_OK : SP_MEMORY;
    for (size_t i = 0; i < o->model_count && !status; i++) {
        char *name = model_name(o, o->models[i]);
        if (!name)
            status = SP_MEMORY;
        else if (sp_dictionary_get(names, name))
            status = sp_fail(SP_ARGUMENT, "two of `models` are called %s, and rows and pictures go by that name", name);
        else
            status = sp_dictionary_put(names, name, names);
        sp_free(name);
    }
    sp_dictionary_destroy(names);
    return status;
}

static sp_status check_captions(const splam_eval_options *o)
{
    if (!o->data == !o->captions)
        return sp_fail(SP_ARGUMENT, o->data ? "`data` and `captions` both say what is drawn: one is expected"
                                            : "`data` is missing: captions to draw, or else `captions`");
    if (o->captions && !o->metrics)
        return sp_fail(SP_ARGUMENT, "`metrics` is missing: with `captions` alone there are no pictures that they name");
    return SP_OK;
}

/* Nothing is given that is not read. */
static sp_status check_read(const evaluation_run *r, const splam_eval_options *given)
{
    bool compares = false;
    for (int i = 0; i < SP_PICTURE_SCORES; i++)
        compares |= r->scores[i] && sp_picture_score_at(i)->two_sets;
    if (given->real && !compares)
        return sp_fail(SP_ARGUMENT, "`real` is what fid and the like compare with, and none is among `metrics`");
    return sp_picture_scores_check_options(r->scores, NULL, &sp_verb_eval, given);
}

static sp_status check(evaluation_run *r)
{
    splam_eval_options *o = &r->own;
    const splam_eval_options given = *o;
    if (o->protocol) r->protocol = sp_protocol_find(o->protocol);
    if (r->protocol) SP_TRY(sp_protocol_apply(r->protocol, o));
    SP_TRY(check_captions(o));
    r->metrics = o->teacher ? sp_metrics_all() : sp_metrics_of_real_pictures();
    if (o->metrics) SP_TRY(sp_metrics_parse(o->metrics, &r->metrics, r->scores));
    r->guidance_scale_w = NAN;
    if (o->guidance_scale_w != (double)SPLAM_UNSET) r->guidance_scale_w = o->guidance_scale_w;
    for (size_t i = 0; i < o->model_count && !isfinite(r->guidance_scale_w); i++)
        SP_TRY(read_guidance(o->models[i], &r->guidance_scale_w));
    SP_TRY(check_names(o));
    SP_TRY(check_scores(r));
    SP_TRY(check_read(r, &given));
    return check_teacher(r);
}

/* ---- making ready ---- */

static sp_status name_outputs(evaluation_run *r)
{
    r->pictures = sp_path_join(r->o->output, "pictures");
    r->captions = sp_path_join(r->o->output, "captions.txt");
    r->real_features = sp_path_join(r->o->output, "real");
    return r->pictures && r->captions && r->real_features ? SP_OK : SP_MEMORY;
}

static sp_status open_model(const evaluation_run *r, const char *folder, const char *unet,
                            sp_pipeline **out)
{
    const sp_model_options options = {.unet = unet, .t5_absent = r->o->t5_absent, .t5 = r->o->t5,
                                         .weights = r->o->weights, .device = r->device,
                                         .precision = sp_precision_dtype(r->device, r->o->precision),
                                         .callbacks = &r->callbacks};
    return sp_pipeline_open(folder, &options, out);
}

/* Each caption of the data set, in its order, as often as the protocol says. */
static sp_status repeat_captions(evaluation_run *r, int64_t *count)
{
    int64_t samples = sp_dataset_count(r->dataset), times = r->protocol->repeats;
    *count = samples * times;
    r->repeated = sp_alloc((size_t)*count * sizeof *r->repeated);
    if (!r->repeated) return SP_MEMORY;
    for (int64_t i = 0; i < *count; i++)
        r->repeated[i] = sp_dataset_caption(r->dataset, i / times, 0);
    r->rule = "the first captions of the data set in its order, each three times";
    return SP_OK;
}

/* Prompts of a data set, with its pictures. */
static sp_status evaluate_data(evaluation_run *r, sp_evaluation_options *options)
{
    const splam_eval_options *o = r->o;
    const sp_dataset_options data = {.resolution = options->size, .caption_column = o->caption_column};
    SP_TRY(sp_dataset_open(o->data, &data, &r->callbacks, &r->dataset));
    if (sp_dataset_rejected(r->dataset)) sp_dataset_log(r->dataset);
    int64_t all = sp_dataset_count(r->dataset);
    options->source = o->data;
    options->count = o->count != SPLAM_UNSET ? o->count : all < 128 ? all : 128;
    r->rule = "drawn from the data set by the seed, one in four held out if there are so many";
    if (!r->protocol)
        return sp_evaluation_create(r->dataset, r->evaluator->vae, r->device, options, &r->callbacks, &r->evaluation);
    SP_TRY(repeat_captions(r, &options->known));
    options->prompts = r->repeated;
    return sp_evaluation_create(NULL, r->evaluator->vae, r->device, options, &r->callbacks, &r->evaluation);
}

static sp_status evaluate_list(evaluation_run *r, sp_evaluation_options *options)
{
    SP_TRY(sp_prompt_list_load(r->o->captions, &r->list));
    if (r->protocol && (r->protocol->captions == SP_PROTOCOL_COCO) != r->list.coco)
        return sp_fail(SP_ARGUMENT, "%s: is %s, and %s takes %s", r->o->captions,
                       r->list.coco ? "COCO's annotations" : "a list of captions", r->protocol->name,
                       r->list.coco ? "a list of captions, a line each" : "COCO's annotations, captions_val2017.json");
    options->source = r->o->captions;
    options->prompts = r->list.prompt;
    options->known = r->list.count;
    options->count = r->o->count != SPLAM_UNSET ? r->o->count : r->list.count;
    r->rule = r->list.coco ? "of each picture the caption of the lowest annotation id, by the pictures' ids"
                           : "the lines of the file in their order";
    return sp_evaluation_create(NULL, r->evaluator->vae, r->device, options, &r->callbacks, &r->evaluation);
}

static bool is_first(const evaluation_run *r)
{
    return sp_ranks_rank(r->ranks) == 0;
}

/* Rank 0 alone measures. */
static sp_status open_evaluator(evaluation_run *r)
{
    const splam_eval_options *o = r->o;
    SP_TRY(open_model(r, o->teacher ? o->teacher : o->models[0], o->teacher ? NULL : o->unet,
                      &r->evaluator));
    sp_evaluation_options options = {
        .seed = o->seed,
        .metrics = is_first(r) ? r->metrics : 0,
        .size = o->resolution != SPLAM_UNSET
                    ? (int)o->resolution
                    : (int)(r->evaluator->facts.sample_size * r->evaluator->vae->config.vae.factor),
    };
    return o->captions ? evaluate_list(r, &options) : evaluate_data(r, &options);
}

/* A line a picture, as `splam score --captions` takes them. */
static void write_captions(const sp_evaluation *e, sp_string *text)
{
    for (int64_t i = 0; i < e->count; i++) {
        for (const char *c = e->prompt[i]; *c; c++)
            sp_string_append(text, *c == '\n' || *c == '\r' ? " " : c, 1);
        sp_string_append(text, "\n", 1);
    }
}

/* All ranks draw the same captions. */
static sp_status compare_ranks(const evaluation_run *r, const char sha256[SP_SHA256_TEXT])
{
    char *all = r->ranks ? sp_alloc((size_t)sp_ranks_count(r->ranks) * SP_SHA256_TEXT) : NULL;
    if (!r->ranks) return SP_OK;
    sp_status status = all ? sp_ranks_gather(r->ranks, sha256, SP_SHA256_TEXT, all) : SP_MEMORY;
    for (int i = 0; i < sp_ranks_count(r->ranks) && !status; i++)
        if (memcmp(all + i * SP_SHA256_TEXT, sha256, SP_SHA256_TEXT) != 0)
            status = sp_fail(SP_ARGUMENT, "%s: rank %d has other captions than this one", r->evaluation->source, i);
    sp_free(all);
    return status;
}

static sp_status save_captions(evaluation_run *r)
{
    sp_string text = {0};
    char sha256[SP_SHA256_TEXT];
    write_captions(r->evaluation, &text);
    sp_status status = text.failed ? SP_MEMORY : SP_OK;
    if (!status) sp_sha256_text(text.data, text.length, sha256);
    memcpy(r->captions_sha256, r->o->captions ? r->list.sha256 : sha256, SP_SHA256_TEXT);
    if (!status) status = compare_ranks(r, sha256);
    if (!status && is_first(r)) status = sp_write_file(r->captions, text.data, text.length);
    sp_string_free(&text);
    return status;
}

/* ---- scores of sets of pictures ---- */

/* "fid,kid" of those that are asked for; the first of them that compares with real pictures. */
static sp_status list_scores(evaluation_run *r, const sp_picture_score **comparing)
{
    sp_string names = {0};
    *comparing = NULL;
    for (int i = 0; i < SP_PICTURE_SCORES; i++) {
        const sp_picture_score *score = sp_picture_score_at(i);
        if (!r->scores[i]) continue;
        sp_string_append_format(&names, "%s%s", names.length ? "," : "", score->name);
        if (score->two_sets && !*comparing) *comparing = score;
    }
    sp_status status = SP_OK;
    if (names.length) r->score_metrics = sp_strdup(sp_string_text(&names));
    if (names.failed || (names.length && !r->score_metrics)) status = SP_MEMORY;
    sp_string_free(&names);
    return status;
}

/* What `splam score` would be told. */
static splam_score_options score_options(const evaluation_run *r)
{
    const splam_eval_options *o = r->o;
    splam_score_options s = splam_score_defaults();
    sp_options_share(&sp_verb_eval, o, &sp_verb_score, &s);
    if (!o->convention) s.convention = "clean";
    if (!o->transform) s.transform = "none";
    s.a = r->pictures;
    s.b = o->real ? o->real : o->data;
    s.resolution = SPLAM_UNSET;
    s.metrics = r->score_metrics;
    s.captions = r->captions;
    if (r->evaluation) s.count = r->evaluation->count;
    if (r->evaluation && s.b && sp_dataset_is_drawn(s.b)) s.resolution = r->evaluation->size;
    return s;
}

static sp_status open_scorer(evaluation_run *r)
{
    const sp_picture_score *comparing;
    SP_TRY(list_scores(r, &comparing));
    if (!r->score_metrics) return SP_OK;
    splam_score_options options = score_options(r);
    if (!comparing) options.b = NULL;
    return sp_scorer_create(&options, r->real_features, r->ranks, &r->callbacks, &r->scorer);
}

/* ---- rows ---- */

/* The teacher's trajectories and pictures are rank 0's. */
static sp_status teacher_row(evaluation_run *r)
{
    if (!is_first(r)) return r->scorer ? sp_scorer_help(r->scorer) : SP_OK;
    sp_compared_model teacher;
    const sp_teacher_request request = {
        .seed = r->o->seed, .guidance_scale_w = r->guidance_scale_w, .cache = r->o->output};
    SP_TRY(sp_compared_model_create(r->evaluation, r->evaluator, &teacher));
    sp_status status = sp_results_add_teacher(r->results, &teacher, &request, &r->callbacks, &r->trajectory);
    sp_compared_model_free(&teacher);
    return status;
}

/* The one asked for, or the model's own. */
static sp_status choose_sampler(const evaluation_run *r, const sp_scheduler_config *scheduler,
                                sp_sampler_options *out)
{
    *out = (sp_sampler_options){0};
    SP_TRY(sp_sampler_choose(scheduler, r->o->sampler, &out->kind));
    out->eta = sp_sampler_eta_for(out->kind);
    return sp_sampler_check(scheduler, out);
}

static sp_status model_row(evaluation_run *r, sp_compared_model *compared, const char *name,
                           const sp_sampler_options *sampler, int steps)
{
    sp_row_request request = {.model = name, .sampler = *sampler, .seed = r->o->seed};
    request.sampler.steps = steps;
    char *task = sp_format("%s, %s, %d step%s", name, sp_sampler_name(request.sampler.kind), steps,
                           steps == 1 ? "" : "s");
    if (!task) return SP_MEMORY;
    request.task = task;
    sp_status status = sp_results_add(r->results, compared, &request, &r->callbacks);
    sp_free(task);
    return status;
}

/* Of students that are told theirs, and of models that are no students. */
static double choose_guidance(const evaluation_run *r, const sp_pipeline *p)
{
    bool ranged = p->facts.guidance.high > 0;
    if (!ranged && p->scheduler.student) return 1;
    if (isfinite(r->guidance_scale_w)) return r->guidance_scale_w + 1;
    return ranged ? sp_usual_guidance(&p->facts.guidance) : 7.5;
}

/* The model, measured along the trajectory if there is one. */
static sp_status compare_model(evaluation_run *r, sp_pipeline *pipeline, const char *name, sp_compared_model *out)
{
    SP_TRY(sp_compared_model_create(r->evaluation, pipeline, out));
    out->guidance = choose_guidance(r, pipeline);
    if (!r->trajectory.points.data) return SP_OK;
    return sp_results_measure(r->results, out, name, &r->trajectory, &r->callbacks);
}

static sp_status model_rows(evaluation_run *r, const char *folder)
{
    static const int64_t usual[] = {1, 2, 4};
    const int64_t *steps = r->o->step_count ? r->o->steps : usual;
    size_t count = r->o->step_count ? r->o->step_count : 3;
    sp_pipeline *pipeline = NULL;
    sp_compared_model compared = {0};
    sp_sampler_options sampler;
    char *name = model_name(r->o, folder);
    sp_status status = name ? open_model(r, folder, r->o->unet, &pipeline) : SP_MEMORY;
    if (!status) status = choose_sampler(r, &pipeline->scheduler, &sampler);
    if (!status) status = compare_model(r, pipeline, name, &compared);
    for (size_t i = 0; i < count && !status; i++)
        status = steps[i] >= 1 && steps[i] <= SP_MAX_TIMESTEPS
                     ? model_row(r, &compared, name, &sampler, (int)steps[i])
                     : sp_fail(SP_ARGUMENT, "%lld steps are not possible", (long long)steps[i]);
    sp_compared_model_free(&compared);
    sp_pipeline_close(pipeline);
    sp_free(name);
    return status;
}

/* ---- how pictures came about ---- */

static void note(sp_json_made *notes, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void note(sp_json_made *notes, const char *format, ...)
{
    char text[512];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    sp_json_add(notes, json_string(text));
}

static void note_protocol(const evaluation_run *r, sp_json_made *notes)
{
    const sp_protocol *p = r->protocol;
    int64_t count = r->evaluation->count, real = r->scorer ? sp_scorer_real_count(r->scorer) : 0;
    if (count != p->count)
        note(notes, "%lld pictures are not the protocol's n, which is %lld", (long long)count, (long long)p->count);
    if (p->captions_sha256 && strcmp(p->captions_sha256, r->captions_sha256) != 0)
        note(notes, "the captions are of another file than the one that published figures are of, whose sha256 is %s",
             p->captions_sha256);
    if (p->real_count && real != p->real_count)
        note(notes, "the real side has %lld pictures, and the protocol's has %lld", (long long)real,
             (long long)p->real_count);
}

static json_t *list_notes(const evaluation_run *r)
{
    enum { WIDTH = 2048 };
    sp_json_made notes = sp_json_make_list();
    bool fid = false;
    for (int i = 0; i < SP_PICTURE_SCORES; i++)
        fid |= r->scores[i] && strncmp(sp_picture_score_at(i)->name, "fid", 3) == 0;
    if (r->protocol) note_protocol(r, &notes);
    for (size_t i = 0; i < json_array_size(notes.value); i++)
        sp_log_warn("%s", json_string_value(json_array_get(notes.value, i)));
    if (fid && r->evaluation->count < WIDTH)
        note(&notes, "fid of fewer than %d pictures depends on their number more than on what they show", WIDTH);
    return sp_json_done(&notes);
}

/* Where only the evaluation's own metrics are asked for there is nothing to compare with others. */
static sp_status say_pictures(evaluation_run *r)
{
    const sp_evaluation *e = r->evaluation;
    if (!r->score_metrics && !r->protocol) return SP_OK;
    r->about = json_pack(
        "{s:s?, s:I, s:i, s:s, s:s, s:s, s:s, s:s?, s:o}", "protocol", r->protocol ? r->protocol->name : NULL, "count",
        (json_int_t)e->count, "size", e->size, "captions", e->source, "captions_sha256", r->captions_sha256,
        "captions_rule", r->rule, "seeds", "picture k has the Philox noise of seed + k", "real",
        r->scorer && sp_scorer_real_count(r->scorer) ? r->o->real ? r->o->real : r->o->data : NULL, "notes",
        list_notes(r));
    return r->about ? SP_OK : SP_MEMORY;
}

/* ---- the whole ---- */

static sp_status save(const evaluation_run *r, char **table)
{
    const sp_evaluation_report report = {
        .title = "splam: an evaluation",
        .summary = "The same captions drawn from the same noise by every model.",
        .protocol = r->protocol,
        .pictures = r->about,
        .guidance_scale_w = r->trajectory.points.data ? r->guidance_scale_w : NAN,
        .seed = r->o->seed,
        .version = SPLAM_VERSION,
    };
    return sp_results_save(r->results, r->o->output, report, r->began, table);
}

/* With ranks each draws its share and computes its share of features of pictures, and rank 0 does all else. */
static sp_status evaluate(evaluation_run *r, char **table)
{
    const splam_eval_options *o = r->o;
    SP_TRY(check(r));
    SP_TRY(name_outputs(r));
    if (is_first(r)) SP_TRY(sp_results_claim(o->output, &r->claim));
    SP_TRY(open_evaluator(r));
    SP_TRY(save_captions(r));
    SP_TRY(open_scorer(r));
    SP_TRY(say_pictures(r));
    const sp_results_place place = {.folder = r->pictures, .scorer = r->scorer, .ranks = r->ranks};
    SP_TRY(sp_results_create(r->evaluation, &place, &r->results));
    if (needs_teacher(r)) SP_TRY(teacher_row(r));
    for (size_t i = 0; i < o->model_count; i++)
        SP_TRY(model_rows(r, o->models[i]));
    if (is_first(r)) return save(r, table);
    *table = sp_strdup("");
    return *table ? SP_OK : SP_MEMORY;
}

static void let_go(evaluation_run *r)
{
    sp_results_destroy(r->results);
    sp_trajectory_free(&r->trajectory);
    sp_scorer_destroy(r->scorer);
    sp_evaluation_destroy(r->evaluation);
    sp_dataset_close(r->dataset);
    sp_prompt_list_free(&r->list);
    sp_pipeline_close(r->evaluator);
    sp_claim_end(&r->claim);
    json_decref(r->about);
    sp_free(r->repeated);
    sp_free(r->pictures);
    sp_free(r->captions);
    sp_free(r->real_features);
    sp_free(r->score_metrics);
}

sp_status sp_evaluate(const splam_eval_options *o, const sp_callbacks *callbacks, char **table)
{
    evaluation_run r = {.own = *o, .callbacks = callbacks ? *callbacks : (sp_callbacks){0}, .began = sp_now()};
    r.o = &r.own;
    sp_status status = sp_ranks_start(&r.callbacks, &r.ranks);
    if (!status) status = sp_device_of(o->device, &r.device);
    if (!status) status = evaluate(&r, table);
    let_go(&r);
    return sp_ranks_end(r.ranks, status);
}
