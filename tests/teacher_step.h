/* What a step of training a teacher asks its denoiser, made from the finished model's folder as whoever draws with it
 * makes it, and whether the step's loss is the model's. */
#ifndef SP_TESTS_TEACHER_STEP_H
#define SP_TESTS_TEACHER_STEP_H
#include "base/random.h"
#include "latents/latents.h"
#include "pipeline/pipeline.h"
#include "splam/splam.h"
#include "teacher_support.h"

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
