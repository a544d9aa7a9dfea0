#include "store/record.h"

#include <assert.h>
#include <stdlib.h>

#include "core/arithmetic.h"

/* A ring. */
struct mixt_record_book {
    mixt_request *requests; /* [most] */
    uint64_t most;
    uint64_t first, count; /* the oldest, and how many */
    bool step;             /* the next request begins one */
    bool whole;
};

mixt_status mixt_record_book_create(uint64_t most, mixt_record_book **result, mixt_error *error)
{
    assert(most > 0);
    mixt_record_book *book = calloc(1, sizeof *book);
    mixt_request *requests = calloc(most, sizeof *requests); /* pages that are not written to are
                                                                no memory yet */
    *result = book;
    if (book == NULL || requests == NULL) {
        free(book);
        free(requests);
        *result = NULL;
        return mixt_fail(error, MIXT_ERROR_MEMORY, "record of requests: no memory");
    }
    *book = (mixt_record_book){.requests = requests, .most = most, .step = true, .whole = true};
    return MIXT_OK;
}

void mixt_record_book_free(mixt_record_book *book)
{
    if (book != NULL) {
        free(book->requests);
        free(book);
    }
}

void mixt_record_book_clear(mixt_record_book *book)
{
    book->whole = book->whole && book->count == 0;
    book->first = book->count = 0;
}

void mixt_record_book_step(mixt_record_book *book)
{
    book->step = true;
}

static mixt_request *at(const mixt_record_book *book, uint64_t index)
{
    uint64_t place = book->first + index;
    return &book->requests[place < book->most ? place : place - book->most];
}

static void forget_step(mixt_record_book *book)
{
    do {
        book->first = book->first + 1 < book->most ? book->first + 1 : 0;
        book->count--;
    } while (book->count > 0 && !at(book, 0)->begins);
    book->whole = false;
}

void mixt_record_book_use(mixt_record_book *book, int32_t item, int64_t rows)
{
    if (book->count == book->most) {
        forget_step(book);
    }
    if (book->count > 0 || book->step) { /* of a step that was forgotten itself, nothing */
        *at(book, book->count++) =
            (mixt_request){item, (int32_t)mixt_least(rows, INT32_MAX), book->step};
    }
    book->step = false;
}

mixt_status mixt_record_book_copy(const mixt_record_book *book, mixt_record_book **copy,
                                  mixt_error *error)
{
    MIXT_TRY(mixt_record_book_create(book->count + 1, copy, error));
    for (uint64_t i = 0; i < book->count; i++) {
        (*copy)->requests[i] = *at(book, i);
    }
    (*copy)->count = book->count;
    (*copy)->whole = book->whole;
    return MIXT_OK;
}

uint64_t mixt_record_book_count(const mixt_record_book *book)
{
    return book->count;
}

mixt_request mixt_record_book_get(const mixt_record_book *book, uint64_t index)
{
    assert(index < book->count);
    return *at(book, index);
}

bool mixt_record_book_whole(const mixt_record_book *book)
{
    return book->whole;
}
