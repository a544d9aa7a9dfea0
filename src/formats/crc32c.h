/* CRC-32C (Castagnoli; RFC 3720 appendix B.4): checksums of tensors and of TFRecord frames. */
#ifndef MIXT_FORMATS_CRC32C_H
#define MIXT_FORMATS_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Continues `crc` (0 at the start) over `length` bytes. Uses the CPU's crc32 instruction where
 * there is one. */
uint32_t mixt_crc32c(uint32_t crc, const void *data, size_t length);
/* The table form alone; tests compare the two. */
uint32_t mixt_crc32c_portable(uint32_t crc, const void *data, size_t length);

#endif
