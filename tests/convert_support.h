/* Converting with options of which some are given, the rest 0. */
#ifndef SP_TESTS_CONVERT_SUPPORT_H
#define SP_TESTS_CONVERT_SUPPORT_H
#include "checkpoints/convert.h"

static inline sp_status convert_with(const char *model, const char *output, const splam_convert_options *given,
                                     sp_device *device)
{
    splam_convert_options o = *given;
    o.model = model;
    o.output = output;
    return sp_convert_model(&o, device, NULL);
}

static inline sp_status convert_model(const char *model, const char *output, const splam_convert_options *given)
{
    return convert_with(model, output, given, NULL);
}

#endif
