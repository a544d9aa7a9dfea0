/* What the options of sampling say, made ready for the library. */
#ifndef MIXT_CLI_SAMPLING_H
#define MIXT_CLI_SAMPLING_H

#include "cli.h"

/* As it was said. */
typedef struct sampler_settings {
    mixt_sampler_options options;
    const char *samplers, *sequence; /* names, or letters */
    const char *grammar, *grammar_file, *schema, *schema_file;
    string_list breakers, biases, stops;
} sampler_settings;

extern const cli_option options_sampling[]; /* sampler_settings */

/* The defaults with a seed of their own. */
sampler_settings sampler_defaults(void);

/* The same as the library takes it; the settings outlive it. */
typedef struct draw_options {
    mixt_sampler_options options;
    const string_list *stops; /* NULL: none */
    char *grammar;
    mixt_logit_bias *biases;
    char order[400];
} draw_options;

mixt_status draws_begin(const sampler_settings *settings, draw_options *draws, mixt_error *error);
void draws_end(draw_options *draws);

#endif
