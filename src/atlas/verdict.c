/* Says in words whether a trace shows what the Mixtral paper saw (arXiv 2401.04088, section 5):
 * consecutive tokens keep their expert more often than at random at the middle and last layers and
 * hardly at the first; and domains use the experts alike, except mathematics. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "atlas/display.h"
#include "atlas/report.h"
#include "atlas/statistics.h"
#include "core/error.h"
#include "core/utf8.h"

/* A first layer whose excess is below this part of the smaller of the two others' counts as "hardly
 * above" (in the paper: 1.5 points against 9.6 at layer 31). */
#define HARDLY 0.5
/* A domain stands apart when it is this many times as far from the mean as the median domain. */
#define APART 2.0
/* Domains whose median lies beyond this distance from the mean are not alike: a tenth of a domain's
 * choices go elsewhere (figure 7 of the paper puts most domains below 0.06 or so). */
#define ALIKE 0.1

/* A label is followed more than another when it tells this many times as much beyond chance. */
#define MORE 2.0

static double excess(const mixt_repetition *row)
{
    return row->rate.value - mixt_repetition_level(row);
}

static void append_layer(mixt_buffer *text, const mixt_report *report, int layer)
{
    const mixt_repetition *row =
        mixt_report_repetition(report, layer, report->trace->info.domains, MIXT_REPEAT_FIRST);
    mixt_buffer_format(text, "layer %d: %.1f %%, ", report->trace->layer_numbers[layer],
                       100 * row->rate.value);
    if (mixt_repetition_has_interval(row)) {
        mixt_buffer_format(text, "interval %.1f to %.1f", 100 * row->rate.low,
                           100 * row->rate.high);
    } else {
        mixt_buffer_text(text, "no interval");
    }
    mixt_buffer_format(text, ", against %.1f at random and %.1f from unequal use alone",
                       100 * row->random, 100 * row->usage);
}

/* "... explain LEAD at the middle (...) MIDDLE_LAST the last (...), AND_FIRST (...)" */
static void append_layers(mixt_buffer *text, const mixt_report *report, const char *lead,
                          const char *middle_last, const char *and_first)
{
    const int *key = report->key_layers;
    mixt_buffer_format(text, "consecutive tokens %s at the middle (", lead);
    append_layer(text, report, key[1]);
    mixt_buffer_format(text, ") %s the last layer (", middle_last);
    append_layer(text, report, key[2]);
    mixt_buffer_format(text, "), %s (", and_first);
    append_layer(text, report, key[0]);
    mixt_buffer_text(text, ")");
}

/* Returns true where the paper's observation is there. */
static bool judge_repetition(const mixt_report *report, mixt_buffer *text)
{
    int all = report->trace->info.domains;
    const int *key = report->key_layers;
    const mixt_repetition *row[3];
    for (int i = 0; i < report->key_layer_count; i++) {
        row[i] = mixt_report_repetition(report, key[i], all, MIXT_REPEAT_FIRST);
    }
    if (report->key_layer_count < 3) {
        mixt_buffer_format(text, "with %d layer%s there is no first, middle and last to compare (",
                           report->trace->info.layers, report->trace->info.layers == 1 ? "" : "s");
        append_layer(text, report, key[report->key_layer_count - 1]);
        mixt_buffer_text(text, ")");
        return false;
    }
    bool first = mixt_repetition_is_above(row[0]);
    bool middle = mixt_repetition_is_above(row[1]);
    bool last = mixt_repetition_is_above(row[2]);
    double least = excess(row[1]) < excess(row[2]) ? excess(row[1]) : excess(row[2]);
    static const char keep_more[] =
        "keep their first expert more often than chance and unequal use explain";
    static const char keep_no_more[] =
        "do not keep their first expert more often than chance and unequal use explain,";
    char lead[160];
    if (middle && last) {
        bool hardly = !first || excess(row[0]) < HARDLY * least;
        append_layers(text, report, keep_more, "and",
                      !first   ? "and not at the first"
                      : hardly ? "and hardly at the first"
                               : "but, unlike in the paper, the first layer does so comparably");
        return hardly;
    }
    snprintf(lead, sizeof lead, "%s%s", middle || last ? keep_more : keep_no_more,
             middle ? " only"
             : last ? ", not"
                    : " neither");
    append_layers(text, report, lead,
                  middle ? "and not at"
                  : last ? "but at"
                         : "nor at",
                  middle || last ? (first ? "and also at the first" : "and not at the first")
                                 : (first ? "though they do at the first" : "nor at the first"));
    return false;
}

