/* mixt: train, run and look inside Mixture-of-Experts (MoE) language models.
 *
 * This header is the manual of the library. Chapters that stand in files of their own, mixt/NAME.h,
 * are included at their place: a program includes mixt.h alone, and has all of them. Conventions
 * that hold everywhere:
 *
 * - Functions that can fail return a mixt_status and take a mixt_error * last (may be NULL). On
 *   failure the error holds one line that names file, place and rule; out-parameters are NULL or
 *   zero and nothing has to be freed. The library never prints, exits or aborts on input.
 *   Before a call an error is {0} (MIXT_ERROR_INIT); the first message wins.
 * - X_create / X_open make an object that the caller owns; X_free releases it and accepts NULL.
 *   What a getter returns belongs to the object and lives as long as it.
 * - Shapes are written [rows, columns], the last dimension contiguous. T is tokens, E experts,
 *   k experts chosen for a token, L layers.
 * - Objects are not thread-safe: use each from one thread at a time. A mixt_context may be shared
 *   by objects that are used one after the other.
 * - Structs that a program allocates end in `reserved` words, from which later versions take their
 *   new members, so that size and offsets stay as they are. In options the words are 0: start from
 *   {0} or from X_default(). Options whose words are not are refused, since they come from a newer
 *   mixt.h (or were never set). docs/library.md has the rules.
 * - Without memory a call fails with MIXT_ERROR_MEMORY (MIXT_ERROR_IO where the system says so of a
 *   file), and what was there before stays. jansson's allocation functions are wrapped to notice
 *   it: a program that sets its own does so before its first call.
 * - The locale of the program is neither changed nor followed: numbers have a point.
 */
#ifndef MIXT_H
#define MIXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(_WIN32) || !defined(__GNUC__)
#define MIXT_API
#else
#define MIXT_API __attribute__((visibility("default")))
#endif

#define MIXT_VERSION_MAJOR 0
#define MIXT_VERSION_MINOR 1
#define MIXT_VERSION_PATCH 0
/* 10000 major + 100 minor + patch, to compare with. */
#define MIXT_VERSION_NUMBER                                                                        \
    (10000 * MIXT_VERSION_MAJOR + 100 * MIXT_VERSION_MINOR + MIXT_VERSION_PATCH)
#define MIXT_VERSION_JOIN(major, minor, patch) #major "." #minor "." #patch
#define MIXT_VERSION_TEXT(major, minor, patch) MIXT_VERSION_JOIN(major, minor, patch)
/* "major.minor.patch" */
#define MIXT_VERSION MIXT_VERSION_TEXT(MIXT_VERSION_MAJOR, MIXT_VERSION_MINOR, MIXT_VERSION_PATCH)

/* The same of the library that the program runs with, which may be newer than this header. */
MIXT_API const char *mixt_version(void);
MIXT_API int mixt_version_number(void);

/* ---- Errors ------------------------------------------------------------------------------ */

/* name, text */
#define MIXT_STATUS_LIST(X)                                                                        \
    X(OK, "ok")                                                                                    \
    X(ERROR_ARGUMENT, "bad argument")     /* a flag, option or call the caller got wrong */        \
    X(ERROR_FORMAT, "bad input")          /* a file or stream that breaks its format's rules */    \
    X(ERROR_UNSUPPORTED, "not supported") /* valid, but something mixt does not do */              \
    X(ERROR_NOT_FOUND, "not found")       /* a path or name that is not there */                   \
    X(ERROR_IO, "input/output error")     /* the machine failed: disk full, read error */          \
    X(ERROR_MEMORY, "out of memory")                                                               \
    X(ERROR_BUSY, "in use")                 /* another process holds the run folder */             \
    X(ERROR_NUMERIC, "not a finite number") /* NaN or Inf where training or sampling needs one */  \
    X(ERROR_INTERRUPTED, "interrupted")

typedef enum mixt_status {
#define MIXT_STATUS_ENUM(name, text) MIXT_##name,
    MIXT_STATUS_LIST(MIXT_STATUS_ENUM)
#undef MIXT_STATUS_ENUM
} mixt_status;

typedef struct mixt_error {
    mixt_status status;
    char message[500];
} mixt_error;

/* clang-format off */
#define MIXT_ERROR_INIT {MIXT_OK, {0}}
/* clang-format on */

MIXT_API const char *mixt_status_name(mixt_status status);
/* true for what the caller can mend (bad input or usage: exit status 2), false for failures at
 * work (exit status 1). */
MIXT_API bool mixt_status_is_refusal(mixt_status status);
/* Makes text out of files and paths safe for a terminal: one line of UTF-8 without control
 * characters (C0 and C1, so no escape sequences) and bidirectional controls, each byte of which
 * becomes '?'. Messages of errors and remarks have gone through it; names of domains and paths have
 * not. */
MIXT_API void mixt_text_plain(char *text);

/* ---- Context: threads, CPU tier and the kind of matrix products -------------------------- */

typedef enum mixt_matmul {
    MIXT_MATMUL_EXACT, /* own fp32 kernels: bits do not depend on threads, batch or CPU tier */
    MIXT_MATMUL_BLAS,  /* OpenBLAS sgemm: |difference| <= 4e-6 * sqrt(K) * |a||b| of exact */
    MIXT_MATMUL_BF16,  /* operands rounded to bfloat16, fp32 sums: relative 2^-8 per operand */
} mixt_matmul;

/* What keys, values and latents of a position are held as. What a router or a filter of tokens
 * keeps of a position is F32 in any case. */
typedef enum mixt_cache_type {
    MIXT_CACHE_F32,
    MIXT_CACHE_F16,
    MIXT_CACHE_BF16,
    MIXT_CACHE_Q8_0, /* 8 bits and a scale for 32 values, of which heads must be multiples */
} mixt_cache_type;

/* How generation computes multi-head latent attention (DeepSeek-V2, V3). Absorbed: heads read the
 * cached latents themselves. Expanded: keys and values are made of them first, which is less work
 * where many rows share them. Both are the same but for rounding (docs/numerics.md). */
typedef enum mixt_latent {
    MIXT_LATENT_AUTO,     /* what is fed at once has the form with fewer multiply-adds */
    MIXT_LATENT_ABSORBED, /* as training and scores have it: the same bits however it is fed */
    MIXT_LATENT_EXPANDED, /* the same bits however it is fed, but not training's; single tokens are
                             slow. MIXT_ERROR_ARGUMENT where the model has no such form */
} mixt_latent;

