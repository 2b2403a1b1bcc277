/* crc32c_isal.c - CRC-32C by ISA-L. Its crc32_iscsi neither inverts the initial value nor the
 * result; we do both, which is what makes results feed back as `crc`. */
#include "accel/crc32c.h"
#include <isa-l/crc.h>

uint32_t crc32c_isal(uint32_t crc, const void *p, size_t len)
{
    const size_t piece_max = UINT32_C(1) << 30;        /* its length is an int */
    unsigned char *at = (unsigned char *)(uintptr_t)p; /* only read; its prototype lacks const */
    crc = ~crc;
    while (len > piece_max) {
        crc = crc32_iscsi(at, (int)piece_max, crc);
        at += piece_max;
        len -= piece_max;
    }
    return ~crc32_iscsi(at, (int)len, crc);
}