static bool names_mathematics(const char *name)
{
    for (; *name != '\0'; name++) {
        if (mixt_ascii_lower(name[0]) == 'm' && mixt_ascii_lower(name[1]) == 'a' &&
            mixt_ascii_lower(name[2]) == 't' && mixt_ascii_lower(name[3]) == 'h') {
            return true;
        }
    }
    return false;
}

typedef struct domain_distance {
    int domain;
    double value; /* mean over layers, as the others */
    double level;
    double high;
    bool leveled; /* at all of its layers */
} domain_distance;

static int farthest_first(const void *left, const void *right)
{
    const domain_distance *a = left;
    const domain_distance *b = right;
    return a->value != b->value ? (a->value < b->value) - (a->value > b->value)
                                : a->domain - b->domain;
}

/* Layers at which a domain has experts, and so a distance. */
static int layers_used(const mixt_report *report, int domain)
{
    int used = 0;
    for (int layer = 0; layer < report->trace->info.layers; layer++) {
        used += mixt_counts_total(report->counts, layer, domain, MIXT_CHOICE_ANY) != 0;
    }
    return used;
}

/* Mean distances of the domains that have experts, farthest first; returns how many. */
static int mean_distances(const mixt_report *report, domain_distance *rows)
{
    int count = 0;
    for (int d = 0; d < report->trace->info.domains; d++) {
        domain_distance row = {d, 0, 0, 0, true};
        int layers = layers_used(report, d);
        for (int layer = 0; layer < report->trace->info.layers && layers != 0; layer++) {
            const mixt_distance *distance = mixt_report_distance(report, layer, d);
            row.value += distance->value / layers;
            row.level += distance->level / layers;
            row.high += distance->high / layers;
            bool used = mixt_counts_total(report->counts, layer, d, MIXT_CHOICE_ANY) != 0;
            row.leveled = row.leveled && (distance->leveled || !used);
        }
        if (layers != 0) {
            rows[count++] = row;
        }
    }
    qsort(rows, (size_t)count, sizeof *rows, farthest_first);
    return count;
}

static void append_domain(mixt_buffer *text, const mixt_report *report, const domain_distance *row)
{
    mixt_display_name(text, report->trace->domain_names[row->domain], MIXT_DISPLAY_PLAIN);
    mixt_buffer_format(text, " (%.3f from the mean, ", row->value);
    if (row->leveled) {
        mixt_buffer_format(text, "%.3f by chance)", row->level);
    } else {
        mixt_buffer_text(text, "by chance unknown)");
    }
}

static bool exceeds_chance(const domain_distance *row)
{
    return row->leveled && row->value > row->high;
}

