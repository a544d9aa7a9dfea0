/* Files of `key = value` lines: # begins a comment; a value may be quoted. The settings of commands
 * and the specs of studies are such files. */
#ifndef MIXT_CLI_CONFIG_H
#define MIXT_CLI_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

typedef struct config_reader {
    const char *path;
    int line;      /* that is being read */
    char *message; /* [size]: what was wrong */
    size_t size;
    bool lenient; /* Python's import lines are passed over (nanoGPT's files have one) */
    bool failed;  /* not the file is at fault, but the machine */
} config_reader;

/* One line: the key, and the value as it stands there, for config_unquote. false: the message is
 * set. Both may be changed in place and are gone behind the call. */
typedef bool (*config_pair)(void *user, config_reader *reader, char *name, char *value);

bool config_read(config_reader *reader, config_pair take, void *user);
/* Takes quotes off, or cuts a comment from an unquoted value. */
bool config_unquote(config_reader *reader, char **value);
/* "PATH:LINE: " and what is wrong; gives false. */
bool config_refuse(config_reader *reader, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* The reverse: a line that reads back as these. */
void config_write(FILE *stream, const char *name, const char *value);

#endif
