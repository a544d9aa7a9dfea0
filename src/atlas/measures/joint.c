/* What experts tell of single labels and of two at once, with the part that each adds. The counting
 * is that of atlas/information.c. */
#include <math.h>
#include <stdlib.h>

#include "atlas/information.h"
#include "atlas/measures/measures.h"
#include "atlas/statistics.h"
#include "core/error.h"

enum {
    DOMAIN,
    CLASS,
    TOKEN,
    PREVIOUS,
    POSITION,
    DOMAIN_BEYOND_TOKEN,
    PREVIOUS_BEYOND_TOKEN,
    MEASURED, /* those before are measured, those behind made of them */
    TOKEN_AND_DOMAIN = MEASURED,
    TOKEN_BEYOND_DOMAIN,
    SHARED_BY_TOKEN_AND_DOMAIN,
    TOKEN_AND_PREVIOUS,
    TOKEN_BEYOND_PREVIOUS,
    SHARED_BY_TOKEN_AND_PREVIOUS,
    LABELS,
    FIRST_CHOICE = LABELS, /* of the measure "persistence" */
    ALL_CHOICES,
};

static const char *const words[] = {"domain",
                                    "class",
                                    "token",
                                    "previous",
                                    "position",
                                    "domain beyond token",
                                    "previous beyond token",
                                    "token and domain",
                                    "token beyond domain",
                                    "shared by token and domain",
                                    "token and previous",
                                    "token beyond previous",
                                    "shared by token and previous",
                                    "first choice with the layer before's",
                                    "all choices with the layer before's first",
                                    NULL};

static const mixt_column columns[] = {
    {.name = "layer", .kind = MIXT_COLUMN_LAYER, .role = MIXT_ROLE_KEY},
    {.name = "label", .kind = MIXT_COLUMN_WORD, .role = MIXT_ROLE_KEY, .words = words},
    {.name = "excess",
     .help = "information of an expert and the label above the shuffles",
     .unit = "bits",
     .kind = MIXT_COLUMN_NUMBER,
     .role = MIXT_ROLE_VALUE},
    {.name = "random",
     .help = "experts that tell nothing: 0",
     .unit = "bits",
     .kind = MIXT_COLUMN_NUMBER,
     .role = MIXT_ROLE_RANDOM},
    {.name = "low", .kind = MIXT_COLUMN_NUMBER, .role = MIXT_ROLE_LOW},
    {.name = "high", .kind = MIXT_COLUMN_NUMBER, .role = MIXT_ROLE_HIGH},
    {.name = "bits",
     .help = "as counted, shuffles not taken off",
     .unit = "bits",
     .kind = MIXT_COLUMN_NUMBER,
     .role = MIXT_ROLE_VALUE,
     .group = 1},
    {.name = "shuffled",
     .help = "mean of the shuffles",
     .unit = "bits",
     .kind = MIXT_COLUMN_NUMBER,
     .role = MIXT_ROLE_USE,
     .group = 1},
    {.name = "p", .kind = MIXT_COLUMN_NUMBER, .role = MIXT_ROLE_P, .group = 1},
    {.name = "q", .kind = MIXT_COLUMN_NUMBER, .role = MIXT_ROLE_Q, .group = 1},
    {.name = "part",
     .help = "excess over the entropy of the expert",
     .kind = MIXT_COLUMN_SHARE,
     .role = MIXT_ROLE_EFFECT},
    {.name = "entropy",
     .help = "of the expert: the most there is to tell",
     .unit = "bits",
     .kind = MIXT_COLUMN_NUMBER,
     .role = MIXT_ROLE_VALUE,
     .group = 2},
    {.name = "movable",
     .help = "part of the tokens that the shuffles can move; where small, the excess is too",
     .kind = MIXT_COLUMN_SHARE,
     .role = MIXT_ROLE_SUPPORT},
    {.name = "choices", .kind = MIXT_COLUMN_COUNT, .role = MIXT_ROLE_SUPPORT},
};
enum {
    LAYER,
    LABEL,
    EXCESS,
    RANDOM,
    LOW,
    HIGH,
    BITS,
    SHUFFLED,
    P,
    Q,
    PART,
    ENTROPY,
    MOVABLE,
    CHOICES,
    COLUMNS
};

/* Signs of the measured excesses in those made of them. */
static const int signs[LABELS - MEASURED][MEASURED] = {
    [TOKEN_AND_DOMAIN - MEASURED] = {[DOMAIN] = 1, [TOKEN] = 1},
    [TOKEN_BEYOND_DOMAIN - MEASURED] = {[TOKEN] = 1},
    [SHARED_BY_TOKEN_AND_DOMAIN - MEASURED] = {[DOMAIN] = 1, [DOMAIN_BEYOND_TOKEN] = -1},
    [TOKEN_AND_PREVIOUS - MEASURED] = {[TOKEN] = 1, [PREVIOUS_BEYOND_TOKEN] = 1},
    [TOKEN_BEYOND_PREVIOUS -
        MEASURED] = {[TOKEN] = 1, [PREVIOUS] = -1, [PREVIOUS_BEYOND_TOKEN] = 1},
    [SHARED_BY_TOKEN_AND_PREVIOUS - MEASURED] = {[PREVIOUS] = 1, [PREVIOUS_BEYOND_TOKEN] = -1},
};

