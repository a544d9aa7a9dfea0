#include "tokenizer/normalizer.h"

#include <stdlib.h>
#include <string.h>

#include "tokenizer/sentencepiece.h"
#include "core/utf8.h"

#define STEP_LIMIT 16

typedef enum step_kind {
    STEP_FORM,
    STEP_LOWER,
    STEP_STRIP,
    STEP_REPLACE,
    STEP_PATTERN,
    STEP_PRECOMPILED,
    STEP_PREPEND,
    STEP_SPACES
} step_kind;

typedef struct step {
    step_kind kind;
    mixt_normal_form form;
    bool left, right; /* of STEP_STRIP */
    char *from, *to;
    mixt_splitter *pattern;
    const mixt_charsmap *map;
    mixt_spaces spaces;
} step;

struct mixt_normalizer {
    step steps[STEP_LIMIT];
    int count;
};

mixt_normalizer *mixt_normalizer_create(void)
{
    return calloc(1, sizeof(mixt_normalizer));
}

void mixt_normalizer_free(mixt_normalizer *normalizer)
{
    if (normalizer != NULL) {
        for (int i = 0; i < normalizer->count; i++) {
            free(normalizer->steps[i].from);
            free(normalizer->steps[i].to);
            mixt_splitter_free(normalizer->steps[i].pattern);
        }
        free(normalizer);
    }
}

bool mixt_normalizer_keeps(const mixt_normalizer *normalizer, const char *text, size_t length)
{
    if (!mixt_normalizer_is_nfc(normalizer)) {
        return length == 0;
    }
    return normalizer->count == 0 || mixt_nfc_is_plain(text, length);
}

bool mixt_normalizer_is_nfc(const mixt_normalizer *normalizer)
{
    for (int i = 0; i < normalizer->count; i++) {
        if (normalizer->steps[i].kind != STEP_FORM || normalizer->steps[i].form != MIXT_NFC) {
            return false;
        }
    }
    return true;
}

bool mixt_normalizer_is_llama(const mixt_normalizer *normalizer, bool *prefix)
{
    const step *steps = normalizer->steps;
    int last = normalizer->count - 1;
    *prefix =
        last == 1 && steps[0].kind == STEP_PREPEND && strcmp(steps[0].to, MIXT_SPACE_MARK) == 0;
    return (last == 0 || *prefix) && steps[last].kind == STEP_REPLACE &&
           strcmp(steps[last].from, " ") == 0 && strcmp(steps[last].to, MIXT_SPACE_MARK) == 0;
}

static step *add(mixt_normalizer *normalizer, step_kind kind)
{
    if (normalizer->count == STEP_LIMIT) {
        return NULL;
    }
    step *made = &normalizer->steps[normalizer->count++];
    *made = (step){.kind = kind};
    return made;
}

bool mixt_normalizer_add_form(mixt_normalizer *normalizer, mixt_normal_form form)
{
    step *made = add(normalizer, STEP_FORM);
    if (made != NULL) {
        made->form = form;
    }
    return made != NULL;
}

bool mixt_normalizer_add_lower(mixt_normalizer *normalizer)
{
    return add(normalizer, STEP_LOWER) != NULL;
}

bool mixt_normalizer_add_strip(mixt_normalizer *normalizer, bool left, bool right)
{
    step *made = add(normalizer, STEP_STRIP);
    if (made != NULL) {
        made->left = left;
        made->right = right;
    }
    return made != NULL;
}

bool mixt_normalizer_add_pattern(mixt_normalizer *normalizer, mixt_splitter *pattern,
                                 const char *to)
{
    step *made = add(normalizer, STEP_PATTERN);
    if (made == NULL) {
        mixt_splitter_free(pattern);
        return false;
    }
    made->pattern = pattern;
    made->to = strdup(to);
    return made->to != NULL;
}

