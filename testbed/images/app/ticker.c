/* ticker N: passes the USDT probe ticker:tick N times, with the count so far. */
#include <stdlib.h>
#include <sys/sdt.h>

int main(int argc, char **argv) {
    int times = argc > 1 ? atoi(argv[1]) : 1;
    for (int count = 1; count <= times; count++)
        DTRACE_PROBE1(ticker, tick, count);
    return 0;
}
