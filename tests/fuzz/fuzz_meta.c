/* fuzz_meta.c - metadata records from anywhere, applied to a small image: each is one length byte
 * and that many bytes. Whatever is accepted must survive a snapshot. */
#include "lib/meta/image.h"
#include "lib/meta/records.h"
#include "tests/support/test.h"

enum { RECORDS_MAX = 64 };
static const struct uuid topic_id = {{1, 2, 3}}, directory = {{4, 5, 6}};

static struct meta_image *apply(const struct meta_image *img, const struct span *v, uint32_t cnt)
{
    struct meta_image *next = NULL;
    int rc = image_apply(img, v, cnt, 1, &next);
    ASSERT((rc == 0) == (next != NULL));
    return next;
}

static void put_small(struct meta_batch *b)
{
    meta_put_topic(b, &topic_id, span_str("t"));
    meta_put_config(b, META_RESOURCE_TOPIC, span_str("t"), span_str("k"), span_str("v"));
    meta_put_partition(b, &topic_id, 0, 1, &directory);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct span v[RECORDS_MAX];
    uint32_t cnt = 0;
    for (size_t at = 0; at < len && cnt < RECORDS_MAX;) {
        size_t n = data[at++];
        if (n > len - at)
            n = len - at;
        v[cnt++] = span_of(data + at, (uint32_t)n);
        at += n;
    }
    struct meta_image *empty, *img, *next, *again;
    struct meta_batch b;
    meta_batch_init(&b);
    put_small(&b);
    if (image_create_empty(&empty) < 0)
        abort();
    img = apply(empty, b.v, b.cnt);
    next = apply(img, v, cnt);
    if (next != NULL) {
        meta_batch_reset(&b);
        meta_put_image(&b, next);
        ASSERT(b.rc == 0);
        if (next->node_id >= 0)
            empty->node_id = next->node_id;
        again = apply(empty, b.v, b.cnt);
        ASSERT(again != NULL);
        ASSERT(again->topic_cnt == next->topic_cnt);
        ASSERT(again->partition_cnt == next->partition_cnt);
        image_put(again);
    }
    image_put(next);
    image_put(img);
    image_put(empty);
    meta_batch_fini(&b);
    return 0;
}

size_t fuzz_seed(unsigned i, uint8_t *buf, size_t cap);
size_t fuzz_seed(unsigned i, uint8_t *buf, size_t cap)
{
    struct uuid other = {{7, (uint8_t)i}};
    struct meta_batch b;
    meta_batch_init(&b);
    meta_put_feature(&b, "metadata.version", 27);
    meta_put_topic(&b, &other, span_str("other"));
    meta_put_partition(&b, &other, 0, 1, &directory);
    struct register_broker_record r;
    register_broker_record_init(&r);
    r.broker_id = 1;
    r.broker_epoch = 5;
    struct broker_registration_change_record c;
    broker_registration_change_record_init(&c);
    c.broker_id = 1;
    c.broker_epoch = 5;
    c.fenced = -1;
    struct begin_transaction_record begin;
    begin_transaction_record_init(&begin);
    struct end_transaction_record end;
    end_transaction_record_init(&end);
    switch (i) {
    case 0:
        meta_put_register_broker_record(&b, &r);
        meta_put_broker_registration_change_record(&b, &c);
        break;
    case 1:
        meta_put_leader(&b, &topic_id, 0, 1);
        meta_put_config(&b, META_RESOURCE_TOPIC, span_str("t"), span_str("k"), SPAN_NULL);
        meta_put_producer_ids(&b, 1, 5, 2000);
        break;
    case 2:
        meta_put_begin_transaction_record(&b, &begin);
        meta_put_remove_topic(&b, &topic_id);
        meta_put_end_transaction_record(&b, &end);
        break;
    case 3: /* as Kafka writes them: what has no meaning here, and other brokers */
        meta_put_frame(&b, span_of("\x01\x1b\x00xyz", 6));
        meta_put_frame(&b, span_of("\x01\x1c\x00\x00", 4));
        meta_put_config(&b, 16, span_str("m"), span_str("k"), span_str("v"));
        meta_put_register_broker_record(&b, &r);
        r.broker_id = c.broker_id = 2;
        meta_put_register_broker_record(&b, &r);
        meta_put_broker_registration_change_record(&b, &c);
        break;
    default:
        meta_batch_fini(&b);
        return 0;
    }
    size_t len = 0;
    for (uint32_t n = 0; n < b.cnt && len + 256 < cap; n++) {
        buf[len++] = (uint8_t)b.v[n].len;
        memcpy(buf + len, b.v[n].p, b.v[n].len);
        len += b.v[n].len;
    }
    meta_batch_fini(&b);
    return len;
}
