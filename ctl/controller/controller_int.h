/* controller_int.h - what the files of the controller share: its state, a change in the making, and
 * an admin request under way.
 *
 *     controller.c      its life, commit          registration.c  what a dataplane's hello changes
 *     change.c          topics, partitions        admin_request.c arrival, waiting, answer
 *     admin_topics.c    CreateTopics, DeleteTopics, CreatePartitions
 *     admin_configs.c   AlterConfigs, IncrementalAlterConfigs
 *     admin_quotas.c    AlterClientQuotas
 *
 * Runs on: sluiced's main thread. */
#pragma once
#include "ctl/controller/controller.h"
#include "ctl/controller/meta_log.h"
#include "lib/base/arena.h"
#include "lib/meta/records.h"

struct pending;
struct controller {
    const struct conf *conf;
    struct identity id;
    /* Directories that the dataplane opened, by its hello; the first one always. */
    bool dir_is_open[CONF_DIRS_MAX];
    controller_publish_fn *publish;
    void *publish_arg;
    struct meta_log *log;
    struct meta_image *img;
    struct uuid incarnation; /* of the registration in force */
    int64_t broker_epoch;
    int64_t applied;
    struct pending *waiting; /* oldest first */
    uint32_t waiting_cnt;
};

/* ---- a change in the making: its records ---- */

struct change {
    struct meta_batch b;
    uint32_t partitions_added;
    /* Partitions per data directory, this change's included: new ones go where fewest are. */
    uint64_t dir_partitions[CONF_DIRS_MAX];
};
void change_init(struct change *ch, const struct controller *c);
void change_fini(struct change *ch);
/* Is there room for that many partitions more? */
bool change_room_for(const struct controller *c, const struct change *ch, uint64_t partitions);
void change_add_partition(const struct controller *c, struct change *ch,
                          const struct uuid *topic_id, int32_t partition);
struct proposed_topic {
    struct span name;
    uint32_t partitions;
    const struct create_topics_request_config *configs;
    uint32_t config_cnt;
};
/* Its new id. */
struct uuid change_add_topic(const struct controller *c, struct change *ch,
                             const struct proposed_topic *t);
/* Appends, installs, publishes. *ret_offset is the last record's offset. A negative rc leaves
 * everything as it was. */
NODISCARD int controller_commit(struct controller *c, struct change *ch, int64_t *ret_offset);

/* ---- admin requests ---- */

#define ADMIN_MESSAGE_MAX 512

/* One admin request from its arrival to its answer. Everything it points to is in its arena. */
struct pending {
    struct pending *next;
    const struct admin_api *api;
    int16_t api_version;
    bool validate_only;
    int32_t timeout_ms;
    int64_t wait_offset; /* -1: nothing to wait for */
    uint64_t deadline_ns;
    admin_done_fn *done;
    void *arg;
    struct arena arena;
    union {
        struct create_topics_response create;
        struct delete_topics_response del;
        struct create_partitions_response grow;
        struct alter_configs_response alter;
        struct incremental_alter_configs_response incremental;
        struct alter_client_quotas_response quotas;
    } resp;
    struct uuid *topic_ids; /* by row of the response; zero where nothing changed, all
                             ones where something without an id did */
};
/* One row of any response, as far as they are alike. */
struct row {
    int16_t *error;
    struct span *message;
};
/* What differs from API to API: its rows, its encoding, its work. */
struct admin_api {
    int16_t key, min, max;
    uint32_t (*row_cnt)(const struct pending *p);
    struct row (*row_at)(struct pending *p, uint32_t i);
    size_t (*size)(const struct pending *p);
    void (*write)(struct wire_writer *w, const struct pending *p);
    /* Reads the request, fills the rows, adds the records; sets timeout_ms and validate_only.
     * 0, or the error that answers everything in the request. */
    int16_t (*propose)(struct controller *c, struct pending *p, struct wire_reader *r,
                       struct change *ch);
};
extern const struct admin_api create_topics_api, delete_topics_api, create_partitions_api,
    alter_configs_api, incremental_alter_configs_api, alter_client_quotas_api;

/* The row of `name`##_api; the rows of its answer are p->resp.`member`.`list`. */
#define ADMIN_API(name, KEY, member, list)                                                         \
    static uint32_t name##_row_cnt(const struct pending *p)                                        \
    {                                                                                              \
        return p->resp.member.list.cnt;                                                            \
    }                                                                                              \
    static struct row name##_row_at(struct pending *p, uint32_t i)                                 \
    {                                                                                              \
        return (struct row){&p->resp.member.list.v[i].error_code,                                  \
                            &p->resp.member.list.v[i].error_message};                              \
    }                                                                                              \
    static size_t name##_answer_size(const struct pending *p)                                      \
    {                                                                                              \
        return name##_response_size(&p->resp.member, p->api_version);                              \
    }                                                                                              \
    static void name##_answer_write(struct wire_writer *w, const struct pending *p)                \
    {                                                                                              \
        name##_response_write(w, p->api_version, &p->resp.member);                                 \
    }                                                                                              \
    const struct admin_api name##_api = {KEY##_KEY,           KEY##_MIN,     KEY##_MAX,            \
                                         name##_row_cnt,      name##_row_at, name##_answer_size,   \
                                         name##_answer_write, name};

/* The names a request gives, by row, and which of them occur more than once. */
struct row_names {
    struct span *v;
    bool *repeated;
    const struct span **order; /* sorted by names_mark_repeats */
};
/* Memory for the rows of the answer (returned, zeroed) and what goes with them: p->topic_ids,
 * *ret_names. NULL: the request is too large for its arena. */
void *rows_alloc(struct pending *p, uint32_t cnt, size_t row_size, struct row_names *ret_names);
void names_mark_repeats(struct row_names *names, uint32_t cnt);
/* Text in the request's memory; SPAN_NULL without room: an answer without its sentence. */
__attribute__((format(printf, 2, 3))) struct span say(struct pending *p, const char *fmt, ...);
/* Row i fails. */
__attribute__((format(printf, 4, 5))) void row_fail(struct pending *p, uint32_t i, int16_t error,
                                                    const char *fmt, ...);
/* Row i fails with POLICY_VIOLATION when so many partitions more have no room; true: they have. */
bool row_room_for(struct controller *c, struct pending *p, const struct change *ch, uint32_t i,
                  uint32_t partitions);
/* Everything that waits is answered with REQUEST_TIMED_OUT and this sentence. */
void admin_requests_end(struct controller *c, const char *why);
