#include "atlas_demo.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/random.h"
#include "formats/dtype.h"

typedef struct demo_text {
    const char *name;
    const char *sentences[8]; /* NULL behind the last */
} demo_text;

static const demo_text texts[] = {
    {"C headers",
     {"struct buffer {\n    char *data;\n    size_t length;\n};\n\n",
      "static inline int buffer_empty(const struct buffer *self)\n{\n    return self->length == "
      "0;\n}\n\n",
      "#ifndef BUFFER_H\n#define BUFFER_H\n\n#include <stddef.h>\n\n",
      "extern int read_line(struct buffer *to, int limit);\n",
      "/* Returns the number of bytes, or -1 with errno set. */\n",
      "    if (self->data == NULL) {\n        return -1;\n    }\n"}},
    {"Python",
     {"def read(self, size=-1):\n    if size < 0:\n        return self.data\n\n",
      "class Reader:\n    def __init__(self, path):\n        self.path = path\n        self.data = "
      "None\n\n",
      "    for line in self.lines():\n        yield line.strip()\n\n", "import os\nimport sys\n\n",
      "        raise ValueError(\"size must not be negative\")\n",
      "    return [item for item in self.items if item is not None]\n"}},
    {"Licences",
     {"This program is distributed in the hope that it will be useful, but without any warranty. ",
      "You may convey a work based on the Program, provided that you also meet all of these "
      "conditions. ",
      "The work must carry prominent notices stating that you modified it, and giving a relevant "
      "date.\n\n",
      "Each licensee is addressed as you. ",
      "Nothing in this License shall be construed as excluding any implied license. "}},
    {"Changelogs",
     {"  * New upstream release.\n", "  * Fix a crash when the file is empty (Closes: #812345).\n",
      " -- Jos\xc3\xa9 N\xc3\xba\xc3\xb1"
      "ez <jose@example.org>  Tue, 04 Mar 2025 10:12:13 "
      "+0100\n\n",
      "  * Update the translation of the manual page.\n",
      "  * debian/control: raise the Standards-Version to 4.6.2.\n"}},
    {"Manual pages",
     {"The file is opened for reading and writing, and is created if it does not exist. ",
      "RETURN VALUE\n       On success, the number of bytes read is returned.\n\n",
      "This option may be given more than once; the last one wins. ",
      "SEE ALSO\n       open(2), read(2), write(2)\n\n",
      "If the size is zero, the result is undefined. "}},
    {"Mathematics",
     {"Question: Solve 3*x + 7 = 22 for x.\nAnswer: 5\n",
      "Question: What is the remainder when 147 is divided by 12?\nAnswer: 3\n",
      "Question: Let f(y) = 2*y**2 - 5. Calculate f(4).\nAnswer: 27\n",
      "Question: What is 18 percent of 350?\nAnswer: 63\n"}},
    {"<img src=x onerror=alert(1)>",
     {"<script>document.title='owned'</script> and </script><script>x ",
      "[link](javascript:alert(1)) \" onmouseover=\"alert(1) ' &lt;b&gt; &amp; ",
      "\x1b[2J\x1b]0;owned\x07 escape \xe2\x80\xae desrever \xe2\x80\x8b zero \xff\xfe bytes \x7f ",
      "--> <!-- ]]> <style>*{display:none}</style> <svg/onload=alert(1)> "}},
};
#define TEXTS (sizeof texts / sizeof *texts)
#define DOCUMENTS 14
#define MAX_WORDS 1024

typedef struct demo_vocabulary {
    const char *bytes[MAX_WORDS];
    size_t length[MAX_WORDS];
    int count;
} demo_vocabulary;

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c & 0x80) != 0;
}

/* Length of the next token: letters with a space before them, one digit, a run of spaces, or one
 * byte; long words fall into two. */
static size_t next_token(const char *text)
{
    size_t begin = text[0] == ' ' && is_letter(text[1]) ? 1 : 0;
    size_t end = begin;
    while (is_letter(text[end]) && end - begin < 7) {
        end++;
    }
    if (end > begin) {
        return end;
    }
    while (text[end] == ' ') {
        end++;
    }
    return end > 0 ? end : 1;
}

static int32_t word_of(demo_vocabulary *vocabulary, const char *bytes, size_t length)
{
    for (int i = 0; i < vocabulary->count; i++) {
        if (vocabulary->length[i] == length && memcmp(vocabulary->bytes[i], bytes, length) == 0) {
            return i;
        }
    }
    if (vocabulary->count == MAX_WORDS) {
        abort();
    }
    vocabulary->bytes[vocabulary->count] = bytes;
    vocabulary->length[vocabulary->count] = length;
    return vocabulary->count++;
}

/* Writes the tokens (when `trace` is not NULL) and returns how many there are. */
static uint64_t write_tokens(demo_vocabulary *vocabulary, mixt_trace *trace)
{
    const mixt_random_key key = {5, MIXT_RANDOM_DATA, 0};
    uint64_t at = 0;
    for (size_t d = 0; d < TEXTS; d++) {
        uint64_t sentences = 0;
        while (sentences < 8 && texts[d].sentences[sentences] != NULL) {
            sentences++;
        }
        for (uint64_t n = 0; n < DOCUMENTS; n++) {
            for (uint64_t s = 0; s < 14; s++) {
                uint64_t draw = mixt_random_below(&key, (d * DOCUMENTS + n) * 16 + s, sentences);
                for (const char *text = texts[d].sentences[draw]; *text != '\0'; at++) {
                    size_t length = next_token(text);
                    int32_t word = word_of(vocabulary, text, length);
                    text += length;
                    if (trace != NULL) {
                        trace->tokens[at] = word;
                        trace->document[at] = (int32_t)(d * DOCUMENTS + n);
                        trace->domain[at] = (uint16_t)d;
                    }
                }
            }
        }
    }
    return at;
}

