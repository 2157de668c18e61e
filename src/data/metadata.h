/* What a folder says of its pictures, as Hugging Face's ImageFolder lays it out: metadata.jsonl, an
 * object a line, or metadata.csv, a header and rows; "file_name" is the picture, below the folder. */
#ifndef SP_DATA_METADATA_H
#define SP_DATA_METADATA_H
#include "base/json.h"
#include "data/source.h"

/* Zero-initialise; release with sp_metadata_free. */
typedef struct {
    sp_dictionary *lines; /* path -> its object, kept alive by `documents`; NULL: taken already */
    json_t *documents; /* a list */
} sp_metadata;
void sp_metadata_free(sp_metadata *metadata);
/* Reads the file of one folder, if it has one. Lines that are malformed or without a caption are
 * rejections of the data set. A value of a CSV file that is a number wholly, and no caption, is
 * one. SP_FORMAT for a file that is not UTF-8 by its byte order mark, and for both files side by
 * side; SP_MEMORY, SP_IO. */
sp_status sp_metadata_read(sp_dataset *dataset, const char *folder, sp_metadata *metadata);

#endif
