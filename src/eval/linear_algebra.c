/* Loading LAPACK and BLAS at first use. */
#include "eval/linear_algebra.h"
#include <dlfcn.h>
#include <pthread.h>
#include <string.h>
#include "base/parallel.h"
#include "base/system.h"

/* OpenBLAS takes a buffer of this size when it is loaded and one for each thread that works. */
#define BUFFER_BYTES ((size_t)128 << 20)
#define LIBRARY_BYTES ((size_t)64 << 20) /* code and tables of all libraries together, rounded up */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static sp_linear_algebra loaded; /* written once, under `lock` */

/* OpenBLAS tries for ever where it cannot have its buffers, so whether it can is seen before. */
static sp_status check_space(void)
{
    size_t bytes = LIBRARY_BYTES + BUFFER_BYTES * (size_t)(1 + sp_threads());
    if (sp_has_addresses(bytes)) return SP_OK;
    return sp_fail(SP_MEMORY, "out of memory: distances of features need %s of address space for OpenBLAS",
                   sp_bytes_text(bytes));
}

/* *out: a pointer to a function. */
static sp_status find(const char *library, const char *name, void *out)
{
    void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    void *symbol = handle ? dlsym(handle, name) : NULL;
    memcpy(out, &symbol, sizeof symbol);
    if (symbol) return SP_OK;
    const char *reason = dlerror();
    return sp_fail(SP_UNSUPPORTED, "distances of features need %s of %s, which could not be loaded: %s", name, library,
                   reason ? reason : "no reason is known");
}

#define BLAS "libopenblas.so.0"
#define LAPACK "liblapacke.so.3"

static sp_status load(void)
{
    sp_linear_algebra found;
    SP_TRY(check_space());
    SP_TRY(find(BLAS, "cblas_sgemm", &found.sgemm));
    SP_TRY(find(BLAS, "cblas_dgemm", &found.dgemm));
    SP_TRY(find(BLAS, "cblas_dsyrk", &found.dsyrk));
    SP_TRY(find(BLAS, "cblas_dtrmm", &found.dtrmm));
    SP_TRY(find(LAPACK, "LAPACKE_dsyevd", &found.dsyevd));
    SP_TRY(find(LAPACK, "LAPACKE_dpotrf", &found.dpotrf));
    SP_TRY(find(LAPACK, "LAPACKE_dgesdd", &found.dgesdd));
    loaded = found;
    return SP_OK;
}

sp_status sp_linear_algebra_get(const sp_linear_algebra **out)
{
    pthread_mutex_lock(&lock);
    sp_status status = loaded.dgemm ? SP_OK : load();
    pthread_mutex_unlock(&lock);
    *out = &loaded;
    return status;
}