/* Returns true where the paper's observation is there. */
static bool judge_domains(const mixt_report *report, domain_distance *rows, mixt_buffer *text)
{
    int count = mean_distances(report, rows);
    if (count < 3) {
        mixt_buffer_format(text, "%d domain%s: too few to say whether topics matter", count,
                           count == 1 ? "" : "s");
        return false;
    }
    int differing = 0;
    int leveled = 0;
    int apart = 0; /* the farthest so many stand apart */
    int mathematics = -1;
    double median = 0.5 * (rows[(count - 1) / 2].value + rows[count / 2].value);
    for (int i = 0; i < count; i++) {
        differing += exceeds_chance(&rows[i]);
        leveled += rows[i].leveled;
        apart += apart == i && exceeds_chance(&rows[i]) && rows[i].value >= APART * median;
        if (mathematics < 0 && names_mathematics(report->trace->domain_names[rows[i].domain])) {
            mathematics = i;
        }
    }
    if (leveled < count) {
        mixt_buffer_format(text,
                           "of %d of %d domains there are too few documents to say what chance "
                           "alone would give, so whether topics matter stays open, the farthest "
                           "being ",
                           count - leveled, count);
        append_domain(text, report, &rows[0]);
        return false;
    }
    if (median > ALIKE && differing > count / 2) {
        mixt_buffer_format(text,
                           "domains, unlike in the paper, use different experts, half of them more "
                           "than %.3f from the mean, the farthest being ",
                           median);
        append_domain(text, report, &rows[0]);
        mixt_buffer_text(text, " and the nearest ");
        append_domain(text, report, &rows[count - 1]);
        return false;
    }
    if (apart > 0) {
        bool as_paper = apart == 1 && mathematics == 0;
        mixt_buffer_text(text, "domains use the experts much alike except ");
        for (int i = 0; i < apart; i++) {
            mixt_buffer_text(text, i == 0 ? "" : i + 1 == apart ? " and " : ", ");
            append_domain(text, report, &rows[i]);
        }
        mixt_buffer_text(text, "; the next is ");
        append_domain(text, report, &rows[apart]);
        mixt_buffer_text(text,
                         as_paper ? "" : ", where the paper saw mathematics alone stand apart");
        return as_paper;
    }
    if (differing == 0) {
        mixt_buffer_text(text, "domains use the experts alike, none farther from the mean than "
                               "random halves of its own documents, the farthest being ");
        append_domain(text, report, &rows[0]);
        mixt_buffer_text(text, mathematics < 0 ? ", and there is no mathematics among them" : "");
        return mathematics < 0;
    }
    mixt_buffer_format(text,
                       "%d of %d domains differ from the mean by more than random halves of their "
                       "own documents would, none far apart from the rest, the farthest being ",
                       differing, count);
    append_domain(text, report, &rows[0]);
    if (mathematics > 0) {
        mixt_buffer_text(text, " before ");
        append_domain(text, report, &rows[mathematics]);
    }
    return mathematics == 0 || mathematics < 0;
}

static void note_few_documents(const mixt_report *report, mixt_buffer *text)
{
    int few = 0;
    int used = 0;
    for (int d = 0; d < report->trace->info.domains; d++) {
        uint64_t documents = report->units->documents[d];
        used += documents != 0;
        few += documents != 0 && documents < MIXT_UNITS_MIN_DOCUMENTS;
    }
    if (few > 0) {
        mixt_buffer_text(text, "; ");
        if (used > 1) {
            mixt_buffer_format(text, "%d of %d domains %s", few, used, few == 1 ? "has" : "have");
        } else {
            mixt_buffer_text(text, "it has");
        }
        mixt_buffer_format(text,
                           " fewer than %d documents, so what chance would give there is said of "
                           "these documents only",
                           MIXT_UNITS_MIN_DOCUMENTS);
    }
}

typedef struct told {
    double part; /* of the entropy, beyond chance; 0 where that is not surely so */
    bool known;  /* there is a level */
} told;

static told told_of(const mixt_report *report, int label)
{
    int layers = report->trace->info.layers;
    const mixt_information *row = mixt_report_information(report, layers, label, MIXT_TOLD_FIRST);
    bool exceeds = mixt_information_exceeds(row);
    return (told){exceeds ? mixt_information_share(row, row->excess) : 0, row->shuffles > 0};
}

static void append_told(mixt_buffer *text, const told *t)
{
    if (!t->known) {
        mixt_buffer_text(text, "an unknown part");
    } else if (t->part <= 0) {
        mixt_buffer_text(text, "no more than chance");
    } else {
        mixt_buffer_format(text, "%.1f %%", 100 * t->part);
    }
}

