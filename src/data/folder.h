/* folder:DIR: JPEG, PNG and WebP pictures in a folder and its subfolders.
 *
 * Captions come from metadata.jsonl or metadata.csv (data/metadata.h); or else from NAME.txt or
 * NAME.caption beside NAME.jpg, one caption a line; or else from NAME.json. Which column or key
 * holds them: sp_caption_columns in data/picture.h, or the option caption_column, which leaves text
 * files out. The fields that filters look at stand in the same line or file. Ends of names are in
 * letters of either case. Names that begin with "." are skipped. Order is that of the path's bytes. */
#ifndef SP_DATA_FOLDER_H
#define SP_DATA_FOLDER_H
#include "data/source.h"

/* An sp_dataset_filler; context: the folder's path. Headers are read now, pixels when asked for.
 * SP_IO when it is no folder. */
sp_status sp_folder_fill(sp_dataset *dataset, const void *context, const sp_callbacks *callbacks);

#endif
