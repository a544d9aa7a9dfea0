#include "page.h"

#include <string.h>

#include "server.h"

const serve_page_file *serve_page_find(const char *path)
{
    for (const serve_page_file *file = serve_page_files; file->path != NULL; file++) {
        if (strcmp(file->path, path) == 0) {
            return file;
        }
    }
    return NULL;
}

/* Whether If-None-Match names a file: "*", or its tag in a list, weak or not (RFC 9110, 13.1.2). */
static bool is_kept(const char *tags, const char *etag)
{
    size_t length = strlen(etag);
    for (const char *at = tags; (at = strstr(at, etag)) != NULL; at += length) {
        const char *end = at + length + strspn(at + length, " \t");
        if (*end == 0 || *end == ',') {
            return true;
        }
    }
    return strcmp(tags, "*") == 0;
}

/* A browser that has the file already is told so. */
static http_progress answer_page(api_call *call, http_reply *reply)
{
    const serve_page_file *file = serve_page_find(call->request->path);
    const char *kept = http_header(call->request, "If-None-Match");
    reply->content_type = file->type;
    reply->etag = file->etag;
    reply->policy = SERVE_PAGE_POLICY;
    if (kept != NULL && is_kept(kept, file->etag)) {
        reply->status = 304;
    } else {
        reply->fixed = file->bytes;
        reply->fixed_length = file->length;
    }
    return HTTP_ANSWERED;
}

const api_route page_route = {
    .method = "GET", .path = "/", .answer = answer_page, .open = true, .always = true};
