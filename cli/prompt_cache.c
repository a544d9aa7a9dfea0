#include "prompt_cache.h"

#include "files.h"
#include "terminal.h"

int prompt_cache_check(const prompt_cache *cache)
{
    if (cache->path == NULL && (cache->all || cache->read_only)) {
        return fail_usage("--prompt-cache-%s: it does nothing without --prompt-cache",
                          cache->all ? "all" : "ro");
    }
    if (cache->all && cache->read_only) {
        return fail_usage("--prompt-cache-all and --prompt-cache-ro exclude each other");
    }
    return STATUS_DONE;
}

mixt_status prompt_cache_read(const prompt_cache *cache, generation_state *generation,
                              mixt_error *error)
{
    return cache->path != NULL && files_exist(cache->path)
               ? mixt_session_load(generation->session, cache->path, error)
               : MIXT_OK;
}

mixt_status prompt_cache_after_prompt(const prompt_cache *cache, const generation_state *generation,
                                      bool says, mixt_error *error)
{
    if (cache->path == NULL) {
        return MIXT_OK;
    }
    size_t computed = generation->prompt_tokens;
    size_t found = generation->count > computed ? generation->count - computed : 0;
    if (says) {
        say(stderr, "prompt cache: %zu of %zu token%s of the prompt were in %s\n", found,
            generation->count, plural(generation->count), cache->path);
    }
    bool has_more = computed > 1 || !files_exist(cache->path); /* the last one is always computed */
    return has_more && !cache->all && !cache->read_only
               ? mixt_session_save(generation->session, cache->path, error)
               : MIXT_OK;
}

mixt_status prompt_cache_at_end(const prompt_cache *cache, const generation_state *generation,
                                mixt_error *error)
{
    return cache->path != NULL && cache->all && mixt_session_length(generation->session) > 0
               ? mixt_session_save(generation->session, cache->path, error)
               : MIXT_OK;
}
