/* What a store was asked for, in order: for the report and the simulator. Bounded: the newest
 * requests stay, whole steps at a time. */
#ifndef MIXT_STORE_RECORD_H
#define MIXT_STORE_RECORD_H

#include "core/error.h"
#include "store/policy.h"

typedef struct mixt_record_book mixt_record_book;

/* An expert that a step wanted, with so many of its rows. */
typedef struct mixt_request {
    int32_t item;
    int32_t rows;
    bool begins; /* the first of its step */
} mixt_request;

/* `most` requests are remembered; a step of more is not. */
mixt_status mixt_record_book_create(uint64_t most, mixt_record_book **book, mixt_error *error);
void mixt_record_book_free(mixt_record_book *book);
/* Forgets all; the pool is as it was. */
void mixt_record_book_clear(mixt_record_book *book);
void mixt_record_book_step(mixt_record_book *book);
void mixt_record_book_use(mixt_record_book *book, int32_t item, int64_t rows);
/* A copy that another thread may read on. */
mixt_status mixt_record_book_copy(const mixt_record_book *book, mixt_record_book **copy,
                                  mixt_error *error);

/* Requests that it remembers, from the oldest. */
uint64_t mixt_record_book_count(const mixt_record_book *book);
mixt_request mixt_record_book_get(const mixt_record_book *book, uint64_t index);
/* Whether these are all since the pool was empty. */
bool mixt_record_book_whole(const mixt_record_book *book);

#endif
