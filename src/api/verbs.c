/* The verbs: each takes its options as its table says (options/), and hands them on. */
#include "splam/splam.h"
#include "options/options.h"
#include "backend/registry.h"
#include "bench/bench.h"
#include "checkpoints/model_folder.h"
#include "data/given.h"
#include "distill/distill.h"
#include "pipeline/forward.h"
#include "pipeline/packed.h"
#include "pipeline/session.h"
#include "recipes/demo.h"
#include "recipes/train.h"
#include "report/data_set.h"
#include "report/evaluate.h"
#include "report/inspect.h"
#include "report/score.h"

splam_status splam_generate(const splam_generate_options *options, const splam_callbacks *callbacks)
{
    splam_generate_options o;
    SP_TRY(sp_options_take(&sp_verb_generate, options, &o));
    return sp_generate_once(&o, callbacks);
}

splam_status splam_distill(const splam_distill_options *options, const splam_callbacks *callbacks)
{
    splam_distill_options o;
    SP_TRY(sp_options_take(&sp_verb_distill, options, &o));
    return sp_distill_given(&o, callbacks);
}

splam_status splam_train_vae(const splam_train_options *options, const splam_callbacks *callbacks)
{
    splam_train_options o;
    SP_TRY(sp_options_take(&sp_verb_train, options, &o));
    return sp_train_vae(&o, callbacks);
}

splam_status splam_train_teacher(const splam_train_options *options, const splam_callbacks *callbacks)
{
    splam_train_options o;
    SP_TRY(sp_options_take(&sp_verb_train, options, &o));
    return sp_train_teacher(&o, callbacks);
}

splam_status splam_eval(const splam_eval_options *options, const splam_callbacks *callbacks, char **table)
{
    splam_eval_options o;
    *table = NULL;
    SP_TRY(sp_options_take(&sp_verb_eval, options, &o));
    return sp_evaluate(&o, callbacks, table);
}

splam_status splam_score(const splam_score_options *options, const splam_callbacks *callbacks, char **report)
{
    splam_score_options o;
    *report = NULL;
    SP_TRY(sp_options_take(&sp_verb_score, options, &o));
    return sp_score_sets(&o, callbacks, report);
}

splam_status splam_convert(const splam_convert_options *options, const splam_callbacks *callbacks)
{
    splam_convert_options o;
    sp_device *device;
    SP_TRY(sp_options_take(&sp_verb_convert, options, &o));
    SP_TRY(sp_device_of(o.device, &device));
    return sp_convert(&o, device, callbacks);
}

splam_status splam_data(const splam_data_options *options, const splam_callbacks *callbacks, char **summary)
{
    splam_data_options o;
    *summary = NULL;
    SP_TRY(sp_options_take(&sp_verb_data, options, &o));
    return sp_describe_data(&o, callbacks, summary);
}

splam_status splam_forward(const splam_forward_options *options)
{
    splam_forward_options o;
    SP_TRY(sp_options_take(&sp_verb_forward, options, &o));
    return sp_forward_files(&o);
}

splam_status splam_inspect(const splam_inspect_options *options, char **text)
{
    splam_inspect_options o;
    *text = NULL;
    SP_TRY(sp_options_take(&sp_verb_inspect, options, &o));
    return sp_inspect(&o, text);
}

splam_status splam_tokenize(const splam_tokenize_options *options, int32_t **ids, size_t *count)
{
    splam_tokenize_options o;
    *ids = NULL;
    *count = 0;
    SP_TRY(sp_options_take(&sp_verb_tokenize, options, &o));
    return sp_model_tokenize(o.model, o.text, ids, count);
}

splam_status splam_bench(const splam_bench_options *options, const splam_callbacks *callbacks, char **report)
{
    splam_bench_options o;
    *report = NULL;
    SP_TRY(sp_options_take(&sp_verb_bench, options, &o));
    return sp_bench(&o, callbacks, report);
}

splam_status splam_demo(const splam_demo_options *options, const splam_callbacks *callbacks, char **table)
{
    splam_demo_options o;
    *table = NULL;
    SP_TRY(sp_options_take(&sp_verb_demo, options, &o));
    return sp_demo(&o, callbacks, table);
}

splam_status splam_source_add(const char *name, const splam_source *source)
{
    splam_source own;
    SP_TRY(sp_sized_take("splam_source", source, &own, sizeof own));
    return sp_source_add(name, &own);
}

void splam_source_remove(const char *name)
{
    sp_source_remove(name);
}
