/* Figures of a study's page, as SVG. */
#ifndef MIXT_CLI_STUDY_CHART_H
#define MIXT_CLI_STUDY_CHART_H

#include "study.h"

/* Text of a spec or a corpus as text of the page. */
void study_page_text(FILE *stream, const char *text);
/* The section with learning curves by tokens and by FLOPs, the final loss by seconds, and the
 * differences to the baseline. */
void study_write_charts(const study *s, FILE *stream);

#endif
