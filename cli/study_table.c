/* The table of a study: in the terminal, as CSV and as JSON. What depends on the clock has a file
 * of its own, so that the others are the same bytes whenever and wherever a study runs. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "study.h"
#include "terminal.h"

/* Shown first, and with their errors. */
static const char *const main_names[] = {"loss", "bits_per_byte", "perplexity"};
enum { MAIN_NAMES = sizeof main_names / sizeof *main_names };

static bool is_main(const char *name)
{
    for (size_t i = 0; i < MAIN_NAMES; i++) {
        if (strcmp(main_names[i], name) == 0) {
            return true;
        }
    }
    return false;
}

/* CSV has no columns for single layers, JSON has all. */
static bool has_column(const char *name)
{
    return !is_main(name) && strstr(name, ".layer.") == NULL && strncmp(name, "atlas.", 6) != 0;
}

typedef struct fact {
    const char *name;
    double value;
} fact;

enum { FACTS = 7 };

/* What is counted and not measured. */
static void facts_of(const study_cell *cell, fact facts[FACTS])
{
    double tokens = cell->steps * cell->tokens_per_step;
    facts[0] = (fact){"planned_tokens", tokens};
    facts[1] = (fact){"parameters_total", cell->parameters_total};
    facts[2] = (fact){"parameters_active", cell->parameters_active};
    facts[3] = (fact){"forward_flops_per_token", cell->forward_flops};
    facts[4] = (fact){"training_flops_per_token", cell->training_flops};
    facts[5] = (fact){"training_flops", tokens * cell->training_flops};
    facts[6] = (fact){"moe_layers", cell->moe_layers};
}

/* ---- CSV */

static void csv_text(FILE *stream, const char *text)
{
    if (text[strcspn(text, ",\"\r\n")] == 0) {
        fputs(text, stream);
        return;
    }
    fputc('"', stream);
    for (; *text != 0; text++) {
        fputs(*text == '"' ? "\"\"" : (char[]){*text, 0}, stream);
    }
    fputc('"', stream);
}

static void csv_number(FILE *stream, double value)
{
    if (isfinite(value)) {
        fprintf(stream, ",%.9g", value);
    } else {
        fputc(',', stream);
    }
}

static void csv_head(const study *s, const char *const *names, size_t count, FILE *stream)
{
    fact facts[FACTS];
    facts_of(&s->cells[0], facts);
    fputs("cell", stream);
    for (size_t i = 0; i < s->axis_count; i++) {
        fputc(',', stream);
        csv_text(stream, s->axes[i].name);
    }
    fputs(",runs", stream);
    for (size_t i = 0; i < MAIN_NAMES; i++) {
        const char *name = main_names[i];
        fprintf(stream, ",%s,%s_error,%s_difference,%s_difference_low,%s_difference_high", name,
                name, name, name, name);
    }
    for (size_t i = 0; i < FACTS; i++) {
        fprintf(stream, ",%s", facts[i].name);
    }
    for (size_t i = 0; i < count; i++) {
        if (has_column(names[i])) {
            fputc(',', stream);
            csv_text(stream, names[i]);
        }
    }
    fputs(",held_out,published\n", stream);
}

static void csv_row(const study *s, const study_cell *cell, const char *const *names, size_t count,
                    FILE *stream)
{
    fact facts[FACTS];
    facts_of(cell, facts);
    csv_text(stream, cell->name);
    for (size_t i = 0; i < s->axis_count; i++) {
        fputc(',', stream);
        csv_text(stream, cell->words != NULL ? cell->words[i] : "");
    }
    fprintf(stream, ",%zu", study_mean(s, cell, "loss").count);
    for (size_t i = 0; i < MAIN_NAMES; i++) {
        study_estimate mean = study_mean(s, cell, main_names[i]);
        study_estimate apart = study_difference(s, cell, main_names[i]);
        csv_number(stream, mean.mean);
        csv_number(stream, mean.error);
        csv_number(stream, apart.mean);
        csv_number(stream, apart.low);
        csv_number(stream, apart.high);
    }
    for (size_t i = 0; i < FACTS; i++) {
        csv_number(stream, facts[i].value);
    }
    for (size_t i = 0; i < count; i++) {
        if (has_column(names[i])) {
            csv_number(stream, study_mean(s, cell, names[i]).mean);
        }
    }
    fputc(',', stream);
    csv_text(stream, cell->held_out);
    fputc(',', stream);
    csv_text(stream, cell->published != NULL ? cell->published : "");
    fputc('\n', stream);
}

