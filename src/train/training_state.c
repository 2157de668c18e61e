/* Weights, moments and averages of a training, and its update. */
#include "train/training_state.h"
#include <math.h>
#include <stdio.h>
#include "base/memory.h"
#include "base/text.h"

sp_weights **sp_training_part(sp_training_state *state, int index)
{
    sp_weights **parts[SP_TRAINING_PARTS] = {&state->online, &state->ema, &state->first_moment,
                                             &state->second_moment, &state->target};
    return parts[index];
}

/* ---- making ---- */

#define X(name, text) text,
static const char *const optimizer_names[] = {SP_OPTIMIZER_LIST(X)};
#undef X

const char *sp_optimizer_name(sp_optimizer optimizer)
{
    return optimizer_names[optimizer];
}

sp_status sp_optimizer_of(const char *name, sp_optimizer *out)
{
    int index;
    SP_TRY(sp_name_index("optimizer", name, optimizer_names, SP_OPTIMIZER_COUNT, &index));
    *out = (sp_optimizer)index;
    return SP_OK;
}

/* Of the first moment, or the second one. */
static sp_dtype moment_dtype(sp_optimizer optimizer, bool second, int64_t count)
{
    if (optimizer != SP_OPTIMIZER_ADAMW8BIT || count < SP_LEAST_CODED) return SP_F32;
    return second ? SP_DYNAMIC8_UNSIGNED : SP_DYNAMIC8_SIGNED;
}

size_t sp_moment_bytes(sp_optimizer optimizer, int64_t count)
{
    size_t bytes = 0;
    for (int second = 0; second < 2; second++) {
        sp_dtype dtype = moment_dtype(optimizer, second, count);
        bytes += sp_dtype_bytes(dtype, count) + sp_dtype_bytes(SP_F32, sp_dtype_scales(dtype, count));
    }
    return bytes;
}

static sp_status add_moment(sp_weights *moments, const char *name, sp_shape shape, sp_dtype dtype)
{
    sp_tensor tensor;
    SP_TRY(sp_tensor_create(dtype, shape, &tensor));
    SP_TRY(sp_weights_add(moments, name, tensor));
    if (!sp_dtype_is_coded(dtype)) return SP_OK;
    SP_TRY(sp_tensor_create(SP_F32, sp_shape_of(sp_dtype_scales(dtype, sp_shape_count(shape))), &tensor));
    char *full = sp_format("%s" SP_SCALES_SUFFIX, name);
    sp_status status = full ? sp_weights_add(moments, full, tensor) : SP_MEMORY;
    if (!full) sp_tensor_free(&tensor);
    sp_free(full);
    return status;
}

static sp_status make_moments(const sp_weights *online, sp_optimizer optimizer, bool second, sp_weights **out)
{
    SP_TRY(sp_weights_create(out));
    for (size_t i = 0; i < sp_weights_count(online); i++) {
        const sp_tensor *weight = sp_weights_at(online, i);
        SP_TRY(add_moment(*out, sp_weights_name(online, i), weight->shape,
                          moment_dtype(optimizer, second, sp_tensor_count(weight))));
    }
    return SP_OK;
}

sp_status sp_training_state_create(sp_weights *initial, sp_optimizer optimizer,
                                   sp_training_state *out)
{
    *out = (sp_training_state){.online = initial, .validated = {.error = NAN}, .best = {.error = NAN}};
    sp_status status = sp_weights_copy(initial, SP_F32, &out->ema);
    if (!status) status = make_moments(initial, optimizer, false, &out->first_moment);
    if (!status) status = make_moments(initial, optimizer, true, &out->second_moment);
    if (status) sp_training_state_free(out);
    return status;
}

sp_status sp_training_state_keep_target(sp_training_state *state)
{
    return sp_weights_copy(state->online, SP_F32, &state->target);
}

sp_status sp_training_state_add(sp_training_state *state, const char *name, sp_weights *initial,
                                sp_optimizer optimizer)
{
    while (state->beside)
        state = state->beside;
    sp_training_state *added = sp_alloc_zero(sizeof *added);
    if (!added) {
        sp_weights_destroy(initial);
        return SP_MEMORY;
    }
    *added = (sp_training_state){.name = name, .online = initial};
    state->beside = added;
    SP_TRY(make_moments(initial, optimizer, false, &added->first_moment));
    return make_moments(initial, optimizer, true, &added->second_moment);
}

void sp_training_state_free(sp_training_state *state)
{
    if (state->beside) sp_training_state_free(state->beside);
    sp_free(state->beside);
    for (int i = 0; i < SP_TRAINING_PARTS; i++) {
        sp_residence_release(state->resident[i]);
        sp_weights_destroy(*sp_training_part(state, i));
    }
    *state = (sp_training_state){0};
}

/* ---- on the device ---- */

static sp_status place_part(sp_training_state *state, int part, sp_device *device)
{
    const sp_weights *weights = *sp_training_part(state, part);
    void *address;
    sp_residence_release(state->resident[part]);
    state->resident[part] = NULL;
    if (!weights) return SP_OK;
    SP_TRY(sp_residence_hold(device, weights, &state->resident[part]));
    sp_residence_update(state->resident[part]); /* what a run had there before a checkpoint was read */
    for (size_t i = 0; i < sp_weights_count(weights); i++)
        SP_TRY(sp_residence_place(state->resident[part], sp_weights_name(weights, i), &address));
    return SP_OK;
}

