/* From a measure's name to its table. */
#include "atlas/measure.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "atlas/statistics.h"
#include "core/error.h"

#define SHUFFLES 20
#define SHUFFLES_OF_P 199 /* where they are cheap: q of many rows can be below 0.05 */
#define CHOICES_OF_P ((double)(1 << 25)) /* choices * shuffles that are */
#define COUNTS_OF_P ((double)(1 << 22))
#define SHUFFLES_MOST 10000

const mixt_measure_info *mixt_measure_describe(int index)
{
    int count = 0;
    while (mixt_measure_types[count] != NULL) {
        count++;
    }
    return index >= 0 && index < count ? &mixt_measure_types[index]->info : NULL;
}

const char *mixt_measure_takes(const mixt_measure_info *info)
{
    return info->traces == 0   ? "the log of a training run"
           : info->traces == 1 ? "one trace"
                               : "two traces";
}

static const mixt_measure_type *find_type(const char *name)
{
    int i = 0;
    while (mixt_measure_types[i] != NULL && strcmp(mixt_measure_types[i]->info.name, name) != 0) {
        i++;
    }
    return mixt_measure_types[i];
}

double mixt_jackknife_error(const double *without, int groups)
{
    double mean = 0, square = 0;
    for (int g = 0; g < groups; g++) {
        mean += without[g] / groups;
    }
    for (int g = 0; g < groups; g++) {
        square += (without[g] - mean) * (without[g] - mean);
    }
    return groups >= 2 ? sqrt(square * (groups - 1) / groups) : NAN;
}

mixt_span mixt_jackknife(double whole, const double *without, int groups, double least, double most)
{
    if (groups < 2) {
        return (mixt_span){NAN, NAN};
    }
    double reach = mixt_student_975(groups - 1) * mixt_jackknife_error(without, groups);
    return (mixt_span){fmax(whole - reach, least), fmin(whole + reach, most)};
}

double mixt_jackknife_p(double difference, const double *without, int groups)
{
    double error = mixt_jackknife_error(without, groups);
    return error > 0 ? mixt_student_p(difference / error, groups - 1) : NAN;
}

mixt_span mixt_jackknife_ratio(const double *top, const double *bottom, int groups, double least,
                               double most)
{
    double tops = 0, bottoms = 0, without[MIXT_MEASURE_GROUPS];
    int count = 0;
    for (int g = 0; g < groups; g++) {
        tops += top[g];
        bottoms += bottom[g];
    }
    for (int g = 0; g < groups; g++) {
        if (bottom[g] > 0 && bottom[g] < bottoms) {
            without[count++] = (tops - top[g]) / (bottoms - bottom[g]);
        }
    }
    return mixt_jackknife(tops / bottoms, without, count, least, most);
}

void mixt_measure_counts(const mixt_measuring *measuring, int layer, uint64_t *counts)
{
    const mixt_trace *trace = measuring->trace;
    size_t experts = (size_t)trace->info.experts;
    memset(counts, 0, (size_t)measuring->groups * experts * sizeof *counts);
    for (uint64_t i = 0; i < trace->info.tokens; i++) {
        const uint16_t *row = mixt_trace_experts(trace, layer, i);
        uint64_t *of = counts + measuring->group[trace->document[i]] * experts;
        for (int c = 0; c < trace->chosen[layer]; c++) {
            if (row[c] != MIXT_TRACE_NONE) {
                of[row[c]]++;
            }
        }
    }
}

double mixt_draws_mean(const double *draws, int count)
{
    double sum = 0;
    for (int i = 0; i < count; i++) {
        sum += draws[i];
    }
    return count > 0 ? sum / count : NAN;
}

double mixt_draws_p(const double *draws, int count, double value)
{
    int reached = 0;
    for (int i = 0; i < count; i++) {
        reached += draws[i] >= value;
    }
    return (1.0 + reached) / (1.0 + count);
}

/* group [documents]: they take turns, domain by domain. Returns how many groups there are. */
static int deal_groups(const mixt_units *units, uint8_t *group)
{
    uint32_t next = 0;
    for (int domain = 0; domain < units->domains; domain++) {
        for (size_t d = 0; d < units->run_count; d++) {
            if (units->runs[d].domain == domain) {
                group[d] = (uint8_t)(next++ % MIXT_MEASURE_GROUPS);
            }
        }
    }
    return next < MIXT_MEASURE_GROUPS ? (int)next : MIXT_MEASURE_GROUPS;
}

static mixt_status check_traces(const mixt_measure_type *type, const mixt_trace *const *traces,
                                int count, mixt_error *error)
{
    if (count != type->info.traces || count == 0) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "measure %s: takes %s, not %d",
                         type->info.name, mixt_measure_takes(&type->info), count);
    }
    for (int i = 0; i < count && type->info.logits; i++) {
        if (traces[i]->logits == NULL) {
            return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                             "measure %s: the trace has no router logits (mixt trace --logits)",
                             type->info.name);
        }
    }
    return MIXT_OK;
}

