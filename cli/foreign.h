/* Flags that other programs have for what mixt does. */
#ifndef MIXT_CLI_FOREIGN_H
#define MIXT_CLI_FOREIGN_H

typedef enum foreign_kind { FOREIGN_UNKNOWN, FOREIGN_ACCEPTED, FOREIGN_REFUSED } foreign_kind;

/* Looks at argv[*at], which is no option of the command. An accepted one is taken with its value,
 * and a line on standard error says that it does nothing; of a refused one `reason` says why. */
foreign_kind foreign_take(const char *command, int argc, char **argv, int *at, const char **reason);

#endif
