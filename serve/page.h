/* The page at /: files of serve/page, carried in the program (serve/page/embed.sh). */
#ifndef MIXT_SERVE_PAGE_H
#define MIXT_SERVE_PAGE_H

#include <stddef.h>

typedef struct serve_page_file {
    const char *path; /* as requests name it: "/", "/page.js" */
    const char *type; /* Content-Type */
    const char *etag; /* of its bytes, in quotes */
    const unsigned char *bytes;
    size_t length;
} serve_page_file;

/* Content-Security-Policy: everything comes from the server itself, nothing is inline or evaluated.
 */
#define SERVE_PAGE_POLICY                                                                          \
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; " \
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for "      \
    "'script'"

/* NULL where the page has no such file. */
const serve_page_file *serve_page_find(const char *path);

/* All of them; a row without path is the last. Made by serve/page/embed.sh. */
extern const serve_page_file serve_page_files[];

#endif
