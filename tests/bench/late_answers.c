/*
 * A list server far away: it answers as the benchmark's list does, but late, and some of it not at all or SERVFAIL.
 *
 *   late_answers DELAY_MICROSECONDS LOST_PER_MILLION SERVFAIL_PER_MILLION     on 127.0.0.1:53, UDP
 *
 * No packaged server keeps 2,000 answers 20 ms late at 100,000 a second on one core, and the kernel here may lack
 * netem. Chance is drawn from a fixed seed, so every asker meets as many losses as the next one.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

enum { RING = 1 << 16, BATCH = 64, ROOM = 512 };

struct late {
	uint64_t due; /* nanoseconds, monotonic */
	struct sockaddr_in from;
	unsigned size;
	unsigned char data[ROOM];
};

static struct late ring[RING];
static unsigned head, tail; /* asked, answered; they wrap */
static uint64_t chance = 88172645463325252u;

static uint64_t now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static unsigned one_in_a_million(void)
{
	chance ^= chance << 13;
	chance ^= chance >> 7;
	chance ^= chance << 17;
	return (unsigned)(chance % 1000000);
}

/* Reads the first four labels as a reversed address: 127.0.0.2, 10.0.1.7 and 10.0.3.0/26 are listed. */
static int listed(const unsigned char *name, const unsigned char *end)
{
	unsigned octets[4] = {0};
	for (int label = 0; label < 4; label++) {
		unsigned length = *name++;
		if (length < 1 || length > 3 || name + length >= end)
			return 0;
		for (; length; length--, name++) {
			if (*name < '0' || *name > '9')
				return 0;
			octets[3 - label] = octets[3 - label] * 10 + *name - '0';
		}
	}
	unsigned address = octets[0] << 24 | octets[1] << 16 | octets[2] << 8 | octets[3];
	return address == 0x7f000002 || address == 0x0a000107 || (address & ~63u) == 0x0a000300;
}

/* Makes the answer of the question, in its place. Whatever follows the question (EDNS) is left away. */
static void answer(struct late *late, int fails)
{
	static const unsigned char record[] = {0xc0, 12, 0, 1, 0, 1, 0, 0, 1, 44, 0, 4, 127, 0, 0, 2};
	unsigned char *data = late->data, *at = data + 12, *end = data + late->size;
	while (at < end && *at)
		at += *at + 1;
	late->size = (unsigned)(at - data) + 5;
	memset(data + 6, 0, 6);
	data[2] = 0x81;
	data[3] = fails ? 0x82 : 0x83;
	if (fails || !listed(data + 12, at))
		return;
	data[3] = 0x80;
	data[7] = 1;
	memcpy(data + late->size, record, sizeof record);
	late->size += sizeof record;
}

int main(int count, char **words)
{
	if (count != 4)
		return 2;
	uint64_t delay = strtoull(words[1], 0, 10) * 1000;
	unsigned lost = (unsigned)atoi(words[2]), servfail = (unsigned)atoi(words[3]);
	struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(53)};
	inet_pton(AF_INET, "127.0.0.1", &here.sin_addr);
	int size = 64 << 20, door = socket(AF_INET, SOCK_DGRAM, 0);
	setsockopt(door, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
	setsockopt(door, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size);
	if (bind(door, (struct sockaddr *)&here, sizeof here)) {
		perror("127.0.0.1:53");
		return 1;
	}
	struct mmsghdr mail[BATCH];
	struct iovec pieces[BATCH];
	for (;;) {
		for (unsigned i = 0; i < BATCH; i++) {
			struct late *late = &ring[(head + i) % RING];
			pieces[i] = (struct iovec){late->data, ROOM - 32};
			mail[i].msg_hdr = (struct msghdr){&late->from, sizeof late->from, &pieces[i], 1, 0, 0, 0};
		}
		unsigned free_places = RING - (head - tail);
		int got = recvmmsg(door, mail, free_places < BATCH ? free_places : BATCH, MSG_DONTWAIT, 0);
		uint64_t time = now();
		unsigned first = head;
		for (int i = 0; i < got; i++) {
			if (mail[i].msg_len < 17 || one_in_a_million() < lost)
				continue;
			struct late *late = &ring[head % RING], *read = &ring[(first + (unsigned)i) % RING];
			if (late != read) /* one before it was lost */
				*late = *read;
			late->size = mail[i].msg_len;
			late->due = time + delay;
			answer(late, one_in_a_million() < servfail);
			head++;
		}
		unsigned due = 0;
		while (due < BATCH && tail + due != head && ring[(tail + due) % RING].due <= time) {
			struct late *late = &ring[(tail + due) % RING];
			pieces[due] = (struct iovec){late->data, late->size};
			mail[due].msg_hdr = (struct msghdr){&late->from, sizeof late->from, &pieces[due], 1, 0, 0, 0};
			due++;
		}
		int sent = due ? sendmmsg(door, mail, due, 0) : 0;
		tail += sent > 0 ? (unsigned)sent : due; /* who cannot be reached has gone away */
		if (got > 0 || due)
			continue;
		struct timespec wait = {1, 0};
		if (tail != head) {
			uint64_t left = ring[tail % RING].due - time;
			wait = (struct timespec){0, (long)left};
		}
		struct pollfd one = {door, POLLIN, 0};
		ppoll(&one, 1, &wait, 0);
	}
}
