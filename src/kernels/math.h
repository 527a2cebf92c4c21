/* RN1's own elementary functions: polynomials in fma, the same bits everywhere. No libm function is used in a
 * defined operation. Coefficients and the maximal error over all f32 inputs: docs/RN1.md section 3. */
#ifndef FS_KERNELS_MATH_H
#define FS_KERNELS_MATH_H

/* f32: exp(0) = 1 exactly; below the underflow bound +0, above the overflow bound +inf; NaN in, NaN out. */
float fs_expf(float x);
float fs_logf(float x);   /* log(0) = -inf, log(x < 0) = NaN, log(1) = 0 */
float fs_log1pf(float x); /* x > -1 */
float fs_sinf(float x);   /* |x| <= 2^21; NaN beyond */
float fs_cosf(float x);
float fs_erff(float x);

/* binary64, for constants, tables and schedules. */
double fs_exp64(double x);
double fs_log64(double x);
double fs_log1p64(double x);
void fs_sincos64(double x, double *ret_sin, double *ret_cos); /* |x| <= 2^21 radians */
double fs_pow64(double x, double y); /* x > 0: exp(y * log(x)) with enough guard bits for rope frequencies; accuracy stated in docs */

#endif
