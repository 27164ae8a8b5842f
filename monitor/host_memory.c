/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Checks and the reserve (see host_memory.h). The signal handler only makes system calls and looks
 * at variables of its own; `busy` is a spin lock among handlers.
 */
#include "host_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "log.h"
#include "memory.h"
#include "status.h"

#define RESERVE_PAGES 1024u /* 4 MiB: what a guest may touch until it is paused */

static const char exhausted[] =
    "The host has no memory left for the guest, and it could not be paused in time. "
    "The machine ends; its disks are consistent.";

static struct {
    uint8_t *base, *pages;
    uint64_t size;
    int fd, event;
    atomic_uint left; /* pages that the reserve still has, from its start */
} reserve = {.fd = -1, .event = -1};

/* Gives a page back to the host. */
static bool release_page(void)
{
    unsigned left = atomic_load(&reserve.left);

    do {
        if (!left) {
            return false;
        }
    } while (!atomic_compare_exchange_weak(&reserve.left, &left, left - 1));
    return munmap(reserve.pages + (left - 1) * (size_t)GUEST_PAGE_SIZE, GUEST_PAGE_SIZE) == 0 &&
           write(reserve.event, &(uint64_t){1}, 8) == 8;
}

/* In a signal handler. On return the access is tried again, and comes back here if there still is
 * no page. */
static void bus_error(int sig, siginfo_t *info, void *context)
{
    uint64_t offset = (uint64_t)((uint8_t *)info->si_addr - reserve.base);
    int saved = errno;

    if (!reserve.base || info->si_code != BUS_ADRERR) {
        signal(sig, SIG_DFL); /* happens again on return, now fatally */
        return;
    }
    if (!release_page()) {
        log_emergency(exhausted);
        _exit(STATUS_FAILED);
    }
    if (offset < reserve.size) { /* else an engine's own mapping of the pool */
        fallocate(reserve.fd, 0, (off_t)(offset & ~(uint64_t)(GUEST_PAGE_SIZE - 1)),
                  GUEST_PAGE_SIZE);
    }
    errno = saved;
}

static uint8_t *reserve_map(void *at, size_t size)
{
    void *p = mmap(at, size, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE | (at ? MAP_FIXED : 0), -1, 0);

    return p == MAP_FAILED ? NULL : p;
}

bool host_memory_guard(uint8_t *base, uint64_t size, int fd)
{
    struct sigaction action = {.sa_sigaction = bus_error, .sa_flags = SA_SIGINFO};

    if (reserve.base) {
        return true;
    }
    reserve.pages = reserve_map(NULL, RESERVE_PAGES * (size_t)GUEST_PAGE_SIZE);
    reserve.event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (!reserve.pages || reserve.event < 0) {
        return false;
    }
    reserve.size = size;
    reserve.fd = fd;
    atomic_store(&reserve.left, RESERVE_PAGES);
    reserve.base = base;
    return sigaction(SIGBUS, &action, NULL) == 0;
}

void host_memory_unguard(const uint8_t *base)
{
    if (base && base == reserve.base) {
        reserve.base = NULL;
        munmap(reserve.pages, atomic_load(&reserve.left) * (size_t)GUEST_PAGE_SIZE);
        close(reserve.event);
        reserve.event = -1;
    }
}

int host_memory_event(void)
{
    return reserve.event;
}

bool host_memory_settle(void)
{
    unsigned left = atomic_load(&reserve.left), missing = RESERVE_PAGES - left;

    if (!reserve.base || !missing) {
        return true;
    }
    if (!reserve_map(reserve.pages + left * (size_t)GUEST_PAGE_SIZE,
                     missing * (size_t)GUEST_PAGE_SIZE)) {
        return false;
    }
    atomic_store(&reserve.left, RESERVE_PAGES);
    return true;
}

/* --- before the start --- */

static char *read_file(const char *root, const char *path)
{
    g_autofree char *whole = g_strconcat(root, path, NULL), *text = NULL;

    g_file_get_contents(whole, &text, NULL, NULL);
    return g_steal_pointer(&text);
}

/* Bytes behind a key such as "MemTotal:"; 0 when it is not there. */
static uint64_t meminfo(const char *text, const char *key)
{
    const char *line = strstr(text, key);

    return line ? g_ascii_strtoull(line + strlen(key), NULL, 10) << 10 : 0;
}

/* The smallest memory.max on the way from our control group (version 2) to the root. */
static uint64_t group_limit(const char *root)
{
    g_autofree char *groups = read_file(root, "/proc/self/cgroup");
    const char *line = groups ? strstr(groups, "0::/") : NULL;
    g_autofree char *path = line ? g_strndup(line + 3, strcspn(line + 3, "\n")) : NULL;
    uint64_t limit = UINT64_MAX;

    while (path) {
        g_autofree char *name = g_strconcat("/sys/fs/cgroup", path, "/memory.max", NULL);
        g_autofree char *text = read_file(root, name);
        if (text && g_ascii_isdigit(*text)) {
            limit = MIN(limit, g_ascii_strtoull(text, NULL, 10));
        }
        char *slash = strrchr(path, '/');
        if (!slash) {
            break;
        }
        *slash = 0;
    }
    return limit;
}

bool host_memory_check(const char *root, uint64_t bytes, char **warning, GError **error)
{
    g_autofree char *text = read_file(root, "/proc/meminfo");
    uint64_t limit = group_limit(root), total = UINT64_MAX, now = UINT64_MAX;

    *warning = NULL;
    if (text && meminfo(text, "MemTotal:")) {
        total = meminfo(text, "MemTotal:") + meminfo(text, "SwapTotal:");
        now = meminfo(text, "MemAvailable:") + meminfo(text, "SwapFree:");
    }
    if (bytes > MIN(total, limit)) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_NO_SPACE,
                    "The machine's memory of %" G_GUINT64_FORMAT
                    " MiB is more than %s has (%" G_GUINT64_FORMAT
                    " MiB). Give the machine less memory.",
                    bytes >> 20, limit < total ? "Ringside's control group" : "this host",
                    MIN(total, limit) >> 20);
        return false;
    }
    if (bytes > now) {
        *warning = g_strdup_printf(
            "The machine's memory of %" G_GUINT64_FORMAT " MiB is more than the host has free now "
            "(%" G_GUINT64_FORMAT " MiB); it pauses if the host runs out. Close other programs or "
            "give the machine less memory.",
            bytes >> 20, now >> 20);
    }
    return true;
}
