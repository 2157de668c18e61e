/* The engine, statuses, layouts, and the running of primitives. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include "backend/cpu/onednn/onednn.h"
#include "base/log.h"
#include "base/parallel.h"
#include "base/system.h"

static pthread_once_t once = PTHREAD_ONCE_INIT;
static dnnl_engine_t engine; /* written once, under `once` */

static void make_engine(void)
{
    if (dnnl_engine_create(&engine, dnnl_cpu, 0) != dnnl_success) engine = NULL;
}

dnnl_engine_t sp_onednn_engine(void)
{
    pthread_once(&once, make_engine);
    sp_library_threads();
    if (!engine) sp_fail(SP_INTERNAL, "oneDNN has no CPU engine here");
    return engine;
}

void sp_onednn_limit_isa(sp_isa isa)
{
    const dnnl_cpu_isa_t limit[SP_ISA_COUNT] = {
        [SP_ISA_BASELINE] = dnnl_cpu_isa_sse41,
        [SP_ISA_AVX2] = dnnl_cpu_isa_avx2,
        [SP_ISA_AVX512] = dnnl_cpu_isa_avx512_core_vnni,
        [SP_ISA_AVX512_BF16] = sp_cpu_allows_amx() ? dnnl_cpu_isa_all : dnnl_cpu_isa_avx512_core_bf16,
    };
    /* ONEDNN_MAX_CPU_ISA may hold it lower still; setting "all" would lift that. */
    if (limit[isa] != dnnl_cpu_isa_all) dnnl_set_max_cpu_isa(limit[isa]);
}

void sp_onednn_name(char *out)
{
    static const struct {
        dnnl_cpu_isa_t isa;
        const char *name;
    } names[] = {
        {dnnl_cpu_isa_sse41, "sse41"},
        {dnnl_cpu_isa_avx, "avx"},
        {dnnl_cpu_isa_avx2, "avx2"},
        {dnnl_cpu_isa_avx2_vnni, "avx2_vnni"},
        {dnnl_cpu_isa_avx512_core, "avx512_core"},
        {dnnl_cpu_isa_avx512_core_vnni, "avx512_core_vnni"},
        {dnnl_cpu_isa_avx512_core_bf16, "avx512_core_bf16"},
        {dnnl_cpu_isa_avx512_core_amx, "avx512_core_amx"},
    };
    const dnnl_version_t *v = dnnl_version();
    dnnl_cpu_isa_t isa = dnnl_get_effective_cpu_isa();
    size_t i = 0, count = sizeof names / sizeof *names;
    while (i < count && names[i].isa != isa)
        i++;
    if (i < count)
        snprintf(out, SP_ONEDNN_NAME, "%d.%d.%d %s", v->major, v->minor, v->patch, names[i].name);
    else
        snprintf(out, SP_ONEDNN_NAME, "%d.%d.%d %#x", v->major, v->minor, v->patch, (unsigned)isa);
}

bool sp_cpu_uses_amx(void)
{
    return dnnl_get_effective_cpu_isa() == dnnl_cpu_isa_avx512_core_amx;
}

sp_status sp_onednn_check(dnnl_status_t status, const char *what)
{
    switch (status) {
    case dnnl_success:
        return SP_OK;
    case dnnl_out_of_memory:
        return sp_fail(SP_MEMORY, "out of memory in oneDNN for %s", what);
    case dnnl_unimplemented:
        return sp_fail(SP_UNSUPPORTED, "oneDNN has no implementation of %s here", what);
    case dnnl_invalid_arguments:
        return sp_fail(SP_INTERNAL, "oneDNN calls the arguments of %s invalid", what);
    default:
        return sp_fail(SP_INTERNAL, "oneDNN failed with status %d for %s", (int)status, what);
    }
}

bool sp_onednn_dtype(sp_dtype dtype, dnnl_data_type_t *out)
{
    switch (dtype) {
    case SP_F32:
        *out = dnnl_f32;
        return true;
    case SP_BF16:
        *out = dnnl_bf16;
        return true;
    default:
        return false;
    }
}

bool sp_onednn_reads(const sp_node *node, int i)
{
    dnnl_data_type_t unused;
    const sp_value *value = sp_onednn_optional(node, i);
    return !value || sp_onednn_dtype(value->dtype, &unused);
}

bool sp_onednn_not_empty(const sp_node *node)
{
    for (int i = 0; i < node->inputs; i++)
        if (node->in[i] && sp_shape_count(node->in[i]->shape) == 0) return false;
    return sp_shape_count(node->out[0]->shape) > 0;
}

