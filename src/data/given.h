/* "source:NAME": pictures and captions that the program around the library has (splam/source.h). */
#ifndef SP_DATA_GIVEN_H
#define SP_DATA_GIVEN_H
#include <splam/source.h>
#include "data/source.h"

/* splam_source_add, splam_source_remove. Sources may be added and removed by any thread. */
sp_status sp_source_add(const char *name, const splam_source *source);
void sp_source_remove(const char *name);

/* For sp_dataset_open_kind; context: the name. */
sp_status sp_given_fill(sp_dataset *dataset, const void *context, const sp_callbacks *callbacks);

#endif
