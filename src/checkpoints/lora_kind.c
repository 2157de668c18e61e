/* What adapters of each kind do to their layer's weight, as LyCORIS has it (Yeh et al. 2023). */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "checkpoints/lora_parts.h"

#define PART(name) SP_LORA_##name

/* ---- kinds and their parts ---- */

enum { MOST_PARTS = 8 };
/* Parts that an adapter of the kind may have beside alpha and a magnitude. */
static const struct {
    const char *name;
    sp_lora_part parts[MOST_PARTS]; /* all that follow the last one are 0, DOWN */
    int count;
} kinds[] = {
    [SP_ADAPTER_LORA] = {"LoRA", {PART(DOWN), PART(UP), PART(MID)}, 3},
    [SP_ADAPTER_LOHA] = {"LoHa",
                         {PART(HADA_W1_A), PART(HADA_W1_B), PART(HADA_W2_A), PART(HADA_W2_B), PART(HADA_T1),
                          PART(HADA_T2)},
                         6},
    [SP_ADAPTER_LOKR] = {"LoKr",
                         {PART(LOKR_W1), PART(LOKR_W1_A), PART(LOKR_W1_B), PART(LOKR_W2), PART(LOKR_W2_A),
                          PART(LOKR_W2_B), PART(LOKR_T2)},
                         7},
    [SP_ADAPTER_DIFF] = {"difference", {PART(DIFF), PART(DIFF_B)}, 2},
};
enum { KINDS = sizeof kinds / sizeof *kinds };

static bool has_part(int kind, int part)
{
    for (int i = 0; i < kinds[kind].count; i++)
        if ((int)kinds[kind].parts[i] == part) return true;
    return false;
}

static sp_status find_kind(const char *path, sp_layer_adapter *a)
{
    int found = -1, first = -1;
    for (int part = 0; part < SP_LORA_PARTS; part++)
        for (int kind = 0; kind < KINDS && a->part[part]; kind++) {
            if (!has_part(kind, part)) continue;
            if (found >= 0 && found != kind)
                return sp_fail(SP_FORMAT, "%s: \"%s\" has both %s and %s, of a %s and a %s", path, a->base,
                               sp_lora_part_name(first), sp_lora_part_name(part), kinds[found].name, kinds[kind].name);
            found = kind;
            first = part;
        }
    if (found < 0) return sp_fail(SP_FORMAT, "%s: \"%s\" has no %s half", path, a->base, "down");
    a->kind = (sp_adapter_kind)found;
    return SP_OK;
}

static sp_status fail_missing(const char *path, const sp_layer_adapter *a, sp_lora_part part)
{
    if (a->kind == SP_ADAPTER_LORA && part != SP_LORA_MID)
        return sp_fail(SP_FORMAT, "%s: \"%s\" has no %s half", path, a->base, part == SP_LORA_DOWN ? "down" : "up");
    return sp_fail(SP_FORMAT, "%s: \"%s\" has no %s, which a %s needs", path, a->base, sp_lora_part_name(part),
                   kinds[a->kind].name);
}

/* ---- shapes ---- */

static int64_t rows_of(const sp_tensor *tensor)
{
    return tensor->shape.dim[0];
}

/* The elements of a row; products of a tensor's dimensions are numbers, its reader has seen to that. */
static int64_t row_size(const sp_tensor *tensor)
{
    return rows_of(tensor) ? sp_tensor_count(tensor) / rows_of(tensor) : 0;
}

/* A matrix a b with, perhaps, a core between them: [O,r] [r,n], or with the core [r,s,K] in the order of LoRA [O,r]
 * [s,I], in that of the others [r,O] [s,I]. */
typedef struct {
    const sp_tensor *a, *b, *core;
    bool a_turned;
} factors;

