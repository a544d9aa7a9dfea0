/* The number type of the files that are compiled twice, *_tmpl.c: as fp32 (what runs) and, with
 * MIXT_REAL_DOUBLE, as fp64 (what gradient checks and reference values are computed with).
 * MIXT_REAL(name) is name_f32 or name_f64. A *_tmpl.h header is for these files, or
 * for a plain header that includes it once for each precision. */
#ifndef MIXT_CORE_REAL_H
#define MIXT_CORE_REAL_H

#include <float.h>
#include <math.h>

#ifdef MIXT_REAL_DOUBLE
typedef double real;
#define MIXT_REAL_SUFFIX f64
#define MIXT_REAL(name) name##_f64
#define MIXT_REAL_MAX DBL_MAX
#define MIXT_FMA(a, b, c) fma(a, b, c)
#define MIXT_SQRT(x) sqrt(x)
#else
typedef float real;
#define MIXT_REAL_SUFFIX f32
#define MIXT_REAL(name) name##_f32
#define MIXT_REAL_MAX FLT_MAX
#define MIXT_FMA(a, b, c) fmaf(a, b, c)
#define MIXT_SQRT(x) sqrtf(x)
#endif

#endif
