/* Small teachers that the program's own recipe makes; what a step of training one asks its denoiser, made from the
 * finished model's folder as whoever draws with it makes it, and whether the step's loss is the model's. */
#ifndef SP_TESTS_TEACHER_STEP_H
#define SP_TESTS_TEACHER_STEP_H
#include "base/random.h"
#include "latents/latents.h"
#include "pipeline/pipeline.h"
#include "splam/splam.h"
#include "teacher_support.h"

/* ---- the teacher ---- */

/* A run of its recipe; what else a test wants of it is set afterwards. */
static inline splam_train_options small_teacher(void **state, const char *family, const char *output)
{
    splam_train_options o = splam_train_defaults();
    o.data = pictures_of(state);
    o.vae = source_path("assets", "teacher", NULL);
    o.output = in_folder(state, output);
    o.family = family;
    o.width = 16;
    o.resolution = SIDE;
    o.learning_rate = 4e-3;
    o.caption_dropout = .3;
    o.ema_decay = "0.9";
    o.precision = SPLAM_F32;
    return o;
}

/* Of the steps from `from` on and before `to`; there are `all`. */
static inline double mean_loss(const char *metrics, int64_t from, int64_t to, int64_t all)
{
    double sum = 0;
    int64_t step = 1;
    for (const char *line = metrics; (line = strstr(line, "\"loss\":")); step++) {
        line += 7;
        if (step >= from && step < to) sum += strtod(line, NULL);
    }
    assert_int_equal(step, all + 1);
    return sum / (double)(to - from);
}

/* The last ten losses of the run of so many steps are below `share` of the first five, in the mean. */
static inline void expect_learned(void **state, int64_t steps, double share)
{
    char *metrics;
    assert_ok(sp_read_file(in_folder(state, "teacher/metrics.jsonl"), &metrics, NULL));
    double first = mean_loss(metrics, 1, 6, steps), last = mean_loss(metrics, steps - 9, steps + 1, steps);
    print_message("loss %.3f, and %.3f in the end\n", first, last);
    assert_true(last < share * first);
    sp_free(metrics);
}

/* class_name: NULL where the part is absent. */
static inline void assert_entry(const json_t *index, const char *part, const char *class_name)
{
    const json_t *entry = json_array_get(json_object_get(index, part), 1);
    if (class_name)
        assert_string_equal(json_string_value(entry), class_name);
    else
        assert_true(json_is_null(entry));
}

/* ---- a step ---- */

/* How a family asks. */
typedef struct {
    const char *component;
    /* Sample i, which is picture k: writes "sample" and "timestep"; *target, of the whole batch, is what the output is
     * compared with. */
    void (*draw)(sp_weights *in, float *target, const sp_latents *latents, const splam_train_options *o,
                 const sp_path *path, int64_t k, int64_t i);
    /* Adds what else picture k is asked with, to that of its caption; NULL: nothing. */
    void (*frame)(sp_pipeline *p, int64_t k, sp_conditioning *told);
    double tolerance; /* of the loss, relative */
} step_question;

static inline void add_tensor(sp_weights *in, const char *name, sp_shape shape)
{
    sp_tensor tensor;
    assert_ok(sp_tensor_create(SP_F32, shape, &tensor));
    assert_ok(sp_weights_add(in, name, tensor));
}

/* Its caption, or none. */
static inline bool tell_sample(sp_weights *in, const step_question *q, sp_pipeline *p, const sp_dataset *dataset,
                               const splam_train_options *o, int64_t k, int64_t i)
{
    float u[3];
    const char *caption = sp_dataset_caption(dataset, k, 0);
    sp_conditioning told;
    sp_random_uniform((sp_random_key){o->seed, SP_STREAM_DROPOUT, 0, (uint64_t)i}, u, 3);
    bool kept = (double)u[0] >= o->caption_dropout;
    assert_ok(kept ? sp_pipeline_encode(p, &caption, 1, &told) : sp_pipeline_encode_negative(p, NULL, &told));
    if (q->frame) q->frame(p, k, &told);
    for (int m = 0; m < told.count; m++) {
        const sp_tensor *from = &told.item[m].tensor;
        sp_shape shape = from->shape;
        shape.dim[0] = o->train_batch_size;
        if (!sp_weights_find(in, told.item[m].name)) add_tensor(in, told.item[m].name, shape);
        sp_tensor *to = sp_weights_find(in, told.item[m].name);
        memcpy((char *)to->data + (size_t)i * sp_tensor_bytes(from), from->data, sp_tensor_bytes(from));
    }
    sp_conditioning_free(&told);
    return kept;
}