typedef struct mixt_context_options {
    int threads;     /* 0: the cores this process may use */
    const char *cpu; /* NULL (MIXT_CPU, else the best), "scalar", "avx2", "avx512" or "amx", and on
                      * 64-bit ARM "neon", "dotprod" or "i8mm" */
    mixt_matmul matmul; /* products outside the router, which is always exact fp32 */
    /* What is scored, compared, probed or traced sees keys and values rounded to this type, as
     * sessions with such a cache do: the same bits. Training never rounds. */
    mixt_cache_type cache_type;
    uint64_t reserved[8];
} mixt_context_options;

typedef struct mixt_context mixt_context;

MIXT_API mixt_status mixt_context_create(const mixt_context_options *options,
                                         mixt_context **context, mixt_error *error);
MIXT_API void mixt_context_free(mixt_context *context);
MIXT_API int mixt_context_threads(const mixt_context *context);
MIXT_API const char *mixt_context_cpu(const mixt_context *context); /* tier in use */

/* ---- Tokenizer --------------------------------------------------------------------------- */

typedef struct mixt_tokenizer mixt_tokenizer;

/* Feeds training text: returns the next piece and its length, or NULL at the end. */
typedef const char *(*mixt_text_source)(void *user, size_t *length);

/* Trains a byte-level BPE of `vocab_size` ids (>= 257: 256 bytes and <|endoftext|>, which is also
 * the document separator) with GPT-2's pre-tokenizer; merges by count, ties to the lowest pair. */
MIXT_API mixt_status mixt_tokenizer_train(mixt_text_source source, void *user, int vocab_size,
                                          mixt_tokenizer **tokenizer, mixt_error *error);
/* The 257-id tokenizer without merges. */
MIXT_API mixt_status mixt_tokenizer_bytes(mixt_tokenizer **tokenizer, mixt_error *error);
/* A folder with tokenizer.json or tokenizer.model (SentencePiece), one of these files, or a GGUF
 * file. In a folder, tokenizer_config.json, special_tokens_map.json, added_tokens.json,
 * generation_config.json, config.json (its eos_token_id) and chat_template.jinja are read too. What
 * would give other ids than the authors' tokenizer is refused by name. */
MIXT_API mixt_status mixt_tokenizer_open(const char *path, mixt_tokenizer **tokenizer,
                                         mixt_error *error);
/* Writes tokenizer.json or tokenizer.model, and tokenizer_config.json, into `folder`, and the ends
 * into its generation_config.json. */
MIXT_API mixt_status mixt_tokenizer_save(const mixt_tokenizer *tokenizer, const char *folder,
                                         mixt_error *error);
MIXT_API void mixt_tokenizer_free(mixt_tokenizer *tokenizer);
MIXT_API int mixt_tokenizer_vocab_size(const mixt_tokenizer *tokenizer);
/* Id of the document separator (<|endoftext|>, else bos), -1 where there is none. */
MIXT_API int mixt_tokenizer_separator(const mixt_tokenizer *tokenizer);
/* Encodes `length` bytes; *ids is malloc'd and the caller's to free(). `parse_special`: added
 * tokens in the text become their ids instead of plain text. */
MIXT_API mixt_status mixt_tokenizer_encode(const mixt_tokenizer *tokenizer, const char *text,
                                           size_t length, bool parse_special, int32_t **ids,
                                           size_t *count, mixt_error *error);
/* Bytes of one id (not NUL-terminated; may be part of a UTF-8 character); NULL for a bad id. */
MIXT_API const char *mixt_tokenizer_bytes_of(const mixt_tokenizer *tokenizer, int32_t id,
                                             size_t *length);
/* The text of `count` ids: the space that encoding put before it is taken off again, and with
 * `skip_special` control tokens (<s>, <|im_end|>, ...) give nothing. *text is malloc'd, with a NUL
 * behind its *length bytes; ids that no token has are an error. */
MIXT_API mixt_status mixt_tokenizer_decode(const mixt_tokenizer *tokenizer, const int32_t *ids,
                                           size_t count, bool skip_special, char **text,
                                           size_t *length, mixt_error *error);

typedef enum mixt_special {
    MIXT_SPECIAL_BOS, /* begins a text */
    MIXT_SPECIAL_EOS, /* ends it */
    MIXT_SPECIAL_UNKNOWN,
    MIXT_SPECIAL_PAD,
} mixt_special;

/* Id of a special token, -1 where the files name none. */
MIXT_API int mixt_tokenizer_special(const mixt_tokenizer *tokenizer, mixt_special which);
/* The id that the model expects before a text (MIXT_SPECIAL_BOS) or behind it (MIXT_SPECIAL_EOS),
 * -1 for none; adds_bos and adds_eos say whether there is one. mixt_tokenizer_encode adds neither.
 * Most often it is the special token itself, but a tokenizer.json may name another one. */
MIXT_API int mixt_tokenizer_around(const mixt_tokenizer *tokenizer, mixt_special which);
MIXT_API bool mixt_tokenizer_adds_bos(const mixt_tokenizer *tokenizer);
MIXT_API bool mixt_tokenizer_adds_eos(const mixt_tokenizer *tokenizer);
/* Whether generation ends at this id: the end of a text or of a turn. The ends are all that the
 * files name (eos_token of tokenizer_config.json and special_tokens_map.json; eos_token_id of
 * generation_config.json, else of config.json; the eos, eot, eom and fim ids of GGUF), and tokens
 * with a known text (</s>, <|im_end|>, ...). */
MIXT_API bool mixt_tokenizer_is_end(const mixt_tokenizer *tokenizer, int32_t id);
/* Adds the ends that a model's folder or GGUF file names, for a tokenizer that came from elsewhere;
 * ids that no token has are passed over. */
MIXT_API mixt_status mixt_tokenizer_take_ends(mixt_tokenizer *tokenizer, const char *model_path,
                                              mixt_error *error);
/* What should be known of an opened tokenizer: line `index` (ids that were passed over because no
 * token has them), NULL behind the last. As mixt_model_remark. */
MIXT_API const char *mixt_tokenizer_remark(const mixt_tokenizer *tokenizer, int index);
/* The chat template that came with the tokenizer, or NULL. */
MIXT_API const char *mixt_tokenizer_chat_template(const mixt_tokenizer *tokenizer);
/* Hash of vocabulary and merges, 64 hexadecimal digits. */
MIXT_API const char *mixt_tokenizer_hash(const mixt_tokenizer *tokenizer);

/* ---- Chat: messages as the text that a model was trained on ------------------------------ */

typedef struct mixt_chat_message {
    const char *role; /* "system", "user", "assistant" or what the template knows */
    const char *content;
} mixt_chat_message;

typedef struct mixt_chat_options {
    bool add_generation_prompt; /* ends where the assistant begins to speak */
    const char *bos_token;      /* NULL: undefined in the template, which then writes nothing */
    const char *eos_token;
    const char *date;      /* "2024-12-31" or "2024-12-31T23:59:59" for strftime_now; NULL: now */
    const char *variables; /* a JSON object of further variables (tools, enable_thinking; also
                              messages, in place of those given), or NULL */
    const char *name;      /* of the template in error messages, or NULL */
    uint64_t reserved[8];
} mixt_chat_options;

