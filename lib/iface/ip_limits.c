/* ip_limits.c - see ip_limits.h. */
#include "lib/iface/ip_limits.h"
#include <stdio.h>
#include <string.h>

#define DIGITS_MAX 10

/* "  10.0.0.1:100 ": its address and number. False: it is none. */
static bool entry_read(const char *p, size_t len, struct net_addr *ret_addr, uint32_t *ret_max)
{
    while (len > 0 && *p == ' ') {
        p++;
        len--;
    }
    while (len > 0 && p[len - 1] == ' ')
        len--;
    size_t digits = 0;
    while (digits < len && p[len - 1 - digits] >= '0' && p[len - 1 - digits] <= '9')
        digits++;
    if (digits == 0 || digits > DIGITS_MAX || digits + 1 >= len || p[len - 1 - digits] != ':')
        return false;
    uint64_t n = 0;
    for (size_t i = len - digits; i < len; i++)
        n = n * 10 + (uint64_t)(p[i] - '0');
    if (n > INT32_MAX)
        return false;
    *ret_max = (uint32_t)n;
    return net_addr_parse_ip(p, (uint32_t)(len - digits - 1), ret_addr) == 0 &&
           !net_addr_is_any(ret_addr);
}

int ip_limits_check(const char *text, char *err, size_t cap)
{
    struct net_addr a;
    uint32_t max;
    for (const char *p = text; *p != '\0';) {
        size_t n = strcspn(p, ",");
        if (!entry_read(p, n, &a, &max)) {
            snprintf(err, cap, "'%.*s' is not ADDRESS:NUMBER (names are not resolved)",
                     (int)(n < 100 ? n : 100), p);
            return -E_CONFIG;
        }
        p += n;
        p += *p == ',';
    }
    return 0;
}

bool ip_limits_find(const char *text, const struct net_addr *addr, uint32_t *ret_max)
{
    struct net_addr a, want = *addr;
    uint32_t max;
    bool found = false;
    want.port = 0;
    for (const char *p = text; *p != '\0';) {
        size_t n = strcspn(p, ",");
        if (entry_read(p, n, &a, &max) && net_addr_eq(&a, &want)) {
            *ret_max = max;
            found = true;
        }
        p += n;
        p += *p == ',';
    }
    return found;
}
