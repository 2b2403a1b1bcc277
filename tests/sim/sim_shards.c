/* sim_shards.c - see sim_shards.h. */
#include "tests/sim/sim_shards.h"
#include "accel/accel.h"
#include "dataplane/kafka/group/coord.h"
#include "dataplane/shard/mbox.c" /* whether an endpoint sleeps, what its rings hold */
#include "dataplane/store/plog_int.h"
#include "lib/base/clock.h"
#include <stdarg.h>
#include <stdio.h>

#define STACK_BYTES (512u << 10)
#define DATA_DIR "/data/log"
#define EVENTS 16
#define CTL_MAX_NS (2 * SIM_MS)

struct sim *sim;
static void *stacks[SIM_SHARDS]; /* kept from run to run */

struct sim_apply {
    struct meta_image *next;
    struct owner_map *owners;
    struct apply_msg adds[SIM_SHARDS], removes[SIM_SHARDS];
    struct image_msg images[SIM_SHARDS];
    struct apply_change changes[SIM_SHARDS][SIM_PARTS_MAX];
    struct plog_conf conf;
    struct sim_topic *removed, *changed;
    enum { AP_ADD, AP_IMAGE, AP_REMOVE, AP_DONE } step;
    uint32_t due; /* replies of this step */
};

_Noreturn void sim_fail(const char *cond, const char *file, int line, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fflush(stdout);
    fprintf(stderr, "seed %" PRIu64 ", %.3f ms: %s:%d: %s: ", sim->seed, (double)sim->now_ns / 1e6,
            file, line, cond);
    vfprintf(stderr, fmt, ap);
    fprintf(stderr, "\nrepeat it with: test_shard_sim 1 %" PRIu64 "\n", sim->seed);
    va_end(ap);
    abort();
}

void sim_trace(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    printf("%12.3f ", (double)sim->now_ns / 1e6);
    vprintf(fmt, ap);
    printf("\n");
    va_end(ap);
}

/* splitmix64; `below` 0: all 64 bits */
uint64_t sim_rnd(uint64_t below)
{
    uint64_t z = sim->rng += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    z ^= z >> 31;
    return below > 0 ? z % below : z;
}

/* In place of the system's randomness (the linker's --wrap): ids repeat with the seed. */
void __wrap_uuid_random(struct uuid *ret);
void __wrap_uuid_random(struct uuid *ret)
{
    uint64_t hi = sim_rnd(0), lo = sim_rnd(0);
    memcpy(ret->b, &hi, 8);
    memcpy(ret->b + 8, &lo, 8);
}

static uint64_t clock_ns(void *arg)
{
    (void)arg;
    return sim->now_ns;
}

static int64_t clock_ms(void *arg)
{
    (void)arg;
    return INT64_C(1700000000000) + (int64_t)(sim->now_ns / SIM_MS);
}

/* ---------------------------------------------------------------- coroutines */

static struct sim_shard *sh_of(struct shard *s)
{
    return (struct sim_shard *)s;
}

static uint64_t turn_delay(void)
{
    if (sim_rnd(1000000) < sim->traits.stall_ppm)
        return 1 + sim_rnd(sim->traits.stall_max_ns);
    return 1 + sim_rnd(sim->traits.turn_max_ns);
}

static void give_way(struct sim_shard *sh)
{
    if (swapcontext(&sh->ctx, &sim->loop) < 0)
        abort();
}

/* After a turn: what it left to the disk and to housekeeping takes its time. */
static void turn_end(struct shard *s, bool busy)
{
    struct sim_shard *sh = sh_of(s);
    (void)busy;
    if (sh->io_ns == SIM_NEVER && fake_disk_in_flight_of(sim->disk, &sh->io) > 0)
        sh->io_ns = sim->now_ns + 1 + sim_rnd(sim->traits.io_max_ns);
    bool jobs = dirwork_pending(s->plogs->dirwork) + dirwork_pending(s->plogs->slow_work) > 0;
    if (!jobs)
        sh->job_ns = SIM_NEVER;
    else if (sh->job_ns == SIM_NEVER)
        sh->job_ns = sim->now_ns + 1 + sim_rnd(sim->traits.io_max_ns);
    sh->at_ns = sim->now_ns + turn_delay();
    give_way(sh);
}

static void sleep_wait(struct shard *s, uint64_t timeout_ns)
{
    struct sim_shard *sh = sh_of(s);
    sh->asleep = true;
    sh->at_ns = timeout_ns > SIM_NEVER - sim->now_ns ? SIM_NEVER : sim->now_ns + timeout_ns;
    give_way(sh);
    sh->asleep = false;
}