/* NULL members: the kind has none there. */
static void factors_of(const sp_layer_adapter *a, factors out[2])
{
    const sp_tensor *const *p = a->part;
    memset(out, 0, 2 * sizeof *out);
    if (a->kind == SP_ADAPTER_LORA) {
        out[0] = (factors){p[PART(UP)], p[PART(DOWN)], p[PART(MID)], false};
    } else if (a->kind == SP_ADAPTER_LOHA) {
        out[0] = (factors){p[PART(HADA_W1_A)], p[PART(HADA_W1_B)], p[PART(HADA_T1)], p[PART(HADA_T1)] != NULL};
        out[1] = (factors){p[PART(HADA_W2_A)], p[PART(HADA_W2_B)], p[PART(HADA_T2)], p[PART(HADA_T2)] != NULL};
    } else if (a->kind == SP_ADAPTER_LOKR) {
        out[0] = (factors){p[PART(LOKR_W1_A)], p[PART(LOKR_W1_B)], NULL, false};
        out[1] = (factors){p[PART(LOKR_W2_A)], p[PART(LOKR_W2_B)], p[PART(LOKR_T2)], p[PART(LOKR_T2)] != NULL};
    }
}

static int64_t outputs_of(const factors *f)
{
    return f->a_turned ? row_size(f->a) : rows_of(f->a);
}

static bool ranks_agree(const factors *f)
{
    int64_t a = f->a_turned ? rows_of(f->a) : row_size(f->a), b = rows_of(f->b);
    if (a < 1 || b < 1 || outputs_of(f) < 1 || row_size(f->b) < 1) return false;
    if (!f->core) return a == b;
    return f->core->shape.rank > 2 && f->core->shape.dim[0] == a && f->core->shape.dim[1] == b;
}

static sp_status check_ranks(const char *path, const sp_layer_adapter *a)
{
    factors f[2];
    factors_of(a, f);
    for (int i = 0; i < 2; i++) {
        if (!f[i].a || ranks_agree(&f[i])) continue;
        return sp_fail(SP_SHAPE, "%s: \"%s\" has the %s %s and %s%s%s, which do not go together", path, a->base,
                       a->kind == SP_ADAPTER_LORA ? "halves" : "factors",
                       sp_shape_text(a->kind == SP_ADAPTER_LORA ? f[i].b->shape : f[i].a->shape),
                       sp_shape_text(a->kind == SP_ADAPTER_LORA ? f[i].a->shape : f[i].b->shape),
                       f[i].core ? ", between them " : "", f[i].core ? sp_shape_text(f[i].core->shape) : "");
    }
    return SP_OK;
}

static sp_status need(const char *path, const sp_layer_adapter *a, sp_lora_part part)
{
    return a->part[part] ? SP_OK : fail_missing(path, a, part);
}

/* w or w_a and w_b, and not both. */
static sp_status need_kron(const char *path, const sp_layer_adapter *a, sp_lora_part whole)
{
    const sp_lora_part first = (sp_lora_part)(whole + 1), second = (sp_lora_part)(whole + 2);
    if (!a->part[whole]) {
        SP_TRY(need(path, a, first));
        return need(path, a, second);
    }
    if (!a->part[first] && !a->part[second]) return SP_OK;
    return sp_fail(SP_FORMAT, "%s: \"%s\" has both %s and its factors", path, a->base, sp_lora_part_name(whole));
}

static sp_status check_parts(const char *path, const sp_layer_adapter *a)
{
    if (a->kind == SP_ADAPTER_LORA) {
        SP_TRY(need(path, a, SP_LORA_DOWN));
        return need(path, a, SP_LORA_UP);
    }
    if (a->kind == SP_ADAPTER_LOHA) {
        for (int i = 0; i < 4; i++)
            SP_TRY(need(path, a, kinds[SP_ADAPTER_LOHA].parts[i]));
        if (a->part[PART(HADA_T1)] || a->part[PART(HADA_T2)]) {
            SP_TRY(need(path, a, PART(HADA_T1)));
            return need(path, a, PART(HADA_T2));
        }
    }
    if (a->kind == SP_ADAPTER_LOKR) {
        SP_TRY(need_kron(path, a, PART(LOKR_W1)));
        SP_TRY(need_kron(path, a, PART(LOKR_W2)));
        if (a->part[PART(LOKR_T2)]) return need(path, a, PART(LOKR_W2_A));
    }
    return SP_OK;
}

