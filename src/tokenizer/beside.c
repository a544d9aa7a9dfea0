/* Tokens that the files beside a vocabulary add to it. */
#include "tokenizer/beside.h"

#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "formats/json.h"

#define HOLE_LIMIT 65536 /* ids behind the pieces */

/* The order in which transformers adds special tokens that have a name but no place yet. */
static const char *const named[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                    "pad_token", "cls_token", "mask_token"};
static const char *const lists[] = {"additional_special_tokens", "extra_special_tokens",
                                    "model_specific_special_tokens"};

typedef struct addition {
    const char *text;
    json_int_t id;       /* -1: the next one */
    const json_t *flags; /* an object with lstrip and its like, or NULL */
    bool special;
    const char *file, *key;
} addition;

typedef struct additions {
    addition *items;
    size_t count, capacity;
    json_t *seen;  /* their texts */
    json_t *names; /* of special tokens */
} additions;

static mixt_status no_memory(mixt_error *error)
{
    return mixt_fail(error, MIXT_ERROR_MEMORY, "tokenizer: no memory for added tokens");
}

static mixt_status wrong(const mixt_beside *b, const addition *a, const char *rule)
{
    return mixt_fail(b->error, MIXT_ERROR_FORMAT, "%s: %s: \"%.60s\": %s", a->file, a->key, a->text,
                     rule);
}

/* --- What is to be added -----------------------------------------------------------------------
 */

/* The tokens of a list, or of an object whose keys name what they are for ("image_token"), as a
 * list that is a new reference. */
static json_t *tokens_of(const json_t *value)
{
    const char *key;
    json_t *token, *list = json_array();
    if (json_is_array(value)) {
        json_array_extend(list, (json_t *)(uintptr_t)value);
    } else if (json_is_object(value)) {
        json_object_foreach((json_t *)(uintptr_t)value, key, token)
        {
            json_array_append(list, token);
        }
    }
    return list;
}

/* Texts that a key of a special token names, as the keys of an object. */
static json_t *find_names(const mixt_beside *b)
{
    json_t *names = json_object();
    const char *file;
    for (size_t i = 0; i < sizeof named / sizeof *named; i++) {
        const char *text = mixt_beside_text(mixt_beside_value(b, named[i], &file));
        if (text != NULL) {
            json_object_set_new(names, text, json_true());
        }
    }
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        json_t *list = tokens_of(mixt_beside_value(b, lists[i], &file));
        for (size_t j = 0; j < json_array_size(list); j++) {
            const char *text = mixt_beside_text(json_array_get(list, j));
            if (text != NULL) {
                json_object_set_new(names, text, json_true());
            }
        }
        json_decref(list);
    }
    return names;
}

static mixt_status append(const mixt_beside *b, additions *all, const addition *a)
{
    if (a->text == NULL || a->text[0] == '\0' || strlen(a->text) > MIXT_ADDED_LENGTH) {
        return mixt_fail(b->error, MIXT_ERROR_FORMAT, "%s: %s: not a token's text", a->file,
                         a->key);
    }
    if (json_object_get(all->seen, a->text) != NULL) {
        return MIXT_OK;
    }
    if (json_object_set_new(all->seen, a->text, json_true()) != 0 ||
        !mixt_grow(&all->items, &all->capacity, all->count + 1, sizeof *all->items)) {
        return no_memory(b->error);
    }
    all->items[all->count++] = *a;
    return MIXT_OK;
}

static int compare_ids(const void *a, const void *b)
{
    json_int_t left = ((const addition *)a)->id, right = ((const addition *)b)->id;
    return (left > right) - (left < right);
}

/* {"32000": {"content": ..., "special": ...}, ...} */
static mixt_status list_decoder(const mixt_beside *b, const json_t *decoder, additions *all)
{
    const char *key;
    json_t *value;
    addition a = {.file = b->config.path, .key = "added_tokens_decoder"};
    if (!json_is_object(decoder)) {
        return mixt_fail(b->error, MIXT_ERROR_FORMAT, "%s: %s: not an object", a.file, a.key);
    }
    json_object_foreach((json_t *)(uintptr_t)decoder, key, value)
    {
        char *end = NULL;
        long id = strtol(key, &end, 10);
        if (key[0] < '0' || key[0] > '9' || *end != '\0' || id > INT32_MAX ||
            !json_is_object(value)) {
            return mixt_fail(b->error, MIXT_ERROR_FORMAT,
                             "%s: %s: \"%.40s\" is not an id with an object", a.file, a.key, key);
        }
        a.text = mixt_beside_text(value);
        a.id = id;
        a.flags = value;
        a.special = json_is_true(json_object_get(value, "special")) ||
                    (a.text != NULL && json_object_get(all->names, a.text) != NULL);
        MIXT_TRY(append(b, all, &a));
    }
    return MIXT_OK;
}