/* ------------------------------------------------------------------ the turn */

static uint32_t st_mbox(struct shard *s, uint32_t budget)
{
    return mbox_poll(s->mbox, s, budget);
}

static uint32_t st_disk(struct shard *s, uint32_t budget)
{
    struct sim_shard *sh = sh_of(s);
    (void)budget;
    if (sh->io_ns > sim->now_ns)
        return 0;
    sh->io_ns = SIM_NEVER; /* the rest takes longer */
    return fake_disk_poll_of(sim->disk, &sh->io, 1 + (uint32_t)sim_rnd(8));
}

static uint32_t st_conn(struct shard *s, uint32_t budget)
{
    struct net_ev ev[EVENTS];
    int n = s->net->ops->poll(s->net, s->now_ns, ev, EVENTS, (int)budget);
    for (int i = 0; i < n; i++) {
        if (ev[i].what & NET_EV_ACCEPT)
            (void)kafka_conn_open(s->kafka, 0, ev[i].conn); /* a refusal is counted */
        else if (ev[i].user != NULL)
            kafka_on_event(s->kafka, &ev[i]);
    }
    return (uint32_t)n;
}

static uint64_t st_conn_next(struct shard *s)
{
    return s->net->ops->next_deadline(s->net);
}

static uint32_t st_kafka(struct shard *s, uint32_t budget)
{
    return kafka_poll(s, budget);
}

static uint64_t st_kafka_next(struct shard *s)
{
    return kafka_has_work(s->kafka) ? 0 : UINT64_MAX;
}

static uint32_t st_plog(struct shard *s, uint32_t budget)
{
    uint32_t n = plog_set_poll(s->plogs, budget);
    plog_set_check(s->plogs);
    return n;
}

static uint32_t st_timer(struct shard *s, uint32_t budget)
{
    return timer_poll(s->timers, s->now_ns, budget);
}

static void store_closed(void *arg, int rc)
{
    struct sim_shard *sh = arg;
    sh->store_closed = true;
    sh->store_rc = rc;
}

/* As pipeline.c stops: everything drained here, then everywhere, then the store is closed. */
static uint32_t st_stop(struct shard *s, uint32_t budget)
{
    struct sim_shard *sh = sh_of(s);
    (void)budget;
    if (s->stop_msg == NULL || !kafka_is_idle(s->kafka))
        return 0;
    sh->quiet = true;
    for (uint32_t i = 0; i < SIM_SHARDS; i++)
        if (!sim->sh[i].quiet)
            return 0;
    if (!sh->closing) {
        sh->closing = true;
        plog_set_close(s->plogs, store_closed, sh);
    }
    if (!sh->store_closed || !plog_set_is_idle(s->plogs))
        return 0;
    msg_reply(s->mbox, &s->stop_msg->msg, sh->store_rc);
    s->stop_msg = NULL;
    return 1;
}

static uint64_t st_stop_next(struct shard *s)
{
    return s->stopping ? s->now_ns + SIM_MS : UINT64_MAX;
}

static bool may_end(struct shard *s)
{
    (void)s;
    return sim->stop_due == 0;
}

/* The rows of pipeline.c that a Kafka broker needs, in its order and with its budgets. */
static const struct stage turn[] = {
    {"mbox", st_mbox, 32, NULL},         {"disk", st_disk, 64, NULL},
    {"conn", st_conn, 64, st_conn_next}, {"kafka", st_kafka, 64, st_kafka_next},
    {"plog", st_plog, 64, NULL},         {"timer", st_timer, 64, NULL},
    {"stop", st_stop, 1, st_stop_next},
};

static void shard_main(unsigned idx)
{
    struct sim_shard *sh = &sim->sh[idx];
    struct shard_run_opts o = {.turn = turn,
                               .stage_cnt = sizeof(turn) / sizeof(turn[0]),
                               .idle = IDLE_ADAPTIVE,
                               .spin_turns = (uint32_t)sim_rnd(3),
                               .sleep_max_ns = SIM_NEVER,
                               .sleep_quiet_max_ns = SIM_NEVER,
                               .wait = sleep_wait,
                               .turn_end = turn_end,
                               .may_end = may_end};
    shard_run(&sh->s, &o);
    sh->ended = true;
    give_way(sh);
}

/* -------------------------------------------------------- the control thread */

static void on_stop(struct shard *s, struct msg *m)
{
    s->stopping = true;
    s->stop_msg = container_of(m, struct stop_msg, msg);
    s->net->ops->drain(s->net);
    kafka_drain(s->kafka);
}

