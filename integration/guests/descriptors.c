/* Calls of WASI 0.1 whose answers C's library hides, by number of error. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wasi/api.h>

#define LISTED(array) (sizeof(array) / sizeof *(array))

static int file(const char *path, int flags)
{
	return open(path, O_RDWR | flags);
}

static void renumber(void)
{
	char byte = '?';
	int a = file("/a", 0), b = file("/b", 0);

	printf("renumber %d to %d: %d;", a, b, __wasi_fd_renumber(a, b));
	read(b, &byte, 1);
	printf(" reads %c, closed %d,", byte, __wasi_fd_close(a));
	printf(" from nothing %d, to nothing %d,", __wasi_fd_renumber(a, b), __wasi_fd_renumber(b, 99));
	printf(" to itself %d, next %d\n", __wasi_fd_renumber(b, b), file("/a", 0));
}

static void flags(void)
{
	__wasi_fdstat_t stat;

	printf("flags: stdin %d", __wasi_fd_fdstat_set_flags(0, __WASI_FDFLAGS_NONBLOCK));
	if (__wasi_fd_fdstat_get(0, &stat))
		abort();
	printf(" is %d, directory %d,", stat.fs_flags, __wasi_fd_fdstat_set_flags(3, __WASI_FDFLAGS_NONBLOCK));
	printf(" nothing %d,", __wasi_fd_fdstat_set_flags(99, 0));
	printf(" made synchronous %d,", __wasi_fd_fdstat_set_flags(file("/a", 0), __WASI_FDFLAGS_DSYNC));
	printf(" appends %d\n", __wasi_fd_fdstat_set_flags(file("/b", 0), __WASI_FDFLAGS_APPEND));
}

static void sockets(void)
{
	int fds[] = { 0, 3, file("/a", 0), 99 };

	printf("sockets:");
	for (size_t i = 0; i < LISTED(fds); i++) {
		__wasi_fd_t accepted;
		__wasi_size_t count;
		__wasi_roflags_t told;
		char byte;
		__wasi_iovec_t in = { (uint8_t *)&byte, 1 };
		__wasi_ciovec_t out = { (uint8_t *)&byte, 1 };

		printf(" %d %d %d %d", __wasi_sock_accept(fds[i], 0, &accepted),
		       __wasi_sock_recv(fds[i], &in, 1, 0, &count, &told),
		       __wasi_sock_send(fds[i], &out, 1, 0, &count),
		       __wasi_sock_shutdown(fds[i], __WASI_SDFLAGS_RD));
	}
	printf("\n");
}

static __wasi_subscription_t on(int fd, int type)
{
	__wasi_subscription_t subscription;

	memset(&subscription, 0, sizeof subscription);
	subscription.userdata = 1000 + fd * 10 + type;
	subscription.u.tag = type;
	subscription.u.u.fd_read.file_descriptor = fd;
	return subscription;
}

static __wasi_subscription_t clock_in(__wasi_clockid_t id, __wasi_timestamp_t timeout, int flags)
{
	__wasi_subscription_t subscription = on(0, __WASI_EVENTTYPE_CLOCK);

	subscription.userdata = 1;
	subscription.u.u.clock.id = id;
	subscription.u.u.clock.timeout = timeout;
	subscription.u.u.clock.flags = flags;
	return subscription;
}

static void poll(const char *title, const __wasi_subscription_t *list, size_t length)
{
	__wasi_event_t events[16];
	__wasi_size_t count = 0;

	printf("%s %d:", title, __wasi_poll_oneoff(list, events, length, &count));
	for (__wasi_size_t i = 0; i < count; i++)
		printf(" [%d type %d error %d bytes %d hangup %d]", (int)events[i].userdata, events[i].type,
		       events[i].error, (int)events[i].fd_readwrite.nbytes, events[i].fd_readwrite.flags);
	printf("\n");
	fflush(stdout);
}

int main(void)
{
	const int reads = __WASI_EVENTTYPE_FD_READ, writes = __WASI_EVENTTYPE_FD_WRITE;
	const __wasi_timestamp_t hour = 3600000000000;
	__wasi_timestamp_t now;
	char byte;

	renumber();
	flags();
	sockets();
	int opened = file("/a", 0);
	__wasi_subscription_t all[] = {
		on(99, reads), on(0, writes), on(1, reads), on(3, reads), on(opened, reads),
		on(opened, writes), on(1, writes), on(0, reads),
		clock_in(__WASI_CLOCKID_MONOTONIC, hour, 0),
		clock_in(__WASI_CLOCKID_PROCESS_CPUTIME_ID, 0, 0),
	};
	poll("all", all, LISTED(all));
	poll("none", all, 0);
	printf("read without waiting: %d\n", read(0, &byte, 1) < 0);
	if (__wasi_clock_time_get(__WASI_CLOCKID_REALTIME, 0, &now))
		abort();
	__wasi_subscription_t late[] = {
		on(0, reads), clock_in(__WASI_CLOCKID_MONOTONIC, 10000000, 0),
		clock_in(__WASI_CLOCKID_REALTIME, now + 10000000, __WASI_SUBCLOCKFLAGS_SUBSCRIPTION_CLOCK_ABSTIME),
		clock_in(__WASI_CLOCKID_REALTIME, now + hour, __WASI_SUBCLOCKFLAGS_SUBSCRIPTION_CLOCK_ABSTIME),
	};
	poll("clocks", late, 2);
	poll("moments", late + 2, 2);
	__wasi_subscription_t input[] = { on(0, reads), late[3] };
	poll("input", input, LISTED(input));
	while (read(0, &byte, 1) > 0)
		;
	poll("end", input, LISTED(input));
	return 0;
}
