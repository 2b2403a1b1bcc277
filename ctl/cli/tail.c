/* tail.c - printing records, as an ordinary Kafka client without a group.
 *
 *     --from end (default)   the last N records of all partitions together, by timestamp
 *     --from beginning       the first N, or all without -n
 *     --follow               then what comes, until Ctrl-C
 *
 * Reading ends where each partition ended when the command began (or, following, never). */
#include "ctl/cli/cli.h"
#include "lib/base/assert.h"
#include <inttypes.h>
#include <librdkafka/rdkafka.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WAIT_MS 30000
#define LAST_MAX 100000

struct kept {
    rd_kafka_message_t *m;
    int64_t ms; /* never less than that of an earlier offset of its partition: sorting by it keeps
                   offset order, whatever the timestamps say */
};
struct tail {
    struct cli *c;
    rd_kafka_t *rk;
    const char *topic;
    uint64_t limit;
    bool from_end, follow;
    uint64_t printed;
    uint32_t part_cnt, done_cnt;
    bool *done;         /* by partition: its end has been reached once */
    int64_t *latest_ms; /* by partition: largest timestamp so far */
    struct kept *kept;  /* --from end: what may be among the last N */
    uint64_t kept_cnt, kept_cap;
    char error[512]; /* the last thing librdkafka complained about */
};

static volatile sig_atomic_t interrupted;
static void on_signal(int sig)
{
    (void)sig;
    interrupted = 1;
}

static void on_error(rd_kafka_t *rk, int err, const char *reason, void *arg)
{
    struct tail *t = arg;
    (void)snprintf(t->error, sizeof(t->error), "%s", reason);
}

/* ---- printing */
static json_t *json_bytes(const void *p, size_t len, const char **ret_suffix)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const uint8_t *b = p;
    *ret_suffix = "";
    if (p == NULL)
        return json_null();
    json_t *j = json_stringn(p, len); /* NULL when not UTF-8 */
    if (j != NULL)
        return j;
    char *text = malloc(len / 3 * 4 + 5), *q = text;
    ASSERT(text != NULL);
    for (size_t i = 0; i < len; i += 3) {
        uint32_t v = (uint32_t)b[i] << 16 | (i + 1 < len ? (uint32_t)b[i + 1] << 8 : 0) |
                     (i + 2 < len ? b[i + 2] : 0);
        *q++ = digits[v >> 18];
        *q++ = digits[v >> 12 & 63];
        *q++ = i + 1 < len ? digits[v >> 6 & 63] : '=';
        *q++ = i + 2 < len ? digits[v & 63] : '=';
    }
    j = json_stringn(text, (size_t)(q - text));
    free(text);
    *ret_suffix = "_base64";
    return j;
}
static void json_put(json_t *o, const char *name, const void *p, size_t len)
{
    const char *suffix;
    char key[32];
    json_t *v = json_bytes(p, len, &suffix);
    (void)snprintf(key, sizeof(key), "%s%s", name, suffix);
    json_object_set_new(o, key, v);
}

