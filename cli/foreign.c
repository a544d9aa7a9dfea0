/* Flags of llama.cpp's programs that no option of ours stands for. Accepted is what cannot change
 * what is written: then a word says why it does nothing. All else is refused with the reason.
 * docs/flags.md has all of them, and tests/test_flags.c tries each. */
#include "foreign.h"

#include <string.h>

#include "terminal.h"

enum { MAYBE = -1 }; /* a value that may be left out: on, off, auto, 0 or 1 */

typedef struct foreign_flag {
    const char *commands; /* that know it */
    const char *flags;    /* its names */
    int values;           /* behind it */
    bool is_refused;
    const char *reason;
} foreign_flag;

#define NO_GPU "there is no GPU: every layer is computed by the processor"
#define ONE_ATTENTION "attention has one form, and one order of sums"
#define MAPPED "weights are mapped where they fit (--memory), and nothing is locked"
#define PIECES                                                                                     \
    "mixt chooses the pieces in which a prompt is computed; the results are the same bits"
#define ONE_COUNT "--threads is for prompts and generation"
#define SYSTEM "what threads may use is the system's: taskset, nice, numactl"
#define AS_THEY_LIE "weights of files are read as they lie; the results are the same bits"
#define NO_MATTER "the results do not depend on it"
#define NO_LOG "there is no log: notes and errors go to standard error"
#define NO_CONNECTION "mixt opens no connection"
#define RENDERED "templates are always rendered"
#define AS_IT_COMES "answers are shown as they are"
#define AS_IT_IS "the text is taken as it is"
#define NO_DRAWS "nothing is drawn"
#define TOGETHER "every forward takes what all texts have to compute"
#define NO_DOWNLOADS "mixt downloads nothing: give -m a file or folder"
#define OWN_ROPE "what the model's file says of RoPE is applied, and nothing else"
#define KEYS "keys of a model file are applied or refused, not replaced"
#define TEXT_ALONE "models of text alone"
#define NO_SPECULATION "no speculative decoding"
#define CHAT_HAS_TURNS "mixt chat has turns"
#define BY_TEMPLATE "answers are shown as they are; a template is told by --variables"
#define CHAT_PUTS "mixt chat puts turns into the form that the model knows"
#define TEXTS "mixt eval has texts alone"
#define TYPES "the types of a conversion are those of --type and --pure"
#define OWN_PAGE "it serves one model and its own page, and no files"

