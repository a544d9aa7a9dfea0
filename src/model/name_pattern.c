/* Compiled into a small program whose threads all run side by side (Thompson 1968): no pattern
 * makes it go back. Not PCRE2, which before 10.43 takes Python's {,n} for text. */
#include "model/name_pattern.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CODE_MOST 2000
#define DEPTH_MOST 40
#define REPEAT_MOST 200

typedef enum instruction_kind {
    IS_SET, /* a byte of the set */
    IS_SPLIT,
    IS_JUMP, /* to x */
    IS_BEGIN,
    IS_END,
    IS_MATCH,
} instruction_kind;

/* Targets are relative, so that a block can be moved and copied. */
typedef struct instruction {
    instruction_kind kind;
    int x, y;
    uint32_t set[8];
} instruction;

typedef struct program {
    const char *at; /* in the pattern */
    const char *problem;
    int depth;
    int count;
    instruction code[CODE_MOST];
    int stack[2 * CODE_MOST + 2];
    int threads[2][CODE_MOST];
    int thread_count[2];
    int mark[CODE_MOST]; /* step in which it was added, from 1 */
} program;

static void give_up(program *p, const char *problem)
{
    p->problem = p->problem == NULL ? problem : p->problem;
}

/* Room for an instruction before `at`. */
static instruction *insert(program *p, int at, instruction_kind kind)
{
    if (p->count == CODE_MOST) {
        give_up(p, "is too long");
        return &p->code[0];
    }
    memmove(&p->code[at + 1], &p->code[at], (size_t)(p->count - at) * sizeof *p->code);
    p->count++;
    p->code[at] = (instruction){.kind = kind};
    return &p->code[at];
}

static instruction *emit(program *p, instruction_kind kind)
{
    return insert(p, p->count, kind);
}

/* ------------------------------------------------------------------------------------------ */
/* Sets of bytes                                                                              */

static void add_byte(uint32_t set[8], int byte)
{
    set[byte >> 5 & 7] |= (uint32_t)1 << (byte & 31);
}

static bool has_byte(const uint32_t set[8], int byte)
{
    return (set[byte >> 5 & 7] >> (byte & 31) & 1) != 0;
}

static bool is_digit(int byte)
{
    return byte >= '0' && byte <= '9';
}

