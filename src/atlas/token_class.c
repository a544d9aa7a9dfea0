#include "atlas/token_class.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "core/utf8.h"

/* Both lists of words are closed: what is not in them is content. Longest word of any list, in
 * bytes: longer ones are looked up in none. */
#define WORD_BYTES 12

/* English articles, pronouns and determiners, prepositions, conjunctions, auxiliaries. "I" has a
 * rule of its own. Sorted, as all lists here, for bsearch. */
static const char *const function_words[] = {
    "a",       "about",      "above",   "after",   "against", "all",     "although", "am",
    "among",   "an",         "and",     "any",     "are",     "as",      "at",       "be",
    "because", "been",       "before",  "being",   "below",   "between", "both",     "but",
    "by",      "can",        "could",   "did",     "do",      "does",    "down",     "during",
    "each",    "every",      "for",     "from",    "had",     "has",     "have",     "having",
    "he",      "her",        "hers",    "herself", "him",     "himself", "his",      "how",
    "if",      "in",         "into",    "is",      "it",      "its",     "itself",   "may",
    "me",      "might",      "mine",    "must",    "my",      "myself",  "no",       "nor",
    "not",     "of",         "off",     "on",      "onto",    "or",      "other",    "our",
    "ours",    "out",        "over",    "per",     "shall",   "she",     "should",   "since",
    "so",      "some",       "such",    "than",    "that",    "the",     "their",    "theirs",
    "them",    "themselves", "there",   "these",   "they",    "this",    "those",    "though",
    "through", "to",         "toward",  "towards", "under",   "unless",  "until",    "up",
    "upon",    "us",         "via",     "was",     "we",      "were",    "what",     "when",
    "where",   "whereas",    "whether", "which",   "while",   "who",     "whom",     "whose",
    "why",     "will",       "with",    "within",  "without", "would",   "yet",      "you",
    "your",    "yours",
};

/* Keywords and built-in types of C, C++, Java, JavaScript, Python, Go, Rust and their like,
 * whatever stands before them ... */
static const char *const keywords[] = {
    "False",    "NULL",    "None",       "True",    "async",  "await",    "bool",      "boolean",
    "char",     "const",   "constexpr",  "def",     "del",    "elif",     "elsif",     "endif",
    "enum",     "extern",  "fn",         "foreach", "func",   "goto",     "ifdef",     "ifndef",
    "impl",     "import",  "instanceof", "int",     "lambda", "mut",      "namespace", "null",
    "nullptr",  "println", "return",     "self",    "sizeof", "static",   "struct",    "typedef",
    "typename", "typeof",  "unsigned",   "var",     "void",   "volatile",
};

/* ... and those that are English words too: keywords only where no space stands before them. */
static const char *const bare_keywords[] = {
    "and",       "as",     "assert",   "auto",     "begin",     "break",  "byte",  "case",
    "catch",     "class",  "continue", "default",  "define",    "delete", "do",    "double",
    "else",      "end",    "except",   "export",   "extends",   "false",  "final", "finally",
    "float",     "for",    "from",     "function", "global",    "if",     "in",    "include",
    "interface", "is",     "let",      "long",     "match",     "new",    "not",   "or",
    "package",   "pass",   "print",    "private",  "protected", "public", "raise", "short",
    "signed",    "string", "super",    "switch",   "template",  "then",   "this",  "throw",
    "throws",    "true",   "try",      "type",     "union",     "use",    "using", "virtual",
    "while",     "with",   "yield",
};

/* Marks of category P that code has more than prose; all of category S are operators. */
static const char operator_marks[] = "#%&*/@[\\]_{}";

/* What the characters of a token are. */
typedef struct spelling {
    bool valid;         /* UTF-8, whole characters */
    bool leading_space; /* its first character is whitespace */
    bool line_end;      /* a line feed or carriage return anywhere */
    size_t begin, end;  /* the core: bytes without whitespace at both ends; none: empty */
    int letters;        /* of the core: categories L and M */
    int foreign;        /* letters of a script that is not Latin */
    int numbers;        /* category N */
    int operators;      /* category S and the marks above */
    int punctuation;    /* the rest of category P */
    int apostrophes;    /* those of the punctuation that words have */
    int controls;       /* category C */
    int capitals;       /* categories Lu and Lt */
    bool capital_first; /* the core's first character is one */
} spelling;

static bool is_space(utf8proc_int32_t point, utf8proc_category_t category)
{
    return (point >= 0x09 && point <= 0x0d) || category == UTF8PROC_CATEGORY_ZS ||
           category == UTF8PROC_CATEGORY_ZL || category == UTF8PROC_CATEGORY_ZP;
}

/* Letters of the blocks that hold Latin ones: Basic Latin to IPA Extensions, spacing modifiers and
 * the later extensions, ligatures, full width forms. */
static bool is_latin(utf8proc_int32_t point)
{
    return point <= 0x2ff || (point >= 0x1d00 && point <= 0x1dbf) ||
           (point >= 0x1e00 && point <= 0x1eff) || (point >= 0x2c60 && point <= 0x2c7f) ||
           (point >= 0xa720 && point <= 0xa7ff) || (point >= 0xab30 && point <= 0xab6f) ||
           (point >= 0xfb00 && point <= 0xfb06) || (point >= 0xff21 && point <= 0xff5a);
}

#define BIT(category) (1u << UTF8PROC_CATEGORY_##category)

