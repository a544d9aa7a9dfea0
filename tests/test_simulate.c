/* What a pool would have done: stacks against pools of each size, pools against one that looks
 * through the whole past, the optimum against every choice there is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/random.h"
#include "store/simulate.h"

static uint64_t draw(uint64_t *state, uint64_t bound)
{
    mixt_random_key key = {.seed = 2929, .purpose = MIXT_RANDOM_DATA};
    return mixt_random_below(&key, (*state)++, bound);
}

enum { LAYERS = 4, EXPERTS = 9, ITEMS = LAYERS * EXPERTS, CHOSEN = 3, MOST = 20000 };
static const int32_t first[] = {0, 9, 18, 27, 36};
static const int chosen[] = {CHOSEN, CHOSEN, CHOSEN, CHOSEN};
static const int class_of[] = {0, 1, 1, 0};
static const uint64_t profile[ITEMS] = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2};

/* Steps of one row, and now and then a prompt of many, that like some experts, others later. */
static uint64_t make_requests(mixt_request *requests, int steps, uint64_t seed)
{
    uint64_t count = 0, state = seed << 32;
    for (int step = 0; step < steps; step++) {
        int rows = draw(&state, 30) == 0 ? 1 + (int)draw(&state, 12) : 1;
        bool begins = true;
        for (int layer = 0; layer < LAYERS; layer++) {
            int uses[EXPERTS] = {0};
            for (int row = 0; row < rows; row++) {
                for (int k = 0; k < CHOSEN; k++) {
                    uint64_t liked = (uint64_t)(step / 40 + layer) % EXPERTS;
                    uint64_t e = draw(&state, 3) > 0 ? (liked + draw(&state, 4)) % EXPERTS
                                                     : draw(&state, EXPERTS);
                    uses[e]++;
                }
            }
            for (int e = 0; e < EXPERTS; e++) {
                if (uses[e] > 0) {
                    requests[count++] = (mixt_request){first[layer] + e, uses[e], begins};
                    begins = false;
                }
            }
        }
    }
    return count;
}

static mixt_simulated simulated(mixt_request *requests, int steps, uint64_t seed, bool classes)
{
    return (mixt_simulated){.shape = {LAYERS, first, profile, chosen},
                            .classes = classes ? 2 : 1,
                            .class_of = classes ? class_of : NULL,
                            .requests = requests,
                            .count = make_requests(requests, steps, seed)};
}

/* ------------------------------------------------------------------------------------------ */
/* Stacks and pools                                                                           */

static int items_of(const mixt_simulated *s)
{
    return s->classes == 1 ? ITEMS : ITEMS / 2;
}

static void check_sizes(const mixt_simulated *s, const char *policy)
{
    uint32_t *depth = calloc(s->count, sizeof *depth);
    uint8_t *hit = calloc(s->count, sizeof *hit);
    assert_int_equal(mixt_simulate_depths(s, policy, depth, NULL), MIXT_OK);
    for (int size = s->singly ? 1 : EXPERTS; size <= items_of(s); size++) {
        int64_t slots[2] = {size, size};
        assert_int_equal(mixt_simulate_pool(s, policy, slots, hit, NULL), MIXT_OK);
        for (uint64_t i = 0; i < s->count; i++) {
            assert_int_equal(hit[i], depth[i] > 0 && depth[i] <= (uint32_t)size);
        }
    }
    free(depth);
    free(hit);
}

static void test_sizes(void **unused)
{
    (void)unused;
    mixt_request *requests = calloc(MOST, sizeof *requests);
    for (int classes = 0; classes < 2; classes++) {
        mixt_simulated s = simulated(requests, 400, 1 + (uint64_t)classes, classes == 1);
        const char *name;
        for (int i = 0; (name = mixt_store_policy(i, NULL)) != NULL; i++) {
            check_sizes(&s, name);
        }
        check_sizes(&s, MIXT_POLICY_OPTIMUM);
        s.singly = true;
        check_sizes(&s, "lru");
        check_sizes(&s, "lfu");
        check_sizes(&s, MIXT_POLICY_OPTIMUM);
    }
    free(requests);
}

/* Hits of a pool for all layers by its definition: every request looks back. */
static uint64_t naive_hits(const mixt_simulated *s, int slots, bool frequent, uint8_t *hit)
{
    bool held[ITEMS] = {false};
    int count = 0;
    uint64_t hits = 0;
    for (uint64_t begin = 0, end; begin < s->count; begin = end) {
        int layer = s->requests[begin].item / EXPERTS;
        for (end = begin + 1;
             end < s->count && !s->requests[end].begins && s->requests[end].item / EXPERTS == layer;
             end++) {
        }
        bool wanted[ITEMS] = {false};
        for (uint64_t i = begin; i < end; i++) {
            wanted[s->requests[i].item] = true;
            hit[i] = held[s->requests[i].item];
            hits += hit[i];
        }
        for (uint64_t i = begin; i < end; i++) {
            if (held[s->requests[i].item]) {
                continue;
            }
            int victim = -1;
            uint64_t worst_uses = 0, worst_last = 0;
            for (int item = 0; item < ITEMS && count == slots; item++) {
                uint64_t uses = 0, last = 0;
                for (uint64_t j = 0; j < end; j++) {
                    uses += s->requests[j].item == item ? (uint64_t)s->requests[j].rows : 0;
                    last = s->requests[j].item == item ? j + 1 : last;
                }
                uses = frequent ? uses : 0;
                if (held[item] && !wanted[item] &&
                    (victim < 0 || uses < worst_uses ||
                     (uses == worst_uses && last < worst_last))) {
                    victim = item;
                    worst_uses = uses;
                    worst_last = last;
                }
            }
            if (victim >= 0) {
                held[victim] = false;
            }
            count += victim < 0;
            held[s->requests[i].item] = true;
        }
    }
    return hits;
}

