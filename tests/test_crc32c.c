#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "formats/crc32c.h"

/* RFC 3720 B.4, and the check value of the CRC catalogue. */
static void test_crc32c(void **unused)
{
    (void)unused;
    unsigned char data[48];
    memset(data, 0, 32);
    assert_true(mixt_crc32c(0, data, 32) == 0x8a9136aa);
    memset(data, 0xff, 32);
    assert_true(mixt_crc32c(0, data, 32) == 0x62a8ab43);
    for (int i = 0; i < 32; i++) {
        data[i] = (unsigned char)i;
    }
    assert_true(mixt_crc32c(0, data, 32) == 0x46dd794e);
    for (int i = 0; i < 32; i++) {
        data[i] = (unsigned char)(31 - i);
    }
    assert_true(mixt_crc32c(0, data, 32) == 0x113fdb5c);
    assert_true(mixt_crc32c(0, "123456789", 9) == 0xe3069283);
    assert_true(mixt_crc32c(0, data, 0) == 0);
    unsigned char bytes[1000];
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = (unsigned char)(i * i + 3);
    }
    for (size_t start = 0; start < 9; start++) {
        for (size_t length = 0; length < 70; length++) {
            uint32_t whole = mixt_crc32c(0, bytes + start, length);
            assert_true(whole == mixt_crc32c_portable(0, bytes + start, length));
            uint32_t half = mixt_crc32c(0, bytes + start, length / 2);
            assert_true(whole ==
                        mixt_crc32c(half, bytes + start + length / 2, length - length / 2));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crc32c),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
