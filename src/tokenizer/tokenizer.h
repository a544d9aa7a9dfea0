/* The parts of a tokenizer, filled by training (bpe_train.c) or from a file (tokenizer_json.c,
 * tokenizer_model.c, tokenizer_gguf.c). */
#ifndef MIXT_TOKENIZER_TOKENIZER_H
#define MIXT_TOKENIZER_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/memory.h"
#include "core/remarks.h"
#include "core/sha256.h"
#include "formats/gguf.h"
#include "mixt.h"
#include "tokenizer/added.h"
#include "tokenizer/bpe.h"
#include "tokenizer/charsmap.h"
#include "tokenizer/normalizer.h"
#include "tokenizer/sentencepiece.h"
#include "tokenizer/split.h"
#include "tokenizer/trie.h"

#define MIXT_SEPARATOR_TEXT "<|endoftext|>"
#define MIXT_SEPARATOR_ID 256 /* in the tokenizers that mixt makes */

/* Our own keys in GGUF files, for what tokenizer.ggml.* cannot say (other programs pass them over):
 * a space goes before the whole text only, and not before another one; and user-defined pieces and
 * sums of scores are those of SentencePiece's library, not llama.cpp's. */
#define MIXT_GGUF_JSON "tokenizer.huggingface.json" /* of the format: the whole tokenizer.json */
#define MIXT_GGUF_PREFIX_FIRST "mixt.tokenizer.prefix_first"
#define MIXT_GGUF_SENTENCEPIECE "mixt.tokenizer.sentencepiece"
#define MIXT_GGUF_ENDS "mixt.tokenizer.ends" /* ids beyond the eos, eot and eom of the format */

/* Numbers as in SentencePiece and GGUF files; 0 counts as normal. */
typedef enum mixt_token_type {
    MIXT_TOKEN_NORMAL = 1,
    MIXT_TOKEN_UNKNOWN,
    MIXT_TOKEN_CONTROL,
    MIXT_TOKEN_USER_DEFINED,
    MIXT_TOKEN_UNUSED,
    MIXT_TOKEN_BYTE,
} mixt_token_type;

typedef struct mixt_token {
    const char *bytes; /* what it stands for; NULL: no token has this id */
    uint32_t length;
    bool is_added;
    bool is_end; /* of a text or a turn */
    uint8_t type;
    double score;
    uint32_t piece_length;
    const char *piece; /* as the vocabulary spells it; NULL where mixt made it */
} mixt_token;

typedef enum mixt_tokenizer_kind {
    MIXT_TOKENIZER_BYTES,      /* byte-level BPE: merges by rank over bytes */
    MIXT_TOKENIZER_CHARACTERS, /* merges by rank over characters, with byte tokens */
    MIXT_TOKENIZER_PIECES,     /* SentencePiece: merges by score, or unigram */
} mixt_tokenizer_kind;

/* Metaspace of tokenizer.json: spaces become U+2581, and one goes before ... */
typedef enum mixt_metaspace {
    MIXT_METASPACE_NONE, /* no such pre-tokenizer */
    MIXT_METASPACE_NEVER,
    MIXT_METASPACE_FIRST,  /* the beginning of the text */
    MIXT_METASPACE_ALWAYS, /* every word that the stages before it cut */
} mixt_metaspace;

struct mixt_tokenizer {
    mixt_tokenizer_kind kind;
    mixt_arena *arena;  /* owns the bytes of tokens */
    mixt_token *tokens; /* [vocab_size] */
    int vocab_size;     /* highest id + 1 */
    int separator;
    mixt_merge *merges; /* [merge_count], by rank */
    size_t merge_count;
    mixt_bpe *bpe;
    mixt_pieces *pieces; /* MIXT_TOKENIZER_CHARACTERS: single characters and, for ignore_merges,
                            whole words */
    bool whole_words, byte_fallback, fuse_unknown; /* of MIXT_TOKENIZER_CHARACTERS */
    int32_t byte_tokens[256];                      /* and its <0x00> to <0xFF>, -1: none */
    mixt_spm *spm;
    mixt_charsmap *charsmap;
    mixt_normalizer *normalizer;
    bool nfc; /* one of its steps */
    mixt_splitter *splitter;
    mixt_added_set *added_raw;        /* found in the text as it is */
    mixt_added_set *added_normalized; /* found in normalised text */
    mixt_metaspace metaspace;
    bool metaspace_split; /* and words begin at every U+2581 */
    bool prefix_space;    /* a space goes before text that begins without one */
    bool strip_space;     /* decoding takes a space off the beginning */
    bool strip_each;      /* and off each stretch behind an added token */
    bool adds_bos, adds_eos;
    int32_t special[4];     /* by mixt_special; -1: none */
    int32_t before, behind; /* what tokenizer.json puts around a text; -1: bos, eos */
    int32_t unknown;        /* of MIXT_TOKENIZER_CHARACTERS: for characters without a token */
    mixt_remarks remarks;   /* what was passed over */
    bool added_rules;       /* an added token looks at what stands beside it */
    char *chat_template;
    char *class_name;        /* tokenizer_class of its tokenizer_config.json, or NULL */
    mixt_spaces spaces;      /* MIXT_TOKENIZER_PIECES */
    const char *patterns[8]; /* of the pre-tokenizer, where each stage cuts by a pattern alone */
    int pattern_count;       /* -1: there is more to it than patterns */
    char *json;              /* text of its tokenizer.json, written as it was read */
    size_t json_length;
    char *model; /* the same of tokenizer.model */
    size_t model_length;
    mixt_trie_place *trie;                /* of its tokens' bytes (trie.c) */
    const struct mixt_pre_tokenizer *pre; /* of a GGUF file's byte-level vocabulary, else NULL */
    char rules[MIXT_SHA256_HEX];          /* hash of what is neither vocabulary nor merges */
    char hash[MIXT_SHA256_HEX];
};

