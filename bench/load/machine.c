#include "bench/load/bench_load.h"
#include "lib/base/build_id.h"
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

static void cpu_model(char *buf, size_t cap)
{
    char line[512];
    FILE *f = fopen("/proc/cpuinfo", "re");
    (void)snprintf(buf, cap, "unknown");
    while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
        const char *v = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || v == NULL)
            continue;
        (void)snprintf(buf, cap, "%.*s", (int)strcspn(v + 2, "\n"), v + 2);
        break;
    }
    if (f != NULL)
        (void)fclose(f);
}

json_t *machine_json(void)
{
    char cpu[256];
    struct utsname un;
    cpu_model(cpu, sizeof(cpu));
    if (uname(&un) < 0)
        (void)snprintf(un.release, sizeof(un.release), "unknown");
    return json_pack("{s:s,s:i,s:s,s:s,s:s}", "cpu", cpu, "cores",
                     (int)sysconf(_SC_NPROCESSORS_ONLN), "kernel", un.release, "version",
                     SLUICE_VERSION, "build", build_id());
}

void machine_print(void)
{
    json_t *m = machine_json();
    printf("Sluice %s on %s, %d cores, Linux %s\n\n", build_id(),
           json_string_value(json_object_get(m, "cpu")),
           (int)json_integer_value(json_object_get(m, "cores")),
           json_string_value(json_object_get(m, "kernel")));
    json_decref(m);
}