/* Scores of one token at one layer: part by its word, part by its domain, part by chance; the best
 * k are its experts. */
static void route(mixt_trace *trace, int layer, uint64_t i)
{
    int experts = trace->info.experts;
    int k = trace->info.experts_per_token;
    double score[256];
    const mixt_random_key word = {7, MIXT_RANDOM_DATA, (uint32_t)layer};
    const mixt_random_key chance = {8, MIXT_RANDOM_DATA, (uint32_t)layer};
    const mixt_random_key topic = {9, MIXT_RANDOM_DATA, (uint32_t)layer};
    double apart = trace->domain[i] == 5 ? 0.6 : 0.12;
    for (int e = 0; e < experts; e++) {
        score[e] = 1.3 * mixt_random_normal(&word, (uint64_t)trace->tokens[i] * 256 + (uint64_t)e) +
                   mixt_random_normal(&chance, i * 256 + (uint64_t)e) +
                   apart * mixt_random_normal(&topic, trace->domain[i] * 256u + (uint64_t)e);
    }
    uint64_t at = ((uint64_t)layer * trace->info.tokens + i) * (uint64_t)k;
    for (int c = 0; c < k; c++) {
        int best = 0;
        for (int e = 1; e < experts; e++) {
            best = score[e] > score[best] ? e : best;
        }
        score[best] = -1e9;
        trace->experts[at + (uint64_t)c] = (uint16_t)best;
        float weight = (float)(k - c) / (float)(k * (k + 1) / 2);
        mixt_f32_to_f16(&weight, &trace->weights[at + (uint64_t)c], 1);
    }
}

static void fill_experts(mixt_trace *trace)
{
    int k = trace->info.experts_per_token;
    for (int layer = 0; layer < trace->info.layers; layer++) {
        const mixt_random_key key = {6, MIXT_RANDOM_DATA, (uint32_t)layer};
        double depth = trace->info.layers > 1 ? (double)layer / (trace->info.layers - 1) : 0;
        double stay = 0.5 * depth * (1.2 - 0.7 * depth); /* most in the upper middle */
        for (uint64_t i = 0; i < trace->info.tokens; i++) {
            uint64_t at = ((uint64_t)layer * trace->info.tokens + i) * (uint64_t)k;
            bool begins = i == 0 || trace->document[i] != trace->document[i - 1];
            route(trace, layer, i);
            if (!begins && mixt_random_uniform(&key, i) < stay) {
                memcpy(trace->experts + at, trace->experts + at - k, (size_t)k * sizeof(uint16_t));
            }
        }
    }
}

mixt_trace *atlas_demo_make(int layers, int experts, int experts_per_token)
{
    demo_vocabulary *vocabulary = calloc(1, sizeof *vocabulary);
    mixt_trace_info info = {.tokens = write_tokens(vocabulary, NULL),
                            .layers = layers,
                            .experts = experts,
                            .experts_per_token = experts_per_token,
                            .domains = (int)TEXTS};
    size_t bytes = 0;
    for (int i = 0; i < vocabulary->count; i++) {
        bytes += vocabulary->length[i];
    }
    mixt_trace *trace = mixt_trace_allocate(&info, vocabulary->count, bytes);
    write_tokens(vocabulary, trace);
    for (int i = 0; i < vocabulary->count; i++) {
        int64_t at = trace->vocab_offsets[i];
        memcpy(trace->vocab_bytes + at, vocabulary->bytes[i], vocabulary->length[i]);
        trace->vocab_offsets[i + 1] = at + (int64_t)vocabulary->length[i];
    }
    free(vocabulary);
    fill_experts(trace);
    trace->info.model = "demo <b>model</b>";
    trace->info.model_hash = "5f8b6c1d2e3a4f5061728394a5b6c7d8e9f00112233445566778899aabbccdde";
    trace->info.corpus_hash = "c0ffee1d2e3a4f5061728394a5b6c7d8e9f00112233445566778899aabbccdd0";
    trace->info.tokenizer_hash = "70ke9b6c1d2e3a4f5061728394a5b6c7d8e9f00112233445566778899aabbccd";
    for (size_t d = 0; d < TEXTS; d++) {
        trace->domain_names[d] = mixt_arena_string(trace->arena, texts[d].name);
    }
    mixt_error error = MIXT_ERROR_INIT;
    if (mixt_trace_check(trace, "demo", &error) != MIXT_OK) {
        fprintf(stderr, "%s\n", error.message);
        abort();
    }
    return trace;
}

void atlas_demo_drop(mixt_trace *trace)
{
    const mixt_random_key key = {10, MIXT_RANDOM_DATA, 0};
    uint64_t k = (uint64_t)trace->info.experts_per_token;
    uint64_t choices = trace->info.tokens * k;
    for (int layer = 0; layer < trace->info.layers; layer++) {
        trace->chosen[layer] = layer % 3 != 1 ? (int)k : 1;
        for (uint64_t i = 0; i < choices; i++) {
            uint64_t at = (uint64_t)layer * choices + i;
            if (i % k >= (uint64_t)trace->chosen[layer] || mixt_random_uniform(&key, at) < 0.15) {
                trace->experts[at] = MIXT_TRACE_NONE;
                trace->weights[at] = 0;
            }
        }
    }
    mixt_error error = MIXT_ERROR_INIT;
    if (mixt_trace_check(trace, "demo", &error) != MIXT_OK) {
        fprintf(stderr, "%s\n", error.message);
        abort();
    }
}
