/* uring.c - one io_uring per shard, on liburing 2.3.
 *
 * The ring is created disabled and enabled by the first thread that enters it: with SINGLE_ISSUER
 * the kernel ties a ring to the thread that enables it, and shards are built by the main thread.
 *
 * With DEFER_TASKRUN completions are posted only while the owner is in the kernel; TASKRUN_FLAG
 * makes the kernel say in shared memory that there is something to post. So polling costs two loads
 * (the completion tail and the flags), and the kernel is entered only when SQEs are pending or the
 * flag is up. DEFER_TASKRUN without TASKRUN_FLAG never completes for a loop that only peeks. */
#include "dataplane/io/uring.h"
#include "lib/base/assert.h"
#include "lib/base/clock.h"
#include <liburing.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define CQ_PER_SQ 4u
#define RETRIES_MAX 64u

struct uring {
    struct io_uring ring;
    uint32_t in_flight;
    bool enabled;
};

struct uring_bufs {
    struct uring *u;
    struct io_uring_buf_ring *ring;
    size_t ring_bytes, data_bytes;
    uint8_t *data;
    uint32_t cnt, size;
    uint16_t group;
};

/* Best first; an older kernel answers -EINVAL for flags that it does not know. */
static const unsigned modes[] = {
    IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG |
        IORING_SETUP_SUBMIT_ALL,
    IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL,
    0,
};

int uring_create(uint32_t entries, struct uring **ret)
{
    struct uring *u = calloc(1, sizeof(*u));
    if (u == NULL)
        return -ENOMEM;
    int rc = -ENOSYS;
    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
        struct io_uring_params p = {
            .flags = modes[i] | IORING_SETUP_CQSIZE | IORING_SETUP_R_DISABLED,
            .cq_entries = entries * CQ_PER_SQ,
        };
        rc = io_uring_queue_init_params(entries, &u->ring, &p);
        if (rc != -EINVAL)
            break;
    }
    if (rc < 0) {
        free(u);
        return rc;
    }
    *ret = u;
    return 0;
}

void uring_destroy(struct uring *u)
{
    if (u == NULL)
        return;
    io_uring_queue_exit(&u->ring);
    free(u);
}

uint32_t uring_in_flight(const struct uring *u)
{
    return u->in_flight;
}

static void enable(struct uring *u)
{
    if (likely(u->enabled))
        return;
    /* liburing 2.3 declares io_uring_enable_rings but does not export it. */
    long rc =
        syscall(__NR_io_uring_register, u->ring.ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
    ASSERT(rc == 0);
    u->enabled = true;
}

/* ------------------------------------------------------------------------------------ submitting
 */

/* Hand everything prepared to the kernel. Only a kernel short of memory (-EAGAIN) leaves something
 * behind; the caller may try again, on this turn or the next. */
static void submit(struct uring *u)
{
    enable(u);
    (void)io_uring_submit(&u->ring); /* errors of single operations arrive as completions */
}

static struct io_uring_sqe *get_sqe(struct uring *u)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);
    while (unlikely(sqe == NULL)) {
        submit(u);
        sqe = io_uring_get_sqe(&u->ring);
        if (sqe == NULL)
            sched_yield(); /* the kernel is out of memory for requests: it must get some back */
    }
    u->in_flight++;
    return sqe;
}

/* `call` fills `sqe`. */
#define PREP(u, op, call)                                                                          \
    do {                                                                                           \
        struct io_uring_sqe *sqe = get_sqe(u);                                                     \
        call;                                                                                      \
        io_uring_sqe_set_data(sqe, (op));                                                          \
    } while (0)

void uring_read(struct uring *u, struct uring_op *op, int fd, void *buf, uint32_t len, uint64_t pos)
{
    PREP(u, op, io_uring_prep_read(sqe, fd, buf, len, pos));
}

void uring_write(struct uring *u, struct uring_op *op, int fd, const void *buf, uint32_t len,
                 uint64_t pos)
{
    PREP(u, op, io_uring_prep_write(sqe, fd, buf, len, pos));
}

void uring_fdatasync(struct uring *u, struct uring_op *op, int fd)
{
    PREP(u, op, io_uring_prep_fsync(sqe, fd, IORING_FSYNC_DATASYNC));
}