sp_status sp_layer_adapter_check(const char *path, sp_layer_adapter *a)
{
    SP_TRY(find_kind(path, a));
    SP_TRY(check_parts(path, a));
    SP_TRY(check_ranks(path, a));
    if (a->part[PART(DORA_SCALE)] && a->part[PART(MAGNITUDE)])
        return sp_fail(SP_FORMAT, "%s: \"%s\" has both a dora_scale and a lora_magnitude_vector", path, a->base);
    if (a->kind == SP_ADAPTER_DIFF && (a->part[PART(DORA_SCALE)] || a->part[PART(MAGNITUDE)]))
        return sp_fail(SP_FORMAT, "%s: \"%s\" has a magnitude and no factors", path, a->base);
    return SP_OK;
}

double sp_layer_adapter_scale(const sp_layer_adapter *a)
{
    factors f[2];
    factors_of(a, f);
    const sp_tensor *b = f[0].a ? f[0].b : f[1].b;
    if (!b || isnan(a->alpha)) return 1;
    double rank = (double)rows_of(b);
    return a->alpha / (a->root_scale ? sqrt(rank) : rank);
}

/* ---- whether they fit a weight ---- */

typedef struct {
    int64_t O, I, K;
} layer_shape;

static layer_shape shape_of(sp_shape weight)
{
    layer_shape s = {weight.dim[0], weight.rank > 1 ? weight.dim[1] : 1, 1};
    for (int i = 2; i < weight.rank; i++)
        s.K *= weight.dim[i];
    return s;
}

/* Whether a and b, with the core, make a matrix [O,I,K]. */
static bool factors_fit(const factors *f, layer_shape s)
{
    if (outputs_of(f) != s.O) return false;
    if (!f->core) return row_size(f->b) == s.I * s.K;
    return row_size(f->b) == s.I && sp_tensor_count(f->core) == f->core->shape.dim[0] * f->core->shape.dim[1] * s.K;
}

/* w1's shape tells w2's. */
static bool kron_fits(const sp_layer_adapter *a, const factors f[2], layer_shape s)
{
    const sp_tensor *w1 = a->part[PART(LOKR_W1)], *w2 = a->part[PART(LOKR_W2)];
    int64_t O1 = w1 ? rows_of(w1) : outputs_of(&f[0]), I1 = w1 ? row_size(w1) : row_size(f[0].b);
    if (O1 < 1 || I1 < 1 || s.O % O1 || s.I % I1) return false;
    const layer_shape rest = {s.O / O1, s.I / I1, s.K};
    return w2 ? rows_of(w2) == rest.O && row_size(w2) == rest.I * rest.K : factors_fit(&f[1], rest);
}

static bool magnitude_fits(const sp_layer_adapter *a, layer_shape s)
{
    const sp_tensor *rows = a->part[PART(MAGNITUDE)], *m = a->part[PART(DORA_SCALE)];
    if (rows) return sp_tensor_count(rows) == s.O;
    if (!m) return true;
    bool of_rows = m->shape.rank > 0 && m->shape.dim[0] == s.O && sp_tensor_count(m) == s.O;
    return of_rows ||
           (m->shape.rank > 1 && m->shape.dim[0] == 1 && m->shape.dim[1] == s.I && sp_tensor_count(m) == s.I);
}

