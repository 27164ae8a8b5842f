/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Makes new machines (see rs-draft.h). */
#include <errno.h>
#include <glib/gi18n-lib.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <time.h>
#include <string.h>

#include "rs-draft.h"

#define STAGING_PREFIX ".new-"
#define STALE_SECONDS  (24 * 60 * 60)
#define MAX_ID_CHARS   32u
#define DEMO_MIB       256u
#define DISK_FILE      "disk.qcow2"
#define DEMO_APPEND    "console=ttyS0 console=tty0 quiet"

typedef struct {
    RsDraft *draft;
    RsDraftProgress progress;
    gpointer progress_data;
    GMainContext *context;
} Creation;

RsDraft *rs_draft_new(void)
{
    RsDraft *draft = g_new0(RsDraft, 1);

    draft->memory_mib = 1024;
    draft->processors = 1;
    draft->firmware = g_strdup("bios");
    draft->engine = g_strdup("auto");
    draft->serial = g_strdup("none");
    draft->network = g_strdup("user");
    draft->card = g_strdup("e1000e");
    draft->video = g_strdup("vga");
    return draft;
}

RsDraft *rs_draft_new_demo(RsLibrary *library)
{
    RsDraft *draft = rs_draft_new();

    draft->demo = true;
    draft->memory_mib = DEMO_MIB;
    draft->name = rs_library_suggest_name(library, _("Demonstration"));
    return draft;
}

RsDraft *rs_draft_copy(const RsDraft *draft)
{
    RsDraft *copy = g_memdup2(draft, sizeof *draft);

    copy->name = g_strdup(draft->name);
    copy->iso = g_strdup(draft->iso);
    copy->os_id = g_strdup(draft->os_id);
    copy->firmware = g_strdup(draft->firmware);
    copy->engine = g_strdup(draft->engine);
    copy->serial = g_strdup(draft->serial);
    copy->network = g_strdup(draft->network);
    copy->card = g_strdup(draft->card);
    copy->video = g_strdup(draft->video);
    return copy;
}

void rs_draft_free(RsDraft *draft)
{
    if (draft) {
        g_free(draft->name);
        g_free(draft->iso);
        g_free(draft->os_id);
        g_free(draft->firmware);
        g_free(draft->engine);
        g_free(draft->serial);
        g_free(draft->network);
        g_free(draft->card);
        g_free(draft->video);
        g_free(draft);
    }
}

/* The system's name, else the file's without its suffix. */
static char *base_name(const RsMedia *media)
{
    if (media->os_name || !media->path) {
        return g_strdup(media->os_name ? media->os_name : _("New machine"));
    }
    g_autofree char *file = g_path_get_basename(media->path);
    char *dot = strrchr(file, '.');
    if (dot && dot != file) {
        *dot = '\0';
    }
    return rs_host_sanitize(file, 60);
}

void rs_draft_apply_media(RsDraft *draft, const RsMedia *media, RsLibrary *library)
{
    RsHostLimits limits = rs_host_limits();
    g_autofree char *base = base_name(media);

    g_free(draft->name);
    draft->name = rs_library_suggest_name(library, base);
    g_free(draft->iso);
    draft->iso = g_strdup(media->path);
    g_free(draft->os_id);
    draft->os_id = g_strdup(media->os_id);
    draft->memory_mib = MIN(media->memory_mib, limits.memory_mib);
    draft->processors = CLAMP(media->processors, 1, limits.processors);
    draft->disk_bytes = MAX(MIN(media->disk_bytes, limits.disk_bytes), RS_DRAFT_MIN_DISK_BYTES);
    g_free(draft->firmware);
    draft->firmware = g_strdup(media->uefi ? "uefi" : "bios");
    g_free(draft->card);
    draft->card = g_strdup(media->virtio_net ? "virtio" : "e1000e");
    g_free(draft->video);
    draft->video = g_strdup(media->virtio_gpu ? "virtio" : "vga");
}

char *rs_draft_check(const RsDraft *draft, RsLibrary *library)
{
    RsHostLimits limits = rs_host_limits();
    char *wrong = rs_library_check_name(library, draft->name ? draft->name : "", NULL);

    if (wrong) {
        return wrong;
    }
    if (draft->memory_mib < RS_DRAFT_MIN_MEMORY_MIB || draft->memory_mib > limits.memory_mib) {
        return g_strdup_printf(_("This computer can give a machine up to %u MiB of memory."),
                               (unsigned)limits.memory_mib);
    }
    if (draft->disk_bytes && draft->disk_bytes > limits.disk_bytes) {
        g_autofree char *has = g_format_size_full(limits.disk_bytes, G_FORMAT_SIZE_IEC_UNITS);
        return g_strdup_printf(_("There is not enough space for this disk: %s are free where "
                                 "machines are stored."),
                               has);
    }
    return NULL;
}

