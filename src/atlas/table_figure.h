/* The figures of a table: which it becomes, and the two that are files of their own. */
#ifndef MIXT_ATLAS_TABLE_FIGURE_H
#define MIXT_ATLAS_TABLE_FIGURE_H

#include "atlas/table_print.h"

#define MIXT_FIGURE_PANELS 12 /* at most: of charts, and of heat maps half as many */

/* Rows that agree in all keys but those of the axes. */
typedef struct mixt_panel {
    uint64_t first; /* a row that the others agree with */
    uint64_t rows;
} mixt_panel;

typedef struct mixt_figure {
    const mixt_table *table;
    mixt_buffer *out; /* what stands inside of the svg element */
    int x, y;         /* columns of the axes; -1: none */
    mixt_panel panels[MIXT_FIGURE_PANELS];
    int panel_count;
    uint64_t left_out; /* panels */
    double width;      /* so far, of all that is drawn */
    double height;
} mixt_figure;

/* Whether a row belongs to a panel. */
bool mixt_panel_holds(const mixt_figure *figure, const mixt_panel *panel, uint64_t row);
/* The keys that a panel's rows agree in, or nothing where there are none. */
void mixt_panel_name(const mixt_figure *figure, const mixt_panel *panel, mixt_buffer *out);

/* Value by x and y, with the colours' scale, below `figure->height`. */
void mixt_figure_heat(mixt_figure *figure);
/* Of the rows that say most. */
void mixt_figure_bars(mixt_figure *figure);

#endif
