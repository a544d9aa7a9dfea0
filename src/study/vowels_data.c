/* Formants of vowels from a CSV file, by speaker. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/files.h"
#include "core/memory.h"
#include "core/number.h"
#include "core/random.h"
#include "study/vowels.h"

enum {
    FILE_MAX = 1 << 20,
    FIELDS_MAX = 64,
    NAME_SIZE = 64,
    HERTZ_MAX = 20000,
};

/* The columns that count. */
enum { COLUMN_SPEAKER, COLUMN_VOWEL, COLUMN_F1, COLUMN_F2, COLUMNS };
static const char *const column_names[COLUMNS] = {"speaker", "vowel", "f1", "f2"};
static const char vowel_names[] = "iIAV";

typedef struct reading {
    int speaker; /* in the order in which they appear */
    int vowel;
    float formants[MIXT_VOWEL_FORMANTS]; /* Hz */
} reading;

typedef struct table {
    const char *path;
    int line;
    char *fields[FIELDS_MAX];
    int count, columns; /* fields of this line, of the header */
    int place[COLUMNS]; /* of a column among the fields */
    reading *readings;
    size_t reading_count, reading_capacity;
    char (*speakers)[NAME_SIZE];
    size_t speaker_count, speaker_capacity;
} table;

static mixt_status no_memory(mixt_error *error)
{
    return mixt_fail(error, MIXT_ERROR_MEMORY, "vowels: no memory");
}

/* Takes a field from *text, which it cuts off and moves behind; quotes around it go. False: a quote
 * that does not end the field. */
static bool next_field(char **text, char **field)
{
    char *at = *text;
    bool quoted = *at == '"';
    *field = at + quoted;
    at = quoted ? strchr(at + 1, '"') : at + strcspn(at, ",");
    if (at == NULL) {
        return false;
    }
    if (quoted) {
        *at++ = '\0';
        if (*at != ',' && *at != '\0') {
            return false;
        }
    }
    *text = *at == ',' ? at + 1 : NULL;
    *at = '\0';
    return true;
}

static mixt_status split_line(table *t, char *line, mixt_error *error)
{
    t->count = 0;
    for (char *rest = line; rest != NULL;) {
        if (t->count == FIELDS_MAX) {
            return mixt_fail(error, MIXT_ERROR_FORMAT, "%s: line %d: more than %d fields", t->path,
                             t->line, FIELDS_MAX);
        }
        if (!next_field(&rest, &t->fields[t->count++])) {
            return mixt_fail(error, MIXT_ERROR_FORMAT,
                             "%s: line %d: field %d: a quote that does not end it", t->path,
                             t->line, t->count);
        }
    }
    return MIXT_OK;
}

static mixt_status take_header(table *t, mixt_error *error)
{
    t->columns = t->count;
    for (int c = 0; c < COLUMNS; c++) {
        t->place[c] = -1;
        for (int i = 0; i < t->count; i++) {
            if (strcmp(t->fields[i], column_names[c]) != 0) {
                continue;
            }
            if (t->place[c] >= 0) {
                return mixt_fail(error, MIXT_ERROR_FORMAT, "%s: line 1: two columns %s", t->path,
                                 column_names[c]);
            }
            t->place[c] = i;
        }
        if (t->place[c] < 0) {
            return mixt_fail(error, MIXT_ERROR_FORMAT,
                             "%s: line 1: no column %s (a header with speaker, vowel, f1 and f2 is "
                             "needed)",
                             t->path, column_names[c]);
        }
    }
    return MIXT_OK;
}

static mixt_status take_formant(const table *t, int column, float *hertz, mixt_error *error)
{
    const char *text = t->fields[t->place[column]];
    char *end;
    double value = mixt_number_read(text, &end);
    if (end == text || *end != '\0' || !(value > 0 && value <= HERTZ_MAX)) {
        return mixt_fail(error, MIXT_ERROR_FORMAT, "%s: line %d: %s \"%.40s\" is not in 0..%d Hz",
                         t->path, t->line, column_names[column], text, HERTZ_MAX);
    }
    *hertz = (float)value;
    return MIXT_OK;
}

