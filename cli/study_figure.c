/* The figures of a study: which there are, in the page and as files of their own. */
#include <stdlib.h>
#include <string.h>

#include "study_chart.h"

typedef struct figure_row {
    const char *name; /* of its file */
    const char *caption;
    int (*draw)(const study *s, FILE *stream);
    bool curves;   /* cells are told apart by the legend */
    bool by_layer; /* in the section of layers */
} figure_row;

static const figure_row rows[] = {
    {"curves.svg", "Training loss by tokens", study_draw_curves, true, false},
    {"curves-by-flops.svg", "Training loss by FLOPs", study_draw_curves_by_flops, true, false},
    {"loss-by-flops.svg", "Held-out loss by FLOPs of training", study_draw_loss_by_flops, false,
     false},
    {"loss-by-seconds.svg", "Held-out loss by seconds of training, on this machine",
     study_draw_loss_by_seconds, false, false},
    {"differences.svg", "Held-out loss apart from the baseline, nats a token, 95 % intervals",
     study_draw_differences, false, false},
    {"repetition.svg", "Neighbours with the same first expert, share", study_draw_repetition, true,
     true},
    {"token.svg", "First expert and token, bits above the shuffle level", study_draw_token, true,
     true},
    {"class.svg", "First expert and token class, bits above the shuffle level", study_draw_class,
     true, true},
    {"domain.svg", "First expert and domain, bits above the shuffle level", study_draw_domain, true,
     true},
};

#define FIGURES (sizeof rows / sizeof *rows)

/* What is inside of a figure, malloc'd; *height is 0 where there is nothing. NULL: no memory. */
static char *draw(const study *s, const figure_row *row, int *height)
{
    char *text = NULL;
    size_t length = 0;
    FILE *stream = open_memstream(&text, &length);
    *height = stream != NULL ? row->draw(s, stream) : 0;
    if (stream == NULL || fclose(stream) != 0) {
        *height = 0;
        free(text);
        return NULL;
    }
    return text;
}

/* ---- in the page */

static void write_figure(const study *s, const figure_row *row, FILE *stream)
{
    int height;
    char *inside = draw(s, row, &height);
    if (height > 0) {
        fprintf(stream,
                "<figure><figcaption>%s</figcaption>\n<svg viewBox=\"0 0 %d %d\" role=\"img\" "
                "aria-label=\"%s\">%s</svg></figure>\n",
                row->caption, STUDY_FIGURE_WIDTH, height, row->caption, inside);
    }
    free(inside);
}

static void legend(const study *s, FILE *stream)
{
    fputs("<ul class=\"legend\">\n", stream);
    for (size_t c = 0; c < s->cell_count; c++) {
        fputs("<li><svg viewBox=\"0 0 28 10\" aria-hidden=\"true\"><path class=\"curve\"", stream);
        study_chart_stroke(c, stream);
        fputs(" d=\"M0 5H28\"/></svg>", stream);
        study_page_text(stream, s->cells[c].name);
        fputs("</li>\n", stream);
    }
    fputs("</ul>\n", stream);
}

static bool has_layers(const study *s)
{
    bool has = false;
    for (size_t i = 0; i < FIGURES && !has; i++) {
        int height = 0;
        free(rows[i].by_layer ? draw(s, &rows[i], &height) : NULL);
        has = height > 0;
    }
    return has;
}

static void section(const study *s, bool by_layer, FILE *stream)
{
    fputs(by_layer ? "<section id=\"layers\">\n<h2>Layer by layer</h2>\n"
                   : "<section id=\"curves\">\n<h2>Learning curves</h2>\n",
          stream);
    legend(s, stream);
    fputs("<div class=\"pair\">\n", stream);
    for (size_t i = 0; i < FIGURES; i++) {
        if (rows[i].by_layer == by_layer) {
            write_figure(s, &rows[i], stream);
        }
    }
    fputs(by_layer
              ? "</div>\n<p class=\"note\">Means over the seeds, of the layers with experts.</p>\n"
              : "</div>\n<p class=\"note\">Curves are means over the seeds, smoothed over a "
                "sixtieth of the run on both sides; the scale hides the first tenth. Points "
                "stand with the standard error over the seeds.</p>\n",
          stream);
    fputs("</section>\n", stream);
}

