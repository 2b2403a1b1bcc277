/* fuzz_identity.c - meta.properties from anywhere. */
#include "ctl/controller/identity.h"
#include "lib/base/assert.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct identity_file f;
    char err[256] = "";
    int rc = identity_parse((const char *)data, len, &f, err, sizeof(err));
    ASSERT((rc == 0) == (err[0] == '\0'));
    return 0;
}