static dnnl_memory_desc_t layout_of(sp_dtype dtype, int rank, const int64_t *dims,
                                    dnnl_format_tag_t tag)
{
    dnnl_memory_desc_t layout = {0};
    dnnl_data_type_t type = dnnl_data_type_undef;
    sp_onednn_dtype(dtype, &type);
    /* Invalid only for a rank or dtype that no caller has; the zero layout then makes the primitive
     * fail. */
    if (dnnl_memory_desc_init_by_tag(&layout, rank, dims, type, tag) != dnnl_success)
        layout = (dnnl_memory_desc_t){0};
    return layout;
}

dnnl_memory_desc_t sp_onednn_plain(sp_dtype dtype, int rank, const int64_t *dims)
{
    static const dnnl_format_tag_t tags[] = {dnnl_format_tag_undef, dnnl_a, dnnl_ab, dnnl_abc,
                                             dnnl_abcd};
    return layout_of(dtype, rank, dims, tags[rank]);
}

dnnl_memory_desc_t sp_onednn_strided(sp_dtype dtype, int rank, const int64_t *dims,
                                     const int64_t *strides)
{
    dnnl_memory_desc_t layout = {0};
    dnnl_dims_t all_dims = {0}, all_strides = {0};
    dnnl_data_type_t type = dnnl_data_type_undef;
    sp_onednn_dtype(dtype, &type);
    memcpy(all_dims, dims, (size_t)rank * sizeof *dims);
    memcpy(all_strides, strides, (size_t)rank * sizeof *strides);
    if (dnnl_memory_desc_init_by_strides(&layout, rank, all_dims, type, all_strides) !=
        dnnl_success)
        layout = (dnnl_memory_desc_t){0};
    return layout;
}

dnnl_memory_desc_t sp_onednn_nhwc(sp_dtype dtype, const sp_value *value)
{
    const int64_t *d = value->shape.dim;
    return layout_of(dtype, 4, (int64_t[]){d[0], d[3], d[1], d[2]}, dnnl_nhwc);
}

dnnl_memory_desc_t sp_onednn_any(sp_dtype dtype, int rank, const int64_t *dims)
{
    return layout_of(dtype, rank, dims, dnnl_format_tag_any);
}

/* Where the library has no memory for the code of a primitive it writes it to address 0. */
static sp_status check_memory(void)
{
    if (sp_has_memory(SP_RESERVE_BYTES)) return SP_OK;
    return sp_fail(SP_MEMORY, "out of memory: oneDNN needs up to %s for a primitive",
                   sp_bytes_text(SP_RESERVE_BYTES));
}

sp_status sp_onednn_make(const_dnnl_op_desc_t operation, dnnl_primitive_attr_t attributes,
                         const_dnnl_primitive_desc_t hint, sp_onednn_primitive *out,
                         dnnl_primitive_desc_t *keep)
{
    *out = (sp_onednn_primitive){0};
    if (keep) *keep = NULL;
    dnnl_engine_t on = sp_onednn_engine();
    if (!on) return SP_INTERNAL;
    SP_TRY(check_memory());
    dnnl_primitive_attr_t own = NULL;
    if (!attributes) {
        SP_TRY(sp_onednn_check(dnnl_primitive_attr_create(&own), "attributes"));
        attributes = own;
    }
    dnnl_primitive_desc_t descriptor = NULL;
    dnnl_status_t status =
        dnnl_primitive_attr_set_scratchpad_mode(attributes, dnnl_scratchpad_mode_user);
    if (status == dnnl_success)
        status = dnnl_primitive_desc_create(&descriptor, operation, attributes, on, hint);
    if (status == dnnl_success) status = dnnl_primitive_create(&out->primitive, descriptor);
    if (own) dnnl_primitive_attr_destroy(own);
    if (status != dnnl_success) {
        if (descriptor) dnnl_primitive_desc_destroy(descriptor);
        return sp_onednn_check(status, "a primitive");
    }
    out->scratchpad = *dnnl_primitive_desc_query_md(descriptor, dnnl_query_scratchpad_md, 0);
    out->scratch = dnnl_memory_desc_get_size(&out->scratchpad);
    if (keep)
        *keep = descriptor;
    else
        dnnl_primitive_desc_destroy(descriptor);
    return SP_OK;
}