void study_write_csv(const study *s, FILE *stream)
{
    size_t count;
    const char **names = study_names(s, &count);
    csv_head(s, names, count, stream);
    for (size_t c = 0; c < s->cell_count; c++) {
        csv_row(s, &s->cells[c], names, count, stream);
    }
    free(names);
}

void study_write_times(const study *s, FILE *stream)
{
    fputs("cell,seed,seconds,tokens_per_second\n", stream);
    for (size_t c = 0; c < s->cell_count; c++) {
        for (size_t k = 0; k < s->seed_count; k++) {
            const study_run *run = &s->cells[c].runs[k];
            csv_text(stream, s->cells[c].name);
            fprintf(stream, ",%llu", (unsigned long long)s->seeds[k]);
            csv_number(stream, run->seconds);
            csv_number(stream, run->tokens_per_second);
            fputc('\n', stream);
        }
    }
}

/* ---- JSON */

static void json_text(FILE *stream, const char *before, const char *text)
{
    fputs(before, stream);
    if (text != NULL) {
        print_json_text(stream, text);
    } else {
        fputs("null", stream);
    }
}

static void json_number(FILE *stream, const char *before, double value)
{
    fputs(before, stream);
    print_json_measure(stream, value);
}

static void json_estimate(FILE *stream, const study_estimate *e)
{
    fprintf(stream, "{\"runs\": %zu", e->count);
    json_number(stream, ", \"mean\": ", e->mean);
    json_number(stream, ", \"error\": ", e->error);
    json_number(stream, ", \"low\": ", e->low);
    json_number(stream, ", \"high\": ", e->high);
    fputc('}', stream);
}

static void json_run(const study *s, const study_cell *cell, size_t seed, FILE *stream)
{
    const study_run *run = &cell->runs[seed];
    fprintf(stream, "{\"seed\": %llu, ", (unsigned long long)s->seeds[seed]);
    if (!run->finished) {
        json_text(stream, "\"failure\": ", run->failure);
        fputc('}', stream);
        return;
    }
    fputs("\"values\": {", stream);
    for (size_t i = 0; i < run->count; i++) {
        json_text(stream, i > 0 ? ", " : "", run->values[i].name);
        json_number(stream, ": ", run->values[i].value);
    }
    fputs("},\n      \"curve\": [", stream);
    for (size_t i = 0; i < run->curve_count; i++) {
        json_number(stream, i > 0 ? ", [" : "[", run->curve[2 * i]);
        json_number(stream, ", ", run->curve[2 * i + 1]);
        fputc(']', stream);
    }
    fputs("]}", stream);
}

static void json_cell(const study *s, const study_cell *cell, const char *const *names,
                      size_t count, FILE *stream)
{
    fact facts[FACTS];
    facts_of(cell, facts);
    json_text(stream, "  {\"cell\": ", cell->name);
    fputs(", \"axes\": {", stream);
    for (size_t i = 0; cell->words != NULL && i < s->axis_count; i++) {
        json_text(stream, i > 0 ? ", " : "", s->axes[i].name);
        json_text(stream, ": ", cell->words[i]);
    }
    fputs("},\n    \"options\": {", stream);
    for (size_t i = 0; i < cell->options.count; i++) {
        json_text(stream, i > 0 ? ", " : "", cell->options.items[i].name);
        json_text(stream, ": ", cell->options.items[i].value);
    }
    fputs("},\n    \"counted\": {", stream);
    for (size_t i = 0; i < FACTS; i++) {
        json_text(stream, i > 0 ? ", " : "", facts[i].name);
        json_number(stream, ": ", facts[i].value);
    }
    json_text(stream, "},\n    \"held_out\": ", cell->held_out);
    json_text(stream, ", \"published\": ", cell->published);
    for (int apart = 0; apart < 2; apart++) {
        fputs(apart ? "},\n    \"differences\": {" : ",\n    \"means\": {", stream);
        const char *before = "";
        for (size_t i = 0; i < count; i++) {
            study_estimate e =
                apart ? study_difference(s, cell, names[i]) : study_mean(s, cell, names[i]);
            if (e.count > 0) {
                json_text(stream, before, names[i]);
                fputs(": ", stream);
                json_estimate(stream, &e);
                before = ", ";
            }
        }
    }
    fputs("},\n    \"runs\": [", stream);
    for (size_t k = 0; k < s->seed_count; k++) {
        fputs(k > 0 ? ",\n      " : "\n      ", stream);
        json_run(s, cell, k, stream);
    }
    fputs("]}", stream);
}

