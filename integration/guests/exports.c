/* Functions to call by name. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define EXPORT(name) __attribute__((export_name(name)))

static const char *name;

/* Runs in _initialize. */
__attribute__((constructor)) static void prepare(void) { name = getenv("NAME"); }

EXPORT("add") int32_t add(int32_t a, int32_t b) { return (int32_t)((uint32_t)a + (uint32_t)b); }
EXPORT("twice") int64_t twice(int64_t number) { return number * 2; }
EXPORT("half") float half(float number) { return number / 2; }
EXPORT("scale") double scale(double factor, int64_t number) { return factor * (double)number; }
EXPORT("greet") void greet(void) { printf("hello %s\n", name); fflush(stdout); }
