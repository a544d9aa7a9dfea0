/* SHA-256 (FIPS 180-4) of streams: hashes of vocabularies, corpora, checkpoints. */
#ifndef MIXT_CORE_SHA256_H
#define MIXT_CORE_SHA256_H

#include <stddef.h>
#include <stdint.h>

#define MIXT_SHA256_BYTES 32
#define MIXT_SHA256_HEX 65 /* 64 hexadecimal digits and a NUL */

typedef struct mixt_sha256 {
    uint32_t state[8];
    uint64_t length; /* bytes so far */
    unsigned char block[64];
} mixt_sha256;

void mixt_sha256_init(mixt_sha256 *hash);
void mixt_sha256_update(mixt_sha256 *hash, const void *data, size_t length);
/* `hash` must be initialised again before it can be used once more. */
void mixt_sha256_final(mixt_sha256 *hash, unsigned char digest[MIXT_SHA256_BYTES]);
/* Same, as lower-case hexadecimal digits. */
void mixt_sha256_final_hex(mixt_sha256 *hash, char text[MIXT_SHA256_HEX]);
/* Numbers in little-endian order, so that a hash of them is the same on every machine. */
void mixt_sha256_update_u64(mixt_sha256 *hash, uint64_t value);

/* The compression function of the CPU's SHA extensions, and the portable one; tests compare. */
void mixt_sha256_force_portable(int portable);

#endif
