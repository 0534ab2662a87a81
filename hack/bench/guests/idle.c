/* A service without requests: says that it is up, and sleeps. */
#include <stdio.h>
#include <unistd.h>

int main(void) {
    puts("up");
    fflush(stdout);
    for (;;)
        sleep(3600);
}
