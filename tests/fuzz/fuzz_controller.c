/* fuzz_controller.c - admin requests from anywhere, as a dataplane forwards them, to a controller
 * with a small image. Byte 0 says which API and how the request ends (the dataplane applies the
 * change, refuses it, or sluiced stops first), byte 1 is the version, the rest is the body.
 * Whatever it is: one answer that follows its schema, an image without contradictions, nothing
 * changed without a record of it, and the log replays to the same image. An input that changed
 * something gets the next one a new log. */
#include "ctl/controller/controller_int.h"
#include "lib/base/log.h"
#include "tests/support/any_request.h"
#include <stdlib.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
size_t fuzz_seed(unsigned i, uint8_t *buf, size_t cap);

enum { PARTITIONS_MAX = 100 };
static const struct {
    int16_t key, min, max;
} apis[] = {
    {CREATE_TOPICS_REQUEST_KEY, CREATE_TOPICS_REQUEST_MIN, CREATE_TOPICS_REQUEST_MAX},
    {DELETE_TOPICS_REQUEST_KEY, DELETE_TOPICS_REQUEST_MIN, DELETE_TOPICS_REQUEST_MAX},
    {CREATE_PARTITIONS_REQUEST_KEY, CREATE_PARTITIONS_REQUEST_MIN, CREATE_PARTITIONS_REQUEST_MAX},
    {ALTER_CONFIGS_REQUEST_KEY, ALTER_CONFIGS_REQUEST_MIN, ALTER_CONFIGS_REQUEST_MAX},
    {INCREMENTAL_ALTER_CONFIGS_REQUEST_KEY, INCREMENTAL_ALTER_CONFIGS_REQUEST_MIN,
     INCREMENTAL_ALTER_CONFIGS_REQUEST_MAX},
    {ALTER_CLIENT_QUOTAS_REQUEST_KEY, ALTER_CLIENT_QUOTAS_REQUEST_MIN,
     ALTER_CLIENT_QUOTAS_REQUEST_MAX},
    {METADATA_REQUEST_KEY, 0, 0}, /* not the controller's */
};
#define API_CNT (sizeof(apis) / sizeof(apis[0]))
enum ending { APPLIED, REFUSED, STOPPED, ENDING_CNT };

static struct fixture {
    char *dir;
    struct conf conf;
    struct identity id;
    struct controller *c;
    int64_t published; /* last offset of the last change, -1: none since the request */
    uint32_t changes;
    /* the request under way */
    int16_t key, version;
    uint32_t answers;
} f;

static void on_publish(void *arg, const struct span *records, uint32_t cnt, int64_t last)
{
    (void)arg;
    ASSERT(records != NULL && cnt > 0);
    f.published = last;
    f.changes++;
}
static void controller_start(void)
{
    char err[512] = "";
    struct controller_opts o = {.conf = &f.conf, .identity = &f.id, .publish = on_publish};
    int rc = controller_open(&o, &f.c, err, sizeof(err));
    if (rc < 0)
        fprintf(stderr, "%s\n", err);
    ASSERT(rc == 0);
}
/* A topic with an id that seeds can name, an override and a quota. */
static void base_put(void)
{
    struct change ch;
    struct uuid id = world_topic_id(1);
    struct quota_entity e = {.client = {QUOTA_NAMED, span_str("a")}};
    int64_t offset;
    change_init(&ch, f.c);
    meta_put_topic(&ch.b, &id, span_str(ANY_TOPIC));
    meta_put_config(&ch.b, META_RESOURCE_TOPIC, span_str(ANY_TOPIC), span_str("retention.ms"),
                    span_str("1000"));
    change_add_partition(f.c, &ch, &id, 0);
    change_add_partition(f.c, &ch, &id, 1);
    meta_put_quota(&ch.b, &e, QUOTA_PRODUCE, 5);
    int rc = controller_commit(f.c, &ch, &offset);
    change_fini(&ch);
    ASSERT(rc == 0);
}
static void log_remove(void)
{
    char path[CONF_PATH_MAX + 64];
    snprintf(path, sizeof(path), "%s/" META_LOG_DIR "/00000000000000000000.log",
             f.conf.data_dirs[0]);
    ASSERT(unlink(path) == 0);
}
static void end(void)
{
    controller_close(f.c);
    test_tmpdir_remove(f.dir);
}
static void begin(void)
{
    char err[512] = "", most[16];
    log_set_level(LOG_LEVEL_NONE);
    f.dir = test_tmpdir();
    conf_init(&f.conf);
    snprintf(f.conf.dir, sizeof(f.conf.dir), "%s", f.dir);
    snprintf(most, sizeof(most), "%d", PARTITIONS_MAX);
    int rc = conf_set(&f.conf, "topic_defaults.partitions_max", most, false, err, sizeof(err));
    ASSERT(rc == 0);
    conf_finish(&f.conf);
    rc = identity_load(&f.conf, &f.id, err, sizeof(err));
    ASSERT(rc == 0);
    controller_start();
    base_put();
    atexit(end);
}

