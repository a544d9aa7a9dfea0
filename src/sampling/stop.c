/* Stop strings over a text that comes in pieces. */
#include <stdlib.h>

#include "core/error.h"
#include "sampling/matcher.h"

struct mixt_stop {
    mixt_matcher *matcher;
    uint32_t state;
    size_t fed;  /* bytes */
    size_t show; /* where the string that was met begins */
    int met;     /* its index, or -1 */
};

mixt_status mixt_stop_create(const char *const *strings, size_t count, mixt_stop **stop,
                             mixt_error *error)
{
    *stop = NULL;
    mixt_stop *made = calloc(1, sizeof *made);
    if (made == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "stop strings: no memory");
    }
    made->met = -1;
    mixt_status status = mixt_matcher_create(strings, count, "stop string", &made->matcher, error);
    if (status != MIXT_OK) {
        free(made);
        return status;
    }
    *stop = made;
    return MIXT_OK;
}

void mixt_stop_free(mixt_stop *stop)
{
    if (stop != NULL) {
        mixt_matcher_free(stop->matcher);
        free(stop);
    }
}

size_t mixt_stop_feed(mixt_stop *stop, const char *bytes, size_t length)
{
    for (size_t i = 0; i < length && stop->met < 0; i++) {
        size_t found = 0;
        stop->state = mixt_matcher_step(stop->matcher, stop->state, (unsigned char)bytes[i]);
        stop->fed++;
        stop->met = mixt_matcher_found(stop->matcher, stop->state, &found);
        stop->show = stop->fed - found;
    }
    return stop->met >= 0 ? stop->show : stop->fed - mixt_matcher_depth(stop->matcher, stop->state);
}

int mixt_stop_met(const mixt_stop *stop)
{
    return stop->met;
}

void mixt_stop_reset(mixt_stop *stop)
{
    stop->state = 0;
    stop->fed = 0;
    stop->show = 0;
    stop->met = -1;
}
