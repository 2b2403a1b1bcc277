/* auto.h - sluice.compression=auto: which batches of a shard are compressed.
 *
 * Compression takes most of a core while it runs, and an event must never be dropped to make a file
 * smaller. So two things are looked at, both about the cycles that compression would take:
 *   backlog  a turn took AUTO_BACKLOG events or more: more of them wait. Nothing is compressed in
 *            such a turn or the one after it; at a step of the load this is at once.
 *   share    so many of 64 batches are compressed, evenly spread. Each AUTO_WINDOW_NS the busy part
 *            of the shard's cycles, compression's own included, moves it:
 *                busy <= 75 %   up by 2, from none to all in 160 ms
 *                     >  90 %   down by a quarter
 *                     >  98 %   down by half, from all to none in 35 ms
 *            in between it stays: that is where it settles.
 * A slow disk is no reason to stop: what is compressed is less to write.
 * Runs on: its shard. Pure: time and cycles come with the call. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#define AUTO_SHARE_ALL 64u
#define AUTO_BACKLOG 256u
#define AUTO_WINDOW_NS UINT64_C(5000000)

struct auto_share {
    uint32_t share, owed;           /* of AUTO_SHARE_ALL; owed: carried to the next batch */
    uint64_t window_ns, busy, idle; /* where the window began */
    uint64_t turn;
    uint32_t turn_events, last_events; /* of this turn, of the one before */
};

void auto_init(struct auto_share *a); /* all */
/* Events of a burst; `turn` is the number of the shard's turn. @hot */
static inline void auto_events(struct auto_share *a, uint64_t turn, uint32_t n)
{
    if (turn != a->turn) {
        a->last_events = turn == a->turn + 1 ? a->turn_events : 0;
        a->turn_events = 0;
        a->turn = turn;
    }
    a->turn_events += n;
}
/* Once a turn, with the shard's cycles since its start. */
void auto_look(struct auto_share *a, uint64_t now_ns, uint64_t busy_cycles, uint64_t idle_cycles);
/* Is this batch to be compressed? `turn` as above. */
bool auto_take(struct auto_share *a, uint64_t turn);
/* Are there cycles for all of them, and no backlog? */
bool auto_has_cycles(struct auto_share *a, uint64_t turn);