/* Ends a table: its note is a string. */
static mixt_status finish(const mixt_measure_type *type, mixt_table *table, mixt_error *error)
{
    if (table->note.length != 0) {
        mixt_buffer_append(&table->note, "", 1);
    }
    return table->note.failed
               ? mixt_fail(error, MIXT_ERROR_MEMORY, "measure %s: no memory", type->info.name)
               : MIXT_OK;
}

static int default_shuffles(const mixt_measure_type *type, const mixt_trace_info *info)
{
    double most = SHUFFLES;
    if (type->drawing == MIXT_DRAWS_CHOICES) {
        most = CHOICES_OF_P / ((double)info->tokens * info->layers * info->experts_per_token);
    } else if (type->drawing == MIXT_DRAWS_COUNTS) {
        most = COUNTS_OF_P / ((double)info->domains * info->layers * info->experts);
    }
    return (int)fmin(fmax(most, SHUFFLES), SHUFFLES_OF_P);
}

static void say_draws(mixt_table *table)
{
    if (table->draws > 0 && table->rows > 0) {
        mixt_buffer_format(
            &table->note, "%s%d draws are behind p, which can be no less than %.2g.",
            table->note.length == 0 || table->note.data[table->note.length - 1] == ' ' ? "" : " ",
            table->draws, 1.0 / (1 + table->draws));
    }
}

static mixt_status fill(const mixt_measure_type *type, mixt_measuring *m, mixt_table **table,
                        mixt_error *error)
{
    uint8_t *group = calloc(m->trace->info.documents, sizeof *group);
    mixt_units *units = mixt_units_create(m->trace);
    mixt_counts *counts = mixt_counts_create(m->trace);
    mixt_table *made = mixt_table_create(&type->info, m->trace, m->trace->info.model, type->columns,
                                         type->column_count);
    mixt_status status = MIXT_OK;
    if (group == NULL || units == NULL || counts == NULL || made == NULL) {
        status = mixt_fail(error, MIXT_ERROR_MEMORY, "measure %s: no memory", type->info.name);
    } else {
        m->units = units;
        m->counts = counts;
        m->group = group;
        m->groups = deal_groups(units, group);
        status = type->fill(m, made, error);
        say_draws(made);
    }
    if (status == MIXT_OK) {
        status = finish(type, made, error);
    }
    for (int i = 0; i < m->trace_count && status == MIXT_OK; i++) {
        status = mixt_trace_intact(m->traces[i], error);
    }
    free(group);
    mixt_units_free(units);
    mixt_counts_free(counts);
    if (status != MIXT_OK) {
        mixt_table_free(made);
        return status;
    }
    *table = made;
    return MIXT_OK;
}

/* The type and the settings that options (NULL: defaults) ask for. */
static mixt_status begin(const char *name, const mixt_measure_options *options,
                         const mixt_measure_type **type, mixt_measuring *measuring,
                         mixt_error *error)
{
    if (options != NULL) {
        MIXT_TRY(MIXT_CHECK_RESERVED(mixt_measure_options, options, error));
    }
    *type = find_type(name);
    if (*type == NULL) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "measure %.40s: there is none of this name",
                         name);
    }
    int shuffles = options != NULL && options->shuffles != 0 ? options->shuffles : SHUFFLES;
    if (shuffles < 1 || shuffles > SHUFFLES_MOST) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "measure %s: %d shuffles, must be 1 to %d",
                         name, shuffles, SHUFFLES_MOST);
    }
    *measuring =
        (mixt_measuring){.shuffles = shuffles, .seed = options != NULL ? options->seed : 0};
    return MIXT_OK;
}

mixt_status mixt_measure(const char *name, const mixt_trace *const *traces, int count,
                         const mixt_measure_options *options, mixt_table **table, mixt_error *error)
{
    const mixt_measure_type *type;
    mixt_measuring measuring;
    *table = NULL;
    MIXT_TRY(begin(name, options, &type, &measuring, error));
    MIXT_TRY(check_traces(type, traces, count, error));
    if (options == NULL || options->shuffles == 0) {
        measuring.shuffles = default_shuffles(type, &traces[0]->info);
    }
    measuring.trace = traces[0];
    measuring.traces = traces;
    measuring.trace_count = count;
    return fill(type, &measuring, table, error);
}

mixt_status mixt_measure_log(const char *name, const char *path,
                             const mixt_measure_options *options, mixt_table **table,
                             mixt_error *error)
{
    const mixt_measure_type *type;
    mixt_measuring measuring;
    mixt_load_log log;
    *table = NULL;
    MIXT_TRY(begin(name, options, &type, &measuring, error));
    if (type->info.traces != 0) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "measure %s: takes %s, not a log", name,
                         mixt_measure_takes(&type->info));
    }
    mixt_table *made =
        mixt_table_create(&type->info, NULL, path, type->columns, type->column_count);
    mixt_status status = made == NULL ? mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", path)
                                      : mixt_load_log_read(path, &log, error);
    if (made != NULL) {
        measuring.log = &log;
        status = status == MIXT_OK ? type->fill(&measuring, made, error) : status;
        status = status == MIXT_OK ? finish(type, made, error) : status;
        mixt_load_log_free(&log);
    }
    if (status != MIXT_OK) {
        mixt_table_free(made);
        return status;
    }
    *table = made;
    return MIXT_OK;
}