/* add_generation_prompt, and nothing else. */
MIXT_API mixt_chat_options mixt_chat_options_default(void);
/* Renders messages through a Jinja template as transformers does (docs/chat.md says which part of
 * Jinja there is). Anything else is refused with its line, and so is a template that takes too
 * long: 10^6 steps, 64 MiB of memory, 16 MiB of text. options may be NULL; *text is malloc'd. */
MIXT_API mixt_status mixt_chat_render(const char *template_text, const mixt_chat_message *messages,
                                      size_t count, const mixt_chat_options *options, char **text,
                                      mixt_error *error);
/* A built-in template by its name or a model family's, or NULL. */
MIXT_API const char *mixt_chat_builtin(const char *name);
/* Names of the built-in templates: NULL behind the last. */
MIXT_API const char *mixt_chat_builtin_name(int index);

/* ---- Corpus: documents with a domain ----------------------------------------------------- */

/* What a path may be: a text file (one document), .jsonl or .jsonl.zst ({"text": ...} with "domain"
 * or {"meta": {"pile_set_name"}}), a nanoGPT or llm.c token shard (.bin), or a folder of such
 * files, whose subfolders name domains. */
typedef struct mixt_corpus mixt_corpus;

typedef struct mixt_document {
    const char *text; /* UTF-8, valid until the next call; NULL in a token shard */
    size_t length;
    const uint32_t *tokens; /* token shards only */
    size_t token_count;
    int domain;         /* index for mixt_corpus_domain_name */
    const char *source; /* file, for messages */
} mixt_document;

MIXT_API mixt_status mixt_corpus_open(const char *const *paths, size_t path_count,
                                      mixt_corpus **corpus, mixt_error *error);
MIXT_API void mixt_corpus_free(mixt_corpus *corpus);
/* The next document; *document NULL at the end. Bad lines are skipped and counted
 * (mixt_corpus_skipped); a file that is broken as a whole is an error. */
MIXT_API mixt_status mixt_corpus_next(mixt_corpus *corpus, const mixt_document **document,
                                      mixt_error *error);
MIXT_API mixt_status mixt_corpus_rewind(mixt_corpus *corpus, mixt_error *error);
MIXT_API int mixt_corpus_domain_count(const mixt_corpus *corpus);
MIXT_API const char *mixt_corpus_domain_name(const mixt_corpus *corpus, int domain);
/* Lines skipped so far, and a line on the first of them (or NULL). */
MIXT_API uint64_t mixt_corpus_skipped(const mixt_corpus *corpus, const char **first);
/* Hash of names, sizes and ends of all files: notices a corpus that changed under a run. */
MIXT_API const char *mixt_corpus_hash(const mixt_corpus *corpus);

/* Writes `bytes` of mathematics questions and answers in the manner of the DM Mathematics set
 * (Saxton et al. 2019) as documents of 64 pairs: the same text for the same seed. */
typedef mixt_status (*mixt_text_sink)(void *user, const char *text, size_t length,
                                      mixt_error *error);
MIXT_API mixt_status mixt_mathematics_generate(uint64_t seed, size_t bytes, mixt_text_sink sink,
                                               void *user, mixt_error *error);

/* ---- Models ------------------------------------------------------------------------------ */

typedef enum mixt_router_weights {
    MIXT_ROUTER_LEARNED,
    MIXT_ROUTER_FROZEN,  /* random at the start, never trained (Fan et al. 2024, 2402.13089) */
    MIXT_ROUTER_REDRAWN, /* random anew in every training step (there); what is saved, scored and
                            run has the first draw */
} mixt_router_weights;

/* What one decision is made for (2402.13089, sections 2 and 3). */
typedef enum mixt_router_unit {
    MIXT_UNIT_TOKEN,
    MIXT_UNIT_SEQUENCE, /* all tokens of a document in a window, by the mean of their rows: the
                           first tokens see the last. In generation the part of the prompt that is
                           fed first (up to 512 tokens) decides for what follows */
    MIXT_UNIT_SEGMENT,  /* the tokens of each segment, by the mean of all rows of the document
                           before it, zeros for the first segment: causal */
} mixt_router_unit;

typedef enum mixt_router_scope {
    MIXT_SCOPE_LAYER,  /* every layer decides */
    MIXT_SCOPE_GLOBAL, /* the first layer with experts decides for all of them (2402.13089) */
} mixt_router_scope;

/* Of a training step alone. */
typedef enum mixt_router_noise {
    MIXT_NOISE_NONE,
    MIXT_NOISE_TOP_K, /* logits + normal softplus(W_noise x), W_noise learned: the second E rows of
                         the router's weight (Shazeer et al. 2017, 1701.06538) */
} mixt_router_noise;

/* Which choices an expert drops beyond its capacity. */
typedef enum mixt_drop {
    MIXT_DROP_POSITION, /* the last: all first choices come before all second ones (GShard) */
    MIXT_DROP_WEIGHT,   /* those of least weight; ties: the last */
} mixt_drop;

/* Among which tokens of training the experts of select expert-choice choose. */
typedef enum mixt_choice_scope {
    MIXT_CHOICE_OVER_BATCH,    /* all of a micro batch (Zhou et al. 2022) */
    MIXT_CHOICE_OVER_SEQUENCE, /* those of each document by itself */
} mixt_choice_scope;

typedef enum mixt_score {
    MIXT_SCORE_SOFTMAX,       /* softmax over all experts, then the best k */
    MIXT_SCORE_TOP_K_SOFTMAX, /* the best k logits, then softmax over them (Mixtral's code) */
    MIXT_SCORE_SIGMOID,       /* sigmoid of each logit (DeepSeek-V3) */
} mixt_score;

typedef enum mixt_balance {
    MIXT_BALANCE_SWITCH,  /* E sum_i f_i P_i with f_i = counts / (T k): 1 at balance (Fedus et al.
                             2021; for k > 1 as megablocks divides; transformers' value is k times
                             this) */
    MIXT_BALANCE_GSHARD,  /* same with f_i from first choices only (Lepikhin et al. 2020) */
    MIXT_BALANCE_SKYWORK, /* sum_i (1 / E - P_i)^2 (Skywork-MoE 2406.06563, equation 5) */
} mixt_balance;
/* Their names in flags and messages, in order. */
#define MIXT_BALANCE_WORDS "switch", "gshard", "skywork"

/* Over what f_i and P_i of the balance loss are taken (2501.11873; DeepSeek-V3 2412.19437 has
 * sequences). */
