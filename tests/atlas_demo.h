/* A trace that looks like a real one: six domains with their own words, four layers of which the
 * first does not keep experts, and mathematics apart. Also hostile tokens and names. */
#ifndef TESTS_ATLAS_DEMO_H
#define TESTS_ATLAS_DEMO_H

#include "atlas/trace.h"

mixt_trace *atlas_demo_make(int layers, int experts, int experts_per_token);
/* Takes experts away: all but the first choice at every third layer, and of the rest 15 %. */
void atlas_demo_drop(mixt_trace *trace);

#endif