static inline void ask_as_a_step(void **state, const step_question *q, const splam_train_options *o, const char *file,
                                 sp_tensor *target)
{
    const sp_dataset_options pictures = {.resolution = SIDE};
    sp_dataset *dataset;
    sp_dataset_order *order;
    sp_pipeline *p;
    sp_latents latents;
    sp_weights *in;
    sp_shape shape = sp_shape_of(o->train_batch_size, 4, SIDE / 4, SIDE / 4);
    int64_t kept = 0;
    assert_ok(sp_dataset_open(o->data, &pictures, NULL, &dataset));
    assert_ok(sp_dataset_order_create(o->seed, PICTURES, &order));
    assert_ok(sp_pipeline_open(in_folder(state, "teacher"), &(sp_model_options){0}, &p));
    assert_ok(sp_latents_encode(dataset, NULL, PICTURES, p->vae, p->device, SP_F32, NULL, &latents));
    assert_ok(sp_weights_create(&in));
    add_tensor(in, "sample", shape);
    assert_ok(sp_tensor_create(SP_F32, shape, target));
    add_tensor(in, "timestep", sp_shape_of(o->train_batch_size));
    for (int64_t i = 0; i < o->train_batch_size; i++) {
        int64_t k = sp_dataset_order_at(order, (uint64_t)i);
        q->draw(in, target->data, &latents, o, &p->scheduler.path, k, i);
        kept += tell_sample(in, q, p, dataset, o, k, i);
    }
    assert_in_range(kept, 1, o->train_batch_size - 1); /* both kinds are asked about */
    assert_ok(sp_weights_save(in, file, SP_F32, NULL, 0, NULL));
    sp_weights_destroy(in);
    sp_latents_free(&latents);
    sp_pipeline_close(p);
    sp_dataset_order_destroy(order);
    sp_dataset_close(dataset);
}

/* Mean square of what the model in the folder "teacher" says of `inputs` less the target. */
static inline double loss_of_model(void **state, const step_question *q, const char *inputs, const sp_tensor *target)
{
    char outputs[700], model[700];
    sp_tensor_file *file;
    const sp_tensor *prediction;
    double sum = 0;
    snprintf(outputs, sizeof outputs, "%s", in_folder(state, "outputs.safetensors"));
    snprintf(model, sizeof model, "%s", in_folder(state, "teacher"));
    splam_forward_options f = splam_forward_defaults();
    f.model = model;
    f.component = q->component;
    f.inputs = inputs;
    f.outputs = outputs;
    f.precision = SPLAM_F32;
    assert_int_equal(splam_forward(&f), SPLAM_OK);
    assert_ok(sp_safetensors_open(outputs, &file));
    assert_ok(sp_tensor_file_get(file, "sample", &prediction));
    int64_t count = sp_tensor_count(target);
    for (int64_t n = 0; n < count; n++)
        sum += pow((double)((const float *)prediction->data)[n] - (double)((const float *)target->data)[n], 2);
    sp_tensor_file_close(file);
    return sum / (double)count;
}

/* `o`: one step that goes on from the teacher, with the output "step". */
static inline void check_step_question(void **state, const step_question *q, const splam_train_options *o)
{
    char inputs[700], *metrics;
    sp_tensor target = {0};
    snprintf(inputs, sizeof inputs, "%s", in_folder(state, "inputs.safetensors"));
    assert_int_equal(splam_train_teacher(o, NULL), SPLAM_OK);
    assert_ok(sp_read_file(in_folder(state, "step/metrics.jsonl"), &metrics, NULL));
    double loss = strtod(strstr(metrics, "\"loss\":") + 7, NULL);
    sp_free(metrics);
    ask_as_a_step(state, q, o, inputs, &target);
    double found = loss_of_model(state, q, inputs, &target);
    print_message("loss %.8f, of the finished model %.8f\n", loss, found);
    assert_true(fabs(found / loss - 1) < q->tolerance);
    sp_tensor_free(&target);
}

#endif