typedef enum mixt_balance_scope {
    MIXT_BALANCE_OVER_BATCH,    /* the tokens of a micro batch */
    MIXT_BALANCE_OVER_STEP,     /* f_i of all micro batches of the step so far, P_i of this one */
    MIXT_BALANCE_OVER_SEQUENCE, /* each document of a window by itself; their mean by tokens */
} mixt_balance_scope;

/* How a selection bias follows the load. */
typedef enum mixt_bias_update {
    MIXT_BIAS_SIGN,     /* a step of bias_rate against the sign (2408.15664) */
    MIXT_BIAS_QUANTILE, /* set to the bias at which every expert gets its share of the step's
                           tokens, centred: quantile balancing. With r_ij = a_i - s_ij, a_i the
                           (k + 1)-th best biased score of token i, b_j is the k / E quantile of
                           r_.j */
} mixt_bias_update;

typedef enum mixt_router_logits {
    MIXT_LOGITS_LINEAR,    /* W x */
    MIXT_LOGITS_ATTENTION, /* Yuan's Attention Router (2405.17976): q, k, v = Wq x, Wk x, Wv x in
                              R^E; r_i = sum_j softmax_j(q_i k_j) v_j */
} mixt_router_logits;

typedef enum mixt_group_score {
    MIXT_GROUP_MAX,     /* a group's best score (DeepSeek-V2) */
    MIXT_GROUP_TOP_TWO, /* sum of its two best, selection bias included (DeepSeek-V3) */
} mixt_group_score;

/* How tokens are routed: one switch each. In order: logits (and their bias), normalise, soft cap,
 * score, selection bias, groups, the best k, weights from the scores without the bias,
 * renormalise, scale. Noise is added to the logits behind their bias. */
typedef struct mixt_router_options {
    mixt_router_logits logits;
    bool logit_bias;  /* logits = W x + b (gpt-oss) */
    double normalise; /* z lambda / std(z), std over E - 1 (Skywork-MoE 2406.06563); 0: off */
    double soft_cap;  /* c tanh(z / c); 0: off */
    bool select_bias; /* a bias [E] that only the choice sees (always with bias_rate > 0) */
    int groups;       /* experts are chosen within the best groups_used of `groups`; 0: off */
    int groups_used;
    mixt_group_score group_score;
    int select; /* how experts are chosen: place of a word in mixt_router_selects; 0: top-k */
    mixt_score score;
    bool renormalise; /* weights of the chosen divided by their sum */
    double scale;     /* weights multiplied by it (1) */
    mixt_router_weights weights;
    mixt_balance balance;
    double balance_coefficient; /* 0.01; 0 switches it off */
    double z_coefficient;       /* router z-loss (ST-MoE): mean of logsumexp^2; 0.001 */
    double bias_rate;           /* loss-free balancing (2408.15664): step of the selection bias;
                                   0 is off, 0.001 usual */
    mixt_router_unit unit;
    int segment; /* tokens of one, with MIXT_UNIT_SEGMENT */
    mixt_router_scope scope;
    mixt_router_noise noise;
    double jitter; /* router inputs times a uniform number of 1 +- it in training (Switch: 0.01) */
    double capacity; /* choices that an expert takes of a training batch, over its equal share k T /
                        E, rounded up; 0: all. For expert-choice: what it takes, rounded down (0:
                        1) */
    double evaluation_capacity; /* the same where held-out text is scored or traced */
    mixt_drop drop;
    mixt_balance_scope balance_scope;
    mixt_bias_update bias_update;
    mixt_choice_scope choice_scope;
    bool adaptive_balance; /* each layer's balance_coefficient a follows its drop rate d:
                              a <- 0.99 a + 0.01 min(d / 5, balance_coefficient) (Skywork-MoE,
                              equations 7 to 9) */
    double device_balance_coefficient; /* of the loss over balance_groups, beside the other one */
    int balance_groups; /* D groups of E / D experts, ids in order, are balanced as well: D sum_g
                           (sum of the group's f_i) (sum of its P_i), f_i and P_i as in `balance`
                           and its scope; 1 at balance. DeepSeek's device-level loss (DeepSeekMoE
                           2401.06066, section 3.3). 0 or 1: none */
    uint64_t reserved[6];
} mixt_router_options;

/* How experts are chosen, the words of mixt_router_options.select in order, each behind a space:
 *   top-k  every token takes its k best experts by the router's logits
 *   hash   a token's experts are a function of its id and the layer alone (Hash layers, Roller et
 *          al. 2021); their weights are the router's scores, or 1 with one renormalised expert
 *   all    every expert of every token, weighed by its score (Jacobs et al. 1991)
 *   expert-choice
 *          in training every expert takes the tokens that score highest for it, as many as capacity
 *          says (Zhou et al. 2022); a token has any number of experts. Elsewhere its k best by the
 *          same scores, as an expert's choice depends on later tokens
 *   sinkhorn
 *          in training the k best of exp(logits) balanced over tokens and experts by Sinkhorn's
 *          algorithm (S-BASE, Clark et al. 2022); elsewhere the k best logits */
MIXT_API extern const char mixt_router_selects[256]; /* a size that stays: programs copy it */
/* One of them, NULL behind the last. */
MIXT_API const char *mixt_router_select_name(int select);

typedef enum mixt_qk_norm {
    MIXT_QK_NORM_NONE,
    MIXT_QK_NORM_HEAD,  /* RMSNorm of each head of q and k, weight [head_dim] (Qwen3) */
    MIXT_QK_NORM_WHOLE, /* RMSNorm of the whole q and k vector, weight [heads head_dim] (OLMoE) */
} mixt_qk_norm;

typedef struct mixt_attention_options {
    mixt_qk_norm qk_norm;
    bool qkv_bias;
    bool output_bias;
    double clip;       /* q, k and v clamped to +-clip (OLMo); 0: off */
    double scale;      /* of q.k; 0: 1 / sqrt(head_dim) */
    double soft_cap;   /* c tanh(s / c) of the scaled scores (Grok-1: 30); 0: off */
    int window;        /* keys that a windowed layer sees, its own included; 0: all */
    int window_period; /* layers 0, p, 2p, ... are windowed; 0: all of them */
    bool sinks;        /* a learned logit for each head in the softmax's sum (gpt-oss) */
    bool filter;       /* Localized Filtering-based Attention on q and k (Yuan 2.0) */
    bool mixed_qk;     /* q and k rows packed head by head across both matrices (Yuan 2.0) */
    /* Multi-head latent attention (DeepSeek-V2): latent_size > 0. q.k over head_dim =
     * (head_dim - position_dim) without and position_dim with RoPE; the cache holds latent_size +
     * position_dim values for a token. */
    int latent_size;
    int query_latent_size; /* 0: q is one matrix */
    int position_dim;
    int value_dim; /* of a head; 0: head_dim */
    uint64_t reserved[16];
} mixt_attention_options;