/* A short folder name made of letters that every file system and socket path takes. */
static char *make_id(const char *name)
{
    g_autofree char *ascii = g_str_to_ascii(name, NULL);
    GString *id = g_string_new(NULL);

    for (const char *p = ascii; *p && id->len < MAX_ID_CHARS; p++) {
        if (g_ascii_isalnum(*p)) {
            g_string_append_c(id, g_ascii_tolower(*p));
        } else if (id->len && id->str[id->len - 1] != '-') {
            g_string_append_c(id, '-');
        }
    }
    while (id->len && id->str[id->len - 1] == '-') {
        g_string_truncate(id, id->len - 1);
    }
    if (!id->len) {
        g_string_append(id, "machine");
    }
    return g_string_free(id, FALSE);
}

/* Gives the finished folder its name. */
static char *commit(const char *folder, const char *name, GError **error)
{
    g_autofree char *base = make_id(name);

    for (unsigned i = 1; i < 1000; i++) {
        g_autofree char *id = i == 1 ? g_strdup(base) : g_strdup_printf("%s-%u", base, i);
        g_autofree char *target = g_build_filename(rs_host_machines_folder(), id, NULL);
        /* rename() would replace an empty folder */
        if (!g_file_test(target, G_FILE_TEST_EXISTS) && !g_rename(folder, target)) {
            return g_steal_pointer(&id);
        }
    }
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_FAILED,
                _("The machine's folder could not be named: %s."), g_strerror(errno));
    return NULL;
}

static void abandon(const char *folder)
{
    g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *path = g_build_filename(folder, name, NULL);
        if (g_remove(path)) {
            abandon(path);
        }
    }
    g_rmdir(folder);
}

void rs_draft_clean_up(void)
{
    g_autoptr(GDir) dir = g_dir_open(rs_host_machines_folder(), 0, NULL);
    const char *name;
    GStatBuf st;

    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *path = g_build_filename(rs_host_machines_folder(), name, NULL);
        if (g_str_has_prefix(name, STAGING_PREFIX) && !g_lstat(path, &st) &&
            st.st_mtime < time(NULL) - STALE_SECONDS) {
            abandon(path);
        }
    }
}

/* The last line that a program of ours wrote before it failed. */
static void set_program_error(const char *text, GError **error)
{
    g_autofree char *copy = g_strchomp(g_strdup(text ? text : ""));
    const char *line = strrchr(copy, '\n');

    line = line ? line + 1 : copy;
    if (g_str_has_prefix(line, "ringside-monitor: ")) {
        line += strlen("ringside-monitor: ");
    }
    g_autofree char *clean = rs_host_sanitize(line, 400);
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_FAILED, "%s",
                *clean ? clean : _("It failed without saying why."));
}

bool rs_draft_create_disk(const char *path, uint64_t bytes, GCancellable *cancellable,
                          GError **error)
{
    g_autofree char *program = rs_host_find_monitor(error);
    g_autofree char *size = g_strdup_printf("%" G_GUINT64_FORMAT, bytes);
    g_autofree char *text = NULL;

    if (!program) {
        return false;
    }
    g_autoptr(GSubprocess) process =
        g_subprocess_new(G_SUBPROCESS_FLAGS_STDERR_PIPE | G_SUBPROCESS_FLAGS_STDOUT_SILENCE, error,
                         program, "--create-disk", path, size, NULL);
    if (!process ||
        !g_subprocess_communicate_utf8(process, NULL, cancellable, NULL, &text, error)) {
        return false;
    }
    if (!g_subprocess_get_successful(process) || !g_file_test(path, G_FILE_TEST_EXISTS)) {
        set_program_error(text, error);
        return false;
    }
    return true;
}

typedef struct {
    Creation creation;
    char *sentence;
} Told;

static gboolean tell_in_main(gpointer data)
{
    Told *told = data;
    told->creation.progress(told->sentence, told->creation.progress_data);
    return G_SOURCE_REMOVE;
}

static void told_free(gpointer data)
{
    Told *told = data;
    g_free(told->sentence);
    g_free(told);
}

static void tell(const Creation *creation, const char *sentence)
{
    if (creation->progress) {
        Told *told = g_new0(Told, 1);
        told->creation = *creation;
        told->sentence = rs_host_sanitize(sentence, 200);
        g_main_context_invoke_full(creation->context, G_PRIORITY_DEFAULT, tell_in_main, told,
                                   told_free);
    }
}

static void kill_process(GCancellable *cancellable, GSubprocess *process)
{
    g_subprocess_send_signal(process, SIGTERM);
}

