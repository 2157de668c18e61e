/* folder:DIR: JPEG, PNG and WebP pictures in a folder and its subfolders.
 *
 * Captions come from metadata.jsonl, one object a line with "file_name" (relative to that file) and
 * "text" (a string, or a list of strings), as Hugging Face's imagefolder has it; or else from
 * NAME.txt beside NAME.jpg, one caption a line; or else from "caption" in NAME.json. The fields
 * that filters look at stand in the same line or file. Names that begin with "." are skipped. Order
 * is that of the path's bytes. */
#ifndef SP_DATA_FOLDER_H
#define SP_DATA_FOLDER_H
#include "data/source.h"

/* An sp_dataset_filler; context: the folder's path. Headers are read now, pixels when asked for.
 * SP_IO when it is no folder. */
sp_status sp_folder_fill(sp_dataset *dataset, const void *context, const sp_callbacks *callbacks);

#endif
