/* framing.c - see framing.h.
 *
 * A frame that lies whole inside `in` is a view of it; only one that spans calls is copied. While
 * `begun` >= 0 the current frame's first byte is in[begun] and nothing of it is in buf; after a
 * chunk ended inside a frame its bytes so far are in buf[0..have). Digits of a count are never
 * kept: without leading zeros the number gives them back. */
#include "dataplane/ingest/framing.h"
#include "lib/base/assert.h"
#include <emmintrin.h>
#include <stdio.h>

#define COUNT_DIGITS_MAX 8

void framing_init(struct framing *f, enum framing_mode mode, uint8_t *buf, uint32_t len_max)
{
    ASSERT(len_max >= 16);
    *f = (struct framing){.buf = buf, .len_max = len_max, .mode = mode, .state = FR_START};
}

uint32_t framing_find_end_scalar(const uint8_t *p, uint32_t len)
{
    uint32_t i = 0;
    while (i < len && p[i] != '\n' && p[i] != '\0')
        i++;
    return i;
}

uint32_t framing_find_end(const uint8_t *p, uint32_t len)
{
    const __m128i lf = _mm_set1_epi8('\n'), nul = _mm_setzero_si128();
    uint32_t i = 0;
    for (; len - i >= 16; i += 16) {
        __m128i v = _mm_loadu_si128((const __m128i *)(const void *)(p + i));
        __m128i hit = _mm_or_si128(_mm_cmpeq_epi8(v, lf), _mm_cmpeq_epi8(v, nul));
        uint32_t mask = (uint32_t)_mm_movemask_epi8(hit);
        if (mask != 0)
            return i + (uint32_t)__builtin_ctz(mask);
    }
    return i + framing_find_end_scalar(p + i, len - i);
}

/* Does this byte end a line? */
static inline bool is_end(const struct framing *f, uint8_t c)
{
    return (c == '\n' && f->mode != FRAMING_NUL) || (c == '\0' && f->mode != FRAMING_LF);
}

/* First byte of p[0..len) that ends a line, or len. */
static inline uint32_t find_end(const struct framing *f, const uint8_t *p, uint32_t len)
{
    if (f->mode == FRAMING_SYSLOG)
        return framing_find_end(p, len);
    const uint8_t *hit = len > 0 ? memchr(p, f->mode == FRAMING_LF ? '\n' : '\0', len) : NULL;
    return hit != NULL ? (uint32_t)(hit - p) : len;
}

/* One call of framing_feed. */
struct feed {
    struct span in;
    uint32_t pos;  /* next byte to look at */
    int64_t begun; /* where the current frame (its count included) starts in `in`, -1: before */
    uint32_t body; /* where its bytes start, if it is in `in` */
    struct frame *out;
    uint32_t cnt;
    bool lent; /* out[0] is in buf */
};

/* The current frame ends; its last `tail` bytes are at in.p[from]. */
static void emit(struct framing *f, struct feed *s, uint32_t from, uint32_t tail, uint32_t full_len)
{
    struct frame *o = &s->out[s->cnt++];
    o->full_len = full_len;
    if (s->begun >= 0) {
        o->bytes = span_of(s->in.p + from, tail);
    } else {
        DASSERT(f->have + tail <= f->len_max);
        memcpy(f->buf + f->have, s->in.p + from, tail);
        o->bytes = span_of(f->buf, f->have + tail);
        s->lent = true;
    }
    f->have = 0;
}

static void step_start(struct framing *f, struct feed *s)
{
    uint8_t c = s->in.p[s->pos];
    if (is_end(f, c)) {
        s->pos++;
        return;
    }
    s->begun = s->pos;
    s->body = s->pos;
    f->have = f->digits = f->count = 0;
    f->state = f->mode == FRAMING_SYSLOG && c >= '1' && c <= '9' ? FR_COUNT : FR_LINE;
}

/* The digits of a count that came in an earlier chunk turn out to begin a line. */
__attribute__((cold)) static void digits_restore(struct framing *f, struct feed *s)
{
    char text[16];
    int n = snprintf(text, sizeof(text), "%u", f->count);
    memcpy(f->buf, text, (size_t)n);
    f->have = (uint32_t)n;
    s->body = s->pos;
}

