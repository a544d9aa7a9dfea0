/* Options that change how a model routes while it runs. */
#ifndef MIXT_CLI_ROUTING_H
#define MIXT_CLI_ROUTING_H

#include "cli.h"

typedef struct routing_settings {
    const char *top;
    const char *mask;
    const char *force;
    int renormalise; /* place in "auto yes no" */
} routing_settings;

extern const cli_option options_routing[]; /* routing_settings */

mixt_status change_routing(const routing_settings *settings, mixt_model *model, mixt_error *error);

#endif
