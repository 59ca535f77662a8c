/* A stand-in for VMware's libvixDiskLib, to run nbdkit's vddk plugin in tests: it reads
 * flat files of a folder in place of a server's disks.
 *
 * What it does not prove: that VMware's own library takes what it is given here, speaks
 * to a server, finds a snapshot by its MoRef, keeps to its limits of connections and
 * buffers, or is as quick. It knows of snapshots and transport modes only their names,
 * and its errors are those of VMware's list that tests want, in VMware's words.
 *
 *   FAKE_VDDK_ROOT        "[DS] dir/x.vmdk" is the file DS/dir/x-flat.vmdk of it
 *   FAKE_VDDK_LOG         file that takes a line for each call that tests look at
 *   FAKE_VDDK_THUMBPRINT  the server's
 *   FAKE_VDDK_PASSWORD    the only right one
 *   FAKE_VDDK_REFUSE      number of the error that every open ends with
 *   FAKE_VDDK_SAY         what is said before that, as the library would
 *   FAKE_VDDK_DIE         file: the read that finds it removes it and ends the program
 *   FAKE_VDDK_FAIL        file: reads fail while it is there
 *   FAKE_VDDK_CUT         file: the read that finds it removes it; it and all later
 *                         ones of its connection fail
 *   FAKE_VDDK_SLOW        milliseconds that a read takes
 *
 * With -DVERSION_6_5 it lacks what VDDK 6.7 added.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vddk-structs.h"

#define PUBLIC __attribute__((visibility("default")))

/* Numbers of errors. Source: VMware, Virtual Disk API, "Virtual Disk API Errors". */
enum {
	NOT_FOUND = 4,
	NO_PERMISSION = 13,
	LOGIN_FAILED = 3014,
	REFUSED = 14009,
	CANNOT_CONNECT = 18000,
};

struct disk {
	int file;
	uint64_t sectors;
	int cut;
};

static VixDiskLibGenericLogFunc *say_debug, *say_warning;
static int in_flight, most_in_flight;

static const char *setting(const char *name)
{
	const char *value = getenv(name);
	return value ? value : "";
}

static const char *text(const char *s) { return s ? s : ""; }

static void note(const char *format, ...)
{
	FILE *log = fopen(setting("FAKE_VDDK_LOG"), "a");
	va_list args;

	if (!log)
		return;
	va_start(args, format);
	vfprintf(log, format, args);
	va_end(args);
	fputc('\n', log);
	fclose(log);
}

static void say(VixDiskLibGenericLogFunc *to, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	to(format, args);
	va_end(args);
}

/* taken tells whether a file is there, and removes it. */
static int taken(const char *name) { return *setting(name) && unlink(setting(name)) == 0; }

PUBLIC VixError VixDiskLib_InitEx(uint32_t major, uint32_t minor, VixDiskLibGenericLogFunc *log,
	VixDiskLibGenericLogFunc *warn, VixDiskLibGenericLogFunc *panic, const char *dir, const char *config)
{
	say_debug = log;
	say_warning = warn;
	note("init libdir=%s config=%s", text(dir), text(config));
	return VIX_OK;
}

PUBLIC void VixDiskLib_Exit(void) { note("exit, %d reads at a time", most_in_flight); }

PUBLIC const char *VixDiskLib_ListTransportModes(void) { return "file:san:hotadd:nbdssl:nbd"; }

PUBLIC char *VixDiskLib_GetErrorText(VixError e, const char *locale)
{
	switch (e) {
	case NOT_FOUND: return strdup("The file was not found");
	case NO_PERMISSION: return strdup("You do not have access rights to this file");
	case LOGIN_FAILED: return strdup("Insufficient permissions in the host operating system");
	case REFUSED: return strdup("The server refused connection");
	case CANNOT_CONNECT: return strdup("Cannot connect to the host");
	}
	return strdup("Unknown error");
}

PUBLIC void VixDiskLib_FreeErrorText(char *s) { free(s); }

