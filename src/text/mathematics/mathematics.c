#include "text/mathematics/mathematics.h"

#include "core/error.h"
#include "mixt.h"

#define PAIRS 64 /* in a document */

static const math_module modules[] = {
    math_add_or_subtract,
    math_add_or_subtract_in_base,
    math_product,
    math_quotient,
    math_mixed,
    math_sum_of_many,
    math_nearest_root,
    math_simplify_root,
    math_base_conversion,
    math_round,
    math_greatest_divisor,
    math_least_multiple,
    math_common_denominator,
    math_remainder,
    math_is_factor,
    math_is_prime,
    math_prime_factors,
    math_place_value,
    math_expand,
    math_collect,
    math_rearrange,
    math_evaluate,
    math_polynomial_sum,
    math_compose,
    math_differentiate,
    math_factor,
    math_roots,
    math_next_term,
    math_nth_term,
    math_linear_one,
    math_linear_two,
    math_pair,
    math_kth_biggest,
    math_closest,
    math_sort,
    math_conversion,
    math_time,
    math_letter_set,
    math_letter_sequence,
};

static void write_pair(math *m, math_module module, mixt_buffer *document)
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
            math_shuffle(&m, order, module_count, sizeof *order);
            turn = 0;
        }
        math_module module = modules[order[turn++]];
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
