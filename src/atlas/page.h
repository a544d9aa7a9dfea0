/* The parts of the HTML page. Everything that comes out of a trace goes through
 * mixt_display_text/_bytes with MIXT_DISPLAY_HTML, or into the block of JSON as
 * mixt_page_string; the script holds no text of the trace. What is drawn here is there for print
 * and for readers without scripts: the first, middle and last layer of what has a figure for each
 * layer. The script draws any layer and expert from the block of JSON (page_data.c) when it is
 * asked for. A page is about as large as its trace and no larger than MIXT_PAGE_BYTES: names are
 * cut where they stand often, only so many domains are shown, of many experts only those that were
 * chosen, and excerpts and the text that is searched get what is left. */
#ifndef MIXT_ATLAS_PAGE_H
#define MIXT_ATLAS_PAGE_H

#include "atlas/display.h"
#include "atlas/report.h"

#define MIXT_PAGE_BYTES 10000000u /* of a page, unless its numbers alone are more */
#define MIXT_PAGE_EXCERPTS 4      /* of a domain, at most */

/* Tokens [begin, begin + count) of one document. */
typedef struct mixt_page_excerpt {
    int domain;
    uint64_t begin, count;
} mixt_page_excerpt;

typedef struct mixt_page {
    const mixt_report *report;
    const mixt_trace *trace;
    const mixt_atlas_page_options *options;
    mixt_buffer *out;
    int middle; /* entry of report->key_layers */
    int next_id;
    bool *shows;     /* [domains]: those with tokens, up to as many as a page can bear */
    int shown_count; /* of them */
    mixt_page_excerpt *excerpts; /* [excerpt_count], by domain */
    int excerpt_count;
    /* Of a page of two traces: */
    const mixt_trace *second; /* NULL: of one */
    mixt_counts *second_counts;
    bool same_text;    /* it is of the same tokens */
    bool same_shape;   /* as many layers, experts and choices */
    double *agreement; /* [4, L]: same first choice, the same of independent choices that use
                          experts as these do; common part of the sets, likewise. NULL: not of the
                          same text and shape */
    /* Results of mixt probe: */
    struct mixt_page_probe *probe; /* NULL: no results given */
    struct mixt_page_data *data;   /* the numbers of its block of JSON, so far */
} mixt_page;

/* What the page shows beside `trace`: refused where it does not fit. */
mixt_status mixt_page_second(mixt_page *page, mixt_error *error);
void mixt_page_second_free(mixt_page *page);
/* Reads options->probe; refused by name where it is not of this trace's layers and experts. */
mixt_status mixt_page_probe_read(mixt_page *page, mixt_error *error);
void mixt_page_probe_free(mixt_page *page);
/* Chooses the texts shown, as many as fit beside the data so far. */
mixt_status mixt_page_choose_excerpts(mixt_page *page, mixt_error *error);

/* The block of JSON: what does not depend on the texts shown, and how long that is; then all of it,
 * with the text that is searched, so that `behind` bytes still fit. The last two write a member
 * each, where there is one. */
mixt_status mixt_page_data_begin(mixt_page *page, mixt_error *error);
size_t mixt_page_data_length(const mixt_page *page);
mixt_status mixt_page_data_end(mixt_page *page, size_t behind, mixt_error *error);
void mixt_page_data_free(mixt_page *page);
void mixt_page_agreement_data(const mixt_page *page, mixt_buffer *out);
void mixt_page_probe_data(const mixt_page *page, mixt_buffer *out);

/* One line over the layers, with its interval and two levels. */
typedef struct mixt_chart {
    const char *title; /* plain text of ours or the trace's: escaped and cut here */
    const char *axis;  /* what `number` counts, of ours; NULL: layer */
    const char *unit;  /* " %" or "" */
    int decimals;
    bool small;          /* half width, for rows of small charts */
    int count;           /* layers, or what else `axis` says */
    const int *number;   /* [count] model's layer numbers */
    const double *value; /* [count], as all below */
    const double *low;   /* NULL: no interval */
    const double *high;
    const double *dashed;    /* first level; NULL: none */
    const char *dashed_name; /* for tooltips */
    const double *dotted;    /* second level; NULL: none */
    const char *dotted_name;
    double bottom, top; /* of the scale: mixt_chart_scale */
} mixt_chart;

void mixt_page_chart(mixt_page *page, const mixt_chart *chart);
/* What is inside of it, for other figures; with the style's classes. */
#define MIXT_CHART_WIDTH 360 /* of a chart that is not small */
#define MIXT_CHART_HEIGHT 224
void mixt_chart_draw(mixt_buffer *out, const mixt_chart *chart);
/* Widens the scale [*bottom, *top] to nice numbers; to 0 where that costs little. */
void mixt_chart_scale(double *bottom, double *top);
/* Distance of its grid lines. */
double mixt_chart_step(double bottom, double top);

void mixt_page_name(mixt_page *page, const char *name); /* escaped, cut where it is very long */
void mixt_page_domain(mixt_page *page, int domain);     /* its name, escaped and cut */
void mixt_page_count(mixt_page *page, uint64_t number); /* with thin spaces */

/* Ends a table's head with a column for each domain, and begins its body. */
void mixt_page_domain_heads(mixt_page *page);

/* Radio buttons "name" over the first, middle and last layer, of which the middle one is chosen.
 * Their ids are name0, name1, ... Must stand before what they switch, as siblings. */
void mixt_page_layer_choice(mixt_page *page, const char *name, const char *legend);

/* What the lines of such charts are. */
void mixt_page_legend(mixt_page *page, const char *value, const char *dashed, const char *dotted);

void mixt_page_words(mixt_page *page);     /* what this model does, in plain words */
void mixt_page_map(mixt_page *page);       /* layers x experts */
void mixt_page_agreement(mixt_page *page); /* of two traces of one text */
void mixt_page_repetition(mixt_page *page);
void mixt_page_distance(mixt_page *page);
void mixt_page_proportions(mixt_page *page);
void mixt_page_load(mixt_page *page); /* the table of it */
void mixt_page_information(mixt_page *page);
void mixt_page_experiments(mixt_page *page); /* of mixt probe */
void mixt_page_excerpts(mixt_page *page);
mixt_status mixt_page_top_tokens(mixt_page *page, mixt_error *error);
/* CSS rules for the experts' colours and for the radio buttons of this trace. */
void mixt_page_expert_style(mixt_page *page);

/* The files of src/atlas/page, carried in the library: the style, then those of the script in their
 * order; a row without a name is the last. The script holds nothing of a trace and moves text only
 * as text, so nothing of a trace can become markup or code. Its SHA-256 goes into the page's
 * content security policy. */
typedef struct mixt_page_file {
    const char *name;
    const unsigned char *bytes;
    size_t length;
} mixt_page_file;

extern const mixt_page_file mixt_page_files[];

#endif
