/* Token bytes as text that is safe to show: whatever a vocabulary or a corpus holds, neither a
 * terminal nor a browser may act on it. */
#ifndef MIXT_ATLAS_DISPLAY_H
#define MIXT_ATLAS_DISPLAY_H

#include "core/memory.h"

typedef enum mixt_display_style {
    MIXT_DISPLAY_PLAIN = 0,
    MIXT_DISPLAY_HTML = 1,     /* & < > " ' become entities */
    MIXT_DISPLAY_VISIBLE = 2,  /* a space is shown as U+2423 */
    MIXT_DISPLAY_NEWLINES = 4, /* a line feed mark is followed by the line feed itself */
} mixt_display_style;

/* Appends `length` bytes for display. Line feed and tab become marks; other control characters,
 * format characters (bidirectional overrides, zero-width ones), private and unassigned code points
 * become <U+001B>-like notes in U+2039/U+203A brackets, bytes that are not UTF-8 become such notes
 * in hexadecimal. */
void mixt_display_bytes(mixt_buffer *out, const void *bytes, size_t length, int style);
void mixt_display_text(mixt_buffer *out, const char *text, int style);

/* A name out of a trace: its first 80 characters (hashes have 64); cut ones end in an ellipsis. */
void mixt_display_name(mixt_buffer *out, const char *name, int style);

/* Columns that a UTF-8 text takes in a terminal. */
int mixt_display_columns(const char *text, size_t length);
/* `text` cut or padded with spaces to exactly `columns`; cut texts end in an ellipsis. */
void mixt_display_fit(mixt_buffer *out, const char *text, int columns);
/* Words of `text`, which is safe already, in lines of at most `width` columns. */
void mixt_display_wrapped(mixt_buffer *out, const char *text, int width);

#endif