static const foreign_flag foreign_flags[] = {
    {"run chat eval serve", "-ngl --gpu-layers --n-gpu-layers", 1, false, NO_GPU},
    {"bench", "-ngl --n-gpu-layers", 1, false, NO_GPU},
    {"run chat eval bench serve", "-ncmoe --n-cpu-moe", 1, false, NO_GPU},
    {"run chat eval serve", "-cmoe --cpu-moe", 0, false, NO_GPU},
    {"run chat eval serve", "-ncffn --n-cpu-ffn", 1, false, NO_GPU},
    {"run chat eval bench serve", "-sm --split-mode", 1, false, NO_GPU},
    {"run chat eval bench serve", "-ts --tensor-split", 1, false, NO_GPU},
    {"run chat eval bench serve", "-mg --main-gpu", 1, false, NO_GPU},
    {"run chat eval bench serve", "-dev --device", 1, false, NO_GPU},
    {"run chat eval bench serve", "-ot --override-tensor", 1, false, NO_GPU},
    {"run chat eval serve", "-kvo --kv-offload -nkvo --no-kv-offload --op-offload --no-op-offload",
     0, false, NO_GPU},
    {"run chat eval", "--no-host", 0, false, NO_GPU},
    {"bench", "-nkvo --no-kv-offload -nopo --no-op-offload --no-host", 1, false, NO_GPU},
    {"run chat eval serve", "-fit --fit", MAYBE, false, NO_GPU},
    {"run chat eval bench serve", "-fitt --fit-target -fitc --fit-ctx", 1, false, NO_GPU},
    {"run chat eval bench serve", "-fa --flash-attn", MAYBE, false, ONE_ATTENTION},
    {"run chat eval serve", "--mmap --mlock", 0, false, MAPPED},
    {"run chat eval bench serve", "-lm --load-mode", 1, false, MAPPED},
    {"run chat eval bench serve", "-lzm --lazy-mode", 1, false, MAPPED},
    {"run chat eval", "-b --batch-size", 1, false, PIECES},
    {"run chat eval bench serve", "-ub --ubatch-size", 1, false, PIECES},
    {"run chat eval serve", "-tb --threads-batch", 1, false, ONE_COUNT},
    {"run chat eval bench serve", "-C --cpu-mask", 1, false, SYSTEM},
    {"run chat eval serve", "-Cr --cpu-range", 1, false, SYSTEM},
    {"run chat eval serve", "-Cb --cpu-mask-batch", 1, false, SYSTEM},
    {"run chat eval serve", "-Crb --cpu-range-batch", 1, false, SYSTEM},
    {"run chat eval bench serve", "--cpu-strict --prio --poll", 1, false, SYSTEM},
    {"run chat eval serve", "--cpu-strict-batch --prio-batch --poll-batch", 1, false, SYSTEM},
    {"run chat eval bench serve", "--numa", 1, false, SYSTEM},
    {"run chat eval serve", "--repack -nr --no-repack", 0, false, AS_THEY_LIE},
    {"bench", "--repack", 1, false, AS_THEY_LIE},
    {"run chat eval serve", "--swa-full -bs --backend-sampling", 0, false, NO_MATTER},
    {"eval", "-kvu --kv-unified -no-kvu --no-kv-unified", 0, false, NO_MATTER},
    {"run chat eval serve", "-dt --defrag-thold", 1, false, "the cache has no holes"},
    {"chat serve", "-ctxcp --ctx-checkpoints --swa-checkpoints -cram --cache-ram", 1, false,
     "the cache keeps every position"},
    {"run chat eval", "--warmup --no-warmup", 0, false,
     "nothing is computed but what is asked for"},
    {"run chat eval serve", "--perf --no-perf", 0, false, "it costs nothing"},
    {"run chat eval",
     "--log-disable --log-prefix --no-log-prefix --log-timestamps --no-log-timestamps --log-jsonl "
     "--no-log-jsonl",
     0, false, NO_LOG},
    {"run chat eval", "--log-colors", MAYBE, false, NO_LOG},
    {"run chat eval", "-lv --verbosity --log-verbosity", 1, false, NO_LOG},
    {"run eval", "-v --verbose --log-verbose", 0, false, NO_LOG},
    {"chat", "--log-verbose", 0, false, NO_LOG},
    {"tokenize", "--log-disable", 0, false, NO_LOG},
    {"bench", "-v --verbose --progress", 0, false, "progress is on standard error"},
    {"run chat eval bench tokenize serve", "--offline", 0, false, NO_CONNECTION},
    {"run", "--display-prompt", 0, false, "it is shown unless --hide-prompt is there"},
    {"run", "-no-cnv --no-conversation", 0, false, "a prompt is continued as it is"},
    {"chat", "-cnv --conversation", 0, false, "it is one"},
    {"run chat", "--simple-io", 0, false, "lines are edited at a terminal alone"},
    {"run chat", "--jinja", 0, false, RENDERED},
    {"chat", "--skip-chat-parsing", 0, false, AS_IT_COMES},
    {"tokenize", "--stdin", 0, false, "standard input is read where there is no text and no file"},
    {"tokenize", "--no-bos", 0, false, "there is none unless --around is there"},
    {"tokenize", "--no-parse-special", 0, false,
     "special tokens are text unless --special is there"},
    {"tokenize", "--no-escape", 0, false, AS_IT_IS},
    {"convert", "--allow-requantize", 0, false, "it is allowed, and said"},
    {"convert", "--max-buffer-size", 1, false, "rows are converted piece by piece"},
    {"eval",
     "-s --seed --keep --predict --n-predict --top-k --repeat-last-n --mirostat "
     "--dry-allowed-length --dry-penalty-last-n",
     1, false, NO_DRAWS},
    {"eval",
     "--temp --temperature --top-p --min-p --top-n-sigma --top-nsigma --xtc-probability "
     "--xtc-threshold --typical --typical-p --repeat-penalty --presence-penalty "
     "--frequency-penalty --dry-multiplier --dry-base --dynatemp-range --dynatemp-exp "
     "--mirostat-lr --mirostat-ent --adaptive-target --adaptive-decay",
     1, false, NO_DRAWS},
    {"eval",
     "--samplers --sampler-seq --sampling-seq --dry-sequence-breaker -l --logit-bias --grammar "
     "--grammar-file -j --json-schema -jf --json-schema-file",
     1, false, NO_DRAWS},
    {"eval", "--ignore-eos", 0, false, NO_DRAWS},
    {"chat", "--display-prompt --no-display-prompt", 0, false,
     "what is typed at a terminal is shown by it"},
    {"chat eval", "--no-escape", 0, false, AS_IT_IS},
    {"run", "--skip-chat-parsing", 0, false, AS_IT_COMES},
    {"serve",
     "-cb --cont-batching -nocb --no-cont-batching -kvu --kv-unified -no-kvu --no-kv-unified "
     "--cache-idle-slots --no-cache-idle-slots",
     0, false, TOGETHER},
    {"serve", "--threads-http --cache-reuse --checkpoint-min-step", 1, false,
     "mixt decides it; the results are the same bits"},
    {"serve", "--ui --webui", 0, false, "the page is at /"},
    {"serve", "--jinja", 0, false, "it is so in any case"},
    {"run chat eval bench serve", "-hf -hfr --hf-repo -hff --hf-file -hft --hf-token", 1, true,
     NO_DOWNLOADS},
    {"run chat eval serve", "-mu --model-url -dr --docker-repo", 1, true, NO_DOWNLOADS},
    {"run chat eval serve", "-cl --cache-list", 0, true, NO_DOWNLOADS},
    {"chat",
     "--gpt-oss-20b-default --gpt-oss-120b-default --vision-gemma-4b-default "
     "--vision-gemma-12b-default --spec-default",
     0, true, NO_DOWNLOADS},
    {"chat", "--server-base", 1, true, NO_CONNECTION},
    {"run chat eval bench serve", "--rpc", 1, true, "one machine computes"},
    {"run chat eval bench serve", "--list-devices", 0, true,
     "there is the processor alone; mixt bench measures it"},
    {"run chat eval serve", "--rope-scaling", 1, true, OWN_ROPE},
    {"run chat eval serve",
     "--rope-scale --rope-freq-base --rope-freq-scale --yarn-ext-factor --yarn-attn-factor "
     "--yarn-beta-slow --yarn-beta-fast",
     1, true, OWN_ROPE},
    {"run chat eval serve", "--yarn-orig-ctx", 1, true, OWN_ROPE},
    {"run", "-gan --grp-attn-n -gaw --grp-attn-w", 1, true, OWN_ROPE},
    {"run chat eval serve", "--override-kv", 1, true, KEYS},
    {"convert", "--override-kv", 1, true, KEYS},
    {"run chat eval serve", "--lora-scaled", 1, true,
     "--lora takes an adapter in PEFT's format, whose adapter_config.json has its scale"},
    {"run chat eval serve", "--control-vector --control-vector-scaled --control-vector-layer-range",
     1, true, "no control vectors"},
    {"run chat eval serve",
     "-mm --mmproj -mmu --mmproj-url -mmdev --mmproj-device --image-min-tokens --image-max-tokens "
     "--video-fps --video-timestamp-interval --video-ffmpeg-dir",
     1, true, TEXT_ALONE},
    {"run chat eval serve", "--mmproj-offload --no-mmproj-offload", 0, true, TEXT_ALONE},
    {"chat", "--mmproj-auto --no-mmproj --no-mmproj-auto", 0, true, TEXT_ALONE},
    {"chat serve",
     "-md --model-draft --spec-draft-model -hfd -hfrd --hf-repo-draft --spec-draft-hf --spec-type "
     "--spec-synth-len --spec-synth-rates",
     1, true, NO_SPECULATION},
    {"chat serve",
     "--draft --draft-n --draft-max --draft-min --draft-n-min --spec-draft-n-max "
     "--spec-draft-n-min --spec-draft-p-split --draft-p-split --spec-draft-p-min --draft-p-min",
     1, true, NO_SPECULATION},
    {"chat serve",
     "-td --threads-draft --spec-draft-threads -tbd --threads-batch-draft "
     "--spec-draft-threads-batch -Cd --cpu-mask-draft --spec-draft-cpu-mask -Crd --cpu-range-draft "
     "--spec-draft-cpu-range --spec-draft-cpu-strict --cpu-strict-draft --spec-draft-prio "
     "--prio-draft --spec-draft-poll --poll-draft -Cbd --cpu-mask-batch-draft "
     "--spec-draft-cpu-mask-batch --spec-draft-cpu-strict-batch --cpu-strict-batch-draft "
     "--spec-draft-prio-batch --prio-batch-draft --spec-draft-poll-batch --poll-batch-draft",
     1, true, NO_SPECULATION},
    {"chat serve",
     "-otd --override-tensor-draft --spec-draft-override-tensor -ncmoed --n-cpu-moe-draft "
     "--spec-draft-n-cpu-moe --spec-draft-ncmoe -devd --device-draft --spec-draft-device -ngld "
     "--gpu-layers-draft --n-gpu-layers-draft --spec-draft-ngl",
     1, true, NO_SPECULATION},
    {"run chat eval serve",
     "-ctkd --cache-type-k-draft --spec-draft-type-k -ctvd --cache-type-v-draft "
     "--spec-draft-type-v",
     1, true, NO_SPECULATION},
    {"chat serve",
     "-cmoed --cpu-moe-draft --spec-draft-cpu-moe --spec-draft-backend-sampling "
     "--no-spec-draft-backend-sampling",
     0, true, NO_SPECULATION},
    {"chat serve",
     "--spec-ngram-mod-n-min --spec-ngram-mod-n-max --spec-ngram-mod-n-match "
     "--spec-ngram-simple-size-n --spec-ngram-simple-size-m --spec-ngram-simple-min-hits "
     "--spec-ngram-map-k-size-n --spec-ngram-map-k-size-m --spec-ngram-map-k-min-hits "
     "--spec-ngram-map-k4v-size-n --spec-ngram-map-k4v-size-m --spec-ngram-map-k4v-min-hits",
     1, true, NO_SPECULATION},
    {"run chat", "--adaptive-target --adaptive-decay", 1, true, "no adaptive sampling"},
    {"run chat", "-bf --binary-file", 1, true, "a prompt is UTF-8: -f of mixt run"},
    {"chat", "-f --file -p --prompt", 1, true, "turns come from standard input, a line each"},
    {"chat", "-st --single-turn", 0, true,
     "a line of standard input is a turn, and its end is the end"},
    {"run", "-st --single-turn", 0, true, "without -i the program ends behind the text"},
    {"chat", "-sysf --system-prompt-file", 1, true, "--system \"$(cat FILE)\""},
    {"run", "-sys --system-prompt -sysf --system-prompt-file", 1, true, CHAT_HAS_TURNS},
    {"run", "-cnv --conversation", 0, true, CHAT_HAS_TURNS},
    {"chat", "-no-cnv --no-conversation", 0, true, "mixt run continues texts"},
    {"run", "--chat-template --chat-template-file", 1, true, CHAT_HAS_TURNS},
    {"run chat", "--no-jinja", 0, true, RENDERED},
    {"chat", "--no-skip-chat-parsing", 0, true, AS_IT_COMES},
    {"chat",
     "--reasoning-format -rea --reasoning --reasoning-effort --reasoning-budget "
     "--reasoning-budget-message",
     1, true, BY_TEMPLATE},
    {"chat", "--reasoning-preserve --no-reasoning-preserve", 0, true, BY_TEMPLATE},
    {"run", "-if --interactive-first", 0, true, "-i without a prompt begins with a line"},
    {"run chat", "-mli --multiline-input", 0, true,
     "a \\ at the end of a line of mixt chat continues it"},
    {"run", "--in-prefix-bos", 0, true, CHAT_PUTS},
    {"run", "--in-prefix --in-suffix", 1, true, CHAT_PUTS},
    {"run chat", "--verbose-prompt", 0, true, "mixt tokenize --pieces shows the tokens of a text"},
    {"run", "-ptc --print-token-count", 1, true,
     "the last line of standard error says how many there were"},
    {"run chat", "-sp --special", 0, true, "special tokens are not shown"},
    {"chat", "-o --output --output-file", 1, true, "> FILE"},
    {"run chat eval serve", "--log-file", 1, true, "2> FILE"},
    {"chat", "--log-prompts-dir", 1, true, "/save FILE keeps a conversation"},
    {"run chat eval serve", "--usage", 0, true, "it is --help"},
    {"run chat eval serve", "--version", 0, true, "mixt --version"},
    {"run chat eval serve", "--completion-bash", 0, true,
     "mixt --completion-bash is for all commands"},
    {"eval", "--hellaswag --winogrande --multiple-choice --kl-divergence", 0, true, TEXTS},
    {"eval",
     "--hellaswag-tasks --winogrande-tasks --multiple-choice-tasks --ppl-stride --ppl-output-type",
     1, true, TEXTS},
    {"eval", "--save-all-logits --kl-divergence-base", 1, true, TEXTS},
    {"eval", "-p --prompt", 1, true, "a text is a file here: -f FILE"},
    {"eval", "--context-shift --no-context-shift", 0, true, "windows do not depend on each other"},
    {"bench", "--delay", 1, true, "tests follow each other at once"},
    {"bench", "-oe --output-err", 1, true, "one table, on standard output"},
    {"bench", "--no-warmup", 0, true, "what is measured is never the first run"},
    {"bench", "-embd --embeddings", 1, true, "logits alone are measured"},
    {"tokenize", "--ids", 0, true, "ids are what is printed, between blanks"},
    {"tokenize", "--show-count", 0, true, "--count prints the number alone"},
    {"convert", "--leave-output-tensor", 0, true, TYPES},
    {"convert", "--output-tensor-type --token-embedding-type --tensor-type --tensor-type-file", 1,
     true, TYPES},
    {"convert", "--include-weights --exclude-weights", 1, true,
     "importance is for every matrix that it names"},
    {"convert", "--prune-layers", 1, true, "all layers are converted"},
    {"convert", "--keep-split", 0, true, "--shard-size says how large files may be"},
    {"convert", "--dry-run", 0, true, "mixt info says how large the weights are"},
    {"chat eval", "-e --escape", 0, true, AS_IT_IS},
    {"eval", "--file -bf --binary-file", 1, true, "it is -f, or --ppl-file"},
    {"run",
     "--reasoning-format -rea --reasoning --reasoning-effort --reasoning-budget "
     "--reasoning-budget-message",
     1, true, CHAT_HAS_TURNS},
    {"run", "--reasoning-preserve --no-reasoning-preserve --no-skip-chat-parsing", 0, true,
     CHAT_HAS_TURNS},
    {"bench", "--version", 0, true, "mixt --version"},
    {"bench", "-rpc", 1, true, "one machine computes"},
    {"serve", "--ssl-key-file --ssl-cert-file", 1, true, "a proxy speaks TLS: docs/server.md"},
    {"serve", "--path --media-path --models-dir --models-preset --slot-save-path", 1, true,
     OWN_PAGE},
    {"serve", "--embedding --embeddings --rerank --reranking", 0, true,
     "one server does all that it can"},
    {"serve", "--context-shift --no-context-shift", 0, true,
     "a text that fills its context ends, and the answer says so"},
};

