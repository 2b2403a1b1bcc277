/* wire_echo.c - decodes and encodes again, for check_schemas.py. Lines "message version hex" in,
 * lines "hex" (or "error ...") out; "-" stands for no bytes. */
#include "tests/support/test.h"
#include "tests/unit/wire/desc.h"

enum { CAP = 1 << 20 };
static char line[3 * CAP];
static uint8_t in[CAP], out[CAP];
static uint8_t message[4096] __attribute__((aligned(16)));

static void echo(const struct desc_msg *msg, int v, struct span bytes, struct arena *a)
{
    struct wire_reader r;
    wire_reader_init(&r, bytes);
    int rc = msg->read(&r, (int16_t)v, a, message);
    if (rc != 0 || wire_left(&r) != 0) {
        printf("error %s, %zu bytes left\n", err_text(rc), wire_left(&r));
        return;
    }
    struct wire_writer w;
    wire_writer_init(&w, out, CAP);
    msg->write(&w, (int16_t)v, message);
    if (w.len == 0)
        printf("-");
    for (size_t i = 0; i < w.len; i++)
        printf("%02x", out[i]);
    printf("\n");
}

int main(void)
{
    struct arena a;
    arena_init(&a, 16 << 20);
    while (fgets(line, sizeof(line), stdin) != NULL) {
        char name[128];
        int v, at;
        if (sscanf(line, "%127s %d %n", name, &v, &at) != 2)
            return 2;
        uint32_t len = 0;
        unsigned byte;
        for (const char *p = line + at; len < CAP && sscanf(p, "%2x", &byte) == 1; p += 2)
            in[len++] = (uint8_t)byte;
        const struct desc_msg *msg = NULL;
        for (size_t i = 0; i < DESC_MSG_CNT; i++) {
            if (strcmp(desc_msgs[i].name, name) == 0)
                msg = &desc_msgs[i];
        }
        if (msg == NULL)
            printf("error no message %s\n", name);
        else
            echo(msg, v, span_of(in, len), &a);
        arena_reset(&a);
    }
    arena_fini(&a);
    return 0;
}
