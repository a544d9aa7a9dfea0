/* The numbers as JSON, for scripts and studies: docs/atlas.md has the keys. */
#include <math.h>

#include "atlas/report.h"
#include "core/number.h"
#include "formats/safetensors.h"

/* `key`: with a comma and a colon where they belong. */
static void number(mixt_buffer *out, const char *key, double value)
{
    char text[MIXT_NUMBER_SIZE];
    mixt_number_write(value, text);
    mixt_buffer_format(out, "%s%s", key, isfinite(value) ? text : "null");
}

static void names(mixt_buffer *out, const mixt_trace *trace)
{
    mixt_buffer_text(out, "\"domains\": [");
    for (int d = 0; d < trace->info.domains; d++) {
        mixt_buffer_text(out, d == 0 ? "" : ", ");
        mixt_json_quote(out, trace->domain_names[d]);
    }
    mixt_buffer_text(out, "]");
}

static void describe(mixt_buffer *out, const mixt_report *report)
{
    const mixt_trace_info *info = &report->trace->info;
    mixt_buffer_text(out, "{\"format\": \"mixt-atlas\", \"version\": 1, \"model\": ");
    mixt_json_quote(out, info->model);
    mixt_buffer_format(out,
                       ", \"tokens\": %llu, \"documents\": %llu, \"experts\": %d, "
                       "\"identity_experts\": %d, \"zero_experts\": %d, "
                       "\"experts_per_token\": %d,\n \"layers\": [",
                       (unsigned long long)info->tokens, (unsigned long long)info->documents,
                       info->experts, info->identity_experts, info->zero_experts,
                       info->experts_per_token);
    for (int layer = 0; layer < info->layers; layer++) {
        mixt_buffer_format(out, "%s%d", layer == 0 ? "" : ", ",
                           report->trace->layer_numbers[layer]);
    }
    mixt_buffer_text(out, "], ");
    names(out, report->trace);
    mixt_buffer_text(out, ",\n \"token_classes\": {");
    for (int c = 0; c < MIXT_CLASS_COUNT; c++) {
        mixt_buffer_format(out, "%s\"%s\"", c == 0 ? "" : ", ", mixt_token_class_name(c));
        number(out, ": ", report->class_share[c]);
    }
    mixt_buffer_text(out, "}");
}

static void repetition(mixt_buffer *out, const mixt_report *report, int which)
{
    const mixt_trace_info *info = &report->trace->info;
    mixt_buffer_format(out, "%s: [", which == MIXT_REPEAT_FIRST ? "\"first\"" : ",\n  \"sets\"");
    for (int layer = 0; layer < info->layers; layer++) {
        const mixt_repetition *row = mixt_report_repetition(report, layer, info->domains, which);
        bool bounded = mixt_repetition_has_interval(row);
        mixt_buffer_format(out, "%s\n   {\"layer\": %d", layer == 0 ? "" : ",",
                           report->trace->layer_numbers[layer]);
        number(out, ", \"share\": ", row->rate.pairs != 0 ? row->rate.value : NAN);
        number(out, ", \"low\": ", bounded ? row->rate.low : NAN);
        number(out, ", \"high\": ", bounded ? row->rate.high : NAN);
        number(out, ", \"random\": ", row->random);
        number(out, ", \"use\": ", row->usage);
        mixt_buffer_format(out, ", \"pairs\": %llu}", (unsigned long long)row->rate.pairs);
    }
    mixt_buffer_text(out, "]");
}

static void information_row(mixt_buffer *out, const mixt_information *row)
{
    bool level = row->shuffles > 0;
    number(out, "\"bits\": ", row->count != 0 ? row->bits : NAN);
    number(out, ", \"entropy\": ", row->count != 0 ? row->entropy : NAN);
    number(out, ", \"share\": ", row->count != 0 ? mixt_information_share(row, row->bits) : NAN);
    number(out, ", \"shuffled\": ", level ? row->shuffled : NAN);
    number(out, ", \"spread\": ", level ? row->spread : NAN);
    number(out, ", \"highest\": ", level ? row->highest : NAN);
    number(out, ", \"excess\": ", level ? row->excess : NAN);
    number(out, ", \"low\": ", level ? row->low : NAN);
    number(out, ", \"high\": ", level ? row->high : NAN);
    number(out, ", \"excess_share\": ", level ? mixt_information_share(row, row->excess) : NAN);
    mixt_buffer_format(out, ", \"shuffles\": %d, \"labels\": %d, \"count\": %llu, \"absent\": ",
                       row->shuffles, row->labels, (unsigned long long)row->count);
    if (row->absent != NULL) {
        mixt_json_quote(out, row->absent);
    } else {
        mixt_buffer_text(out, "null");
    }
    mixt_buffer_text(out, "}");
}

static void information(mixt_buffer *out, const mixt_report *report, int label, int which)
{
    int layers = report->trace->info.layers;
    mixt_buffer_format(out, "%s: {\"layers\": [",
                       which == MIXT_TOLD_FIRST ? "\"first\"" : ",\n   \"all\"");
    for (int layer = 0; layer < layers; layer++) {
        mixt_buffer_format(out, "%s\n    {\"layer\": %d, ", layer == 0 ? "" : ",",
                           report->trace->layer_numbers[layer]);
        information_row(out, mixt_report_information(report, layer, label, which));
    }
    mixt_buffer_text(out, "],\n    \"mean\": {");
    information_row(out, mixt_report_information(report, layers, label, which));
    mixt_buffer_text(out, "}");
}

void mixt_report_json(const mixt_report *report, mixt_buffer *out)
{
    describe(out, report);
    mixt_buffer_text(out, ",\n \"repetition\": {");
    for (int which = 0; which < MIXT_REPEAT_COUNT; which++) {
        repetition(out, report, which);
    }
    mixt_buffer_text(out, "},\n \"information\": {");
    for (int label = 0; label < MIXT_LABEL_COUNT; label++) {
        mixt_buffer_format(out, "%s\"%s\": {", label == 0 ? "" : ",\n  ", mixt_label_name(label));
        for (int which = 0; which < MIXT_TOLD_COUNT; which++) {
            information(out, report, label, which);
        }
        mixt_buffer_text(out, "}");
    }
    mixt_buffer_text(out, "}}\n");
}
