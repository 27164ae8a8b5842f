/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The monitor's log. A guest can only make so many lines: device_log_once() remembers what it has
 * said, and falls silent after LOG_ONCE_MAX different things.
 */
#include <errno.h>
#include <gio/gio.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "device.h"
#include "log.h"

#define LOG_ONCE_MAX 512u

static GMutex mutex;
static FILE *log_file;
static int log_fd = STDERR_FILENO;
static GHashTable *said;

bool log_open(const char *path, GError **error)
{
    FILE *file = fopen(path, "ae");

    if (!file) {
        g_set_error(error, G_IO_ERROR, g_io_error_from_errno(errno), "Cannot open log %s: %s", path,
                    g_strerror(errno));
        return false;
    }
    setvbuf(file, NULL, _IOLBF, 0);
    g_mutex_lock(&mutex);
    if (log_file) {
        fclose(log_file);
    }
    log_file = file;
    log_fd = fileno(file);
    g_mutex_unlock(&mutex);
    return true;
}

void log_emergency(const char *sentence)
{
    const char *const parts[] = {g_get_prgname(), ": ", sentence, "\n"};

    for (unsigned i = 0; i < G_N_ELEMENTS(parts); i++) {
        if (parts[i] && write(log_fd, parts[i], strlen(parts[i])) < 0) {
            return;
        }
    }
}

static void log_line(const char *device, const char *format, va_list args)
{
    g_autofree char *text = g_strdup_vprintf(format, args);
    const char *program = g_get_prgname();

    g_mutex_lock(&mutex);
    fprintf(log_file ? log_file : stderr, "%s: %s%s%s\n", program ? program : "ringside",
            device ? device : "", device ? ": " : "", text);
    g_mutex_unlock(&mutex);
}

void log_message(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    log_line(NULL, format, args);
    va_end(args);
}

void device_log(const char *device, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    log_line(device, format, args);
    va_end(args);
}

/* One thing is a call site (its format string) and a key. */
static bool log_is_new(const char *format, uint64_t key)
{
    g_autofree char *id = g_strdup_printf("%p %" G_GINT64_MODIFIER "x", (void *)format, key);
    bool fresh = false;

    g_mutex_lock(&mutex);
    if (!said) {
        said = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    }
    if (g_hash_table_size(said) < LOG_ONCE_MAX) {
        fresh = g_hash_table_add(said, g_steal_pointer(&id));
    }
    g_mutex_unlock(&mutex);
    return fresh;
}

void device_log_once(const char *device, uint64_t key, const char *format, ...)
{
    va_list args;

    if (!log_is_new(format, key)) {
        return;
    }
    va_start(args, format);
    log_line(device, format, args);
    va_end(args);
}