/* The speaker's place in the order of appearance; lines of one speaker mostly lie together. */
static mixt_status take_speaker(table *t, int *speaker, mixt_error *error)
{
    const char *name = t->fields[t->place[COLUMN_SPEAKER]];
    if (*name == '\0' || strlen(name) >= NAME_SIZE) {
        return mixt_fail(error, MIXT_ERROR_FORMAT,
                         "%s: line %d: the speaker's name has %zu bytes, not 1..%d", t->path,
                         t->line, strlen(name), NAME_SIZE - 1);
    }
    for (size_t i = t->speaker_count; i-- > 0;) {
        if (strcmp(t->speakers[i], name) == 0) {
            *speaker = (int)i;
            return MIXT_OK;
        }
    }
    if (t->speaker_count == MIXT_VOWEL_SPEAKERS_MAX) {
        return mixt_fail(error, MIXT_ERROR_FORMAT, "%s: line %d: more than %d speakers", t->path,
                         t->line, MIXT_VOWEL_SPEAKERS_MAX);
    }
    if (!mixt_grow(&t->speakers, &t->speaker_capacity, t->speaker_count + 1, sizeof *t->speakers)) {
        return no_memory(error);
    }
    memcpy(t->speakers[t->speaker_count], name, strlen(name) + 1);
    *speaker = (int)t->speaker_count++;
    return MIXT_OK;
}

static mixt_status take_reading(table *t, mixt_error *error)
{
    if (t->count != t->columns) {
        return mixt_fail(error, MIXT_ERROR_FORMAT, "%s: line %d: %d fields, the header has %d",
                         t->path, t->line, t->count, t->columns);
    }
    reading r = {0};
    const char *vowel = t->fields[t->place[COLUMN_VOWEL]];
    const char *known = strlen(vowel) == 1 ? strchr(vowel_names, *vowel) : NULL;
    MIXT_TRY(take_formant(t, COLUMN_F1, &r.formants[0], error));
    MIXT_TRY(take_formant(t, COLUMN_F2, &r.formants[1], error));
    MIXT_TRY(take_speaker(t, &r.speaker, error));
    if (known == NULL) {
        return MIXT_OK;
    }
    r.vowel = (int)(known - vowel_names);
    if (!mixt_grow(&t->readings, &t->reading_capacity, t->reading_count + 1, sizeof *t->readings)) {
        return no_memory(error);
    }
    t->readings[t->reading_count++] = r;
    return MIXT_OK;
}

static mixt_status read_lines(table *t, char *text, size_t length, mixt_error *error)
{
    if (strlen(text) != length) {
        return mixt_fail(error, MIXT_ERROR_FORMAT, "%s: a zero byte at %zu", t->path, strlen(text));
    }
    for (char *line = text; line != NULL && *line != '\0';) {
        char *end = strchr(line, '\n');
        char *next = end == NULL ? NULL : end + 1;
        t->line++;
        if (end != NULL) {
            *end = '\0';
        }
        size_t size = strlen(line);
        if (size > 0 && line[size - 1] == '\r') {
            line[size - 1] = '\0';
        }
        MIXT_TRY(split_line(t, line, error));
        MIXT_TRY(t->line == 1 ? take_header(t, error) : take_reading(t, error));
        line = next;
    }
    return t->line > 0 ? MIXT_OK
                       : mixt_fail(error, MIXT_ERROR_FORMAT,
                                   "%s: line 1: no header (speaker, vowel, f1, f2)", t->path);
}

/* Numbers the speakers who have all four vowels, others become -1; *complete is how many. */
static mixt_status number_speakers(const table *t, int *number, mixt_vowel_data *data,
                                   const mixt_vowel_options *o, mixt_error *error)
{
    int wanted = o->train_speakers + o->test_speakers;
    for (size_t i = 0; i < t->speaker_count; i++) {
        number[i] = 0;
    }
    for (size_t i = 0; i < t->reading_count; i++) {
        number[t->readings[i].speaker] |= 1 << t->readings[i].vowel;
    }
    for (size_t i = 0; i < t->speaker_count; i++) {
        bool complete = number[i] == (1 << MIXT_VOWEL_COUNT) - 1;
        number[i] = complete ? data->speakers++ : -1;
        if (number[i] == wanted) {
            memcpy(data->dropped, t->speakers[i], sizeof data->dropped);
        }
    }
    if (data->speakers < wanted) {
        return mixt_fail(error, MIXT_ERROR_FORMAT,
                         "%s: %d speakers with the vowels i, I, A and V; %d + %d are needed",
                         t->path, data->speakers, o->train_speakers, o->test_speakers);
    }
    return MIXT_OK;
}

