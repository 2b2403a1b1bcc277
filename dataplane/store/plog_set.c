/* plog_set.c - the partitions of a shard together: made, found, polled, closed. What they do about
 * one partition is plog.c's. */
#include "dataplane/store/plog_int.h"
#include "lib/iface/conf.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HASH_MIN 1024u
#define OVERDUE_NS UINT64_C(1000000)

static struct list *hash_slot(const struct plog_set *set, const struct uuid *id, int32_t partition)
{
    uint64_t x;
    memcpy(&x, id->b + 8, sizeof(x));
    x = (x ^ (uint32_t)partition) * UINT64_C(0x9E3779B97F4A7C15);
    return &set->hash[(uint32_t)(x >> 32) & set->hash_mask];
}

struct plog *plog_set_find(struct plog_set *set, const struct uuid *topic_id, int32_t partition)
{
    struct list *head = hash_slot(set, topic_id, partition);
    list_for_each(it, head)
    {
        struct plog *p = container_of(it, struct plog, hash_link);
        if (p->part->partition == partition && uuid_eq(&p->part->topic_id, topic_id))
            return p;
    }
    return NULL;
}

static int hash_resize(struct plog_set *set, uint32_t slots)
{
    struct list *h = malloc(slots * sizeof(*h));
    if (h == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < slots; i++)
        list_init(&h[i]);
    free(set->hash);
    set->hash = h;
    set->hash_mask = slots - 1;
    list_for_each(it, &set->all)
    {
        struct plog *p = container_of(it, struct plog, all_link);
        list_add_tail(hash_slot(set, &p->part->topic_id, p->part->partition), &p->hash_link);
    }
    return 0;
}

void plog_set_conf_from(struct plog_set_conf *sc, const struct conf *c)
{
    *sc = (struct plog_set_conf){
        .staging_bytes = c->staging_bytes,
        .submit_max_ms = 5,
        .flush_max_ms = c->flush_max_ms,
        .journal_file_bytes = c->journal_file_bytes,
        .journal_file_cnt = c->journal_file_cnt,
        .journal_threshold_bytes = c->journal_threshold_bytes,
        .storage_min_free_bytes = c->storage_min_free_bytes,
        .cold_read_bytes = c->cold_read_bytes,
        .reserve_bytes = c->reserve_bytes & ~(uint64_t)(FILE_BLOCK - 1),
        .drain_age_ms = 1000,
        .idle_close_ms = 10000,
        .checkpoint_ms = 5000,
        .threaded = true,
    };
    if (sc->submit_max_ms > c->flush_max_ms / 2)
        sc->submit_max_ms = c->flush_max_ms / 2;
}

static int set_dirs_create(struct plog_set *set)
{
    for (uint32_t i = 0; i < set->cat->dir_cnt; i++) {
        struct set_dir *sd = &set->dirs[i];
        struct data_dir *d = &set->cat->dirs[i];
        uint64_t entry = set->conf.journal_file_bytes;
        *sd = (struct set_dir){.d = d, .set = set};
        list_init(&sd->group);
        list_init(&sd->cold_wait);
        list_init(&sd->drain);
        for (uint32_t n = 0; n < JOURNAL_FILES_MAX; n++)
            list_init(&sd->drain_use[n]);
        struct journal_conf jc = {
            .dir = d->journal_path,
            .directory_id = d->id,
            .shard = set->shard->id,
            .file_cnt = set->conf.journal_file_cnt,
            .file_bytes = set->conf.journal_file_bytes & ~(uint64_t)(FILE_BLOCK - 1),
            .entry_bytes_max = entry < (8u << 20) ? (uint32_t)entry : 8u << 20,
        };
        int rc = journal_create(set->io, &jc, &sd->journal);
        if (rc < 0)
            return rc;
        if (set->conf.storage_min_free_bytes > 0) /* the first append is to know it */
            rc = space_check(
                d, &(struct space_check){.min_free_bytes = set->conf.storage_min_free_bytes});
        if (rc < 0)
            LOG_WARN("%s: free space: %s", d->path, err_text(rc));
        set->dir_cnt++;
    }
    return 0;
}

