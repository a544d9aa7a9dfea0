/* How evenly experts are used. */
#include <math.h>
#include <stdlib.h>

#include "atlas/measures/measures.h"
#include "core/error.h"

static const mixt_column columns[] = {
    {.name = "layer", .kind = MIXT_COLUMN_LAYER, .role = MIXT_ROLE_KEY},
    {.name = "expert", .kind = MIXT_COLUMN_EXPERT, .role = MIXT_ROLE_KEY},
    {.name = "share",
     .help = "of the layer's choices",
     .kind = MIXT_COLUMN_SHARE,
     .role = MIXT_ROLE_VALUE},
    {.name = "random", .help = "1/E", .kind = MIXT_COLUMN_SHARE, .role = MIXT_ROLE_RANDOM},
    {.name = "low", .kind = MIXT_COLUMN_SHARE, .role = MIXT_ROLE_LOW},
    {.name = "high", .kind = MIXT_COLUMN_SHARE, .role = MIXT_ROLE_HIGH},
    {.name = "choices", .kind = MIXT_COLUMN_COUNT, .role = MIXT_ROLE_SUPPORT},
};
enum { LAYER, EXPERT, SHARE, RANDOM, LOW, HIGH, CHOICES, COLUMNS };

static mixt_status fill_layer(const mixt_measuring *m, int layer, uint64_t *counts,
                              mixt_table *table, mixt_error *error)
{
    size_t experts = (size_t)m->trace->info.experts;
    uint64_t total = 0, of_group[MIXT_MEASURE_GROUPS] = {0};
    for (size_t i = 0; i < (size_t)m->groups * experts; i++) {
        of_group[i / experts] += counts[i];
        total += counts[i];
    }
    for (size_t e = 0; e < experts; e++) {
        double *row = mixt_table_append(table);
        if (row == NULL) {
            return mixt_fail(error, MIXT_ERROR_MEMORY, "measure load: no memory");
        }
        uint64_t chosen = 0;
        double without[MIXT_MEASURE_GROUPS];
        for (int g = 0; g < m->groups; g++) {
            chosen += counts[(size_t)g * experts + e];
        }
        int groups = 0;
        for (int g = 0; g < m->groups; g++) {
            if (of_group[g] != 0 && of_group[g] != total) {
                without[groups++] = (double)(chosen - counts[(size_t)g * experts + e]) /
                                    (double)(total - of_group[g]);
            }
        }
        row[LAYER] = m->trace->layer_numbers[layer];
        row[EXPERT] = (double)e;
        row[SHARE] = total != 0 ? (double)chosen / (double)total : NAN;
        row[RANDOM] = 1 / (double)experts;
        mixt_span span = mixt_jackknife(row[SHARE], without, groups, 0, 1);
        row[LOW] = span.low;
        row[HIGH] = span.high;
        row[CHOICES] = (double)chosen;
    }
    return MIXT_OK;
}

static mixt_status fill(const mixt_measuring *m, mixt_table *table, mixt_error *error)
{
    size_t size = (size_t)m->groups * (size_t)m->trace->info.experts;
    uint64_t *counts = calloc(size, sizeof *counts);
    mixt_status status =
        counts != NULL ? MIXT_OK : mixt_fail(error, MIXT_ERROR_MEMORY, "measure load: no memory");
    for (int layer = 0; layer < m->trace->info.layers && status == MIXT_OK; layer++) {
        mixt_measure_counts(m, layer, counts);
        status = fill_layer(m, layer, counts, table, error);
    }
    free(counts);
    return status;
}

const mixt_measure_type mixt_measure_load = {
    .info = {.name = "load",
             .title = "Use of each expert",
             .source = "Shazeer et al. 2017, 1701.06538; OLMoE, 2409.02060",
             .about = "The part of a layer's choices that each expert gets, beside 1/E.",
             .traces = 1},
    .columns = columns,
    .column_count = COLUMNS,
    .fill = fill,
};
