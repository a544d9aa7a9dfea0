/* What a store was asked for, in order: for the report and the simulator. Bounded: the newest
 * requests stay, whole steps at a time. */
#ifndef MIXT_STORE_RECORD_H
#define MIXT_STORE_RECORD_H

#include "core/error.h"
#include "store/policy.h"

typedef struct mixt_record_book mixt_record_book;

/* `most` requests are remembered. */
mixt_status mixt_record_book_create(uint64_t most, mixt_record_book **book, mixt_error *error);
void mixt_record_book_free(mixt_record_book *book);
void mixt_record_book_clear(mixt_record_book *book);
void mixt_record_book_step(mixt_record_book *book);
void mixt_record_book_use(mixt_record_book *book, int32_t item, int64_t rows);
/* A copy that another thread may read on. */
mixt_status mixt_record_book_copy(const mixt_record_book *book, mixt_record_book **copy,
                                  mixt_error *error);

#endif
