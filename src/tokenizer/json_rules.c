/* What a tokenizer.json says to do to a text: normalizer, pre-tokenizer, decoder, post-processor.
 * What would give other tokens is refused by name. */
#include "tokenizer/json.h"

#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "formats/json.h"

mixt_status mixt_hf_no_memory(mixt_hf_reader *r)
{
    return mixt_fail(r->error, MIXT_ERROR_MEMORY, "no memory");
}

mixt_status mixt_hf_refuse(mixt_hf_reader *r, const char *key, const json_t *value)
{
    mixt_json_begin();
    char *text = mixt_json_text(value, JSON_ENCODE_ANY | JSON_COMPACT);
    mixt_fail(r->error, MIXT_ERROR_UNSUPPORTED, "%s: no support for %.100s", key,
              text != NULL ? text : "this value");
    free(text);
    return MIXT_ERROR_UNSUPPORTED;
}

mixt_status mixt_hf_wrong(mixt_hf_reader *r, const char *key, const char *rule)
{
    return mixt_fail(r->error, MIXT_ERROR_FORMAT, "%s: %s", key, rule);
}

bool mixt_hf_is_null(const json_t *value)
{
    return value == NULL || json_is_null(value);
}

bool mixt_hf_is_type(const json_t *value, const char *type)
{
    const char *name = json_string_value(json_object_get(value, "type"));
    return name != NULL && strcmp(name, type) == 0;
}

mixt_status mixt_hf_flag(mixt_hf_reader *r, const json_t *object, const char *place,
                         const char *key, bool otherwise, bool *flag)
{
    const json_t *value = json_object_get(object, key);
    *flag = value == NULL ? otherwise : json_is_true(value);
    if (value != NULL && !json_is_boolean(value)) {
        return mixt_fail(r->error, MIXT_ERROR_FORMAT, "%s.%s: not true or false", place, key);
    }
    return MIXT_OK;
}

/* --- Pre-tokenizer --------------------- --------------------------------------------------------
 */

/* Adds a stage and keeps its pattern: GGUF names chains of them. */
static mixt_status add_stage(mixt_hf_reader *r, const char *pattern, bool literal,
                             mixt_split_keep keep)
{
    mixt_tokenizer *t = r->tokenizer;
    const int limit = sizeof t->patterns / sizeof *t->patterns;
    if (literal || keep == MIXT_SPLIT_KEEP_GAPS || t->pattern_count == limit) {
        t->pattern_count = -1;
    } else if (t->pattern_count >= 0) {
        t->patterns[t->pattern_count] = mixt_arena_string(t->arena, pattern);
        if (t->patterns[t->pattern_count++] == NULL) {
            return mixt_hf_no_memory(r);
        }
    }
    return mixt_splitter_add(t->splitter, pattern, literal, keep, r->error);
}

static mixt_status read_byte_level(mixt_hf_reader *r, const json_t *value, bool only_one)
{
    bool prefix, regex;
    MIXT_TRY(mixt_hf_flag(r, value, "pre_tokenizer.ByteLevel", "add_prefix_space", true, &prefix));
    MIXT_TRY(mixt_hf_flag(r, value, "pre_tokenizer.ByteLevel", "use_regex", true, &regex));
    if (prefix && !only_one) {
        return mixt_hf_refuse(r, "pre_tokenizer: add_prefix_space behind a Split", value);
    }
    r->tokenizer->prefix_space = prefix;
    return regex ? add_stage(r, MIXT_GPT2_PATTERN, false, MIXT_SPLIT_KEEP_ALL) : MIXT_OK;
}