static void on_stop_reply(struct shard *s, struct msg *m)
{
    (void)s;
    SIM_CHECK(m->rc == 0, "a shard could not close its partitions: %s", err_text(m->rc));
    sim->stop_due--;
}

static void on_ctl_request(struct shard *s, struct msg *m)
{
    (void)s;
    list_add_tail(&sim->held, &m->link);
}

static void ctl_answer(struct msg *msg)
{
    if (msg->type == MSG_PRODUCER_IDS) {
        struct producer_ids_msg *m = container_of(msg, struct producer_ids_msg, msg);
        m->first = sim->next_producer_id;
        m->cnt = 1000;
        sim->next_producer_id += 1000;
        msg_reply(sim->ctl, msg, sim->stopping ? -E_TIMED_OUT : 0);
        return;
    }
    struct kafka_admin_msg *m = container_of(msg, struct kafka_admin_msg, msg);
    if (sim_chance(30)) {
        msg_reply(sim->ctl, msg, -E_TIMED_OUT);
        return;
    }
    m->reply = malloc(SIM_ADMIN_REPLY_LEN); /* any bytes: the shard passes them on */
    if (m->reply == NULL)
        abort();
    memset(m->reply, 0, SIM_ADMIN_REPLY_LEN);
    m->reply_len = SIM_ADMIN_REPLY_LEN;
    msg_reply(sim->ctl, msg, 0);
}

static void apply_done(struct sim_apply *a)
{
    struct data_dir *d = &sim->catalog->dirs[0];
    for (uint32_t i = 0; i < SIM_SHARDS; i++)
        for (uint32_t k = 0; k < a->adds[i].change_cnt + a->removes[i].change_cnt; k++)
            SIM_CHECK(a->changes[i][k].rc == 0, "shard %u cannot apply a change: %s", i,
                      err_text(a->changes[i][k].rc));
    for (uint32_t p = 0; a->removed != NULL && p < a->removed->partition_cnt; p++) {
        char name[STORE_NAME_MAX], path[STORE_PATH_MAX];
        snprintf(name, sizeof(name), "%s-%u", a->removed->name, p);
        int rc = catalog_part_retire(d, name, path);
        SIM_CHECK(rc == 0, "%s: %s", name, err_text(rc));
        rc = dir_remove(d->io, path);
        SIM_CHECK(rc == 0, "%s: %s", path, err_text(rc));
    }
    if (a->removed != NULL)
        a->removed->deleted_ns = sim->now_ns;
    if (a->changed != NULL)
        a->changed->ready_cnt = a->changed->partition_cnt;
    image_put(sim->image);
    owner_map_destroy(sim->owners);
    sim->image = a->next;
    sim->owners = a->owners;
    sim->apply = NULL;
    SIM_TRACE("control: image %" PRId64 " is applied", sim->image->offset);
    free(a);
}

static void apply_send(enum msg_type type, uint16_t to, struct msg *m)
{
    m->type = (uint16_t)type;
    sim->apply->due++;
    mbox_send(sim->ctl, to, m);
}

/* One step of control_image.c's: new partitions, the image, removed partitions. */
static void apply_step(struct sim_apply *a)
{
    for (uint16_t i = 0; i < SIM_SHARDS; i++) {
        if (a->step == AP_ADD && a->adds[i].change_cnt > 0)
            apply_send(MSG_PARTITIONS, i, &a->adds[i].msg);
        if (a->step == AP_IMAGE)
            apply_send(MSG_IMAGE, i, &a->images[i].msg);
        if (a->step == AP_REMOVE && a->removes[i].change_cnt > 0)
            apply_send(MSG_PARTITIONS, i, &a->removes[i].msg);
    }
}

static void apply_go_on(struct sim_apply *a)
{
    while (a->due == 0 && ++a->step < AP_DONE)
        apply_step(a);
    if (a->step == AP_DONE)
        apply_done(a);
}

static void on_apply_reply(struct shard *s, struct msg *m)
{
    (void)s;
    (void)m;
    if (--sim->apply->due == 0)
        apply_go_on(sim->apply);
}

static void ctl_run(void)
{
    (void)mbox_poll(sim->ctl, NULL, 16);
    while (!list_is_empty(&sim->held) && (sim->stopping || sim_chance(70)))
        ctl_answer(container_of(list_pop_head(&sim->held), struct msg, link));
    sim->ctl_ns = sim->now_ns + 1 + sim_rnd(CTL_MAX_NS);
}

