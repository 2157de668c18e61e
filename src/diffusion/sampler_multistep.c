/* Samplers that look back at the estimates of x0 of earlier steps: DPM-Solver++ and UniPC. With lambda =
 * -log(ratio) a step goes from lambda to lambda + h. */
#include <math.h>
#include "diffusion/sampler_parts.h"

/* lambda of point i less lambda of point j. */
static double lambda_between(const sp_sampler_grid *grid, int j, int i)
{
    return log(grid->point[j].ratio / grid->point[i].ratio);
}

/* The estimate that was made `back` steps ago lies in kept[slot + back - 1]; 0 is this one's. */
static sp_combination estimate_of(const sp_combination *x0, int slot, int back)
{
    sp_combination old = {0};
    if (back == 0) return *x0;
    old.kept[slot + back - 1] = 1;
    return old;
}

/* This estimate and those before it, for the steps to come. */
static void keep_estimates(const sp_sampler_grid *grid, int i, const sp_combination *x0, int slot, int count,
                           sp_sampler_step *row)
{
    for (int back = 0; back < count && back <= i - grid->first; back++)
        row->keep[slot + back] = estimate_of(x0, slot, back);
}

/* How many earlier estimates lie at a finite distance: a flow's first does not. */
static int known_before(const sp_sampler_grid *grid, int i)
{
    int known = i - grid->first;
    return known > 0 && !isfinite(grid->point[grid->first].ratio) ? known - 1 : known;
}

/* ---- DPM-Solver++ ---- */

/* As diffusers: lower in the first steps, which have less to look back at, and in the last ones. */
static int dpm_order(const sp_sampler_grid *grid, int i)
{
    const sp_scheduler_config *config = grid->config;
    int order = config->solver_order, known = known_before(grid, i), left = grid->steps - i;
    bool few = config->lower_order_final && grid->steps < 15;
    if (order > known + 1) order = known + 1;
    if (left == 1 && (!config->final_sigma_min || config->euler_at_final || few)) order = 1;
    return left == 2 && few && order > 2 ? 2 : order;
}

/* Weights of the divided differences of the estimates of x0: g D0 + d1 D1 + d2 D2. x is h, or for the
 * stochastic equation 2h, and end = e^-x. */
typedef struct {
    double g, d1, d2;
} dpm_weights;

static dpm_weights weigh(const sp_scheduler_config *config, int order, double alpha, double end, double x)
{
    dpm_weights w = {.g = alpha * (1 - end)};
    w.d1 = 0.5 * w.g; /* midpoint */
    if (order == 3 || config->solver_heun) w.d1 = alpha * (1 - (1 - end) / x);
    if (order == 3) w.d2 = alpha * ((1 - end - x) / (x * x) + 0.5);
    return w;
}

/* D1 and D2 from estimates at unequal distances: D1_0 = (m0 - m1)/r0, D1_1 = (m1 - m2)/r1, r in units of
 * h; order 2: D1 = D1_0; order 3: D1 = D1_0 + r0/(r0 + r1) (D1_0 - D1_1), D2 = (D1_0 - D1_1)/(r0 + r1).
 * Their weights, spread over m0, m1, m2. */
static void spread_weights(const sp_sampler_grid *grid, int i, int order, dpm_weights w, double *out)
{
    out[0] = w.g;
    out[1] = out[2] = 0;
    if (order == 1) return;
    double h = lambda_between(grid, i, i + 1), h0 = lambda_between(grid, i - 1, i), first = w.d1;
    if (order == 3) {
        double h1 = lambda_between(grid, i - 2, i - 1), second = w.d1 * h0 / (h0 + h1) + w.d2 * h / (h0 + h1);
        first += second;
        out[1] = -second * h / h1;
        out[2] = second * h / h1;
    }
    out[0] += first * h / h0;
    out[1] -= first * h / h0;
}

/* z' = (sigma'/sigma) z + alpha' (1 - e^-h) D0 + ...; of the stochastic equation z' = (sigma'/sigma) e^-h z +
 * alpha' (1 - e^-2h) D0 + ... + sigma' sqrt(1 - e^-2h) fresh. */
int sp_dpm_rows(const sp_sampler_grid *grid, int i, sp_sampler_step *row)
{
    const sp_grid_point *p = &grid->point[i], *end = p + 1;
    bool sde = grid->options->kind == SP_SAMPLER_DPMPP_2M_SDE;
    int order = dpm_order(grid, i);
    double decay = end->ratio / p->ratio; /* e^-h; 0 where the last step ends without noise */
    double h = order > 1 ? lambda_between(grid, i, i + 1) : 0, weight[SP_SAMPLER_KEPT];
    dpm_weights w = weigh(grid->config, order, end->to.alpha, sde ? decay * decay : decay, sde ? 2 * h : h);
    sp_combination x0 = sp_sampler_estimates(grid, p->at).x0;
    spread_weights(grid, i, order, w, weight);
    row->next.z = end->to.sigma / p->at.sigma * (sde ? decay : 1);
    for (int back = 0; back < order; back++) {
        sp_combination estimate = estimate_of(&x0, 0, back);
        sp_combination_add(&row->next, weight[back], &estimate);
    }
    if (sde) row->next.fresh = end->to.sigma * sqrt(1 - decay * decay);
    keep_estimates(grid, i, &x0, 0, grid->config->solver_order - 1, row);
    return 1;
}

