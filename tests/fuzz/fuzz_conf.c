/* fuzz_conf.c - configuration files: any bytes get an answer, and what is accepted also passes as
 * the internal file's values. */
#include "ctl/conf/conf_load.h"
#include "lib/base/assert.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct conf_load l;
    conf_load_init(&l, false);
    conf_load_text(&l, "f", (const char *)data, len);
    int rc = conf_load_finish(&l, "/");
    ASSERT((rc == 0) == (l.error_cnt == 0));
    ASSERT((l.errors[0] == '\0') == (l.error_cnt == 0));
    conf_load_fini(&l);
    return 0;
}