/* Where the speakers' cases go: those of training, then those of testing, in the file's order. */
static mixt_status split(const table *t, const mixt_vowel_options *o, mixt_vowel_data *data,
                         mixt_error *error)
{
    int *number = malloc((t->speaker_count + 1) * sizeof *number);
    size_t count = t->reading_count + 1;
    data->formants = malloc(count * MIXT_VOWEL_FORMANTS * sizeof *data->formants);
    data->vowels = malloc(count);
    mixt_status status = MIXT_OK;
    if (number == NULL || data->formants == NULL || data->vowels == NULL) {
        status = no_memory(error);
    }
    if (status == MIXT_OK) {
        status = number_speakers(t, number, data, o, error);
    }
    mixt_random_key key = {o->seed, MIXT_RANDOM_SHUFFLE, 0};
    uint64_t speakers = (uint64_t)o->train_speakers + (uint64_t)o->test_speakers;
    int64_t cases = 0;
    for (int part = 0; part < 2 && status == MIXT_OK; part++) {
        for (size_t i = 0; i < t->reading_count; i++) {
            const reading *r = &t->readings[i];
            int n = number[r->speaker];
            if (n < 0 || (uint64_t)n >= speakers) {
                continue;
            }
            bool test =
                mixt_random_permute(&key, (uint64_t)n, speakers) >= (uint64_t)o->train_speakers;
            if (test == (part == 1)) {
                memcpy(data->formants + cases * MIXT_VOWEL_FORMANTS, r->formants,
                       sizeof r->formants);
                data->vowels[cases++] = (uint8_t)r->vowel;
            }
        }
        *(part == 0 ? &data->train : &data->test) = part == 0 ? cases : cases - data->train;
    }
    free(number);
    return status;
}

/* Hz to kHz, or to mean 0 and deviation 1 over the training cases. */
static mixt_status scale(const char *path, bool standardise, mixt_vowel_data *data,
                         mixt_error *error)
{
    for (int f = 0; f < MIXT_VOWEL_FORMANTS; f++) {
        double mean = 0, squares = 0, deviation = 1000;
        for (int64_t i = 0; i < data->train && standardise; i++) {
            mean += data->formants[i * MIXT_VOWEL_FORMANTS + f] / (double)data->train;
        }
        for (int64_t i = 0; i < data->train && standardise; i++) {
            squares += pow(data->formants[i * MIXT_VOWEL_FORMANTS + f] - mean, 2);
        }
        deviation = standardise ? sqrt(squares / (double)data->train) : deviation;
        if (!(deviation > 0)) {
            return mixt_fail(error, MIXT_ERROR_FORMAT, "%s: f%d is the same in all training cases",
                             path, f + 1);
        }
        for (int64_t i = 0; i < data->train + data->test; i++) {
            float *value = &data->formants[i * MIXT_VOWEL_FORMANTS + f];
            *value = (float)((*value - mean) / deviation);
        }
    }
    return MIXT_OK;
}

mixt_status mixt_vowel_data_read(const char *path, const mixt_vowel_options *options,
                                 mixt_vowel_data *data, mixt_error *error)
{
    *data = (mixt_vowel_data){0};
    char *text;
    size_t length;
    MIXT_TRY(mixt_file_read(path, FILE_MAX, &text, &length, error));
    table t = {.path = path};
    mixt_status status = read_lines(&t, text, length, error);
    if (status == MIXT_OK) {
        status = split(&t, options, data, error);
    }
    if (status == MIXT_OK) {
        status = scale(path, options->standardise, data, error);
    }
    if (status != MIXT_OK) {
        mixt_vowel_data_free(data);
    }
    free(text);
    free(t.readings);
    free(t.speakers);
    return status;
}

void mixt_vowel_data_free(mixt_vowel_data *data)
{
    free(data->formants);
    free(data->vowels);
    *data = (mixt_vowel_data){0};
}

int mixt_vowel_outputs(mixt_vowel_coding coding)
{
    return coding == MIXT_VOWELS_PAIRS ? 1 : MIXT_VOWEL_COUNT;
}

float mixt_vowel_target(mixt_vowel_coding coding, int vowel, int i)
{
    bool on = coding == MIXT_VOWELS_PAIRS ? vowel % 2 == 0 : vowel == i;
    return on ? 1.0f : 0.0f;
}