static mixt_status read_split(mixt_hf_reader *r, const json_t *value)
{
    const json_t *pattern = json_object_get(value, "pattern");
    const char *regex = json_string_value(json_object_get(pattern, "Regex"));
    const char *plain = json_string_value(json_object_get(pattern, "String"));
    const char *behavior = json_string_value(json_object_get(value, "behavior"));
    bool invert;
    MIXT_TRY(mixt_hf_flag(r, value, "pre_tokenizer.Split", "invert", false, &invert));
    if ((regex == NULL) == (plain == NULL) || behavior == NULL) {
        return mixt_hf_wrong(r, "pre_tokenizer.Split", "no pattern or behavior");
    }
    mixt_split_keep keep;
    if (strcmp(behavior, "Isolated") == 0) {
        keep = MIXT_SPLIT_KEEP_ALL;
    } else if (strcmp(behavior, "Removed") == 0) {
        keep = invert ? MIXT_SPLIT_KEEP_MATCHES : MIXT_SPLIT_KEEP_GAPS;
    } else {
        return mixt_hf_refuse(r, "pre_tokenizer.Split.behavior",
                              json_object_get(value, "behavior"));
    }
    const char *text = regex != NULL ? regex : plain;
    return add_stage(r, text, regex == NULL, keep);
}

static mixt_status read_digits(mixt_hf_reader *r, const json_t *value)
{
    bool individual;
    MIXT_TRY(
        mixt_hf_flag(r, value, "pre_tokenizer.Digits", "individual_digits", false, &individual));
    return add_stage(r, individual ? "\\p{N}" : "\\p{N}+", false, MIXT_SPLIT_KEEP_ALL);
}

/* {"type":"Metaspace","replacement":"\u2581","prepend_scheme":"always","split":true}; older files
 * have add_prefix_space instead of the scheme. */
static mixt_status read_metaspace(mixt_hf_reader *r, const json_t *value)
{
    const char *mark = json_string_value(json_object_get(value, "replacement"));
    const char *scheme = json_string_value(json_object_get(value, "prepend_scheme"));
    mixt_tokenizer *t = r->tokenizer;
    bool prefix;
    MIXT_TRY(mixt_hf_flag(r, value, "pre_tokenizer.Metaspace", "add_prefix_space", true, &prefix));
    MIXT_TRY(mixt_hf_flag(r, value, "pre_tokenizer.Metaspace", "split", true, &t->metaspace_split));
    if (mark == NULL || strcmp(mark, MIXT_SPACE_MARK) != 0) {
        return mixt_hf_refuse(r, "pre_tokenizer.Metaspace", value);
    }
    if (scheme == NULL) {
        t->metaspace = prefix ? MIXT_METASPACE_ALWAYS : MIXT_METASPACE_NEVER;
    } else if (strcmp(scheme, "always") == 0) {
        t->metaspace = MIXT_METASPACE_ALWAYS;
    } else if (strcmp(scheme, "first") == 0) {
        t->metaspace = MIXT_METASPACE_FIRST;
    } else if (strcmp(scheme, "never") == 0) {
        t->metaspace = MIXT_METASPACE_NEVER;
    } else {
        return mixt_hf_refuse(r, "pre_tokenizer.Metaspace", value);
    }
    return MIXT_OK;
}

static mixt_status read_stage(mixt_hf_reader *r, const json_t *item, bool only, bool last)
{
    if (last && mixt_hf_is_type(item, "ByteLevel")) {
        r->byte_level = true;
        return read_byte_level(r, item, only);
    }
    if (last && mixt_hf_is_type(item, "Metaspace")) {
        return read_metaspace(r, item);
    }
    if (mixt_hf_is_type(item, "Split")) {
        return read_split(r, item);
    }
    if (mixt_hf_is_type(item, "Digits")) {
        return read_digits(r, item);
    }
    if (mixt_hf_is_type(item, "WhitespaceSplit")) {
        return add_stage(r, "\\s+", false, MIXT_SPLIT_KEEP_GAPS);
    }
    return mixt_hf_refuse(r, "pre_tokenizer", item);
}

