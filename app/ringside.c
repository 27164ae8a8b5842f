/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ringside: the front end. It also runs from its build folder, where schema and translations lie
 * beside it. */
#include <glib/gi18n.h>
#include <locale.h>

#include "rs-application.h"

/* A folder of the build tree that holds `marker`, or NULL when this program was installed. */
static char *build_folder(const char *name, const char *marker)
{
    g_autofree char *exe = g_file_read_link("/proc/self/exe", NULL);
    g_autofree char *own = exe ? g_path_get_dirname(exe) : g_strdup(".");
    g_autofree char *folder = g_build_filename(own, "..", name, NULL);
    g_autofree char *file = g_build_filename(folder, marker, NULL);

    return g_file_test(file, G_FILE_TEST_EXISTS) ? g_steal_pointer(&folder) : NULL;
}

static void set_up_translation(void)
{
    g_autofree char *folder = build_folder("po", "de/LC_MESSAGES/ringside.mo");

    setlocale(LC_ALL, "");
    bindtextdomain(GETTEXT_PACKAGE, folder ? folder : RS_LOCALE_DIR);
    bind_textdomain_codeset(GETTEXT_PACKAGE, "UTF-8");
    textdomain(GETTEXT_PACKAGE);
}

int main(int argc, char **argv)
{
    g_autofree char *schemas = build_folder("resources", "gschemas.compiled");

    if (schemas) {
        g_setenv("GSETTINGS_SCHEMA_DIR", schemas, FALSE);
    }
    set_up_translation();
    g_autoptr(RsApplication) application = rs_application_new();
    return g_application_run(G_APPLICATION(application), argc, argv);
}
