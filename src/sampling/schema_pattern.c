/* Regular expressions of ECMA-262 as grammars over the text of JSON strings. Sets of characters are
 * written so that other dialects agree: \s and \d are of ASCII. */
#include <stdio.h>
#include <string.h>

#include "core/utf8.h"
#include "sampling/char_class.h"
#include "sampling/schema.h"

enum { RANGES_MAX = 400, GROUPS_MAX = 100, SPACES = 11 };

typedef struct pattern {
    mixt_schema *schema;
    const char *text; /* the whole */
    const char *at;
    mixt_buffer *to;
} pattern;

typedef struct char_set {
    mixt_char_range ranges[RANGES_MAX + 2];
    size_t count;
} char_set;

static mixt_status refuse(const pattern *p, const char *what)
{
    return mixt_schema_refuse(p->schema, "pattern \"%.80s\": %s at character %zu", p->text, what,
                              (size_t)(p->at - p->text) + 1);
}

static mixt_status add_range(const pattern *p, char_set *set, uint32_t low, uint32_t high)
{
    if (set->count >= RANGES_MAX) {
        return refuse(p, "too many ranges");
    }
    set->ranges[set->count++] = (mixt_char_range){low, high};
    return MIXT_OK;
}

/* ---- writing a set */

static void write_plain_character(mixt_buffer *to, uint32_t c)
{
    char bytes[4];
    if (c > 0 && c < 0x80 && strchr("]^-[\\\"", (int)c) != NULL) {
        mixt_buffer_format(to, "\\x%02X", c);
    } else {
        mixt_buffer_append(to, bytes, mixt_utf8_encode(c, bytes));
    }
}

/* A character that JSON spells with an escape. */
static void write_escaped(mixt_buffer *to, uint32_t c)
{
    static const char shorts[] = "\"\"\\\\\bb\ff\nn\rr\tt";
    char text[8];
    snprintf(text, sizeof text, "\\u%04x", c);
    for (const char *s = shorts; *s != '\0'; s += 2) {
        if ((unsigned char)*s == c) {
            snprintf(text, sizeof text, "\\%c", s[1]);
        }
    }
    mixt_schema_literal(to, text, strlen(text));
}

static bool is_escaped(uint32_t c)
{
    return c < 0x20 || c == '"' || c == '\\';
}

/* Settled ranges: a class of those that stand for themselves, and the others one by one. */
static void write_set(mixt_buffer *to, const char_set *set)
{
    mixt_buffer plain = {0}, escaped = {0};
    for (size_t i = 0; i < set->count; i++) {
        uint32_t low = set->ranges[i].low, high = set->ranges[i].high;
        while (low <= high) {
            if (is_escaped(low)) {
                mixt_buffer_text(&escaped, " | ");
                write_escaped(&escaped, low++);
                continue;
            }
            uint32_t last = low < 0x80 ? low : high;
            while (last < high && !is_escaped(last + 1)) {
                last = last + 1 < 0x80 ? last + 1 : high;
            }
            write_plain_character(&plain, low);
            mixt_buffer_text(&plain, "-");
            write_plain_character(&plain, last);
            low = last + 1;
        }
    }
    const char *others = escaped.length > 0 ? escaped.data : "";
    size_t length = escaped.length;
    mixt_buffer_text(to, "(");
    if (plain.length > 0) {
        mixt_buffer_text(to, "[");
        mixt_buffer_append(to, plain.data, plain.length);
        mixt_buffer_text(to, "]");
        mixt_buffer_append(to, others, length);
    } else if (length > 0) {
        mixt_buffer_append(to, others + 3, length - 3);
    }
    mixt_buffer_text(to, ")");
    to->failed = to->failed || plain.failed || escaped.failed;
    mixt_buffer_free(&plain);
    mixt_buffer_free(&escaped);
}

/* ---- reading one */

static mixt_status add_named(const pattern *p, char_set *set, char name)
{
    static const mixt_char_range digits[] = {{'0', '9'}};
    static const mixt_char_range words[] = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
    static const mixt_char_range few[] = {{'\t', '\r'}, {' ', ' '}};
    /* What any dialect takes for a space: none of it is in \S. */
    static const mixt_char_range spaces[SPACES] = {
        {'\t', '\r'},     {0x1C, ' '},      {0x85, 0x85},     {0xA0, 0xA0},
        {0x1680, 0x1680}, {0x2000, 0x200A}, {0x2028, 0x2029}, {0x202F, 0x202F},
        {0x205F, 0x205F}, {0x3000, 0x3000}, {0xFEFF, 0xFEFF},
    };
    bool negated = name == 'D' || name == 'W' || name == 'S';
    const mixt_char_range *list = name == 'd' || name == 'D'   ? digits
                                  : name == 'w' || name == 'W' ? words
                                  : name == 's'                ? few
                                                               : spaces;
    size_t count = list == digits ? 1 : list == words ? 4 : list == few ? 2 : SPACES;
    uint32_t next = 0;
    for (size_t i = 0; i < count; i++) {
        if (!negated) {
            MIXT_TRY(add_range(p, set, list[i].low, list[i].high));
        } else if (list[i].low > next) {
            MIXT_TRY(add_range(p, set, next, list[i].low - 1));
        }
        next = list[i].high + 1;
    }
    return negated ? add_range(p, set, next, MIXT_CHARACTER_MAX) : MIXT_OK;
}

