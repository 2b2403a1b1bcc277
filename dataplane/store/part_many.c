/* part_many.c - see part_many.h. Threads take jobs from one shared counter; a job's memory is
 * touched by the thread that took it, and by the caller after the join. */
#include "dataplane/store/part_many.h"
#include <pthread.h>
#include <stdatomic.h>

#define THREADS_MAX 16
#define PER_THREAD_MIN 4 /* fewer jobs are not worth a thread */

struct many {
    struct catalog *c;
    struct part_make *v;
    uint32_t cnt;
    _Atomic uint32_t next;
};

static void *worker(void *arg)
{
    struct many *m = arg;
    for (;;) {
        uint32_t i = atomic_fetch_add(&m->next, 1);
        if (i >= m->cnt)
            return NULL;
        struct part_make *k = &m->v[i];
        k->o.sync_parent = false;
        k->part = NULL;
        k->rc = catalog_part_create(m->c, &k->o, &k->part);
    }
}

static void sync_parents(struct catalog *c, struct part_make *v, uint32_t cnt)
{
    for (uint32_t d = 0; d < c->dir_cnt; d++) {
        int rc = 1; /* not flushed yet */
        for (uint32_t i = 0; i < cnt; i++) {
            if (v[i].rc < 0 || v[i].o.dir_idx != d)
                continue;
            if (rc > 0)
                rc = catalog_dir_sync(&c->dirs[d]);
            if (rc == 0)
                break;
            part_destroy(v[i].part);
            v[i].part = NULL;
            v[i].rc = rc;
        }
    }
}

void part_make_many(struct catalog *c, struct part_make *v, uint32_t cnt)
{
    struct many m = {.c = c, .v = v, .cnt = cnt};
    pthread_t t[THREADS_MAX];
    uint32_t threads = cnt / PER_THREAD_MIN, started = 0;
    threads = threads < THREADS_MAX ? threads : THREADS_MAX;
    while (started < threads && pthread_create(&t[started], NULL, worker, &m) == 0)
        started++;
    (void)worker(&m); /* this thread works too, and alone if there are no others */
    for (uint32_t i = 0; i < started; i++)
        (void)pthread_join(t[i], NULL); /* our own joinable threads: cannot fail */
    sync_parents(c, v, cnt);
}
