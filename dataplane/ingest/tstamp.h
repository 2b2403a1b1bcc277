/* tstamp.h - the times that events carry, as Kafka timestamps (milliseconds since 1970 UTC).
 * Pure functions, any thread. Each returns how many bytes of the text it used, 0 when the text does
 * not start with such a time; *ret_ms is written only on success. */
#pragma once
#include <stdint.h>

/* Days since 1970-01-01 of a date in the Gregorian calendar; month 1..12. */
int64_t days_from_civil(int32_t year, uint32_t month, uint32_t day);

/* @hot. RFC 3339 as RFC 5424 narrows it: "2003-10-11T22:14:15.003Z", "...-07:00". A fraction may
 * have any number of digits (beyond milliseconds they are cut); second 60 is the next minute. */
uint32_t tstamp_rfc3339(const uint8_t *p, uint32_t len, int64_t *ret_ms);

/* @hot. RFC 3164 and what devices make of it:
 *   "Oct 11 22:14:15"  "Oct  1 22:14:15"  "Oct 01 22:14:15"
 *   "Oct 11 22:14:15.123"           Cisco IOS, Juniper: fraction
 *   "Oct 11 2003 22:14:15"          Cisco ASA: year before the time
 *   "Oct 11 22:14:15 2003"          Juniper: year after it
 *   "2003 Oct 11 22:14:15"          Cisco NX-OS: year first
 * followed, for Cisco, by " UTC" or " GMT" before a colon (other zone names say nothing that can be
 * relied upon: used up, but read in the listener's zone).
 * Without a year: the one that brings the time nearest to arrival. The time is local in a zone
 * zone_offset_s seconds east of UTC. */
uint32_t tstamp_rfc3164(const uint8_t *p, uint32_t len, int32_t zone_offset_s, int64_t arrival_ms,
                        int64_t *ret_ms);

/* "2003-10-11" and "22:14:15" apart (Fortinet's date= and time=), local in the zone. 0 or -1. */
int tstamp_date_time(const uint8_t *date, uint32_t date_len, const uint8_t *time, uint32_t time_len,
                     int32_t zone_offset_s, int64_t *ret_ms);
