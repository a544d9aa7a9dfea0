/* Formulas of what ranks send each other, apart from a plan (docs/distributed.md). */
#ifndef MIXT_BENCH_RANKS_COST_H
#define MIXT_BENCH_RANKS_COST_H

#include <stdint.h>

/* Places, and experts over them: place p holds [p * experts / places, (p + 1) * experts / places).
 */
typedef struct mixt_split {
    int places, experts;
} mixt_split;

int mixt_split_held(const mixt_split *split, int place);
/* Rows of those that a place has that go to others: counts[experts] of its own micro batch. */
int64_t mixt_split_rows_sent(const mixt_split *split, int place, const int64_t *counts);
/* The same where each of `rows` goes to every expert as likely as to any other. */
double mixt_split_rows_even(const mixt_split *split, int place, double rows);
/* Of a block of `values` that `places` ranks sum, or spread, in slices as equal as can be: the
 * values that a rank sends, all but its own slice, and the messages. */
double mixt_sliced_values(double values, int places);

#endif
