/* What every start is measured with, compiled for Linux and for WASI 0.1. */
#include <stdio.h>

int main(void) {
    puts("hello world");
    return 0;
}
