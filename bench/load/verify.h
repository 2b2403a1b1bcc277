/* verify.h - reads back through Fetch what an ingest run stored, and compares it with what the
 * generator wrote. */
#pragma once
#include "bench/load/bench_load.h"
#include "bench/load/gen.h"

struct verify_opts {
    const char *bootstrap, *topic, *dlq;
    uint32_t event_size;
    int64_t wall_s; /* as given to the generator */
    const char *listener;
    bool some_dropped; /* events were dropped, and counted: gaps in a source's numbers are no error
                        */
};
struct verify_result {
    uint64_t records, dead_letters; /* read back */
    int64_t end, dlq_end;           /* log end offsets, summed: all that were ever stored */
    uint64_t foreign;               /* no event of ours, or bytes that differ */
    uint64_t wrong_partition;       /* of one source in more than one partition */
    uint64_t wrong_header;
    uint64_t holes;     /* offsets that are missing between first and last */
    uint64_t backwards; /* an offset not above the one before it */
    uint64_t missing;   /* cyclic: events of a source that were skipped; with events dropped on
                           the way this is only known up to multiples of a cycle */
    double seconds;
    char first[256]; /* what was wrong first, in words */
};
/* EXIT_OK when everything could be read (whatever it says), EXIT_FAILED after a message. */
NODISCARD int verify_run(const struct verify_opts *o, struct verify_result *ret);
json_t *verify_json(const struct verify_result *v, bool ok);
