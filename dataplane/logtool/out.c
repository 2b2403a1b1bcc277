/* out.c - see logtool.h. */
#include "dataplane/logtool/logtool.h"

/* Bytes of the UTF-8 character at p, at most n; 0: it is none. */
static uint32_t utf8_len(const uint8_t *p, uint32_t n)
{
    uint32_t len = p[0] < 0x80                   ? 1
                   : p[0] >= 0xc2 && p[0] < 0xe0 ? 2
                   : (p[0] & 0xf0) == 0xe0       ? 3
                   : p[0] >= 0xf0 && p[0] < 0xf5 ? 4
                                                 : 0;
    if (len == 0 || len > n)
        return 0;
    for (uint32_t i = 1; i < len; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) ||
        (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f))
        return 0;
    return len;
}

static void text_put(FILE *f, struct span s, const char *escape, bool quotes)
{
    for (uint32_t i = 0; i < s.len;) {
        uint32_t n = utf8_len(s.p + i, s.len - i);
        uint8_t c = s.p[i];
        if (n == 0 || c < 0x20 || c == 0x7f) {
            fprintf(f, escape, c);
            n = 1;
        } else {
            if (quotes && (c == '"' || c == '\\'))
                fputc('\\', f);
            (void)fwrite(s.p + i, 1, n, f);
        }
        i += n;
    }
}

void out_json_text(FILE *f, struct span s)
{
    fputc('"', f);
    text_put(f, s, "\\u%04x", true);
    fputc('"', f);
}

void out_text(FILE *f, struct span s)
{
    text_put(f, s, "\\x%02x", false);
}
