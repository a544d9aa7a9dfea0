/* The text that the page's search looks through: all of it where the page can hold it, else the
 * first tokens of each domain. */
#ifndef MIXT_ATLAS_PAGE_SEARCH_H
#define MIXT_ATLAS_PAGE_SEARCH_H

#include "atlas/page.h"

typedef struct mixt_page_search {
    uint64_t quota;  /* tokens of each shown domain, at most: its first ones */
    uint64_t tokens; /* of all */
    int32_t orders;  /* different ones among them */
    int32_t *token;  /* [orders] most frequent first, so that frequent ones are one byte */
    int32_t *order;  /* [vocab_size] its place in `token`, or -1 */
    size_t bytes;    /* of the page, at most */
} mixt_page_search;

/* The most text that fits into so many bytes of the page. Freed all the same where it fails. */
mixt_status mixt_page_search_choose(const mixt_page *page, size_t bytes, mixt_page_search *search,
                                    mixt_error *error);
void mixt_page_search_free(mixt_page_search *search);

/* Its documents, three numbers each (domain as listed, document, tokens), or the places in `token`
 * of its tokens, in LEB128. */
void mixt_page_search_write(const mixt_page *page, const mixt_page_search *search, bool documents,
                            mixt_buffer *bytes);

#endif
