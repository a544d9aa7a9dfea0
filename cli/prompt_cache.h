/* --prompt-cache: what was computed of a prompt, in a file for the next run. */
#ifndef MIXT_CLI_PROMPT_CACHE_H
#define MIXT_CLI_PROMPT_CACHE_H

#include "generate.h"

typedef struct prompt_cache {
    const char *path; /* NULL: none */
    bool all;         /* what was drawn too */
    bool read_only;
} prompt_cache;

/* Rows; `settings` holds a prompt_cache `cache`. */
#define OPTIONS_OF_PROMPT_CACHE(settings)                                                          \
    {.name = "prompt-cache",                                                                       \
     .kind = OPTION_TEXT,                                                                          \
     .offset = offsetof(settings, cache.path),                                                     \
     .value = "FILE",                                                                              \
     .help = "keep what is computed of the prompt there, and take what is there already"},         \
        {.name = "prompt-cache-all",                                                               \
         .kind = OPTION_FLAG,                                                                      \
         .offset = offsetof(settings, cache.all),                                                  \
         .help = "... and of what is generated and typed behind it"},                              \
    {                                                                                              \
        .name = "prompt-cache-ro", .kind = OPTION_FLAG,                                            \
        .offset = offsetof(settings, cache.read_only), .help = "... and leave the file as it is"   \
    }

/* Switches that would do nothing: 0, or the status of what is refused. */
int prompt_cache_check(const prompt_cache *cache);
/* Before anything is fed. A file that is not there yet is none. */
mixt_status prompt_cache_read(const prompt_cache *cache, generation_state *generation,
                              mixt_error *error);
/* Behind the first prompt, whose computing has been counted; says how much was there on standard
 * error where `says`. */
mixt_status prompt_cache_after_prompt(const prompt_cache *cache, const generation_state *generation,
                                      bool says, mixt_error *error);
mixt_status prompt_cache_at_end(const prompt_cache *cache, const generation_state *generation,
                                mixt_error *error);

#endif