PUBLIC VixError VixDiskLib_ConnectEx(const VixDiskLibConnectParams *p, char read_only, const char *snapshot,
	const char *modes, VixDiskLibConnection *c)
{
	const char *thumbprint = setting("FAKE_VDDK_THUMBPRINT"), *password = setting("FAKE_VDDK_PASSWORD");

	note("connect vm=%s server=%s port=%u thumbprint=%s user=%s read_only=%d snapshot=%s modes=%s", text(p->vmxSpec),
		text(p->serverName), p->port, text(p->thumbPrint), text(p->creds.uid.userName), read_only, text(snapshot), text(modes));
	if (*thumbprint && strcasecmp(thumbprint, text(p->thumbPrint))) {
		say(say_debug, "VixDiskLibVim: Failed to verify SSL certificate: actual thumbprint=%s expected=%s", thumbprint, text(p->thumbPrint));
		return CANNOT_CONNECT;
	}
	if (*password && strcmp(password, text(p->creds.uid.password)))
		return LOGIN_FAILED;
	*c = (void *)1;
	return VIX_OK;
}

PUBLIC VixError VixDiskLib_Disconnect(VixDiskLibConnection c)
{
	note("disconnect");
	return VIX_OK;
}

/* local_name is the file that stands for a disk of a datastore. */
static int local_name(char *out, size_t size, const char *path)
{
	char datastore[256], name[1024], *end;

	if (sscanf(path, "[%255[^]]] %1023[^\n]", datastore, name) != 2)
		return -1;
	end = strrchr(name, '.');
	if (!end || strcmp(end, ".vmdk"))
		return -1;
	*end = 0;
	return snprintf(out, size, "%s/%s/%s-flat.vmdk", setting("FAKE_VDDK_ROOT"), datastore, name);
}

PUBLIC VixError VixDiskLib_Open(const VixDiskLibConnection c, const char *path, uint32_t flags, VixDiskLibHandle *out)
{
	char name[2048];
	struct stat about;
	struct disk *d;
	VixError refuse = strtoull(setting("FAKE_VDDK_REFUSE"), NULL, 10);

	note("open %s flags=%#x", path, flags);
	if (refuse) {
		if (*setting("FAKE_VDDK_SAY"))
			say(say_warning, "%s", setting("FAKE_VDDK_SAY"));
		return refuse;
	}
	if (local_name(name, sizeof name, path) < 0)
		return NOT_FOUND;
	d = calloc(1, sizeof *d);
	d->file = open(name, flags & VIXDISKLIB_FLAG_OPEN_READ_ONLY ? O_RDONLY : O_RDWR);
	if (d->file < 0 || fstat(d->file, &about)) {
		free(d);
		return NOT_FOUND;
	}
	d->sectors = about.st_size / VIXDISKLIB_SECTOR_SIZE;
	*out = d;
	return VIX_OK;
}

PUBLIC const char *VixDiskLib_GetTransportMode(VixDiskLibHandle h) { return "nbdssl"; }

PUBLIC VixError VixDiskLib_Close(VixDiskLibHandle h)
{
	struct disk *d = h;

	close(d->file);
	free(d);
	return VIX_OK;
}

PUBLIC VixError VixDiskLib_GetInfo(VixDiskLibHandle h, VixDiskLibInfo **info)
{
	*info = calloc(1, sizeof **info);
	(*info)->capacity = ((struct disk *)h)->sectors;
	(*info)->logicalSectorSize = (*info)->physicalSectorSize = VIXDISKLIB_SECTOR_SIZE;
	return VIX_OK;
}

PUBLIC void VixDiskLib_FreeInfo(VixDiskLibInfo *info) { free(info); }

PUBLIC VixError VixDiskLib_Read(VixDiskLibHandle h, uint64_t first, uint64_t count, unsigned char *into)
{
	struct disk *d = h;
	size_t size = count * VIXDISKLIB_SECTOR_SIZE, have = 0;

	if (taken("FAKE_VDDK_DIE"))
		_exit(3);
	if (taken("FAKE_VDDK_CUT"))
		d->cut = 1;
	usleep(1000 * atoi(setting("FAKE_VDDK_SLOW")));
	if (d->cut || access(setting("FAKE_VDDK_FAIL"), F_OK) == 0)
		return REFUSED;
	while (have < size) {
		ssize_t n = pread(d->file, into + have, size - have, first * VIXDISKLIB_SECTOR_SIZE + have);
		if (n <= 0)
			return VIX_E_FAIL;
		have += n;
	}
	return VIX_OK;
}