/* The script says what it does on stdout, line by line, and why it failed on stderr. */
static bool make_demo(const char *folder, const Creation *creation, GCancellable *cancellable,
                      GError **error)
{
    g_autofree char *script = rs_host_find_data("demo/make-demo", error);
    g_autofree char *line = NULL;

    if (!script) {
        return false;
    }
    g_autoptr(GSubprocess) process =
        g_subprocess_new(G_SUBPROCESS_FLAGS_STDERR_PIPE | G_SUBPROCESS_FLAGS_STDOUT_PIPE, error,
                         "bash", script, folder, NULL);
    if (!process) {
        return false;
    }
    gulong handler = cancellable ? g_cancellable_connect(cancellable, G_CALLBACK(kill_process),
                                                         g_object_ref(process), g_object_unref)
                                 : 0;
    g_autoptr(GDataInputStream) out =
        g_data_input_stream_new(g_subprocess_get_stdout_pipe(process));
    g_autoptr(GDataInputStream) err =
        g_data_input_stream_new(g_subprocess_get_stderr_pipe(process));
    while ((line = g_data_input_stream_read_line_utf8(out, NULL, NULL, NULL))) {
        tell(creation, line);
        g_free(g_steal_pointer(&line));
    }
    g_autofree char *text = g_data_input_stream_read_upto(err, "", 1, NULL, NULL, NULL);
    bool good = g_subprocess_wait_check(process, NULL, NULL);
    if (handler) {
        g_cancellable_disconnect(cancellable, handler);
    }
    if (g_cancellable_set_error_if_cancelled(cancellable, error)) {
        return false;
    }
    if (!good) {
        set_program_error(text, error);
    }
    return good;
}

static void replace(char **field, const char *value)
{
    g_free(*field);
    *field = g_strdup(value);
}

static struct settings *draft_settings(const RsDraft *draft)
{
    g_autofree char *name = g_strstrip(g_strdup(draft->name));
    struct settings *s = settings_new(name);

    replace(&s->os, draft->os_id);
    replace(&s->engine, draft->engine);
    replace(&s->firmware, draft->firmware);
    replace(&s->serial, draft->serial);
    replace(&s->network, draft->network);
    replace(&s->card, draft->card);
    replace(&s->video, draft->video);
    s->memory_mib = draft->memory_mib;
    s->processors = draft->processors;
    s->has_cdrom = true;
    replace(&s->cdrom, draft->iso);
    /* An empty disk is no obstacle: the firmware goes on to the disc, and after the installation
     * starts the disk. */
    replace(&s->boot_order, "disk,cdrom");
    if (draft->disk_bytes) {
        s->disk[0] = (struct settings_disk){.path = g_strdup(DISK_FILE), .format = g_strdup("qcow2")};
    }
    if (draft->demo) {
        replace(&s->kernel, "vmlinuz");
        replace(&s->initrd, "initrd.img");
        replace(&s->append, DEMO_APPEND);
    }
    return s;
}

static bool fill(const char *folder, const Creation *creation, GCancellable *cancellable,
                 GError **error)
{
    const RsDraft *draft = creation->draft;
    g_autoptr(RsSettings) settings = draft_settings(draft);
    g_autofree char *disk = g_build_filename(folder, DISK_FILE, NULL);

    return (!draft->disk_bytes ||
            rs_draft_create_disk(disk, draft->disk_bytes, cancellable, error)) &&
           (!draft->demo || make_demo(folder, creation, cancellable, error)) &&
           !g_cancellable_set_error_if_cancelled(cancellable, error) &&
           settings_save(settings, folder, error);
}

static void create_in_thread(GTask *task, gpointer source, gpointer data, GCancellable *cancellable)
{
    const Creation *creation = data;
    g_autofree char *folder =
        g_build_filename(rs_host_machines_folder(), STAGING_PREFIX "XXXXXX", NULL);
    GError *error = NULL;
    char *id = NULL;

    if (!g_mkdtemp_full(folder, 0700)) {
        g_task_return_new_error(task, G_IO_ERROR, (int)g_io_error_from_errno(errno),
                                _("No folder for the machine could be made in %s: %s."),
                                rs_host_machines_folder(), g_strerror(errno));
        return;
    }
    if (fill(folder, creation, cancellable, &error)) {
        id = commit(folder, creation->draft->name, &error);
    }
    if (id) {
        g_task_return_pointer(task, id, g_free);
    } else {
        abandon(folder);
        g_task_return_error(task, error);
    }
}

static void creation_free(gpointer data)
{
    Creation *creation = data;

    rs_draft_free(creation->draft);
    g_main_context_unref(creation->context);
    g_free(creation);
}

void rs_draft_create_async(const RsDraft *draft, RsDraftProgress progress, gpointer progress_data,
                           GCancellable *cancellable, GAsyncReadyCallback callback, gpointer data)
{
    g_autoptr(GTask) task = g_task_new(NULL, cancellable, callback, data);
    Creation *creation = g_new0(Creation, 1);

    creation->draft = rs_draft_copy(draft);
    creation->progress = progress;
    creation->progress_data = progress_data;
    creation->context = g_main_context_ref_thread_default();
    g_task_set_check_cancellable(task, FALSE);
    g_task_set_task_data(task, creation, creation_free);
    g_task_run_in_thread(task, create_in_thread);
}

char *rs_draft_create_finish(GAsyncResult *result, GError **error)
{
    return g_task_propagate_pointer(G_TASK(result), error);
}