static mixt_status read_pre_tokenizer(mixt_hf_reader *r, const json_t *value)
{
    if (mixt_hf_is_null(value)) {
        return MIXT_OK;
    }
    if (!mixt_hf_is_type(value, "Sequence")) {
        return read_stage(r, value, true, true);
    }
    const json_t *list = json_object_get(value, "pretokenizers");
    size_t count = json_array_size(list);
    if (count == 0 || count > 16) {
        return mixt_hf_refuse(r, "pre_tokenizer", value);
    }
    for (size_t i = 0; i < count; i++) {
        MIXT_TRY(read_stage(r, json_array_get(list, i), i == 0, i + 1 == count));
    }
    return MIXT_OK;
}

/* --- Normalizer --------------------------------------------------------------------------------
 */

static mixt_status added(mixt_hf_reader *r, bool done)
{
    return done ? MIXT_OK : mixt_hf_no_memory(r);
}

/* Six bits of a base64 digit, -1 for other characters. */
static int base64_digit(char c)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *found = c != '\0' ? strchr(digits, c) : NULL;
    return found != NULL ? (int)(found - digits) : -1;
}

static mixt_status add_precompiled(mixt_hf_reader *r, const json_t *item)
{
    const char *text = json_string_value(json_object_get(item, "precompiled_charsmap"));
    mixt_buffer data = {0};
    uint32_t bits = 0;
    bool good = text != NULL && strlen(text) % 4 == 0;
    for (size_t i = 0; good && text[i] != '\0' && text[i] != '='; i++) {
        int digit = base64_digit(text[i]);
        good = digit >= 0;
        bits = bits << 6 | (uint32_t)digit % 64;
        if (i % 4 != 0) { /* 6, 12, 18 bits are left over from the digits before */
            unsigned char byte = (unsigned char)(bits >> (2 * (3 - i % 4)));
            mixt_buffer_append(&data, &byte, 1);
        }
    }
    mixt_status status = MIXT_OK;
    if (!good || r->tokenizer->charsmap != NULL) {
        status = mixt_hf_wrong(r, "normalizer.Precompiled",
                               good ? "there twice" : "precompiled_charsmap: not base64");
    } else if (data.failed) {
        status = mixt_hf_no_memory(r);
    } else {
        status = mixt_charsmap_create(data.data != NULL ? data.data : "", data.length,
                                      &r->tokenizer->charsmap, r->error);
    }
    mixt_buffer_free(&data);
    return status == MIXT_OK ? added(r, mixt_normalizer_add_precompiled(r->tokenizer->normalizer,
                                                                        r->tokenizer->charsmap))
                             : status;
}

static mixt_status add_replace(mixt_hf_reader *r, const json_t *item)
{
    const json_t *pattern = json_object_get(item, "pattern");
    const char *plain = json_string_value(json_object_get(pattern, "String"));
    const char *regex = json_string_value(json_object_get(pattern, "Regex"));
    const char *content = json_string_value(json_object_get(item, "content"));
    mixt_normalizer *normalizer = r->tokenizer->normalizer;
    if (content != NULL && plain != NULL && plain[0] != '\0') {
        return added(r, mixt_normalizer_add_replace(normalizer, plain, content));
    }
    if (content == NULL || regex == NULL) {
        return mixt_hf_refuse(r, "normalizer", item);
    }
    mixt_splitter *splitter = mixt_splitter_create();
    if (splitter == NULL) {
        return mixt_hf_no_memory(r);
    }
    mixt_status status = mixt_splitter_add(splitter, regex, false, MIXT_SPLIT_KEEP_ALL, r->error);
    if (status != MIXT_OK) {
        mixt_splitter_free(splitter);
        return status;
    }
    return added(r, mixt_normalizer_add_pattern(normalizer, splitter, content));
}