static bool fits(const sp_layer_adapter *a, sp_shape weight)
{
    factors f[2];
    factors_of(a, f);
    layer_shape s = shape_of(weight);
    if (!magnitude_fits(a, s)) return false;
    if (a->kind == SP_ADAPTER_DIFF) {
        const sp_tensor *diff = a->part[PART(DIFF)];
        return !diff || sp_shape_equal(sp_without_ones(diff->shape), sp_without_ones(weight));
    }
    if (weight.rank < 2) return false;
    if (a->kind == SP_ADAPTER_LOKR) return kron_fits(a, f, s);
    if (a->kind == SP_ADAPTER_LORA && !f[0].core) {
        sp_shape down = f[0].b->shape;
        down.dim[0] = s.O;
        return rows_of(f[0].a) == s.O && sp_shape_equal(sp_without_ones(down), sp_without_ones(weight));
    }
    return factors_fit(&f[0], s) && (a->kind != SP_ADAPTER_LOHA || factors_fit(&f[1], s));
}

/* dora_scale [1,I,..] */
static bool has_columns(const sp_layer_adapter *a)
{
    const sp_tensor *m = a->part[PART(DORA_SCALE)];
    return m && m->shape.rank > 1 && m->shape.dim[0] == 1;
}

sp_status sp_layer_adapter_fits(const char *path, const sp_layer_adapter *a, const char *name, sp_shape weight,
                                int pieces)
{
    if (pieces > 1 && has_columns(a))
        return sp_fail(SP_UNSUPPORTED, "%s: \"%s\" has a dora_scale of columns, which is not supported for a layer "
                       "that the model has in pieces", path, a->base);
    if (fits(a, weight)) return SP_OK;
    sp_string parts = {0};
    for (int i = 0; i < SP_LORA_PARTS; i++)
        if (a->part[i])
            sp_string_append_format(&parts, "%s%s %s", parts.length ? ", " : "", sp_lora_part_name(i),
                                    sp_shape_text(a->part[i]->shape));
    sp_status status = sp_fail(SP_SHAPE, "%s: \"%s\" has %s, and the model's \"%s\" is %s: the LoRA is of another "
                               "model", path, a->base, sp_string_text(&parts), name, sp_shape_text(weight));
    sp_string_free(&parts);
    return status;
}

/* ---- arithmetic ---- */

/* [n,a,b] to [n,b,a]; of any float type to f32, new. */
static sp_status turned(const sp_tensor *from, int64_t n, int64_t a, int64_t b, sp_tensor *out)
{
    SP_TRY(sp_tensor_create(SP_F32, sp_shape_of(n * b, a), out));
    float *to = out->data;
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < b; k++)
            for (int64_t j = 0; j < a; j++)
                *to++ = (float)sp_load(from->data, from->dtype, (i * a + j) * b + k);
    return SP_OK;
}

static sp_tensor as_matrix(const sp_tensor *tensor, int64_t rows)
{
    sp_tensor view = *tensor;
    view.owned = false;
    view.shape = sp_shape_of(rows, sp_tensor_count(tensor) / rows);
    return view;
}

/* a core b: ((a core) [O,s,K], turned to [O K,s], times b [s,I]), turned to [O,I,K]. */
static sp_status product_with_core(sp_device *device, const factors *f, layer_shape s, sp_tensor *out)
{
    int64_t r = f->core->shape.dim[0], columns = f->core->shape.dim[1];
    sp_tensor a = {0}, first = {0}, turned_first = {0}, second = {0}, core = as_matrix(f->core, r),
              b = as_matrix(f->b, columns);
    sp_status status = SP_OK;
    if (f->a_turned)
        status = turned(f->a, 1, r, s.O, &a);
    else
        a = as_matrix(f->a, s.O);
    if (!status) status = sp_tensor_create(SP_F32, sp_shape_of(s.O, columns * s.K), &first);
    if (!status) status = sp_lora_add_product(device, &a, &core, 1, &first);
    if (!status) status = turned(&first, s.O, columns, s.K, &turned_first);
    if (!status) status = sp_tensor_create(SP_F32, sp_shape_of(s.O * s.K, s.I), &second);
    if (!status) status = sp_lora_add_product(device, &turned_first, &b, 1, &second);
    if (!status) status = turned(&second, s.O, s.K, s.I, out);
    sp_tensor_free(&a);
    sp_tensor_free(&first);
    sp_tensor_free(&turned_first);
    sp_tensor_free(&second);
    return status;
}