/* A batch has adds or removes, never both. */
static struct apply_change *change_add(struct sim_apply *a, struct apply_msg *msgs, uint16_t shard)
{
    struct apply_msg *m = &msgs[shard];
    SIM_CHECK(m->change_cnt < SIM_PARTS_MAX, "too many changes");
    m->changes = a->changes[shard];
    return &m->changes[m->change_cnt++];
}

static uint16_t owner_of(const struct sim_topic *t, uint32_t partition)
{
    return (uint16_t)(((uint32_t)(t - sim->topics) + partition) % SIM_SHARDS);
}

/* Build the next image from `b` and send it. Partitions [from, to) of t are made. */
static void apply_start(const struct meta_batch *b, struct sim_topic *t, uint32_t from, uint32_t to)
{
    struct sim_apply *a = calloc(1, sizeof(*a));
    if (a == NULL)
        abort();
    SIM_CHECK(b->rc == 0, "%s", err_text(b->rc));
    int rc = image_apply(sim->image, b->v, b->cnt, sim->image->offset + 1, &a->next);
    SIM_CHECK(rc == 0, "%s", err_text(rc));
    rc = owner_map_create(a->next->topic_cnt, &a->owners);
    SIM_CHECK(rc == 0, "%s", err_text(rc));
    for (uint32_t i = 0; i < sim->topic_cnt; i++) {
        uint8_t owners[SIM_PARTS_MAX];
        const struct sim_topic *x = &sim->topics[i];
        if (image_topic_by_id(a->next, &x->id) == NULL)
            continue;
        for (uint32_t p = 0; p < x->partition_cnt; p++)
            owners[p] = (uint8_t)owner_of(x, p);
        rc = owner_map_add(a->owners, &x->id, owners, x->partition_cnt);
        SIM_CHECK(rc == 0, "%s", err_text(rc));
    }
    const struct meta_topic *mt = t != NULL ? image_topic_by_id(a->next, &t->id) : NULL;
    if (mt != NULL)
        plog_conf_of_topic(sim->conf, a->next, mt, &a->conf);
    for (uint32_t p = from; p < to; p++) {
        struct apply_change *ch = change_add(a, a->adds, owner_of(t, p));
        *ch = (struct apply_change){
            .kind = APPLY_ADD, .topic_id = t->id, .partition = (int32_t)p, .conf = &a->conf};
        rc = catalog_part_create(sim->catalog,
                                 &(struct part_create_opts){.topic = t->name,
                                                            .topic_id = t->id,
                                                            .partition = (int32_t)p,
                                                            .sync_parent = p + 1 == to},
                                 &ch->part);
        SIM_CHECK(rc == 0, "%s-%u: %s", t->name, p, err_text(rc));
    }
    a->changed = t;
    if (t != NULL && t->deleted) {
        a->removed = t;
        for (uint32_t p = 0; p < t->partition_cnt; p++)
            *change_add(a, a->removes, owner_of(t, p)) = (struct apply_change){
                .kind = APPLY_REMOVE, .topic_id = t->id, .partition = (int32_t)p};
    }
    for (uint16_t i = 0; i < SIM_SHARDS; i++)
        a->images[i] = (struct image_msg){.image = a->next, .owners = a->owners};
    sim->apply = a;
    a->step = AP_ADD;
    apply_step(a);
    apply_go_on(a);
}

bool sim_topic_create(const char *name, uint32_t partitions, const char *key, const char *value)
{
    static const struct uuid directory = {{9, 9}};
    if (sim->apply != NULL || sim->topic_cnt == SIM_TOPICS_MAX || sim_topic_find(name) != NULL)
        return false;
    struct sim_topic *t = &sim->topics[sim->topic_cnt++];
    struct meta_batch b;
    meta_batch_init(&b);
    *t = (struct sim_topic){.partition_cnt = partitions};
    snprintf(t->name, sizeof(t->name), "%s", name);
    memset(t->id.b, (int)sim->topic_cnt, sizeof(t->id.b));
    meta_put_topic(&b, &t->id, span_str(name));
    if (key != NULL)
        meta_put_config(&b, META_RESOURCE_TOPIC, span_str(name), span_str(key), span_str(value));
    for (uint32_t p = 0; p < partitions; p++)
        meta_put_partition(&b, &t->id, (int32_t)p, sim->conf->node_id, &directory);
    SIM_TRACE("control: topic %s with %u partitions", name, partitions);
    apply_start(&b, t, 0, partitions);
    meta_batch_fini(&b);
    return true;
}