/* How RoPE is stretched beyond the context of pretraining (docs/checkpoints.md; in training and
 * evaluation a sequence is as long as a window). */
typedef enum mixt_rope_kind {
    MIXT_ROPE_DEFAULT,  /* pair i of n / 2 turns by theta^(-2i/n) a position */
    MIXT_ROPE_LINEAR,   /* all pairs slower by `factor` */
    MIXT_ROPE_DYNAMIC,  /* NTK: theta grows with sequences longer than context_length */
    MIXT_ROPE_YARN,     /* slow pairs by the factor, fast ones not (2309.00071) */
    MIXT_ROPE_LLAMA3,   /* the same by wavelength (Llama 3.1) */
    MIXT_ROPE_LONGROPE, /* each pair by a number of its own (2402.13753), one set for sequences of
                           up to original_context positions, one for longer ones */
} mixt_rope_kind;

#define MIXT_ROPE_PAIRS_MAX 256 /* of a head, with numbers of their own */

typedef struct mixt_rope_options {
    int dims;         /* rotated values at the beginning of a head; 0: all */
    bool interleaved; /* pairs (2i, 2i + 1) as the file's q and k are laid out, else halves */
    mixt_rope_kind kind;
    double factor;           /* of all kinds but the default; LongRoPE: for its attention factor */
    int original_context;    /* YaRN, Llama 3, LongRoPE: positions of pretraining */
    double attention_factor; /* YaRN, LongRoPE: of cosines and sines; 0: what follows from the
                                factor */
    double beta_fast, beta_slow;   /* YaRN: turns in the original context; 0: 32 and 1 */
    double mscale, mscale_all_dim; /* YaRN: where both are above 0, cosines and sines grow by their
                                      ratio; latent attention grows by the second, squared */
    bool no_truncate;              /* YaRN: the pairs between which it blends are not rounded */
    double low_frequency_factor, high_frequency_factor; /* Llama 3 */
    int divisors; /* LongRoPE: pairs, of which each is slower by */
    float short_divisors[MIXT_ROPE_PAIRS_MAX], long_divisors[MIXT_ROPE_PAIRS_MAX];
    uint64_t reserved[8];
} mixt_rope_options;

typedef enum mixt_activation {
    MIXT_ACTIVATION_SILU,    /* silu(gate) * up */
    MIXT_ACTIVATION_GELU,    /* gelu_tanh(gate) * up (Grok-1) */
    MIXT_ACTIVATION_CLAMPED, /* g sigmoid(1.702 g) (u + 1), g <= 7, |u| <= 7 (gpt-oss) */
} mixt_activation;

/* Shape of a model. Those that mixt makes are a Mixtral, or with experts = 0 a dense Llama, where
 * nothing else is set; else of the first family that holds the options, at last mixt's own. */
typedef struct mixt_model_options {
    int vocab_size;
    int context_length; /* longest training window; max_position_embeddings */
    int layers;
    int hidden_size;
    int heads;
    int kv_heads;
    int head_dim; /* 0: hidden_size / heads */
    int ffn_size; /* one expert's width, or the dense layer's */
    int experts;  /* those with weights; 0: dense */
    int experts_per_token;
    int shared_experts;  /* always-on experts, stored as one MLP of shared_experts * ffn_size */
    int shared_ffn_size; /* width of that MLP where it is another (Qwen); 0: as above */
    bool shared_gate;    /* its output times sigmoid(g.x) (Qwen) */
    bool expert_bias;    /* biases in the experts (gpt-oss) */
    bool dense_bias;     /* biases in dense layers' MLPs (Granite code) */
    int leading_dense_layers;
    int dense_ffn_size; /* width of dense layers; 0: ffn_size * experts_per_token */
    double rope_theta;
    double norm_epsilon;
    double initializer_range;
    bool tie_embeddings;
    int separator; /* id that begins every document and ends its text (bos and eos); -1: none */
    mixt_activation activation;
    bool post_norms;        /* RMSNorm of each branch before it is added (Grok-1) */
    double embedding_scale; /* embeddings times it; 0: 1 */
    double logit_scale;     /* logits times it; 0: 1 */
    mixt_attention_options attention;
    mixt_rope_options rope;
    mixt_router_options router;
    int moe_period; /* behind leading_dense_layers every such layer has experts, the last of each
                       group; 0 or 1: all of them (Qwen's decoder_sparse_step, GShard: 2) */
    /* Zero-computation experts (MoE++ 2410.07348, LongCat-Flash 2509.01322): routers choose among
     * experts 0 to experts - 1, behind them those that give the token's row back (MoE++: copy),
     * last those that give nothing. */
    int identity_experts;
    int zero_experts;
    uint64_t reserved[14];
} mixt_model_options;

/* The shape of the demo's model; a start to change fields of. */
MIXT_API mixt_model_options mixt_model_options_default(void);

/* Those in a config.json (or a folder with it) of any family, or in a GGUF file: to train a new
 * model of its shape, or to see what a file says. */
MIXT_API mixt_status mixt_model_options_read(const char *path, mixt_model_options *options,
                                             mixt_error *error);
/* Options one by one, to show or compare them: *name is "layers", "router.scale", ...; truths are 0
 * and 1, choices the number of their enumerator. false past the last. */
MIXT_API bool mixt_model_option(const mixt_model_options *options, int index, const char **name,
                                double *value);

/* Refuses what a new model could not be trained with and saved as, without making one. */
MIXT_API mixt_status mixt_model_options_check(const mixt_model_options *options, mixt_error *error);

typedef struct mixt_model mixt_model;

/* Random weights: normal(0, initializer_range), output projections divided by sqrt(2 layers). */
MIXT_API mixt_status mixt_model_create(const mixt_model_options *options, uint64_t seed,
                                       mixt_model **model, mixt_error *error);
/* A Hugging Face folder (config.json and safetensors, sharded or not) or a GGUF file (of several
 * shards the first; known by its first bytes, whatever its name). Shapes, types and sizes are
 * checked; the weights stay in their files, which are mapped and read when they are needed, each
 * tensor by its own type (F32, F16, BF16, F8_E4M3 with a factor for each block, GGUF's blocks). A
 * file that is cut short meanwhile gives an error where it is read, never a crash. Training takes
 * the weights into memory as fp32. A folder that holds an adapter beside its model, as LoRA
 * training leaves it, is the model with the adapter merged (mixt_model_merge). */
