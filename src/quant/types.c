#include "quant/types.h"

#include <assert.h>

#include "core/utf8.h"

static const mixt_type_row rows[] = {
#define MIXT_TYPE_ROW(name, number, elements, bytes) {#name, number, elements, bytes},
    MIXT_TYPE_LIST(MIXT_TYPE_ROW)
#undef MIXT_TYPE_ROW
};

const mixt_type_row *mixt_type_info(mixt_type type)
{
    assert((unsigned)type < MIXT_TYPE_COUNT);
    return &rows[type];
}

mixt_type mixt_type_from_number(int64_t number)
{
    for (int i = 0; i < MIXT_TYPE_COUNT; i++) {
        if (number >= 0 && rows[i].number == number) {
            return (mixt_type)i;
        }
    }
    return MIXT_TYPE_COUNT;
}

mixt_type mixt_type_from_name(const char *name)
{
    for (int i = 0; i < MIXT_TYPE_COUNT; i++) {
        if (mixt_ascii_equal(rows[i].name, name)) {
            return (mixt_type)i;
        }
    }
    return MIXT_TYPE_COUNT;
}

int64_t mixt_scales_count(const mixt_matrix *matrix)
{
    const mixt_scales *scales = &matrix->scales;
    int64_t last = scales->first_row + (matrix->n - 1) * scales->row_step;
    return scales->values == NULL ? 0 : (last / scales->block_rows + 1) * scales->columns;
}

size_t mixt_type_row_bytes(mixt_type type, int64_t elements)
{
    const mixt_type_row *row = mixt_type_info(type);
    if (elements < 0 || elements % row->elements != 0) {
        return 0;
    }
    return (size_t)(elements / row->elements) * (size_t)row->bytes;
}
