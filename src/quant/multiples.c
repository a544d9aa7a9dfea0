#include "quant/multiples.h"

#include "quant/multiples_decode.h"

float mixt_multiples_of(mixt_type type, const void *block, int16_t q[256])
{
    return mixt_decode_multiples(type, block, mixt_grids_get(), &(mixt_decoded){.words = q});
}

void mixt_part_of(mixt_type type, const void *block, int part, int16_t q[32], float d[2])
{
    assert(mixt_type_has_parts(type) && part >= 0 && part < mixt_type_info(type)->elements / 32);
    d[0] = mixt_part_scale(type, block, part, 0);
    d[1] = mixt_part_scale(type, block, part, 1);
    mixt_decode_part_words(type, block, part, mixt_grids_get(), q);
}