static void print_json(const rd_kafka_message_t *m, int64_t ms, rd_kafka_headers_t *heads)
{
    const char *name;
    const void *value;
    size_t len;
    json_t *o = json_object(), *list = json_array();
    json_object_set_new(o, "topic", json_string(rd_kafka_topic_name(m->rkt)));
    json_object_set_new(o, "partition", json_integer(m->partition));
    json_object_set_new(o, "offset", json_integer(m->offset));
    json_object_set_new(o, "timestamp", json_integer(ms));
    json_put(o, "key", m->key, m->key_len);
    for (size_t i = 0; heads != NULL && rd_kafka_header_get_all(heads, i, &name, &value, &len) == 0;
         i++) {
        json_t *h = json_object();
        json_put(h, "name", name, strlen(name));
        json_put(h, "value", value, len);
        json_array_append_new(list, h);
    }
    json_object_set_new(o, "headers", list);
    json_put(o, "value", m->payload, m->len);
    (void)json_dumpf(o, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(o);
}

static void print_text(const rd_kafka_message_t *m, int64_t ms, rd_kafka_headers_t *heads)
{
    const char *name;
    const void *value;
    size_t len;
    char when[CLI_TEXT_MAX];
    printf("%s %" PRId32 "@%" PRId64, cli_time(ms, when), m->partition, m->offset);
    for (size_t i = 0; heads != NULL && rd_kafka_header_get_all(heads, i, &name, &value, &len) == 0;
         i++) {
        putchar(' ');
        cli_put_text(name, strlen(name));
        putchar('=');
        if (value != NULL)
            cli_put_text(value, len);
    }
    if (m->key != NULL) {
        printf(" key=");
        cli_put_text(m->key, m->key_len);
    }
    printf(" | ");
    if (m->payload == NULL)
        printf("(null)");
    else
        cli_put_text(m->payload, m->len);
    putchar('\n');
}

static void print_record(struct tail *t, const rd_kafka_message_t *m)
{
    rd_kafka_timestamp_type_t type;
    rd_kafka_headers_t *heads = NULL;
    int64_t ms = rd_kafka_message_timestamp(m, &type);
    if (rd_kafka_message_headers(m, &heads) != 0)
        heads = NULL;
    if (t->c->json)
        print_json(m, ms, heads);
    else
        print_text(m, ms, heads);
    t->printed++;
}

/* ---- the last N of several partitions */
static int by_time(const void *a, const void *b)
{
    const struct kept *x = a, *y = b;
    if (x->ms != y->ms)
        return x->ms < y->ms ? -1 : 1;
    if (x->m->partition != y->m->partition)
        return x->m->partition < y->m->partition ? -1 : 1;
    return x->m->offset < y->m->offset ? -1 : 1;
}
static void keep(struct tail *t, rd_kafka_message_t *m)
{
    if (t->kept_cnt == t->kept_cap) {
        t->kept_cap = t->kept_cap == 0 ? 64 : t->kept_cap * 2;
        t->kept = realloc(t->kept, t->kept_cap * sizeof(*t->kept));
        ASSERT(t->kept != NULL);
    }
    int64_t ms = rd_kafka_message_timestamp(m, NULL), *latest = &t->latest_ms[m->partition];
    if (ms > *latest)
        *latest = ms;
    t->kept[t->kept_cnt++] = (struct kept){m, *latest};
}
static void kept_print(struct tail *t)
{
    if (t->kept_cnt > 1)
        qsort(t->kept, t->kept_cnt, sizeof(*t->kept), by_time);
    for (uint64_t i = 0; i < t->kept_cnt; i++) {
        if (t->kept_cnt - i <= t->limit)
            print_record(t, t->kept[i].m);
        rd_kafka_message_destroy(t->kept[i].m);
    }
    t->kept_cnt = 0;
}

/* ---- reading */
static bool all_done(const struct tail *t)
{
    return t->done_cnt == t->part_cnt;
}

static int take(struct tail *t, rd_kafka_message_t *m)
{
    if (m->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) {
        if (m->partition >= 0 && (uint32_t)m->partition < t->part_cnt && !t->done[m->partition]) {
            t->done[m->partition] = true;
            t->done_cnt++;
            if (t->from_end && all_done(t))
                kept_print(t);
        }
    } else if (m->err != 0) {
        int code = cli_fail(t->c, rd_kafka_err2name(m->err), "reading %s: %s", t->topic,
                            rd_kafka_message_errstr(m));
        rd_kafka_message_destroy(m);
        return code;
    } else if (t->from_end && !all_done(t)) {
        keep(t, m);
        return EXIT_OK;
    } else if (t->printed < t->limit || (t->follow && t->from_end)) {
        print_record(t, m);
    }
    rd_kafka_message_destroy(m);
    return EXIT_OK;
}

static int read_all(struct tail *t)
{
    uint32_t quiet_ms = 0;
    int code = EXIT_OK;
    while (code == EXIT_OK && !interrupted) {
        bool enough = !t->from_end && t->printed >= t->limit;
        if (enough || (all_done(t) && !t->follow))
            break;
        rd_kafka_message_t *m = rd_kafka_consumer_poll(t->rk, 100);
        if (m == NULL) {
            if (fflush(stdout) != 0)
                break; /* a closed pipe */
            quiet_ms += 100;
            if (quiet_ms >= WAIT_MS && !all_done(t))
                return cli_fail(t->c, "TIMED_OUT", "nothing from the appliance for %d s%s%s",
                                WAIT_MS / 1000, t->error[0] ? ": " : "", t->error);
            continue;
        }
        quiet_ms = 0;
        code = take(t, m);
    }
    for (uint64_t i = 0; i < t->kept_cnt; i++) /* interrupted before all ends were reached */
        rd_kafka_message_destroy(t->kept[i].m);
    t->kept_cnt = 0;
    return code;
}

static int parts_find(struct tail *t)
{
    const struct rd_kafka_metadata *md = NULL;
    rd_kafka_topic_t *rkt = rd_kafka_topic_new(t->rk, t->topic, NULL);
    if (rkt == NULL)
        return cli_fail(t->c, "INVALID_TOPIC_EXCEPTION", "'%s' cannot be a topic", t->topic);
    rd_kafka_resp_err_t e = rd_kafka_metadata(t->rk, 0, rkt, &md, WAIT_MS);
    rd_kafka_topic_destroy(rkt);
    if (e != 0)
        return cli_fail(t->c, rd_kafka_err2name(e), "asking for topic %s: %s%s%s", t->topic,
                        rd_kafka_err2str(e), t->error[0] ? ": " : "", t->error);
    int code = EXIT_OK;
    if (md->topic_cnt != 1 || md->topics[0].err != 0) {
        e = md->topic_cnt == 1 ? md->topics[0].err : RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
        code = e == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART
                   ? cli_fail(t->c, rd_kafka_err2name(e),
                              "there is no topic '%s'; 'sluicectl topic list' names them", t->topic)
                   : cli_fail(t->c, rd_kafka_err2name(e), "topic %s: %s", t->topic,
                              rd_kafka_err2str(e));
    } else {
        t->part_cnt = (uint32_t)md->topics[0].partition_cnt;
    }
    rd_kafka_metadata_destroy(md);
    return code;
}

static int start(struct tail *t)
{
    int code = EXIT_OK;
    t->done = calloc(t->part_cnt + 1, sizeof(bool));
    t->latest_ms = calloc(t->part_cnt + 1, sizeof(int64_t));
    ASSERT(t->done != NULL);
    ASSERT(t->latest_ms != NULL);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)t->part_cnt);
    for (uint32_t p = 0; code == EXIT_OK && p < t->part_cnt; p++) {
        int64_t low = 0, high = 0;
        rd_kafka_topic_partition_t *at =
            rd_kafka_topic_partition_list_add(list, t->topic, (int32_t)p);
        rd_kafka_resp_err_t e =
            rd_kafka_query_watermark_offsets(t->rk, t->topic, (int32_t)p, &low, &high, WAIT_MS);
        if (e != 0)
            code = cli_fail(t->c, rd_kafka_err2name(e),
                            "asking for the ends of %s partition %u: %s%s%s", t->topic, p,
                            rd_kafka_err2str(e), t->error[0] ? ": " : "", t->error);
        at->offset = low;
        if (t->from_end && (uint64_t)(high - low) > t->limit)
            at->offset = high - (int64_t)t->limit;
    }
    if (code == EXIT_OK) {
        rd_kafka_resp_err_t e = rd_kafka_assign(t->rk, list);
        if (e != 0)
            code = cli_fail(t->c, rd_kafka_err2name(e), "%s: %s", t->topic, rd_kafka_err2str(e));
    }
    rd_kafka_topic_partition_list_destroy(list);
    return code;
}