/* {"<|im_end|>": 32000, ...} */
static mixt_status list_added(const mixt_beside *b, additions *all)
{
    const char *key;
    json_t *value;
    json_object_foreach(b->added.root, key, value)
    {
        addition a = {.text = key, .file = b->added.path, .key = "added token"};
        a.id = json_integer_value(value);
        a.special = json_object_get(all->names, key) != NULL;
        if (!json_is_integer(value) || a.id < 0 || a.id > INT32_MAX) {
            return wrong(b, &a, "its id is not a whole number from 0 to 2^31");
        }
        MIXT_TRY(append(b, all, &a));
    }
    return MIXT_OK;
}

static mixt_status list_named(const mixt_beside *b, additions *all)
{
    for (size_t i = 0; i < sizeof named / sizeof *named; i++) {
        addition a = {.key = named[i], .id = -1, .special = true};
        const json_t *value = mixt_beside_value(b, named[i], &a.file);
        if (value != NULL && !json_is_null(value)) {
            a.text = mixt_beside_text(value);
            a.flags = json_is_object(value) ? value : NULL;
            MIXT_TRY(append(b, all, &a));
        }
    }
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        addition a = {.key = lists[i], .id = -1, .special = true};
        mixt_status status = MIXT_OK;
        json_t *list = tokens_of(mixt_beside_value(b, lists[i], &a.file));
        for (size_t j = 0; status == MIXT_OK && j < json_array_size(list); j++) {
            const json_t *value = json_array_get(list, j);
            a.text = mixt_beside_text(value);
            a.flags = json_is_object(value) ? value : NULL;
            status = append(b, all, &a);
        }
        json_decref(list); /* the file's own root holds the tokens */
        MIXT_TRY(status);
    }
    return MIXT_OK;
}

static mixt_status list_all(const mixt_beside *b, additions *all)
{
    const json_t *decoder = json_object_get(b->config.root, "added_tokens_decoder");
    mixt_json_begin();
    *all = (additions){.seen = json_object(), .names = find_names(b)};
    mixt_status status = decoder != NULL ? list_decoder(b, decoder, all) : list_added(b, all);
    if (status == MIXT_OK && all->count > 1) {
        qsort(all->items, all->count, sizeof *all->items, compare_ids);
    }
    status = status == MIXT_OK ? list_named(b, all) : status;
    return status == MIXT_OK && mixt_json_failed() ? no_memory(b->error) : status;
}

static void free_all(additions *all)
{
    json_decref(all->seen);
    json_decref(all->names);
    free(all->items);
}

static mixt_status read_flags(const mixt_beside *b, const addition *a, mixt_added_token *token)
{
    mixt_json_object flags = {a->flags, a->file, "added token: ", b->error};
    *token = (mixt_added_token){
        .text = a->text, .length = strlen(a->text), .id = (int32_t)a->id, .special = a->special};
    if (a->flags == NULL) {
        return MIXT_OK;
    }
    MIXT_TRY(mixt_json_bool_or(&flags, "single_word", &token->single_word));
    MIXT_TRY(mixt_json_bool_or(&flags, "lstrip", &token->left_strip));
    return mixt_json_bool_or(&flags, "rstrip", &token->right_strip);
}

/* --- Into a tokenizer.json ---------------------------------------------------------------------
 */

/* What a tokenizer.json has. */
typedef struct vocabulary {
    json_t *list;    /* added_tokens */
    json_t *by_text; /* the same */
    json_t *pieces;  /* of an array to their ids, else the model's own object */
    json_int_t next; /* the id that the library gives the next token */
} vocabulary;

