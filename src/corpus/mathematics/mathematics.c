#include "corpus/mathematics/mathematics.h"

#include "core/error.h"
#include "mixt.h"

#define PAIRS 64 /* in a document */

static const mixt_math_module modules[] = {
    mixt_math_add_or_subtract,
    mixt_math_add_or_subtract_in_base,
    mixt_math_product,
    mixt_math_quotient,
    mixt_math_mixed,
    mixt_math_sum_of_many,
    mixt_math_nearest_root,
    mixt_math_simplify_root,
    mixt_math_base_conversion,
    mixt_math_round,
    mixt_math_greatest_divisor,
    mixt_math_least_multiple,
    mixt_math_common_denominator,
    mixt_math_remainder,
    mixt_math_is_factor,
    mixt_math_is_prime,
    mixt_math_prime_factors,
    mixt_math_place_value,
    mixt_math_expand,
    mixt_math_collect,
    mixt_math_rearrange,
    mixt_math_evaluate,
    mixt_math_polynomial_sum,
    mixt_math_compose,
    mixt_math_differentiate,
    mixt_math_factor,
    mixt_math_roots,
    mixt_math_next_term,
    mixt_math_nth_term,
    mixt_math_linear_one,
    mixt_math_linear_two,
    mixt_math_pair,
    mixt_math_kth_biggest,
    mixt_math_closest,
    mixt_math_sort,
    mixt_math_conversion,
    mixt_math_time,
    mixt_math_letter_set,
    mixt_math_letter_sequence,
};

static void write_pair(math *m, mixt_math_module module, mixt_buffer *document)
{
    m->preamble.length = m->question.length = m->answer.length = 0;
    m->letters_used = 1u << ('e' - 'a') | 1u << ('i' - 'a'); /* they mean numbers of their own */
    module(m);
    mixt_buffer_append(document, m->preamble.data, m->preamble.length);
    mixt_buffer_append(document, m->question.data, m->question.length);
    mixt_buffer_text(document, "\n");
    mixt_buffer_append(document, m->answer.data, m->answer.length);
    mixt_buffer_text(document, "\n");
    document->failed =
        document->failed || m->preamble.failed || m->question.failed || m->answer.failed;
}

mixt_status mixt_mathematics_generate(uint64_t seed, size_t bytes, mixt_text_sink sink, void *user,
                                      mixt_error *error)
{
    math m = {.key = {seed, MIXT_RANDOM_DATA, 0}};
    mixt_buffer document = {0};
    mixt_status status = MIXT_OK;
    size_t module_count = sizeof modules / sizeof *modules, order[sizeof modules / sizeof *modules];
    size_t turn = module_count;
    /* Every document is about one thing, as in the original; every thing has its turn. */
    for (size_t written_bytes = 0; status == MIXT_OK && written_bytes < bytes;) {
        if (turn == module_count) {
            for (size_t i = 0; i < module_count; i++) {
                order[i] = i;
            }
            mixt_math_shuffle(&m, order, module_count, sizeof *order);
            turn = 0;
        }
        mixt_math_module module = modules[order[turn++]];
        document.length = 0;
        for (int i = 0; i < PAIRS; i++) {
            write_pair(&m, module, &document);
        }
        status = document.failed
                     ? mixt_fail(error, MIXT_ERROR_MEMORY, "mathematics: no memory for a document")
                     : sink(user, document.data, document.length, error);
        written_bytes += document.length;
    }
    mixt_buffer_free(&document);
    mixt_buffer_free(&m.preamble);
    mixt_buffer_free(&m.question);
    mixt_buffer_free(&m.answer);
    return status;
}