/* ---- what must hold ---- */

static void on_done(void *arg, int16_t error, const char *message, struct span body)
{
    (void)arg;
    f.answers++;
    if (error != 0) {
        ASSERT(message != NULL && message[0] != '\0');
        return;
    }
    const struct desc_msg *msg = any_message(f.key, "response");
    struct arena arena;
    struct wire_reader r;
    ASSERT(msg != NULL && f.version >= msg->lo && f.version <= msg->hi);
    arena_init(&arena, 256u << 20);
    void *m = arena_alloc(&arena, msg->desc->size);
    wire_reader_init(&r, body);
    ASSERT(m != NULL && msg->read(&r, f.version, &arena, m) == 0 && wire_left(&r) == 0);
    arena_fini(&arena);
}
static void check_topic(const struct meta_image *img, uint32_t i)
{
    const struct meta_topic *t = img->by_name[i];
    ASSERT(meta_topic_name_ok(span_str(t->name)));
    ASSERT(i == 0 || strcmp(img->by_name[i - 1]->name, t->name) < 0);
    ASSERT(!uuid_is_zero(&t->id) && image_topic_by_id(img, &t->id) == t);
    ASSERT(t->partition_cnt > 0);
    for (uint32_t p = 0; p < t->partition_cnt; p++)
        ASSERT(t->partitions[p].leader == img->node_id &&
               uuid_eq(&t->partitions[p].directory, &f.id.dir_id[0]));
    for (uint32_t k = 1; k < t->config_cnt; k++)
        ASSERT(strcmp(t->configs[k - 1].key, t->configs[k].key) < 0);
}
static void check_image(const struct meta_image *img)
{
    uint32_t partitions = 0;
    for (uint32_t i = 0; i < img->topic_cnt; i++) {
        check_topic(img, i);
        partitions += img->by_name[i]->partition_cnt;
    }
    ASSERT(partitions == img->partition_cnt && partitions <= PARTITIONS_MAX);
    for (uint32_t i = 0; img->quotas != NULL && i < img->quotas->cnt; i++) {
        const struct meta_quota *q = &img->quotas->v[i];
        bool any = false;
        for (int k = 0; k < QUOTA_TYPE_CNT; k++) {
            ASSERT(q->rate[k] >= 0);
            any = any || q->rate[k] > 0;
        }
        ASSERT(any && quotas_find(img->quotas, &q->entity) == q);
    }
    ASSERT(img->offset == controller_last_offset(f.c));
}
/* Opens the log again: it must say what the image said. */
static void check_replay(struct meta_image *before)
{
    struct meta_batch was, is;
    meta_batch_init(&was);
    meta_batch_init(&is);
    controller_start();
    const struct meta_image *img = controller_image(f.c);
    ASSERT(img->offset == before->offset);
    meta_put_image(&was, before);
    meta_put_image(&is, img);
    ASSERT(was.rc == 0 && is.rc == 0 && was.cnt == is.cnt);
    for (uint32_t i = 0; i < was.cnt; i++)
        ASSERT(span_eq(was.v[i], is.v[i]));
    meta_batch_fini(&was);
    meta_batch_fini(&is);
}

/* ---- one input ---- */

/* What waits for the dataplane gets its answer; STOPPED leaves it to controller_close. */
static void dataplane_answers(enum ending how)
{
    struct ctl_metadata_applied m;
    if (how == STOPPED || f.published < 0)
        return;
    ctl_metadata_applied_init(&m);
    m.offset = f.published;
    if (how == REFUSED) {
        m.error_code = 56;
        m.error_message = span_str("no");
    }
    controller_on_applied(f.c, &m);
    ASSERT(f.answers == 1);
}
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len < 2)
        return 0;
    if (f.c == NULL)
        begin();
    enum ending how = (enum ending)(data[0] / API_CNT % ENDING_CNT);
    f.key = apis[data[0] % API_CNT].key;
    f.version = (int8_t)data[1];
    f.answers = f.changes = 0;
    f.published = -1;
    struct meta_image *before = image_get(controller_image(f.c));
    struct admin_request q = {.api_key = f.key,
                              .api_version = f.version,
                              .body = span_of(data + 2, (uint32_t)(len - 2)),
                              .done = on_done};
    controller_admin(f.c, &q);
    ASSERT(f.changes <= 1);
    ASSERT(f.answers == (f.changes == 0));
    ASSERT(controller_pending(f.c) == f.changes);
    dataplane_answers(how);
    check_image(controller_image(f.c));
    ASSERT((controller_image(f.c) == before) == (f.changes == 0));
    image_put(before);
    if (f.changes == 0)
        return 0;
    struct meta_image *after = image_get(controller_image(f.c));
    controller_close(f.c);
    ASSERT(f.answers == 1);
    check_replay(after);
    image_put(after);
    controller_close(f.c);
    log_remove();
    controller_start();
    base_put();
    return 0;
}

