/* A calendar clock that is FALSE_CLOCK_SECONDS ahead, and nothing else that is false. Preloaded in the place of libfaketime.

   libfaketime 0.9.10 looks at the environment whenever a thread waits for Python's lock. A test that sets a variable at that
   moment ends the process. This library looks once. The steady clock, sleeps, waits and the times of files stay true. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <semaphore.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static time_t ahead;
static int (*real_sem_timedwait)(sem_t *, const struct timespec *);

__attribute__((constructor)) static void look(void)
{
    const char *seconds = getenv("FALSE_CLOCK_SECONDS");
    ahead = seconds ? atoll(seconds) : 0;
    real_sem_timedwait = (int (*)(sem_t *, const struct timespec *))dlsym(RTLD_NEXT, "sem_timedwait");
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    if (syscall(SYS_clock_gettime, clock, now) != 0) return -1;
    if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE || clock == CLOCK_TAI) now->tv_sec += ahead;
    return 0;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    if (syscall(SYS_gettimeofday, now, zone) != 0) return -1;
    if (now) now->tv_sec += ahead;
    return 0;
}

time_t time(time_t *copy)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (copy) *copy = now.tv_sec;
    return now.tv_sec;
}

int timespec_get(struct timespec *now, int base)
{
    return base == TIME_UTC && clock_gettime(CLOCK_REALTIME, now) == 0 ? base : 0;
}

/* Its end is said by the calendar clock, which the kernel knows better. */
int sem_timedwait(sem_t *restrict semaphore, const struct timespec *restrict until)
{
    struct timespec true_until = {until->tv_sec - ahead, until->tv_nsec};
    return real_sem_timedwait(semaphore, &true_until);
}
