/* accel.c - which implementation runs, decided once from the CPU. */
#include "accel/accel.h"
#include "accel/accel_int.h"
#include "accel/crc32c.h"
#include <lz4.h>
#include <stdio.h>
#include <zstd.h>

crc32c_fn *crc32c_impl = crc32c_soft;
static struct accel_choice chosen = {
    .crc32c = crc32c_soft,
    .crc32c_text = "scalar (accel_init has not run)",
    .gzip_text = "isa-l igzip level 1",
};

static char offload_text[160] = "no device: shards compress";

struct accel_choice accel_choose(bool has_sse42, bool has_pclmul, bool force_soft)
{
    struct accel_choice c = {
        .crc32c = crc32c_soft,
        .gzip_text = "isa-l igzip level 1",
    };
    if (!has_sse42)
        c.gzip_text = "isa-l igzip level 1, its portable code (cpu lacks sse4.2)";
    else if (!has_pclmul)
        c.gzip_text = "isa-l igzip level 1, its portable code (cpu lacks pclmulqdq)";
    if (force_soft) {
        c.crc32c_text = "scalar, slicing by 8 (asked for)";
    } else if (!has_sse42) {
        c.crc32c_text = "scalar, slicing by 8 (cpu lacks sse4.2)";
    } else if (!has_pclmul) {
        c.crc32c_text = "scalar, slicing by 8 (cpu lacks pclmulqdq)";
    } else {
        c.crc32c = crc32c_isal;
        c.crc32c_text = "isa-l (sse4.2, pclmulqdq)";
    }
    return c;
}

void accel_init(bool force_soft)
{
    __builtin_cpu_init();
    chosen = accel_choose(__builtin_cpu_supports("sse4.2"), __builtin_cpu_supports("pclmul"),
                          force_soft);
    crc32c_impl = chosen.crc32c;
}

void accel_offload(const char *text)
{
    snprintf(offload_text, sizeof(offload_text), "%s", text);
}

size_t accel_describe(char *buf, size_t cap)
{
    int n =
        snprintf(buf, cap,
                 "crc32c: %s\n"
                 "gzip: %s\n"
                 "snappy: libsnappy, 32 KiB blocks in xerial framing\n"
                 "lz4: liblz4 %s, 64 KiB independent blocks\n"
                 "zstd: libzstd %s\n"
                 "offload: %s\n",
                 chosen.crc32c_text, chosen.gzip_text, LZ4_versionString(), ZSTD_versionString(),
                 offload_text);
    if (n < 0 || cap == 0)
        return 0;
    return (size_t)n < cap ? (size_t)n : cap - 1;
}