/* What the router follows, by the first choice's information over all layers. */
static void judge_information(const mixt_report *report, mixt_buffer *text)
{
    int layers = report->trace->info.layers;
    const mixt_information *row =
        mixt_report_information(report, layers, MIXT_LABEL_TOKEN, MIXT_TOLD_FIRST);
    told domain = told_of(report, MIXT_LABEL_DOMAIN);
    told class = told_of(report, MIXT_LABEL_CLASS);
    told token = told_of(report, MIXT_LABEL_TOKEN);
    if (row->count == 0) {
        mixt_buffer_format(text, "nothing can be said of what the router follows: %s", row->absent);
        return;
    }
    const char *followed =
        !token.known && !domain.known         ? "what the router follows stays open"
        : token.part <= 0 && domain.part <= 0 ? "the router follows neither, as far as this shows"
        : !domain.known                       ? "the router follows tokens; of topics this "
                                                "trace cannot tell"
        : !token.known                        ? "the router follows topics; of tokens this "
                                                "trace cannot tell"
        : token.part >= MORE * domain.part    ? "the router follows tokens more than topics"
        : domain.part >= MORE * token.part    ? "the router follows topics more than tokens"
                                              : "the router follows tokens and topics alike";
    mixt_buffer_text(text, "beyond its document a token tells ");
    append_told(text, &token);
    mixt_buffer_format(text, " of the %.2f bits of its first expert, its class ", row->entropy);
    append_told(text, &class);
    mixt_buffer_text(text, "; the domain tells ");
    append_told(text, &domain);
    mixt_buffer_text(text, domain.part > 0 ? " beyond shuffled documents" : "");
    mixt_buffer_format(text, " (mean of all layers): %s", followed);
    if (token.part > 0 && class.known && token.part >= MORE * domain.part) {
        mixt_buffer_text(text, MORE * class.part >= token.part
                                   ? ", and at least half of that is their class"
                                   : ", and most of that is words, not their class");
    }
}

static void keep(char *to, size_t room, const mixt_buffer *from)
{
    size_t length = from->length < room - 1 ? from->length : room - 1;
    while (length > 0 && length < from->length && (from->data[length] & 0xC0) == 0x80) {
        length--; /* never half a character */
    }
    if (from->data != NULL) {
        memcpy(to, from->data, length);
    }
    to[length] = '\0';
}

mixt_status mixt_verdict_make(mixt_report *report, mixt_error *error)
{
    static const char *const headlines[] = {
        "This trace shows neither of the two things that the Mixtral paper saw",
        "This trace shows one of the two things that the Mixtral paper saw",
        "This trace shows both things that the Mixtral paper saw",
    };
    mixt_verdict *verdict = &report->verdict;
    mixt_buffer repetition = {0};
    mixt_buffer domains = {0};
    mixt_buffer information = {0};
    domain_distance *rows = calloc((size_t)report->trace->info.domains, sizeof *rows);
    if (rows != NULL) {
        verdict->shown = judge_repetition(report, &repetition);
        verdict->shown += judge_domains(report, rows, &domains);
    }
    note_few_documents(report, &domains);
    if (report->information != NULL) {
        judge_information(report, &information);
    }
    bool complete = rows != NULL && !repetition.failed && !domains.failed && !information.failed;
    if (complete) {
        snprintf(verdict->headline, sizeof verdict->headline, "%s", headlines[verdict->shown]);
        keep(verdict->repetition, sizeof verdict->repetition, &repetition);
        keep(verdict->domains, sizeof verdict->domains, &domains);
        keep(verdict->information, sizeof verdict->information, &information);
    }
    free(rows);
    mixt_buffer_free(&repetition);
    mixt_buffer_free(&domains);
    mixt_buffer_free(&information);
    return complete ? MIXT_OK : mixt_fail(error, MIXT_ERROR_MEMORY, "atlas: no memory");
}