static int read_io_create(struct plog_set *set)
{
    uint64_t cnt = set->conf.cold_read_bytes / READ_IO_BYTES;
    if (cnt < 1 || cnt > UINT32_MAX)
        return -E_CONFIG;
    set->read_buf_cnt = (uint32_t)cnt;
    set->read_io = calloc(cnt, sizeof(*set->read_io));
    set->read_bufs = calloc(cnt, sizeof(*set->read_bufs));
    set->read_mem = aligned_alloc(FILE_BLOCK, cnt * READ_IO_BYTES);
    if (set->read_io == NULL || set->read_bufs == NULL || set->read_mem == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < cnt; i++) {
        set->read_io[i].set = set;
        set->read_bufs[i].mem = set->read_mem + (size_t)i * READ_IO_BYTES;
        list_add_tail(&set->buf_free, &set->read_bufs[i].link);
        list_add_tail(&set->read_free, &set->read_io[i].link);
    }
    return 0;
}

int plog_set_create(struct shard *s, struct file_io *io, struct catalog *c,
                    const struct plog_set_conf *conf, struct plog_set **ret)
{
    struct plog_set *set = calloc(1, sizeof(*set));
    if (set == NULL)
        return -ENOMEM;
    set->shard = s;
    set->io = io;
    set->cat = c;
    set->conf = *conf;
    struct list *lists[] = {&set->all,         &set->dirty,         &set->cache,
                            &set->blocked,     &set->ready_appends, &set->ready_reads,
                            &set->ready_waits, &set->ready_lists,   &set->ready_detached,
                            &set->read_free,   &set->read_wait,     &set->buf_free,
                            &set->lookup_wait, &set->read_check};
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
        list_init(lists[i]);
    /* A run must always fit an entry, also in a file of the smallest size. */
    uint64_t run_max = conf->journal_file_bytes / 2;
    if (set->conf.journal_threshold_bytes > run_max)
        set->conf.journal_threshold_bytes = (uint32_t)run_max;
    struct dirwork_opts dw = {.threaded = conf->threaded,
                              .wake_fd = s->mbox ? mbox_wake_fd(s->mbox) : -1,
                              .cpus = conf->work_cpus,
                              .cpu_cnt = conf->work_cpu_cnt};
    int rc = hash_resize(set, HASH_MIN);
    if (rc == 0)
        rc = staging_create(conf->staging_bytes, &set->staging);
    if (rc == 0)
        rc = read_io_create(set);
    if (rc == 0)
        rc = dirwork_create(&dw, &set->dirwork);
    if (rc == 0)
        rc = dirwork_create(&dw, &set->slow_work);
    if (rc == 0)
        rc = set_dirs_create(set);
    if (rc < 0) {
        plog_set_destroy(set);
        return rc;
    }
    s->plogs = set;
    *ret = set;
    return 0;
}

void plog_unlink(struct plog *p)
{
    if (p->set->tick_at == &p->all_link)
        p->set->tick_at = p->all_link.next;
    list_del(&p->all_link);
    list_del(&p->hash_link);
    p->set->plog_cnt--;
}

static void plog_free(struct plog *p)
{
    p->set->gap_cnt -= p->gap.segments > 0;
    plog_chunks_drop(p);
    plog_segs_free(p);
    free(p->segs);
    free(p->dir);
    part_destroy(p->part);
    free(p);
}

static uint32_t jobs_pending(const struct plog_set *set)
{
    return dirwork_pending(set->dirwork) + dirwork_pending(set->slow_work);
}

