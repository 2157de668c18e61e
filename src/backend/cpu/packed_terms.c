/* What the layouts of packed weights depend on in this process. */
#include <pthread.h>
#include "backend/cpu/kernel_table.h"
#include "backend/pack_sources.h"

/* Layouts are named by their keys, and which of them a layer gets may depend on more: with another number of threads or
 * other caches a pack is another one that is not found, never one that is read wrongly. */
static pthread_once_t once = PTHREAD_ONCE_INIT;
static char library[SP_ONEDNN_NAME];
static const char *pairs[][2] = {
    {"instruction_set", NULL}, {"onednn", library}, {"kernels", SP_PACK_SOURCES}}; /* written once, under `once` */
static const sp_packed_terms terms = {(const char *const (*)[2])pairs, sizeof pairs / sizeof *pairs};

static void find(void)
{
    sp_onednn_name(library);
    pairs[0][1] = sp_isa_name(sp_cpu_isa());
}

const sp_packed_terms *sp_cpu_packed_terms(void)
{
    pthread_once(&once, find);
    return &terms;
}