void uring_fallocate(struct uring *u, struct uring_op *op, int fd, uint64_t pos, uint64_t len)
{
    PREP(u, op, io_uring_prep_fallocate(sqe, fd, 0, (off_t)pos, (off_t)len));
}

void uring_accept_multishot(struct uring *u, struct uring_op *op, int fd)
{
    PREP(u, op, io_uring_prep_multishot_accept(sqe, fd, NULL, NULL, SOCK_CLOEXEC));
}

void uring_connect(struct uring *u, struct uring_op *op, int fd, const struct sockaddr *sa,
                   socklen_t len)
{
    PREP(u, op, io_uring_prep_connect(sqe, fd, sa, len));
}

void uring_recv_multishot(struct uring *u, struct uring_op *op, int fd, uint16_t buf_group)
{
    PREP(u, op, {
        io_uring_prep_recv_multishot(sqe, fd, NULL, 0, 0);
        sqe->flags |= IOSQE_BUFFER_SELECT;
        sqe->buf_group = buf_group;
    });
}

void uring_recvmsg_multishot(struct uring *u, struct uring_op *op, int fd, struct msghdr *mh,
                             uint16_t buf_group)
{
    PREP(u, op, {
        io_uring_prep_recvmsg_multishot(sqe, fd, mh, 0);
        sqe->flags |= IOSQE_BUFFER_SELECT;
        sqe->buf_group = buf_group;
    });
}

void uring_sendmsg(struct uring *u, struct uring_op *op, int fd, const struct msghdr *mh, int flags)
{
    PREP(u, op, io_uring_prep_sendmsg(sqe, fd, mh, (unsigned)flags));
}

void uring_shutdown(struct uring *u, struct uring_op *op, int fd, int how)
{
    PREP(u, op, io_uring_prep_shutdown(sqe, fd, how));
}

void uring_close(struct uring *u, struct uring_op *op, int fd)
{
    PREP(u, op, io_uring_prep_close(sqe, fd));
}

void uring_poll_multishot(struct uring *u, struct uring_op *op, int fd, uint32_t events)
{
    PREP(u, op, io_uring_prep_poll_multishot(sqe, fd, events));
}

void uring_cancel(struct uring *u, struct uring_op *op, struct uring_op *target)
{
    PREP(u, op, io_uring_prep_cancel(sqe, target, IORING_ASYNC_CANCEL_ALL));
}

uint32_t uring_submit(struct uring *u)
{
    uint32_t n = io_uring_sq_ready(&u->ring);
    if (n > 0)
        submit(u);
    return n;
}

/* --------------------------------------------------------------------------------------- reaping
 */

/* The kernel has completions that it can post only while we are inside. */
static bool must_enter(const struct uring *u)
{
    return (IO_URING_READ_ONCE(*u->ring.sq.kflags) & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) !=
           0;
}

static void dispatch(struct uring *u, const struct io_uring_cqe *cqe)
{
    struct uring_op *op = (struct uring_op *)(uintptr_t)cqe->user_data;
    bool more = (cqe->flags & IORING_CQE_F_MORE) != 0;
    int buf_id =
        cqe->flags & IORING_CQE_F_BUFFER ? (int)(cqe->flags >> IORING_CQE_BUFFER_SHIFT) : -1;
    if (!more) {
        ASSERT(u->in_flight > 0);
        u->in_flight--;
    }
    if (op != NULL)
        op->done(op, cqe->res, buf_id, more);
}

/* Each completion is copied and its slot returned before done() runs: done() may submit, and the
 * kernel may then post into the slot. */
static uint32_t reap_posted(struct uring *u, uint32_t budget)
{
    uint32_t n = 0;
    while (n < budget) {
        unsigned head = *u->ring.cq.khead;
        if (head == io_uring_smp_load_acquire(u->ring.cq.ktail))
            break;
        struct io_uring_cqe cqe = u->ring.cq.cqes[head & u->ring.cq.ring_mask];
        io_uring_cq_advance(&u->ring, 1);
        dispatch(u, &cqe);
        n++;
    }
    return n;
}