void plog_set_destroy(struct plog_set *set)
{
    if (set == NULL)
        return;
    set->closing = set->ending = true; /* nothing new is begun by what ends now */
    for (int i = 0; set->slow_work != NULL && jobs_pending(set) > 0 && i < 10000; i++) {
        if (dirwork_poll(set->dirwork) + dirwork_poll(set->slow_work) == 0)
            (void)usleep(1000); /* the workers are at it; this is not a shard any more */
    }
    dirwork_destroy(set->dirwork);
    dirwork_destroy(set->slow_work);
    for (struct list *n = list_pop_head(&set->all); n; n = list_pop_head(&set->all)) {
        struct plog *p = container_of(n, struct plog, all_link);
        for (uint32_t i = 0; i < p->seg_cnt; i++) { /* an unclean end: tests, a failed start */
            if (p->segs[i]->file != NULL)
                set->io->ops->close(p->segs[i]->file);
            p->segs[i]->file = NULL;
            list_init(&p->segs[i]->waiters);
        }
        if (p->spare != NULL)
            set->io->ops->close(p->spare);
        for (struct chunk *c = p->wchunk; c != NULL; c = plog_chunk_next(p, c))
            c->write_to = 0;
        p->part->mark = NULL; /* stays for the catalog's last checkpoint, which frees it */
        plog_free(p);
    }
    for (uint32_t i = 0; i < set->dir_cnt; i++)
        journal_destroy(set->dirs[i].journal);
    if (set->shard->timers != NULL && timer_is_armed(&set->timer))
        timer_cancel(set->shard->timers, &set->timer);
    staging_destroy(set->staging);
    free(set->read_io);
    free(set->read_bufs);
    free(set->read_mem);
    free(set->lookup_scratch);
    free(set->hash);
    free(set);
}

int plog_attach(struct plog_set *set, struct part *part, const struct plog_conf *conf,
                struct plog **ret)
{
    if (plog_set_find(set, &part->topic_id, part->partition) != NULL)
        return -EEXIST;
    if (set->plog_cnt >= 2 * (set->hash_mask + 1))
        (void)hash_resize(set, 4 * (set->hash_mask + 1)); /* longer chains are only slower */
    struct plog *p = calloc(1, sizeof(*p));
    if (p == NULL)
        return -ENOMEM;
    p->set = set;
    p->part = part;
    p->conf = *conf;
    for (uint32_t i = 0; i < set->dir_cnt; i++)
        if (set->dirs[i].d == part->dir)
            p->sd = &set->dirs[i];
    ASSERT(p->sd != NULL);
    list_init(&p->chunks);
    list_init(&p->blocked);
    list_init(&p->appends);
    list_init(&p->waits);
    p->hold_use = p->hold_next = JOURNAL_USE_NONE;
    p->log_start = part->log_start;
    p->leader_epoch = epochs_latest(&part->epochs);
    p->end = p->durable = p->flushed = p->flush_to = (struct mark){0, part->next};
    p->stable = producers_stable(&part->producers, part->next);
    p->used_ns = now_ns(set);
    char dir[STORE_PATH_MAX];
    int rc = path_join(dir, part->dir->path, part->name);
    if (rc == 0 && (p->dir = strdup(dir)) == NULL)
        rc = -ENOMEM;
    if (rc == 0)
        rc = plog_segs_from_part(p);
    if (rc < 0) {
        free(p->segs);
        free(p->dir);
        free(p);
        return rc;
    }
    list_add_tail(&set->all, &p->all_link);
    list_add_tail(hash_slot(set, &part->topic_id, part->partition), &p->hash_link);
    set->plog_cnt++;
    plog_publish(p);
    if (ret != NULL)
        *ret = p;
    return 0;
}

void plog_detach(struct plog *p, plog_detached_fn *done, void *arg)
{
    ASSERT(p->state != PL_DETACHING);
    p->state = PL_DETACHING;
    plog_drain_end(p);
    p->detached = done;
    p->detached_arg = arg;
    if (list_is_linked(&p->dirty_link))
        list_del(&p->dirty_link);
    if (p->commit == C_DIRECT)
        p->commit = C_NONE;
    p->set->unflushed_bytes -= p->end.lsn - p->durable.lsn;
    p->durable.lsn = p->end.lsn; /* nobody waits for these bytes any more */
    appends_fail_from(p, INT64_MIN, -E_UNKNOWN_TOPIC);
    waits_fail_all(p, -E_UNKNOWN_TOPIC);
    reads_fail_waiting(p, -E_UNKNOWN_TOPIC);
    list_del(&p->hash_link); /* not found any more */
    list_init(&p->hash_link);
    plog_settle(p);
}