/* a b or a core b, new, f32 [O,I,K] with the elements in that order. */
static sp_status product_of(sp_device *device, const factors *f, layer_shape s, sp_tensor *out)
{
    if (f->core) return product_with_core(device, f, s, out);
    SP_TRY(sp_tensor_create(SP_F32, sp_shape_of(s.O, s.I * s.K), out));
    sp_status status = sp_lora_add_product(device, f->a, f->b, 1, out);
    if (status) sp_tensor_free(out);
    return status;
}

static sp_status factor_of(sp_device *device, const sp_tensor *whole, const factors *f, layer_shape s, sp_tensor *out)
{
    return whole ? sp_tensor_convert(whole, SP_F32, out) : product_of(device, f, s, out);
}

/* to[(i O2 + p), (j I2 + q), k] = w1[i,j] w2[p,q,k] */
static void kron(const float *w1, const float *w2, layer_shape one, layer_shape two, float *to)
{
    for (int64_t i = 0; i < one.O; i++)
        for (int64_t p = 0; p < two.O; p++)
            for (int64_t j = 0; j < one.I; j++)
                for (int64_t q = 0; q < two.I * two.K; q++)
                    *to++ = w1[i * one.I + j] * w2[p * two.I * two.K + q];
}

static sp_status kron_of(const sp_layer_adapter *a, sp_device *device, const factors f[2], layer_shape s,
                         sp_tensor *out)
{
    const sp_tensor *whole = a->part[PART(LOKR_W1)];
    layer_shape one = {whole ? rows_of(whole) : outputs_of(&f[0]), whole ? row_size(whole) : row_size(f[0].b), 1};
    layer_shape two = {s.O / one.O, s.I / one.I, s.K};
    sp_tensor w1 = {0}, w2 = {0};
    sp_status status = factor_of(device, whole, &f[0], one, &w1);
    if (!status) status = factor_of(device, a->part[PART(LOKR_W2)], &f[1], two, &w2);
    if (!status) status = sp_tensor_create(SP_F32, sp_shape_of(s.O, s.I * s.K), out);
    if (!status) kron(w1.data, w2.data, one, two, out->data);
    sp_tensor_free(&w1);
    sp_tensor_free(&w2);
    return status;
}

/* What is added, but for s. */
static sp_status delta_of(const sp_layer_adapter *a, sp_device *device, layer_shape s, sp_tensor *out)
{
    factors f[2];
    factors_of(a, f);
    if (a->kind == SP_ADAPTER_DIFF) return sp_tensor_convert(a->part[PART(DIFF)], SP_F32, out);
    if (a->kind == SP_ADAPTER_LOKR) return kron_of(a, device, f, s, out);
    SP_TRY(product_of(device, &f[0], s, out));
    if (a->kind == SP_ADAPTER_LORA) return SP_OK;
    sp_tensor second = {0};
    sp_status status = product_of(device, &f[1], s, &second);
    for (int64_t i = 0; !status && i < sp_tensor_count(out); i++)
        ((float *)out->data)[i] *= ((float *)second.data)[i];
    sp_tensor_free(&second);
    if (status) sp_tensor_free(out);
    return status;
}

static void add_scaled(const float *from, int64_t count, double scale, float *to)
{
    for (int64_t i = 0; i < count; i++)
        to[i] += (float)scale * from[i];
}

/* m / (|V| + eps) of every row or column of V = weight + s delta, which `delta` holds; *of_rows says which they are.
 * `first` is the row of the layer that V begins with. */
