/* Which instruction set this process uses. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include "backend/cpu/cpu.h"
#include "base/log.h"

static pthread_once_t once = PTHREAD_ONCE_INIT;
static sp_isa found; /* written once, under `once` */
static bool amx_allowed = true; /* likewise */

static const char *const names[SP_ISA_COUNT] = {
#define X(name, text) text,
    SP_ISA_LIST(X)
#undef X
};

const char *sp_isa_name(sp_isa isa)
{
    return names[isa];
}

static sp_isa of_processor(void)
{
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("x86-64-v3")) return SP_ISA_BASELINE;
    if (!__builtin_cpu_supports("x86-64-v4")) return SP_ISA_AVX2;
    return __builtin_cpu_supports("avx512bf16") ? SP_ISA_AVX512_BF16 : SP_ISA_AVX512;
}

static void detect(void)
{
    found = of_processor();
    const char *cap = getenv("SPLAM_MAX_ISA");
    if (!cap || !*cap || strcmp(cap, "amx") == 0) return;
    for (int i = 0; i < SP_ISA_COUNT; i++) {
        if (strcmp(cap, names[i]) != 0) continue;
        if (i < (int)found) found = (sp_isa)i;
        amx_allowed = false;
        return;
    }
    sp_log_warn("SPLAM_MAX_ISA is '%s', not baseline, avx2, avx512, avx512_bf16 or amx; ignored", cap);
}

sp_isa sp_cpu_isa(void)
{
    pthread_once(&once, detect);
    return found;
}

bool sp_cpu_allows_amx(void)
{
    pthread_once(&once, detect);
    return found == SP_ISA_AVX512_BF16 && amx_allowed;
}
