/* Writing of tokenizer.json and tokenizer_config.json, as Hugging Face's fast tokenizers read
 * them. A tokenizer that came from a file is written as it was. */
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/files.h"
#include "text/tokenizer.h"
#include "text/utf8.h"

#define BYTE_LEVEL                                                                                 \
    "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,"                    \
    "\"use_regex\":true}"

/* A token in visible characters, escaped for JSON. */
static void write_visible(mixt_buffer *to, const mixt_token *token)
{
    for (uint32_t i = 0; i < token->length; i++) {
        char text[8] = "\\";
        uint32_t character = mixt_byte_character((unsigned char)token->bytes[i]);
        bool escaped = character == '"' || character == '\\';
        size_t size = mixt_utf8_encode(character, text + escaped);
        mixt_buffer_append(to, text, size + escaped);
    }
}

static void write_json(const mixt_token *tokens, int vocab_size, const mixt_merge *merges,
                       size_t merge_count, mixt_buffer *to)
{
    mixt_buffer_text(to, "{\n\"version\":\"1.0\",\n\"truncation\":null,\n\"padding\":null,\n"
                         "\"added_tokens\":[");
    mixt_buffer_format(to,
                       "{\"id\":%d,\"content\":\"%s\",\"single_word\":false,\"lstrip\":false,"
                       "\"rstrip\":false,\"normalized\":false,\"special\":true}],\n",
                       MIXT_SEPARATOR_ID, MIXT_SEPARATOR_TEXT);
    mixt_buffer_text(to, "\"normalizer\":null,\n\"pre_tokenizer\":" BYTE_LEVEL
                         ",\n\"post_processor\":" BYTE_LEVEL ",\n\"decoder\":" BYTE_LEVEL
                         ",\n\"model\":{\n\"type\":\"BPE\",\n\"dropout\":null,\n"
                         "\"unk_token\":null,\n\"continuing_subword_prefix\":null,\n"
                         "\"end_of_word_suffix\":null,\n\"fuse_unk\":false,\n"
                         "\"byte_fallback\":false,\n\"ignore_merges\":false,\n\"vocab\":{");
    for (int id = 0; id < vocab_size; id++) {
        mixt_buffer_text(to, id == 0 ? "\n\"" : ",\n\"");
        if (id == MIXT_SEPARATOR_ID) {
            mixt_buffer_text(to, MIXT_SEPARATOR_TEXT);
        } else {
            write_visible(to, &tokens[id]);
        }
        mixt_buffer_format(to, "\":%d", id);
    }
    mixt_buffer_text(to, "},\n\"merges\":[");
    for (size_t i = 0; i < merge_count; i++) {
        mixt_buffer_text(to, i == 0 ? "\n\"" : ",\n\"");
        write_visible(to, &tokens[merges[i].left]);
        mixt_buffer_text(to, " ");
        write_visible(to, &tokens[merges[i].right]);
        mixt_buffer_text(to, "\"");
    }
    mixt_buffer_text(to, "]\n}\n}\n");
}

mixt_status mixt_tokenizer_make(const mixt_token *tokens, int vocab_size, const mixt_merge *merges,
                                size_t merge_count, mixt_tokenizer **tokenizer, mixt_error *error)
{
    mixt_buffer json = {0};
    *tokenizer = NULL;
    write_json(tokens, vocab_size, merges, merge_count, &json);
    mixt_status status = json.failed
                             ? mixt_fail(error, MIXT_ERROR_MEMORY, "tokenizer: no memory")
                             : mixt_tokenizer_from_json(json.data, json.length, tokenizer, error);
    mixt_buffer_free(&json);
    return status;
}

static void write_config(const mixt_tokenizer *tokenizer, mixt_buffer *to)
{
    mixt_buffer_text(to, "{\n");
    if (tokenizer->separator >= 0) {
        mixt_buffer_text(to, "  \"bos_token\": \"" MIXT_SEPARATOR_TEXT "\",\n"
                             "  \"eos_token\": \"" MIXT_SEPARATOR_TEXT "\",\n"
                             "  \"unk_token\": \"" MIXT_SEPARATOR_TEXT "\",\n");
    }
    mixt_buffer_format(to,
                       "  \"add_prefix_space\": %s,\n"
                       "  \"clean_up_tokenization_spaces\": false,\n"
                       "  \"tokenizer_class\": \"PreTrainedTokenizerFast\"\n}\n",
                       tokenizer->prefix_space ? "true" : "false");
}

static mixt_status write_file(const char *folder, const char *name, const char *data, size_t length,
                              mixt_error *error)
{
    char *path = mixt_path_join(folder, name);
    if (path == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", folder);
    }
    mixt_status status = mixt_file_replace(path, data, length, error);
    free(path);
    return status;
}

mixt_status mixt_tokenizer_save(const mixt_tokenizer *tokenizer, const char *folder,
                                mixt_error *error)
{
    mixt_buffer config = {0};
    write_config(tokenizer, &config);
    mixt_status status = config.failed ? mixt_fail(error, MIXT_ERROR_MEMORY,
                                                   "%s: no memory for the tokenizer", folder)
                                       : mixt_folder_create(folder, error);
    if (status == MIXT_OK) {
        status =
            write_file(folder, "tokenizer.json", tokenizer->json, tokenizer->json_length, error);
    }
    if (status == MIXT_OK) {
        status = write_file(folder, "tokenizer_config.json", config.data, config.length, error);
    }
    mixt_buffer_free(&config);
    return status;
}