static void index_vocabulary(json_t *root, vocabulary *v)
{
    json_t *vocab = json_object_get(json_object_get(root, "model"), "vocab");
    v->list = json_object_get(root, "added_tokens");
    if (v->list == NULL || json_is_null(v->list)) {
        v->list = json_array();
        json_object_set_new(root, "added_tokens", v->list);
    }
    v->by_text = json_object();
    v->pieces = json_is_array(vocab) ? json_object() : json_incref(vocab);
    v->next = (json_int_t)(json_object_size(vocab) + json_array_size(vocab));
    for (size_t i = 0; json_is_array(vocab) && i < json_array_size(vocab); i++) {
        const char *piece = json_string_value(json_array_get(json_array_get(vocab, i), 0));
        json_object_set_new(v->pieces, piece, json_integer((json_int_t)i));
    }
    for (size_t i = 0; i < json_array_size(v->list); i++) {
        json_t *item = json_array_get(v->list, i);
        const json_t *id = json_object_get(item, "id");
        json_object_set(v->by_text, json_string_value(json_object_get(item, "content")), item);
        if (json_integer_value(id) >= v->next && json_integer_value(id) < INT32_MAX) {
            v->next = json_integer_value(id) + 1;
        }
    }
}

static bool set_flag(json_t *entry, const char *key, bool value)
{
    const json_t *old = json_object_get(entry, key);
    bool same = old != NULL && json_is_true(old) == value;
    return !same && json_object_set_new(entry, key, json_boolean(value)) == 0;
}

/* *changed where the list is not as it was. */
static mixt_status add_entry(const mixt_beside *b, vocabulary *v, const addition *a, bool *changed)
{
    mixt_added_token token;
    json_t *entry = json_object_get(v->by_text, a->text);
    const json_t *known =
        entry != NULL ? json_object_get(entry, "id") : json_object_get(v->pieces, a->text);
    json_int_t id = known != NULL ? json_integer_value(known) : v->next;
    MIXT_TRY(read_flags(b, a, &token));
    if (a->id >= 0 && a->id != id) {
        return mixt_fail(b->error, MIXT_ERROR_UNSUPPORTED,
                         "%s: %s: \"%.60s\" has id %lld, and %lld by tokenizer.json", a->file,
                         a->key, a->text, (long long)a->id, (long long)id);
    }
    if (entry != NULL && a->flags == NULL) {
        return MIXT_OK;
    }
    bool normalized = !a->special;
    mixt_json_object flags = {a->flags, a->file, "added token: ", b->error};
    if (a->flags != NULL) {
        MIXT_TRY(mixt_json_bool_or(&flags, "normalized", &normalized));
    }
    if (entry == NULL) {
        entry = json_pack("{s:I, s:s}", "id", id, "content", a->text);
        if (entry == NULL || json_array_append_new(v->list, entry) != 0) {
            return no_memory(b->error);
        }
        v->next += id == v->next;
        *changed = true;
    }
    *changed |= set_flag(entry, "single_word", token.single_word);
    *changed |= set_flag(entry, "lstrip", token.left_strip);
    *changed |= set_flag(entry, "rstrip", token.right_strip);
    *changed |= set_flag(entry, "normalized", normalized);
    *changed |= set_flag(entry, "special", token.special);
    return MIXT_OK;
}

mixt_status mixt_beside_add_to_json(const mixt_beside *b, json_t *root, char **text, size_t *length)
{
    additions all;
    vocabulary v = {0};
    bool changed = false;
    mixt_status status = list_all(b, &all);
    if (status == MIXT_OK && all.count != 0 && json_is_object(root)) {
        index_vocabulary(root, &v);
    }
    for (size_t i = 0; status == MIXT_OK && json_is_array(v.list) && i < all.count; i++) {
        status = add_entry(b, &v, &all.items[i], &changed);
    }
    if (status == MIXT_OK && mixt_json_failed()) {
        status = no_memory(b->error);
    }
    if (status == MIXT_OK && changed) {
        char *merged = mixt_json_text(root, JSON_COMPACT);
        status = merged != NULL ? MIXT_OK : no_memory(b->error);
        if (merged != NULL) {
            free(*text);
            *text = merged;
            *length = strlen(merged);
        }
    }
    json_decref(v.by_text);
    json_decref(v.pieces);
    free_all(&all);
    return status;
}

/* --- To the pieces of a tokenizer.model --------------------------------------------------------
 */

/* Makes room for an id. */
static mixt_status reach(mixt_tokenizer *t, int32_t id, mixt_error *error)
{
    if (id < t->vocab_size) {
        return MIXT_OK;
    }
    mixt_token *grown = realloc(t->tokens, ((size_t)id + 1) * sizeof *grown);
    if (grown == NULL) {
        return no_memory(error);
    }
    memset(grown + t->vocab_size, 0, (size_t)(id + 1 - t->vocab_size) * sizeof *grown);
    t->tokens = grown;
    t->spm->options.tokens = grown;
    t->vocab_size = id + 1;
    return MIXT_OK;
}