MIXT_API mixt_status mixt_model_open(const char *path, mixt_model **model, mixt_error *error);
/* Adds the low-rank updates of a LoRA adapter (Hu et al. 2021, arXiv 2106.09685) to a model's
 * matrices, before sessions, scores or a trainer are made of it: w + alpha / r * b a in fp32, for w
 * [out, in], a [r, in] and b [out, r], the sum over r from 0 on. `folder` is in the format of
 * Hugging Face's PEFT: adapter_config.json and adapter_model.safetensors (F32, F16, BF16). A matrix
 * of the model is named as in folders of its family, wherever it was opened from; of a stack of
 * experts (target_parameters) as in transformers 5. Matrices that have an update lie in memory as
 * fp32 from then on, others where they were. Whatever PEFT would compute otherwise (DoRA, biases,
 * embeddings, modules saved whole, ...) is refused by name, as are tensors that do not fit, are
 * alone or adapt nothing; the model is then as it was. What was merged is a remark. */
MIXT_API mixt_status mixt_model_merge(mixt_model *model, const char *folder, mixt_error *error);
/* What should be known of an opened model though it is read: line `index` ("FILE: place: what mixt
 * does"), NULL behind the last. `mixt` prints them to standard error. */
MIXT_API const char *mixt_model_remark(const mixt_model *model, int index);
/* Reads the weights of an opened model into memory, in large pages where the system has them, so
 * that generation looks up fewer addresses; what happens to the files afterwards is no matter.
 * Before contexts, sessions or other threads use the model. Weights that are not in files stay.
 * MIXT_ERROR_MEMORY: more bytes than are free, the model is as it was; MIXT_ERROR_IO: a file could
 * not be read or changed meanwhile, the model may only be freed. */
MIXT_API mixt_status mixt_model_to_memory(mixt_model *model, mixt_error *error);
/* Reads every weight and refuses NaN and Inf, naming tensor and place. */
MIXT_API mixt_status mixt_model_verify(const mixt_model *model, mixt_error *error);
/* Writes config.json, generation_config.json and model.safetensors (fp32) into `folder`; the
 * tokenizer is saved beside it by mixt_tokenizer_save. Of a model whose experts are spread over
 * ranks all of them call it, and rank 0 writes what one rank would. */
MIXT_API mixt_status mixt_model_save(const mixt_model *model, const char *folder,
                                     mixt_error *error);
MIXT_API void mixt_model_free(mixt_model *model);

/* The weights of one type: "F32", "Q4_K", ... */
typedef struct mixt_type_use {
    const char *type;
    int tensors; /* parameters, a stack of experts counting as one for each expert */
    uint64_t parameters;
    uint64_t bytes;
    uint64_t reserved[2];
} mixt_type_use;

enum { MIXT_TYPES_MAX = 32 };

typedef struct mixt_model_info {
    mixt_model_options options;
    const char *family;    /* "mixtral", "llama", ... */
    const char *title;     /* "Mixtral", "Llama (dense)", ... */
    const char *file_type; /* the mix that a GGUF file says it is ("Q3_K_L"), or NULL */
    uint64_t parameters_total;
    uint64_t parameters_active; /* read for one token; at most, with zero-computation experts */
    uint64_t weight_bytes;      /* where the weights lie: in the files, or in memory */
    double bits_per_weight;
    int moe_layers;
    bool mapped; /* the weights are in their files */
    int type_count;
    mixt_type_use types[MIXT_TYPES_MAX]; /* [type_count], most bytes first */
    char routing[400]; /* how tokens are routed, in words; "" where they are not */
    char alone[160];   /* the option that no family holds which other programs know: only mixt opens
                          what is saved of the model; "" where they do */
    bool authors_code; /* transformers opens it only with the code of the family's authors */
    const char *held_out; /* what has to be known of scores and traces of the model's routing, in
                             words: decisions that see later tokens, that are not those of
                             training, each that holds; "": nothing */
    const char *adapter;  /* LoRA adapters that were merged: folder, matrices, rank and scale of
                             each, in words; NULL: none. As long as the model lives */
    uint64_t reserved[14];
} mixt_model_info;

MIXT_API void mixt_model_describe(const mixt_model *model, mixt_model_info *info);
/* What a model of these options would be, without making its weights, and the floating-point
 * operations of its training plan over one window of `tokens` by the operators' cost formulas (a
 * multiply-add is two): of the forward records, and of the backward ones with what is computed
 * again there. The optimizer is not in it. */
MIXT_API mixt_status mixt_model_options_describe(const mixt_model_options *options, int tokens,
                                                 mixt_model_info *info, double *forward,
                                                 double *backward, mixt_error *error);
/* Parameters that learn where these parts of it (mixt_train_options) are trained: less than all of
 * theirs where a router is frozen. */
MIXT_API uint64_t mixt_model_learning(const mixt_model *model, int64_t parts);

/* Whether a model's tensors are those of `options` too: the same sizes in the same places, with
 * heads as they are. Then what the model computes and how it trains can be changed: experts per
 * token, score, balance, frozen routers, the length of texts, ... What follows from other options
 * is filled in. */
MIXT_API bool mixt_model_fits(const mixt_model *model, mixt_model_options *options);
/* Does so, before sessions, scores or a trainer are made of it. Refused where they do not fit. */
MIXT_API mixt_status mixt_model_set_options(mixt_model *model, const mixt_model_options *options,
                                            mixt_error *error);

typedef struct mixt_upcycle_options {
    double noise;  /* added to the experts: normal, times a matrix's root mean square; 0: none */
    double reinit; /* share of each expert's units that are drawn anew (2502.19261); 0: none */
    uint64_t seed;
    uint64_t reserved[5];
} mixt_upcycle_options;

/* A mixture of a dense model. Every expert is a copy of the layer's MLP or, where ffn_size divides
 * its width, a part of it; shared experts have its first units. The router is new, all else is
 * kept; `options` are the dense model's with experts. A remark says whether both compute the same.
 */
MIXT_API mixt_status mixt_model_upcycle(const mixt_model *dense, const mixt_model_options *options,
                                        const mixt_upcycle_options *upcycle, mixt_model **model,
                                        mixt_error *error);

/* The families of models that mixt knows. */
typedef struct mixt_family_info {
    const char *name;      /* model_type in config.json */
    const char *hf_class;  /* architectures in config.json */
    const char *gguf_arch; /* general.architecture in GGUF files */
    const char *title;
    bool trainable;
    uint64_t reserved[8];
} mixt_family_info;

MIXT_API int mixt_family_count(void);
MIXT_API void mixt_family_describe(int index, mixt_family_info *info);
/* Changes of the routing of a model for what is run with it afterwards (sessions, scores, traces;
 * never training): one change a call, for one layer or for all with experts. */
typedef enum mixt_routing_change {
    MIXT_ROUTING_TOP_K, /* `value` experts for a token; forgets what was forced in the layer */
    MIXT_ROUTING_MASK,  /* expert `value` is never chosen */
    MIXT_ROUTING_FORCE, /* expert `value` takes the next choice of every token */
    MIXT_ROUTING_RENORMALISE, /* 1: weights of the chosen are divided by their sum, 0: they are not
                                 (Grok-1: its authors do not, others do) */
} mixt_routing_change;