static bool is_word(int byte)
{
    return is_digit(byte) || (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
           byte == '_';
}

static bool is_space(int byte)
{
    return byte == ' ' || (byte >= 9 && byte <= 13);
}

/* What follows a backslash: a class, or a mark that stands for itself; its byte, or -1. */
static int read_escape(program *p, uint32_t set[8])
{
    int letter = (unsigned char)*p->at;
    int kind = letter | 32;
    if (letter == '\0' || (is_word(letter) && kind != 'd' && kind != 'w' && kind != 's')) {
        give_up(p, "has an escape that is not read");
        return -1;
    }
    p->at++;
    if (!is_word(letter)) {
        add_byte(set, letter);
        return letter;
    }
    for (int byte = 1; byte < 256; byte++) {
        bool in = kind == 'd' ? is_digit(byte) : kind == 'w' ? is_word(byte) : is_space(byte);
        if (in == (letter >= 'a')) {
            add_byte(set, byte);
        }
    }
    return -1;
}

/* Behind "[", to the "]". */
static void read_class(program *p, uint32_t set[8])
{
    bool negative = *p->at == '^', first = true;
    p->at += negative ? 1 : 0;
    while (p->problem == NULL && (*p->at != ']' || first)) {
        int low = (unsigned char)*p->at;
        first = false;
        if (low == '\0') {
            give_up(p, "has a [ without its ]");
            return;
        }
        p->at++;
        if (low == '\\') {
            low = read_escape(p, set);
        } else {
            add_byte(set, low);
        }
        if (low >= 0 && p->at[0] == '-' && p->at[1] != ']' && p->at[1] != '\0') {
            int high = (unsigned char)p->at[1];
            p->at += 2;
            if (high == '\\' || high < low) {
                give_up(p, "has a range that is not read");
            }
            for (int byte = low; byte <= high; byte++) {
                add_byte(set, byte);
            }
        }
    }
    p->at += p->problem == NULL ? 1 : 0;
    for (int i = 0; negative && i < 8; i++) {
        set[i] = ~set[i];
    }
}

/* ------------------------------------------------------------------------------------------ */
/* Compiling                                                                                  */

static void read_choices(program *p);

static void read_group(program *p)
{
    if (p->at[0] == '?') {
        if (p->at[1] != ':') {
            give_up(p, "has a group that is not read");
            return;
        }
        p->at += 2;
    }
    if (++p->depth > DEPTH_MOST) {
        give_up(p, "has too many groups in groups");
        return;
    }
    read_choices(p);
    p->depth--;
    if (p->problem == NULL && *p->at != ')') {
        give_up(p, "has a ( without its )");
    }
    p->at += p->problem == NULL ? 1 : 0;
}

/* false where nothing stands there. */
static bool read_atom(program *p)
{
    int mark = (unsigned char)*p->at;
    if (mark == '\0' || mark == '|' || mark == ')') {
        return false;
    }
    p->at++;
    if (mark == '(') {
        read_group(p);
    } else if (mark == '^' || mark == '$') {
        emit(p, mark == '^' ? IS_BEGIN : IS_END);
    } else if (mark == '*' || mark == '+' || mark == '?') {
        give_up(p, "repeats nothing");
    } else {
        instruction *code = emit(p, IS_SET);
        if (mark == '[') {
            read_class(p, code->set);
        } else if (mark == '\\') {
            read_escape(p, code->set);
        } else if (mark == '.') {
            memset(code->set, 0xff, sizeof code->set);
        } else {
            add_byte(code->set, mark);
        }
    }
    return true;
}

/* Digits at *at as a number, `absent` where there are none. */
static int read_count(const char **at, int absent)
{
    int number = is_digit(**at) ? 0 : absent;
    for (; is_digit(**at); ++*at) {
        number = number > REPEAT_MOST ? number : 10 * number + (**at - '0');
    }
    return number;
}

/* {m}, {m,}, {,n}, {,} or {m,n} at p->at; false where it is something else, which stands for
 * itself. */
static bool read_counts(program *p, int *least, int *most)
{
    const char *at = p->at + 1;
    if (*at == '}') {
        return false;
    }
    *least = read_count(&at, 0);
    *most = *least;
    if (*at == ',') {
        at++;
        *most = read_count(&at, -1);
    }
    if (*at != '}') {
        return false;
    }
    if (*least > REPEAT_MOST || *most > REPEAT_MOST || (*most >= 0 && *most < *least)) {
        give_up(p, "repeats too often");
    }
    p->at = at + 1;
    return true;
}

/* The block from `from` on once more. */
static int copy_block(program *p, int from, int length)
{
    int at = p->count;
    if (length > CODE_MOST - p->count) {
        give_up(p, "is too long");
        return at;
    }
    memcpy(&p->code[at], &p->code[from], (size_t)length * sizeof *p->code);
    p->count += length;
    return at;
}

static void make_optional(program *p, int from)
{
    int length = p->count - from;
    instruction *split = insert(p, from, IS_SPLIT);
    split->x = 1;
    split->y = length + 1;
}

static void make_any_number(program *p, int from)
{
    int length = p->count - from;
    instruction *split = insert(p, from, IS_SPLIT);
    split->x = 1;
    split->y = length + 2;
    emit(p, IS_JUMP)->x = -(length + 1);
}

/* The block between `least` and `most` times, -1: any number. */
static void repeat(program *p, int from, int least, int most)
{
    int length = p->count - from;
    for (int i = 1; i < least && p->problem == NULL; i++) {
        copy_block(p, from, length);
    }
    for (int i = least > 1 ? least : 1; i < most && p->problem == NULL; i++) {
        make_optional(p, copy_block(p, from, length));
    }
    if (most < 0 && p->problem == NULL) {
        make_any_number(p, copy_block(p, from, length));
    }
    if (p->problem == NULL && most == 0) {
        p->count = from;
    } else if (p->problem == NULL && least == 0) {
        make_optional(p, from);
    }
}

static void read_repeat(program *p, int from)
{
    int least = 0, most = -1;
    if (*p->at == '{') {
        if (!read_counts(p, &least, &most)) {
            return;
        }
    } else if (*p->at == '*' || *p->at == '+' || *p->at == '?') {
        least = *p->at == '+' ? 1 : 0;
        most = *p->at == '?' ? 1 : -1;
        p->at++;
    } else {
        return;
    }
    if (least == 0 && most < 0) {
        make_any_number(p, from);
    } else {
        repeat(p, from, least, most);
    }
    p->at += *p->at == '?' ? 1 : 0; /* as few as can be: the same names */
    if (*p->at == '*' || *p->at == '+' || *p->at == '?') {
        give_up(p, "repeats what repeats");
    }
}

static void read_choices(program *p)
{
    int begin = p->count, from = p->count;
    while (p->problem == NULL && read_atom(p)) {
        if (p->problem == NULL) {
            read_repeat(p, from);
        }
        from = p->count;
    }
    if (p->problem != NULL || *p->at != '|') {
        return;
    }
    p->at++;
    int length = p->count - begin;
    instruction *split = insert(p, begin, IS_SPLIT);
    split->x = 1;
    split->y = length + 2;
    int jump = p->count;
    emit(p, IS_JUMP);
    if (p->problem == NULL) {
        read_choices(p);
        p->code[jump].x = p->count - jump;
    }
}

/* ------------------------------------------------------------------------------------------ */
/* Running                                                                                    */

/* Adds the threads that stand at `code` when `at` bytes of the name are read; true where the
 * pattern has ended. */
static bool add_threads(program *p, int which, int code, const char *name, int at)
{
    int depth = 0;
    p->stack[depth++] = code;
    while (depth > 0) {
        code = p->stack[--depth];
        if (p->mark[code] == at + 1) {
            continue;
        }
        p->mark[code] = at + 1;
        const instruction *i = &p->code[code];
        if (i->kind == IS_MATCH) {
            return true;
        }
        if (i->kind == IS_SET) {
            p->threads[which][p->thread_count[which]++] = code;
        } else if (i->kind == IS_SPLIT) {
            p->stack[depth++] = code + i->y;
            p->stack[depth++] = code + i->x;
        } else if (i->kind == IS_JUMP) {
            p->stack[depth++] = code + i->x;
        } else if (i->kind == IS_BEGIN ? at == 0 : name[at] == '\0') {
            p->stack[depth++] = code + 1;
        }
    }
    return false;
}

static bool run(program *p, const char *name)
{
    bool found = add_threads(p, 0, 0, name, 0);
    for (int at = 0; name[at] != '\0' && !found; at++) {
        int now = at & 1, next = now ^ 1;
        p->thread_count[next] = 0;
        for (int i = 0; i < p->thread_count[now] && !found; i++) {
            int code = p->threads[now][i];
            if (has_byte(p->code[code].set, (unsigned char)name[at])) {
                found = add_threads(p, next, code + 1, name, at + 1);
            }
        }
    }
    return found;
}

const char mixt_pattern_memory[] = "no memory";

bool mixt_name_matches(const char *pattern, const char *name, const char **problem)
{
    size_t length = strlen(pattern);
    char *text = malloc(length + 16);
    program *p = malloc(sizeof *p); /* large, and little of it is used */
    bool found = false;
    *problem = text == NULL || p == NULL ? mixt_pattern_memory : NULL;
    if (*problem == NULL) {
        snprintf(text, length + 16, "(.*\\.)?(%s)$", pattern);
        p->at = text;
        p->problem = NULL;
        p->depth = p->count = p->thread_count[0] = 0;
        read_choices(p);
        if (*p->at != '\0') {
            give_up(p, "has a ) without its (");
        }
        emit(p, IS_MATCH);
        memset(p->mark, 0, (size_t)p->count * sizeof *p->mark);
        *problem = p->problem;
        found = p->problem == NULL && run(p, name);
    }
    free(text);
    free(p);
    return found;
}
