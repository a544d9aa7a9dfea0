/* The measures by name. */
#include "atlas/measures/measures.h"

/* One a line. */
/* clang-format off */
const mixt_measure_type *const mixt_measure_types[] = {
    &mixt_measure_load,
    &mixt_measure_balance,
    &mixt_measure_concentration,
    &mixt_measure_committee,
    &mixt_measure_ranks,
    &mixt_measure_coactivation,
    &mixt_measure_togetherness,
    &mixt_measure_domains,
    &mixt_measure_classes,
    &mixt_measure_positions,
    &mixt_measure_vocabulary,
    &mixt_measure_tokens,
    &mixt_measure_divergence,
    &mixt_measure_languages,
    &mixt_measure_signatures,
    &mixt_measure_reliability,
    &mixt_measure_reuse,
    &mixt_measure_reuse_quantiles,
    &mixt_measure_cache,
    &mixt_measure_segments,
    &mixt_measure_joint,
    &mixt_measure_persistence,
    &mixt_measure_routes,
    &mixt_measure_entropy,
    &mixt_measure_margin,
    &mixt_measure_lookahead,
    &mixt_measure_confidence,
    &mixt_measure_saturation,
    &mixt_measure_agreement,
    &mixt_measure_flips_effect,
    &mixt_measure_router_kl,
    &mixt_measure_breaks,
    &mixt_measure_kinship,
    &mixt_measure_training,
    NULL,
};
/* clang-format on */