/* layer -1: all. Refused where the layer has no experts, no router of its own (scope global: what
 * is changed in the layer that decides is changed in all), or could not choose enough of them. */
MIXT_API mixt_status mixt_model_change_routing(mixt_model *model, mixt_routing_change change,
                                               int layer, int value, mixt_error *error);

/* Number and name of parameter tensors, for listing. shape has 4 entries, 0 behind the last. */
MIXT_API int mixt_model_tensor_count(const mixt_model *model);
MIXT_API const char *mixt_model_tensor(const mixt_model *model, int index, int64_t shape[4]);

/* The plan of one phase as text, one record a line: operator, layer, shapes, memory, cost.
 * phase: "train", "score", "prefill" or "decode". *text is malloc'd. */
MIXT_API mixt_status mixt_model_plan_text(const mixt_model *model, const char *phase, int tokens,
                                          char **text, mixt_error *error);

/* ---- Generation -------------------------------------------------------------------------- */

typedef struct mixt_session mixt_session;

typedef struct mixt_session_options {
    int context_length; /* positions of its cache; 0: the model's, at most 4096, or what a limit of
                           memory leaves of that (mixt_session_capacity says how many) */
    mixt_cache_type cache_type;
    mixt_latent latent;
    uint64_t reserved[7];
} mixt_session_options;

MIXT_API mixt_session_options mixt_session_options_default(void);
/* A KV cache over a model that must outlive it. options NULL: the defaults. */
MIXT_API mixt_status mixt_session_create_with(mixt_context *context, const mixt_model *model,
                                              const mixt_session_options *options,
                                              mixt_session **session, mixt_error *error);
/* The same with a cache of `context_length` positions and the defaults. */
MIXT_API mixt_status mixt_session_create(mixt_context *context, const mixt_model *model,
                                         int context_length, mixt_session **session,
                                         mixt_error *error);
MIXT_API void mixt_session_free(mixt_session *session);
/* Appends tokens to the cache and computes the logits behind the last one. Where RoPE depends on
 * how long a sequence is (dynamic, LongRoPE), what is fed at once is rotated as in a sequence that
 * ends with it, and what the cache holds stays as it was. */
MIXT_API mixt_status mixt_session_feed(mixt_session *session, const int32_t *tokens, size_t count,
                                       mixt_error *error);
MIXT_API const float *mixt_session_logits(const mixt_session *session); /* [vocab_size] */
MIXT_API size_t mixt_session_length(const mixt_session *session);
MIXT_API size_t mixt_session_capacity(const mixt_session *session); /* positions of its cache */
/* The tokens [length] that it holds; until the next call that changes it. */
MIXT_API const int32_t *mixt_session_tokens(const mixt_session *session);
/* Forgets everything behind the first `length` positions. */
MIXT_API void mixt_session_truncate(mixt_session *session, size_t length);
/* Experts chosen for the last fed token: ids [moe_layers, k] and weights [moe_layers, k], k the
 * most that a layer chooses; where one chooses fewer, id -1 and weight 0 behind them. */
MIXT_API void mixt_session_routes(const mixt_session *session, const int32_t **ids,
                                  const float **weights);
/* The shape of these: moe_layers and k. */
MIXT_API void mixt_session_routes_shape(const mixt_session *session, int *moe_layers, int *chosen);
/* Writes a session to a file, and makes a session what such a file holds, in place of what it held:
 * what is fed then has the bits that it would have had without a stop. It is a safetensors file:
 * tokens, the cache of every position, logits and experts of the last token, and checksums of all
 * (CRC-32C); it gets its name when it is whole. Refused, with the session as it was, is a file that
 * is cut or damaged, that does not fit into the context, or that is of another model: the
 * configuration, the name, shape, type, first and last row of every parameter, how layers choose
 * now, and the kind of matrix products have to be the same. */
MIXT_API mixt_status mixt_session_save(const mixt_session *session, const char *path,
                                       mixt_error *error);
MIXT_API mixt_status mixt_session_load(mixt_session *session, const char *path, mixt_error *error);

/* ---- Many sequences at once -------------------------------------------------------------- */

#include "mixt/engine.h"

/* ---- Models larger than memory ----------------------------------------------------------- */

#include "mixt/store.h"

/* ---- Samplers and constraints ------------------------------------------------------------ */

#include "mixt/sampling.h"

/* ---- Token data: a corpus as token ids with document borders and domains ----------------- */

typedef struct mixt_data mixt_data;

/* Encodes a corpus. Each document begins with the tokenizer's separator, so that its every token is
 * predicted from something; generation begins with the separator too. A share `heldout` of the
 * documents of each domain (by hash of their text, so it does not move) is kept apart. */
MIXT_API mixt_status mixt_data_create(mixt_corpus *corpus, const mixt_tokenizer *tokenizer,
                                      double heldout, mixt_data **data, mixt_error *error);
/* The encoded corpus as one file, so that many runs share one encoding: written beside the path and
 * renamed. Opened with the same tokenizer (another one is refused) it gives what mixt_data_create
 * gives of the texts with that share, document by document, and the same mixt_data_hash. */
MIXT_API mixt_status mixt_data_write(mixt_corpus *corpus, const mixt_tokenizer *tokenizer,
                                     const char *path, mixt_error *error);
MIXT_API mixt_status mixt_data_open(const char *path, const mixt_tokenizer *tokenizer,
                                    double heldout, mixt_data **data, mixt_error *error);
/* Whether a file begins as one of mixt_data_write does. */
MIXT_API bool mixt_data_is_file(const char *path);
MIXT_API void mixt_data_free(mixt_data *data);
MIXT_API size_t mixt_data_tokens(const mixt_data *data, bool heldout);
MIXT_API int mixt_data_domain_count(const mixt_data *data);
MIXT_API const char *mixt_data_domain_name(const mixt_data *data, int domain);
/* Tokens and bytes of a domain. */
MIXT_API void mixt_data_domain_size(const mixt_data *data, bool heldout, int domain,
                                    uint64_t *tokens, uint64_t *bytes);
MIXT_API const char *mixt_data_hash(const mixt_data *data);

/* ---- Training ---------------------------------------------------------------------------- */

#include "mixt/train.h"

/* ---- Several processes ------------------------------------------------------------------- */

#include "mixt/ranks.h"

/* ---- Evaluation -------------------------------------------------------------------------- */

