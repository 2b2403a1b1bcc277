/* dirwork.c - see dirwork.h.
 *
 * Both hand-overs are one atomic pointer: a stack that the producer pushes to and the consumer
 * takes whole. W1 (push, release) pairs with W2 (take, acquire) in both directions. */
#include "dataplane/store/dirwork.h"
#include "lib/base/assert.h"
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct dirwork {
    _Atomic(struct dirjob *) todo __attribute__((aligned(64)));
    _Atomic(struct dirjob *) finished __attribute__((aligned(64)));
    atomic_bool stop;
    int todo_fd, wake_fd;
    bool threaded;
    pthread_t thread;
    uint32_t pending; /* the shard's */
};

static void push(_Atomic(struct dirjob *) *head, struct dirjob *j)
{
    struct dirjob *old = atomic_load_explicit(head, memory_order_relaxed);
    do
        j->next = old;
    while (!atomic_compare_exchange_weak_explicit(head, &old, j, memory_order_release,
                                                  memory_order_relaxed)); /* W1 */
}

/* Everything pushed, oldest first. */
static struct dirjob *take(_Atomic(struct dirjob *) *head)
{
    struct dirjob *j = atomic_exchange_explicit(head, NULL, memory_order_acquire); /* W2 */
    struct dirjob *fifo = NULL;
    while (j != NULL) {
        struct dirjob *next = j->next;
        j->next = fifo;
        fifo = j;
        j = next;
    }
    return fifo;
}

static void kick(int fd)
{
    uint64_t one = 1;
    if (fd >= 0 && write(fd, &one, sizeof(one)) < 0)
        ASSERT(errno == EAGAIN); /* the counter is full: it is awake already */
}

static bool run_todo(struct dirwork *w)
{
    struct dirjob *j = take(&w->todo);
    if (j == NULL)
        return false;
    while (j != NULL) {
        struct dirjob *next = j->next;
        j->run(j);
        push(&w->finished, j);
        j = next;
        if (w->threaded)
            kick(w->wake_fd);
    }
    return true;
}

static void *worker(void *arg)
{
    struct dirwork *w = arg;
    (void)pthread_setname_np(pthread_self(), "sluice-dirwork"); /* cosmetic */
    for (;;) {
        if (run_todo(w))
            continue;
        if (atomic_load(&w->stop))
            return NULL;
        uint64_t n;
        if (read(w->todo_fd, &n, sizeof(n)) < 0)
            ASSERT(errno == EINTR);
    }
}

/* A new thread inherits its creator's CPU, which is a shard's own. */
static int attr_cpus(pthread_attr_t *at, const struct dirwork_opts *o)
{
    int cpu_max = 0;
    for (uint32_t i = 0; i < o->cpu_cnt; i++)
        cpu_max = o->cpus[i] > cpu_max ? o->cpus[i] : cpu_max;
    if (o->cpu_cnt == 0)
        return 0;
    size_t size = CPU_ALLOC_SIZE(cpu_max + 1);
    cpu_set_t *set = CPU_ALLOC(cpu_max + 1);
    if (set == NULL)
        return -ENOMEM;
    CPU_ZERO_S(size, set);
    for (uint32_t i = 0; i < o->cpu_cnt; i++)
        CPU_SET_S(o->cpus[i], size, set);
    int rc = -pthread_attr_setaffinity_np(at, size, set);
    CPU_FREE(set);
    return rc;
}

static int thread_create(struct dirwork *w, const struct dirwork_opts *o)
{
    pthread_attr_t at;
    int rc = -pthread_attr_init(&at);
    if (rc < 0)
        return rc;
    rc = attr_cpus(&at, o);
    if (rc == 0)
        rc = -pthread_create(&w->thread, &at, worker, w);
    if (rc == -EINVAL) /* these CPUs went away since they were looked at: anywhere, then */
        rc = -pthread_create(&w->thread, NULL, worker, w);
    (void)pthread_attr_destroy(&at); /* cannot fail on Linux */
    return rc;
}

int dirwork_create(const struct dirwork_opts *o, struct dirwork **ret)
{
    struct dirwork *w = aligned_alloc(64, (sizeof(*w) + 63) & ~(size_t)63);
    if (w == NULL)
        return -ENOMEM;
    *w = (struct dirwork){.threaded = o->threaded, .wake_fd = o->wake_fd, .todo_fd = -1};
    if (o->threaded) {
        w->todo_fd = eventfd(0, EFD_CLOEXEC);
        if (w->todo_fd < 0) {
            int rc = -errno;
            free(w);
            return rc;
        }
        int rc = thread_create(w, o);
        if (rc < 0) {
            close(w->todo_fd);
            free(w);
            return rc;
        }
    }
    *ret = w;
    return 0;
}

void dirwork_destroy(struct dirwork *w)
{
    if (w == NULL)
        return;
    if (w->threaded) {
        atomic_store(&w->stop, true);
        kick(w->todo_fd);
        (void)pthread_join(w->thread, NULL); /* our own joinable thread: cannot fail */
        close(w->todo_fd);
    } else {
        while (run_todo(w)) {
        }
    }
    free(w);
}

void dirwork_submit(struct dirwork *w, struct dirjob *j)
{
    w->pending++;
    push(&w->todo, j);
    if (w->threaded)
        kick(w->todo_fd);
}

uint32_t dirwork_poll(struct dirwork *w)
{
    if (w->pending == 0)
        return 0;
    if (!w->threaded)
        (void)run_todo(w); /* may find nothing */
    uint32_t n = 0;
    for (struct dirjob *j = take(&w->finished); j != NULL; n++) {
        struct dirjob *next = j->next;
        w->pending--;
        j->done(j);
        j = next;
    }
    return n;
}

uint32_t dirwork_pending(const struct dirwork *w)
{
    return w->pending;
}
