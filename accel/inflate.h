/* inflate.h - the beginning of a gzip member or zlib stream, for messages from strangers: whatever
 * they would inflate to, no more than dst_cap bytes are made. By ISA-L.
 * An inflater serves one thread and keeps about 80 KiB; nothing is allocated in a call. */
#pragma once
#include "lib/base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum inflate_format { INFLATE_GZIP, INFLATE_ZLIB };

struct inflater;
NODISCARD int inflater_create(struct inflater **ret);
void inflater_destroy(struct inflater *z);

/* Bytes written to dst. *ret_cut: there are more than dst_cap, of which the first are in dst.
 * -E_MALFORMED: damaged, ends early, has a wrong checksum or bytes behind its end; what dst then
 * holds is undefined. Of what is cut the rest is not looked at. */
NODISCARD int64_t inflate_prefix(struct inflater *z, enum inflate_format format, const void *src,
                                 size_t src_len, void *dst, size_t dst_cap, bool *ret_cut);