typedef struct mixt_score_row {
    const char *domain; /* NULL in the row over everything */
    uint64_t tokens;
    uint64_t bytes;
    double nats;               /* summed negative log-likelihood */
    uint64_t choices, dropped; /* of experts in all layers, with evaluation_capacity: all, and those
                                  beyond an expert's capacity; else 0 */
    uint64_t reserved[2];
} mixt_score_row;

/* Called now and then while a long call works. false: the call ends with MIXT_ERROR_INTERRUPTED and
 * takes back what it has begun to write. */
typedef bool (*mixt_progress)(void *user, double done, double total);

/* Held-out (or all) documents in windows of `window` tokens; rows [domains + 1], the last over
 * everything. max_tokens limits each domain; 0 is no limit. */
MIXT_API mixt_status mixt_evaluate(mixt_context *context, const mixt_model *model,
                                   const mixt_data *data, bool heldout, int window,
                                   uint64_t max_tokens, mixt_score_row *rows,
                                   mixt_progress progress, void *user, mixt_error *error);

/* ---- Importance matrices: how much each column of each weight matrix matters ------------- */

/* Mean squares of what a matrix's columns are multiplied with, over a text, for each expert by
 * itself with the number of tokens that it saw. A quantiser weights its errors with them. Files
 * are GGUF in the form of llama.cpp's llama-imatrix, and are exchanged with it; its older ".dat"
 * files are read too, in which all experts of a tensor have one count. */
typedef struct mixt_importance mixt_importance;

typedef struct mixt_importance_options {
    int window;          /* tokens in a window */
    uint64_t max_tokens; /* of each domain; 0 is no limit */
    mixt_progress progress;
    void *user;
    uint64_t reserved[8];
} mixt_importance_options;

/* Runs the data (as mixt_evaluate does) and gathers. */
MIXT_API mixt_status mixt_importance_collect(mixt_context *context, const mixt_model *model,
                                             const mixt_data *data,
                                             const mixt_importance_options *options,
                                             mixt_importance **importance, mixt_error *error);
MIXT_API mixt_status mixt_importance_open(const char *path, mixt_importance **importance,
                                          mixt_error *error);
MIXT_API mixt_status mixt_importance_save(const mixt_importance *importance, const char *path,
                                          mixt_error *error);
MIXT_API void mixt_importance_free(mixt_importance *importance);
/* Matrices that it knows; experts (of all layers) that no token reached. */
MIXT_API void mixt_importance_describe(const mixt_importance *importance, int *matrices,
                                       int *unused_experts);

/* Perplexity of one text, computed as llama-perplexity does: the text is encoded whole, behind the
 * tokenizer's first id where it adds one, and cut into chunks of `window` tokens, of which the
 * first is replaced by that id; the second half of each chunk counts. */
typedef struct mixt_perplexity {
    double value;     /* e^(nats / tokens), of the chunks so far */
    double deviation; /* standard error of it */
    double nats, squares;
    uint64_t tokens; /* that were scored */
    int chunks;
    uint64_t reserved[4];
} mixt_perplexity;

typedef struct mixt_perplexity_options {
    const char *text;
    size_t length;
    int window;
    int chunks;                                                            /* at most; 0: all */
    void (*report)(void *user, const mixt_perplexity *so_far, int chunks); /* or NULL */
    void *user;
    uint64_t reserved[8];
} mixt_perplexity_options;

MIXT_API mixt_status mixt_text_perplexity(mixt_context *context, const mixt_model *model,
                                          const mixt_tokenizer *tokenizer,
                                          const mixt_perplexity_options *options,
                                          mixt_perplexity *result, mixt_error *error);

/* ---- Fidelity: what another type, or another model, changes ----------------------------- */

#include "mixt/fidelity.h"

/* ---- Conversion: Hugging Face folders and GGUF files, and quantisation ------------------- */

/* What was written. */
typedef struct mixt_convert_report {
    const char *family; /* "mixt": our own, which other programs refuse */
    char alone[160];    /* then the option that no family of theirs holds, else "" */
    int tensors;
    uint64_t parameters, bytes;
    double bits_per_weight;
    int requantised; /* tensors that were quantised before, in another type */
    int fallback_count;
    mixt_type_use fallbacks[MIXT_TYPES_MAX]; /* tensors whose rows are no whole blocks of their
                                                type, by the type that they got */
    double error; /* GGUF: root mean square of what the values of converted matrices lost, over the
                     values' own; 0: nothing */
    uint64_t reserved[8];
} mixt_convert_report;

typedef struct mixt_convert_options {
    const char *output; /* ends in ".gguf": a GGUF file; else a Hugging Face folder */
    const char *type;   /* "Q4_K_M", "Q8_0", "auto", ...; NULL: the types stay (folders: F16 or BF16
                           where every matrix is that, else F32) */
    bool pure;          /* every matrix gets the type itself, not the mix of its name */
    uint64_t shard_bytes;              /* more go to further files; 0: one file */
    const mixt_importance *importance; /* weights of the columns' errors, or NULL; what it does not
                                          know (an expert that no token reached) is quantised
                                          without */
    const mixt_tokenizer *tokenizer;   /* saved with the model, or NULL */
    const char *name;                  /* general.name, or NULL */
    mixt_convert_report *report;       /* filled where all went well, or NULL */
    const mixt_sensitivity *sensitivity; /* of type "auto" */
    uint64_t budget;                     /* of type "auto", into GGUF files: bytes that the tensors
                                            may have; each gets the type that loses least */
    bool whole_experts; /* into GGUF files: a tensor for each matrix of an expert, those of one
                           side by side, so that one read fetches it (mixt_model_store); not with
                           type "auto". Folders are always so where their form has such tensors */
    uint64_t reserved[5];
} mixt_convert_options;

MIXT_API mixt_convert_options mixt_convert_options_default(void);
/* Writes `model` in another form, beside the output, opens it as mixt_model_open does, compares it
 * with what was meant, and gives it its name; after an error what stood there before is left. The
 * model's own files are never written over. Weights whose type stays are copied as they are; q and
 * k are permuted where the two forms of the family rotate them differently. */
MIXT_API mixt_status mixt_convert(mixt_context *context, const mixt_model *model,
                                  const mixt_convert_options *options, mixt_progress progress,
                                  void *user, mixt_error *error);
/* Names of the types that files can be written in, one by one; NULL behind the last. */
MIXT_API const char *mixt_convert_type(int index);

/* ---- Traces and the atlas ---------------------------------------------------------------- */

#include "mixt/atlas.h"
#include "mixt/measures.h"

/* ---- Experiments on routing, and experts taken out --------------------------------------- */

#include "mixt/probe.h"

/* ---- Benchmarks -------------------------------------------------------------------------- */

#include "mixt/bench.h"

/* ---- Studies: the vowel task of 1991 ----------------------------------------------------- */

#include "mixt/study.h"

#ifdef __cplusplus
}
#endif

#endif
