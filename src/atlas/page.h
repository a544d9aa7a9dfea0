/* The parts of the HTML page. Everything that comes out of a trace goes through
 * mixt_display_text/_bytes with MIXT_DISPLAY_HTML; the script holds no text of the trace. A page is
 * about as large as its trace: names are cut where they stand often, only so many domains are
 * shown, and of many experts only those that were chosen. */
#ifndef MIXT_ATLAS_PAGE_H
#define MIXT_ATLAS_PAGE_H

#include "atlas/display.h"
#include "atlas/report.h"

#define MIXT_PAGE_MAX_LAYERS 16 /* in figures that draw every expert of a layer */

typedef struct mixt_page {
    const mixt_report *report;
    const mixt_trace *trace;
    mixt_buffer *out;
    int layers[MIXT_PAGE_MAX_LAYERS]; /* MoE layers shown in those figures: all, or spread evenly */
    int layer_count;
    int start; /* entry of `layers` shown first: the middle layer */
    int next_id;
    bool *shows;     /* [domains]: those with tokens, up to as many as a page can bear */
    int shown_count; /* of them */
} mixt_page;

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
    const double *dashed;    /* first level */
    const char *dashed_name; /* for tooltips */
    const double *dotted;    /* second level */
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

/* Radio buttons "name" over the page's layers; `chosen` is an entry of `layers`. Their ids are
 * name0, name1, ... Must stand before what they switch, as siblings. */
void mixt_page_layer_choice(mixt_page *page, const char *name, const char *legend,
                            const int *layers, int count, int chosen);

/* What the lines of such charts are. */
void mixt_page_legend(mixt_page *page, const char *value, const char *dashed, const char *dotted);

void mixt_page_repetition(mixt_page *page);
void mixt_page_distance(mixt_page *page);
void mixt_page_proportions(mixt_page *page);
void mixt_page_load(mixt_page *page);
void mixt_page_information(mixt_page *page);
void mixt_page_excerpts(mixt_page *page);
mixt_status mixt_page_top_tokens(mixt_page *page, mixt_error *error);
/* CSS rules for the experts' colours and for the radio buttons of this trace. */
void mixt_page_expert_style(mixt_page *page);

/* The files of src/atlas/page, carried in the library: atlas.css, atlas.js in this order. The
 * script holds nothing of a trace and moves text only as text, so nothing of a trace can become
 * markup or code. Its SHA-256 goes into the page's content security policy. */
typedef struct mixt_page_file {
    const char *name;
    const unsigned char *bytes;
    size_t length;
} mixt_page_file;

enum { MIXT_PAGE_STYLE, MIXT_PAGE_SCRIPT };

extern const mixt_page_file mixt_page_files[];

#endif
