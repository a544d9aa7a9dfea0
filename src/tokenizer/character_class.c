#include "tokenizer/character_class.h"

#include <string.h>

typedef struct young_characters {
    uint32_t first, last;
    char category[3];
    bool alphabetic;
    const char *script; /* of those that grew */
} young_characters;

#include "tokenizer/unicode_classes.h"

static bool is_name(const char *name, size_t length, const char *other)
{
    return strlen(other) == length && memcmp(name, other, length) == 0;
}

/* A general category or its first letter. */
static bool is_category(const char *name, size_t length)
{
    static const char letters[] = "LMNPSZC";
    return length != 0 && length <= 2 && strchr(letters, name[0]) != NULL;
}

static bool is_of(const young_characters *c, const char *name, size_t length)
{
    return is_name(name, length, "Alphabetic") ? c->alphabetic
           : is_category(name, length)         ? memcmp(c->category, name, length) == 0
                                               : is_name(name, length, c->script);
}

static void append_young(const char *name, size_t length, mixt_buffer *to)
{
    const size_t count = sizeof young / sizeof *young;
    for (size_t i = 0; i < count; i++) {
        uint32_t first = young[i].first, last = young[i].last;
        if (!is_of(&young[i], name, length)) {
            continue;
        }
        while (i + 1 < count && young[i + 1].first == last + 1 &&
               is_of(&young[i + 1], name, length)) {
            last = young[++i].last;
        }
        mixt_buffer_format(to, "\\x{%x}-\\x{%x}", (unsigned)first, (unsigned)last);
    }
}

bool mixt_class_is_young_mark(uint32_t character)
{
    for (size_t i = 0; i < sizeof young / sizeof *young; i++) {
        if (character <= young[i].last) {
            return character >= young[i].first && young[i].category[0] == 'M';
        }
    }
    return false;
}

void mixt_class_property(const char *name, size_t length, mixt_buffer *to)
{
    bool script = !is_category(name, length) && !is_name(name, length, "Alphabetic") &&
                  !is_name(name, length, "Any");
    mixt_buffer_text(to, script ? "\\p{sc:" : "\\p{"); /* PCRE2 alone takes extensions too */
    mixt_buffer_append(to, name, length);
    mixt_buffer_text(to, "}");
    append_young(name, length, to);
}

bool mixt_class_is_rest(const char *name, size_t length)
{
    return is_name(name, length, "C") || is_name(name, length, "Cn");
}

void mixt_class_assigned(bool others, mixt_buffer *to)
{
    static const char *const names[] = {"L", "M", "N", "P", "S", "Z", "Cc", "Cf", "Co", "Cs"};
    size_t count = others ? 10 : 6;
    for (size_t i = 0; i < count; i++) {
        mixt_class_property(names[i], strlen(names[i]), to);
    }
}

void mixt_class_word(mixt_buffer *to)
{
    static const char *const names[] = {"Alphabetic", "M", "Nd", "Pc"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        mixt_class_property(names[i], strlen(names[i]), to);
    }
}

bool mixt_class_posix(const char *name, size_t length, mixt_buffer *to)
{
    if (is_name(name, length, "alpha") || is_name(name, length, "alnum")) {
        mixt_class_property("Alphabetic", strlen("Alphabetic"), to);
    }
    if (is_name(name, length, "alnum") || is_name(name, length, "digit")) {
        mixt_class_property("Nd", 2, to);
    } else if (is_name(name, length, "space")) {
        mixt_buffer_text(to, MIXT_CLASS_SPACE);
    } else if (is_name(name, length, "blank")) {
        mixt_buffer_text(to, "\\t\\p{Zs}");
    } else if (is_name(name, length, "word")) {
        mixt_class_word(to);
    } else if (is_name(name, length, "xdigit") || is_name(name, length, "cntrl")) {
        mixt_buffer_format(to, "[:%.*s:]", (int)length, name);
    } else {
        return is_name(name, length, "alpha");
    }
    return true;
}
