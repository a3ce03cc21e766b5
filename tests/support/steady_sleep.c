/* For runs under faketime, loaded in front of it. With a false steady clock no wait of Python's with a timeout ends; with a true
   one (--exclude-monotonic) libfaketime 0.9.10 still subtracts its offset from when a sleep is to end. Sleeps are the kernel's. */
#define _GNU_SOURCE
#include <errno.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_nanosleep(clockid_t clock, int flags, const struct timespec *until, struct timespec *left)
{
    return syscall(SYS_clock_nanosleep, clock, flags, until, left) ? errno : 0;
}
