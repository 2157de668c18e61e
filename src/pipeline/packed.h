/* Files of packed weights beside a model (formats/packed_file.h), and converting with them. */
#ifndef SP_PIPELINE_PACKED_H
#define SP_PIPELINE_PACKED_H
#include "checkpoints/convert.h"
#include "graph/device.h"

/* As splam_convert, of options that are checked: sp_convert_model where there is an output; where packed weights are
 * asked for, then those of the output, or else of the model where it lies, one file for each of UNet, text encoder and
 * VAE: all that generating one picture at a time of these sizes packs, with guidance and without. SP_ARGUMENT for what
 * would change weights without an output, SP_UNSUPPORTED for a device whose packs are not kept. */
sp_status sp_convert(const splam_convert_options *options, sp_device *device, const sp_callbacks *callbacks);

#endif