static mixt_status read_hexadecimal(pattern *p, int digits, uint32_t *c)
{
    *c = 0;
    for (int i = 0; i < digits; i++) {
        int digit = mixt_hex_digit(*p->at);
        if (digit < 0) {
            return refuse(p, "a hexadecimal digit is needed");
        }
        *c = *c << 4 | (uint32_t)digit;
        p->at++;
    }
    return MIXT_OK;
}

/* Behind a backslash: one character. */
static mixt_status read_escape(pattern *p, bool in_class, uint32_t *c)
{
    static const char letters[] = "t\tn\nr\rf\fv\v";
    uint32_t low = 0;
    char name = *p->at;
    if (name == 'x' || name == 'u') {
        p->at++;
        MIXT_TRY(read_hexadecimal(p, name == 'x' ? 2 : 4, c));
        if (*c >= 0xD800 && *c < 0xDC00 && p->at[0] == '\\' && p->at[1] == 'u') {
            p->at += 2;
            MIXT_TRY(read_hexadecimal(p, 4, &low));
            if (low < 0xDC00 || low > 0xDFFF) {
                return refuse(p, "half a character");
            }
            *c = 0x10000 + ((*c - 0xD800) << 10) + (low - 0xDC00);
        }
        return *c >= 0xD800 && *c <= 0xDFFF ? refuse(p, "half a character") : MIXT_OK;
    }
    for (const char *l = letters; *l != '\0'; l += 2) {
        if (*l == name) {
            *c = (unsigned char)l[1];
            p->at++;
            return MIXT_OK;
        }
    }
    if (name == '0' && !(p->at[1] >= '0' && p->at[1] <= '9')) {
        *c = 0;
    } else if (name == 'b' && in_class) {
        *c = '\b';
    } else if (name != '\0' && strchr("^$\\.*+?()[]{}|/-,:=!<>&#@%~`'\"; _", name) != NULL) {
        *c = (unsigned char)name;
    } else {
        return refuse(p, "an escape that a grammar cannot hold");
    }
    p->at++;
    return MIXT_OK;
}

/* One character or, with *is_set, what \d and the like add to `set`. */
static mixt_status read_unit(pattern *p, bool in_class, char_set *set, bool *is_set, uint32_t *c)
{
    *is_set = false;
    if (*p->at != '\\') {
        size_t length = mixt_utf8_character((const unsigned char *)p->at, strlen(p->at));
        *c = mixt_utf8_decode((const unsigned char *)p->at, length);
        p->at += length;
        return MIXT_OK;
    }
    p->at++;
    if (*p->at != '\0' && strchr("dDwWsS", *p->at) != NULL) {
        *is_set = true;
        return add_named(p, set, *p->at++);
    }
    return read_escape(p, in_class, c);
}

static mixt_status read_class(pattern *p, char_set *set)
{
    bool negated = *++p->at == '^', is_set = false;
    p->at += negated;
    while (*p->at != ']') {
        uint32_t low = 0, high = 0;
        if (*p->at == '\0') {
            return refuse(p, "a class that does not end");
        }
        MIXT_TRY(read_unit(p, true, set, &is_set, &low));
        if (is_set) {
            continue;
        }
        high = low;
        if (p->at[0] == '-' && p->at[1] != ']' && p->at[1] != '\0') {
            p->at++;
            MIXT_TRY(read_unit(p, true, set, &is_set, &high));
            if (is_set || high < low) {
                return refuse(p, "a range that is none");
            }
        }
        MIXT_TRY(add_range(p, set, low, high));
    }
    p->at++;
    set->count = mixt_char_ranges_settle(set->ranges, set->count, negated);
    return set->count > 0 ? MIXT_OK : refuse(p, "a class without characters");
}

/* NUL is left out of all strings (schema.c). */
static mixt_status leave_nul_out(const pattern *p, char_set *set)
{
    if (set->count > 0 && set->ranges[0].low == 0 && set->ranges[0].high == 0) {
        memmove(set->ranges, set->ranges + 1, --set->count * sizeof *set->ranges);
    } else if (set->count > 0 && set->ranges[0].low == 0) {
        set->ranges[0].low = 1;
    }
    return set->count > 0 ? MIXT_OK : refuse(p, "no character but NUL");
}

/* ---- the expression */

static mixt_status write_alternatives(pattern *p, int depth);