/* ---- UniPC ---- */

enum { UNIPC_ORDERS = SP_MOST_ORDERS };

/* Solves the system of `n` equations sum_k r[k]^j x[k] = b[j]; the r are distinct. */
static void solve_powers(int n, const double *r, const double *b, double *x)
{
    double a[UNIPC_ORDERS][UNIPC_ORDERS + 1];
    for (int j = 0; j < n; j++) {
        for (int k = 0; k < n; k++)
            a[j][k] = pow(r[k], j);
        a[j][n] = b[j];
    }
    for (int j = 0; j < n; j++)
        for (int i = 0; i < n; i++) {
            double factor = i == j ? 0 : a[i][j] / a[j][j];
            for (int k = j; k <= n; k++)
                a[i][k] -= factor * a[j][k];
        }
    for (int j = 0; j < n; j++)
        x[j] = a[j][n] / a[j][j];
}

/* What a step of that order from point i is made of: z' = ratio z + gain m0 - scale (sum_k rho[k] (m_k - m0)/r[k]),
 * m_k the estimate k+1 steps back; for the corrector rho[order - 1] goes with the estimate at the end, r = 1. */
typedef struct {
    int order;
    double ratio, gain, scale;
    double r[UNIPC_ORDERS], predict[UNIPC_ORDERS], correct[UNIPC_ORDERS];
} unipc_step;

/* b[j] = (j + 1)! h phi_{j+2}(-h)/B(h), as the paper's phi_k. */
static void set_right_side(double hh, double scale, double *b)
{
    double phi = expm1(hh) / hh - 1, factorial = 1;
    for (int j = 0; j < UNIPC_ORDERS; j++) {
        b[j] = phi * factorial / scale;
        factorial *= j + 2;
        phi = phi / hh - 1 / factorial;
    }
}

static unipc_step unipc_make(const sp_sampler_grid *grid, int i, int order)
{
    const sp_grid_point *p = &grid->point[i], *end = p + 1;
    double decay = end->ratio / p->ratio, b[UNIPC_ORDERS];
    unipc_step s = {.order = order, .ratio = end->at.sigma / p->at.sigma, .gain = end->at.alpha * (1 - decay)};
    s.predict[0] = s.correct[0] = 0.5;
    s.r[order - 1] = 1;
    if (end->ratio == 0) return s; /* first order, and nothing comes after it that would correct it */
    double h = lambda_between(grid, i, i + 1);
    double big = grid->config->solver_bh1 ? -h : decay - 1; /* B(h) */
    s.scale = end->at.alpha * big;
    for (int k = 0; k < order - 1; k++)
        s.r[k] = lambda_between(grid, i, i - k - 1) / h;
    set_right_side(-h, big, b);
    if (order > 2) solve_powers(order - 1, s.r, b, s.predict);
    if (order > 1) solve_powers(order, s.r, b, s.correct);
    return s;
}

/* z', with z and the estimates in terms of the row; what the corrector adds of the estimate to come is left out. */
static void add_step(const unipc_step *s, const double *rho, const sp_combination *z, const sp_combination *x0,
                     sp_combination *to)
{
    sp_combination_add(to, s->ratio, z);
    sp_combination_add(to, s->gain, x0);
    for (int k = 0; k < s->order - 1; k++) {
        sp_combination old = estimate_of(x0, 1, k + 1);
        sp_combination_add(to, -s->scale * rho[k] / s->r[k], &old);
        sp_combination_add(to, s->scale * rho[k] / s->r[k], x0);
    }
}

static int unipc_order(const sp_sampler_grid *grid, int i)
{
    int order = grid->config->solver_order, known = known_before(grid, i), left = grid->steps - i;
    if (grid->config->lower_order_final && order > left) order = left;
    return order > known + 1 ? known + 1 : order;
}

/* kept[0] is the step before, corrected, but for the estimate made now; kept[1..] earlier estimates. */
int sp_unipc_rows(const sp_sampler_grid *grid, int i, sp_sampler_step *row)
{
    const sp_grid_point *p = &grid->point[i];
    sp_combination x0 = sp_sampler_estimates(grid, p->at).x0, z = {.z = 1};
    if (i > grid->first) {
        unipc_step last = unipc_make(grid, i - 1, unipc_order(grid, i - 1));
        z = (sp_combination){.kept[0] = 1};
        sp_combination_add(&z, -last.scale * last.correct[last.order - 1], &x0);
    }
    unipc_step s = unipc_make(grid, i, unipc_order(grid, i));
    add_step(&s, s.predict, &z, &x0, &row->next);
    keep_estimates(grid, i, &x0, 1, grid->config->solver_order - 1, row);
    if (i + 1 == grid->steps) return 1;
    add_step(&s, s.correct, &z, &x0, &row->keep[0]);
    sp_combination_add(&row->keep[0], s.scale * s.correct[s.order - 1], &x0);
    return 1;
}
