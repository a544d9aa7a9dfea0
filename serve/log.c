#include "log.h"

#include <stdio.h>
#include <time.h>

void log_request(const log_entry *entry)
{
    char when[32];
    struct tm utc;
    time_t now = time(NULL);
    text_buffer line = {0};
    gmtime_r(&now, &utc);
    strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", &utc);
    text_put(&line, "{");
    text_member(&line, "time", when);
    text_member_integer(&line, "request", (int64_t)entry->request->number);
    text_member(&line, "client", entry->request->client);
    text_member(&line, "method", entry->request->method);
    /* A path that is none of ours is whatever somebody sent. */
    text_member(&line, "path", entry->route);
    text_member_integer(&line, "status", entry->outcome->status);
    text_member_integer(&line, "bytes", (int64_t)entry->outcome->bytes);
    text_member_bool(&line, "whole", entry->outcome->whole);
    text_member_integer(&line, "ms", http_now() - entry->request->began);
    if (entry->code != NULL) {
        text_member(&line, "code", entry->code);
    }
    if (entry->counts != NULL) {
        const generation_times *times = entry->times;
        text_member_integer(&line, "prompt_tokens", (int64_t)entry->counts->prompt_tokens);
        text_member_integer(&line, "cached_tokens", (int64_t)entry->counts->cached_tokens);
        text_member_integer(&line, "generated_tokens", (int64_t)entry->counts->drawn_tokens);
        text_member_integer(&line, "queued_ms",
                            times->begun > 0 ? (times->begun - times->queued) / 1000 : -1);
        text_member_integer(&line, "first_token_ms",
                            times->first > 0 ? (times->first - times->queued) / 1000 : -1);
    }
    text_put(&line, "}\n");
    if (!line.failed) {
        fwrite(line.bytes, 1, line.length, stderr);
        fflush(stderr);
    }
    text_free(&line);
}
