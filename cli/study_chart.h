/* Figures of a study, as SVG: in its page, and each as a file. */
#ifndef MIXT_CLI_STUDY_CHART_H
#define MIXT_CLI_STUDY_CHART_H

#include "study.h"

enum { STUDY_FIGURE_WIDTH = 460 };

/* Text of a spec or a corpus as text of the page. */
void study_page_text(FILE *stream, const char *text);
/* For a <style>: all colours, as custom properties; and how what is drawn looks. */
extern const char study_page_colors[], study_page_marks[];
/* Attribute with colour and dashes of a cell. */
void study_chart_stroke(size_t cell, FILE *stream);
/* About how wide a name is in a figure's letters. */
double study_chart_width(const char *name);

/* What is inside of a figure, STUDY_FIGURE_WIDTH wide; its height, 0 where there is nothing. */
int study_draw_curves(const study *s, FILE *stream);
int study_draw_curves_by_flops(const study *s, FILE *stream);
int study_draw_loss_by_flops(const study *s, FILE *stream);
int study_draw_loss_by_seconds(const study *s, FILE *stream);
int study_draw_differences(const study *s, FILE *stream);
int study_draw_repetition(const study *s, FILE *stream);
int study_draw_token(const study *s, FILE *stream);
int study_draw_domain(const study *s, FILE *stream);
int study_draw_class(const study *s, FILE *stream);

/* ---- study_figure.c */

/* The sections with all figures that there are. */
void study_write_figures(const study *s, FILE *stream);
/* The name of figure `index` as a file, NULL behind the last one. */
const char *study_figure_name(size_t index);
/* That file, malloc'd; *length is 0 where the study has nothing to draw in it. NULL: no memory. */
char *study_figure_text(const study *s, size_t index, size_t *length);

#endif
