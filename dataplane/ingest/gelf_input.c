/* gelf_input.c - GELF datagrams on their way to the parser: chunks are put together (gelf_chunk.h),
 * gzip and zlib are inflated as far as the listener's longest event. What cannot be inflated goes
 * on as it came; the parser makes a dead letter of it.
 *
 * Ledger: a chunk is a datagram, received when it comes; it is in reassembly while it is held, and
 * parsed or dropped with its message. */
#include "accel/inflate.h"
#include "dataplane/ingest/gelf.h"
#include "dataplane/ingest/gelf_chunk.h"
#include "dataplane/ingest/ingest_int.h"
#include "lib/base/assert.h"
#include <stdlib.h>
#include <sys/mman.h>

#define ARENA_MIN (256u * 1024)

struct gelf_input {
    struct ingest *in;
    struct gelf_chunks *chunks;
    struct inflater *inflater;
    struct timer timer; /* wakes the shard for the timeout; gelf_input_poll does the work */
    /* messages of the burst that is being gathered */
    struct dgram dg[INGEST_BURST_MAX];
    uint32_t full_len[INGEST_BURST_MAX];
    uint32_t cnt;
    uint8_t *arena; /* what they were inflated to */
    uint32_t arena_len, arena_used;
};

static void chunks_gone(void *arg, uint16_t listener, uint32_t cnt, enum dgram_drop why)
{
    struct gelf_input *gi = arg;
    struct listener_stats *ls = &gi->in->s->counters->listener[listener];
    ls->in_reassembly -= cnt;
    ls->drop[why] += cnt;
}

int gelf_input_create(struct ingest *in, uint64_t chunk_bytes, uint32_t event_bytes_max,
                      struct gelf_input **ret)
{
    struct gelf_input *gi = calloc(1, sizeof(*gi));
    if (gi == NULL)
        return -ENOMEM;
    gi->in = in;
    gi->arena_len = event_bytes_max > ARENA_MIN ? event_bytes_max : ARENA_MIN;
    int rc = gelf_chunks_create(chunk_bytes, chunks_gone, gi, &gi->chunks);
    if (rc == 0)
        rc = inflater_create(&gi->inflater);
    gi->arena = rc == 0 ? malloc(gi->arena_len) : NULL;
    if (gi->arena == NULL) {
        gelf_input_destroy(gi);
        return rc < 0 ? rc : -ENOMEM;
    }
    *ret = gi;
    return 0;
}

void gelf_input_destroy(struct gelf_input *gi)
{
    if (gi == NULL)
        return;
    if (gi->in->s->timers != NULL && timer_is_armed(&gi->timer))
        timer_cancel(gi->in->s->timers, &gi->timer);
    gelf_chunks_destroy(gi->chunks);
    inflater_destroy(gi->inflater);
    free(gi->arena);
    free(gi);
}

static void flush(struct gelf_input *gi, uint16_t listener)
{
    if (gi->cnt > 0)
        (void)ingest_burst(gi->in, listener, gi->dg, gi->full_len, gi->cnt, false);
    gi->cnt = gi->arena_used = 0;
}

/* One whole message, borrowed until the next flush. */
static void message_add(struct gelf_input *gi, uint16_t listener, const struct dgram *dg)
{
    uint32_t max = gi->in->listener[listener].parse.event_bytes_max;
    enum gelf_compression how = gelf_compression(dg->bytes);
    if (gi->cnt == INGEST_BURST_MAX || (how != GELF_PLAIN && gi->arena_len - gi->arena_used < max))
        flush(gi, listener);
    struct dgram *to = &gi->dg[gi->cnt];
    *to = *dg;
    gi->full_len[gi->cnt++] = 0;
    if (how == GELF_PLAIN)
        return;
    bool cut;
    uint8_t *at = gi->arena + gi->arena_used;
    int64_t n = inflate_prefix(gi->inflater, how == GELF_GZIP ? INFLATE_GZIP : INFLATE_ZLIB,
                               dg->bytes.p, dg->bytes.len, at, max, &cut);
    if (n < 0)
        return;
    struct listener_stats *ls = &gi->in->s->counters->listener[listener];
    ls->received_bytes += (uint64_t)dg->bytes.len - (uint64_t)n; /* the burst counts what it sees */
    gi->arena_used += (uint32_t)n;
    to->bytes = span_of(at, (uint32_t)n);
    gi->full_len[gi->cnt - 1] = cut ? FULL_LEN_UNKNOWN : 0;
}

static void linger_over(struct timer *t, uint64_t now_ns)
{
    (void)t;
    (void)now_ns; /* the timer only makes a turn happen: gelf_input_poll lets messages go */
}

static void timer_update(struct gelf_input *gi)
{
    uint64_t deadline = gelf_chunks_deadline(gi->chunks);
    if (gi->in->s->timers != NULL && deadline != UINT64_MAX && !timer_is_armed(&gi->timer))
        timer_arm(gi->in->s->timers, &gi->timer, deadline, linger_over);
}

static void chunk_take(struct gelf_input *gi, uint16_t listener, const struct dgram *dg)
{
    struct listener_stats *ls = &gi->in->s->counters->listener[listener];
    struct dgram whole = *dg;
    enum dgram_drop why;
    uint32_t cnt;
    switch (gelf_chunk_add(gi->chunks, listener, &dg->peer, dg->bytes, gi->in->s->now_ns,
                           &whole.bytes, &cnt, &why)) {
    case GELF_HELD:
        ls->received++;
        ls->received_bytes += dg->bytes.len;
        ls->in_reassembly++;
        timer_update(gi);
        return;
    case GELF_DROPPED:
        ls->received++;
        ls->received_bytes += dg->bytes.len;
        ls->drop[why]++;
        return;
    case GELF_WHOLE:
        break;
    }
    /* The burst counts one datagram of the message's length: this one. The others were received. */
    ls->in_reassembly -= cnt - 1;
    ls->parsed += cnt - 1;
    ls->received_bytes += (uint64_t)dg->bytes.len - (uint64_t)whole.bytes.len;
    message_add(gi, listener, &whole);
    flush(gi, listener); /* its memory is the reassembly's, until the next chunk */
}

void gelf_input_dgrams(struct gelf_input *gi, uint16_t listener, const struct dgram *dg, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        if (gelf_is_chunk(dg[i].bytes))
            chunk_take(gi, listener, &dg[i]);
        else
            message_add(gi, listener, &dg[i]);
    }
    flush(gi, listener);
}

uint32_t gelf_input_poll(struct gelf_input *gi)
{
    uint32_t n = gelf_chunks_expire(gi->chunks, gi->in->s->now_ns);
    timer_update(gi);
    return n;
}

void gelf_input_stop(struct gelf_input *gi)
{
    gelf_chunks_drop_all(gi->chunks, DDROP_stopping);
}