static mixt_status add_normalizer(mixt_hf_reader *r, const json_t *item)
{
    static const struct {
        const char *type;
        mixt_normal_form form;
    } forms[] = {{"NFC", MIXT_NFC}, {"NFD", MIXT_NFD}, {"NFKC", MIXT_NFKC}, {"NFKD", MIXT_NFKD}};
    mixt_normalizer *normalizer = r->tokenizer->normalizer;
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        if (mixt_hf_is_type(item, forms[i].type)) {
            r->tokenizer->nfc = r->tokenizer->nfc || forms[i].form == MIXT_NFC;
            return added(r, mixt_normalizer_add_form(normalizer, forms[i].form));
        }
    }
    const char *text = json_string_value(json_object_get(item, "prepend"));
    if (mixt_hf_is_type(item, "Prepend") && text != NULL) {
        r->tokenizer->strip_each = true;
        return added(r, mixt_normalizer_add_prepend(normalizer, text));
    }
    if (mixt_hf_is_type(item, "Lowercase")) {
        return added(r, mixt_normalizer_add_lower(normalizer));
    }
    if (mixt_hf_is_type(item, "Strip")) {
        bool left, right;
        MIXT_TRY(mixt_hf_flag(r, item, "normalizer.Strip", "strip_left", true, &left));
        MIXT_TRY(mixt_hf_flag(r, item, "normalizer.Strip", "strip_right", true, &right));
        return added(r, mixt_normalizer_add_strip(normalizer, left, right));
    }
    if (mixt_hf_is_type(item, "Precompiled")) {
        return add_precompiled(r, item);
    }
    return mixt_hf_is_type(item, "Replace") ? add_replace(r, item)
                                            : mixt_hf_refuse(r, "normalizer", item);
}

static mixt_status read_normalizer(mixt_hf_reader *r, const json_t *value)
{
    if (mixt_hf_is_null(value)) {
        return MIXT_OK;
    }
    if (!mixt_hf_is_type(value, "Sequence")) {
        return add_normalizer(r, value);
    }
    const json_t *list = json_object_get(value, "normalizers");
    if (!json_is_array(list) || json_array_size(list) > 16) {
        return mixt_hf_refuse(r, "normalizer", value);
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        MIXT_TRY(add_normalizer(r, json_array_get(list, i)));
    }
    return MIXT_OK;
}

/* --- Decoder -----------------------------------------------------------------------------------
 */

static bool is_text(const json_t *object, const char *key, const char *text)
{
    const char *value = json_string_value(json_object_get(object, key));
    return value != NULL && strcmp(value, text) == 0;
}

static mixt_status read_decoder_part(mixt_hf_reader *r, const json_t *item)
{
    if (mixt_hf_is_type(item, "Replace")) {
        bool marks = is_text(json_object_get(item, "pattern"), "String", MIXT_SPACE_MARK) &&
                     is_text(item, "content", " ");
        r->unescape = true;
        return marks ? MIXT_OK : mixt_hf_refuse(r, "decoder", item);
    }
    if (mixt_hf_is_type(item, "Strip")) {
        bool one = is_text(item, "content", " ") &&
                   json_integer_value(json_object_get(item, "start")) == 1 &&
                   json_integer_value(json_object_get(item, "stop")) == 0;
        r->tokenizer->strip_space = true;
        return one ? MIXT_OK : mixt_hf_refuse(r, "decoder", item);
    }
    if (mixt_hf_is_type(item, "Metaspace")) {
        r->unescape = true;
        r->tokenizer->strip_space = !json_is_false(json_object_get(item, "add_prefix_space")) &&
                                    !is_text(item, "prepend_scheme", "never");
        return MIXT_OK;
    }
    return mixt_hf_is_type(item, "ByteFallback") || mixt_hf_is_type(item, "Fuse")
               ? MIXT_OK
               : mixt_hf_refuse(r, "decoder", item);
}

