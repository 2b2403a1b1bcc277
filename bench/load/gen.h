/* gen.h - the ingest workload: GEN_FRAMES distinct syslog datagrams as Ethernet frames, a function
 * of (options, index) alone, so that what comes back can be compared byte by byte.
 *
 * Frame i comes from source i % GEN_SOURCES and is number i / GEN_SOURCES of that source:
 *     <PRI>1 TIME HOST APP PROCID MSGID [bench@32473 n="000017" s="05"] text ...
 * Every hundredth frame is malformed: it has no <PRI>, so it becomes a dead letter, and says
 * "malformed" instead; the element [bench...] is there all the same. The port replays the file in a
 * loop, so each source's numbers must count cyclically in every partition. */
#pragma once
#include "lib/base/err.h"
#include <stdbool.h>
#include <stdint.h>

#define GEN_FRAMES 8192u
#define GEN_SOURCES 64u
#define GEN_CYCLE (GEN_FRAMES / GEN_SOURCES)
#define GEN_EVENT_MIN 160u
#define GEN_EVENT_MAX 1400u
#define GEN_ADDRESS "10.100.0.1/24" /* the port's; sources are 10.100.0.2 and up */
#define GEN_LISTEN "10.100.0.1:514"
#define GEN_MARK "[bench@32473 n=\""

/* Exactly `size` bytes. wall_s stands in every event, so that it is near its arrival. */
void gen_event(char *p, uint32_t size, uint32_t i, int64_t wall_s);
bool gen_is_malformed(uint32_t i);
/* The frame that an event came from, by its [bench...] element; GEN_FRAMES: not one of ours. */
uint32_t gen_index_of(const char *p, uint32_t len);
/* "10.100.0.7" */
void gen_source_text(uint32_t source, char out[16]);
/* Writes queue q's share of the frames (sources are dealt out by `queue_of_source`). The device's
 * MAC address is `mac`. 0 or -errno. */
struct gen_pcap_opts {
    const char *path;
    uint32_t event_size;
    int64_t wall_s;
    uint8_t mac[6];
    uint32_t queue;
    uint32_t queue_of_source[GEN_SOURCES];
};
NODISCARD int gen_pcap(const struct gen_pcap_opts *o);
