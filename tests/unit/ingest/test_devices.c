/* test_devices.c - what devices and daemons really send as RFC 3164: one row each, with what must
 * be found in it. Texts follow the vendors' documentation; addresses and names are examples'. */
#include "dataplane/ingest/proto.h"
#include "dataplane/ingest/tstamp.h"
#include "tests/support/test.h"

#define UTC_OF(y, mo, d, h, mi, s, ms)                                                             \
    (days_from_civil(y, mo, d) * INT64_C(86400000) +                                               \
     ((h)*INT64_C(3600) + (mi)*INT64_C(60) + (s)) * 1000 + (ms))
/* arrival of most rows: 9 October 2025, 08:53:30 UTC */
#define AT(h, mi, s, ms)                                                                           \
    (INT64_C(1759968000000) + ((h)*INT64_C(3600) + (mi)*INT64_C(60) + (s)) * 1000 + (ms))
#define ARRIVAL AT(8, 53, 30, 0)

struct row {
    const char *what, *text;
    const char *host, *app, *procid;
    int64_t ms; /* ARRIVAL: none is known */
};

static const struct row rows[] = {
    /* ---- Cisco IOS and IOS XE */
    {"IOS, sequence number and clock",
     "<189>29: *Oct  9 08:53:21.123: %SYS-5-CONFIG_I: Configured "
     "from console by vty0 (10.0.0.5)",
     NULL, "%SYS-5-CONFIG_I", NULL, AT(8, 53, 21, 123)},
    {"IOS, clock state and zone",
     "<187>000042: .Oct  9 08:53:21.003 UTC: %LINK-3-UPDOWN: Interface "
     "GigabitEthernet0/1, changed state to up",
     NULL, "%LINK-3-UPDOWN", NULL, AT(8, 53, 21, 3)},
    {"IOS, origin-id hostname",
     "<189>52: rtr-edge1: Oct  9 08:53:21.441: %LINEPROTO-5-UPDOWN: Line "
     "protocol on Interface Vlan1, changed state to down",
     "rtr-edge1", "%LINEPROTO-5-UPDOWN", NULL, AT(8, 53, 21, 441)},
    {"IOS, year", "<189>104: *Oct  9 2025 08:53:21.123: %SYS-5-RESTART: System restarted", NULL,
     "%SYS-5-RESTART", NULL, AT(8, 53, 21, 123)},
    {"IOS, no sequence number", "<190>: Oct  9 08:53:21: %SEC-6-IPACCESSLOGP: list 101 denied tcp",
     NULL, "%SEC-6-IPACCESSLOGP", NULL, AT(8, 53, 21, 0)},
    {"IOS, uptime instead of a clock", "<189>12: 3w2d: %SYS-5-CONFIG_I: Configured from console",
     NULL, "%SYS-5-CONFIG_I", NULL, ARRIVAL},
    {"IOS, short uptime", "<189>9: 00:01:07: %LINK-5-CHANGED: Interface FastEthernet0/1", NULL,
     "%LINK-5-CHANGED", NULL, ARRIVAL},
    {"IOS XR",
     "<189>2217: pe1 RP/0/RSP0/CPU0:Oct  9 08:53:21.123 : config[65710]: "
     "%MGBL-SYS-5-CONFIG_I : Configured from console",
     NULL, NULL, NULL, ARRIVAL},
    {"NX-OS", "<189>: 2025 Oct  9 08:53:21 UTC: %ETHPORT-5-IF_UP: Interface Ethernet1/1 is up",
     NULL, "%ETHPORT-5-IF_UP", NULL, AT(8, 53, 21, 0)},
    /* ---- Cisco ASA and Firepower */
    {"ASA, timestamp and device-id",
     "<166>Oct 09 2025 08:53:21 fw-dmz : %ASA-6-302013: Built inbound "
     "TCP connection 1 for outside:192.0.2.1/34543",
     "fw-dmz", "%ASA-6-302013", NULL, AT(8, 53, 21, 0)},
    {"ASA, no timestamp",
     "<164>%ASA-4-106023: Deny tcp src outside:192.0.2.1/1 dst inside:10.0.0.1/2", NULL,
     "%ASA-4-106023", NULL, ARRIVAL},
    {"ASA, timestamp, no device-id",
     "<166>Oct 09 2025 08:53:21: %ASA-6-305011: Built dynamic TCP "
     "translation",
     NULL, "%ASA-6-305011", NULL, AT(8, 53, 21, 0)},
    {"ASA, RFC 3339", "<166>2025-10-09T08:53:21Z fw-dmz : %ASA-6-302014: Teardown TCP connection",
     "fw-dmz", "%ASA-6-302014", NULL, AT(8, 53, 21, 0)},
    {"FTD", "<165>Oct 09 2025 08:53:21 ftd1 : %FTD-5-111008: User 'enable_1' executed", "ftd1",
     "%FTD-5-111008", NULL, AT(8, 53, 21, 0)},
    /* ---- Juniper */
    {"Junos", "<30>Oct  9 08:53:21 mx1 mgd[4163]: UI_COMMIT: User 'root' requested 'commit'", "mx1",
     "mgd", "4163", AT(8, 53, 21, 0)},
    {"Junos, milliseconds and year",
     "<30>Oct  9 08:53:21.123 2025 mx1 rpd[1450]: BGP_UNEXPECTED: x", "mx1", "rpd", "1450",
     AT(8, 53, 21, 123)},
    {"Junos, explicit priority", "<28>Oct  9 08:53:21 mx1 sshd[77]: %AUTH-4: Failed password",
     "mx1", "sshd", "77", AT(8, 53, 21, 0)},
    {"Junos, a firewall",
     "<14>Oct  9 08:53:21 srx1 RT_FLOW: RT_FLOW_SESSION_CREATE: session created", "srx1", "RT_FLOW",
     NULL, AT(8, 53, 21, 0)},
    /* ---- Fortinet */
    {"FortiOS",
     "<189>date=2025-10-09 time=08:53:21 devname=\"FGT-1\" devid=\"FG100D\" "
     "logid=\"0000000013\" type=\"traffic\" level=\"notice\"",
     "FGT-1", NULL, NULL, AT(8, 53, 21, 0)},
    {"FortiOS, zone",
     "<189>date=2025-10-09 time=10:53:21 devname=FGT-1 eventtime=1759999999 "
     "tz=\"+0200\" type=event",
     "FGT-1", NULL, NULL, AT(8, 53, 21, 0)},
    {"FortiOS 5, quotes with spaces",
     "<190>date=2025-10-09 time=08:53:21 devname=\"FGT branch 2\" "
     "msg=\"user logged in\"",
     "FGT branch 2", NULL, NULL, AT(8, 53, 21, 0)},
    /* ---- pfSense, OPNsense and other BSDs */
    {"pfSense",
     "<134>Oct  9 08:53:21 filterlog[54321]: 5,,,1000000103,igb0,match,block,in,4,0x0,,64", NULL,
     "filterlog", "54321", AT(8, 53, 21, 0)},
    {"pfSense, with host",
     "<134>Oct  9 08:53:21 pfsense.example.org filterlog[54321]: 5,,,1000000103",
     "pfsense.example.org", "filterlog", "54321", AT(8, 53, 21, 0)},
    {"pfSense, no process id", "<38>Oct  9 08:53:21 php-fpm: /index.php: Successful login", NULL,
     "php-fpm", NULL, AT(8, 53, 21, 0)},
    /* ---- rsyslog, syslog-ng, systemd, logger */
    {"rsyslog, traditional forward", "<38>Oct  9 08:53:21 web1 sshd[1024]: Accepted publickey",
     "web1", "sshd", "1024", AT(8, 53, 21, 0)},
    {"rsyslog, forward format", "<30>2025-10-09T10:53:21.123456+02:00 web1 systemd[1]: Started",
     "web1", "systemd", "1", AT(8, 53, 21, 123)},
    {"rsyslog, kernel", "<6>Oct  9 08:53:21 web1 kernel: [12345.678901] eth0: link up", "web1",
     "kernel", NULL, AT(8, 53, 21, 0)},
    {"rsyslog, path as tag", "<86>Oct  9 08:53:21 web1 /usr/sbin/cron[99]: (root) CMD (true)",
     "web1", "/usr/sbin/cron", "99", AT(8, 53, 21, 0)},
    {"rsyslog, IPv6 host", "<38>Oct  9 08:53:21 2001:db8::7 sshd[1]: x", "2001:db8::7", "sshd", "1",
     AT(8, 53, 21, 0)},
    {"logger, local", "<13>Oct  9 08:53:21 root: hello", NULL, "root", NULL, AT(8, 53, 21, 0)},
    {"syslog-ng, ISO", "<13>2025-10-09T08:53:21+00:00 web1 app[7]: x", "web1", "app", "7",
     AT(8, 53, 21, 0)},
    {"repeated", "<38>Oct  9 08:53:21 web1 last message repeated 2 times", "web1", NULL, NULL,
     AT(8, 53, 21, 0)},
    /* ---- others that are often met */
    {"HP ProCurve", "<14>Oct  9 08:53:21 192.0.2.9 00076 ports: port 1 is now on-line", "192.0.2.9",
     NULL, NULL, AT(8, 53, 21, 0)},
    {"Ubiquiti", "<30>Oct  9 08:53:21 U7PG2,802aa8000001,v4.3.20 hostapd: ath0: STA",
     "U7PG2,802aa8000001,v4.3.20", "hostapd", NULL, AT(8, 53, 21, 0)},
    {"VMware ESXi", "<166>2025-10-09T08:53:21.123Z esx1.example.org Hostd: info hostd[2099] x",
     "esx1.example.org", "Hostd", NULL, AT(8, 53, 21, 123)},
    {"only text", "<13>something happened", NULL, NULL, NULL, ARRIVAL},
    {"nothing", "<13>", NULL, NULL, NULL, ARRIVAL},
};

