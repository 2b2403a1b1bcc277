/* inflate.c - see inflate.h. Streaming inflate, because the one-shot form leaves what it had made
 * undefined when dst is too small. One byte more than dst holds tells "cut" from "just fits". */
#include "accel/inflate.h"
#include <isa-l/igzip_lib.h>
#include <stdlib.h>

struct inflater {
    struct inflate_state state;
};

int inflater_create(struct inflater **ret)
{
    struct inflater *z = calloc(1, sizeof(*z));
    if (z == NULL)
        return -ENOMEM;
    *ret = z;
    return 0;
}

void inflater_destroy(struct inflater *z)
{
    free(z);
}

int64_t inflate_prefix(struct inflater *z, enum inflate_format format, const void *src,
                       size_t src_len, void *dst, size_t dst_cap, bool *ret_cut)
{
    struct inflate_state *s = &z->state;
    uint8_t more;
    if (src_len > INT32_MAX || dst_cap > INT32_MAX)
        return -E_MALFORMED;
    isal_inflate_init(s);
    s->crc_flag = format == INFLATE_GZIP ? ISAL_GZIP : ISAL_ZLIB;
    s->next_in = (uint8_t *)(uintptr_t)src; /* only read; its type lacks const */
    s->avail_in = (uint32_t)src_len;
    s->next_out = dst;
    s->avail_out = (uint32_t)dst_cap;
    *ret_cut = false;
    if (isal_inflate(s) != ISAL_DECOMP_OK)
        return -E_MALFORMED;
    size_t len = dst_cap - s->avail_out;
    if (s->block_state != ISAL_BLOCK_FINISH && s->avail_out == 0) {
        s->next_out = &more;
        s->avail_out = 1;
        if (isal_inflate(s) != ISAL_DECOMP_OK)
            return -E_MALFORMED;
        *ret_cut = s->avail_out == 0;
        if (*ret_cut)
            return (int64_t)len;
    }
    /* bytes behind the end are still in avail_in, or were read ahead */
    bool all_used = s->avail_in == 0 && s->read_in_length < 8;
    return s->block_state == ISAL_BLOCK_FINISH && all_used ? (int64_t)len : -E_MALFORMED;
}
