/* crc32c.c - the front door, and arithmetic on checksums.
 *
 * A CRC is a polynomial over GF(2) modulo P. Appending len bytes multiplies it by x^(8 len), so
 * crc(A||B) = crc(A) * x^(8 len(B)) + crc(B); the pre- and post-inversions of the two cancel. */
#include "accel/crc32c.h"
#include "accel/accel_int.h"

#define POLY UINT32_C(0x82F63B78) /* reflected: bit 31 is x^0 */

uint32_t crc32c(uint32_t crc, const void *p, size_t len)
{
    return crc32c_impl(crc, p, len);
}

/* a * b mod P. */
static uint32_t mul_mod(uint32_t a, uint32_t b)
{
    uint32_t product = 0;
    for (uint32_t m = UINT32_C(1) << 31; m != 0; m >>= 1) {
        if (a & m)
            product ^= b;
        b = b & 1 ? b >> 1 ^ POLY : b >> 1; /* b * x */
    }
    return product;
}

uint32_t crc32c_combine(uint32_t crc_a, uint32_t crc_b, uint64_t len_b)
{
    uint32_t shift = UINT32_C(1) << 31;  /* x^0 */
    uint32_t square = UINT32_C(1) << 23; /* x^8: one byte */
    for (; len_b != 0; len_b >>= 1) {
        if (len_b & 1)
            shift = mul_mod(shift, square);
        square = mul_mod(square, square);
    }
    return mul_mod(shift, crc_a) ^ crc_b;
}

/* The difference of two checksums is the register that the wrong bit alone leaves behind. Taking
 * back one zero byte after the other leads to a register that holds but that bit: there it is. */
int64_t crc32c_wrong_bit(uint32_t is, uint32_t want, uint64_t len)
{
    uint32_t reg = is ^ want;
    for (uint64_t byte = len; reg != 0 && byte-- > 0;) {
        for (int i = 0; i < 8; i++) /* of a shift to the right only POLY sets the highest bit */
            reg = reg >> 31 ? (reg ^ POLY) << 1 | 1 : reg << 1;
        if (reg < 256 && (reg & (reg - 1)) == 0)
            return (int64_t)(byte * 8) + __builtin_ctz(reg);
    }
    return -1;
}
