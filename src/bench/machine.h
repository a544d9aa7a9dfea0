/* Parts of the machine's limits (mixt_bench_machine), for programs that take them again and again.
 */
#ifndef MIXT_BENCH_MACHINE_H
#define MIXT_BENCH_MACHINE_H

#include "ops/kernels.h"

/* Fp32 operations in a second, two a multiply-add: the best of `rounds` over all threads, of some
 * 16 milliseconds each. */
double mixt_bench_peak(const mixt_compute *compute, int rounds);

#endif