static struct rec parse(const char *text, int64_t arrival, int32_t zone_s)
{
    static struct parse_mem mem;
    static struct rec r;
    struct parse_conf pc = {
        .listener = span_str("l"), .zone_offset_s = zone_s, .event_bytes_max = 2000};
    struct dgram dg = {.bytes = span_str(text), .arrival_ms = arrival};
    syslog_burst(&pc, &dg, NULL, 1, &mem, &r);
    return r;
}

static bool is(struct span h, const char *want)
{
    return want == NULL ? h.p == NULL : h.p != NULL && span_eq_str(h, want);
}

static void devices_are_read_as_they_write(void **state)
{
    (void)state;
    int bad = 0;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct row *w = &rows[i];
        struct rec r = parse(w->text, ARRIVAL, 0);
        if (is(r.header[RH_HOST], w->host) && is(r.header[RH_APP], w->app) &&
            is(r.header[RH_PROCID], w->procid) && r.timestamp_ms == w->ms &&
            r.header[RH_REASON].p == NULL && r.header[RH_EVENT_TIME].p == NULL)
            continue;
        bad++;
        print_error("%s: host '%.*s' app '%.*s' procid '%.*s' time %+ld ms\n", w->what,
                    (int)r.header[RH_HOST].len, (const char *)r.header[RH_HOST].p,
                    (int)r.header[RH_APP].len, (const char *)r.header[RH_APP].p,
                    (int)r.header[RH_PROCID].len, (const char *)r.header[RH_PROCID].p,
                    (long)(r.timestamp_ms - w->ms));
    }
    assert_int_equal(bad, 0);
}