static const uint32_t capital_categories = BIT(LU) | BIT(LT);
static const uint32_t letter_categories = BIT(LU) | BIT(LT) | BIT(LL) | BIT(LM) | BIT(LO);
static const uint32_t accent_categories = BIT(MN) | BIT(MC) | BIT(ME);
static const uint32_t number_categories = BIT(ND) | BIT(NL) | BIT(NO);
static const uint32_t symbol_categories = BIT(SM) | BIT(SC) | BIT(SK) | BIT(SO);
static const uint32_t mark_categories =
    BIT(PC) | BIT(PD) | BIT(PS) | BIT(PE) | BIT(PI) | BIT(PF) | BIT(PO);

static void count_character(spelling *s, utf8proc_int32_t point, utf8proc_category_t category)
{
    uint32_t bit = 1u << category;
    if ((bit & letter_categories) != 0) {
        s->capitals += (bit & capital_categories) != 0;
        s->letters++;
        s->foreign += !is_latin(point);
    } else if ((bit & accent_categories) != 0) {
        s->letters++;
    } else if ((bit & number_categories) != 0) {
        s->numbers++;
    } else if ((bit & symbol_categories) != 0 ||
               (point < 0x80 && strchr(operator_marks, (int)point) != NULL && point != 0)) {
        s->operators++;
    } else if ((bit & mark_categories) != 0) {
        s->punctuation++;
        s->apostrophes += point == '\'' || point == 0x2019;
    } else {
        s->controls++;
    }
}

static spelling spell(const uint8_t *bytes, size_t length)
{
    spelling s = {.valid = true, .begin = length, .end = length};
    for (size_t at = 0; at < length;) {
        size_t size = mixt_utf8_character(bytes + at, length - at);
        if (size == 0) {
            s.valid = false;
            return s;
        }
        utf8proc_int32_t point = (utf8proc_int32_t)mixt_utf8_decode(bytes + at, size);
        utf8proc_category_t category = utf8proc_category(point);
        if (is_space(point, category)) {
            s.leading_space = s.leading_space || at == 0;
            s.line_end = s.line_end || point == '\n' || point == '\r';
        } else {
            if (s.begin == length) {
                s.begin = at;
                s.capital_first = (1u << category & capital_categories) != 0;
            }
            s.end = at + size;
            count_character(&s, point, category);
        }
        at += size;
    }
    return s;
}

static int compare_words(const void *left, const void *right)
{
    return strcmp(left, *(const char *const *)right);
}

#define LISTED(word, list)                                                                         \
    (bsearch(word, list, sizeof(list) / sizeof *(list), sizeof *(list), compare_words) != NULL)

/* Latin letters and apostrophes alone. */
static mixt_token_class class_of_word(const spelling *s, const uint8_t *bytes)
{
    char word[WORD_BYTES + 1] = "";
    char lower[WORD_BYTES + 1] = "";
    size_t length = s->end - s->begin;
    for (size_t i = 0; i < length && length <= WORD_BYTES; i++) {
        word[i] = (char)bytes[s->begin + i];
        lower[i] = mixt_ascii_lower(word[i]);
    }
    bool listed = LISTED(lower, function_words) || strcmp(word, "I") == 0;
    if (s->leading_space && listed) {
        return MIXT_CLASS_FUNCTION;
    }
    if (LISTED(word, keywords) || (!s->leading_space && LISTED(word, bare_keywords))) {
        return MIXT_CLASS_KEYWORDS;
    }
    if (s->leading_space) {
        return s->capital_first ? MIXT_CLASS_NAMES : MIXT_CLASS_WORDS;
    }
    /* "The" begins a text or a line; a capital alone may be anything. */
    bool begins = s->capital_first && s->capitals == 1 && length > 1;
    return listed && begins ? MIXT_CLASS_FUNCTION : MIXT_CLASS_CONTINUATION;
}

mixt_token_class mixt_token_class_of(const uint8_t *bytes, size_t length)
{
    spelling s = spell(bytes, length);
    if (!s.valid) {
        return MIXT_CLASS_BYTES;
    }
    if (length == 0) {
        return MIXT_CLASS_OTHER;
    }
    if (s.begin == s.end) {
        return s.line_end ? MIXT_CLASS_NEWLINE : MIXT_CLASS_SPACE;
    }
    if (s.foreign > 0) {
        return MIXT_CLASS_SCRIPTS;
    }
    int marks = s.operators + s.punctuation;
    if (s.letters == 0) {
        return s.numbers > 0     ? MIXT_CLASS_DIGITS
               : s.controls > 0  ? MIXT_CLASS_OTHER
               : s.operators > 0 ? MIXT_CLASS_OPERATORS
                                 : MIXT_CLASS_PUNCTUATION;
    }
    if (s.numbers > 0 || s.controls > 0 || marks > s.apostrophes) {
        return MIXT_CLASS_MIXED;
    }
    return class_of_word(&s, bytes);
}

const char *const mixt_token_class_names[MIXT_CLASS_COUNT + 1] = {
    "space", "newline", "digits",       "punctuation", "operators", "function", "keywords",
    "words", "names",   "continuation", "mixed",       "scripts",   "bytes",    "other",
};

const char *mixt_token_class_name(int token_class)
{
    assert(token_class >= 0 && token_class < MIXT_CLASS_COUNT);
    return mixt_token_class_names[token_class];
}