static void step_count(struct framing *f, struct feed *s)
{
    uint8_t c = s->in.p[s->pos];
    if (c >= '0' && c <= '9' && f->digits < COUNT_DIGITS_MAX) {
        f->count = f->count * 10 + (uint32_t)(c - '0');
        f->digits++;
        s->pos++;
        return;
    }
    if (c == ' ') {
        s->pos++;
        s->body = s->pos;
        f->state = FR_OCTETS;
        return;
    }
    f->state = FR_LINE; /* a line that starts with a number */
    if (s->begun < 0)
        digits_restore(f, s);
}

/* Bytes of the current frame in `in`, from s->body, and in buf, from before. */
static void step_octets(struct framing *f, struct feed *s)
{
    uint32_t keep = f->count < f->len_max ? f->count : f->len_max;
    uint32_t avail = s->in.len - s->body;
    if (f->have + (uint64_t)avail < keep) {
        s->pos = s->in.len;
        return;
    }
    uint32_t tail = keep - f->have;
    bool cut = f->count > keep;
    emit(f, s, s->body, tail, cut ? f->count : 0);
    s->pos = s->body + tail;
    f->count -= keep;
    f->state = cut ? FR_SKIP_OCTETS : FR_START;
}

static void step_line(struct framing *f, struct feed *s)
{
    uint32_t room = f->len_max - f->have; /* of this frame */
    uint32_t avail = s->in.len - s->body;
    uint32_t look = avail < room ? avail : room;
    uint32_t n = find_end(f, s->in.p + s->body, look);
    if (n < look) {
        emit(f, s, s->body, n, 0);
        s->pos = s->body + n + 1;
        f->state = FR_START;
        return;
    }
    if (avail <= room) { /* the delimiter, or one byte too many, is still to come */
        s->pos = s->in.len;
        return;
    }
    uint8_t next = s->in.p[s->body + room];
    bool fits = is_end(f, next);
    emit(f, s, s->body, room, fits ? 0 : UINT32_MAX);
    s->pos = s->body + room + (fits ? 1 : 0);
    f->state = fits ? FR_START : FR_SKIP_LINE;
}

static void step_skip(struct framing *f, struct feed *s)
{
    uint32_t avail = s->in.len - s->pos;
    if (f->state == FR_SKIP_OCTETS) {
        uint32_t n = f->count < avail ? f->count : avail;
        s->pos += n;
        f->count -= n;
        if (f->count == 0)
            f->state = FR_START;
        return;
    }
    uint32_t n = find_end(f, s->in.p + s->pos, avail);
    s->pos += n < avail ? n + 1 : n;
    if (n < avail)
        f->state = FR_START;
}

/* `in` is used up inside a frame: keep its bytes, unless buf is lent; then give them back. */
static void keep_unfinished(struct framing *f, struct feed *s)
{
    if (f->state != FR_COUNT && f->state != FR_OCTETS && f->state != FR_LINE)
        return;
    if (s->lent) {
        s->pos = (uint32_t)s->begun;
        f->state = FR_START;
        f->have = 0;
        return;
    }
    if (f->state == FR_COUNT)
        return;
    uint32_t n = s->in.len - s->body;
    if (n == 0) /* in.p may be NULL */
        return;
    memcpy(f->buf + f->have, s->in.p + s->body, n);
    f->have += n;
}

uint32_t framing_feed(struct framing *f, struct span in, struct frame *out, uint32_t max,
                      uint32_t *ret_cnt)
{
    struct feed s = {.in = in, .begun = -1, .out = out};
    while (s.pos < in.len && s.cnt < max) {
        switch (f->state) {
        case FR_START:
            step_start(f, &s);
            break;
        case FR_COUNT:
            step_count(f, &s);
            break;
        case FR_OCTETS:
            step_octets(f, &s);
            break;
        case FR_LINE:
            step_line(f, &s);
            break;
        case FR_SKIP_OCTETS:
        case FR_SKIP_LINE:
            step_skip(f, &s);
            break;
        }
    }
    if (s.pos == in.len)
        keep_unfinished(f, &s);
    *ret_cnt = s.cnt;
    return s.pos;
}

uint32_t framing_finish(struct framing *f, struct frame *out)
{
    uint32_t cnt = 0;
    if (f->state == FR_COUNT) {
        int n = snprintf((char *)f->buf, f->len_max, "%u", f->count);
        *out = (struct frame){span_of(f->buf, (uint32_t)n), 0};
        cnt = 1;
    } else if (f->state == FR_LINE || f->state == FR_OCTETS) {
        *out = (struct frame){span_of(f->buf, f->have), f->state == FR_LINE ? 0 : f->count};
        cnt = 1;
    }
    f->state = FR_START;
    f->have = 0;
    return cnt;
}
