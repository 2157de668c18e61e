/* coco:ANNOTATIONS.json,IMAGES: the pictures in the folder IMAGES that captions_train2014.json and
 * the like name, every caption of a picture being a variant, in the file's order.
 *
 * A picture that is not there, a name that leaves IMAGES, and a caption of no picture are rejected.
 * The captions' key is "caption", or the option caption_column. The sizes are those that the file says. Its objects in
 * "images" are what filters look at. */
#ifndef SP_DATA_COCO_H
#define SP_DATA_COCO_H
#include "data/source.h"

/* An sp_dataset_filler; context: "ANNOTATIONS.json,IMAGES". SP_IO, and SP_FORMAT for a file without
 * "images" and "annotations". */
sp_status sp_coco_fill(sp_dataset *dataset, const void *context, const sp_callbacks *callbacks);

#endif