bool sim_topic_delete(struct sim_topic *t)
{
    if (sim->apply != NULL || t->deleted)
        return false;
    struct meta_batch b;
    meta_batch_init(&b);
    meta_put_remove_topic(&b, &t->id);
    t->deleted = true;
    t->deleted_ns = SIM_NEVER;
    SIM_TRACE("control: topic %s is deleted", t->name);
    apply_start(&b, t, 0, 0);
    meta_batch_fini(&b);
    return true;
}

bool sim_topic_grow(struct sim_topic *t, uint32_t partitions)
{
    static const struct uuid directory = {{9, 9}};
    if (sim->apply != NULL || t->deleted || partitions <= t->partition_cnt ||
        partitions > SIM_PARTS_MAX)
        return false;
    struct meta_batch b;
    meta_batch_init(&b);
    uint32_t from = t->partition_cnt;
    for (uint32_t p = from; p < partitions; p++)
        meta_put_partition(&b, &t->id, (int32_t)p, sim->conf->node_id, &directory);
    t->partition_cnt = partitions;
    SIM_TRACE("control: topic %s grows to %u partitions", t->name, partitions);
    apply_start(&b, t, from, partitions);
    meta_batch_fini(&b);
    return true;
}

struct sim_topic *sim_topic_find(const char *name)
{
    for (uint32_t i = sim->topic_cnt; i-- > 0;)
        if (strcmp(sim->topics[i].name, name) == 0)
            return sim->topics[i].deleted ? NULL : &sim->topics[i];
    return NULL;
}

struct sim_shard *sim_owner(const struct sim_topic *t, int32_t partition)
{
    return &sim->sh[owner_of(t, (uint32_t)partition)];
}

struct plog *sim_plog(const struct sim_topic *t, int32_t partition)
{
    return plog_set_find(sim_owner(t, partition)->s.plogs, &t->id, partition);
}

/* ----------------------------------------------------------------- schedule */

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t due_of(struct sim_shard *sh)
{
    if (sh->ended)
        return SIM_NEVER;
    if (!sh->asleep)
        return sh->at_ns;
    if (atomic_load(&sh->s.mbox->asleep) == 0) /* somebody wrote its eventfd */
        sh->at_ns = min_u64(sh->at_ns, sim->now_ns + turn_delay());
    uint64_t at = min_u64(min_u64(sh->at_ns, sh->io_ns), sh->job_ns);
    return min_u64(at, sh->s.net->ops->next_deadline(sh->s.net));
}

bool sim_step(uint64_t actor_ns)
{
    struct sim_shard *who = NULL;
    uint64_t at = min_u64(actor_ns, sim->ctl_ns);
    bool ctl = sim->ctl_ns < actor_ns;
    for (uint32_t i = 0; i < SIM_SHARDS; i++) {
        uint64_t due = due_of(&sim->sh[i]);
        if (due < at) {
            at = due;
            who = &sim->sh[i];
        }
    }
    if (at > sim->now_ns)
        sim->now_ns = at;
    if (who != NULL) {
        if (swapcontext(&sim->loop, &who->ctx) < 0)
            abort();
        return true;
    }
    if (ctl)
        ctl_run();
    return ctl;
}

/* --------------------------------------------------------------------- life */

static void traits_draw(struct sim_traits *t)
{
    *t = (struct sim_traits){.turn_max_ns = 1000 + sim_rnd(200000),
                             .stall_ppm = sim_chance(50) ? 0 : (uint32_t)sim_rnd(20000),
                             .stall_max_ns = (1 + sim_rnd(40)) * SIM_MS,
                             .io_max_ns = 10000 + sim_rnd(sim_chance(70) ? SIM_MS : 20 * SIM_MS),
                             .wire_max_ns = 50000 + sim_rnd(2 * SIM_MS),
                             .ring_cap = 1u << sim_rnd(7),
                             .little_memory = sim_chance(30),
                             .quotas = sim_chance(15),
                             .little_staging = sim_chance(20),
                             .connections_max = sim_chance(20) ? 4 : 64};
}

static void conf_draw(void)
{
    sim->conf = calloc(1, sizeof(*sim->conf));
    if (sim->conf == NULL)
        abort();
    conf_defaults(sim->conf);
    struct conf *c = sim->conf;
    c->request_bytes = sim->traits.little_memory ? KAFKA_REQUEST_BYTES_MIN : 64u << 20;
    c->socket_request_max_bytes = 2u << 20;
    c->connections_max = sim->traits.connections_max;
    c->kafka[0].bind.port = 9092;
    c->auto_create_topics = false;
    c->log_segment_bytes = 256u << 10;
    c->log_index_size_max_bytes = 64u << 10;
    c->group_initial_rebalance_delay_ms = (uint32_t)sim_rnd(50);
    c->group_min_session_timeout_ms = 10;
}

