/* kafka_bytes.h - what a Kafka client puts on the wire: requests and record batches. */
#pragma once
#include "lib/base/span.h"
#include "lib/batch/seal.h"
#include "lib/wire/wire_gen.h"

/* Request bytes (with size) of generated request m. Malloc'ed. */
typedef void write_fn(struct wire_writer *w, int16_t version, const void *m);
uint8_t *request_bytes(int16_t key, int16_t version, int32_t correlation, write_fn *write,
                       const void *m, size_t *ret_len);
/* One batch of n records of value_len bytes; malloc'ed. */
struct span make_batch(uint32_t n, uint32_t value_len, const struct seal_opts *opts);
