/* Operators, routers and the scalar kernels are compiled twice: as fp32 (what runs) and as fp64
 * (what gradient checks and reference values are computed with). MIXT_REAL(name) is name_f32 or
 * name_f64; `real` is the number type. */
#ifndef MIXT_CORE_REAL_H
#define MIXT_CORE_REAL_H

#ifdef MIXT_REAL_DOUBLE
typedef double real;
#define MIXT_REAL(name) name##_f64
#define MIXT_REAL_IS_DOUBLE 1
#else
typedef float real;
#define MIXT_REAL(name) name##_f32
#define MIXT_REAL_IS_DOUBLE 0
#endif

#endif