/* Which of information.c's labels a measured one is. */
static int label_of(int label)
{
    static const int of[MEASURED] = {
        MIXT_LABEL_DOMAIN,   MIXT_LABEL_CLASS,        MIXT_LABEL_TOKEN,         MIXT_LABEL_PREVIOUS,
        MIXT_LABEL_POSITION, MIXT_LABEL_TOKEN_DOMAIN, MIXT_LABEL_TOKEN_PREVIOUS};
    return of[label];
}

static void fill_measured(const mixt_told *told, double *row)
{
    const mixt_information *of = &told->information;
    bool leveled = of->shuffles > 0;
    row[CHOICES] = (double)of->count;
    if (of->count == 0) {
        return;
    }
    row[BITS] = of->bits;
    row[ENTROPY] = of->entropy;
    row[MOVABLE] = told->movable;
    row[RANDOM] = 0;
    if (leveled) {
        row[EXCESS] = of->excess;
        row[LOW] = of->low;
        row[HIGH] = of->high;
        row[SHUFFLED] = of->shuffled;
        row[P] = told->p;
        row[PART] = mixt_information_share(of, of->excess);
    }
}

/* From the measured ones of the layer, told [MIXT_LABEL_BEFORE, MIXT_TOLD_COUNT]. */
static void fill_made(const mixt_told *told, int label, double *row)
{
    const mixt_told *first = &told[MIXT_LABEL_TOKEN * MIXT_TOLD_COUNT + MIXT_TOLD_ALL];
    double excess = 0, shuffled = 0, less[MIXT_INFORMATION_GROUPS] = {0};
    row[RANDOM] = 0;
    row[CHOICES] = (double)first->information.count;
    row[MOVABLE] = 1;
    for (int i = 0; i < MEASURED; i++) {
        const mixt_told *of = &told[label_of(i) * MIXT_TOLD_COUNT + MIXT_TOLD_ALL];
        int sign = signs[label - MEASURED][i];
        if (sign == 0) {
            continue;
        }
        if (of->information.shuffles == 0) {
            return;
        }
        excess += sign * of->information.excess;
        shuffled += of->information.spread * of->information.spread;
        row[MOVABLE] = fmin(row[MOVABLE], of->movable);
        for (int g = 0; g < of->groups; g++) {
            less[g] += sign * of->less[g];
        }
    }
    double error = mixt_jackknife_error(less, first->groups);
    error = mixt_information_error(error * error, shuffled, first->information.shuffles);
    double reach = mixt_student_975(first->groups - 1) * error;
    row[EXCESS] = excess;
    row[LOW] = isfinite(reach) ? excess - reach : NAN;
    row[HIGH] = isfinite(reach) ? excess + reach : NAN;
    row[ENTROPY] = first->information.entropy;
    row[PART] = mixt_information_share(&first->information, excess);
}

static void say(const mixt_told *mean, mixt_table *table)
{
    const mixt_told *token = &mean[MIXT_LABEL_TOKEN * MIXT_TOLD_COUNT + MIXT_TOLD_ALL];
    const mixt_told *kept = &mean[MIXT_LABEL_TOKEN_PREVIOUS * MIXT_TOLD_COUNT + MIXT_TOLD_ALL];
    const double *rows = table->cells + (table->rows - LABELS) * COLUMNS;
    if (token->information.shuffles == 0) {
        mixt_buffer_format(&table->note, "No level: %s.", token->information.absent);
        return;
    }
    table->draws = token->information.shuffles;
    if (!isnan(rows[TOKEN_AND_DOMAIN * COLUMNS + PART])) {
        mixt_buffer_format(
            &table->note,
            "Token and domain explain %.1f %% of the choice of experts (token "
            "within documents %.1f %%, domain beyond token %.1f %%, shared %.1f %%).",
            100 * rows[TOKEN_AND_DOMAIN * COLUMNS + PART],
            100 * rows[TOKEN_BEYOND_DOMAIN * COLUMNS + PART],
            100 * rows[DOMAIN_BEYOND_TOKEN * COLUMNS + PART],
            100 * rows[SHARED_BY_TOKEN_AND_DOMAIN * COLUMNS + PART]);
    }
    if (kept->information.shuffles > 0 && kept->movable < 0.5) {
        mixt_buffer_format(&table->note,
                           "%sOnly %.0f %% of the tokens occur again in their document: what the "
                           "previous token adds is a lower bound, what it shares an upper one.",
                           table->note.length > 0 ? " " : "", 100 * kept->movable);
    }
}