static void test_naive(void **unused)
{
    (void)unused;
    mixt_request *requests = calloc(MOST, sizeof *requests);
    mixt_simulated s = simulated(requests, 60, 3, false);
    uint8_t *hit = calloc(s.count, 1), *other = calloc(s.count, 1);
    for (int64_t slots = EXPERTS; slots < ITEMS; slots += 7) {
        for (int frequent = 0; frequent < 2; frequent++) {
            assert_int_equal(
                mixt_simulate_pool(&s, frequent == 1 ? "lfu" : "lru", &slots, hit, NULL), MIXT_OK);
            assert_true(naive_hits(&s, (int)slots, frequent == 1, other) > 0);
            assert_memory_equal(hit, other, s.count);
        }
    }
    free(requests);
    free(hit);
    free(other);
}

/* ------------------------------------------------------------------------------------------ */
/* The optimum                                                                                */

/* Most hits from request `at` on, whatever is given up. */
static int most_hits(const mixt_simulated *s, uint64_t at, unsigned held, int slots, unsigned batch)
{
    if (at == s->count) {
        return 0;
    }
    int best = -1, layer = s->requests[at].item / EXPERTS;
    int hits = 0;
    if (batch == 0) { /* a new batch begins */
        for (uint64_t i = at; i < s->count && s->requests[i].item / EXPERTS == layer &&
                              (i == at || !s->requests[i].begins);
             i++) {
            batch |= 1u << s->requests[i].item;
            hits += (held >> s->requests[i].item & 1) != 0;
        }
    }
    bool last = at + 1 == s->count || s->requests[at + 1].begins ||
                s->requests[at + 1].item / EXPERTS != layer;
    unsigned item = 1u << s->requests[at].item;
    if ((held & item) != 0 || __builtin_popcount(held) < slots) {
        return hits + most_hits(s, at + 1, held | item, slots, last ? 0 : batch);
    }
    for (unsigned victim = 1; victim < 1u << (2 * EXPERTS); victim <<= 1) {
        if ((held & victim) != 0 && (batch & victim) == 0) {
            int rest = most_hits(s, at + 1, (held & ~victim) | item, slots, last ? 0 : batch);
            best = rest > best ? rest : best;
        }
    }
    return hits + best;
}

static void test_optimum(void **unused)
{
    (void)unused;
    uint64_t state = 77;
    for (int turn = 0; turn < 60; turn++) {
        mixt_request requests[60];
        uint64_t count = 0;
        for (int step = 0; step < 5; step++) {
            for (int layer = 0; layer < 2; layer++) {
                int a = (int)draw(&state, 3), b = (int)draw(&state, 3);
                requests[count++] =
                    (mixt_request){layer * EXPERTS + (a < b ? a : b), 1, layer == 0};
                if (a != b) {
                    requests[count++] = (mixt_request){layer * EXPERTS + (a < b ? b : a), 1, false};
                }
            }
        }
        mixt_simulated s = {
            .shape = {2, first, NULL, NULL}, .classes = 1, .requests = requests, .count = count};
        uint8_t hit[60];
        for (int64_t slots = 2; slots <= 5; slots++) {
            assert_int_equal(mixt_simulate_pool(&s, MIXT_POLICY_OPTIMUM, &slots, hit, NULL),
                             MIXT_OK);
            int hits = 0;
            for (uint64_t i = 0; i < count; i++) {
                hits += hit[i];
            }
            assert_int_equal(hits, most_hits(&s, 0, 0, (int)slots, 0));
        }
    }
}

/* A prompt that wants every expert once does not drive out what decoding goes on with. */
static void test_prompt(void **unused)
{
    (void)unused;
    enum { TOKENS = 60, SLOTS = 20 };
    mixt_request *requests = calloc(MOST, sizeof *requests);
    uint64_t count = 0;
    for (int step = 0; step < TOKENS; step++) {
        bool prompt = step == TOKENS - 1;
        for (int layer = 0; layer < LAYERS; layer++) {
            for (int e = 0; e < EXPERTS; e++) {
                bool liked = e < CHOSEN;
                if (liked || prompt) {
                    requests[count++] = (mixt_request){
                        first[layer] + e, prompt ? (liked ? 200 : 20) : 1, layer == 0 && e == 0};
                }
            }
        }
    }
    uint64_t before = count;
    for (int layer = 0; layer < LAYERS; layer++) {
        for (int e = 0; e < CHOSEN; e++) {
            requests[count++] = (mixt_request){first[layer] + e, 1, layer == 0 && e == 0};
        }
    }
    mixt_simulated s = {
        .shape = {LAYERS, first, NULL, chosen}, .classes = 1, .requests = requests, .count = count};
    uint8_t *hit = calloc(count, 1);
    int64_t slots = SLOTS;
    for (int policy = 0; policy < 2; policy++) {
        assert_int_equal(mixt_simulate_pool(&s, policy == 0 ? "fading" : "lru", &slots, hit, NULL),
                         MIXT_OK);
        int hits = 0;
        for (uint64_t i = before; i < count; i++) {
            hits += hit[i];
        }
        assert_true(policy == 0 ? hits == LAYERS * CHOSEN : hits < LAYERS * CHOSEN);
    }
    free(requests);
    free(hit);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_naive),
        cmocka_unit_test(test_optimum),
        cmocka_unit_test(test_prompt),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
