/* JSON: one value swapped for another, a key renamed, removed or added. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "mutate.h"

#define NODES_MAX 4096
#define TEXT_MAX 300

/* A value and where it stands. */
typedef struct node {
    json_t *parent;
    const char *key; /* in an object, else NULL */
    size_t index;    /* in an array */
    json_t *value;
} node;

typedef struct node_list {
    node nodes[NODES_MAX];
    size_t count;
} node_list;

static void gather(json_t *parent, node_list *list)
{
    const char *key;
    size_t index;
    json_t *value;
    if (json_is_object(parent)) {
        json_object_foreach(parent, key, value)
        {
            if (list->count < NODES_MAX) {
                list->nodes[list->count++] = (node){parent, key, 0, value};
                gather(value, list);
            }
        }
    } else if (json_is_array(parent)) {
        json_array_foreach(parent, index, value)
        {
            if (list->count < NODES_MAX) {
                list->nodes[list->count++] = (node){parent, NULL, index, value};
                gather(value, list);
            }
        }
    }
}

static const char *const words[] = {"mixtral",
                                    "llama",
                                    "mistral",
                                    "qwen2",
                                    "qwen3",
                                    "qwen2_moe",
                                    "qwen3_moe",
                                    "olmoe",
                                    "deepseek",
                                    "deepseek_v2",
                                    "deepseek_v3",
                                    "gpt_oss",
                                    "minimax_m2",
                                    "glm4_moe",
                                    "glm4_moe_lite",
                                    "grok-1",
                                    "skywork_moe",
                                    "yuan",
                                    "mixt",
                                    "silu",
                                    "gelu",
                                    "linear",
                                    "dynamic",
                                    "yarn",
                                    "llama3",
                                    "longrope",
                                    "su",
                                    "default",
                                    "fp8",
                                    "mxfp4",
                                    "softmax",
                                    "sigmoid",
                                    "greedy",
                                    "noaux_tc",
                                    "group_limited_greedy",
                                    "bfloat16",
                                    "float32",
                                    "F32",
                                    "BF16",
                                    "U8",
                                    "F8_E4M3",
                                    "BPE",
                                    "Unigram",
                                    "WordPiece",
                                    "WordLevel",
                                    "ByteLevel",
                                    "Metaspace",
                                    "Sequence",
                                    "Replace",
                                    "Prepend",
                                    "NFKC",
                                    "ByteFallback",
                                    "Fuse",
                                    "Strip",
                                    "Isolated",
                                    "Split",
                                    "Digits",
                                    "isolated",
                                    "full_attention",
                                    "sliding_attention",
                                    "</s>",
                                    "<s>",
                                    "",
                                    "\xe2\x96\x81",
                                    "(?i:'s|'t)|\\p{L}+",
                                    "TemplateProcessing",
                                    "first",
                                    "always",
                                    "never",
                                    "dynamic",
                                    "e4m3"};

static json_t *new_text(const json_t *old, fuzz_dice *dice)
{
    const char *before = json_string_value(old);
    if (before == NULL || fuzz_chance(dice, 60)) {
        return json_string(words[fuzz_below(dice, sizeof words / sizeof *words)]);
    }
    char text[TEXT_MAX];
    size_t length = json_string_length(old);
    length = length < TEXT_MAX / 2 ? length : TEXT_MAX / 2;
    memcpy(text, before, length);
    length = LLVMFuzzerMutate((uint8_t *)text, length, TEXT_MAX);
    json_t *made = json_stringn(text, length);
    return made != NULL ? made : json_string("\x01\x1b[31m\xc2\x9b");
}

static json_t *new_number(const json_t *old, fuzz_dice *dice)
{
    switch (fuzz_below(dice, 5)) {
    case 0:
        return json_integer(json_integer_value(old) + (fuzz_chance(dice, 50) ? 1 : -1));
    case 1:
        return json_integer(
            (json_int_t)((uint64_t)json_integer_value(old) * (2 + fuzz_below(dice, 3))));
    case 2: {
        double number = fuzz_number(dice);
        return json_real(isfinite(number) ? number : 0);
    }
    case 3:
        return json_integer(json_integer_value(old) / 2);
    default:
        return json_integer(fuzz_integer(dice));
    }
}

/* A value of the old one's kind, now and then of another; an own reference. */
static json_t *new_value(const json_t *old, const node_list *list, fuzz_dice *dice)
{
    if (fuzz_chance(dice, 12)) {
        switch (fuzz_below(dice, 6)) {
        case 0:
            return json_null();
        case 1:
            return json_boolean(fuzz_chance(dice, 50));
        case 2:
            return json_array();
        case 3:
            return json_object();
        default:
            return json_deep_copy(list->nodes[fuzz_below(dice, list->count)].value);
        }
    }
    if (json_is_number(old)) {
        return new_number(old, dice);
    }
    if (json_is_string(old)) {
        return new_text(old, dice);
    }
    if (json_is_boolean(old)) {
        return json_boolean(json_is_false(old));
    }
    return fuzz_chance(dice, 50) ? json_integer(fuzz_integer(dice)) : new_text(NULL, dice);
}

static void put(const node *at, json_t *value)
{
    if (at->key != NULL) {
        json_object_set_new(at->parent, at->key, value);
    } else {
        json_array_set_new(at->parent, at->index, value);
    }
}

static void take_away(const node *at)
{
    if (at->key != NULL) {
        json_object_del(at->parent, at->key);
    } else {
        json_array_remove(at->parent, at->index);
    }
}

/* The value again under another key of the same input, or again in the array. */
static void put_again(const node *at, const node_list *list, fuzz_dice *dice)
{
    const node *other = &list->nodes[fuzz_below(dice, list->count)];
    if (at->key == NULL) {
        json_array_insert_new(at->parent, at->index, json_deep_copy(at->value));
    } else if (other->key != NULL) {
        json_object_set_new(at->parent, other->key, json_deep_copy(at->value));
    } else {
        json_object_set_new(at->parent, words[fuzz_below(dice, sizeof words / sizeof *words)],
                            json_deep_copy(at->value));
    }
}

void fuzz_change_json(json_t *root, fuzz_dice *dice)
{
    static node_list list;
    list.count = 0;
    gather(root, &list);
    if (list.count == 0) {
        return;
    }
    const node *at = &list.nodes[fuzz_below(dice, list.count)];
    /* Long arrays would take nearly all changes: try for an object's member a few times. */
    for (int i = 0; i < 4 && at->key == NULL && fuzz_chance(dice, 60); i++) {
        at = &list.nodes[fuzz_below(dice, list.count)];
    }
    size_t kind = fuzz_below(dice, 10);
    if (kind == 0) {
        take_away(at);
    } else if (kind == 1) {
        put_again(at, &list, dice);
    } else {
        put(at, new_value(at->value, &list, dice));
    }
}

size_t fuzz_mutate_json(uint8_t *data, size_t size, size_t max_size, unsigned int seed)
{
    fuzz_dice dice = fuzz_dice_of(seed);
    json_t *root = fuzz_chance(&dice, 92) ? json_loadb((const char *)data, size, 0, NULL) : NULL;
    if (root == NULL) {
        return LLVMFuzzerMutate(data, size, max_size);
    }
    for (size_t changes = 1 + fuzz_below(&dice, 3); changes > 0; changes--) {
        fuzz_change_json(root, &dice);
    }
    size_t length = json_dumpb(root, (char *)data, max_size, JSON_COMPACT);
    json_decref(root);
    return length > 0 && length <= max_size ? length : LLVMFuzzerMutate(data, size, max_size);
}
