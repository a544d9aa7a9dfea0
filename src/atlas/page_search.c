#include "atlas/page_search.h"

#include <stdlib.h>
#include <string.h>

#include "atlas/page_encode.h"
#include "core/error.h"

#define TRIES                                                                                      \
    12 /* at a quota that fits; the rest of a page is enough for that or holds no text             \
        */

/* Walks over the tokens that a quota takes: documents in their order, of each its first ones. */
typedef struct walk {
    const mixt_page *page;
    uint64_t *left; /* [domains] of the quota */
    int *listed;    /* [domains] number among those shown */
    int32_t document;
    int domain;
    uint64_t begin, count; /* of the document's tokens taken */
} walk;

static bool walk_create(const mixt_page *page, uint64_t quota, walk *w)
{
    size_t domains = (size_t)page->trace->info.domains;
    *w = (walk){.page = page, .document = -1};
    w->left = calloc(domains, sizeof *w->left);
    w->listed = calloc(domains, sizeof *w->listed);
    for (size_t d = 0, shown = 0; d < domains && w->left != NULL && w->listed != NULL; d++) {
        w->left[d] = page->shows[d] ? quota : 0;
        w->listed[d] = (int)shown;
        shown += page->shows[d];
    }
    return w->left != NULL && w->listed != NULL;
}

static void walk_free(walk *w)
{
    free(w->left);
    free(w->listed);
}

/* The next document of which something is taken. */
static bool walk_next(walk *w)
{
    const mixt_trace *trace = w->page->trace;
    while (++w->document < (int32_t)trace->info.documents) {
        w->begin = trace->document_start[w->document];
        w->domain = trace->domain[w->begin];
        uint64_t all = trace->document_start[w->document + 1] - w->begin;
        w->count = all < w->left[w->domain] ? all : w->left[w->domain];
        if (w->count > 0) {
            w->left[w->domain] -= w->count;
            return true;
        }
    }
    return false;
}

typedef struct seen {
    uint64_t count;
    int32_t token;
} seen;

static int by_count(const void *a, const void *b)
{
    const seen *x = a;
    const seen *y = b;
    return x->count != y->count ? (x->count < y->count ? 1 : -1)
                                : (x->token > y->token) - (x->token < y->token);
}

static size_t varint_length(uint64_t number)
{
    size_t length = 1;
    while ((number >>= 7) != 0) {
        length++;
    }
    return length;
}

/* Orders the tokens that were seen, and says what they take: their words as JSON, and in base 64
 * the order and the text. */
static void order_tokens(const mixt_page *page, const seen *rows, int32_t count,
                         mixt_page_search *search)
{
    mixt_buffer word = {0};
    size_t numbers = 0;
    memset(search->order, -1, (size_t)page->trace->vocab_size * sizeof *search->order);
    search->bytes = 0;
    search->orders = count;
    for (int32_t i = 0; i < count; i++) {
        search->token[i] = rows[i].token;
        search->order[rows[i].token] = i;
        word.length = 0;
        mixt_page_token_string(&word, page->trace, rows[i].token);
        search->bytes += word.length + 1;
        numbers += varint_length((uint64_t)i) * (rows[i].count + 1) + 1;
    }
    search->bytes += numbers / 3 * 4;
    mixt_buffer_free(&word);
}

/* What a quota takes of the page. */
static bool measure(const mixt_page *page, seen *rows, mixt_page_search *search)
{
    walk w;
    int32_t vocabulary = page->trace->vocab_size;
    size_t documents = 0;
    bool fine = walk_create(page, search->quota, &w);
    search->tokens = 0;
    for (int32_t id = 0; id < vocabulary; id++) {
        rows[id] = (seen){0, id};
    }
    while (fine && walk_next(&w)) {
        search->tokens += w.count;
        documents += varint_length((uint64_t)w.document) + varint_length(w.count) + 2;
        for (uint64_t t = w.begin; t < w.begin + w.count; t++) {
            rows[page->trace->tokens[t]].count++;
        }
    }
    walk_free(&w);
    qsort(rows, (size_t)vocabulary, sizeof *rows, by_count);
    int32_t count = 0;
    while (count < vocabulary && rows[count].count > 0) {
        count++;
    }
    order_tokens(page, rows, count, search);
    search->bytes += documents / 3 * 4 + 64; /* and its keys */
    return fine;
}

mixt_status mixt_page_search_choose(const mixt_page *page, size_t bytes, mixt_page_search *search,
                                    mixt_error *error)
{
    size_t ids = (size_t)page->trace->vocab_size + 1;
    *search = (mixt_page_search){.quota = page->trace->info.tokens};
    search->token = calloc(ids, sizeof *search->token);
    search->order = calloc(ids, sizeof *search->order);
    seen *rows = calloc(ids, sizeof *rows);
    bool fine = search->token != NULL && search->order != NULL && rows != NULL &&
                measure(page, rows, search);
    for (int i = 0; fine && search->bytes > bytes; i++) {
        double part = 0.95 * (double)bytes / (double)search->bytes;
        uint64_t most = search->tokens / (unsigned)page->shown_count; /* of a domain, on average */
        most = most < search->quota ? most : search->quota;
        search->quota = i < TRIES ? (uint64_t)(part * (double)most) : 0;
        fine = measure(page, rows, search);
        if (search->quota == 0) {
            break;
        }
    }
    free(rows);
    return fine ? MIXT_OK : mixt_fail(error, MIXT_ERROR_MEMORY, "page: no memory");
}

void mixt_page_search_free(mixt_page_search *search)
{
    free(search->token);
    free(search->order);
}

void mixt_page_search_write(const mixt_page *page, const mixt_page_search *search, bool documents,
                            mixt_buffer *bytes)
{
    walk w;
    bool fine = walk_create(page, search->quota, &w);
    while (fine && walk_next(&w)) {
        if (documents) {
            mixt_page_varint(bytes, (uint64_t)w.listed[w.domain]);
            mixt_page_varint(bytes, (uint64_t)w.document);
            mixt_page_varint(bytes, w.count);
        }
        for (uint64_t t = w.begin; t < w.begin + w.count && !documents; t++) {
            mixt_page_varint(bytes, (uint64_t)search->order[page->trace->tokens[t]]);
        }
    }
    bytes->failed |= !fine;
    walk_free(&w);
}
