/* SHA-256 against digests of Python's hashlib. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "core/sha256.h"

/* hashlib.sha256(bytes((i * 7 + i // 251) & 255 for i in range(n))).hexdigest() */
static const struct {
    size_t length;
    const char *digest;
} cases[] = {
    {0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
    {1, "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"},
    {3, "b361d0f9a938a2bb4fbdc9c21dc5a859788041b0040919d8a811c1888184f4df"},
    {55, "576a1bf8d4478657e6dc4af9398544765c2a92cde28478b019235cfed315fc09"},
    {56, "9b20501dfd1d99161c257950f3444f3e49230c351c5c8e0943ef369f85f5205d"},
    {57, "a5534a9d0694341dfde5b1bb3d8addcb38bd46f44a629dc97b3f8fb2721b0720"},
    {63, "30b345906b493f06f69444b6521113511c242f30e29840462950035043682f1e"},
    {64, "d8bc63b4fc1156e5e7d95a418b9bf54cd3174bedbc2db40f74895349b229b3c0"},
    {65, "1ee23b0fbcaecc1aff4a9e8f1645f35ab2c8e13609cd73b68df8b5e3f63ce073"},
    {111, "d80a22461ae74d8e6944001e255f9e47eca17702b1dc987238d78e6e1ea3e342"},
    {112, "a4ecd1e6c38e9d976d0cef32d899be35eb83c98d46b4dbfd68a1560f83b786a2"},
    {119, "7a6589821178918ca8d9edaba5abfc1e9b2669564f4469b66885379c1530b2c8"},
    {120, "655250427d56b1b0eeb8497d21428704273458a01772d6881b65c0abac0f8a98"},
    {127, "67d79933e3c9aa8e89f481e071cfca1e9a16c09d7263b5efa3bb01f1a9f8d065"},
    {128, "54c9eb041badfd7064645067b107661fed6113197ce2dd066ba69618abd3732f"},
    {129, "5b55715b51c54661ed0cbd75ba5b00cf1ffee3b7c113a636eca613d9425116a6"},
    {1000, "1d9d471927b6f0cbc77aed8969dfc6ef43ff35fdcdd8aa0032630c0063ff95a5"},
    {4096, "f9e18c560be5697b5376f69c47a1e30923a7ae047c9a6f747fcba904c0657628"},
    {100003, "d21eb61b232e80a6d41416907c7241c95a5e983f6e1dc8d18b6420a7b7d6cda7"},
};

static void check(size_t length, const char *digest, size_t step)
{
    unsigned char *data = malloc(length + 1);
    for (size_t i = 0; i < length; i++) {
        data[i] = (unsigned char)(i * 7 + i / 251);
    }
    mixt_sha256 hash;
    char text[MIXT_SHA256_HEX];
    mixt_sha256_init(&hash);
    for (size_t at = 0; at < length; at += step) {
        mixt_sha256_update(&hash, data + at, length - at < step ? length - at : step);
    }
    mixt_sha256_final_hex(&hash, text);
    free(data);
    assert_string_equal(text, digest);
}

static void test_digests(void **state)
{
    (void)state;
    for (int portable = 0; portable < 2; portable++) {
        mixt_sha256_force_portable(portable);
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            static const size_t steps[] = {1, 7, 63, 64, 65, 200, 1u << 20};
            for (size_t j = 0; j < sizeof steps / sizeof *steps; j++) {
                check(cases[i].length, cases[i].digest, steps[j]);
            }
        }
    }
    mixt_sha256_force_portable(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_digests)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