static mixt_status read_decoder(mixt_hf_reader *r, const json_t *value)
{
    if (mixt_hf_is_null(value)) {
        return MIXT_OK;
    }
    if (mixt_hf_is_type(value, "ByteLevel")) {
        return r->byte_level ? MIXT_OK
                             : mixt_hf_wrong(r, "decoder", "ByteLevel, but no pre_tokenizer is");
    }
    if (r->byte_level) {
        return mixt_hf_refuse(r, "decoder", value);
    }
    const json_t *list = json_object_get(value, "decoders");
    if (!mixt_hf_is_type(value, "Sequence")) {
        return read_decoder_part(r, value);
    }
    if (!json_is_array(list)) {
        return mixt_hf_refuse(r, "decoder", value);
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        MIXT_TRY(read_decoder_part(r, json_array_get(list, i)));
    }
    return MIXT_OK;
}

mixt_status mixt_hf_read_rules(mixt_hf_reader *r)
{
    MIXT_TRY(read_normalizer(r, json_object_get(r->root, "normalizer")));
    MIXT_TRY(read_pre_tokenizer(r, json_object_get(r->root, "pre_tokenizer")));
    return read_decoder(r, json_object_get(r->root, "decoder"));
}

/* --- Post-processor ----------------------------------------------------------------------------
 */

/* The id of a special token that a template names; -1 for a part that is none. */
static int32_t template_id(const mixt_hf_reader *r, const json_t *template, const json_t *part)
{
    const char *name =
        json_string_value(json_object_get(json_object_get(part, "SpecialToken"), "id"));
    const json_t *special = json_object_get(json_object_get(template, "special_tokens"), name);
    const json_t *ids = json_object_get(special, "ids");
    json_int_t id = json_integer_value(json_array_get(ids, 0));
    bool good = name != NULL && json_array_size(ids) == 1 && id >= 0 &&
                id < r->tokenizer->vocab_size && r->tokenizer->tokens[id].bytes != NULL;
    return good ? (int32_t)id : -1;
}

/* "single": [special token] sequence [special token] */
static mixt_status read_template(mixt_hf_reader *r, const json_t *template)
{
    const json_t *single = json_object_get(template, "single");
    mixt_tokenizer *t = r->tokenizer;
    size_t count = json_array_size(single), sequence = count;
    for (size_t i = 0; i < count; i++) {
        sequence = json_object_get(json_array_get(single, i), "Sequence") != NULL ? i : sequence;
    }
    if (sequence == count || sequence > 1 || count - sequence > 2) {
        return mixt_hf_refuse(r, "post_processor.single", single);
    }
    if (sequence == 1) {
        t->before = template_id(r, template, json_array_get(single, 0));
        t->special[MIXT_SPECIAL_BOS] = t->before;
        t->adds_bos = true;
    }
    if (sequence + 2 == count) {
        t->behind = template_id(r, template, json_array_get(single, count - 1));
        t->special[MIXT_SPECIAL_EOS] = t->behind;
        t->adds_eos = true;
    }
    bool lost = (t->adds_bos && t->special[MIXT_SPECIAL_BOS] < 0) ||
                (t->adds_eos && t->special[MIXT_SPECIAL_EOS] < 0);
    return lost ? mixt_hf_refuse(r, "post_processor", template) : MIXT_OK;
}

mixt_status mixt_hf_read_post_processor(mixt_hf_reader *r)
{
    const json_t *value = json_object_get(r->root, "post_processor");
    if (mixt_hf_is_null(value) || mixt_hf_is_type(value, "ByteLevel")) { /* changes offsets only */
        return MIXT_OK;
    }
    if (mixt_hf_is_type(value, "TemplateProcessing")) {
        return read_template(r, value);
    }
    const json_t *list = json_object_get(value, "processors");
    if (!mixt_hf_is_type(value, "Sequence") || !json_is_array(list)) {
        return mixt_hf_refuse(r, "post_processor", value);
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *item = json_array_get(list, i);
        if (mixt_hf_is_type(item, "TemplateProcessing")) {
            MIXT_TRY(read_template(r, item));
        } else if (!mixt_hf_is_type(item, "ByteLevel")) {
            return mixt_hf_refuse(r, "post_processor", item);
        }
    }
    return MIXT_OK;
}