static bool set_all_closed(const struct plog_set *set)
{
    list_for_each(it, &set->all)
    {
        const struct plog *p = container_of(it, struct plog, all_link);
        bool over = p->state == PL_CLOSED || (p->state == PL_FENCED && p->io == 0 && p->jobs == 0);
        if (!over)
            return false;
    }
    return true;
}

void plog_set_close(struct plog_set *set, plog_set_closed_fn *done, void *arg)
{
    set->closing = true;
    set->closed = done;
    set->closed_arg = arg;
    list_for_each(it, &set->all)
    {
        struct plog *p = container_of(it, struct plog, all_link);
        waits_fail_all(p, -E_NOT_OWNER);
        if (p->state == PL_FENCED && set->close_rc == 0)
            set->close_rc = -E_STORAGE;
        if (p->state != PL_OPEN)
            continue;
        p->state = PL_CLOSING;
        plog_drain_end(p);
        plog_flush_want(p, p->durable);
        plog_dirty(p);
        plog_pump(p);
    }
}

/* One flush per directory covers what all its partitions wrote when they were closed. */
static void dirs_sync(struct plog_set *set)
{
    set->is_synced = true;
    for (uint32_t i = 0; i < set->dir_cnt; i++) {
        struct set_dir *sd = &set->dirs[i];
        if (!sd->d->sync_each && !job_submit_sync(sd) && set->close_rc == 0)
            set->close_rc = -ENOMEM;
    }
}

/* A closed set is told once, when everything has come to rest. */
static void close_check(struct plog_set *set)
{
    if (!set->closing || set->closed == NULL || !set_all_closed(set) || !plog_set_is_idle(set))
        return;
    if (!set->is_synced) {
        dirs_sync(set);
        if (!plog_set_is_idle(set))
            return;
    }
    plog_set_closed_fn *done = set->closed;
    set->closed = NULL;
    done(set->closed_arg, set->close_rc);
}

int plog_set_absent_rc(const struct plog_set *set)
{
    return set->cat->offline_cnt + set->cat->offline_part_cnt > 0 ? -E_STORAGE : -E_UNKNOWN_TOPIC;
}

uint32_t plog_set_unclosed_cnt(const struct plog_set *set)
{
    uint32_t cnt = 0;
    list_for_each(it, &set->all) cnt += container_of(it, struct plog, all_link)->state == PL_FENCED;
    return cnt;
}

bool plog_set_is_idle(const struct plog_set *set)
{
    for (uint32_t i = 0; i < set->dir_cnt; i++)
        if (journal_is_busy(set->dirs[i].journal))
            return false;
    return list_is_empty(&set->dirty) && list_is_empty(&set->blocked) &&
           list_is_empty(&set->ready_appends) && list_is_empty(&set->ready_reads) &&
           list_is_empty(&set->ready_waits) && list_is_empty(&set->ready_lists) &&
           list_is_empty(&set->ready_detached) && list_is_empty(&set->read_wait) &&
           set->reads_in_flight == 0 && jobs_pending(set) == 0 && set->draining_cnt == 0 &&
           set->lookup_cnt == 0 && list_is_empty(&set->lookup_wait);
}

/* --------------------------------------------------------------------------------------- the stage
 */

/* One pass over all partitions a second, some of them per poll: close what is idle, retry what
 * failed. */