sp_status sp_training_state_place(sp_training_state *state, sp_device *device)
{
    for (int i = 0; i < SP_TRAINING_PARTS; i++)
        SP_TRY(place_part(state, i, device));
    state->ahead = false;
    return state->beside ? sp_training_state_place(state->beside, device) : SP_OK;
}

sp_status sp_training_state_fetch(sp_training_state *state)
{
    for (int i = 0; i < SP_TRAINING_PARTS && state->ahead; i++)
        if (state->resident[i]) SP_TRY(sp_residence_fetch(state->resident[i]));
    state->ahead = false;
    return state->beside ? sp_training_state_fetch(state->beside) : SP_OK;
}

static sp_status address_of(const sp_training_state *state, int part, const char *name, void *address)
{
    void *found;
    SP_TRY(sp_residence_place(state->resident[part], name, &found));
    memcpy(address, &found, sizeof found);
    return SP_OK;
}

static sp_status moment_of(sp_training_state *state, int part, const char *name, sp_moment *out)
{
    const sp_weights *moments = *sp_training_part(state, part);
    if (!sp_dtype_is_coded(sp_weights_find(moments, name)->dtype)) return address_of(state, part, name, &out->values);
    char full[512];
    snprintf(full, sizeof full, "%s" SP_SCALES_SUFFIX, name);
    SP_TRY(address_of(state, part, name, &out->codes));
    return address_of(state, part, full, &out->scales);
}

static sp_status tensor_of(sp_training_state *state, size_t index, sp_adamw_tensor *out)
{
    const char *name = sp_weights_name(state->online, index);
    *out = (sp_adamw_tensor){.count = sp_tensor_count(sp_weights_at(state->online, index))};
    SP_TRY(address_of(state, 0, name, &out->weight));
    if (state->ema) SP_TRY(address_of(state, 1, name, &out->ema));
    SP_TRY(moment_of(state, 2, name, &out->first));
    return moment_of(state, 3, name, &out->second);
}

/* ---- gradients ---- */

sp_status sp_gradients_of(const sp_run *run, const sp_weights *online, sp_gradients *out)
{
    size_t count = sp_weights_count(online);
    sp_device *device = sp_plan_device(sp_run_plan(run));
    *out = (sp_gradients){.device = device,
                          .at = sp_alloc_zero((count + 1) * sizeof *out->at),
                          .squares = device->allocate(device, sizeof *out->squares)};
    sp_status status = out->at && out->squares ? SP_OK : SP_MEMORY;
    for (size_t i = 0; i < count && !status; i++) {
        char *name = sp_format("gradient.%s", sp_weights_name(online, i));
        if (name)
            out->at[i] = sp_run_output_address(run, name);
        else
            status = SP_MEMORY;
        sp_free(name);
    }
    if (status) sp_gradients_free(out);
    return status;
}

void sp_gradients_free(sp_gradients *gradients)
{
    if (gradients->device) gradients->device->release(gradients->device, gradients->squares);
    sp_free(gradients->at);
    *gradients = (sp_gradients){0};
}

sp_status sp_gradients_norm(const sp_gradients *gradients, const sp_training_state *state, double *norm)
{
    sp_device *device = gradients->device;
    double sum;
    device->zero(device, gradients->squares, sizeof *gradients->squares);
    for (size_t i = 0; i < sp_weights_count(state->online); i++)
        if (gradients->at[i])
            device->optimizer->sum_of_squares(device, gradients->at[i],
                                              sp_tensor_count(sp_weights_at(state->online, i)),
                                              gradients->squares);
    SP_TRY(device->download(device, &sum, gradients->squares, sizeof sum));
    *norm = sqrt(sum);
    return SP_OK;
}

sp_status sp_training_update(sp_training_state *state, const sp_gradients *gradients,
                             const sp_adamw_options *options)
{
    sp_device *device = gradients->device;
    for (size_t i = 0; i < sp_weights_count(state->online); i++) {
        if (!gradients->at[i]) continue;
        sp_adamw_tensor tensor;
        SP_TRY(tensor_of(state, i, &tensor));
        tensor.gradient = gradients->at[i];
        device->optimizer->adamw(device, options, &tensor);
    }
    state->ahead = true;
    return SP_OK;
}

sp_status sp_training_move_target(sp_training_state *state, const sp_gradients *gradients, double decay)
{
    sp_device *device = gradients->device;
    for (size_t i = 0; state->target && i < sp_weights_count(state->online); i++) {
        const char *name = sp_weights_name(state->online, i);
        float *weight, *target;
        if (!gradients->at[i]) continue; /* it has not moved */
        SP_TRY(address_of(state, 0, name, &weight));
        SP_TRY(address_of(state, 4, name, &target));
        device->optimizer->average(device, decay, weight, target, sp_tensor_count(sp_weights_at(state->online, i)));
    }
    return SP_OK;
}

sp_status sp_weights_share(sp_weights *weights, sp_ranks *ranks)
{
    for (size_t i = 0; i < sp_weights_count(weights); i++) {
        sp_tensor *tensor = sp_weights_at(weights, i);
        SP_TRY(sp_ranks_broadcast(ranks, tensor->data, sp_tensor_bytes(tensor)));
    }
    return SP_OK;
}

sp_status sp_training_state_share(sp_training_state *state, sp_ranks *ranks)
{
    SP_TRY(sp_ranks_broadcast(ranks, &state->step, sizeof state->step));
    for (int i = 0; i < SP_TRAINING_PARTS; i++)
        if (*sp_training_part(state, i)) SP_TRY(sp_weights_share(*sp_training_part(state, i), ranks));
    return state->beside ? sp_training_state_share(state->beside, ranks) : SP_OK;
}