void study_write_figures(const study *s, FILE *stream)
{
    section(s, false, stream);
    if (has_layers(s)) {
        section(s, true, stream);
    }
}

/* ---- as files */

enum { CAPTION = 22, ENTRY = 16, ENTRY_WIDTH = 230, ENTRY_NAME = 34, MARGIN = 8 };

/* How many cells stand in a row below a figure: two, where all names have the room. */
static size_t entries_in_row(const study *s)
{
    size_t count = 2;
    for (size_t c = 0; c < s->cell_count; c++) {
        count = study_chart_width(s->cells[c].name) > ENTRY_WIDTH - ENTRY_NAME ? 1 : count;
    }
    return count;
}

static void write_entries(const study *s, int top, FILE *stream)
{
    size_t in_row = entries_in_row(s);
    for (size_t c = 0; c < s->cell_count; c++) {
        int x = (int)(c % in_row) * ENTRY_WIDTH, y = top + (int)(c / in_row) * ENTRY;
        fprintf(stream, "<path class=\"curve\" d=\"M%d %dh28\"", x, y + 8);
        study_chart_stroke(c, stream);
        fprintf(stream, "/><text x=\"%d\" y=\"%d\">", x + ENTRY_NAME, y + 12);
        study_page_text(stream, s->cells[c].name);
        fputs("</text>", stream);
    }
}

static void write_file(const study *s, const figure_row *row, const char *inside, int height,
                       FILE *stream)
{
    size_t in_row = entries_in_row(s);
    int entries = row->curves ? (int)((s->cell_count + in_row - 1) / in_row) * ENTRY : 0;
    int all = CAPTION + height + entries;
    fprintf(stream,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"%d %d %d %d\" width=\"%d\" "
            "height=\"%d\" role=\"img\" aria-label=\"%s\">\n<style>\n%s",
            -MARGIN, -MARGIN, STUDY_FIGURE_WIDTH + 2 * MARGIN, all + 2 * MARGIN,
            STUDY_FIGURE_WIDTH + 2 * MARGIN, all + 2 * MARGIN, row->caption, study_page_colors);
    fprintf(
        stream,
        "text{font:10.5px system-ui,\"Segoe UI\",Roboto,\"Noto Sans\",\"Liberation Sans\",Arial,"
        "sans-serif;fill:var(--soft)}\n.title{font-size:11.5px;fill:var(--ink)}\n%s</style>\n"
        "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" style=\"fill:var(--paper)\"/>\n"
        "<text class=\"title\" x=\"0\" y=\"11\">%s</text>\n<g transform=\"translate(0 %d)\">%s",
        study_page_marks, -MARGIN, -MARGIN, STUDY_FIGURE_WIDTH + 2 * MARGIN, all + 2 * MARGIN,
        row->caption, CAPTION, inside);
    if (row->curves) {
        write_entries(s, height, stream);
    }
    fputs("</g>\n</svg>\n", stream);
}

const char *study_figure_name(size_t index)
{
    return index < FIGURES ? rows[index].name : NULL;
}

char *study_figure_text(const study *s, size_t index, size_t *length)
{
    int height;
    char *text = NULL, *inside = draw(s, &rows[index], &height);
    FILE *stream = open_memstream(&text, length);
    if (stream != NULL && height > 0) {
        write_file(s, &rows[index], inside, height, stream);
    }
    bool good = stream != NULL && fclose(stream) == 0 && inside != NULL;
    free(inside);
    if (!good) {
        free(text);
        return NULL;
    }
    return text;
}
