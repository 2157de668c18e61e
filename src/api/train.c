/* splam_train_vae and splam_train_teacher. */
#include "api/convert.h"
#include "train/train.h"

static sp_status check(const splam_train_options *o)
{
    if (!o->data) return sp_fail(SP_ARGUMENT, "a data set to train on is missing");
    if (!o->output)
        return sp_fail(SP_ARGUMENT, "a folder to write the trained model to is missing");
    return SP_OK;
}

static sp_train_options own(const splam_train_options *o)
{
    return (sp_train_options){
        .data = o->data,
        .caption_column = o->caption_column,
        .output = o->output,
        .vae = o->vae,
        .max_steps = o->max_train_steps,
        .batch = o->train_batch_size,
        .learning_rate = o->learning_rate,
        .ema_decay = o->ema_decay,
        .checkpointing_steps = o->checkpointing_steps,
        .validation_steps = o->validation_steps,
        .resume = o->resume,
        .seed = o->seed,
        .storage = sp_storage_of(o->precision),
        .v_prediction = o->v_prediction,
        .caption_dropout = o->caption_dropout,
        .caption_variety = o->caption_variety,
    };
}

splam_status splam_train_vae(const splam_train_options *options, const splam_callbacks *callbacks)
{
    sp_callbacks own_callbacks = sp_own_callbacks(callbacks);
    sp_status status = check(options);
    if (!status) {
        sp_train_options o = own(options);
        status = sp_train_vae(&o, &own_callbacks);
    }
    return status;
}

splam_status splam_train_teacher(const splam_train_options *options,
                                 const splam_callbacks *callbacks)
{
    sp_callbacks own_callbacks = sp_own_callbacks(callbacks);
    sp_status status = check(options);
    if (!status && !options->vae)
        status =
            sp_fail(SP_ARGUMENT, "a teacher needs an autoencoder: the folder of one is missing");
    if (!status) {
        sp_train_options o = own(options);
        status = sp_train_teacher(&o, &own_callbacks);
    }
    return status;
}