static void store_create(struct sim_shard *sh)
{
    struct plog_set_conf sc = {.staging_bytes = sim->traits.little_staging ? 2u << 20 : 4u << 20,
                               .cold_read_bytes = 512u << 10,
                               .submit_max_ms = 5,
                               .flush_max_ms = 20,
                               .journal_file_bytes = 128u << 10,
                               .journal_file_cnt = 3,
                               .journal_threshold_bytes = 32u << 10,
                               .drain_age_ms = 100,
                               .idle_close_ms = 500,
                               .checkpoint_ms = 200};
    sh->io = (struct file_io){.ops = &fake_file_ops, .arg = sim->disk};
    int rc = plog_set_create(&sh->s, &sh->io, sim->catalog, &sc, &sh->s.plogs);
    SIM_CHECK(rc == 0, "%s", err_text(rc));
}

static void shard_create(uint16_t idx)
{
    struct sim_shard *sh = &sim->sh[idx];
    struct shard *s = &sh->s;
    *s = (struct shard){.id = idx,
                        .cnt = SIM_SHARDS,
                        .conf = sim->conf,
                        .now_ns = sim->now_ns,
                        .wall_ms = clock_ms(NULL),
                        .mbox = mbox_of(sim->mboxes, idx),
                        .kafka_shared = sim->kafka_shared};
    sh->io_ns = sh->job_ns = SIM_NEVER;
    sh->at_ns = sim->now_ns + turn_delay();
    if (timer_wheel_create(sim->now_ns, &s->timers) < 0 || codec_ctx_create(&s->codecs) < 0 ||
        net_sim_create(sim->wire, idx, SIM_SHARDS + 1, &s->net) < 0)
        abort();
    store_create(sh);
    if (kafka_create(s, &s->kafka) < 0)
        abort();
    struct conn_opts opts = {.rx_window = 64u << 10, .tx_high = 128u << 10};
    if (s->net->ops->listen(s->net, &sim->conf->kafka[0].bind, 64, &opts) < 0)
        abort();
    if (stacks[idx] == NULL)
        stacks[idx] = malloc(STACK_BYTES);
    if (stacks[idx] == NULL || getcontext(&sh->ctx) < 0)
        abort();
    sh->ctx.uc_stack.ss_sp = stacks[idx];
    sh->ctx.uc_stack.ss_size = STACK_BYTES;
    sh->ctx.uc_link = NULL;
    makecontext(&sh->ctx, (void (*)(void))(void *)shard_main, 1, (unsigned)idx);
}

static void disk_create(void)
{
    static const struct uuid cluster = {{1, 2, 3}};
    char err[CATALOG_ERR_MAX];
    sim->disk = fake_disk_new(sim->seed);
    struct file_io io = {.ops = &fake_file_ops, .arg = sim->disk};
    struct catalog_opts co = {.ops = &fake_file_ops,
                              .ops_arg = sim->disk,
                              .dir_cnt = 1,
                              .dirs = {DATA_DIR},
                              .cluster_id = &cluster,
                              .node_id = 1,
                              .format = true};
    int rc = fake_file_ops.mkdir(&io, "/data");
    if (rc == 0)
        rc = catalog_open(&co, &sim->catalog, err);
    SIM_CHECK(rc == 0, "%s", err_text(rc));
}

static void bind_handlers(void)
{
    kafka_bind_handlers(msg_handlers);
    msg_handlers[MSG_ADMIN].request = on_ctl_request;
    msg_handlers[MSG_PRODUCER_IDS].request = on_ctl_request;
    msg_handlers[MSG_IMAGE] = (struct msg_handlers){apply_on_image, on_apply_reply};
    msg_handlers[MSG_PARTITIONS] = (struct msg_handlers){apply_on_partitions, on_apply_reply};
    msg_handlers[MSG_STOP] = (struct msg_handlers){on_stop, on_stop_reply};
}