struct later {
	struct disk *disk;
	uint64_t first, count;
	unsigned char *into;
	VixDiskLibCompletionCB done;
	void *data;
};

static void *read_later(void *arg)
{
	struct later *l = arg;
	VixError e = VixDiskLib_Read(l->disk, l->first, l->count, l->into);

	__atomic_sub_fetch(&in_flight, 1, __ATOMIC_SEQ_CST);
	l->done(l->data, e);
	free(l);
	return NULL;
}

PUBLIC VixError VixDiskLib_ReadAsync(VixDiskLibHandle h, uint64_t first, uint64_t count, unsigned char *into,
	VixDiskLibCompletionCB done, void *data)
{
	struct later *l = malloc(sizeof *l);
	pthread_t thread;
	int now = __atomic_add_fetch(&in_flight, 1, __ATOMIC_SEQ_CST);

	if (now > most_in_flight)
		most_in_flight = now;
	*l = (struct later){h, first, count, into, done, data};
	if (pthread_create(&thread, NULL, read_later, l))
		return VIX_E_FAIL;
	pthread_detach(thread);
	return VIX_ASYNC;
}

/* Nothing is ever written through it. */

PUBLIC VixError VixDiskLib_Write(VixDiskLibHandle h, uint64_t first, uint64_t count, const unsigned char *from)
{
	note("write");
	return NO_PERMISSION;
}

PUBLIC VixError VixDiskLib_WriteAsync(VixDiskLibHandle h, uint64_t first, uint64_t count, const unsigned char *from,
	VixDiskLibCompletionCB done, void *data)
{
	note("write");
	return NO_PERMISSION;
}

PUBLIC VixError VixDiskLib_Create(const VixDiskLibConnection c, const char *path, const VixDiskLibCreateParams *p, void *a, void *b)
{
	note("create");
	return VIX_E_NOT_SUPPORTED;
}

PUBLIC VixError VixDiskLib_Flush(VixDiskLibHandle h) { return VIX_OK; }

PUBLIC VixError VixDiskLib_Wait(VixDiskLibHandle h) { return VIX_OK; }

#ifdef VERSION_6_5

PUBLIC void VixDiskLib_FreeConnectParams(VixDiskLibConnectParams *p) { abort(); }

#else

PUBLIC VixDiskLibConnectParams *VixDiskLib_AllocateConnectParams(void) { return calloc(1, sizeof(VixDiskLibConnectParams)); }

PUBLIC void VixDiskLib_FreeConnectParams(VixDiskLibConnectParams *p) { free(p); }

/* The chunks of a file that are not wholly holes. */
PUBLIC VixError VixDiskLib_QueryAllocatedBlocks(VixDiskLibHandle h, uint64_t first, uint64_t count, uint64_t chunk,
	VixDiskLibBlockList **out)
{
	struct disk *d = h;
	VixDiskLibBlockList *list = calloc(1, sizeof *list + (count / chunk + 1) * sizeof *list->blocks);
	uint64_t at;

	for (at = first; at < first + count; at += chunk) {
		off_t data = lseek(d->file, at * VIXDISKLIB_SECTOR_SIZE, SEEK_DATA);
		if (data < 0 || (uint64_t)data >= (at + chunk) * VIXDISKLIB_SECTOR_SIZE)
			continue;
		list->blocks[list->numBlocks++] = (VixDiskLibBlock){at, chunk};
	}
	*out = list;
	return VIX_OK;
}

PUBLIC VixError VixDiskLib_FreeBlockList(VixDiskLibBlockList *list)
{
	free(list);
	return VIX_OK;
}

#endif
