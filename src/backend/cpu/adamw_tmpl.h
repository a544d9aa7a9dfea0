/* AdamW's numbers in one precision, worked out in double and rounded once. Only tiers.h includes
 * this file, once for each, and defines before: `real`, the number type, and MIXT_NAME(name), which
 * appends f32 or f64. All of it is undefined again at the end. */
#define mixt_adamw_constants MIXT_NAME(mixt_adamw_constants)
#define mixt_adamw_round MIXT_NAME(mixt_adamw_round)

typedef struct mixt_adamw_constants {
    real scale, rate, beta1, one_minus_beta1, beta2, one_minus_beta2, epsilon, decay;
    real inverse_correction1, inverse_correction2;
} mixt_adamw_constants;

static inline mixt_adamw_constants mixt_adamw_round(const mixt_adamw_arguments *arguments)
{
    return (mixt_adamw_constants){
        .scale = (real)arguments->scale,
        .rate = (real)arguments->rate,
        .beta1 = (real)arguments->beta1,
        .one_minus_beta1 = (real)(1 - arguments->beta1),
        .beta2 = (real)arguments->beta2,
        .one_minus_beta2 = (real)(1 - arguments->beta2),
        .epsilon = (real)arguments->epsilon,
        .decay = (real)arguments->decay,
        .inverse_correction1 = (real)(1 / arguments->correction1),
        .inverse_correction2 = (real)(1 / arguments->correction2),
    };
}

#undef mixt_adamw_constants
#undef mixt_adamw_round
#undef MIXT_NAME
#undef real