void sim_create(uint64_t seed)
{
    static const struct clock_source source = {clock_ns, clock_ms, NULL};
    sim = calloc(1, sizeof(*sim));
    if (sim == NULL)
        abort();
    sim->seed = seed;
    sim->rng = seed * 1000003;
    sim->now_ns = 1000 * SIM_MS;
    sim->next_producer_id = 5000;
    sim->trace = getenv("SLUICE_TEST_LOG") != NULL;
    accel_init(false);
    log_set_level(sim->trace ? LOG_LEVEL_INFO : LOG_LEVEL_NONE);
    list_init(&sim->held);
    traits_draw(&sim->traits);
    conf_draw();
    clock_set_source(&source);
    bind_handlers();
    disk_create();
    if (mbox_net_create(SIM_SHARDS + 1, sim->traits.ring_cap, &sim->mboxes) < 0)
        abort();
    sim->ctl = mbox_of(sim->mboxes, ENDPOINT_CTL(SIM_SHARDS));
    struct sim_cfg cfg = {.seed = seed,
                          .delay_min_ns = sim_rnd(50000),
                          .delay_max_ns = sim->traits.wire_max_ns,
                          .chunk_max = sim_chance(50) ? 0 : 1 + (uint32_t)sim_rnd(4000),
                          .conn_max = 128,
                          .tx_segs_max = 1024};
    if (sim_world_create(&cfg, &sim->wire) < 0 || image_create_empty(&sim->image) < 0)
        abort();
    sim->image->node_id = sim->conf->node_id;
    if (kafka_shared_create(sim->conf->connections_max * SIM_SHARDS, &sim->kafka_shared) < 0)
        abort();
    for (uint16_t i = 0; i < SIM_SHARDS; i++)
        shard_create(i);
    if (net_sim_create(sim->wire, SIM_SHARDS, SIM_SHARDS + 1, &sim->clients) < 0)
        abort();
    struct meta_batch b;
    meta_batch_init(&b);
    meta_put_feature(&b, "metadata.version", META_VERSION_LEVEL);
    if (sim->traits.quotas) {
        struct quota_entity e = {{QUOTA_ABSENT, SPAN_NULL}, {QUOTA_DEFAULT, SPAN_NULL}};
        meta_put_quota(&b, &e, QUOTA_PRODUCE, (double)(100000 + sim_rnd(2000000)));
        meta_put_quota(&b, &e, QUOTA_FETCH, (double)(100000 + sim_rnd(2000000)));
    }
    apply_start(&b, NULL, 0, 0);
    meta_batch_fini(&b);
}

void sim_stop(void)
{
    sim->stopping = true;
    sim->stop_due = SIM_SHARDS;
    SIM_TRACE("control: stop");
    for (uint16_t i = 0; i < SIM_SHARDS; i++) {
        sim->sh[i].stop.msg.type = MSG_STOP;
        mbox_send(sim->ctl, i, &sim->sh[i].stop.msg);
    }
}

bool sim_has_ended(void)
{
    for (uint32_t i = 0; i < SIM_SHARDS; i++)
        if (!sim->sh[i].ended)
            return false;
    return true;
}

void sim_destroy(void)
{
    sim->clients->ops->destroy(sim->clients);
    for (uint32_t i = 0; i < SIM_SHARDS; i++) {
        struct shard *s = &sim->sh[i].s;
        s->net->ops->destroy(s->net);
        kafka_destroy(s->kafka);
        plog_set_destroy(s->plogs);
        codec_ctx_destroy(s->codecs);
        timer_wheel_destroy(s->timers);
    }
    int rc = catalog_close(sim->catalog, true);
    SIM_CHECK(rc == 0, "%s", err_text(rc));
    SIM_CHECK(fake_disk_open_files(sim->disk) == 0, "%u files are still open",
              fake_disk_open_files(sim->disk));
    fake_disk_free(sim->disk);
    sim_world_destroy(sim->wire);
    mbox_net_destroy(sim->mboxes);
    image_put(sim->image);
    owner_map_destroy(sim->owners);
    kafka_shared_destroy(sim->kafka_shared);
    clock_set_source(NULL);
    free(sim->conf);
    free(sim);
    sim = NULL;
}

/* ---------------------------------------------------------------- left behind */

#define NOTHING(list, what)                                                                        \
    SIM_CHECK(list_is_empty(list), "shard %u: there is still %s", s->id, what)
#define ZERO(value) SIM_CHECK((value) == 0, "shard %u: %llu", s->id, (unsigned long long)(value))

static uint32_t list_len(const struct list *l)
{
    uint32_t n = 0;
    list_for_each(it, l) n++;
    return n;
}

static void check_budget(const struct shard *s, const struct budget *b, const char *name)
{
    SIM_CHECK(b->used == 0, "shard %u: %" PRIu64 " bytes of %s", s->id, b->used, name);
    NOTHING(&b->waiters, name);
}