/* Every added token is found in the text as it is: slow tokenizers and transformers 5 have it so
 * whatever `normalized` says. */
static mixt_status add_piece(const mixt_beside *b, mixt_tokenizer *t, addition *a)
{
    mixt_added_token token;
    int pieces = t->spm->options.vocab_size;
    int32_t known = mixt_spm_id(t->spm, a->text, strlen(a->text));
    bool there = known >= 0 && t->tokens[known].piece_length == strlen(a->text) &&
                 memcmp(t->tokens[known].piece, a->text, strlen(a->text)) == 0;
    a->id = a->id >= 0 ? a->id : there ? known : t->vocab_size;
    if (a->id >= (json_int_t)pieces + HOLE_LIMIT) {
        return wrong(b, a, "its id lies far behind the pieces");
    }
    MIXT_TRY(read_flags(b, a, &token));
    MIXT_TRY(reach(t, token.id, b->error));
    mixt_token *to = &t->tokens[token.id];
    bool same = to->piece != NULL && to->piece_length == token.length &&
                memcmp(to->piece, token.text, token.length) == 0;
    token.text = mixt_arena_bytes(t->arena, token.text, token.length);
    if (token.text == NULL || !mixt_added_set_add(t->added_raw, &token)) {
        return no_memory(b->error);
    }
    t->added_rules |= token.single_word || token.left_strip || token.right_strip;
    if (same && (to->type == MIXT_TOKEN_CONTROL || to->type == MIXT_TOKEN_UNKNOWN)) {
        return MIXT_OK;
    }
    bool outside = token.id >= pieces;
    to->piece = to->bytes = token.text; /* of a reserved piece: its name from now on */
    to->piece_length = to->length = (uint32_t)token.length;
    to->score = outside ? -1000 : to->score;
    to->is_added = true;
    to->type = token.special ? MIXT_TOKEN_CONTROL : outside ? MIXT_TOKEN_USER_DEFINED : to->type;
    return MIXT_OK;
}

/* The hash of a tokenizer with added tokens is another one. */
static void hash_additions(mixt_tokenizer *t)
{
    mixt_sha256 hash;
    bool more = false;
    mixt_sha256_init(&hash);
    mixt_sha256_update(&hash, t->rules, sizeof t->rules);
    for (int id = 0; id < t->vocab_size; id++) {
        const mixt_token *token = &t->tokens[id];
        const mixt_added_token *added =
            token->bytes != NULL && token->piece_length != 0
                ? mixt_added_longest(t->added_raw, token->piece, token->piece_length, 0)
                : NULL;
        bool same = added != NULL && added->id == id;
        bool rules = same && (added->left_strip || added->right_strip || added->single_word);
        if (token->is_added || rules) {
            const int flags[] = {id, token->type, rules && added->left_strip,
                                 rules && added->right_strip, rules && added->single_word};
            for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
                mixt_sha256_update_u64(&hash, (uint64_t)flags[i]);
            }
            more = true;
        }
    }
    if (more) {
        mixt_sha256_final_hex(&hash, t->rules);
        mixt_tokenizer_set_hash(t);
    }
}

mixt_status mixt_beside_add_to_pieces(const mixt_beside *b, mixt_tokenizer *tokenizer)
{
    additions all;
    mixt_status status = list_all(b, &all);
    for (size_t i = 0; status == MIXT_OK && i < all.count; i++) {
        status = add_piece(b, tokenizer, &all.items[i]);
    }
    if (status == MIXT_OK) {
        hash_additions(tokenizer);
    }
    free_all(&all);
    return status;
}

mixt_status mixt_beside_piece_rules(const mixt_beside *b, mixt_piece_rules *rules)
{
    bool legacy = true, prefix = true;
    mixt_json_object config = {b->config.root, b->config.path, "", b->error};
    if (b->config.root != NULL) {
        MIXT_TRY(mixt_json_bool_or(&config, "legacy", &legacy));
        MIXT_TRY(mixt_json_bool_or(&config, "add_prefix_space", &prefix));
    }
    *rules = (mixt_piece_rules){.no_prefix = !prefix, .first_only = !legacy};
    return MIXT_OK;
}