bool mixt_normalizer_add_precompiled(mixt_normalizer *normalizer, const mixt_charsmap *map)
{
    step *made = add(normalizer, STEP_PRECOMPILED);
    if (made != NULL) {
        made->map = map;
    }
    return made != NULL;
}

bool mixt_normalizer_add_replace(mixt_normalizer *normalizer, const char *from, const char *to)
{
    step *made = add(normalizer, STEP_REPLACE);
    if (made != NULL) {
        made->from = strdup(from);
        made->to = strdup(to);
    }
    return made != NULL && made->from != NULL && made->to != NULL;
}

bool mixt_normalizer_add_prepend(mixt_normalizer *normalizer, const char *text)
{
    step *made = add(normalizer, STEP_PREPEND);
    if (made != NULL) {
        made->to = strdup(text);
    }
    return made != NULL && made->to != NULL;
}

bool mixt_normalizer_add_spaces(mixt_normalizer *normalizer, const mixt_spaces *spaces)
{
    step *made = add(normalizer, STEP_SPACES);
    if (made != NULL) {
        made->spaces = *spaces;
    }
    return made != NULL;
}

static void replace(const step *s, const char *text, size_t length, mixt_buffer *to)
{
    size_t from_length = strlen(s->from), to_length = strlen(s->to), done = 0;
    for (size_t at = 0; from_length != 0 && at + from_length <= length;) {
        const char *hit = memchr(text + at, s->from[0], length - at - from_length + 1);
        if (hit == NULL) {
            break;
        }
        at = (size_t)(hit - text);
        if (memcmp(hit, s->from, from_length) == 0) {
            mixt_buffer_append(to, text + done, at - done);
            mixt_buffer_append(to, s->to, to_length);
            at += from_length;
            done = at;
        } else {
            at++;
        }
    }
    mixt_buffer_append(to, text + done, length - done);
}

static bool is_white_space(uint32_t c)
{
    return (c >= 9 && c <= 13) || c == 0x20 || c == 0x85 || c == 0xa0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f ||
           c == 0x205f || c == 0x3000;
}

static void strip(const step *s, const char *text, size_t length, mixt_buffer *to)
{
    const unsigned char *bytes = (const unsigned char *)text;
    size_t begin = 0, end = 0;
    bool started = !s->left;
    for (size_t at = 0; at < length;) {
        size_t size = mixt_utf8_character(bytes + at, length - at);
        bool space = size != 0 && is_white_space(mixt_utf8_decode(bytes + at, size));
        size = size != 0 ? size : 1;
        begin = !started && !space ? at : begin;
        started = started || !space;
        at += size;
        end = !space || !s->right ? at : end;
    }
    begin = started ? begin : length;
    mixt_buffer_append(to, text + begin, end > begin ? end - begin : 0);
}

/* --- SentencePiece's normaliser ----------------------------------------------------------------
 */

/* What stands for the start of a text: its bytes and how many bytes of the text they stand for. */
typedef struct prefix {
    const char *text;
    size_t length, consumed;
} prefix;

static prefix next_prefix(const mixt_spaces *s, const char *text, size_t length)
{
    const mixt_added_token *user =
        s->user_defined != NULL ? mixt_added_longest(s->user_defined, text, length, 0) : NULL;
    if (user != NULL) {
        return (prefix){text, user->length, user->length};
    }
    const char *replacement = NULL;
    size_t found = s->map != NULL ? mixt_charsmap_find(s->map, text, length, &replacement) : 0;
    if (found != 0) {
        return (prefix){replacement, strlen(replacement), found};
    }
    size_t size = mixt_utf8_character((const unsigned char *)text, length);
    if (size == 0) {
        return s->keep_bytes ? (prefix){text, 1, 1} : (prefix){"\xef\xbf\xbd", 3, 1};
    }
    return (prefix){text, size, size};
}

static void append_space(const mixt_spaces *s, mixt_buffer *to)
{
    mixt_buffer_text(to, s->escape ? MIXT_SPACE_MARK : " ");
}

