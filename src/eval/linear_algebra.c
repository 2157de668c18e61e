/* Loading LAPACK and BLAS at first use. */
#include "eval/linear_algebra.h"
#include <dlfcn.h>
#include <pthread.h>
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
    return sp_fail(SP_MEMORY, "out of memory: the Frechet distance needs %s of address space for OpenBLAS",
                   sp_bytes_text(bytes));
}

static sp_status find(const char *library, const char *name, void **out)
{
    void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    *out = handle ? dlsym(handle, name) : NULL;
    if (*out) return SP_OK;
    const char *reason = dlerror();
    return sp_fail(SP_UNSUPPORTED, "the Frechet distance needs %s of %s, which could not be loaded: %s", name, library,
                   reason ? reason : "no reason is known");
}

#define BLAS "libopenblas.so.0"
#define LAPACK "liblapacke.so.3"

static sp_status load(void)
{
    void *dgemm, *dtrmm, *dsyev, *dsyevd, *dpotrf, *dgesdd;
    SP_TRY(check_space());
    SP_TRY(find(BLAS, "cblas_dgemm", &dgemm));
    SP_TRY(find(BLAS, "cblas_dtrmm", &dtrmm));
    SP_TRY(find(LAPACK, "LAPACKE_dsyev", &dsyev));
    SP_TRY(find(LAPACK, "LAPACKE_dsyevd", &dsyevd));
    SP_TRY(find(LAPACK, "LAPACKE_dpotrf", &dpotrf));
    SP_TRY(find(LAPACK, "LAPACKE_dgesdd", &dgesdd));
    loaded.dtrmm = (__typeof__(loaded.dtrmm))dtrmm;
    loaded.dsyev = (__typeof__(loaded.dsyev))dsyev;
    loaded.dsyevd = (__typeof__(loaded.dsyevd))dsyevd;
    loaded.dpotrf = (__typeof__(loaded.dpotrf))dpotrf;
    loaded.dgesdd = (__typeof__(loaded.dgesdd))dgesdd;
    loaded.dgemm = (__typeof__(loaded.dgemm))dgemm;
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