static mixt_status fill(const mixt_measuring *m, mixt_table *table, mixt_error *error)
{
    int layers = m->trace->info.layers;
    const mixt_information_plan plan = {.trace = m->trace,
                                        .units = m->units,
                                        .layers = layers,
                                        .labels = MIXT_LABEL_BEFORE,
                                        .shuffles = m->shuffles,
                                        .seed = m->seed};
    const size_t of_layer = MIXT_LABEL_BEFORE * MIXT_TOLD_COUNT;
    mixt_told *told = calloc(((size_t)layers + 1) * of_layer, sizeof *told);
    mixt_status status = told != NULL
                             ? mixt_information_tell(&plan, told, error)
                             : mixt_fail(error, MIXT_ERROR_MEMORY, "measure joint: no memory");
    for (int i = 0; i < (layers + 1) * LABELS && status == MIXT_OK; i++) {
        int layer = i / LABELS, label = i % LABELS;
        const mixt_told *of = told + (size_t)layer * of_layer;
        double *row = mixt_table_append(table);
        if (row == NULL) {
            status = mixt_fail(error, MIXT_ERROR_MEMORY, "measure joint: no memory");
            break;
        }
        row[LAYER] = layer == layers ? -1 : m->trace->layer_numbers[layer];
        row[LABEL] = label;
        if (label < MEASURED) {
            fill_measured(&of[label_of(label) * MIXT_TOLD_COUNT + MIXT_TOLD_ALL], row);
        } else {
            fill_made(of, label, row);
        }
    }
    if (status == MIXT_OK) {
        say(told + (size_t)layers * of_layer, table);
        status = mixt_table_discover(table, error);
    }
    free(told);
    return status;
}

const mixt_measure_type mixt_measure_joint = {
    .info = {.name = "joint",
             .title = "What experts tell of token, neighbour and domain, and what each adds",
             .source =
                 "mutual information with shuffles, docs/atlas.md; co-information, McGill 1954",
             .about = "Information of the chosen expert with the token, the token before, class, "
                      "domain and position above what shuffles give, and the part that one label "
                      "adds to another or shares with it.",
             .traces = 1},
    .drawing = MIXT_DRAWS_CHOICES,
    .columns = columns,
    .column_count = COLUMNS,
    .fill = fill,
};

/* Two rows a layer: by its first choice, by all. */
static mixt_status fill_persistence(const mixt_measuring *m, mixt_table *table, mixt_error *error)
{
    int layers = m->trace->info.layers;
    const mixt_information_plan plan = {.trace = m->trace,
                                        .units = m->units,
                                        .layers = layers,
                                        .first_label = MIXT_LABEL_BEFORE,
                                        .labels = MIXT_LABEL_ALL,
                                        .shuffles = m->shuffles,
                                        .seed = m->seed};
    const size_t of_layer = MIXT_LABEL_ALL * MIXT_TOLD_COUNT;
    if (layers == 1) {
        mixt_buffer_text(&table->note, "There is one layer.");
        return MIXT_OK;
    }
    mixt_told *told = calloc(((size_t)layers + 1) * of_layer, sizeof *told);
    mixt_status status =
        told != NULL ? mixt_information_tell(&plan, told, error)
                     : mixt_fail(error, MIXT_ERROR_MEMORY, "measure persistence: no memory");
    for (int i = MIXT_TOLD_COUNT; i < (layers + 1) * MIXT_TOLD_COUNT && status == MIXT_OK; i++) {
        int layer = i / MIXT_TOLD_COUNT, which = i % MIXT_TOLD_COUNT;
        const mixt_told *of = told + (size_t)layer * of_layer + MIXT_LABEL_BEFORE * MIXT_TOLD_COUNT;
        double *row = mixt_table_append(table);
        if (row == NULL) {
            status = mixt_fail(error, MIXT_ERROR_MEMORY, "measure persistence: no memory");
            break;
        }
        row[LAYER] = layer == layers ? -1 : m->trace->layer_numbers[layer];
        row[LABEL] = which == MIXT_TOLD_FIRST ? FIRST_CHOICE : ALL_CHOICES;
        fill_measured(&of[which], row);
    }
    table->draws = told != NULL
                       ? told[of_layer * (size_t)layers + MIXT_LABEL_BEFORE * MIXT_TOLD_COUNT]
                             .information.shuffles
                       : 0;
    free(told);
    return status == MIXT_OK ? mixt_table_discover(table, error) : status;
}

const mixt_measure_type mixt_measure_persistence = {
    .info = {.name = "persistence",
             .title = "What the choice at one layer tells of the next",
             .source = "mutual information with shuffles, docs/atlas.md",
             .about = "Information of a token's experts with its first choice at the layer before, "
                      "above what they share when tokens change places within their document.",
             .traces = 1},
    .drawing = MIXT_DRAWS_CHOICES,
    .columns = columns,
    .column_count = COLUMNS,
    .fill = fill_persistence,
};