uint32_t uring_reap(struct uring *u, uint32_t budget)
{
    uint32_t n = reap_posted(u, budget);
    if (n < budget && must_enter(u)) {
        enable(u);
        (void)io_uring_get_events(&u->ring);
        n += reap_posted(u, budget - n);
    }
    return n;
}

void uring_wait(struct uring *u, uint64_t timeout_ns)
{
    struct __kernel_timespec ts = {.tv_sec = (int64_t)(timeout_ns / 1000000000u),
                                   .tv_nsec = (long long)(timeout_ns % 1000000000u)};
    struct io_uring_cqe *cqe;
    enable(u);
    /* -ETIME, -EINTR and success are all "look again". */
    (void)io_uring_submit_and_wait_timeout(&u->ring, &cqe, 1, &ts, NULL);
}

uint32_t uring_quiesce(struct uring *u, uint64_t timeout_ns)
{
    uint64_t deadline = clock_mono_ns() + timeout_ns;
    bool cancelled = false;
    while (u->in_flight > 0) {
        uint64_t now = clock_mono_ns();
        if (now >= deadline)
            break;
        if (!cancelled)
            PREP(u, NULL,
                 io_uring_prep_cancel64(sqe, 0, IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_ALL));
        cancelled = true;
        uring_wait(u, deadline - now);
        while (uring_reap(u, UINT32_MAX) > 0)
            cancelled = false; /* a done() may have started something new */
    }
    return u->in_flight;
}

/* ------------------------------------------------------------------------------ provided buffers
 */

int uring_bufs_create(struct uring *u, uint16_t group, uint32_t cnt, uint32_t size,
                      struct uring_bufs **ret)
{
    ASSERT(cnt > 0 && cnt <= 32768 && (cnt & (cnt - 1)) == 0);
    struct uring_bufs *b = calloc(1, sizeof(*b));
    if (b == NULL)
        return -ENOMEM;
    *b = (struct uring_bufs){.u = u,
                             .cnt = cnt,
                             .size = size,
                             .group = group,
                             .ring_bytes = cnt * sizeof(struct io_uring_buf),
                             .data_bytes = (size_t)cnt * size};
    int rc = -ENOMEM;
    b->ring = mmap(NULL, b->ring_bytes, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | MAP_PRIVATE, -1, 0);
    if (b->ring == MAP_FAILED)
        goto undo_alloc;
    b->data = mmap(NULL, b->data_bytes, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | MAP_PRIVATE, -1, 0);
    if (b->data == MAP_FAILED)
        goto undo_ring;
    struct io_uring_buf_reg reg = {
        .ring_addr = (uint64_t)(uintptr_t)b->ring, .ring_entries = cnt, .bgid = group};
    rc = io_uring_register_buf_ring(&u->ring, &reg, 0);
    if (rc < 0)
        goto undo_data;
    io_uring_buf_ring_init(b->ring);
    for (uint32_t i = 0; i < cnt; i++)
        io_uring_buf_ring_add(b->ring, b->data + (size_t)i * size, size, (unsigned short)i,
                              io_uring_buf_ring_mask(cnt), (int)i);
    io_uring_buf_ring_advance(b->ring, (int)cnt);
    *ret = b;
    return 0;
undo_data:
    munmap(b->data, b->data_bytes);
undo_ring:
    munmap(b->ring, b->ring_bytes);
undo_alloc:
    free(b);
    return rc;
}

void *uring_bufs_ptr(struct uring_bufs *b, int buf_id)
{
    DASSERT(buf_id >= 0 && (uint32_t)buf_id < b->cnt);
    return b->data + (size_t)buf_id * b->size;
}

void uring_bufs_give_back(struct uring_bufs *b, int buf_id)
{
    io_uring_buf_ring_add(b->ring, uring_bufs_ptr(b, buf_id), b->size, (unsigned short)buf_id,
                          io_uring_buf_ring_mask(b->cnt), 0);
    io_uring_buf_ring_advance(b->ring, 1);
}

void uring_bufs_destroy(struct uring_bufs *b)
{
    if (b == NULL)
        return;
    (void)io_uring_unregister_buf_ring(&b->u->ring, b->group); /* gone with the ring if it fails */
    munmap(b->data, b->data_bytes);
    munmap(b->ring, b->ring_bytes);
    free(b);
}
