/* topic_regex.c - see topic_regex.h. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "dataplane/kafka/group/topic_regex.h"
#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REPEAT_MAX 1000 /* RE2/J's */
#define MATCH_HEAP_KIB 64

struct topic_regex {
    pcre2_code *code;
    pcre2_match_data *data;
    pcre2_match_context *limits;
};

/* ------------------------------------------------------------------- syntax */

struct scan {
    struct span s;
    uint32_t at;
    const char *why;
};

static bool is_punct(uint8_t c)
{
    return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') ||
           (c >= '{' && c <= '~');
}

static bool fail(struct scan *sc, const char *why)
{
    sc->why = why;
    return false;
}

static uint8_t peek(const struct scan *sc, uint32_t ahead)
{
    return sc->at + ahead < sc->s.len ? sc->s.p[sc->at + ahead] : 0;
}

/* After a backslash. */
static bool scan_escape(struct scan *sc)
{
    static const char known[] = "dDsSwWbBAzafnrtvx0pPE";
    if (sc->at >= sc->s.len)
        return fail(sc, "trailing backslash at end of expression");
    uint8_t c = sc->s.p[sc->at++];
    if (c == 'Q') { /* literal up to \E */
        while (sc->at < sc->s.len && !(peek(sc, 0) == '\\' && peek(sc, 1) == 'E'))
            sc->at++;
        return true;
    }
    if (is_punct(c) || (c != 0 && strchr(known, c) != NULL))
        return true;
    return fail(sc, "invalid escape sequence");
}

static bool scan_class(struct scan *sc)
{
    if (peek(sc, 0) == '^')
        sc->at++;
    bool first = true;
    while (sc->at < sc->s.len) {
        uint8_t c = sc->s.p[sc->at++];
        if (c == ']' && !first)
            return true;
        first = false;
        if (c == '\\' && !scan_escape(sc))
            return false;
        if (c == '[' && peek(sc, 0) == ':') { /* [:alpha:] */
            while (sc->at < sc->s.len && !(peek(sc, 0) == ':' && peek(sc, 1) == ']'))
                sc->at++;
            sc->at += 2;
        }
    }
    return fail(sc, "missing closing ]");
}

/* After "(?": a group without capture, flags, or a name. */
static bool scan_group(struct scan *sc)
{
    uint8_t c = peek(sc, 0);
    if (c == 'P' && peek(sc, 1) == '<') {
        sc->at += 2;
        return true;
    }
    if (c == '<' && peek(sc, 1) != '=' && peek(sc, 1) != '!') {
        sc->at++;
        return true;
    }
    while (sc->at < sc->s.len) {
        c = sc->s.p[sc->at++];
        if (c == ':' || c == ')')
            return true;
        if (strchr("imsU-", c) == NULL || c == 0)
            break;
    }
    return fail(sc, "invalid or unsupported Perl syntax");
}

/* "{n}", "{n,}" or "{n,m}" at `at`? Its length; 0 when the brace is an ordinary character. */
static uint32_t repeat_len(const struct scan *sc, bool *ret_large)
{
    uint32_t i = 1, n = 0, digits = 0;
    *ret_large = false;
    for (; peek(sc, i) != '}'; i++) {
        uint8_t c = peek(sc, i);
        if (c == ',' && digits > 0) {
            n = 0;
            continue;
        }
        if (c < '0' || c > '9')
            return 0;
        digits++;
        n = n > REPEAT_MAX ? n : n * 10 + (uint32_t)(c - '0');
        *ret_large |= n > REPEAT_MAX;
    }
    return digits > 0 ? i + 1 : 0;
}

/* Is there a repeat at `at`? Steps over it, and over the '?' that makes it lazy. */
static bool scan_repeat(struct scan *sc, bool *ret_large)
{
    uint8_t c = peek(sc, 0);
    uint32_t len = c == '{' ? repeat_len(sc, ret_large) : c == '*' || c == '+' || c == '?';
    if (len == 0)
        return false;
    sc->at += len;
    if (peek(sc, 0) == '?')
        sc->at++;
    return true;
}

static bool syntax_ok(struct scan *sc)
{
    bool large;
    while (sc->at < sc->s.len) {
        uint8_t c = sc->s.p[sc->at++];
        if (c == 0)
            return fail(sc, "it has a zero byte");
        if (c == '\\' && !scan_escape(sc))
            return false;
        if (c == '[' && !scan_class(sc))
            return false;
        if (c == '(') {
            if (peek(sc, 0) == '*')
                return fail(sc, "missing argument to repetition operator");
            if (peek(sc, 0) == '?') {
                sc->at++;
                if (!scan_group(sc))
                    return false;
            }
            continue;
        }
        if (c == '|')
            continue;
        large = false;
        if (!scan_repeat(sc, &large))
            continue;
        if (large)
            return fail(sc, "invalid repeat count");
        if (scan_repeat(sc, &large))
            return fail(sc, "invalid nested repetition operator");
    }
    return true;
}

/* ------------------------------------------------------------------- machine */

int topic_regex_compile(struct span pattern, struct topic_regex **ret, char *why, size_t why_cap)
{
    struct scan sc = {.s = pattern};
    if (pattern.len > TOPIC_REGEX_LEN_MAX) {
        snprintf(why, why_cap, "it is longer than %d bytes", TOPIC_REGEX_LEN_MAX);
        return -E_LIMIT;
    }
    if (!syntax_ok(&sc)) {
        snprintf(why, why_cap, "%s", sc.why);
        return -E_MALFORMED;
    }
    struct topic_regex *re = calloc(1, sizeof(*re));
    if (re == NULL)
        return -ENOMEM;
    int error;
    size_t where;
    re->code = pcre2_compile(pattern.len > 0 ? pattern.p : (PCRE2_SPTR) "", pattern.len,
                             PCRE2_ANCHORED | PCRE2_ENDANCHORED | PCRE2_DOLLAR_ENDONLY |
                                 PCRE2_NEVER_BACKSLASH_C | PCRE2_NEVER_UTF | PCRE2_NEVER_UCP,
                             &error, &where, NULL);
    if (re->code == NULL) {
        PCRE2_UCHAR text[120];
        (void)pcre2_get_error_message(error, text, sizeof(text));
        snprintf(why, why_cap, "%s at %zu", (const char *)text, where);
        topic_regex_free(re);
        return error == PCRE2_ERROR_NOMEMORY ? -ENOMEM : -E_MALFORMED;
    }
    re->data = pcre2_match_data_create(1, NULL);
    re->limits = pcre2_match_context_create(NULL);
    if (re->data == NULL || re->limits == NULL) {
        topic_regex_free(re);
        return -ENOMEM;
    }
    pcre2_set_match_limit(re->limits, TOPIC_REGEX_STEPS_MAX);
    pcre2_set_depth_limit(re->limits, TOPIC_REGEX_STEPS_MAX);
    pcre2_set_heap_limit(re->limits, MATCH_HEAP_KIB);
    *ret = re;
    return 0;
}

int topic_regex_match(struct topic_regex *re, struct span name)
{
    int rc = pcre2_match(re->code, name.p, name.len, 0, 0, re->data, re->limits);
    if (rc == PCRE2_ERROR_NOMATCH)
        return 0;
    return rc >= 0 ? 1 : -E_LIMIT;
}

void topic_regex_free(struct topic_regex *re)
{
    if (re == NULL)
        return;
    pcre2_match_context_free(re->limits);
    pcre2_match_data_free(re->data);
    pcre2_code_free(re->code);
    free(re);
}