/* An empty tokenizer with its parts that are never NULL; NULL without memory. */
mixt_tokenizer *mixt_tokenizer_new(void);
/* Builds the merge table and hash once tokens and merges are there. */
mixt_status mixt_tokenizer_finish(mixt_tokenizer *tokenizer, const int32_t byte_ids[256],
                                  mixt_error *error);
/* A tokenizer in mixt's own form: bytes in GPT-2's order, the separator at MIXT_SEPARATOR_ID (its
 * entry of `tokens` is not looked at), then the results of merges. It goes through the text of its
 * tokenizer.json, so that what is saved is what is used. */
mixt_status mixt_tokenizer_make(const mixt_token *tokens, int vocab_size, const mixt_merge *merges,
                                size_t merge_count, mixt_tokenizer **tokenizer, mixt_error *error);
/* Sets the hash of a tokenizer that is complete but for it. */
void mixt_tokenizer_set_hash(mixt_tokenizer *tokenizer);
/* Merges by rank over characters (character_bpe.c). Returns -1, or a byte without a token. */
int mixt_characters_encode(const mixt_tokenizer *tokenizer, const char *word, size_t length,
                           mixt_ids *ids);

/* SentencePiece vocabularies, from pieces, types and scores (tokenizer_spm.c): what each token
 * stands for, then the parts that encode. `tokens` and `map` of the options are filled in. */
mixt_status mixt_spm_spell(mixt_tokenizer *tokenizer, bool escape, const char *unknown,
                           size_t unknown_length, mixt_error *error);
mixt_status mixt_spm_build(mixt_tokenizer *tokenizer, const mixt_spm_options *options,
                           const mixt_spaces *spaces, mixt_error *error);
/* A piece with spaces for U+2581, into `to` [length]; its length. */
size_t mixt_piece_unescape(const char *piece, size_t length, char *to);
/* The byte that "<0x0A>" names, -1 for other text. */
int mixt_byte_of_piece(const char *piece, size_t length);

/* Whether tokens with this text end a text or a turn. */
bool mixt_is_end_text(const char *text, size_t length);
/* Marks the tokens that end a text or a turn, by their text; finds a separator where none is set.
 */
void mixt_tokenizer_mark_ends(mixt_tokenizer *tokenizer);
/* Marks the token of an id as an end; ids that no token has are passed over. */
void mixt_tokenizer_declare_end(mixt_tokenizer *tokenizer, int64_t id);
/* The ids that a GGUF file says end a text or a turn. */
mixt_status mixt_tokenizer_gguf_ends(mixt_tokenizer *tokenizer, const mixt_gguf *file,
                                     mixt_error *error);
/* Keeps a copy of a chat template. */
mixt_status mixt_tokenizer_keep_template(mixt_tokenizer *tokenizer, const char *text,
                                         mixt_error *error);
/* The id of an added or control token with this text, -1. */
int32_t mixt_tokenizer_find_special(const mixt_tokenizer *tokenizer, const char *text);
/* A folder with a tokenizer.json or tokenizer.model and the files beside it (folder.c). */
mixt_status mixt_tokenizer_open_folder(const char *folder, mixt_tokenizer **tokenizer,
                                       mixt_error *error);
/* A tokenizer from the text of a tokenizer.json; messages lack the file's name. */
mixt_status mixt_tokenizer_from_json(const char *text, size_t length, mixt_tokenizer **tokenizer,
                                     mixt_error *error);

/* What tokenizer_config.json changes in the rules of a tokenizer.model. */
typedef struct mixt_piece_rules {
    bool no_prefix;  /* add_prefix_space: false */
    bool first_only; /* legacy: false; the prefix goes before the whole text alone */
} mixt_piece_rules;

/* The same from the bytes of a tokenizer.model; `rules` may be NULL. */
mixt_status mixt_tokenizer_from_model(const char *data, size_t length,
                                      const mixt_piece_rules *rules, mixt_tokenizer **tokenizer,
                                      mixt_error *error);

/* The same from the metadata of a GGUF file. */
mixt_status mixt_tokenizer_from_gguf(const mixt_gguf *file, mixt_tokenizer **tokenizer,
                                     mixt_error *error);

/* Writes the keys tokenizer.ggml.* and tokenizer.chat_template. What GGUF cannot say is refused by
 * name. `rows`: ids of the model, at least those of the vocabulary; the rest become unused tokens.
 */
mixt_status mixt_tokenizer_to_gguf(const mixt_tokenizer *tokenizer, int rows,
                                   mixt_gguf_writer *writer, mixt_error *error);
/* Text of files for a vocabulary that came from GGUF: a tokenizer.model for pieces, a
 * tokenizer.json for byte-level BPE. */
mixt_status mixt_tokenizer_write_model(const mixt_tokenizer *tokenizer, mixt_buffer *to,
                                       mixt_error *error);
mixt_status mixt_tokenizer_write_json(const mixt_tokenizer *tokenizer, mixt_buffer *to,
                                      mixt_error *error);
/* Whether an id only fills up the rows of a model in a GGUF file. */
bool mixt_token_is_padding(const mixt_tokenizer *tokenizer, int id);

/* GPT-2's visible character for a byte. */
uint32_t mixt_byte_character(unsigned char byte);
/* Bytes that a token's visible characters stand for, into `to` [length]; how many. A token with
 * other characters stands for its own text, as in Hugging Face's decoder. */
size_t mixt_visible_to_bytes(const char *text, size_t length, char *to);
/* Byte of id 0..255 in the tokenizers that mixt makes, and back. */
unsigned char mixt_byte_of_id(int id);
int mixt_id_of_byte(unsigned char byte);

#endif
