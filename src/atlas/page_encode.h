/* How the page's data is written: numbers as bytes, bytes as base 64 inside a JSON string, names
 * and tokens as JSON strings that are safe inside a script element. src/atlas/page/data.js reads
 * it. */
#ifndef MIXT_ATLAS_PAGE_ENCODE_H
#define MIXT_ATLAS_PAGE_ENCODE_H

#include "atlas/trace.h"
#include "core/memory.h"

/* Bytes [length] as base 64 with padding. */
void mixt_page_base64(mixt_buffer *out, const void *bytes, size_t length);

/* A whole number in LEB128: seven bits a byte, least first, the top bit set in all but the last. */
void mixt_page_varint(mixt_buffer *out, uint64_t number);

/* Counts, many of them zero: each as LEB128, and a run of zeros as a 0 and the run's length. */
typedef struct mixt_page_counts {
    mixt_buffer *bytes;
    uint64_t zeros; /* that wait to be written */
} mixt_page_counts;

void mixt_page_counts_add(mixt_page_counts *counts, uint64_t number);
void mixt_page_counts_end(mixt_page_counts *counts);

/* ,"key":"base 64 of bytes"; empties `bytes` for the next. */
void mixt_page_field(mixt_buffer *out, const char *key, mixt_buffer *bytes);

/* A JSON string of text that mixt_display_* made: markup's characters become escapes, so no text
 * can end the script element that it stands in. */
void mixt_page_string(mixt_buffer *out, const void *text, size_t length);
/* ... of a name, cut as mixt_display_name cuts it. */
void mixt_page_name_string(mixt_buffer *out, const char *name);
/* ... of a token as text: its bytes, of long ones such as rows of spaces the first 96. */
#define MIXT_PAGE_TOKEN_BYTES 96u
void mixt_page_token_string(mixt_buffer *out, const mixt_trace *trace, int32_t token);

#endif