sp_status sp_onednn_make_reorder(const dnnl_memory_desc_t *from, const dnnl_memory_desc_t *to,
                                 sp_onednn_primitive *out)
{
    *out = (sp_onednn_primitive){0};
    dnnl_engine_t on = sp_onednn_engine();
    if (!on) return SP_INTERNAL;
    SP_TRY(check_memory());
    dnnl_primitive_attr_t attributes;
    SP_TRY(sp_onednn_check(dnnl_primitive_attr_create(&attributes), "attributes"));
    dnnl_primitive_desc_t descriptor = NULL;
    dnnl_status_t status =
        dnnl_primitive_attr_set_scratchpad_mode(attributes, dnnl_scratchpad_mode_user);
    if (status == dnnl_success)
        status = dnnl_reorder_primitive_desc_create(&descriptor, from, on, to, on, attributes);
    if (status == dnnl_success) status = dnnl_primitive_create(&out->primitive, descriptor);
    dnnl_primitive_attr_destroy(attributes);
    if (status == dnnl_success) {
        out->scratchpad = *dnnl_primitive_desc_query_md(descriptor, dnnl_query_scratchpad_md, 0);
        out->scratch = dnnl_memory_desc_get_size(&out->scratchpad);
        sp_onednn_add(out, DNNL_ARG_FROM, from);
        sp_onednn_add(out, DNNL_ARG_TO, to);
    }
    if (descriptor) dnnl_primitive_desc_destroy(descriptor);
    return sp_onednn_check(status, "a reorder");
}

void sp_onednn_add(sp_onednn_primitive *primitive, int argument, const dnnl_memory_desc_t *layout)
{
    primitive->arguments[primitive->count].index = argument;
    primitive->arguments[primitive->count].layout = *layout;
    primitive->count++;
}

void sp_onednn_destroy(sp_onednn_primitive *primitive)
{
    if (primitive->primitive) dnnl_primitive_destroy(primitive->primitive);
    primitive->primitive = NULL;
}

/* Memory objects and streams are a few hundred bytes each and belong to one call, because a plan
 * runs in several threads at once. */
void sp_onednn_run(const sp_onednn_primitive *primitive, void *const *addresses, int output,
                   void *scratch)
{
    dnnl_exec_arg_t arguments[SP_ONEDNN_MAX_ARGUMENTS + 1];
    dnnl_stream_t stream = NULL;
    int made = 0, count = primitive->count;
    dnnl_status_t status =
        dnnl_stream_create(&stream, sp_onednn_engine(), dnnl_stream_default_flags);
    for (; status == dnnl_success && made < count; made++) {
        arguments[made].arg = primitive->arguments[made].index;
        status = dnnl_memory_create(&arguments[made].memory, &primitive->arguments[made].layout,
                                    engine, addresses[made]);
        if (status != dnnl_success) break;
    }
    if (status == dnnl_success && primitive->scratch > 0) {
        arguments[made].arg = DNNL_ARG_SCRATCHPAD;
        status =
            dnnl_memory_create(&arguments[made].memory, &primitive->scratchpad, engine, scratch);
        made += status == dnnl_success;
    }
    if (status == dnnl_success)
        status = dnnl_primitive_execute(primitive->primitive, stream, made, arguments);
    if (status == dnnl_success) status = dnnl_stream_wait(stream);
    for (int i = 0; i < made; i++)
        dnnl_memory_destroy(arguments[i].memory);
    if (stream) dnnl_stream_destroy(stream);
    if (status == dnnl_success) return;
    sp_log_warn("oneDNN failed with status %d while running a primitive", (int)status);
    memset(addresses[output], 0xff,
           dnnl_memory_desc_get_size(&primitive->arguments[output].layout));
}

static uint64_t mix(uint64_t hash, uint64_t value)
{
    hash = (hash ^ value) * 0x9e3779b97f4a7c15u;
    return hash ^ (hash >> 29);
}

uint64_t sp_onednn_layout_key(const dnnl_memory_desc_t *layout)
{
    const dnnl_blocking_desc_t *blocking = &layout->format_desc.blocking;
    uint64_t hash = mix(mix(1, (uint64_t)layout->data_type), (uint64_t)layout->format_kind);
    for (int i = 0; i < layout->ndims; i++) {
        hash = mix(mix(hash, (uint64_t)layout->dims[i]), (uint64_t)layout->padded_dims[i]);
        hash = mix(hash, (uint64_t)blocking->strides[i]);
    }
    for (int i = 0; i < blocking->inner_nblks; i++)
        hash = mix(mix(hash, (uint64_t)blocking->inner_blks[i]), (uint64_t)blocking->inner_idxs[i]);
    hash = mix(mix(hash, layout->extra.flags), (uint64_t)layout->extra.compensation_mask);
    return hash ? hash : 1;
}
