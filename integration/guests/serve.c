/* Sends back what each client says, all clients in one loop, together with what comes from
 * standard input, which goes to standard output. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <wasi/api.h>

#define MOST 4096

static struct pollfd fds[MOST];
static size_t count;

static void watch(int fd)
{
	fds[count++] = (struct pollfd){ .fd = fd, .events = POLLRDNORM };
}

static void welcome(int listener)
{
	__wasi_fd_t client;

	switch (__wasi_sock_accept(listener, __WASI_FDFLAGS_NONBLOCK, &client)) {
	case __WASI_ERRNO_SUCCESS:
		watch((int)client);
	case __WASI_ERRNO_AGAIN:
		break;
	default:
		puts("accept failed");
		fflush(stdout);
		usleep(100000);
	}
}

/* Writes all of it, waiting where the other side is slow. */
static int answer(int fd, const char *bytes, size_t length)
{
	while (length > 0) {
		ssize_t sent = fd == 1 ? write(fd, bytes, length) : send(fd, bytes, length, 0);

		if (sent < 0 && errno == EAGAIN) {
			struct pollfd room = { .fd = fd, .events = POLLWRNORM };
			poll(&room, 1, -1);
		} else if (sent < 0) {
			return 0;
		} else {
			bytes += sent;
			length -= (size_t)sent;
		}
	}
	return 1;
}

/* Whether there may be more. */
static int copy(int fd)
{
	char bytes[16384];
	ssize_t got = fd == 0 ? read(fd, bytes, sizeof bytes) : recv(fd, bytes, sizeof bytes, 0);

	if (got < 0)
		return errno == EAGAIN;
	return got > 0 && answer(fd == 0 ? 1 : fd, bytes, (size_t)got);
}

int main(void)
{
	int first = atoi(getenv("LISTEN_FDS_START")), listeners = atoi(getenv("LISTEN_FDS"));

	for (int i = 0; i < listeners; i++)
		watch(first + i);
	watch(0);
	puts("ready");
	fflush(stdout);
	for (;;) {
		if (poll(fds, count, -1) < 0) {
			perror("poll");
			return 1;
		}
		for (size_t i = count; i-- > 0;) {
			if (!fds[i].revents)
				continue;
			if (i < (size_t)listeners) {
				welcome(fds[i].fd);
			} else if (!copy(fds[i].fd)) {
				if (fds[i].fd != 0) {
					shutdown(fds[i].fd, SHUT_RDWR);
					close(fds[i].fd);
				}
				fds[i] = fds[--count];
			}
		}
	}
}