static bool has_word(const char *words, const char *word, size_t length)
{
    while (*words != 0) {
        size_t size = strcspn(words, " ");
        if (size == length && strncmp(words, word, length) == 0) {
            return true;
        }
        words += size + strspn(words + size, " ");
    }
    return false;
}

static const foreign_flag *find(const char *command, const char *flag, size_t length)
{
    for (size_t i = 0; i < sizeof foreign_flags / sizeof *foreign_flags; i++) {
        const foreign_flag *row = &foreign_flags[i];
        if (has_word(row->flags, flag, length) &&
            has_word(row->commands, command, strlen(command))) {
            return row;
        }
    }
    return NULL;
}

foreign_kind foreign_take(const char *command, int argc, char **argv, int *at, const char **reason)
{
    const char *flag = argv[*at];
    size_t length = strcspn(flag, "=");
    const foreign_flag *row = find(command, flag, length);
    if (row == NULL) {
        return FOREIGN_UNKNOWN;
    }
    *reason = row->reason;
    if (row->is_refused) {
        return FOREIGN_REFUSED;
    }
    bool behind = flag[length] == 0 && *at + 1 < argc;
    if (row->values == 1 && flag[length] == 0 && !behind) {
        *reason = "needs a value";
        return FOREIGN_REFUSED;
    }
    bool takes =
        row->values == 1 || (row->values == MAYBE && behind &&
                             has_word("on off auto 0 1", argv[*at + 1], strlen(argv[*at + 1])));
    *at += behind && takes;
    say(stderr, "note: %.*s does nothing here: %s\n", (int)length, flag, row->reason);
    return FOREIGN_ACCEPTED;
}
