#include "framing.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

enum { DIGITS_MAX = 15, EXTENSION_MAX = 256 };

enum {
    STATE_METHOD, /* 0: where a request begins */
    STATE_TARGET,
    STATE_VERSION,
    STATE_FIELD, /* a line begins: a field or the end of them */
    STATE_NAME,
    STATE_VALUE,
    STATE_LF, /* and then `next` */
    STATE_BODY,
    STATE_SIZE, /* of a chunk */
    STATE_EXTENSION,
    STATE_CHUNK,
    STATE_CHUNK_END, /* CR behind a chunk */
    STATE_BROKEN,
};

bool framing_is_token(unsigned char c)
{
    return (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z') ||
           (c != 0 && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

static bool fail_with(framing_state *framing, int status, const char *problem)
{
    framing->broken = framing->state;
    framing->state = STATE_BROKEN;
    framing->status = status;
    framing->problem = problem;
    return false;
}

static bool fail(framing_state *framing, const char *problem)
{
    return fail_with(framing, 400, problem);
}

static bool go(framing_state *framing, int state)
{
    framing->state = state;
    return true;
}

/* CR has come: LF has to follow. */
static bool line_ends(framing_state *framing, int next)
{
    framing->next = next;
    return go(framing, STATE_LF);
}

static void begin_request(framing_state *framing)
{
    *framing = (framing_state){.number = framing->number + 1, .head_max = framing->head_max};
}

/* ---- the request line */

static bool take_method(framing_state *framing, unsigned char c)
{
    if (c == ' ' && framing->word > 0) {
        framing->method[framing->word <= FRAMING_METHOD_MAX ? framing->word : 0] = 0;
        framing->word = 0;
        return go(framing, STATE_TARGET);
    }
    if (framing->word < FRAMING_METHOD_MAX) {
        framing->method[framing->word] = (char)c;
    }
    framing->word += framing->word <= FRAMING_METHOD_MAX;
    return framing_is_token(c) || fail(framing, "the request line does not begin with a method");
}

static bool take_target(framing_state *framing, unsigned char c)
{
    if (c == ' ' && framing->word > 0) {
        framing->word = 0;
        return go(framing, STATE_VERSION);
    }
    framing->word = 1;
    framing->parts += c == '&';
    if (framing->parts > FRAMING_PARTS_MAX) {
        return fail_with(framing, 414, "the target's query has too many parts");
    }
    return (c > 0x20 && c < 0x7F && c != '#') ||
           fail(framing, "the target holds a character that none may hold");
}

static bool take_version(framing_state *framing, unsigned char c)
{
    static const char pattern[] = "HTTP/0.0";
    int at = framing->word++;
    if (at == (int)sizeof pattern - 1 && c == '\r') {
        if (framing->major != 1 || framing->minor > 1) {
            return fail_with(framing, 505, "only HTTP/1.1 and HTTP/1.0 are understood");
        }
        return line_ends(framing, STATE_FIELD);
    }
    char wanted = at < (int)sizeof pattern - 1 ? pattern[at] : 0;
    bool fits = wanted == '0' ? c >= '0' && c <= '9' : wanted != 0 && c == (unsigned char)wanted;
    if (wanted == '0') {
        *(at == 5 ? &framing->major : &framing->minor) = c - '0';
    }
    return fits || fail(framing, "the request line is not METHOD TARGET HTTP/1.1");
}

/* ---- fields */

static bool named(const framing_state *framing, const char *name)
{
    return strcasecmp(framing->name, name) == 0;
}

/* Fields that must not stand behind the last chunk (RFC 9110, 6.5.1): they say how a request is
 * read, where it goes and who asks. */
static bool may_trail(const framing_state *framing)
{
    static const char *const forbidden[] = {
        "Content-Length", "Transfer-Encoding", "Host",   "Authorization", "Content-Type",
        "Connection",     "Content-Encoding",  "Expect", "X-Api-Key",     "Origin"};
    for (size_t i = 0; i < sizeof forbidden / sizeof *forbidden; i++) {
        if (named(framing, forbidden[i])) {
            return false;
        }
    }
    return true;
}

static bool begin_value(framing_state *framing)
{
    bool known = framing->name_length <= FRAMING_NAME_MAX;
    framing->name[known ? framing->name_length : 0] = 0;
    framing->value_length = framing->spaces = 0;
    framing->digits = 0;
    for (size_t i = 0; i < framing->name_length && known; i++) {
        if (framing->name[i] == '_') { /* what a gateway may take for the other */
            framing->name[i] = '-';
            if (named(framing, "Content-Length") || named(framing, "Transfer-Encoding")) {
                return fail(framing, "a name that may be taken for a field of the framing");
            }
            framing->name[i] = '_';
        }
    }
    if (framing->chunked && !may_trail(framing)) {
        return fail(framing, "a field that must not stand behind the chunks");
    }
    if (framing->chunked) {
        framing->name[0] = 0; /* of no consequence */
    }
    if (named(framing, "Content-Length")) {
        if (framing->has_length) {
            return fail(framing, "Content-Length is there more than once");
        }
        framing->has_length = true;
        framing->left = 0;
    } else if (named(framing, "Transfer-Encoding")) {
        if (framing->has_encoding) {
            return fail(framing, "Transfer-Encoding is there more than once");
        }
        framing->has_encoding = true;
    }
    return go(framing, STATE_VALUE);
}

static bool take_name(framing_state *framing, unsigned char c)
{
    if (c == ':') {
        return framing->name_length > 0 ? begin_value(framing)
                                        : fail(framing, "a field has no name");
    }
    if (framing->name_length < FRAMING_NAME_MAX) {
        framing->name[framing->name_length] = (char)c;
    }
    framing->name_length += framing->name_length <= FRAMING_NAME_MAX;
    return framing_is_token(c) ||
           fail(framing, "a header's name holds a character that none may hold");
}

static bool take_length(framing_state *framing, unsigned char c)
{
    if (c < '0' || c > '9' || framing->spaces > 0 || (framing->digits > 0 && framing->left == 0)) {
        return fail(framing, "Content-Length is not a number of bytes");
    }
    if (framing->digits == DIGITS_MAX) {
        return fail_with(framing, 413, "the body has too many bytes");
    }
    framing->left = 10 * framing->left + (uint64_t)(c - '0');
    framing->digits++;
    return true;
}

static bool value_ends(framing_state *framing)
{
    if (named(framing, "Content-Length") && framing->digits == 0) {
        return fail(framing, "Content-Length is not a number of bytes");
    }
    if (named(framing, "Transfer-Encoding") &&
        (framing->value_length != 7 || strncasecmp(framing->value, "chunked", 7) != 0)) {
        return fail(framing, "Transfer-Encoding: only chunked is understood");
    }
    return line_ends(framing, STATE_FIELD);
}

static bool take_value(framing_state *framing, unsigned char c)
{
    if (c == '\r') {
        return value_ends(framing);
    }
    if ((c < 0x20 && c != '\t') || c == 0x7F) {
        return fail(framing, "a header's value holds a control character");
    }
    if (c == ' ' || c == '\t') {
        framing->spaces += framing->value_length > 0 || framing->digits > 0;
        return true;
    }
    if ((c == ';' || c == ',') && named(framing, "Cookie") &&
        ++framing->parts > FRAMING_PARTS_MAX) {
        return fail_with(framing, 431, "too many cookies");
    }
    if (named(framing, "Content-Length")) {
        return take_length(framing, c);
    }
    if (named(framing, "Transfer-Encoding")) {
        if (framing->spaces > 0 || framing->value_length == sizeof framing->value) {
            return fail(framing, "Transfer-Encoding: only chunked is understood");
        }
        framing->value[framing->value_length] = (char)c;
    }
    framing->value_length += framing->value_length < sizeof framing->value;
    return true;
}

static bool take_field(framing_state *framing, unsigned char c)
{
    if (c == '\r') {
        return line_ends(framing, -1);
    }
    if (c == ' ' || c == '\t') {
        return fail(framing, "a header line is folded");
    }
    if (++framing->fields > FRAMING_FIELDS_MAX) {
        return fail_with(framing, 431, "too many header fields");
    }
    framing->name_length = 0;
    framing->state = STATE_NAME;
    return take_name(framing, c);
}

/* The empty line is there. */
static bool fields_end(framing_state *framing)
{
    if (framing->chunked) {
        begin_request(framing);
        return true;
    }
    if (framing->has_encoding && framing->has_length) {
        return fail(framing, "Content-Length and Transfer-Encoding exclude each other");
    }
    if (framing->has_encoding) {
        framing->chunked = true;
        framing->left = 0;
        framing->digits = framing->extension = 0;
        framing->head = 0; /* what stands behind the chunks has as much room again */
        return go(framing, STATE_SIZE);
    }
    if (framing->has_length && framing->left > 0) {
        return go(framing, STATE_BODY);
    }
    begin_request(framing);
    return true;
}

/* ---- chunks */

static bool size_ends(framing_state *framing)
{
    if (framing->digits == 0) {
        return fail(framing, "a chunk has no size");
    }
    int next = framing->left > 0 ? STATE_CHUNK : STATE_FIELD;
    framing->digits = 0;
    return line_ends(framing, next);
}

static bool take_size(framing_state *framing, unsigned char c)
{
    int value = c >= '0' && c <= '9'                 ? c - '0'
                : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10
                                                     : -1;
    if (c == '\r') {
        return size_ends(framing);
    }
    if (c == ';' && framing->digits > 0) {
        framing->extension = framing->word = 0;
        framing->quoted = false;
        return go(framing, STATE_EXTENSION);
    }
    if (value < 0 || framing->digits == DIGITS_MAX) {
        return fail(framing, "a chunk's size is not a number in hexadecimal");
    }
    framing->left = 16 * framing->left + (uint64_t)value;
    framing->digits++;
    return true;
}

/* ;name, ;name=token and ;name="text" (RFC 9112, 7.1.1). `word`: 0 a name begins, 1 in it, 2 a
 * value begins, 3 in it, 4 behind a text in quotes. */
static bool take_extension(framing_state *framing, unsigned char c)
{
    if (++framing->extension > EXTENSION_MAX) {
        return fail(framing, "a chunk has too many extensions");
    }
    if (framing->quoted) {
        framing->quoted = c != '"';
        framing->word = 4;
        return (c >= 0x20 && c != 0x7F && c != '\\') || fail(framing, "a chunk's extension");
    }
    bool may_end = framing->word == 1 || framing->word >= 3;
    if (c == '\r' && may_end) {
        return size_ends(framing);
    }
    if (c == ';' && may_end) {
        framing->word = 0;
        return true;
    }
    if (c == '=' && framing->word == 1) {
        framing->word = 2;
        return true;
    }
    if (c == '"' && framing->word == 2) {
        framing->quoted = true;
        return true;
    }
    framing->word |= framing->word == 0 || framing->word == 2;
    return (framing->word < 4 && framing_is_token(c)) || fail(framing, "a chunk's extension");
}

static bool take_lf(framing_state *framing, unsigned char c)
{
    if (c != '\n') {
        return fail(framing, "a line ends in CR without LF");
    }
    return framing->next < 0 ? fields_end(framing) : go(framing, framing->next);
}

/* Bytes of a body or chunk: how many of them. */
static size_t skip(framing_state *framing, size_t length)
{
    size_t count = framing->left < length ? (size_t)framing->left : length;
    framing->left -= count;
    if (framing->left == 0 && framing->chunked) {
        framing->state = STATE_CHUNK_END;
    } else if (framing->left == 0) {
        begin_request(framing);
    }
    return count;
}

/* Of the request line and the fields each byte counts, whatever it says. */
static bool fits(framing_state *framing)
{
    if (framing->state == STATE_LF || framing->state == STATE_SIZE ||
        framing->state == STATE_EXTENSION || framing->state == STATE_CHUNK_END ||
        framing->head_max == 0 || ++framing->head <= framing->head_max) {
        return true;
    }
    return framing->state <= STATE_VERSION
               ? fail_with(framing, 414, "the request line has too many bytes")
               : fail_with(framing, 431, "too many bytes in the header fields");
}

static bool take(framing_state *framing, unsigned char c)
{
    switch (framing->state) {
    case STATE_METHOD:
        return take_method(framing, c);
    case STATE_TARGET:
        return take_target(framing, c);
    case STATE_VERSION:
        return take_version(framing, c);
    case STATE_FIELD:
        return take_field(framing, c);
    case STATE_NAME:
        return take_name(framing, c);
    case STATE_VALUE:
        return take_value(framing, c);
    case STATE_LF:
        return take_lf(framing, c);
    case STATE_SIZE:
        return take_size(framing, c);
    case STATE_EXTENSION:
        return take_extension(framing, c);
    case STATE_CHUNK_END:
        return c == '\r' ? line_ends(framing, STATE_SIZE)
                         : fail(framing, "a chunk is longer than its size");
    default:
        return false;
    }
}

/* Whether a part has come to its end, and none has begun. */
static bool is_between(const framing_state *framing)
{
    return framing->state == STATE_BODY || framing->state == STATE_CHUNK ||
           framing->state == STATE_CHUNK_END ||
           (framing->state == STATE_SIZE && framing->digits == 0) ||
           (framing->state == STATE_METHOD && framing->word == 0);
}

bool framing_take(framing_state *framing, const char *bytes, size_t length)
{
    size_t at = 0, whole = 0;
    while (at < length && framing->state != STATE_BROKEN) {
        if (framing->state == STATE_BODY || framing->state == STATE_CHUNK) {
            at += skip(framing, length - at);
        } else if (fits(framing)) {
            take(framing, (unsigned char)bytes[at++]);
        }
        whole = is_between(framing) ? at : whole;
    }
    framing->whole = whole;
    return framing->state != STATE_BROKEN;
}

size_t framing_end(const framing_state *framing, char end[FRAMING_END_MAX])
{
    bool behind_chunk = framing->broken == STATE_CHUNK_END ||
                        (framing->broken == STATE_LF && framing->next == STATE_SIZE);
    int length =
        framing->chunked
            ? snprintf(end, FRAMING_END_MAX, "%s0\r\n\r\n", behind_chunk ? "\r\n" : "")
            : snprintf(end, FRAMING_END_MAX, "%s / HTTP/1.1\r\nHost: localhost\r\n\r\n",
                       framing->method[0] != 0 && framing->broken != STATE_METHOD ? framing->method
                                                                                  : "-");
    return (size_t)length;
}