static bool is_space(const prefix *p)
{
    return p->length == 1 && p->text[0] == ' ';
}

static void append_prefix(const mixt_spaces *s, const prefix *p, mixt_buffer *to)
{
    size_t done = 0;
    for (size_t i = 0; i < p->length; i++) {
        if (p->text[i] == ' ') {
            mixt_buffer_append(to, p->text + done, i - done);
            append_space(s, to);
            done = i + 1;
        }
    }
    mixt_buffer_append(to, p->text + done, p->length - done);
}

static bool begins_with_space(const char *text, size_t length)
{
    size_t mark = strlen(MIXT_SPACE_MARK);
    return length != 0 &&
           (text[0] == ' ' || (length >= mark && memcmp(text, MIXT_SPACE_MARK, mark) == 0));
}

static void normalize_spaces(const mixt_spaces *s, const char *text, size_t length, bool at_start,
                             mixt_buffer *to)
{
    bool mark_first =
        s->prefix && (!s->first_only || (at_start && !begins_with_space(text, length)));
    size_t at = 0, begin = to->length;
    while (s->remove_extra && at < length) {
        prefix p = next_prefix(s, text + at, length - at);
        if (!is_space(&p)) {
            break;
        }
        at += p.consumed;
    }
    if (at == length) {
        return;
    }
    if (mark_first && !s->suffix) {
        append_space(s, to);
    }
    bool was_space = s->remove_extra;
    while (at < length && !to->failed) {
        prefix p = next_prefix(s, text + at, length - at);
        at += p.consumed;
        while (was_space && p.length != 0 && p.text[0] == ' ') {
            p.text++;
            p.length--;
        }
        if (p.length != 0) {
            append_prefix(s, &p, to);
            was_space = s->remove_extra && p.text[p.length - 1] == ' ';
        }
    }
    const char *mark = s->escape ? MIXT_SPACE_MARK : " ";
    size_t size = strlen(mark);
    while (s->remove_extra && !to->failed && to->length >= begin + size &&
           memcmp(to->data + to->length - size, mark, size) == 0) {
        to->length -= size;
    }
    if (mark_first && s->suffix) {
        append_space(s, to);
    }
}

/* ------------------------------------------------------------------------------------------------
 */

static void run_step(const step *s, const char *text, size_t length, bool at_start, mixt_buffer *to)
{
    switch (s->kind) {
    case STEP_FORM:
        mixt_normal_form_append(s->form, text, length, to);
        break;
    case STEP_LOWER:
        mixt_lower_append(text, length, to);
        break;
    case STEP_STRIP:
        strip(s, text, length, to);
        break;
    case STEP_PATTERN:
        mixt_splitter_replace(s->pattern, text, length, s->to, to);
        break;
    case STEP_PRECOMPILED:
        mixt_precompiled_append(s->map, text, length, to);
        break;
    case STEP_REPLACE:
        replace(s, text, length, to);
        break;
    case STEP_PREPEND:
        mixt_buffer_text(to, length != 0 ? s->to : "");
        mixt_buffer_append(to, text, length);
        break;
    case STEP_SPACES:
        normalize_spaces(&s->spaces, text, length, at_start, to);
        break;
    }
}

void mixt_normalizer_run(const mixt_normalizer *normalizer, const char *text, size_t length,
                         bool at_start, mixt_buffer *to)
{
    mixt_buffer now = {0};
    for (int i = 0; i < normalizer->count; i++) {
        mixt_buffer next = {0};
        const char *from = i == 0 ? text : now.data != NULL ? now.data : "";
        run_step(&normalizer->steps[i], from, i == 0 ? length : now.length, at_start,
                 i + 1 == normalizer->count ? to : &next);
        mixt_buffer_free(&now);
        now = next;
        if (now.failed) {
            to->failed = true;
            break;
        }
    }
    mixt_buffer_free(&now);
    if (normalizer->count == 0) {
        mixt_buffer_append(to, text, length);
    }
}