static void without_a_year_the_nearest_counts_around_new_year(void **state)
{
    const struct {
        const char *text;
        int64_t arrival;
        int32_t zone_s;
        int64_t ms;
    } t[] = {
        /* a minute before midnight, come a minute after it, and the other way round */
        {"<13>Dec 31 23:59:30 h a: x", UTC_OF(2026, 1, 1, 0, 0, 30, 0), 0,
         UTC_OF(2025, 12, 31, 23, 59, 30, 0)},
        {"<13>Jan  1 00:00:30 h a: x", UTC_OF(2025, 12, 31, 23, 59, 30, 0), 0,
         UTC_OF(2026, 1, 1, 0, 0, 30, 0)},
        /* the device's new year has begun, ours not, and the other way round */
        {"<13>Jan  1 01:59:00 h a: x", UTC_OF(2025, 12, 31, 23, 59, 10, 0), 7200,
         UTC_OF(2025, 12, 31, 23, 59, 0, 0)},
        {"<13>Dec 31 19:00:10 h a: x", UTC_OF(2026, 1, 1, 0, 0, 20, 0), -18000,
         UTC_OF(2026, 1, 1, 0, 0, 10, 0)},
        /* 29 February, and the day after it */
        {"<13>Feb 29 12:00:00 h a: x", UTC_OF(2028, 3, 1, 12, 0, 0, 0), 0,
         UTC_OF(2028, 2, 29, 12, 0, 0, 0)},
        {"<189>5: *Dec 31 23:59:59.999: %A-1-B: x", UTC_OF(2026, 1, 1, 0, 0, 1, 0), 0,
         UTC_OF(2025, 12, 31, 23, 59, 59, 999)},
        /* a zone in the text counts, the listener's does not */
        {"<189>5: Jan  1 00:00:00.000 UTC: %A-1-B: x", UTC_OF(2025, 12, 31, 23, 59, 59, 0), 7200,
         UTC_OF(2026, 1, 1, 0, 0, 0, 0)},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
        struct rec r = parse(t[i].text, t[i].arrival, t[i].zone_s);
        if (r.timestamp_ms != t[i].ms)
            fail_msg("'%s': off by %ld ms", t[i].text, (long)(r.timestamp_ms - t[i].ms));
        assert_null(r.header[RH_EVENT_TIME].p);
    }
}

static void a_clock_that_was_never_set_is_kept_in_a_header(void **state)
{
    (void)state;
    struct rec r = parse("<189>7: *Mar  1 00:00:12.345: %SYS-5-RESTART: x", ARRIVAL, 0);
    assert_int_equal(r.timestamp_ms, ARRIVAL);
    assert_true(is(r.header[RH_EVENT_TIME], "Mar  1 00:00:12.345"));
    assert_true(is(r.header[RH_APP], "%SYS-5-RESTART"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(devices_are_read_as_they_write),
        cmocka_unit_test(without_a_year_the_nearest_counts_around_new_year),
        cmocka_unit_test(a_clock_that_was_never_set_is_kept_in_a_header),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
