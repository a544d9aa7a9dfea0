/* What converting a model cost: the written one beside its source, on a text. */
#ifndef MIXT_CLI_CONVERT_REPORT_H
#define MIXT_CLI_CONVERT_REPORT_H

#include "shared.h"

typedef struct convert_report_request {
    const char *written; /* path of what was written */
    bool heldout;        /* of the texts, the documents held out */
    bool fitted;         /* the texts are those that types or importance were chosen on */
    int window;
    int64_t max_tokens; /* of each domain; 0: no limit */
    bool json;
} convert_report_request;

/* Of resources->model and the written one, on resources->data. */
mixt_status convert_report(const convert_report_request *request, const cli_resources *resources,
                           mixt_error *error);

#endif
