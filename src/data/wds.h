/* wds:SHARDS: tar files of pictures as img2dataset writes them: KEY.jpg (.png, .webp), KEY.txt and
 * KEY.json, those of one KEY together. SHARDS is a pattern of data/shard_names.h.
 *
 * A KEY is a name up to the first dot behind its last slash. The caption is all of KEY.txt, or else
 * of KEY.caption, or else stands in KEY.json (sp_caption_columns in data/picture.h, or the option
 * caption_column alone), whose fields the filters look at. Other files are left out. Names are never
 * taken for paths, and nothing is unpacked: opening makes an index of where accepted pictures lie,
 * and a picture is read from there when asked for. So shards have to be plain, not compressed.
 *
 * A shard that is absent, empty or no tar file is rejected, and one that is damaged from there on,
 * each with a line in the log. */
#ifndef SP_DATA_WDS_H
#define SP_DATA_WDS_H
#include "data/source.h"

/* An sp_dataset_filler; context: SHARDS. SP_ARGUMENT when no file matches. */
sp_status sp_wds_fill(sp_dataset *dataset, const void *context, const sp_callbacks *callbacks);

#endif