/* ---- seeds: from the field tables, and what those leave out ---- */

/* Requests that change something, where the plain one names what exists, or nothing real. */
static void seed_patch(int16_t key, void *m)
{
    if (key == CREATE_TOPICS_REQUEST_KEY) {
        struct create_topics_request *q = m;
        q->topics.v[0].name = span_str("new");
        q->topics.v[0].configs.v[0].name = span_str("retention.ms");
        q->topics.v[0].configs.v[0].value = span_str("60000");
    } else if (key == DELETE_TOPICS_REQUEST_KEY) {
        struct delete_topics_request *q = m;
        if (q->topics.cnt > 0)
            q->topics.v[0].name = SPAN_NULL;
    } else if (key == CREATE_PARTITIONS_REQUEST_KEY) {
        struct create_partitions_request *q = m;
        q->topics.v[0].count = 3;
        q->topics.v[0].assignments.null = true;
    } else if (key == ALTER_CONFIGS_REQUEST_KEY) {
        struct alter_configs_request *q = m;
        q->resources.v[0].configs.v[0].name = span_str("cleanup.policy");
        q->resources.v[0].configs.v[0].value = span_str("delete");
    } else if (key == INCREMENTAL_ALTER_CONFIGS_REQUEST_KEY) {
        struct incremental_alter_configs_request *q = m;
        q->resources.v[0].configs.v[0].name = span_str("retention.ms");
        q->resources.v[0].configs.v[0].value = span_str("60000");
    } else if (key == ALTER_CLIENT_QUOTAS_REQUEST_KEY) {
        ((struct alter_client_quotas_request *)m)->entries.v[0].ops.v[0].remove = false;
    }
}
/* The row twice; two topics to create have names that collide. */
static void seed_double(const struct desc *d, int16_t key, int16_t version, struct arena *a,
                        void *m)
{
    uint32_t i = 0;
    while (!d->fields[i].array || version < d->fields[i].lo || version > d->fields[i].hi)
        i++;
    struct desc_arr *rows = (struct desc_arr *)(void *)((uint8_t *)m + d->fields[i].off);
    size_t size = desc_elem_size(&d->fields[i]);
    uint8_t *two = arena_alloc(a, 2 * size);
    memcpy(two, rows->v, size);
    memcpy(two + size, rows->v, size);
    *rows = (struct desc_arr){two, 2, false};
    if (key == CREATE_TOPICS_REQUEST_KEY) {
        struct create_topics_request *q = m;
        q->topics.v[0].name = span_str("n.w");
        q->topics.v[1].name = span_str("n_w");
    }
}
/* Every API and version, plain, patched and with two rows, each with every ending. */
size_t fuzz_seed(unsigned i, uint8_t *buf, size_t cap)
{
    unsigned how = i % ENDING_CNT, kind = i / ENDING_CNT % 3;
    i /= ENDING_CNT * 3;
    for (unsigned a = 0; a < API_CNT; a++) {
        unsigned n = (unsigned)(apis[a].max - apis[a].min + 1);
        if (i >= n) {
            i -= n;
            continue;
        }
        int16_t version = (int16_t)(apis[a].min + (int)i);
        const struct desc_msg *msg = any_message(apis[a].key, "request");
        struct arena arena;
        struct wire_writer w;
        arena_init(&arena, 1 << 20);
        void *m = arena_alloc(&arena, msg->desc->size);
        msg->init(m);
        any_fill(msg->desc, version, &arena, SPAN_NULL, m);
        if (kind > 0)
            seed_patch(apis[a].key, m);
        if (kind > 1)
            seed_double(msg->desc, apis[a].key, version, &arena, m);
        buf[0] = (uint8_t)(how * API_CNT + a);
        buf[1] = (uint8_t)version;
        wire_writer_init(&w, buf + 2, cap - 2);
        msg->write(&w, version, m);
        ASSERT(w.err == 0);
        arena_fini(&arena);
        return w.len + 2;
    }
    return 0;
}