static int client_new(struct tail *t, const char *bootstrap)
{
    char err[512];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    const char *const set[][2] = {
        {"bootstrap.servers", bootstrap},
        {"client.id", "sluicectl"},
        {"group.id", "sluicectl"}, /* needed by the API; nothing is joined or committed */
        {"enable.auto.commit", "false"},
        {"enable.auto.offset.store", "false"},
        {"enable.partition.eof", "true"},
        {"auto.offset.reset", "earliest"},
        {"allow.auto.create.topics", "false"},
        {"check.crcs", "true"},
        {"fetch.wait.max.ms", "100"},
        {"reconnect.backoff.max.ms", "500"},
        {"log_level", "0"},
    };
    for (size_t i = 0; i < sizeof(set) / sizeof(set[0]); i++)
        if (rd_kafka_conf_set(conf, set[i][0], set[i][1], err, sizeof(err)) != RD_KAFKA_CONF_OK) {
            rd_kafka_conf_destroy(conf);
            return cli_fail(t->c, NULL, "librdkafka: %s", err);
        }
    rd_kafka_conf_set_opaque(conf, t);
    rd_kafka_conf_set_error_cb(conf, on_error);
    t->rk = rd_kafka_new(RD_KAFKA_CONSUMER, conf, err, sizeof(err));
    if (t->rk == NULL) {
        rd_kafka_conf_destroy(conf);
        return cli_fail(t->c, NULL, "librdkafka: %s", err);
    }
    (void)rd_kafka_poll_set_consumer(t->rk); /* errors too come with consumer_poll */
    return EXIT_OK;
}

int cmd_tail(struct cli *c, int argc, char **argv)
{
    uint64_t n = UINT64_MAX;
    const char *from = "end", *topic;
    bool follow = false;
    const struct arg_opt opts[] = {
        {"--lines", "-n", ARG_NUM, &n, 0, LAST_MAX, NULL},
        {"--from", NULL, ARG_TEXT, &from, 0, 0, "beginning|end"},
        {"--follow", "-f", ARG_FLAG, &follow, 0, 0, NULL},
    };
    char bootstrap[512];
    if (args_parse(c->cmd, argc, argv, opts, 3, &topic, 1) != 1)
        return cli_usage(c);
    struct tail t = {
        .c = c, .topic = topic, .follow = follow, .from_end = strcmp(from, "end") == 0};
    t.limit = n != UINT64_MAX ? n : t.from_end ? 10 : UINT64_MAX;
    if (ports_kafka(c->dir, bootstrap, sizeof(bootstrap)) < 0)
        return cli_fail(
            c, "NOT_RUNNING",
            "no appliance is running at %s (%s): %s/run/ports names no Kafka listener; start one "
            "with 'sluiced --dev --data %s', or give another directory with --data",
            c->dir, c->dir_by, c->dir, c->dir);
    struct sigaction act = {.sa_handler = on_signal};
    (void)sigaction(SIGINT, &act, NULL);
    (void)sigaction(SIGTERM, &act, NULL);
    int code = client_new(&t, bootstrap);
    if (code == EXIT_OK)
        code = parts_find(&t);
    if (code == EXIT_OK)
        code = start(&t);
    if (code == EXIT_OK)
        code = read_all(&t);
    if (t.rk != NULL) {
        (void)rd_kafka_consumer_close(t.rk);
        rd_kafka_destroy(t.rk);
    }
    free(t.done);
    free(t.latest_ms);
    free(t.kept);
    return code;
}
