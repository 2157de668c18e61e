/* Structs of the caller's that begin with their size, as it was when the caller was compiled. */
#ifndef SP_API_SIZED_H
#define SP_API_SIZED_H
#include <stddef.h>
#include "base/status.h"

/* Copies what both know to *own, which is zeroed; given NULL: nothing. SP_ARGUMENT for a size that cannot be, and for
 * members that this library does not have and that are not zero. */
sp_status sp_sized_copy(void *own, size_t own_size, const void *given);
#define SP_SIZED(own, given) sp_sized_copy((own), sizeof *(own), (given))

#endif
