/* The program as one of several ranks that a launcher (mpirun, srun) started. Rank 0 is the program
 * as always; the others write and read nothing, and do what its command has for them. */
#ifndef MIXT_CLI_RANKS_H
#define MIXT_CLI_RANKS_H

#include "shared.h"

extern mixt_ranks *program_ranks; /* NULL: this process is alone */

/* run_program as one of them: the exit status. */
int ranks_program(int argc, char **argv);
/* A command whose options were read: rank 0 runs it, the others what it has for them. */
int ranks_run(const cli_command *command, cli_arguments *arguments);
/* Whether all ranks have what only one may lack, such as a file with options; else all have the
 * first one's message. */
bool ranks_agree_on_options(cli_arguments *arguments, bool good);
/* All ranks know of the error that this one ends with: it ends none of them. */
void ranks_all_know(void);
/* Whether this is rank 0, or alone. */
bool ranks_lead(void);
/* Ctrl-C reaches all ranks, and is rank 0's from now on: it ends the others' work. */
void ranks_leave_signals(void);
/* How a stage ended, in which rank 0 may have worked alone for hours: an exit status, whose message
 * was printed where it is this rank's own. The same one for all ranks, or none. */
int ranks_agree_on_status(int status);
/* Threads of a rank that was not told: the machine's cores, shared by the ranks on it. */
int ranks_threads(int allowed);

/* ---- commands that run a model whose experts are spread: rank 0 calls the others */

/* Opens what `open` does on all ranks and keeps this rank's share of it; then the others work, and
 * rank 0 has a model to run. */
typedef mixt_status (*ranks_opener)(const void *settings, cli_resources *resources,
                                    mixt_error *error);
mixt_status ranks_spread(ranks_opener open, const void *settings, cli_resources *resources,
                         mixt_error *error);
/* What other ranks than 0 do in such a command: with the same, until rank 0 is done. */
int ranks_work(ranks_opener open, const void *settings);
/* Rank 0 does something with a model that the ranks share, and the others give it their experts. */
typedef mixt_status (*ranks_deed)(void *user, mixt_error *error);
mixt_status ranks_together(const cli_resources *resources, ranks_deed deed, void *user,
                           mixt_error *error);
/* The others stop to work for this model; it is freed then. */
void ranks_dismiss(mixt_model *model);
/* Refuses what a model that is spread cannot have: the exit status. */
int ranks_refuse(const model_settings *settings, const cli_arguments *arguments);

#endif
