#include "ctl/cli/cli.h"
#include "lib/base/assert.h"
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

int cli_fail(const struct cli *c, const char *code, const char *fmt, ...)
{
    char text[2048];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    for (char *p = text; *p != '\0'; p++) /* texts of servers must not drive the terminal */
        if ((unsigned char)*p < ' ' && *p != '\n')
            *p = '?';
    if (!c->json) {
        fprintf(stderr, "sluicectl: %s\n", text);
        return EXIT_FAILED;
    }
    json_t *j = json_pack("{s:{s:s*,s:s}}", "error", "code", code, "message", text);
    if (j == NULL) { /* not UTF-8 */
        fprintf(stderr, "sluicectl: %s\n", text);
        return EXIT_FAILED;
    }
    (void)json_dumpf(j, stderr, JSON_COMPACT);
    fputc('\n', stderr);
    json_decref(j);
    return EXIT_FAILED;
}

int cli_usage(const struct cli *c)
{
    fprintf(stderr, "usage: %s%s%s\n", c->cmd, c->cmd_args[0] ? " " : "", c->cmd_args);
    return EXIT_USAGE;
}

void cli_print_json(const json_t *j)
{
    (void)json_dumpf(j, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY);
    putchar('\n');
}

const char *cli_bytes(int64_t n, char buf[CLI_TEXT_MAX])
{
    static const char *const unit[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    double v = (double)n;
    uint32_t u = 0;
    while (v >= 1024 && u < 5) {
        v /= 1024;
        u++;
    }
    (void)snprintf(buf, CLI_TEXT_MAX, u == 0 ? "%.0f %s" : "%.1f %s", v, unit[u]);
    return buf;
}

const char *cli_age(int64_t s, char buf[CLI_TEXT_MAX])
{
    if (s < 0)
        (void)snprintf(buf, CLI_TEXT_MAX, "?");
    else if (s < 120)
        (void)snprintf(buf, CLI_TEXT_MAX, "%" PRId64 " s", s);
    else if (s < 7200)
        (void)snprintf(buf, CLI_TEXT_MAX, "%" PRId64 " min", s / 60);
    else if (s < 2 * 86400)
        (void)snprintf(buf, CLI_TEXT_MAX, "%" PRId64 " h %" PRId64 " min", s / 3600, s / 60 % 60);
    else
        (void)snprintf(buf, CLI_TEXT_MAX, "%" PRId64 " d %" PRId64 " h", s / 86400, s / 3600 % 24);
    return buf;
}

const char *cli_time(int64_t ms, char buf[CLI_TEXT_MAX])
{
    time_t s = (time_t)(ms / 1000);
    struct tm tm;
    if (ms < 0 || gmtime_r(&s, &tm) == NULL) {
        (void)snprintf(buf, CLI_TEXT_MAX, "-");
        return buf;
    }
    size_t n = strftime(buf, CLI_TEXT_MAX, "%Y-%m-%dT%H:%M:%S", &tm);
    (void)snprintf(buf + n, CLI_TEXT_MAX - n, ".%03dZ", (int)(ms % 1000));
    return buf;
}

const char *cli_num(int64_t n, char buf[CLI_TEXT_MAX])
{
    char digits[24];
    uint64_t u = n < 0 ? 0 - (uint64_t)n : (uint64_t)n;
    int len = snprintf(digits, sizeof(digits), "%" PRIu64, u), at = 0;
    if (n < 0)
        buf[at++] = '-';
    for (int i = 0; i < len; i++) {
        if (i > 0 && (len - i) % 3 == 0)
            buf[at++] = ',';
        buf[at++] = digits[i];
    }
    buf[at] = '\0';
    return buf;
}

void cli_put_text(const char *p, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        unsigned char b = (unsigned char)p[i];
        /* C1 controls are two bytes in UTF-8: C2 80 .. C2 9F */
        bool c1 = b == 0xc2 && i + 1 < len && (unsigned char)p[i + 1] < 0xa0;
        if (b < ' ' || b == 0x7f || c1)
            printf("\\x%02x", b);
        else
            putchar(b);
    }
}

int64_t cli_int(const json_t *o, const char *name, int64_t def)
{
    const json_t *v = json_object_get(o, name);
    if (json_is_integer(v)) /* a double would lose what is above 2^53 */
        return json_integer_value(v);
    return json_is_real(v) ? (int64_t)json_real_value(v) : def;
}
double cli_real(const json_t *o, const char *name, double def)
{
    const json_t *v = json_object_get(o, name);
    return json_is_number(v) ? json_number_value(v) : def;
}
const char *cli_str(const json_t *o, const char *name, const char *def)
{
    const json_t *v = json_object_get(o, name);
    return json_is_string(v) ? json_string_value(v) : def;
}
