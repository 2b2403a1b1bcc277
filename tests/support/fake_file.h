/* fake_file.h - a disk in memory behind the file table: it loses what was not flushed at a power
 * cut, tears writes at sectors, completes in any order, fails on command, and aborts when a rule of
 * direct I/O is broken (alignment; two writes in flight to one block). Everything is drawn from the
 * seed. One thread. */
#pragma once
#include "dataplane/io/file.h"
#include <stdint.h>

struct fake_disk;
struct fake_disk *fake_disk_new(uint64_t seed);
void fake_disk_free(struct fake_disk *d);
/* Use as struct file_io.ops with .arg = the disk. */
extern const struct file_io_ops fake_file_ops;

/* Complete up to n operations in flight, picked at random. Count completed. */
uint32_t fake_disk_poll(struct fake_disk *d, uint32_t n);
uint32_t fake_disk_in_flight(const struct fake_disk *d);
/* The same for the operations of one of several users of the disk. */
uint32_t fake_disk_poll_of(struct fake_disk *d, const struct file_io *io, uint32_t n);
uint32_t fake_disk_in_flight_of(const struct fake_disk *d, const struct file_io *io);
/* Files open now, the lock and the journal included. */
uint32_t fake_disk_open_files(const struct fake_disk *d);
/* Replace (or make) a file's flushed content behind everybody's back: damage, foreign files. */
void fake_disk_put(struct fake_disk *d, const char *path, const void *p, uint64_t len);
/* Operations that change the disk, so far. */
uint64_t fake_disk_ops(const struct fake_disk *d);
/* What was asked of it so far, by whomever. */
struct fake_costs {
    uint64_t opens, reads, read_bytes, flushes, stats, lists;
};
const struct fake_costs *fake_disk_costs(const struct fake_disk *d);
/* The power goes at operation `op`: it and all later ones fail with -EIO; what is in flight then is
 * partly on disk. */
void fake_disk_die_at(struct fake_disk *d, uint64_t op);
bool fake_disk_is_dead(const struct fake_disk *d);
/* Operation number `op` (counted as above) fails once with rc, the disk lives on. */
void fake_disk_fail_at(struct fake_disk *d, uint64_t op, int rc);
/* Every write that makes a file longer fails with -ENOSPC while `full`; space() says 0 then. */
void fake_disk_set_full(struct fake_disk *d, bool full);
/* From operation `op` on the disk is full, as by fake_disk_set_full; UINT64_MAX: never. */
void fake_disk_full_at(struct fake_disk *d, uint64_t op);
/* Files opened from now on whose path has `part` in it cannot be read; NULL: all can. */
void fake_disk_unreadable(struct fake_disk *d, const char *part);
/* Reservations are not supported from now on. */
void fake_disk_refuse_reserve(struct fake_disk *d);
/* ... nor is sync_all. */
void fake_disk_refuse_sync_all(struct fake_disk *d);
/* space() says what files leave of this many bytes; writes do not mind. 0: endless. */
void fake_disk_set_size(struct fake_disk *d, uint64_t bytes);
/* The same, and a write that would pass it fails with -ENOSPC. */
void fake_disk_set_limit(struct fake_disk *d, uint64_t bytes);
/* Bytes of all files. */
uint64_t fake_disk_used(const struct fake_disk *d);
/* What was not flushed is gone, or half there; the power is back. All files must be closed. */
void fake_disk_power_cut(struct fake_disk *d);
/* Only the process died at the operation of fake_disk_die_at: what it did before stays. */
void fake_disk_revive(struct fake_disk *d);
/* Content as a reader sees it; NULL: no such file. Valid until the next change. */
const uint8_t *fake_disk_content(struct fake_disk *d, const char *path, uint64_t *ret_len);
/* Names of all files, one call each. */
void fake_disk_each(struct fake_disk *d, void (*fn)(void *arg, const char *path), void *arg);