static void tick_one(struct plog_set *set, struct plog *p)
{
    uint64_t now = now_ns(set), idle = (uint64_t)set->conf.idle_close_ms * 1000000;
    if (p->state == PL_FENCED || p->state == PL_CLOSING || p->state == PL_DETACHING) {
        plog_settle(p);
        plog_pump(p);
        return;
    }
    if (p->state != PL_OPEN)
        return;
    bool full = atomic_load(&p->sd->d->space.read_only);
    if (p->flush_to.lsn > p->flushed.lsn || p->epochs_changed) {
        plog_pump(p); /* a job may have found no memory */
        if (p->epochs_changed && !p->epochs_job && !full)
            p->epochs_job = job_submit(p, JOB_EPOCHS, NULL);
    }
    if (p->stall_ns != 0 && now >= p->stall_ns) {
        if (p->unwritten == 0)
            p->stall_ns = 0;
        plog_pump(p);
    }
    plog_seal_rolled(p);
    for (uint32_t i = 0; i < p->seg_cnt; i++) {
        struct seg *s = p->segs[i];
        bool quiet = s->file != NULL && s->io == 0 && !s->job && list_is_empty(&s->waiters) &&
                     now - s->used_ns >= idle && s->is_named && !s->is_dirty &&
                     (s->is_sealed || (!s->is_rolled && p->flushed.lsn == p->end.lsn &&
                                       p->commit == C_NONE && p->flush_pending == 0));
        if (quiet)
            (void)job_submit(p, JOB_IDLE, s); /* no memory: next second */
    }
    if (p->part->producers.cnt > 0 && (now / TICK_NS) % 64 == 0)
        (void)producers_expire(&p->part->producers, set->shard->wall_ms);
}

static void tick_dirs(struct plog_set *set)
{
    bool checkpoint =
        now_ns(set) - set->checkpoint_ns >= (uint64_t)set->conf.checkpoint_ms * 1000000;
    if (checkpoint)
        set->checkpoint_ns = now_ns(set);
    for (uint32_t i = 0; i < set->dir_cnt; i++) {
        struct set_dir *sd = &set->dirs[i];
        if (checkpoint && !sd->checkpoint_job && atomic_load(&sd->d->dirty))
            job_submit_checkpoint(sd);
        bool watched = set->conf.storage_min_free_bytes > 0 || atomic_load(&sd->d->space.read_only);
        bool mine = set->shard->cnt <= 1 ||
                    i % set->shard->cnt == set->shard->id; /* one shard looks after a directory */
        if (mine && !sd->space_job &&
            (watched || checkpoint)) /* unwatched: only for those who ask */
            job_submit_space(sd, true);
    }
}

static void tick(struct plog_set *set)
{
    uint64_t now = now_ns(set);
    if (set->tick_at == NULL && now - set->tick_ns >= TICK_NS) {
        set->tick_ns = now;
        set->tick_at = set->all.next;
        tick_dirs(set);
    }
    for (uint32_t i = 0; set->tick_at != NULL && i < TICK_PLOGS; i++) {
        if (set->tick_at == &set->all) {
            set->tick_at = NULL;
            break;
        }
        struct plog *p = container_of(set->tick_at, struct plog, all_link);
        set->tick_at = set->tick_at->next;
        tick_one(set, p);
    }
}

static uint32_t fire_ready(struct plog_set *set)
{
    uint32_t n = 0;
    struct list now;
    list_init(&now);
    list_splice_tail(&now, &set->ready_appends);
    for (struct list *it = list_pop_head(&now); it; it = list_pop_head(&now), n++) {
        struct plog_append *a = container_of(it, struct plog_append, link);
        a->done(a);
    }
    list_splice_tail(&now, &set->ready_reads);
    for (struct list *it = list_pop_head(&now); it; it = list_pop_head(&now), n++) {
        struct plog_read *r = container_of(it, struct plog_read, link);
        r->done(r);
    }
    list_splice_tail(&now, &set->ready_lists);
    for (struct list *it = list_pop_head(&now); it; it = list_pop_head(&now), n++) {
        struct plog_list_offsets *q = container_of(it, struct plog_list_offsets, link);
        q->done(q);
    }
    /* One at a time: a done may cancel another wait that is still in the list. */
    for (struct list *it = list_pop_head(&set->ready_waits); it;
         it = list_pop_head(&set->ready_waits), n++) {
        struct plog_wait *w = container_of(it, struct plog_wait, link);
        w->done(w);
    }
    list_splice_tail(&now, &set->ready_detached);
    for (struct list *it = list_pop_head(&now); it; it = list_pop_head(&now), n++) {
        struct plog *p = container_of(it, struct plog, all_link);
        plog_detached_fn *done = p->detached;
        void *arg = p->detached_arg;
        plog_free(p);
        done(arg);
    }
    return n;
}

