/* The least a fixed-rate loop can do: sleep until absolute deadlines. Prints how late each tick began, in us.
   Arguments: period in us, ticks. */
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

int main(int count, char **arguments) {
    if (count != 3) return 2;
    long period = atol(arguments[1]) * 1000, ticks = atol(arguments[2]);
    struct sched_param priority = {.sched_priority = 20};
    sched_setscheduler(0, SCHED_FIFO, &priority); /* where allowed, as the control loop does */
    struct timespec due, now;
    clock_gettime(CLOCK_MONOTONIC, &due);
    for (long tick = 0; tick < ticks; tick++) {
        due.tv_nsec += period;
        for (; due.tv_nsec >= 1000000000; due.tv_nsec -= 1000000000) due.tv_sec++;
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL);
        clock_gettime(CLOCK_MONOTONIC, &now);
        printf("%.3f\n", (now.tv_sec - due.tv_sec) * 1e6 + (now.tv_nsec - due.tv_nsec) / 1e3);
    }
    return 0;
}