static mixt_status write_group(pattern *p, int depth)
{
    p->at++;
    if (depth >= GROUPS_MAX) {
        return refuse(p, "too many groups");
    }
    if (p->at[0] == '?' && p->at[1] == ':') {
        p->at += 2;
    } else if (p->at[0] == '?' && p->at[1] == '<' && p->at[2] != '=' && p->at[2] != '!' &&
               strchr(p->at, '>') != NULL) {
        p->at = strchr(p->at, '>') + 1;
    } else if (p->at[0] == '?') {
        return refuse(p, "a look around, which a grammar cannot hold");
    }
    mixt_buffer_text(p->to, "(");
    MIXT_TRY(write_alternatives(p, depth + 1));
    if (*p->at != ')') {
        return refuse(p, "a group that does not end");
    }
    p->at++;
    mixt_buffer_text(p->to, ")");
    return MIXT_OK;
}

static bool is_counted(const char *at)
{
    unsigned least = 0, most = 0;
    int length = 0;
    char end = '\0';
    return (sscanf(at, "{%6u%c%n", &least, &end, &length) == 2 && end == '}') ||
           (sscanf(at, "{%6u,%c%n", &least, &end, &length) == 2 && end == '}') ||
           (sscanf(at, "{%6u,%6u%c%n", &least, &most, &end, &length) == 3 && end == '}');
}

static mixt_status write_quantifier(pattern *p)
{
    if (*p->at == '{' && is_counted(p->at)) {
        size_t length = (size_t)(strchr(p->at, '}') - p->at) + 1;
        mixt_buffer_append(p->to, p->at, length);
        p->at += length;
    } else if (*p->at == '*' || *p->at == '+' || *p->at == '?') {
        mixt_buffer_append(p->to, p->at++, 1);
    } else {
        mixt_buffer_text(p->to, " ");
        return MIXT_OK;
    }
    p->at += *p->at == '?'; /* as few as possible: the same texts */
    mixt_buffer_text(p->to, " ");
    return *p->at == '*' || *p->at == '+' || *p->at == '?' ? refuse(p, "a second quantifier")
                                                           : MIXT_OK;
}

static mixt_status write_term(pattern *p, int depth)
{
    static const mixt_char_range line_ends[] = {{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}};
    char_set set = {.count = 0};
    uint32_t c = 0;
    bool is_set = false;
    if (*p->at == '(') {
        MIXT_TRY(write_group(p, depth));
        return write_quantifier(p);
    }
    if (*p->at == '[') {
        MIXT_TRY(read_class(p, &set));
    } else if (*p->at == '.') {
        memcpy(set.ranges, line_ends, sizeof line_ends);
        set.count = mixt_char_ranges_settle(set.ranges, 3, true);
        p->at++;
    } else if (*p->at == ')') {
        return refuse(p, "a ) without its (");
    } else if (*p->at == '^' || *p->at == '$') {
        return refuse(p, "an anchor inside");
    } else if (*p->at == '*' || *p->at == '+' || *p->at == '?' || *p->at == '{' || *p->at == '}' ||
               *p->at == ']') {
        return refuse(p, "a character that has to stand behind \\");
    } else {
        MIXT_TRY(read_unit(p, false, &set, &is_set, &c));
        if (!is_set) {
            MIXT_TRY(add_range(p, &set, c, c));
        }
        set.count = mixt_char_ranges_settle(set.ranges, set.count, false);
    }
    MIXT_TRY(leave_nul_out(p, &set));
    write_set(p->to, &set);
    return write_quantifier(p);
}

/* At the first level a match may begin and end anywhere, unless ^ and $ say otherwise. */
static mixt_status write_alternatives(pattern *p, int depth)
{
    const char *any = depth == 0 ? mixt_schema_use(p->schema, MIXT_SHARED_CHAR) : "";
    for (;;) {
        if (depth == 0 && *p->at == '^') {
            p->at++;
        } else if (depth == 0) {
            mixt_buffer_format(p->to, "%s* ", any);
        }
        bool ends = false;
        while (*p->at != '\0' && *p->at != '|' && !(depth > 0 && *p->at == ')') && !ends) {
            if (depth == 0 && *p->at == '$' && (p->at[1] == '\0' || p->at[1] == '|')) {
                p->at++;
                ends = true;
            } else {
                MIXT_TRY(write_term(p, depth));
            }
        }
        if (depth == 0 && !ends) {
            mixt_buffer_format(p->to, "%s*", any);
        }
        if (*p->at != '|') {
            return MIXT_OK;
        }
        p->at++;
        mixt_buffer_text(p->to, "| ");
    }
}

mixt_status mixt_schema_pattern(mixt_schema *schema, const char *text, mixt_buffer *to)
{
    pattern p = {.schema = schema, .text = text, .at = text, .to = to};
    mixt_buffer_text(to, "(");
    MIXT_TRY(write_alternatives(&p, 0));
    mixt_buffer_text(to, ")");
    return MIXT_OK;
}
