/* crc32c.h - CRC-32C (Castagnoli, reflected 0x82F63B78), Kafka's batch checksum.
 * The implementation is chosen once by accel_init (ISA-L, else the scalar twin). Pure functions,
 * any thread, no state. Value convention: crc32c(0, "123456789") == 0xE3069283; feeding the result
 * of one call as `crc` of the next continues it. */
#pragma once
#include <stddef.h>
#include <stdint.h>

uint32_t crc32c(uint32_t crc, const void *p, size_t len);
/* CRC of A||B from crc(A), crc(B) and len(B). */
uint32_t crc32c_combine(uint32_t crc_a, uint32_t crc_b, uint64_t len_b);
/* Which one bit of `len` bytes is wrong, when their checksum is `is` and should be `want`: its
 * number, 8 x byte + bit (0: the lowest), or -1: no single bit explains it. Below 256 MiB at most
 * one does. */
int64_t crc32c_wrong_bit(uint32_t is, uint32_t want, uint64_t len);

/* The twins, for tests and benchmarks. */
uint32_t crc32c_soft(uint32_t crc, const void *p, size_t len);
uint32_t crc32c_isal(uint32_t crc, const void *p, size_t len);
