/* test_framing.c - both RFC 6587 framings; any chunking gives the same frames. */
#include "dataplane/ingest/framing.c"
#include "tests/support/test.h"

enum { LEN_MAX = 40, FRAMES_MAX = 4096 };

struct got { /* all frames of a stream, as text: "bytes|full_len;" */
    char text[64 * 1024];
    size_t len;
    uint32_t cnt;
};

static void note(struct got *g, const struct frame *f, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        assert_true(f[i].bytes.len <= LEN_MAX);
        memcpy(g->text + g->len, f[i].bytes.p, f[i].bytes.len);
        g->len += f[i].bytes.len;
        g->len += (size_t)sprintf(g->text + g->len, "|%u;", f[i].full_len);
        g->cnt++;
    }
}

static enum framing_mode mode = FRAMING_SYSLOG;

/* Feed a stream in random chunks with random `max`, sometimes undoing a feed. */
static void cut(const void *p, uint32_t len, struct test_rng *rng, struct got *g)
{
    uint8_t buf[LEN_MAX];
    struct framing f;
    struct frame out[8];
    framing_init(&f, mode, buf, LEN_MAX);
    g->len = g->cnt = 0;
    for (uint32_t at = 0; at < len;) {
        uint32_t chunk = rng == NULL ? len - at : (uint32_t)(1 + rng_below(rng, 30));
        chunk = chunk < len - at ? chunk : len - at;
        uint8_t *copy = malloc(chunk); /* exactly as long: ASan sees a byte too many */
        memcpy(copy, (const uint8_t *)p + at, chunk);
        for (uint32_t used = 0; used < chunk;) {
            uint32_t max = rng == NULL ? 8 : (uint32_t)(1 + rng_below(rng, 8)), cnt;
            struct framing before = f;
            uint32_t n = framing_feed(&f, span_of(copy + used, chunk - used), out, max, &cnt);
            if (rng != NULL && cnt > 0 && rng_below(rng, 2) == 0) { /* accept only k of them */
                uint32_t k = (uint32_t)rng_below(rng, cnt + 1);
                f = before;
                n = cnt = 0;
                if (k > 0)
                    n = framing_feed(&f, span_of(copy + used, chunk - used), out, k, &cnt);
                assert_int_equal(cnt, k);
            }
            note(g, out, cnt);
            used += n;
        }
        memset(copy, 'X', chunk);
        free(copy);
        at += chunk;
    }
    note(g, out, framing_finish(&f, out));
}

static void expect(const char *stream, uint32_t len, const char *want)
{
    static struct got g;
    cut(stream, len, NULL, &g);
    g.text[g.len] = '\0';
    assert_string_equal(g.text, want);
}
#define EXPECT(stream, want) expect(stream, sizeof(stream) - 1, want)

static void both_framings_mix_in_one_stream(void **state)
{
    (void)state;
    EXPECT("<1>a\n<2>b\n", "<1>a|0;<2>b|0;");
    EXPECT("4 <1>a5 <2>bc<3>d\n4 <4>e", "<1>a|0;<2>bc|0;<3>d|0;<4>e|0;");
    EXPECT("4 <1>a\n4 <2>b\n", "<1>a|0;<2>b|0;"); /* a LF behind a counted frame */
    EXPECT("<1>a\0<2>b\0", "<1>a|0;<2>b|0;");
    EXPECT("\n\n\0<1>a\n\n", "<1>a|0;");
    EXPECT("5 <1>a\n<2>b\n", "<1>a\n|0;<2>b|0;"); /* a LF inside the count stays */
    EXPECT("12ab\n", "12ab|0;");                  /* a line that starts with a number */
    EXPECT("0 abc\n", "0 abc|0;");
    EXPECT("123456789 a\n", "123456789 a|0;"); /* no count has nine digits */
    EXPECT("<1>unfinished", "<1>unfinished|0;");
    EXPECT("10 <1>un", "<1>un|10;");
    EXPECT("12", "12|0;");
    EXPECT("", "");
}

