/* mixt info --ranks: what a step of training over ranks would cost, on paper. */
#ifndef MIXT_CLI_INFO_RANKS_H
#define MIXT_CLI_INFO_RANKS_H

#include "shared.h"

typedef struct ranks_settings {
    int ranks; /* 0: not asked for */
    int data, expert, chunks;
    const char *network, *flops, *bandwidth; /* "100G"; NULL: not said */
    double latency, delay;                   /* microseconds */
    double efficiency;                       /* share */
    double imbalance;
    mixt_model_options model;
    mixt_train_options training;
} ranks_settings;

extern const cli_option options_ranks_cost[]; /* ranks_settings */

void ranks_defaults(ranks_settings *settings);
/* Refuses what makes no sense, and reads what the shape is where `model` is one (NULL: it is all in
 * options): the exit status. `settings` lies in those of the arguments. */
int ranks_read(ranks_settings *settings, cli_arguments *arguments, const char *model);
mixt_status ranks_print(const ranks_settings *settings, bool json, cli_resources *resources,
                        mixt_error *error);

#endif
