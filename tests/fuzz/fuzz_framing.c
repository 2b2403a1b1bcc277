/* fuzz_framing.c - RFC 6587 framing: cut in one piece and in pieces, any stream gives the same
 * frames, none longer than the maximum. Byte 0 seeds the sizes of the pieces. */
#include "dataplane/ingest/framing.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
size_t fuzz_seed(unsigned i, uint8_t *buf, size_t cap);

enum { LEN_MAX = 64, BURST = 16 };

/* Position-dependent mix over all frames, their bytes and their marks. */
struct sum {
    uint64_t h, cnt;
};
static void sum_frames(struct sum *s, const struct frame *f, uint32_t cnt)
{
    for (uint32_t i = 0; i < cnt; i++) {
        if (f[i].bytes.len > LEN_MAX)
            abort();
        for (uint32_t k = 0; k < f[i].bytes.len; k++)
            s->h = (s->h ^ f[i].bytes.p[k]) * UINT64_C(0x100000001b3);
        s->h = (s->h ^ f[i].full_len ^ (uint64_t)f[i].bytes.len << 32) * UINT64_C(0x100000001b3);
        s->cnt++;
    }
}

static struct sum cut(const uint8_t *p, size_t len, uint32_t seed)
{
    uint8_t buf[LEN_MAX];
    struct framing f;
    struct frame out[BURST];
    struct sum s = {0, 0};
    framing_init(&f, FRAMING_SYSLOG, buf, LEN_MAX);
    for (size_t at = 0; at < len;) {
        seed = seed * 1664525 + 1013904223;
        size_t piece = seed == 0 ? len : 1 + (seed >> 24) % 40;
        piece = piece < len - at ? piece : len - at;
        for (uint32_t used = 0; used < piece;) {
            uint32_t cnt, n = framing_feed(&f, span_of(p + at + used, (uint32_t)piece - used), out,
                                           1 + seed % BURST, &cnt);
            sum_frames(&s, out, cnt);
            if (n == 0 && cnt == 0)
                abort(); /* no progress */
            used += n;
        }
        at += piece;
    }
    sum_frames(&s, out, framing_finish(&f, out));
    return s;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len == 0)
        return 0;
    struct sum a = cut(data + 1, len - 1, data[0]);
    struct sum b = cut(data + 1, len - 1, data[0] + UINT32_C(77777));
    if (a.h != b.h || a.cnt != b.cnt)
        abort();
    return 0;
}

size_t fuzz_seed(unsigned i, uint8_t *buf, size_t cap)
{
    static const char *const seeds[] = {
        "a<34>first line\n<34>second\n",
        "b11 <34>counted5 <34>x12 <34>1 - - -\n",
        "c5 <34>a<34>line between\n5 <34>b",
        "d100 <34>longer than the maximum",
        "e<34>a line that is longer than the maximum of sixty-four bytes, by some\n<34>x\n",
    };
    if (i >= sizeof(seeds) / sizeof(seeds[0]) || strlen(seeds[i]) > cap)
        return 0;
    memcpy(buf, seeds[i], strlen(seeds[i]));
    return strlen(seeds[i]);
}
