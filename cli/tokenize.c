/* mixt tokenize: text to ids and back, for scripts. */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "files.h"
#include "shared.h"

enum { INPUT_BYTES_MAX = 1 << 30 };

typedef struct tokenize_settings {
    const char *tokenizer;
    const char *text;
    const char *file;
    bool decode;
    bool pieces;
    bool count;
    bool special;
    bool around;
} tokenize_settings;

static const cli_option tokenize_options[] = {
    {.name = "tokenizer",
     .letter = 'm',
     .kind = OPTION_TEXT,
     .offset = offsetof(tokenize_settings, tokenizer),
     .value = "PATH",
     .help = "tokenizer.json, tokenizer.model, a folder with one, or a GGUF file",
     .aliases = "model"},
    {.name = "prompt",
     .letter = 'p',
     .kind = OPTION_TEXT,
     .choices = "",
     .offset = offsetof(tokenize_settings, text),
     .value = "TEXT",
     .help = "what to encode or decode; -: standard input",
     .fallback = "standard input"},
    {.name = "file",
     .letter = 'f',
     .kind = OPTION_TEXT,
     .offset = offsetof(tokenize_settings, file),
     .value = "FILE",
     .help = "take it from a file"},
    {.name = "decode",
     .kind = OPTION_FLAG,
     .offset = offsetof(tokenize_settings, decode),
     .help = "numbers to text"},
    {.name = "pieces",
     .kind = OPTION_FLAG,
     .offset = offsetof(tokenize_settings, pieces),
     .help = "one line for each token: id and bytes"},
    {.name = "count",
     .kind = OPTION_FLAG,
     .offset = offsetof(tokenize_settings, count),
     .help = "print the number of tokens only"},
    {.name = "special",
     .kind = OPTION_FLAG,
     .offset = offsetof(tokenize_settings, special),
     .help = "special tokens in the text become their ids"},
    {.name = "around",
     .kind = OPTION_FLAG,
     .offset = offsetof(tokenize_settings, around),
     .help = "put the ids around it that the model expects (bos, eos)"},
    {0},
};

static void print_piece(const mixt_tokenizer *tokenizer, int32_t id)
{
    size_t length = 0;
    const char *bytes = mixt_tokenizer_bytes_of(tokenizer, id, &length);
    printf("%d\t", id);
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)bytes[i];
        if (c == '\\' || c < 0x20 || c >= 0x7F) {
            printf("\\x%02x", c);
        } else {
            putchar(c);
        }
    }
    putchar('\n');
}

static void print_ids(const tokenize_settings *settings, const mixt_tokenizer *tokenizer,
                      const int32_t *ids, size_t count, bool *first)
{
    for (size_t i = 0; i < count; i++) {
        if (settings->pieces) {
            print_piece(tokenizer, ids[i]);
        } else {
            printf(*first ? "%d" : " %d", ids[i]);
        }
        *first = false;
    }
}

static int encode(const tokenize_settings *settings, const mixt_tokenizer *tokenizer,
                  const char *text, size_t length)
{
    mixt_error error = MIXT_ERROR_INIT;
    int32_t *ids = NULL;
    int32_t bos = mixt_tokenizer_around(tokenizer, MIXT_SPECIAL_BOS);
    int32_t eos = mixt_tokenizer_around(tokenizer, MIXT_SPECIAL_EOS);
    size_t count = 0;
    bool before = settings->around && bos >= 0;
    bool behind = settings->around && eos >= 0, first = true;
    if (mixt_tokenizer_encode(tokenizer, text, length, settings->special, &ids, &count, &error) !=
        MIXT_OK) {
        return fail_with(exit_status(error.status), "the text: %s", error.message);
    }
    if (settings->count) {
        printf("%zu\n", count + before + behind);
    } else {
        print_ids(settings, tokenizer, &bos, before, &first);
        print_ids(settings, tokenizer, ids, count, &first);
        print_ids(settings, tokenizer, &eos, behind, &first);
        if (!settings->pieces) {
            putchar('\n');
        }
    }
    free(ids);
    return STATUS_DONE;
}

static int decode(const mixt_tokenizer *tokenizer, const char *text, size_t length)
{
    int vocabulary = mixt_tokenizer_vocab_size(tokenizer);
    int32_t *ids = malloc((length + 1) * sizeof *ids);
    size_t count = 0;
    int status = STATUS_DONE;
    if (ids == NULL) {
        return fail_with(STATUS_FAILED, "no memory");
    }
    for (const char *c = text + strspn(text, " ,\t\r\n"); *c != 0; c += strspn(c, " ,\t\r\n")) {
        char *end = NULL;
        errno = 0;
        long id = isdigit((unsigned char)*c) ? strtol(c, &end, 10) : -1;
        if (id < 0 || id >= vocabulary || errno != 0) {
            free(ids);
            return fail_with(STATUS_REFUSED, "\"%.20s\" is not an id in 0..%d", c, vocabulary - 1);
        }
        size_t size = 0;
        if (mixt_tokenizer_bytes_of(tokenizer, (int32_t)id, &size) != NULL) {
            ids[count++] = (int32_t)id;
        }
        c = end;
    }
    char *decoded = NULL;
    mixt_error error = MIXT_ERROR_INIT;
    if (mixt_tokenizer_decode(tokenizer, ids, count, false, &decoded, &length, &error) != MIXT_OK) {
        status = fail_error(&error);
    } else {
        fwrite(decoded, 1, length, stdout);
    }
    free(decoded);
    free(ids);
    return status;
}

static int run_tokenize(void *user, cli_arguments *arguments)
{
    const tokenize_settings *settings = user;
    (void)arguments;
    if (settings->tokenizer == NULL) {
        return fail_usage("--tokenizer: needed");
    }
    if (settings->text != NULL && settings->file != NULL) {
        return fail_usage("--prompt and --file exclude each other");
    }
    cli_resources resources = {0};
    mixt_error error = MIXT_ERROR_INIT;
    if (open_tokenizer(settings->tokenizer, &resources, &error) != MIXT_OK) {
        return fail_error(&error);
    }
    char *read = NULL;
    bool from_stdin = settings->text != NULL && strcmp(settings->text, "-") == 0;
    const char *text = from_stdin ? NULL : settings->text;
    size_t length = text != NULL ? strlen(text) : 0;
    int status = STATUS_DONE;
    if (text == NULL) {
        const char *path = settings->file != NULL ? settings->file : "-";
        char what[200];
        mixt_status was = files_read(path, INPUT_BYTES_MAX, &read, &length, what);
        if (was != MIXT_OK) {
            status = fail_with(exit_status(was), "%s: %s",
                               settings->file != NULL ? path : "standard input", what);
        }
        text = read;
    }
    if (status == STATUS_DONE) {
        status = settings->decode ? decode(resources.tokenizer, text, length)
                                  : encode(settings, resources.tokenizer, text, length);
    }
    free(read);
    resources_free(&resources);
    return status;
}

const cli_command command_tokenize = {
    .name = "tokenize",
    .summary = "text to token ids and back",
    .synopsis = "-m PATH [-p TEXT | -f FILE] [--decode]",
    .about = "Encodes text to ids, separated by spaces, or decodes ids to text. Reads standard "
             "input unless -p or -f is given.",
    .examples = "  echo 'int main(void)' | mixt tokenize -m demo/model --pieces\n"
                "  mixt tokenize -m demo/model -p '72 105' --decode\n",
    .positional = "tokenizer",
    .groups = (const cli_group[]){{"options", tokenize_options, 0}, {0}},
    .settings_size = sizeof(tokenize_settings),
    .run = run_tokenize,
};
