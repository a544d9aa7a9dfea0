/* Experts taken out of a model before it is converted, and what that costs. */
#ifndef MIXT_CLI_PRUNE_H
#define MIXT_CLI_PRUNE_H

#include "shared.h"

typedef struct prune_settings {
    const char *drop; /* FILE or N%; NULL: none go */
    const char *results;
    int by;             /* mixt_prune_by */
    const char *output; /* of the conversion: results that are measured here lie beside it */
    const char *model;
    bool has_data;
    bool heldout; /* the cost is that on documents held out, which the choice does not see */
    int window;
    int64_t max_tokens;
} prune_settings;

/* With the model, its tokenizer and, where there are any, texts open. The table of what it costs
 * goes to standard output. */
mixt_status drop_experts(const prune_settings *settings, cli_resources *resources,
                         mixt_error *error);

#endif
