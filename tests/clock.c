/* Preloaded into a gateway: its clock goes as many seconds wrong as the file that PANGATE_CLOCK names says. The
   clock of the machine stays what it is. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t which, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    const char *path;
    char text[32] = {0};
    int fd, found;
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    found = real(which, now);
    if (found || which != CLOCK_REALTIME || !(path = getenv("PANGATE_CLOCK"))) return found;
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return found;
    if (read(fd, text, sizeof text - 1) > 0) now->tv_sec += atol(text);
    close(fd);
    return found;
}