static sp_status magnitudes(const sp_layer_adapter *a, const float *v, layer_shape s, int64_t first, bool *of_rows,
                            double **out)
{
    const sp_tensor *m = a->part[PART(MAGNITUDE)] ? a->part[PART(MAGNITUDE)] : a->part[PART(DORA_SCALE)];
    *of_rows = !has_columns(a) || s.O == 1;
    int64_t count = *of_rows ? s.O : s.I;
    *out = sp_alloc_zero((size_t)count * sizeof **out);
    if (!*out) return SP_MEMORY;
    for (int64_t i = 0; i < s.O * s.I * s.K; i++)
        (*out)[*of_rows ? i / (s.I * s.K) : i / s.K % s.I] += (double)v[i] * (double)v[i];
    for (int64_t i = 0; i < count; i++)
        (*out)[i] = sp_load(m->data, m->dtype, first + i) / (sqrt((*out)[i]) + 0x1p-23);
    return SP_OK;
}

static sp_status decompose(const sp_layer_adapter *a, float *v, layer_shape s, int64_t first, double multiplier,
                           sp_tensor *weight)
{
    float *w = weight->data;
    double *scale, factor = sp_layer_adapter_scale(a);
    bool of_rows;
    for (int64_t i = 0; i < s.O * s.I * s.K; i++)
        v[i] = w[i] + (float)factor * v[i];
    SP_TRY(magnitudes(a, v, s, first, &of_rows, &scale));
    for (int64_t i = 0; i < s.O * s.I * s.K; i++) {
        double whole = (double)v[i] * scale[of_rows ? i / (s.I * s.K) : i / s.K % s.I];
        w[i] = (float)((double)w[i] + multiplier * (whole - (double)w[i]));
    }
    sp_free(scale);
    return SP_OK;
}

/* The rows of a piece. */
static sp_tensor rows_of_piece(const sp_tensor *whole, sp_layer_piece piece)
{
    sp_tensor view = *whole;
    view.owned = false;
    view.shape.dim[0] /= piece.parts;
    view.data = (char *)whole->data + (size_t)piece.part * sp_tensor_bytes(&view);
    return view;
}

sp_status sp_layer_adapter_apply(const sp_layer_adapter *a, sp_device *device, double multiplier, sp_layer_piece piece,
                                 sp_tensor *weight)
{
    bool scaled = a->part[PART(DORA_SCALE)] || a->part[PART(MAGNITUDE)];
    double factor = multiplier * sp_layer_adapter_scale(a);
    layer_shape s = shape_of(weight->shape), whole = {piece.parts * s.O, s.I, s.K};
    if (a->kind == SP_ADAPTER_LORA && !a->part[PART(MID)] && !scaled) {
        const sp_tensor up = rows_of_piece(a->part[PART(UP)], piece);
        return sp_lora_add_product(device, &up, a->part[PART(DOWN)], factor, weight);
    }
    sp_tensor delta = {0};
    SP_TRY(delta_of(a, device, whole, &delta));
    sp_status status = SP_OK;
    float *own = (float *)delta.data + piece.part * s.O * s.I * s.K;
    if (scaled)
        status = decompose(a, own, s, piece.part * s.O, multiplier, weight);
    else
        add_scaled(own, s.O * s.I * s.K, factor, weight->data);
    sp_tensor_free(&delta);
    return status;
}

void sp_layer_adapter_apply_bias(const sp_layer_adapter *a, double multiplier, sp_layer_piece piece, sp_tensor *bias)
{
    const sp_tensor *diff = a->part[PART(DIFF_B)];
    int64_t count = sp_tensor_count(bias), first = piece.part * count;
    for (int64_t i = 0; i < count; i++)
        ((float *)bias->data)[i] += (float)(multiplier * sp_load(diff->data, diff->dtype, first + i));
}
