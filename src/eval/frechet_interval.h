/* The interval of a Frechet distance: plus and minus 1.96 standard deviations.
 *
 * To first order a row moves the distance by its influence, the derivative of the distance of two normal distributions
 * by one of them (Rippl, Munk & Sturm 2016, "Limit laws of the empirical Wasserstein distance: Gaussian
 * distributions"). With z = x - mu_a, delta = mu_a - mu_b, and T what takes one covariance to the other, T C_a T = C_b,
 *
 *   f(x) = 2 delta.z + z.z - z.T z   of a; of b with -delta and the inverse of T,
 *
 * and the variance of the distance is the sum of var(f)/count over both sides (the infinitesimal jackknife). Where the
 * distributions are nearly the same, f is nearly constant, and what is left is of second order. In coordinates w of z
 * in which C_a is 1 and T is diag(s), with those of b in which C_b is 1, errors e of the means and E of the covariances
 * move the distance by
 *
 *   |e_a - e_b|^2 + 1/2 sum_ij c_ij (E_a - E_b)_ij^2,   c_ij = s_i s_j / (s_i + s_j),
 *
 * a sum over pairs of rows of g = z.z' + 1/2 (u.c u - sum_i c_ii (w_i^2 + w'_i^2 - 1)), u_i = w_i w'_i. Its variance,
 * 2 mean(g^2)/count^2 of a side and 4 mean(g^2)/(count_a count_b) of both, is in the first-order estimate twice, for
 * that is taken where the errors are made (Efron & Stein 1981, "The jackknife estimate of variance"; in a bootstrap's
 * it is three times), and once in the truth: means over drawn pairs are taken off, down to half of the estimate, below
 * which no truth lies. A side that is a normal distribution alone is taken for exact.
 *
 * Directions without variance are left out. No distance is measured again: two decompositions, and products of rows. */
#ifndef SP_EVAL_FRECHET_INTERVAL_H
#define SP_EVAL_FRECHET_INTERVAL_H
#include "base/progress.h"
#include "eval/frechet.h"
#include "eval/interval.h"

/* SP_ARGUMENT if neither side has features; SP_CANCELLED; errors of distances. */
sp_status sp_frechet_interval(const sp_frechet_side *a, const sp_frechet_side *b, double distance,
                              const sp_callbacks *callbacks, sp_interval *out);

#endif