static void check_kafka(const struct shard *s)
{
    const struct kafka *k = s->kafka;
    ZERO(k->conn_cnt);
    ZERO(k->req_cnt);
    ZERO(k->own_used);
    ZERO(k->parked_bytes);
    NOTHING(&k->conns, "a connection");
    NOTHING(&k->ready, "a ready connection");
    NOTHING(&k->starved, "a starved connection");
    NOTHING(&k->kicked, "a kicked request");
    NOTHING(&k->parked, "a parked request");
    check_budget(s, &k->probes, "the probe budget");
    check_budget(s, &k->frames_small, "the budget of small frames");
    check_budget(s, &k->frames_large, "the budget of large frames");
    check_budget(s, &k->responses, "the response budget");
    SIM_CHECK(list_len(&k->free_conns) == k->conns_fresh, "shard %u: %u of %u", s->id,
              list_len(&k->free_conns), k->conns_fresh);
    SIM_CHECK(list_len(&k->free_reqs) == k->reqs_fresh, "shard %u: %u of %u", s->id,
              list_len(&k->free_reqs), k->reqs_fresh);
    for (uint32_t i = 0; i < k->reqs_fresh; i++)
        ZERO(k->reqs[i].arena_charge);
    SIM_CHECK(coord_is_idle(k->coord), "shard %u: the coordinator is busy", s->id);
}

static void check_plog(const struct shard *s, const struct plog *p)
{
    NOTHING(&p->waits, "a registered fetch");
    NOTHING(&p->blocked, "an append that waits for memory");
    NOTHING(&p->appends, "an append that waits for the disk");
    ZERO(p->io);
    ZERO(p->jobs);
    SIM_CHECK(p->durable.lsn == p->end.lsn, "shard %u: %" PRIu64 " of %" PRIu64 " bytes", s->id,
              p->durable.lsn, p->end.lsn);
}

static void check_store(const struct shard *s)
{
    struct plog_set *set = s->plogs;
    list_for_each(it, &set->all) check_plog(s, container_of(it, struct plog, all_link));
    NOTHING(&set->blocked, "a partition that waits for memory");
    NOTHING(&set->read_wait, "a read that waits");
    NOTHING(&set->lookup_wait, "a look-up that waits");
    NOTHING(&set->ready_appends, "an answer to an append");
    NOTHING(&set->ready_reads, "an answer to a read");
    NOTHING(&set->ready_waits, "a wake-up");
    NOTHING(&set->ready_lists, "an answer to a look-up");
    NOTHING(&set->ready_detached, "a partition on its way out");
    ZERO(set->blocked_cnt);
    ZERO(set->blocked_bytes);
    ZERO(set->lookup_cnt);
    ZERO(set->reads_in_flight);
    ZERO(set->unflushed_bytes);
    ZERO(set->draining_cnt);
    SIM_CHECK(list_len(&set->read_free) == set->read_buf_cnt &&
                  list_len(&set->buf_free) == set->read_buf_cnt,
              "shard %u: %u", s->id, list_len(&set->read_free));
    uint64_t cached = 0;
    list_for_each(it, &set->cache) cached += container_of(it, struct chunk, cache)->cap;
    SIM_CHECK(staging_free_bytes(set->staging) + cached == staging_bytes(set->staging),
              "shard %u: %" PRIu64 " + %" PRIu64 " of %" PRIu64 " bytes of staging", s->id,
              staging_free_bytes(set->staging), cached, staging_bytes(set->staging));
    for (uint32_t i = 0; i < set->dir_cnt; i++) {
        ZERO(set->dirs[i].staged_bytes);
        SIM_CHECK(journal_tail_use(set->dirs[i].journal) == JOURNAL_USE_NONE,
                  "shard %u: a journal file is held", s->id);
    }
}

void sim_check_nothing_left(void)
{
    for (uint32_t i = 0; i < SIM_SHARDS; i++) {
        struct sim_shard *sh = &sim->sh[i];
        struct shard *s = &sh->s;
        check_kafka(s);
        check_store(s);
        ZERO(mbox_overflow_cnt(s->mbox));
        ZERO(s->net->conn_cnt);
        ZERO(fake_disk_in_flight_of(sim->disk, &sh->io));
    }
    for (uint32_t i = 0; i < (SIM_SHARDS + 1) * (SIM_SHARDS + 1); i++)
        SIM_CHECK(ring_has(&sim->mboxes->rings[i]) == 0, "ring %u holds messages", i);
    SIM_CHECK(list_is_empty(&sim->held), "the control thread keeps a request");
    SIM_CHECK(conn_total(sim->kafka_shared) == 0, "%u connections are counted",
              conn_total(sim->kafka_shared));
    SIM_CHECK(sim->apply == NULL, "an image is still on its way");
}
