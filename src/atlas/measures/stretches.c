/* Which tokens measures look at whose work grows faster than the trace. */
#include <stdlib.h>

#include "atlas/measures/measures.h"
#include "core/error.h"

mixt_status mixt_stretches_choose(const mixt_measuring *measuring, uint64_t most,
                                  mixt_stretches *stretches, mixt_error *error)
{
    const mixt_trace *trace = measuring->trace;
    uint64_t step = (trace->info.tokens + most - 1) / most;
    *stretches = (mixt_stretches){
        .items = calloc(trace->info.documents / step + 1, sizeof *stretches->items)};
    if (stretches->items == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "atlas: no memory for a measure");
    }
    for (uint64_t d = 0; d < trace->info.documents && stretches->tokens < most; d += step) {
        uint64_t begin = trace->document_start[d], end = trace->document_start[d + 1];
        uint64_t left = most - stretches->tokens;
        end = end - begin > left ? begin + left : end;
        stretches->items[stretches->count++] =
            (mixt_stretch){begin, end, measuring->group[trace->document[begin]]};
        stretches->tokens += end - begin;
    }
    return MIXT_OK;
}

void mixt_stretches_say(const mixt_stretches *stretches, const mixt_measuring *measuring,
                        const char *what, mixt_buffer *note)
{
    uint64_t tokens = measuring->trace->info.tokens;
    if (stretches->tokens < tokens) {
        mixt_buffer_format(note, "%s%s of %llu of the %llu tokens, in documents spread evenly.",
                           note->length > 0 ? " " : "", what, (unsigned long long)stretches->tokens,
                           (unsigned long long)tokens);
    }
}

void mixt_stretches_free(mixt_stretches *stretches)
{
    free(stretches->items);
    *stretches = (mixt_stretches){0};
}
