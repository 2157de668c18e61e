/* splam_train_vae and splam_train_teacher. */
#include "options/options.h"
#include "train/train.h"

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
