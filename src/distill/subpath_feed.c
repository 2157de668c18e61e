/* Feeding where the teacher's sub-paths end: from a file, or by the teacher, for the file. */
#include "distill/distill_feed.h"
#include <string.h>
#include <xxhash.h>

sp_status sp_subpath_feed_create(sp_distill_feed *f, const sp_pipeline *teacher, const sp_step_shape *s)
{
    f->teacher_hash = sp_component_hash(teacher->denoiser);
    SP_TRY(sp_tensor_create(SP_F32, sp_shape_of(s->batch, s->channels, s->height, s->width), &f->z_end));
    if (f->options->given.dry_run) return SP_OK;
    return sp_subpath_file_open(f->options->given.sub_paths, sp_tensor_count(&f->z_end), &f->subpaths);
}

void sp_subpath_feed_free(sp_distill_feed *f)
{
    sp_tensor_free(&f->z_end);
    sp_subpath_file_close(f->subpaths);
}

/* ---- what the teacher is given ---- */

static uint64_t hash_tensor(uint64_t hash, const sp_tensor *tensor)
{
    return XXH3_64bits_withSeed(tensor->data, sp_tensor_bytes(tensor), hash);
}

static uint64_t hash_conditioning(uint64_t hash, const sp_conditioning *set)
{
    for (int i = 0; i < set->count; i++)
        hash = hash_tensor(hash, &set->item[i].tensor);
    return hash;
}

static uint64_t hash_number(uint64_t hash, double number)
{
    return XXH3_64bits_withSeed(&number, sizeof number, hash);
}

static uint64_t hash_coefficients(uint64_t hash, const sp_objective_settings *now, const sp_coefficients *c)
{
#define X(name) hash = hash_number(hash, c->name);
    SP_START_COEFFICIENT_LIST(X)
#undef X
    for (int j = 0; j < now->solver_steps; j++) {
#define X(name) hash = hash_number(hash, c->name[j]);
        SP_SOLVER_COEFFICIENT_LIST(X)
        SP_GUIDED_COEFFICIENT_LIST(X)
#undef X
    }
    return hash;
}

/* Everything that z_end is made of, so that no list of flags has to say which runs share a file. */
static uint64_t given_of(const sp_distill_feed *f, const sp_objective_settings *now)
{
    uint64_t hash = XXH3_64bits_withSeed(&f->options->precision, sizeof f->options->precision, f->teacher_hash);
    hash = hash_tensor(hash, &f->x0);
    hash = hash_tensor(hash, &f->noise);
    hash = hash_conditioning(hash, &f->conditioning);
    if (sp_objective_is_guided(now)) hash = hash_conditioning(hash, &f->negative);
    for (int64_t i = 0; i < f->x0.shape.dim[0]; i++)
        hash = hash_coefficients(hash, now, &f->coefficients[i]);
    return hash;
}

/* ---- the teacher ---- */

static sp_status solve(sp_distill_feed *f, const sp_objective_settings *now)
{
    sp_tensor end = {0};
    SP_TRY(sp_run_set_input(f->ahead, "x0", &f->x0));
    SP_TRY(sp_run_set_input(f->ahead, "noise", &f->noise));
    SP_TRY(sp_conditioning_set(f->ahead, "", &f->conditioning));
    if (sp_objective_is_guided(now)) SP_TRY(sp_conditioning_set(f->ahead, "negative.", &f->negative));
    SP_TRY(sp_objective_set_solver(f->ahead, now, f->coefficients, f->x0.shape.dim[0]));
    SP_TRY(sp_run_execute(f->ahead, f->callbacks));
    SP_TRY(sp_run_get_output(f->ahead, "z_end", &end));
    memcpy(f->z_end.data, end.data, sp_tensor_bytes(&f->z_end));
    sp_tensor_free(&end);
    return SP_OK;
}

sp_status sp_subpath_feed_run(sp_distill_feed *f, const sp_objective_settings *now, sp_run *run, int64_t micro)
{
    bool found = false;
    uint64_t given = given_of(f, now);
    if (f->subpaths) SP_TRY(sp_subpath_file_read(f->subpaths, micro, given, f->z_end.data, &found));
    if (!found) SP_TRY(solve(f, now));
    if (!found && f->subpaths) SP_TRY(sp_subpath_file_write(f->subpaths, micro, given, f->z_end.data));
    return sp_run_set_input(run, "z_end", &f->z_end);
}
