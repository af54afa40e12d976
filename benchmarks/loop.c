/* Makes getpid(2) calls as fast as it can on one processor: reads numbers of calls, writes the
   nanoseconds that each of them took. The first word it writes: that it is ready. */
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int main(int count, char **words)
{
	cpu_set_t one;
	long calls;

	CPU_ZERO(&one);
	CPU_SET(count > 1 ? atoi(words[1]) : 0, &one);
	if (sched_setaffinity(0, sizeof one, &one) != 0)
		return 1;
	setvbuf(stdout, NULL, _IOLBF, 0);
	puts("ready");
	while (scanf("%ld", &calls) == 1) {
		struct timespec start, end;

		clock_gettime(CLOCK_MONOTONIC, &start);
		for (long call = 0; call < calls; call++)
			syscall(SYS_getpid);
		clock_gettime(CLOCK_MONOTONIC, &end);
		printf("%.3f\n", ((end.tv_sec - start.tv_sec) * 1e9 + (end.tv_nsec - start.tv_nsec)) / calls);
	}
	return 0;
}
