/* uring.h - one io_uring per shard: prepare, submit once per turn, dispatch completions.
 *
 * Runs on: the owning shard only. Blocks: only uring_wait. Ring flags: SINGLE_ISSUER |
 * DEFER_TASKRUN | TASKRUN_FLAG where the kernel has them; the kernel is entered only when there is
 * something to submit or TASKRUN is flagged.
 * Lifetime: an op must stay valid until its done() ran with more == false. done() always runs on a
 * later uring_reap, never inside the prepare call. */
#pragma once
#include "lib/base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

struct uring;
struct uring_op;
/* res: >= 0 or -errno. more: a multishot op that will complete again. buf_id: the provided buffer
 * of this completion, or -1. */
typedef void uring_done_fn(struct uring_op *op, int res, int buf_id, bool more);
struct uring_op {
    uring_done_fn *done;
};

/* `entries`: submission slots (power of two); four completions fit per slot, more wait in the
 * kernel. Any thread may create; the thread that first submits or waits owns the ring from then on.
 * -ENOSYS, -EPERM or -ENOMEM as the kernel says. */
NODISCARD int uring_create(uint32_t entries, struct uring **ret);
/* Cancel everything in flight and dispatch completions until none is left or timeout_ns has passed;
 * returns how many are still in flight. Before the memory that operations point to goes away. */
uint32_t uring_quiesce(struct uring *u, uint64_t timeout_ns);
/* Nothing may be in flight (uring_quiesce). Accepts NULL. */
void uring_destroy(struct uring *u);

/* Prepare one operation. All return void: a full submission queue is submitted and reused. Buffers,
 * sockaddrs and msghdrs are borrowed until done(). An error of any kind is done's res. */
void uring_read(struct uring *u, struct uring_op *op, int fd, void *buf, uint32_t len,
                uint64_t pos);
void uring_write(struct uring *u, struct uring_op *op, int fd, const void *buf, uint32_t len,
                 uint64_t pos);
void uring_fdatasync(struct uring *u, struct uring_op *op, int fd);
void uring_fallocate(struct uring *u, struct uring_op *op, int fd, uint64_t pos, uint64_t len);
void uring_accept_multishot(struct uring *u, struct uring_op *op, int fd);
void uring_connect(struct uring *u, struct uring_op *op, int fd, const struct sockaddr *sa,
                   socklen_t len);
void uring_recv_multishot(struct uring *u, struct uring_op *op, int fd, uint16_t buf_group);
void uring_recvmsg_multishot(struct uring *u, struct uring_op *op, int fd, struct msghdr *mh,
                             uint16_t buf_group);
void uring_sendmsg(struct uring *u, struct uring_op *op, int fd, const struct msghdr *mh,
                   int flags);
void uring_shutdown(struct uring *u, struct uring_op *op, int fd, int how);
void uring_close(struct uring *u, struct uring_op *op, int fd);
void uring_poll_multishot(struct uring *u, struct uring_op *op, int fd, uint32_t events);
/* Cancel everything submitted with `target`; target's done still runs (with -ECANCELED, or with its
 * result when it was quicker). op may be NULL; else its res is 0, or -ENOENT: nothing to cancel. */
void uring_cancel(struct uring *u, struct uring_op *op, struct uring_op *target);

/* Provided buffers: `cnt` (power of two, at most 32768) buffers of `size` bytes under a group id.
 * -EEXIST: the group is in use. A buffer belongs to the caller from the completion that names it
 * until uring_bufs_give_back. With none left, a multishot receive ends with -ENOBUFS. Destroy after
 * the operations that use the group have ended; before uring_destroy. */
struct uring_bufs;
NODISCARD int uring_bufs_create(struct uring *u, uint16_t group, uint32_t cnt, uint32_t size,
                                struct uring_bufs **ret);
void *uring_bufs_ptr(struct uring_bufs *b, int buf_id);
void uring_bufs_give_back(struct uring_bufs *b, int buf_id);
void uring_bufs_destroy(struct uring_bufs *b);

/* Stage functions' bodies: dispatch at most `budget` completions, count them; submit what is
 * prepared, count it. Neither enters the kernel when there is nothing to do. */
uint32_t uring_reap(struct uring *u, uint32_t budget);
uint32_t uring_submit(struct uring *u);
/* Submit and sleep until a completion arrives or timeout_ns passes (adaptive idle only). */
void uring_wait(struct uring *u, uint64_t timeout_ns);
/* Operations submitted and not yet finished. */
uint32_t uring_in_flight(const struct uring *u);
