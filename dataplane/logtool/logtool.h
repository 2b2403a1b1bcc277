/* logtool.h - what the commands of sluice-log share. Each has a data directory (a Kafka log.dir) of
 * a stopped appliance, prints on stdout, and says on stderr what went wrong.
 *
 * Exit codes: 0 all is well (repair: is now); 1 damage was found (repair: some of it is left);
 * 2 usage; 3 it could not be done. */
#pragma once
#include "dataplane/store/catalog.h"
#include "lib/base/span.h"
#include "lib/meta/image.h"
#include <stdbool.h>
#include <stdio.h>

enum { LOGTOOL_OK = 0, LOGTOOL_DAMAGE = 1, LOGTOOL_USAGE = 2, LOGTOOL_FAILED = 3 };

int cmd_recover(int argc, char **argv);
int cmd_verify(int argc, char **argv); /* also "repair" */
int cmd_dump(int argc, char **argv);

/* ---- out.c: JSON by hand, one object a line. */
void out_json_text(FILE *f, struct span s); /* in quotes; what is not UTF-8 as \u00NN */
/* Bytes of others on a terminal: UTF-8 stays, control characters become \xNN. */
void out_text(FILE *f, struct span s);

/* ---- topics.c: what __cluster_metadata-0 of a directory says, as far as it can be read. */
struct meta_image *topics_load(struct file_io *io, const char *dir); /* NULL: there is none */

/* ---- decode.c: records of __consumer_offsets, __transaction_state, __cluster_metadata, and
 * control records, as JSON. False, and nothing was put: it is none, or cannot be understood. */
bool decode_record(FILE *out, const char *topic, struct span key, struct span value);
bool decode_control(FILE *out, struct span key, struct span value);
