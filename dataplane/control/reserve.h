/* reserve.h - room that a start needs on a disk that others have filled: checkpoints, counters, the
 * metadata records of the registration.
 *
 *     <parent of a data directory>/journal/reserve   RESERVE_BYTES, allocated, nothing in them
 *
 * reserve_release gives it up where the disk is full, before anything is opened; reserve_keep makes
 * it again when there is plenty. Best effort: a file system that cannot allocate has none. Runs on:
 * the main thread, then the control thread. Blocks. */
#pragma once
#include "lib/iface/conf.h"

#define RESERVE_BYTES (16u << 20)
#define RESERVE_ROOM_BYTES                                                                         \
    (8ull * RESERVE_BYTES) /* free at least, or the disk keeps its last room */

void reserve_release(const struct conf *c);
void reserve_keep(const struct conf *c);