static void on_timer(struct timer *t, uint64_t now)
{
    (void)t;
    (void)now; /* only ends the sleep: the poll does the work */
}

static void timer_set(struct plog_set *set)
{
    struct timer_wheel *w = set->shard->timers;
    if (w == NULL)
        return;
    uint64_t next = set->tick_ns + TICK_NS;
    if (!list_is_empty(&set->dirty)) {
        struct plog *p = container_of(set->dirty.next, struct plog, dirty_link);
        uint64_t due = p->dirty_ns + (uint64_t)set->conf.submit_max_ms * 1000000;
        next = due < next ? due : next;
    }
    for (uint32_t i = 0; i < set->dir_cnt; i++) {
        uint64_t due = plog_drain_due_ns(&set->dirs[i]);
        next = due < next ? due : next;
    }
    /* What is overdue waits for a completion, or for a disk that fails: looked at again, but not in
     * every turn. */
    uint64_t soon = now_ns(set) + OVERDUE_NS;
    next = next < soon ? soon : next;
    if (set->tick_at != NULL)
        next = now_ns(set);
    if (!timer_is_armed(&set->timer) || set->timer.deadline_ns != next)
        timer_arm(w, &set->timer, next, on_timer);
}

uint32_t plog_set_poll(struct plog_set *set, uint32_t budget)
{
    (void)budget; /* every step below has its own bound */
    uint32_t n = dirwork_poll(set->dirwork) + dirwork_poll(set->slow_work);
    appends_retry_blocked(set);
    commit_form_all(set); /* before reads: a commit waits for none of them */
    reads_retry(set);
    n += reads_check(set);
    plog_drain_some(set);
    tick(set);
    n += fire_ready(set);
    close_check(set);
    timer_set(set);
    return n;
}

void plog_set_each(struct plog_set *set, bool (*fn)(void *arg, struct plog *p), void *arg)
{
    list_for_each_safe(it, tmp, &set->all)
    {
        struct plog *p = container_of(it, struct plog, all_link);
        if (p->state != PL_DETACHING && !fn(arg, p))
            return;
    }
}

void plog_set_stats_get(const struct plog_set *set, struct plog_set_stats *ret)
{
    *ret = set->st;
    ret->unflushed_bytes = set->unflushed_bytes;
    ret->staging_free_bytes = staging_free_bytes(set->staging);
    ret->partitions = set->plog_cnt;
    if (set->shard->id == 0) {
        ret->found_batches = set->cat->found_damage.batches;
        ret->found_tails = set->cat->found_damage.tails;
        ret->found_segments = set->cat->found_damage.segments;
    }
    ret->journal_free_files = UINT32_MAX;
    for (uint32_t i = 0; i < set->dir_cnt; i++) {
        uint32_t n = journal_free_cnt(set->dirs[i].journal);
        if (n < ret->journal_free_files)
            ret->journal_free_files = n;
        ret->read_only = ret->read_only || atomic_load(&set->dirs[i].d->space.read_only);
    }
    if (!list_is_empty(&set->dirty)) {
        const struct plog *p = container_of(set->dirty.next, struct plog, dirty_link);
        ret->oldest_unflushed_ns = now_ns(set) - p->dirty_ns;
    }
}

static bool check_one(void *arg, struct plog *p)
{
    (void)arg;
    if (p->state != PL_FENCED && p->state != PL_CLOSED)
        plog_check(p);
    return true;
}

void plog_set_check(const struct plog_set *set)
{
    plog_set_each((struct plog_set *)(uintptr_t)set, check_one, NULL);
}