static void long_frames_are_cut_and_the_next_one_is_whole(void **state)
{
    (void)state;
    EXPECT("<1>4567890123456789012345678901234567890\n<2>b\n",
           "<1>4567890123456789012345678901234567890|0;<2>b|0;"); /* exactly LEN_MAX */
    EXPECT("<1>45678901234567890123456789012345678901\n<2>b\n",
           "<1>4567890123456789012345678901234567890|4294967295;<2>b|0;");
    EXPECT("41 <1>456789012345678901234567890123456789014 <2>b",
           "<1>4567890123456789012345678901234567890|41;<2>b|0;");
    EXPECT("40 <1>45678901234567890123456789012345678904 <2>b",
           "<1>4567890123456789012345678901234567890|0;<2>b|0;");
}

static void one_delimiter_leaves_every_other_byte_alone(void **state)
{
    (void)state;
    static struct got g;
    static const char stream[] = "12 a\0b\n\n{\"x\":\n1}\0\0c";
    mode = FRAMING_LF;
    cut(stream, sizeof(stream) - 1, NULL, &g);
    static const char lines[] = "12 a\0b|0;{\"x\":|0;1}\0\0c|0;";
    assert_int_equal(g.len, sizeof(lines) - 1);
    assert_memory_equal(g.text, lines, sizeof(lines) - 1);
    mode = FRAMING_NUL;
    cut(stream, sizeof(stream) - 1, NULL, &g);
    static const char frames[] = "12 a|0;b\n\n{\"x\":\n1}|0;c|0;";
    assert_int_equal(g.len, sizeof(frames) - 1);
    assert_memory_equal(g.text, frames, sizeof(frames) - 1);
    mode = FRAMING_SYSLOG;
}

static void any_chunking_gives_the_same_frames(void **state)
{
    (void)state;
    struct test_rng rng = {test_seed(11)};
    static struct got whole, parts;
    for (int round = 0; round < 4500; round++) {
        mode = (enum framing_mode)(round % 3);
        char stream[2048];
        uint32_t len = 0;
        while (len < 1000 + rng_below(&rng, 800)) {
            uint32_t n = (uint32_t)rng_below(&rng, 60);
            switch (rng_below(&rng, 5)) {
            case 0: /* counted */
                len += (uint32_t)sprintf(stream + len, "%u ", n + 1);
                n++;
                break;
            case 1: /* digits, then a line */
                len += (uint32_t)sprintf(stream + len, "%u", (unsigned)rng_below(&rng, 1u << 31));
                break;
            case 2:
                stream[len++] = rng_below(&rng, 2) ? '\n' : '\0';
                break;
            default:
                break;
            }
            for (uint32_t i = 0; i < n; i++)
                stream[len++] = "abc <>12\n\0x"[rng_below(&rng, 11)];
            if (rng_below(&rng, 2))
                stream[len++] = '\n';
        }
        cut(stream, len, NULL, &whole);
        cut(stream, len, &rng, &parts);
        if (whole.len != parts.len || memcmp(whole.text, parts.text, whole.len) != 0)
            fail_msg("round %d: %u and %u frames", round, whole.cnt, parts.cnt);
    }
    mode = FRAMING_SYSLOG;
}

static void the_delimiter_search_agrees_with_its_twin(void **state)
{
    (void)state;
    struct test_rng rng = {test_seed(12)};
    for (int i = 0; i < 20000; i++) {
        uint32_t n = (uint32_t)rng_below(&rng, 80);
        uint8_t *p = malloc(n + 1);
        for (uint32_t k = 0; k < n; k++)
            p[k] = rng_below(&rng, 40) == 0 ? (rng_below(&rng, 2) ? '\n' : 0) : 'a';
        assert_int_equal(framing_find_end(p, n), framing_find_end_scalar(p, n));
        free(p);
    }
}

TEST_MAIN(TEST(both_framings_mix_in_one_stream),
          TEST(long_frames_are_cut_and_the_next_one_is_whole),
          TEST(one_delimiter_leaves_every_other_byte_alone),
          TEST(any_chunking_gives_the_same_frames), TEST(the_delimiter_search_agrees_with_its_twin))