void study_write_json(const study *s, FILE *stream)
{
    size_t count;
    const char **names = study_names(s, &count);
    json_text(stream, "{\"study\": ", s->name);
    json_text(stream, ", \"title\": ", s->title);
    fputs(s->quick ? ", \"quick\": true" : ", \"quick\": false", stream);
    json_text(stream, ",\n \"question\": ", s->question);
    fputs(",\n \"published\": [", stream);
    for (size_t i = 0; i < s->published.count; i++) {
        json_text(stream, i > 0 ? ", " : "", s->published.items[i]);
    }
    json_text(stream, "], \"source\": ", s->source);
    json_text(stream, ",\n \"baseline\": ", s->baseline);
    fputs(",\n \"cells\": [\n", stream);
    for (size_t c = 0; c < s->cell_count; c++) {
        fputs(c > 0 ? ",\n" : "", stream);
        json_cell(s, &s->cells[c], names, count, stream);
    }
    fputs("]}\n", stream);
    free(names);
}

/* ---- the terminal */

static void number_text(char text[32], double value, int digits)
{
    if (isfinite(value)) {
        snprintf(text, 32, "%.*f", digits, value);
    } else {
        snprintf(text, 32, "-");
    }
}

/* "+0.0123 -0.001..+0.025" in its two parts */
static void difference_text(const study_estimate *e, char mean[32], char interval[64])
{
    if (isfinite(e->mean)) {
        snprintf(mean, 32, "%+.4f", e->mean);
    } else {
        snprintf(mean, 32, "-");
    }
    if (isfinite(e->low)) {
        snprintf(interval, 64, "%+.4f..%+.4f", e->low, e->high);
    } else {
        snprintf(interval, 64, "-");
    }
}

static void print_row(const study *s, const study_cell *cell, int width, FILE *stream)
{
    study_estimate loss = study_mean(s, cell, "loss"), apart = study_difference(s, cell, "loss");
    char texts[6][32], mean[32], interval[64];
    number_text(texts[0], loss.mean, 4);
    number_text(texts[1], loss.error, 4);
    number_text(texts[2], study_mean(s, cell, "bits_per_byte").mean, 4);
    number_text(texts[3], study_mean(s, cell, "perplexity").mean, 3);
    number_text(texts[4], study_mean(s, cell, "routing.max_violation").mean, 2);
    number_text(texts[5], study_mean(s, cell, "tokens_per_second").mean, 0);
    difference_text(&apart, mean, interval);
    bool is_baseline = s->baseline != NULL && cell == &s->cells[s->baseline_cell];
    say(stream, "%s%-*s", cell->name, width - (int)strlen(cell->name),
        cell->held_out[0] != 0 ? "*" : "");
    fprintf(stream, " %8s %7s %9s %10s %8s %17s %7s %9.4g %8s", texts[0], texts[1], texts[2],
            texts[3], is_baseline ? "baseline" : mean, interval, texts[4],
            cell->training_flops / 1e6, texts[5]);
    if (cell->published != NULL) {
        say(stream, "  %s", cell->published);
    }
    fputc('\n', stream);
}

void study_print_table(const study *s, FILE *stream)
{
    int width = 4;
    bool published = false;
    for (size_t c = 0; c < s->cell_count; c++) {
        int length = (int)strlen(s->cells[c].name) + (s->cells[c].held_out[0] != 0);
        width = length > width ? length : width;
        published = published || s->cells[c].published != NULL;
    }
    say(stream, "%s\n", s->title);
    if (s->question != NULL) {
        say(stream, "%s\n", s->question);
    }
    fprintf(stream, "\n%-*s %8s %7s %9s %10s %8s %17s %7s %9s %8s%s\n", width, "cell", "loss", "+-",
            "bits/byte", "perplexity", "apart", "95 % interval", "MaxVio", "MFLOP/tok", "tok/s",
            published ? "  published" : "");
    for (size_t c = 0; c < s->cell_count; c++) {
        print_row(s, &s->cells[c], width, stream);
    }
    fprintf(
        stream,
        "\nloss: held-out, nats per token, mean over %zu seed%s with its standard error; apart: "
        "\nfrom the baseline, seed by seed, with Student's interval; MaxVio: busiest expert "
        "above\nthe mean, mean of the layers; MFLOP/tok: counted, of a training step.\n",
        s->seed_count, plural(s->seed_count));
    for (size_t c = 0; c < s->cell_count; c++) {
        const char *note = s->cells[c].held_out;
        if (note[0] != 0 && (c == 0 || strcmp(note, s->cells[c - 1].held_out) != 0)) {
            say(stream, "* of %s: %s\n", s->cells[c].name, note);
        }
    }
    for (size_t i = 0; i < s->published.count; i++) {
        say(stream, "published: %s\n", s->published.items[i]);
    }
    if (s->source != NULL) {
        say(stream, "source: %s\n", s->source);
    }
}
