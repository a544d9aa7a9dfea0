/* Expert choice (Zhou et al. 2022, arXiv 2202.09368): in training every expert takes the tokens
 * that score highest for it, capacity k n / E of n of them (rounded down), so that all are equally
 * busy and a token has as many experts as want it, or none. The tokens are those of the batch or of
 * each document (choice_scope); experts of a document of fewer than E / (capacity k) tokens take
 * none of it.
 *
 * Which token an expert takes depends on all others, so text that is read for its own sake (scores,
 * traces, generation) has each token's k best experts by the same scores. */
#include "router/method.h"

/* the scores by expert, and as many to sort */
int64_t mixt_expert_choice_workspace(const mixt_router_spec *spec, bool training, int64_t capacity)
{
    return training ? 2 * capacity * spec->experts : 0;
}

mixt_status mixt_expert_choice_check(const mixt_router_spec *spec, mixt_error *error)
{
    MIXT_TRY(mixt_plain_check(spec, error));
    if (spec->options.score == MIXT_SCORE_TOP_K_SOFTMAX) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "router: experts choose tokens by scores, so score top-k-softmax, which "
                         "are those of the chosen alone, is not for select expert-choice");
    }
    return mixt_best_check(spec, error);
}
