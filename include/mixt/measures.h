/* Measures of traces by name, each a table that prints as text, JSON, CSV or a figure. A chapter of
 * mixt.h, which includes it at its place. docs/measures.md has every formula and its source. */
#ifndef MIXT_H
#error "mixt/measures.h is a chapter of mixt.h: include <mixt.h>"
#elif !defined(MIXT_MEASURES_H)
#define MIXT_MEASURES_H

/* What the cells of a column are: whole numbers that name something, or numbers. */
typedef enum mixt_column_kind {
    MIXT_COLUMN_LAYER,  /* the model's number of a layer; -1: all layers */
    MIXT_COLUMN_EXPERT, /* an expert; -1: all */
    MIXT_COLUMN_DOMAIN, /* a domain of the trace; -1: all */
    MIXT_COLUMN_TOKEN,  /* an id of the vocabulary */
    MIXT_COLUMN_WORD,   /* one of the column's words; -1: none */
    MIXT_COLUMN_COUNT,  /* a whole number */
    MIXT_COLUMN_NUMBER, /* any number */
    MIXT_COLUMN_SHARE,  /* 0 to 1; tables and figures show percent */
} mixt_column_kind;

/* What a column says of its row. Columns of one `group` belong together: a value, its levels, its
 * interval, its significance. */
typedef enum mixt_column_role {
    MIXT_ROLE_KEY,    /* what the row is about */
    MIXT_ROLE_VALUE,  /* the measured number */
    MIXT_ROLE_RANDOM, /* what uniform random choices would give */
    MIXT_ROLE_USE,    /* what choices without structure would give that use experts as unequally;
                         docs/measures.md says for each measure what is kept */
    MIXT_ROLE_LOW,    /* 95 % interval for documents like these */
    MIXT_ROLE_HIGH,
    MIXT_ROLE_P,       /* probability of as much under the level MIXT_ROLE_USE */
    MIXT_ROLE_Q,       /* ... after Benjamini and Hochberg, over all rows of the table */
    MIXT_ROLE_EFFECT,  /* size of the effect, as the column's help says */
    MIXT_ROLE_SUPPORT, /* what the number rests on: tokens, pairs, choices */
} mixt_column_role;

typedef struct mixt_column {
    const char *name;         /* of letters, digits and _: key in JSON, head in CSV */
    const char *help;         /* a line */
    const char *unit;         /* "bits", "tokens", ...; "" */
    int kind;                 /* mixt_column_kind */
    int role;                 /* mixt_column_role */
    int group;                /* 0, 1, ...: see mixt_column_role; of keys 0 */
    const char *const *words; /* of MIXT_COLUMN_WORD, NULL behind the last */
    uint64_t reserved[4];
} mixt_column;

typedef struct mixt_measure_info {
    const char *name;   /* "coactivation" */
    const char *title;  /* "Experts chosen together" */
    const char *source; /* paper or program that the formula comes from */
    const char *about;  /* what the value is, in a sentence or two */
    int traces;         /* it takes: 1; 2: two of the same text; 0: the log of a training run */
    bool logits;        /* it needs the trace's router logits */
    uint64_t reserved[6];
} mixt_measure_info;

/* NULL behind the last. */
MIXT_API const mixt_measure_info *mixt_measure_describe(int index);

/* What it takes, in words: "one trace", ... */
MIXT_API const char *mixt_measure_takes(const mixt_measure_info *info);

typedef struct mixt_measure_options {
    int shuffles;  /* draws for levels that have no closed form; 0: 20, and where a p counts them up
                      to 199, as many as are cheap */
    uint64_t seed; /* of these draws */
    uint64_t reserved[8];
} mixt_measure_options;

typedef struct mixt_table mixt_table;

/* Measures traces [count]. Refused in one line where the measure takes another number of traces,
 * these do not fit together, or hold too little for it. options NULL: all defaults. */
MIXT_API mixt_status mixt_measure(const char *name, const mixt_trace *const *traces, int count,
                                  const mixt_measure_options *options, mixt_table **table,
                                  mixt_error *error);
/* The same of a training run: path is its folder, or the load.jsonl in it (docs/training.md).
 * Refused with the line where it is not such a log. */
MIXT_API mixt_status mixt_measure_log(const char *name, const char *path,
                                      const mixt_measure_options *options, mixt_table **table,
                                      mixt_error *error);
/* The table lives as long as its traces do. */
MIXT_API void mixt_table_free(mixt_table *table);
MIXT_API const mixt_measure_info *mixt_table_measure(const mixt_table *table);
MIXT_API int mixt_table_columns(const mixt_table *table, const mixt_column **columns);
MIXT_API uint64_t mixt_table_rows(const mixt_table *table);
/* NaN: there is none (no interval from so few documents, no level). */
MIXT_API double mixt_table_value(const mixt_table *table, uint64_t row, int column);
/* A sentence behind the table: what it leaves out, what it found; "". */
MIXT_API const char *mixt_table_note(const mixt_table *table);

typedef enum mixt_table_format {
    MIXT_TABLE_TEXT, /* for a terminal; long tables show their most telling rows and say so */
    MIXT_TABLE_JSON, /* one object: measure, columns, rows */
    MIXT_TABLE_CSV,  /* all rows, a head line; tokens as text and id */
    MIXT_TABLE_SVG,  /* a figure that stands alone */
} mixt_table_format;

/* width: columns of MIXT_TABLE_TEXT. */
MIXT_API mixt_status mixt_table_print(const mixt_table *table, mixt_table_format format, int width,
                                      FILE *stream, mixt_error *error);

#endif
