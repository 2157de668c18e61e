/* Loading LAPACK and BLAS at first use, and what both are used for twice. */
#include "eval/linear_algebra.h"
#include <dlfcn.h>
#include <float.h>
#include <math.h>
#include <pthread.h>
#include <string.h>
#include "base/memory.h"
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

sp_status sp_lapack_failed(int64_t dim, lapack_int info)
{
    return sp_fail(
        info == LAPACK_WORK_MEMORY_ERROR || info == LAPACK_TRANSPOSE_MEMORY_ERROR ? SP_MEMORY : SP_NUMERIC,
        "the eigenvalues of a %lld x %lld matrix could not be found (LAPACK says %d)", (long long)dim, (long long)dim,
        (int)info);
}

/* Eigenvectors a row, their values; then the former scaled and those of rounding left out. */
static sp_status decompose(const sp_linear_algebra *la, int64_t dim, double *root, double *values, int64_t *rank)
{
    int64_t first = 0;
    lapack_int info = dim ? la->dsyevd(LAPACK_COL_MAJOR, 'V', 'L', (lapack_int)dim, root, (lapack_int)dim, values) : 0;
    if (info) return sp_lapack_failed(dim, info);
    while (first < dim && !(values[first] > (double)dim * DBL_EPSILON * values[dim - 1]))
        first++;
    *rank = dim - first;
    for (int64_t i = 0; i < *rank; i++)
        for (int64_t j = 0; j < dim; j++)
            root[i * dim + j] = sqrt(values[first + i]) * root[(first + i) * dim + j];
    return SP_OK;
}

sp_status sp_symmetric_root(const sp_linear_algebra *la, const double *matrix, int64_t dim, double **out,
                            int64_t *rank)
{
    double *root = sp_alloc((size_t)(dim * dim) * sizeof *root), *values = sp_alloc((size_t)dim * sizeof *values);
    sp_status status = root && values ? SP_OK : SP_MEMORY;
    if (!status) memcpy(root, matrix, (size_t)(dim * dim) * sizeof *root);
    if (!status) status = decompose(la, dim, root, values, rank);
    sp_free(values);
    if (status) sp_free(root);
    *out = status ? NULL : root;
    return status;
}
