/* err.h - error codes.
 *
 * Functions return `int rc`: 0 or a count on success, negative on failure. -Exxx of the operating
 * system, DPDK and io_uring are passed on as they are; our own codes (err.def) start at 5000.
 * Runs on: any thread; nothing here allocates or blocks. */
#pragma once
#include <errno.h>
#include <stdbool.h>

#define NODISCARD __attribute__((warn_unused_result))

enum err {
#define ERR(name, num, kafka, retriable, text) name = num,
#include "lib/base/err.def"
#undef ERR
};

/* Text of a negative rc, ours or the system's; never NULL, static lifetime. */
const char *err_text(int rc);
/* Name of a negative rc of ours ("E_SEG_FULL"), or of an errno ("ENOSPC"). */
const char *err_name(int rc);
/* Kafka protocol code for a negative rc; 0 for 0; UNKNOWN_SERVER_ERROR (-1) for what has none. */
int err_kafka_code(int rc);
/* Whether err.def says that trying again may help; false for what is not ours. */
bool err_is_retriable(int rc);
