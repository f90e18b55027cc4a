// SPDX-License-Identifier: Apache-2.0
//
// Preloaded into iptables-legacy-restore and -save by offline_test.go: keeps the
// tables that they write in a file instead of the kernel, and claims to know
// every extension up to a revision. So rules can be made, and printed by the real
// tool, that use extensions or revisions this kernel has not.
//
// FAKEKERNEL_FILE  where the table is kept
// FAKEKERNEL_REV   the highest revision claimed
// A table that was not written yet is read from the kernel of this namespace.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <netinet/in.h>

// include/uapi/linux/netfilter_ipv4/ip_tables.h; ip6_tables.h has the same
// numbers but for the last two, which are 68 and 69 there.
enum { SET_REPLACE = 64, ADD_COUNTERS = 65 };
enum { GET_INFO = 64, GET_ENTRIES = 65, REVISION_MATCH = 66, REVISION_TARGET = 67, REVISION_MATCH6 = 68, REVISION_TARGET6 = 69 };

struct hooks { uint32_t entry[5], underflow[5]; };
struct info { char name[32]; uint32_t valid_hooks; struct hooks hooks; uint32_t num_entries, size; };
struct replace { char name[32]; uint32_t valid_hooks, num_entries, size; struct hooks hooks; uint32_t num_counters; void *counters; char entries[]; };
struct entries { char name[32]; uint32_t size; char data[] __attribute__((aligned(8))); };
struct revision { char name[29]; uint8_t revision; };

static FILE *table(const char *mode) { return fopen(getenv("FAKEKERNEL_FILE"), mode); }

static int mine(int level) { return level == IPPROTO_IP || level == IPPROTO_IPV6; }

static int load(int option, void *value) {
	FILE *f = table("r");
	struct info in;
	if (!f)
		return 0;
	if (fread(&in, sizeof(in), 1, f) != 1)
		abort();
	if (option == GET_INFO) {
		memcpy(value, &in, sizeof(in));
	} else {
		struct entries *out = value;
		if (fread(out->data, in.size, 1, f) != 1)
			abort();
	}
	fclose(f);
	return 1;
}

int getsockopt(int fd, int level, int option, void *value, socklen_t *len) {
	int (*next)(int, int, int, void *, socklen_t *) = dlsym(RTLD_NEXT, "getsockopt");
	if (!mine(level))
		return next(fd, level, option, value, len);
	if ((option == GET_INFO || option == GET_ENTRIES) && load(option, value))
		return 0;
	if (option >= REVISION_MATCH && option <= REVISION_TARGET6) {
		if (((struct revision *)value)->revision <= atoi(getenv("FAKEKERNEL_REV")))
			return 0;
		errno = EPROTONOSUPPORT;
		return -1;
	}
	return next(fd, level, option, value, len);
}

int setsockopt(int fd, int level, int option, const void *value, socklen_t len) {
	int (*next)(int, int, int, const void *, socklen_t) = dlsym(RTLD_NEXT, "setsockopt");
	const struct replace *r = value;
	struct info in;
	FILE *f;
	if (mine(level) && option == ADD_COUNTERS)
		return 0;
	if (!mine(level) || option != SET_REPLACE)
		return next(fd, level, option, value, len);
	memset(&in, 0, sizeof(in));
	memcpy(in.name, r->name, sizeof(in.name));
	in.valid_hooks = r->valid_hooks;
	in.hooks = r->hooks;
	in.num_entries = r->num_entries;
	in.size = r->size;
	f = table("w");
	if (!f || fwrite(&in, sizeof(in), 1, f) != 1 || fwrite(r->entries, r->size, 1, f) != 1 || fclose(f))
		abort();
	return 0;
}
